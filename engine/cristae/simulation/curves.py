"""Curves: smooth lines in space, as B-splines of (z, y, x) in micrometres, and their length.

A curve is a `scipy.interpolate.BSpline` whose parameter runs from 0 to 1; a Bezier curve is one with no inner knots.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline

Floats = NDArray[np.float64]
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(5)


def spline(knots: Floats, points: Floats, degree: int) -> BSpline:
    """A curve of knots that rise and (n, 3) finite points; scipy's own door would look at them again, which takes longer than the curve."""
    return BSpline.construct_fast(knots, np.ascontiguousarray(points, np.float64), degree)


def bezier(points: Floats) -> BSpline:
    """The Bezier curve of these (n, 3) control points."""
    n = len(points)
    return spline(np.repeat([0.0, 1.0], n), points, n - 1)


def through(points: Floats, degree: int = 2) -> BSpline:
    """The B-spline that passes through (n, d) points, its parameter spread by their distances."""
    apart = np.linalg.norm(np.diff(points, axis=0), axis=1)
    at = np.concatenate([[0.0], np.cumsum(apart)])
    return make_interp_spline(at / at[-1], points, k=min(degree, len(points) - 1))


def guided(points: Floats) -> BSpline:
    """A smooth quadratic curve from the first to the last of (n, 3) points, drawn to those between: it never overshoots."""
    degree = min(2, len(points) - 1)
    inner = np.linspace(0, 1, len(points) - degree + 1)
    return spline(np.concatenate([[0.0] * degree, inner, [1.0] * degree]), points, degree)


def rising(flat: BSpline, low: float, high: float) -> BSpline:
    """A curve of (y, x) lifted into space: z goes from low to high, evenly in the parameter."""
    k = flat.k
    knots = flat.t
    middle = np.array([knots[i + 1 : i + k + 1].mean() for i in range(len(flat.c))])  # where a coefficient is a value
    z = low + (high - low) * (middle - knots[0]) / (knots[-1] - knots[0])
    return spline(knots, np.column_stack([z, flat.c]), k)


def lengths(curve: BSpline, steps: int) -> tuple[Floats, Floats]:
    """(steps + 1,) parameters, evenly spread within each piece, and the arc length up to each.

    Gauss-Legendre with 5 nodes on every step; lengths are right to about 1e-9 where a step is short beside the bends.
    """
    u, half, nodes = _divided(curve.t.tobytes(), steps)
    slope = curve(nodes, nu=1)
    speed = np.sqrt((slope * slope).sum(axis=1)).reshape(-1, len(_NODES))
    return u, np.concatenate([[0.0], np.cumsum(half * (speed @ _WEIGHTS))])


@lru_cache(maxsize=128)
def _divided(knots: bytes, steps: int) -> tuple[Floats, Floats, Floats]:
    """Of all curves with these knots: the parameters, half of each step, and where the slope is asked."""
    breaks = np.unique(np.frombuffer(knots))
    each = max(1, -(-steps // (len(breaks) - 1)))
    u = np.append((breaks[:-1, None] + np.diff(breaks)[:, None] * np.arange(each) / each).ravel(), breaks[-1])
    half = 0.5 * np.diff(u)
    nodes = (u[:-1, None] + half[:, None] * (_NODES + 1)).ravel()
    for kept in (u, half, nodes):
        kept.flags.writeable = False
    return u, half, nodes


def bend(curve: BSpline, u: Floats) -> tuple[Floats, Floats]:
    """(n, 3) unit tangents and (n, 3) curvature vectors, which point to the centre of the bend, 1/um."""
    first = curve(u, nu=1)
    second = curve(u, nu=2) if curve.k > 1 else np.zeros_like(first)
    square = (first**2).sum(axis=1, keepdims=True)
    along = (first * second).sum(axis=1, keepdims=True)
    return first / np.sqrt(square), (second - first * along / square) / square


def sharpest(curve: BSpline, u: Floats) -> float:
    """The largest curvature at these parameters, 1/um."""
    return float(np.linalg.norm(bend(curve, u)[1], axis=1).max())
