"""Frangi: what does the ridge filter cost at five scales, against scikit-image and Nellie?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _engine import UP, cluster_up, do, pipeline
from _inputs import VOXEL_UM, of_array, stored, tubes
from _nellie import stages, written
from measuring import Question, Target, Tool, Turn, ask

if TYPE_CHECKING:
    from cristae.pipeline.job import Job

SIGMAS = (1.0, 1.5, 2.0, 2.5, 3.0)  # voxels
RADII_UM = tuple(round(s * sqrt(2) * VOXEL_UM[0], 6) for s in SIGMAS)
TINY = (32, 64, 64)


def steps(gamma: str) -> str:
    return f"output: {{name: tubes}}\nsteps:\n  - ridge: {{radius_um: {list(RADII_UM)}, gamma: {gamma}}}\n"


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    image = tubes(sizes["shape"], sizes["tubes"])
    stored(folder / "image.zarr", of_array(image), image.shape, sizes["chunk"], "uint16")
    np.save(folder / "image.npy", image)
    stored(folder / "tiny.zarr", of_array(image[:32, :64, :64]), TINY, (16, 32, 32), "uint16")


def filtering(turn: Turn, gamma: str, name: str) -> Job:
    """The job, Zarr to Zarr."""
    return pipeline(steps(gamma), turn.inputs / f"{name.partition('-')[0]}.zarr", turn.folder / name, VOXEL_UM)


def alone(turn: Turn, gamma: str) -> None:
    do(filtering(turn, gamma, "tiny"))
    with turn.clock():
        do(filtering(turn, gamma, "image"))


def workers(turn: Turn, count: int) -> None:
    with cluster_up(count, partial(filtering, turn, "100")) as cluster, turn.clock():
        do(filtering(turn, "100", "image"), cluster)


def in_memory(turn: Turn) -> None:
    from cristae.filters import STAGES

    image = np.load(turn.inputs / "image.npy")
    stage = STAGES["ridge"](RADII_UM, voxel_um=VOXEL_UM, gamma=100)
    stage(image[:32, :64, :64])
    with turn.clock():
        stage(image)


def scikit_image(turn: Turn) -> None:
    from skimage.filters import frangi

    image = np.load(turn.inputs / "image.npy").astype(np.float32)
    with turn.clock():
        frangi(image, sigmas=SIGMAS, black_ridges=False)


def nellie(turn: Turn) -> None:
    stack = written(np.load(turn.inputs / "image.npy"), VOXEL_UM, turn.folder)
    with turn.clock():
        stages(stack, "filter")


OURS = ("cristae", "zarr", "numba", "distributed")
PEERS = ("scikit-image", "nellie")

QUESTION = Question(
    "frangi",
    "Frangi's filter at 5 scales, 64 x 512 x 512",
    full={"shape": (64, 512, 512), "tubes": 120, "chunk": (32, 128, 128)},
    small={"shape": (32, 96, 96), "tubes": 8, "chunk": (16, 48, 48)},
    prepare=prepare,
    tools=(
        Tool("cristae", partial(alone, gamma="100"), packages=OURS),
        Tool("cristae, gamma global", partial(alone, gamma="global"), packages=OURS),
        Tool("cristae, 1 worker", partial(workers, count=1), packages=OURS),
        Tool("cristae, 2 workers", partial(workers, count=2), packages=OURS),
        Tool("cristae in memory", in_memory, packages=OURS),
        Tool("scikit-image", scikit_image, packages=("scikit-image", "scipy"), runs=2),
        Tool("nellie", nellie, ("nellie",), "nellie==1.0.4", ("nellie", "scipy"), environment="nellie"),
    ),
    targets=(
        Target("cpu_s", "scikit-image", ("cristae",), at_least=15),
        Target("cpu_s", "nellie", ("cristae",), at_least=3),
        Target("cpu_s", "scikit-image", ("cristae, gamma global",), at_least=9),
        Target("cpu_s", "nellie", ("cristae, gamma global",), at_least=2),
        Target("peak_mb", "cristae", PEERS, at_most=0.1),
        Target("added_mb", "cristae", PEERS, at_most=0.1),
        Target("wall_s", "cristae, 1 worker", ("cristae, 2 workers",), at_least=1.6),
        Target("cpu_s", "cristae, 2 workers", ("cristae, 1 worker",), at_most=1.15),
    ),
    notes=(
        f"cristae goes Zarr to Zarr, in one process where no workers are named, gamma 100 where it is not global; {UP}. "
        "The peers hold the image in memory; Nellie chooses its own scales. Added memory leaves out what was held before "
        "the clock started: interpreter, libraries, and for the peers the image."
    ),
    repeat=5,
)

if __name__ == "__main__":
    ask(QUESTION)
