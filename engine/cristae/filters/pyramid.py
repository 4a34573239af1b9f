"""Pyramid: coarse levels of a volume, so that a viewer can show the whole of it. The engine's own stage; no user names it.

    cell     the voxels that become one coarse voxel: a factor of them along each axis, fewer at the volume's far faces
    factors  of a level, relative to level 0
    steps    of a level, relative to the level it is made from, which is the one before

Every coarse voxel depends on its own cell alone, so no block grid can show. An image is averaged; labels are elected, since
a mean of labels is another object's label. Like the compiled twins in `pyramid_kernel`, `mean` and `mode` are written for
steps of a few voxels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, get_args

import numpy as np

from cristae.array import Array, namespace, pick
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box, Shape, no_halo

How = Literal["mean", "mode", "stride"]

SMALLEST = 256
"""Longest side of the planes of the coarsest level, voxels."""

LEVELS = 8
"""Levels of a volume at most, level 0 included."""

ISOTROPIC = 1.5
"""A voxel up to so much longer along z than in the plane counts as isotropic."""

COSTS = {"mean": Cost(0.1, 1.0), "mode": Cost(0.1, 2.5), "stride": Cost(0.0, 0.5)}


@dataclass(frozen=True, slots=True)
class Cells:
    """`reads` of a stage whose output voxels are cells: the voxels of those that a box holds."""

    factors: Shape

    def __call__(self, out: Box, *shapes: Shape) -> tuple[Box, ...]:
        first = tuple(a * f for a, f in zip(out.start, self.factors, strict=True))
        return (Box(first, tuple(b * f for b, f in zip(out.stop, self.factors, strict=True))),)


def downsample(factors: tuple[int, ...], *, voxel_um: tuple[float, ...], how: How) -> Stage:
    """One voxel for every cell of `factors` voxels, in the input's type; ceil(n / factor) of them along an axis of n.

    Parameters
    ----------
    factors : voxels of a cell along each axis, (z, y, x) or (y, x)
    voxel_um : voxel size of the input, micrometres, as many axes as `factors`; the output's is `factors` times it
    how : "mean", for images: the mean of the voxels that exist, NaN if one of them is. Integers are rounded half to even,
        exactly; floats are added in float64 in raster order.
        "mode", for labels and masks: the most frequent value, where 0 counts as one; of equally frequent values the
        smallest that is not 0, so that thin objects survive. No label appears that was not there.
        "stride": the first voxel of the cell.

    Raises
    ------
    InvalidConfiguration : if a factor is not a positive integer, or there is not one for each axis.
    InvalidInput : from the stage, if it shall take the mode of floats.
    """
    if len(factors) != len(voxel_um):
        raise InvalidConfiguration(
            f"downsample: factors {tuple(factors)} are {len(factors)}, but the volume has {len(voxel_um)} axes; give one each"
        )
    if any(isinstance(f, bool) or not isinstance(f, int) or f < 1 for f in factors):
        raise InvalidConfiguration(f"downsample: factors {tuple(factors)} must be integers, 1 or more")
    if how not in get_args(How):
        raise InvalidConfiguration(f"downsample: how is {how!r}, but must be one of {', '.join(get_args(How))}")
    return Stage(
        "downsample",
        {"factors": tuple(factors), "how": how},
        partial(_downsample, factors=tuple(factors), how=how),
        no_halo(len(factors)),
        output=partial(_coarse, factors=tuple(factors), how=how),
        cost=COSTS[how],
        reads=Cells(tuple(factors)),
    )


def pyramid_factors(
    shape: Shape, voxel_um: tuple[float, ...], *, smallest: int = SMALLEST
) -> tuple[tuple[int, ...], ...]:
    """Factors of the coarser levels relative to level 0, finest first; none where the planes are small already.

    Each level halves y and x of the one before, and z too as soon as its voxel is no longer than ISOTROPIC times the
    plane's: until then, depth is what the volume has least of. Axes of one voxel stay. The last level is the first whose
    planes have no side above `smallest`, or the one that makes LEVELS with level 0.

    shape, voxel_um : of level 0, (z, y, x) or (y, x), voxels and micrometres
    """
    if smallest < 1:
        raise InvalidConfiguration(f"pyramid: the smallest plane is {smallest}, but has at least 1 voxel a side")
    levels: list[tuple[int, ...]] = []
    factors, side, voxel = (1,) * len(shape), tuple(shape), tuple(voxel_um)
    while max(side[-2:]) > smallest and len(levels) < LEVELS - 1:
        # Metadata is decimal: 0.45 um must count as 1.5 times 0.3 um.
        deep = voxel[0] <= ISOTROPIC * max(voxel[-2:]) * (1 + 1e-6)
        halved = [n > 1 and (deep or axis >= len(shape) - 2) for axis, n in enumerate(side)]
        factors = tuple(2 * f if h else f for f, h in zip(factors, halved, strict=True))
        side = tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))
        voxel = tuple(v * f for v, f in zip(voxel_um, factors, strict=True))
        levels.append(factors)
    return tuple(levels)


def pyramid_steps(factors: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
    """Each level's factors relative to the level before it, from those relative to level 0."""
    before = ((1,) * len(factors[0]), *factors[:-1]) if factors else ()
    return tuple(tuple(f // b for f, b in zip(*pair, strict=True)) for pair in zip(factors, before, strict=True))


def mean(array: Array, factors: Shape) -> Array:
    """The mean of each cell, in the array's own library and type."""
    return _reduced(array, factors, _mean)


def mode(array: Array, factors: Shape) -> Array:
    """The most frequent value of each cell, in the array's own library; integers or bool."""
    return _reduced(array, factors, _mode)


def stride(array: Array, factors: Shape) -> Array:
    """The first voxel of each cell, in memory of its own."""
    return array[tuple(slice(None, None, f) for f in factors)].copy()


def _downsample(array: Array, *, at: At, answers: Mapping[str, Answer], factors: Shape, how: How) -> Array:
    _need_integers(how, array.dtype)
    (box,) = Cells(factors)(at.out)
    array = array[box.intersect(at.reads[0]).within(at.reads[0])]
    if how == "stride":
        return stride(array, factors)
    from cristae.filters import pyramid_kernel

    plain, fast = (mean, pyramid_kernel.mean) if how == "mean" else (mode, pyramid_kernel.mode)
    return pick(array, plain, numpy=fast)(array, factors)


def _coarse(spec: Spec, *, factors: Shape, how: How) -> Spec:
    _need_integers(how, np.dtype(spec.dtype))
    return Spec(
        tuple(-(-n // f) for n, f in zip(spec.shape, factors, strict=True)),
        spec.dtype,
        tuple(v * f for v, f in zip(spec.voxel_um, factors, strict=True)),
        # The sum of a few float64 is rounded, and may take their mean a last digit beyond all of them.
        None if how == "mean" and spec.dtype == "float64" else spec.values,
    )


def _need_integers(how: How, dtype: np.dtype[np.generic]) -> None:
    if how == "mode" and dtype.kind not in "iub":
        raise InvalidInput(f"downsample: mode elects labels, but the input is {dtype}; use mean or stride")


def _reduced(array: Array, factors: Shape, reduce: Callable[[list[Array]], Array]) -> Array:
    """One voxel a cell; `reduce` gets the first voxels of many cells, the second ones, and so on in raster order."""
    xp, values = namespace(array), array
    if array.dtype.kind == "b":
        values = array.view(xp.uint8)
    out = xp.empty(tuple(-(-n // f) for n, f in zip(array.shape, factors, strict=True)), values.dtype)
    for runs in product(*map(_runs, array.shape, factors)):
        held = tuple(slice(first, last) for first, last, _ in runs)
        out[held] = reduce([values[at] for at in _voxels(runs, factors)])
    return out.view(bool) if array.dtype.kind == "b" else out


def _runs(size: int, factor: int) -> list[tuple[int, int, int]]:
    """First cell, the one after the last, and voxels of a cell along an axis: of the whole cells, and of the cut one."""
    whole = size // factor
    both = [(0, whole, factor), (whole, -(-size // factor), size - whole * factor)]
    return [run for run in both if run[0] < run[1]]


def _voxels(runs: tuple[tuple[int, int, int], ...], factors: Shape) -> Iterator[tuple[slice, ...]]:
    for offset in product(*(range(width) for _, _, width in runs)):
        yield tuple(
            slice(first * f + d, (last - 1) * f + d + 1, f)
            for (first, last, _), f, d in zip(runs, factors, offset, strict=True)
        )


def _mean(voxels: list[Array]) -> Array:
    xp, dtype, count = namespace(voxels[0]), voxels[0].dtype, len(voxels)
    if dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            return (_total(voxels, xp.float64) / count).astype(dtype)
    if dtype.itemsize < 8:
        return _divided(_total(voxels, xp.int64), count).astype(dtype)
    # Long division with 32-bit digits: the sum of a cell may exceed 64 bits.
    low = _total([v & 0xFFFFFFFF for v in voxels], xp.int64)
    high = _total([v >> 32 for v in voxels], xp.int64) + (low >> 32)
    whole = high // count
    rest = _divided(((high - whole * count) << 32) + (low & 0xFFFFFFFF), count)
    return ((whole << 32) + rest).astype(dtype)


def _total(voxels: list[Array], dtype: type[np.generic]) -> Array:
    return sum(v.astype(dtype) for v in voxels)


def _divided(total: Array, count: int) -> Array:
    """total / count of int64, rounded half to even."""
    whole = total // count
    rest = 2 * (total - whole * count)
    return whole + ((rest > count) | ((rest == count) & ((whole & 1) == 1)))


def _mode(voxels: list[Array]) -> Array:
    xp = namespace(voxels[0])
    best, most = voxels[0], 0
    for v in voxels:
        votes = sum(v == other for other in voxels)
        wins = (votes > most) | ((votes == most) & (v != 0) & ((best == 0) | (v < best)))
        best, most = xp.where(wins, v, best), xp.where(wins, votes, most)
    return best
