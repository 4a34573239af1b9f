"""Words: what a user is told before a run, and in place of one."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from pipeline.test_job import done, main_job, store, voxels
from typer.testing import CliRunner

from cristae.errors import Damaged, InvalidConfiguration, InvalidInput, PlanRefused
from cristae.pipeline.audit import audit
from cristae.pipeline.execute import outlook
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.report import report
from cristae.pipeline.status import status
from cristae_cli.main import app


def test_a_dry_run_says_what_a_run_would_do_and_refuses_what_it_would(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    out = tmp_path / "out"
    assert outlook(main_job(cell, out), Settings("none")) == "begin"
    assert not out.exists()
    done(main_job(cell, out), Settings("none"))
    assert outlook(main_job(cell, out), Settings("none")) == "do nothing: the result is complete"
    other = main_job(cell, out, changes=("label.min_voxels=9",))
    with pytest.raises(PlanRefused, match=r"min_voxels: 3 -> 9.*--fresh"):
        outlook(other, Settings("none"))
    assert outlook(other, Settings("none", fresh=True)).startswith("begin again")
    shutil.rmtree(out / "labels")
    assert outlook(main_job(cell, out), Settings("none")) == "make what is missing"
    assert not (out / "labels").exists()


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("  - gaussian: {sigma_um: -3}\n  - label\n", "line 3: gaussian: sigma_um is -3"),
        ("  - threshold: {method: otsu}\n  - label: {connectivity: 9}\n", "line 4: label: connectivity 9"),
        ("  - threshold: {value: 3}\n  - watershed: {}\n", "line 4: there is no step watershed; did you mean split"),
        ("  - tubeness: {}\n", "line 3: there is no step tubeness; did you mean ridge"),
        ("  - project: max\n  - threshold: {value: 3}\n  - label: {min_volume_um3: 1}\n", "line 5: .*as after project"),
        (
            "  - threshold: {value: 3}\n  - label\n  - measure: {columns: [shape], background: 3}\n",
            "line 5: measure: background 3 is taken from intensities, and no column has any",
        ),
    ],
)
def test_a_wrong_value_is_said_with_its_line(tmp_path: Path, steps: str, said: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    (tmp_path / "p.yaml").write_text("output: {name: mito}\nsteps:\n" + steps)
    with pytest.raises(InvalidConfiguration, match=rf"^{tmp_path}/p.yaml, {said}"):
        run_job(load(tmp_path / "p.yaml", known()), [str(cell)], str(tmp_path / "out"), Inputs())


def test_a_background_above_the_image_is_doubted(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    for background, warned in ((10, 0), (60000, 1)):
        job = main_job(
            cell,
            tmp_path / f"{background}",
            changes=("measure.columns=[shape, intensity]", f"measure.background={background}"),
        )
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            done(job, Settings("none"))
        assert len([w for w in seen if "no object is brighter than the background" in str(w.message)]) == warned


def test_a_state_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    job = main_job(cell, tmp_path / "out")
    done(job, Settings("none"))
    (job.state / "gen-0001" / "run.json").write_text("{")
    for ask in (lambda: status(job.state), lambda: audit(job.state), lambda: main_job(cell, tmp_path / "out")):
        with pytest.raises(Damaged, match=r"run.json, which says what was run, cannot be read .*move .* away"):
            ask()
    with pytest.raises(InvalidInput, match=r"holds no objects.parquet"):
        report(tmp_path)


def test_an_input_that_changed_is_no_damage_of_the_result(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    job = main_job(cell, tmp_path / "out")
    done(job, Settings("none"))
    shutil.rmtree(cell)
    store(cell, voxels(1))
    seen = audit(job.state, inputs=True)
    assert seen.changed and not seen.findings
    said = CliRunner().invoke(app, ["audit", str(tmp_path / "out"), "--inputs"])
    assert isinstance(said.exception, Damaged) and "the result is whole, but 1 blocks of its input" in str(
        said.exception
    )
