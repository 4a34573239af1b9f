"""A step that says `keep: true` is done once: later runs that begin the same way call nothing that came before it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars
import pytest
from pipeline.test_job import done, labels_of, main_job, store, voxels
from polars.testing import assert_frame_equal

from cristae.errors import PlanRefused, SetAside
from cristae.pipeline import execute as module
from cristae.pipeline.audit import audit
from cristae.pipeline.cleaning import clean, leftovers
from cristae.pipeline.execute import execute
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.status import runs_at, status

PIPELINE = """
output: {name: mito}
steps:
  - gaussian: {sigma_um: 0.12}
  - ridge: {radius_um: [0.3]}
    keep: true
  - threshold: {method: otsu}
  - label: {min_voxels: 4}
  - measure: [shape, intensity]
"""
PLAIN = PIPELINE.replace("    keep: true\n", "")
BLOCKS = [(12, 40, 44), (6, 20, 22)]


def calls(job: Job, block: tuple[int, ...], fresh: bool = False) -> dict[str, int]:
    """Kernel calls of a run, by the name of the pass."""
    events: list[dict] = []
    execute(job, Settings("none", block=block, fresh=fresh), events.append)
    named = {e["pass"]: e["name"] for e in events if e["event"] == "pass"}
    return {named[e["pass"]]: e["done"] for e in events if e["event"] == "blocks"}


@pytest.mark.parametrize("block", BLOCKS)
def test_a_changed_last_step_calls_nothing_before_what_is_kept(tmp_path: Path, block: tuple[int, ...]) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    out = tmp_path / "out"
    first = calls(main_job(cell, out, text=PIPELINE), block)
    assert any("ridge" in name for name in first)
    assert done(main_job(cell, out, text=PIPELINE), Settings("none"))[0].status == "nothing to do"
    before = labels_of(out / "labels" / "cell.ome.zarr")
    changed = main_job(cell, out, text=PIPELINE, changes=("label.min_voxels=60",))
    again = calls(changed, block, fresh=True)
    assert again and not any("ridge" in name or "gaussian" in name for name in again)
    assert sum(again.values()) < sum(first.values())
    plain = main_job(cell, tmp_path / "plain", text=PLAIN, changes=("label.min_voxels=60",))
    calls(plain, (7, 16, 25))
    after = labels_of(out / "labels" / "cell.ome.zarr")
    np.testing.assert_array_equal(after, labels_of(tmp_path / "plain" / "labels" / "cell.ome.zarr"))
    assert (after != before).any()
    ours, theirs = (polars.read_parquet(p / "objects.parquet") for p in (out, tmp_path / "plain"))
    assert_frame_equal(ours, theirs, rel_tol=1e-9)
    (found,) = (status(s) for s in runs_at(str(out)))
    assert found.state == "complete" and [i.state for i in found.images] == ["done"]
    assert not audit(changed.state).findings
    assert [left.what for left in leftovers(changed.state)] == ["a replaced result and its run"]
    assert (changed.state / "gen-0001" / "replaced").exists()  # until it is cleaned


@pytest.mark.parametrize("block", BLOCKS)
def test_what_is_kept_is_made_though_nothing_asks_about_it(tmp_path: Path, block: tuple[int, ...]) -> None:
    """A fixed threshold has no question, so only the last pass reads what is kept; in one block that is done with others before it."""
    text = PIPELINE.replace("{method: otsu}", "{value: 0.02}")
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    made = calls(main_job(cell, tmp_path / "out", text=text), block)
    assert any("ridge" in name and "label" not in name for name in made)
    calls(main_job(cell, tmp_path / "plain", text=text.replace("    keep: true\n", "")), (7, 16, 25))
    found = labels_of(tmp_path / "out" / "labels" / "cell.ome.zarr")
    assert found.max() > 1
    np.testing.assert_array_equal(found, labels_of(tmp_path / "plain" / "labels" / "cell.ome.zarr"))


def test_a_step_that_is_no_longer_kept_is_said_in_words(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    calls(main_job(cell, tmp_path / "out", text=PIPELINE), BLOCKS[1])
    with pytest.raises(
        PlanRefused, match="the order of the steps, or which of them are kept, changed since; give another"
    ):
        calls(main_job(cell, tmp_path / "out", text=PLAIN), BLOCKS[1])


@pytest.mark.parametrize("block", BLOCKS)
def test_another_beginning_is_another_result(tmp_path: Path, block: tuple[int, ...]) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    out = tmp_path / "out"
    calls(main_job(cell, out, text=PIPELINE), block)
    other = main_job(cell, out, text=PIPELINE, changes=("gaussian.sigma_um=0.2",))
    assert any("ridge" in name for name in calls(other, block, fresh=True))
    shutil.rmtree(cell)
    store(cell, voxels(5))
    assert any("ridge" in name for name in calls(main_job(cell, out, text=PIPELINE), block, fresh=True))
    left = leftovers(other.state)
    assert [one.what for one in left].count("the kept result of a step") == 2
    clean(other.state)
    assert len(list((out / ".cristae" / "kept").iterdir())) == 1
    again = main_job(cell, out, text=PIPELINE, changes=("label.min_voxels=9",))
    assert not any("ridge" in name for name in calls(again, block, fresh=True))


@pytest.mark.parametrize("step", ["make_sink", "finish_outputs", "share", "_complete"])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_run_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, block: tuple[int, ...]
) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    job = main_job(cell, tmp_path / "out", text=PIPELINE)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, stopped)
        with pytest.raises(KeyboardInterrupt):
            calls(job, block)
    calls(main_job(cell, tmp_path / "out", text=PIPELINE), block)
    plain = main_job(cell, tmp_path / "plain", text=PLAIN)
    calls(plain, block)
    ours, theirs = (labels_of(tmp_path / n / "labels" / "cell.ome.zarr") for n in ("out", "plain"))
    np.testing.assert_array_equal(ours, theirs)
    changed = main_job(cell, tmp_path / "out", text=PIPELINE, changes=("label.min_voxels=9",))
    assert not any("ridge" in name for name in calls(changed, block, fresh=True))


@pytest.mark.parametrize("block", BLOCKS)
def test_a_batch_grows_and_parts_with_its_images_all_the_same(tmp_path: Path, block: tuple[int, ...]) -> None:
    from cristae.pipeline.file import load
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.operations import known

    def job(text: str, out: str) -> Job:
        return run_job(load(text, known()), [str(tmp_path / "in")], str(tmp_path / out), Inputs())

    for n in range(2):
        store(tmp_path / "in" / f"cell{n}.ome.zarr", voxels(n))
    calls(job(PIPELINE, "out"), block)
    changed = PIPELINE.replace("min_voxels: 4", "min_voxels: 9")
    assert not any("ridge" in name for name in calls(job(changed, "out"), block, fresh=True))
    store(tmp_path / "in" / "cell2.ome.zarr", voxels(2))
    worst = max((tmp_path / "in" / "cell2.ome.zarr").rglob("c/*/*/*"), key=lambda p: p.stat().st_size)
    content = worst.read_bytes()
    worst.write_bytes(content[:100] + bytes([content[100] ^ 255]) + content[101:])
    with pytest.raises(SetAside, match="2 images are done, but cell2 is not"):
        calls(job(changed, "out"), block)
    shutil.rmtree(tmp_path / "in" / "cell2.ome.zarr")
    store(tmp_path / "in" / "cell2.ome.zarr", voxels(2))
    calls(job(changed, "out"), block)
    calls(job(changed.replace("    keep: true\n", ""), "plain"), block)
    ours, theirs = (
        polars.read_parquet(tmp_path / n / "objects.parquet").sort("image", "label") for n in ("out", "plain")
    )
    assert_frame_equal(ours, theirs, rel_tol=1e-9)


def test_what_all_images_decided_is_decided_again_for_fewer(tmp_path: Path) -> None:
    from cristae.pipeline.file import load
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.operations import known

    pooled = PLAIN.replace("{method: otsu}", "{method: otsu, over: collection}\n    keep: true")
    assert pooled.count("keep: true") == 1

    def job(out: str) -> Job:
        return run_job(load(pooled, known()), [str(tmp_path / "in")], str(tmp_path / out), Inputs())

    store(tmp_path / "in" / "cell0.ome.zarr", voxels(0))
    bright = store(
        tmp_path / "in" / "cell1.ome.zarr", 9 * voxels(1)
    )  # the other has next to nothing above the common cut
    calls(job("out"), BLOCKS[0])
    together = labels_of(tmp_path / "out" / "labels" / "cell0.ome.zarr")
    shutil.rmtree(bright)
    assert any("threshold" in name for name in calls(job("out"), BLOCKS[0], fresh=True))
    calls(job("plain"), BLOCKS[0])
    alone, plain = (labels_of(tmp_path / o / "labels" / "cell0.ome.zarr") for o in ("out", "plain"))
    np.testing.assert_array_equal(alone, plain)
    assert (alone != together).any()
