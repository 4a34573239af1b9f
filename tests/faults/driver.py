"""Driver: one run of the real engine in a process of its own, so that a test may kill it, and its workers, at any moment.

    PYTHONPATH=engine:cli:tests python driver.py '{"input": ..., "out": ..., ...}'

It ends as the command line does: 0, or the error's exit code and one sentence on stderr. What else it is told:

    cluster, block       as on the command line
    pipeline             text of the pipeline file; the main job unless given
    inputs               keywords of cristae.pipeline.jobs.Inputs
    fresh                as --fresh
    poison               {pass number: folder of flags}: a poison stage goes to the end of that pass's chain
    worker_dies          NAME:N for CRISTAE_DIE_AT in every worker process, and not here
    kill_workers         seconds between SIGKILLs of one of its workers, and the seed of the choice: [count, mean, seed]
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from dataclasses import replace
from typing import Any

FAULTS = os.path.dirname(os.path.abspath(__file__))

MAIN = """
output: {name: cell}
steps:
  - ridge: {method: frangi, radius_um: {min: 0.15, max: 0.3, scales: 2}, gamma: 30.0}
  - threshold: {method: otsu, over: frame}
  - label: {min_voxels: 4}
  - measure: {columns: [shape, surface, intensity]}
"""


def job_of(told: dict[str, Any]) -> Any:
    """The Job that a command would make."""
    from pathlib import Path

    from cristae.pipeline.file import load
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.jobs import run_job
    from cristae.pipeline.operations import known

    inputs = dict(told.get("inputs", {}))
    if "time" in inputs:
        inputs["time"] = tuple(inputs["time"])
    text = told.get("pipeline", MAIN)
    job = run_job(
        load(Path(text) if "\n" not in text else text, known()), [told["input"]], told["out"], Inputs(**inputs)
    )
    for number, flags in told.get("poison", {}).items():
        job = poisoned(job, int(number), flags)
    return job


def poisoned(job: Any, number: int, flags: str) -> Any:
    """The job with a stage at the end of one pass's chain that returns what it is given, unless flags say otherwise."""
    from faults.poison import poison

    step = job.passes[number]
    ndim = len(next(iter(job.images[0].volumes.values())).spatial_shape)
    changed = replace(step, chain=(*step.chain, poison(flags, ndim)), asks=(*step.asks, {}))
    return replace(job, passes=(*job.passes[:number], changed, *job.passes[number + 1 :]))


class Reaper(threading.Thread):
    """Kills one of this process's workers with SIGKILL now and then, `count` times."""

    def __init__(self, count: int, mean: float, seed: int) -> None:
        super().__init__(daemon=True)
        self.left, self.mean, self.random = count, mean, random.Random(seed)
        self.killed = 0
        self.busy = threading.Event()

    def listen(self, event: dict[str, Any]) -> None:
        if event["event"] == "pass":
            self.busy.set()

    def run(self) -> None:
        self.busy.wait()
        while self.left:
            time.sleep(self.random.uniform(0.2, 1.8) * self.mean)
            if (found := workers()) and self.left:
                os.kill(self.random.choice(found), signal.SIGKILL)
                self.left, self.killed = self.left - 1, self.killed + 1


def workers() -> list[int]:
    """Process numbers of this process's workers."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def main(told: dict[str, Any]) -> int:
    from cristae.errors import CristaeError
    from cristae.pipeline.execute import execute
    from cristae.pipeline.job import Settings

    if "worker_dies" in told:
        import dask

        environment = dask.config.get("distributed.nanny.pre-spawn-environ", {})
        dask.config.set({"distributed.nanny.pre-spawn-environ": {**environment, "CRISTAE_DIE_AT": told["worker_dies"]}})
    events: list[dict[str, Any]] = []
    reaper = Reaper(*told.get("kill_workers", (0, 1.0, 0)))
    reaper.start()

    def listen(event: dict[str, Any]) -> None:
        events.append(event)
        reaper.listen(event)
        print(json.dumps(event), file=sys.stderr)

    block = tuple(told["block"]) if told.get("block") else None
    settings = Settings(told.get("cluster", "none"), block=block, fresh=told.get("fresh", False))
    try:
        outcome = execute(job_of(told), settings, listen)
    except CristaeError as error:
        reaper.left = 0
        print(f"cristae: {error}", file=sys.stderr)
        return error.exit_code
    deaths = sum(e["event"] == "death" for e in events)
    asides = sum(e["event"] == "aside" for e in events)
    print(json.dumps({"status": outcome.status, "killed": reaper.killed, "deaths": deaths, "aside": asides}))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
