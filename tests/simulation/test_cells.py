"""Cells: every object in its cell and out of the nucleus, apart from others unless it shall meet them; and which voxels it owns."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cristae.errors import InvalidConfiguration
from cristae.grid import Box
from cristae.simulation.cells import Scene, Thing, cell, centroid, things
from cristae.simulation.exposure import cell_image, emitters_of
from cristae.simulation.placing import GAP_UM
from cristae.simulation.shapes import Ball, Tube, directions
from cristae.simulation.solid import painted, runs

VOXEL_UM = (0.2, 0.1, 0.1)
USUAL = [
    Scene("cell-epi", (64, 256, 256), 1),
    Scene("cell-epi", (64, 240, 480), 5),
    Scene("cell-confocal", (44, 250, 250), 2, (0.25, 0.108, 0.108)),
]
THIN = [Scene("cell-epi", (z, 240, 500), seed) for z, seed in ((13, 1), (14, 2), (20, 1), (24, 3))]
MEETING = [Scene("cell-epi", (z, 240, 480), 1, VOXEL_UM, 0.5, 0.5) for z in (14, 24, 64)]
KINDS = ["mito", "lysosome"]


def skin(thing: Thing, every: int = 2) -> np.ndarray:
    """Points on the membrane of a tube or ball, and some within it."""
    shape: Any = thing.shape
    middle = shape.line[2][::every] if isinstance(shape, Tube) else np.array([shape.centre_um])
    way = directions(np.random.default_rng(0).random((200, 2)))
    return (middle[:, None] + shape.radius_um * way).reshape(-1, 3)


def level(points: np.ndarray, body: Any) -> np.ndarray:
    """1 on an ellipsoid, less inside."""
    return np.linalg.norm((points - body.centre_um) / body.semi_um, axis=1)


def cells_of(scene: Scene, kind: str) -> list[Any]:
    """Every cell, and its objects of a kind."""
    return [(cell(scene, tile), things(scene, tile, kind)) for tile in product(*map(range, scene.lattice))]


@pytest.mark.parametrize("scene", USUAL + THIN + MEETING, ids=lambda s: f"{s.name} {s.shape} {s.seed} {s.contacts}")
@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_in_their_cell_and_out_of_its_nucleus(scene: Scene, kind: str) -> None:
    seen, outside, within = 0, 0.0, 0.0
    for of, inside in cells_of(scene, kind):
        for thing in inside:
            points = skin(thing)
            seen += 1
            outside = max(outside, float(of.body.signed_distance(points).max()))
            within = max(within, float(-of.nucleus.signed_distance(points).min()))
            assert ((points > -1e-9) & (points < np.array(scene.shape) * scene.voxel_um + 1e-9)).all()
    assert seen > 5
    assert outside <= 1e-6, f"{1000 * outside:.0f} nm out of the cell"
    assert within <= 1e-6, f"{1000 * within:.0f} nm in the nucleus"


@pytest.mark.parametrize("shape", [(64, 256, 256), (13, 240, 500), (1, 1, 1), (64, 700, 300), (200, 100, 100)])
def test_cells_and_nuclei_are_in_the_volume_and_apart(shape: tuple[int, int, int]) -> None:
    scene = Scene("cell-epi", shape, 3)
    cells = [of for of, _ in cells_of(scene, "nucleus")]
    assert [c.number for c in cells] == list(range(len(cells)))
    for of in cells:
        low, high = of.body.box_um
        assert (low >= 0).all() and (high <= np.array(shape) * VOXEL_UM).all()
        way = directions(np.random.default_rng(1).random((2000, 2)))
        assert (level(np.array(of.nucleus.centre_um) + way * of.nucleus.semi_um, of.body) < 1).all()
    for one, other in combinations(cells, 2):
        (low, high), (below, above) = one.body.box_um, other.body.box_um
        assert (np.minimum(high, above) <= np.maximum(low, below)).any()


@pytest.mark.parametrize("kind", ["mito", "lysosome", "nucleus"])
def test_emitters_are_in_the_volume_and_on_their_object(kind: str) -> None:
    scene = USUAL[0]
    for thing in list(scene.every(kind))[:12]:
        points = emitters_of(scene, kind, thing)
        assert len(points) and (points >= 0).all() and (points < np.array(scene.shape) * scene.voxel_um).all()
        away = thing.shape.signed_distance(points[:2000])
        assert away.max() <= 1e-9
        if kind != "nucleus" and not isinstance(thing.shape, Tube):
            assert away.min() >= -1e-9


def gaps(scene: Scene, kind: str) -> np.ndarray:
    """Between the membranes of every two objects of a cell."""
    found = []
    for _, inside in cells_of(scene, kind):
        lines = []
        for thing in inside:
            shape: Any = thing.shape
            lines.append((shape.line[2] if isinstance(shape, Tube) else np.array([shape.centre_um]), shape.radius_um))
        trees = [cKDTree(line) for line, _ in lines]
        for a, b in combinations(range(len(lines)), 2):
            found.append(trees[a].query(lines[b][0])[0].min() - lines[a][1] - lines[b][1])
    return np.array(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scene", [*USUAL, Scene("cell-epi", (24, 240, 500), 3), Scene("cell-epi", (16, 240, 500), 1)])
def test_objects_that_do_not_touch_are_apart_by_the_gap(scene: Scene, kind: str) -> None:
    assert gaps(scene, kind).min() >= GAP_UM - 0.001


@pytest.mark.slow
def test_of_a_thousand_tubes_no_two_overlap() -> None:
    assert gaps(Scene("cell-epi", (96, 1500, 1500), 1), "mito").min() > 0


# ---------------------------------------------------------------------------------------------------------- identity


def test_ids_are_stable_and_tell_their_cell() -> None:
    scene = Scene("cell-epi", (64, 700, 700), 1)
    every = list(scene.every("mito"))
    ids = [t.id for t in every]
    assert ids == sorted(set(ids))
    assert all(t.id // 1024 == t.cell and t.id % 1024 >= 1 for t in every)
    for low, high in (((0, 0, 0), (5, 30, 40)), ((3, 20, 11), (9, 28, 60))):
        found = [t.id for t in scene.meeting("mito", np.array(low, float), np.array(high, float))]
        expected = [t.id for t in every if (t.low <= high).all() and (t.high >= low).all()]
        assert found == expected and found


def test_a_cell_is_the_same_alone_and_after_others() -> None:
    scene = Scene("cell-epi", (64, 500, 500), 6)
    tiles = list(product(*map(range, scene.lattice)))
    forward = {tile: [t.low.tolist() for t in things(scene, tile, "mito")] for tile in tiles}
    things.cache_clear()
    assert {tile: [t.low.tolist() for t in things(scene, tile, "mito")] for tile in reversed(tiles)} == forward
    things.cache_clear()
    assert [t.low.tolist() for t in things(Scene("cell-epi", (64, 500, 500), 7), tiles[0], "mito")] != forward[tiles[0]]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("cell-epi", (20, 30)), "--shape"), (("cell-epi", (0, 30, 30)), "shape"), (("cell-epi", (9, 9, 9), -1), "-1"),
        (("cell-epi", (9, 9, 9), 1, VOXEL_UM, 2.0), "contacts"), (("cell-epi", (9, 9, 9), 1, VOXEL_UM, -0.1), "contacts"),
        (("cell-epi", (9, 9, 9), 1, VOXEL_UM, 0.0, 1.5), "crossings"), (("cell-epi", (9, 9, 9), 1, VOXEL_UM, 0.0, -0.5), "crossings"),
        (("cell-epi", (9, 9, 9), 1, VOXEL_UM, float("nan")), "contacts"), (("cell-epi", (9, 9, 9), 1, VOXEL_UM, 0.6, 0.5), "sum"),
        (("cell-epi", (9, 9, 9), 1, (0.0, 0.1, 0.1)), "voxel_um"),
        (("cells",), "cell-epi"), (("sam-mito",), "simulate tiles"),
    ],
)  # fmt: skip
def test_scenes_that_cannot_be_are_refused_by_name(words: Any, named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        Scene(*words, **({"shape": (9, 9, 9)} if len(words) == 1 else {}))


def test_an_organelle_that_is_none_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="golgi"):
        cell_image(USUAL[0], "golgi")


# ------------------------------------------------------------------------------------------------------------ voxels


def owned(rows: Any, scene: Scene) -> np.ndarray:
    """(n, 2) label and raster number of every voxel of rows."""
    length = rows["length"].astype(np.int64)
    label = np.repeat(rows["label"].astype(np.int64), length)
    first = (
        np.ravel_multi_index((rows["z"], rows["y"], rows["x0"]), scene.shape) if len(length) else np.empty(0, np.int64)
    )
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    return np.column_stack([label, np.repeat(first, length) + step])


FINE = Scene("cell-epi", (96, 170, 180), 4, (0.05, 0.05, 0.05))
CROSSED = Scene("cell-epi", (36, 150, 150), 11, VOXEL_UM, 0.2, 0.8)


def test_voxels_are_those_whose_centre_is_inside() -> None:
    for kind in ("mito", "lysosome", "nucleus"):
        for thing in list(FINE.every(kind))[:6]:
            start = tuple(np.maximum(np.floor(thing.low / 0.05).astype(int) - 2, 0).tolist())
            stop = tuple(np.minimum(np.ceil(thing.high / 0.05).astype(int) + 2, FINE.shape).tolist())
            box = Box(start, stop)
            mask = painted(FINE, [thing], box) == thing.id
            centres = (
                np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij"), -1)
                + 0.5
            ) * 0.05
            away = thing.shape.signed_distance(centres.reshape(-1, 3)).reshape(mask.shape)
            wrong = mask != (away <= 0)
            assert mask.any() and (np.abs(away[wrong]) < 2e-4).all()


@pytest.mark.parametrize("kind", ["mito", "lysosome", "nucleus"])
def test_volume_and_centre_of_mass_are_those_of_the_voxels(kind: str) -> None:
    exact, counted = 0.0, 0.0
    for thing in FINE.every(kind):
        rows = runs(FINE, [thing], Box.whole(FINE.shape))
        at = np.stack(np.unravel_index(owned(rows, FINE)[:, 1], FINE.shape), 1)
        volume, area = len(at) * 0.05**3, thing.shape.area_um2
        # A boundary at random against the grid: each of its area / h^2 voxels is wrong by about a third, with either sign.
        assert abs(volume - thing.shape.volume_um3) <= 4 * 0.35 * 0.05**3 * (area / 0.05**2) ** 0.5
        np.testing.assert_allclose((at.mean(axis=0) + 0.5) * 0.05, centroid(thing.shape), atol=0.012)
        exact, counted = exact + thing.shape.volume_um3, counted + volume
    assert exact > 0 and counted == pytest.approx(exact, rel=0.005)


@pytest.mark.parametrize("scene", [CROSSED, FINE], ids=["crossed", "fine"])
@pytest.mark.parametrize("kind", ["mito", "lysosome", "nucleus"])
def test_runs_are_the_voxels_of_every_object_alone(scene: Scene, kind: str) -> None:
    box = Box.whole(scene.shape)
    rows = runs(scene, scene.every(kind), box)
    order = np.lexsort([rows[name] for name in ("x0", "y", "z", "label")])
    assert (order == np.arange(len(order))).all() and (rows["length"] > 0).all()
    voxels = owned(rows, scene)
    flat = np.zeros(scene.shape, np.int64).ravel()
    for thing in scene.every(kind):
        alone = np.flatnonzero(painted(scene, [thing], box))
        np.testing.assert_array_equal(np.sort(voxels[voxels[:, 0] == thing.id, 1]), alone)
        flat[alone] = np.where(flat[alone] == 0, thing.id, np.minimum(flat[alone], thing.id))
    assert len(voxels) == len(np.unique(voxels, axis=0))
    # Where objects overlap, the smallest id; together they are the foreground; the order in which they come is nothing.
    np.testing.assert_array_equal(painted(scene, scene.every(kind), box).ravel(), flat)
    np.testing.assert_array_equal(painted(scene, list(scene.every(kind))[::-1], box).ravel(), flat)
    assert set(np.unique(voxels[:, 1])) == set(np.flatnonzero(flat))


def test_a_ball_at_a_known_place_owns_the_voxels_of_a_ball() -> None:
    scene = Scene("cell-epi", (20, 20, 20), 1, (0.1, 0.1, 0.1))
    ball = Ball((1.0, 1.05, 0.95), 0.42)
    thing = Thing(7, 0, ball, *ball.box_um)
    z, y, x = (np.mgrid[:20, :20, :20] + 0.5) * 0.1
    expected = (z - 1.0) ** 2 + (y - 1.05) ** 2 + (x - 0.95) ** 2 <= 0.42**2
    np.testing.assert_array_equal(painted(scene, [thing], Box.whole(scene.shape)), np.where(expected, 7, 0))
