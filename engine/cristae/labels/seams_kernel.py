"""A compiled loop over two layers of provisional ids that face each other: which components touch."""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

STEPS = np.array([(0, 0), (-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)])
"""Steps within a layer, nearest first."""


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
