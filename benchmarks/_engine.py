"""Engine: cristae as the benchmarks call it, one step below its command line.

    cluster_up   worker processes that are there before the clock starts
    do           a job, in this process or on a cluster
    pipeline     the job of `cristae run`, from the text of a pipeline file

A job is done once on a tiny input before the clock starts: imports and the loading of compiled kernels are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cristae.pipeline.job import Job, Outcome

Shape = tuple[int, ...]
UP = "cristae's worker processes are up, and have done one tiny job, before the clock starts"


@contextmanager
def cluster_up(workers: int) -> Iterator[Any]:
    """A scheduler in this process and worker processes of one thread, set up as `--cluster local:N` sets up its own."""
    import dask
    from distributed import LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-saturation": 1.5,
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": False,
        "distributed.admin.log-length": 0,
    }
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster


def do(job: Job, cluster: Any = "none", block: Shape | None = None) -> Outcome:
    """A job to its end. cluster : a cluster that is up, or a word that `--cluster` takes."""
    from cristae.pipeline.job import Settings, execute

    address = cluster if isinstance(cluster, str) else cluster.scheduler_address
    return execute(job, Settings(cluster=address, block=block), lambda event: None)


def pipeline(text: str, source: Path, out: Path, voxel_um: tuple[float, ...]) -> Job:
    """The job of a pipeline file with this text over `source`; its results lie under `out`."""
    from cristae.pipeline.jobs import Inputs, load_pipeline, run_job

    out.mkdir(parents=True)
    file = out.with_suffix(".yaml")
    file.write_text(text, encoding="utf-8")
    return run_job(load_pipeline(str(file), []), [str(source)], str(out), Inputs(voxel_um=voxel_um))
