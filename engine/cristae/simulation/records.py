"""Records: what is known exactly of every object of a cell, a row each, and the points of its centre line.

A cell is told of by the block that holds the first voxel of its tile, so that every object has one row whatever the blocks. There its
objects are drawn already, to be painted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, product
from typing import Any

import numpy as np

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import BlockGrid, Box, no_halo
from cristae.simulation.cells import Scene, Thing, centroid, things
from cristae.simulation.exposure import facts_of, params_of
from cristae.simulation.meetings import meetings
from cristae.simulation.networks import Network
from cristae.simulation.shapes import Tube, count

Columns = dict[str, np.ndarray]
LINE_UM = 0.1
"""Between the points of a centre line."""
LINE = "line_"
"""What the names of a centre line's columns begin with in a partial."""
ROW = (
    "label", "cell", "volume_um3", "surface_um2", "length_um", "radius_um", "junctions", "loops", "touches", "crosses", "emitters",
    "centroid_z_um", "centroid_y_um", "centroid_x_um",
)  # fmt: skip
POINT = tuple(f"{LINE}{name}" for name in ("label", "along_um", "z_um", "y_um", "x_um", "radius_um"))


def cell_objects(scene: Scene, organelle: str) -> Measure:
    """Rows and centre lines of the objects of one kind: the parts are those of each block's cells, the answer how many objects there are."""
    facts_of(scene, organelle)
    return Measure(
        "cell_objects",
        params_of(scene, organelle),
        partial(_partial, scene=scene, organelle=organelle),
        _together,
        None,
        no_halo(3),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=5.0),
        keeps_parts=True,
    )


def _partial(*arrays: Any, at: At, answers: Mapping[str, Answer], scene: Scene, organelle: str) -> Partial:
    told = [
        thing
        for tile in scene.tiles(*scene.um(at.core))
        if _told(scene, tile, at.core)
        for thing in things(scene, tile, organelle)
    ]
    points = {f"{LINE}{name}": column for name, column in lines(scene, told).items()}
    return {"objects": np.array(len(told)), **rows(scene, organelle, told), **points}


def _together(partials: Sequence[Partial]) -> Partial:
    return {"objects": np.array(sum(int(p["objects"]) for p in partials))}


def first_voxel(scene: Scene, tile: Sequence[int]) -> tuple[int, ...]:
    """Of a tile of the lattice."""
    return tuple(t * n // many for t, n, many in zip(tile, scene.shape, scene.lattice, strict=True))


def _told(scene: Scene, tile: tuple[int, int, int], core: Box) -> bool:
    first = first_voxel(scene, tile)
    return core.contains(Box(first, tuple(n + 1 for n in first)))


def cell_by_cell(
    scene: Scene, grid: BlockGrid, parts: Mapping[int, Partial], names: Sequence[str]
) -> Iterator[Columns]:
    """Some columns of the partials of all blocks, in the order of cells: of one cell after the other."""
    block, part, cells = -1, {}, np.empty(0, np.int64)
    which = f"{LINE}cell" if names[0].startswith(LINE) else "cell"
    for number, tile in enumerate(product(*map(range, scene.lattice))):
        first = first_voxel(scene, tile)
        owner = grid.meeting(Box(first, tuple(n + 1 for n in first)))[0]
        if owner != block:
            block, part = owner, {name: parts[owner][name] for name in (which, *names)}
            cells = part[which]
        mine = cells == number
        yield {name.removeprefix(LINE): part[name][mine] for name in names}


def rows(scene: Scene, organelle: str, told: Sequence[Thing]) -> Columns:
    """The columns of the truth table, but for image, time point and voxels. `told` holds whole cells."""
    facts = facts_of(scene, organelle)
    half = 0.5 * np.array(scene.voxel_um)
    middle = np.array([centroid(thing.shape) - half for thing in told]).reshape(-1, 3)
    shapes = [thing.shape for thing in told]
    return {
        "label": np.array([thing.id for thing in told], np.uint32),
        "cell": np.array([thing.cell for thing in told], np.int32),
        "volume_um3": np.array([shape.volume_um3 for shape in shapes], np.float64),
        "surface_um2": np.array([shape.area_um2 for shape in shapes], np.float64),
        "length_um": np.array([getattr(shape, "length_um", 0.0) for shape in shapes], np.float64),
        "radius_um": np.array(
            [getattr(s, "radius_um", (0.75 * s.volume_um3 / np.pi) ** (1 / 3)) for s in shapes], np.float64
        ),
        "junctions": np.array([getattr(shape, "junctions", 0) for shape in shapes], np.int32),
        "loops": np.array([getattr(shape, "loops", 0) for shape in shapes], np.int32),
        **_meetings(told),
        "emitters": np.array([count(s, facts["density"], facts["labelling"]) for s in shapes], np.int64),
        **{f"centroid_{axis}_um": middle[:, n].copy() for n, axis in enumerate("zyx")},
    }


def _meetings(told: Sequence[Thing]) -> Columns:
    """How many others each object of whole cells touches and crosses; objects of two cells are always apart."""
    counts = [np.empty((2, 0), np.int32)]
    counts += [meetings([thing.shape for thing in inside]) for _, inside in groupby(told, lambda thing: thing.cell)]
    touches, crosses = np.concatenate(counts, axis=1)
    return {"touches": touches, "crosses": crosses}


def lines(scene: Scene, told: Sequence[Thing]) -> Columns:
    """Points along every tube, LINE_UM apart: label, cell, arc length, place and radius."""
    half = 0.5 * np.array(scene.voxel_um)
    found = [np.empty((0, 7))]
    for thing in told:
        for tube in tubes_of(thing):
            u, s, _ = tube.line
            at = np.linspace(0, s[-1], max(2, round(s[-1] / LINE_UM) + 1))
            whose = np.broadcast_to([thing.id, thing.cell], (len(at), 2))
            radius = np.full(len(at), tube.radius_um)
            found.append(np.column_stack([whose, at, tube.curve(np.interp(at, s, u)) - half, radius]))
    whole = np.concatenate(found)
    names = ("along_um", "z_um", "y_um", "x_um", "radius_um")
    columns = {name: whole[:, n].copy() for n, name in enumerate(names, 2)}
    return {"label": whole[:, 0].astype(np.uint32), "cell": whole[:, 1].astype(np.int32)} | columns


def tubes_of(thing: Thing) -> tuple[Tube, ...]:
    """The tubes an object is made of; none of a ball."""
    if isinstance(thing.shape, Network):
        return thing.shape.tubes
    return (thing.shape,) if isinstance(thing.shape, Tube) else ()
