"""Answers: where partials and global answers lie in a run's folder, and how a worker finds them.

partials/PP/START-EPOCH-N.bundle   one file a batch: merged partials by group, and single blocks' parts
answers/KEY.bundle                 one file an answer: its arrays by group, and which file holds which block's part
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.store.bundle import Bundle

SEPARATOR = "|"


def answer_path(folder: str, key: str) -> Path:
    """The file of an answer."""
    return Path(folder) / "answers" / f"{key.replace('/', '.')}.bundle"


def named(parts: Iterable[str], partial: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a partial under full names, as a bundle keeps them."""
    prefix = SEPARATOR.join(parts)
    return ((f"{prefix}{SEPARATOR}{name}", array) for name, array in partial.items())


def taken(bundle: Bundle, prefix: str) -> Partial:
    """The arrays that were added under `prefix`."""
    return {name[len(prefix) + 1 :]: bundle[name] for name in bundle.families.get(prefix, ())}


Holders = Mapping[tuple[str, str], list[Bundle]]
"""Which bundles hold a partial of a measure's key and group."""


def holders(files: Iterable[str]) -> Holders:
    """What several partial files hold, each opened once; single blocks' parts are left out."""
    found: dict[tuple[str, str], list[Bundle]] = {}
    for path in files:
        bundle = Bundle(Path(path))
        for family in bundle.families:
            key, _, group = family.partition(SEPARATOR)
            if not group.startswith("#"):
                found.setdefault((key, group), []).append(bundle)
    return found


def merged(measure: Measure, key: str, group: str, held: Holders) -> Partial:
    """One partial of a group from all that hold it."""
    return measure.merge([taken(bundle, f"{key}{SEPARATOR}{group}") for bundle in held.get((key, group), ())])


@lru_cache(maxsize=64)
def open_bundle(path: str) -> Bundle:
    """An opened bundle; bundles never change once they are there."""
    return Bundle(Path(path))


class Parts(Mapping[int, Partial]):
    """The partials of a frame's single blocks, read when asked for."""

    def __init__(self, files: list[str], file_of: np.ndarray, key: str, first: int, count: int) -> None:
        self._files, self._file_of, self._key = files, file_of, key
        self._first, self._count = first, count

    def __getitem__(self, block: int) -> Partial:
        if not 0 <= block < self._count:
            raise KeyError(block)
        number = self._first + block
        return _Part(open_bundle(self._files[self._file_of[number]]), f"{self._key}{SEPARATOR}#{number}{SEPARATOR}")

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._count))

    def __len__(self) -> int:
        return self._count


class _Part(dict[str, np.ndarray]):
    # One array of a part is often all that is wanted: a face of a neighbour. Each is read at its first use.
    def __init__(self, bundle: Bundle, prefix: str) -> None:
        super().__init__()
        self._bundle, self._prefix = bundle, prefix

    def __missing__(self, name: str) -> np.ndarray:
        array = self._bundle[self._prefix + name]
        self[name] = array
        return array

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if self._prefix + name in self._bundle else default

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._bundle


@lru_cache(maxsize=256)
def load_answer(folder: str, key: str, group: str, first: int, count: int, stamp: int) -> Answer:
    """The answer `key` of a group; `first` and `count` number the blocks of the asking frame. `stamp` tells versions apart."""
    bundle = open_bundle_at(str(answer_path(folder, key)), stamp)
    arrays = taken(bundle, group)
    parts: Mapping[int, Partial] = {}
    if "parts|file" in bundle:
        names = bundle["parts|names"].tobytes().decode().split("\n")
        parts = Parts([str(Path(folder) / n) for n in names], bundle["parts|file"], key, first, count)
    return Answer(arrays, parts)


@lru_cache(maxsize=32)
def open_bundle_at(path: str, stamp: int) -> Bundle:
    """An opened bundle that a later run may have replaced under the same name."""
    return Bundle(Path(path))
