"""Preview and crop: what a small box shows is what a run over the same box finds, and nothing but a picture is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pipeline.test_job import BLOCK, MAIN, SHAPE, VOXEL_UM, done, expected, labels_of, main_job, store, table_of, voxels
from typer.testing import CliRunner, Result

from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box
from cristae.pipeline import preview as module
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.operations import known
from cristae.pipeline.preview import preview, sheet
from cristae.store.volume import open_volume
from cristae_cli.main import app

CROP = {"z": (2, 10), "x": (5, 40)}
INSIDE = (slice(2, 10), slice(None), slice(5, 40))


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return store(tmp_path / "cell.ome.zarr", voxels())


def cristae(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


def test_a_crop_is_a_volume_that_knows_where_it_lies(cell: Path) -> None:
    part = open_volume(cell).cropped(CROP)
    assert (part.shape, part.translation_um) == ((8, 40, 35), pytest.approx((0.6, 0.0, 0.5)))
    np.testing.assert_array_equal(part.read(Box.whole(part.shape)), voxels()[INSIDE])
    np.testing.assert_array_equal(part.read(Box((1, 2, 3), (4, 5, 9))), voxels()[INSIDE][1:4, 2:5, 3:9])
    np.testing.assert_array_equal(part.xarray().values, voxels()[INSIDE])
    twice = part.cropped({"z": (3, 5), "y": (1, 2)})
    np.testing.assert_array_equal(twice.read(Box.whole(twice.shape)), voxels()[5:7, 1:2, 5:40])
    assert part.identity() != open_volume(cell).identity() != twice.identity()
    with pytest.raises(InvalidInput, match=r"--crop z=2:13 is not inside .*z=0:12,y=0:40,x=0:44"):
        open_volume(cell).cropped({"z": (2, 13)})


@pytest.mark.parametrize("block", [BLOCK, SHAPE])
def test_a_run_over_a_crop_is_the_run_over_those_voxels(cell: Path, tmp_path: Path, block: tuple[int, ...]) -> None:
    inputs = Inputs(crop=CROP)
    done(main_job(cell, tmp_path / "out", inputs=inputs), Settings("none", block=block))
    found = labels_of(tmp_path / "out" / "labels" / "cell.ome.zarr")
    np.testing.assert_array_equal(found, expected(voxels()[INSIDE]))
    assert open_volume(tmp_path / "out" / "labels" / "cell.ome.zarr").translation_um == pytest.approx((0.6, 0.0, 0.5))
    assert table_of(tmp_path / "out")["centroid_x_um"].min() >= 0.5
    with pytest.raises(InvalidConfiguration, match="--crop leaves holes"):
        main_job(cell, inputs=inputs)


def test_a_panel_shows_what_a_run_would_find(cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    called = Stage.__call__
    monkeypatch.setattr(Stage, "__call__", lambda stage, *arrays: calls.append(stage.name) or called(stage, *arrays))
    changes = ("label.min_voxels=40", "threshold.method=li")
    pipelines = {name: load(MAIN, known(), [] if name == "as written" else [name]) for name in ("as written", *changes)}
    panels = preview(pipelines, open_volume(cell).cropped(CROP), None)
    assert calls == ["gaussian", "threshold", "label", "label", "threshold", "label"]
    for panel, change in zip(panels, ((), *((c,) for c in changes)), strict=True):
        out = tmp_path / (change[0] if change else "plain")
        done(main_job(cell, out, inputs=Inputs(crop=CROP), changes=change), Settings("none"))
        table = table_of(out)
        assert panel.objects == len(table) > 0
        assert panel.size == pytest.approx(table["volume_um3"].sum())
    assert panels[0].thresholds == panels[1].thresholds != panels[2].thresholds
    picture = sheet(panels)
    assert picture.shape[0] >= 2 * panels[0].picture.shape[0]


def test_only_a_picture_is_written(cell: Path, tmp_path: Path) -> None:
    (tmp_path / "mito.yaml").write_text(MAIN, encoding="utf-8")
    before = set(tmp_path.rglob("*"))
    shown = cristae(
        "preview",
        tmp_path / "mito.yaml",
        cell,
        "--crop",
        "z=2:10",
        "--set",
        "label.min_voxels=9",
        "--out",
        tmp_path / "a.png",
    )
    assert shown.exit_code == 0
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "a.png"}
    assert "mito, as written: " in shown.stdout and "mito, label.min_voxels=9: " in shown.stdout
    assert "those of this box" in shown.stdout
    assert Image.open(tmp_path / "a.png").size[0] > 600


def test_what_cannot_be_previewed_is_said(cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mito.yaml").write_text(MAIN, encoding="utf-8")
    for words, said in (
        (("--crop", "z=2:90"), "is not inside"),
        (("--crop", "q=2:9"), "is not a box"),
        (("--crop", "z=2:9,z=1:3"), "is not a box"),
        (("--time", "3"), "outside the 1 time points"),
        (("--time", "0:2"), "more than one time point"),
        (("--out", "a.jpg"), "end it in .png"),
        (("--set", "ridge.sigma=3"), "ridge"),
    ):
        assert said in str(cristae("preview", tmp_path / "mito.yaml", cell, *words).exception)
    pipelines = {"x": load("output: {name: a}\nsteps: [{gaussian: {sigma_um: 0.1}}]\n", known())}
    with pytest.raises(InvalidConfiguration, match="ends in gaussian, not in labels"):
        preview(pipelines, open_volume(cell), None)
    monkeypatch.setattr(module, "LARGEST", 100)
    with pytest.raises(InvalidInput, match="give a smaller --crop"):
        preview({"x": load(MAIN, known())}, open_volume(cell), None)


def test_a_plane_has_areas(tmp_path: Path) -> None:
    flat = store(tmp_path / "flat.ome.zarr", voxels(3, (70, 90)), axes="yx")
    (panel,) = preview({"x": load(MAIN, known())}, open_volume(flat), None)
    assert panel.unit == "um2"
    assert panel.size == pytest.approx(np.count_nonzero(expected(voxels(3, (70, 90)))) * VOXEL_UM[1] * VOXEL_UM[2])
