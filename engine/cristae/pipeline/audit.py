"""Audit: the journal against what is stored, object by object. What is found wanting is journalled, and the run's own command
makes it again. Inputs are never touched.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.journal import COMMITTED, Journal
from cristae.blocks.task import checksum
from cristae.blocks.work import Work, consecutive, witnessed
from cristae.errors import Damaged
from cristae.grid import Box
from cristae.pipeline.generation import Generation
from cristae.pipeline.status import opened, places
from cristae.store.bundle import Bundle, write_bytes
from cristae.store.claim import Claim
from cristae.store.durable import digest

AUDITED = "audit.json"
"""What the last audit of a generation saw, and when."""


@dataclass(frozen=True)
class Finding:
    """One object that is not what the journal says."""

    what: str  # path
    why: str  # missing, empty, N bytes instead of M, not the bytes that were written
    block: int | None = None


@dataclass(frozen=True)
class Audit:
    """What an audit saw."""

    name: str
    objects: int
    findings: tuple[Finding, ...]
    changed: tuple[Finding, ...] = ()  # voxels of the inputs that are not those that were read


def audit(state: Path, *, inputs: bool = False, tell: Callable[[int], None] = lambda n: None) -> Audit:
    """Compare a run's journal with its store, journal what is damaged, and say so.

    inputs : also read the inputs again and compare their voxels with those that were read

    Raises
    ------
    Claimed : if the run is going on.
    """
    ours = os.access(state, os.W_OK)  # an archive is compared too, and nothing is journalled there
    with Claim(state) if ours else nullcontext():
        generation, work, journal = opened(state)
        objects, findings = compare(generation, work, journal, tell, note=ours)
        changed = _inputs(work, journal) if inputs else []
        seen = {"date": datetime.now(UTC).date().isoformat(), "objects": objects, "damaged": len(findings)}
        if ours:
            write_bytes(generation.folder / AUDITED, json.dumps(seen).encode())
    return Audit(state.name, objects, tuple(findings), tuple(changed))


def compare(
    generation: Generation,
    work: Work,
    journal: Journal,
    tell: Callable[[int], None] = lambda n: None,
    *,
    note: bool = True,
) -> tuple[int, list[Finding]]:
    """Compare every object with its receipt, and, to `note` it, journal what has to be made again. Returns how many, and what is wanting."""
    roots = {(f["array"], f["image"]): p for f, p in places(generation) if f["array"] is not None}
    redo: dict[int, set[int]] = {}
    findings: list[Finding] = []
    objects = 0
    for number, block, array, key, size, wanted in journal.puts():
        objects += 1
        tell(objects)
        frame, _ = work.layout(work.passes[number]).locate(block)
        root = roots.get((array, work.frames[frame].image))
        why = None if root is None else _fault(root / key, size, wanted)
        if root is not None and why is not None:
            findings.append(Finding(str(root / key), why, block))
            redo.setdefault(number, set()).add(block)
    files = _files(generation, journal)
    findings += files.values()
    _answers(work, journal, findings, redo)
    if note:
        _journal(generation, work, journal, redo, files)
    return objects + len(journal.files), findings


def _fault(path: Path, size: int, wanted: str) -> str | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return "missing"
    if len(data) != size:
        return "empty" if not data else f"{len(data)} bytes instead of {size}"
    return None if digest(data) == wanted else "not the bytes that were written"


def _inputs(work: Work, journal: Journal) -> list[Finding]:
    """Blocks whose input voxels are no longer those that a committed block was computed from."""
    found: dict[tuple[str, Box, int, int], Finding] = {}
    for number, block, seen in journal.sources():
        step = work.passes[number]
        frame, index = work.layout(step).locate(block)
        at = work.frames[frame]
        ref = step.first_source
        assert ref is not None
        volume = work.images[at.image].volumes[ref.array]
        core = witnessed(work, step, at.image, index)
        c = at.c if ref.channel is None else ref.channel
        if (place := (volume.path, core, at.t, c)) in found:  # several passes read the same voxels
            continue
        if checksum(volume.read(core, t=at.t, c=c)) != seen:
            found[place] = Finding(volume.path, f"its voxels between {core.start} and {core.stop} changed since", block)
    return list(found.values())


def _files(generation: Generation, journal: Journal) -> dict[str, Finding]:
    """Tables, pictures and metadata that are not what was finished, by the name the journal has for them; edited ones count too."""
    found = {}
    for name, wanted in journal.files.items():
        path = generation.folder.parents[2] / name
        if not path.exists():
            found[name] = Finding(str(path), "missing")
        elif digest(path.read_bytes()) != wanted:
            found[name] = Finding(str(path), "not the bytes that were written")
    return found


def _answers(work: Work, journal: Journal, findings: list[Finding], redo: dict[int, set[int]]) -> None:
    """Answers and partials, without which a damaged block could not be made again."""
    for number, step in enumerate(work.passes):
        for asked in step.measures:
            if asked.key in journal.answered and number not in journal.reused:
                _check(stored.answer_path(work.folder, asked.key), findings, redo, number, ())
        state = journal.passes[number]
        for n, name in enumerate(state.files):
            blocks = np.flatnonzero((state.file_of == n) & (state.state == COMMITTED)).tolist()
            if blocks:
                _check(Path(work.folder) / name, findings, redo, number, blocks)


def _check(path: Path, findings: list[Finding], redo: dict[int, set[int]], number: int, blocks: Iterable[int]) -> None:
    try:
        Bundle(path).check()
    except Damaged as error:
        findings.append(Finding(str(path), str(error).removeprefix(f"{path} ")))
        redo.setdefault(number, set()).update(blocks)


def _journal(
    generation: Generation, work: Work, journal: Journal, redo: dict[int, set[int]], files: Collection[str]
) -> None:
    records: list[dict[str, Any]] = []
    for number, found in redo.items():
        # Partials are merged by batch, so the blocks of a batch are made again together; and their pass is answered again.
        state = journal.passes[number]
        batches = {int(state.file_of[b]) for b in found} - {-1}
        blocks = found | set(np.flatnonzero(np.isin(state.file_of, list(batches))).tolist())
        keys = [a.key for a in work.passes[number].measures]
        records.append({"kind": "redo", "pass": number, "blocks": consecutive(sorted(blocks)), "keys": keys})
    if files:
        records.append({"kind": "redo files", "files": list(files)})
    if records:
        (generation.folder / "complete.json").unlink(missing_ok=True)
        journal.add(records)
