"""Engine: cristae as the benchmarks call it, one step below its command line.

    cluster_up   worker processes that are there, and warm, before the clock starts
    do           a job, in this process or on a cluster
    pipeline     the job of `cristae run`, from the text of a pipeline file

Whoever works does a tiny job of the same kind before the clock starts: imports, and the loading of compiled kernels, are
not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cristae.pipeline.job import Job, Outcome

Shape = tuple[int, ...]
UP = "cristae's worker processes are up, and each has done one tiny job, before the clock starts"


@contextmanager
def cluster_up(workers: int, tiny: Callable[[str], Job]) -> Iterator[Any]:
    """A scheduler in this process and worker processes of one thread, set up as `--cluster local:N` sets up its own.

    tiny : a small job of the kind to come, whose results go under the name it is given
    """
    from cristae.cluster.executor import local_workers

    with local_workers(workers) as client:
        # A tiny job given to the cluster may end on one worker; so each gets one of its own first.
        addresses = client.scheduler_info(n_workers=-1)["workers"]
        alone = [client.submit(done, tiny(f"tiny-{n}"), workers=[a]) for n, a in enumerate(addresses)]
        client.gather(alone)
        # In several blocks: one block would be a single pass, in which the driver merges nothing.
        several = tiny("tiny")
        volume = next(iter(several.images[0].volumes.values()), None)
        halves = None if volume is None else tuple(-(-n // 2) for n in volume.spatial_shape)
        do(several, client.cluster, block=halves)
        yield client.cluster


def do(job: Job, cluster: Any = "none", block: Shape | None = None, pyramid: bool = False) -> Outcome:
    """A job to its end. cluster : a cluster that is up, or a word that `--cluster` takes; pyramid : peers make none."""
    from cristae.pipeline.execute import execute
    from cristae.pipeline.job import Settings

    address = cluster if isinstance(cluster, str) else cluster.scheduler_address
    return execute(job, Settings(cluster=address, block=block, pyramid=pyramid), lambda event: None)


def done(job: Job) -> None:
    """A job to its end, in the process that is asked."""
    do(job)


def pipeline(text: str, source: Path, out: Path, voxel_um: tuple[float, ...]) -> Job:
    """The job of a pipeline file with this text over `source`; its results lie under `out`."""
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.named import load_pipeline

    out.mkdir(parents=True)
    file = out.with_suffix(".yaml")
    file.write_text(text, encoding="utf-8")
    return run_job(load_pipeline(str(file), []), [str(source)], str(out), Inputs(voxel_um=voxel_um))
