"""Figures: what a score is, and how those of many images become one.

    Counts    sums by name: what one image knows; the counts of several images are added
    Figures   scores by name, made of counts; NaN where there is nothing to score
    pooled    the figures of the counts of all images added: every object, or voxel, weighs the same
    averaged  the mean over images, each weighing the same, with a confidence interval

The interval is a bootstrap over images (Efron, Annals of Statistics 7, 1, 1979): the 2.5 and 97.5 percentiles of the mean over
images drawn with replacement. Time points of one image are no independent draws, so an image is drawn with all of its time points;
where there is one image only, its time points are drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Counts = Mapping[str, float]
Figures = dict[str, float]

RESAMPLES, SEED, AT_ONCE = 2000, 1, 100


@dataclass(frozen=True, slots=True)
class Figure:
    """What a score is. `best` is its value where prediction and truth agree, None for what is no score; `count` says that it counts."""

    definition: str
    best: float | None = 1.0
    count: bool = False


@dataclass(frozen=True, slots=True)
class Averaged:
    """A mean over images and its 95 % confidence interval, which needs two images or more; `n` frames have the figure."""

    mean: float
    low: float
    high: float
    n: int


def ratio(part: float, whole: float) -> float:
    """Part of the whole; NaN of nothing."""
    return part / whole if whole else math.nan


def added(several: Sequence[Counts]) -> dict[str, float]:
    """The counts of several images together; a name that an image lacks counts 0 there."""
    found: dict[str, float] = {}
    for counts in several:
        for name, value in counts.items():
            found[name] = found.get(name, 0.0) + value
    return found


def averaged(frames: Sequence[Figures], images: Sequence[int]) -> dict[str, Averaged]:
    """Mean and interval of every figure.

    frames : the figures of each frame, all of the same names
    images : the number of the image that each frame is of
    """
    if not frames:
        return {}
    names = list(frames[0])
    values = np.array([[frame[name] for name in names] for frame in frames], np.float64)
    which = np.asarray(images)
    units = which if len(np.unique(which)) > 1 else np.arange(len(which))
    _, unit = np.unique(units, return_inverse=True)
    there = np.isfinite(values)
    # Sums and numbers of frames by unit: a resample is a weight for each unit.
    sums, numbers = (np.zeros((unit.max() + 1, len(names))) for _ in range(2))
    np.add.at(sums, unit, np.where(there, values, 0.0))
    np.add.at(numbers, unit, there)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums.sum(axis=0) / numbers.sum(axis=0)
    low, high = _interval(sums, numbers)
    n = there.sum(axis=0)
    return {name: Averaged(float(mean[k]), float(low[k]), float(high[k]), int(n[k])) for k, name in enumerate(names)}


def _interval(sums: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 2.5 and 97.5 percentiles of the mean over resampled units; NaN where fewer than two have the figure."""
    units, rng = len(sums), np.random.default_rng(SEED)
    enough = (numbers > 0).sum(axis=0) > 1
    low, high = np.full((2, sums.shape[1]), math.nan)
    if not enough.any():
        return low, high
    means = []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = rng.integers(0, units, (AT_ONCE, units))
        weights = np.stack([np.bincount(one, minlength=units) for one in drawn]).astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            means.append((weights @ sums[:, enough]) / (weights @ numbers[:, enough]))
    low[enough], high[enough] = np.nanpercentile(np.concatenate(means), (2.5, 97.5), axis=0)
    return low, high
