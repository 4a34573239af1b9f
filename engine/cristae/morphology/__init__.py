"""Morphology: columns of objects, from measures whose partials add up block by block.

    rows          what one block knows of one label
    moments       index and shape        surface   area, perimeter, Euler number        intensity   raw channels
    columns       every column with unit and definition; rows become columns

A measure's rows are finished by `columns.finish_rows`; `instances.measure` does all of it, for arrays and for volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cristae.blocks.measure import Measure
from cristae.morphology.columns import COLUMNS, Column, expand, finish_rows, group_of
from cristae.morphology.intensity import intensity
from cristae.morphology.moments import index, shape
from cristae.morphology.surface import surface, topology, windows

__all__ = ["COLUMNS", "MEASURES", "Column", "expand", "finish_rows", "group_of", "windows"]

MEASURES: Mapping[str, Callable[..., Measure]] = {
    "index": index,
    "shape": shape,
    "surface": surface,
    "topology": topology,
    "intensity": intensity,
}
"""Builders by group; each takes `voxel_um`, intensity also the `dtype` and name of its channel."""
