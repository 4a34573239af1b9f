"""Resampling, compiled: along z into a strip, along y into a row, along x into the result, as `resample.resampled` does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cristae.compiled import njit
from cristae.filters.gaussian_kernel import in_space

STRIP = 32
"""Rows of the result that are made together: what they need of a plane stays in cache."""

Side = tuple[np.ndarray, np.ndarray, np.ndarray]


def resampled(array: np.ndarray, first: tuple[int, ...], along: Sequence[Side]) -> np.ndarray:
    """float32 by three sums in float64, each in the order of the voxels.

    array : (z, y, x) or (y, x), any real type; its first voxel lies at `first` of the volume
    along : for each axis `resample.Taps`
    """
    source, _ = in_space(array, tuple(slice(0, n) for n in array.shape))
    missing = 3 - array.ndim
    one = (np.zeros(1, np.int64), np.ones(1, np.int64), np.ones((1, 1)))
    sides = [one] * missing + [
        (taken - a, many, weights) for (taken, many, weights), a in zip(along, first, strict=True)
    ]
    out = np.empty(tuple(len(taken) for taken, _, _ in sides), np.float32)
    if out.size:
        _planes(source, tuple(sides), out)
    return out.reshape(out.shape[missing:])


@njit(nogil=True, cache=True, error_model="numpy")
def _planes(source, sides, out):  # type: ignore[no-untyped-def]
    """All of `out`. source : (z, y, x). sides : first, many and weights of z, y, x, of which `first` counts in `source`."""
    (fz, cz, wz), (fy, cy, wy), (fx, cx, wx) = sides
    nx = source.shape[2]
    rows = 1
    for start in range(0, out.shape[1], STRIP):
        last = min(start + STRIP, out.shape[1]) - 1
        rows = max(rows, fy[last] + cy[last] - fy[start])
    strip = np.empty((rows, nx), np.float64)
    row = np.empty(nx, np.float64)
    for z in range(out.shape[0]):
        for start in range(0, out.shape[1], STRIP):
            stop = min(start + STRIP, out.shape[1])
            low, high = fy[start], fy[stop - 1] + cy[stop - 1]
            strip[:] = 0.0
            for k in range(cz[z]):
                w = wz[z, k]
                for y in range(low, high):
                    for x in range(nx):
                        strip[y - low, x] += w * np.float64(source[fz[z] + k, y, x])
            for y in range(start, stop):
                row[:] = 0.0
                for k in range(cy[y]):
                    w = wy[y, k]
                    for x in range(nx):
                        row[x] += w * strip[fy[y] + k - low, x]
                for x in range(out.shape[2]):
                    total = 0.0
                    for k in range(cx[x]):
                        total += wx[x, k] * row[fx[x] + k]
                    out[z, y, x] = np.float32(total)
