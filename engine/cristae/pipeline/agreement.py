"""Agreement: what a pipeline measured beside what is really there, object by object.

pair    a true object and the measured one, each of which has most of the other's voxels
bias    the median of measured over true, less 1
spread  half of the range that holds the middle 68 % of measured over true
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.grid import BlockGrid
from cristae.store.volume import Volume

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCK = 256


@dataclass(frozen=True, eq=False)
class Pairs:
    """The objects that found each other; how many of either kind there were in all."""

    true: Ints
    measured: Ints
    of_true: int
    of_measured: int


def overlaps(truth: Volume, found: Volume) -> tuple[Ints, Ints, Ints]:
    """Labels of the truth and of the result that share voxels, and how many; read block by block."""
    counted: dict[tuple[int, int], int] = {}
    for core in BlockGrid(truth.spatial_shape, tuple(min(n, BLOCK) for n in truth.spatial_shape)):
        one, other = truth.read(core), found.read(core)
        both = (one != 0) & (other != 0)
        codes, many = np.unique(one[both].astype(np.uint64) << np.uint64(32) | other[both], return_counts=True)
        for code, n in zip(codes.tolist(), many.tolist(), strict=True):
            key = (code >> 32, code & 0xFFFFFFFF)
            counted[key] = counted.get(key, 0) + n
    pairs = np.array(sorted(counted), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], np.array([counted[a, b] for a, b in pairs.tolist()], np.int64)


def paired(true: Ints, found: Ints, voxels: Ints, of_true: int, of_measured: int) -> Pairs:
    """Pairs by mutual largest overlap; of equal ones the smaller label."""
    order = np.lexsort((found, true, -voxels))
    best_of_true: dict[int, int] = {}
    best_of_found: dict[int, int] = {}
    for n in order:
        best_of_true.setdefault(int(true[n]), int(found[n]))
        best_of_found.setdefault(int(found[n]), int(true[n]))
    kept = sorted((a, b) for a, b in best_of_true.items() if best_of_found[b] == a)
    both = np.array(kept, np.int64).reshape(-1, 2)
    return Pairs(both[:, 0], both[:, 1], of_true, of_measured)


def values_of(table: Mapping[str, NDArray[Any]], labels: Ints, column: str) -> Floats:
    """A column of a table for these labels, NaN where it has none."""
    place = {int(label): n for n, label in enumerate(table["label"])}
    return np.array([float(table[column][place[int(k)]]) if int(k) in place else np.nan for k in labels], np.float64)


def bias_and_spread(true: Floats, measured: Floats) -> tuple[float, float]:
    """See the words above; NaN where there is nothing to compare."""
    ratio = (measured / true)[(true > 0) & np.isfinite(measured)]
    if not len(ratio):
        return float("nan"), float("nan")
    low, middle, high = np.percentile(ratio, (16, 50, 84))
    return float(middle - 1), float((high - low) / 2)
