"""Compiled loops over the voxels of one block: count its components, find who touches whom, write its final ids.

    raw           ids as a labelling library gives them: 1..n in any order, 0 is background
    provisional   ids of one block, 1..n by the raster order of each component's first voxel
    canonical     ids of the whole volume, found by `union`

No kernel trusts a library's order of ids; each follows first voxels itself, so it may be exchanged for another.
Arrays are C-contiguous unless said. `census` checks that raw ids are 1..n; the others rely on it.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

STEPS = np.array([(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)])
"""Steps within a layer, nearest first."""


@njit(nogil=True, cache=True)
def census(raw: np.ndarray, order: np.ndarray, first: np.ndarray, voxels: np.ndarray) -> None:
    """Provisional ids, first voxels and sizes of the components of a block.

    raw : (voxels,) unsigned, flat.
    order : (n + 1,) uint32 zeros; becomes the provisional id of each raw id.
    first, voxels : (n,) int64 and uint32 zeros; become the flat index of the first voxel, and the number of voxels.

    Raises
    ------
    ValueError : if `raw` holds other than 1..n, each somewhere.
    """
    # Four counters an id, taken in turn: one would make each voxel wait for the addition of the one before it.
    counts = np.zeros((4, order.size), np.uint32)
    found = 0
    order[0] = 1
    for i in range(raw.size):
        v = raw[i]
        if v >= order.size:
            raise ValueError("the labelling library gave an id above its own count")
        counts[i & 3, v] += 1
        if order[v] == 0:
            first[found] = i
            found += 1
            order[v] = found
    order[0] = 0
    if found != first.size:
        raise ValueError("the labelling library counted ids that are not there")
    for v in range(1, order.size):
        voxels[order[v] - 1] = counts[0, v] + counts[1, v] + counts[2, v] + counts[3, v]


@njit(nogil=True, cache=True)
def relabel(raw: np.ndarray, ids: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Write the canonical id of each voxel.

    raw : (z, y, x) unsigned.
    ids : (n,) canonical ids, in provisional order.
    table : (n + 1,) int64, 0 and then -1 for ids not met yet; changed in place.
    out : (z, y, x) of the type of `ids`, any strides.
    """
    met = 0
    for z in range(raw.shape[0]):
        for y in range(raw.shape[1]):
            line, target = raw[z, y], out[z, y]
            for x in range(line.size):
                v = table[line[x]]
                if v < 0:
                    v = ids[met]
                    met += 1
                    table[line[x]] = v
                target[x] = v


@njit(nogil=True, cache=True)
def meetings(
    near: np.ndarray, far: np.ndarray, reach: int, alike: bool, near_value: np.ndarray, far_value: np.ndarray
) -> np.ndarray:
    """Components that touch across two facing layers of voxels, as near << 32 | far, with repeats.

    near, far : (rows, columns) uint32 provisional ids of their own blocks, any strides.
    reach : how many of the two axes may differ too: 0 faces, 1 edges, 2 corners.
    alike : a pair counts only if near_value[id - 1] == far_value[id - 1]; else the two int64 arrays are not looked at.
    """
    rows, columns = near.shape
    out = np.empty(256, np.uint64)
    n = 0
    last = np.uint64(0)
    for i in range(rows):
        for j in range(columns):
            a = near[i, j]
            if a == 0:
                continue
            # Straight ahead first: what else lies within reach of that voxel belongs to its own component
            # (where values do not matter), so an answer there ends the search.
            for step in range(9):
                di, dj = STEPS[step, 0], STEPS[step, 1]
                if abs(di) + abs(dj) > reach:
                    break
                y, x = i + di, j + dj
                if y < 0 or x < 0 or y >= rows or x >= columns:
                    continue
                b = far[y, x]
                if b == 0 or (alike and near_value[a - 1] != far_value[b - 1]):
                    continue
                pair = np.uint64(a) << np.uint64(32) | np.uint64(b)
                if pair != last:
                    if n == out.size:
                        out = np.concatenate((out, np.empty_like(out)))
                    out[n] = last = pair
                    n += 1
                if step == 0:
                    break
    return out[:n]
