"""Blend: tiles become one result. A box of it is the same bytes whoever asks, since the tiles, and the order of their sum, are the volume's.

What counts of tiles that neighbouring blocks share is kept for a while by each process, under a digest of their voxels: blocks that are
done one after the other compute them once, and so do tiles that look alike, such as empty ones. Meanwhile the memory that a network
gives back after one tile is kept for the next.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future
from threading import Lock

import numpy as np

from cristae.blocks.stage import At
from cristae.cluster.allocation import freed_kept
from cristae.filters.edge import reflected
from cristae.grid import Box, Shape
from cristae.inference.batches import Predict, Together, predicted
from cristae.inference.tiles import Tiling, weights

HELD_BYTES = 256 << 20
"""Of finished tiles, in one process."""


def blended(array: np.ndarray, at: At, tiling: Tiling, predict: Predict | Together, key: Hashable) -> np.ndarray:
    """The box `at.out` of the result, float32, from an array that lies at `at.reads[0]`.

    predict : from a tile, or from several at a time, to results
    key : what a tile's result depends on beside its voxels
    """
    shape = at.grid.shape
    total = np.zeros(at.out.shape, np.float32)
    share = np.zeros(at.out.shape, np.float32) if tiling.blend != "crop" else None

    def look(box: Box) -> np.ndarray:
        return taken(array, at.reads[0], box, shape)

    with freed_kept():
        for tile, found in predicted(tiling.meeting(at.out, shape), look, predict, key, HELD):
            shared = tile.counts.intersect(at.out)
            here, seen = shared.within(at.out), found[shared.within(tile.counts)]
            if share is None:
                total[here] = seen
            else:
                weight = weights(tiling)[shared.within(tile.box)]
                with np.errstate(under="ignore"):
                    total[here] += weight * seen
                share[here] += weight
    if share is not None:
        with np.errstate(under="ignore"):
            total /= share
    return total


def taken(array: np.ndarray, reads: Box, box: Box, shape: Shape) -> np.ndarray:
    """The voxels of a box, in memory of their own; beyond the volume it is reflected."""
    if reads.contains(box):
        return np.array(array[box.within(reads)], array.dtype.newbyteorder("="), order="C")
    sources = [
        reflected(start, stop, 0, n) - first
        for start, stop, n, first in zip(box.start, box.stop, shape, reads.start, strict=True)
    ]
    return np.ascontiguousarray(array[np.ix_(*sources)], array.dtype.newbyteorder("="))


class Held:
    """Finished tiles by key; the least recently used are forgotten once all of them exceed `limit` bytes.

    Two threads that want the same tile at once: one claims and computes it, the other waits for what it promised.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Future[np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def claim(self, key: Hashable) -> tuple[Future[np.ndarray], bool]:
        """The tile, or the promise of it; and whether it is the caller's to `keep` or to `lose`, which it must."""
        with self._lock:
            promised = self._kept.get(key)
            if promised is not None:
                self._kept.move_to_end(key)
                return promised, False
            mine = self._kept[key] = Future()
            return mine, True

    def keep(self, key: Hashable, found: np.ndarray) -> None:
        """A tile that was claimed is finished."""
        found.flags.writeable = False
        with self._lock:
            self._kept[key].set_result(found)
            self._bytes += found.nbytes
            while self._bytes > self.limit:
                # One that is not finished is somebody's who will count it then.
                oldest = next(k for k, one in self._kept.items() if one.done())
                self._bytes -= self._kept.pop(oldest).result().nbytes

    def lose(self, key: Hashable, error: BaseException) -> None:
        """A tile that was claimed cannot be computed: who waits for it is told, and the next who asks may try."""
        with self._lock:
            self._kept.pop(key).set_exception(error)

    def clear(self) -> None:
        """Forget all that is finished."""
        with self._lock:
            for key in [k for k, one in self._kept.items() if one.done()]:
                self._bytes -= self._kept.pop(key).result().nbytes


HELD = Held(HELD_BYTES)
