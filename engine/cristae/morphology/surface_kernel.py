"""Compiled loop: the 2x2x2 windows of a block, and what each is worth to every label in it.

    corner   bit 4 dz + 2 dy + dx of a configuration: set where the voxel carries the label
    window   named by its first corner; a block also looks at those that begin one voxel below its core
    owner    a window's worth to a label belongs to the block that holds the first corner with that label

So a block speaks of its own labels only, each window counts once for each label, and the grid does not show.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit
from cristae.morphology.moments_kernel import place


@njit(nogil=True, cache=True)
def windows(
    labels: np.ndarray,
    lo: tuple[int, int, int],
    size: tuple[int, int, int],
    flat: bool,
    keys: np.ndarray,
    slots: np.ndarray,
    worth: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the worth of each window to the sums of its labels.

    labels : (z, y, x) unsigned, C-contiguous; reaches one voxel beyond the core, less at the volume's faces, beyond
        which all is background.
    flat : windows are 2x2 within a plane; only the first 16 configurations occur.
    keys, slots : the table of the core's labels; must hold every one.
    worth : (256, k) int64.
    sums : (slots, k) int64, changed in place.
    """
    nothing = np.zeros(labels.shape[2], labels.dtype)
    corner = np.zeros(8, labels.dtype)
    last, s = np.uint64(0), 0
    end_z, end_y, end_x = lo[0] + size[0], lo[1] + size[1], lo[2] + size[2]
    for z in range(lo[0] if flat else lo[0] - 1, end_z):
        for y in range(lo[1] - 1, end_y):
            here, below = z >= 0, z + 1 < labels.shape[0] and not flat
            r0 = labels[z, y] if here and y >= 0 else nothing
            r1 = labels[z, y + 1] if here and y + 1 < labels.shape[1] else nothing
            r2 = labels[z + 1, y] if below and y >= 0 else nothing
            r3 = labels[z + 1, y + 1] if below and y + 1 < labels.shape[1] else nothing
            for x in range(lo[2] - 1, end_x):
                left, right = x >= 0, x + 1 < labels.shape[2]
                if left and right:
                    v = r0[x]
                    if (
                        r0[x + 1] == v and r1[x] == v and r1[x + 1] == v
                        and (flat or (r2[x] == v and r2[x + 1] == v and r3[x] == v and r3[x + 1] == v))
                    ):  # fmt: skip
                        continue
                corner[:] = 0
                if left:
                    corner[0], corner[2], corner[4], corner[6] = r0[x], r1[x], r2[x], r3[x]
                if right:
                    corner[1], corner[3], corner[5], corner[7] = r0[x + 1], r1[x + 1], r2[x + 1], r3[x + 1]
                done = 0
                for i in range(8):
                    v = corner[i]
                    if v == 0 or done & (1 << i):
                        continue
                    shown = 0
                    for j in range(i, 8):
                        if corner[j] == v:
                            shown |= 1 << j
                    done |= shown
                    owner_z, owner_y, owner_x = z + (i >> 2), y + ((i >> 1) & 1), x + (i & 1)
                    if not (lo[0] <= owner_z < end_z and lo[1] <= owner_y < end_y and lo[2] <= owner_x < end_x):
                        continue
                    label = np.uint64(v)
                    if label != last:
                        last = label
                        s = slots[place(keys, slots, label)] - 1
                    for k in range(worth.shape[1]):
                        sums[s, k] += worth[shown, k]
