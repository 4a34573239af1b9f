"""Cleaning: what finished runs left behind that nothing needs any more: results that were replaced, and the state of their runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cristae.pipeline.generation import latest, told
from cristae.store.claim import Claim


@dataclass(frozen=True)
class Leftover:
    """A folder that can go, the bytes in it, and what it holds."""

    path: Path
    size: int
    what: str


def leftovers(state: Path) -> list[Leftover]:
    """What can go of one run: earlier generations, once the newest is complete; its own journal and answers stay."""
    newest = latest(state)
    if newest is None or not (newest.folder / "complete.json").exists():
        return []
    found = []
    for folder in sorted(p for p in state.glob("gen-*") if p.is_dir() and p != newest.folder):
        if (folder / "foreign").exists():  # what no run has made
            inner = folder / "replaced"
            found += [Leftover(inner, _size(inner), "a replaced result")] if inner.exists() else []
            continue
        what = "a replaced result and its run" if (folder / "replaced").exists() else "an earlier run"
        found.append(Leftover(folder, _size(folder), what))
    return [*found, *_kept(state.parent)]


def _kept(root: Path) -> Iterator[Leftover]:
    """Kept results of steps that no run's newest generation uses."""
    newest = [found for run in root.iterdir() if run.is_dir() and (found := latest(run)) is not None]
    noted = [generation.folder / "kept.json" for generation in newest]
    used = {digest for path in noted if path.exists() for digest in told(path)}
    for folder in sorted((root / "kept").glob("*")):
        if folder.name not in used:
            yield Leftover(folder, _size(folder), "the kept result of a step")


def clean(state: Path) -> list[Leftover]:
    """Delete the leftovers of one run; they cannot be had back.

    Raises
    ------
    Claimed : if a run is at work there.
    """
    with Claim(state):
        found = leftovers(state)
        for left in found:
            shutil.rmtree(left.path)
    return found


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
