"""Poison: a block that always fails is set aside, its neighbours finish, and the same command mends it later."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faults.campaign import Run, calls, committed, outputs, records

BLOCK = (15, 24, 10)  # 2 x 4 x 12 = 96 blocks
FEEDS_A_MERGE, FINAL = 0, 4
SICK = (17, 60)


@pytest.fixture(scope="module")
def expected(store: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = sick(store, tmp_path_factory.mktemp("healthy"), FINAL)
    run.finish()
    return outputs(run.root)


def sick(store: Path, folder: Path, number: int, cluster: str = "none", **blocks: str) -> Run:
    """A run in which blocks (b17="raise", ...) of one pass fail."""
    flags = folder / "flags"
    flags.mkdir()
    for name, how in blocks.items():
        how, _, times = how.partition(":")
        (flags / name[1:]).write_text(how)
        if times:
            (flags / f"{name[1:]}.times").write_text(times)
    return Run.of(store, folder, block=BLOCK, cluster=cluster, poison={number: str(flags)})


def mend(run: Run) -> None:
    for flag in (run.folder / "flags").iterdir():
        flag.unlink()


def aside(run: Run) -> list[dict[str, Any]]:
    return [r for r in records(run.generation) if r["kind"] == "aside"]


@pytest.mark.parametrize("cluster", ["threads:2", pytest.param("local:2", marks=pytest.mark.faults)])
def test_in_a_pass_that_feeds_a_merge(store: Path, tmp_path: Path, expected: dict[str, str], cluster: str) -> None:
    run = sick(store, tmp_path, FEEDS_A_MERGE, cluster, b17="raise", b60="raise")
    ended = run.go()
    assert ended.code == 4 and "2 blocks were set aside" in ended.sentence, ended.said
    assert "poison in block" in ended.sentence and "again" in ended.sentence
    done = committed(run.generation)
    assert set(done) == {(0, b) for b in range(96)} - {(0, b) for b in SICK}
    assert not any(r["kind"] == "answers" for r in records(run.generation))
    assert [e["pass"] for e in ended.events if e["event"] == "pass"] == [0]
    assert not (run.root / "labels").exists()
    for record in aside(run):
        assert record["block"] in SICK and record["why"] == "deterministic"
        assert "ZeroDivisionError: poison in block" in record["trace"] and "poison.py" in record["trace"]
    assert run.go().code == 4  # still sick: tried again, set aside again
    mend(run)
    healed = run.finish()
    assert next((e["pass"], e["todo"]) for e in healed.events if e["event"] == "pass") == (0, 2)
    assert calls(run.generation) == 2 + 4 * 96
    assert set(committed(run.generation).values()) == {1}
    assert outputs(run.root).items() == expected.items()


@pytest.mark.parametrize("cluster", ["none", pytest.param("local:2", marks=pytest.mark.faults)])
def test_in_the_final_pass(store: Path, tmp_path: Path, expected: dict[str, str], cluster: str) -> None:
    run = sick(store, tmp_path, FINAL, cluster, b17="raise", b60="raise")
    ended = run.go()
    assert ended.code == 4 and "2 blocks were set aside" in ended.sentence, ended.said
    written = {b for number, b in committed(run.generation) if number == FINAL}
    assert written == set(range(96)) - set(SICK)
    assert not (run.root / "labels").exists() and not (run.root / "tables").exists()
    mend(run)
    healed = run.finish()
    assert [(e["pass"], e["todo"]) for e in healed.events if e["event"] == "pass"] == [(FINAL, 2)]
    assert calls(run.generation) == 2
    assert set(committed(run.generation).values()) == {1}
    assert outputs(run.root).items() == expected.items()


@pytest.mark.faults
def test_a_block_that_segfaults(store: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    run = sick(store, tmp_path, FINAL, "local:2", b17="segfault")
    ended = run.go()
    assert ended.code == 4 and "1 block was set aside" in ended.sentence, ended.said
    assert "worker died" in ended.sentence
    assert [(r["block"], r["why"]) for r in aside(run)] == [(17, "death")]
    assert sum(e["event"] == "death" and e["alone"] for e in ended.events) == 3
    assert {b for number, b in committed(run.generation) if number == FINAL} == set(range(96)) - {17}
    mend(run)
    run.finish()
    assert calls(run.generation) == 1
    assert outputs(run.root).items() == expected.items()


@pytest.mark.parametrize(
    ("how", "tries"),
    [
        ("eio:2", 2),
        pytest.param("memory:1", 1, marks=pytest.mark.faults),
        pytest.param("raise:1", 1, marks=pytest.mark.faults),
    ],
)
def test_a_failure_that_goes_away(store: Path, tmp_path: Path, expected: dict[str, str], how: str, tries: int) -> None:
    run = sick(store, tmp_path, FINAL, "threads:2", b17=how, b60=how)
    ended = run.finish()
    assert ended.count("retry") == 2 * tries and ended.count("aside") == 0
    assert aside(run) == []
    assert outputs(run.root).items() == expected.items()


@pytest.mark.faults
def test_a_disk_that_never_recovers(store: Path, tmp_path: Path) -> None:
    run = sick(store, tmp_path, FINAL, "threads:2", b17="eio")
    ended = run.go()
    assert ended.code == 4 and [r["why"] for r in aside(run)] == ["transient"]
    assert ended.count("retry") == 4


@pytest.mark.faults
def test_sick_blocks_of_both_kinds_at_once(store: Path, tmp_path: Path, expected: dict[str, str]) -> None:
    run = sick(store, tmp_path, FEEDS_A_MERGE, "threads:2", b0="raise", b95="memory", b50="eio:1")
    ended = run.go()
    assert ended.code == 4 and sorted(r["why"] for r in aside(run)) == ["deterministic", "resource"]
    mend(run)
    run.finish()
    assert outputs(run.root).items() == expected.items()
