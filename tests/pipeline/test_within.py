"""Objects within others: each knows what holds it, none reaches over two, whatever the blocks; intensity is of every raw channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars
import pytest
from pipeline.test_job import VOXEL_UM, done, labels_of
from scipy import ndimage

from cristae.errors import InvalidConfiguration
from cristae.filters import gaussian, threshold
from cristae.grid import Box
from cristae.labels import label
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview
from cristae.store.create import create_volume, publish
from cristae.store.facts import Channel
from cristae.store.volume import open_volume

SHAPE = (12, 60, 64)
TEXT = """
objects:
  mito:
    channel: TMRM
    within: cell
    steps:
      - gaussian: {sigma_um: 0.1}
      - threshold: {method: otsu}
      - label: {min_voxels: 3}
      - measure: {columns: [shape, surface, intensity], channels: all}
  cell:
    channel: membrane
    steps:
      - threshold: {value: 500}
      - label
      - measure: [shape]
"""


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells side by side, and tubes that run through several of them and through the ground between."""
    rng = np.random.default_rng(7)
    path = tmp_path_factory.mktemp("two") / "two.ome.zarr"
    z, y, x = np.indices(SHAPE)
    bodies = np.zeros(SHAPE, np.uint16)
    for cy, cx in ((15, 16), (15, 48), (45, 16), (45, 47)):
        bodies[((y - cy) / 14.0) ** 2 + ((x - cx) / 15.6) ** 2 < 1] = 900
    tubes = 60.0 + 900 * np.exp(-(((y - 15 - 3 * np.sin(x / 5)) ** 2 + (z - 6) ** 2) / 6.0))
    tubes += 900 * np.exp(-(((x - 20 - 4 * np.cos(y / 6)) ** 2 + (z - 4) ** 2) / 5.0))
    made = create_volume(
        path, axes="czyx", shape=(2, *SHAPE), dtype="uint16", voxel_um=VOXEL_UM, chunk=SHAPE, shard=SHAPE,
        channels=(Channel("membrane"), Channel("TMRM")),
    )  # fmt: skip
    made.write(Box.whole(SHAPE), bodies + rng.integers(0, 50, SHAPE).astype(np.uint16), c=0)
    made.write(Box.whole(SHAPE), (tubes + rng.normal(0, 10, SHAPE)).clip(0).astype(np.uint16), c=1)
    publish(made)
    return path


def channel(path: Path, c: int) -> np.ndarray:
    return open_volume(path).read(Box.whole(SHAPE), c=c)


def by_hand(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Cells and mitochondria: the mask is cut by the cells, and labelled inside each."""
    cells, _ = ndimage.label(channel(path, 0) > 500, np.ones((3, 3, 3)))
    smooth = gaussian(0.1, voxel_um=VOXEL_UM)(channel(path, 1))
    held = np.where(threshold(method="otsu", voxel_um=VOXEL_UM)(smooth), cells, 0).astype(np.uint32)
    return cells, label(voxel_um=VOXEL_UM, multilabel=True, min_voxels=3)(held)


def job(path: Path, out: Path | None, text: str = TEXT) -> Job:
    return run_job(load(text, known()), [str(path)], None if out is None else str(out), Inputs())


@pytest.mark.parametrize("block", [SHAPE, (5, 17, 23), (12, 60, 7)])
def test_every_object_knows_its_holder(cell: Path, tmp_path: Path, block: tuple[int, ...]) -> None:
    done(job(cell, tmp_path), Settings("none", block=block))
    cells, mito = by_hand(cell)
    np.testing.assert_array_equal(labels_of(tmp_path / "labels" / "two-cell.ome.zarr"), cells)
    np.testing.assert_array_equal(labels_of(tmp_path / "labels" / "two-mito.ome.zarr"), mito)
    table = polars.read_parquet(tmp_path / "mito" / "objects.parquet")
    assert set(table["parent_cell"]) == {1, 2, 3}
    for row in table.iter_rows(named=True):
        mine = mito == row["label"]
        assert set(np.unique(cells[mine])) == {row["parent_cell"]}
        assert row["intensity_mean_TMRM"] == pytest.approx(channel(cell, 1)[mine].mean())
        assert row["intensity_max_membrane"] == channel(cell, 0)[mine].max()
    described = polars.read_csv(tmp_path / "mito" / "columns.csv")
    assert "parent_cell" in described["column"].to_list()
    assert "parent_cell" not in polars.read_parquet(tmp_path / "cell" / "objects.parquet").columns


@pytest.mark.parametrize("cluster", ["threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
def test_in_a_store_and_on_workers_it_is_the_same(cell: Path, tmp_path: Path, cluster: str) -> None:
    import shutil

    shutil.copytree(cell, tmp_path / "two.ome.zarr")
    done(job(tmp_path / "two.ome.zarr", None), Settings(cluster, block=(7, 31, 33)))
    _, mito = by_hand(cell)
    np.testing.assert_array_equal(labels_of(tmp_path / "two.ome.zarr" / "labels" / "mito"), mito)
    again, _ = done(job(tmp_path / "two.ome.zarr", None), Settings(cluster))
    assert again.status == "nothing to do"


def test_a_preview_shows_what_the_run_finds(cell: Path) -> None:
    panels = preview({"x": load(TEXT, known())}, open_volume(cell), None)
    cells, mito = by_hand(cell)
    assert {p.object: p.objects for p in panels} == {"cell": cells.max(), "mito": mito.max()}


def test_what_cannot_hold_is_refused(cell: Path, tmp_path: Path) -> None:
    no_labels = TEXT.replace("      - label\n      - measure: [shape]\n", "")
    with pytest.raises(InvalidConfiguration, match="mito is within cell, which ends in threshold, not in labels"):
        job(cell, tmp_path, no_labels)
    bare = TEXT.replace("      - label: {min_voxels: 3}\n", "").replace(
        "      - measure: {columns: [shape, surface, intensity], channels: all}\n", ""
    )
    with pytest.raises(InvalidConfiguration, match="mito is within cell, but has no label step"):
        job(cell, tmp_path, bare)
