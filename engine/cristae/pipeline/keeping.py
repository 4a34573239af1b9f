"""Keeping: what a step that says `keep: true` gave, for every later run that begins with the same steps on the same input.

ROOT/.cristae/kept/DIGEST/IMAGE.zarr    DIGEST: the steps up to there, their source, and the input
gen-N/kept/IMAGE/NAME.zarr              while the run is at work; moved when it is done
gen-N/kept.json                         the digests that a generation uses
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from cristae.blocks.journal import COMMITTED, Journal
from cristae.blocks.stage import Stage
from cristae.blocks.work import Work
from cristae.pipeline.generation import Generation, fingerprint
from cristae.pipeline.job import Job
from cristae.store.bundle import write_bytes


def digests_of(steps: Sequence[Stage], inputs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What names the kept result of each image: every step with what it asks for, and the input; where an answer is pooled over
    the collection, every input."""
    prints = [fingerprint(step) for step in steps]
    pooled = any(measure.scope == "collection" for step in steps for measure in step.asks.values())
    told = ([prints, facts, inputs if pooled else None] for facts in inputs)
    texts = (json.dumps(one, sort_keys=True, default=str) for one in told)
    return tuple(hashlib.blake2b(text.encode(), digest_size=12).hexdigest() for text in texts)


def shared_place(job: Job, target: str, image: int) -> Path:
    """Where all runs find the kept result of an image."""
    return job.root / ".cristae" / "kept" / job.kept[target][image] / f"{job.images[image].name}.zarr"


def place_of(job: Job, generation: Generation, target: str, image: int) -> Path:
    """Where a kept result lies now."""
    shared = shared_place(job, target, image)
    return shared if shared.exists() else _own_place(job, generation, target, image)


def _own_place(job: Job, generation: Generation, target: str, image: int) -> Path:
    return generation.folder / "kept" / job.images[image].name / f"{target}.zarr"


def note_kept(job: Job, generation: Generation) -> None:
    """Say which kept results a generation uses, so that `clean` leaves them."""
    digests = sorted({digest for several in job.kept.values() for digest in several})
    write_bytes(generation.folder / "kept.json", json.dumps(digests).encode())


def share(job: Job, generation: Generation, lost: Container[int]) -> None:
    """Move finished results to where later runs look; safe to do again."""
    for target in job.kept:
        for image in (n for n in range(len(job.images)) if n not in lost):
            own, shared = _own_place(job, generation, target, image), shared_place(job, target, image)
            if own.exists() and not shared.exists():
                shared.parent.mkdir(parents=True, exist_ok=True)
                own.rename(shared)
    if not lost:
        shutil.rmtree(generation.folder / "kept", ignore_errors=True)


def reuse(job: Job, work: Work, journal: Journal) -> list[str]:
    """Leave out the passes whose only use is a result that is there already. Returns the names of what is taken from there."""
    ready = {name for name in job.kept if all(shared_place(job, name, n).exists() for n in range(len(job.images)))}
    made = [n for n, step in enumerate(work.passes) if step.sink in ready]
    if all((journal.passes[n].state == COMMITTED).all() for n in made):
        return []
    kinds = {t.name: t.kind for t in work.targets}
    keys: set[str] = set()
    arrays: set[str] = set()
    needless = []
    for number, step in reversed(list(enumerate(work.passes))):
        finished = step.sink is not None and kinds.get(step.sink, "level") not in ("scratch", "kept")
        wanted = finished or step.sink in arrays or any(a.key in keys for a in step.measures)
        if not wanted or step.sink in ready:
            needless.append(number)
            continue
        for one in (*step.before, step):
            keys |= one.wants
            arrays |= {ref.array for ref in (one.source, *one.beside) if ref is not None}
    answers = [a.key for n in needless for a in work.passes[n].measures]
    blocks = [[n, len(journal.passes[n].state)] for n in sorted(needless)]
    journal.add([{"kind": "reused", "passes": blocks, "keys": answers}])
    return sorted(ready)
