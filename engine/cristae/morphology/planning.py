"""Planning: which measures find a column, which blocks hold an object. No voxel is read here.

    Scene     labels, the image they lie on, and the blocks that both are read in
    Part      one measure of a table, and the image channel it is shown
    Census    which objects there are at every time point, and which blocks they touch
    Visit     what was asked for: objects, parts, blocks

The census comes from a first pass over the labels (`visiting`). With it every later question is planned on paper: the
blocks of a visit are exactly those that the objects asked for touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Shape, choose_block
from cristae.morphology import parts
from cristae.morphology.columns import KEY, expand, group_of
from cristae.morphology.parts import Part
from cristae.morphology.rows import segments
from cristae.morphology.sources import Shown, Source

Ids = int | Iterable[int]

Place = tuple[int, int]
"""A time point, and the number of a block in its grid."""

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


def block_shape(labels: Source) -> Shape:
    """The blocks that a run over these labels would take."""
    return choose_block([labels.spatial_shape], [labels.chunk])


def parts_of(scene: Scene, columns: Iterable[str]) -> tuple[Part, ...]:
    """The measures that find `columns` in this scene."""
    dtype = scene.image.source.dtype if scene.image is not None else "uint16"
    return parts.parts_of(columns, voxel_um=scene.labels.voxel_um, channels=scene.channels, dtype=dtype)


def index_part(scene: Scene) -> Part:
    """The measure of the census."""
    return parts.index_part(scene.labels.voxel_um)


def columns_of(scene: Scene, names: Iterable[str]) -> tuple[str, ...]:
    """Groups and columns as the columns they are in this table, those of the index among them, without the key.

    Raises
    ------
    InvalidConfiguration : if there is no such column; the message names the nearest.
    InvalidInput : if intensity is asked for and there is no image.
    """
    wanted = [name for name in ([names] if isinstance(names, str) else names) if name not in KEY]
    found = expand(wanted, ndim=len(scene.grid.shape), channels=scene.channels)
    if scene.image is None and any(group_of(name) == "intensity" for name in found):
        raise InvalidInput("intensity columns need an image; give one to measure, or leave them out")
    return found


@dataclass(frozen=True, eq=False)
class Census:
    """Which objects there are: rows of the measure `index`, one for each block that an object touches."""

    part: Part
    rows: tuple[np.ndarray, ...]  # by time point, sorted by label and origin
    grid: BlockGrid

    @staticmethod
    def within(scene: Scene, rows: Sequence[np.ndarray]) -> Census:
        """The census that lies in the rows of a measure that also finds the index, by time point."""
        part = index_part(scene)
        dtype = part.measure.merge([])["rows"].dtype
        return Census(part, tuple(np.asarray(r[list(dtype.names or ())], dtype) for r in rows), scene.grid)

    def labels(self) -> Wanted:
        """Every label of every time point."""
        return {t: rows["label"][segments(rows)] for t, rows in enumerate(self.rows)}

    def of(self, wanted: Wanted) -> Census:
        """The census of these objects alone."""
        kept = [rows[np.isin(rows["label"], wanted.get(t, ()))] for t, rows in enumerate(self.rows)]
        return Census(self.part, tuple(kept), self.grid)

    def places(self) -> tuple[Place, ...]:
        """The blocks that its objects touch, each once, in order."""
        found: list[Place] = []
        for t, rows in enumerate(self.rows):
            axes = zip("zyx"[-len(self.grid.block) :], self.grid.block, strict=True)
            at = tuple(rows[f"{axis}0"] // side for axis, side in axes)
            found += [(t, int(block)) for block in np.unique(np.ravel_multi_index(at, self.grid.counts))]
        return tuple(found)

    def chosen(self, ids: Ids, t: int) -> np.ndarray:
        """Ids that a user gave for objects of one time point, as an array in their own order.

        Raises
        ------
        InvalidInput : if there is no such object or time point.
        """
        if not 0 <= t < len(self.rows):
            raise InvalidInput(f"the labels have {len(self.rows)} time points, but no t {t}")
        given = np.asarray([ids] if isinstance(ids, int | np.integer) else list(ids))
        if given.size and (given.dtype.kind not in "ui" or given.ndim != 1):
            raise InvalidInput(f"ids of objects are whole numbers, got {ids!r}; rows([3, 17]) asks for two")
        there = self.labels()[t]
        # Compared as they are stored: beside a signed number numpy would make floats of them.
        if not (known := (given >= 0) & np.isin(given.astype(np.uint64), there)).all():
            span = f", from {there[0]} to {there[-1]}" if len(there) else ""
            raise InvalidInput(f"there is no object {given[~known][0]} at t {t}; there are {len(there)} objects{span}")
        return given.astype(np.uint64)


@dataclass(frozen=True, eq=False, repr=False)
class Visit:
    """What will be read, and why: printed, it is one sentence."""

    census: Census  # of the objects asked for
    parts: tuple[Part, ...]
    blocks: tuple[Place, ...]
    of_blocks: int

    @property
    def objects(self) -> int:
        return sum(map(len, self.census.labels().values()))

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures that see each block."""
        return tuple(map(str, self.parts))

    def __str__(self) -> str:
        objects = f"{self.objects} object{'s' * (self.objects != 1)}"
        if not self.blocks:
            return f"{objects}; no block is visited, the index knows all that was asked for"
        frames = [
            f"{f't {t}: ' if len(self.census.rows) > 1 else ''}{_ranges([block for _, block in places])}"
            for t, places in groupby(self.blocks, key=lambda place: place[0])
        ]
        return (
            f"{objects}; {len(self.blocks)} of {self.of_blocks} blocks visited for {', '.join(self.measures)}: "
            f"{'; '.join(frames)}"
        )

    def __repr__(self) -> str:
        return f"<Visit: {self}>"


def plan_visit(scene: Scene, census: Census, columns: Iterable[str]) -> Visit:
    """The blocks that these columns of the objects of a census need: none where the census knows them."""
    parts = parts_of(scene, columns)
    return Visit(census, parts, census.places() if parts else (), len(scene.places()))


def _ranges(numbers: Sequence[int]) -> str:
    runs = groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(group) for _, group in runs)]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ends)
