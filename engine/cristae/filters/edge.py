"""Edge: which voxel stands for one that lies beyond the volume. Every filter of this room reflects there."""

from __future__ import annotations

import numpy as np


def reflected(start: int, stop: int, radius: int, size: int) -> np.ndarray:
    """Source index of positions start - radius ... stop + radius - 1 on an axis of `size`, reflected at its ends."""
    at = np.arange(start - radius, stop + radius) % (2 * size)
    return np.minimum(at, 2 * size - 1 - at)
