"""Transfer: what the optics do to light of every spatial frequency, from any layer of emitters into any plane of the image.

    plane    a focal plane of the image, at a depth in the sample: the stage is where a point at that depth is sharpest
    layer    a depth at which emitters are gathered, every SPACING_UM of the sample
    frame    a square of pixels with room around it for light from outside, on a grid `fine` times finer than the pixels
    bins     the spatial frequencies of the frame that pass the objective: rows 0..K, -K..-1 and columns 0..K

The spectrum of a PSF is real, since it looks the same from every side; it is kept as one row of bins for each distance of a
layer from a plane, and, where depth blurs, for several depths, between which it lies on a straight line.

A PSF is followed as far as `reach_um` to the sides and `deep_um` along the axis, with a smooth end; what lies beyond is lost, and
`lost` says how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.optics.microscope import Microscope
from cristae.optics.psf import DEEPEST_UM, focus_um, profile
from cristae.optics.radial import interpolation, radii, sampling

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

SPACING_UM = 0.1
"""Between layers; an emitter between two is spread over four, which is right to about 0.3 % of the peak."""
FINEST = 3.0
"""Samples of the fine grid for each period of the highest frequency that passes."""
NODES_UM = 0.4
"""Between depths for which PSFs are computed at the coverslip, where depth blurs and there are many planes; deeper they are farther apart."""
EXACT = 600
"""Planes times layers up to which each pair has a PSF of its own."""
FAINTEST = 1e-30
TAPER = 0.8
"""Of the reach: from here a PSF is led to 0."""


@dataclass(frozen=True)
class Frame:
    """The square that is convolved at once."""

    pixels: int  # along a side, the room around included
    pixel_um: float
    fine: int  # samples along a pixel
    kept: int  # the highest column of a frequency that passes

    @property
    def samples(self) -> int:
        return self.pixels * self.fine

    @property
    def bins(self) -> tuple[int, int]:
        return 2 * self.kept + 1, self.kept + 1

    def frequencies(self) -> tuple[Floats, Floats]:
        """(rows, 1) and (columns,) of the bins, cycles a micrometre."""
        step = 1 / (self.pixels * self.pixel_um)
        columns = step * np.arange(self.kept + 1, dtype=np.float64)
        return np.concatenate([columns, -columns[:0:-1]])[:, None], columns


def framed(scope: Microscope, pixels: int, pixel_um: float) -> Frame:
    """A frame whose grid is fine enough for this microscope."""
    fine = max(1, ceil(FINEST * scope.cutoff * pixel_um - 1e-9))
    kept = min(ceil(scope.cutoff * pixels * pixel_um), pixels * fine // 2 - 1)
    return Frame(pixels, pixel_um, fine, kept)


@dataclass(frozen=True, eq=False)
class Transfer:
    """Spectra of the PSF on the bins of a frame, and which of them leads from a layer to a plane."""

    frame: Frame
    first_um: float  # depth of layer 0
    table: Singles  # (rows, bins)
    low: NDArray[np.int64]  # (planes, layers) row at the depth node above the layer; -1 beyond the reach
    high: NDArray[np.int64]  # at the node below
    share: Singles  # (planes, layers) of `high`
    lost: float  # of a point's light in its sharpest plane, beyond the reach

    @property
    def layers(self) -> int:
        return int(self.low.shape[1])


def transfer(
    scope: Microscope,
    frame: Frame,
    planes_um: tuple[float, ...],
    layers_um: tuple[float, float],
    *,
    reach_um: float,
    deep_um: float,
    spacing_um: float = SPACING_UM,
) -> Transfer:
    """How light gets from emitters between two depths into the planes of an image.

    Parameters
    ----------
    planes_um : depths at which the image is in focus
    layers_um : the least and the greatest depth of an emitter
    reach_um, deep_um : how far a PSF is followed to the sides and along the axis

    Raises
    ------
    InvalidConfiguration : if an emitter lies deeper than light can be computed for.
    """
    low, high = layers_um
    if not scope.matched and not -0.01 <= low <= high <= DEEPEST_UM:
        raise InvalidConfiguration(
            f"emitters from {low:g} to {high:g} um above the coverslip; depths from 0 to {DEEPEST_UM:g} um can be computed"
        )
    # Counted from the first plane, so that planes a whole number of layers apart share their rows.
    first = floor((low - planes_um[0]) / spacing_um) - 1
    count = ceil((high - planes_um[0]) / spacing_um) + 2 - first
    layers = planes_um[0] + spacing_um * np.arange(first, first + max(count, 4), dtype=np.float64)
    count = len(layers)
    away = np.round((np.array(planes_um)[:, None] - layers) / spacing_um, 6)  # in layers: equal ones share a row
    within = np.abs(away) * spacing_um <= deep_um
    nodes, node, share = _nodes(scope, layers, len(planes_um))
    rows: dict[tuple[float, float], int] = {}  # by the depth of a point and the position of the stage
    known: dict[tuple[float, float], int] = {}  # by that depth, and what the stage follows from
    found = np.full((2, *within.shape), -1, np.int64)
    depths, below = nodes.tolist(), np.minimum(node + 1, len(nodes) - 1)
    alone = len(nodes) == count
    for p, line in zip(*(some.tolist() for some in np.nonzero(within)), strict=True):
        for side, at in enumerate((node[line], below[line])):
            depth, apart = depths[at], float(away[p, line])
            where = (depth, planes_um[p] if alone else apart)
            if where not in known:
                stage = focus_um(scope, planes_um[p]) if alone else _stage(scope, depth + apart * spacing_um)
                known[where] = rows.setdefault((depth, round(stage, 6)), len(rows))
            found[side, p, line] = known[where]
    table = _spectra(scope, frame, rows, reach_um)
    weights = np.ascontiguousarray(np.broadcast_to(share, within.shape), np.float32)
    return Transfer(frame, float(layers[0]), table, found[0], found[1], weights, _lost(scope, reach_um))


def _nodes(scope: Microscope, layers: Floats, planes: int) -> tuple[Floats, NDArray[np.int64], Floats]:
    """Depths for which PSFs are computed, the one above each layer, and how far each layer is towards the next.

    One is enough where the indices match. For a few planes every layer is one; for many planes a PSF is taken to be the same,
    as far from its focus, at all depths near a node.
    """
    depths = np.maximum(layers, 0)
    if scope.matched:
        return np.zeros(1), np.zeros(len(layers), np.int64), np.zeros(len(layers))
    if planes * len(layers) <= EXACT:
        return depths, np.arange(len(layers)), np.zeros(len(layers))
    steps = [float(depths[0])]
    while steps[-1] < depths[-1]:  # a PSF changes the less, the deeper
        steps.append(steps[-1] + NODES_UM * (1 + steps[-1] / 2))
    nodes = np.array([*steps, steps[-1] + NODES_UM])
    node = np.clip(np.searchsorted(nodes, depths, "right") - 1, 0, len(nodes) - 2)
    return nodes, node, (depths - nodes[node]) / (nodes[node + 1] - nodes[node])


def _stage(scope: Microscope, depth_um: float) -> float:
    """Where the stage is for a plane at a depth; below the coverslip it goes on as it does there."""
    if depth_um >= 0:
        return focus_um(scope, round(depth_um, 6))
    return focus_um(scope, 0.0) + depth_um * (focus_um(scope, 0.5) - focus_um(scope, 0.0)) / 0.5


def _spectra(scope: Microscope, frame: Frame, rows: dict[tuple[float, float], int], reach_um: float) -> Singles:
    """(rows, bins) spectra of the PSF, with the pixel's area in and the spreading over the fine grid out."""
    step, count = sampling(scope.cutoff, reach_um)
    radius = radii(step, count)
    turn, which, place = _towards_bins(scope, frame, step, count, reach_um)
    table = np.empty((len(rows), *frame.bins), np.float32)
    by_depth: dict[float, list[tuple[float, int]]] = {}
    for (depth, stage), row in rows.items():
        by_depth.setdefault(depth, []).append((stage, row))
    for depth, wanted in by_depth.items():
        lit = profile(scope, radius, np.array([stage for stage, _ in wanted]), depth)
        spectrum = (lit * _taper(radius, reach_um)) @ turn.T
        found = which @ spectrum.T
        found[np.abs(found) < FAINTEST] = 0  # what no single number can hold
        for (_, row), single in zip(wanted, np.ascontiguousarray(found.T, np.float32), strict=True):
            quarter = single[place]
            table[row, : len(place)] = quarter
            table[row, len(place) :] = quarter[:0:-1]
    return table.reshape(len(rows), -1)


def _towards_bins(
    scope: Microscope, frame: Frame, step: float, count: int, reach_um: float
) -> tuple[Floats, Any, NDArray[np.int64]]:
    """Two linear maps, from a profile to its Hankel transform and from there to an eighth of the bins; and where a quarter finds itself there.

    A bin, the one across the diagonal and the mirrored ones have the same value. Bins that do not pass share one, which is 0.
    """
    from scipy.special import j0

    radius = radii(step, count)
    inside = radius * step
    inside[0] = step**2 / 12  # the end of Euler and Maclaurin's sum, for a function that starts with a slope
    width, many = sampling(reach_um, scope.cutoff * 1.02 + 4 / (frame.pixels * frame.pixel_um))
    turn = 2 * pi * j0(2 * pi * radii(width, many)[:, None] * radius) * inside
    line = frame.frequencies()[1]
    passing = np.tril(np.hypot(line[:, None], line) <= scope.cutoff)
    rows, columns = line[np.nonzero(passing)[0]], line[np.nonzero(passing)[1]]
    apart = np.append(np.hypot(rows, columns), 0.0)
    which = interpolation(apart[:, None], np.ones(1), width, many)
    gain = np.sinc(rows * frame.pixel_um) * np.sinc(columns * frame.pixel_um)
    grid = frame.pixel_um / frame.fine
    gain = gain / (np.sinc(rows * grid) * np.sinc(columns * grid)) ** 4
    place = np.full(passing.shape, len(gain))
    place[passing] = np.arange(len(gain))
    place = np.minimum(place, place.T)
    from scipy.sparse import diags

    return turn, diags(np.append(gain, 0.0)) @ which, place


def _taper(radius: Floats, reach_um: float) -> Floats:
    beyond = np.clip((radius / reach_um - TAPER) / (1 - TAPER), 0, 1)
    found: Floats = 0.5 * (1 + np.cos(pi * beyond))
    return found


def _lost(scope: Microscope, reach_um: float) -> float:
    step, count = sampling(scope.cutoff, reach_um)
    radius = radii(step, count)
    lit = profile(scope, radius, np.array([focus_um(scope, 0.0)]), 0.0)[0] * _taper(radius, reach_um)
    return float(1 - (2 * pi * step * (lit * radius).sum() + 2 * pi * step**2 / 12 * lit[0]))
