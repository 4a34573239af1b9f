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
