"""Finale: how the demo ends where the model MODEL is there: a trained network on a box of its cell, beside thresholds and the truth.

cell -> segment on two blocks, tiles across both -> labels without a seam -> lazy table -> scores, next to Otsu's
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cristae.blocks.dispatch import Listener
from cristae.errors import MissingExtra
from cristae.evaluation.scores import evaluate
from cristae.grid import BlockGrid, Box
from cristae.inference.named import model_path, names
from cristae.inference.network import require
from cristae.pipeline.execute import execute
from cristae.pipeline.file import PipelineFile, load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.segmenting import Wish, pipeline_of
from cristae.store.volume import Volume, open_volume

MODEL = "mito-3d"
SIDE = 320
"""Voxels of the box along y and x; it has all planes. A network takes microseconds a voxel."""
SMALLEST_UM = 0.457
"""Diameter of the ball of 0.05 um3, below which no method keeps an object here."""
OTSU = f"""
output: {{name: mito}}
steps:
  - threshold: {{method: otsu}}
  - label: {{min_diameter_um: {SMALLEST_UM}}}
"""
FIGURES = ("dice", "predictions", "one_precision", "one_recall", "one_f1", "pq")
LARGEST = 5


@dataclass(frozen=True)
class Finale:
    """What the end of the demo found out."""

    box: Box
    true: int  # objects in the box
    scores: Mapping[str, Mapping[str, float]]  # figures by method
    labels: Path
    table: Any  # polars, the largest objects
    read: int  # blocks that the lazy table visited for them
    blocks: int  # of all
    seconds: float  # of the network


def finale(
    image: Path,
    ridged: Volume,
    out: Path,
    listen: Listener,
    say: Callable[[str], None],
    workers: int = 2,
    side: int = SIDE,
) -> Finale | None:
    """A network on a box in the middle of `image`; None, and a sentence, where there is no model or nothing to run it with.

    ridged : what the main job of the demo found in all of the image
    """
    if MODEL not in names():
        say(f"5. no model {MODEL} comes with this cristae, so the demo ends without a network")
        return None
    try:
        require(model_path(MODEL))
    except MissingExtra as error:
        say(f"5. the demo ends without a network: {error}")
        return None
    whole = open_volume(str(image))
    spans = middle(whole, side)
    shape = tuple(stop - start for start, stop in spans.values())
    say(
        f"5. a trained network, {MODEL}, on a box of {' x '.join(map(str, shape))} voxels, beside a threshold of Otsu's"
    )
    halves = (*shape[:-2], (shape[-2] + 1) // 2, shape[-1])
    begun = time.monotonic()
    by_network = _labels(
        pipeline_of(Wish(MODEL, min_diameter_um=SMALLEST_UM)), image, out / "network", spans, halves, listen, workers
    )
    seconds = time.monotonic() - begun
    by_otsu = _labels(load(OTSU, known()), image, out / "otsu", spans, halves, listen, workers)
    truth = _read(open_volume(str(image / "labels" / "mito")).cropped(spans))
    found = {
        "Otsu": _read(open_volume(str(by_otsu))),
        "ridge, then Otsu": _read(ridged.cropped(spans)),
        MODEL: _read(open_volume(str(by_network))),
    }
    scores = {method: evaluate(labels, truth) for method, labels in found.items()}
    sides = (*shape[:-2], *(max(1, n // 4) for n in shape[-2:]))
    table, read = largest(by_network, whole.cropped(spans), sides)
    box = Box(tuple(start for start, _ in spans.values()), tuple(stop for _, stop in spans.values()))
    chosen = {method: {name: float(figures[name]) for name in FIGURES} for method, figures in scores.items()}
    return Finale(
        box, int(scores[MODEL]["truths"]), chosen, by_network, table, read, len(BlockGrid(shape, sides)), seconds
    )


def middle(volume: Volume, side: int) -> dict[str, tuple[int, int]]:
    """The box in the middle of the planes, `side` long along y and x where the image is, by axis."""
    spans = {}
    for axis, n in zip(volume.spatial_axes, volume.spatial_shape, strict=True):
        length = n if axis == "z" else min(n, side)
        spans[axis] = ((n - length) // 2, (n - length) // 2 + length)
    return spans


def largest(labels: Path, image: Volume, block: tuple[int, ...]) -> tuple[Any, int]:
    """The largest objects with columns that only they are read for, and how many blocks that took; of a lazy table."""
    import polars

    from cristae.morphology.instances import measure

    instances = measure(str(labels), image, block=block)
    sizes = instances.lazy().select("label", "voxels").collect()
    ids = sizes.sort("voxels", descending=True)["label"].head(LARGEST).to_list()
    columns = ("label", "voxels", "volume_um3", "surface_um2", "euler_number", "intensity_mean")
    asked = instances.lazy().filter(polars.col("label").is_in(ids)).select(columns)
    return asked.collect().sort("voxels", descending=True), len(set(instances.visits))


def _labels(
    pipeline: PipelineFile,
    image: Path,
    out: Path,
    spans: Mapping[str, tuple[int, int]],
    block: tuple[int, ...],
    listen: Listener,
    workers: int,
) -> Path:
    """Where the labels lie that a pipeline finds in the box."""
    job = run_job(pipeline, [str(image)], str(out), Inputs(crop=spans))
    execute(job, Settings(cluster=f"threads:{workers}", block=block), listen)
    return job.arrays[0].final


def _read(volume: Volume) -> Any:
    return volume.read(Box.whole(volume.spatial_shape))
