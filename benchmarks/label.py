"""Label: how long do exact labels of a mask take block by block, against tools that hold it whole, and dask-image?"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from _engine import UP, cluster_up, do
from _inputs import VOXEL_UM, loaded, mask, stored
from measuring import Question, Target, Tool, Turn, ask


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    stored(folder / "mask.zarr", mask(sizes["shape"]), sizes["shape"], sizes["chunk"], "bool")
    stored(folder / "tiny.zarr", mask((32, 64, 64)), (32, 64, 64), (16, 32, 32), "bool")


def cristae(turn: Turn) -> Mapping[str, Any]:
    """Zarr to Zarr, two worker processes."""
    from cristae.pipeline.inputs import Inputs
    from cristae.pipeline.job import Job
    from cristae.pipeline.jobs import label_job

    def job(name: str) -> Job:
        source = turn.inputs / f"{name.partition('-')[0]}.zarr"
        params = {"connectivity": 3, "min_voxels": 0, "multilabel": False}
        return label_job(str(source), str(turn.folder / name), Inputs(voxel_um=VOXEL_UM), params)

    with cluster_up(2, job) as cluster, turn.clock():
        do(job("mask"), cluster)
    return described(loaded(turn.folder / "mask" / "0"))


def cc3d(turn: Turn) -> Mapping[str, Any]:
    from cc3d import connected_components

    volume = loaded(turn.inputs / "mask.zarr")
    connected_components(volume[:4], connectivity=26)
    with turn.clock():
        _, objects = connected_components(volume, connectivity=26, return_N=True)
    return {"objects": int(objects)}


def scipy(turn: Turn) -> Mapping[str, Any]:
    from scipy.ndimage import label

    volume = loaded(turn.inputs / "mask.zarr")
    with turn.clock():
        labels, _ = label(volume, np.ones((3, 3, 3)), output=np.uint32)
    return described(labels)


def dask_image(turn: Turn) -> Mapping[str, Any]:
    """In memory, in chunks, on two threads: its time grows with the square of the number of chunks."""
    import dask
    from dask.array import from_array
    from dask_image.ndmeasure import label

    volume = loaded(turn.inputs / "mask.zarr")
    with turn.clock(), dask.config.set(scheduler="threads", num_workers=2):
        _, objects = dask.compute(*label(from_array(volume, chunks=tuple(turn.sizes["chunk"])), np.ones((3, 3, 3))))
    return {"objects": int(objects)}


def described(labels: np.ndarray) -> Mapping[str, Any]:
    """How many objects, and a digest of every label: cristae's ids are scipy's."""
    digest = blake2b(digest_size=8)
    for plane in labels:
        digest.update(plane.astype(np.uint32))
    return {"objects": int(labels.max()), "labels": digest.hexdigest()}


PEERS = (
    Tool("cristae", cristae, packages=("cristae", "zarr", "distributed", "numba")),
    Tool("cc3d in memory", cc3d, packages=("connected-components-3d",)),
    Tool("scipy in memory", scipy, packages=("scipy",)),
)

QUESTION = Question(
    "label",
    "Label a bool mask, 26-connected, 128 x 1024 x 1024, Zarr to Zarr on two processes",
    full={"shape": (128, 1024, 1024), "chunk": (64, 256, 256)},
    small={"shape": (32, 128, 128), "chunk": (16, 64, 64)},
    prepare=prepare,
    tools=(
        *PEERS,
        Tool("dask-image", dask_image, ("dask_image",), "dask-image", ("dask", "dask-image"), runs=1, flag="peers"),
    ),
    targets=(
        Target("wall_s", "cristae", ("cc3d in memory",), at_most=3),
        Target("wall_s", "dask-image", ("cristae",), at_least=100),
    ),
    agree={"objects": 0, "labels": 0},
    notes=f"{UP}; tools in memory have the mask loaded before it. dask-image takes minutes: --peers.",
)

if __name__ == "__main__":
    ask(QUESTION)
