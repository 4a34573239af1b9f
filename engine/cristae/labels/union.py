"""Union: one canonical id for every provisional component, from who touches whom. Integers only; no voxel is seen.

Canonical ids follow the raster order of each component's first voxel, so they are those of `scipy.ndimage.label` on
the whole volume, whatever the block grid. Objects that are too small go after joining, never before.

Memory: 4 bytes an id for parents, which become the canonical ids in place, beside the 12 that describe it (`first`
and `voxels`); with a size filter as many more as hold the limit, which is as far as sizes are counted: 1 up to 255
voxels, 2 up to 65535. Beyond 2**32 ids a parent takes 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cristae.blocks.measure import Answer, Partial


@dataclass(frozen=True, slots=True)
class Canonical:
    """`finish` of label_ids: touching pairs to the canonical id of each provisional one."""

    min_voxels: int

    def __call__(self, merged: Partial, answers: Mapping[str, Answer]) -> Partial:
        faces = answers["faces"].arrays
        ids, objects = canonical(
            faces["offset"], faces["first"], faces["voxels"], merged["pairs"], min_voxels=self.min_voxels
        )
        return {
            "map": ids,
            "objects": np.array(objects, np.int64),
            "offset": faces["offset"],
            "seams": np.array(crossing(ids, merged["pairs"]), np.int64),
        }

    def ready(self) -> None:
        """Load the compiled loops, for arrays as a stored answer gives them."""
        offset, first, voxels = np.array([0, 1]), np.zeros(1, np.int64), np.ones(1, np.uint32)
        for array in (offset, first, voxels):
            array.flags.writeable = False
        canonical(offset, first, voxels, np.zeros((0, 2), np.int64), min_voxels=self.min_voxels)


def crossing(ids: np.ndarray, pairs: np.ndarray) -> tuple[int, int, int]:
    """Of objects in several blocks: how many, how many parts they have, and how many pairs of parts touch.

    ids : (provisional ids,) canonical ids. pairs : (k, 2) those that touch, each once; the two of a pair lie in different blocks
    """
    joined = pairs[ids[pairs[:, 0]] > 0]
    parts = np.unique(joined)
    return len(np.unique(ids[parts])), len(parts), len(joined)


def canonical(
    offset: np.ndarray, first: np.ndarray, voxels: np.ndarray, pairs: np.ndarray, *, min_voxels: int = 0
) -> tuple[np.ndarray, int]:
    """Join provisional ids and number what they form.

    Parameters
    ----------
    offset : (blocks + 1,) int64, where each block's ids begin
    first : (ids,) int64, raster index of each one's first voxel; ascending within a block, no two equal
    voxels : (ids,) how many voxels each has
    pairs : (k, 2) int64, ids that touch
    min_voxels : joined objects with fewer are dropped

    Returns
    -------
    (ids,) uint32 (uint64 where more than 2**32 - 1 objects are left), 1, 2, ... in raster order and 0 for what was
    dropped; and how many objects are left.
    """
    from cristae.labels.union_kernel import gather, number, unite

    parent = np.arange(first.size, dtype=np.uint32 if first.size < 2**32 else np.uint64)
    unite(parent, first, pairs)
    size = np.empty(first.size if min_voxels > 1 else 0, np.min_scalar_type(min_voxels))
    if size.size:
        np.minimum(voxels, size.dtype.type(min_voxels), out=size, casting="unsafe")
        gather(parent, size, min_voxels)
    filled = np.flatnonzero(np.diff(offset))
    entry = filled[np.argsort(first[offset[filled]])]
    objects = int(number(parent, first, offset, entry, size, min_voxels))
    return parent.astype(np.uint32 if objects < 2**32 else np.uint64, copy=False), objects
