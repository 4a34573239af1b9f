"""`cristae simulate`: a store that opens, tables that agree with it, and one sentence for everything that cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from typer.testing import CliRunner, Result

from cristae.blocks.stage import At
from cristae.errors import CristaeError
from cristae.grid import Box
from cristae.pipeline.execute import execute
from cristae.pipeline.job import Settings
from cristae.pipeline.simulating import FlatWarning, cell_job
from cristae.simulation.cells import Scene, room_um
from cristae.simulation.exposure import PATCH, cell_image
from cristae.simulation.presets import presets
from cristae.simulation.solid import runs
from cristae.simulation.tiles import Tiles, exposed, labelled
from cristae.store.volume import open_volume
from cristae_cli.main import app

SCENE = Scene("cell-epi", (18, 60, PATCH[2] + 12), 3, (0.25, 0.1, 0.1), 0.5, 0.5)
KINDS = ("mito", "lysosome", "nucleus")


def cristae(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def voxels(path: Path, t: int = 0, c: int = 0) -> np.ndarray:
    volume = open_volume(path)
    return np.asarray(volume.read(Box.whole(volume.spatial_shape), t, c))


def table(store: Path, kind: str, name: str = "table") -> pl.DataFrame:
    return pl.read_parquet(store / "tables" / kind / f"{name}.parquet")


def made(out: Path, cluster: str = "none", block: tuple[int, ...] | None = None, scene: Scene = SCENE) -> Path:
    execute(cell_job(scene, str(out)), Settings(cluster, block=block), lambda event: None)
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("whole") / "cell.ome.zarr", block=SCENE.shape)


def owned(rows: pl.DataFrame) -> np.ndarray:
    """(n, 4) label, z, y, x of every voxel of rows, sorted."""
    found = [
        (label, z, y, x + n)
        for label, z, y, x, length in rows.select("label", "z", "y", "x0", "length").iter_rows()
        for n in range(length)
    ]
    return np.array(sorted(found)).reshape(-1, 4)


# ------------------------------------------------------------------------------------------------------------- cells


def test_a_simulated_cell_opens_with_its_channels_and_labels(whole: Path) -> None:
    image = open_volume(whole)
    assert image.spatial_shape == SCENE.shape and image.voxel_um == pytest.approx(SCENE.voxel_um)
    assert [c.name for c in image.channels] == list(KINDS)
    assert sorted(p.name for p in (whole / "labels").iterdir() if p.is_dir()) == sorted(KINDS)
    listed = json.loads((whole / "labels" / "zarr.json").read_text())["attributes"]["ome"]["labels"]
    assert sorted(listed) == sorted(KINDS)
    for c, kind in enumerate(KINDS):
        light, labels = voxels(whole, c=c), voxels(whole / "labels" / kind)
        assert light.shape == labels.shape == SCENE.shape
        assert light[labels > 0].mean() > light[labels == 0].mean() + 20


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_agrees_with_the_labels_and_the_runs(whole: Path, kind: str) -> None:
    rows, labels = table(whole, kind), voxels(whole / "labels" / kind)
    own = owned(table(whole, kind, "runs"))
    assert rows["label"].to_list() == [thing.id for thing in SCENE.every(kind)]
    np.testing.assert_array_equal(np.unique(own[:, 0]), np.sort(rows.filter(pl.col("voxels") > 0)["label"].to_numpy()))
    ids, counts = np.unique(own[:, 0], return_counts=True)
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == dict(rows.select("label", "voxels").iter_rows())
    flat = np.zeros(SCENE.shape, np.int64)
    for label, z, y, x in own[::-1]:
        flat[z, y, x] = label
    np.testing.assert_array_equal(labels, flat)
    assert set(np.unique(labels)) - {0} <= set(rows["label"].to_list())
    size = float(np.prod(SCENE.voxel_um))
    assert rows["voxels"].sum() * size == pytest.approx(rows["volume_um3"].sum(), rel=0.03)
    apart = []
    for label, count, *centre in rows.select(
        "label", "voxels", "centroid_z_um", "centroid_y_um", "centroid_x_um"
    ).iter_rows():
        at = own[own[:, 0] == label, 1:]
        assert len(at) == count
        apart.append(at.mean(axis=0) - np.array(centre) / SCENE.voxel_um)
    # Half a voxel would be another convention; one thin object may be wrong by more than all of them are on average.
    error = 3 * np.std(apart, axis=0) / len(apart) ** 0.5
    assert np.abs(apart).max() < 0.75 and (np.abs(np.mean(apart, axis=0)) < np.clip(error, 0.1, 0.4)).all()
    described = json.loads((whole / "tables" / kind / "table.json").read_text())["columns"]
    assert set(described) == set(table(whole, kind).columns)
    assert set(rows.columns) <= set(described)


def test_the_table_says_who_touches_and_who_crosses(whole: Path) -> None:
    met = 0
    for kind in KINDS:
        rows, own = table(whole, kind), owned(table(whole, kind, "runs"))
        assert rows["crosses"].dtype == rows["touches"].dtype == pl.Int32
        _, owners = np.unique(own[:, 1:], axis=0, return_inverse=True)
        shared = own[np.bincount(owners)[owners] > 1, 0]
        assert set(shared) <= set(rows.filter(pl.col("crosses") > 0)["label"].to_list())
        met += len(rows.filter(pl.col("crosses") > 0)) * len(rows.filter(pl.col("touches") > 0))
        assert rows["crosses"].sum() % 2 == rows["touches"].sum() % 2 == 0
    assert table(whole, "nucleus").select("touches", "crosses").sum().row(0) == (0, 0)
    assert met > 0


def test_centre_lines_lie_in_their_tube_and_are_as_long_as_the_table_says(whole: Path) -> None:
    lines, rows = table(whole, "mito", "lines"), table(whole, "mito")
    assert table(whole, "lysosome", "lines").is_empty()
    for label, length, radius in rows.select("label", "length_um", "radius_um").iter_rows():
        mine = lines.filter(pl.col("label") == label)
        points = mine.select("z_um", "y_um", "x_um").to_numpy()
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
        assert steps == pytest.approx(length, rel=0.02) and mine["along_um"].max() == pytest.approx(length)
        assert (mine["radius_um"] == radius).all()
        thing = next(t for t in SCENE.every("mito") if t.id == label)
        away = thing.shape.signed_distance(points + 0.5 * np.array(SCENE.voxel_um))
        np.testing.assert_allclose(away, -radius, atol=1e-3)


def same(one: Path, other: Path) -> None:
    for c, kind in enumerate(KINDS):
        np.testing.assert_array_equal(voxels(one, c=c), voxels(other, c=c))
        np.testing.assert_array_equal(voxels(one / "labels" / kind), voxels(other / "labels" / kind))
        for name in ("table", "lines"):
            assert_frame_equal(table(one, kind, name), table(other, kind, name), check_exact=True)
        np.testing.assert_array_equal(owned(table(one, kind, "runs")), owned(table(other, kind, "runs")))


@pytest.mark.parametrize("block", [(6, 20, 90), (7, 23, 101)])
@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
def test_every_cluster_and_block_makes_the_same_bytes(
    whole: Path, tmp_path: Path, cluster: str, block: tuple[int, ...]
) -> None:
    same(made(tmp_path / "cell.ome.zarr", cluster, block), whole)


def test_cells_that_are_too_flat_for_some_are_warned_of() -> None:
    with pytest.warns(FlatWarning, match="13 planes"):
        cell_job(Scene("cell-epi", (11, 64, 64)), "o.zarr", ["lysosome"])
    least, sure = room_um({"radius_um": [0.1, 0.45]})
    for high, expected in ((least, 0), (sure, 20)):
        scene = [Scene("cell-epi", (1, 240, 240), seed, (high + 1e-9, 0.1, 0.1)) for seed in range(20)]
        assert sum(len(list(one.every("lysosome"))) > 0 for one in scene) == expected


@pytest.mark.parametrize("cluster", ["none", "threads:2"])
def test_frames_are_a_film_in_which_emitters_bleach_and_objects_stay(tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "film.ome.zarr"
    words = ("--shape", "20,60,72", "--organelles", "lysosome", "--frames", "4", "--frame-s", "0.5", "--bleach-s", "1")
    assert cristae("simulate", "cell", "--out", out, *words, "--cluster", cluster, "--block", "7,23,72").exit_code == 0
    image = open_volume(out)
    assert (image.axes, image.frames, image.frame_interval_s) == ("tzyx", 4, 0.5)
    light = [voxels(out, t).astype(float).mean() for t in range(4)]
    assert light == sorted(light, reverse=True) and light[0] > light[3] + 1
    scene = Scene("cell-epi", (20, 60, 72), frame_s=0.5, bleach_s=1)
    np.testing.assert_array_equal(
        voxels(out, 2), cell_image(scene, "lysosome").apply(at=whole_at(scene, 2), answers={})
    )
    assert all(
        np.array_equal(voxels(out / "labels" / "lysosome", t), voxels(out / "labels" / "lysosome")) for t in range(4)
    )
    assert open_volume(out / "tables" / "lysosome" / "runs.parquet").frame_interval_s == 0.5
    rows = table(out, "lysosome")
    assert rows["t"].unique().sort().to_list() == [0, 1, 2, 3]
    first = rows.filter(t=0).drop("t")
    assert len(first) and all(rows.filter(t=t).drop("t").equals(first) for t in range(4))


def whole_at(scene: Scene, t: int) -> At:
    one = At.whole(scene.shape, 0)
    return At(one.out, (), one.grid, 0, t)


@pytest.mark.filterwarnings("ignore:labels and tables of")
def test_the_same_again_is_nothing_to_do_and_another_seed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.ome.zarr"
    words = ("simulate", "cell", "--out", out, "--shape", "20,64,64", "--organelles", "nucleus", "--cluster", "none")
    assert cristae(*words).exit_code == 0
    before = voxels(out)
    again = cristae(*words)
    assert again.exit_code == 0 and "nothing to do" in again.output
    refused = CliRunner().invoke(app, [*map(str, words), "--seed", "2"])
    assert isinstance(refused.exception, CristaeError) and refused.exception.exit_code == 3
    assert "--fresh" in str(refused.exception) and "--out" in str(refused.exception)
    np.testing.assert_array_equal(voxels(out), before)
    assert cristae(*words, "--seed", "2", "--fresh").exit_code == 0
    assert not np.array_equal(voxels(out), before)


def test_only_the_organelles_that_are_asked_for_and_the_same_ones(tmp_path: Path, whole: Path) -> None:
    job = cell_job(SCENE, str(tmp_path / "one.ome.zarr"), ["lysosome"])
    execute(job, Settings("none"), lambda event: None)
    assert [c.name for c in open_volume(tmp_path / "one.ome.zarr").channels] == ["lysosome"]
    np.testing.assert_array_equal(voxels(tmp_path / "one.ome.zarr"), voxels(whole, c=1))


def test_runs_in_the_store_are_those_of_the_scene(whole: Path) -> None:
    rows = runs(SCENE, SCENE.every("mito"), Box.whole(SCENE.shape))
    expected = pl.DataFrame({name: rows[name] for name in ("label", "z", "y", "x0", "length")})
    np.testing.assert_array_equal(owned(table(whole, "mito", "runs")), owned(expected))


# ------------------------------------------------------------------------------------------------------------- tiles


@pytest.mark.parametrize("cluster", ["none", "threads:2"])
def test_tiles_are_time_points_with_labels_and_a_table(tmp_path: Path, cluster: str) -> None:
    out = tmp_path / "tiles.ome.zarr"
    words = ("--preset", "physeg-epi1-vesicle", "--count", "3", "--seed", "8", "--out", out, "--cluster", cluster)
    assert cristae("simulate", "tiles", *words).exit_code == 0
    image, tiles = open_volume(out), Tiles("physeg-epi1-vesicle", 8)
    assert (image.frames, image.spatial_shape, [c.name for c in image.channels]) == (3, (256, 256), ["vesicle"])
    rows = table(out, "vesicle")
    for t in range(3):
        np.testing.assert_array_equal(voxels(out, t), exposed(tiles, t))
        labels = voxels(out / "labels" / "vesicle", t)
        np.testing.assert_array_equal(labels, labelled(tiles, t))
        assert set(np.unique(labels)) - {0} <= set(rows.filter(pl.col("t") == t)["label"].to_list())
    assert rows["t"].unique().sort().to_list() == [0, 1, 2]


def test_the_list_names_every_preset() -> None:
    said = cristae("simulate", "list").output
    for product in ("tiles", "cells"):
        for name, facts in presets(product).items():
            assert re.search(rf"^{product} +{name} +{re.escape(facts['about'])}$", said, re.M)


# ---------------------------------------------------------------------------------------------------------- mistakes

CELL = ("simulate", "cell", "--cluster", "none")
TILES = ("simulate", "tiles", "--cluster", "none")
BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "an unknown preset of cells": ((*CELL, "--out", "o.zarr", "--preset", "cell-epy"), "cell-epi"),
    "an unknown preset of tiles": ((*TILES, "--out", "o.zarr", "--preset", "sam-mitos"), "sam-mito"),
    "tiles' preset for a cell": ((*CELL, "--out", "o.zarr", "--preset", "sam-mito"), "simulate tiles"),
    "a cell's preset for tiles": ((*TILES, "--out", "o.zarr", "--preset", "cell-epi"), "simulate cell"),
    "a plane": ((*CELL, "--out", "o.zarr", "--shape", "64,64"), "--shape"),
    "a shape of nothing": ((*CELL, "--out", "o.zarr", "--shape", "0,64,64"), "--shape"),
    "a shape of words": ((*CELL, "--out", "o.zarr", "--shape", "big"), "--shape"),
    "a negative seed": ((*CELL, "--out", "o.zarr", "--seed", "-1"), "seed"),
    "a negative seed of tiles": ((*TILES, "--out", "o.zarr", "--preset", "sam-mito", "--seed", "-1"), "seed"),
    "too many contacts": ((*CELL, "--out", "o.zarr", "--contacts", "2"), "contacts"),
    "too many crossings": ((*CELL, "--out", "o.zarr", "--crossings", "-0.1"), "crossings"),
    "more that meet than there are": ((*CELL, "--out", "o.zarr", "--contacts", "0.8", "--crossings", "0.3"), "sum"),
    "no frame": ((*CELL, "--out", "o.zarr", "--frames", "0"), "--frames"),
    "no time to expose": ((*CELL, "--out", "o.zarr", "--frame-s", "0"), "--frame-s"),
    "frames without end": ((*CELL, "--out", "o.zarr", "--frame-s", "inf", "--frames", "2"), "--frame-s"),
    "emitters that go off and never on": ((*CELL, "--out", "o.zarr", "--off-s", "1"), "--on-s"),
    "emitters that go on and never off": ((*CELL, "--out", "o.zarr", "--on-s", "1"), "--off-s"),
    "emitters that are on for ever": ((*CELL, "--out", "o.zarr", "--on-s", "inf", "--off-s", "1"), "--on-s"),
    "emitters that bleach before they begin": ((*CELL, "--out", "o.zarr", "--bleach-s", "-1"), "--bleach-s"),
    "no number of seconds": ((*CELL, "--out", "o.zarr", "--bleach-s", "nan"), "--bleach-s"),
    "cells too thin for their organelles": ((*CELL, "--out", "o.zarr", "--shape", "6,128,128"), "planes"),
    "no organelle after a comma": ((*CELL, "--out", "o.zarr", "--organelles", "mito,,lysosome"), "--organelles"),
    "an unknown organelle": ((*CELL, "--out", "o.zarr", "--organelles", "golgi"), "golgi"),
    "an organelle twice": ((*CELL, "--out", "o.zarr", "--shape", "20,40,40", "--organelles", "mito,mito"), "mito"),
    "an out of another kind": ((*CELL, "--out", "o.tif"), ".zarr"),
    "an out of another kind for tiles": ((*TILES, "--preset", "sam-mito", "--out", "o"), ".zarr"),
    "no tiles": ((*TILES, "--out", "o.zarr", "--preset", "sam-mito", "--count", "0"), "--count"),
    "an unknown rule": ((*TILES, "--out", "o.zarr", "--preset", "sam-mito", "--truth", "otso"), "otsu"),
    "compat of what was never published": (
        (*TILES, "--out", "o.zarr", "--preset", "sam-mito", "--physeg-compat"),
        "sam-mito",
    ),
    "pixels that are not square": (
        (*CELL, "--out", "o.zarr", "--shape", "20,40,40", "--voxel-um", "0.2,0.1,0.12"),
        "square",
    ),
    "voxels of two sides": ((*CELL, "--out", "o.zarr", "--voxel-um", "0.1,0.1"), "voxel"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cristae_cli import main as program

    words, said = BAD[mistake]
    monkeypatch.chdir(tmp_path)
    done: Any = CliRunner().invoke(program.app, list(words))
    assert done.exception is not None, "it was done"
    if isinstance(done.exception, CristaeError):
        code, sentence = done.exception.exit_code, str(done.exception)
    else:
        code, sentence = done.exit_code, done.output
        assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert code in (2, 3)
    assert said in sentence
    if isinstance(done.exception, CristaeError):
        assert "\n" not in sentence
    assert not list(tmp_path.iterdir()), "something was left"


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        (Scene("cell-oil", (300, 40, 40), 1, (1.0, 0.1, 0.1)), "200"),
        (Scene("cell-epi", (20, 40, 40), 1, (0.2, 0.1, 0.12)), "square"),
    ],
    ids=["deeper than light can be computed", "pixels that are not square"],
)
def test_optics_that_cannot_be_computed_are_refused_before_the_run(scene: Scene, said: str, tmp_path: Path) -> None:
    with pytest.raises(CristaeError, match=said):
        cell_job(scene, str(tmp_path / "o.zarr"))
