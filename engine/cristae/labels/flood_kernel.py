"""Compiled loops of `flood`: which low places are deep enough, and what water that rises from them reaches first.

    rank      (voxels,) int32, place of each voxel's value among all that occur; equal values have one rank; -1 in the rim
    levels    (ranks,) float64, those values
    steps     (k,) int64, from a voxel to its neighbours

Voxels are flat indices of an image with a rim of one voxel on every side, so that each has all of its neighbours.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit
from cristae.labels.union_kernel import root

DAM = np.iinfo(np.int32).min


@njit(nogil=True, cache=True)
def bottoms(order: np.ndarray, rank: np.ndarray, levels: np.ndarray, steps: np.ndarray, tolerance: float) -> np.ndarray:
    """The lowest voxel of every place that is deeper than `tolerance`, in rising order.

    order : voxels without the rim by rank, equal ones by raster index.

    Water rises everywhere at once. Where two pools meet, the one whose bottom is higher is as deep as it is full: it is joined to the
    other unless that is more than the tolerance. A root is the first voxel of its pool in `order`.
    """
    parent = np.full(rank.size, -1, np.int32)
    place = np.empty(rank.size, np.int32)
    for n in range(order.size):
        place[order[n]] = n
    for n in range(order.size):
        at = order[n]
        parent[at] = at
        for k in range(len(steps)):
            other = at + steps[k]
            if parent[other] < 0:
                continue
            mine, theirs = root(parent, at), root(parent, other)
            if mine == theirs:
                continue
            low, high = (mine, theirs) if place[mine] < place[theirs] else (theirs, mine)
            if levels[rank[at]] - levels[rank[high]] <= tolerance:
                parent[high] = low
    found = np.empty(order.size, np.int32)
    many = 0
    for n in range(order.size):
        if parent[order[n]] == order[n]:
            found[many] = order[n]
            many += 1
    return found[:many].copy()


@njit(nogil=True, cache=True)
def flooded(
    sources: np.ndarray,
    rank: np.ndarray,
    levels: np.ndarray,
    steps: np.ndarray,
    tolerance: float,
    dams: bool,
) -> np.ndarray:
    """(voxels,) int32: number of the basin of each voxel, 1, 2, ... in the order of `sources`; 0 for dams, what they shut in, and the rim.

    sources : the lowest voxel of each basin. What lies no more than the tolerance above it, and is joined to it there, is its ground.

    The queue of a level is first in, first out, so that water crosses what is flat from all sides at one pace. Without dams `rank`
    becomes the level at which water reached each voxel: what lies below the level joins the queue of the level. With dams these levels
    are to be given: a voxel that water reaches with another basin beside it is a dam, which water does not cross.
    """
    basin = np.where(rank < 0, DAM, 0).astype(np.int32)  # in a queue: -1 less the basin that water came from
    following = np.full(rank.size, -1, np.int32)  # in the same queue
    first, last = np.full(len(levels), -1, np.int32), np.full(len(levels), -1, np.int32)
    for n in range(len(sources)):
        basin[sources[n]] = n + 1
        highest = levels[rank[sources[n]]] + tolerance
        head = tail = sources[n]
        while head >= 0:
            for k in range(len(steps)):
                other = head + steps[k]
                if basin[other] == 0 and levels[rank[other]] <= highest:
                    basin[other] = n + 1
                    following[tail] = other
                    tail = other
            after = following[head]
            following[head] = -1
            head = after
    for at in range(rank.size):
        if basin[at] > 0:
            _onward(at, basin, 0, rank, steps, first, last, following)
    level = 0
    while level < len(levels):
        at = first[level]
        if at < 0:
            level += 1
            continue
        first[level] = following[at]
        following[at] = -1
        mine = -1 - basin[at]
        met = False
        for k in range(len(steps) if dams else 0):
            other = at + steps[k]
            met = met or (basin[other] > 0 and basin[other] != mine)
        if met:
            basin[at] = DAM
            continue
        basin[at] = mine
        if dams:
            level = min(level, _onward(at, basin, 0, rank, steps, first, last, following))
        else:
            rank[at] = level
            _onward(at, basin, level, rank, steps, first, last, following)
    for at in range(rank.size):
        basin[at] = max(basin[at], 0)
    return basin


@njit(nogil=True, cache=True)
def _onward(
    at: int,
    basin: np.ndarray,
    level: int,
    rank: np.ndarray,
    steps: np.ndarray,
    first: np.ndarray,
    last: np.ndarray,
    following: np.ndarray,
) -> int:
    """Dry neighbours of a voxel join the queue of their level, or of this one where they lie below it; returns the lowest queue."""
    lowest = len(first)
    for k in range(len(steps)):
        other = at + steps[k]
        if basin[other] != 0:
            continue
        basin[other] = -1 - basin[at]
        queue = max(rank[other], level)
        if first[queue] < 0:
            first[queue] = other
        else:
            following[last[queue]] = other
        last[queue] = other
        lowest = min(lowest, queue)
    return lowest


@njit(nogil=True, cache=True)
def numbered(basin: np.ndarray, many: int) -> np.ndarray:
    """The same basins as uint32, numbered as they come."""
    number = np.zeros(many + 1, np.uint32)
    out = np.zeros(basin.size, np.uint32)
    seen = 0
    for at in range(basin.size):
        if basin[at] > 0:
            if number[basin[at]] == 0:
                seen += 1
                number[basin[at]] = seen
            out[at] = number[basin[at]]
    return out
