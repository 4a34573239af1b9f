"""Morphology: columns of objects, from measures whose partials add up block by block.

    rows          what one block knows of one label
    moments       index and shape        surface   area, perimeter, Euler number        intensity   raw channels
    columns       every column with unit and definition; rows become columns

A measure's rows are finished by `columns.finish_rows`; `table` does all of it for arrays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod

import numpy as np

from cristae.blocks.measure import Measure, Partial
from cristae.blocks.stage import At
from cristae.cluster.model import usable_cores
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid
from cristae.morphology.columns import COLUMNS, Column, expand, finish_rows, group_of
from cristae.morphology.intensity import intensity
from cristae.morphology.moments import index, shape
from cristae.morphology.surface import surface, topology, windows

__all__ = ["COLUMNS", "MEASURES", "Column", "expand", "finish_rows", "group_of", "table", "windows"]

SLAB_VOXELS = 1 << 24

MEASURES: Mapping[str, Callable[..., Measure]] = {
    "index": index,
    "shape": shape,
    "surface": surface,
    "topology": topology,
    "intensity": intensity,
}
"""Builders by group; each takes `voxel_um`, intensity also the `dtype` and name of its channel."""


def table(
    labels: np.ndarray,
    images: Mapping[str, np.ndarray] | Sequence[np.ndarray] = (),
    *,
    voxel_um: Sequence[float],
    columns: Iterable[str] | None = None,
    translation_um: Sequence[float] | None = None,
) -> dict[str, np.ndarray]:
    """Columns of all objects of one label array in memory, a value a label.

    Parameters
    ----------
    labels : (z, y, x) or (y, x) whole numbers, 0 is background.
    images : raw channels of the same shape, by name or numbered from 0.
    columns : groups and columns; without them shape, and intensity where there are images.

    Raises
    ------
    InvalidInput : if shapes differ, a label is negative, or an image holds NaN inside an object.
    InvalidConfiguration : if a column is not known; the message names the nearest.
    """
    channels = dict(images) if isinstance(images, Mapping) else {str(i): image for i, image in enumerate(images)}
    if labels.ndim not in (2, 3) or labels.ndim != len(voxel_um):
        raise InvalidInput(
            f"labels of shape {labels.shape} with voxel size {tuple(voxel_um)} are no volume; "
            "give (z, y, x) or (y, x), and one size for each axis"
        )
    for name, image in channels.items():
        if image.shape != labels.shape:
            raise InvalidInput(
                f"channel {name!r} is {image.shape} but its labels are {labels.shape}; crop or resample one"
            )
    if columns is None:
        columns = ("shape", "intensity") if channels else ("shape",)
    wanted = expand(columns, ndim=labels.ndim, channels=tuple(channels))
    groups = {group_of(name, channels=tuple(channels)) for name in wanted}
    if "intensity" in groups and not channels:
        raise InvalidInput("intensity columns need an image; give one, or leave them out")

    finish = partial(finish_rows, voxel_um=voxel_um, shape=labels.shape, translation_um=translation_um)
    found: dict[str, np.ndarray] = {}
    if "intensity" in groups:
        for name, image in channels.items():
            # The first channel brings the shape along: walking the labels is most of the work.
            measure = intensity(voxel_um=voxel_um, dtype=image.dtype.name, channel=name, shape=not found)
            measured = _rows(measure, labels, image)
            if not found:
                found = finish("shape", measured)
            found |= finish("intensity", measured, channel=name if len(channels) > 1 else None)
    else:
        first = "shape" if "shape" in groups else "index"
        found = finish(first, _rows(MEASURES[first](voxel_um=voxel_um), labels))
    if groups & {"surface", "topology"}:
        both = windows(voxel_um=voxel_um, surface="surface" in groups, topology="topology" in groups)
        found |= finish("surface", _rows(both, labels))
    return {name: found[name] for name in ("label", *wanted)}


def _rows(measure: Measure, labels: np.ndarray, *images: np.ndarray) -> np.ndarray:
    """Rows of all objects, from slabs of planes on as many threads as there are cores; the slabs do not depend on them."""
    planes = max(1, SLAB_VOXELS // max(1, prod(labels.shape[1:])))
    grid = BlockGrid(labels.shape, (planes, *(max(1, n) for n in labels.shape[1:])))

    def partial_of(number: int) -> Partial:
        core = grid.core(number)
        box = core.grow(measure.halo).clip(grid.shape)
        at = At(core, (box, *(core for _ in images)), grid, number)
        return measure.partial(labels[box.slices], *(image[core.slices] for image in images), at=at, answers={})

    with ThreadPoolExecutor(usable_cores()) as pool:
        found: np.ndarray = measure.merge(list(pool.map(partial_of, range(len(grid)))))["rows"]
    return found
