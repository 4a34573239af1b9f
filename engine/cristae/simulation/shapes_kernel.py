"""Compiled: places beside a curve, and distances to an ellipsoid. Nothing here is also written plainly: the law is geometry."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cristae.compiled import njit

Floats = NDArray[np.float64]


def ellipsoid_distance(points: Floats, centre: Floats, semi: Floats) -> Floats:
    """(n,) signed distance of (n, 3) points to the surface, negative inside; to 1e-9 of the size, by Newton's steps (D. Eberly,
    Distance from a Point to an Ellipsoid, 2013)."""
    out = np.empty(len(points))
    _distance(out, np.ascontiguousarray(points, np.float64), centre, semi)
    return out


@njit(nogil=True, cache=True)
def _distance(out, points, centre, semi):  # type: ignore[no-untyped-def]
    a0, a1, a2 = semi[0] * semi[0], semi[1] * semi[1], semi[2] * semi[2]
    least = 1e-9 * min(semi[0], semi[1], semi[2])
    enough = 1e-12 * max(a0, a1, a2)
    for i in range(len(out)):
        y0 = max(abs(points[i, 0] - centre[0]), least)
        y1 = max(abs(points[i, 1] - centre[1]), least)
        y2 = max(abs(points[i, 2] - centre[2]), least)
        # The nearest point is a^2 y / (t + a^2), where t is the largest root of a function that falls and is convex beyond
        # this beginning; so the steps come to it from the left, and end.
        t = max(semi[0] * y0 - a0, semi[1] * y1 - a1, semi[2] * y2 - a2)
        for _ in range(60):
            p0 = (semi[0] * y0 / (t + a0)) ** 2
            p1 = (semi[1] * y1 / (t + a1)) ** 2
            p2 = (semi[2] * y2 / (t + a2)) ** 2
            step = (p0 + p1 + p2 - 1) / (2 * (p0 / (t + a0) + p1 / (t + a1) + p2 / (t + a2)))
            t += step
            if abs(step) < enough:
                break
        d0, d1, d2 = y0 - a0 * y0 / (t + a0), y1 - a1 * y1 / (t + a1), y2 - a2 * y2 / (t + a2)
        apart = math.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
        out[i] = -apart if (y0 / semi[0]) ** 2 + (y1 / semi[1]) ** 2 + (y2 / semi[2]) ** 2 < 1 else apart


def beside(draw: Floats, away: Floats, along: Floats, points: Floats, slopes: Floats) -> Floats:
    """(n, 3) places beside a curve, even over the tube that it is the axis of.

    draw : (n, 3 or more) numbers between 0 and 1: the second says where along the curve, the third at which angle
    away : (n,) from the curve
    along : (m,) arc lengths of points of the curve; points : (m, 3); slopes : (m - 1, 2, 3) derivatives at both ends of each step, by
        the part of the step that is behind. Between points the curve is the cubic these give: exactly the curve, up to degree 3.
    """
    out = np.empty((len(draw), 3))
    _beside(out, draw, away, along, points, slopes)
    return out


@njit(nogil=True, cache=True)
def _beside(out, draw, away, along, points, slopes):  # type: ignore[no-untyped-def]
    here, first, second = np.empty(3), np.empty(3), np.empty(3)
    one, side = np.empty(3), np.empty(3)
    steps = len(along) - 1
    for i in range(len(out)):
        at = draw[i, 1] * along[steps]
        k = min(max(np.searchsorted(along, at, "right") - 1, 0), steps - 1)
        t = (at - along[k]) / (along[k + 1] - along[k])
        for d in range(3):
            p, q, a, b = points[k, d], points[k + 1, d], slopes[k, 0, d], slopes[k, 1, d]
            c3, c2 = 2 * (p - q) + a + b, 3 * (q - p) - 2 * a - b
            here[d] = p + t * (a + t * (c2 + t * c3))
            first[d] = a + t * (2 * c2 + 3 * t * c3)
            second[d] = 2 * c2 + 6 * t * c3
        square = first[0] ** 2 + first[1] ** 2 + first[2] ** 2
        inner = (first[0] * second[0] + first[1] * second[1] + first[2] * second[2]) / square
        speed = math.sqrt(square)
        least = 0
        for d in range(3):
            second[d] = (second[d] - first[d] * inner) / square  # the curvature, towards the centre of the bend
            first[d] /= speed
            if abs(first[d]) < abs(first[least]):
                least = d
        # Two directions at right angles to the curve: across the axis that it follows least, and across both.
        m, n = (least + 1) % 3, (least + 2) % 3
        flat = math.sqrt(first[m] ** 2 + first[n] ** 2)
        one[least], one[m], one[n] = 0.0, first[n] / flat, -first[m] / flat
        turn = 2 * math.pi * draw[i, 2]
        cos, sin = math.cos(turn), math.sin(turn)
        side[0] = cos * one[0] + sin * (first[1] * one[2] - first[2] * one[1])
        side[1] = cos * one[1] + sin * (first[2] * one[0] - first[0] * one[2])
        side[2] = cos * one[2] + sin * (first[0] * one[1] - first[1] * one[0])
        # The outside of a bend is larger: a point is moved to the opposite side with the chance that makes it even.
        # The angle's own low digits decide, so that no further number is drawn.
        towards = away[i] * (second[0] * side[0] + second[1] * side[1] + second[2] * side[2])
        again = draw[i, 2] * 2.0**26
        sign = -1.0 if again - math.floor(again) > 0.5 * (1 - towards) else 1.0
        for d in range(3):
            out[i, d] = here[d] + away[i] * sign * side[d]
