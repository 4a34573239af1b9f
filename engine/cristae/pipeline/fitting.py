"""Fitting: what a run may take of this machine: so many workers, so much memory for each, and blocks for which that is enough."""

from __future__ import annotations

from dataclasses import replace

from cristae.blocks.plan import make_plan, refuse
from cristae.blocks.work import Work
from cristae.cluster.model import Cluster, parse_cluster, usable_memory
from cristae.errors import PlanRefused
from cristae.grid import Shape
from cristae.pipeline import generation as gen
from cristae.pipeline.collapse import arranged
from cristae.pipeline.job import Job, Settings, block_of, voxel_bytes
from cristae.pipeline.placing import placed
from cristae.store.zarr_arrays import RECENT_BYTES

SHARE = 0.8
"""Of the memory there is, what the workers of a run may take unless --memory says otherwise."""

RECENT_SHARE = 0.25
"""Of what a worker may take, how much may hold chunks that were decoded."""


def cluster_of(job: Job, settings: Settings, block: Shape | None = None) -> Cluster:
    """The cluster that `settings` name. With `auto` as many workers as there are cores, or fewer, if they are done sooner for having
    room for larger blocks, or if more do not fit.

    block : of a run that goes on, which does not change
    """
    cluster = parse_cluster(settings.cluster, voxel_bytes(job))
    if settings.cluster != "auto":
        return cluster
    best, workers = (float("inf"), cluster), cluster.workers
    while workers:
        fewer = replace(cluster, workers=workers)
        seconds, whole = _seconds(job, settings, fewer, block)
        best = min(best, (seconds / workers, fewer), key=lambda one: one[0])
        if whole:
            break
        workers //= 2
    return best[1]


def _seconds(job: Job, settings: Settings, cluster: Cluster, block: Shape | None) -> tuple[float, bool]:
    """CPU seconds of a run, infinitely many where it does not fit; and whether its blocks are as large as without any limit."""
    limit = memory_limit(cluster, settings)
    try:
        shape = block or fitting_block(job, settings, cluster)
    except PlanRefused:
        return float("inf"), False
    plan = make_plan(work_of(job, shape, settings, limit), cluster.threads)
    fits = plan.memory <= limit
    return plan.seconds if fits else float("inf"), fits and shape in (block, block_of(job, settings))


def memory_limit(cluster: Cluster, settings: Settings) -> int:
    """Bytes that one worker process may take, its imports included."""
    if settings.memory is not None:
        return settings.memory
    return int(SHARE * usable_memory() / max(1, cluster.processes))


def fitting_block(job: Job, settings: Settings, cluster: Cluster) -> Shape:
    """The block of a new run: as asked for, or the usual one, halved until a worker has room for it, where that costs least.

    Raises
    ------
    PlanRefused : if the block that was asked for does not fit, naming one that would.
    """
    limit = memory_limit(cluster, settings)
    block = block_of(job, settings)
    chunk = settings.chunk or next((v.chunk for image in job.images for v in image.volumes.values()), block)
    fits = block
    needed = made = make_plan(work_of(job, block, settings, limit), cluster.threads)
    while needed.memory > limit and max(fits) > 16:
        halves = [
            tuple(_halved(n, chunk[a]) if a == axis else n for a, n in enumerate(fits))
            for axis in range(len(fits))
            if fits[axis] > min(16, chunk[axis])
        ]
        plans = [make_plan(work_of(job, half, settings, limit), cluster.threads) for half in halves]
        # Of equal ones the longest axis, so that a block stays a cube.
        needed, fits = min(zip(plans, halves, strict=True), key=lambda one: (one[0].seconds, max(one[1]), sum(one[1])))
    if settings.block is not None or needed.memory > limit:
        refuse(made, limit, needed)
    return fits


def _halved(n: int, chunk: int) -> int:
    """Half of n, in whole chunks as long as that is less than n."""
    whole = -(-n // (2 * chunk)) * chunk
    return whole if whole < n else -(-n // 2)


def work_of(job: Job, block: Shape, settings: Settings, limit: int, generation: gen.Generation | None = None) -> Work:
    """The facts of a run with this block shape; without a generation its own arrays lie nowhere yet.

    limit : bytes that a worker process may take; some of them are for chunks that blocks share
    """
    frozen = {} if generation is None else generation.frozen
    passes, targets = arranged(job, block, bool(frozen.get("pyramid", settings.pyramid)))
    images = job.images if generation is None else placed(job, generation)
    folder = "" if generation is None else str(generation.folder)
    recent = min(RECENT_BYTES, int(RECENT_SHARE * limit))
    return Work(folder, images, job.frames, passes, targets, block, settings.device, recent)
