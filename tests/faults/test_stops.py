"""Stops: a signal, a full disk, a second driver. Each ends in its own exit code, and the same command finishes the work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.campaign import LIMIT_S, Run, committed, end, leftovers, outputs, surroundings, until

SLOW = {"block": [8, 24, 12], "cluster": "threads:2"}


@pytest.fixture
def slow(store: Path, tmp_path: Path) -> Run:
    """A run of 160 blocks of 50 ms in its first pass and in its last."""
    flags = tmp_path / "flags"
    flags.mkdir()
    (flags / "all").write_text("0.05")
    return Run.of(store, tmp_path, **SLOW, poison={0: str(flags), 4: str(flags)})


def test_a_second_driver_is_refused_with_the_holders_name(slow: Run) -> None:
    first = slow.begin()
    assert until(lambda: (slow.state / "gen-0001" / "events.jsonl").exists(), 60)
    second = slow.go()
    assert second.code == 5
    assert f"process {first.pid}" in second.sentence and os.uname().nodename in second.sentence
    first.kill()
    end(first)


def cristae(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from cristae_cli.main import main; main()", *words],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=surroundings(),
    )  # fmt: skip


RIDGE = """
output: {name: cell}
steps:
  - ridge: {radius_um: {min: 0.1, max: 0.4, scales: 6}}
  - threshold: {method: otsu}
  - label: {}
  - measure: {columns: [shape]}
"""


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return outputs(finished(store, tmp_path_factory.mktemp("whole")))


def prepared(store: Path, folder: Path) -> tuple[str, ...]:
    shutil.copytree(store, folder / store.name)
    (folder / "cell.yaml").write_text(RIDGE)
    return ("run", "cell.yaml", store.name, "--block", "8,24,24", "--cluster", "none")


def finished(store: Path, folder: Path) -> Path:
    process = cristae(folder, *prepared(store, folder))
    _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    return folder / store.name


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 143, marks=pytest.mark.faults),
    ],
)
@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.faults)])
def test_a_stopped_run_goes_on(
    store: Path, tmp_path: Path, whole: dict[str, str], number: signal.Signals, code: int, cluster: str
) -> None:
    words = (*prepared(store, tmp_path)[:-1], cluster)
    state = tmp_path / store.name / ".cristae" / "cell"
    process = cristae(tmp_path, *words)
    events = state / "gen-0001" / "events.jsonl"
    assert until(lambda: events.exists() and events.read_text().count("blocks") > 3, 60)
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.splitlines()[-1] == "cristae: stopped; the same command goes on where this one left off"
    assert "Traceback" not in said and out == ""
    assert not (tmp_path / store.name / "labels").exists()
    before = sum(committed(state / "gen-0001").values())
    assert before
    again = cristae(tmp_path, *words)
    _, said = again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0 and f"{before} blocks are committed already" in said, said
    assert set(committed(state / "gen-0001").values()) == {1}
    assert outputs(tmp_path / store.name) == whole
    assert leftovers(tmp_path / store.name) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2500k", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield place
    for _ in range(20):
        if not subprocess.run(["umount", str(place)], capture_output=True, check=False).returncode:
            return
        time.sleep(0.2)


@pytest.mark.faults
@pytest.mark.parametrize("cluster", ["none", "threads:2", "local:2"])
@pytest.mark.parametrize("left", [1600, 800, 300, 100])
def test_a_full_disk_ends_the_run_and_room_goes_on(
    store: Path, tmp_path: Path, whole: dict[str, str], small_disk: Path, cluster: str, left: int
) -> None:
    words = (*prepared(store, small_disk)[:-1], cluster)
    free = shutil.disk_usage(small_disk).free
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"\1" * (free - left * 1024))
    process = cristae(small_disk, *words)
    out, said = process.communicate(timeout=LIMIT_S)
    sentence = said.splitlines()[-1]
    assert process.returncode == 1 and "full" in sentence and sentence.startswith("cristae: "), said[-2000:]
    assert "Traceback" not in said and out == ""
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = cristae(small_disk, *words)
    _, said = again.communicate(timeout=LIMIT_S)
    assert again.returncode == 0, said[-2000:]
    assert outputs(small_disk / store.name) == whole
    assert leftovers(small_disk / store.name) == []
