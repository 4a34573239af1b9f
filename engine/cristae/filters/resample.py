"""Resample: the same piece of the sample on voxels of another size.

    factor   voxels of the input in one of the output, along an axis: above 1 where the output is coarser
    tent     weight of an input voxel, 1 at the middle of the output voxel and falling in straight lines to 0

Going finer, the tent is as wide as an input voxel to each side: a straight line between two neighbours. Going coarser it is as wide
as an output voxel, so that nothing is skipped. Both grids begin and end at the same places; the tent ends where the volume does, and
what is left of it counts as all. Weights are ratios of whole numbers that follow from the place in the volume: no block can show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import floor, isfinite, prod
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from cristae.array import Array, namespace, pick
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.grid import Box, Shape, no_halo

How = Literal["linear", "nearest"]

ALIKE = 1e-9
"""Voxel sizes that differ by a smaller share are the same number, written or computed in two ways."""


class Taps(NamedTuple):
    """Along one axis: the first input voxel of each output, how many there are, and what each counts, 0 beyond them."""

    first: np.ndarray  # (outputs,) int64
    many: np.ndarray  # (outputs,) int64
    weights: np.ndarray  # (outputs, most) float64, a row adds up to 1


def resample(*, to_um: Any, voxel_um: tuple[float, ...], how: str = "linear") -> Stage:
    """The image on voxels of another size, over the same extent: averaged where they are larger, in straight lines between where smaller.

    Parameters
    ----------
    to_um : voxel size to come to, micrometres: one number for all axes, (z, y, x), or (y, x), which leaves the planes of a stack as they
        are. Of n voxels along an axis there will be n times the old size by the new, rounded, and at least one; they are of the size
        with which they cover exactly what the n did
    voxel_um : voxel size of the input, (z, y, x) or (y, x)
    how : "linear", by a tent as wide as the larger of both voxels; "nearest", for masks and labels, the voxel in which the middle of the new
        one lies, the upper of two

    Returns
    -------
    A stage from any real image to float32, or, with "nearest", to the input's own type. Linear is what Pillow and torch call bilinear
    with antialiasing, with half-voxel centres; tested against torch.nn.functional.interpolate.

    Raises
    ------
    InvalidConfiguration : if a size is no positive number, or there is not one for each axis or each of the plane.
    """
    to = _sizes(to_um, len(voxel_um))
    if how not in get_args(How):
        raise InvalidConfiguration(f"resample: how is {how!r}, but must be one of {', '.join(get_args(How))}")
    ratio = prod(1.0 if t is None else v / t for v, t in zip(voxel_um, to, strict=True))  # outputs for each input
    given = tuple(t for t in to if t is not None)
    return Stage(
        "resample",
        {"to_um": given, "how": how},
        partial(_resampled, how=how),
        no_halo(len(voxel_um)),
        output=partial(_spec, to=to, how=how),
        cost=Cost(1.0, (4.0 + 8.0 * ratio) if how == "linear" else (1.0 + ratio)),
        reads=Reads(how),
        boundary="ends",
        voxel_um=tuple(voxel_um),
    )


@dataclass(frozen=True, slots=True)
class Reads:
    """`reads` of a stage whose output voxels each look at the input voxels where they lie."""

    how: str

    def __call__(self, out: Box, source: Shape, made: Shape) -> tuple[Box, ...]:
        if out.empty:
            return (Box(out.start, out.start),)
        found = [taps(self.how, a, b, n, m) for a, b, n, m in zip(out.start, out.stop, source, made, strict=True)]
        return (Box(tuple(int(t.first[0]) for t in found), tuple(int(t.first[-1] + t.many[-1]) for t in found)),)


def taps(how: str, start: int, stop: int, source: int, made: int) -> Taps:
    """What the outputs start ... stop - 1 of `made` along an axis take from `source` voxels.

    In halves of a `made`-th of a voxel all middles are whole numbers: of output i at (2 i + 1) source, of input j at (2 j + 1) made.
    """
    middle = (2 * np.arange(start, stop, dtype=np.int64) + 1) * source
    if how == "nearest":
        return Taps(middle // (2 * made), np.ones(stop - start, np.int64), np.ones((stop - start, 1)))
    reach = 2 * max(source, made)
    first = np.maximum((middle - reach - made) // (2 * made) + 1, 0)
    last = np.minimum(-(-(middle + reach - made) // (2 * made)), source)
    inputs = first[:, None] + np.arange(int((last - first).max(initial=1)))
    weights = np.maximum(reach - np.abs((2 * inputs + 1) * made - middle[:, None]), 0) * (inputs < last[:, None])
    return Taps(first, last - first, weights / weights.sum(axis=1, keepdims=True))


def resampled(array: Array, first: Shape, along: Sequence[Taps]) -> Array:
    """float32: one axis after the other, z first, each sum in float64 and in the order of the voxels; in the array's own library.

    first : place of the array's first voxel in the volume
    """
    xp = namespace(array)
    out = array.astype(xp.float64)
    for axis, (start, t) in enumerate(zip(first, along, strict=True)):
        shape = [1] * array.ndim
        shape[axis] = len(t.first)
        total = xp.zeros((*out.shape[:axis], len(t.first), *out.shape[axis + 1 :]), xp.float64)
        for k in range(t.weights.shape[1]):
            at = np.minimum(t.first + k, t.first + t.many - 1) - start
            total += xp.asarray(t.weights[:, k].reshape(shape)) * xp.take(out, xp.asarray(at), axis=axis)
        out = total
    return out.astype(xp.float32)


def _resampled(array: Array, *, at: At, answers: Mapping[str, Answer], how: str) -> Array:
    along = [
        taps(how, a, b, n, m) for a, b, n, m in zip(at.out.start, at.out.stop, at.source, at.grid.shape, strict=True)
    ]
    first = at.reads[0].start
    if how == "nearest":
        xp = namespace(array)
        return array[xp.ix_(*(xp.asarray(t.first - start) for start, t in zip(first, along, strict=True)))]
    from cristae.filters import resample_kernel

    return pick(array, resampled, numpy=resample_kernel.resampled)(array, first, along)


def _spec(spec: Spec, *, to: tuple[float | None, ...], how: str) -> Spec:
    shape, sizes = [], []
    for n, v, t in zip(spec.shape, spec.voxel_um, to, strict=True):
        # Sizes are decimal: half a voxel counts as one, whichever way the last digit went.
        m = n if t is None else max(1, floor(n * v / t + 0.5 + 1e-6))
        size = v * n / m
        shape.append(m)
        sizes.append(t if t is not None and abs(size / t - 1) < ALIKE else size)
    if how == "nearest":
        return Spec(tuple(shape), spec.dtype, tuple(sizes), spec.values)
    # A mean in float64 stays between its voxels once it is rounded, where float32 has a number for both ends.
    kept = spec.values is not None and all(float(np.float32(end)) == end for end in spec.values)
    return Spec(tuple(shape), "float32", tuple(sizes), spec.values if kept else None)


def _sizes(to_um: Any, ndim: int) -> tuple[float | None, ...]:
    """The size to come to along each axis; None leaves it as it is."""
    given = list(to_um) if isinstance(to_um, list | tuple) else [to_um] * ndim
    if not all(isinstance(t, int | float) and not isinstance(t, bool) and isfinite(t) and t > 0 for t in given):
        raise InvalidConfiguration(
            f"resample: to_um is {to_um!r}, but must be one or more positive numbers, in micrometres"
        )
    if len(given) not in (2, ndim):
        raise InvalidConfiguration(
            f"resample: to_um has {len(given)} numbers, but the image has {ndim} axes; give one for each, or two for y and x"
        )
    return (*[None] * (ndim - len(given)), *map(float, given))
