"""Compiled loops over provisional ids: unite those that touch, then number what is left. No voxel is seen here.

    parent   a forest in one array; a root is its own parent
    first    int64, raster index in the volume of each provisional component's first voxel; no two are equal

Provisional ids count from 0 through all blocks, so those of one block are a run of `parent` whose firsts ascend.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit


@njit(nogil=True, cache=True)
def root(parent: np.ndarray, i: int) -> int:
    """The root above `i`; every walk halves its path."""
    while parent[i] != i:
        # A grandparent's first is no larger than a parent's, so skipping keeps the order and the walk ends.
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(nogil=True, cache=True)
def unite(parent: np.ndarray, first: np.ndarray, pairs: np.ndarray) -> None:
    """Join each pair, then point everyone at its root.

    parent : (ids,) starts as arange, changed in place.
    pairs : (k, 2) int64.

    The root of a tree is its member with the smallest first, whatever the order of the pairs.
    """
    for k in range(pairs.shape[0]):
        a, b = root(parent, pairs[k, 0]), root(parent, pairs[k, 1])
        if a == b:
            continue
        if first[a] < first[b]:
            parent[b] = a
        else:
            parent[a] = b
    for i in range(parent.size):
        if parent[i] != i:
            parent[i] = root(parent, i)


@njit(nogil=True, cache=True)
def gather(parent: np.ndarray, size: np.ndarray, least: int) -> None:
    """Add the size of everyone to its root, counting no further than `least`.

    parent : (ids,) every id points at its root.
    size : (ids,) of a type that holds `least`, nowhere above it; changed in place.
    """
    for i in range(parent.size):
        if parent[i] != i:
            size[parent[i]] = min(np.int64(size[parent[i]]) + np.int64(size[i]), least)


@njit(nogil=True, cache=True)
def number(
    parent: np.ndarray, first: np.ndarray, offset: np.ndarray, entry: np.ndarray, size: np.ndarray, least: int
) -> int:
    """Turn parents into canonical ids in place; how many objects there are.

    parent : (ids,) every id points at its root; becomes 1, 2, ... by the root's first, 0 where the root is too small.
    offset : (blocks + 1,) where each block's ids begin.
    entry : (m,) the blocks that have ids, by the first of their first id.
    size : (ids,) size of each root as `gather` leaves it; empty to keep every root.

    The blocks' ascending lists are merged with a heap that holds a block from its first id to its last: ids come by in
    raster order, without a sort and without a copy of `first`. A root comes before all that joined it.
    """
    heap = np.empty(entry.size, np.int64)  # next id of each open block; the least first is at the top
    stop = np.empty(entry.size, np.int64)  # where that block's ids end
    opened = 0
    entered = 0
    count = 0
    while opened > 0 or entered < entry.size:
        if entered < entry.size and (opened == 0 or first[offset[entry[entered]]] < first[heap[0]]):
            block = entry[entered]
            entered += 1
            at = opened
            opened += 1
            i, end = offset[block], offset[block + 1]
            while at > 0 and first[heap[(at - 1) // 2]] > first[i]:
                heap[at], stop[at] = heap[(at - 1) // 2], stop[(at - 1) // 2]
                at = (at - 1) // 2
            heap[at], stop[at] = i, end

        i, end = heap[0], stop[0]
        if parent[i] != i:
            parent[i] = parent[parent[i]]  # its root came before, and is numbered
        elif size.size > 0 and size[i] < least:
            parent[i] = 0
        else:
            count += 1
            parent[i] = count

        i += 1
        if i == end:
            opened -= 1
            if opened == 0:
                continue
            i, end = heap[opened], stop[opened]
        key = first[i]
        at = 0
        while True:
            child = 2 * at + 1
            if child >= opened:
                break
            if child + 1 < opened and first[heap[child + 1]] < first[heap[child]]:
                child += 1
            if first[heap[child]] > key:
                break
            heap[at], stop[at] = heap[child], stop[child]
            at = child
        heap[at], stop[at] = i, end
    return count
