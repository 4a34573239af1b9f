"""Columns of arrays, as a notebook asks for them: name by name, one value a label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

import cristae


def table(
    labels: np.ndarray,
    images: Sequence[np.ndarray] = (),
    *,
    voxel_um: Sequence[float],
    columns: Iterable[str] | None = None,
) -> dict[str, np.ndarray]:
    """Without `columns` those of shape, and of intensity where there are images, which are channels."""
    image = images[0] if len(images) == 1 else np.stack(images) if len(images) else None
    if columns is None:
        columns = ("shape", "intensity") if image is not None else ("shape",)
    found = cristae.measure(labels, image, voxel_um=voxel_um).collect(columns)
    return {name: found[name].to_numpy() for name in found.columns if name not in ("image", "t")}
