"""Two runs and one output: what is there is never taken for one's own, moved in silence, or deleted with what was replaced."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import MAIN, done, expected, labels_of, store, voxels

from cristae.errors import CristaeError, Damaged, PlanRefused
from cristae.pipeline.audit import audit
from cristae.pipeline.cleaning import clean, leftovers
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import convert_job, run_job
from cristae.pipeline.operations import known
from cristae.pipeline.status import runs_at, status

HERE = Settings("none", block=(12, 20, 22))


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    return store(tmp_path / "cell.ome.zarr", voxels())


def job(cell: Path, name: str = "mito", out: str = "out", sigma: float = 0.12) -> Job:
    text = MAIN.replace("{name: mito}", f"{{name: {name}}}").replace("0.12", str(sigma))
    return run_job(load(text, known()), [str(cell)], str(cell.parent / out), Inputs())


def stopped_run(job: Job) -> None:
    def stopping(event: dict[str, object]) -> None:
        if event["event"] == "blocks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(job, HERE, stopping)


def test_a_run_that_goes_on_does_not_move_anothers_result(cell: Path) -> None:
    stopped_run(job(cell, "late", sigma=0.2))
    done(job(cell), HERE)
    for _ in range(2):
        with pytest.raises(PlanRefused, match="came there since this run was begun"):
            execute(job(cell, "late", sigma=0.2), HERE, lambda event: None)
    np.testing.assert_array_equal(labels_of(cell.parent / "out" / "labels" / "cell.ome.zarr"), expected(voxels()))
    (cell.parent / "away").mkdir()
    for path in [p for p in (cell.parent / "out").iterdir() if p.name != ".cristae"]:
        path.rename(cell.parent / "away" / path.name)
    outcome, _ = done(job(cell, "late", sigma=0.2), HERE)
    assert outcome.status == "done" and outcome.facts["calls"] == 0  # nothing is computed again


def test_two_at_once_do_not_both_win(cell: Path) -> None:
    ends: list[str] = []

    def run(name: str, sigma: float) -> None:
        try:
            ends.append(execute(job(cell, name, sigma=sigma), HERE, lambda event: None).status)
        except CristaeError as error:
            ends.append(type(error).__name__)

    both = [threading.Thread(target=run, args=one) for one in (("one", 0.12), ("two", 0.3))]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(ends) == ["PlanRefused", "done"]


def test_a_result_that_made_room_does_not_say_it_is_there(cell: Path) -> None:
    done(job(cell), HERE)
    done(job(cell, "other", sigma=0.3), Settings("none", block=HERE.block, fresh=True))
    with pytest.raises(PlanRefused, match=r"what mito found at .* was moved aside for what other found"):
        execute(job(cell), HERE, lambda event: None)
    out = str(cell.parent / "out")
    assert [state.name for state in runs_at(out)] == ["other"]
    assert [state.name for state in runs_at(out, replaced=True)] == ["mito", "other"]
    assert not audit(runs_at(out)[0]).findings
    done(job(cell), Settings("none", block=HERE.block, fresh=True))  # and the other way round
    assert [state.name for state in runs_at(out)] == ["mito"]
    np.testing.assert_array_equal(labels_of(cell.parent / "out" / "labels" / "cell.ome.zarr"), expected(voxels()))
    kept = sorted(p.relative_to(cell.parent / "out" / ".cristae") for p in Path(out).rglob("replaced/objects.csv"))
    assert len(kept) == 2  # each of the two results that made room


def test_what_no_run_made_outlives_clean(cell: Path, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x").write_text("mine")
    with pytest.raises(PlanRefused, match="--fresh to move it aside"):
        execute(convert_job(str(cell), str(tmp_path / "notes"), Inputs(), None), HERE, lambda event: None)
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["x"]  # a refusal leaves nothing behind
    again = convert_job(str(cell), str(tmp_path / "notes"), Inputs(), None)
    execute(again, Settings("none", fresh=True), lambda event: None)
    clean(again.state)
    (kept,) = (tmp_path / "notes").rglob("foreign/**/x")
    assert kept.read_text() == "mine" and leftovers(again.state) == []


def test_fresh_leaves_nothing_of_images_that_are_gone(cell: Path, tmp_path: Path) -> None:
    second = store(tmp_path / "second.ome.zarr", voxels(1))

    def of(*paths: Path) -> Job:
        return run_job(load(MAIN, known()), [str(p) for p in paths], str(tmp_path / "out"), Inputs())

    done(of(cell), HERE)
    done(of(cell, second), HERE)  # it joins: the picture of one image makes room for a folder of pictures
    assert not (tmp_path / "out" / "overview.png").exists()
    done(of(cell), Settings("none", fresh=True))
    names = {p.name for p in (tmp_path / "out").rglob("*") if ".cristae" not in p.parts}
    assert not {n for n in names if n.startswith("second")} and "overview.png" in names
    assert (tmp_path / "out" / ".cristae" / "mito" / "gen-0001" / "replaced" / "labels" / "second.ome.zarr").exists()


@pytest.mark.parametrize("gone", ["objects.csv", "summary.csv", "overview.png", "labels/cell.ome.zarr/zarr.json"])
def test_what_somebody_deleted_is_made_again(cell: Path, gone: str) -> None:
    done(job(cell), HERE)
    out = cell.parent / "out"
    before = (out / gone).read_bytes()
    (out / gone).unlink()
    outcome, _ = done(job(cell), HERE)
    assert outcome.status == "done" and (out / gone).read_bytes() == before
    assert done(job(cell), HERE)[0].status == "nothing to do"


def test_an_archive_can_be_looked_at(cell: Path) -> None:
    _looked_at(cell)  # whoever is root may write there all the same


def test_an_archive_on_a_mount_that_is_read_only_can_be_looked_at(cell: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There root, too, is told that a lock cannot be opened."""
    from cristae.store import claim

    class Refusing(claim.FileLock):  # type: ignore[misc]
        def acquire(self, *_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system", "lock")

    done(job(cell), HERE)
    monkeypatch.setattr(claim, "FileLock", Refusing)
    monkeypatch.setattr(os, "access", lambda *_: False)
    _looked_at(cell, run=False)


def _looked_at(cell: Path, run: bool = True) -> None:
    if run:
        done(job(cell), HERE)
    (state,) = runs_at(str(cell.parent / "out"))
    places = [state, *state.rglob("*"), cell.parent / "out"]
    for path in places if run else ():
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert status(state).state == "complete"
        assert not audit(state).findings
        assert execute(job(cell), HERE, lambda event: None).status == "nothing to do"
    finally:
        for path in places if run else ():
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("name", ["run.json", "outputs.json", "work.pkl", "lost.json"])
def test_a_damaged_state_is_one_sentence(cell: Path, name: str) -> None:
    done(job(cell), HERE)
    (state,) = runs_at(str(cell.parent / "out"))
    path = state / "gen-0001" / name
    path.write_bytes((path.read_bytes() if path.exists() else b"{}   ")[:3])
    said = []
    for ask in (status, audit, lambda s: execute(job(cell), HERE, lambda event: None)):
        try:
            ask(state)
        except Damaged as error:
            said.append(str(error))
    assert (said or name == "lost.json") and all(str(path) in one for one in said)
    if name == "work.pkl":
        assert status(state).state == "complete"  # the run's own command has written it again


def test_a_letter_that_flipped_in_the_key_is_damage_and_no_other_parameter(cell: Path) -> None:
    done(job(cell), HERE)
    (state,) = runs_at(str(cell.parent / "out"))
    path = state / "gen-0001" / "run.json"
    path.write_text(path.read_text().replace("otsu", "otsv", 1))
    with pytest.raises(Damaged, match=r"run\.json.*not what was written"):
        execute(job(cell), HERE, lambda event: None)
    facts = json.loads(path.read_text().replace("otsv", "otsu", 1))
    del facts["digest"]  # as earlier versions wrote it
    path.write_text(json.dumps(facts))
    assert execute(job(cell), HERE, lambda event: None).status == "nothing to do"


def test_a_missing_partial_names_the_way_out(cell: Path) -> None:
    stopped_run(job(cell))
    (state,) = runs_at(str(cell.parent / "out"))
    first = next(iter(sorted((state / "gen-0001" / "partials").rglob("*.bundle"))))
    first.unlink()
    with pytest.raises(Damaged, match=r"cristae audit .*out.*and the same command makes it again"):
        execute(job(cell), HERE, lambda event: None)
    assert audit(state).findings
    assert execute(job(cell), HERE, lambda event: None).status == "done"
    np.testing.assert_array_equal(labels_of(cell.parent / "out" / "labels" / "cell.ome.zarr"), expected(voxels()))


def test_another_input_is_named_as_such(cell: Path, tmp_path: Path) -> None:
    other = store(tmp_path / "other.ome.zarr", voxels(1))
    for make in (lambda p: job(p), lambda p: convert_job(str(p), str(tmp_path / "copy.ome.zarr"), Inputs(), None)):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        done(make(cell), Settings("none"))
        with pytest.raises(PlanRefused, match="was made from cell, not from other") as refused:
            execute(make(other), Settings("none"), lambda event: None)
        assert Path(str(refused.value).split(" was made")[0]).exists(), "what it names is there"


def test_a_run_that_never_came_into_place_owns_nothing_there(cell: Path) -> None:
    """What the user put where an unfinished run would write is hers, and that run was not replaced by anybody."""
    stopped_run(job(cell, "late", sigma=0.2))
    (cell.parent / "out" / "objects.csv").write_text("hers")
    done(job(cell), Settings("none", block=HERE.block, fresh=True))
    (kept,) = (cell.parent / "out").rglob("foreign/objects.csv")
    assert kept.read_text() == "hers"
    with pytest.raises(PlanRefused, match="came there since this run was begun"):
        execute(job(cell, "late", sigma=0.2), HERE, lambda event: None)
