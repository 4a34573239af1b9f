"""Dispatch, with workers that do as they are told: every class of failure gets its own policy, and no block is ever lost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.blocks.dispatch import BATCH_BLOCKS, TRIES, Crew, Pace, run_blocks
from cristae.blocks.journal import COMMITTED, Journal
from cristae.blocks.task import Failure, Order, Report, Superseded, classify
from cristae.cluster.executor import Done
from cristae.errors import Claimed, CristaeError, Damaged, InvalidInput

Fate = Callable[[int, int, Order], str]
"""What becomes of a block: (block, how often it was tried before, order) -> "" or the kind of its failure, or "death"."""


@dataclass
class Puppets:
    """Workers on paper. An order's result is known when it is handed out; results come back in the order `take` says."""

    fate: Fate
    workers: int = 2
    take: Callable[[int], int] = lambda n: 0
    orders: list[Order] = field(default_factory=list)
    tried: Counter[int] = field(default_factory=Counter)
    waiting: list[Done] = field(default_factory=list)
    busiest: int = 0
    beside: list[tuple[Order, int]] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def start(self, key: str, task: Any) -> None:
        _, order = task
        self.orders.append(order)
        self.at.append(time.monotonic())
        self.beside.append((order, len(self.waiting)))
        self.waiting.append(self.work(key, order))
        self.busiest = max(self.busiest, len(self.waiting))

    def work(self, key: str, order: Order) -> Done:
        report = Report(order.number, order.attempt, seconds=0.001 * len(order.blocks))
        for block in order.blocks:
            kind = self.fate(block, self.tried[block], order)
            self.tried[block] += 1
            if kind == "death":
                return Done(key, error=RuntimeError("killed"), died=True)
            if kind == "defect":
                return Done(key, error=ZeroDivisionError("a defect of ours"))
            report.calls += 1
            if kind:
                report.failed.append(Failure(block, kind, f"Error: {kind} in block {block}", "Traceback"))
            else:
                report.done.append(block)
        return Done(key, report)

    def next(self, timeout: float) -> Done | None:
        return self.waiting.pop(self.take(len(self.waiting)) % len(self.waiting)) if self.waiting else None

    def ready(self) -> Done | None:
        return None

    def forget(self) -> None:
        self.waiting.clear()


@dataclass
class Ran:
    """What is left of a pass."""

    journal: Journal
    puppets: Puppets
    events: list[dict[str, Any]]
    calls: int
    retries: int

    def named(self, event: str) -> list[dict[str, Any]]:
        return [e for e in self.events if e["event"] == event]

    @property
    def aside(self) -> Mapping[int, Any]:
        return self.journal.passes[0].aside

    def orders_of(self, block: int) -> list[Order]:
        return [o for o in self.puppets.orders if block in o.blocks]


def run(folder: Path, fate: Fate, blocks: int = 30, backoff_s: float = 0.001, **facts: Any) -> Ran:
    journal, puppets, events = Journal(folder, [blocks]), Puppets(fate, **facts), []
    crew = Crew(puppets, journal, "work.pkl", "digest", 7, events.append, backoff_s)
    totals = run_blocks(crew, 0, list(range(blocks)))
    return Ran(journal, puppets, events, totals.calls, totals.retries)


def fails(block: int, kind: str, times: int = 99) -> Fate:
    """One block fails so often; all others are done."""
    return lambda b, before, order: kind if b == block and before < times else ""


def test_every_block_is_done_once_and_committed(tmp_path: Path) -> None:
    ran = run(tmp_path, lambda *_: "", blocks=500)
    assert set(ran.puppets.tried.values()) == {1}
    assert (ran.journal.passes[0].state == COMMITTED).all()
    assert (ran.calls, ran.retries) == (500, 0)
    assert Journal.load(tmp_path, [500]).recovered == 500


def test_only_the_blocks_that_are_named_are_run(tmp_path: Path) -> None:
    journal, puppets = Journal(tmp_path, [10]), Puppets(lambda *_: "")
    journal.commit([Report(0, 1, [2, 3])])
    run_blocks(Crew(puppets, journal, "", "", 1, lambda _: None), 0, [0, 5, 9])
    assert sorted(puppets.tried) == [0, 5, 9]
    assert journal.pending(0).tolist() == [1, 4, 6, 7, 8]


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_the_window_is_two_batches_for_each_worker(tmp_path: Path, workers: int) -> None:
    ran = run(tmp_path, lambda *_: "", blocks=400, workers=workers)
    assert ran.puppets.busiest == 2 * workers


def test_batches_grow_with_the_pace_and_leave_some_for_every_worker(tmp_path: Path) -> None:
    ran = run(tmp_path, lambda *_: "", blocks=5000)
    sizes = [len(o.blocks) for o in ran.puppets.orders]
    assert sizes[0] == 1
    assert max(sizes) == BATCH_BLOCKS
    assert sizes[-1] == 1
    assert len(sizes) < 5000 / 20


@given(
    st.lists(st.tuples(st.floats(0, 100), st.integers(1, 300)), max_size=20), st.integers(1, 10**6), st.integers(1, 64)
)
def test_a_batch_holds_at_least_one_block_and_never_more_than_are_left(seen, left: int, workers: int) -> None:
    pace = Pace()
    for seconds, blocks in seen:
        pace.saw(seconds, blocks)
    assert 1 <= pace.size(left, workers) <= min(left, BATCH_BLOCKS)


def test_a_slow_block_is_a_batch_of_its_own() -> None:
    pace = Pace()
    pace.saw(10.0, 1)
    assert pace.size(1000, 2) == 1


def test_orders_say_who_they_come_from_and_no_two_are_alike(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(3, "deterministic", 1))
    assert {(o.work, o.digest, o.number, o.epoch) for o in ran.puppets.orders} == {("work.pkl", "digest", 0, 7)}
    attempts = [o.attempt for o in ran.puppets.orders]
    assert len(set(attempts)) == len(attempts)


# ------------------------------------------------------------------------------------------------- the policies


def test_a_transient_failure_is_tried_again_after_growing_pauses(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "transient", 3), backoff_s=0.05)
    assert (ran.journal.passes[0].state == COMMITTED).all()
    assert ran.puppets.tried[5] == 4
    assert ran.retries == 3
    at = [when for order, when in zip(ran.puppets.orders, ran.puppets.at, strict=True) if 5 in order.blocks]
    pauses = np.diff(at)
    assert (pauses >= [0.05, 0.1, 0.2]).all()
    assert [e["try"] for e in ran.named("retry")] == [1, 2, 3]


def test_a_transient_failure_without_end_is_set_aside(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "transient"))
    assert ran.puppets.tried[5] == TRIES["transient"] == 5
    assert list(ran.aside) == [5]
    assert ran.aside[5]["trace"] == "Traceback"


def test_a_block_that_waits_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(0, "transient", 1), backoff_s=0.3)
    assert len(ran.puppets.orders) > 3
    assert 0 in ran.puppets.orders[-1].blocks


def test_a_deterministic_failure_is_confirmed_once_then_set_aside_with_its_traceback(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "deterministic"))
    assert ran.puppets.tried[5] == TRIES["deterministic"] == 2
    assert list(ran.aside) == [5]
    assert (ran.aside[5]["why"], ran.aside[5]["trace"]) == ("deterministic", "Traceback")
    assert ran.journal.passes[0].count(COMMITTED) == 29
    assert [e["block"] for e in ran.named("aside")] == [5]
    assert list(Journal.load(tmp_path, [30]).passes[0].aside) == [5]


def test_a_deterministic_failure_that_does_not_come_again_is_forgiven(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "deterministic", 1))
    assert not ran.aside
    assert ran.puppets.tried[5] == 2


def test_a_block_that_needs_more_memory_runs_alone(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "resource", 2), blocks=200, workers=4)
    assert not ran.aside
    later = ran.orders_of(5)[1:]
    assert [o.blocks for o in later] == [(5,), (5,)]
    assert all(beside == 0 for order, beside in ran.puppets.beside if order in later)


def test_a_block_for_which_no_memory_is_enough_is_set_aside(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(5, "resource"))
    assert ran.puppets.tried[5] == TRIES["resource"] == 3
    assert ran.aside[5]["why"] == "resource"


def test_nothing_starts_beside_a_suspect(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(50, "death", 2), blocks=200, workers=4)
    alone = [n for n, order in enumerate(ran.puppets.orders) if order.blocks == (50,)]
    for n in alone:
        assert ran.puppets.beside[n][1] == 0
        assert n + 1 == len(ran.puppets.orders) or ran.puppets.beside[n + 1][1] == 0


def test_the_blocks_of_a_dead_worker_are_suspects_and_run_alone(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(100, "death", 1), blocks=300)
    assert not ran.aside
    (fatal,) = ran.named("death")
    (batch,) = [o for o in ran.orders_of(100) if len(o.blocks) > 1]
    assert fatal["blocks"] == len(batch.blocks)
    for block in batch.blocks:
        assert ran.orders_of(block)[-1].blocks == (block,)
    assert ran.retries == len(batch.blocks)


def test_a_block_that_kills_three_workers_alone_is_set_aside_and_its_neighbours_finish(tmp_path: Path) -> None:
    ran = run(tmp_path, fails(100, "death"), blocks=300)
    alone = [o for o in ran.orders_of(100) if o.blocks == (100,)]
    assert len(alone) == TRIES["death"] == 3
    assert list(ran.aside) == [100]
    assert ran.aside[100]["why"] == "death"
    assert ran.journal.passes[0].count(COMMITTED) == 299


def test_a_death_in_company_counts_against_nobody(tmp_path: Path) -> None:
    """Workers die again and again, but never under a block that is alone."""
    ran = run(tmp_path, lambda b, before, order: "death" if len(order.blocks) > 1 else "", blocks=60)
    assert not ran.aside
    assert (ran.journal.passes[0].state == COMMITTED).all()


def test_two_classes_of_failure_are_counted_apart(tmp_path: Path) -> None:
    kinds = ["deterministic", "transient", "transient", "resource", "resource", "transient"]
    ran = run(tmp_path, lambda b, before, order: kinds[before] if b == 5 and before < len(kinds) else "")
    assert not ran.aside
    assert ran.puppets.tried[5] == len(kinds) + 1


@pytest.mark.parametrize(
    ("kind", "error"),
    [("invalid", InvalidInput), ("damaged", Damaged), ("superseded", Claimed), ("full", CristaeError)],
)
def test_what_is_no_blocks_fault_ends_the_run_and_keeps_what_is_done(tmp_path: Path, kind: str, error: type) -> None:
    with pytest.raises(error, match=f"{kind} in block 11") as ended:
        run(tmp_path, fails(11, kind))
    assert type(ended.value) is error
    left = Journal.load(tmp_path, [30]).passes[0]
    assert not left.aside
    assert left.count(COMMITTED) >= 5


def test_the_batch_of_a_block_that_ends_the_run_is_committed_first(tmp_path: Path) -> None:
    def fate(block: int, before: int, order: Order) -> str:
        return "invalid" if len(order.blocks) > 3 and block == order.blocks[-1] else ""

    with pytest.raises(InvalidInput):
        run(tmp_path, fate, blocks=200)
    journal = Journal.load(tmp_path, [200])
    assert journal.recovered >= 3


def test_a_defect_of_our_own_travels_up_untouched(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="a defect of ours"):
        run(tmp_path, fails(4, "defect"))


@settings(max_examples=40)
@given(data=st.data())
def test_whatever_happens_every_block_ends_committed_or_set_aside(data: st.DataObject, tmp_path_factory) -> None:
    blocks = data.draw(st.integers(1, 60))
    kinds = st.sampled_from(["", "", "transient", "resource", "deterministic", "death"])
    fates = data.draw(st.dictionaries(st.integers(0, blocks - 1), st.lists(kinds, max_size=6), max_size=8))
    order = data.draw(st.randoms(use_true_random=False))

    def fate(block: int, before: int, _: Order) -> str:
        several = fates.get(block, [])
        return several[before] if before < len(several) else ""

    ran = run(
        tmp_path_factory.mktemp("pass"),
        fate,
        blocks,
        0.0,
        workers=data.draw(st.integers(1, 5)),
        take=lambda n: order.randrange(n),
    )
    state = ran.journal.passes[0]
    assert state.count(COMMITTED) + len(state.aside) == blocks
    assert set(state.aside) <= set(fates)
    committed = Counter(
        b for r in ran.journal.ledger.read() if r["kind"] == "blocks" for a, z in r["blocks"] for b in range(a, z)
    )
    assert set(committed.values()) <= {1}


# ---------------------------------------------------------------------------------------------- what is a failure


CLASSES = {
    "transient": [OSError(5, "I/O error"), ConnectionError("reset"), TimeoutError(), OSError(116, "stale file handle")],
    "resource": [MemoryError()],
    "full": [OSError(28, "no space"), OSError(122, "quota"), CristaeError("the disk is full")],
    "invalid": [InvalidInput("NaN")],
    "damaged": [Damaged("torn")],
    "superseded": [Superseded("newer")],
    "deterministic": [
        ValueError("x"),
        KeyError("x"),
        ZeroDivisionError(),
        PermissionError(13, "denied"),
        FileNotFoundError(2, "gone"),
    ],
}


@pytest.mark.parametrize(("kind", "error"), [(k, e) for k, several in CLASSES.items() for e in several], ids=repr)
def test_an_error_has_one_class(kind: str, error: BaseException) -> None:
    try:
        raise error
    except BaseException as raised:
        failure = classify(4, raised)
    assert (failure.block, failure.kind) == (4, kind)
    assert type(error).__name__ in failure.error
    assert "test_an_error_has_one_class" in failure.trace


# ------------------------------------------------------------------------------------------------- the watchdog


@dataclass
class Dawdlers(Puppets):
    """Workers whose first batch takes a second, and whose last takes twenty minutes."""

    clock: list[float] = field(default_factory=lambda: [0.0])

    def next(self, timeout: float) -> Done | None:
        self.clock[0] += 1.0
        late = self.waiting and 29 in self.orders[-1].blocks and self.clock[0] < 1200
        return None if late else super().next(timeout)


def test_a_batch_that_takes_far_longer_than_others_is_named_once(tmp_path: Path, monkeypatch) -> None:
    from cristae.blocks import dispatch

    journal, puppets, events = Journal(tmp_path, [30]), Dawdlers(lambda *_: ""), []
    clock = type("Clock", (), {"monotonic": lambda: puppets.clock[0], "sleep": lambda _: None})
    monkeypatch.setattr(dispatch, "time", clock)
    run_blocks(Crew(puppets, journal, "", "", 1, events.append), 0, list(range(30)))
    slow = [e for e in events if e["event"] == "slow"]
    assert 1 <= len(slow) <= 4  # one for each batch that was out
    assert all(60 < e["seconds"] < 200 for e in slow)
    assert (journal.passes[0].state == COMMITTED).all()
