"""Compiled loops: which labels a block holds, and the integer moments of each.

A row of voxels is walked by runs of one label: a run costs the same however long it is. Labels are arbitrary numbers,
so each block numbers its own from 0 up, in slots, through a small table of open addressing.

    keys, slots   (2^k,) uint64 and int64: label and slot + 1 of each place; slot 0 marks a place that is free
    lo, size      three integers: where the core starts inside the array, and its shape

Sums are int64 and wrap; whoever takes a difference of them gets it right as long as the difference fits.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Columns of `sums`; coordinates count from the core's first voxel.
VOXELS, FIRST, SECOND, LOW, HIGH, WIDTH = 0, 1, 4, 10, 13, 16

_HALF, _WORD, _ODD, _SHIFT = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(0x9E3779B1), np.uint64(16)


@njit(nogil=True, cache=True)
def place(keys: np.ndarray, slots: np.ndarray, label: np.uint64) -> np.int64:
    """Where `label` stands in the table, or the free place where it would."""
    # Two factors of 32 bits: the product cannot overflow, so that it needs no compiler to be right.
    mixed = (((label ^ (label >> _HALF)) & _WORD) * _ODD) >> _SHIFT
    mask = keys.size - 1
    p = np.int64(mixed & _WORD) & mask
    # Ends: the table is at most half full.
    while slots[p] != 0 and keys[p] != label:
        p = (p + 1) & mask
    return p


@njit(nogil=True, cache=True)
def enter(keys: np.ndarray, slots: np.ndarray, found: int, label: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """The table with a new label in slot `found`, twice as long where it was half full."""
    if 2 * (found + 1) > keys.size:
        old_keys, old_slots = keys, slots
        keys = np.zeros(2 * old_keys.size, np.uint64)
        slots = np.zeros(2 * old_keys.size, np.int64)
        for i in range(old_keys.size):
            if old_slots[i] != 0:
                p = place(keys, slots, old_keys[i])
                keys[p] = old_keys[i]
                slots[p] = old_slots[i]
    p = place(keys, slots, label)
    keys[p] = label
    slots[p] = found + 1
    return keys, slots


@njit(nogil=True, cache=True)
def longer(sums: np.ndarray) -> np.ndarray:
    """`sums` with twice as many rows."""
    more = np.zeros((2 * sums.shape[0], sums.shape[1]), sums.dtype)
    more[: sums.shape[0]] = sums
    return more


@njit(nogil=True, cache=True)
def add_run(w: np.ndarray, z: int, y: int, a: int, x: int) -> None:
    """Add the run of voxels a to x - 1 of one row to the sums `w` of its label."""
    n = x - a
    sx = n * (a + x - 1) // 2
    # Squares below x, less those below a; each product is a multiple of 6.
    sxx = (x - 1) * x * (2 * x - 1) // 6 - (a - 1) * a * (2 * a - 1) // 6
    w[VOXELS] += n
    w[FIRST] += n * z
    w[FIRST + 1] += n * y
    w[FIRST + 2] += sx
    w[SECOND] += n * z * z
    w[SECOND + 1] += n * y * y
    w[SECOND + 2] += sxx
    w[SECOND + 3] += n * z * y
    w[SECOND + 4] += z * sx
    w[SECOND + 5] += y * sx
    w[LOW] = min(w[LOW], z)
    w[LOW + 1] = min(w[LOW + 1], y)
    w[LOW + 2] = min(w[LOW + 2], a)
    w[HIGH] = max(w[HIGH], z + 1)
    w[HIGH + 1] = max(w[HIGH + 1], y + 1)
    w[HIGH + 2] = max(w[HIGH + 2], x)


@njit(nogil=True, cache=True)
def moments(
    labels: np.ndarray, lo: tuple[int, int, int], size: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels, first and second moments and bounding box of each label of the core.

    labels : (z, y, x) unsigned, C-contiguous; 0 is background.

    Returns
    -------
    keys, slots, and sums (slots or more, WIDTH) int64: voxels; z y x; zz yy xx zy zx yx; least z y x; largest + 1.
    """
    keys, slots = np.zeros(64, np.uint64), np.zeros(64, np.int64)
    sums = np.zeros((32, WIDTH), np.int64)
    found, last, s = 0, np.uint64(0), 0
    for z in range(size[0]):
        for y in range(size[1]):
            row = labels[lo[0] + z, lo[1] + y, lo[2] : lo[2] + size[2]]
            x = 0
            while x < row.size:
                while x < row.size and row[x] == 0:
                    x += 1
                if x == row.size:
                    break
                a = x
                while x < row.size and row[x] == row[a]:
                    x += 1
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
                        sums[s, LOW : LOW + 3] = size
                add_run(sums[s], z, y, a, x)
    return keys, slots, sums
