"""Demo: the whole promise in two minutes, on a cell simulated on the spot, so that the truth is known.

Mitochondria of a few cells are simulated block by block; the main job runs on the image with two worker processes, one of which is killed
on the way; the same job runs again with other blocks; the two results are compared voxel by voxel, and one of them with the truth.
Where a trained model comes with cristae, it ends with that: `finale`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.dispatch import Listener
from cristae.grid import BlockGrid, Box, Shape
from cristae.pipeline.agreement import Pairs, bias_and_spread, overlaps, paired, values_of
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.finale import Finale, finale
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Outcome, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.store.volume import Volume, open_volume

SHAPE: Shape = (64, 1008, 1008)
VOXEL_UM = (0.2, 0.1, 0.1)
BLOCKS: tuple[Shape, Shape] = ((64, 252, 252), (32, 336, 504))
PIPELINE = """
output: {name: mito}
steps:
  - ridge: {method: frangi, radius_um: {min: 0.15, max: 0.30, scales: 3}}
  - threshold: {method: otsu, over: frame}
  - label: {min_volume_um3: 0.05}
  - measure: {columns: [shape, surface, topology, intensity]}
"""
SIDE = 720
"""Pixels of the panels of the picture."""


@dataclass(frozen=True)
class Shown:
    """What the demo found out."""

    image: Path
    table: Path
    picture: Path
    voxels: int
    differ: int
    objects: int
    true: int
    pairs: int
    bias: float
    spread: float
    killed: int
    peak: int  # bytes, of one worker process
    volume_bytes: int
    retries: int
    finale: Finale | None  # None where there is no model


def demo(out: Path, listen: Listener, say: Callable[[str], None], shape: Shape = SHAPE, workers: int = 2) -> Shown:
    """Everything under `out`; going on where an earlier demo was stopped."""
    from cristae.pipeline.simulating import cell_job
    from cristae.simulation.cells import Scene

    image = out / "cell.ome.zarr"
    size = int(np.prod(shape))
    say(
        f"1. simulate mitochondria of {' x '.join(map(str, shape))} voxels ({2 * size / 2**20:.0f} MiB), block by block"
    )
    scene = Scene("cell-confocal", shape, 1, VOXEL_UM)  # type: ignore[arg-type]
    execute(cell_job(scene, str(image), ["mito"]), Settings(cluster=f"threads:{workers}"), listen)
    pipeline = load(PIPELINE, known())
    say("2. find, label and measure them on two processes; at 40 % one of them is killed")
    killer = Killer(listen)
    first = run_job(pipeline, [str(image)], str(out / "results"), Inputs())
    done = execute(first, Settings(cluster=f"local:{workers}", block=BLOCKS[0]), killer)
    say(f"   {killer.killed} worker killed, {killer.retries} blocks run again, all {killer.blocks} blocks committed")
    say("3. the same once more, with other blocks and nobody killed")
    again = Killer(listen, wanted=0)
    second = run_job(pipeline, [str(image)], str(out / "other-blocks"), Inputs())
    execute(second, Settings(cluster=f"local:{workers}", block=BLOCKS[1]), again)
    found = open_volume(str(first.finals[0]))
    differ = difference(found, open_volume(str(second.finals[0])))
    say("4. compare what was found with what is there")
    table, truth = first.files[0].final, image / "tables" / "mito" / "table.parquet"
    pairs, bias, spread = compared(image, found, truth, table, out / "truth.png")
    end = finale(image, found, out, listen, say, workers)
    return Shown(
        image,
        table,
        out / "truth.png",
        size,
        differ,
        _objects(done, table),
        pairs.of_true,
        len(pairs.true),
        bias,
        spread,
        killer.killed,
        max(killer.peak, again.peak),
        2 * size,
        killer.retries,
        end,
    )


def compared(image: Path, found: Volume, truth: Path, table: Path, picture: Path) -> tuple[Pairs, float, float]:
    """True objects and those found, paired; bias and spread of their volumes; and the picture of both."""
    true, measured = columns(truth), columns(table)
    labels = open_volume(str(image / "labels" / "mito"))
    pairs = paired(*overlaps(labels, found), len(true["label"]), len(measured["label"]))
    volumes = values_of(true, pairs.true, "volume_um3"), values_of(measured, pairs.measured, "volume_um3")
    bias, spread = bias_and_spread(*volumes)
    _draw(open_volume(str(image)), labels, found, true, measured, volumes, (bias, spread), picture)
    return pairs, bias, spread


def columns(table: Path) -> Mapping[str, np.ndarray]:
    """Label and volume of every row of a table."""
    import pyarrow.parquet

    read = pyarrow.parquet.read_table(table, columns=["label", "volume_um3"])
    return {name: read[name].to_numpy() for name in read.column_names}


def _draw(
    image: Volume,
    labels: Volume,
    found: Volume,
    true: Mapping[str, np.ndarray],
    measured: Mapping[str, np.ndarray],
    volumes: tuple[np.ndarray, np.ndarray],
    figures: tuple[float, float],
    path: Path,
) -> None:
    """Truth and result, coloured by volume on one scale, beside the volumes of one against the other."""
    from cristae.pipeline.picture import GROUND, compose, write_png
    from cristae.pipeline.projection import finish_projections, merge_projections, pixel_step, project_block
    from cristae.pipeline.scatter import scatter

    panels = []
    ends = np.log10(np.percentile(true["volume_um3"], (2, 98))) if len(true["volume_um3"]) else np.array([-1.0, 1.0])
    bounds = float(ends[0]), float(ends[1])
    for volume, table, title in ((labels, true, "truth"), (found, measured, "found")):
        grid = BlockGrid(image.spatial_shape, tuple(min(n, 256) for n in image.spatial_shape))
        step = pixel_step(image.spatial_shape)
        parts = [project_block(image.read(core), volume.read(core), core, step) for core in grid]
        frames = finish_projections(merge_projections(parts), voxel_um=image.voxel_um)
        values = dict(zip(table["label"].tolist(), np.log10(table["volume_um3"]).tolist(), strict=True))
        caption = f"{title}: {len(values)} objects"
        panels.append(
            compose(
                frames,
                title=caption,
                values=values,
                values_title="log10 of volume, um3",
                bounds=bounds,
                magnified=1,
                smallest=SIDE,
            )
        )
    said = [f"{len(volumes[0])} pairs", f"bias {100 * figures[0]:+.0f} %, spread {100 * figures[1]:.0f} %"]
    drawn = scatter(
        *volumes, SIDE, title="volume of each object", across="true volume, um3", up="measured volume, um3", lines=said
    )
    panels.append(drawn)
    height = max(len(panel) for panel in panels)
    padded = []
    for panel in panels:
        ground = np.full((height, panel.shape[1], 3), GROUND, np.uint8)
        ground[: len(panel)] = panel
        padded.append(ground)
    write_png(path, np.concatenate(padded, axis=1))


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
