"""Audit: every planted damage is found and named, exit code 6; the run's own command mends it, and does no more than it must."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faults.campaign import Run, calls, committed, outputs, surroundings, write_store

PIPELINE = """
output: {name: cell}
steps:
  - gaussian: {sigma_um: 0.1}
  - threshold: {method: otsu, over: image}
  - label: {min_voxels: 4}
  - measure: {columns: [shape, intensity]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run over three time points; labels, a table, pictures."""
    folder = tmp_path_factory.mktemp("made")
    write_store(folder / "cell.ome.zarr", np.random.default_rng(11), frames=3)
    run = Run(folder, {"pipeline": PIPELINE, "block": [15, 48, 40], "inputs": {}}, in_store=False)
    run.finish()
    return run


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x10
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "truncated": truncate,
    "flipped": flip,
    "zero-length": empty,
}


def copy(made: Run, folder: Path) -> Run:
    shutil.copytree(made.folder, folder, dirs_exist_ok=True)
    return Run(folder, made.told, in_store=False)


def audit(path: Path, *more: str) -> tuple[int, list[str], str]:
    """Exit code, the paths that are named, and the last sentence."""
    done = subprocess.run(
        [sys.executable, "-c", "from cristae_cli.main import main; main()", "audit", str(path), *more],
        capture_output=True, text=True, env=surroundings(), check=False,
    )  # fmt: skip
    return (
        done.returncode,
        [line.partition(": ")[0] for line in done.stdout.splitlines()],
        done.stderr.splitlines()[-1],
    )


def seen(run: Run) -> list[Path]:
    """Every file of the result that cristae wrote for its own sake; the table of contents of a store's labels is shared."""
    return [run.root / p for p in outputs(run.root)]


def plant(run: Run, count: int, seed: int) -> set[str]:
    """Damages in so many files, each kind of damage and each kind of file among them."""
    draw = random.Random(seed)
    files = sorted(f for f in seen(run) if f.stat().st_size > 7)
    small = [f for f in files if f.name in ("zarr.json", "table.parquet", "table.json") or f.suffix == ".png"]
    chosen = draw.sample(small, min(len(small), count // 3))
    chosen += draw.sample([f for f in files if f not in small], count - len(chosen))
    for n, path in enumerate(chosen):
        list(DAMAGES.values())[n % 4](path)
    return {str(p) for p in chosen}


def test_a_whole_result_is_whole(made: Run) -> None:
    before = outputs(made.root)
    assert audit(made.root)[:2] == (0, [])
    assert outputs(made.root) == before


@pytest.mark.parametrize(
    "seed", [1, pytest.param(2, marks=pytest.mark.faults), pytest.param(3, marks=pytest.mark.faults)]
)
def test_twenty_of_twenty_damages_are_found_and_mended(made: Run, tmp_path: Path, seed: int) -> None:
    run = copy(made, tmp_path)
    planted = plant(run, 20, seed)
    code, named, sentence = audit(run.root)
    assert code == 6 and "20 of the objects are damaged" in sentence
    assert set(named) == planted and len(named) == 20
    run.finish()
    assert outputs(run.root) == outputs(made.root)
    assert audit(run.root)[:2] == (0, [])


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_damaged_object_costs_its_blocks_and_no_more(made: Run, tmp_path: Path, damage: str) -> None:
    run = copy(made, tmp_path)
    victim = next(f for f in seen(run) if "/c/" in str(f) and "labels" in str(f))
    DAMAGES[damage](victim)
    assert audit(run.root)[:2] == (6, [str(victim)])
    every = len(committed(run.generation))
    run.finish()
    assert 0 < calls(run.generation) < every / 2
    assert outputs(run.root) == outputs(made.root)


def test_a_result_that_was_deleted_is_made_again_without_an_audit(made: Run, tmp_path: Path) -> None:
    run = copy(made, tmp_path)
    labels = next(p for p in run.root.rglob("labels") if ".cristae" not in p.parts)
    shutil.rmtree(labels)
    run.finish()
    assert outputs(run.root) == outputs(made.root)


@pytest.mark.parametrize("in_store", [True, False])
def test_a_changed_input_is_found_by_its_voxels(store: Path, tmp_path: Path, in_store: bool) -> None:
    from cristae.grid import Box
    from cristae.store.volume import open_volume

    here = Run.of(store, tmp_path / "here", in_store, pipeline=PIPELINE)
    here.finish()
    (tmp_path / "here").rename(tmp_path / "there")
    if not in_store:
        (tmp_path / "there").rename(tmp_path / "here")  # an input elsewhere is known by its full path
    run = Run(tmp_path / ("there" if in_store else "here"), here.told, in_store)
    volume = open_volume(str(run.folder / run.input))
    array = volume.read(Box.whole(volume.spatial_shape)).copy()
    array[20, 20, 20] += 1
    volume.write(Box.whole(volume.spatial_shape), array)
    assert audit(run.root)[0] == 0
    code, named, _ = audit(run.root, "--inputs")
    assert code == 6 and named and all(str(run.folder / run.input) in name for name in named)


@pytest.mark.parametrize("what", ["partials", "answers"])
def test_what_a_repair_stands_on_is_audited_too(made: Run, tmp_path: Path, what: str) -> None:
    run = copy(made, tmp_path)
    victims = sorted((run.generation / what).rglob("*.bundle"))
    assert victims
    flip(victims[0], 0)  # later bytes may be nothing but padding
    assert audit(run.root)[:2] == (6, [str(victims[0])])
    run.finish()
    assert audit(run.root)[:2] == (0, [])
    assert outputs(run.root) == outputs(made.root)
