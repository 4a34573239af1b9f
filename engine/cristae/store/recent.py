"""Recent: the chunks that were decoded last, shared by the threads of a process.

A block that reads beyond itself touches the chunks of its neighbours, which touch its own. Kept for a while, each is decoded
about once instead of once for every block that touches it. Blocks are walked in raster order: of a chunk that one of them has
read from side to side, those still to come ask for the margins at its far faces. Where room is short, all else of it goes first,
and then all but the margins of the others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np

Shape = tuple[int, ...]
Part = tuple[slice, ...]

WIDEST = 0.25
"""Of a chunk's length, what counts as a margin: who asks for more is no neighbour that looks over its border."""


@dataclass
class Kept:
    """A chunk, or what is left of it: slabs along its faces, each with its first voxel."""

    whole: Future[np.ndarray] | None
    crossed: bool = False  # read from side to side
    slabs: list[tuple[Shape, np.ndarray]] = field(default_factory=list)

    @property
    def nbytes(self) -> int:
        """Bytes held; none as long as the chunk is being made."""
        if self.whole is not None:
            return self.whole.result().nbytes if self.whole.done() else 0
        return sum(slab.nbytes for _, slab in self.slabs)

    def slab(self, part: Part) -> np.ndarray | None:
        """The part, if one of the slabs holds it."""
        for first, slab in self.slabs:
            inside = tuple(slice(s.start - f, s.stop - f) for s, f in zip(part, first, strict=True))
            if all(s.start >= 0 and s.stop <= n for s, n in zip(inside, slab.shape, strict=True)):
                return slab[inside]
        return None


class Recent:
    """Chunks by key; the least recently used are forgotten once all of them exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._margins: dict[Shape, list[int]] = {}  # the widest that neighbours asked of chunks of this shape
        self._bytes = 0
        self._lock = Lock()

    def keep(self, limit: int) -> bool:
        """From now on at most `limit` bytes; whether something had to go."""
        with self._lock:
            before, self.limit = self._bytes, limit
            for key in list(self._kept):  # whole, at once: their margins would be copied only to go as well
                if self._bytes > limit:
                    self._drop(key)
            return self._bytes < before

    def get(self, key: Hashable, part: Part, shape: Shape, make: Callable[[], np.ndarray]) -> np.ndarray:
        """A part of the chunk of a key, read-only; made once, however many threads ask for it at the same time."""
        with self._lock:
            self._learn(part, shape)
            kept = self._kept.get(key)
            if kept is not None and kept.whole is None:
                if (found := kept.slab(part)) is not None:
                    self._kept.move_to_end(key)
                    return found
                self._bytes -= self._kept.pop(key).nbytes
                kept = None
            ours = kept is None
            if kept is None:
                kept = self._kept[key] = Kept(Future())
            kept.crossed |= all(s.stop - s.start == n for s, n in zip(part, shape, strict=True))
            self._kept.move_to_end(key)
            made = kept.whole
        assert made is not None
        return (self._make(key, made, make) if ours else made.result())[part]

    def _make(self, key: Hashable, made: Future[np.ndarray], make: Callable[[], np.ndarray]) -> np.ndarray:
        try:
            array = make()
        except BaseException as error:
            with self._lock:
                del self._kept[key]
            made.set_exception(error)
            raise
        array.flags.writeable = False
        with self._lock:
            made.set_result(array)
            self._bytes += array.nbytes
            self._forget()
        return array

    def _learn(self, part: Part, shape: Shape) -> None:
        margins = self._margins.setdefault(shape, [0] * len(shape))
        for axis, (span, n) in enumerate(zip(part, shape, strict=True)):
            width = span.stop - span.start
            if width <= WIDEST * n and (span.start == 0 or span.stop == n):
                margins[axis] = max(margins[axis], width)

    def _forget(self) -> None:
        for act in (partial(self._shrink, crossed=True), partial(self._shrink, crossed=False), self._drop):
            for key in list(self._kept):
                if self._bytes <= self.limit:
                    return
                act(key)

    def _shrink(self, key: Hashable, crossed: bool) -> None:
        kept = self._kept[key]
        if kept.whole is None or not kept.whole.done() or kept.crossed != crossed:
            return
        before, array = kept.nbytes, kept.whole.result()
        parts = list(_faces(array.shape, self._margins[array.shape], near=not crossed))
        if sum(array[part].nbytes for part in parts) < 0.75 * array.nbytes:
            kept.slabs = [(tuple(s.start for s in part), _frozen(array[part])) for part in parts]
            kept.whole = None
            self._bytes += kept.nbytes - before

    def _drop(self, key: Hashable) -> None:
        kept = self._kept[key]
        if kept.whole is None or kept.whole.done():
            self._bytes -= self._kept.pop(key).nbytes


def _faces(shape: Shape, margins: list[int], near: bool) -> Iterator[Part]:
    """The slabs along the far faces of a chunk, and the near ones, as thick as its margins; none where nobody asked."""
    whole = tuple(slice(0, n) for n in shape)
    for axis, (n, width) in enumerate(zip(shape, margins, strict=True)):
        for start in ((0, n - width) if near else (n - width,)) if width else ():
            yield (*whole[:axis], slice(start, start + width), *whole[axis + 1 :])


def _frozen(array: np.ndarray) -> np.ndarray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy
