"""Main job: from a stored stack to a table of its tubes. What does it cost, against Nellie and against scikit-image?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _engine import do, pipeline
from _inputs import of_array, stored, tubes
from _nellie import objects, stages, written
from measuring import Question, Target, Tool, Turn, ask

VOXEL_UM = (0.2, 0.1, 0.1)
SIGMAS = (1.0, 1.5, 2.0, 2.5, 3.0)  # voxels, where a tool knows no other lengths
TINY = (32, 64, 64)


def steps(gamma: str) -> str:
    return f"""\
output: {{name: tubes}}
steps:
  - ridge: {{radius_um: {{min: 0.15, max: 0.40, scales: 5}}, gamma: {gamma}}}
  - threshold: {{method: otsu, over: frame}}
  - label: {{min_voxels: 20}}
  - measure: [shape, surface, intensity]
"""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    image = tubes(sizes["shape"], sizes["tubes"])
    stored(folder / "image.zarr", of_array(image), image.shape, sizes["chunk"], "uint16")
    np.save(folder / "image.npy", image)
    stored(folder / "tiny.zarr", of_array(image[:32, :64, :64]), TINY, (16, 32, 32), "uint16")


def cristae(gamma: str) -> Callable[[Turn], Mapping[str, Any]]:
    """Zarr to labels, Parquet and picture, with the workers that `--cluster auto` takes."""

    def run(turn: Turn) -> Mapping[str, Any]:
        import polars

        # In several blocks: one block would be a single pass, in which nothing is merged.
        do(pipeline(steps(gamma), turn.inputs / "tiny.zarr", turn.folder / "tiny", VOXEL_UM), "auto", (16, 32, 32))
        job = pipeline(steps(gamma), turn.inputs / "image.zarr", turn.folder / "image", VOXEL_UM)
        with turn.clock():
            made = do(job, "auto")
        table = next(p for p in made.outputs if p.suffix == ".parquet")
        return {"objects": polars.read_parquet(table).height}

    return run


def scikit_image(turn: Turn) -> Mapping[str, Any]:
    from skimage.filters import frangi, threshold_otsu
    from skimage.measure import label, regionprops_table
    from skimage.morphology import remove_small_objects

    image = np.load(turn.inputs / "image.npy").astype(np.float32)
    columns = ("label", "area", "bbox", "centroid", "axis_major_length", "axis_minor_length", "euler_number")
    with turn.clock():
        ridges = frangi(image, sigmas=SIGMAS, black_ridges=False)
        labels = remove_small_objects(label(ridges > threshold_otsu(ridges)), max_size=19)
        table = regionprops_table(
            labels, image, spacing=VOXEL_UM, properties=(*columns, "intensity_mean", "intensity_min", "intensity_max")
        )
    return {"objects": len(table["label"])}


def nellie(*names: str) -> Callable[[Turn], Mapping[str, Any]]:
    def run(turn: Turn) -> Mapping[str, Any]:
        stack = written(np.load(turn.inputs / "image.npy"), VOXEL_UM, turn.folder)
        with turn.clock():
            stages(stack, *names)
        return {"objects": objects(stack)}

    return run


OURS = ("cristae", "zarr", "numba", "polars", "dask")
LABELS, TABLES = ("filter", "label"), ("filter", "label", "network", "markers", "features")
NELLIE: dict[str, Any] = {
    "needs": ("nellie",),
    "install": "nellie==1.0.4",
    "packages": ("nellie", "scipy"),
    "environment": "nellie",
}

QUESTION = Question(
    "main_job",
    "Ridge, Otsu, label, measure on 64 x 512 x 512, Zarr to Parquet",
    full={"shape": (64, 512, 512), "tubes": 60, "chunk": (32, 128, 128)},
    small={"shape": (32, 96, 96), "tubes": 8, "chunk": (16, 48, 48)},
    prepare=prepare,
    tools=(
        Tool("cristae", cristae("100"), packages=OURS),
        Tool("cristae, gamma global", cristae("global"), packages=OURS),
        Tool("nellie, filter and label", nellie(*LABELS), **NELLIE),
        Tool("nellie with tables", nellie(*TABLES), **NELLIE, runs=1),
        Tool("scikit-image", scikit_image, packages=("scikit-image", "scipy"), runs=2),
    ),
    targets=(
        Target("cpu_s", "nellie, filter and label", ("cristae",), at_least=3),
        Target("cpu_s", "nellie with tables", ("cristae",), at_least=15),
        Target("cpu_s", "nellie, filter and label", ("cristae, gamma global",)),
        Target("cpu_s", "nellie with tables", ("cristae, gamma global",)),
        Target("cpu_s", "scikit-image", ("cristae",)),
        Target("cpu_s", "scikit-image", ("cristae, gamma global",)),
    ),
    notes=(
        "cristae takes `--cluster auto` (threads, at this size), has done one tiny job before the clock starts, and "
        "writes labels, table and picture. The tools differ in scales and thresholds, so objects are counted and not "
        "compared; the ratios to scikit-image have no target of their own."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
