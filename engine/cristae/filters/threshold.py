"""Threshold: an image becomes a mask, at a given value, at one found in the image itself, or at the mean around each voxel.

Foreground is what lies strictly above. Values are compared as real numbers: the threshold is never rounded to the
image's type, so that 0.1 means the same for float32 and float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import floor, isfinite
from numbers import Real
from typing import Any

import numpy as np

from cristae.array import Array, namespace
from cristae.blocks.measure import Answer, Scope
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.filters.cuts import METHODS
from cristae.filters.gaussian import smoothed, smoothing_cost
from cristae.grid import no_halo

SCOPES = ("frame", "image", "collection")
OF = ("all", "positive")
LOCAL = "local"
MEANS = ("box", "gaussian")


def threshold(
    *,
    voxel_um: tuple[float, ...],
    value: float | None = None,
    method: str | None = None,
    over: Scope = "frame",
    of: str = "all",
    min_contrast: float = 0.0,
    radius_um: float | None = None,
    mean: str = "box",
    offset: float = 0.0,
    dtype: str = "float32",
) -> Stage:
    """A mask of the voxels above a threshold.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    value : the threshold, in units of the image; this or `method`
    method : "otsu", "li" or "triangle" finds one value in the histogram; "local" compares each voxel with the mean around it
    over : what shares one value: each "frame", each "image", or the whole "collection"
    of : "all" voxels are counted, or only those that are "positive", as after a filter that leaves much at 0
    min_contrast : where the mean above is not this much higher than the mean below, in units of the image, nothing is foreground
    radius_um : of the mean around a voxel, for "local": half the side of a box, in micrometres
    mean : of that box: of all voxels alike ("box"), or by a "gaussian" that ends with it, as OpenCV's adaptiveThreshold weighs them
    offset : how far above that mean a voxel must lie, in units of the image: OpenCV's C with the sign turned
    dtype : of the image; the histogram has one bin a value for integers and 256 bins for floats

    Returns
    -------
    A stage from any real image to bool. The values are those of `skimage.filters.threshold_otsu`, `threshold_li` (floats: of
    the bins) and `threshold_triangle` on all voxels at once. A box of r voxels to each side is OpenCV's blockSize of 2r + 1, and its
    Gaussian has OpenCV's width of 0.3 (r - 1) + 0.8 voxels; the mean is no whole number here, and the volume's faces reflect.

    Raises
    ------
    InvalidConfiguration : if not exactly one of `value` and `method` is given, or a parameter is not one of this method.
    """
    if (value is None) == (method is None):
        raise InvalidConfiguration(f"threshold: give either a value or a method ({_known()}), and not both")
    if method is not None and method not in (*METHODS, LOCAL):
        meant = "; adaptive is called local here" if method == "adaptive" else ""
        raise InvalidConfiguration(f"threshold: method {method!r} is not known; the methods are {_known()}{meant}")
    if over not in SCOPES:
        raise InvalidConfiguration(f"threshold: over {over!r} is not one of {', '.join(SCOPES)}")
    if of not in OF:
        raise InvalidConfiguration(f"threshold: of {of!r} is not one of {', '.join(OF)}")
    for name, number in (("value", value), ("min_contrast", min_contrast), ("offset", offset)):
        if number is not None and not _number(number):
            raise InvalidConfiguration(f"threshold: {name} is {number!r}, but must be a number")
    if mean not in MEANS:
        raise InvalidConfiguration(f"threshold: mean {mean!r} is not one of {', '.join(MEANS)}")
    if method == LOCAL:
        return _local(voxel_um, radius_um, mean, offset)
    if radius_um is not None or offset or mean != MEANS[0]:
        raise InvalidConfiguration("threshold: radius_um, mean and offset belong to method: local; leave them out")
    found = {}
    if method is not None:
        measure = METHODS[method](
            ndim=len(voxel_um), dtype=dtype, scope=over, positive=of == "positive", min_contrast=float(min_contrast)
        )
        found = {"threshold": measure}
    params: dict[str, Any] = {"value": value} if method is None else {"method": method, "over": over}
    params |= {"of": of} if of != "all" else {}
    params |= {"min_contrast": min_contrast} if min_contrast else {}
    return Stage(
        "threshold",
        params,
        partial(_above, value=value),
        no_halo(len(voxel_um)),
        output=_mask,
        cost=Cost(0.0, 0.5),
        asks=found,
    )


def _known() -> str:
    return ", ".join((*METHODS, LOCAL))


def _local(voxel_um: tuple[float, ...], radius_um: float | None, mean: str, offset: float) -> Stage:
    if radius_um is None or not _number(radius_um) or radius_um <= 0:
        raise InvalidConfiguration(
            f"threshold: method local needs radius_um, a length in um above 0, not {radius_um!r}"
        )
    reach = [floor(radius_um / h + 1e-9) for h in voxel_um]
    halo = tuple((r, r) for r in reach)
    weights = [np.full(r + 1, 1 / (2 * r + 1)) if mean == "box" else _weighted(r) for r in reach]
    smoothing = smoothing_cost(halo)
    return Stage(
        "threshold",
        {"method": LOCAL, "radius_um": radius_um, **({"mean": mean} if mean != "box" else {}), "offset": offset},
        partial(_above_mean, weights=weights, offset=offset),
        halo,
        output=_mask,
        cost=Cost(smoothing.bytes_per_voxel + 4.0, smoothing.ns_per_voxel + 1.0),  # the mean, in float32
    )


def _weighted(reach: int) -> np.ndarray:
    """Weights of a Gaussian that fills a window of `reach` voxels to each side, from its centre outwards; their sum over both is 1."""
    sigma = 0.3 * (reach - 1) + 0.8
    side: np.ndarray = np.exp(-0.5 * (np.arange(reach + 1) / sigma) ** 2)
    side /= side[0] + 2 * side[1:].sum()
    return side


def _above_mean(
    array: Array, *, at: At, answers: Mapping[str, Answer], weights: list[np.ndarray], offset: float
) -> Array:
    window = at.out.within(at.reads[0])
    xp = namespace(array)
    above = smoothed(array, window, weights)
    xp.subtract(array[window], above, out=above, casting="same_kind")
    return above > offset


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
