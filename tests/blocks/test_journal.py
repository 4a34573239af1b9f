"""The journal: blocks are never lost, a committed one never leaves that state, and what is loaded is what was known."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cristae.blocks.journal import ASIDE, COMMITTED, PENDING, RUNNING, Journal
from cristae.blocks.task import Failure, Report
from cristae.errors import Damaged

BLOCKS = 20


def report(*done: int, number: int = 0, **facts: object) -> Report:
    found = Report(number, 1, list(done))
    for name, value in facts.items():
        setattr(found, name, value)
    return found


def states(journal: Journal, number: int = 0) -> list[int]:
    out: list[int] = journal.passes[number].state.tolist()
    return out


def test_a_new_journal_has_everything_before_it(tmp_path: Path) -> None:
    journal = Journal.load(tmp_path, [3, 2])
    assert journal.pending(0).tolist() == [0, 1, 2]
    assert journal.pending(1).tolist() == [0, 1]
    assert not journal.complete
    assert journal.recovered == 0


def test_what_was_committed_is_found_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS, 4])
    assert journal.commit([report(0, 1, 2, partials="partials/a"), report(7, 5, partials="partials/b")]) == [3, 2]
    assert journal.commit([report(1, number=1)]) == [1]
    journal.add([{"kind": "answers", "keys": ["mito/otsu"]}])
    again = Journal.load(tmp_path, [BLOCKS, 4])
    for n in (0, 1):
        assert states(again, n) == states(journal, n)
        assert again.passes[n].file_of.tolist() == journal.passes[n].file_of.tolist()
        assert again.passes[n].files == journal.passes[n].files
    assert again.answered == {"mito/otsu"}
    assert again.recovered == 6
    assert [again.passes[0].files[again.passes[0].file_of[b]] for b in (0, 5, 7)] == [
        "partials/a",
        "partials/b",
        "partials/b",
    ]


def test_a_running_block_is_pending_again_after_a_crash(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [4])
    journal.commit([report(0)])
    journal.passes[0].move([1, 2], RUNNING)
    assert states(Journal.load(tmp_path, [4])) == [COMMITTED, PENDING, PENDING, PENDING]


def test_a_late_message_of_a_committed_block_is_dropped(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    first = report(3, 4, puts=[[3, "a", "c/0", 10, "one"], [4, "a", "c/1", 10, "one"]], partials="partials/first")
    assert journal.commit([first]) == [2]
    late = report(4, 5, puts=[[4, "a", "c/1", 99, "two"], [5, "a", "c/2", 10, "two"]], partials="partials/late")
    assert journal.commit([late]) == [1]
    assert journal.commit([report(3, 4, partials="partials/again")]) == [0]
    puts = {block: (size, digest) for _, block, _, _, size, digest in journal.puts()}
    assert puts == {3: (10, "one"), 4: (10, "one"), 5: (10, "two")}
    state = journal.passes[0]
    assert [state.files[state.file_of[b]] for b in (3, 4, 5)] == ["partials/first", "partials/first", "partials/late"]


def test_two_reports_of_one_block_at_once_commit_it_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    assert sum(journal.commit([report(3, partials="partials/a"), report(3, 4, partials="partials/b")])) == 2
    state = journal.passes[0]
    assert state.files[state.file_of[3]] == "partials/a"


def test_a_committed_block_cannot_be_set_aside_or_run_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    journal.commit([report(3)])
    journal.set_aside(0, Failure(3, "deterministic", "late", ""))
    assert journal.passes[0].move([2, 3], RUNNING) == [2]
    assert states(journal)[2:4] == [RUNNING, COMMITTED]
    assert journal.passes[0].aside == {}
    assert states(Journal.load(tmp_path, [BLOCKS]))[3] == COMMITTED


def test_a_block_that_was_set_aside_keeps_its_traceback_and_is_tried_by_the_next_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    journal.set_aside(0, Failure(3, "deterministic", "ValueError: dark", "Traceback: line 7"))
    again = Journal.load(tmp_path, [BLOCKS])
    assert again.passes[0].aside[3]["trace"] == "Traceback: line 7"
    assert states(again)[3] == ASIDE
    assert again.retry_aside() == 1
    assert 3 in again.pending(0)
    assert again.passes[0].aside == {}
    again.commit([report(3)])
    assert Journal.load(tmp_path, [BLOCKS]).passes[0].aside == {}


def test_blocks_that_an_audit_condemned_are_pending_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    journal.commit([report(*range(6), puts=[[n, "a", f"c/{n}", 1, "x"] for n in range(6)])])
    journal.add([{"kind": "answers", "keys": ["k"]}, {"kind": "complete", "files": {"t.csv": "d"}}])
    journal.add([{"kind": "redo", "pass": 0, "blocks": [[1, 3]], "keys": ["k"]}])
    for known in (journal, Journal.load(tmp_path, [BLOCKS])):
        assert known.pending(0).tolist() == [1, 2, *range(6, BLOCKS)]
        assert known.answered == set()
        assert not known.complete
        assert sorted(block for _, block, *_ in known.puts()) == [0, 3, 4, 5]


def test_a_torn_record_is_as_if_it_had_never_been(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    journal.commit([report(0)])
    journal.commit([report(1)])
    (file,) = (tmp_path / "journal").iterdir()
    file.write_bytes(file.read_bytes()[:-4])
    again = Journal.load(tmp_path, [BLOCKS])
    assert again.pending(0).tolist() == list(range(1, BLOCKS))
    again.commit([report(1)])
    assert Journal.load(tmp_path, [BLOCKS]).recovered == 2


def test_a_damaged_record_is_said_and_never_skipped(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    for n in range(6):
        journal.commit([report(n)])
    (file,) = (tmp_path / "journal").iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"blocks", b"blacks")
    file.write_bytes(b"".join(lines))
    with pytest.raises(Damaged, match="line 3"):
        Journal.load(tmp_path, [BLOCKS])


class Life(RuleBasedStateMachine):
    """Anything may happen to blocks in any order; the law of conservation holds, and reloading forgets only who ran."""

    @initialize()
    def begin(self) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="journal-"))
        self.journal = Journal(self.folder, [BLOCKS])
        self.committed: set[int] = set()

    some = st.lists(st.integers(0, BLOCKS - 1), min_size=1, max_size=5, unique=True)

    @rule(blocks=some)
    def start(self, blocks: list[int]) -> None:
        assert set(self.journal.passes[0].move(blocks, RUNNING)) == set(blocks) - self.committed

    @rule(blocks=some)
    def commit(self, blocks: list[int]) -> None:
        assert self.journal.commit([report(*blocks)]) == [len(set(blocks) - self.committed)]
        self.committed |= set(blocks)

    @rule(block=st.integers(0, BLOCKS - 1))
    def set_aside(self, block: int) -> None:
        self.journal.set_aside(0, Failure(block, "deterministic", "why", "trace"))

    @rule()
    def crash(self) -> None:
        aside = set(self.journal.passes[0].aside)
        self.journal = Journal.load(self.folder, [BLOCKS])
        assert set(self.journal.passes[0].aside) == aside
        assert self.journal.passes[0].count(RUNNING) == 0

    @invariant()
    def nothing_is_lost(self) -> None:
        state = self.journal.passes[0]
        state.check()
        assert sum(state.count(s) for s in (PENDING, RUNNING, COMMITTED, ASIDE)) == BLOCKS
        assert set(np.flatnonzero(state.state == COMMITTED)) == self.committed
        assert not set(state.aside) & self.committed

    def teardown(self) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=25)


def test_a_block_lost_between_states_is_noticed(tmp_path: Path) -> None:
    journal = Journal(tmp_path, [BLOCKS])
    journal.passes[0].state[4] = 9
    with pytest.raises(AssertionError, match="lost"):
        journal.passes[0].check()


def test_a_journal_of_100_000_blocks_loads_in_seconds(tmp_path: Path) -> None:
    """Written as a run writes it: batches of 20 blocks, each with what it put."""
    blocks = 100_000
    journal = Journal(tmp_path, [blocks])
    for start in range(0, blocks, 5_000):
        batches = []
        for first in range(start, start + 5_000, 20):
            done = list(range(first, first + 20))
            puts = [
                [b, "mito", f"0/c/{b // 1000}/{b % 1000}/0", 12345, "0123456789abcdef0123456789abcdef"] for b in done
            ]
            batches.append(
                report(*done, puts=puts, sources=[[b, b] for b in done], partials=f"partials/00/{first:09d}-1-1.bundle")
            )
        journal.commit(batches)
    begun = time.perf_counter()
    again = Journal.load(tmp_path, [blocks])
    seconds = time.perf_counter() - begun
    assert again.recovered == blocks
    assert seconds < 10


def test_a_million_blocks_cost_megabytes() -> None:
    blocks = 1_000_000
    tracemalloc.start()
    journal = Journal(Path("nowhere"), [blocks])
    for first in range(0, blocks, 500):
        journal.apply({"kind": "blocks", "pass": 0, "blocks": [[first, first + 500]], "partials": f"p/{first}"})
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert journal.passes[0].count(COMMITTED) == blocks
    assert held < 16 << 20
    assert peak < 32 << 20
