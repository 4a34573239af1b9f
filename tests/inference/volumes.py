"""Volumes: small stores of blobs and spots, and runs of a pipeline over them."""

from __future__ import annotations

import os
import subprocess
import sys
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


def spots(shape: tuple[int, ...], largest: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Bright objects no longer than `largest`, none of which touch, uint16; many are at a seam of any tiling."""
    rng = np.random.default_rng(seed)
    image, taken = np.zeros(shape, np.uint16), np.zeros(shape, bool)
    for _ in range(4000):
        size = [int(rng.integers(1, n + 1)) for n in largest]
        start = [int(rng.integers(0, max(1, n - s + 1))) for n, s in zip(shape, size, strict=True)]
        there = tuple(slice(a, a + s) for a, s in zip(start, size, strict=True))
        if not taken[tuple(slice(max(0, s.start - 1), s.stop + 1) for s in there)].any():
            # A part of the box, so that objects have holes and arms, and a tile may see several pieces of one.
            ids, n = ndimage.label(rng.random(size) < 0.7, np.ones((3,) * len(shape)))
            image[there] = np.where(ids == 1, 500, 0) if n else 500
            taken[there] = True
    return image + rng.integers(0, 100, shape).astype(np.uint16)


def truth(image: np.ndarray, above: float = 300) -> np.ndarray:
    labels: np.ndarray = ndimage.label(image > above, np.ones((3,) * image.ndim))[0]
    return labels


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


def peak_of(folder: Path, *words: str) -> tuple[str, int]:
    """What the command says on stderr, without a cluster and in a process of its own, and the bytes of memory it takes at most."""
    # A small process between: what a child had of its parent before it began counts as its own.
    between = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", between, sys.executable, "-m", "cristae_cli.main", *words, "--cluster", "none"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr, int(done.stdout.split()[-1]) << 10
