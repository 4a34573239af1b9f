"""Probe: one block of a run, done for real in memory, so that a plan can give a time with its range."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cristae.array import Array
from cristae.blocks.evaluate import Answers, answer_whole, at_whole, needs
from cristae.blocks.measure import Measure
from cristae.blocks.stage import At, Stage
from cristae.blocks.work import Pass, Work
from cristae.pipeline.fitting import cluster_of, fitting_block, memory_limit, work_of
from cristae.pipeline.job import Job, Settings

LIKELY = (0.6, 1.6)
"""Around the time of the middle block times their number: blocks at the rim are cheaper, dense ones dearer."""


@dataclass(frozen=True)
class Probed:
    """Seconds: of one block through all passes, and of the whole run at least and at most."""

    block_s: float
    low_s: float
    high_s: float


def probe(job: Job, settings: Settings) -> Probed:
    """Time the middle block of every pass, as if it were a volume of its own; what passes write is priced, not written."""
    cluster = cluster_of(job, settings)
    work = work_of(job, fitting_block(job, settings, cluster), settings, memory_limit(cluster, settings))
    made: dict[str, Array] = {}
    spent = total = 0.0
    for step in (p for p in work.every_pass if p.source is not None):
        _one(work, step, dict(made))  # the first call compiles
        seconds, array = _one(work, step, made)
        if step.sink is not None:
            made[step.sink] = array
        spent += seconds
        total += seconds * sum(len(work.layout(p)) for p in work.passes if step in (p, *p.before))
    return Probed(spent, LIKELY[0] * total / cluster.workers, LIKELY[1] * total / cluster.workers)


def _one(work: Work, step: Pass, made: dict[str, Array]) -> tuple[float, Array]:
    assert step.source is not None
    start = time.perf_counter()
    array = made[step.source.array] if step.source.array in made else _read(work, step)
    seconds = time.perf_counter() - start
    for stage in step.chain:
        at, answers = at_whole(stage, array), _answers(stage, array)
        start = time.perf_counter()
        array = stage.apply(array, at=at, answers=answers)
        seconds += time.perf_counter() - start
    for measure in (a.measure for a in step.measures if a.measure.reads_array and not a.beside):
        at, answers = At.whole(array.shape), _answers(measure, array)
        start = time.perf_counter()
        measure.partial(array, at=at, answers=answers)
        seconds += time.perf_counter() - start
    return seconds, array


def _read(work: Work, step: Pass) -> Array:
    assert step.source is not None
    grid = work.grid(0, step)
    core = grid.core(len(grid) // 2)
    box = needs(step.chain, [s.shape for s in work.specs(0, step)], core, core)[0]
    return work.images[0].volumes[step.source.array].read(box, c=step.source.channel or 0)


def _answers(fact: Stage | Measure, array: Array) -> Answers:
    return {name: answer_whole(measure, [array]) for name, measure in fact.asks.items()}
