"""Parts: the measures that find the columns of a table, each once, and which of them reads which channel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cristae.blocks.measure import Measure
from cristae.morphology.columns import group_of, names_of
from cristae.morphology.intensity import intensity
from cristae.morphology.moments import index, shape
from cristae.morphology.surface import windows


@dataclass(frozen=True, eq=False)
class Part:
    """One measure of a table; `channel` is the number, among those of the table, that it reads beside the labels."""

    groups: tuple[str, ...]  # whose columns its rows become
    measure: Measure
    channel: int | None = None
    suffix: str | None = None  # of its intensity columns, where there are several channels

    def __str__(self) -> str:
        return self.measure.name if self.suffix is None else f"{self.measure.name} of {self.suffix}"


def parts_of(
    columns: Iterable[str], *, voxel_um: Sequence[float], channels: Sequence[str] = (), dtype: str = "uint16"
) -> tuple[Part, ...]:
    """The measures that find `columns`; none for the index, which whoever walks the labels knows.

    channels, dtype : names of the image's channels and the type of their voxels

    Whoever finds the shape comes first: its rows also say what the index wants to know.
    """
    columns = set(columns)
    groups = {group_of(column, channels=channels) for column in columns}
    parts: list[Part] = []
    own = names_of("intensity", ndim=len(voxel_um))
    for c, name in enumerate(channels):
        many = len(channels) > 1
        if columns.isdisjoint(f"{n}_{name}" for n in own) if many else columns.isdisjoint(own):
            continue
        # The first channel brings the shape along: walking the labels is most of the work.
        along = "shape" in groups and not parts
        measure = intensity(voxel_um=voxel_um, dtype=dtype, channel=name, shape=along)
        found = ("shape", "intensity") if along else ("intensity",)
        parts.append(Part(found, measure, c, name if many else None))
    if "shape" in groups and not parts:
        parts.append(Part(("shape",), shape(voxel_um=voxel_um)))
    if groups & {"surface", "topology"}:
        both = windows(voxel_um=voxel_um, surface="surface" in groups, topology="topology" in groups)
        parts.append(Part(("surface",), both))
    return tuple(parts)


def index_part(voxel_um: Sequence[float]) -> Part:
    """The measure that finds which labels there are, how many voxels each has, and in which box."""
    return Part(("index",), index(voxel_um=voxel_um))
