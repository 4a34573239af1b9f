"""Display: between which values a viewer draws an image black and white, found in the image itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cristae.grid import Box
from cristae.store.volume import Volume

DARKEST, BRIGHTEST = 0.001, 0.999
"""Shares of the voxels that are drawn black and, less one, white."""
SIDE = 2048
"""Pixels of the part that is looked at, in the middle of a plane; of planes there are three."""


def windowed(volume: Volume) -> Volume:
    """The volume with a display window for each channel that has none."""
    channels = tuple(
        channel if channel.window is not None else replace(channel, window=window_of(volume, number))
        for number, channel in enumerate(volume.channels)
    )
    return replace(volume, channels=channels)


def window_of(volume: Volume, channel: int, t: int = 0) -> tuple[float, float, float, float]:
    """Lowest, highest, darkest and brightest value of a channel: the last two are nearly the extremes of its coarsest level."""
    last = len(volume.levels) - 1
    seen = np.concatenate([volume.read(box, t, channel, last).ravel() for box in _boxes(volume)])
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    if not seen.size:
        seen = np.zeros(1, seen.dtype)
    seen = seen.astype(np.uint8) if seen.dtype.kind == "b" else seen
    dark, bright = (q.item() for q in np.quantile(seen, (DARKEST, BRIGHTEST), method="nearest"))
    if volume.dtype == "bool":
        return 0, 1, 0, 1
    if np.dtype(volume.dtype).kind in "iu":
        bounds = np.iinfo(volume.dtype)
        return int(bounds.min), int(bounds.max), dark, max(bright, dark + 1)
    bright = bright if bright > dark else dark + 1
    return float(seen.min()), max(float(seen.max()), float(bright)), float(dark), float(bright)


def _boxes(volume: Volume) -> list[Box]:
    shape = volume.levels[-1].shape[-len(volume.spatial_axes) :]
    starts = [max(0, (n - SIDE) // 2) for n in shape[-2:]]
    stops = [min(n, start + SIDE) for n, start in zip(shape[-2:], starts, strict=True)]
    if len(shape) == 2:
        return [Box(tuple(starts), tuple(stops))]
    return [Box((z, *starts), (z + 1, *stops)) for z in sorted({shape[0] * n // 4 for n in (1, 2, 3)})]
