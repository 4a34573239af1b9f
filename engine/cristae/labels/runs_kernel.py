"""Compiled loops that see a block as runs: voxels side by side along its last axis that are of one object.

    row     (rows + 1,) int64: where the runs of each row of a block begin; rows are lines along x, in raster order
    edges   start and stop of each run along x, alternately, of a type that holds the width of the block
    ids     (runs,) uint32; first a forest, whose roots are the earliest runs, then provisional ids

The runs of a block are in raster order, so the root of a tree is where its component begins, and provisional ids need no sorting.
K. Wu, E. Otoo, K. Suzuki, Pattern Anal. Appl. 12, 117 (2009), doi:10.1007/s10044-008-0109-y, on labelling by runs and union-find.
"""

from __future__ import annotations

import numpy as np

from cristae.bits import gathered, places
from cristae.compiled import njit
from cristae.labels.union_kernel import root

ONES, LOW_BITS = np.uint64(0x0101010101010101), np.uint64(0x7F7F7F7F7F7F7F7F)
SHORT = 8
"""Voxels of most runs in a picture of organelles, at most."""

_ONE, _SEVEN = np.uint64(1), np.uint64(7)


@njit(nogil=True, cache=True)
def _roomy(edges: np.ndarray, used: int, more: int) -> np.ndarray:
    """The same edges where `more` fit beside them."""
    if used + more <= edges.size:
        return edges
    larger = np.empty(max(2 * edges.size, used + more), edges.dtype)
    larger[:used] = edges[:used]
    return larger


@njit(nogil=True, cache=True)
def _singly(
    voxels: np.ndarray, begin: int, start: int, stop: int, inside: np.uint64, edges: np.ndarray, n: int
) -> tuple[int, np.uint64]:
    """The edges of some voxels of the row that begins at `begin`, one by one: how many there are now, and whether a run goes on."""
    for i in range(start, stop):
        here = np.uint64(voxels[i] != 0)
        edges[n] = i - begin  # of use if it is counted
        n += here != inside
        inside = here
    return n, inside


@njit(nogil=True, cache=True)
def _solid(words: np.ndarray, w: int, several: int) -> np.uint64:
    """For each byte of some words, eight at most, a bit: whether it is not 0."""
    bits = np.uint64(0)
    for k in range(several):
        some = (((words[w + k] & LOW_BITS) + LOW_BITS) | words[w + k]) >> _SEVEN & ONES
        bits |= gathered(some) << np.uint64(8 * k)
    return bits


@njit(nogil=True, cache=True)
def mask_runs(voxels: np.ndarray, words: np.ndarray, width: int, row: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Runs of what is not 0, by the bits of 64 voxels at a time.

    voxels : (rows * width,) uint8, flat
    words : (voxels.size // 8,) uint64, the same memory, of a machine that puts the first byte lowest
    row : filled in
    edges : room to begin with

    Returns
    -------
    (2 * runs,) edges.
    """
    n = 0
    for r in range(row.size - 1):
        row[r] = n >> 1
        edges = _roomy(edges, n, width + 2)
        begin, end = r * width, (r + 1) * width
        head, tail = min(end, (begin + 7) >> 3 << 3), end >> 3
        n, inside = _singly(voxels, begin, begin, head, np.uint64(0), edges, n)
        for w in range(head >> 3, tail, 8):
            several = min(8, tail - w)
            # Eight of them are a number that is known when this is compiled.
            there = _solid(words, w, 8) if several == 8 else _solid(words, w, several)
            turns = there ^ (there << _ONE | inside)
            if several < 8:
                turns &= (_ONE << np.uint64(8 * several)) - _ONE
            n = places(turns, (w << 3) - begin, edges, n)
            inside = there >> np.uint64(8 * several - 1) & _ONE
        n, inside = _singly(voxels, begin, max(head, tail << 3), end, inside, edges, n)
        if inside:
            edges[n] = width
            n += 1
    row[row.size - 1] = n >> 1
    return edges[:n]


@njit(nogil=True, cache=True)
def value_runs(voxels: np.ndarray, width: int, row: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Runs of equal values that are not 0: as `mask_runs`, of integers; one run may begin where another stops."""
    n = 0
    for r in range(row.size - 1):
        row[r] = n >> 1
        edges = _roomy(edges, n, 2 * width)
        begin = r * width
        x = 0
        while x < width:
            value = voxels[begin + x]
            start = x
            x += 1
            while x < width and voxels[begin + x] == value:
                x += 1
            if value != 0:
                edges[n], edges[n + 1] = start, x
                n += 2
    row[row.size - 1] = n >> 1
    return edges[:n]


@njit(nogil=True, cache=True)
def look_up(voxels: np.ndarray, width: int, row: np.ndarray, edges: np.ndarray, values: np.ndarray) -> None:
    """The value of each run. values : (runs,) int64, filled in"""
    for r in range(row.size - 1):
        for i in range(row[r], row[r + 1]):
            values[i] = voxels[r * width + edges[2 * i]]


@njit(nogil=True, cache=True)
def _join(
    edges: np.ndarray, values: np.ndarray, ids: np.ndarray, a: int, a_end: int, b: int, b_end: int, slack: int
) -> None:
    """Unite the runs a.. of one row with the runs b.. of an earlier one where they touch; `slack` is 1 if corners do."""
    back = 1 if values.size == 0 else 2  # runs that may touch the next one too; those of values lie side by side
    while a < a_end and b < b_end:
        start, stop = np.int64(edges[2 * a]), np.int64(edges[2 * a + 1])
        if edges[2 * b + 1] + slack <= start:
            b += 1
            continue
        k = b
        while k < b_end and edges[2 * k] < stop + slack:
            if values.size == 0 or values[a] == values[k]:
                one, other = root(ids, a), root(ids, k)
                if one < other:
                    ids[other] = one
                elif other < one:
                    ids[one] = other
            k += 1
        b = max(b, k - back)
        a += 1


@njit(nogil=True, cache=True)
def unite_runs(
    row: np.ndarray, edges: np.ndarray, values: np.ndarray, planes: int, lines: int, connectivity: int, ids: np.ndarray
) -> int:
    """Which runs of a block are one component; how many components there are.

    values : (runs,) of each run, only equal ones join; or none
    planes, lines : rows of the block are (planes, lines)
    connectivity : axes that may differ between voxels that touch, 1 to 3; in one plane 1 or 2
    ids : becomes the forest
    """
    for i in range(ids.size):
        ids[i] = i
    corners = 1 if connectivity >= 2 else 0
    for z in range(planes):
        for y in range(lines):
            r = z * lines + y
            a, end = row[r], row[r + 1]
            if a == end:
                continue
            if y > 0:
                _join(edges, values, ids, a, end, row[r - 1], row[r], corners)
            if z > 0:
                q = r - lines
                _join(edges, values, ids, a, end, row[q], row[q + 1], corners)
                if connectivity >= 2:
                    slack = connectivity - 2
                    if y > 0:
                        _join(edges, values, ids, a, end, row[q - 1], row[q], slack)
                    if y + 1 < lines:
                        _join(edges, values, ids, a, end, row[q + 1], row[q + 2], slack)
    n = 0
    for i in range(ids.size):
        n += ids[i] == i
    return n


@njit(nogil=True, cache=True)
def number_runs(
    row: np.ndarray, edges: np.ndarray, width: int, ids: np.ndarray, first: np.ndarray, voxels: np.ndarray
) -> None:
    """Turn the forest into provisional ids in place.

    first, voxels : (n,) int64 and uint32 zeros; become the flat index of each component's first voxel, and its size
    """
    found = 0
    for r in range(row.size - 1):
        for i in range(row[r], row[r + 1]):
            if ids[i] == i:
                first[found] = r * width + edges[2 * i]
                found += 1
                ids[i] = found
            else:
                ids[i] = ids[ids[i]]  # that run came before and is numbered
            voxels[ids[i] - 1] += edges[2 * i + 1] - edges[2 * i]


@njit(nogil=True, cache=True)
def paint(
    row: np.ndarray, edges: np.ndarray, ids: np.ndarray, lines: int, z: int, y: int, table: np.ndarray, out: np.ndarray
) -> None:
    """Write `table[id]` into every voxel of the runs of some rows.

    lines : rows of a plane of the block
    z, y : of the first row
    table : the first is the ground's
    out : (planes, lines, width), of the type of `table`, any strides; ground already
    """
    ground = table[0]
    for k in range(out.shape[0]):
        for j in range(out.shape[1]):
            r = (z + k) * lines + y + j
            line = out[k, j]
            for i in range(row[r], row[r + 1]):
                value = table[ids[i]]
                a, b = np.int64(edges[2 * i]), np.int64(edges[2 * i + 1])
                if b - a <= SHORT and a + SHORT <= line.size:
                    # One vector, whose rest is ground until the next run is painted: no loop that ends where a run does.
                    for x in range(SHORT):
                        line[a + x] = value if a + x < b else ground
                else:
                    for x in range(a, b):
                        line[x] = value


@njit(nogil=True, cache=True)
def ends(row: np.ndarray, edges: np.ndarray, ids: np.ndarray, x: int, out: np.ndarray) -> None:
    """The id of the voxel of each row at the first (x = 0) or the last (x = width - 1) place, 0 where there is none."""
    for r in range(out.size):
        a, b = row[r], row[r + 1]
        out[r] = 0
        if a < b:
            if edges[2 * a] == x:
                out[r] = ids[a]
            elif edges[2 * b - 1] == x + 1:
                out[r] = ids[b - 1]
