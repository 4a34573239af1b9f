"""Cuts: where a histogram is parted in two. Each rule is a measure whose answer holds "value" and "contrast".

    otsu       the narrowest two classes
    li         the least cross entropy between image and mask
    triangle   the histogram's farthest point from the line between its peak and its longer tail

Foreground is what lies strictly above "value". "contrast" is the mean above less the mean below; where it is smaller than
asked for, the value is the largest there is, so that nothing lies above it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial, Scope
from cristae.filters.histogram import centred, histogram

Rule = Callable[[np.ndarray, np.ndarray], float]


def otsu(
    *, ndim: int, dtype: str, scope: Scope = "frame", positive: bool = False, min_contrast: float = 0.0
) -> Measure:
    """Otsu's threshold of all voxels of the scope.

    N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979), doi:10.1109/TSMC.1979.4310076.
    """
    return _cut("otsu", otsu_value, ndim, dtype, scope, positive, min_contrast)


def li(*, ndim: int, dtype: str, scope: Scope = "frame", positive: bool = False, min_contrast: float = 0.0) -> Measure:
    """Li's threshold of all voxels of the scope, by the iteration of Li and Tam from the mean.

    C. H. Li, P. K. S. Tam, Pattern Recognition Letters 19, 771 (1998), doi:10.1016/S0167-8655(98)00057-9.
    """
    return _cut("li", li_value, ndim, dtype, scope, positive, min_contrast)


def triangle(
    *, ndim: int, dtype: str, scope: Scope = "frame", positive: bool = False, min_contrast: float = 0.0
) -> Measure:
    """The triangle threshold of all voxels of the scope.

    G. W. Zack, W. E. Rogers, S. A. Latt, J. Histochem. Cytochem. 25, 741 (1977), doi:10.1177/25.7.70454.
    """
    return _cut("triangle", triangle_value, ndim, dtype, scope, positive, min_contrast)


METHODS: Mapping[str, Callable[..., Measure]] = {"otsu": otsu, "li": li, "triangle": triangle}


def _cut(name: str, rule: Rule, ndim: int, dtype: str, scope: Scope, positive: bool, min_contrast: float) -> Measure:
    counted = histogram(ndim=ndim, dtype=dtype, scope=scope, positive=positive)
    if counted.asks:
        finish: Callable[..., Partial] = partial(_of_bins, dtype=dtype, rule=rule, least=min_contrast)
    else:
        finish = partial(_of_counts, rule=rule, least=min_contrast)
    return replace(counted, name=name, params={**counted.params, "min_contrast": min_contrast}, finish=finish)


def _of_bins(merged: Partial, answers: Mapping[str, Answer], *, dtype: str, rule: Rule, least: float) -> Partial:
    return _of_counts(centred(merged, answers, dtype=dtype), rule=rule, least=least)


def _of_counts(answer: Partial, *, rule: Rule, least: float) -> Partial:
    counts, values = answer["counts"], answer["values"]
    if not counts.any():  # no value at all, or none above 0: nothing lies above 0
        return {"value": np.array(0.0), "contrast": np.array(0.0)}
    value = rule(counts, values)
    above = values > value
    contrast = 0.0
    if counts[above].any() and counts[~above].any():
        contrast = float(_mean(counts[above], values[above]) - _mean(counts[~above], values[~above]))
    if contrast < least:
        # The centre of the last bin of a float histogram lies below the largest value; its neighbour lies above it.
        value = float(values[-1]) + (float(values[-1] - values[-2]) if len(values) > 1 else 0.0)
    return {"value": np.array(value), "contrast": np.array(contrast)}


def _mean(counts: np.ndarray, values: np.ndarray) -> np.floating:
    found: np.floating = np.average(values.astype(np.float64), weights=counts)
    return found


def otsu_value(counts: np.ndarray, values: np.ndarray) -> float:
    """The value after which to cut a histogram so that the variance between the two classes is largest.

    counts : (n,) integers; values : (n,) ascending. Values that do not occur may be there or not: between two values
    that do, every cut is the same, and the first of equals is taken. Counts are added as float32, as scikit-image does.
    """
    counts, values = counts[counts > 0], values[counts > 0]
    if values.size == 1:
        return float(values[0])
    weight = counts.astype(np.float32)
    below, above = np.cumsum(weight), np.cumsum(weight[::-1])[::-1]
    mean_below = np.cumsum(weight * values) / below
    mean_above = (np.cumsum((weight * values)[::-1]) / above[::-1])[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return float(values[np.argmax(between)])


def li_value(counts: np.ndarray, values: np.ndarray) -> float:
    """The value at which the cross entropy of a histogram and its two classes is least, within half a bin.

    As `skimage.filters.threshold_li` for integers; floats are those of their bins' centres.
    """
    counts, values = counts[counts > 0], values[counts > 0]
    if values.size == 1:
        return float(values[0])
    least = float(values[0])
    places, weight = values.astype(np.float64) - least, counts.astype(np.float32)
    tolerance = 0.5 if values.dtype.kind in "iu" else float(np.diff(places).min()) / 2
    value, before = float(np.average(places, weights=counts)), -np.inf
    while abs(value - before) > tolerance:
        before = value
        above = places > value
        mean_above = np.average(places[above], weights=weight[above])
        mean_below = np.average(places[~above], weights=weight[~above])
        if mean_below == 0:
            break
        value = float((mean_below - mean_above) / (np.log(mean_below) - np.log(mean_above)))
    return value + least


def triangle_value(counts: np.ndarray, values: np.ndarray) -> float:
    """The value of a histogram farthest from the line between its peak and the end of its longer tail.

    As `skimage.filters.threshold_triangle`. Whole values that do not occur count too, with 0; of each gap only the one
    nearest the peak can be farthest.
    """
    counts, values = counts[counts > 0], values[counts > 0]
    if values.size == 1:
        return float(values[0])
    step = 1.0 if values.dtype.kind in "iu" else float(np.diff(values).min())
    peak = int(np.argmax(counts))
    flip = values[peak] - values[0] < values[-1] - values[peak]
    tail = values[-1] if flip else values[0]
    # In steps from the tail to the peak.
    places = np.rint(np.abs(values.astype(np.float64) - float(tail)) / step).astype(np.int64)
    towards = slice(peak + 1, None) if flip else slice(0, peak)
    width = int(places[peak])
    height = dict.fromkeys([*(int(x) - 1 for x in places[towards] if x > 0), width - 1], 0)
    height |= {int(x): int(n) for x, n in zip(places[towards], counts[towards], strict=True)}
    along = np.array(sorted(x for x in height if 0 <= x < width))
    length = float(counts[peak]) * along - float(width) * np.array([height[int(x)] for x in along])
    found = int(along[np.argmax(length)])
    return float(tail) + (-found if flip else found) * step
