"""Seams: whether the borders of tiles or blocks show in a result, by comparing them with planes in the middle of tiles.

    border    a position along an axis: the first voxel after the border; it lies between that voxel and the one before
    control   half way between two borders, or between the volume's face and the first border: as many as there are borders

A result that knows nothing of its tiles has the same steps at both: a border mismatch ratio near 1, a jump like those of the controls.
These are functions of arrays; a large volume is looked at in parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidInput
from cristae.grid import Shape

Borders = Mapping[int, Sequence[int]]
"""Positions of the borders along each axis, by its number."""


@dataclass(frozen=True, slots=True)
class Seam:
    """What is found at borders and at controls, each the mean over planes; `error` is the standard error of the controls."""

    at_borders: float
    at_controls: float
    error: float
    planes: int

    @property
    def ratio(self) -> float:
        """Borders over controls; infinite where only borders show anything, NaN where nothing does."""
        if self.at_controls:
            return self.at_borders / self.at_controls
        return math.inf if self.at_borders > 0 else math.nan

    @property
    def beyond(self) -> float:
        """By how many standard errors the borders differ from the controls."""
        return (self.at_borders - self.at_controls) / self.error if self.error else math.nan


def borders_of(shape: Shape, block: Shape) -> dict[int, tuple[int, ...]]:
    """Where blocks of a grid meet."""
    return {axis: tuple(range(b, n, b)) for axis, (n, b) in enumerate(zip(shape, block, strict=True)) if b < n}


def border_mismatch(image: NDArray[np.generic], borders: Borders) -> Seam:
    """The border mismatch ratio of a probability, or any image: the mean of |step| across a plane.

    Raises
    ------
    InvalidInput : if a border is not inside the image, or there is none.
    """
    return _compared(image, borders, _step, 1)


def label_mismatch(labels: NDArray[np.integer], borders: Borders) -> Seam:
    """The same of labels: of the pairs of voxels across a plane that are both foreground, the part with two labels. Planes without such a
    pair are left out.

    Raises
    ------
    InvalidInput : if a border is not inside the volume, or there is none.
    """
    return _compared(labels, borders, _parted, 1)


def signed_jump(image: NDArray[np.generic], borders: Borders) -> Seam:
    """The mean step across a plane less the step before it: what a straight line does not foretell. See `beyond`.

    Raises
    ------
    InvalidInput : if a border is not inside the image, or there is none.
    """
    return _compared(image, borders, _jump, 2)


def differing(
    one: NDArray[np.generic], other: NDArray[np.generic], borders: Borders, reach: int
) -> tuple[float, float, float]:
    """The part of the voxels that differ between two results of one image: of all, of those within `reach` voxels of a border, of the others.

    A part of nothing is NaN.
    """
    differs = one != other
    near = np.zeros(one.shape, bool)
    for axis, positions in borders.items():
        for b in positions:
            near[_at(axis, slice(max(b - reach, 0), b + reach), one.ndim)] = True
    return tuple(float(d.mean()) if d.size else math.nan for d in (differs, differs[near], differs[~near]))  # type: ignore[return-value]


Across = Callable[[NDArray[np.generic], int, int], float]


def _compared(image: NDArray[np.generic], borders: Borders, across: Across, room: int) -> Seam:
    found: list[list[float]] = [[], []]
    for axis, positions in borders.items():
        for before, b in zip((0, *positions), positions, strict=False):
            if not before < b < image.shape[axis]:
                raise InvalidInput(
                    f"a border at {b} of axis {axis} does not lie between {before} and {image.shape[axis]}; give borders in order, inside the "
                    "volume"
                )
            middle = (before + b) // 2
            if middle - before >= room:
                found[1].append(across(image, axis, middle))
                found[0].append(across(image, axis, b))
    pairs = np.array(found, np.float64)
    borders_there, controls_there = (side[np.isfinite(side)] for side in pairs)
    if not pairs.size:
        raise InvalidInput(
            "there is no border with room for a plane to compare it with; give tiles of 4 voxels or more"
        )
    error = controls_there.std(ddof=1) / math.sqrt(len(controls_there)) if len(controls_there) > 1 else math.nan
    return Seam(_mean(borders_there), _mean(controls_there), float(error), pairs.shape[1])


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else math.nan


def _at(axis: int, where: int | slice, ndim: int) -> tuple[int | slice, ...]:
    return (slice(None),) * axis + (where,) + (slice(None),) * (ndim - axis - 1)


def _plane(image: NDArray[np.generic], axis: int, at: int) -> NDArray[np.float64]:
    return image[_at(axis, at, image.ndim)].astype(np.float64)


def _step(image: NDArray[np.generic], axis: int, b: int) -> float:
    return float(np.abs(_plane(image, axis, b) - _plane(image, axis, b - 1)).mean())


def _jump(image: NDArray[np.generic], axis: int, b: int) -> float:
    here, before, further = (_plane(image, axis, b - k) for k in range(3))
    return float((here - 2 * before + further).mean())


def _parted(labels: NDArray[np.generic], axis: int, b: int) -> float:
    here, before = labels[_at(axis, b, labels.ndim)], labels[_at(axis, b - 1, labels.ndim)]
    both = (here != 0) & (before != 0)
    return float((here != before)[both].mean()) if both.any() else math.nan
