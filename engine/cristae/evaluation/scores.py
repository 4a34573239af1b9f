"""Scores: everything that one frame tells, and all frames together, as one document.

    rules -> Score of each frame (counts, figures) -> mean with interval, pooled, recall by size and by a column

Two label volumes are scored by voxel, by object and as partitions; where one of both is a mask (bool), by voxel alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.blocks.measure import ask
from cristae.errors import InvalidInput
from cristae.evaluation import objects, partition, pixels, topology
from cristae.evaluation.figures import RESAMPLES, SEED, Counts, Figure, Figures, added, averaged
from cristae.evaluation.objects import Found, Rules
from cristae.evaluation.overlap import Table, overlaps
from cristae.evaluation.recall import by_column, by_size, told


@dataclass(frozen=True)
class Kind:
    """What is scored: objects or only masks, the topology too or not, in how many dimensions, by which rules."""

    ndim: int
    by_object: bool = True
    with_topology: bool = False
    rules: Rules = field(default_factory=Rules)

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure and what it is, in the order of a document."""
        found = dict(pixels.FIGURES)
        if self.by_object:
            found |= {**objects.figures_of(self.rules), **partition.FIGURES}
        if self.with_topology:
            found |= topology.figures_of(self.ndim)
        return found

    def of(self, counts: Counts) -> Figures:
        """The figures of counts."""
        found = pixels.pixel_figures(counts)
        if self.by_object:
            found |= {**objects.object_figures(counts, self.rules), **partition.partition_figures(counts)}
        if self.with_topology:
            found |= topology.topology_figures(counts, self.ndim)
        return found


@dataclass(frozen=True, eq=False)
class Score:
    """One frame. `voxel` is the size of a voxel, um3 or um2; `number` tells images apart."""

    image: str
    t: int
    number: int
    voxel: float
    counts: Counts
    found: Found | None


def score(
    kind: Kind,
    table: Table,
    *,
    image: str = "",
    t: int = 0,
    number: int = 0,
    voxel: float = 1.0,
    lines: Counts | None = None,
) -> Score:
    """The score of a table; `lines` are the counts of `topology`, where they are wanted."""
    counts = {**pixels.pixel_counts(table), **(lines or {})}
    found = None
    if kind.by_object:
        found = objects.found_objects(table, kind.rules)
        counts |= {**found.counts, **partition.partition_counts(table.without_small(kind.rules.min_voxels))}
    return Score(image, t, number, voxel, counts, found)


def evaluate(
    pred: NDArray[Any],
    truth: NDArray[Any],
    *,
    min_voxels: int = 0,
    semantic: bool = False,
    with_topology: bool = False,
) -> Figures:
    """The figures of two arrays in memory, by name; NaN where there is nothing to score.

    pred, truth : (z, y, x) or (y, x), labels of whole numbers, or masks; where one is bool, or with `semantic`, only voxels are scored
    min_voxels : smaller predictions are taken out first
    with_topology : centre lines and Betti numbers too

    Raises
    ------
    InvalidInput : if the shapes differ, or an array holds no labels.
    """
    if pred.shape != truth.shape or pred.ndim not in (2, 3):
        raise InvalidInput(
            f"a prediction of {pred.shape} cannot be scored against a truth of {truth.shape}; give two of one shape, 2D or 3D"
        )
    masks = semantic or bool in (pred.dtype, truth.dtype)
    kind = Kind(pred.ndim, not masks, with_topology, Rules(min_voxels))
    lines = topology.topology_counts(pred != 0, truth != 0) if with_topology else None
    return kind.of(score(kind, Table.of(ask(overlaps(ndim=pred.ndim), pred, truth).arrays), lines=lines).counts)


Column = tuple[str, Mapping[tuple[str, int], tuple[NDArray[np.uint64], NDArray[Any]]]]
"""A column of the truth by its name: for each image and time point, labels in rising order and their values."""


def document(kind: Kind, scores: Sequence[Score], column: Column | None = None) -> dict[str, Any]:
    """All of it, ready for JSON: NaN is None."""
    frames = [kind.of(one.counts) for one in scores]
    whole = kind.of(added([one.counts for one in scores]))
    means = averaged(frames, [one.number for one in scores])
    many = len({one.number for one in scores})
    units = (many, "images") if many > 1 else (len(scores), "time points")
    found: dict[str, Any] = {
        "images": [
            {"image": one.image, "t": one.t, **_told(kind, figures)}
            for one, figures in zip(scores, frames, strict=True)
        ],
        "mean": {
            name: _plain({"mean": m.mean, "low": m.low, "high": m.high}) | {"n": m.n} for name, m in means.items()
        },
        "pooled": _told(kind, whole),
        "interval": {"percent": 95, "over": units[1], "units": units[0], "resamples": RESAMPLES, "seed": SEED},
    }
    if kind.by_object:
        held = [(one.found, one.voxel) for one in scores if one.found is not None]
        found["recall_by_size"] = {"unit": "um3" if kind.ndim == 3 else "um2", "bins": told(by_size(held))}
        if column is not None:
            values, hits = _joined(scores, column)
            unknown = sum(len(one.truths) for one, _ in held) - len(values)
            found["recall_by_column"] = {"column": column[0], "bins": told(by_column(values, hits)), "without": unknown}
    found["figures"] = {name: figure.definition for name, figure in kind.figures.items()}
    return found


def _joined(scores: Sequence[Score], column: Column) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Value of every truth that the table knows, and whether it was found."""
    values, hits = [], []
    for one in scores:
        if one.found is None or (one.image, one.t) not in column[1]:
            continue
        labels, of = column[1][one.image, one.t]
        place = np.searchsorted(labels, one.found.truths)
        place[place == len(labels)] = 0
        known = labels[place] == one.found.truths if len(labels) else np.zeros(len(place), bool)
        values.append(of[place[known]])
        hits.append(one.found.found[known])
    return (np.concatenate(values), np.concatenate(hits)) if values else (np.empty(0), np.empty(0, bool))


def _told(kind: Kind, figures: Figures) -> dict[str, float | None]:
    """Figures of an image, or of all pooled: those that count are whole."""
    counts = {name for name, figure in kind.figures.items() if figure.count}
    return {
        name: int(value) if name in counts and value is not None else value for name, value in _plain(figures).items()
    }


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
