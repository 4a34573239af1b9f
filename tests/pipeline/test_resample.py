"""Resample as a step of its own: labels and tables on other voxels than the image's, and what cannot be across two grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars
import pytest
from inference.volumes import blobs, job, ran, result, store
from scipy import ndimage

from cristae.errors import InvalidConfiguration
from cristae.filters import gaussian, resample, threshold
from cristae.grid import Box
from cristae.labels import label
from cristae.pipeline.audit import audit
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview
from cristae.pipeline.viewing import views
from cristae.store.volume import open_volume

VOXEL_UM = (0.25, 0.11, 0.1)
SHAPE = (14, 50, 61)
TO = (0.5, 0.2, 0.2)
TEXT = """
output: {name: mito}
steps:
  - gaussian: {sigma_um: 0.1}
  - resample: {to_um: [0.5, 0.2, 0.2]}
  - gaussian: {sigma_um: 0.2}
  - threshold: {method: otsu}
  - label
  - measure: [shape, surface]
"""


def whole(array: np.ndarray) -> tuple[np.ndarray, tuple[float, ...]]:
    """Labels of the steps above, one after the other over the whole image, and their voxels."""
    soft = gaussian(0.1, voxel_um=VOXEL_UM)(array)
    coarse = resample(to_um=TO, voxel_um=VOXEL_UM)(soft)
    size = tuple(v * n / m for v, n, m in zip(VOXEL_UM, array.shape, coarse.shape, strict=True))
    again = gaussian(0.2, voxel_um=size)(coarse)
    found: np.ndarray = label(voxel_um=size)(threshold(method="otsu", voxel_um=size)(again))
    assert found.max() > 3
    return found, size


@pytest.mark.parametrize("block", [(7, 28, 31), (4, 10, 13), (1, 28, 31), (3, 28, 5), SHAPE])
def test_labels_and_table_are_those_of_the_coarse_image(tmp_path: Path, block: tuple[int, ...]) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    ran(cell, tmp_path / "out", TEXT, block, "threads:2")
    expected, size = whole(array)
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), expected)
    made = open_volume(next((tmp_path / "out" / "labels").iterdir()))
    assert made.voxel_um == pytest.approx(size) and made.shape == (7, 28, 31)
    first = tuple((s - v) / 2 for s, v in zip(size, VOXEL_UM, strict=True))
    assert made.translation_um == pytest.approx(first), "both grids begin at the same corner"
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    numbers = table["label"].to_list()
    volumes = np.bincount(expected.ravel())[1:] * np.prod(size)
    assert numbers == list(range(1, int(expected.max()) + 1)) and table["volume_um3"].to_list() == pytest.approx(
        volumes
    )
    middles = np.array(ndimage.center_of_mass(expected > 0, expected, numbers)) * size + first
    np.testing.assert_allclose(
        table.select("centroid_z_um", "centroid_y_um", "centroid_x_um").to_numpy(), middles, rtol=1e-9
    )
    assert not (tmp_path / "out" / "overview.png").exists(), "the image has other voxels than its labels"
    (view,) = views(str(tmp_path / "out"))
    assert view.image is None and view.labels.shape == (7, 28, 31)


@pytest.mark.parametrize("block", [(7, 20, 30), SHAPE])
def test_there_and_back_is_on_the_image_again(tmp_path: Path, block: tuple[int, ...]) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    text = TEXT.replace("  - threshold", "  - resample: {to_um: [0.25, 0.11, 0.1]}\n  - threshold").replace(
        "surface", "intensity"
    )
    ran(cell, tmp_path / "out", text, block)
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    labels = result(tmp_path / "out", "labels")
    assert labels.shape == SHAPE and (tmp_path / "out" / "overview.png").exists()
    assert table["intensity_sum"].to_list() == pytest.approx([int(array[labels == n].sum()) for n in table["label"]])


def test_the_way_of_labels_is_nearest(tmp_path: Path) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    text = "output: {name: mito}\nsteps:\n  - threshold: {value: 900}\n  - label\n  - resample: {to_um: [0.4, 0.3, 0.3], how: nearest}\n"
    ran(cell, tmp_path / "out", text, (7, 20, 30))
    labels = label(voxel_um=VOXEL_UM)(array > 900)
    np.testing.assert_array_equal(
        result(tmp_path / "out"), resample(to_um=(0.4, 0.3, 0.3), voxel_um=VOXEL_UM, how="nearest")(labels)
    )


@pytest.mark.parametrize("block", [(3, 10, 13), SHAPE])
def test_an_audit_sees_an_image_that_changed(tmp_path: Path, block: tuple[int, ...]) -> None:
    """What a coarse block answers for are the fine voxels that it was made from, and no voxel is nobody's."""
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array, chunk=(7, 25, 61))
    text = TEXT.replace("  - gaussian: {sigma_um: 0.1}\n", "")
    ran(cell, tmp_path / "out", text, block)
    state = tmp_path / "out" / ".cristae" / "mito"
    assert not audit(state, inputs=True).changed
    array[13, 49, 60] += 1
    open_volume(cell).write(Box.whole(SHAPE), array)
    assert audit(state, inputs=True).changed


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            "[{resample: {to_um: 0.3}}, {threshold: {value: 5}}, label, {measure: [shape, intensity]}]",
            r"intensity is measured on the image, whose voxels are 0\.25 x 0\.11 x 0\.1 um, and the labels have .*"
            r"put resample: \{to_um: \[0\.25, 0\.11, 0\.1\]\} before label",
        ),
        ("[{resample: {to_um: 0.3}}, {threshold: {value: 5}}, label, measure]", "intensity is measured on the image"),
        (
            "[{resample: {to_um: 0.3}}, {threshold: {value: 5}}, {split: {min_separation_um: 2, by: intensity}}, label]",
            "split by intensity looks at an array on the image's own voxels",
        ),
        ("[{threshold: {value: 5}}, {resample: {to_um: 0.3}}, label]", "needs a mask or labels, but gets float32"),
        ("[{resample: {to_um: -1}}, {threshold: {value: 5}}]", "to_um is -1"),
        ("[resample]", "resample needs to_um"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path: Path, steps: str, sentence: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    with pytest.raises(InvalidConfiguration, match=sentence) as error:
        job(cell, tmp_path / "out", f"output: {{name: mito}}\nsteps: {steps}\n")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_what_lies_in_the_images_store_has_its_voxels(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    with pytest.raises(InvalidConfiguration, match=r"ends on voxels of 0\.5 x .*give --out DIR"):
        run_job(load(TEXT, known()), [str(cell)], None, Inputs())


def test_a_preview_needs_labels_on_the_image(tmp_path: Path) -> None:
    cell = open_volume(store(tmp_path / "cell.ome.zarr", blobs(SHAPE)))
    with pytest.raises(InvalidConfiguration, match="a preview draws both; put resample"):
        preview({"": load(TEXT, known())}, cell, None)


def test_nothing_lies_within_objects_of_other_voxels(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    text = """
objects:
  cell:
    steps: [{resample: {to_um: 0.3}}, {threshold: {value: 5}}, label]
  mito:
    within: cell
    steps: [{threshold: {value: 5}}, label]
"""
    with pytest.raises(InvalidConfiguration, match="within cell, whose labels have voxels of"):
        job(cell, tmp_path / "out", text)
    first = "{resample: {to_um: 0.3}}, "
    turned = text.replace(first, "").replace(
        "within: cell\n    steps: [", "within: cell\n    steps: [{resample: {to_um: 0.3}}, "
    )
    with pytest.raises(InvalidConfiguration, match="looks at an array on the image's own voxels"):
        job(cell, tmp_path / "out", turned)


def test_images_whose_voxels_come_out_unlike_are_run_apart(tmp_path: Path) -> None:
    """No number may be another image's, and a width of a Gaussian in voxels would be."""
    cells = [store(tmp_path / f"{n}.ome.zarr", blobs((14, 50, n))) for n in (60, 61)]
    with pytest.raises(
        InvalidConfiguration, match=r"step gaussian gets voxels of .* from 60 and of .* from 61.*two commands"
    ):
        run_job(load(TEXT, known()), [str(c) for c in cells], str(tmp_path / "out"), Inputs())
    even = [store(tmp_path / f"{n}.ome.zarr", blobs((14, 40, n), n)) for n in (62, 64)]
    text = TEXT.replace("[0.5, 0.2, 0.2]", "[0.5, 0.22, 0.2]")
    made = run_job(load(text, known()), [str(c) for c in even], str(tmp_path / "even"), Inputs())
    execute(made, Settings("none", block=(7, 20, 30)), lambda event: None)
    for n in (62, 64):
        ran(tmp_path / f"{n}.ome.zarr", tmp_path / str(n), text, (7, 20, 30))
        alone = result(tmp_path / str(n), "labels")
        both = open_volume(tmp_path / "even" / "labels" / f"{n}.ome.zarr")
        np.testing.assert_array_equal(both.read(Box.whole(alone.shape)), alone)


def test_a_stage_is_lazy_where_the_shape_stays_and_says_so_where_not(tmp_path: Path) -> None:
    cell = open_volume(store(tmp_path / "cell.ome.zarr", blobs(SHAPE)))
    same = resample(to_um=VOXEL_UM, voxel_um=VOXEL_UM).lazy(cell)
    np.testing.assert_array_equal(same.values, blobs(SHAPE))
    with pytest.raises(ValueError, match="resample changes the shape; use it in a pipeline"):
        resample(to_um=TO, voxel_um=VOXEL_UM).lazy(cell)
