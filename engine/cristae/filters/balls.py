"""Balls: erosion and dilation by a ball whose radius is a length in the sample, and what is made of them.

    opening   what a ball fits into: bright structures thinner than it go
    closing   the same of the ground: dark gaps thinner than the ball are filled
    top_hat   the image less its opening: thin bright structures stay, slow background goes
    gradient  the largest less the least within the ball: edges

A ball is the voxels whose centres lie within the radius. It is a stack of rows of several widths, and the extreme over a
row of width w + 1 is that of two rows of width w, one voxel apart: so each width is found from the last, and each row of
the ball costs one comparison a voxel, however long it is. Beyond the volume's own faces the image is reflected, which for
a ball is the same as ignoring what lies beyond.

J. Serra, Image Analysis and Mathematical Morphology, Academic Press 1982; the results are those of `scipy.ndimage.grey_opening`
and `grey_closing` with the ball as footprint.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from math import floor, isfinite

import numpy as np

from cristae.array import Array, namespace
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage, same_spec
from cristae.errors import InvalidConfiguration

Ball = tuple[tuple[tuple[int, ...], int], ...]
"""Rows of a ball: the offset of each on all axes but the last, and its half width on the last; the widest first."""

_EDGE = 1e-9
"""A voxel at the radius itself belongs to the ball, whatever the last digit of its distance."""


def opening(radius_um: float, *, voxel_um: tuple[float, ...], dtype: str = "float32") -> Stage:
    """Take away bright structures that a ball of this radius does not fit into.

    Parameters
    ----------
    radius_um : radius of the ball (in 2D the disc), micrometres; below one voxel nothing changes
    voxel_um : voxel size, (z, y, x) or (y, x)
    dtype : of the image, which tells what memory it takes

    Returns
    -------
    A stage from any real image or mask to the same dtype.

    Raises
    ------
    InvalidConfiguration : if the radius is no length.
    """
    return _stage("opening", radius_um, voxel_um, dtype, opened)


def closing(radius_um: float, *, voxel_um: tuple[float, ...], dtype: str = "float32") -> Stage:
    """Fill dark gaps that a ball of this radius does not fit into; otherwise as `opening`.

    Raises
    ------
    InvalidConfiguration : if the radius is no length.
    """
    return _stage("closing", radius_um, voxel_um, dtype, closed)


def top_hat(radius_um: float, *, voxel_um: tuple[float, ...], dtype: str = "float32") -> Stage:
    """Subtract the background: what is left are bright structures thinner than a ball of this radius.

    Parameters
    ----------
    radius_um : micrometres; about twice the radius of the widest structure that should stay
    voxel_um : voxel size, (z, y, x) or (y, x)
    dtype : of the image, which tells what memory it takes

    Returns
    -------
    A stage from any real image to the same dtype, nowhere below 0.

    Raises
    ------
    InvalidConfiguration : if the radius is no length.
    """
    return _stage("top_hat", radius_um, voxel_um, dtype, hatted)


def gradient(radius_um: float, *, voxel_um: tuple[float, ...], dtype: str = "float32") -> Stage:
    """Show edges: the brightest voxel within a ball less the darkest (the morphological gradient).

    Parameters
    ----------
    radius_um : radius of the ball (in 2D the disc), micrometres; one voxel compares the neighbours across a face, 1.5 voxels in 2D
        and 1.8 in 3D also those across a corner
    voxel_um : voxel size, (z, y, x) or (y, x)
    dtype : of the image, which tells what memory it takes

    Returns
    -------
    A stage from any real image to the same dtype, of signed whole numbers to the unsigned ones of their width; nowhere below 0.
    J.-F. Rivest, P. Soille, S. Beucher, J. Electron. Imaging 2, 326 (1993), doi:10.1117/12.159642; with a ball as
    `scipy.ndimage.morphological_gradient`.

    Raises
    ------
    InvalidConfiguration : if the radius is no length.
    """
    return _stage("gradient", radius_um, voxel_um, dtype, edges, times=1, output=_unsigned)


def _stage(
    name: str,
    radius_um: float,
    voxel_um: tuple[float, ...],
    dtype: str,
    kernel: Callable[..., Array],
    times: int = 2,
    output: Callable[..., Spec] = same_spec,
) -> Stage:
    """times : balls that one voxel's result reaches over, one after the other."""
    rows = ball(name, radius_um, voxel_um)
    reach = [times * max((abs(at[axis]) for at, _ in rows), default=0) for axis in range(len(voxel_um) - 1)]
    reach.append(times * rows[0][1])
    # The erosion, then of the dilation its result, the row extremes and the next wider ones.
    cost = Cost(3.0 * np.dtype(dtype).itemsize, 3.0 + 0.4 * len(rows))
    halo = tuple((r, r) for r in reach)
    apply = partial(_apply, kernel=kernel, rows=rows)
    return Stage(name, {"radius_um": radius_um}, apply, halo, output=output, cost=cost)


def _apply(array: Array, *, at: At, answers: Mapping[str, Answer], kernel: Callable[..., Array], rows: Ball) -> Array:
    return kernel(array, at.out.within(at.reads[0]), rows)


def ball(stage: str, radius_um: float, voxel_um: tuple[float, ...]) -> Ball:
    """The rows of a ball in voxels; always at least the one voxel at its centre.

    Raises
    ------
    InvalidConfiguration : if the radius is not a number, negative, or reaches over more than 100 voxels.
    """
    if (
        isinstance(radius_um, bool)
        or not isinstance(radius_um, int | float)
        or not isfinite(radius_um)
        or radius_um < 0
    ):
        raise InvalidConfiguration(f"{stage}: radius_um is {radius_um!r}, but must be a length in um, 0 or more")
    steps = [floor(radius_um / h + _EDGE) for h in voxel_um]
    if max(steps) > 100:
        raise InvalidConfiguration(
            f"{stage}: radius_um {radius_um} is {max(steps)} voxels of {min(voxel_um)} um; give at most 100 voxels"
        )
    rows = []
    for at in product(*(range(-n, n + 1) for n in steps[:-1])):
        left = radius_um**2 * (1 + _EDGE) - sum((n * h) ** 2 for n, h in zip(at, voxel_um, strict=False))
        if left >= 0:
            rows.append((at, min(steps[-1], floor(left**0.5 / voxel_um[-1] + _EDGE))))
    return tuple(sorted(rows, key=lambda row: -row[1])) or (((0,) * (len(voxel_um) - 1), 0),)


def opened(array: Array, window: tuple[slice, ...], rows: Ball) -> Array:
    """Dilation of the erosion, in the array's own library and dtype."""
    return extreme(extreme(array, rows, lowest=True), rows, lowest=False)[window]


def closed(array: Array, window: tuple[slice, ...], rows: Ball) -> Array:
    """Erosion of the dilation."""
    return extreme(extreme(array, rows, lowest=False), rows, lowest=True)[window]


def hatted(array: Array, window: tuple[slice, ...], rows: Ball) -> Array:
    """The array less its opening."""
    found = opened(array, window, rows)
    return array[window] ^ found if array.dtype == bool else array[window] - found


def edges(array: Array, window: tuple[slice, ...], rows: Ball) -> Array:
    """Dilation less erosion. Of signed numbers the difference wraps round in their own type, and is right in the unsigned one."""
    high, low = (extreme(array, rows, lowest=lowest)[window] for lowest in (False, True))
    if array.dtype == bool:
        return high ^ low
    found = high - low
    return found.view(found.dtype.str.replace("i", "u")) if found.dtype.kind == "i" else found


def _unsigned(spec: Spec) -> Spec:
    dtype = f"u{spec.dtype}" if spec.dtype.startswith("int") else spec.dtype
    return Spec(spec.shape, dtype, spec.voxel_um)


def extreme(array: Array, rows: Ball, *, lowest: bool) -> Array:
    """Least or largest value within a ball about each voxel; what lies beyond the array counts for nothing."""
    xp = namespace(array)
    better = xp.minimum if lowest else xp.maximum
    out, width, wide = array.copy(), 0, array
    for at, half in reversed(rows):
        while width < half:
            wide = _wider(wide, better, first=width == 0)
            width += 1
        into, source = _shifted(at, array.shape)
        better(out[into], wide[source], out=out[into])
    return out


def _wider(array: Array, better: Callable[..., Array], first: bool) -> Array:
    """The extreme over rows one voxel wider on both sides."""
    if array.shape[-1] < 2:
        return array
    out = array.copy()
    if first:
        better(out[..., 1:], array[..., :-1], out=out[..., 1:])
        better(out[..., :-1], array[..., 1:], out=out[..., :-1])
        return out
    better(array[..., :-2], array[..., 2:], out=out[..., 1:-1])
    out[..., 0], out[..., -1] = array[..., 1], array[..., -2]
    return out


def _shifted(at: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where in the output a row of the ball reaches, and from where."""
    into = tuple(slice(max(0, -d), max(0, n - max(0, d))) for d, n in zip(at, shape, strict=False))
    source = tuple(slice(max(0, d), max(0, n - max(0, -d))) for d, n in zip(at, shape, strict=False))
    return into, source
