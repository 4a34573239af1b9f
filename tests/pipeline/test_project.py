"""`project: max`: a stack is read as the plane of its brightest voxels, without a copy, and all that follows is in the plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline.test_job import VOXEL_UM, done, labels_of, store, voxels

from cristae.errors import CristaeError
from cristae.filters import gaussian, threshold
from cristae.grid import Box
from cristae.labels import label
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview
from cristae.pipeline.viewing import plane, views
from cristae.store.projected import projected
from cristae.store.volume import open_volume

PIPELINE = """
output: {name: spots}
steps:
  - project: max
  - gaussian: {sigma_um: 0.12}
  - threshold: {method: otsu}
  - label
  - measure: [shape, intensity]
"""


def job(text: str, source: Path, out: Path, **inputs: object) -> Job:
    return run_job(load(text, known()), [str(source)], str(out), Inputs(**inputs))  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_every_box_is_the_brightest_of_its_rays(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 13)] * 3))
    chunk = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    array = np.random.default_rng(len(shape)).integers(-50, 50, shape).astype(np.int16)
    import zarr

    place = tmp_path_factory.mktemp("p") / "a.zarr"
    zarr.create_array(place, data=array, chunks=chunk)
    flat = projected(open_volume(place, axes="zyx", voxel_um=VOXEL_UM))
    assert flat.axes == "yx" and flat.voxel_um == VOXEL_UM[1:] and flat.spatial_shape == shape[1:]
    start = [data.draw(st.integers(0, n - 1)) for n in shape[1:]]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape[1:], strict=True)]
    box = Box(tuple(start), tuple(stop))
    np.testing.assert_array_equal(flat.read(box), array.max(axis=0)[box.slices])


@pytest.mark.parametrize("block", [(40, 44), (9, 20)])
def test_a_run_in_the_plane(tmp_path: Path, block: tuple[int, ...]) -> None:
    films = np.stack([voxels(0), voxels(1)])
    cell = store(tmp_path / "cell.ome.zarr", films, axes="tzyx", frame_interval_s=2.0)
    out = tmp_path / "out"
    done(job(PIPELINE, cell, out), Settings("none", block=block))
    table = polars.read_parquet(out / "objects.parquet")
    assert "area_um2" in table.columns and "volume_um3" not in table.columns
    found = open_volume(out / "labels" / "cell.ome.zarr")
    for t in range(2):
        flat = films[t].max(axis=0)
        smooth = gaussian(0.12, voxel_um=VOXEL_UM[1:])(flat)
        mask = threshold(method="otsu", voxel_um=VOXEL_UM[1:], dtype="float32")(smooth)
        expected = label(voxel_um=VOXEL_UM[1:])(mask)
        np.testing.assert_array_equal(found.read(Box.whole(flat.shape), t=t), expected)
        rows = table.filter(polars.col("t") == t)
        sums = np.bincount(expected.ravel(), flat.ravel())[1:]
        np.testing.assert_array_equal(rows["intensity_sum"].to_numpy(), sums)
    assert "brightest voxel along z of 12 planes" in (out / "methods.md").read_text(encoding="utf-8")
    again, _ = done(job(PIPELINE, cell, out), Settings("none"))
    assert again.status == "nothing to do"
    (view,) = views(str(out))
    assert plane(view, "z", 0, 1)[0].any()


def test_the_projection_has_a_name_that_steps_may_work_from(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    named = PIPELINE.replace("  - project: max", "  - project: max\n    as: flat").replace(
        "  - threshold: {method: otsu}", "  - threshold: {method: otsu}\n    from: flat"
    )
    done(job(named, cell, tmp_path / "out"), Settings("none"))
    flat = voxels().max(axis=0)
    mask = threshold(method="otsu", voxel_um=VOXEL_UM[1:], dtype="uint16")(flat)
    found = labels_of(tmp_path / "out" / "labels" / "cell.ome.zarr")
    np.testing.assert_array_equal(found > 0, mask)


def test_a_crop_and_a_preview_are_of_the_projection(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    spans = {"z": (3, 9), "y": (4, 36)}
    done(job(PIPELINE, cell, tmp_path / "out", crop=spans), Settings("none"))
    (panel,) = preview({"x": load(PIPELINE, known())}, open_volume(cell).cropped(spans), None)
    ids = labels_of(tmp_path / "out" / "labels" / "cell.ome.zarr")
    assert ids.shape == (32, 44) and panel.objects == ids.max() and panel.unit == "um2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PIPELINE.replace("project: max", "project: {method: max, keep: true}"), "keep stores nothing here"),
        (PIPELINE.replace("  - label", "  - label: {keep: true}"), "its labels stay anyway"),
        (PIPELINE.replace("  - label\n", "  - label\n  - threshold: {value: 1}\n"), "put threshold before label"),
        (PIPELINE.replace("project: max", "project: mean"), "project: mean is not known; the one method is max"),
        (
            PIPELINE.replace("  - project: max\n", "").replace("  - label", "  - project: max\n  - label"),
            "make it the first step",
        ),
        (
            "objects:\n  a: {steps: [{project: max}, {threshold: {value: 1}}, label]}\n  b: {steps: [{threshold: {value: 1}}, label]}",
            "only some objects begin with project",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    with pytest.raises(CristaeError, match=said):
        job(text, cell, tmp_path / "out")


def test_a_plane_has_nothing_to_project(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", voxels()[3])
    with pytest.raises(CristaeError, match="has no z axis, and nothing to project"):
        job(PIPELINE, tmp_path / "flat.npy", tmp_path / "out", axes="yx", voxel_um=VOXEL_UM[1:])
