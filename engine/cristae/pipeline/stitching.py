"""Stitching: what came of joining the objects of tiles. Every run that did so leaves the numbers, and says them.

stitched.json   for each image and time point: tiles; pairs of objects that are one; contested, split and beyond, which are doubtful
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.blocks.work import Asked, Work, group_of
from cristae.inference.instances import SEAMS
from cristae.pipeline.compile import Node, Passes
from cristae.pipeline.job import FileOutput
from cristae.store.bundle import Bundle, write_bytes

STITCHED = "stitched"
"""Under this word, and an object's name, the facts of a run hold the sums over all its images."""


def noted_seams(name: str, leaf: Node, passes: Passes) -> tuple[Asked, ...]:
    """What each step of a chain that joins objects of tiles found, noted by the last pass of the run."""
    found = []
    for node in leaf.chain:
        if node.stage.params.get("returns") == "labels":
            ids = node.stage.asks["ids"]
            asks = {"found": passes.ask(node.parent, ids)}
            found.append(Asked(f"{name}/{STITCHED}/{passes.called(node)}", _note(ids), asks))
    return tuple(found)


def _note(found: Measure) -> Measure:
    return Measure(
        STITCHED, {}, _again, _once, None, found.halo, "frame", Cost(0.0, 0.0), {"found": found}, reads_array=False
    )


def _again(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    return {"seams": answers["found"].arrays["seams"][np.newaxis]}


def _once(partials: Sequence[Partial]) -> Partial:
    nothing = np.empty((0, len(SEAMS)), np.int64)
    return {"seams": np.unique(np.concatenate([nothing, *(p["seams"] for p in partials)]), axis=0)}


@dataclass(frozen=True)
class Stitched:
    """The numbers of each image and time point, as a file, and their sums as facts of the run."""

    item: str
    keys: tuple[str, ...]

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        rows = []
        for key in self.keys:
            bundle = Bundle(stored.answer_path(work.folder, key))
            for number, frame in work.finished():
                (counts,) = stored.taken(bundle, group_of("frame", frame, number))["seams"]
                about = {"image": work.images[frame.image].name, "t": frame.t, "step": key.rpartition("/")[2]}
                rows.append({**about, **dict(zip(SEAMS, map(int, counts), strict=True))})
        write_bytes(path, json.dumps(rows, indent=1).encode())
        return {f"{STITCHED} {self.item}": {name: sum(row[name] for row in rows) for name in SEAMS}}


def stitched_files(folder: Path, item: str, asked: Sequence[Asked]) -> list[FileOutput]:
    """The report of an object whose steps join objects of tiles."""
    keys = tuple(one.key for one in asked)
    return [FileOutput(folder / f"{STITCHED}.json", Stitched(item, keys))] if keys else []


def said_of_seams(facts: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each object whose tiles were joined."""
    for name, found in facts.items():
        word, _, item = name.partition(" ")
        if word == STITCHED:
            yield (
                f"{item}: seams of {found['tiles']} tiles: {found['matched']} pairs of objects joined, {found['contested']} contested, "
                f"{found['split']} split at a tile's end, {found['beyond']} that no tile saw whole"
            )
