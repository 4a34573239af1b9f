"""Planes: an array that a library gives one plane at a time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Collection, Mapping
from itertools import product
from math import prod
from typing import Any

import numpy as np

Plane = Callable[[tuple[int, ...], tuple[slice, ...]], np.ndarray]


def gaps_of(sizes: Mapping[str, int], stored: Collection[tuple[int, ...]]) -> str:
    """What is said of planes that a file lacks, nothing where it has them all. sizes : by axis, in the order of `stored`'s numbers"""
    missing = [place for place in product(*map(range, sizes.values())) if place not in stored]
    if not missing:
        return ""
    first = ", ".join(f"{a} {n}" for a, n in zip(sizes, missing[0], strict=True) if sizes[a] > 1)
    return (
        f"{len(missing)} of {prod(sizes.values())} planes are not in the file, the first at {first}, and read as 0; the recording "
        "was stopped, or a part of the file is lost: --time and --crop leave them out"
    )


class Planes:
    """A whole volume, indexed as a numpy array is by numbers and slices.

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
