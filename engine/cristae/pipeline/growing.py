"""Growing: a published run goes on with images that have joined, or were mended; finished ones stay as they are.

Blocks are numbered image by image, so the images keep their places and new ones come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cristae.blocks.journal import Journal
from cristae.blocks.run import blocks_of
from cristae.blocks.work import Work
from cristae.errors import PlanRefused
from cristae.pipeline import generation as gen
from cristae.pipeline.job import Job
from cristae.pipeline.status import opened

OTHERWISE = "give another --out, or --fresh to make it again"


def grown(job: Job, work: Work, found: gen.Generation, key: Mapping[str, Any]) -> gen.Generation:
    """The generation, which now wants the images of a longer key. work : the job's, with all of them

    Raises
    ------
    PlanRefused : where an answer is pooled over all images, or the blocks no longer fit.
    """
    asked = (m for p in job.passes for stage in p.chain for m in stage.asks.values())
    if pooled := {measure.name for measure in asked if measure.scope == "collection"}:
        raise PlanRefused(
            f"{job.finals[0]} was made of other images, and its {' and '.join(sorted(pooled))} is pooled over all of them; {OTHERWISE}"
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
    lost = gen.lost_of(found)
    redo = _again(before, journal, {n for n, image in enumerate(before.images) if image.name in lost})
    return gen.grow(found, key, [image.name for image in job.images], redo)


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
            own = np.concatenate([state.file_of[np.array(blocks_of(work, step, image))] for image in todo])
            mates = np.flatnonzero(np.isin(state.file_of, np.setdiff1d(own, [-1])))
            images = images | {work.frames[layout.locate(int(block))[0]].image for block in mates}
    spans = [[blocks_of(work, step, image) for image in sorted(images)] for step in work.passes]
    return [
        {"kind": "redo", "pass": n, "blocks": [[s.start, s.stop] for s in own]} for n, own in enumerate(spans) if own
    ]
