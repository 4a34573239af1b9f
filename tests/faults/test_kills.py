"""Kills: whatever dies, and wherever, the same command ends in the same bytes, and nothing committed is done again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from faults.campaign import SMALL, Run, calls, check_whole, committed, end, outputs, records, until

from cristae.blocks.protocol import DRIVER, STEPS, WORKER

OFTEN = {"read", "computed", "written", "partials-stored", "handed-out", "received", "journalled"}
SEVERAL = {"sink-made": 2, "answer-written": 3, "answer-journalled": 3, "files-written": 2, "in-place": 3}
ONE_EACH = [(step, 1) for step in ("answer-written", "published-marked")]


def matrix() -> list[tuple[str, int]]:
    """Every step of the protocol, each at its first visit and at seeded later ones."""
    draw = random.Random(20260801)
    found = []
    for step in STEPS:
        visits = {1}
        if step in OFTEN:
            visits |= set(draw.sample(range(2, 26), 2))
        elif step in SEVERAL:
            visits |= {draw.randint(2, SEVERAL[step])}
        found += [(step, n) for n in sorted(visits)]
    return found


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], int]:
    """The outputs of a run that nobody disturbed, and how many blocks it did."""
    run = Run.of(store, tmp_path_factory.mktemp("whole"))
    run.finish()
    blocks = committed(run.generation)
    assert set(blocks.values()) == {1} and calls(run.generation) == len(blocks)
    kinds = [r["kind"] for r in records(run.generation)]
    assert kinds[-1] == "complete" and kinds.count("complete") == 1
    return outputs(run.root), len(blocks)


def die_and_resume(run: Run, step: str, nth: int, whole: tuple[dict[str, str], int]) -> None:
    expected, planned = whole
    assert run.go(f"{step}:{nth}").code == 137, f"{step} was not visited {nth} times"
    again = run.go(f"{step}:{nth}")  # it may well die there again
    assert again.code in (0, 137), again.said
    if again.code:
        before = sum(committed(run.generation).values()) if (run.state / "gen-0001").exists() else 0
        run.finish()
        assert calls(run.generation) == planned - before
    check_whole(run, expected)
    assert run.finish().told["status"] == "nothing to do"


@pytest.mark.parametrize(("step", "nth"), ONE_EACH)
def test_driver_dies_at_a_step(
    store: Path, tmp_path: Path, whole: tuple[dict[str, str], int], step: str, nth: int
) -> None:
    die_and_resume(Run.of(store, tmp_path, cluster="threads:2"), step, nth, whole)


@pytest.mark.faults
@pytest.mark.parametrize(("step", "nth"), matrix())
@pytest.mark.parametrize("cluster", ["none", "threads:2"])
def test_driver_dies_at_every_step(
    store: Path, tmp_path: Path, whole: tuple[dict[str, str], int], cluster: str, step: str, nth: int
) -> None:
    die_and_resume(Run.of(store, tmp_path, cluster=cluster), step, nth, whole)


@pytest.mark.faults
@pytest.mark.parametrize("step", WORKER)
def test_workers_die_at_every_step_of_theirs(
    store: Path, tmp_path: Path, whole: tuple[dict[str, str], int], step: str
) -> None:
    # Batches are few; blocks that run alone after a death must not happen to be the fatal one again and again.
    nth = random.Random(step).randint(10, 25) if step != "partials-stored" else 5
    run = Run.of(store, tmp_path, cluster="local:2", worker_dies=f"{step}:{nth}")
    ended = run.finish()
    assert ended.told["deaths"] > 0 and ended.told["aside"] == 0
    check_whole(run, whole[0])


@pytest.mark.faults
@pytest.mark.parametrize("step", ["received", "journalled", "answer-written", "in-place"])
def test_workers_and_driver_die(store: Path, tmp_path: Path, whole: tuple[dict[str, str], int], step: str) -> None:
    run = Run.of(store, tmp_path, cluster="local:2", worker_dies="written:12")
    die_and_resume(run, step, 2, whole)


@pytest.fixture(scope="module")
def slow_whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = slow(store, tmp_path_factory.mktemp("slow"), cluster="none", seconds=0)
    run.finish()
    return outputs(run.root)


def slow(store: Path, folder: Path, seconds: float = 0.05, **told: Any) -> Run:
    """A run of 160 blocks in each of its passes, so many seconds longer each in the first and the last."""
    flags = folder / "flags"
    flags.mkdir()
    if seconds:
        (flags / "all").write_text(str(seconds))
    return Run.of(store, folder, block=SMALL, poison={0: str(flags), 4: str(flags)}, **told)


@pytest.mark.cluster
def test_a_worker_is_killed(store: Path, tmp_path: Path, slow_whole: dict[str, str]) -> None:
    killed_workers(slow(store, tmp_path, cluster="local:2", kill_workers=(2, 0.7, 5)), 2, slow_whole)


@pytest.mark.faults
@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_workers_are_killed(store: Path, tmp_path: Path, slow_whole: dict[str, str], seed: int) -> None:
    run = slow(store, tmp_path, seconds=0.2, cluster="local:2", kill_workers=(20, 2.0, seed))
    killed_workers(run, 20, slow_whole)


def killed_workers(run: Run, count: int, expected: dict[str, str]) -> None:
    ended = run.finish()
    assert ended.told["killed"] == count and ended.told["deaths"] > 0
    assert ended.told["aside"] == 0
    check_whole(run, expected)


def kill_after(run: Run, events: int, pause: float) -> int:
    """Start the run and kill its driver a moment after so many events; its exit code, 0 if it was faster."""
    process = run.begin()
    log = run.state / "gen-0001" / "events.jsonl"
    until(lambda: process.poll() is not None or (log.exists() and log.read_bytes().count(b"\n") >= events), 60)
    time.sleep(pause)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    return end(process).code


@pytest.mark.faults
@pytest.mark.parametrize("number", range(20))
def test_the_driver_is_killed(store: Path, tmp_path: Path, whole: tuple[dict[str, str], int], number: int) -> None:
    expected, planned = whole
    draw = random.Random(number)
    run = Run.of(store, tmp_path, cluster="threads:2" if number % 4 else "local:2")
    kill_after(run, draw.randint(0, 80), draw.uniform(0, 0.2))
    before = sum(committed(run.generation).values()) if list(run.state.glob("gen-*")) else 0
    done = run.finish()
    if done.told["status"] == "done":
        assert calls(run.generation) == planned - before
    check_whole(run, expected)


@pytest.mark.faults
def test_one_run_survives_twenty_drivers(store: Path, tmp_path: Path, whole: tuple[dict[str, str], int]) -> None:
    draw = random.Random(99)
    run = Run.of(store, tmp_path, cluster="none")
    for _ in range(20):
        process = run.begin()
        time.sleep(draw.uniform(0.8, 2.2))
        process.kill()
        end(process)
    run.finish()
    check_whole(run, whole[0])


@pytest.mark.faults
def test_workers_of_a_killed_driver_end(store: Path, tmp_path: Path) -> None:
    import psutil

    run = slow(store, tmp_path, cluster="local:2")
    process = run.begin()
    assert until(lambda: len(list((run.state / "gen-0001" / "partials").rglob("*.bundle"))) > 3, 60)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    end_code = process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    for child in alive:
        child.kill()
    assert end_code == -signal.SIGKILL and not alive


def test_every_step_is_in_the_matrix() -> None:
    assert {step for step, _ in matrix()} == set(STEPS) == {*WORKER, *DRIVER}
