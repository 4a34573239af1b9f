"""Measuring the instance store: every object on all its own voxels, however the volume is cut, where others lie on top of it too."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from overlapping import ABOUT, SHAPE, VOXEL_UM, Masks, balls, blocks_of, rows_of, written
from polars.testing import assert_frame_equal
from skimage.measure import euler_number, marching_cubes, mesh_surface_area, regionprops_table
from typer.testing import CliRunner

import cristae
from cristae.errors import CristaeError, InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.pipeline.audit import audit
from cristae.pipeline.execute import execute
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Outcome, Settings
from cristae.pipeline.jobs import convert_job, measure_job
from cristae.pipeline.simulating import cell_job
from cristae.simulation.cells import Scene
from cristae.simulation.solid import painted
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume
from cristae_cli.main import app

CROSSED = Scene("cell-confocal", (24, 200, 300), 2, (0.2, 0.1, 0.1), 0.0, 1.0)
APART = replace(CROSSED, crossings=0.0)
GROUPS = ["shape", "surface", "topology", "intensity"]


def simulated(folder: Path, scene: Scene) -> Path:
    out = folder / "cell.ome.zarr"
    execute(cell_job(scene, str(out), ["mito"]), Settings("none", block=(11, 90, 110)), lambda event: None)
    return out


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("crossed"), CROSSED)


def runs_in(store: Path) -> str:
    return str(store / "tables" / "mito" / "runs.parquet")


def measured(
    labels: str, out: Path, image: str | None, cluster: str = "none", block: tuple[int, ...] | None = None
) -> pl.DataFrame:
    columns = GROUPS if image is not None else GROUPS[:-1]
    execute(measure_job(labels, str(out), Inputs(), image, columns), Settings(cluster, block=block), lambda event: None)
    return pl.read_parquet(out)


def alone(mask: np.ndarray, image: np.ndarray, voxel_um: tuple[float, ...]) -> dict[str, float]:
    """One object by scikit-image, on a volume that holds nothing else."""
    names = (
        "area",
        "bbox",
        "centroid",
        "extent",
        "axis_major_length",
        "intensity_mean",
        "intensity_max",
        "intensity_min",
    )
    found = regionprops_table(
        mask.astype(np.uint8), image, properties=(*names, "equivalent_diameter_area"), spacing=voxel_um
    )
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=voxel_um)
    box = {
        f"bbox_{a}_{end}": found[f"bbox-{n + 3 * k}"][0]
        for n, a in enumerate("zyx")
        for k, end in enumerate(("min", "max"))
    }
    return {
        **box,
        **{f"centroid_{a}_um": found[f"centroid-{n}"][0] for n, a in enumerate("zyx")},
        "voxels": int(mask.sum()),
        "volume_um3": found["area"][0],
        "equivalent_diameter_um": found["equivalent_diameter_area"][0],
        "extent": found["extent"][0],
        "surface_um2": mesh_surface_area(vertices, faces),
        "euler_number": euler_number(mask, 3),
        "intensity_sum": int(image[mask].astype(np.int64).sum()),
        "intensity_mean": found["intensity_mean"][0],
        "intensity_std": image[mask].std(),
        "intensity_min": found["intensity_min"][0],
        "intensity_max": found["intensity_max"][0],
    }


def same_rows(table: pl.DataFrame, masks: Masks, images: dict[int, np.ndarray], voxel_um: tuple[float, ...]) -> None:
    """Every row is that of its object alone; `images` by time point."""
    assert table.select("t", "label").rows() == sorted(masks)
    for row in table.iter_rows(named=True):
        expected = alone(masks[row["t"], row["label"]], images[row["t"]], voxel_um)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-6), row["label"]


# --------------------------------------------------------------------------------------------------------- the scene


@pytest.fixture(scope="module")
def scene_alone(crossed: Path) -> tuple[Masks, np.ndarray]:
    """Every object of the scene drawn alone, and the image."""
    box = Box.whole(CROSSED.shape)
    masks = {(0, thing.id): painted(CROSSED, [thing], box) > 0 for thing in CROSSED.every("mito")}
    masks = {key: mask for key, mask in masks.items() if mask.any()}
    depth = np.sum(list(masks.values()), axis=0)
    assert (depth > 1).sum() > 300, "too little overlaps"
    return masks, open_volume(crossed).read(box)


@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
@pytest.mark.parametrize("block", [None, (24, 200, 300), (11, 90, 110), (7, 73, 91)], ids=str)
def test_every_object_is_measured_as_if_it_were_alone(
    cluster: str, block: tuple[int, ...] | None, crossed: Path, scene_alone: tuple[Masks, np.ndarray], tmp_path: Path
) -> None:
    masks, image = scene_alone
    table = measured(runs_in(crossed), tmp_path / "t.parquet", str(crossed), cluster, block)
    same_rows(table, masks, {0: image}, CROSSED.voxel_um)
    truth = pl.read_parquet(crossed / "tables" / "mito" / "table.parquet").filter(pl.col("voxels") > 0)
    assert_frame_equal(table.select("label", "voxels"), truth.select(pl.col("label").cast(pl.UInt64), "voxels"))
    assert table["image"].unique().to_list() == ["cell"]


def test_the_flat_labels_know_less(crossed: Path, tmp_path: Path) -> None:
    own = measured(runs_in(crossed), tmp_path / "own.parquet", str(crossed))
    flat = measured(str(crossed / "labels" / "mito"), tmp_path / "flat.parquet", str(crossed))
    assert own.columns == flat.columns and own.dtypes == flat.dtypes
    assert own["voxels"].sum() > flat["voxels"].sum() and (own["touches_border"].sum() >= flat["touches_border"].sum())


def test_where_nothing_overlaps_it_is_the_table_of_the_labels_to_the_last_bit(tmp_path: Path) -> None:
    store = simulated(tmp_path, APART)
    assert open_volume(runs_in(store)).layers == 1
    for n, block in enumerate([(24, 200, 300), (7, 73, 91)]):
        own = measured(runs_in(store), tmp_path / f"own{n}.parquet", str(store), block=block)
        flat = measured(str(store / "labels" / "mito"), tmp_path / f"flat{n}.parquet", str(store), block=block)
        assert len(own) > 5
        assert_frame_equal(own, flat, check_exact=True)


def test_a_notebook_sees_the_same(crossed: Path, scene_alone: tuple[Masks, np.ndarray], tmp_path: Path) -> None:
    masks, _ = scene_alone
    block = (11, 90, 110)
    table = measured(runs_in(crossed), tmp_path / "t.parquet", str(crossed), block=block)
    cells = cristae.measure(runs_in(crossed), str(crossed), block=block)
    assert_frame_equal(cells.collect(GROUPS), table, check_exact=True)
    labels = [label for _, label in masks]
    some = labels[::-5]
    asked = cristae.measure(runs_in(crossed), str(crossed), block=block)
    assert_frame_equal(asked.rows(some, GROUPS), table[[labels.index(n) for n in some]], check_exact=True)
    assert len(asked.visits) < 3 * 3 * 3
    query = asked.lazy().filter(pl.col("voxels") > 300).select("label", "euler_number")
    assert_frame_equal(query.collect(), table.filter(pl.col("voxels") > 300).select("label", "euler_number"))
    assert len(cells.to_dask(["volume_um3"]).compute()) == len(table)
    deepest = np.unravel_index(np.sum(list(masks.values()), axis=0).argmax(), CROSSED.shape)
    for (_, label), mask in masks.items():
        if mask[deepest]:
            shown = cells.crop(label, pad=1)
            assert int(shown.mask.sum()) == mask.sum()


# ------------------------------------------------------------------------------------------------------- time points


def film(folder: Path, frames: int) -> tuple[Masks, dict[int, np.ndarray], Path, Path]:
    """Balls that overlap and, through time, change their layer; an image of as many time points."""
    masks = balls(7, 70, frames=frames)
    masks |= {(t, 1): mask for t, mask in enumerate(list(masks.values())[:frames])}
    path = written(
        folder / "film.parquet", blocks_of(masks, replace(ABOUT, frames=frames)), replace(ABOUT, frames=frames)
    )
    images = {t: np.random.default_rng(t).integers(0, 4000, SHAPE).astype(np.uint16) for t in range(frames)}
    shape = (frames, *SHAPE)
    store = folder / "image.ome.zarr"
    volume = create_volume(
        store,
        axes="tzyx",
        shape=shape,
        dtype="uint16",
        voxel_um=VOXEL_UM,
        chunk=SHAPE,
        shard=SHAPE,
        frame_interval_s=1.0,
        kind="image",
    )
    for t, image in images.items():
        volume.write(Box.whole(SHAPE), image, t=t)
    publish(volume)
    return masks, images, path, store


@pytest.mark.filterwarnings("ignore:.*no frame interval")
def test_time_points_are_measured_each_with_its_own_layers(tmp_path: Path) -> None:
    masks, images, path, store = film(tmp_path, 3)
    assert open_volume(path).layers > 1
    same_rows(measured(str(path), tmp_path / "t.parquet", str(store), "threads:2", (4, 8, 9)), masks, images, VOXEL_UM)
    job = measure_job(str(path), str(tmp_path / "one.csv"), Inputs(time=(1, 2)), str(store), GROUPS)
    execute(job, Settings("none"), lambda event: None)
    assert pl.read_csv(tmp_path / "one.csv")["label"].to_list() == sorted(label for t, label in masks if t == 1)
    with pytest.raises(InvalidInput, match="1 time points but the image"):
        measure_job(
            str(written(tmp_path / "a.parquet", [rows_of(balls(1, 3))])),
            str(tmp_path / "u.csv"),
            Inputs(),
            str(store),
            None,
        )


# ------------------------------------------------------------------------------------------------ stopped, and again


def test_a_stopped_run_goes_on_to_the_same_table(crossed: Path, tmp_path: Path) -> None:
    block, image = (11, 90, 110), str(crossed)
    expected = measured(runs_in(crossed), tmp_path / "whole.parquet", image, block=block)

    def until(done: int) -> Outcome:
        def listen(event: dict) -> None:
            if event["event"] == "blocks" and event["done"] >= done:
                raise KeyboardInterrupt

        job = measure_job(runs_in(crossed), str(tmp_path / "t.parquet"), Inputs(), image, GROUPS)
        return execute(job, Settings("none", block=block), listen)

    for done in (4, 19):
        with pytest.raises(KeyboardInterrupt):
            until(done)
    calls = until(10_000).facts["calls"]
    assert 0 < calls < 3 * 3 * 3 * open_volume(runs_in(crossed)).layers
    assert_frame_equal(pl.read_parquet(tmp_path / "t.parquet"), expected, check_exact=True)
    assert until(1).status == "nothing to do"


def test_a_killed_run_goes_on_to_the_same_table(crossed: Path, tmp_path: Path) -> None:
    expected = measured(runs_in(crossed), tmp_path / "whole.parquet", str(crossed), block=(11, 90, 110))
    words = ("measure", runs_in(crossed), "--out", "t.parquet", "--image", str(crossed), "--columns", ",".join(GROUPS))
    command = [sys.executable, "-m", "cristae_cli.main", *words, "--cluster", "none", "--block", "11,90,110"]
    for die_at in ("journalled:5", "files-written:1", ""):
        killed = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "CRISTAE_DIE_AT": die_at}, capture_output=True
        )
        assert (killed.returncode == 0) == (not die_at), killed.stderr
    assert_frame_equal(pl.read_parquet(tmp_path / "t.parquet"), expected, check_exact=True)


def test_runs_that_changed_are_noticed(tmp_path: Path) -> None:
    path, out = tmp_path / "a.parquet", tmp_path / "t.parquet"
    masks = balls(1, 30)
    written(path, blocks_of(masks))
    measured(str(path), out, None, block=(4, 8, 16))
    state = tmp_path / ".cristae" / "t.parquet"
    assert audit(state, inputs=True).changed == ()
    masks[0, 4] = np.roll(masks[0, 4], 1, axis=2)
    written(path, blocks_of(masks))
    assert {finding.what for finding in audit(state, inputs=True).changed} == {str(path)}
    with pytest.raises(PlanRefused):
        measured(str(path), out, None, block=(4, 8, 16))


# ---------------------------------------------------------------------------------------------------- other commands


def cli(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(w) for w in words])
    if isinstance(done.exception, CristaeError):
        return str(done.exception)
    assert done.exit_code == 0, done.output
    return done.output


def test_other_commands_say_what_it_is_or_where_to_go(crossed: Path, tmp_path: Path) -> None:
    shown = cli("info", runs_in(crossed))
    assert "runs: every object's own voxels" in shown and "layer 0, layer 1" in shown
    assert '"reader": "runs"' in cli("info", "--json", runs_in(crossed))
    refused = {
        "label": cli("label", runs_in(crossed), tmp_path / "l.ome.zarr"),
        "run": cli("run", "nuclei", runs_in(crossed), "--out", tmp_path / "out"),
        "preview": cli("preview", "nuclei", runs_in(crossed), "--out", tmp_path / "p.png"),
    }
    for said in refused.values():
        assert (
            "is a table of runs, whose objects may overlap: cristae measure" in said
            and "labels/mito" in said
            and "\n" not in said
        )
    other = crossed / "tables" / "mito" / "table.parquet"
    assert "is no table of runs: it has no whole numbers z, y, x0, length" in cli(
        "measure", other, "--out", tmp_path / "t.csv"
    )
    assert not list(tmp_path.iterdir())


def test_a_channel_without_an_image_is_said_and_nothing_is_written(crossed: Path, tmp_path: Path) -> None:
    said = cli("measure", runs_in(crossed), "--out", tmp_path / "t.csv", "--channel", "mito")
    assert "--channel mito chooses of an image's channels" in said and "give --image" in said
    assert not list(tmp_path.iterdir())


def test_converted_its_layers_are_channels(crossed: Path, tmp_path: Path) -> None:
    job = convert_job(runs_in(crossed), str(tmp_path / "layers.ome.zarr"), Inputs(), None)
    execute(job, Settings("none"), lambda event: None)
    runs, converted = open_volume(runs_in(crossed)), open_volume(tmp_path / "layers.ome.zarr")
    assert converted.kind == "label" and converted.voxel_um == runs.voxel_um
    assert [c.name for c in converted.channels] == [f"layer {n}" for n in range(runs.layers)]
    box = Box.whole(CROSSED.shape)
    for c in range(runs.layers):
        np.testing.assert_array_equal(converted.read(box, c=c), runs.read(box, c=c))
    with pytest.raises(InvalidInput, match=r"labels have one channel, but .* has \d; take one"):
        measure_job(str(tmp_path / "layers.ome.zarr"), str(tmp_path / "t.csv"), Inputs(), None, None)
