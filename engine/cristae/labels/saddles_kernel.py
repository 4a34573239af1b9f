"""Compiled loops over one block and over ids: how high its foreground stands, and where basins border each other.

    height   float32, (z, y, x); 0 on the ground
    order    voxels by height, equal ones by raster index, so that no two are alike
    saddle   two neighbours in different basins: as high as the lower of them; saddles are ordered by that one, then by the other

A spanning forest of basins with the highest saddles is all that joining needs: a saddle that closes a circle is never crossed.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit
from cristae.labels.union_kernel import root

LEAST = np.finfo(np.float32).tiny
"""Height of what is hardly above the ground."""


@njit(nogil=True, cache=True)
def relief(
    chance: np.ndarray,
    above: float,
    reach: float,
    steps: np.ndarray,
    away: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
) -> np.ndarray:
    """The mean over all levels from `above` to 1 of a voxel's distance to where the probability is no higher, at most `reach`.

    chance : (z, y, x) float32 without NaN.
    steps, away : (k, 3) int64 and (k,) float64, voxels nearer than `reach` by their distance, nearest first.
    low, high : (3,) the box that is wanted, within the array.

    Going outward, the lowest value met so far says for which levels the distance has been found. What lies beyond the array is no
    ground. A height is the sum of the same numbers in the same order in every array that holds its reach.
    """
    depth, rows, columns = chance.shape
    out = np.zeros((high[0] - low[0], high[1] - low[1], high[2] - low[2]), np.float32)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                least = float(min(chance[z, y, x], 1.0))
                if not least > above:
                    continue
                total = 0.0
                for n in range(away.size):
                    k, j, i = z + steps[n, 0], y + steps[n, 1], x + steps[n, 2]
                    if k < 0 or j < 0 or i < 0 or k >= depth or j >= rows or i >= columns:
                        continue
                    value = max(float(chance[k, j, i]), above)
                    if value < least:
                        total += away[n] * (least - value)
                        least = value
                        if least <= above:
                            break
                total += reach * (least - above)
                out[z - low[0], y - low[1], x - low[2]] = max(np.float32(total / (1.0 - above)), LEAST)
    return out


@njit(nogil=True, cache=True)
def saddles_within(
    height: np.ndarray, ids: np.ndarray, begin: int, flat: np.ndarray, heights: np.ndarray, between: np.ndarray
) -> tuple[int, int]:
    """Neighbours of the core with different ids, from voxel `begin` on, as far as there is room.

    height, ids : (z, y, x) float32 and uint32, of the core.
    flat : (k, 2) int64; becomes the raster index in the core of the lower voxel of each, and of the higher one.
    heights : (k,) float32; of the lower one. between : (k, 2) int64; their ids.

    Returns how many were found, and the voxel to go on from.
    """
    depth, rows, columns = height.shape
    found = 0
    for at in range(begin, height.size):
        z, y, x = at // (rows * columns), at // columns % rows, at % columns
        if ids[z, y, x] == 0:
            continue
        if found + 13 > heights.size:
            return found, at
        for k in range(z, min(z + 2, depth)):
            for j in range(max(y - 1, 0), min(y + 2, rows)):
                for i in range(max(x - 1, 0), min(x + 2, columns)):
                    other = (k * rows + j) * columns + i
                    if other <= at or ids[k, j, i] == 0 or ids[k, j, i] == ids[z, y, x]:
                        continue
                    if height[z, y, x] <= height[k, j, i]:
                        flat[found, 0], flat[found, 1] = at, other
                        between[found, 0], between[found, 1] = ids[z, y, x], ids[k, j, i]
                        heights[found] = height[z, y, x]
                    else:
                        flat[found, 0], flat[found, 1] = other, at
                        between[found, 0], between[found, 1] = ids[k, j, i], ids[z, y, x]
                        heights[found] = height[k, j, i]
                    found += 1
    return found, height.size


@njit(nogil=True, cache=True)
def saddles_across(
    near: np.ndarray,
    far: np.ndarray,
    near_height: np.ndarray,
    far_height: np.ndarray,
    near_flat: np.ndarray,
    far_flat: np.ndarray,
    flat: np.ndarray,
    heights: np.ndarray,
    between: np.ndarray,
) -> int:
    """Neighbours across two facing layers of two blocks; how many there are.

    near, far : (rows, columns) uint32 ids of their own blocks, 0 is ground. near_height, far_height : their heights.
    near_flat, far_flat : (rows, columns) int64 raster indices in the volume.
    flat, heights, between : as in `saddles_within`, with room for nine a voxel; `between` holds the near id and the far one.
    """
    rows, columns = near.shape
    found = 0
    for i in range(rows):
        for j in range(columns):
            if near[i, j] == 0:
                continue
            for y in range(max(i - 1, 0), min(i + 2, rows)):
                for x in range(max(j - 1, 0), min(j + 2, columns)):
                    if far[y, x] == 0:
                        continue
                    between[found, 0], between[found, 1] = near[i, j], far[y, x]
                    one, other = near_height[i, j], far_height[y, x]
                    if one < other or (one == other and near_flat[i, j] < far_flat[y, x]):
                        flat[found, 0], flat[found, 1] = near_flat[i, j], far_flat[y, x]
                        heights[found] = one
                    else:
                        flat[found, 0], flat[found, 1] = far_flat[y, x], near_flat[i, j]
                        heights[found] = other
                    found += 1
    return found


@njit(nogil=True, cache=True)
def spanning(between: np.ndarray, count: int) -> np.ndarray:
    """Which of these saddles, the highest first, join ids that no higher ones joined; (k,) bool. Ids are 0 to count - 1."""
    parent = np.arange(count)
    kept = np.zeros(len(between), np.bool_)
    for n in range(len(between)):
        a, b = root(parent, between[n, 0]), root(parent, between[n, 1])
        if a != b:
            parent[max(a, b)] = min(a, b)
            kept[n] = True
    return kept


@njit(nogil=True, cache=True)
def crossed(
    top: np.ndarray, pairs: np.ndarray, between: np.ndarray, heights: np.ndarray, depth: float
) -> tuple[np.ndarray, int]:
    """Which of these saddles, the highest first, lie less than `depth` below the lower of the two summits that they part.

    top : (ids,) float32, height of the highest voxel of each id; what the basin is named by is the highest of all.
    pairs : (k, 2) int64, ids that are one basin.

    Returns (saddles,) bool, and how many basins there were.
    """
    parent = np.arange(top.size)
    summit = top.copy()
    basins = top.size
    for n in range(len(pairs)):
        a, b = root(parent, pairs[n, 0]), root(parent, pairs[n, 1])
        if a != b:
            parent[max(a, b)] = min(a, b)
            summit[min(a, b)] = max(summit[a], summit[b])
            basins -= 1
    joined = np.zeros(len(between), np.bool_)
    for n in range(len(between)):
        a, b = root(parent, between[n, 0]), root(parent, between[n, 1])
        if a != b and np.float64(min(summit[a], summit[b])) - np.float64(heights[n]) < depth:
            parent[max(a, b)] = min(a, b)
            summit[min(a, b)] = max(summit[a], summit[b])
            joined[n] = True
    return joined, basins
