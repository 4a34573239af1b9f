"""PSF: the image of a point, for every kind of microscope, at any depth.

    profile   values along the radius, for each position of the stage: all that is known of a PSF with an axis
    psf       the same on voxels: at their centres, or the mean over each pixel, which is what a camera counts

A PSF is light per square micrometre: over the whole of its brightest plane it adds up to 1. In widefield every plane does.
Axes are (z, y, x); a greater z is deeper in the sample, so the stage is at -z.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from math import ceil, log, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.optics import pupil
from cristae.optics.microscope import Microscope
from cristae.optics.pupil import intensity
from cristae.optics.radial import disc, energy, interpolation, pixels, radii, sampling, unfolded

Floats = NDArray[np.float64]
NODES = 4
"""Within a pixel, along each side, and more where a pixel is wide beside the PSF: the mean is right to 1e-7 of the peak."""
DEEPEST_UM = 200.0
WIDEST_UM = 10.0
"""Of a voxel; more is a slip of the unit."""
POINTS = 64
"""Of a pinhole that are looked through at once."""
BY_PRODUCT = ("confocal", "airyscan", "airyscan-square")
"""Modalities whose PSF is a product, so that the light in its brightest plane has to be summed."""
PLANE_UM = 12.0
"""How far a plane is summed to find the light in it, where no formula says."""


def psf(
    scope: Microscope,
    shape: tuple[int, int, int],
    *,
    voxel_um: tuple[float, float, float] | None = None,
    depth_um: float = 0.0,
    integrate: bool = True,
) -> Floats:
    """The image of a point in the middle of a volume.

    Parameters
    ----------
    shape : (z, y, x) voxels; the point lies at voxel shape // 2, in the plane where it is brightest
    voxel_um : (z, y, x) size; by default the microscope's own
    depth_um : height of the point above the coverslip
    integrate : the mean over each pixel, else the value at its centre

    Returns
    -------
    (z, y, x) float64, the light that falls on each pixel of the light in the brightest plane; planes are `voxel_um[0]` of
    stage apart.

    Raises
    ------
    InvalidConfiguration : if the depth is negative, a size is not above 0, or the optics cannot be computed.
    """
    size = voxel_um if voxel_um is not None else scope.voxel_um
    if size is None or len(size) != 3 or not all(0 < v <= WIDEST_UM for v in size) or len(shape) != 3 or min(shape) < 1:
        raise InvalidConfiguration(
            f"a PSF needs a shape of three numbers above 0 and voxel_um of three from 0 to {WIDEST_UM:g} um (z, y, x), got {shape} and {size}"
        )
    need_depth(depth_um)
    plane = (shape[1], shape[2])
    nodes = NODES + ceil(4 * max(0.0, max(size[1:]) * scope.cutoff - 0.5)) if integrate else 1
    apart, weights = pixels(plane, (size[1], size[2]), nodes)
    step, count = sampling(scope.cutoff, float(apart.max()))
    stage = focus_um(scope, depth_um) - size[0] * np.arange(
        -(shape[0] // 2), shape[0] - shape[0] // 2, dtype=np.float64
    )
    values = profile(scope, radii(step, count), stage, depth_um)
    found = (interpolation(apart, weights, step, count) @ values.T).T
    return unfolded(np.maximum(found, 0), plane) * (size[1] * size[2])


def profile(scope: Microscope, radius_um: Floats, stage_um: Floats, depth_um: float) -> Floats:
    """(z, r) light per square micrometre at each distance from the axis, for each position of the stage.

    `radius_um` is a row of equal steps from 0, fine enough for `scope.cutoff`. A point deeper than the light can be computed
    for raises; none is ever silently dark.
    """
    need_depth(depth_um)
    stage = np.asarray(stage_um, np.float64)
    if scope.bead is not None:
        return scope.bead.profile(radius_um, focus_um(scope, depth_um) - stage)
    if scope.model == "gaussian":
        return _gaussian(scope, radius_um, stage, depth_um)
    found = _formed(scope, radius_um, stage, depth_um)
    if scope.modality in BY_PRODUCT:
        found = found / _brightest(scope, depth_um)
    return found


def need_depth(depth_um: float) -> None:
    """Refuse a point below the coverslip, or deeper than light can be followed."""
    if not isinstance(depth_um, int | float | np.floating) or not 0 <= float(depth_um) <= DEEPEST_UM:
        raise InvalidConfiguration(
            f"depth_um is {depth_um!r}, but must be a number from 0 (the coverslip) to {DEEPEST_UM:g} um"
        )


@lru_cache(maxsize=4096)
def focus_um(scope: Microscope, depth_um: float) -> float:
    """The stage position at which a point at this depth is brightest on its axis, by this microscope's modality."""
    need_depth(depth_um)
    if scope.bead is not None:
        return -depth_um
    first = pupil.focus_um(scope, depth_um)
    if scope.modality not in ("confocal", "airyscan") or scope.model == "gaussian":
        return first
    step, _ = sampling(scope.cutoff, 0.0)
    axis = radii(step, 2)

    hole = [*_pinhole(scope, axis)] if scope.modality == "confocal" else None

    def bright(stage: Floats) -> Floats:
        return _formed(scope, axis, stage, depth_um, hole)[:, 0]

    # Two colours are in focus apart: the best place lies between them.
    assert scope.excitation_um is not None
    other = pupil.focus_um(replace(scope, emission_um=scope.excitation_um), depth_um)
    low, high = sorted((first, other))
    return pupil.brightest(bright, np.linspace(low - 0.3, high + 0.3, 33))


def _formed(scope: Microscope, radius: Floats, stage: Floats, depth_um: float, hole: list[Any] | None = None) -> Floats:
    """Before the brightest plane is given 1. `hole` is `_pinhole`, for who asks often."""
    if scope.modality == "widefield":
        return intensity(scope, radius, stage, depth_um)
    if scope.modality == "airyscan-square":
        return intensity(scope, radius, stage, depth_um) ** 2
    if scope.modality == "light-sheet":
        assert scope.sheet_fwhm_um is not None
        away = (stage - focus_um(scope, depth_um)) / scope.sheet_fwhm_um
        return intensity(scope, radius, stage, depth_um) * np.exp(-4 * log(2) * away**2)[:, None]
    return _scanned(scope, radius, stage, depth_um, hole)


def _scanned(scope: Microscope, radius: Floats, stage: Floats, depth_um: float, hole: list[Any] | None) -> Floats:
    """Confocal: excitation times what the pinhole lets through; Airyscan: the same for every element, moved back by half."""
    assert scope.excitation_um is not None
    step, reach, (y, x, weight) = _elements(scope, radius)
    wide = radii(step, reach)
    lit = intensity(replace(scope, emission_um=scope.excitation_um), wide, stage, depth_um)
    seen = intensity(scope, wide, stage, depth_um)
    if scope.modality == "confocal":
        through = np.zeros((len(stage), len(radius)))
        for some in _pinhole(scope, radius) if hole is None else hole:
            through += (some @ seen.T).T
        return lit[:, : len(radius)] * through
    found = np.zeros((len(stage), len(radius)))
    for dy, dx, w in zip(y, x, weight, strict=True):
        one, other = (
            interpolation(np.hypot(radius + s * dx / 2, dy / 2)[:, None], np.ones(1), step, reach) for s in (1, -1)
        )
        found += w * (one @ lit.T).T * (other @ seen.T).T
    return found


def _elements(scope: Microscope, radius: Floats) -> tuple[float, int, tuple[Floats, Floats, Floats]]:
    """Step and number of the distances that light is wanted at, and y, x and weights of the points of a pinhole or a detector."""
    assert scope.pinhole_au is not None
    hole = 0.61 * scope.emission_um / scope.na * scope.pinhole_au
    step = float(radius[1] - radius[0])
    rings = max(6, int(np.ceil(4 * hole * scope.cutoff)))
    return step, len(radius) + int(np.ceil(1.1 * hole / step)) + 8, disc(hole, rings, 2 * rings)


def _pinhole(scope: Microscope, radius: Floats) -> Iterator[Any]:
    """(r, distances) sparse matrices whose sum is what a pinhole lets through of light at each distance; the same at all depths."""
    step, reach, (y, x, weight) = _elements(scope, radius)
    parts = (slice(n, n + POINTS) for n in range(0, len(weight), POINTS))
    return (interpolation(np.hypot(radius[:, None] + x[s], y[s]), weight[s], step, reach) for s in parts)


@lru_cache(maxsize=256)
def _brightest(scope: Microscope, depth_um: float) -> float:
    """The light in the plane where the point is brightest."""
    step, count = sampling(scope.cutoff, PLANE_UM)
    at = np.array([focus_um(scope, depth_um)])
    return float(energy(_formed(scope, radii(step, count), at, depth_um), step)[0])


def fwhm_um(scope: Microscope, depth_um: float = 0.0) -> tuple[float, float]:
    """Full widths at half maximum of the PSF through its brightest point: (axial, lateral)."""
    if scope.model == "gaussian":
        return fwhm_um(replace(scope, model="scalar"), depth_um)
    focus = focus_um(scope, depth_um)
    step, count = sampling(scope.cutoff, 2 / scope.cutoff)
    axis = radii(step, 2)
    across = profile(scope, radii(step, count), np.array([focus]), depth_um)[0]
    reach = 1.0
    while True:  # as far as the light on the axis takes to fall to half
        along = focus + reach / 400 * np.arange(-400, 401, dtype=np.float64)
        deep = profile(scope, axis, along, depth_um)[:, 0]
        if max(deep[0], deep[-1]) < 0.4 * deep.max() or reach > 1e4:
            break
        reach *= 2
    middle = int(np.argmax(deep))
    halves = [_half(deep[middle::side], reach / 400) for side in (1, -1)]
    return sum(halves), 2 * _half(across, step)


def _half(falling: Floats, step: float) -> float:
    """Where a curve first falls to half of its first value."""
    below = int(np.argmax(falling < 0.5 * falling[0]))
    before, after = falling[below - 1], falling[below]
    return step * (below - 1 + float((before - 0.5 * falling[0]) / (before - after)))


@lru_cache(maxsize=64)
def _sigmas(scope: Microscope) -> tuple[float, float]:
    deep, across = fwhm_um(scope)
    return deep / (8 * log(2)) ** 0.5, across / (8 * log(2)) ** 0.5


def _gaussian(scope: Microscope, radius: Floats, stage: Floats, depth_um: float) -> Floats:
    """A Gaussian as wide at half its height as the scalar PSF at the coverslip."""
    deep, across = _sigmas(scope)
    away = stage - focus_um(scope, depth_um)
    found: Floats = np.exp(-0.5 * (away[:, None] / deep) ** 2 - 0.5 * (radius / across) ** 2) / (2 * pi * across**2)
    return found
