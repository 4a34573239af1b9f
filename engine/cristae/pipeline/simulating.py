"""Simulating: `cristae simulate cell` and `cristae simulate tiles` as jobs, and the tables of truth that they leave.

tables/KIND/table.parquet   a row an object: exact volume, surface, length, radius, centre of mass
tables/KIND/lines.parquet   the centre lines of tubes, with their radius
tables/KIND/runs.parquet    the instance store: every object's own voxels as rows of voxels, where they overlap too
tables/KIND/table.json      unit and definition of every column
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.work import Asked, Frame, Image, Pass, Target, Work, group_of
from cristae.errors import InvalidConfiguration
from cristae.pipeline.inputs import absolute
from cristae.pipeline.job import ArrayOutput, FileOutput, Job
from cristae.pipeline.jobs import stem
from cristae.simulation.cells import Scene, room_um
from cristae.simulation.exposure import cell_image, cell_runs, cell_truth, facts_of
from cristae.simulation.kinetics import SPAN
from cristae.simulation.records import POINT, ROW, cell_by_cell, cell_objects
from cristae.simulation.tiles import COLUMNS as OF_TILE
from cristae.simulation.tiles import Tiles, tile, tile_objects, tile_truth
from cristae.store.bundle import Bundle, write_bytes
from cristae.store.facts import Channel
from cristae.store.runs import About
from cristae.store.tables import TableWriter

HEAD = ("image", "t", "label", "kind")
DEFINITIONS: Mapping[str, tuple[str, str]] = {
    "image": ("", "name of the image"),
    "t": ("", "time point; of tiles the number of the tile"),
    "label": (
        "",
        "the object's label; of tiles whose rule looks at the picture, a crop's only label is that of its first object",
    ),
    "kind": ("", "shape of the object"),
    "cell": ("", "number of the cell it lies in"),
    "crop": ("", "number of the crop in the montage it lies in"),
    "voxels": ("", "voxels whose centre lies in the object, its overlaps with others included"),
    "volume_um3": ("um3", "exact volume of the shape; of a network to about 0.5 %"),
    "surface_um2": ("um2", "exact area of the closed shape; of a network to about 0.5 %"),
    "area_um2": ("um2", "exact area of the membrane; an open tube has none over its ends"),
    "length_um": ("um", "arc length of the centre line; 0 for balls"),
    "radius_um": ("um", "radius of the tube or ball; of a nucleus that of the ball with its volume"),
    "junctions": ("", "places where a tube of a network begins or ends on another"),
    "loops": ("", "arcs of a network that leave it and come back"),
    "touches": (
        "",
        "others of its kind whose surface lies within 0.05 um of its own without overlap; all are in its cell",
    ),
    "crosses": ("", "others of its kind whose volume overlaps its own; branches of one network are one object"),
    "emitters": (
        "",
        "emitters of the object, to the nearest; of a network what its surface or volume leads one to expect",
    ),
    "centroid_z_um": ("um", "centre of mass; the centre of the first voxel is at 0, as in measured tables"),
    "centroid_y_um": ("um", "centre of mass; the centre of the first voxel is at 0, as in measured tables"),
    "centroid_x_um": ("um", "centre of mass; the centre of the first voxel is at 0, as in measured tables"),
    "middle_z_um": ("um", "middle of the object's box, above the coverslip"),
    "middle_y_um": ("um", "middle of the object's box, from the corner of the tile"),
    "middle_x_um": ("um", "middle of the object's box, from the corner of the tile"),
}


def cell_job(scene: Scene, out: str, organelles: Sequence[str] = (), frames: int = 1) -> Job:
    """A volume of cells: a channel, labels and tables for each kind of organelle. In several frames nothing moves, but light does."""
    if not 1 <= frames <= SPAN:
        raise InvalidConfiguration(f"--frames {frames}: give 1 to {SPAN} frames")
    final = store_path(out)
    kinds = list(organelles) or list(scene.organelles)
    if len(set(kinds)) < len(kinds) or "" in kinds:
        raise InvalidConfiguration(
            f"--organelles {','.join(kinds)}: give each organelle once, with a comma between two"
        )
    _refuse_flat(scene, kinds)
    passes, targets, files = [], [Target("image", "image")], []
    apart = scene.frame_s if frames > 1 else None
    channels = [Channel(kind, facts_of(scene, kind).get("color")) for kind in kinds]
    arrays = [
        ArrayOutput("image", 0, "image", final, channels=tuple(channels), every_channel=True, frame_interval_s=apart)
    ]
    for number, kind in enumerate(kinds):
        passes.append(
            Pass(f"simulate: {kind}", None, (cell_image(scene, kind),), ({},), (), "image", into=number, ahead=False)
        )
    for kind in kinds:
        asked = (
            Asked(f"{kind}/runs", cell_runs(scene, kind)), Asked(f"{kind}/objects", cell_objects(scene, kind))
        )  # fmt: skip
        passes.append(Pass(f"truth: {kind}", None, (cell_truth(scene, kind),), ({},), asked, kind))
        targets.append(Target(kind, "label"))
        arrays.append(ArrayOutput(kind, 0, "label", final / "labels" / kind, final, "../../", frame_interval_s=apart))
        folder = final / "tables" / kind
        files += [
            FileOutput(folder / "table.parquet", CellTruth(scene, kind)),
            FileOutput(folder / "lines.parquet", CentreLines(scene, kind)),
            FileOutput(folder / "runs.parquet", Runs(f"{kind}/runs", apart)),
            FileOutput(
                folder / "table.json", Described(f"{kind}: the truth of a simulation", (*HEAD, "voxels", *ROW[1:]))
            ),
        ]
    extra = {
        "command": "simulate cell",
        "shape": list(scene.shape),
        "frames": len(kinds) * frames,
        **_facts(scene),
    }
    return Job(
        "simulate",
        final,
        (Image(stem(final), {}),),
        tuple(Frame(0, t) for t in range(frames)),
        tuple(passes),
        tuple(targets),
        tuple(arrays),
        tuple(files),
        extra=extra,
    )


def _facts(made: Scene | Tiles) -> dict[str, str]:
    """What a simulation is of, one by one, so that a change can be named; its shape stands beside them."""
    return {f.name: str(getattr(made, f.name)) for f in fields(made) if f.name != "shape"}


def _refuse_flat(scene: Scene, kinds: Sequence[str]) -> None:
    """A volume whose cells are too flat to hold an organelle, or some of them."""
    for kind in kinds:
        least, sure = room_um(facts_of(scene, kind))
        high = scene.tile_um[0]
        planes = ceil(sure * scene.lattice[0] / scene.voxel_um[0])
        if high <= least:
            raise InvalidConfiguration(
                f"cells of {scene.shape[0]} planes are {high:.2g} um high, and no {kind} finds room in them; give a --shape of {planes} "
                "planes or more, or --organelles without it"
            )
        if high <= sure:
            warnings.warn(
                f"cells of {scene.shape[0]} planes are {high:.2g} um high: some are too flat for a {kind}; with {planes} planes all have room",
                FlatWarning,
                stacklevel=3,
            )


def tiles_job(tiles: Tiles, number: int, out: str) -> Job:
    """So many tiles as the time points of one image, their labels and the table of their objects."""
    if number < 1:
        raise InvalidConfiguration(f"--count {number}: give 1 tile or more")
    final, kind = store_path(out), str(tiles.facts["organelle"])
    folder, asked = final / "tables" / kind, Asked(f"{kind}/objects", tile_objects(tiles))
    return Job(
        "simulate",
        final,
        (Image(stem(final), {}),),
        tuple(Frame(0, t) for t in range(number)),
        (
            Pass("simulate: tiles", None, (tile(tiles),), ({},), (), "image"),
            Pass(f"truth: {kind}", None, (tile_truth(tiles),), ({},), (asked,), kind),
        ),
        (Target("image", "image"), Target(kind, "label")),
        (
            ArrayOutput("image", 0, "image", final, channels=(Channel(kind),)),
            ArrayOutput(kind, 0, "label", final / "labels" / kind, final, "../../"),
        ),
        (
            FileOutput(folder / "table.parquet", TileTruth(tiles, asked.key)),
            FileOutput(folder / "table.json", Described(f"{kind}: the truth of simulated tiles", (*HEAD, *OF_TILE))),
        ),
        extra={
            "command": "simulate tiles",
            "shape": [tiles.side] * 2,
            "frames": number,
            **_facts(tiles),
        },
    )


def store_path(out: str) -> Path:
    """Where a simulated store goes."""
    path = Path(absolute(out))
    if path.suffix != ".zarr":
        raise InvalidConfiguration(f"--out {out}: the store's name ends in .zarr, such as {stem(path)}.ome.zarr")
    return path


class FlatWarning(UserWarning):
    """Some cells are too flat for an organelle."""


@dataclass(frozen=True)
class CellTruth:
    """The table of one kind of organelle."""

    scene: Scene
    organelle: str

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        answer = Bundle(stored.answer_path(work.folder, f"{self.organelle}/runs"))
        kind, objects = facts_of(self.scene, self.organelle)["kind"], 0
        with TableWriter(path) as out:
            for number, frame in work.finished():
                counted = stored.taken(answer, group_of("frame", frame, number))
                voxels = dict(zip(counted["id"].tolist(), counted["voxels"].tolist(), strict=True))
                objects = 0
                for found in _cells(work, self.scene, f"{self.organelle}/objects", number, ROW):
                    n = len(found["label"])
                    head = {"image": np.full(n, work.images[0].name, dtype=object), "t": np.full(n, frame.t, np.int32)}
                    of = {
                        "label": found.pop("label"),
                        "kind": np.full(n, kind, dtype=object),
                        "cell": found.pop("cell"),
                    }
                    owned = np.array([voxels.get(label, 0) for label in of["label"].tolist()], np.int64)
                    out.write({**head, **of, "voxels": owned, **found})
                    objects += n
        return {f"objects.{self.organelle}": objects}


@dataclass(frozen=True)
class CentreLines:
    """Points along every tube."""

    scene: Scene
    organelle: str

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        number, _ = next(work.finished())  # objects stay where they are
        with TableWriter(path) as out:
            for found in _cells(work, self.scene, f"{self.organelle}/objects", number, POINT):
                out.write(found)
        return {}


def _cells(work: Work, scene: Scene, key: str, number: int, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Columns of the objects of a frame, cell by cell."""
    step = next(p for p in work.passes if any(a.key == key for a in p.measures))
    frame, blocks = work.frames[number], work.layout(step).numbers(number)
    group = group_of("frame", frame, number)
    parts = stored.load_answer(work.folder, key, group, blocks.start, len(blocks), -1).parts
    return cell_by_cell(scene, work.grid(frame.image, step), parts, names)


@dataclass(frozen=True)
class Runs:
    """The instance store: rows of voxels, block by block."""

    key: str
    frame_interval_s: float | None = None

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        step = next(p for p in work.passes if any(a.key == self.key for a in p.measures))
        layout, grid, spec = work.layout(step), work.grid(0, step), work.specs(0, step)[-1]
        frames = 1 + max(frame.t for frame in work.frames)
        about = About(
            self.key.partition("/")[0],
            spec.shape,
            spec.voxel_um,
            grid.block,
            frames=frames,
            frame_interval_s=self.frame_interval_s,
        )
        with TableWriter(path, about.noted()) as out:
            for number, frame in work.finished():
                blocks = layout.numbers(number)
                group = group_of("frame", frame, number)
                parts = stored.load_answer(work.folder, self.key, group, blocks.start, len(blocks), -1).parts
                for block in range(len(blocks)):
                    rows_of = {name: parts[block][name] for name in ("label", "z", "y", "x0", "length")}
                    out.write({"t": np.full(len(rows_of["label"]), frame.t, np.int32), **rows_of})
        return {}


@dataclass(frozen=True)
class TileTruth:
    """The table of the objects of tiles."""

    tiles: Tiles
    key: str

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        answer, objects = Bundle(stored.answer_path(work.folder, self.key)), 0
        with TableWriter(path) as out:
            for number, frame in work.finished():
                found = stored.taken(answer, group_of("frame", frame, number))
                n = len(found["label"])
                head = {"image": np.full(n, work.images[0].name, dtype=object), "t": np.full(n, frame.t, np.int32)}
                kind = np.full(n, self.tiles.facts["kind"], dtype=object)
                out.write({**head, "label": found.pop("label"), "kind": kind, **found})
                objects += n
        return {f"objects.{self.tiles.facts['organelle']}": objects}


@dataclass(frozen=True)
class Described:
    """Unit and definition of every column of the table beside it."""

    about: str
    columns: tuple[str, ...]

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        columns = {name: dict(zip(("unit", "definition"), DEFINITIONS[name], strict=True)) for name in self.columns}
        facts = {"about": self.about, "key": ["image", "t", "label"], "columns": columns}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, json.dumps(facts, indent=1).encode())
        return {}
