"""Colouring: which objects share a voxel, and how few layers keep them apart. Only integers live here.

Lines of voxels are numbered through, as the voxels in them are: the run of an object is the half-open span `first` to `stop` of such
numbers, and two objects conflict where spans of theirs overlap.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


def conflicts(first: Numbers, stop: Numbers, item: Numbers) -> Numbers:
    """(n, 2) items that share a voxel, each pair once, the smaller first; in rising order.

    first, stop, item : (runs,) span of each run and the number of its item, 0 or more, in any order
    """
    order = np.argsort(first, kind="stable")
    first, stop, item = first[order], stop[order], item[order]
    reach = np.searchsorted(first, stop)  # the first run that begins no sooner than this one ends
    base = int(item.max(initial=0)) + 1
    found, at, step = [np.empty(0, np.int64)], np.arange(len(first)), 1
    while len(at := at[at + step < reach[at]]):
        one, other = item[at], item[at + step]
        pairs = np.minimum(one, other) * base + np.maximum(one, other)
        found.append(np.unique(pairs[one != other]))
        step += 1
    pairs = np.unique(np.concatenate(found))
    return np.column_stack([pairs // base, pairs % base])


def coloured(items: int, pairs: Numbers) -> NDArray[np.int32]:
    """(items,) a layer for each item, such that no pair shares one: in rising order, each takes the first that it may.

    pairs : (n, 2) as `conflicts` gives them
    """
    layer = np.zeros(items, np.int32)
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    later, starts = np.unique(pairs[:, 1], return_index=True)
    earlier, bounds = pairs[:, 0].tolist(), [*starts.tolist(), len(pairs)]
    taken: dict[int, int] = {}  # of those that are not in the first layer
    for item, (a, b) in zip(later.tolist(), pairwise(bounds), strict=True):
        others = {taken.get(other, 0) for other in earlier[a:b]}
        taken[item] = next(n for n in range(len(others) + 1) if n not in others)
    layer[list(taken)] = list(taken.values())
    return layer
