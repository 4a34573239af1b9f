"""Volumes: small stores of blobs, and runs of a pipeline over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from cristae.grid import Box
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Outcome, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume

VOXEL_UM = (0.25, 0.11, 0.1)


def blobs(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Bright blobs on noise, uint16; no two tiles are alike."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 1.5)
    return (1000 * np.clip(rough / rough.std(), 0, None) + rng.integers(90, 110, shape)).astype(np.uint16)


def store(
    path: Path,
    array: np.ndarray,
    voxel_um: tuple[float, ...] = VOXEL_UM,
    chunk: tuple[int, ...] | None = None,
) -> Path:
    """The array as an OME-Zarr image, one chunk unless told otherwise."""
    size = voxel_um[-array.ndim :]
    made = create_volume(
        path,
        axes="zyx"[-array.ndim :],
        shape=array.shape,
        dtype=array.dtype.name,
        voxel_um=size,
        chunk=chunk or array.shape,
        shard=chunk or array.shape,
    )
    made.write(Box.whole(array.shape), array)
    publish(made)
    return path


def job(cell: Path, out: Path, text: str) -> Job:
    return run_job(load(text, known()), [str(cell)], str(out), Inputs())


def ran(
    cell: Path, out: Path, text: str, block: tuple[int, ...], cluster: str = "none"
) -> tuple[Outcome, list[dict[str, Any]]]:
    events: list[dict[str, Any]] = []
    return execute(job(cell, out, text), Settings(cluster, block=block), events.append), events


def result(out: Path, kind: str = "images") -> np.ndarray:
    (path,) = (out / kind).glob("*.ome.zarr")
    volume = open_volume(path)
    return volume.read(Box.whole(volume.spatial_shape))
