"""Cleaning: what finished runs left behind that nothing needs any more: results that were replaced, and the state of their runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from cristae.pipeline.generation import latest
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
        what = "a replaced result and its run" if (folder / "replaced").exists() else "an earlier run"
        found.append(Leftover(folder, _size(folder), what))
    return found


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
