"""Bead: a measured PSF, from the image of one bead: its light at each distance from the axis, the mean over all directions.

Noise averages out, and so does what is not round; what stays is a PSF with an axis, as all computed ones are. It is taken to be the same
at every depth: that of the depth where the bead lay.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidInput
from cristae.optics.blur import alone, brightest_voxel, digest_of, voxels_of
from cristae.store.volume import open_volume

Floats = NDArray[np.float64]
FINE = 2
"""Radii within a pixel."""


@dataclass(frozen=True, eq=False, repr=False)
class Bead:
    """Light per square micrometre, of which the brightest plane has 1. Two beads are equal where their images are."""

    digest: str  # of the image
    plane_um: float  # between planes
    radius_um: float  # between radii, the first at 0
    brightest: int  # the plane in focus
    light: Floats  # (planes, radii)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bead) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Bead({self.digest})"

    def profile(self, radius_um: Floats, away_um: Floats) -> Floats:
        """(z, r) light at these distances from the axis, in planes so far behind the focus; none beyond the image."""
        at = self.brightest + away_um / self.plane_um
        first = np.floor(at).astype(int)
        part = (at - first)[:, None]
        padded = np.pad(self.light, ((1, 2), (0, 0)))
        above, below = (padded[np.clip(first + n, 0, len(padded) - 1)] for n in (1, 2))
        known = self.radius_um * np.arange(self.light.shape[1])
        planes = (1 - part) * above + part * below
        found: Floats = np.array([np.interp(radius_um, known, plane, right=0.0) for plane in planes])
        return found


def bead_of(path: str) -> Bead:
    """The PSF in a file: a stack of one bead, with a voxel size; its border is taken as background.

    Raises
    ------
    InvalidInput : if it is no stack of one channel and time point, or shows no bead.
    """
    volume = open_volume(path)
    if volume.spatial_axes != "zyx" or volume.frames * volume.channel_count > 1:
        raise InvalidInput(f"{volume.path} is no stack of one channel and time point; give a z stack of one bead")
    if volume.voxel_um[1] != volume.voxel_um[2]:
        raise InvalidInput(f"{volume.path} has voxels of {volume.voxel_um} um; pixels of a camera are square")
    voxels = voxels_of(volume)
    light = alone(voxels, 3)
    if not light.any():
        raise InvalidInput(f"{volume.path} is nowhere brighter than at its border; give a stack of one bead")
    plane = brightest_voxel(light)[0]
    y, x = _middle(light[plane])
    rows, columns = light.shape[1:]
    reach = min(y, x, rows - 1 - y, columns - 1 - x)
    if reach < 4:
        raise InvalidInput(f"the bead in {volume.path} lies at the border; give a stack with the bead in its middle")
    apart = FINE * np.hypot(np.arange(rows)[:, None] - y, np.arange(columns) - x)
    rings = np.array([_rings(apart, one, int(FINE * reach)) for one in light])
    step = volume.voxel_um[1] / FINE
    energy = 2 * pi * step**2 * float((rings[plane] * np.arange(rings.shape[1])).sum())
    return Bead(digest_of(voxels), volume.voxel_um[0], step, plane, rings / energy)


def _middle(plane: Floats) -> tuple[float, float]:
    """Centre of mass of what is brighter than half, around the brightest pixel."""
    y, x = brightest_voxel(plane)
    part = np.where(plane > 0.5 * plane.max(), plane, 0.0)[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6]
    rows, columns = (np.arange(n) for n in part.shape)
    total = part.sum()
    return (
        max(y - 5, 0) + float((part.sum(axis=1) * rows).sum() / total),
        max(x - 5, 0) + float((part.sum(axis=0) * columns).sum() / total),
    )


def _rings(apart: Floats, plane: Floats, count: int) -> Floats:
    """(count,) mean light at the distances 0, 1, 2, ...; each pixel counts for the two that it lies between."""
    first = np.floor(apart).astype(int).ravel()
    part = apart.ravel() - first
    light, weight = np.zeros(count + 2), np.zeros(count + 2)
    near = first <= count
    for bins, share in ((first[near], 1 - part[near]), (first[near] + 1, part[near])):
        light += np.bincount(bins, share * plane.ravel()[near], count + 2)[: count + 2]
        weight += np.bincount(bins, share, count + 2)[: count + 2]
    known = np.flatnonzero(weight[:count] > 1e-6)
    found: Floats = np.interp(np.arange(count), known, light[known] / weight[known])
    return found
