"""Flat field: the uneven light of a camera is divided away, as an image of it shows it or as the fields of a run have it in common.

The light that fields share is found in squares, SQUARES along the longer side of the plane: each frame gives the mean of every
square over all its planes, the median over the frames is the light there, and pixels lie between squares on a straight line.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from math import inf, prod
from pathlib import Path

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import no_halo

SQUARES = 16
FIELDS = "fields"
FEWEST = 3
"""Frames of which a median says something."""
DARKEST = 0.05
"""Of the mean: less light counts as this much, so that noise in a dark corner is not blown up. Where there is none, nothing is divided."""


def flatfield(
    *,
    voxel_um: tuple[float, ...],
    image: str | None = None,
    of: str | None = None,
    offset: float = 0.0,
    dtype: str = "uint16",
) -> Stage:
    """The image as even light would show it; its mean brightness stays.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    image : a file that shows the light alone, one plane as large as the image's; this or `of`
    of : "fields" takes the median of all fields of the run, each as far as the run reads it, in 16 squares along the longer side
    offset : what the camera shows in the dark, in units of the image; taken away from image and light
    dtype : of the image; the sums that the light is found from are exact for integers

    Returns
    -------
    A stage to float32: (image - offset) / light, where the mean of light is 1, and less than 0.05 counts as that. It works on
    the image, and with `image` on the light as a second array on the same grid.

    Raises
    ------
    InvalidConfiguration : if not exactly one of `image` and `of` is given, or a value makes no sense.
    InvalidInput : when it runs, if the fields are no brighter than the offset.
    """
    if (image is None) == (of is None):
        raise InvalidConfiguration("flatfield: give either image: FILE or of: fields, and not both")
    if of is not None and of != FIELDS:
        raise InvalidConfiguration(f"flatfield: of is {of!r}, but the one choice is fields")
    if image is not None and (not isinstance(image, str) or not image):
        raise InvalidConfiguration(f"flatfield: image is {image!r}, but must name a file")
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not 0 <= offset < inf:
        raise InvalidConfiguration(
            f"flatfield: offset is {offset!r}, but must be a number, 0 or more, in units of the image"
        )
    offset = float(offset)
    given = {"image": Path(image).name} if image is not None else {"of": FIELDS}
    return Stage(
        "flatfield",
        {**given, **({"offset": offset} if offset else {})},
        partial(_divided if image is not None else _evened, offset=offset),
        no_halo(len(voxel_um)),
        output=_float32,
        cost=Cost(4.0 if image is not None else 8.0 if len(voxel_um) == 2 else 2.0, 1.0),
        asks={} if image is not None else {"light": _light(len(voxel_um), offset)},
        boundary="reflect" if of is None else "ends",
        tolerance=1e-3 if of is not None and np.dtype(dtype).kind == "f" else 0.0,
    )


def _float32(spec: Spec, *_: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)


def _divided(array: Array, light: Array, *, at: At, answers: Mapping[str, Answer], offset: float) -> Array:
    return _over(array[at.out.within(at.reads[0])], light[at.out.within(at.reads[1])], offset)


def _evened(array: Array, *, at: At, answers: Mapping[str, Answer], offset: float) -> Array:
    light = answers["light"].arrays["light"]
    for axis, (start, stop, size) in enumerate(
        zip(at.out.start[-2:], at.out.stop[-2:], at.grid.shape[-2:], strict=True)
    ):
        light = _between(light, axis, start, stop, size)
    return _over(array[at.out.within(at.reads[0])], namespace(array).asarray(light), offset)


def _over(array: Array, light: Array, offset: float) -> Array:
    xp = namespace(array)
    found = array.astype(xp.float32)
    if offset:
        found -= xp.float32(offset)
    found /= xp.maximum(light, xp.float32(DARKEST))
    return found


def _between(squares: np.ndarray, axis: int, start: int, stop: int, size: int) -> np.ndarray:
    """Pixels start to stop of an axis, float32, on straight lines through the middles of squares, which go on beyond the outer ones."""
    count = squares.shape[axis]
    if count == 1:
        return np.repeat(squares.astype(np.float32), stop - start, axis)
    edges, pixels = _edges(size, count), np.arange(start, stop)
    middles = (edges[:-1] + edges[1:] - 1) / 2
    left = np.clip(np.searchsorted(middles, pixels, "right") - 1, 0, count - 2)
    part = ((pixels - middles[left]) / (middles[left + 1] - middles[left])).astype(np.float32)
    part = part.reshape(-1, 1) if axis == 0 else part
    found = squares.astype(np.float32).take(left, axis)
    found *= 1 - part
    other = squares.astype(np.float32).take(left + 1, axis)
    other *= part
    found += other
    return found


def _edges(size: int, squares: int) -> np.ndarray:
    """First pixel of each square, and the end: square n of s starts at n * size // s."""
    return np.arange(squares + 1) * size // squares


def _squares_of(shape: Sequence[int]) -> tuple[int, int]:
    longer = max(shape[-2:])
    rows, columns = (max(1, min(n, round(SQUARES * n / longer))) for n in shape[-2:])
    return rows, columns


def _light(ndim: int, offset: float) -> Measure:
    """The median of every square over the frames of the collection; their mean is 1."""
    means = Measure("squares", {}, _summed, _added, _means, no_halo(ndim), "frame", Cost(0.5, 0.5), tolerance=1e-9)
    return Measure(
        "light",
        {"offset": offset},
        _frame,
        _gathered,
        partial(_median, offset=offset),
        no_halo(ndim),
        "collection",
        Cost(0.0, 0.0),
        asks={"squares": means},
        reads_array=False,
    )


def _summed(array: Array, *, at: At, answers: Mapping[str, Answer]) -> Partial:
    """Sum and number of the voxels in every square; a block sees a few of them."""
    core, shape = array[at.out.within(at.reads[0])], at.grid.shape
    squares = _squares_of(shape)
    spans = zip(at.out.start[-2:], at.out.stop[-2:], shape[-2:], squares, strict=True)
    (rows, top, high), (columns, left, wide) = (_met(*span) for span in spans)
    others = tuple(range(core.ndim - 1))
    bands = [core[..., a : a + n, :].sum(others, dtype=np.float64) for a, n in zip(top, high, strict=True)]
    sums, counts = np.zeros(squares), np.zeros(squares, np.int64)
    sums[rows, columns] = np.add.reduceat(np.stack([to_host(band) for band in bands]), left, 1)
    counts[rows, columns] = np.outer(high, wide) * prod(core.shape[:-2])
    return {"sums": sums, "counts": counts}


def _met(start: int, stop: int, size: int, squares: int) -> tuple[slice, np.ndarray, np.ndarray]:
    """The squares that a span of pixels meets, where in it each begins, and how many of its pixels each has."""
    edges = _edges(size, squares)
    first, last = int(np.searchsorted(edges, start, "right")) - 1, int(np.searchsorted(edges, stop, "left"))
    inside = np.clip(edges[first : last + 1], start, stop) - start
    return slice(first, last), inside[:-1], np.diff(inside)


def _added(partials: Sequence[Partial]) -> Partial:
    filled = [p for p in partials if p["counts"].size]
    if not filled:
        return {"sums": np.zeros((0, 0)), "counts": np.zeros((0, 0), np.int64)}
    return {name: np.sum([p[name] for p in filled], axis=0) for name in ("sums", "counts")}


def _means(partial: Partial) -> Partial:
    return {"means": partial["sums"] / partial["counts"]}


def _frame(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    """The squares of a frame, once: by its first block."""
    means = answers["squares"].arrays["means"]
    return {"means": means[None] if at.index == 0 else means[None][:0]}


def _gathered(partials: Sequence[Partial]) -> Partial:
    filled = [p["means"] for p in partials if p["means"].size]
    return {"means": np.concatenate(filled) if filled else np.zeros((0, 0, 0))}


def _median(merged: Partial, answers: Mapping[str, Answer], *, offset: float) -> Partial:
    light = np.median(merged["means"], axis=0) - offset
    if offset and not light.mean() > 0:
        raise InvalidInput(
            f"flatfield: the median field is {light.mean() + offset:g} in the mean, no brighter than the offset of {offset:g}, and nothing "
            "can be divided by it; give a lower offset"
        )
    if offset and (dark := np.count_nonzero(light < DARKEST * light.mean())):
        warnings.warn(
            f"flatfield: less the offset of {offset:g}, the median field is all but dark in {dark} of {light.size} squares; the offset is "
            "what the camera shows without light",
            stacklevel=2,
        )
    if light.mean() <= 0:
        return {"light": np.ones_like(light)}
    return {"light": light / light.mean()}
