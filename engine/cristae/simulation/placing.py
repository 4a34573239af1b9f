"""Placing: room for the objects of one kind, between nucleus and membrane and apart from each other.

An object is seen as points along its axis with a radius. Lengths are micrometres, points (n, 3), (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from cristae.simulation.networks import Network
from cristae.simulation.shapes import Ball, Ellipsoid, Tube

Floats = NDArray[np.float64]
Rng = np.random.Generator
Rounded = Ball | Tube | Network
"""Shapes that are all points within a radius of their axis, which of a ball is its centre."""
Candidate = tuple[Rounded, Floats | None, float]
"""A shape, the points it is seen as (None: it cannot be), and its radius."""

GAP_UM = 0.05
"""Between objects of a kind that do not touch."""


def filled(
    wanted: int,
    some: Callable[[int], Iterator[Candidate]],
    tries: int,
    body: Ellipsoid,
    nucleus: Ellipsoid,
) -> list[Rounded]:
    """As many as are wanted of the candidates that lie between nucleus and membrane and apart from each other."""
    placed = Placed()
    found: list[Rounded] = []
    for _ in range(tries):
        if len(found) >= wanted:
            break
        for shape, points, radius in some(wanted - len(found)):
            if points is not None and clear(points, radius, body, nucleus) and placed.takes(points, radius):
                found.append(shape)
    return found


def clear(points: Floats, radius: float, body: Ellipsoid, nucleus: Ellipsoid) -> bool:
    """Whether balls around these points lie in the cell and out of its nucleus."""
    room = radius + 0.002  # between points 0.08 um apart a line may come a little nearer
    outward, inward = _level(points, body), _level(points, nucleus)
    if outward.max() > 1 or inward.min() < 1:
        return False
    # An ellipsoid shrunk or grown as a whole by so much is everywhere at least `room` away: only points beyond that are asked.
    doubtful = points[outward > 1 - room / min(body.semi_um)]
    near = points[inward < 1 + room / min(nucleus.semi_um)]
    return bool((body.signed_distance(doubtful) <= -room).all() and (nucleus.signed_distance(near) >= room).all())


def _level(points: Floats, of: Ellipsoid) -> Floats:
    """1 on an ellipsoid, less inside."""
    found: Floats = np.linalg.norm((points - np.array(of.centre_um)) / np.array(of.semi_um), axis=1)
    return found


def crowded(points: Floats, radii: Floats, line: Floats, radius: float) -> bool:
    """Whether a line comes nearer than the gap to any of these points, each with its radius."""
    low, high = line.min(axis=0) - radius - GAP_UM, line.max(axis=0) + radius + GAP_UM
    reach = radii[:, None]
    near = ((points + reach >= low) & (points - reach <= high)).all(axis=1)
    points, radii = points[near], radii[near]
    apart = np.linalg.norm(points[:, None] - line[None], axis=2).min(axis=1) if len(points) else np.empty(0)
    return bool((apart < radii + radius + GAP_UM + 0.02).any())  # lines are seen every 0.08 um


class Placed:
    """The objects of a kind that have a place, as points with a radius."""

    def __init__(self) -> None:
        self._points, self._radii = np.empty((0, 3)), np.empty(0)

    def takes(self, line: Floats, radius: float) -> bool:
        """Whether an object finds room there; then it is one of them."""
        if crowded(self._points, self._radii, line, radius):
            return False
        self._points = np.concatenate([self._points, line])
        self._radii = np.concatenate([self._radii, np.full(len(line), radius)])
        return True


def axis(shape: Rounded) -> Floats:
    """Points along the axis, about STEP_UM apart."""
    if isinstance(shape, Network):
        return np.concatenate([tube.line[2] for tube in shape.tubes])
    return shape.line[2] if isinstance(shape, Tube) else np.array([shape.centre_um])


def seen(shape: Rounded) -> Floats:
    """The points that stand for a shape where one looks at what is near."""
    if isinstance(shape, Network):
        return np.concatenate([sparse(tube) for tube in shape.tubes])
    return sparse(shape) if isinstance(shape, Tube) else np.array([shape.centre_um])


def sparse(tube: Tube) -> Floats:
    """Points along a tube for looking at what is near: every fourth, and the last."""
    line: Floats = tube.line[2]
    kept: Floats = line[np.unique(np.append(np.arange(0, len(line), 4), len(line) - 1))]
    return kept
