"""Compiled loops: which labels a block holds, and the integer moments of each.

A row of voxels is walked by runs of one label, whose moments cost the same however long the run is. Labels are arbitrary
numbers, so each block numbers its own from 0 up, in slots, through a small table of open addressing.

    keys, slots   (2^k,) uint64 and int64: label and slot + 1 of each place; slot 0 marks a place that is free
    lo, size      three integers: where the core starts inside the array, and its shape

Sums are int64 and wrap; whoever takes a difference of them gets it right as long as the difference fits.
"""

from __future__ import annotations

import numpy as np

from cristae.bits import gathered, places
from cristae.compiled import njit

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
def wider(keys: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same table in twice as many places."""
    more_keys, more_slots = np.zeros(2 * keys.size, np.uint64), np.zeros(2 * keys.size, np.int64)
    for i in range(keys.size):
        if slots[i] != 0:
            p = place(more_keys, more_slots, keys[i])
            more_keys[p] = keys[i]
            more_slots[p] = slots[i]
    return more_keys, more_slots


@njit(nogil=True, cache=True)
def longer(sums: np.ndarray) -> np.ndarray:
    """`sums` with twice as many rows."""
    more = np.zeros((2 * sums.shape[0], sums.shape[1]), sums.dtype)
    more[: sums.shape[0]] = sums
    return more


@njit(nogil=True, cache=True)
def enough(width: int) -> int:
    """Slots to begin with, a power of two: every voxel of two rows of voxels may be a new label."""
    slots = 32
    while slots < 2 * width:
        slots *= 2
    return slots


@njit(nogil=True, cache=True)
def room_for_runs(voxels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scratch of `find_runs` for rows of so many voxels: marks and bounds."""
    return np.zeros((voxels + 63) // 64 * 64, np.uint8), np.empty(voxels + 1, np.int64)


@njit(nogil=True, cache=True)
def find_runs(row: np.ndarray, marks: np.ndarray, bounds: np.ndarray) -> int:
    """Number of runs of equal voxels in a row; run i is bounds[i] to bounds[i + 1] - 1.

    marks, bounds : of `room_for_runs`, changed in place.
    """
    if row.size == 0:
        return 0
    marks[0] = 1
    for i in range(1, row.size):  # without a branch, this is one vector operation for many voxels
        marks[i] = row[i] != row[i - 1]
    runs = 0
    words = marks.view(np.uint64)
    for w in range(0, words.size, 8):
        turns = np.uint64(0)
        for k in range(8):
            turns |= gathered(words[w + k]) << np.uint64(8 * k)
        runs = places(turns, 8 * w, bounds, runs)
    bounds[runs] = row.size
    return runs


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
def _walk(
    labels: np.ndarray,
    lo: tuple[int, int, int],
    size: tuple[int, int, int],
    keys: np.ndarray,
    slots: np.ndarray,
    sums: np.ndarray,
    begin: int,
    found: int,
) -> tuple[int, int]:
    # From row `begin` on, as far as there is room for a row of new labels: the row that comes next, the labels found.
    # The tables stay the same arrays here; a loop that may exchange them is three times slower.
    last, s = np.uint64(0), 0
    marks, bounds = room_for_runs(size[2])
    for i in range(begin, size[0] * size[1]):
        if found + size[2] > sums.shape[0]:
            return i, found
        z, y = i // size[1], i % size[1]
        row = labels[lo[0] + z, lo[1] + y, lo[2] : lo[2] + size[2]]
        for j in range(find_runs(row, marks, bounds)):
            a, x = bounds[j], bounds[j + 1]
            label = np.uint64(row[a])
            if label == 0:
                continue
            if label != last:
                last = label
                p = place(keys, slots, label)
                s = slots[p] - 1
                if s < 0:
                    s = found
                    found += 1
                    keys[p], slots[p] = label, found
                    sums[s, LOW : LOW + 3] = size
            add_run(sums[s], z, y, a, x)
    return size[0] * size[1], found


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
    room = enough(size[2])
    keys, slots = np.zeros(2 * room, np.uint64), np.zeros(2 * room, np.int64)
    sums = np.zeros((room, WIDTH), np.int64)
    done, found = _walk(labels, lo, size, keys, slots, sums, 0, 0)
    while done < size[0] * size[1]:
        keys, slots = wider(keys, slots)
        sums = longer(sums)
        done, found = _walk(labels, lo, size, keys, slots, sums, done, found)
    return keys, slots, sums
