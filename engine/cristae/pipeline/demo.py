"""Demo: the whole promise in two minutes, on a volume made on the spot.

A tubular network is rendered block by block; the main job runs on it with two worker processes, one of which is killed on the way;
the same job runs again with other blocks; and the two results are compared voxel by voxel.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.dispatch import Listener
from cristae.blocks.work import Frame, Image, Pass, Target
from cristae.grid import BlockGrid, Box, Shape
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import ArrayOutput, Job, Outcome, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.store.volume import Volume, open_volume

SHAPE: Shape = (128, 704, 704)
VOXEL_UM = (0.2, 0.1, 0.1)
BLOCKS: tuple[Shape, Shape] = ((64, 176, 352), (128, 256, 192))
PIPELINE = """
output: {name: mito}
steps:
  - ridge: {method: frangi, radius_um: {min: 0.15, max: 0.30, scales: 3}}
  - threshold: {method: otsu, over: frame}
  - label: {min_volume_um3: 0.05}
  - measure: {columns: [shape, surface, topology, intensity]}
"""


@dataclass(frozen=True)
class Shown:
    """What the demo found out."""

    image: Path
    table: Path
    overview: Path
    voxels: int
    differ: int
    objects: int
    killed: int
    peak: int  # bytes, of one worker process
    volume_bytes: int
    retries: int


def specimen_job(path: Path, shape: Shape, seed: int) -> Job:
    """A volume from nothing: a stage without input, written as an OME-Zarr image."""
    from cristae.pipeline.specimen import specimen

    step = Pass("render the specimen", None, (specimen(shape, voxel_um=VOXEL_UM, seed=seed),), ({},), (), "image")
    return Job(
        "specimen",
        path,
        (Image(path.name.removesuffix(".ome.zarr"), {}),),
        (Frame(0, 0),),
        (step,),
        (Target("image", "image"),),
        (ArrayOutput("image", 0, "image", path),),
        extra={"shape": list(shape), "seed": seed},
    )


def demo(out: Path, listen: Listener, say: Callable[[str], None], shape: Shape = SHAPE, workers: int = 2) -> Shown:
    """Everything under `out`; going on where an earlier demo was stopped."""
    image = out / "cell.ome.zarr"
    size = int(np.prod(shape))
    say(f"1. render a cell of {' x '.join(map(str, shape))} voxels ({2 * size / 2**20:.0f} MiB), block by block")
    execute(specimen_job(image, shape, seed=1), Settings(cluster=f"threads:{workers}", block=BLOCKS[0]), listen)
    pipeline = load(PIPELINE, known())
    say("2. find, label and measure its mitochondria on two processes; at 40 % one of them is killed")
    killer = Killer(listen)
    first = run_job(pipeline, [str(image)], str(out / "results"), Inputs())
    done = execute(first, Settings(cluster=f"local:{workers}", block=BLOCKS[0]), killer)
    say(f"   {killer.killed} worker killed, {killer.retries} blocks run again, all {killer.blocks} blocks committed")
    say("3. the same once more, with other blocks and nobody killed")
    again = Killer(listen, wanted=0)
    second = run_job(pipeline, [str(image)], str(out / "other-blocks"), Inputs())
    execute(second, Settings(cluster=f"local:{workers}", block=BLOCKS[1]), again)
    differ = difference(open_volume(first.finals[0]), open_volume(second.finals[0]))
    return Shown(
        image,
        first.files[0].final,
        first.files[-1].final,
        size,
        differ,
        _objects(done, first.files[0].final),
        killer.killed,
        max(killer.peak, again.peak),
        2 * size,
        killer.retries,
    )


def _objects(done: Outcome, table: Path) -> int:
    import pyarrow.parquet

    return int(done.facts.get("objects.mito", pyarrow.parquet.read_metadata(table).num_rows))


def difference(one: Volume, other: Volume) -> int:
    """How many voxels differ between two volumes of one shape, read block by block."""
    grid = BlockGrid(one.spatial_shape, tuple(min(n, 256) for n in one.spatial_shape))
    return sum(_differ(one, other, core) for core in grid)


def _differ(one: Volume, other: Volume, core: Box) -> int:
    return int(np.count_nonzero(one.read(core) != other.read(core)))


class Killer:
    """Listens to a run and, at 40 % of its longest pass, kills one of this process's own workers with SIGKILL."""

    def __init__(self, listen: Listener, wanted: int = 1) -> None:
        self.listen, self.wanted = listen, wanted
        self.killed = self.retries = self.blocks = self.peak = 0
        self._pass = ""

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "pass":
            self._pass = event["name"]
            self.blocks += event["total"]
        elif event["event"] == "blocks":
            self.retries = max(self.retries, event["retries"])
            self.peak = max(self.peak, event["peak"])
            if self.killed < self.wanted and "ridge," in self._pass and event["done"] >= 0.4 * event["total"]:
                self.killed += _kill_a_worker()
        self.listen(event)


def _kill_a_worker() -> int:
    import psutil

    for child in psutil.Process().children():
        if any("spawn_main" in word for word in child.cmdline()):
            os.kill(child.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
            return 1
    return 0
