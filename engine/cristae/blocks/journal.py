"""Journal: the durable list of what is committed. Resume reads nothing else.

A block is committed when its receipt is in the ledger, and its receipt goes there only after its bytes are durable. In
memory a pass costs five bytes a block, whatever the receipts say. The law of conservation is checked at every change:

    total = pending + running + committed + set aside
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.task import Failure, Report
from cristae.blocks.work import consecutive
from cristae.store.ledger import Ledger, Record

PENDING, RUNNING, COMMITTED, ASIDE = range(4)


@dataclass
class PassState:
    """What is known of each block of a pass; `file_of` numbers the partial file that holds it (-1: none)."""

    state: np.ndarray
    file_of: np.ndarray
    files: list[str] = field(default_factory=list)
    aside: dict[int, Record] = field(default_factory=dict)

    @staticmethod
    def new(blocks: int) -> PassState:
        return PassState(np.zeros(blocks, np.uint8), np.full(blocks, -1, np.int32))

    def count(self, state: int) -> int:
        return int(np.count_nonzero(self.state == state))

    def move(self, blocks: Sequence[int], into: int) -> list[int]:
        """Move blocks to a state; a committed block never leaves, and those that stayed are left out of the answer."""
        array = np.asarray(blocks, np.int64)
        moved = array[self.state[array] != COMMITTED]
        self.state[moved] = into
        out: list[int] = moved.tolist()
        return out

    def check(self) -> None:
        """The law of conservation."""
        if sum(self.count(s) for s in range(4)) != len(self.state):
            raise AssertionError("a block was lost between pending, running, committed and set aside")


class Journal:
    """Receipts of one run, kept under `folder`; `blocks` counts the blocks of each pass."""

    def __init__(self, folder: Path, blocks: Sequence[int]) -> None:
        self.ledger = Ledger(folder / "journal")
        self.passes = [PassState.new(n) for n in blocks]
        self.answered: set[str] = set()  # keys of the answers that are there
        self.written = 0  # answers, those among them that were written again
        self.dropped: set[str] = set()  # scratch arrays that were deleted after success
        self.over: set[int] = (
            set()
        )  # passes that made those, or had no other use: what they read is still what the result is made of
        self.complete = False
        self.reused: list[int] = []  # passes whose result an earlier run left
        self.grown = False  # images or time points have joined since the files were made
        self.files: dict[
            str, str
        ] = {}  # finished tables, pictures and metadata, by path under the run's root -> digest
        self.damaged_files: set[str] = set()  # those that an audit found wanting
        self.recovered = 0

    @staticmethod
    def load(folder: Path, blocks: Sequence[int]) -> Journal:
        """The journal as it was left; a torn last record is cut off."""
        journal = Journal(folder, blocks)
        journal.ledger.mend()
        for record in journal.ledger.read():
            journal.apply(record)
        journal.recovered = sum(p.count(COMMITTED) for p in journal.passes)
        return journal

    def commit(self, reports: Iterable[Report]) -> list[int]:
        """Journal the receipts of batches, all durable together. Returns how many blocks each newly committed.

        The one gate: what a dead worker reports late of a committed block is dropped here.
        """
        records, fresh = [], []
        taken: set[tuple[int, int]] = set()
        for report in reports:
            state = self.passes[report.number]
            new = [b for b in report.done if state.state[b] != COMMITTED and (report.number, b) not in taken]
            taken.update((report.number, b) for b in new)
            fresh.append(len(new))
            if new:
                chosen = set(new)
                puts = [p for p in report.puts if p[0] in chosen]
                records.append(
                    {
                        "kind": "blocks",
                        "pass": report.number,
                        "blocks": consecutive(new),
                        "attempt": report.attempt,
                        "puts": puts,
                        "sources": [s for s in report.sources if s[0] in chosen],
                        "empty": consecutive([b for b in report.empty if b in chosen]),
                        "partials": report.partials,
                        "seconds": round(report.seconds, 4),
                        "peak": report.peak,
                    }
                )
        self.add(records)
        return fresh

    def set_aside(self, number: int, failure: Failure, kin: Sequence[int] = ()) -> None:
        """Journal a block that failed for good in this run, with its traceback. kin : those that are not even tried then."""
        self.add(
            [
                {
                    "kind": "aside",
                    "pass": number,
                    "block": failure.block,
                    "kin": consecutive(sorted(kin)),
                    "why": failure.kind,
                    "error": failure.error,
                    "trace": failure.trace,
                }
            ]
        )

    def add(self, records: Iterable[Record]) -> None:
        """Make records durable, then true."""
        records = list(records)
        self.ledger.append(records)
        for record in records:
            self.apply(record)

    def retry_aside(self) -> int:
        """Blocks that an earlier run set aside are tried again by this one. Returns how many."""
        n = 0
        for state in self.passes:
            found = np.flatnonzero(state.state == ASIDE)
            state.state[found] = PENDING
            n += len(found)
            state.aside.clear()
        return n

    def pending(self, number: int) -> np.ndarray:
        """Numbers of the blocks of a pass that are neither committed nor set aside."""
        return np.flatnonzero(self.passes[number].state == PENDING)

    def puts(self) -> Iterator[tuple[int, int, str, str, int, str]]:
        """Every stored object of a committed block: pass, block, array, key, bytes, digest; the last receipt counts."""
        found: dict[tuple[str, int, str], tuple[int, int, str, str, int, str]] = {}
        for record in self.ledger.read():
            if record["kind"] == "blocks":
                for block, array, key, size, digest in record["puts"]:
                    found[array, block, key] = (record["pass"], block, array, key, size, digest)
        for item in found.values():
            if self.passes[item[0]].state[item[1]] == COMMITTED and item[2] not in self.dropped:
                yield item

    def sources(self) -> Iterator[tuple[int, int, int]]:
        """Pass, block and checksum of the input voxels of every committed block; the last receipt counts."""
        found: dict[tuple[int, int], int] = {}
        for record in self.ledger.read():
            if record["kind"] == "blocks":
                for block, seen in record.get("sources", ()):
                    found[record["pass"], block] = seen
        for (number, block), seen in found.items():
            if self.passes[number].state[block] == COMMITTED or number in self.over:
                yield number, block, seen

    def apply(self, record: Record) -> None:
        """What a record says, in memory."""
        kind = record["kind"]
        if kind == "blocks":
            state = self.passes[record["pass"]]
            file = -1
            if record["partials"]:
                file = len(state.files)
                state.files.append(record["partials"])
            for start, stop in record["blocks"]:
                state.state[start:stop] = COMMITTED
                state.file_of[start:stop] = file
                for block in [b for b in state.aside if start <= b < stop]:
                    del state.aside[block]
        elif kind == "aside":
            state = self.passes[record["pass"]]
            for start, stop in record.get("kin", ()):
                state.move(range(start, stop), ASIDE)
            if state.move([record["block"]], ASIDE):
                state.aside[record["block"]] = record
        elif kind == "answers":
            self.answered.update(() if record.get("lacking") else record["keys"])
            self.written += len(record["keys"])
        elif kind == "redo":
            state = self.passes[record["pass"]]
            for start, stop in record["blocks"]:
                state.state[start:stop] = PENDING
                state.file_of[start:stop] = -1
            for key in record.get("keys", ()):
                self.answered.discard(key)
            self.complete = False
        elif kind == "grown":
            # More images or time points than before: what is committed stays, also where its scratch is gone; answers and files are made anew.
            for state in self.passes:
                state.state[(state.file_of >= 0) & (state.state == PENDING)] = COMMITTED
            for number in self.reused:
                self.passes[number].state[:] = PENDING
            self.reused = []
            self.dropped.clear()
            self.over.clear()
            self.answered.clear()
            self.files = {}
            self.grown, self.complete = True, False
        elif kind == "reused":
            # What these passes make is there from an earlier run.
            for number, blocks in record["passes"]:
                self.passes[number].state[:blocks] = COMMITTED
            self.reused = [number for number, _ in record["passes"]]
            self.answered.update(record["keys"])
        elif kind == "redo files":
            self.damaged_files.update(record["files"])
            self.complete = False
        elif kind == "dropped":
            self.dropped.update(record["arrays"])
            self.over.update(record["passes"])
            for number in record["passes"]:
                self.passes[number].state[:] = PENDING
        elif kind in ("complete", "lacking"):
            self.complete = kind == "complete"
            self.grown = False
            self.files = record["files"]
            self.damaged_files.clear()

    def stamp(self) -> int:
        """Changes whenever an answer is written; tells workers which version they may keep."""
        return self.written


def summary_of(records: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Totals of the receipts: seconds of work and the highest peak memory of a process."""
    seconds, peak = 0.0, 0
    for r in records:
        if r["kind"] == "blocks":
            seconds += r["seconds"]
            peak = max(peak, r["peak"])
    return {"seconds": seconds, "peak": peak}
