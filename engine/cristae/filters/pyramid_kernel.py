"""Coarse voxels, compiled: a row of cells at a time, whose voxels are first laid side by side.

    cell    the voxels that become one: factors of them along each axis, fewer where the volume ends
    run     cells of one row that hold equally many voxels: all that are whole, then the one that may be cut

A cell is reduced in raster order, without reordered or fused arithmetic and from nothing but its own voxels, so that it
has the same bits in every block.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numba import njit

Factors = tuple[int, ...]

HALF = 32
"""A 64-bit integer is summed in two halves of so many bits: no sum of a cell overflows."""

RUN = 512
"""Cells that `mode` compares at once; their voxels stay in the nearest cache."""


def mean(array: np.ndarray, factors: Factors) -> np.ndarray:
    """The mean of each cell, in the array's type; the compiled twin of `pyramid.mean`.

    array : (z, y, x) or (y, x), any real type
    """
    source, sides, out = in_space(array, factors)
    if source.dtype.kind == "f":
        mean_planes(source, sides, out, np.float64(0))
    elif source.dtype.itemsize < 8:
        narrow = source.dtype.itemsize <= 2 and prod(sides) <= 2**15
        mean_planes(source, sides, out, np.int32(0) if narrow else np.int64(0))
    else:
        mean_wide(*halves(source), sides, *halves(out))
    return as_given(out, array)


def mode(array: np.ndarray, factors: Factors) -> np.ndarray:
    """The most frequent value of each cell; the compiled twin of `pyramid.mode`.

    array : (z, y, x) or (y, x), integers or bool
    """
    source, sides, out = in_space(array, factors)
    mode_planes(source, sides, out, max(RUN * 8 // prod(sides), 16))
    return as_given(out, array)


def in_space(array: np.ndarray, factors: Factors) -> tuple[np.ndarray, Factors, np.ndarray]:
    """The array as contiguous (z, y, x) of a type that the compiler knows, three factors, and room for the result.

    Means of float16 leave as float64: rounded to float32 on their way they would be rounded twice.
    """
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    half = array.dtype == np.float16
    source = np.ascontiguousarray(array, np.float32 if half else array.dtype.newbyteorder("="))
    missing = 3 - array.ndim
    sides = (1,) * missing + tuple(factors)
    source = source.reshape((1,) * missing + array.shape)
    shape = tuple(-(-n // f) for n, f in zip(source.shape, sides, strict=True))
    return source, sides, np.empty(shape, np.float64 if half else source.dtype)


def as_given(out: np.ndarray, array: np.ndarray) -> np.ndarray:
    """The result with the axes and in the native type of what was given."""
    out = out.reshape(out.shape[3 - array.ndim :])
    if array.dtype.kind == "b":
        return out.view(np.bool_)
    return out.astype(array.dtype.newbyteorder("="), copy=False)


def halves(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high half of 64-bit integers, as views; the high one has their sign."""
    low = 0 if array.dtype.newbyteorder("=") == array.dtype.newbyteorder("<") else 1
    both = array.view(np.dtype(f"{array.dtype.kind}4")), array.view(np.uint32)
    return both[1][..., low::2], both[0][..., 1 - low :: 2]


@njit(nogil=True, cache=True)
def add_row(sums, row, step, width):  # type: ignore[no-untyped-def]
    """Add to each cell of a run the `width` voxels of this row that it holds; cell i begins at row[i * step]."""
    if step == 2 and width == 2:
        for i in range(sums.size):
            sums[i] = sums[i] + row[2 * i] + row[2 * i + 1]
        return
    for i in range(sums.size):
        total = sums[i]
        for k in range(i * step, i * step + width):
            total += row[k]
        sums[i] = total


@njit(nogil=True, cache=True)
def sum_run(sums, source, zs, ys, x, step, width):  # type: ignore[no-untyped-def]
    """The sums of a run of cells that begins at x, over planes zs and rows ys (each first and last + 1)."""
    sums[:] = 0
    for z in range(zs[0], zs[1]):
        for y in range(ys[0], ys[1]):
            add_row(sums, source[z, y, x:], step, width)


@njit(nogil=True, cache=True, error_model="numpy")
def halved_even(total, count):  # type: ignore[no-untyped-def]
    """total / count of integers, rounded half to even; exact where 2 * count and total fit their type."""
    whole = total // count
    rest = 2 * (total - whole * count)
    return whole + ((rest > count) | ((rest == count) & (whole & 1 == 1)))


@njit(nogil=True, cache=True, error_model="numpy")
def divide(sums, count, out):  # type: ignore[no-untyped-def]
    for i in range(out.size):
        out[i] = halved_even(sums[i], count)
