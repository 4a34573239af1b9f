"""Shapes: volume, area, distance and emitters of each agree with sums over points that know nothing of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import BSpline
from scipy.spatial import cKDTree
from scipy.stats import chi2

from cristae.simulation.cells import centroid
from cristae.simulation.curves import bend, bezier, guided, lengths, rising, sharpest, through
from cristae.simulation.shapes import Ball, Ellipsoid, Shape, Tube
from cristae.simulation.shapes_kernel import beside
from cristae.simulation.solid import shadow

BENT = bezier(np.array([[0.4, 0.2, 0.3], [0.9, 1.6, 0.4], [0.5, 1.9, 1.6]]))
TIGHT = bezier(np.array([[1.0, 0.3, 0.5], [1.1, 1.2, 1.2], [1.0, 0.3, 1.9]]))  # kappa r up to 0.7 where r is 0.38
WAVY = guided(np.array([[1.0, 0.5, 0.5], [1.3, 1.4, 0.6], [1.0, 1.8, 1.6], [0.6, 2.8, 1.9], [0.9, 3.2, 3.0]]))
SHAPES: dict[str, Shape] = {
    "open tube": Tube(BENT, 0.3, caps=False),
    "capped tube": Tube(BENT, 0.3, caps=True),
    "wavy tube": Tube(WAVY, 0.22, caps=True),
    "short tube": Tube(bezier(np.array([[0.5, 0.5, 0.5], [0.5, 0.6, 0.7]])), 0.25, caps=True),
    "ball": Ball((0.7, 0.6, 0.5), 0.35),
    "ellipsoid": Ellipsoid((0.9, 1.2, 1.1), (0.4, 1.0, 0.7)),
}
everyone = pytest.mark.parametrize("name", SHAPES)


def even(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether counts are as many as expected: chi-squared, p > 1e-3."""
    expected = expected * found.sum() / expected.sum()
    assert expected.min() > 20, "patches too small for chi-squared"
    return bool(chi2.sf(((found - expected) ** 2 / expected).sum(), len(found) - 1) > 1e-3)


def arc(curve: BSpline, n: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parameters, arc length and points along a curve, by so many straight steps."""
    u = np.linspace(float(curve.t[0]), float(curve.t[-1]), n + 1)
    points = curve(u)
    return u, np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]), points


def area_of(shape: Shape) -> float:
    """Membrane, by sums of another kind than the code's."""
    if isinstance(shape, Tube):
        wall = 2 * np.pi * shape.radius_um * arc(shape.curve)[1][-1]
        return wall + (4 * np.pi * shape.radius_um**2 if shape.caps else 0)
    semi = np.array([shape.radius_um] * 3) if isinstance(shape, Ball) else np.array(shape.semi_um)  # type: ignore[attr-defined]
    return float(stretched(semi, 2000, 2000).sum())


def stretched(semi: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """(rows, columns) areas of an ellipsoid's patches, even in height and angle on the ball."""
    height, angle = -1 + 2 * (np.arange(rows) + 0.5) / rows, 2 * np.pi * (np.arange(columns) + 0.5) / columns
    flat = np.sqrt(1 - height**2)[:, None]
    way = np.stack(
        [np.broadcast_to(height[:, None], (rows, columns)), flat * np.cos(angle), flat * np.sin(angle)], axis=-1
    )
    return semi.prod() * np.linalg.norm(way / semi, axis=-1) * (4 * np.pi / rows / columns)


# ------------------------------------------------------------------------------------------------- volume and area


def scattered(shape: Shape, n: int, room: float = 0.05) -> tuple[np.ndarray, float]:
    """Points anywhere in the box around a shape, and the box's volume."""
    low, high = shape.box_um
    low, high = np.asarray(low) - room, np.asarray(high) + room
    return low + (high - low) * np.random.default_rng(5).random((n, 3)), float((high - low).prod())


@everyone
def test_the_volume_is_that_of_the_points_inside(name: str) -> None:
    shape = SHAPES[name]
    points, box = scattered(shape, 200_000)
    inside = (shape.signed_distance(points) <= 0) * box
    assert abs(inside.mean() - shape.volume_um3) <= 4 * inside.std() / len(points) ** 0.5
    assert 4 * inside.std() / len(points) ** 0.5 < 0.05 * shape.volume_um3


@everyone
def test_the_area_is_that_of_a_thin_skin(name: str) -> None:
    """Half the volume within 10 nm of the membrane, over 10 nm; the ends of an open tube are none of it."""
    shape, thin = SHAPES[name], 0.01
    points, box = scattered(shape, 200_000)
    away = shape.signed_distance(points)
    near = np.abs(away) <= thin
    if name == "open tube":  # a point beyond an end is near no wall
        u, _, line = arc(shape.curve, 5000)  # type: ignore[attr-defined]
        foot = cKDTree(line).query(points)[1]
        near &= (foot > 0) & (foot < len(u) - 1)
    skin = near * box / (2 * thin)
    assert abs(skin.mean() - shape.area_um2) <= 4 * skin.std() / len(points) ** 0.5 + 0.003 * shape.area_um2
    assert shape.area_um2 == pytest.approx(area_of(shape), rel=1e-5)


@everyone
def test_nothing_of_a_shape_is_outside_its_box_and_the_box_is_tight(name: str) -> None:
    shape = SHAPES[name]
    low, high = shape.box_um
    points = shape.emitters(np.random.default_rng(0), 60_000 / shape.area_um2 / 1e3, "membrane")
    assert (points >= low - 1e-4).all() and (points <= high + 1e-4).all()
    if name != "open tube":  # a box of a tube leaves room for caps
        assert (points.min(axis=0) - low).max() < 0.03 and (high - points.max(axis=0)).max() < 0.03


@pytest.mark.parametrize("name", ["capped tube", "wavy tube", "short tube", "ball"])
def test_the_distance_is_that_to_the_nearest_point(name: str) -> None:
    shape: Any = SHAPES[name]
    points, _ = scattered(shape, 4_000, room=0.4)
    line = arc(shape.curve)[2] if isinstance(shape, Tube) else np.array([shape.centre_um])
    expected = cKDTree(line).query(points)[0] - shape.radius_um
    np.testing.assert_allclose(shape.signed_distance(points), expected, atol=1e-4)


THIN = Tube(TIGHT, 0.02, caps=False)


@pytest.mark.parametrize("pixel_um", [0.042, 0.08])
@pytest.mark.parametrize("shape", [*SHAPES.values(), THIN, Tube(TIGHT, 0.38)], ids=[*SHAPES, "thin", "tight"])
def test_a_shadow_is_that_of_every_point_asked_one_by_one(shape: Shape, pixel_um: float) -> None:
    depth = np.arange(shape.box_um[0][0] + pixel_um / 4, shape.box_um[1][0], pixel_um / 2)
    centres = (np.arange(40) + 0.5) * pixel_um  # some shapes reach beyond the picture
    points = np.stack(np.meshgrid(depth, centres, centres, indexing="ij"), axis=-1)
    inside = shape.signed_distance(points.reshape(-1, 3)).reshape(points.shape[:3]) <= 0
    assert np.array_equal(shadow(shape, 40, pixel_um), inside.any(axis=0))
    assert inside.any()


def test_a_shape_beside_the_picture_has_no_shadow_in_it() -> None:
    assert not shadow(Ball((0.5, 9.0, 9.0), 0.3), 40, 0.08).any()


def test_an_open_tube_ends_flat() -> None:
    tube: Any = SHAPES["open tube"]
    for end, way in ((0.0, -1.0), (1.0, 1.0)):
        tangent = way * bend(tube.curve, np.array([end]))[0][0]
        at = tube.curve(end)
        side = np.cross(tangent, [1.0, 0, 0])
        side *= 0.5 * tube.radius_um / np.linalg.norm(side)
        beyond, within = tube.signed_distance(np.array([at + side + 0.01 * tangent, at + side - 0.01 * tangent]))
        assert beyond > 0 > within


@pytest.mark.kernel
def test_an_ellipsoids_distance_has_the_right_sign_and_is_zero_on_it() -> None:
    shape: Any = SHAPES["ellipsoid"]
    points, _ = scattered(shape, 20_000, room=0.4)
    level = (((points - shape.centre_um) / shape.semi_um) ** 2).sum(axis=1)
    np.testing.assert_array_equal(shape.signed_distance(points) > 0, level > 1)
    assert shape.signed_distance(np.array([shape.centre_um]))[0] < 0


@everyone
def test_the_centre_of_mass_is_that_of_the_points_inside(name: str) -> None:
    shape = SHAPES[name]
    points, _ = scattered(shape, 100_000)
    inside = points[shape.signed_distance(points) <= 0]
    assert (np.abs(inside.mean(axis=0) - centroid(shape)) <= 4 * inside.std(axis=0) / len(inside) ** 0.5).all()


# --------------------------------------------------------------------------------------------------------- emitters


@everyone
@pytest.mark.parametrize("density", [0.5, 4, 8])
def test_emitters_are_as_dense_as_asked_and_on_the_membrane(name: str, density: float) -> None:
    shape = SHAPES[name]
    points = shape.emitters(np.random.default_rng(1), density, "membrane")
    assert abs(len(points) - density * area_of(shape) * 1e3) <= 0.501
    assert np.abs(shape.signed_distance(points)).max() <= 1e-9


@everyone
def test_emitters_of_a_volume_are_inside_and_as_dense_as_asked(name: str) -> None:
    shape = SHAPES[name]
    points = shape.emitters(np.random.default_rng(1), 20.0, "volume")
    assert abs(len(points) - 20 * shape.volume_um3 * 1e3) <= 0.5
    assert shape.signed_distance(points).max() <= 1e-9
    away = points.mean(axis=0) - centroid(shape)
    assert (np.abs(away) <= 4 * points.std(axis=0) / len(points) ** 0.5).all()


@everyone
def test_emitters_are_the_same_for_the_same_draw(name: str) -> None:
    one, same, other = (SHAPES[name].emitters(np.random.default_rng(n), 1.0, "membrane") for n in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def around(tube: Tube, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Arc length, curvature, distance from the axis and angle from the centre of the bend, of points beside a tube."""
    u, s, line = arc(tube.curve)
    foot = cKDTree(line, balanced_tree=False).query(points)[1]
    first, second = tube.curve(u[foot], nu=1), tube.curve(u[foot], nu=2)
    tangent = first / np.linalg.norm(first, axis=1, keepdims=True)
    inward = second - (second * tangent).sum(axis=1, keepdims=True) * tangent
    curvature = np.linalg.norm(inward, axis=1) / (first**2).sum(axis=1)
    inward /= np.linalg.norm(inward, axis=1, keepdims=True)
    apart = points - line[foot]
    sideways = np.cross(tangent, inward)
    angle = np.arctan2((apart * sideways).sum(axis=1), (apart * inward).sum(axis=1))
    return s[foot], curvature, np.linalg.norm(apart, axis=1), angle


@pytest.mark.parametrize("labelling", ["membrane", "volume"])
def test_around_a_bend_there_is_more_outside_than_inside_as_geometry_says(labelling: str) -> None:
    """The chance of an angle goes with 1 - kappa r cos(angle): chi-squared over patches of length and angle."""
    tube = Tube(TIGHT, 0.38, caps=False)
    density = 60_000 / 1e3 / (tube.area_um2 if labelling == "membrane" else tube.volume_um3)
    s, kappa, away, angle = around(tube, tube.emitters(np.random.default_rng(8), density, labelling))
    assert kappa.max() * tube.radius_um > 0.6, "too straight to tell"
    # Half the tube turned to the centre of the bend: 1/2 - kappa r / pi of the membrane, 1/2 - 2 kappa r / (3 pi) of the inside.
    share = 0.5 - kappa * tube.radius_um / np.pi * (1 if labelling == "membrane" else 2 / 3)
    inside = np.abs(angle) < np.pi / 2
    assert abs(inside.mean() - share.mean()) <= 4 * 0.5 / len(s) ** 0.5
    assert inside.mean() < 0.47
    lengthwise, turns = 10, 12
    cell = np.minimum((s / s.max() * lengthwise).astype(int), lengthwise - 1)
    turn = np.minimum(((angle + np.pi) / (2 * np.pi) * turns).astype(int), turns - 1)
    found = np.bincount(cell * turns + turn, minlength=lengthwise * turns)
    edges = -np.pi + 2 * np.pi * np.arange(turns + 1) / turns
    u, length, _ = arc(tube.curve, 20_000)
    sharp = np.linalg.norm(bend(tube.curve, u)[1], axis=1) * tube.radius_um * (1 if labelling == "membrane" else 2 / 3)
    each = np.minimum((length / length[-1] * lengthwise).astype(int), lengthwise - 1)
    steps = np.gradient(length)
    expected = [
        np.sum(steps[each == n] * ((b - a) - sharp[each == n] * (np.sin(b) - np.sin(a))))
        for n in range(lengthwise)
        for a, b in pairwise(edges)
    ]
    assert even(found, np.array(expected))
    if labelling == "volume":  # even over the cross-section: as many in every ring of equal area
        assert even(np.bincount((away**2 / tube.radius_um**2 * 8).astype(int).clip(0, 7)), np.ones(8))


@pytest.mark.parametrize("labelling", ["membrane", "volume"])
def test_caps_hold_their_part_evenly(labelling: str) -> None:
    tube = Tube(bezier(np.array([[1.0, 1, 1], [1.0, 1, 2]])), 0.3, caps=True)
    of, r = (tube.area_um2, 0.3) if labelling == "membrane" else (tube.volume_um3, 0.3)
    points = tube.emitters(np.random.default_rng(4), 60_000 / of / 1e3, labelling)
    ahead = points[:, 2]
    left, right = ahead < 1, ahead > 2
    cap = 2 * np.pi * r**2 if labelling == "membrane" else 2 / 3 * np.pi * r**3
    wall = 2 * np.pi * r if labelling == "membrane" else np.pi * r**2
    assert even(np.array([left.sum(), right.sum(), (~left & ~right).sum()]), np.array([cap, cap, wall]))
    for high in ((1 - ahead[left]) / r, (ahead[right] - 2) / r):
        t = np.linspace(0, 1, 9)
        # A sphere's zones of equal height have equal areas (Archimedes); slices of a ball hold h - h^3 / 3.
        expected = np.ones(8) if labelling == "membrane" else np.diff(t - t**3 / 3)
        assert even(np.histogram(high, t)[0], expected)
    turn = np.arctan2(points[:, 1] - 1, points[:, 0] - 1)
    for where in (left, right, ~left & ~right):
        assert even(np.histogram(turn[where], np.linspace(-np.pi, np.pi, 13))[0], np.ones(12))


@pytest.mark.parametrize("name", ["ball", "ellipsoid"])
@pytest.mark.parametrize("labelling", ["membrane", "volume"])
def test_balls_and_ellipsoids_are_covered_evenly(name: str, labelling: str) -> None:
    shape: Any = SHAPES[name]
    semi = np.array([shape.radius_um] * 3 if name == "ball" else shape.semi_um)
    of = shape.area_um2 if labelling == "membrane" else shape.volume_um3
    points = shape.emitters(np.random.default_rng(3), 80_000 / of / 1e3, labelling)
    on_ball = (points - shape.centre_um) / semi
    away = np.linalg.norm(on_ball, axis=1)
    height, angle = on_ball[:, 0] / away, np.arctan2(on_ball[:, 2], on_ball[:, 1]) % (2 * np.pi)
    found = np.histogram2d(height, angle, [np.linspace(-1, 1, 9), np.linspace(0, 2 * np.pi, 13)])[0]
    fine = (
        stretched(semi, 800, 1200).reshape(8, 100, 12, 100).sum(axis=(1, 3))
        if labelling == "membrane"
        else np.ones((8, 12))
    )
    assert even(found.ravel(), fine.ravel())
    if labelling == "volume":
        assert even(np.histogram(away**3, np.linspace(0, 1, 11))[0], np.ones(10))


# ----------------------------------------------------------------------------------------------------------- curves


@pytest.mark.parametrize("curve", [BENT, WAVY])
def test_arc_length_is_the_integral_of_speed(curve: BSpline) -> None:
    u, s = lengths(curve, 64)
    breaks = np.unique(curve.t)
    expected = sum(
        quad(lambda v: float(np.linalg.norm(curve(v, nu=1))), a, b, epsabs=1e-12)[0] for a, b in pairwise(breaks)
    )
    assert s[0] == 0 and (np.diff(s) > 0).all()
    assert s[-1] == pytest.approx(expected, abs=1e-8)
    assert np.isin(breaks, u).all()


def test_curvature_of_a_parabola_is_that_of_the_textbook() -> None:
    curve = bezier(np.array([[0.0, -1, 2], [0, 0, -2], [0, 1, 2]]))  # x = 2 t^2 of y = t
    u = np.linspace(0, 1, 101)
    tangent, inward = bend(curve, u)
    t = 2 * u - 1
    np.testing.assert_allclose(np.linalg.norm(inward, axis=1), 4 / (1 + 16 * t**2) ** 1.5, rtol=1e-9)
    np.testing.assert_allclose((tangent * inward).sum(axis=1), 0, atol=1e-9)
    assert sharpest(curve, u) == pytest.approx(4.0)


def test_a_curve_through_points_meets_them_and_a_guided_one_stays_among_them() -> None:
    points = np.array([[0.0, 0], [1, 2], [2, -1], [3.5, 0.5]])
    line = through(points)
    along = line(np.linspace(0, 1, 100_001))
    assert cKDTree(along).query(points)[0].max() < 1e-3
    solid = np.column_stack([points, points[:, 0] * 0.3])
    near = guided(solid)
    np.testing.assert_allclose(near(np.array([0.0, 1.0])), solid[[0, -1]], atol=1e-12)
    path = near(np.linspace(0, 1, 1001))
    assert (path >= solid.min(axis=0) - 1e-12).all() and (path <= solid.max(axis=0) + 1e-12).all()


def test_a_rising_curve_keeps_its_plane_and_rises_evenly() -> None:
    flat = through(np.array([[0.0, 0], [1, 2], [2, -1], [3.5, 0.5]]))
    u = np.linspace(0, 1, 101)
    solid = rising(flat, 0.6, 0.9)(u)
    np.testing.assert_allclose(solid[:, 1:], flat(u), atol=1e-12)
    np.testing.assert_allclose(solid[:, 0], 0.6 + 0.3 * u, atol=1e-12)


# ------------------------------------------------------------------------------------------------------------ kernels


@pytest.mark.kernel
@pytest.mark.parametrize("degree", [1, 2, 3])
def test_places_beside_a_curve_are_those_of_the_spline_itself(degree: int) -> None:
    tube = Tube(through(np.random.default_rng(degree).uniform(-1, 1, (degree + 3, 3)), degree), 0.1)
    draw, away = np.random.default_rng(0).random((200, 4)), np.full(200, 0.1)
    u, s, _ = tube.line
    at = np.interp(draw[:, 1] * s[-1], s, u)
    found = beside(draw, away, *tube._steps)
    axis, tangent = tube.curve(at), bend(tube.curve, at)[0]
    np.testing.assert_allclose(np.linalg.norm(found - axis, axis=1), 0.1, rtol=1e-9)
    np.testing.assert_allclose(((found - axis) * tangent).sum(axis=1), 0, atol=1e-9)
