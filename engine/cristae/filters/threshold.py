"""Threshold: an image becomes a mask, at a given value or at one found in the image itself.

Foreground is what lies strictly above. Values are compared as real numbers: the threshold is never rounded to the
image's type, so that 0.1 means the same for float32 and float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import floor, isfinite
from numbers import Real
from typing import cast

import numpy as np

from cristae.array import Array, namespace
from cristae.blocks.measure import Answer, Measure, Partial, Scope
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.filters.histogram import centred, histogram
from cristae.grid import no_halo

METHODS = ("otsu",)
SCOPES = ("frame", "image", "collection")


def threshold(
    *,
    voxel_um: tuple[float, ...],
    value: float | None = None,
    method: str | None = None,
    over: Scope = "frame",
    dtype: str = "float32",
) -> Stage:
    """A mask of the voxels above a threshold.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    value : the threshold, in units of the image; this or `method`
    method : "otsu" finds the value that parts the histogram into the two narrowest classes
    over : what shares one threshold: each "frame", each "image", or the whole "collection"
    dtype : of the image; Otsu's histogram has one bin a value for integers and 256 bins for floats

    Returns
    -------
    A stage from any real image to bool. Otsu's value is that of `skimage.filters.threshold_otsu` on all voxels at once.

    Raises
    ------
    InvalidConfiguration : if not exactly one of `value` and `method` is given, or one of them is not known.
    """
    if (value is None) == (method is None):
        raise InvalidConfiguration("threshold: give either a value or a method (otsu), and not both")
    if method is not None and method not in METHODS:
        raise InvalidConfiguration(f"threshold: method {method!r} is not known; the only one is otsu")
    if over not in SCOPES:
        raise InvalidConfiguration(f"threshold: over {over!r} is not one of {', '.join(SCOPES)}")
    if value is not None and not _number(value):
        raise InvalidConfiguration(f"threshold: value is {value!r}, but must be a number")
    params = {"value": value} if method is None else {"method": method, "over": over}
    return Stage(
        "threshold",
        params,
        partial(_above, value=value),
        no_halo(len(voxel_um)),
        output=_mask,
        cost=Cost(0.0, 0.5),
        asks={} if method is None else {"threshold": otsu(ndim=len(voxel_um), dtype=dtype, scope=over)},
    )


def otsu(*, ndim: int, dtype: str, scope: Scope = "frame") -> Measure:
    """Otsu's threshold of all voxels of the scope; the answer holds "value".

    N. Otsu, IEEE Trans. Syst. Man Cybern. 9, 62 (1979), doi:10.1109/TSMC.1979.4310076.
    """
    counted = histogram(ndim=ndim, dtype=dtype, scope=scope)
    finish = partial(_of_bins, dtype=dtype) if counted.asks else _of_counts
    return replace(counted, name="otsu", finish=finish)


def otsu_value(counts: np.ndarray, values: np.ndarray) -> np.generic:
    """The value after which to cut a histogram so that the variance between the two classes is largest.

    counts : (n,) integers; values : (n,) ascending. Values that do not occur may be there or not: between two values
    that do, every cut is the same, and the first of equals is taken. Counts are added as float32, as scikit-image does.
    """
    counts, values = counts[counts > 0], values[counts > 0]
    if values.size == 1:
        return cast(np.generic, values[0])
    weight = counts.astype(np.float32)
    below, above = np.cumsum(weight), np.cumsum(weight[::-1])[::-1]
    mean_below = np.cumsum(weight * values) / below
    mean_above = (np.cumsum((weight * values)[::-1]) / above[::-1])[::-1]
    between = below[:-1] * above[1:] * (mean_below[:-1] - mean_above[1:]) ** 2
    return cast(np.generic, values[np.argmax(between)])


def _of_bins(merged: Partial, answers: Mapping[str, Answer], *, dtype: str) -> Partial:
    return _of_counts(centred(merged, answers, dtype=dtype))


def _of_counts(answer: Partial) -> Partial:
    return {"value": np.array(otsu_value(answer["counts"], answer["values"]))}


def _above(array: Array, *, at: At, answers: Mapping[str, Answer], value: float | None) -> Array:
    known = answers["threshold"].number("value") if value is None else value
    return above(array[at.out.within(at.reads[0])], known)


def above(array: Array, value: float) -> Array:
    """array > value as real numbers: x > value exactly where x exceeds the largest number of its type <= value."""
    xp, dtype = namespace(array), np.dtype(str(array.dtype))
    if dtype.kind == "b":
        array, dtype = array.view(xp.uint8), np.dtype("uint8")
    if dtype.kind in "iu":
        info, whole = np.iinfo(dtype), floor(value)
        if not info.min <= whole <= info.max:
            return xp.full(array.shape, whole < info.min, dtype=bool)
        return array > whole
    with np.errstate(over="ignore"):
        limit = dtype.type(value)
    if float(limit) > value:
        limit = np.nextafter(limit, dtype.type(-np.inf))
    return array > float(limit)


def _mask(spec: Spec) -> Spec:
    return Spec(spec.shape, "bool", spec.voxel_um, (0, 1))


def _number(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)
