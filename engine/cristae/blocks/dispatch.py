"""Dispatch: the blocks of one pass, handed out a bounded window at a time, and what is done about those that fail.

    transient       tried again after growing pauses
    resource        tried again alone
    deterministic   confirmed once, then set aside with its traceback
    a dead worker   its blocks become suspects and run alone; three deaths alone, and the block is set aside
    invalid, damaged    the image is to blame: it is set aside, or, where it is the only one, the run ends
    full, superseded    end the run

A batch is one node of a dask graph. Nothing on the scheduler grows with the volume.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cristae.blocks.journal import ASIDE, COMMITTED, PENDING, RUNNING, Journal
from cristae.blocks.protocol import reached
from cristae.blocks.task import Failure, Order, Report, run_batch, sentence
from cristae.cluster.executor import Done, Executor
from cristae.errors import Claimed, CristaeError, Damaged, InvalidInput

BATCH_SECONDS, LEAST_SECONDS = 0.4, 0.05
BATCH_BLOCKS = 256
TRIES = {"transient": 5, "resource": 3, "deterministic": 2, "death": 3}
ENDINGS: dict[str, type[CristaeError]] = {
    "invalid": InvalidInput,
    "damaged": Damaged,
    "superseded": Claimed,
    "full": CristaeError,
}

Listener = Callable[[dict[str, Any]], None]
Kin = Callable[[int], Collection[int]]


@dataclass(frozen=True)
class Crew:
    """Who works, on what facts, and who listens; the same for every pass of a run."""

    executor: Executor
    journal: Journal
    work: str  # path of the frozen facts
    digest: str
    epoch: int
    listen: Listener
    backoff_s: float = 0.5


@dataclass
class Batch:
    """Blocks that travel together."""

    blocks: tuple[int, ...]
    alone: bool = False
    started: float = 0.0
    warned: bool = False


@dataclass
class Pace:
    """How many blocks a batch holds: work for a fraction of a second, and few enough that every worker has some."""

    seconds: float = 0.0
    blocks: float = 0.0
    slowest: float = 0.0

    def saw(self, seconds: float, blocks: int) -> None:
        self.seconds, self.blocks = 0.7 * self.seconds + seconds, 0.7 * self.blocks + blocks
        self.slowest = max(self.slowest, seconds / blocks)

    def size(self, left: int, workers: int) -> int:
        if not self.blocks:
            return 1
        a_second = self.blocks / max(self.seconds, 1e-6)
        # Ever smaller towards the end, so that all workers stop together; but not so small that handing out is the work.
        share = max(left // (2 * workers), min(int(LEAST_SECONDS * a_second), left // workers))
        return max(1, min(int(BATCH_SECONDS * a_second), BATCH_BLOCKS, share))


@dataclass
class Totals:
    """What passes cost: kernel calls, and tries beyond the first; and the images that the others went on without."""

    calls: int = 0
    retries: int = 0
    lost: Mapping[int, str] = field(default_factory=dict)  # images that were set aside: why


def run_blocks(crew: Crew, number: int, blocks: Sequence[int], kin: Kin | None = None) -> Totals:
    """These pending blocks of pass `number`, until each is committed or set aside.

    kin : the blocks of the same image, which are set aside with one whose input is wrong; without, that ends the run

    Raises
    ------
    InvalidInput, Damaged, Claimed, CristaeError : what ends a run; committed blocks stay committed.
    """
    run = _PassRun(crew, number, deque(blocks), kin)
    while run.busy:
        run.hand_out()
        run.take_in()
        run.watch()
    run.state.check()
    if np.isin(run.state.state[np.asarray(blocks, np.int64)], (RUNNING, PENDING)).any():
        raise AssertionError("a pass ended with blocks that are neither committed nor set aside")
    return run.totals


@dataclass
class _PassRun:
    crew: Crew
    number: int
    fresh: deque[int]
    kin: Kin | None = None
    again: deque[tuple[float, int]] = field(default_factory=deque)  # not before this time
    suspects: deque[int] = field(default_factory=deque)
    tries: dict[tuple[int, str], int] = field(default_factory=dict)
    flying: dict[str, Batch] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)
    totals: Totals = field(default_factory=Totals)
    launched: int = 0

    def __post_init__(self) -> None:
        self.state = self.crew.journal.passes[self.number]

    @property
    def busy(self) -> bool:
        return bool(self.fresh or self.again or self.suspects or self.flying)

    def hand_out(self) -> None:
        """Fill the window: for each worker a batch, and another so that it need not wait; or one suspect and nothing beside it."""
        workers = self.crew.executor.workers
        while len(self.flying) < 2 * workers and not any(b.alone for b in self.flying.values()):
            if self.suspects:
                if self.flying:
                    return
                self.launch(Batch((self.suspects.popleft(),), alone=True))
            elif self.again and self.again[0][0] <= time.monotonic():
                self.launch(Batch((self.again.popleft()[1],)))
            elif self.fresh:
                size = self.pace.size(len(self.fresh), workers)
                self.launch(Batch(tuple(self.fresh.popleft() for _ in range(size))))
            else:
                return

    def launch(self, batch: Batch) -> None:
        self.launched += 1
        crew = self.crew
        batch.started = time.monotonic()
        self.state.move(batch.blocks, RUNNING)
        order = Order(
            crew.work, crew.digest, self.number, batch.blocks, self.launched, crew.epoch, crew.journal.stamp()
        )
        key = f"cristae-{crew.epoch}-{self.number}-{self.launched}"
        self.flying[key] = batch
        crew.executor.start(key, (run_batch, order))
        reached("handed-out")

    def take_in(self) -> None:
        """Wait for a result, take what else is ready, and journal all of it together."""
        reports: list[Report] = []
        done = self.crew.executor.next(0.05 if self.again else 0.5)
        while done is not None:
            if (batch := self.flying.pop(done.key, None)) is not None:
                reports += self.received(done, batch)
            done = self.crew.executor.ready()
        if not reports and not self.flying and self.again:
            time.sleep(0.02)  # only blocks that wait for their next try are left
        if reports:
            reached("received")
            self.crew.journal.commit(reports)
            reached("journalled")
            self.crew.listen(self.progress(max(r.peak for r in reports)))
        for report in reports:
            for failure in report.failed:
                self.judge(failure)

    def received(self, done: Done, batch: Batch) -> list[Report]:
        if done.error is None:
            report: Report = done.value
            self.totals.calls += report.calls
            self.pace.saw(report.seconds, len(batch.blocks))
            return [report]
        if not done.died:
            raise done.error
        self.crew.listen({"event": "death", "pass": self.number, "blocks": len(batch.blocks), "alone": batch.alone})
        if batch.alone:
            self.judge(Failure(batch.blocks[0], "death", "its worker died each time the block ran alone"))
        else:
            # Which of them killed the worker is not known: each runs alone next, and only that counts against it.
            self.totals.retries += len(batch.blocks)
            self.suspects.extend(self.state.move(batch.blocks, PENDING))
        return []

    def judge(self, failure: Failure) -> None:
        """What happens to a block that failed."""
        block = failure.block
        if failure.kind in ("invalid", "damaged") and self.kin is not None:
            self.part_with(failure, self.kin(block))
            return
        if failure.kind in ENDINGS:
            raise ENDINGS[failure.kind](sentence(failure.error))
        if not self.state.move([block], PENDING):
            return
        n = self.tries[block, failure.kind] = self.tries.get((block, failure.kind), 0) + 1
        if n >= TRIES[failure.kind]:
            self.crew.journal.set_aside(self.number, failure)
            self.crew.listen({"event": "aside", "pass": self.number, "block": block, "error": failure.error})
            return
        self.totals.retries += 1
        self.crew.listen({"event": "retry", "pass": self.number, "block": block, "try": n, "error": failure.error})
        if failure.kind in ("resource", "death"):
            self.suspects.append(block)
        else:
            pause = self.crew.backoff_s * 2 ** (n - 1) if failure.kind == "transient" else 0.0
            self.again.append((time.monotonic() + pause, block))

    def part_with(self, failure: Failure, kin: Collection[int]) -> None:
        """Set aside a block whose input is wrong, and those of its image that are not done: none of them can be trusted."""
        state, block = self.state.state, failure.block
        if state[block] in (COMMITTED, ASIDE):
            return
        self.fresh = deque(b for b in self.fresh if b not in kin)
        self.again = deque((at, b) for at, b in self.again if b not in kin)
        self.suspects = deque(b for b in self.suspects if b not in kin)
        others = [b for b in kin if state[b] == PENDING]
        self.crew.journal.set_aside(self.number, failure, others)
        self.crew.listen({"event": "aside", "pass": self.number, "block": block, "error": failure.error})

    def progress(self, peak: int) -> dict[str, Any]:
        return {
            "event": "blocks",
            "pass": self.number,
            "done": self.state.count(COMMITTED),
            "total": len(self.state.state),
            "peak": peak,
            "retries": self.totals.retries,
        }

    def watch(self) -> None:
        """Say so when a batch takes five times as long as the slowest before it."""
        now = time.monotonic()
        for batch in self.flying.values():
            limit = max(60.0, 5 * self.pace.slowest * len(batch.blocks))
            if not batch.warned and self.pace.slowest and now - batch.started > limit:
                batch.warned = True
                blocks = [int(b) for b in np.asarray(batch.blocks[:4])]
                self.crew.listen(
                    {"event": "slow", "pass": self.number, "blocks": blocks, "seconds": now - batch.started}
                )
