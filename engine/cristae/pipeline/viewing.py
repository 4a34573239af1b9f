"""Viewing: what a person looks at after a run, slice by slice: image, labels, and the row of each object. Reads; writes nothing.

View        one image of a run and one object's labels of it
plane       a slice of both, or their projection, as small as a screen needs
column, row what the table says of the objects
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cristae.blocks.work import Work
from cristae.errors import InvalidInput
from cristae.grid import Box
from cristae.morphology.columns import COLUMNS
from cristae.pipeline.overview import overview_key
from cristae.pipeline.projection import finish_projections, pixel_step, project_block
from cristae.pipeline.status import finished_arrays, opened, places, runs_at
from cristae.pipeline.tables import plain
from cristae.store.display import window_of
from cristae.store.volume import Volume, open_volume

TABLES = ("objects.parquet", "table.parquet")
KEY = ("image", "t", "label")
SCREEN = 1600
"""Pixels that a side of a slice has at most, where a coarser level holds it."""
PROJECTED = 1 << 26
"""Voxels that are read for a projection, where a coarser level holds so few."""


@dataclass(frozen=True)
class View:
    """One image of a run and one object's labels of it. `image` is None where the raw voxels are gone."""

    name: str
    object: str
    labels: Volume
    image: Volume | None
    channel: int
    times: tuple[int, ...]  # of the image, one for each time point of the labels
    table: Path | None

    @cached_property
    def window(self) -> tuple[float, float]:
        """Intensities that are drawn black and white."""
        if self.image is None:
            return 0.0, 1.0
        _, _, low, high = window_of(self.image, self.channel, self.times[0])
        return low, high

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns of numbers."""
        if self.table is None:
            return ()
        schema = pl.scan_parquet(self.table).collect_schema()
        return tuple(name for name, kind in schema.items() if name not in KEY and kind.is_numeric())


def views(output: str) -> tuple[View, ...]:
    """Everything at an output that can be looked at, image by image.

    Raises
    ------
    InvalidInput : if there are no finished labels.
    """
    states = runs_at(output)
    found = [view for state in states for view in _of_run(state)]
    if not found and (images := [path for state in states for _, path in finished_arrays(opened(state)[0])]):
        raise InvalidInput(
            f"{output} holds no labels: its steps end in an image; look at {images[0]} in napari, or export it"
        )
    if not found:
        raise InvalidInput(f"{output} holds no finished labels to look at; run its command to the end first")
    return tuple(found)


def _of_run(state: Path) -> Iterator[View]:
    generation, work, _ = opened(state)
    tables = [path for _, path in places(generation) if path.name in TABLES and path.exists()]
    for fact, path in finished_arrays(generation):
        labels = open_volume(path, doubts=False)
        if labels.kind != "label":
            continue
        own = [table for table in tables if len(tables) == 1 or table.parent.name == fact["array"]]
        image, channel = _raw(work, fact["image"], fact["array"])
        times = tuple(dict.fromkeys(f.t for f in work.frames if f.image == fact["image"]))
        name = work.images[fact["image"]].name
        yield View(name, fact["array"], labels, image, channel, times, own[0] if own else None)


def _raw(work: Work, image: int, name: str) -> tuple[Volume | None, int]:
    """The volume that an object was made from, and the channel its overview shows; None where its file is gone, or its voxels are others."""
    volume = work.images[image].volumes.get("input")
    if volume is None or not Path(volume.path).exists() or work.spec(image, name).shape != volume.spatial_shape:
        return None, 0
    asked = (a for p in work.every_pass for a in p.measures if a.key == overview_key(name))
    return volume, next((a.beside[0].channel or 0 for a in asked), 0)


def facts_of(view: View) -> dict[str, Any]:
    """What a page must know before it draws: shape and size of a voxel along z, y and x, time points, columns and their units."""
    shape, voxel = view.labels.spatial_shape, view.labels.voxel_um
    return {
        "name": view.name,
        "object": view.object,
        "shape": (1,) * (3 - len(shape)) + tuple(shape),
        "voxel_um": (1.0,) * (3 - len(shape)) + tuple(voxel),
        "times": view.times,
        "columns": {name: _about(name) for name in view.columns},
    }


def _about(name: str) -> Mapping[str, str]:
    about = COLUMNS.get(plain(name))
    return {"unit": about.unit, "definition": about.definition} if about is not None else {"unit": "", "definition": ""}


def plane(view: View, axis: str, index: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Image (uint8, 0 to 255 over the window) and labels (uint32) of a slice across an axis, or of the projection along z ("max").

    index : voxel of level 0 on that axis; frame : number of the time point in the labels

    Raises
    ------
    InvalidInput : if there is no such slice.
    """
    if axis == "max":
        return _projected(view, frame)
    axes, full = view.labels.spatial_axes, view.labels.spatial_shape
    at = axes.find(axis) if len(axes) == 3 else -1  # a plane is its own slice across z
    if (
        axis not in (axes if at >= 0 else "z")
        or (at >= 0 and not 0 <= index < full[at])
        or not 0 <= frame < len(view.times)
    ):
        raise InvalidInput(f"{view.name} has no slice {index} across {axis} at time {frame}")
    sides = [max(n for a, n in enumerate(_spatial(view.labels, k)) if a != at) for k in range(len(view.labels.levels))]
    level = next((k for k, side in enumerate(sides) if side <= SCREEN), len(sides) - 1)
    box = _slice(_spatial(view.labels, level), full, at, index)
    ids = view.labels.read(box, frame, 0, level)
    image = _seen(view, _spatial(view.labels, level), at, index, frame)
    return _eight(_flat(image, at), view.window), np.ascontiguousarray(_flat(ids, at), np.uint32)


@lru_cache(maxsize=32)
def _projected(view: View, frame: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = [prod(_spatial(view.labels, k)) for k in range(len(view.labels.levels))]
    level = next((k for k, size in enumerate(sizes) if size <= PROJECTED), len(sizes) - 1)
    shape = _spatial(view.labels, level)
    ids, image = view.labels.read(Box.whole(shape), frame, 0, level), _seen(view, shape, -1, 0, frame)
    drawn = finish_projections(
        project_block(image, ids, Box.whole(shape), pixel_step(shape)), voxel_um=view.labels.voxel_um
    )
    return _eight(drawn["xy"], view.window), np.ascontiguousarray(drawn["labels_xy"].astype(np.uint32))


def _seen(view: View, shape: tuple[int, ...], at: int, index: int, frame: int) -> np.ndarray:
    """The image, or a slice of it, on the grid of a level of the labels; from its own level of that shape, else thinned out."""
    wanted = tuple(1 if a == at else n for a, n in enumerate(shape))
    if view.image is None:
        return np.zeros(wanted, np.uint8)
    levels = range(len(view.image.levels))
    level = next((k for k in levels if _spatial(view.image, k) == shape), 0)
    box = _slice(_spatial(view.image, level), view.image.spatial_shape, at, index)
    found = view.image.read(box, view.times[frame], view.channel, level)
    return found[np.ix_(*(np.arange(n) * m // n for n, m in zip(wanted, found.shape, strict=True)))]


def column(view: View, frame: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels (uint32) and what a column says of each (float32).

    Raises
    ------
    InvalidInput : if there is no such column of numbers.
    """
    if name not in view.columns:
        raise InvalidInput(f"{view.name} has no column {name} of numbers")
    found = _rows(view, frame).select("label", name).collect()
    return found["label"].to_numpy().astype(np.uint32), found[name].to_numpy().astype(np.float32)


def row(view: View, frame: int, label: int) -> dict[str, Any]:
    """Everything the table says of one object; nothing where it has no row."""
    if view.table is None:
        return {}
    found = _rows(view, frame).filter(pl.col("label") == label).collect()
    cells = found.row(0, named=True) if len(found) else {}
    return {name: None if isinstance(cell, float) and not isfinite(cell) else cell for name, cell in cells.items()}


def _rows(view: View, frame: int) -> pl.LazyFrame:
    assert view.table is not None
    table = pl.scan_parquet(view.table)
    return table.filter(pl.col("image") == view.name, pl.col("t") == view.times[frame])


def _spatial(volume: Volume, level: int) -> tuple[int, ...]:
    return volume.levels[level].shape[-len(volume.spatial_axes) :]


def _slice(shape: tuple[int, ...], full: tuple[int, ...], at: int, index: int) -> Box:
    """Of a level of this shape, the slice that holds voxel `index` of level 0 on an axis; all of it where `at` is -1."""
    here = min(index * shape[at] // full[at], shape[at] - 1)
    start = tuple(here if a == at else 0 for a in range(len(shape)))
    return Box(start, tuple(here + 1 if a == at else n for a, n in enumerate(shape)))


def _flat(array: np.ndarray, at: int) -> np.ndarray:
    return array.squeeze(at) if at >= 0 else array


def _eight(array: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    low, high = window
    scaled = (array.astype(np.float32) - low) * (255.0 / (high - low))
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8))
