"""Meetings: objects of a kind that touch or cross others of it, as many as are asked for, and who really does.

    touch   the surfaces lie within TOUCH_UM of each other, the volumes apart
    cross   the volumes overlap

Objects are first placed apart, as if none were to meet. Of those that shall, some are then moved, keeping their shape and heading: to
the surface of another, or with their axis through the axis of another. All others stay where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from cristae.simulation.placing import GAP_UM, Rng, Rounded, axis, clear, crowded, seen
from cristae.simulation.shapes import Ellipsoid, Shape, directions

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]

TOUCH_UM = GAP_UM
"""Between the surfaces of objects that touch, at most."""
TRIES = 40
"""Places beside others that are tried for an object, before it stays where it was."""
SURE_UM = 0.002
"""How far a gap that is drawn keeps from 0 and from TOUCH_UM."""


def gap_um(one: Rounded, other: Rounded, by_um: Floats | float = 0.0) -> float:
    """Between the surfaces of two objects, the first moved by so much, to 0.2 nm; negative where their volumes overlap."""
    return float(one.signed_distance(axis(other) - by_um).min()) - other.radius_um


def meetings(shapes: Sequence[Shape]) -> Counts:
    """(2, n) how many of the others each object touches, and how many it crosses."""
    found = np.zeros((2, len(shapes)), np.int32)
    if len(shapes) < 2:
        return found
    rounded = [shape for shape in shapes if isinstance(shape, Rounded)]
    low, high = (np.array(corners) for corners in zip(*(shape.box_um for shape in rounded), strict=True))
    lines = [seen(shape) for shape in rounded]
    trees = [cKDTree(line) for line in lines]
    for a, one in enumerate(rounded):
        beside = ((low[a + 1 :] <= high[a] + TOUCH_UM) & (high[a + 1 :] >= low[a] - TOUCH_UM)).all(axis=1)
        for b in (np.flatnonzero(beside) + a + 1).tolist():
            reach = one.radius_um + rounded[b].radius_um + 4 * TOUCH_UM  # lines are seen every 0.08 um
            if np.isinf(trees[a].query(lines[b], distance_upper_bound=reach)[0]).all():
                continue
            gap = gap_um(one, rounded[b])
            found[0, [a, b]] += 0 <= gap <= TOUCH_UM
            found[1, [a, b]] += gap < 0
    return found


def met(
    shapes: Sequence[Rounded], contacts: float, crossings: float, body: Ellipsoid, nucleus: Ellipsoid, rng: Rng
) -> list[Rounded]:
    """The same objects, of which these parts touch and cross others; one that finds no place for it stays where it was."""
    found, lines = list(shapes), [seen(shape) for shape in shapes]
    order = rng.permutation(len(found)).tolist()
    crossing = min(_share(crossings, len(found), rng), len(found))
    touching = min(_share(contacts, len(found), rng), len(found) - crossing)

    def brought(mover: int, partner: int, step: Step) -> bool:
        """One try to move an object to another."""
        one, other = found[mover], found[partner]
        line = lines[mover] + (by := step(lines[mover], lines[partner], one.radius_um, other.radius_um, rng))
        if not clear(line, one.radius_um, body, nucleus):
            return False
        others = [n for n in range(len(found)) if n not in (mover, partner)]
        points = np.concatenate([np.empty((0, 3)), *(lines[n] for n in others)])
        radii = np.repeat([found[n].radius_um for n in others], [len(lines[n]) for n in others])
        if crowded(points, radii, line, one.radius_um):
            return False
        if step is _beside and not SURE_UM <= gap_um(one, other, by) <= TOUCH_UM - SURE_UM:
            return False
        found[mover], lines[mover] = one.moved(by), line
        return True

    for members, step in ((order[:crossing], _through), (order[crossing : crossing + touching], _beside)):
        alone = set(members)
        for mover in members:
            others = [n for n in members if n != mover]
            for _ in range(TRIES if mover in alone and others else 0):
                partner = others[int(rng.integers(len(others)))]
                shorter = partner in alone and len(lines[partner]) < len(lines[mover])  # finds room sooner
                if brought(*((partner, mover) if shorter else (mover, partner)), step):
                    alone -= {mover, partner}
                    break
    return found


def _share(part: float, count: int, rng: Rng) -> int:
    """So many of the objects of a cell, right on average over cells; never one, which would have nobody to meet."""
    some, pair = rng.random(2)
    found = int(part * count + some)
    return found if found != 1 else 2 * int(pair < 0.5)


Step = Callable[[Floats, Floats, float, float, Rng], Floats]


def _beside(line: Floats, other: Floats, radius: float, radius_of_other: float, rng: Rng) -> Floats:
    """How far a line is to move so that it comes from a side drawn at random and stops where its surface meets the other's."""
    reach = radius + radius_of_other + TOUCH_UM * float(rng.uniform(0.4, 0.8))
    to = other[int(rng.integers(len(other)))] - line[int(rng.integers(len(line)))]
    way = directions(rng.random((1, 2)))[0]
    apart = (line + to)[:, None] - other
    along = apart @ way
    root = along**2 - (apart**2).sum(axis=2) + reach**2
    back = np.sqrt(root[root >= 0]) - along[root >= 0]  # from where each pair of points would be nearer than that
    found: Floats = to + way * back.max()
    return found


def _through(line: Floats, other: Floats, radius: float, radius_of_other: float, rng: Rng) -> Floats:
    """How far a line is to move so that it passes by the other's nearer than half the smaller radius; two balls look out of each other."""
    small, large = sorted((radius, radius_of_other))
    balls = len(line) == len(other) == 1
    apart = large - small + small * float(rng.uniform(0.3, 1.4)) if balls else 0.5 * small * float(rng.random())
    to = other[int(rng.integers(len(other)))] - line[int(rng.integers(len(line)))]
    found: Floats = to + apart * directions(rng.random((1, 2)))[0]
    return found
