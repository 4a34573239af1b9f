"""Runs: the instance store, a Parquet of every object's own voxels, read as label arrays. Objects may overlap.

    columns   t, label, z, y, x0, length: voxels x0 to x0 + length - 1 of a line belong to the object; rows in any order
    about     shape, voxel size and the block in which rows were written: JSON in the Parquet's schema, under NOTE
    layer     a label array in which no two objects share a voxel; an object lies wholly in one, at all places of a time point

There are as many layers as it takes: each object, in rising order of label, lies in the first in which no smaller one is in its way.
They are found when a process opens the table, by walking all rows plane after plane, about SWEPT of them at a time; what stays are
12 bytes an object and the footer of the Parquet. A box then reads only the row groups whose least and greatest values (of t, z, y, x0, length,
as Parquet keeps them) say that they may meet it, BATCH rows at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidInput
from cristae.grid import Box
from cristae.store.colouring import coloured, conflicts
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import reading

SUFFIX = ".parquet"
NOTE = "cristae.runs"
COLUMNS = ("t", "label", "z", "y", "x0", "length")
BATCH = 1 << 16
"""Rows that are decoded at once."""

SWEPT = 1 << 18
"""Rows, about, among which objects that overlap are looked for at once; in any case all of a plane."""

PAINTED = 1 << 18
"""Voxels, about, that are painted at once."""

FAR = 1 << 60
"""Beyond all that a row group without statistics may hold."""

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class About:
    """What a table of runs says of the volume that its objects lie in; all but `name` and `frames` is z, y, x."""

    name: str  # of the kind of objects
    shape: tuple[int, ...]
    voxel_um: tuple[float, ...]
    block: tuple[int, ...]
    translation_um: tuple[float, ...] = (0.0, 0.0, 0.0)
    frames: int = 1
    frame_interval_s: float | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """What each column of a place stays below."""
        return dict(zip(("t", "z", "y", "x0"), (self.frames, *self.shape), strict=True))

    def noted(self) -> dict[str, str]:
        """As the schema of a Parquet carries it."""
        return {NOTE: json.dumps(asdict(self))}


@dataclass(frozen=True, eq=False)
class Runs:
    """An opened table of runs; no file stays open."""

    path: Path
    footer: Any  # of the Parquet
    about: About
    dtype: str
    spans: Mapping[str, NDArray[np.int64]]  # by column, (row groups, 2): least and greatest value
    objects: tuple[
        tuple[NDArray[np.uint64], NDArray[np.int32]], ...
    ] = ()  # by time point: labels in rising order, their layers

    @property
    def layers(self) -> int:
        """How many layers hold every object; at least one."""
        return 1 + max(int(layer.max(initial=0)) for _, layer in self.objects)

    def paint(self, index: Sequence[Any], out: np.ndarray) -> None:
        """Fill `out`, (z, y, x), with the labels of a box. index : [t,] layer, and slices of z, y, x"""
        *lead, z, y, x = index
        t, layer = (0, *lead)[-2:]
        box = Box((z.start, y.start, x.start), (z.stop, y.stop, x.stop))
        labels, layers = self.objects[t]
        whole = np.ascontiguousarray(out)
        whole[...] = 0
        for every in self.rows(t, box):
            rows = _where(every, layers[np.searchsorted(labels, every["label"])] == layer)
            line = (rows["z"] - z.start) * out.shape[1] + rows["y"] - y.start
            _paint(whole.reshape(-1), line * out.shape[2] + rows["x0"] - x.start, rows["length"], rows["label"])
        if whole is not out:
            out[...] = whole

    def rows(self, t: int, box: Box) -> Iterator[Rows]:
        """The runs of a box at one time point, cut at its sides, a batch at a time; from the row groups that may meet it."""
        from pyarrow.parquet import ParquetFile

        groups = self.groups(t, box)
        if not groups:
            return
        with (
            reading(self.path, "Parquet"),
            ParquetFile(self.path, metadata=self.footer, pre_buffer=False, page_checksum_verification=True) as file,
        ):
            for batch in file.iter_batches(BATCH, row_groups=groups, columns=list(COLUMNS), use_threads=False):
                rows = self._checked({name: batch.column(name) for name in COLUMNS})
                first = np.maximum(rows["x0"], box.start[2])
                length = np.minimum(rows["x0"] + rows["length"], box.stop[2]) - first
                inside = (rows["t"] == t) & (length > 0)
                for name, start, stop in zip("zy", box.start, box.stop, strict=False):
                    inside &= (rows[name] >= start) & (rows[name] < stop)
                yield _where({**rows, "x0": first, "length": length}, inside)

    def groups(self, t: int, box: Box) -> list[int]:
        """The row groups that may hold voxels of a box at one time point."""
        low, high = ({name: span[:, n] for name, span in self.spans.items()} for n in (0, 1))
        high["x0"] = high["x0"] + high["length"] - 1
        sides = zip(("t", "z", "y", "x0"), (t, *box.start), (t + 1, *box.stop), strict=True)
        meets = [(low[name] < stop) & (high[name] >= start) for name, start, stop in sides]
        return [int(group) for group in np.flatnonzero(np.all(meets, axis=0))]

    def _checked(self, columns: Mapping[str, Any]) -> Rows:
        """A batch as int64, labels as uint64; every run lies in the volume."""
        if any(column.null_count for column in columns.values()):
            raise InvalidInput(f"{self.path} lacks numbers in some rows; every run has {', '.join(COLUMNS)}")
        read = {name: _numbers(column) for name, column in columns.items()}
        rows = {name: column.astype(np.int64) for name, column in read.items() if name != "label"}
        sizes = self.about.sizes
        wrong = (read["label"] < 1) | (rows["length"] < 1) | (rows["x0"] + rows["length"] > sizes["x0"])
        for name, size in sizes.items():
            wrong |= (rows[name] < 0) | (rows[name] >= size)
        if wrong.any():
            raise _outside(self, ", ".join(f"{name} {read[name][np.argmax(wrong)]}" for name in COLUMNS))
        return rows | {"label": read["label"].astype(np.uint64)}


def open_runs(path: Path) -> Runs:
    """The table at `path`, its objects spread over layers; once a process, and again when the file was replaced.

    Raises
    ------
    InvalidInput : if it is no whole table of runs.
    """
    stat = path.stat()
    return _opened(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _opened(path: Path, *_: int) -> Runs:
    from pyarrow.parquet import read_metadata
    from pyarrow.types import is_integer

    with reading(path, "Parquet"):
        footer = read_metadata(path)
        schema = footer.schema.to_arrow_schema()
    kinds = {name: schema.field(name).type for name in COLUMNS if name in schema.names}
    if lacking := [name for name in COLUMNS if name not in kinds or not is_integer(kinds[name])]:
        raise InvalidInput(
            f"{path} is no table of runs: it has no whole numbers {', '.join(lacking)}; labels are volumes, or runs with the "
            f"columns {', '.join(COLUMNS)}, as cristae simulate cell writes them"
        )
    dtype = "uint32" if kinds["label"].bit_width <= 32 else "uint64"
    table = Runs(path, footer, _about(path, schema.metadata or {}), dtype, _spans(footer))
    for name, size in table.about.sizes.items():  # rows that no box meets are never read
        found = table.spans[name][np.abs(table.spans[name]) < FAR]
        if len(found) and not 0 <= found.min() <= found.max() < size:
            raise _outside(table, f"{name} from {found.min()} to {found.max()}")
    return replace(table, objects=tuple(_spread(table, t) for t in range(table.about.frames)))


def _outside(table: Runs, said: str) -> InvalidInput:
    size = " x ".join(map(str, table.about.shape))
    return InvalidInput(
        f"{table.path} has runs outside its volume of {size} voxels and {table.about.frames} time points: {said}; labels and "
        "lengths are 1 or more"
    )


def _about(path: Path, notes: Mapping[bytes, bytes]) -> About:
    if NOTE.encode() not in notes:
        raise InvalidInput(
            f"{path} has the columns of runs, but does not say in which volume they lie; its schema lacks {NOTE}, which "
            "cristae simulate cell writes"
        )
    try:
        said = json.loads(notes[NOTE.encode()])
        facts: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in said.items()}
        about = About(**facts)
        sides = (*about.shape, *about.block, about.frames)
        whole = all(isinstance(n, int) and n > 0 for n in sides) and isinstance(about.name, str)
        sizes = all(
            isfinite(length) for length in (*about.voxel_um, *about.translation_um, about.frame_interval_s or 0)
        )
        three = {len(n) for n in (about.shape, about.block, about.voxel_um, about.translation_um)} == {3}
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{path}: what its schema says under {NOTE} cannot be read: {error}") from error
    if not (whole and sizes and three):
        raise InvalidInput(f"{path}: what its schema says under {NOTE} is of no volume: {notes[NOTE.encode()]!r}")
    return about


def _spans(footer: Any) -> dict[str, NDArray[np.int64]]:
    place = {footer.schema.column(n).path: n for n in range(footer.num_columns)}
    spans = {name: np.tile(np.array([-FAR, FAR]), (footer.num_row_groups, 1)) for name in COLUMNS if name != "label"}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for name, span in spans.items():
            found = group.column(place[name]).statistics
            if found is not None and found.has_min_max:
                span[number] = np.clip([found.min, found.max], -FAR, FAR)
    return spans


def _spread(table: Runs, t: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """The labels of a time point, in rising order, and the layer of each."""
    _, height, width = table.about.shape
    labels, pairs = [np.empty(0, np.uint64)], [np.empty((0, 2), np.uint64)]
    for start, stop in _slabs(table, t):
        found = [(np.empty((2, 0), np.int64), np.empty(0, np.uint64))]
        for rows in table.rows(t, Box((start, 0, 0), (stop, height, width))):
            first = (rows["z"] * height + rows["y"]) * width + rows["x0"]
            found.append((np.stack([first, first + rows["length"]]), rows["label"]))
        first, last = np.concatenate([span for span, _ in found], axis=1)
        known, item = np.unique(np.concatenate([label for _, label in found]), return_inverse=True)
        labels.append(known)
        pairs.append(known[conflicts(first, last, item)])
    every = np.unique(np.concatenate(labels))
    return every, coloured(len(every), np.unique(np.searchsorted(every, np.concatenate(pairs)), axis=0))


def _slabs(table: Runs, t: int) -> Iterator[tuple[int, int]]:
    """Planes, so many together as have about SWEPT rows, if those of a row group are spread evenly over its planes."""
    depth, height, width = table.about.shape
    steps = np.zeros(depth + 1)
    for group in table.groups(t, Box.whole((depth, height, width))):
        low, high = np.clip(table.spans["z"][group], 0, depth - 1)
        some = table.footer.row_group(group).num_rows / (high - low + 1)
        steps[low] += some
        steps[high + 1] -= some
    slab = np.cumsum(np.cumsum(steps)[:-1]).astype(np.int64) // SWEPT
    yield from pairwise((0, *(np.flatnonzero(np.diff(slab)) + 1).tolist(), depth))


def find(path: Path, name: str) -> Found:
    """What a table of runs is as a volume: a label, whose channels are its layers. name : the image's"""
    table = open_runs(path)
    about = table.about
    lead = (table.layers,) if about.frames == 1 else (about.frames, table.layers)
    chunk = (*(1 for _ in lead), *map(min, about.block, about.shape))
    scale, origin = (dict(zip("zyx", facts, strict=True)) for facts in (about.voxel_um, about.translation_um))
    if about.frame_interval_s is not None:
        scale["t"] = about.frame_interval_s
    array = FoundArray("", (*lead, *about.shape), table.dtype, chunk, chunk, scale, origin)
    layers = tuple(Channel(f"layer {n}") for n in range(table.layers))
    return Found(str(path), name, "runs", (array,), "tczyx"[-len(array.shape) :], layers, "label", about.name)


def _numbers(column: Any) -> np.ndarray:
    """Whole numbers of Arrow where they lie. Its own `to_numpy` does the same, but imports pandas first, in every process."""
    kind = np.dtype(str(column.type))
    if not len(column):
        return np.empty(0, kind)
    return np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind.itemsize)


def _where(rows: Rows, wanted: np.ndarray) -> Rows:
    return {name: column[wanted] for name, column in rows.items()}


def _paint(flat: np.ndarray, first: np.ndarray, length: np.ndarray, label: np.ndarray) -> None:
    """Put labels where their runs lie in an array without axes."""
    ends = np.cumsum(length)
    begins = ends - length
    cuts = np.flatnonzero(np.diff(ends // PAINTED, prepend=-1))
    for a, b in pairwise((*cuts.tolist(), len(first))):
        at = np.arange(begins[a], ends[b - 1]) + np.repeat(first[a:b] - begins[a:b], length[a:b])
        flat[at] = np.repeat(label[a:b], length[a:b])
