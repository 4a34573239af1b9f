"""Blend: tiles become one result. A box of it is the same bytes whoever asks, since the tiles, and the order of their sum, are the volume's.

Tiles that neighbouring blocks share are kept for a while by each process, under a digest of their voxels: blocks that are done one
after the other compute them once, and so do tiles that look alike, such as empty ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from hashlib import blake2b
from threading import Lock

import numpy as np

from cristae.blocks.stage import At
from cristae.filters.edge import reflected
from cristae.grid import Box, Shape
from cristae.inference.tiles import Tiling, weights

HELD_BYTES = 256 << 20
"""Of finished tiles, in one process."""

Predict = Callable[[np.ndarray], np.ndarray]
"""A tile as it was read to (*tile) float32."""


def blended(array: np.ndarray, at: At, tiling: Tiling, predict: Predict, key: Hashable) -> np.ndarray:
    """The box `at.out` of the result, float32, from an array that lies at `at.reads[0]`.

    key : what a tile's result depends on beside its voxels
    """
    shape = at.grid.shape
    total = np.zeros(at.out.shape, np.float32)
    share = np.zeros(at.out.shape, np.float32) if tiling.blend != "crop" else None
    for tile in tiling.meeting(at.out, shape):
        voxels = taken(array, at.reads[0], tile.box, shape)
        digest = blake2b(voxels.tobytes(), digest_size=16, key=str(voxels.dtype).encode()).digest()
        found = HELD.get((key, digest), lambda seen=voxels: predict(seen))  # type: ignore[misc]
        shared = tile.counts.intersect(at.out)
        here, there = shared.within(at.out), shared.within(tile.box)
        if share is None:
            total[here] = found[there]
        else:
            weight = weights(tiling)[there]
            with np.errstate(under="ignore"):
                total[here] += weight * found[there]
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

    Two threads that want the same tile at once: one computes it, the other waits.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Future[np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self._lock:
            promised = self._kept.get(key)
            if promised is not None:
                self._kept.move_to_end(key)
            else:
                mine = self._kept[key] = Future()
        if promised is not None:
            return promised.result()
        try:
            found = make()
        except BaseException as error:
            with self._lock:
                del self._kept[key]
            mine.set_exception(error)
            raise
        found.flags.writeable = False
        mine.set_result(found)
        with self._lock:
            self._bytes += found.nbytes
            while self._bytes > self.limit:
                # One that is not finished is somebody's who will count it then.
                oldest = next(k for k, one in self._kept.items() if one.done())
                self._bytes -= self._kept.pop(oldest).result().nbytes
        return found

    def clear(self) -> None:
        """Forget all that is finished."""
        with self._lock:
            for key in [k for k, one in self._kept.items() if one.done()]:
                self._bytes -= self._kept.pop(key).result().nbytes


HELD = Held(HELD_BYTES)
