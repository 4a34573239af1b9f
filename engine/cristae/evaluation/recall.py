"""Recall: which part of the true objects was found, by their size and by what a table says of them.

An object is found where a one-to-one pair of Dice 0.5 or more holds it. The bins of size are the same for every volume, two to a
decade, so that counts of several images can be added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.evaluation.figures import ratio
from cristae.evaluation.objects import Found

EDGES = np.array([m * 10.0**k for k in range(-9, 10) for m in (1.0, 3.0)])
"""Of the bins of size, um3 in space and um2 in the plane."""
FEW = 8
"""Different values of a column up to which each is a bin of its own; of more, quarters of the objects."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Some true objects: which, how many, and how many were found."""

    low: float | str  # from this value on; of a category, or one value, that
    high: float | str  # below this one, or this one included in the last of quarters
    truths: int
    found: int

    @property
    def recall(self) -> float:
        return ratio(self.found, self.truths)


def by_size(found: Sequence[tuple[Found, float]]) -> list[Bin]:
    """Recall by the size of the truth; of each frame the size of a voxel, um3 or um2."""
    totals = np.zeros((2, len(EDGES) + 1), np.int64)
    for frame, voxel in found:
        place = np.searchsorted(EDGES, frame.voxels * voxel, side="right")
        totals[0] += np.bincount(place, minlength=len(EDGES) + 1)
        totals[1] += np.bincount(place[frame.found], minlength=len(EDGES) + 1)
    ends = np.r_[0.0, EDGES, np.inf]
    return [
        Bin(float(ends[k]), float(ends[k + 1]), int(totals[0, k]), int(totals[1, k])) for k in np.flatnonzero(totals[0])
    ]


def by_column(values: NDArray[Any], found: NDArray[np.bool_]) -> list[Bin]:
    """Recall by a column of the truth: (objects,) numbers or words, and whether each was found. NaN and "" are left out."""
    numbers = values.dtype.kind in "biuf"
    there = (
        np.isfinite(values) if values.dtype.kind == "f" else values != "" if not numbers else np.ones(len(values), bool)
    )
    values, found = values[there], found[there]
    names, place = np.unique(values, return_inverse=True)
    if not numbers or len(names) <= FEW:
        shown = [float(name) if numbers else str(name) for name in names]
        return [Bin(shown[k], shown[k], *_counted(place == k, found)) for k in range(len(names))]
    edges = np.unique(np.quantile(values, (0, 0.25, 0.5, 0.75, 1)))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [Bin(float(edges[k]), float(edges[k + 1]), *_counted(place == k, found)) for k in range(len(edges) - 1)]


def _counted(these: NDArray[np.bool_], found: NDArray[np.bool_]) -> tuple[int, int]:
    return int(np.count_nonzero(these)), int(np.count_nonzero(these & found))


def told(bins: Sequence[Bin]) -> list[Mapping[str, Any]]:
    """Bins as a document keeps them."""
    return [{"from": b.low, "to": b.high, "truths": b.truths, "found": b.found, "recall": b.recall} for b in bins]
