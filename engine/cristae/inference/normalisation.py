"""Normalisation: two numbers that bring an image to the range a network was trained on, the same for every tile of a volume.

They are global answers, like a threshold: found in the histogram of the whole frame (or image, or collection), frozen, and handed to
every tile. A tile that is normalised by itself would show its borders.

    shift, scale    a voxel v becomes (v - shift) * scale
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial, Scope
from cristae.errors import InvalidConfiguration
from cristae.filters.histogram import centred, histogram

BINS = 4096
"""For floats; of integers every value is counted."""


def brightness(how: Mapping[str, Any], *, ndim: int, dtype: str, scope: Scope = "frame") -> Measure:
    """Shift and scale over all voxels of the scope.

    how : {"how": "standard"} for mean 0 and standard deviation 1; {"how": "percentiles", "low": 1, "high": 99} for 0 and 1 at these
        percentiles: the smallest value that so many voxels do not exceed, as `np.percentile(method="inverted_cdf")`

    Returns
    -------
    A measure whose answer holds "shift" and "scale"; an image of one value keeps scale 1. Exact for integers; floats are taken at the
    centres of 4096 bins between their extremes.

    Raises
    ------
    InvalidConfiguration : if the percentiles are not ascending numbers from 0 to 100.
    """
    if how["how"] == "percentiles" and not 0 <= float(how["low"]) < float(how["high"]) <= 100:
        raise InvalidConfiguration(
            f"the percentiles of a normalisation ascend from 0 to 100, not {how['low']} and {how['high']}"
        )
    counted = histogram(BINS, ndim=ndim, dtype=dtype, scope=scope)
    finish = partial(_of_bins, dtype=dtype, how=dict(how)) if counted.asks else partial(_of_counts, how=dict(how))
    return replace(counted, name="brightness", params={**counted.params, **how}, finish=finish)


def _of_bins(merged: Partial, answers: Mapping[str, Answer], *, dtype: str, how: Mapping[str, Any]) -> Partial:
    return _of_counts(centred(merged, answers, dtype=dtype), how=how)


def _of_counts(answer: Partial, *, how: Mapping[str, Any]) -> Partial:
    counts, values = answer["counts"], answer["values"].astype(np.float64)
    if not counts.any():
        return {"shift": np.array(0.0), "scale": np.array(1.0)}
    if how["how"] == "standard":
        low = float(np.average(values, weights=counts))
        span = float(np.sqrt(np.average((values - low) ** 2, weights=counts)))
    else:
        low, high = (_percentile(values, counts, float(how[name])) for name in ("low", "high"))
        span = high - low
    return {"shift": np.array(low), "scale": np.array(1 / span if span > 0 else 1.0)}


def _percentile(values: np.ndarray, counts: np.ndarray, q: float) -> float:
    below = np.cumsum(counts)
    return float(values[min(np.searchsorted(below, q / 100 * below[-1]), len(values) - 1)])
