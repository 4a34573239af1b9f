"""Inputs: volumes from a seed, made and stored slab by slab, so that no input is ever whole in memory.

    mask      random blobs, 12 % foreground, 26-connected objects from specks to long chains
    camera    smooth structures under photon noise, as a uint16 camera gives them
    tubes     a network of random-walk tubes on a dark ground, as mitochondria look; small volumes only
    stored    a plain Zarr array of slabs

Blobs and structures repeat in tiles; the noise of a camera does not, for it would compress. Axes are (z, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

Slab = Callable[[int, int], np.ndarray]
"""Planes from one z to another."""

TILE = (128, 256, 256)
VOXEL_UM = (0.1, 0.1, 0.1)


@lru_cache(maxsize=1)
def _noise(shape: tuple[int, ...], sigma: float, seed: int) -> np.ndarray:
    """Smooth noise of mean 0 and deviation 1 that repeats without a seam."""
    from scipy.ndimage import gaussian_filter

    rough = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(rough, sigma, mode="wrap", truncate=3.0)
    return np.asarray(smooth / smooth.std())


def _repeated(tile: np.ndarray, shape: Sequence[int], start: int, stop: int) -> np.ndarray:
    planes = tile[np.arange(start, stop) % tile.shape[0]]
    sides = [-(-n // t) for n, t in zip(shape[1:], tile.shape[1:], strict=True)]
    return np.tile(planes, (1, *sides))[:, : shape[1], : shape[2]]


def mask(shape: Sequence[int], seed: int = 0) -> Slab:
    """(z, y, x) bool."""
    noise = _noise(tuple(min(t, n) for t, n in zip(TILE, shape, strict=True)), 2.0, seed)
    tile = noise > np.quantile(noise, 0.88)
    return lambda start, stop: _repeated(tile, shape, start, stop)


def camera(shape: Sequence[int], seed: int = 0) -> Slab:
    """(z, y, x) uint16 counts: 110 in the dark, structures of some hundred above."""
    tile = _noise(tuple(min(t, n) for t, n in zip(TILE, shape, strict=True)), 3.0, seed)
    expected = 110 + 400 * np.clip(tile - 1, 0, None)

    def slab(start: int, stop: int) -> np.ndarray:
        light = _repeated(expected, shape, start, stop)
        planes = [np.random.default_rng([seed, z]).poisson(p) for z, p in zip(range(start, stop), light, strict=True)]
        return np.stack(planes).astype(np.uint16)

    return slab


def tubes(shape: Sequence[int], count: int, seed: int = 0) -> np.ndarray:
    """(z, y, x) uint16 counts of `count` tubes with radii of 1.5 to 3 voxels, 100 in the dark and 1000 inside."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    inside = np.zeros(shape, np.float32)
    last = np.array(shape) - 1
    for _ in range(count):
        radius = rng.uniform(1.5, 3.0)
        reach = int(np.ceil(radius))
        around = np.mgrid[(slice(-reach, reach + 1),) * 3].reshape(3, -1).T
        ball = around[(around**2).sum(axis=1) <= radius**2]
        at, heading = rng.uniform(0.1, 0.9, 3) * last, rng.normal(size=3) * (0.3, 1, 1)
        for _ in range(220):
            heading += rng.normal(size=3) * (0.08, 0.3, 0.3)
            heading /= np.linalg.norm(heading)
            at += heading
            voxels = np.rint(at).astype(int) + ball
            if (voxels < 0).any() or (voxels > last).any():
                break
            inside[tuple(voxels.T)] = 1
    return rng.poisson(100 + 900 * gaussian_filter(inside, 1.0)).astype(np.uint16)


def of_array(array: np.ndarray) -> Slab:
    """Slabs of an array in memory."""
    return lambda start, stop: array[start:stop]


def stored(path: Path, slab: Slab, shape: Sequence[int], chunk: Sequence[int], dtype: str) -> None:
    """A plain Zarr array as zarr-python makes it by default, without shards."""
    import zarr

    fitting = tuple(min(c, n) for c, n in zip(chunk, shape, strict=True))
    array: Any = zarr.create_array(path, shape=tuple(shape), chunks=fitting, dtype=dtype, dimension_names=list("zyx"))
    for start in range(0, shape[0], fitting[0]):
        stop = min(start + fitting[0], shape[0])
        array[start:stop] = slab(start, stop)


def loaded(path: Path) -> np.ndarray:
    """The whole array, for tools that work in memory."""
    import zarr

    array: Any = zarr.open_array(path, mode="r")
    return np.asarray(array[:])
