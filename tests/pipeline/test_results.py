"""What a person finds beside the labels: each file opens, agrees with the table, and says what it is about."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import polars
import pytest
from pipeline.test_job import MAIN, VOXEL_UM, done, expected, main_job, store, voxels
from polars.testing import assert_frame_equal
from skimage.filters import threshold_otsu

from cristae.errors import InvalidConfiguration, PlanRefused
from cristae.filters import gaussian
from cristae.pipeline import results
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known

FILES = {"objects.parquet", "objects.csv", "summary.csv", "columns.csv", "seams.json", "methods.md", "overview.png"}
TWO = """
objects:
  mito: {steps: [{gaussian: {sigma_um: 0.12}}, {threshold: {method: otsu}}, label, {measure: [shape]}]}
  cell: {steps: [{threshold: {value: 900.5}}, {label: {min_voxels: 2}}, measure]}
"""


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return store(tmp_path / "cell.ome.zarr", voxels())


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("block", [(6, 20, 22), (12, 40, 44)])
def test_a_run_leaves_its_results_in_the_folder(cell: Path, tmp_path: Path, block: tuple[int, ...]) -> None:
    out = tmp_path / "out"
    outcome, _ = done(main_job(cell, out), Settings("none", block=block))
    assert {p.name for p in out.iterdir() if p.is_file()} == FILES
    assert {p.name for p in outcome.outputs} == FILES | {"cell.ome.zarr"}
    table = polars.read_parquet(out / "objects.parquet")
    assert_frame_equal(polars.read_csv(out / "objects.csv", schema=table.schema), table, rel_tol=1e-15)
    assert [r["column"] for r in rows(out / "columns.csv")] == table.columns
    assert all(r["definition"] for r in rows(out / "columns.csv"))
    (row,) = rows(out / "summary.csv")
    mask = expected(voxels()) > 0
    assert (row["image"], row["t"], row["objects"]) == ("cell", "0", str(len(table)))
    assert float(row["total_volume_um3"]) == pytest.approx(mask.sum() * np.prod(VOXEL_UM))
    assert float(row["median_volume_um3"]) == pytest.approx(table["volume_um3"].median())
    assert float(row["foreground_fraction"]) == pytest.approx(mask.mean())
    smooth = gaussian(0.12, voxel_um=VOXEL_UM)(voxels())
    assert float(row["threshold"]) == pytest.approx(threshold_otsu(smooth), rel=1e-6)
    said = (out / "methods.md").read_text(encoding="utf-8")
    assert "sigma_um = 0.12" in said and "min_voxels = 3" in said and "cristae 0" in said


def test_results_lie_beside_the_table_in_a_store(cell: Path) -> None:
    done(main_job(cell))
    found = {p.name for p in (cell / "tables" / "mito").iterdir()}
    assert found == FILES - {"objects.parquet"} | {"table.parquet", "table.json"}


def test_each_object_has_a_folder_where_there_are_several(cell: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(run_job(load(TWO, known()), [str(cell)], str(out), Inputs()))
    for name in ("mito", "cell"):
        assert {p.name for p in (out / name).iterdir()} == FILES
    assert rows(out / "cell" / "summary.csv")[0]["threshold"] == "900.5"
    assert {p.name for p in (out / "labels").iterdir()} == {"cell-mito.ome.zarr", "cell-cell.ome.zarr"}


def test_every_image_and_time_point_has_a_row_and_the_odd_are_flagged(tmp_path: Path) -> None:
    film = np.stack([voxels(), np.zeros_like(voxels()), voxels()])
    film[2, :, 10:] = 60000 - (np.indices(film[2, :, 10:].shape).sum(axis=0) % 7)
    paths = [store(tmp_path / "a.ome.zarr", film, axes="tzyx", frame_interval_s=1.0)]
    done(run_job(load(MAIN, known()), [str(p) for p in paths], str(tmp_path / "out"), Inputs()))
    found = rows(tmp_path / "out" / "summary.csv")
    assert [(r["image"], r["t"]) for r in found] == [("a", "0"), ("a", "1"), ("a", "2")]
    assert [r["flags"] for r in found] == ["", "no objects", "mostly foreground"]
    assert found[1]["median_volume_um3"] == ""
    assert float(found[0]["threshold"]) != float(found[2]["threshold"])


def test_a_table_too_long_for_a_spreadsheet_stays_out_of_text(
    cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CSV_ROWS", 3)
    out = tmp_path / "out"
    outcome, _ = done(main_job(cell, out))
    assert not (out / "objects.csv").exists()
    assert (out / "objects.parquet").exists()
    assert out / "objects.csv" not in outcome.outputs
    again, _ = done(main_job(cell, out))
    assert again.status == "nothing to do"


def test_a_replaced_result_is_kept_whole(cell: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(main_job(cell, out))
    before = (out / "objects.csv").read_bytes()
    done(main_job(cell, out, changes=("label.min_voxels=40",)), Settings("none", block=(6, 20, 22), fresh=True))
    assert (out / "objects.csv").read_bytes() != before
    (kept,) = out.rglob("replaced/objects.csv")
    assert kept.read_bytes() == before


def test_a_local_threshold_has_no_value_to_sum_up(cell: Path, tmp_path: Path) -> None:
    text = MAIN.replace("{method: otsu}", "{method: local, radius_um: 0.5, offset: 20}")
    done(main_job(cell, tmp_path / "out", text=text))
    (row,) = rows(tmp_path / "out" / "summary.csv")
    assert "threshold" not in row
    assert int(row["objects"]) > 0


def test_methods_say_which_part_was_analysed(cell: Path, tmp_path: Path) -> None:
    film = store(tmp_path / "film.ome.zarr", np.stack([voxels(n) for n in range(4)]), axes="tzyx", frame_interval_s=1.0)
    inputs = Inputs(time=(1, 3), crop={"z": (2, 10)})
    done(main_job(film, tmp_path / "out", inputs=inputs))
    said = (tmp_path / "out" / "methods.md").read_text(encoding="utf-8")
    assert "time points 1 to 2" in said and "cropped to the voxels z 2 to 9" in said


def test_a_refusal_names_what_the_user_changed(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell, tmp_path / "out"))
    for changed, said in (
        (main_job(cell, tmp_path / "out", inputs=Inputs(crop={"z": (2, 10)})), "crop"),
        (
            main_job(cell, tmp_path / "out", changes=("threshold.method=li",)),
            r"parameters of threshold \(method: otsu -> li",
        ),
    ):
        with pytest.raises(PlanRefused, match=said):
            done(changed)


def test_a_background_is_taken_from_intensities_and_recorded(cell: Path, tmp_path: Path) -> None:
    text = MAIN.replace("{columns:", "{background: 90.5, columns:")
    assert "90.5" in text
    done(main_job(cell, tmp_path / "plain"))
    done(main_job(cell, tmp_path / "less", text=text))
    plain, less = (polars.read_parquet(tmp_path / n / "objects.parquet") for n in ("plain", "less"))
    for name in ("mean", "min", "max"):
        np.testing.assert_allclose(less[f"intensity_{name}"], plain[f"intensity_{name}"] - 90.5, rtol=1e-12)
    np.testing.assert_allclose(less["intensity_sum"], plain["intensity_sum"] - 90.5 * plain["voxels"], rtol=1e-12)
    same = [c for c in plain.columns if c.removeprefix("intensity_") not in ("sum", "mean", "min", "max")]
    assert_frame_equal(less.select(same), plain.select(same))
    said = {r["column"]: r["definition"] for r in rows(tmp_path / "less" / "columns.csv")}
    assert (
        "less a background of 90.5 in each voxel" in said["intensity_mean"]
        and "background" not in said["intensity_std"]
    )
    assert "less a background of 90.5" in (tmp_path / "less" / "methods.md").read_text(encoding="utf-8")
    with pytest.raises(PlanRefused, match="backgrounds"):
        done(main_job(cell, tmp_path / "less"))
    for wrong in ("-1", "true", "dark"):
        with pytest.raises(InvalidConfiguration, match="background is"):
            main_job(cell, tmp_path / "wrong", text=text.replace("90.5", wrong))
