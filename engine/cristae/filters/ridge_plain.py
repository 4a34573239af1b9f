"""The ridge filter as it is written on paper, for any array library; the compiled kernel is held to it.

Convolutions are sums of shifted arrays, in the order of the compiled rows. Differences are taken from the centre voxel,
so that a constant image has second derivatives of exactly zero, in every library.

    scale   per axis three weights from the centre outwards: smoothing, first and second derivative, in units of sigma
    curves  the Hessian's components, (zz, zy, zx, yy, yx, xx) or (yy, yx, xx)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement
from math import sqrt

import numpy as np

from cristae.array import Array, namespace
from cristae.filters.edge import reflected

Scale = tuple[np.ndarray, ...]


def response(
    array: Array, window: tuple[slice, ...], scales: Sequence[Scale], gamma: float, alpha: float, beta: float
) -> Array:
    """Frangi's response to bright tubes, the largest over all scales.

    Parameters
    ----------
    array : (z, y, x) or (y, x), any real type; it ends short of the window's reach only where the volume ends
    window : slices of `array` with start and stop
    scales : for each scale and axis (3, radius + 1) float, see `ridge.derivative_weights`
    gamma : Hessian norm that counts as structure, in units of the image; 0 gives a response of 0
    alpha, beta : tolerance for plates and for blobs, dimensionless

    Returns
    -------
    float32 in [0, 1], of the window's shape.
    """
    xp = namespace(array)
    best = xp.zeros([s.stop - s.start for s in window], xp.float32)
    if gamma == 0:
        return best
    for scale in scales:
        curves = [c / -gamma for c in hessian(array, window, scale)]
        likeness = tube_3d(curves, alpha, beta) if len(window) == 3 else tube_2d(curves, beta)
        best = xp.maximum(best, likeness)
    return best


def largest_norm(array: Array, window: tuple[slice, ...], scales: Sequence[Scale]) -> float:
    """The largest Frobenius norm of the Hessian over the window and all scales, in units of the image."""
    xp = namespace(array)
    return max(sqrt(float(xp.max(squared_norm(list(hessian(array, window, s)))))) for s in scales)


def hessian(array: Array, window: tuple[slice, ...], scale: Scale) -> Iterator[Array]:
    """Second derivatives of the smoothed image, times sigma squared: float32, one component at a time."""
    array = array.astype(namespace(array).float32)
    for pair in combinations_with_replacement(range(array.ndim), 2):
        curve = array
        for axis in range(array.ndim):
            curve = derivative(curve, axis, window[axis], scale[axis], pair.count(axis))
        yield curve


def derivative(array: Array, axis: int, span: slice, weights: np.ndarray, order: int) -> Array:
    """Smoothed derivative of order 0, 1 or 2 along one axis, for the positions in `span`."""
    xp = namespace(array)
    side = [float(w) for w in weights[order]]
    radius, count = len(side) - 1, span.stop - span.start
    taps = xp.asarray(reflected(span.start, span.stop, radius, array.shape[axis]))
    source = xp.take(array, taps, axis=axis)

    def shifted(k: int) -> Array:
        start = radius + k
        return source[(slice(None),) * axis + (slice(start, start + count),)]

    centre = shifted(0)
    total = side[0] * centre if order == 0 else xp.zeros_like(centre)
    for k in range(1, radius + 1):
        before, after = shifted(-k), shifted(k)
        if order == 0:
            total += side[k] * (before + after)
        elif order == 1:
            total += side[k] * (after - before)
        else:
            total += side[k] * ((before - centre) + (after - centre))
    return total


def squared_norm(curves: Sequence[Array]) -> Array:
    """Squared Frobenius norm of symmetric matrices given by their upper triangles."""
    if len(curves) == 6:
        zz, zy, zx, yy, yx, xx = curves
        return zz * zz + yy * yy + xx * xx + 2 * (zy * zy + zx * zx + yx * yx)
    yy, yx, xx = curves
    return yy * yy + xx * xx + 2 * (yx * yx)


def tube_3d(curves: Sequence[Array], alpha: float, beta: float) -> Array:
    """Frangi's likeness to a tube, from the negated Hessian in units of gamma: a bright tube curves upwards here.

    A. F. Frangi et al., MICCAI 1998, LNCS 1496, 130, doi:10.1007/BFb0056195, equation 13. With eigenvalues sorted by
    magnitude the two largest must be positive; in ascending order that is mid > 0 and low >= -mid.
    """
    xp = namespace(curves[0])
    low, mid, high = eigenvalues(*curves)
    tube = (mid > 0) & (low >= -mid)
    mid, high = xp.where(tube, mid, 1), xp.where(tube, high, 1)
    plate = 1 - xp.exp((mid / high) ** 2 * (-0.5 / alpha**2))
    blob = xp.exp(low**2 / (mid * high) * (-0.5 / beta**2))
    structure = 1 - xp.exp((low**2 + mid**2 + high**2) * -0.5)
    return xp.where(tube, plate * blob * structure, 0)


def tube_2d(curves: Sequence[Array], beta: float) -> Array:
    """The same in the plane (equation 15): blobs are told from lines by |low| / |high|, and there are no plates."""
    yy, yx, xx = curves
    xp = namespace(yy)
    mean, spread = (yy + xx) / 2, xp.sqrt(((yy - xx) / 2) ** 2 + yx * yx)
    low, high = mean - spread, mean + spread
    line = (high > 0) & (low >= -high)
    high = xp.where(line, high, 1)
    blob = xp.exp((low / high) ** 2 * (-0.5 / beta**2))
    structure = 1 - xp.exp((low**2 + high**2) * -0.5)
    return xp.where(line, blob * structure, 0)


def eigenvalues(zz: Array, zy: Array, zx: Array, yy: Array, yx: Array, xx: Array) -> tuple[Array, Array, Array]:
    """Eigenvalues of symmetric 3 x 3 matrices in ascending order, in closed form.

    O. K. Smith, Commun. ACM 4, 168 (1961), doi:10.1145/355578.366316. The matrix is shifted and scaled to trace 0 and
    a half determinant in [-1, 1] before anything is multiplied, so that no product over- or underflows.
    """
    xp = namespace(zz)
    mean = (zz + yy + xx) / 3
    a, b, c = zz - mean, yy - mean, xx - mean
    spread = xp.sqrt((a * a + b * b + c * c + 2 * (zy * zy + zx * zx + yx * yx)) / 6)
    unit = xp.where(spread > 0, spread, 1)
    a, b, c, d, e, f = a / unit, b / unit, c / unit, zy / unit, zx / unit, yx / unit
    half = (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e)) / 2
    angle = xp.arccos(xp.clip(half, -1, 1)) / 3
    cosine, sine = xp.cos(angle), sqrt(3) * xp.sin(angle)
    return mean - spread * (cosine + sine), mean - spread * (cosine - sine), mean + 2 * spread * cosine
