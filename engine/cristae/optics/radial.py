"""Radial: functions of the distance from an axis, sampled finely once, and what pixels, pinholes and spectra make of them.

A sampled function is a row of values at 0, step, 2 step, ...; it is even, so that it goes on mirrored below 0. Everything
here is linear in it: a sparse matrix on one side, samples on the other.
"""

from __future__ import annotations

from math import ceil, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TAPS = 8
"""Samples that one value is interpolated from."""
RADIANS = 0.4
"""Of the highest frequency, between two samples: with 8 taps the error is below 1e-8 of the peak."""


def sampling(cutoff: float, radius_um: float) -> tuple[float, int]:
    """Step and number of samples for a function without frequencies above `cutoff` (cycles a um), up to a radius."""
    step = RADIANS / (2 * pi * cutoff)
    return step, ceil(radius_um / step) + TAPS


def radii(step: float, count: int) -> Floats:
    """(count,) distances from the axis at which a function is sampled."""
    found: Floats = step * np.arange(count, dtype=np.float64)
    return found


def interpolation(points: Floats, weights: Floats, step: float, count: int) -> Any:
    """What turns samples into weighted sums of values between them.

    Parameters
    ----------
    points : (n, m) distances from the axis, at least `TAPS / 2` samples below the last one
    weights : (m,) of the sum

    Returns
    -------
    (n, count) scipy.sparse matrix; Lagrange's polynomial through the nearest samples.
    """
    from scipy.sparse import csr_matrix

    at = points / step
    first = np.floor(at).astype(np.int64) - (TAPS // 2 - 1)
    t = (at - first)[..., None] - np.arange(TAPS)
    found = np.empty((*points.shape, TAPS))
    for tap in range(TAPS):
        others = [o for o in range(TAPS) if o != tap]
        found[..., tap] = np.prod(t[..., others], axis=-1) / np.prod([float(tap - o) for o in others])
    found *= weights[:, None]
    columns = np.abs(first[..., None] + np.arange(TAPS))
    n = len(points)
    each = points.shape[1] * TAPS
    return csr_matrix((found.ravel(), columns.ravel(), np.arange(n + 1) * each), shape=(n, count))


def pixels(shape: tuple[int, int], pixel_um: tuple[float, float], nodes: int) -> tuple[Floats, Floats]:
    """(n, nodes^2) distances within each pixel of a quarter plane and (nodes^2,) weights of the mean over it.

    The quarter has pixels 0 .. shape // 2 from the axis in y and x, in raster order; one node is the centre.
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    inside = [[0.5 * h * x + h * np.arange(n // 2 + 1)[:, None] for n, h in zip(shape, pixel_um, strict=True)]][0]
    apart = np.hypot(inside[0][:, None, :, None], inside[1][None, :, None, :])
    return apart.reshape(-1, nodes * nodes), (0.25 * np.outer(w, w)).ravel()


def unfolded(quarter: Floats, shape: tuple[int, int]) -> Floats:
    """(z, quarter pixels) to (z, y, x) with the axis at pixel shape // 2."""
    rows, columns = (np.abs(np.arange(n) - n // 2) for n in shape)
    found: Floats = quarter.reshape(len(quarter), shape[0] // 2 + 1, shape[1] // 2 + 1)[:, rows][:, :, columns]
    return found


def disc(radius_um: float, rings: int, spokes: int) -> tuple[Floats, Floats, Floats]:
    """(n,) y, x and weights of the mean over a disc; spokes are spread over half of it, the other half is the same."""
    x, w = np.polynomial.legendre.leggauss(rings)
    r = radius_um * np.sqrt(0.5 * (x + 1))  # equal areas
    angle = pi * (np.arange(spokes) + 0.5) / spokes
    weights = np.repeat(0.5 * w, spokes) / spokes
    return np.outer(r, np.sin(angle)).ravel(), np.outer(r, np.cos(angle)).ravel(), weights


def energy(samples: Floats, step: float) -> Floats:
    """The integral over the plane of each row."""
    r = step * np.arange(samples.shape[-1])
    # The function times r starts with a slope: the end of Euler and Maclaurin's sum.
    found: Floats = 2 * pi * (np.trapezoid(samples * r, dx=step, axis=-1) + step**2 / 12 * samples[..., 0])
    return found
