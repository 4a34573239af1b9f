"""Tables: from the rows that measures left to Parquet or CSV, in ranges of label, so that no table needs to fit in memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.work import Frame, Work, group_of
from cristae.morphology.columns import COLUMNS, Column, finish_rows
from cristae.morphology.intensity import SUBTRACTED
from cristae.morphology.rows import merge_rows
from cristae.store.bundle import Bundle, write_bytes
from cristae.store.tables import TableWriter

ROWS_AT_ONCE = 200_000


@dataclass(frozen=True)
class Group:
    """The rows of one measure of an object's table: where they are, and which columns they become."""

    key: str
    name: str  # of the group in `morphology`
    columns: tuple[str, ...]  # of the whole table, in its order
    channel: str | None = None  # ends the intensity columns' names where there are several channels


@dataclass(frozen=True)
class Holder:
    """The column that says which object holds each, and the key of its rows: intensity of the holders' labels."""

    column: str
    key: str


@dataclass(frozen=True)
class Table:
    """One object's table over all images and time points of a run; called with a path, it writes itself there."""

    object: str
    array: str  # the label array it describes
    groups: tuple[Group, ...]
    holder: Holder | None = None
    background: float = 0  # taken from the intensity of each voxel

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        """Write the table at `path`, .parquet or .csv by its name."""
        objects, brightest = 0, -inf
        with TableWriter(path) as out:
            for columns in self.blocks(work):
                out.write(columns)
                objects += len(columns["label"])
                seen = (float(v.max()) for c, v in columns.items() if plain(c) in SUBTRACTED and len(v))
                brightest = max((brightest, *seen)) if self.background else brightest
        if self.background and objects and brightest <= 0 and path.suffix == ".parquet":
            warnings.warn(
                f"{self.object}: no object is brighter than the background of {self.background:g} that is taken from it; "
                "background is in units of the image",
                stacklevel=2,
            )
        return {f"objects.{self.object}": objects}

    def about(self) -> Iterator[tuple[str, Column]]:
        """Every column that is measured, and what it is."""
        for name in self.groups[0].columns:
            if (bare := plain(name)) in COLUMNS:
                about = COLUMNS[bare]
                if self.background and bare in SUBTRACTED:
                    said = f"{about.definition}; less a background of {self.background:g} in each voxel"
                    about = replace(about, definition=said)
                yield name, about
        if self.holder is not None:
            yield self.holder.column, Column("", "label of the object that holds this one, in its own table", "index")

    def blocks(self, work: Work) -> Iterator[dict[str, np.ndarray]]:
        """Columns of successive ranges of label, frame by frame; at least one, so that an empty table has its columns."""
        keys = {g.key for g in self.groups} | ({self.holder.key} if self.holder is not None else set())
        bundles = {key: Bundle(stored.answer_path(work.folder, key)) for key in keys}
        for _, layers in groupby(work.finished(), key=lambda one: (one[1].image, one[1].t)):
            frames = list(layers)  # one, but of runs as many as there are layers
            groups = [group_of("frame", frame, number) for number, frame in frames]
            rows = {key: [bundles[key][f"{group}|rows"] for group in groups] for key in keys}
            for low, high in ranges(_labels(rows[self.groups[0].key])):
                yield self.columns(work, frames[0][1], {k: _between(r, low, high) for k, r in rows.items()})

    def columns(self, work: Work, frame: Frame, rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        image = work.images[frame.image]
        spec = work.spec(frame.image, self.array)
        translation = work.origin(frame.image, spec)
        found: dict[str, np.ndarray] = {}
        for group in self.groups:
            found |= finish_rows(
                group.name,
                rows[group.key],
                voxel_um=spec.voxel_um,
                shape=spec.shape,
                translation_um=translation,
                channel=group.channel,
                background=self.background,
            )
        n = len(found["label"])
        head = {
            "image": np.full(n, image.name, dtype=object),
            "t": np.full(n, frame.t, np.int32),
            "label": found["label"],
        }
        of_sheet = {name: np.full(n, value, dtype=object) for name, value in image.columns.items()}
        if self.holder is not None:
            held = finish_rows("intensity", rows[self.holder.key], voxel_um=spec.voxel_um, shape=spec.shape)
            of_sheet[self.holder.column] = held["intensity_max"].astype(np.uint64)
        return head | of_sheet | {c: found[c] for c in self.groups[0].columns}


@dataclass(frozen=True)
class Description:
    """Unit and definition of every column of a table; called with a path, it writes itself there as JSON."""

    table: Table

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        columns = {name: {"unit": c.unit, "definition": c.definition} for name, c in self.table.about()}
        facts = {"object": self.table.object, "key": ["image", "t", "label"], "columns": columns}
        write_bytes(path, json.dumps(facts, indent=1).encode())
        return {}


def plain(column: str) -> str:
    """A column without its channel's name."""
    return next(
        (c for c in sorted(COLUMNS, key=len, reverse=True) if column == c or column.startswith(f"{c}_")), column
    )


def ranges(labels: np.ndarray) -> Iterator[tuple[np.unsignedinteger[Any], np.unsignedinteger[Any]]]:
    """First and last label of stretches that hold about ROWS_AT_ONCE rows each and together every label.

    They are labels of the array, in its own type: a whole number of Python would be compared as a float, which from 2**53 on is
    another number.
    """
    if len(labels) == 0:
        yield labels.dtype.type(0), labels.dtype.type(0)
    at = 0
    while at < len(labels):
        last = labels[min(at + ROWS_AT_ONCE, len(labels)) - 1]
        yield labels[at], last
        at = int(np.searchsorted(labels, last, side="right"))


def _labels(layers: Sequence[np.ndarray]) -> np.ndarray:
    """The label of each row, in rising order."""
    return layers[0]["label"] if len(layers) == 1 else np.sort(np.concatenate([rows["label"] for rows in layers]))


def _between(layers: Sequence[np.ndarray], first: np.unsignedinteger[Any], last: np.unsignedinteger[Any]) -> np.ndarray:
    """The rows of a range of labels, sorted; a label has its rows in one layer."""
    found = []
    for rows in layers:
        labels = rows["label"]
        found.append(np.asarray(rows[np.searchsorted(labels, first) : np.searchsorted(labels, last, side="right")]))
    return merge_rows([{"rows": rows} for rows in found], found[0].dtype)["rows"]
