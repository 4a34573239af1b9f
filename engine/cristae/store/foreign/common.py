"""Common: what the readers of foreign files share: which scene is meant, and arrays that come plane by plane."""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import CristaeError, InvalidInput, MissingExtra, SeveralScenes

Plane = Callable[[tuple[int, ...], tuple[slice, ...]], np.ndarray]

_PAGE_BYTES = 4096  # what the system reads at once of a mapped file


def chosen(path: Path, scenes: Sequence[str], wanted: str | None) -> int:
    """Number of the scene that is meant, by its name or number; may be left out where there is one.

    Raises
    ------
    SeveralScenes : if there are several and none is named.
    InvalidInput : if there is none, or none of that name; the message names those there are.
    """
    if not scenes:
        raise InvalidInput(f"{path} holds no image")
    if wanted is None and len(scenes) == 1:
        return 0
    if wanted is not None and wanted in scenes:
        return list(scenes).index(wanted)
    if wanted is not None and wanted.isdecimal() and int(wanted) < len(scenes):
        return int(wanted)
    known = ", ".join(f"{n} ({scene})" for n, scene in list(enumerate(scenes))[:12])
    more = f" and {len(scenes) - 12} more" if len(scenes) > 12 else ""
    if wanted is None:
        message = f"{path} holds {len(scenes)} scenes: {known}{more}; choose one with --scene"
        raise SeveralScenes(message, tuple(scenes))
    raise InvalidInput(f"{path} has no scene {wanted!r}; it has {known}{more}")


def named(name: str, scenes: Sequence[str], number: int) -> str:
    """An image's name: the file's, and where there are several scenes that of the scene, if it can stand in a path."""
    if len(scenes) == 1:
        return name
    scene = scenes[number]
    plain = re.fullmatch(r"[\w.-]+", scene) is not None and list(scenes).count(scene) == 1
    return f"{name}-{scene if plain else number}"


def number_type(dtype: np.dtype[Any], path: Path) -> str:
    """numpy's name of a type of numbers, in native byte order."""
    if dtype.kind not in "biufc":
        raise InvalidInput(f"{path} holds {dtype}, which are no numbers; voxels are bool, integers or real numbers")
    return dtype.newbyteorder("=").name


def mapped_chunk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """What is read at once of voxels that lie in a file one after the other."""
    return (*[1] * (len(shape) - 1), min(shape[-1], _PAGE_BYTES // dtype.itemsize)) if shape else ()


def extra(module: str, path: Path, name: str = "formats") -> Any:
    """A reader's library, or the sentence that says how to get it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtra(f"reading {path} needs the extra {name}; pip install 'cristae[{name}]'") from None


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises about a file becomes one sentence about it; its own errors have no common class."""
    try:
        yield
    except (CristaeError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise InvalidInput(_broken(path, kind, error)) from error
    except Exception as error:
        raise InvalidInput(_broken(path, kind, error)) from error


def _broken(path: Path, kind: str, error: Exception) -> str:
    said = " ".join(str(error).split())[:160] or type(error).__name__
    return f"{path} is not a whole {kind} file: {said}"


class Planes:
    """An array that a library gives one plane at a time, indexed as a numpy array is by numbers and slices.

    plane : from the numbers of the outer axes, and slices with start and stop of the inner ones, to those voxels;
        called by one thread at a time
    close : called when the array is no longer used
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        outer: int,
        plane: Plane,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.shape, self.dtype, self.outer = shape, dtype, outer
        self._plane, self._lock = plane, threading.Lock()
        weakref.finalize(self, close)

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        ranges = [
            range(n)[i] if isinstance(i, slice) else range(i, i + 1) for i, n in zip(index, self.shape, strict=True)
        ]
        inner = tuple(slice(r.start, r.stop) for r in ranges[self.outer :])
        out = np.empty([len(r) for r in ranges], self.dtype)
        for place in product(*(range(len(r)) for r in ranges[: self.outer])):
            at = tuple(r[p] for r, p in zip(ranges, place, strict=False))
            with self._lock:
                out[place] = self._plane(at, inner)
        return out[tuple(slice(None) if isinstance(i, slice) else 0 for i in index)]
