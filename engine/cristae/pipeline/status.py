"""Status: what lies at an output, for those who know the path but not the job. Reads the journal; changes nothing."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.journal import ASIDE, COMMITTED, Journal, summary_of
from cristae.blocks.work import Work, load_work
from cristae.errors import Damaged, InvalidInput
from cristae.pipeline.generation import Generation, latest, taken_by, told
from cristae.store.claim import holder
from cristae.store.volume import Volume


@dataclass(frozen=True)
class PassStatus:
    """Blocks of one pass."""

    name: str
    total: int
    committed: int
    aside: int


@dataclass(frozen=True)
class ImageStatus:
    """One image: "done", "failed" (a block was set aside, or it could not be opened) or "missing", and why."""

    name: str
    state: str
    why: str = ""


@dataclass(frozen=True)
class Failed:
    """A block that was set aside."""

    passed: str
    block: int
    error: str
    trace: str


@dataclass(frozen=True)
class Status:
    """One run: "complete", "running", "stopped", or "set aside"."""

    name: str
    state: str
    held_by: str | None
    passes: tuple[PassStatus, ...]
    failed: tuple[Failed, ...]
    worker_seconds: float  # all blocks, added up over the workers
    peak: int  # bytes of one process
    why: str  # what a run that is stopped ended with, "" where it was killed
    images: tuple[ImageStatus, ...] = ()


def runs_at(path: str, *, replaced: bool = False) -> list[Path]:
    """The `.cristae/NAME` folders of an output: a store, a label in one, a run's folder, or a table.

    replaced : also those whose results made room for another run's

    Raises
    ------
    InvalidInput : if no run has written there.
    """
    place = Path(path).absolute()
    found: list[Path] = []
    if (place / ".cristae").is_dir():
        found = _runs(place, replaced)
    else:
        for root in place.parents:
            if (root / ".cristae").is_dir():
                names = (place.name, place.stem, place.parent.name)
                runs = _runs(root, replaced)
                found = [p for p in runs if p.name in names] or runs
                break
    if not found:
        raise InvalidInput(f"{path} holds no run of cristae; give a store, a label or the folder that a run wrote")
    return found


def _runs(root: Path, replaced: bool) -> list[Path]:
    runs = {p: found for p in sorted((root / ".cristae").iterdir()) if (found := latest(p)) is not None}
    here = [p for p, found in runs.items() if replaced or taken_by(found) is None]
    return here or list(runs)


def opened(state: Path) -> tuple[Generation, Work, Journal]:
    """The newest generation of a run with its facts and journal, as they are on disk.

    Raises
    ------
    InvalidInput : if the run was stopped before it wrote its facts, or was written by another version.
    Damaged : if they cannot be read.
    """
    generation = latest(state)
    assert generation is not None
    work = facts_of(generation)
    journal = Journal(generation.folder, [len(work.layout(p)) for p in work.passes])
    for record in journal.ledger.read():
        journal.apply(record)
    return generation, work, journal


def facts_of(generation: Generation) -> Work:
    """The facts of a run, as workers read them.

    Raises
    ------
    InvalidInput, Damaged : as `opened`.
    """
    path = generation.folder / "work.pkl"
    if not path.exists():
        raise InvalidInput(f"{generation.folder.parent} was stopped before it began; give its command again")
    try:
        work = load_work(str(path), str(path.stat().st_mtime_ns))
    except (pickle.UnpicklingError, EOFError, ValueError, IndexError, KeyError) as error:
        raise Damaged(
            f"{path}, which says how blocks are numbered, cannot be read ({error}); the run's own command writes it again"
        ) from error
    except (AttributeError, ImportError, TypeError):
        raise InvalidInput(
            f"{generation.folder.parent} was written by another version of cristae, which this one cannot read; its results are whole "
            "all the same: open them, or make them again with --fresh"
        ) from None
    return _here(work, generation)


def _here(work: Work, generation: Generation) -> Work:
    """The facts of a run that may have been moved since: its own folder, and inputs that lay beside it and moved along."""
    before, now = Path(work.folder).parents[2], generation.folder.parents[2]

    def moved(volume: Volume) -> Volume:
        path = Path(volume.path)
        return replace(volume, path=str(now / path.relative_to(before))) if path.is_relative_to(before) else volume

    images = tuple(replace(i, volumes={n: moved(v) for n, v in i.volumes.items()}) for i in work.images)
    return replace(work, folder=str(generation.folder), images=images)


def status(state: Path) -> Status:
    """What is done, what failed, and who is at it."""
    generation, work, journal = opened(state)
    passes = tuple(
        PassStatus(
            p.name, len(s.state), len(s.state) if p.sink in journal.dropped else s.count(COMMITTED), s.count(ASIDE)
        )
        for p, s in zip(work.passes, journal.passes, strict=True)
    )
    failed = tuple(
        Failed(p.name, block, record["error"], record["trace"])
        for p, s in zip(work.passes, journal.passes, strict=True)
        for block, record in s.aside.items()
    )
    held = holder(state)
    complete = (generation.folder / "complete.json").exists() and journal.complete
    word = "running" if held else "complete" if complete else "set aside" if failed else "stopped"
    totals = summary_of(journal.ledger.read())
    why = _ended(generation) if word == "stopped" else ""
    seconds, peak = round(totals["seconds"], 2), int(totals["peak"])
    images = tuple(_images(generation, work, journal))
    return Status(state.name, word, held, passes, failed, seconds, peak, why, images)


def _images(generation: Generation, work: Work, journal: Journal) -> Iterator[ImageStatus]:
    """Every image of the run, and those that were left out of it."""
    missing: set[int] = set()
    aside: dict[int, str] = {}
    for step, state in zip(work.passes, journal.passes, strict=True):
        layout = work.layout(step)
        for number, frame in enumerate(work.frames):
            blocks = layout.numbers(number)
            own = state.state[blocks.start : blocks.stop]
            if step.sink not in journal.dropped and not (own == COMMITTED).all():
                missing.add(frame.image)
            for block in np.flatnonzero(own == ASIDE):
                if (record := state.aside.get(int(block) + blocks.start)) is not None:  # not one of its kin
                    aside.setdefault(frame.image, record["error"])
    for n, image in enumerate(work.images):
        yield ImageStatus(
            image.name, "failed" if n in aside else "missing" if n in missing else "done", aside.get(n, "")
        )
    path = generation.folder / "left_out.json"
    for name, why in (told(path) if path.exists() else {}).items():
        yield ImageStatus(name, "failed", why)


def _ended(generation: Generation) -> str:
    """What the run said at its end."""
    try:
        *_, last = (generation.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        event = json.loads(last)
    except (OSError, ValueError):  # none, or the torn line of a run that was killed
        return ""
    return str(event["error"]) if event["event"] == "ended" else ""


def places(generation: Generation) -> Iterator[tuple[dict[str, Any], Path]]:
    """Every output that a run is certain to leave, with the path where it lies now; relative to where the state folder is, so a copy is
    found."""
    root = generation.folder.parents[2]
    for fact in told(generation.folder / "outputs.json"):
        staged = root / fact["staged"]
        if fact.get("certain", True):
            yield fact, staged if staged.exists() else root / fact["final"]


def is_final(generation: Generation, path: Path) -> bool:
    """Whether an output lies where it belongs, whole; that of an image that was set aside does not."""
    return path.exists() and not path.is_relative_to(generation.folder)


def finished_arrays(generation: Generation) -> list[tuple[dict[str, Any], Path]]:
    """The labels and images of a run that are in place, each with what was recorded of it."""
    return [(fact, p) for fact, p in places(generation) if fact["array"] is not None and is_final(generation, p)]
