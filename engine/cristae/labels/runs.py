"""Runs: the components of one block, found and kept as runs of voxels along x, never as an array of ids.

A mask has far fewer runs than voxels. What a block tells its neighbours, and the ids that it writes in the end, are both painted
from them.

    components   the runs of a block, and of which component each is
    Runs         the same, as what a block can tell: where components begin, how large they are, a layer, all ids
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cristae.array import Array, to_host
from cristae.errors import InvalidInput

NARROW = 1 << 16
"""Blocks less wide than this have edges of two bytes."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Components of a block by provisional id: 1..n in the raster order of each one's first voxel.

    shape : of the block, (z, y, x) or (y, x)
    first : (n,) int64, flat index of each component's first voxel
    voxels : (n,) uint32, how many it has
    row, edges, ids : where rows begin, where runs start and stop, and whose they are, as `runs_kernel` says
    """

    shape: tuple[int, ...]
    first: np.ndarray
    voxels: np.ndarray
    row: np.ndarray
    edges: np.ndarray
    ids: np.ndarray

    def paint(self, table: np.ndarray, out: np.ndarray) -> None:
        """Write `table[id]` into every foreground voxel of `out`, which has the block's shape and is ground, `table[0]`, so far.

        Raises
        ------
        InvalidInput : if the table was made for another number of components.
        """
        from cristae.labels.runs_kernel import paint

        as_counted(self.first.size, table)
        paint(self.row, self.edges, self.ids, self._solid[1], 0, 0, table, solid(out))

    def layer(self, axis: int, side: int) -> np.ndarray:
        """Provisional ids, uint32, of the block's first (side 0) or last (side 1) layer on an axis, which is 1 voxel thick."""
        from cristae.labels.runs_kernel import ends, paint

        shape = list(self._solid)
        along = axis + 3 - len(self.shape)
        place = shape[along] - 1 if side else 0
        shape[along] = 1
        out = np.zeros(shape, np.uint32)
        if along == 2:
            ends(self.row, self.edges, self.ids, place, out.reshape(-1))
        else:
            z, y = (place, 0) if along == 0 else (0, place)
            everyone = np.arange(self.first.size + 1, dtype=np.uint32)
            paint(self.row, self.edges, self.ids, self._solid[1], z, y, everyone, out)
        return out.reshape([1 if a == axis else n for a, n in enumerate(self.shape)])

    @property
    def _solid(self) -> tuple[int, ...]:
        return (1,) * (3 - len(self.shape)) + self.shape


def components(block: Array, connectivity: int, multilabel: bool) -> Runs:
    """The components of one block.

    Parameters
    ----------
    block : (z, y, x) or (y, x), boolean or integer
    connectivity : axes that may differ between touching voxels
    multilabel : equal values join; otherwise whatever is not 0

    Raises
    ------
    InvalidInput : if the voxels are not integers.
    """
    from cristae.labels.runs_kernel import look_up, mask_runs, number_runs, unite_runs, value_runs

    host = np.ascontiguousarray(to_host(block))
    if host.dtype.kind not in "biu":
        raise InvalidInput(f"label expects a mask or integers, got {host.dtype.name}; threshold it first")
    width = host.shape[-1]
    row = np.empty(host.size // max(width, 1) + 1, np.int64)
    room = np.empty(host.size // 32 + 2 * width + 2, np.uint16 if width < NARROW else np.uint32)
    values = _NO_VALUES
    if host.dtype.kind == "b" or not multilabel:
        flat = _bytes(host)
        edges = mask_runs(flat, flat[: flat.size // 8 * 8].view("<u8"), width, row, room)
    else:
        # Signed, to compile half as many kernels; only equality counts.
        flat = host.astype(host.dtype.newbyteorder("="), copy=False).view(f"i{host.dtype.itemsize}").reshape(-1)
        edges = value_runs(flat, width, row, room)
        values = np.empty(edges.size // 2, np.int64)
        look_up(flat, width, row, edges, values)
    ids = np.empty(edges.size // 2, np.uint32)
    planes, lines, _ = (1,) * (3 - host.ndim) + host.shape
    n = unite_runs(row, edges, values, planes, lines, connectivity, ids)
    first, voxels = np.zeros(n, np.int64), np.zeros(n, np.uint32)
    number_runs(row, edges, width, ids, first, voxels)
    return Runs(host.shape, first, voxels, row, edges, ids)


_NO_VALUES = np.empty(0, np.int64)


def _bytes(host: np.ndarray) -> np.ndarray:
    """A mask as bytes of which 0 is ground; flat, and where words of eight may begin."""
    flat = (host if host.dtype.itemsize == 1 else host != 0).view(np.uint8).reshape(-1)
    return flat if flat.ctypes.data % 8 == 0 else flat.copy()


def solid(array: np.ndarray) -> np.ndarray:
    """A plane as a volume one voxel thick; a view."""
    return array if array.ndim == 3 else array[np.newaxis]


def as_counted(n: int, table: np.ndarray) -> None:
    """Insist that a block has as many components as when they were counted, for which there is a table: ground, then each.

    Raises
    ------
    InvalidInput : if it has others.
    """
    if table.size != n + 1:
        raise InvalidInput(
            f"a block has {n} components where {table.size - 1} were counted before: its voxels are not what they were, as of an"
            " image that is still being written or a function that answers differently each time; mend that, and run again with --fresh"
        )
