"""Meetings: as many objects touch and cross as are asked for, measured from their shapes; all others stay where they were."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cristae.grid import Box
from cristae.simulation.cells import Scene, Thing, cell, things
from cristae.simulation.curves import through
from cristae.simulation.exposure import emitters_of
from cristae.simulation.meetings import TOUCH_UM, meetings, met
from cristae.simulation.networks import Network
from cristae.simulation.shapes import Ball, Ellipsoid, Tube
from cristae.simulation.solid import runs

VOXEL_UM = (0.2, 0.1, 0.1)
LARGE = (64, 700, 700)


def tubes_of(thing: Thing) -> tuple[Tube, ...]:
    shape = thing.shape
    return shape.tubes if isinstance(shape, Network) else (shape,) if isinstance(shape, Tube) else ()


def centre_line(thing: Thing) -> np.ndarray:
    """Points of the curves themselves, about 10 nm apart, or the centre of a ball."""
    lines = [tube.curve(np.linspace(0, 1, 800)) for tube in tubes_of(thing)]
    return np.concatenate(lines) if lines else np.array([thing.shape.centre_um])  # type: ignore[attr-defined]


def gaps(inside: tuple[Thing, ...]) -> dict[tuple[int, int], float]:
    """Between the surfaces of every two objects that are nearer than 0.1 um, by their centre lines."""
    trees = {thing.id: cKDTree(centre_line(thing)) for thing in inside}
    found = {}
    for one, other in combinations(inside, 2):
        if (one.low > other.high + 0.1).any() or (other.low > one.high + 0.1).any():
            continue
        radii = one.shape.radius_um + other.shape.radius_um  # type: ignore[attr-defined]
        apart = trees[one.id].query(trees[other.id].data, distance_upper_bound=radii + 0.1)[0].min()
        if np.isfinite(apart):
            found[one.id, other.id] = float(apart) - radii
    return found


def cells_of(scene: Scene, kind: str) -> list[tuple[Any, tuple[Thing, ...]]]:
    return [(cell(scene, tile), things(scene, tile, kind)) for tile in product(*map(range, scene.lattice))]


# ---------------------------------------------------------------------------------------------- as many as asked for


@pytest.mark.parametrize(("contacts", "crossings"), [(0.3, 0.1), (0.0, 0.25), (0.5, 0.5)])
@pytest.mark.parametrize(("preset", "kind"), [("cell-epi", "mito"), ("cell-epi", "lysosome"), ("cell-rich", "mito")])
def test_as_many_touch_and_cross_as_are_asked_for(preset: str, kind: str, contacts: float, crossings: float) -> None:
    scene = Scene(preset, LARGE, 4, VOXEL_UM, contacts, crossings)
    objects, touching, crossing = 0, set(), set()
    for _, inside in cells_of(scene, kind):
        objects += len(inside)
        for pair, gap in gaps(inside).items():
            assert gap < 0 or gap > 0.001, "touching objects overlap, or nearly"
            touching |= set(pair) if 0 <= gap <= TOUCH_UM else set()
            crossing |= set(pair) if gap < 0 else set()
    assert objects >= (200 if preset == "cell-epi" else 120)
    assert len(touching) / objects == pytest.approx(contacts, abs=0.05)
    assert len(crossing) / objects == pytest.approx(crossings, abs=0.05)
    assert not touching & crossing


@pytest.mark.parametrize("kind", ["mito", "lysosome", "droplet"])
@pytest.mark.parametrize("parts", [(0.0, 0.0), (0.4, 0.3)])
def test_the_counts_are_those_of_the_centre_lines(kind: str, parts: tuple[float, float]) -> None:
    seen = np.zeros(2, int)
    for _, inside in cells_of(Scene("cell-rich", (64, 480, 480), 2, VOXEL_UM, *parts), kind):
        found = gaps(inside)
        near = [[p for p, gap in found.items() if 0 <= gap <= TOUCH_UM], [p for p, gap in found.items() if gap < 0]]
        expected = [[sum(thing.id in pair for pair in pairs) for thing in inside] for pairs in near]
        np.testing.assert_array_equal(meetings([thing.shape for thing in inside]), expected)
        seen += [len(pairs) for pairs in near]
    assert (seen > 10).all() if parts[0] else (seen == 0).all()


def test_those_that_cross_share_voxels_and_those_that_touch_do_not() -> None:
    """On voxels of 40 nm: an overlap holds many of them, a gap none."""
    seen = 0
    for kind in ("mito", "lysosome"):
        scene = Scene("cell-epi", (140, 320, 480), 3, (0.04, 0.04, 0.04), 0.5, 0.5)
        rows = runs(scene, scene.every(kind), Box.whole(scene.shape))
        owners: dict[int, set[int]] = {}
        for label, z, y, x, length in zip(
            *(rows[k].tolist() for k in ("label", "z", "y", "x0", "length")), strict=True
        ):
            first = (z * scene.shape[1] + y) * scene.shape[2] + x
            for voxel in range(first, first + length):
                owners.setdefault(voxel, set()).add(label)
        shared = {pair for ids in owners.values() if len(ids) > 1 for pair in combinations(sorted(ids), 2)}
        everyone = list(scene.every(kind))
        crosses = meetings([thing.shape for thing in everyone])[1]
        assert {n for pair in shared for n in pair} == {t.id for t, n in zip(everyone, crosses, strict=True) if n}
        seen += len(shared)
    assert seen >= 6


# ---------------------------------------------------------------------------------------------------- what they are


STRAIGHT = through(np.array([[5.0, 5.0, 2.0], [5.0, 5.0, 5.0], [5.0, 5.0, 8.0]]))


@pytest.mark.parametrize(
    ("gap", "expected"),
    [(0.06, (0, 0)), (0.0505, (0, 0)), (0.0495, (1, 0)), (0.001, (1, 0)), (-0.001, (0, 1)), (-0.3, (0, 1)), (-0.7, (0, 1))],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["ball beside ball", "tube beside tube", "ball at the end of a tube", "two networks"])
def test_touching_is_within_fifty_nanometres_and_crossing_is_overlap(
    kind: str, gap: float, expected: tuple[int, int]
) -> None:
    apart = 0.2 + 0.5 + gap  # a gap of -0.7 puts the axes onto each other: one lies in the other
    tube, below = Tube(STRAIGHT, 0.2), np.array([0.3, 0.0, 0.0])
    far = Tube(STRAIGHT, 0.5).moved(np.array([apart, 0.1, 0.7]))
    pair: dict[str, list[Any]] = {
        "ball beside ball": [Ball((5.0, 5.0, 5.0), 0.2), Ball((5.0, 5.0 - apart, 5.0), 0.5)],
        "tube beside tube": [tube, Tube(STRAIGHT, 0.5).moved(np.array([apart, 0.0, 1.234]))],
        "ball at the end of a tube": [tube, Ball((5.0, 5.0, 8.0 + apart), 0.5)],
        "two networks": [
            Network((tube, tube.moved(np.array([0.0, 0.1, 0.0]))), 1),
            Network((far, far.moved(below)), 1),
        ],
    }
    for shapes in (pair[kind], pair[kind][::-1]):
        found = meetings(shapes)
        assert found.T.tolist() == [list(expected), list(expected)]


def test_an_object_counts_each_of_the_others_once() -> None:
    balls = [Ball((5.0, 5.0, 5.0 + 0.61 * n), 0.3) for n in range(3)] + [
        Ball((5.2, 5.2, 5.0), 0.3),
        Ball((1, 1, 1), 0.3),
    ]
    assert meetings(balls).tolist() == [[1, 2, 1, 0, 0], [1, 0, 0, 1, 0]]


@pytest.mark.parametrize("shapes", [[], [Ball((5.0, 5.0, 5.0), 0.3)], [Ellipsoid((5.0, 5.0, 5.0), (1.0, 2.0, 2.0))]])
def test_who_is_alone_meets_nobody(shapes: list[Any]) -> None:
    assert meetings(shapes).tolist() == [[0] * len(shapes)] * 2


# --------------------------------------------------------------------------------------------- where the others stay


KNOWN = {
    "cell-epi": {"mito": (64, 5358.214891221655), "lysosome": (85, 6757.129924861526)},
    "cell-rich": {
        "mito": (41, 3034.0753107826636), "lysosome": (102, 7475.635482083564), "droplet": (81, 6575.460721161833),
    },
}  # fmt: skip
"""How many objects there are, and the sum of the corners of their boxes: a change of these is a change of all scenes."""


@pytest.mark.parametrize("preset", KNOWN)
def test_a_seed_gives_the_scenes_that_it_always_gave(preset: str) -> None:
    for kind, (objects, corners) in KNOWN[preset].items():
        every = list(Scene(preset, (40, 240, 480), 2).every(kind))
        assert len(every) == objects
        assert sum((t.low + t.high).sum() for t in every) == pytest.approx(corners, rel=1e-9)


def bits(thing: Thing) -> list[bytes]:
    tubes = [(t.curve.c.tobytes(), t.curve.t.tobytes(), np.float64(t.radius_um).tobytes()) for t in tubes_of(thing)]
    shape: Any = thing.shape
    return [b for tube in tubes for b in tube] or [np.array([*shape.centre_um, shape.radius_um]).tobytes()]


@pytest.mark.parametrize(("preset", "kind"), [("cell-epi", "mito"), ("cell-epi", "lysosome"), ("cell-rich", "mito")])
def test_only_those_that_meet_are_moved_and_keep_their_shape_and_emitters(preset: str, kind: str) -> None:
    apart, scene = (Scene(preset, (64, 480, 480), 5, VOXEL_UM, *parts) for parts in ((0.0, 0.0), (0.3, 0.2)))
    moved = stayed = 0
    for (_, before), (_, after) in zip(cells_of(apart, kind), cells_of(scene, kind), strict=True):
        assert [t.id for t in before] == [t.id for t in after]
        counts = meetings([thing.shape for thing in after]).sum(axis=0)
        for one, other, count in zip(before, after, counts, strict=True):
            if bits(one) == bits(other):
                stayed += 1
                continue
            moved += 1
            assert count > 0, "an object was moved and meets nobody"
            by = centre_line(other)[0] - centre_line(one)[0]
            np.testing.assert_allclose(centre_line(one) + by, centre_line(other), atol=1e-9)
            np.testing.assert_allclose(emitters_of(scene, kind, other), emitters_of(apart, kind, one) + by, atol=1e-6)
            np.testing.assert_allclose([other.low, other.high], [one.low + by, one.high + by], atol=1e-9)
    assert moved > 0.15 * (moved + stayed) and stayed > 0.5 * (moved + stayed)


@pytest.mark.parametrize("kind", ["mito", "lysosome", "droplet"])
@pytest.mark.parametrize("shape", [(64, 480, 480), (24, 240, 500), (18, 480, 480)])
def test_those_that_meet_are_in_their_cell_and_out_of_its_nucleus(kind: str, shape: tuple[int, int, int]) -> None:
    seen = 0
    for of, inside in cells_of(Scene("cell-rich", shape, 1, VOXEL_UM, 0.5, 0.5), kind):
        for thing in inside:
            seen += 1
            line, radius = centre_line(thing)[::5], thing.shape.radius_um  # type: ignore[attr-defined]
            assert of.body.signed_distance(line).max() <= -radius + 1e-6
            assert of.nucleus.signed_distance(line).min() >= radius - 1e-6
    assert seen > 5


@pytest.mark.parametrize("parts", [(1.0, 0.0), (0.0, 1.0)])
def test_where_there_is_no_room_objects_stay_where_they_were(parts: tuple[float, float]) -> None:
    body, nucleus = Ellipsoid((5.0, 5.0, 5.0), (5.0, 5.0, 5.0)), Ellipsoid((5.0, 5.0, 5.0), (4.5, 4.5, 4.5))
    balls = [Ball((5.0, 5.0, 0.25), 0.2), Ball((5.0, 5.0, 9.75), 0.2), Ball((5.0, 0.25, 5.0), 0.2)]
    found = met(balls, *parts, body, nucleus, np.random.default_rng(0))
    assert meetings(found).sum(axis=0).min() == 1, "there is room for these"
    narrow = Ellipsoid((5.0, 5.0, 5.0), (4.62, 4.62, 4.62))
    found = met(balls, *parts, body, narrow, np.random.default_rng(0))
    assert found == balls and meetings(found).sum() == 0


def test_a_cell_with_meetings_is_the_same_alone_and_after_others() -> None:
    scene = Scene("cell-epi", (64, 500, 500), 6, VOXEL_UM, 0.4, 0.3)
    tiles = list(product(*map(range, scene.lattice)))
    forward = {tile: [bits(t) for t in things(scene, tile, "mito")] for tile in tiles}
    things.cache_clear()
    assert {tile: [bits(t) for t in things(scene, tile, "mito")] for tile in reversed(tiles)} == forward


@pytest.mark.parametrize("many", [2, 3, 5])
def test_few_objects_meet_as_often_as_asked_on_average(many: int) -> None:
    """One of a pair cannot meet alone, so that in a cell of few the numbers are right over many cells only."""
    body, nucleus = Ellipsoid((9.0, 9.0, 9.0), (9.0, 9.0, 9.0)), Ellipsoid((9.0, 9.0, 9.0), (1.0, 1.0, 1.0))
    balls = [Ball((9.0, 9.0, 2.0 + 1.2 * n), 0.3) for n in range(many)]
    rng = np.random.default_rng(many)
    met_by = np.array([(meetings(met(balls, 0.3, 0.0, body, nucleus, rng))[0] > 0).sum() for _ in range(600)])
    assert 1 not in met_by
    assert met_by.mean() / many == pytest.approx(0.3, abs=0.06)
