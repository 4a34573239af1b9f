"""A user's own functions, as the step `python` takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage


def smooth(image: np.ndarray, sigma: float = 1.0) -> np.ndarray:
    return ndimage.gaussian_filter(image.astype(np.float32), sigma, truncate=2.0)


def sized(image: np.ndarray, voxel_um: tuple[float, ...]) -> np.ndarray:
    return image.astype(np.float32) * np.float32(np.prod(voxel_um))


def ranked(image: np.ndarray) -> np.ndarray:
    """Knows what it is shown."""
    return image - image.mean(dtype=np.float64)


def shorter(image: np.ndarray) -> np.ndarray:
    return image[1:]


def words(image: np.ndarray) -> list[str]:
    return ["bright", "dark"]


def failing(image: np.ndarray) -> Any:
    raise ZeroDivisionError("as ever")


def bright(image: np.ndarray, above: float = 300.0) -> np.ndarray:
    """A mask."""
    return image > above


def found(image: np.ndarray, above: float = 300.0, log: str = "") -> np.ndarray:
    """The objects of a tile; a byte in the log for each call."""
    if log:
        with open(log, "ab") as file:
            file.write(b".")
    labels: np.ndarray = ndimage.label(image > above, np.ones((3,) * image.ndim))[0]
    return labels


def unlike(image: np.ndarray) -> np.ndarray:
    """Objects that depend on what else is in the tile, so that neighbours differ; their labels are far apart, in no order."""
    labels = ndimage.label(image > np.median(image))[0].astype(np.uint64)
    return np.where(labels > 0, np.uint64(2**40) - labels * np.uint64(3), np.uint64(0))


def levels(image: np.ndarray) -> np.ndarray:
    """An object for every brightness: objects may touch."""
    return image.astype(np.int32)


def empty(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, np.uint8)


def fractions(image: np.ndarray) -> np.ndarray:
    return image / 2


def below(image: np.ndarray) -> np.ndarray:
    return np.full(image.shape, -1)


def masked(image: np.ndarray) -> np.ndarray:
    return image > 0
