"""Coarse voxels, compiled: cells of one row at a time.

    cell    the voxels that become one: a factor of them along each axis, fewer where the volume ends
    run     neighbouring cells of one row that hold equally many voxels: all the whole ones, then the one that is cut

A cell is reduced in raster order, without reordered or fused arithmetic and from nothing but its own voxels, so that it
has the same bits in every block.
"""

from __future__ import annotations

from math import prod

import numpy as np

from cristae.compiled import njit

TILE = 4096
"""Voxels that `mode` compares at once; they stay in the nearest cache."""

LOW = 0xFFFFFFFF
"""The low half of a 64-bit integer; halves are summed apart, and no sum of a cell overflows."""


def mean(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """The mean of each cell, in the array's type; the compiled twin of `pyramid.mean`.

    array : (z, y, x) or (y, x), any real type
    """
    source, sides, out = in_space(array, factors)
    row = out.shape[2]
    if source.dtype.kind == "f":
        mean_floats(source, sides, out, np.empty(row))
    elif source.dtype.itemsize < 8:
        mean_integers(source, sides, out, np.empty(row, np.int64))
    else:
        mean_wide(*halves(source), sides, *halves(out), np.empty((2, row), np.int64))
    return as_given(out, array)


def mode(array: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """The most frequent value of each cell; the compiled twin of `pyramid.mode`.

    array : (z, y, x) or (y, x), integers or bool
    """
    source, sides, out = in_space(array, factors)
    size = prod(sides)
    wide = min(max(TILE // size, 16), out.shape[2])
    mode_integers(source, sides, out, np.empty((size, wide), source.dtype), np.empty((2, wide), np.int32))
    return as_given(out, array)


def in_space(array: np.ndarray, factors: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...], np.ndarray]:
    """The array as contiguous (z, y, x) of a type the compiler knows, three factors, and room for the result.

    Means of float16 leave as float64: by way of float32 they would be rounded twice.
    """
    half = array.dtype == np.float16
    known = "u1" if array.dtype == bool else "f4" if half else array.dtype.newbyteorder("=")
    missing = 3 - array.ndim
    source = np.ascontiguousarray(array).reshape((1,) * missing + array.shape)
    source = source.view(known) if array.dtype == bool else source.astype(known, copy=False)
    sides = (1,) * missing + tuple(factors)
    shape = tuple(-(-n // f) for n, f in zip(source.shape, sides, strict=True))
    return source, sides, np.empty(shape, "f8" if half else known)


def as_given(out: np.ndarray, array: np.ndarray) -> np.ndarray:
    """The result with the axes of what was given, and its type in the machine's byte order."""
    out = out.reshape(out.shape[3 - array.ndim :])
    return out.view(bool) if array.dtype == bool else out.astype(array.dtype.newbyteorder("="), copy=False)


def halves(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high half of 64-bit integers, as views; the high one has their sign."""
    low = 0 if array.dtype == array.dtype.newbyteorder("<") else 1
    return array.view("u4")[..., low::2], array.view(f"{array.dtype.kind}4")[..., 1 - low :: 2]


@njit(nogil=True, cache=True)
def along(i, factor, size):  # type: ignore[no-untyped-def]
    """First voxel of cell i along one axis, and the one after its last."""
    return i * factor, min(i * factor + factor, size)


@njit(nogil=True, cache=True)
def runs(size, factor):  # type: ignore[no-untyped-def]
    """First cell, the one after the last, and voxels of a cell along a row: of the whole cells, and of the cut one."""
    whole = size // factor
    return (0, whole, factor), (whole, -(-size // factor), size - whole * factor)


@njit(nogil=True, cache=True)
def add_run(sums, source, zs, ys, x, step, width):  # type: ignore[no-untyped-def]
    """Set `sums` to those of a run of cells of planes zs, rows ys and `width` columns, the first at x, one every `step`."""
    sums[:] = 0
    for z in range(zs[0], zs[1]):
        for y in range(ys[0], ys[1]):
            row = source[z, y, x:]
            if step == 2 and width == 2:  # the common case, which vectorises
                for i in range(sums.size):
                    sums[i] = sums[i] + row[2 * i] + row[2 * i + 1]
            else:
                for i in range(sums.size):
                    for k in range(i * step, i * step + width):
                        sums[i] += row[k]


@njit(nogil=True, cache=True, error_model="numpy")
def divide(sums, count, out):  # type: ignore[no-untyped-def]
    """out = sums / count, rounded half to even with nothing but integers."""
    shift = 0
    while 1 << shift < count:
        shift += 1
    if 1 << shift == count:
        for i in range(out.size):
            whole = sums[i] >> shift
            rest = 2 * (sums[i] & (count - 1))
            out[i] = whole + ((rest > count) | ((rest == count) & ((whole & 1) == 1)))
    else:
        for i in range(out.size):
            whole = sums[i] // count
            rest = 2 * (sums[i] - whole * count)
            out[i] = whole + ((rest > count) | ((rest == count) & ((whole & 1) == 1)))


@njit(nogil=True, cache=True)
def mean_integers(source, factors, out, sums):  # type: ignore[no-untyped-def]
    """Means of integers of up to four bytes; sums : (x of out,) int64, overwritten."""
    for z, y in np.ndindex(out.shape[:2]):
        zs, ys = along(z, factors[0], source.shape[0]), along(y, factors[1], source.shape[1])
        for first, last, width in runs(source.shape[2], factors[2]):
            held = sums[first:last]
            add_run(held, source, zs, ys, first * factors[2], factors[2], width)
            divide(held, (zs[1] - zs[0]) * (ys[1] - ys[0]) * width, out[z, y, first:last])


@njit(nogil=True, cache=True, error_model="numpy")
def mean_floats(source, factors, out, sums):  # type: ignore[no-untyped-def]
    """Means of floats; sums : (x of out,) float64, overwritten."""
    for z, y in np.ndindex(out.shape[:2]):
        zs, ys = along(z, factors[0], source.shape[0]), along(y, factors[1], source.shape[1])
        for first, last, width in runs(source.shape[2], factors[2]):
            held = sums[first:last]
            add_run(held, source, zs, ys, first * factors[2], factors[2], width)
            count = (zs[1] - zs[0]) * (ys[1] - ys[0]) * width
            for i in range(first, last):
                out[z, y, i] = sums[i] / count


@njit(nogil=True, cache=True, error_model="numpy")
def mean_wide(low, high, factors, out_low, out_high, sums):  # type: ignore[no-untyped-def]
    """Means of 64-bit integers, given and returned as halves; sums : (2, x of out) int64, overwritten."""
    for z, y in np.ndindex(out_low.shape[:2]):
        zs, ys = along(z, factors[0], low.shape[0]), along(y, factors[1], low.shape[1])
        for first, last, width in runs(low.shape[2], factors[2]):
            lows, highs = sums[0, first:last], sums[1, first:last]
            add_run(lows, low, zs, ys, first * factors[2], factors[2], width)
            add_run(highs, high, zs, ys, first * factors[2], factors[2], width)
            count = (zs[1] - zs[0]) * (ys[1] - ys[0]) * width
            # Long division with 32-bit digits: what the high digit leaves is carried down, what rounds up is carried up.
            for i in range(last - first):
                total = highs[i] + (lows[i] >> 32)
                highs[i] = total // count
                lows[i] = ((total - highs[i] * count) << 32) + (lows[i] & LOW)
            divide(lows, count, lows)
            for i in range(last - first):
                out_low[z, y, first + i] = lows[i] & LOW
                out_high[z, y, first + i] = highs[i] + (lows[i] >> 32)


@njit(nogil=True, cache=True)
def mode_integers(source, factors, out, values, counts):  # type: ignore[no-untyped-def]
    """Modes of integers; values : (voxels of a cell, n) of their type, counts : (2, n) int32, both overwritten."""
    step, tile = factors[2], values.shape[1]
    for z, y in np.ndindex(out.shape[:2]):
        zs, ys = along(z, factors[0], source.shape[0]), along(y, factors[1], source.shape[1])
        for first, last, width in runs(source.shape[2], step):
            for a in range(first, last, tile):
                b = min(a + tile, last)
                size = lay_out(values, source, zs, ys, a * step, step, width, b - a)
                elect(values[:size], counts[0], counts[1], out[z, y, a:b])


@njit(nogil=True, cache=True)
def lay_out(values, source, zs, ys, x, step, width, n):  # type: ignore[no-untyped-def]
    """Voxel k of cell i to values[k, i], for a run of n cells as in `add_run`; returns the voxels of a cell."""
    k = 0
    for z in range(zs[0], zs[1]):
        for y in range(ys[0], ys[1]):
            for dx in range(width):
                held, row = values[k], source[z, y, x + dx :]
                if step == 2:
                    for i in range(n):
                        held[i] = row[2 * i]
                else:
                    for i in range(n):
                        held[i] = row[step * i]
                k += 1
    return k


@njit(nogil=True, cache=True)
def elect(values, votes, most, out):  # type: ignore[no-untyped-def]
    """out = the value with most votes in each column of `values`; of equals the smallest that is not 0.

    Every value is compared with every other, without a branch: the time does not depend on the labels.
    Not checked: the rows are as long as `out` or longer.
    """
    n = out.size
    most[:] = 0
    for k in range(values.shape[0]):
        one = values[k]
        votes[:] = 0
        for j in range(values.shape[0]):
            other = values[j]
            for i in range(n):
                votes[i] += one[i] == other[i]
        for i in range(n):
            v, best = one[i], out[i]
            wins = (votes[i] > most[i]) | ((votes[i] == most[i]) & (v != 0) & ((best == 0) | (v < best)))
            most[i] = votes[i] if wins else most[i]
            out[i] = v if wins else best
