"""Compiled loops: which pairs of labels two blocks share, and in how many voxels.

Rows of voxels are walked by runs of one pair, so that a run costs the same however long it is. Pairs are found in a small table of
open addressing: keys (2^k, 2) uint64, prediction and truth; counts (2^k,) int64, where 0 marks a place that is free.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

_HALF, _WORD, _SHIFT = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(16)
_ODD, _OTHER = np.uint64(0x9E3779B1), np.uint64(0x85EBCA6B)


@njit(nogil=True, cache=True)
def place(keys: np.ndarray, counts: np.ndarray, pred: np.uint64, truth: np.uint64) -> np.int64:
    """Where a pair stands in the table, or the free place where it would."""
    # Factors of 32 bits: no product can overflow, so that it needs no compiler to be right.
    one = ((pred ^ (pred >> _HALF)) & _WORD) * _ODD
    other = ((truth ^ (truth >> _HALF)) & _WORD) * _OTHER
    mask = counts.size - 1
    p = np.int64(((one ^ (other >> np.uint64(7))) >> _SHIFT) & _WORD) & mask
    # Ends: the table is at most half full.
    while counts[p] != 0 and (keys[p, 0] != pred or keys[p, 1] != truth):
        p = (p + 1) & mask
    return p


@njit(nogil=True, cache=True)
def wider(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same table in twice as many places."""
    more_keys, more_counts = np.zeros((2 * counts.size, 2), np.uint64), np.zeros(2 * counts.size, np.int64)
    for i in range(counts.size):
        if counts[i] != 0:
            p = place(more_keys, more_counts, keys[i, 0], keys[i, 1])
            more_keys[p] = keys[i]
            more_counts[p] = counts[i]
    return more_keys, more_counts


@njit(nogil=True, cache=True)
def _walk(
    pred: np.ndarray,
    truth: np.ndarray,
    pred_lo: tuple[int, int, int],
    truth_lo: tuple[int, int, int],
    size: tuple[int, int, int],
    keys: np.ndarray,
    counts: np.ndarray,
    begin: int,
    found: int,
) -> tuple[int, int]:
    # From row `begin` on, as far as there is room for a row of new pairs: the row that comes next, the pairs found.
    # The table stays the same arrays here; a loop that may exchange them is slower.
    width = size[2]
    marks = np.zeros(width + 1, np.uint8)
    marks[0] = marks[width] = 1
    for i in range(begin, size[0] * size[1]):
        if 2 * (found + width) > counts.size:
            return i, found
        z, y = i // size[1], i % size[1]
        one = pred[pred_lo[0] + z, pred_lo[1] + y, pred_lo[2] : pred_lo[2] + width]
        two = truth[truth_lo[0] + z, truth_lo[1] + y, truth_lo[2] : truth_lo[2] + width]
        for x in range(1, width):  # without a branch, this is one vector operation for many voxels
            marks[x] = (one[x] != one[x - 1]) | (two[x] != two[x - 1])
        start = 0
        for x in range(1, width + 1):
            if marks[x] == 0:
                continue
            a, b = np.uint64(one[start]), np.uint64(two[start])
            p = place(keys, counts, a, b)
            if counts[p] == 0:
                keys[p, 0], keys[p, 1] = a, b
                found += 1
            counts[p] += x - start
            start = x
    return size[0] * size[1], found


@njit(nogil=True, cache=True)
def pairs(
    pred: np.ndarray,
    truth: np.ndarray,
    pred_lo: tuple[int, int, int],
    truth_lo: tuple[int, int, int],
    size: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of labels of the core, the background's 0 included, and how many voxels have it.

    pred, truth : (z, y, x) unsigned, C-contiguous
    pred_lo, truth_lo, size : where the core starts inside either array, and its shape

    Returns
    -------
    keys (pairs, 2) uint64 and counts (pairs,) int64, in no order.
    """
    room = 64
    while room < 4 * size[2]:
        room *= 2
    keys, counts = np.zeros((room, 2), np.uint64), np.zeros(room, np.int64)
    done, found = _walk(pred, truth, pred_lo, truth_lo, size, keys, counts, 0, 0)
    while done < size[0] * size[1]:
        keys, counts = wider(keys, counts)
        done, found = _walk(pred, truth, pred_lo, truth_lo, size, keys, counts, done, found)
    used = np.flatnonzero(counts)
    return keys[used], counts[used]
