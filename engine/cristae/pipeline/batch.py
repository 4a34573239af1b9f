"""Batch: the images of one run, from the words of a command: files, folders, globs, a plate, or a sample sheet.

    Sample   one image: its name, its volume, and what a sheet says of it, which joins every table
    Batch    the samples that open, and the files that do not, each with the sentence that says why

A sample sheet is a .csv with the column `path` (relative to the sheet) and, if wanted, `image`, `scene`, `t`, `c`, `z`; rows
that share `image` are one volume. All other columns join the tables.
"""

from __future__ import annotations

import csv
import glob
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.morphology.columns import COLUMNS, KEY
from cristae.pipeline.inputs import Inputs
from cristae.store import foreign
from cristae.store.finding import plate_fields
from cristae.store.stacked import Place, stacked
from cristae.store.volume import Volume

OURS = ("path", "image", "scene", "t", "c", "z")
WELL = ("plate", "well", "field")
NUMBER = re.compile(r"\d*")
SUMMED = re.compile(r"(objects|flags|time_s|foreground_fraction|(threshold|total|median|parent)(_.*)?)$")
"""Columns that summaries and tables make themselves."""


@dataclass(frozen=True)
class Sample:
    """One image of a run. `columns` join every table."""

    name: str
    volume: Volume
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """The images of a run, and what could not be one of them."""

    samples: tuple[Sample, ...]
    failed: Mapping[str, str] = field(default_factory=dict)  # sentence by image
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # what a sheet says of these

    def ordered(self, first: Sequence[str]) -> Batch:
        """The same batch, the samples of these names first and in this order."""
        place = {name: n for n, name in enumerate(first)}
        return replace(self, samples=tuple(sorted(self.samples, key=lambda s: place.get(s.name, len(place)))))

    def having(self, channels: Sequence[str | int]) -> Batch:
        """The same batch, the images that lack one of these channels among those that failed.

        Raises
        ------
        InvalidInput : if every image lacks one.
        """
        lacking: dict[str, InvalidInput] = {}
        for sample in self.samples:
            try:
                for channel in channels:
                    sample.volume.channel_index(channel)
            except InvalidInput as error:
                lacking[sample.name] = error
        if len(lacking) == len(self.samples):
            raise next(iter(lacking.values()))
        said = {sample.name: sample.columns for sample in self.samples if sample.name in lacking}
        return Batch(
            tuple(sample for sample in self.samples if sample.name not in lacking),
            {**self.failed, **{name: str(error) for name, error in lacking.items()}},
            {**self.columns, **said},
        )


@dataclass(frozen=True)
class _Row:
    """One file before it is opened."""

    path: str
    image: str = ""
    place: Place = ("", "", "")
    scene: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


def gathered(words: Sequence[str], inputs: Inputs) -> Batch:
    """The images that the words of a command mean. A file that cannot be opened is left out, unless it is the only one.

    Raises
    ------
    InvalidInput : if a word means nothing, no file opens, or two images have one name.
    InvalidConfiguration : if a sample sheet is wrong.
    """
    rows = [row for word in words for row in _rows(word)]
    groups: dict[str, list[_Row]] = {}
    for n, row in enumerate(rows):
        groups.setdefault(row.image or f"\0{n}", []).append(row)
    channels = list(
        dict.fromkeys(row.place[1] for row in rows)
    )  # in one order for all images, whatever that of their rows
    for group in groups.values():
        group.sort(key=lambda row: channels.index(row.place[1]))
    samples: list[Sample] = []
    failed: dict[str, InvalidInput] = {}
    for image, group in groups.items():
        try:
            samples.append(_sample(image.strip("\0") if group[0].image else "", group, inputs))
        except InvalidInput as error:
            failed[group[0].image or group[0].path] = error
    if not samples:
        raise next(iter(failed.values()))
    _apart(samples)
    columns = {group[0].image or group[0].path: group[0].columns for group in groups.values()}
    return Batch(
        tuple(samples), {name: str(error) for name, error in failed.items()}, {name: columns[name] for name in failed}
    )


def _sample(image: str, rows: Sequence[_Row], inputs: Inputs) -> Sample:
    opened = [_opened(row, inputs) for row in rows]
    volume: Volume
    if len(rows) == 1:
        volume, channel = opened[0], rows[0].place[1]
        if channel and volume.channel_count == 1:
            volume = replace(volume, channels=(replace(volume.channels[0], name=channel),))
    else:
        places: dict[Place, Volume] = {}
        for row, part in zip(rows, opened, strict=True):
            if row.place in places:
                raise InvalidInput(
                    f"image {image} has two files at one place, {places[row.place].path} and {part.path}; tell them apart by t, c or z"
                )
            places[row.place] = part
        sizes = inputs.voxel_um or ()
        volume = stacked(image, places, z_um=sizes[0] if len(sizes) == 3 else None)
        if "t" in volume.axes and inputs.frame_interval_s is not None:
            volume = replace(volume, frame_interval_s=inputs.frame_interval_s)
    return Sample(image or volume.name, volume, rows[0].columns)


def _opened(row: _Row, inputs: Inputs) -> Volume:
    """A file of an image; planes of a stack have two sizes of the three that are given."""
    own = replace(inputs, scene=row.scene or inputs.scene)
    if row.place[2] and own.voxel_um is not None and len(own.voxel_um) == 3:
        with suppress(InvalidInput):
            return replace(own, voxel_um=own.voxel_um[1:]).open(row.path)
    return own.open(row.path)


def _rows(word: str) -> Iterator[_Row]:
    place = Path(word)
    if place.suffix.lower() == ".csv":
        yield from _sheet(place)
    elif place.is_dir() and (fields := plate_fields(place)):
        for well, number, path in fields:
            columns = {"plate": place.name.split(".")[0], "well": well, "field": number}
            yield _Row(path, f"{columns['plate']}-{well}-{number}", columns=columns)
    elif place.is_dir() and not _is_store(place):
        found = sorted(p for p in place.iterdir() if _is_image(p))
        if not found:
            raise InvalidInput(f"{word} is a folder without images that can be read")
        yield from (_Row(str(p)) for p in found)
    elif not place.exists() and any(letter in word for letter in "*?["):
        matches = sorted(p for p in glob.glob(word, recursive=True) if _is_image(Path(p)))
        if not matches:
            raise InvalidInput(f"no image matches {word}")
        yield from (_Row(p) for p in matches)
    else:
        yield _Row(word)


def _is_store(folder: Path) -> bool:
    return folder.suffix == ".zarr" or any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray"))


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return _is_store(path) if path.is_dir() else path.suffix.lower() in foreign.SUFFIXES


def _sheet(path: Path) -> Iterator[_Row]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            # A spreadsheet whose numbers have commas puts semicolons between its cells.
            between = next((mark for mark in (",", ";", "\t") if mark in first), ",")
            reader = csv.reader(file, delimiter=between)
            names = [name.strip() for name in next(reader, [])]
            cells = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidConfiguration(f"the sample sheet {path} cannot be read: {error}") from None
    while names and not names[-1] and all(len(row) < len(names) or not row[len(names) - 1] for _, row in cells):
        names.pop()  # what a spreadsheet leaves behind its last column
        cells = [(line, row[: len(names)]) for line, row in cells]
    if "path" not in names:
        raise InvalidConfiguration(
            f"{path} has no column path, only {', '.join(filter(None, names)) or 'an empty first line'}; name the column of the files path"
        )
    if long := next((line for line, row in cells if len(row) > len(names)), None):
        raise InvalidConfiguration(
            f"{path}, line {long} has more cells than the {len(names)} columns of the first line; put a cell that holds a comma in quotes"
        )
    if twice := next((name for n, name in enumerate(names) if name in names[:n]), None):
        raise InvalidConfiguration(f"{path} has two columns {twice}; give each a name of its own, or take one out")
    if not all(names):
        raise InvalidConfiguration(
            f"{path} has cells in column {names.index('') + 1}, which has no name; name it, or empty it"
        )
    lines = [(line, dict(zip(names, row + [""] * (len(names) - len(row)), strict=True))) for line, row in cells]
    if taken := [name for name in names if name not in OURS and (name in {*KEY, *COLUMNS} or SUMMED.match(name))]:
        raise InvalidConfiguration(f"{path} has a column {taken[0]}, which tables have already; give it another name")
    if not lines:
        raise InvalidConfiguration(f"{path} lists no file; give each a row under path")
    wells: dict[tuple[str, ...], str] = {}
    said: dict[str, tuple[int, Mapping[str, str]]] = {}
    for line, row in lines:
        if not row["path"]:
            raise InvalidConfiguration(f"{path}, line {line}: path is empty; name a file, or take the line out")
        columns = {name: row[name] for name in names if name not in OURS}
        image = row.get("image", "")
        if image and (image.startswith(".") or not set(image).isdisjoint("/\\")):
            raise InvalidConfiguration(
                f"{path}, line {line}: image {image} cannot name a result; leave slashes and a dot at its beginning out"
            )
        for axis in ("t", "z"):
            if not NUMBER.fullmatch(row.get(axis, "")):
                raise InvalidConfiguration(
                    f"{path}, line {line}: {axis} is {row[axis]}, but must be a whole number from 0 on"
                )
        before, told = said.setdefault(image, (line, columns)) if image else (line, columns)
        if unlike := next((name for name in columns if columns[name] != told[name]), None):
            raise InvalidConfiguration(
                f"{path}, lines {before} and {line}: both are image {image}, but its {unlike} is {told[unlike] or 'empty'} in one "
                f"and {columns[unlike] or 'empty'} in the other"
            )
        well = tuple(row.get(name, "") for name in WELL)
        if row.get("well") and wells.setdefault(well, image or row["path"]) != (image or row["path"]):
            raise InvalidConfiguration(
                f"{path}, line {line}: {' '.join(filter(None, well))} is {wells[well]} already; give each well and field one image"
            )
        yield _Row(
            str(path.parent / Path(row["path"]).expanduser()),
            image,
            (row.get("t", ""), row.get("c", ""), row.get("z", "")),
            row.get("scene") or None,
            columns,
        )


def _apart(samples: Sequence[Sample]) -> None:
    seen: dict[str, Sample] = {}
    for sample in samples:
        if sample.name in seen:
            raise InvalidInput(
                f"{sample.volume.path} and {seen[sample.name].volume.path} are both called {sample.name}; rename one, or name "
                "them in the column image of a sample sheet"
            )
        seen[sample.name] = sample
