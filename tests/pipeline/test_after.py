"""After a run: cleaned, exported, reported; each says what it did and touches nothing else."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars
import pytest
import tifffile
from pipeline.test_batch import folder, job_of, sheet  # noqa: F401
from pipeline.test_job import MAIN, VOXEL_UM, done, expected, labels_of, main_job, store, voxels
from typer.testing import CliRunner, Result

from cristae.errors import Claimed, InvalidInput, PlanRefused, SetAside
from cristae.pipeline.audit import audit
from cristae.pipeline.cleaning import clean, leftovers
from cristae.pipeline.execute import execute
from cristae.pipeline.exporting import arrays_of, export
from cristae.pipeline.job import Settings
from cristae.pipeline.report import report, write_report
from cristae.pipeline.status import runs_at
from cristae.store.claim import Claim
from cristae.store.volume import open_volume
from cristae_cli.main import app

HERE = Settings("none", block=(12, 40, 44))


def cristae(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return store(tmp_path / "cell.ome.zarr", voxels())


# ------------------------------------------------------------------------------------------------------- clean


def test_what_was_replaced_stays_until_it_is_cleaned(cell: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(main_job(cell, out))
    state = main_job(cell, out).state
    assert leftovers(state) == []
    done(main_job(cell, out, changes=("label.min_voxels=40",)), Settings("none", block=(6, 20, 22), fresh=True))
    (old,) = leftovers(state)
    assert (old.what, old.size > 1000) == ("a replaced result and its run", True)
    before = labels_of(out / "labels" / "cell.ome.zarr")
    shown = cristae("clean", out, "--dry-run")
    assert shown.exit_code == 0 and "gen-0001" in shown.stdout and (old.path / "replaced").exists()
    assert "1 folder" in cristae("clean", out).stderr
    assert not old.path.exists()
    assert leftovers(state) == []
    np.testing.assert_array_equal(labels_of(out / "labels" / "cell.ome.zarr"), before)
    again, _ = done(main_job(cell, out, changes=("label.min_voxels=40",)))
    assert again.status == "nothing to do"
    assert cristae("audit", out).exit_code == 0


def test_a_run_at_work_is_not_cleaned(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell, tmp_path / "out"))
    state = main_job(cell, tmp_path / "out").state
    with Claim(state), pytest.raises(Claimed):
        clean(state)


# ------------------------------------------------------------------------------------------------------ export


def test_labels_are_exported_voxel_for_voxel(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell, tmp_path / "out"))
    assert cristae("export", tmp_path / "out", "--to", "ome-tiff").exit_code == 0
    path = tmp_path / "out" / "export" / "cell.ome.tif"
    np.testing.assert_array_equal(tifffile.imread(path), expected(voxels()))
    back = open_volume(path)
    assert (back.axes, back.voxel_um) == ("zyx", pytest.approx(VOXEL_UM))
    assert "exists already" in str(cristae("export", tmp_path / "out").exception)


def test_a_single_label_is_exported_beside_its_store(tmp_path: Path) -> None:
    image = store(tmp_path / "cell.ome.zarr", voxels())
    (tmp_path / "p.yaml").write_text(MAIN)
    assert cristae("run", tmp_path / "p.yaml", image).exit_code == 0
    (label,) = (image / "labels").glob("[a-z]*/")
    assert cristae("export", label).exit_code == 0
    assert (tmp_path / "export" / f"{label.name}.ome.tif").exists() and not (label / "export").exists()


def test_time_points_and_channels_are_exported(tmp_path: Path) -> None:
    film = np.stack([voxels(n) for n in range(3)])
    source = store(tmp_path / "film.ome.zarr", film, axes="tzyx", frame_interval_s=2.0)
    export(source, tmp_path / "film.ome.tif")
    back = open_volume(tmp_path / "film.ome.tif")
    assert (back.axes, back.frame_interval_s) == ("tzyx", 2.0)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "film.ome.tif"), film)
    with pytest.raises(PlanRefused, match="exists already"):
        export(source, tmp_path / "film.ome.tif")
    assert list(tmp_path.glob(".*")) == []


def test_what_cannot_be_exported_is_said(cell: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no run"):
        arrays_of(str(tmp_path / "nowhere"))
    assert "ome-tiff" in str(cristae("export", cell, "--to", "jpeg").exception)


# ------------------------------------------------------------------------------------------------------ report


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_report_shows_each_condition_and_fetches_nothing(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    rows = ("cell0.tif,control", "cell1.tif,control", "cell2.tif,drug <b>")
    (folder / "bad.tif").write_bytes(b"no image")
    words = [str(sheet(folder, "path,condition", *rows, "bad.tif,drug <b>"))]
    with pytest.raises(SetAside):
        execute(job_of(words, tmp_path / "out"), HERE, lambda event: None)
    text = report(tmp_path / "out", "condition")
    page = Page(text)
    assert not [
        a for _, a in page.tags for k, v in a.items() if k in ("src", "href") and not str(v).startswith("data:")
    ]
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe")]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 3
    dots = [a for tag, a in page.tags if tag == "circle"]
    plots = [a for tag, a in page.tags if tag == "svg"]
    assert len(dots) == 3 * len(plots) > 0
    assert "control (2)" in text and "drug &lt;b&gt; (1)" in text and "drug <b>" not in text
    assert "bad.tif" in text and "left out" in text
    assert "sigma_um = 0.12" in text
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    assert f"{len(table)} objects in 3 images" in text
    assert "Computed in 3 blocks of" in text and "Not audited yet" in text
    (state,) = runs_at(str(tmp_path / "out"))
    compared = audit(state).objects
    assert f"{compared} stored objects compared with what was written, 0 damaged" in report(tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / ".cristae")
    assert "Seams" not in report(tmp_path / "out")


def test_a_report_of_nothing_is_refused(cell: Path, tmp_path: Path) -> None:
    done(main_job(cell, tmp_path / "out"))
    with pytest.raises(InvalidInput, match="no column condition to report by"):
        report(tmp_path / "out", "condition")
    with pytest.raises(InvalidInput, match=r"holds no objects\.parquet"):
        report(tmp_path)
    shown = cristae("report", tmp_path / "out")
    assert shown.exit_code == 0
    assert re.search(r"report\.html", shown.stdout)
    assert (tmp_path / "out" / "report.html").stat().st_size > 5000


def test_a_dry_run_is_a_plan(cell: Path, tmp_path: Path) -> None:
    (tmp_path / "mito.yaml").write_text(MAIN, encoding="utf-8")
    words = (tmp_path / "mito.yaml", cell, "--out", tmp_path / "out", "--cluster", "none", "--memory", "4GiB")
    shown, planned = cristae("run", *words, "--dry-run"), cristae("plan", *words)
    assert shown.exit_code == 0
    assert not (tmp_path / "out").exists()
    assert shown.stdout == planned.stdout != ""
    assert "from one block of" in cristae("plan", *words, "--probe").stdout
    assert "core-hours; 8 workers" in cristae("plan", *words, "--workers", "8").stdout


def test_a_command_is_run_at_the_end_whatever_the_end(cell: Path, tmp_path: Path) -> None:
    (tmp_path / "mito.yaml").write_text(MAIN, encoding="utf-8")
    words = (tmp_path / "mito.yaml", cell, "--cluster", "none", "--on-finish")
    note = f'echo "$CRISTAE_EXIT $CRISTAE_OUTPUT" >> {tmp_path / "note"}'
    assert cristae("run", *words, note, "--out", tmp_path / "out").exit_code == 0
    refused = cristae("run", *words, note, "--out", tmp_path / "out", "--set", "label.min_voxels=9")
    assert refused.exception is not None
    assert (tmp_path / "note").read_text().splitlines() == [f"{code} {tmp_path / 'out'}" for code in (0, 3)]
    assert "ended with 7" in cristae("run", *words, "exit 7", "--out", tmp_path / "out").stderr


def test_what_was_made_of_a_result_goes_aside_with_it(tmp_path: Path) -> None:
    cell, out = store(tmp_path / "cell.ome.zarr", voxels()), tmp_path / "out"
    (out / "export").mkdir(parents=True)
    (out / "export" / "notes.txt").write_text("hers")
    done(main_job(cell, out), Settings("none"))
    assert (out / "export" / "notes.txt").exists()  # nothing was replaced
    export(out / "labels" / "cell.ome.zarr", out / "export" / "cell.ome.tif")
    write_report(out)
    again = main_job(cell, out, changes=("label.min_voxels=40",))
    done(again, Settings("none", fresh=True))
    assert not (out / "export").exists() and not (out / "report.html").exists()
    replaced = again.state / "gen-0001" / "replaced"
    assert (replaced / "export" / "cell.ome.tif").exists() and (replaced / "report.html").exists()
