"""Compiled loop: count, sums and extremes of an image inside each label of a block.

Powers are taken of the difference to a pivot, the value of the label's first voxel in the block, so that a bright
object with little spread loses no digits. Labels are numbered as in `moments_kernel`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from cristae.morphology.moments_kernel import enter, longer, place

# Columns of `sums`; `exact` holds sum, least and largest in a type that loses nothing.
VOXELS, PIVOT, SHIFTED, SQUARED, WEIGHTED, WIDTH = 0, 1, 2, 3, 4, 7
SUM, LEAST, LARGEST, EXACT_WIDTH = 0, 1, 2, 3


@njit(nogil=True, cache=True)
def intensities(
    labels: np.ndarray,
    lo: tuple[int, int, int],
    image: np.ndarray,
    image_lo: tuple[int, int, int],
    size: tuple[int, int, int],
    exact: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sums of `image` over each label of the core.

    labels, image : (z, y, x) C-contiguous; their cores begin at `lo` and `image_lo` and have the shape `size`.
    exact : (n > 0, 3) zeros, int64 for integer images and float64 for others; says the type of the second table.

    Returns
    -------
    keys, slots; sums (slots or more, WIDTH) float64: voxels, pivot, sum and sum of squares of value - pivot, sum of
    value times z, y, x; exact (slots or more, 3): sum, least, largest value.
    """
    keys, slots = np.zeros(64, np.uint64), np.zeros(64, np.int64)
    sums = np.zeros((32, WIDTH), np.float64)
    found, last, s = 0, np.uint64(0), 0
    for z in range(size[0]):
        for y in range(size[1]):
            row = labels[lo[0] + z, lo[1] + y, lo[2] : lo[2] + size[2]]
            value = image[image_lo[0] + z, image_lo[1] + y, image_lo[2] : image_lo[2] + size[2]]
            x = 0
            while x < row.size:
                while x < row.size and row[x] == 0:
                    x += 1
                if x == row.size:
                    break
                a = x
                label = np.uint64(row[a])
                if label != last:
                    last = label
                    s = slots[place(keys, slots, label)] - 1
                    if s < 0:
                        keys, slots = enter(keys, slots, found, label)
                        s = found
                        found += 1
                        if s == sums.shape[0]:
                            sums = longer(sums)
                        if s == exact.shape[0]:
                            exact = longer(exact)
                        sums[s, PIVOT] = value[a]
                        exact[s, LEAST] = value[a]
                        exact[s, LARGEST] = value[a]
                pivot = sums[s, PIVOT]
                amount, least, largest = exact[s, SUM], exact[s, LEAST], exact[s, LARGEST]
                mass = shifted = squared = along = 0.0
                while x < row.size and row[x] == row[a]:
                    v = float(value[x])
                    d = v - pivot
                    amount += value[x]
                    least = min(least, value[x])
                    largest = max(largest, value[x])
                    mass += v
                    shifted += d
                    squared += d * d
                    along += v * x
                    x += 1
                exact[s, SUM], exact[s, LEAST], exact[s, LARGEST] = amount, least, largest
                w = sums[s]
                w[VOXELS] += x - a
                w[SHIFTED] += shifted
                w[SQUARED] += squared
                w[WEIGHTED] += mass * z
                w[WEIGHTED + 1] += mass * y
                w[WEIGHTED + 2] += along
    return keys, slots, sums, exact
