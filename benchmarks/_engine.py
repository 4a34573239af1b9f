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
    import dask
    from distributed import Client, LocalCluster

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
        # A tiny job given to the cluster may end on one worker; so each gets one of its own first.
        with Client(cluster) as client:
            addresses = client.scheduler_info(n_workers=-1)["workers"]
            alone = [client.submit(done, tiny(f"tiny-{n}"), workers=[a]) for n, a in enumerate(addresses)]
            client.gather(alone)
        do(tiny("tiny"), cluster)
        yield cluster


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
    from cristae.pipeline.jobs import Inputs, load_pipeline, run_job

    out.mkdir(parents=True)
    file = out.with_suffix(".yaml")
    file.write_text(text, encoding="utf-8")
    return run_job(load_pipeline(str(file), []), [str(source)], str(out), Inputs(voxel_um=voxel_um))
