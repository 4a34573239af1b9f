"""Voxels of another size: a network sees its own, its labels lie on the image's, and no block, worker or death can be seen in them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import polars
import pytest
from faults.campaign import resumes, twice
from inference.models import LEARN, tiny
from inference.volumes import VOXEL_UM, blobs, job, ran, result, store

from cristae.blocks.plan import make_plan
from cristae.errors import InvalidConfiguration
from cristae.filters import resample, threshold
from cristae.grid import Box
from cristae.inference import segment
from cristae.inference.blend import HELD
from cristae.labels import label
from cristae.pipeline.execute import execute, plan, work_of
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume

pytest.importorskip("torch", reason=LEARN)

SHAPE = (14, 50, 61)
COARSE, FINE = (0.25, 0.22, 0.19), (0.13, 0.07, 0.1)
GRIDS = [SHAPE, (7, 20, 30), (5, 17, 61), (1, 50, 61), (9, 9, 23)]
CHAIN = """
output: {{name: mito}}
steps:
  - segment: {{model: {model}}}
  - threshold: {{method: otsu}}
  - label: {{min_voxels: 2}}
  - measure: [shape, intensity]
"""


def model(voxel_um: tuple[float, ...]) -> str:
    """A network that finds several objects in blobs; not every one whose weights are drawn does."""
    return tiny(
        len(voxel_um), {COARSE: 2, FINE: 3}.get(voxel_um, 0), voxel_um=voxel_um, tile=(16, 32, 32)[-len(voxel_um) :]
    )


def labels_of(array: np.ndarray, voxel_um: tuple[float, ...]) -> np.ndarray:
    """Each step on the whole image, one after the other."""
    spec = VOXEL_UM[-array.ndim :]
    wanted = (*spec[: array.ndim - len(voxel_um)], *voxel_um)
    own = tuple(v if abs(v / w - 1) <= 0.1 else w for v, w in zip(spec, wanted, strict=True))
    there = resample(to_um=own, voxel_um=spec)
    seen = there(array)
    found = segment(model=model(voxel_um), voxel_um=own, dtype="float32")(seen)
    now = tuple(v * n / m for v, n, m in zip(spec, array.shape, seen.shape, strict=True))
    back = resample(to_um=spec, voxel_um=now)(found)
    assert back.shape == array.shape and seen.shape != array.shape
    expected: np.ndarray = label(min_voxels=2, voxel_um=spec)(threshold(method="otsu", voxel_um=spec)(back))
    assert expected.max() > 3
    return expected


@pytest.mark.parametrize("voxel_um", [COARSE, FINE, (0.22, 0.19)])
def test_no_block_grid_shows(tmp_path: Path, voxel_um: tuple[float, ...]) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    expected = labels_of(array, voxel_um)
    for n, block in enumerate(GRIDS):
        for cluster in ("none", "threads:2") if n in (1, 4) else ("none",):
            HELD.clear()
            out = tmp_path / f"{n}-{cluster[0]}"
            ran(cell, out, CHAIN.format(model=model(voxel_um)), block, cluster)
            np.testing.assert_array_equal(result(out, "labels"), expected, err_msg=f"{block} {cluster}")
            assert open_volume(next((out / "labels").iterdir())).voxel_um == VOXEL_UM
    tables = [polars.read_parquet(tmp_path / f"{n}-n" / "objects.parquet") for n in range(len(GRIDS))]
    for table in tables:
        sums = [int(array[expected == n].sum()) for n in table["label"]]
        assert table["intensity_sum"].to_list() == pytest.approx(sums), (
            "intensity is of the image, not of what was made of it"
        )


@pytest.mark.cluster
def test_no_worker_process_shows(tmp_path: Path) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    expected = labels_of(array, COARSE)
    for block in GRIDS[1:3]:
        out = tmp_path / str(block)
        ran(cell, out, CHAIN.format(model=model(COARSE)), block, "local:2")
        np.testing.assert_array_equal(result(out, "labels"), expected)


@pytest.mark.parametrize("step", ["journalled:3", pytest.param("computed:9", marks=pytest.mark.faults)])
def test_a_killed_run_goes_on_to_the_same_bytes(step: str, tmp_path: Path) -> None:
    text = CHAIN.replace("mito", "cell").format(model=model((0.3, 0.2, 0.2)))
    alone, killed = twice(tmp_path, pipeline=text, block=(15, 48, 60))
    alone.finish()
    resumes(killed, step, alone)


def test_images_of_all_shapes_are_what_each_is_alone(tmp_path: Path) -> None:
    shapes = [(14, 50, 61), (9, 33, 47), (1, 20, 70)]
    arrays = [blobs(shape, seed) for seed, shape in enumerate(shapes)]
    cells = [store(tmp_path / f"c{n}.ome.zarr", array) for n, array in enumerate(arrays)]
    text = CHAIN.format(model=model(COARSE))
    made = run_job(load(text, known()), [str(c) for c in cells], str(tmp_path / "all"), Inputs())
    execute(made, Settings("none", block=(7, 20, 30)), lambda event: None)
    for n, array in enumerate(arrays):
        found = open_volume(tmp_path / "all" / "labels" / f"c{n}.ome.zarr")
        np.testing.assert_array_equal(found.read(Box.whole(array.shape)), labels_of(array, COARSE))


@pytest.mark.parametrize("block", [(7, 20, 30), SHAPE])
def test_every_time_point_is_what_it_is_alone(tmp_path: Path, block: tuple[int, ...]) -> None:
    arrays = [blobs(SHAPE, seed) for seed in range(2)]
    made = create_volume(
        tmp_path / "film.ome.zarr",
        axes="tzyx",
        shape=(2, *SHAPE),
        dtype="uint16",
        voxel_um=VOXEL_UM,
        chunk=SHAPE,
        shard=SHAPE,
        frame_interval_s=2.0,
    )
    for t, array in enumerate(arrays):
        made.write(Box.whole(SHAPE), array, t=t)
    publish(made)
    ran(tmp_path / "film.ome.zarr", tmp_path / "out", CHAIN.format(model=model(COARSE)), block)
    found = open_volume(next((tmp_path / "out" / "labels").iterdir()))
    for t, array in enumerate(arrays):
        np.testing.assert_array_equal(found.read(Box.whole(SHAPE), t), labels_of(array, COARSE))


def test_a_preview_shows_what_a_run_finds(tmp_path: Path) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    text = CHAIN.format(model=model(COARSE))
    (panel,) = preview({"as it is": load(text, known())}, open_volume(cell), None)
    expected = labels_of(array, COARSE)
    assert (panel.objects, panel.size) == (
        expected.max(),
        pytest.approx(np.count_nonzero(expected) * np.prod(VOXEL_UM)),
    )


# ---------------------------------------------------------------------------------------------------------- the chain


def steps_of(made: Job) -> list[str]:
    return [stage.name for p in made.passes for stage in p.chain]


def test_a_plan_shows_the_way_there_and_back(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    made = job(cell, tmp_path / "out", CHAIN.format(model=model(COARSE)))
    assert steps_of(made).count("segment") == 1, "it is dear, and scratch holds what it gives"
    found, _ = plan(made, Settings("none", block=(7, 20, 30)))
    blocks = {
        (s.source.array if s.source else "none"): p.blocks for s, p in zip(made.passes, found.passes, strict=True)
    }
    assert blocks["input"] == blocks["mito.resample"] == 2 * 2 * 2, "a plane of 50 x 61 voxels is 25 x 32 of theirs"
    assert blocks["mito.segment"] == blocks["none"] == 2 * 3 * 3, "and from there on the image's own again"
    sizes = {s.sink: p.bytes_written for s, p in zip(made.passes, found.passes, strict=True)}
    assert sizes["mito.segment"] == 4 * 14 * 25 * 32 and sizes["mito"] == 4 * 14 * 50 * 61
    assert [c.staged for c in made.choices if c.node == "segment"] == [True]
    (one,) = make_plan(work_of(made, SHAPE, Settings("none"), 1 << 30)).passes
    assert one.nanoseconds > 0 and one.blocks == 1, "an image of one block is one visit"


@pytest.mark.parametrize("voxel_um", [VOXEL_UM, (0.27, 0.105, 0.095), (0.12, 0.1)])
def test_nothing_is_put_in_where_the_voxels_are_the_networks(tmp_path: Path, voxel_um: tuple[float, ...]) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    assert "resample" not in steps_of(job(cell, tmp_path / "out", CHAIN.format(model=model(voxel_um))))


def test_axes_that_agree_are_left_as_they_are(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    made = job(cell, tmp_path / "out", CHAIN.format(model=model((0.26, 0.11, 0.2))))
    there, *_, back = [stage for p in made.passes for stage in p.chain if stage.name == "resample"]
    assert there.params["to_um"] == (0.25, 0.11, 0.2) and back.params["to_um"] == VOXEL_UM


def test_a_user_who_resamples_gets_that_and_no_more(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    text = f"output: {{name: mito}}\nsteps:\n  - resample: {{to_um: [0.25, 0.22, 0.2]}}\n  - segment: {{model: {model((0.25, 0.22, 0.2))}}}\n"
    made = job(cell, tmp_path / "out", text)
    assert {s.params["to_um"] for p in made.passes for s in p.chain if s.name == "resample"} == {(0.25, 0.22, 0.2)}
    execute(made, Settings("none", block=(7, 20, 30)), lambda event: None)
    assert open_volume(next((tmp_path / "out" / "images").iterdir())).shape == (14, 25, 31)


def test_far_voxels_are_warned_of_and_farther_ones_refused(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job(cell, tmp_path / "out", CHAIN.format(model=model((0.25, 0.3, 0.1))))
    with pytest.warns(
        UserWarning, match=r"voxels of 0\.25 x 0\.4 x 0\.1 um and the image has 0\.25 x 0\.11 x 0\.1, 3\.64 times"
    ):
        job(cell, tmp_path / "out", CHAIN.format(model=model((0.25, 0.4, 0.1))))
    with pytest.raises(
        InvalidConfiguration, match=r"step segment.*0\.25 x 0\.9 x 0\.1 um .* 8\.18 times .*at most 8 times"
    ):
        job(cell, tmp_path / "out", CHAIN.format(model=model((0.25, 0.9, 0.1))))
