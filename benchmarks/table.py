"""Table: what do the columns of 100 000 objects cost, in memory and from Zarr to Parquet, against regionprops_table?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import cbrt, ceil, prod
from pathlib import Path
from typing import Any

import numpy as np
from _engine import UP, cluster_up, do
from _inputs import VOXEL_UM, loaded, stored
from measuring import Question, Target, Tool, Turn, ask

CELL = (10, 12, 12)  # voxels; one ellipsoid lies in each
CHUNK = (60, 192, 192)
COLUMNS = ("shape", "intensity")
PROPERTIES = (
    "label",
    "area",
    "bbox",
    "centroid",
    "inertia_tensor_eigvals",
    "axis_major_length",
    "axis_minor_length",
    "equivalent_diameter_area",
    "extent",
    "intensity_mean",
    "intensity_min",
    "intensity_max",
)


def side_of(objects: int) -> int:
    """Cells along each axis."""
    return ceil(round(cbrt(objects), 6))


def ellipsoids(first: int, last: int, objects: int) -> np.ndarray:
    """(z, y, x) uint32 planes from `first` to `last`; objects are numbered as their cells, in raster order."""
    side = side_of(objects)
    centred = [np.arange(n) - (n - 1) / 2 for n in CELL]
    layers = range(first // CELL[0], min(-(-last // CELL[0]), side))
    made = []
    for layer in layers:
        half = np.random.default_rng([1, layer]).uniform(0.2, 0.48, (3, side, 1, side, 1)) * np.reshape(
            CELL, (3, 1, 1, 1, 1)
        )
        number = layer * side**2 + np.arange(1, side**2 + 1, dtype=np.uint32).reshape(side, 1, side, 1)
        number[number > objects] = 0
        flat = (centred[1][:, None, None] / half[1]) ** 2 + (centred[2] / half[2]) ** 2
        made += [np.where((z / half[0]) ** 2 + flat <= 1, number, 0).reshape(side * CELL[1], -1) for z in centred[0]]
    offset = layers.start * CELL[0]
    return np.stack(made)[first - offset : last - offset]


def brightness(first: int, last: int, shape: tuple[int, ...]) -> np.ndarray:
    planes = [np.random.default_rng([2, z]).integers(100, 1000, shape[1:], dtype=np.uint16) for z in range(first, last)]
    return np.stack(planes)


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    for name, objects in (("", sizes["objects"]), ("tiny-", 64)):
        shape = tuple(side_of(objects) * n for n in CELL)
        chunk = CHUNK if not name else tuple(n // 2 for n in shape)
        stored(folder / f"{name}labels.zarr", partial(ellipsoids, objects=objects), shape, chunk, "uint32")
        stored(folder / f"{name}image.zarr", partial(brightness, shape=shape), shape, chunk, "uint16")


def both(turn: Turn, kind: str = "") -> tuple[np.ndarray, np.ndarray]:
    return loaded(turn.inputs / f"{kind}labels.zarr"), loaded(turn.inputs / f"{kind}image.zarr")


def in_memory(turn: Turn) -> Mapping[str, Any]:
    measure(*both(turn, "tiny-"), COLUMNS)
    labels, image = both(turn)
    with turn.clock():
        made = measure(labels, image, COLUMNS)
    return described(made["voxels"].to_numpy(), made["intensity_mean"].to_numpy())


def measure(labels: np.ndarray, image: np.ndarray, columns: Sequence[str]) -> Any:
    """As one does it in a notebook."""
    import cristae

    return cristae.measure(labels, image, voxel_um=VOXEL_UM).collect(columns)


def surfaces(turn: Turn) -> Mapping[str, Any]:
    """In memory, without and then with surface and Euler number: what these two add."""
    wide = (*COLUMNS, "surface", "topology")
    measure(*both(turn, "tiny-"), wide)
    labels, image = both(turn)
    with turn.clock("without"):
        measure(labels, image, COLUMNS)
    with turn.clock():
        made = measure(labels, image, wide)
    more = {f"more_{k}": turn.figures[k] - turn.figures[f"without_{k}"] for k in ("wall_s", "cpu_s")}
    return {**described(made["voxels"].to_numpy(), made["intensity_mean"].to_numpy()), **more}


def zarr_to_parquet(turn: Turn) -> Mapping[str, Any]:
    import polars

    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.job import Job
    from cristae.pipeline.jobs import measure_job

    def job(name: str) -> Job:
        kind = "tiny-" if name.startswith("tiny") else ""
        labels, image = (str(turn.inputs / f"{kind}{volume}.zarr") for volume in ("labels", "image"))
        out = turn.folder / name / "table.parquet"
        out.parent.mkdir()
        return measure_job(labels, str(out), Inputs(voxel_um=VOXEL_UM), image, COLUMNS)

    with cluster_up(2, job) as cluster, turn.clock():
        made = do(job("whole"), cluster)
    table = polars.read_parquet(made.outputs[0])
    return described(table["voxels"].to_numpy(), table["intensity_mean"].to_numpy())


def regionprops(turn: Turn) -> Mapping[str, Any]:
    from skimage.measure import regionprops_table

    labels, image = both(turn)
    with turn.clock():
        made = regionprops_table(labels, image, properties=PROPERTIES)
    return described(made["area"], made["intensity_mean"])


def cc3d_statistics(turn: Turn) -> Mapping[str, Any]:
    """Count, box and centroid only."""
    from cc3d import statistics

    labels, _ = both(turn)
    with turn.clock():
        made = statistics(labels)
    return {"objects": len(made["voxel_counts"]) - 1, "voxels": int(made["voxel_counts"][1:].sum())}


def described(voxels: np.ndarray, mean: np.ndarray) -> Mapping[str, Any]:
    return {"objects": len(voxels), "voxels": int(np.sum(voxels)), "brightness": float(np.mean(mean))}


OURS = ("cristae", "numba", "polars", "zarr", "distributed")
FULL, SMALL = 100_000, 300

QUESTION = Question(
    "table",
    f"Shape and intensity of 100 000 objects in {prod(side_of(FULL) * n for n in CELL) / 1e6:.0f} Mvoxel",
    full={"objects": FULL},
    small={"objects": SMALL},
    prepare=prepare,
    tools=(
        Tool("cristae in memory", in_memory, packages=OURS),
        Tool("cristae with surface", surfaces, packages=OURS),
        Tool("cristae, Zarr to Parquet", zarr_to_parquet, packages=OURS),
        Tool("cc3d.statistics", cc3d_statistics, packages=("connected-components-3d",)),
        Tool("regionprops_table", regionprops, packages=("scikit-image",)),
    ),
    targets=(
        Target("wall_s", "regionprops_table", ("cristae in memory",), at_least=100),
        Target("cpu_s", "regionprops_table", ("cristae in memory",), at_least=100),
        Target("cpu_s", "regionprops_table", ("cristae, Zarr to Parquet",), at_least=20),
        Target("more_wall_s", "cristae with surface", at_most=4),
        Target("more_cpu_s", "cristae with surface", at_most=4),
        Target("cpu_s", "cc3d.statistics", ("cristae in memory",)),
    ),
    agree={"objects": 0, "voxels": 0, "brightness": 1e-9},
    notes=f"Zarr to Parquet on two processes: {UP}. Arrays in memory are loaded before it; cc3d has fewer columns.",
)

if __name__ == "__main__":
    ask(QUESTION)
