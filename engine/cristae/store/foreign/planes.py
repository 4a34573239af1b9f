"""Planes: an array that a library gives one plane at a time."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

Plane = Callable[[tuple[int, ...], tuple[slice, ...]], np.ndarray]


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
