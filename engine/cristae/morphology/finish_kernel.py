"""Compiled loops: the rows that blocks have of one label, put together to what the label is.

    starts    (labels,) where the rows of each label begin; they lie together, in the raster order of their blocks
    z0 y0 x0  (rows,) origin of each row's block, in voxels of the volume

Sums run from the first row to the last, so that they do not depend on who computes them.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

# Which two axes each second moment multiplies: zz yy xx zy zx yx.
PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


@njit(nogil=True, cache=True)
def boxes(starts: np.ndarray, low: np.ndarray, high: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
    """The box of each label. low, high : (rows, 3) of each block's part; first, last : (3, labels), written"""
    for s in range(starts.size):
        stop = starts[s + 1] if s + 1 < starts.size else len(low)
        for i in range(3):
            first[i, s], last[i, s] = low[starts[s], i], high[starts[s], i]
            for r in range(starts[s] + 1, stop):
                first[i, s], last[i, s] = min(first[i, s], low[r, i]), max(last[i, s], high[r, i])


@njit(nogil=True, cache=True)
def ellipsoids(
    starts: np.ndarray,
    z0: np.ndarray,
    y0: np.ndarray,
    x0: np.ndarray,
    voxels: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    mean: np.ndarray,
    covariance: np.ndarray,
) -> None:
    """Mean voxel and covariance of each label, as `moments.mean_and_covariance` says.

    first, second : (rows, 3) and (rows, 6) int64, z y x and zz yy xx zy zx yx.
    mean, covariance : (3, labels) and (labels, 3, 3) float64, written.
    """
    origin = (z0, y0, x0)
    base, middle, rest = np.empty(3, np.int64), np.empty(3, np.int64), np.empty(3, np.int64)
    summed, scatter, away = np.empty(3), np.empty(6), np.empty(3)
    for s in range(starts.size):
        stop = starts[s + 1] if s + 1 < starts.size else voxels.size
        count = np.int64(0)
        summed[:] = 0.0
        scatter[:] = 0.0
        for r in range(starts[s], stop):
            n = voxels[r]
            count += n
            for i in range(3):
                near = np.int64(np.rint(first[r, i] / n))
                if r == starts[s]:
                    base[i] = origin[i][r] + near
                summed[i] += n * ((origin[i][r] + near - base[i]) + (first[r, i] - n * near) / n)
        for r in range(starts[s], stop):
            n = voxels[r]
            for i in range(3):
                middle[i] = np.int64(np.rint(first[r, i] / n))
                rest[i] = first[r, i] - n * middle[i]
                away[i] = (origin[i][r] + middle[i] - base[i]) + rest[i] / n - summed[i] / count
            for k, (i, j) in enumerate(PAIRS):
                # int64 wraps: the sums about the block's origin may have overflowed, those about `middle` are right again.
                about = second[r, k] - middle[i] * first[r, j] - middle[j] * rest[i]
                scatter[k] += about - n * (rest[i] / n) * (rest[j] / n) + n * away[i] * away[j]
        for i in range(3):
            mean[i, s] = base[i] + summed[i] / count
        for k, (i, j) in enumerate(PAIRS):
            covariance[s, i, j] = covariance[s, j, i] = scatter[k] / count


@njit(nogil=True, cache=True)
def spreads(
    starts: np.ndarray,
    voxels: np.ndarray,
    pivot: np.ndarray,
    shifted: np.ndarray,
    squared: np.ndarray,
    count: np.ndarray,
    mean: np.ndarray,
    scatter: np.ndarray,
) -> None:
    """Voxels of each label, the mean of what it shows, and the sum of squares about it.

    pivot, shifted, squared : (rows,) of each block's part, as `intensity_kernel.intensities` finds them
    count, mean, scatter : (labels,) int64, float64 and float64, written
    """
    for s in range(starts.size):
        stop = starts[s + 1] if s + 1 < starts.size else voxels.size
        anchor, summed, total = pivot[starts[s]], 0.0, np.int64(0)
        for r in range(starts[s], stop):
            total += voxels[r]
            summed += voxels[r] * ((pivot[r] - anchor) + shifted[r] / voxels[r])
        about = 0.0
        for r in range(starts[s], stop):
            own = shifted[r] / voxels[r]
            away = (pivot[r] - anchor) + own - summed / total
            about += squared[r] - shifted[r] * own + voxels[r] * away * away
        count[s], mean[s], scatter[s] = total, anchor + summed / total, about


@njit(nogil=True, cache=True)
def amounts(
    starts: np.ndarray,
    z0: np.ndarray,
    y0: np.ndarray,
    x0: np.ndarray,
    exact: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    weighted: np.ndarray,
    amount: np.ndarray,
    least: np.ndarray,
    largest: np.ndarray,
    centre: np.ndarray,
) -> None:
    """Sum of what each label shows, its extremes, and the voxel at the centre of it; NaN where the sum is 0.

    exact, lowest, highest : (rows,) sum and extremes of each block's part; weighted : (rows, 3) sums of value times z, y, x
    amount, least, largest : (labels,) of their types, written; centre : (3, labels) float64, written
    """
    origin = (z0, y0, x0)
    for s in range(starts.size):
        low, stop = starts[s], starts[s + 1] if s + 1 < starts.size else exact.size
        amount[s], least[s], largest[s] = exact[low], lowest[low], highest[low]
        for r in range(low + 1, stop):
            amount[s] += exact[r]
            least[s], largest[s] = min(least[s], lowest[r]), max(largest[s], highest[r])
        for i in range(3):
            moment = 0.0
            for r in range(low, stop):  # about the label's first block, so that a far origin costs no digits
                moment += weighted[r, i] + (origin[i][r] - origin[i][low]) * float(exact[r])
            centre[i, s] = origin[i][low] + (moment / amount[s] if amount[s] != 0 else np.nan)
