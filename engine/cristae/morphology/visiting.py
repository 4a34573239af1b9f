"""Visiting: which measures find a column, which blocks hold an object, and the walk over just those blocks.

    Scene     labels, the image they lie on, and the blocks that both are read in
    Part      one measure of a table, and the image channel it is shown
    Census    rows of the measure `index` at every time point: which objects there are, and which blocks they touch
    Visit     what was asked for, decided before a voxel is read: objects, parts, blocks

A block is read once for all parts of a visit. What comes back are rows; `finished` makes columns of them, by the same
functions and in the same order as a run of the engine does, so that both agree bit for bit on one grid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from cristae.blocks.evaluate import widest
from cristae.blocks.measure import Measure
from cristae.blocks.stage import At
from cristae.grid import BlockGrid, Shape
from cristae.morphology import MEASURES, finish_rows, group_of, intensity, windows
from cristae.morphology.columns import names_of
from cristae.morphology.rows import segments
from cristae.morphology.sources import Shown, Source

Place = tuple[int, int]
"""A time point, and the number of a block in its grid."""

Rows = Mapping[int, tuple[np.ndarray, ...]]
"""By time point: the merged rows of each part."""

Wanted = Mapping[int, np.ndarray]
"""By time point: labels in rising order."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a table is about. `grid` cuts the labels; the image follows them."""

    labels: Source
    image: Shown | None
    grid: BlockGrid

    @property
    def channels(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.image.source.channels) if self.image is not None else ()

    def places(self) -> list[Place]:
        """Every block of every time point, in order."""
        return [(t, block) for t in range(self.labels.frames) for block in range(len(self.grid))]


@dataclass(frozen=True, eq=False)
class Part:
    """One measure of a table; `channel` is the number of the image's channel that it reads beside the labels."""

    groups: tuple[str, ...]  # whose columns its rows become
    measure: Measure
    channel: int | None = None
    suffix: str | None = None  # of its intensity columns, where the image has several channels

    def __str__(self) -> str:
        return " and ".join(self.groups) + ("" if self.suffix is None else f" of {self.suffix}")


def parts_of(scene: Scene, columns: Iterable[str]) -> tuple[Part, ...]:
    """The measures that find `columns`, each once; none for the index, whose columns the census knows.

    Whoever finds the shape comes first: its rows also say what a census wants to know.
    """
    voxel_um, columns = scene.labels.voxel_um, set(columns)
    groups = {group_of(column, channels=scene.channels) for column in columns}
    shape, parts = "shape" in groups, []
    if scene.image is not None:
        many = len(scene.channels) > 1
        for c, name in enumerate(scene.channels):
            own = names_of("intensity", ndim=len(voxel_um))
            if columns.isdisjoint(f"{n}_{name}" for n in own) if many else columns.isdisjoint(own):
                continue
            # The first channel brings the shape along: walking the labels is most of the work.
            along = shape and not parts
            measure = intensity(voxel_um=voxel_um, dtype=scene.image.source.dtype, channel=name, shape=along)
            found = ("shape", "intensity") if along else ("intensity",)
            parts.append(Part(found, measure, c, name if many else None))
    if shape and not parts:
        parts.append(Part(("shape",), MEASURES["shape"](voxel_um=voxel_um)))
    if around := [name for name in ("surface", "topology") if name in groups]:
        both = windows(voxel_um=voxel_um, **{name: name in around for name in ("surface", "topology")})
        parts.append(Part(tuple(around), both))
    return tuple(parts)


def index_part(scene: Scene) -> Part:
    """The measure of the census: which labels there are, how many voxels, in which box."""
    return Part(("index",), MEASURES["index"](voxel_um=scene.labels.voxel_um))


@dataclass(frozen=True, eq=False)
class Census:
    """Which objects there are; `rows` hold one row for each block that an object touches."""

    part: Part
    rows: tuple[np.ndarray, ...]  # by time point, sorted by label and origin
    grid: BlockGrid

    def labels(self) -> Wanted:
        """Every label of every time point."""
        return {t: rows["label"][segments(rows)] for t, rows in enumerate(self.rows)}

    def of(self, t: int, labels: np.ndarray) -> np.ndarray:
        """The rows of some labels, which are in rising order."""
        rows = self.rows[t]
        return rows if len(labels) == len(segments(rows)) else rows[np.isin(rows["label"], labels)]

    def places(self, wanted: Wanted) -> tuple[Place, ...]:
        """The blocks that the wanted objects touch, each once, in order."""
        found: list[Place] = []
        for t, labels in wanted.items():
            rows = self.of(t, labels)
            at = [
                rows[f"{axis}0"] // b for axis, b in zip("zyx"[-len(self.grid.block) :], self.grid.block, strict=True)
            ]
            found += [(t, int(block)) for block in np.unique(np.ravel_multi_index(at, self.grid.counts))]
        return tuple(found)


@dataclass(frozen=True, eq=False)
class Visit:
    """What will be read, and why: printed, it is one sentence."""

    wanted: Wanted
    parts: tuple[Part, ...]
    blocks: tuple[Place, ...]
    of_blocks: int

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that see each block."""
        return tuple(map(str, self.parts))

    def __str__(self) -> str:
        objects = sum(map(len, self.wanted.values()))
        if not self.blocks:
            return f"{objects} objects; no block is visited, the index knows what was asked for"
        frames = [
            f"{'t ' + str(t) + ': ' if len(self.wanted) > 1 else ''}{_ranges([block for _, block in places])}"
            for t, places in groupby(self.blocks, key=lambda place: place[0])
        ]
        return (
            f"{objects} objects; {len(self.blocks)} of {self.of_blocks} blocks are visited for "
            f"{', '.join(self.measures)}: {'; '.join(frames)}"
        )


def plan_visit(scene: Scene, census: Census, wanted: Wanted, columns: Sequence[str]) -> Visit:
    """The blocks that `columns` of the wanted objects need; none where the census knows them."""
    parts = parts_of(scene, columns)
    return Visit(wanted, parts, census.places(wanted) if parts else (), len(scene.places()))


def _ranges(numbers: Sequence[int]) -> str:
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)


def read_rows(
    scene: Scene,
    parts: Sequence[Part],
    places: Sequence[Place],
    wanted: Wanted | None = None,
    threads: int = 1,
    seen: Callable[[Place], None] = lambda place: None,
) -> Rows:
    """Walk `places`, each read once for all parts, and merge what they know; of all objects, or of the wanted ones.

    seen : called with each place, in order, once it has been read.
    """
    found: dict[int, list[list[np.ndarray]]] = {t: [[] for _ in parts] for t in range(scene.labels.frames)}

    def visit(place: Place) -> list[np.ndarray]:
        return _visit(scene, parts, place, None if wanted is None else wanted[place[0]])

    for place, rows in zip(places, _ahead(visit, places, threads), strict=True):
        for own, some in zip(found[place[0]], rows, strict=True):
            own.append(some)
        seen(place)
    return {
        t: tuple(part.measure.merge([{"rows": r} for r in rows])["rows"] for part, rows in zip(parts, own, strict=True))
        for t, own in found.items()
    }


def _visit(scene: Scene, parts: Sequence[Part], place: Place, wanted: np.ndarray | None) -> list[np.ndarray]:
    t, block = place
    core = scene.grid.core(block)
    box = core.grow(widest([part.measure.halo for part in parts], len(core.start))).clip(scene.grid.shape)
    labels = scene.labels.read(box, t)
    # An image is not read where there is nothing to measure in it.
    if not labels[core.within(box)].any():
        return [part.measure.merge([])["rows"] for part in parts]
    found = []
    for part in parts:
        if part.channel is None or scene.image is None:
            arrays, reads = (labels,), (box,)
        else:
            arrays, reads = (labels, scene.image.read(core, t, part.channel)), (box, core)
        at = At(core, reads, scene.grid, block, t)
        rows = part.measure.partial(*arrays, at=at, answers={})["rows"]
        found.append(rows if wanted is None else rows[np.isin(rows["label"], wanted)])
    return found


def _ahead(
    visit: Callable[[Place], list[np.ndarray]], places: Sequence[Place], threads: int
) -> Iterator[list[np.ndarray]]:
    """`visit` of each place, in order; so many blocks are in memory as there are threads, however many places."""
    threads = min(threads, len(places))
    if threads < 2:
        yield from map(visit, places)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: deque[Future[list[np.ndarray]]] = deque()
        try:
            for place in places:
                running.append(pool.submit(visit, place))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def finished(scene: Scene, known: Iterable[tuple[Part, np.ndarray]]) -> dict[str, np.ndarray]:
    """All columns that the rows of these parts give, `label` among them; the rows are of the same objects."""
    columns: dict[str, np.ndarray] = {}
    for part, rows in known:
        for group in part.groups:
            columns |= finish_rows(
                group,
                rows,
                voxel_um=scene.labels.voxel_um,
                shape=scene.grid.shape,
                translation_um=scene.labels.translation_um,
                channel=part.suffix if group == "intensity" else None,
            )
    return columns


def block_shape(labels: Source) -> Shape:
    """Blocks of about 4 million voxels that cut no stored chunk."""
    target = {3: (64, 256, 256), 2: (2048, 2048)}[len(labels.spatial_shape)]
    sides = zip(target, labels.spatial_shape, labels.chunk, strict=True)
    return tuple(max(1, min(n, -(-min(b, n) // min(c, n)) * min(c, n))) if n else 1 for b, n, c in sides)
