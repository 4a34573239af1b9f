"""Results: what a person finds beside the labels: tables that a spreadsheet opens, what their columns are, and how it was done.

    objects.parquet, objects.csv   a row an object; the text only below a million rows
    overview.png                   projections with the outlines of the labels
    summary.csv                    a row for each image and time point
    columns.csv                    unit and definition of each column
    seams.json                     how many objects lie in several blocks, and how often their parts were joined
    methods.md                     a paragraph with versions and parameters

Each is a writer: called with a path, it writes itself there from the answers of the run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.measure import Scope
from cristae.blocks.work import Frame, Image, Work, group_of
from cristae.morphology.rows import segments, total
from cristae.pipeline.job import FileOutput
from cristae.pipeline.overview import Overview, overview_name
from cristae.pipeline.seaming import Seams
from cristae.pipeline.tables import Description, Table
from cristae.store.bundle import Bundle, write_bytes

FEW = 12
"""Images of a collection up to which each is drawn as large as if it were alone."""
PICTURES = 100
"""Images of a collection that get an overview; the pictures of ten thousand fields would take longer than their labels."""

CSV_ROWS = 1_000_000
"""Rows from which a table stays out of text: a spreadsheet opens no more than about as many."""

KEY_COLUMNS = {
    "image": "name of the image",
    "t": "time point, from 0, in the order of the image's time points",
    "label": "number of the object, its value in the label image; from 1 in each image and time point",
}

MOSTLY = 0.5
"""A foreground larger than this part of the image is rarely one of organelles."""


@dataclass(frozen=True)
class Cut:
    """A threshold of an object's steps: a number the user gave, or the key under which the run noted it."""

    name: str  # of the step
    value: float | None = None
    key: str | None = None
    scope: Scope = "frame"


@dataclass(frozen=True)
class Spreadsheet:
    """A table as text, where it is short enough; else nothing is written."""

    table: Table

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        if sum(len(voxels) for _, voxels in _voxels(self.table, work)) < CSV_ROWS:
            self.table(work, path)
        return {}


@dataclass(frozen=True)
class Summary:
    """A row for each image and time point: how many objects, how large, at which threshold, and what looks odd."""

    table: Table
    cuts: tuple[Cut, ...]
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # flags, and what a sheet says, by image

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        rows = [self.row(work, number, voxels) for number, voxels in _voxels(self.table, work)]
        lost = ((work.images[n], why) for n, why in work.lost.items())
        rows += [{"image": image.name, **image.columns, "flags": f"set aside: {why}"} for image, why in lost]
        rows += [{"image": image, **said} for image, said in self.left_out.items()]
        write_bytes(path, csv_of(rows))
        return {}

    def row(self, work: Work, number: int, voxels: np.ndarray) -> Mapping[str, Any]:
        """One image at one time point; voxels are those of its objects."""
        frame = work.frames[number]
        spec = work.spec(frame.image, self.table.array)
        size, what = prod(spec.voxel_um), "volume_um3" if spec.ndim == 3 else "area_um2"
        fraction = float(voxels.sum()) / prod(spec.shape)
        flags = ["no objects"] if not len(voxels) else ["mostly foreground"] if fraction > MOSTLY else []
        found: dict[str, Any] = {
            "image": work.images[frame.image].name,
            "t": frame.t,
            **({"time_s": seconds} if (seconds := _seconds(work, frame)) is not None else {}),
            **work.images[frame.image].columns,
            "objects": len(voxels),
            f"total_{what}": float(voxels.sum()) * size,
            f"median_{what}": float(np.median(voxels)) * size if len(voxels) else "",
            "foreground_fraction": fraction,
        }
        for cut in self.cuts:
            name = "threshold" if len(self.cuts) == 1 else f"threshold_{cut.name}"
            found[name] = cut.value if cut.key is None else _noted(work, cut.key, cut.scope, number)
        return found | {"flags": "; ".join(flags)}


def _seconds(work: Work, frame: Frame) -> float | None:
    """When a time point of a time-lapse was recorded."""
    volume = work.images[frame.image].volumes.get("input")
    return volume.time_s(frame.t) if volume is not None and "t" in volume.axes else None


@dataclass(frozen=True)
class Columns:
    """Unit and definition of each column of a table."""

    table: Table

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        said = {name: "of the sample sheet" for image in work.images for name in image.columns}
        rows = [{"column": name, "unit": "", "definition": text} for name, text in {**KEY_COLUMNS, **said}.items()]
        rows += [
            {"column": name, "unit": about.unit, "definition": about.definition} for name, about in self.table.about()
        ]
        write_bytes(path, csv_of(rows))
        return {}


@dataclass(frozen=True)
class Text:
    """Words that are known before the run, and which images had no part in it."""

    text: str

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        lost = ", ".join(work.images[n].name for n in work.lost)
        text = self.text + (f"\nOf these images {lost} could not be segmented; no table holds them.\n" if lost else "")
        write_bytes(path, text.encode("utf-8"))
        return {}


def result_files(
    folder: Path,
    item: str,
    table: Table | None,
    cuts: tuple[Cut, ...],
    overview: str | None,
    seams: str | None,
    text: str,
    images: Sequence[Image],
    in_store: bool,
    left_out: Mapping[str, Mapping[str, str]],
) -> list[FileOutput]:
    """What a run leaves of one object in `folder`; beside an image in its store the table keeps that format's name."""
    files = []
    if table is not None:
        files.append(FileOutput(folder / ("table.parquet" if in_store else "objects.parquet"), table))
        if in_store:
            files.append(FileOutput(folder / "table.json", Description(table)))
        files += [
            FileOutput(folder / "objects.csv", Spreadsheet(table), certain=False),
            FileOutput(folder / "summary.csv", Summary(table, cuts, left_out)),
            FileOutput(folder / "columns.csv", Columns(table)),
        ]
    if seams is not None:
        files.append(FileOutput(folder / "seams.json", Seams(item, seams)))
    files.append(FileOutput(folder / "methods.md", Text(text)))
    if overview is not None:
        files += [
            FileOutput(
                folder / overview_name(image.name, images), Overview(overview, n, item, len(images) > FEW), image=n
            )
            for n, image in enumerate(images[:PICTURES])
        ]
    return files


def csv_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows with the keys of the first as their header; UTF-8, whole numbers without a point."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode("utf-8")


def _voxels(table: Table, work: Work) -> Iterator[tuple[int, np.ndarray]]:
    """Number of each frame, and the voxels of each of its objects."""
    bundle = Bundle(stored.answer_path(work.folder, table.groups[0].key))
    for number, frame in work.finished():
        rows = bundle[f"{group_of('frame', frame, number)}|rows"]
        yield number, total(np.asarray(rows["voxels"]), segments(rows))


def _noted(work: Work, key: str, scope: Scope, number: int) -> float:
    bundle = Bundle(stored.answer_path(work.folder, key))
    return float(stored.taken(bundle, group_of(scope, work.frames[number], number))["value"][0])
