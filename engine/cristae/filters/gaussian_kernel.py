"""Gaussian smoothing, compiled: three passes over rows that stay in cache, and only the voxels that are asked for.

Rows are the unit. A pass adds weighted pairs of rows to one row, always in the same order and without fused or
reordered arithmetic, so that a voxel has the same bits whatever block it was computed in, and on whatever CPU.

    window   the part of the array to return; the array reaches further wherever the volume does
    Reach    what a pass looks at along one axis; beyond an end it is reflected, d c b a | a b c d | d c b a

An array ends short of a window's reach only where the volume itself ends: reflecting at the array's end is right there,
and happens nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cristae.compiled import njit
from cristae.filters.edge import reflected

f32 = np.float32


class Reach(NamedTuple):
    """Along one axis: the source index of every position, and the span of the source that they cover.

    taps[left : left + last - first] are first ... last - 1; all others are reflections of these.
    """

    taps: np.ndarray  # int64
    first: int
    last: int
    left: int


def smooth(array: np.ndarray, window: tuple[slice, ...], weights: Sequence[np.ndarray]) -> np.ndarray:
    """Separable symmetric filter of the voxels in `window`; the compiled twin of `gaussian.smooth`.

    Parameters
    ----------
    array : (z, y, x) or (y, x), any real type
    window : slices of `array` with start and stop
    weights : per axis (radius + 1,) float, from the centre outwards

    Returns
    -------
    float32 of the window's shape.
    """
    source, spans = in_space(array, window)
    sides = [np.ones(1, f32)] * (3 - array.ndim) + [np.asarray(w, f32) for w in weights]
    reaches = [reach(a, b, w.size - 1, n) for (a, b), w, n in zip(spans, sides, source.shape, strict=True)]
    out = np.empty(tuple(b - a for a, b in spans), f32)
    if out.size:
        smooth_planes(source.reshape(-1), source.shape[1:], tuple(reaches), tuple(sides), out)
    return out.reshape(out.shape[3 - array.ndim :])


def in_space(array: np.ndarray, window: tuple[slice, ...]) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The array as contiguous (z, y, x), and the window as (start, stop) on three axes.

    Rows are read in the array's own type, so there is no copy of the block; only what the compiler does not know
    (float16, foreign byte order) is turned to float32 first.
    """
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if not array.dtype.isnative or array.dtype.kind not in "iuf" or array.dtype == np.float16:
        array = array.astype(f32)
    missing = 3 - array.ndim
    spans = [(0, 1)] * missing + [(int(s.start), int(s.stop)) for s in window]
    return np.ascontiguousarray(array).reshape((1,) * missing + array.shape), spans


def reach(start: int, stop: int, radius: int, size: int) -> Reach:
    """What the outputs start ... stop - 1 look at on an axis of `size`."""
    first = max(start - radius, 0)
    return Reach(reflected(start, stop, radius, size), first, min(stop + radius, size), first - start + radius)


@njit(nogil=True, cache=True)
def span(source, start, n):  # type: ignore[no-untyped-def]
    """n voxels of a flat array; with bounds this plain, loops over several rows vectorise."""
    return source[start : start + n]


@njit(nogil=True, cache=True, error_model="numpy")
def smooth_row(out, source, offsets, weights):  # type: ignore[no-untyped-def]
    """out[x] = w[0] * centre[x] + sum over k of w[k] * (before_k[x] + after_k[x]).

    out : (n,) float32. source : flat. offsets : (2 * radius + 1,) where each row begins in `source`.
    Not checked: every row of n voxels lies in `source`, which shares no memory with `out`.
    """
    n, r = out.size, weights.size - 1
    centre, w = span(source, offsets[r], n), weights[0]
    for x in range(n):
        out[x] = w * f32(centre[x])
    k = 1
    # Four pairs at a time: `out` is loaded and stored once for eight rows read.
    while k + 3 <= r:
        a, b = span(source, offsets[r - k], n), span(source, offsets[r + k], n)
        c, d = span(source, offsets[r - k - 1], n), span(source, offsets[r + k + 1], n)
        e, f = span(source, offsets[r - k - 2], n), span(source, offsets[r + k + 2], n)
        g, h = span(source, offsets[r - k - 3], n), span(source, offsets[r + k + 3], n)
        w1, w2, w3, w4 = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        for x in range(n):
            s = out[x] + w1 * (f32(a[x]) + f32(b[x]))
            s = s + w2 * (f32(c[x]) + f32(d[x]))
            s = s + w3 * (f32(e[x]) + f32(f[x]))
            out[x] = s + w4 * (f32(g[x]) + f32(h[x]))
        k += 4
    while k <= r:
        a, b, w = span(source, offsets[r - k], n), span(source, offsets[r + k], n), weights[k]
        for x in range(n):
            out[x] = out[x] + w * (f32(a[x]) + f32(b[x]))
        k += 1


@njit(nogil=True, cache=True)
def fill_ends(row, across):  # type: ignore[no-untyped-def]
    """Complete a row of len(across.taps) whose middle holds the source span: its ends are reflections."""
    taps, first, left = across.taps, across.first, across.left
    for x in range(left):
        row[x] = row[left + taps[x] - first]
    for x in range(left + across.last - first, taps.size):
        row[x] = row[left + taps[x] - first]


@njit(nogil=True, cache=True)
def smooth_planes(source, extent, reaches, weights, out):  # type: ignore[no-untyped-def]
    """All of `out`: along z into a plane, along y into a row, along x into the result.

    source : flat (z, ny, nx). extent : (ny, nx). reaches, weights : three of each, for z, y, x.
    out : (z, y, x) float32, written.
    """
    (ny, nx), (deep, down, across), (wz, wy, wx) = extent, reaches, weights
    rows, width, wide = down.last - down.first, across.last - across.first, across.taps.size
    plane = np.empty(rows * width, np.float32)
    row = np.empty(wide, np.float32)
    oz, oy = np.empty(2 * wz.size - 1, np.int64), np.empty(2 * wy.size - 1, np.int64)
    ox = np.arange(2 * wx.size - 1)
    for z in range(out.shape[0]):
        for y in range(rows):
            for k in range(oz.size):
                oz[k] = (deep.taps[z + k] * ny + down.first + y) * nx + across.first
            smooth_row(plane[y * width : (y + 1) * width], source, oz, wz)
        for y in range(out.shape[1]):
            for k in range(oy.size):
                oy[k] = (down.taps[y + k] - down.first) * width
            smooth_row(row[across.left : across.left + width], plane, oy, wy)
            fill_ends(row, across)
            smooth_row(out[z, y], row, ox, wx)
