"""Collapse: the passes of a job, as its blocks make them. What fits one block is one visit; what does not gets a pyramid.

An image that is one block has its global answers in its own partials. All passes of an object then become one: the last, with
the others before it inside the same task. Ten thousand small fields are ten thousand visits, each read once.
"""

from __future__ import annotations

from dataclasses import replace

from cristae.blocks.work import Pass, Ref, Target, Work
from cristae.filters.pyramid import How, downsample, pyramid_factors, pyramid_steps
from cristae.grid import Shape
from cristae.pipeline.job import Job


def arranged(job: Job, block: Shape, pyramid: bool = True) -> tuple[tuple[Pass, ...], tuple[Target, ...]]:
    """Passes and targets of a job for a block shape, with or without coarser levels."""
    work = Work("", job.images, job.frames, job.passes, job.targets, block)
    if _collapses(job, work):
        return _collapsed(job)
    return (*job.passes, *(_pyramids(job, work) if pyramid else ())), job.targets


def _pyramids(job: Job, work: Work) -> list[Pass]:
    """A pass for every coarser level of every output array, each made from the level before."""
    passes: list[Pass] = []
    for step in job.passes:
        output = next((o for o in job.arrays if o.target == step.sink), None)
        if output is None or step.sink is None:
            continue
        spec = max((work.specs(n, step)[-1] for n in range(len(job.images))), key=lambda s: s.shape)
        voxel, before = spec.voxel_um, step.sink
        channel = step.into if step.into is not None else None if output.every_channel else 0
        of = "" if step.into is None else f" of channel {step.into}"
        for level, factors in enumerate(pyramid_steps(pyramid_factors(spec.shape, spec.voxel_um)), 1):
            how: How = "mode" if output.kind == "label" else "mean"
            stage = downsample(factors, voxel_um=voxel, how=how)
            after = f"{step.sink}:{level}"
            name, source = f"{step.sink}: level {level}{of}", Ref(before, channel)
            passes.append(Pass(name, source, (stage,), ({},), (), after, into=step.into, ahead=False))
            voxel, before = tuple(v * f for v, f in zip(voxel, factors, strict=True)), after
    return passes


def _collapses(job: Job, work: Work) -> bool:
    if len(job.passes) < 2 or any(p.source is None and p.chain for p in job.passes):
        return False
    wanted = {key for p in job.passes for key in p.wants}
    if any(a.measure.scope != "frame" for p in job.passes for a in p.measures if a.key in wanted):
        return False
    return all(len(work.grid(n, p)) == 1 for n in range(len(job.images)) for p in job.passes)


def _collapsed(job: Job) -> tuple[tuple[Pass, ...], tuple[Target, ...]]:
    out: list[Pass] = []
    before: list[Pass] = []
    kinds = {t.name: t.kind for t in job.targets}
    for step in job.passes:
        final = (step.sink is not None and kinds[step.sink] != "scratch") or any(
            a.measure.finish is None for a in step.measures
        )
        if final:
            out.append(replace(step, before=tuple(before)))
            before = []
        else:
            before.append(step)
    return tuple(out), tuple(t for t in job.targets if t.kind != "scratch")
