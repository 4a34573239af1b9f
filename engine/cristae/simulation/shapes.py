"""Shapes: what an organelle is in space. Exact volume and area, emitters on its membrane or in its inside, signed distance.

    Tube        a curve with a radius, with round caps or open
    Ball        a vesicle, a lysosome, a lipid droplet
    Ellipsoid   a nucleus, a cell

All of them answer the same: `volume_um3`, `area_um2`, `box_um`, `emitters(rng, density, labelling)` and `signed_distance(points)`.
Points are (n, 3), (z, y, x) in micrometres. Emitters of a membrane are counted in 1 000 nm2 of it, as the papers do, those of
a volume in 1 000 000 nm3 (a cube of 0.1 um).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from cristae.simulation.curves import bend, lengths, spline
from cristae.simulation.shapes_kernel import beside, ellipsoid_distance

Floats = NDArray[np.float64]
Rng = np.random.Generator
STEP_UM = 0.02
"""Between the points that stand for a curve where distances to it are asked: it bends away from the chord by less than 0.1 nm."""
LABELLINGS = ("membrane", "volume")


class Shape(Protocol):
    """What every shape answers."""

    @property
    def volume_um3(self) -> float: ...
    @property
    def area_um2(self) -> float: ...
    @property
    def box_um(self) -> tuple[Floats, Floats]: ...
    def emitters(self, rng: Rng, density: float, labelling: str) -> Floats: ...
    def signed_distance(self, points: Floats) -> Floats: ...


def count(shape: Shape, density: float, labelling: str) -> int:
    """How many emitters a shape has, to the nearest."""
    if labelling == "membrane":
        return round(density * shape.area_um2 * 1e3)
    return round(density * shape.volume_um3 * 1e3)


@dataclass(frozen=True, eq=False)
class Tube:
    """All points within `radius_um` of a curve, which nowhere bends as tightly as its radius."""

    curve: BSpline
    radius_um: float
    caps: bool = True

    @cached_property
    def line(self) -> tuple[Floats, Floats, Floats]:
        """(m,) parameters, (m,) arc lengths and (m, 3) points along the curve, about STEP_UM apart."""
        rough = float(lengths(self.curve, 16)[1][-1])
        u, s = lengths(self.curve, max(4, round(rough / STEP_UM)))
        return u, s, self.curve(u)

    @property
    def length_um(self) -> float:
        return float(self.line[1][-1])

    @property
    def volume_um3(self) -> float:
        # A tube that does not fold onto itself holds what a straight one does (Pappus).
        r = self.radius_um
        return pi * r**2 * self.length_um + (4 / 3 * pi * r**3 if self.caps else 0.0)

    @property
    def area_um2(self) -> float:
        """Of the membrane: an open tube has none over its ends."""
        r = self.radius_um
        return 2 * pi * r * self.length_um + (4 * pi * r**2 if self.caps else 0.0)

    @property
    def box_um(self) -> tuple[Floats, Floats]:
        points, room = self.line[2], self.radius_um + 1e-4  # the curve bends away from its points by less than that
        return points.min(axis=0) - room, points.max(axis=0) + room

    def emitters(self, rng: Rng, density: float, labelling: str = "membrane") -> Floats:
        """(n, 3) points, even over the membrane or the inside."""
        n = count(self, density, labelling)
        r = self.radius_um
        membrane = labelling == "membrane"
        ends = (4 * pi * r**2 / self.area_um2 if membrane else 4 / 3 * pi * r**3 / self.volume_um3) if self.caps else 0
        which = rng.random((n, 4))
        capped = which[:, 0] < ends
        away = np.full(n, r) if membrane else r * np.sqrt(which[:, 3])
        out = beside(which, away, *self._steps)
        if capped.any():
            out[capped] = self._cap(which[capped], np.full(int(capped.sum()), r), membrane)
        return out

    @property
    def _steps(self) -> tuple[Floats, Floats, Floats]:
        """Arc lengths and points along the curve, and its slopes at both ends of every step."""
        u, s, points = self.line
        step = np.diff(u)[:, None]
        if self.curve.k < 2:
            chord = np.diff(points, axis=0)
            return s, points, np.stack([chord, chord], axis=1)
        slope = self.curve(u, nu=1)
        return s, points, np.stack([slope[:-1] * step, slope[1:] * step], axis=1)

    def _cap(self, draw: Floats, radius: Floats, membrane: bool) -> Floats:
        last = (draw[:, 1] < 0.5).astype(np.intp)
        ends = self.curve.t[[0, -1]]
        ways = bend(self.curve, ends)[0] * [[-1.0], [1.0]]
        ones = across(ways)
        tangent, one, other = ways[last], ones[last], np.cross(ways, ones)[last]
        height = np.modf(draw[:, 1] * 2)[0]
        angle = 2 * pi * draw[:, 2]
        flat = np.sqrt(1 - height**2)
        way = (
            height[:, None] * tangent + (flat * np.cos(angle))[:, None] * one + (flat * np.sin(angle))[:, None] * other
        )
        away = radius if membrane else radius * np.cbrt(draw[:, 3])
        found: Floats = self.curve(ends)[last] + away[:, None] * way
        return found

    def moved(self, by_um: Floats) -> Tube:
        """The same tube elsewhere."""
        return Tube(spline(self.curve.t, self.curve.c + by_um, self.curve.k), self.radius_um, self.caps)

    def signed_distance(self, points: Floats) -> Floats:
        """(n,) micrometres to the surface, negative inside; an open tube ends flat."""
        from scipy.spatial import cKDTree

        u, _, line = self.line
        first, last = float(self.curve.t[0]), float(self.curve.t[-1])
        at = u[cKDTree(line).query(points)[1]]
        for _ in range(6):  # Newton's steps to the foot of the perpendicular
            apart, slope = self.curve(at) - points, self.curve(at, nu=1)
            turn = self.curve(at, nu=2) if self.curve.k > 1 else np.zeros_like(slope)
            rate = (slope**2).sum(axis=1) + (apart * turn).sum(axis=1)
            at = np.clip(at - (apart * slope).sum(axis=1) / np.where(rate > 0, rate, np.inf), first, last)
        apart = points - self.curve(at)
        found: Floats = np.linalg.norm(apart, axis=1) - self.radius_um
        if not self.caps:
            tangent = bend(self.curve, at)[0]
            ahead = (apart * tangent).sum(axis=1)
            beyond = np.where(at >= last, ahead, np.where(at <= first, -ahead, -1.0))
            found = np.where(beyond > 0, np.maximum(found, beyond), found)
        return found


@dataclass(frozen=True)
class Ball:
    """A sphere."""

    centre_um: tuple[float, float, float]
    radius_um: float

    @property
    def volume_um3(self) -> float:
        return 4 / 3 * pi * self.radius_um**3

    @property
    def area_um2(self) -> float:
        return 4 * pi * self.radius_um**2

    @property
    def box_um(self) -> tuple[Floats, Floats]:
        centre = np.array(self.centre_um)
        return centre - self.radius_um, centre + self.radius_um

    def emitters(self, rng: Rng, density: float, labelling: str = "membrane") -> Floats:
        draw = rng.random((count(self, density, labelling), 3))
        away = self.radius_um * (np.cbrt(draw[:, 2]) if labelling == "volume" else np.ones(len(draw)))
        found: Floats = np.array(self.centre_um) + away[:, None] * directions(draw)
        return found

    def moved(self, by_um: Floats) -> Ball:
        """The same ball elsewhere."""
        z, y, x = (float(v) for v in self.centre_um + by_um)
        return Ball((z, y, x), self.radius_um)

    def signed_distance(self, points: Floats) -> Floats:
        found: Floats = np.linalg.norm(points - np.array(self.centre_um), axis=1) - self.radius_um
        return found


@dataclass(frozen=True)
class Ellipsoid:
    """A ball stretched along z, y and x."""

    centre_um: tuple[float, float, float]
    semi_um: tuple[float, float, float]

    @property
    def volume_um3(self) -> float:
        a, b, c = self.semi_um
        return 4 / 3 * pi * a * b * c

    @property
    def area_um2(self) -> float:
        """By Carlson's symmetric integral, exact."""
        from scipy.special import elliprg

        a, b, c = self.semi_um
        return float(4 * pi * a * b * c * elliprg(a**-2, b**-2, c**-2))

    @property
    def box_um(self) -> tuple[Floats, Floats]:
        centre, semi = np.array(self.centre_um), np.array(self.semi_um)
        return centre - semi, centre + semi

    def emitters(self, rng: Rng, density: float, labelling: str = "membrane") -> Floats:
        n, semi = count(self, density, labelling), np.array(self.semi_um)
        if labelling == "volume":
            draw = rng.random((n, 3))
            inside: Floats = np.array(self.centre_um) + np.cbrt(draw[:, 2:]) * directions(draw) * semi
            return inside
        found = np.empty((0, 3))
        while len(found) < n:  # a patch of the ball is kept as often as the ellipsoid stretches it
            draw = rng.random((2 * n + 16, 3))
            way = directions(draw)
            stretch = np.linalg.norm(way / semi, axis=1) * semi.min()
            found = np.concatenate([found, (way * semi)[draw[:, 2] < stretch]])
        return np.array(self.centre_um) + found[:n]

    def signed_distance(self, points: Floats) -> Floats:
        """(n,) micrometres to the surface, negative inside; to 1e-9 of the size."""
        return ellipsoid_distance(points, np.array(self.centre_um), np.array(self.semi_um))


def directions(draw: Floats) -> Floats:
    """(n, 3) unit vectors, even over the sphere, from (n, 2 or more) numbers between 0 and 1."""
    height, angle = 2 * draw[:, 0] - 1, 2 * pi * draw[:, 1]
    flat = np.sqrt(1 - height**2)
    return np.column_stack([height, flat * np.cos(angle), flat * np.sin(angle)])


def across(tangent: Floats) -> Floats:
    """(n, 3) unit vectors at right angles to (n, 3) unit vectors."""
    least = np.eye(3)[np.abs(tangent).argmin(axis=1)]
    found: Floats = np.cross(tangent, least)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
