"""Growing: a published run goes on with images and time points that have joined, or were mended; finished ones stay as they are.

Blocks are numbered frame by frame, so the frames keep their places and new ones come last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.journal import Journal
from cristae.blocks.run import blocks_of
from cristae.blocks.work import Frame, Work
from cristae.errors import PlanRefused
from cristae.pipeline import generation as gen
from cristae.pipeline.job import Job
from cristae.pipeline.placing import occupied
from cristae.pipeline.publishing import finals_of
from cristae.pipeline.status import opened

OTHERWISE = "give another --out, or --fresh to make it again"


def images_before(state: Path) -> tuple[str, ...]:
    """Images of the run that lies there already, in its order."""
    found = gen.latest(state)
    return () if found is None else tuple(found.frozen.get("images", ()))


def frames_after(state: Path, frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """These frames, those of the run that lies there already first and in its order. Images are in its order by now."""
    found = gen.latest(state)
    spans = [] if found is None else found.frozen.get("frames", [])
    place = {at: n for n, at in enumerate((image, t) for image, start, stop in spans for t in range(start, stop))}
    return tuple(sorted(frames, key=lambda frame: place.get((frame.image, frame.t), len(place))))


def order_of(job: Job) -> dict[str, Any]:
    """The order of images and frames, by which blocks are numbered: [image, first time point, last + 1] of each stretch."""
    spans: list[list[int]] = []
    for frame in job.frames if not any(frame.c for frame in job.frames) else ():
        if spans and spans[-1][0] == frame.image and spans[-1][2] == frame.t:
            spans[-1][2] += 1
        else:
            spans.append([frame.image, frame.t, frame.t + 1])
    return {"images": [image.name for image in job.images], "frames": spans}


def grown(job: Job, work: Work, found: gen.Generation, key: Mapping[str, Any]) -> gen.Generation:
    """The generation, which now wants the images and time points of a longer key. work : the job's, with all of them

    Raises
    ------
    PlanRefused : where an answer is pooled over what has joined, or the blocks no longer fit.
    """
    lost = gen.lost_of(found)
    longer = [name for name, facts in found.key["inputs"].items() if name not in lost and facts != key["inputs"][name]]
    asked = [m for p in work.every_pass for stage in p.chain for m in stage.asks.values()]
    if pooled := {measure.name for measure in asked if measure.scope == "collection"}:
        raise PlanRefused(
            f"{job.finals[0]} was made of other images, and its {' and '.join(sorted(pooled))} is pooled over all of them; {OTHERWISE}"
        )
    if longer and (pooled := {measure.name for measure in asked if measure.scope == "image"}):
        raise PlanRefused(
            f"{longer[0]} has more time points than before, and its {' and '.join(sorted(pooled))} is pooled over all of them; {OTHERWISE}"
        )
    if longer and job.kept:
        raise PlanRefused(
            f"{longer[0]} has more time points than before, and {next(iter(job.kept))} was kept (keep: true) without them; {OTHERWISE}"
        )
    _, before, journal = opened(job.state)
    if [p.name for p in work.passes] != [p.name for p in before.passes]:
        raise PlanRefused(
            f"{job.finals[0]} was made of images that are one block each, and a new one is larger; {OTHERWISE}"
        )
    if not _same_numbers(work, before):
        raise PlanRefused(
            f"{job.root} was begun with an image that has another size by now, and blocks are numbered by that; {OTHERWISE}"
        )
    there = finals_of(found)
    if taken := [final for final in job.finals if final not in there and occupied(final)]:
        raise PlanRefused(f"{taken[0]} exists already and is no result of this run; move it away, or {OTHERWISE}")
    redo = _again(before, journal, {n for n, image in enumerate(before.images) if image.name in lost})
    for final in there.difference(job.finals):  # such as the picture of a run that had one image
        if occupied(final):
            (found.folder / "replaced").mkdir(exist_ok=True)
            final.rename(found.folder / "replaced" / final.name)
    return gen.grow(found, key, order_of(job), redo)


def _same_numbers(work: Work, before: Work) -> bool:
    """Whether every block that was is what it was."""
    frames = len(before.frames)
    if work.frames[:frames] != before.frames:
        return False
    pairs = ((work.layout(p), before.layout(q)) for p, q in zip(work.passes, before.passes, strict=True))
    return all(np.array_equal(here.first[: frames + 1], there.first) for here, there in pairs)


def _again(work: Work, journal: Journal, images: set[int]) -> list[dict[str, Any]]:
    """Records by which all blocks of images are done again: of those that were lost, whose voxels may differ by now, and of those
    whose blocks went to the same files of partials."""
    seen = set[int]()
    while todo := images - seen:
        seen |= todo
        for step, state in zip(work.passes, journal.passes, strict=True):
            layout = work.layout(step)
            own = np.concatenate([state.file_of[b.start : b.stop] for n in todo for b in blocks_of(work, step, n)])
            mates = np.flatnonzero(np.isin(state.file_of, np.setdiff1d(own, [-1])))
            images = images | {work.frames[layout.locate(int(block))[0]].image for block in mates}
    spans = [[blocks for image in sorted(images) for blocks in blocks_of(work, step, image)] for step in work.passes]
    return [
        {"kind": "redo", "pass": n, "blocks": [[s.start, s.stop] for s in own]} for n, own in enumerate(spans) if own
    ]
