"""The ridge filter, compiled: all of Frangi's response in one pass a scale, with no volume in between.

Three planes (smoothed, first and second derivative along z) and a dozen rows are all that is held. Every voxel is
computed by the same operations in the same order, none fused and none from a maths library, so that it has the same
bits in every block. Inner loops run along x, without a branch, so that they vectorise.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt

import numpy as np

from cristae.compiled import njit
from cristae.filters.gaussian_kernel import fill_ends, in_space, reach, smooth_row, span

f32 = np.float32


def response(
    array: np.ndarray,
    window: tuple[slice, ...],
    scales: Sequence[tuple[np.ndarray, ...]],
    gamma: float,
    alpha: float,
    beta: float,
) -> np.ndarray:
    """Frangi's response to bright tubes, the largest over all scales; the compiled twin of `ridge_plain.response`."""
    source, spans = in_space(array, window)
    best = np.zeros(tuple(b - a for a, b in spans), f32)
    if best.size and gamma > 0:
        facts = np.array([-1 / gamma, 0.5 / alpha**2, 0.5 / beta**2], f32)
        for scale in scales:
            _scan(source, spans, scale, facts, best)
    return best.reshape(best.shape[3 - array.ndim :])


def largest_norm(array: np.ndarray, window: tuple[slice, ...], scales: Sequence[tuple[np.ndarray, ...]]) -> float:
    """The largest Frobenius norm of the Hessian; the compiled twin of `ridge_plain.largest_norm`."""
    source, spans = in_space(array, window)
    top = np.zeros((1, 1, spans[2][1] - spans[2][0]), f32)
    for scale in scales:
        _scan(source, spans, scale, np.empty(0, f32), top)
    return sqrt(top.max(initial=0))


def _scan(
    source: np.ndarray,
    spans: Sequence[tuple[int, int]],
    scale: tuple[np.ndarray, ...],
    facts: np.ndarray,
    out: np.ndarray,
) -> None:
    in_plane = [np.zeros((3, 1), f32)] * (3 - len(scale))
    weights = in_plane + [np.asarray(w, f32) for w in scale]
    reaches = [reach(a, b, w.shape[1] - 1, n) for (a, b), w, n in zip(spans, weights, source.shape, strict=True)]
    scan = scan_2d if in_plane else scan_3d
    scan(source.reshape(-1), source.shape[1:], tuple(reaches), tuple(weights), facts, out)


@njit(nogil=True, cache=True, error_model="numpy")
def slope_row(out, source, offsets, weights):  # type: ignore[no-untyped-def]
    """out[x] = sum over k of w[k] * (after_k[x] - before_k[x]); promises as for `smooth_row`."""
    n, r = out.size, weights.size - 1
    for x in range(n):
        out[x] = f32(0)
    k = 1
    while k + 2 <= r:
        a, b = span(source, offsets[r - k], n), span(source, offsets[r + k], n)
        c, d = span(source, offsets[r - k - 1], n), span(source, offsets[r + k + 1], n)
        e, f = span(source, offsets[r - k - 2], n), span(source, offsets[r + k + 2], n)
        w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2]
        for x in range(n):
            s = out[x] + w1 * (f32(b[x]) - f32(a[x]))
            s = s + w2 * (f32(d[x]) - f32(c[x]))
            out[x] = s + w3 * (f32(f[x]) - f32(e[x]))
        k += 3
    while k <= r:
        a, b, w = span(source, offsets[r - k], n), span(source, offsets[r + k], n), weights[k]
        for x in range(n):
            out[x] = out[x] + w * (f32(b[x]) - f32(a[x]))
        k += 1


@njit(nogil=True, cache=True, error_model="numpy")
def bend_row(out, source, offsets, weights):  # type: ignore[no-untyped-def]
    """out[x] = sum over k of w[k] * ((before_k[x] - centre[x]) + (after_k[x] - centre[x])).

    Exactly 0 on a constant, which weights that only sum to 0 up to rounding are not.
    """
    n, r = out.size, weights.size - 1
    m = span(source, offsets[r], n)
    for x in range(n):
        out[x] = f32(0)
    k = 1
    while k + 2 <= r:
        a, b = span(source, offsets[r - k], n), span(source, offsets[r + k], n)
        c, d = span(source, offsets[r - k - 1], n), span(source, offsets[r + k + 1], n)
        e, f = span(source, offsets[r - k - 2], n), span(source, offsets[r + k + 2], n)
        w1, w2, w3 = weights[k], weights[k + 1], weights[k + 2]
        for x in range(n):
            centre = f32(m[x])
            s = out[x] + w1 * ((f32(a[x]) - centre) + (f32(b[x]) - centre))
            s = s + w2 * ((f32(c[x]) - centre) + (f32(d[x]) - centre))
            out[x] = s + w3 * ((f32(e[x]) - centre) + (f32(f[x]) - centre))
        k += 3
    while k <= r:
        a, b, w = span(source, offsets[r - k], n), span(source, offsets[r + k], n), weights[k]
        for x in range(n):
            centre = f32(m[x])
            out[x] = out[x] + w * ((f32(a[x]) - centre) + (f32(b[x]) - centre))
        k += 1


@njit(nogil=True, cache=True)
def scan_3d(source, extent, reaches, weights, facts, out):  # type: ignore[no-untyped-def]
    """One scale: out = max(out, response), or without `facts` out[0, 0] = max(out[0, 0], squared norm) over z and y.

    source : flat (z, ny, nx). extent : (ny, nx). reaches : Reach along z, y, x. weights : (3, radius + 1) float32 each.
    facts : -1 / gamma, 1 / 2 alpha^2, 1 / 2 beta^2, float32; or empty.
    """
    (ny, nx), (deep, down, across), (wz, wy, wx) = extent, reaches, weights
    rows, width, wide = down.last - down.first, across.last - across.first, across.taps.size
    depth, height = deep.taps.size - 2 * (wz.shape[1] - 1), down.taps.size - 2 * (wy.shape[1] - 1)
    n = out.shape[2]
    p0, p1 = np.empty(rows * width, np.float32), np.empty(rows * width, np.float32)
    p2 = np.empty(rows * width, np.float32)
    along = np.empty((6, wide), np.float32)
    curves = np.empty((6, n), np.float32)
    oz, oy = np.empty(2 * wz.shape[1] - 1, np.int64), np.empty(2 * wy.shape[1] - 1, np.int64)
    ox = np.arange(2 * wx.shape[1] - 1)
    left, right = across.left, across.left + width
    for z in range(depth):
        for y in range(rows):
            for k in range(oz.size):
                oz[k] = (deep.taps[z + k] * ny + down.first + y) * nx + across.first
            a, b = y * width, (y + 1) * width
            smooth_row(p0[a:b], source, oz, wz[0])
            slope_row(p1[a:b], source, oz, wz[1])
            bend_row(p2[a:b], source, oz, wz[2])
        for y in range(height):
            for k in range(oy.size):
                oy[k] = (down.taps[y + k] - down.first) * width
            smooth_row(along[0, left:right], p2, oy, wy[0])
            slope_row(along[1, left:right], p1, oy, wy[1])
            smooth_row(along[2, left:right], p1, oy, wy[0])
            bend_row(along[3, left:right], p0, oy, wy[2])
            slope_row(along[4, left:right], p0, oy, wy[1])
            smooth_row(along[5, left:right], p0, oy, wy[0])
            for j in range(6):
                fill_ends(along[j], across)
            smooth_row(curves[0], along[0], ox, wx[0])
            smooth_row(curves[1], along[1], ox, wx[0])
            slope_row(curves[2], along[2], ox, wx[1])
            smooth_row(curves[3], along[3], ox, wx[0])
            slope_row(curves[4], along[4], ox, wx[1])
            bend_row(curves[5], along[5], ox, wx[2])
            if facts.size:
                tube_row_3d(out[z, y], curves, facts)
            else:
                norm_row_3d(out[0, 0], curves)


@njit(nogil=True, cache=True)
def scan_2d(source, extent, reaches, weights, facts, out):  # type: ignore[no-untyped-def]
    """`scan_3d` in the plane: nothing is looked at along z, and there are three components."""
    nx, (_, down, across), (_, wy, wx) = extent[1], reaches, weights
    width, wide, n = across.last - across.first, across.taps.size, out.shape[2]
    height = down.taps.size - 2 * (wy.shape[1] - 1)
    along = np.empty((3, wide), np.float32)
    curves = np.empty((3, n), np.float32)
    oy, ox = np.empty(2 * wy.shape[1] - 1, np.int64), np.arange(2 * wx.shape[1] - 1)
    left, right = across.left, across.left + width
    for y in range(height):
        for k in range(oy.size):
            oy[k] = down.taps[y + k] * nx + across.first
        bend_row(along[0, left:right], source, oy, wy[2])
        slope_row(along[1, left:right], source, oy, wy[1])
        smooth_row(along[2, left:right], source, oy, wy[0])
        for j in range(3):
            fill_ends(along[j], across)
        smooth_row(curves[0], along[0], ox, wx[0])
        slope_row(curves[1], along[1], ox, wx[1])
        bend_row(curves[2], along[2], ox, wx[2])
        if facts.size:
            tube_row_2d(out[0, y], curves, facts)
        else:
            norm_row_2d(out[0, 0], curves)


@njit(nogil=True, cache=True, error_model="numpy")
def norm_row_3d(top, curves):  # type: ignore[no-untyped-def]
    """top[x] = max(top[x], squared Frobenius norm)."""
    zz, zy, zx, yy, yx, xx = curves[0], curves[1], curves[2], curves[3], curves[4], curves[5]
    for x in range(top.size):
        on = zz[x] * zz[x] + yy[x] * yy[x] + xx[x] * xx[x]
        norm = on + f32(2) * (zy[x] * zy[x] + zx[x] * zx[x] + yx[x] * yx[x])
        top[x] = norm if norm > top[x] else top[x]


@njit(nogil=True, cache=True, error_model="numpy")
def norm_row_2d(top, curves):  # type: ignore[no-untyped-def]
    """top[x] = max(top[x], squared Frobenius norm)."""
    yy, yx, xx = curves[0], curves[1], curves[2]
    for x in range(top.size):
        norm = yy[x] * yy[x] + xx[x] * xx[x] + f32(2) * (yx[x] * yx[x])
        top[x] = norm if norm > top[x] else top[x]


@njit(nogil=True, cache=True, error_model="numpy")
def tube_row_3d(best, curves, facts):  # type: ignore[no-untyped-def]
    """best[x] = max(best[x], likeness to a tube): see `ridge_plain.tube_3d` and `ridge_plain.eigenvalues`."""
    zz, zy, zx, yy, yx, xx = curves[0], curves[1], curves[2], curves[3], curves[4], curves[5]
    unit, plates, blobs = facts[0], facts[1], facts[2]
    for x in range(best.size):
        a, b, c = zz[x] * unit, yy[x] * unit, xx[x] * unit
        d, e, f = zy[x] * unit, zx[x] * unit, yx[x] * unit
        mean = (a + b + c) * THIRD
        a, b, c = a - mean, b - mean, c - mean
        spread = np.sqrt((a * a + b * b + c * c + f32(2) * (d * d + e * e + f * f)) * SIXTH)
        per = f32(1) / (spread if spread > TINY else f32(1))
        a, b, c, d, e, f = a * per, b * per, c * per, d * per, e * per, f * per
        angle = arc_cosine(f32(0.5) * (a * (b * c - f * f) - d * (d * c - f * e) + e * (d * f - b * e))) * THIRD
        # On [0, pi / 3] Taylor's series are short.
        s = angle * angle
        cosine = f32(1) + s * (C2 + s * (C4 + s * (C6 + s * (C8 + s * C10))))
        sine = ROOT3 * angle * (f32(1) + s * (S3 + s * (S5 + s * (S7 + s * S9))))
        low, mid = mean - spread * (cosine + sine), mean - spread * (cosine - sine)
        high = mean + spread * (cosine + cosine)
        tube = (mid > f32(0)) & (low >= -mid)
        m, h = (mid if mid > TINY else f32(1)), (high if high > TINY else f32(1))
        ratio = m / h
        plate = f32(1) - decay(plates * ratio * ratio)
        blob = decay(blobs * low * low / (m * h))
        structure = f32(1) - decay(f32(0.5) * (low * low + mid * mid + high * high))
        likeness = plate * blob * structure if tube else f32(0)
        best[x] = likeness if likeness > best[x] else best[x]


@njit(nogil=True, cache=True, error_model="numpy")
def tube_row_2d(best, curves, facts):  # type: ignore[no-untyped-def]
    """best[x] = max(best[x], likeness to a line): see `ridge_plain.tube_2d`."""
    yy, yx, xx = curves[0], curves[1], curves[2]
    unit, blobs = facts[0], facts[2]
    for x in range(best.size):
        a, b, c = yy[x] * unit, xx[x] * unit, yx[x] * unit
        mean, half = (a + b) * f32(0.5), (a - b) * f32(0.5)
        spread = np.sqrt(half * half + c * c)
        low, high = mean - spread, mean + spread
        line = (high > f32(0)) & (low >= -high)
        ratio = low / (high if high > TINY else f32(1))
        likeness = decay(blobs * ratio * ratio) * (f32(1) - decay(f32(0.5) * (low * low + high * high)))
        likeness = likeness if line else f32(0)
        best[x] = likeness if likeness > best[x] else best[x]


THIRD, SIXTH, ROOT3, TINY = f32(1 / 3), f32(1 / 6), f32(sqrt(3)), f32(1e-18)
C2, C4, C6, C8, C10 = f32(-1 / 2), f32(1 / 24), f32(-1 / 720), f32(1 / 40320), f32(-1 / 3628800)
S3, S5, S7, S9 = f32(-1 / 6), f32(1 / 120), f32(-1 / 5040), f32(1 / 362880)
HALF_PI, PI = f32(pi / 2), f32(pi)


@njit(nogil=True, cache=True, error_model="numpy")
def arc_cosine(t):  # type: ignore[no-untyped-def]
    """acos(t) of a float32, t clipped to [-1, 1]; within 4e-7. M. Abramowitz, I. Stegun (1964), formula 4.4.46."""
    u = abs(t)
    u = u if u < f32(1) else f32(1)
    w = f32(0.0308918810) + u * (f32(-0.0170881256) + u * (f32(0.0066700901) + u * f32(-0.0012624911)))
    w = HALF_PI + u * (f32(-0.2145988016) + u * (f32(0.0889789874) + u * (f32(-0.0501743046) + u * w)))
    w = w * np.sqrt(f32(1) - u)
    return w if t >= f32(0) else PI - w


@njit(nogil=True, cache=True, error_model="numpy")
def decay(x):  # type: ignore[no-untyped-def]
    """exp(-x) of a float32 x >= 0, in [0, 1], within 2e-6: (exp(-x / 32))^32, and what exp(-20) is from there on."""
    x = (x if x < f32(20) else f32(20)) * f32(1 / 32)
    e = x * (C4 + x * (f32(-1 / 120) + x * f32(1 / 720)))
    e = f32(1) - x * (f32(1) - x * (f32(1 / 2) - x * (f32(1 / 6) - e)))
    e = e * e
    e = e * e
    e = e * e
    e = e * e
    return e * e
