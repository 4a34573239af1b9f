"""Mutations: whatever a result depends on is compared when the run is given again; a change is refused, and named."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.campaign import Run, outputs, write_store

from cristae.errors import PlanRefused
from cristae.grid import Box
from cristae.store.volume import open_volume

STEPS = (
    "gaussian: {sigma_um: 0.2}",
    "ridge: {method: frangi, radius_um: [0.2], gamma: 30.0}",
    "threshold: {value: 0.2}",
    "label: {min_voxels: 4}",
    "measure: {columns: [shape]}",
)


def text(*steps: str) -> str:
    return "output: {name: cell}\nsteps:\n" + "".join(f"  - {s}\n" for s in steps)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run on a store of two time points and two channels."""
    folder = tmp_path_factory.mktemp("made")
    write_store(folder / "cell.ome.zarr", np.random.default_rng(3), frames=2, channels=2)
    run = Run(folder, {"pipeline": text(*STEPS), "inputs": {"channel": 0, "time": [0, 1]}}, in_store=False)
    run.finish()
    return run


def swap(steps: tuple[str, ...], old: str, new: str) -> dict[str, Any]:
    assert old in text(*steps)
    return {"pipeline": text(*steps).replace(old, new)}


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "parameter": (swap(STEPS, "value: 0.2", "value: 0.25"), "threshold"),
    "halo": (swap(STEPS, "sigma_um: 0.2", "sigma_um: 0.6"), "gaussian"),
    "min_voxels": (swap(STEPS, "min_voxels: 4", "min_voxels: 5"), "label"),
    "order of steps": ({"pipeline": text(STEPS[1], STEPS[0], *STEPS[2:])}, "order"),
    "removed step": ({"pipeline": text(*STEPS[1:])}, "gaussian"),
    "added column": (swap(STEPS, "[shape]", "[shape, surface]"), "surface"),
    "channel": ({"inputs": {"channel": 1, "time": [0, 1]}}, "channel"),
    "time range": ({"inputs": {"channel": 0, "time": [0, 2]}}, "time"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_command_is_refused(made: Run, tmp_path: Path, change: str, finished: bool) -> None:
    told, named = CHANGES[change]
    refuse(moved(made, tmp_path, finished).but(**told), named)


def moved(made: Run, folder: Path, finished: bool = True) -> Run:
    """The run, copied whole; or as one that was stopped before it was complete."""
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    run = Run(folder, made.told, in_store=False)
    if not finished:
        (run.generation / "complete.json").unlink()
    return run


def refuse(run: Run, named: str) -> None:
    """The driver's own way in, in this process: `execute` must refuse, and say what changed and both ways out."""
    from faults import driver

    from cristae.pipeline.execute import execute
    from cristae.pipeline.job import Settings

    before = outputs(run.folder / "out")
    told = {**run.told, "input": str(run.folder / run.input), "out": str(run.folder / "out")}
    with pytest.raises(PlanRefused) as refused:
        execute(driver.job_of(told), Settings("none"), lambda _: None)
    sentence = str(refused.value)
    assert refused.value.exit_code == 3
    assert named in sentence and "--fresh" in sentence and "another output name" in sentence
    assert "\n" not in sentence
    assert outputs(run.folder / "out") == before


def test_a_changed_voxel_is_refused(made: Run, tmp_path: Path) -> None:
    run = moved(made, tmp_path)
    volume = open_volume(str(run.folder / run.input))
    box = Box.whole(volume.spatial_shape)
    array = volume.read(box, t=0, c=0).copy()
    array[0, 0, 0] += 1
    _write(volume, box, array)
    refuse(run, "input")


def _write(volume: Any, box: Box, array: np.ndarray) -> None:
    volume.write(box, array, t=0, c=0)


def test_a_changed_voxel_of_a_plain_file_is_refused(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 900, (12, 40, 40)).astype(np.uint16)
    np.save(tmp_path / "cell.npy", array)
    told = {"pipeline": text(*STEPS[2:]).replace("0.2", "450"), "inputs": {"axes": "zyx", "voxel_um": [0.3, 0.1, 0.1]}}
    run = Run(tmp_path, told, in_store=False, input="cell.npy")
    run.finish()
    array[3, 3, 3] += 1
    np.save(tmp_path / "cell.npy", array)
    refuse(run, "input")


def test_changed_metadata_is_refused(made: Run, tmp_path: Path) -> None:
    run = moved(made, tmp_path)
    path = run.folder / run.input / "zarr.json"
    document = json.loads(path.read_bytes())
    scale = document["attributes"]["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    scale[-1] *= 1.5
    path.write_text(json.dumps(document))
    with pytest.raises(AssertionError):
        assert run.go().code == 0
    ended = run.go()
    assert ended.code == 3 and "--fresh" in ended.sentence, ended.said


def test_a_changed_source_is_refused(made: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cristae.pipeline import generation

    plain = generation._source

    def edited(name: str) -> bytes:
        return plain(name) + (b"# mended" if name == "cristae.filters.gaussian_kernel" else b"")

    monkeypatch.setattr(generation, "_source", edited)
    refuse(moved(made, tmp_path), "source of gaussian")


@pytest.mark.parametrize("finished", [True, False])
def test_a_copied_run_goes_on(made: Run, tmp_path: Path, finished: bool) -> None:
    run = moved(made, tmp_path / "elsewhere", finished)
    done = run.finish()
    assert done.told["status"] == ("nothing to do" if finished else "done")
    assert outputs(run.folder / "out") == outputs(made.folder / "out")


@pytest.mark.faults
def test_a_store_moved_in_mid_run_goes_on(store: Path, tmp_path: Path) -> None:
    run = Run.of(store, tmp_path / "here")
    assert run.go("journalled:30").code == 137
    os.rename(tmp_path / "here", tmp_path / "there")
    there = Run(tmp_path / "there", run.told)
    there.finish()
    whole = Run.of(store, tmp_path / "whole")
    whole.finish()
    assert outputs(there.root) == outputs(whole.root)


def test_workers_and_memory_are_free(made: Run, tmp_path: Path) -> None:
    run = moved(made, tmp_path, finished=False)
    assert run.but(cluster="threads:2").finish().told["status"] == "done"


def test_another_block_is_refused(made: Run, tmp_path: Path) -> None:
    ended = moved(made, tmp_path).but(block=[8, 24, 24]).go()
    assert ended.code == 3 and "--block 8,24,24" in ended.sentence and "--fresh" in ended.sentence
