"""Stacked: one volume whose time points, channels or planes lie in files of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from cristae.errors import InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.store.facts import AXES, Channel, Level
from cristae.store.volume import Volume

SPLIT = "tcz"
"""Axes that may run over files."""

Place = tuple[str, str, str]
"""What a sheet says of a file along t, c and z; "" where it says nothing."""


@dataclass(frozen=True)
class Stacked(Volume):
    """A volume made of others. `parts` are in the order of their places along t, c and z; `counts` how many along each."""

    parts: tuple[Volume, ...] = ()
    counts: tuple[int, int, int] = (1, 1, 1)

    def read(self, box: Box, t: int = 0, c: int = 0, level: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """As of any volume; a box of several planes is read file by file where z runs over files."""
        self._index(box, t, c, level)  # refuses what lies outside
        found = np.empty(box.shape, self.dtype) if out is None else out
        if self.counts[2] == 1:
            return self._part(t, c, 0).read(box, *self._inner(t, c), out=found)
        plane = Box(box.start[1:], box.stop[1:])
        for n, z in enumerate(range(box.start[0], box.stop[0])):
            part = self._part(t, c, z)
            whole = plane if len(part.spatial_axes) == 2 else Box((0, *plane.start), (1, *plane.stop))
            found[n] = part.read(whole, *self._inner(t, c)).reshape(plane.shape)
        return found

    def write(self, box: Box, array: np.ndarray, t: int = 0, c: int = 0, level: int = 0) -> dict[str, object]:  # type: ignore[override]
        raise PlanRefused(f"{self.name} is made of several files, which cristae only reads; write to an OME-Zarr")

    def cropped(self, spans: Mapping[str, tuple[int, int]]) -> Volume:
        """Not of files side by side.

        Raises
        ------
        InvalidInput : always.
        """
        raise InvalidInput(f"{self.name} is made of several files, of which no box can be taken; leave --crop out")

    def identity(self) -> dict[str, str]:
        """Of all parts together; where time runs over files, of those of each time point, so that more may follow."""
        found = [part.identity() for part in self.parts]
        if self.counts[0] == 1:
            said = {name: _together(i[name] for i in found) for name in found[0]}
            return {**said, "metadata": f"{said['metadata']} {self.voxel_um}"}
        each = len(found) // self.counts[0]
        points = (found[n : n + each] for n in range(0, len(found), each))
        said = {f"t {t}": _together(value for i in own for value in i.values()) for t, own in enumerate(points)}
        return {"metadata": f"{each} files a time point, {self.frame_interval_s} s apart, {self.voxel_um}", **said}

    def _part(self, t: int, c: int, z: int) -> Volume:
        nt, nc, nz = self.counts
        return self.parts[((t if nt > 1 else 0) * nc + (c if nc > 1 else 0)) * nz + (z if nz > 1 else 0)]

    def _inner(self, t: int, c: int) -> tuple[int, int]:
        return (0 if self.counts[0] > 1 else t, 0 if self.counts[1] > 1 else c)


def stacked(name: str, files: Mapping[Place, Volume], *, z_um: float | None = None) -> Stacked:
    """One volume of several files, each at its place along t, c and z. z_um : from plane to plane, where files are planes

    Raises
    ------
    InvalidInput : if a place is empty, or a file does not fit beside the others.
    """
    first = next(iter(files.values()))
    orders = [_order(axis, [place[n] for place in files]) for n, axis in enumerate(SPLIT)]
    parts = []
    for place in [(t, c, z) for t in orders[0] for c in orders[1] for z in orders[2]]:
        if place not in files:
            said = ", ".join(f"{axis} {value}" for axis, value in zip(SPLIT, place, strict=True) if value)
            raise InvalidInput(f"image {name} has no file for {said}; add its row, or take the others out")
        parts.append(files[place])
    counts = (len(orders[0]), len(orders[1]), len(orders[2]))
    for part in parts:
        if (part.axes, part.shape, part.dtype, part.voxel_um) != (first.axes, first.shape, first.dtype, first.voxel_um):
            raise InvalidInput(
                f"{part.path} differs from {first.path} in axes, shape, type or voxel size; both are image {name}"
            )
    sizes = dict(zip(first.axes, first.shape, strict=True))
    for axis, count in zip(SPLIT, counts, strict=True):
        if count > 1 and sizes.get(axis, 1) > 1:
            raise InvalidInput(
                f"{first.path} has {sizes[axis]} steps along {axis}, which runs over the files of {name}"
            )
        if count > 1:
            sizes[axis] = count
    axes = "".join(a for a in AXES if a in sizes)
    planes = "z" in axes and len(first.voxel_um) == 2
    if planes and z_um is None:
        raise InvalidInput(
            f"image {name} is a stack of planes, whose distance is not known; give it with their sizes, for example --voxel-um 0.3,0.1,0.1"
        )
    channels = tuple(Channel(c) for c in orders[1]) if counts[1] > 1 else first.channels
    level = replace(first.levels[0], shape=tuple(sizes[a] for a in axes))
    if planes and z_um is not None:
        level = replace(level, voxel_um=(z_um, *level.voxel_um), translation_um=(0.0, *level.translation_um))
    return Stacked(
        path=first.path,
        name=name,
        axes=axes,
        dtype=first.dtype,
        levels=(_whole_planes(level, counts[2]),),
        channels=channels,
        frame_interval_s=first.frame_interval_s,
        kind=first.kind,
        reader=first.reader,
        source_axes=axes,
        parts=tuple(parts),
        counts=counts,
    )


def _together(digests: Iterable[str]) -> str:
    return blake2b("".join(digests).encode(), digest_size=16).hexdigest()


def _whole_planes(level: Level, planes: int) -> Level:
    return level if planes == 1 else replace(level, chunk=(1, *level.chunk[-2:]), unit=(1, *level.unit[-2:]))


def _order(axis: str, values: list[str]) -> list[str]:
    """Places along an axis: t and z by number, channels as they come."""
    found = list(dict.fromkeys(values))
    if axis == "c" or not all(_is_number(v) for v in found):
        return found if axis == "c" else sorted(found)
    return sorted(found, key=float)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
