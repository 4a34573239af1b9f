"""Crops: how the papers draw one organelle of a small image, and how the published simulator does.

A range of a preset is half open. Whole numbers of nanometres are drawn as such. Places are counted from the crop's corner.

Objects of a crop do not see each other. A batch with `crossings`, a range of parts of its objects, moves so many of them, at their depth,
to where their axis crosses that of another as the microscope sees them; the others may cross by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.simulation import physeg
from cristae.simulation.curves import bend, bezier, lengths, rising, sharpest, through
from cristae.simulation.presets import Preset
from cristae.simulation.shapes import Ball, Shape, Tube, across

Floats = NDArray[np.float64]
Rng = np.random.Generator
TRIES = 1000
NM = 1e-3
TIGHTEST = 0.98
"""Of the radius of a bend, how thick a tube may be."""


@dataclass(frozen=True, eq=False)
class Organelle:
    """One object of a crop."""

    shape: Shape
    emitters: Floats  # (n, 3) um


def organelles(
    facts: Preset, batch: Mapping[str, Any], middle_um: float, rng: Rng, draw: Callable[..., Organelle]
) -> tuple[Organelle, ...]:
    """All objects of a crop, each drawn by `organelle` or `published`."""
    found = [draw(facts, batch, middle_um, rng) for _ in range(int(rng.integers(*batch["objects"])))]
    if "crossings" in batch:
        many = round(float(rng.uniform(*batch["crossings"])) * len(found))
        order = rng.permutation(len(found)).tolist()
        resting = [found[n] for n in order[many:]]
        for n in order[:many]:
            found[n] = _crossing(found[n], resting, batch, middle_um, rng)
            resting.append(found[n])
    return tuple(found)


def _crossing(one: Organelle, others: list[Organelle], batch: Mapping[str, Any], middle: float, rng: Rng) -> Organelle:
    """A tube moved aside until it crosses one of the others at 30 degrees or more; where it was, if it would leave the crop."""
    line, reach = _interior(one), batch["reach_nm"] * NM
    low, high = (corner[1:] - middle for corner in one.shape.box_um)
    for _ in range(TRIES if others else 0):
        over = _interior(others[int(rng.integers(len(others)))])
        a, b = line[int(rng.integers(len(line)))], over[int(rng.integers(len(over)))]
        by = b[:2] - a[:2]
        steep = abs(a[2] * b[3] - a[3] * b[2]) >= 0.5
        if steep and (low + by >= -reach).all() and (high + by <= reach).all():
            away = np.array([0.0, *by])
            assert isinstance(one.shape, Tube)
            return Organelle(one.shape.moved(away), one.emitters + away)
    return one


def _interior(of: Organelle) -> Floats:
    """(n, 4) places (y, x) along the middle of a tube's axis and which way it goes there, as seen from above."""
    assert isinstance(of.shape, Tube)
    u, _, line = of.shape.line
    some = slice(len(u) // 10, -(len(u) // 10) or None)
    way = of.shape.curve(u[some], nu=1)[:, 1:]
    return np.column_stack([line[some, 1:], way / np.maximum(np.linalg.norm(way, axis=1, keepdims=True), 1e-12)])


def organelle(facts: Preset, batch: Mapping[str, Any], middle_um: float, rng: Rng) -> Organelle:
    """An object by the ranges of a preset, its emitters even over its membrane."""
    shape = _shape(facts, batch, middle_um, rng, above=True)
    return Organelle(shape, shape.emitters(rng, batch["density"], "membrane"))


def published(facts: Preset, batch: Mapping[str, Any], middle_um: float, rng: Rng) -> Organelle:
    """An object as the published simulator would make it; see `physeg`."""
    shape = _shape(facts, batch, middle_um, rng, above=False)
    if isinstance(shape, Ball):
        count = physeg.emitters_on_vesicle(round(shape.radius_um / NM), batch["density"])
        sites = physeg.spiral(shape.radius_um, count)[physeg.vesicle_sites(count, rng)] if count else np.empty((0, 3))
        return Organelle(shape, sites + shape.centre_um)
    assert isinstance(shape, Tube)
    return Organelle(shape, _rings(shape, 2 * round(shape.radius_um / NM), batch["density"], rng))


def _shape(facts: Preset, batch: Mapping[str, Any], middle: float, rng: Rng, above: bool) -> Shape:
    """`above` keeps all of it above the coverslip."""
    if facts["kind"] == "vesicle":
        radius = int(rng.integers(*batch["radius_nm"]))
        z = int(rng.integers(*batch["z_nm"]))
        y, x = (int(n) for n in rng.integers(-batch["reach_nm"], batch["reach_nm"], 2))
        z = max(z, radius) if above else z
        return Ball((z * NM, y * NM + middle, x * NM + middle), radius * NM)
    draw = _spline if facts["kind"] == "spline" else _bezier
    radius_um = int(rng.integers(*batch["width_nm"])) // 2 * NM
    return draw(batch, rng, middle, radius_um, bool(facts["caps"]))


def _spline(batch: Mapping[str, Any], rng: Rng, middle: float, radius: float, caps: bool) -> Tube:
    """PhySeg's tube: through points of rising x, no longer than the preset allows, in its square, rising evenly."""
    reach = batch["reach_nm"] * NM
    low, high = (n * NM for n in batch["z_nm"])
    low = max(low, radius)
    high = max(high, low)
    for _ in range(TRIES):
        points = rng.uniform(-reach, reach, (int(rng.integers(*batch["points"])), 2))
        points = points[np.argsort(points[:, 1])]
        if np.linalg.norm(np.diff(points, axis=0), axis=1).sum() >= batch["length_nm"] * NM:
            continue  # no curve is shorter than its chords
        line = through(points)
        flat_length = float(lengths(line, 24)[1][-1])
        curve = rising(line, low, min(high, low + flat_length))
        length, u = float(lengths(curve, 64)[1][-1]), np.linspace(0, 1, 257)
        if (
            length < batch["length_nm"] * NM
            and np.abs(line(u)).max() < reach
            and sharpest(curve, u) * radius < TIGHTEST
        ):
            curve.c[:, 1:] += middle
            return Tube(curve, radius, caps)
    raise InvalidConfiguration(
        f"no curve through random points fits {dict(batch)}; the length or the reach is too small"
    )


def _bezier(batch: Mapping[str, Any], rng: Rng, middle: float, radius: float, caps: bool) -> Tube:
    """SAM-mito's tube: a Bezier curve of the drawn length, anywhere in the crop."""
    reach = batch["reach_nm"] * NM
    length = float(rng.uniform(*batch["length_nm"])) * NM
    low, high = (n * NM for n in batch["z_nm"])
    n = int(rng.integers(*batch["points"]))
    low = max(low, radius)
    first, last = (float(v) for v in rng.uniform(low, max(high, low), 2))
    z = np.clip(np.linspace(first, last, n), low, low + length / 2)
    heading, bends = rng.uniform(0, 2 * pi), rng.uniform(-0.5, 0.5, (n, 2))
    turn = np.array([[np.cos(heading), np.sin(heading)], [-np.sin(heading), np.cos(heading)]])
    for _ in range(TRIES):
        flat_line = np.column_stack([np.linspace(-0.5, 0.5, n), np.zeros(n)]) + bends
        points = np.column_stack([z, flat_line @ turn * length])
        for _ in range(8):  # drawn out in the plane until it has its length
            curve = bezier(points)
            u, s = lengths(curve, 64)
            if abs(s[-1] / length - 1) < 1e-9:
                break
            points[:, 1:] *= length / s[-1]
        if abs(s[-1] / length - 1) < 1e-6 and sharpest(curve, u) * radius < TIGHTEST:
            room = reach - radius - np.abs(points[:, 1:]).max(axis=0)
            points[:, 1:] += middle + rng.uniform(-1, 1, 2) * np.maximum(room, 0)
            return Tube(bezier(points), radius, caps)
        bends, z = bends * 0.8, z[0] + (z - z[0]) * 0.8  # straighter, until it is not tighter than it is wide
    raise InvalidConfiguration(f"no Bezier curve fits {dict(batch)}; the length is too small for the width")


def _rings(tube: Tube, width_nm: int, density: int, rng: Rng) -> Floats:
    """The published tube: a ring of emitters for each nanometre, as many as are left after rounding down."""
    each = physeg.emitters_on_ring(width_nm, density)
    u, s, _ = tube.line
    along = np.arange(0, s[-1], NM)
    count = each * len(along)
    if not count:
        return np.empty((0, 3))
    at = np.interp(np.repeat(along, each), s, u)
    tangent = bend(tube.curve, at)[0]
    one = across(tangent)
    angle, tilt = rng.uniform(0, 2 * pi, (count, 1)), rng.uniform(-1, 1, (count, 1)) * np.radians(2)
    ring = np.cos(angle) * one + np.sin(angle) * np.cross(tangent, one)
    found: Floats = tube.curve(at) + tube.radius_um * (np.cos(tilt) * ring + np.sin(tilt) * tangent)
    return found
