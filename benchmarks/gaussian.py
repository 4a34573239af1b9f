"""Gaussian: does filtering a stored volume into a stored volume cost less than dask-image and `da.store`?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _engine import UP, cluster_up, do, pipeline
from _inputs import VOXEL_UM, camera, stored
from measuring import Question, Target, Tool, Turn, ask

if TYPE_CHECKING:
    from cristae.pipeline.job import Job

SIGMA = 2.0  # voxels
STEPS = f"""\
output: {{name: smooth}}
steps:
  - gaussian: {{sigma_um: {SIGMA * VOXEL_UM[0]}}}
"""
TINY = (32, 64, 64)


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    stored(folder / "image.zarr", camera(sizes["shape"]), sizes["shape"], sizes["chunk"], "uint16")
    stored(folder / "tiny.zarr", camera(TINY), TINY, (16, 32, 32), "uint16")


def smooth(turn: Turn, name: str) -> Job:
    return pipeline(STEPS, turn.inputs / f"{name.partition('-')[0]}.zarr", turn.folder / name, VOXEL_UM)


def threads(turn: Turn) -> Mapping[str, Any]:
    do(smooth(turn, "tiny"), "threads:2")
    with turn.clock():
        made = do(smooth(turn, "image"), "threads:2")
    return checked(made.outputs[0] / "0")


def processes(turn: Turn) -> Mapping[str, Any]:
    with cluster_up(2, partial(smooth, turn)) as cluster, turn.clock():
        made = do(smooth(turn, "image"), cluster)
    return checked(made.outputs[0] / "0")


def counted(turn: Turn) -> Mapping[str, Any]:
    """How often each source chunk is decoded on two threads, counted where it is decoded."""
    count_decoding()
    found = threads(turn)
    tiny = chunks(TINY, (16, 32, 32))
    return {**found, "decoded_per_chunk": (decoded_here() - tiny) / chunks(turn.sizes["shape"], turn.sizes["chunk"])}


def counted_processes(turn: Turn) -> Mapping[str, Any]:
    """The same on two processes, neither of which sees what the other decoded."""
    from distributed import Client

    with cluster_up(2, partial(smooth, turn)) as cluster, Client(cluster) as client:
        client.run(count_decoding)
        with turn.clock():
            made = do(smooth(turn, "image"), cluster)
        decoded = sum(client.run(decoded_here).values())
    every = chunks(turn.sizes["shape"], turn.sizes["chunk"])
    return {**checked(made.outputs[0] / "0"), "decoded_per_chunk": decoded / every}


def chunks(shape: Sequence[int], chunk: Sequence[int]) -> int:
    return prod(ceil(n / c) for n, c in zip(shape, chunk, strict=True))


DECODED: list[None] = []


def count_decoding() -> None:
    """From now on the chunks of the input that this process decodes are counted."""
    from cristae.store import shards

    chunk: Any = shards._chunk

    def noted(recipe: Any, *rest: Any) -> Any:
        if not recipe.sharded:  # the input is not, and what we write is
            DECODED.append(None)
        return chunk(recipe, *rest)

    shards._chunk = noted


def decoded_here() -> int:
    return len(DECODED)


def dask_image(turn: Turn) -> Mapping[str, Any]:
    """On two threads; the result is stored without a codec, which is cheaper than what we do."""
    return _dask_image(turn, compressors=None)


def dask_image_compressed(turn: Turn) -> Mapping[str, Any]:
    """The same into an array with the codec that zarr-python takes when nothing is said."""
    return _dask_image(turn)


def _dask_image(turn: Turn, **codec: Any) -> Mapping[str, Any]:
    import dask
    import dask.array as da
    import zarr
    from dask_image.ndfilters import gaussian_filter

    shape, chunk, made = tuple(turn.sizes["shape"]), tuple(turn.sizes["chunk"]), turn.folder / "smooth.zarr"
    target: Any = zarr.create_array(made, shape=shape, chunks=chunk, dtype="float32", **codec)
    with turn.clock(), dask.config.set(scheduler="threads", num_workers=2):
        image = da.from_zarr(str(turn.inputs / "image.zarr")).astype(np.float32)
        da.store(gaussian_filter(image, SIGMA, truncate=4.0), target, lock=False)
    return checked(made)


def checked(made: Path) -> Mapping[str, Any]:
    """The mean of a plane in the middle, by which the results are held together."""
    import zarr

    array: Any = zarr.open_array(made, mode="r")
    return {"mean": float(np.mean(array[array.shape[0] // 2], dtype=np.float64))}


OURS = ("cristae", "zarr", "numba", "dask", "distributed")
THEIRS = ("dask", "dask-image", "scipy", "zarr")

QUESTION = Question(
    "gaussian",
    "Gaussian of 2 voxels, 256 x 1024 x 1024 uint16 to float32, Zarr to Zarr",
    full={"shape": (256, 1024, 1024), "chunk": (64, 256, 256)},
    small={"shape": (32, 128, 128), "chunk": (16, 64, 64)},
    prepare=prepare,
    tools=(
        Tool("cristae, 2 threads", threads, packages=OURS),
        Tool("cristae, 2 processes", processes, packages=OURS),
        Tool("dask-image", dask_image, ("dask_image",), "dask-image", THEIRS),
        Tool("dask-image, compressed", dask_image_compressed, ("dask_image",), "dask-image", THEIRS),
        Tool("cristae, counted", counted, packages=OURS, runs=1),
        Tool("cristae, 2 processes, counted", counted_processes, packages=OURS, runs=1),
    ),
    targets=(
        Target("cpu_s", "cristae, 2 threads", ("dask-image",), at_most=0.7),
        Target("wall_s", "cristae, 2 threads", ("dask-image",), at_most=0.7),
        Target("peak_mb", "cristae, 2 threads", ("dask-image",), at_most=0.5),
        Target("cpu_s", "cristae, 2 processes", ("dask-image",), at_most=0.7),
        Target("wall_s", "cristae, 2 processes", ("dask-image",), at_most=0.7),
        Target("peak_mb", "cristae, 2 processes", ("dask-image",), at_most=0.5),
        Target("decoded_per_chunk", "cristae, counted", at_most=1.3),
        Target("decoded_per_chunk", "cristae, 2 processes, counted", at_most=1.3),
    ),
    agree={"mean": 1e-5},
    notes=(
        f"{UP}. dask-image runs on two threads and stores without a codec, cristae compressed, checksummed and durable; "
        "dask-image into zarr-python's default codec stands beside it."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
