"""Visiting: the walk over the blocks of a visit, each read once for all measures, and the table that comes of it.

Rows are merged and finished by the functions that a run of the engine uses, in the same order: both agree bit for bit
on one grid. Tables are finished in ranges of label, so that only rows are ever in memory for all objects at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import polars as pl

from cristae.blocks.evaluate import widest
from cristae.blocks.stage import At
from cristae.morphology import finish_rows
from cristae.morphology.columns import KEY
from cristae.morphology.parts import Part
from cristae.morphology.planning import (
    Census,
    Place,
    Scene,
    Visit,
    Wanted,
    index_part,
    parts_of,
    plan_visit,
)

if TYPE_CHECKING:
    import pandas

PIECE = 200_000
"""Objects of one task of a dask frame."""

FINISHED_AT_ONCE = 32_768
"""Objects whose rows become columns together: few enough to stay near the processor, whose cores share the ranges."""

Item = TypeVar("Item")
Made = TypeVar("Made")

Table = Mapping[str, np.ndarray]


def read_rows(
    scene: Scene,
    parts: Sequence[Part],
    places: Sequence[Place],
    wanted: Wanted | None = None,
    threads: int = 1,
    seen: Callable[[Place], None] = lambda place: None,
) -> list[tuple[np.ndarray, ...]]:
    """For each part its rows by time point, of all objects or of the wanted ones. Each of `places` is read once.

    seen : called with each place, in order, once it has been read.
    """
    frames = range(scene.labels.frames)
    found: list[list[list[np.ndarray]]] = [[[] for _ in frames] for _ in parts]

    def visit(place: Place) -> list[list[np.ndarray]]:
        mine = None if wanted is None else wanted[place[0]]
        layers = [_visit(scene, parts, place, c, mine) for c in range(scene.labels.layers)]
        return [list(some) for some in zip(*layers, strict=True)]

    for place, rows in zip(places, _ahead(visit, places, threads), strict=True):
        for own, some in zip(found, rows, strict=True):
            own[place[0]] += some
        seen(place)
    return [
        tuple(part.measure.merge([{"rows": r} for r in own[t]])["rows"] for t in frames)
        for part, own in zip(parts, found, strict=True)
    ]


def _visit(
    scene: Scene, parts: Sequence[Part], place: Place, layer: int, wanted: np.ndarray | None
) -> list[np.ndarray]:
    t, block = place
    core = scene.grid.core(block)
    box = core.grow(widest([part.measure.halo for part in parts], len(core.start))).clip(scene.grid.shape)
    labels = scene.labels.read(box, t, layer)
    # An image is not read where there is nothing to measure in it.
    if not any(plane.any() for plane in labels[core.within(box)]):
        return [part.measure.merge([])["rows"] for part in parts]
    found = []
    for part in parts:
        beside = [] if part.channel is None or scene.image is None else [scene.image.read(core, t, part.channel)]
        at = At(core, (box, *(core for _ in beside)), scene.grid, block, t)
        rows = part.measure.partial(labels, *beside, at=at, answers={})["rows"]
        found.append(rows if wanted is None else rows[np.isin(rows["label"], wanted)])
    return found


def _ahead(make: Callable[[Item], Made], items: Sequence[Item], threads: int) -> Iterator[Made]:
    """`make` of each item, in order; so many are in memory as there are threads, however many items."""
    threads = min(threads, len(items))
    if threads < 2:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[Made]] = deque()
        try:
            for item in items:
                running.append(pool.submit(make, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def tables(
    scene: Scene,
    visit: Visit,
    columns: Sequence[str],
    threads: int = 1,
    seen: Callable[[Place], None] = lambda place: None,
) -> Iterator[Table]:
    """Make a visit; key and `columns` of successive ranges of label, at least one, so that an empty table has columns."""
    wanted = visit.census.labels()
    rows = read_rows(scene, visit.parts, visit.blocks, wanted, threads, seen)
    yield from finished(
        scene, wanted, columns, [(visit.census.part, visit.census.rows), *zip(visit.parts, rows, strict=True)], threads
    )


def finished(
    scene: Scene,
    wanted: Wanted,
    columns: Sequence[str],
    known: Sequence[tuple[Part, Sequence[np.ndarray]]],
    threads: int = 1,
) -> Iterator[Table]:
    """Tables from the rows by time point of several parts, each of exactly the wanted objects."""

    def made(some: tuple[int, np.ndarray]) -> Table:
        t, labels = some
        found: dict[str, np.ndarray] = {}
        for part, rows in known:
            found |= _columns(scene, part, _between(rows[t], labels))
        head = {"image": np.full(len(labels), scene.labels.name, object), "t": np.full(len(labels), t, np.int32)}
        return head | {name: found[name] for name in ("label", *columns)}

    return _ahead(made, list(_ranges(wanted, FINISHED_AT_ONCE)), threads)


def frame_of(table: Table) -> pl.DataFrame:
    """A table as a polars frame."""
    return pl.DataFrame([pl.Series(n, c, dtype=pl.String if n == "image" else None) for n, c in table.items()])


def schema_of(scene: Scene, columns: Sequence[str]) -> pl.Schema:
    """Types of key and columns; no voxel is read."""
    nothing = {0: np.empty(0, np.uint64)}
    parts = (index_part(scene), *parts_of(scene, columns))
    empty = [(part, [part.measure.merge([])["rows"]]) for part in parts]
    return frame_of(next(finished(scene, nothing, columns, empty))).schema


def pieces(census: Census) -> Iterator[Census]:
    """The census cut into ranges of label at one time point: what tasks of a dask frame are given."""
    for t, labels in _ranges(census.labels(), PIECE):
        yield census.of({t: labels})


def piece_frame(piece: Census, columns: Sequence[str], *, scene: Scene) -> pandas.DataFrame:
    """Columns, key or not, of the objects of one piece, as one task makes them."""
    needed = [name for name in columns if name not in KEY]
    made = [frame_of(table) for table in tables(scene, plan_visit(scene, piece, needed), needed)]
    return pl.concat(made).select(columns).to_pandas()


def _columns(scene: Scene, part: Part, rows: np.ndarray) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for group in part.groups:
        found |= finish_rows(
            group,
            rows,
            voxel_um=scene.labels.voxel_um,
            shape=scene.grid.shape,
            translation_um=scene.labels.translation_um,
            channel=part.suffix if group == "intensity" else None,
        )
    return found


def _ranges(wanted: Wanted, size: int) -> Iterator[tuple[int, np.ndarray]]:
    full = {t: labels for t, labels in wanted.items() if len(labels)}
    for t, labels in full.items():
        for low in range(0, len(labels), size):
            yield t, labels[low : low + size]
    if not full:
        yield next(iter(wanted.items()))


def _between(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The rows of a range of labels, the first and the last included."""
    if not len(labels):
        return rows[:0]
    low, high = np.searchsorted(rows["label"], labels[0]), np.searchsorted(rows["label"], labels[-1], side="right")
    found: np.ndarray = rows[low:high]
    return found
