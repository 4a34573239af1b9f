"""Labelled: a volume as a lazy xarray.DataArray, for notebooks. The block engine does not come this way."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from cristae.grid import Box
from cristae.store.facts import SPATIAL

if TYPE_CHECKING:
    import xarray

    from cristae.store.volume import Volume


@dataclass(frozen=True)
class _Indexed:
    """A level that is indexed like an array; each index is one `Volume.read` a time point and channel."""

    volume: Volume
    level: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.volume.levels[self.level].shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.volume.dtype)

    def __getitem__(self, index: tuple[slice | int, ...]) -> np.ndarray:
        """What basic indexing of an array gives; a stepped slice reads what lies between, too."""
        spans = [
            range(n)[s if isinstance(s, slice) else slice(s, s + 1)] for n, s in zip(self.shape, index, strict=True)
        ]
        outer = len(spans) - len(self.volume.spatial_axes)
        ends = [(min(s), max(s) + 1) if len(s) else (0, 0) for s in spans]
        box = Box(tuple(a for a, _ in ends[outer:]), tuple(b for _, b in ends[outer:]))
        out = np.empty(tuple(map(len, spans)), self.dtype)
        steps = tuple(slice(None, None, s.step) for s in spans[outer:])
        for at in np.ndindex(out.shape[:outer]) if out.size else ():
            numbers = {a: spans[n][at[n]] for n, a in enumerate(self.volume.axes[:outer])}
            out[at] = self.volume.read(box, numbers.get("t", 0), numbers.get("c", 0), self.level)[steps]
        return out[tuple(slice(None) if isinstance(s, slice) else 0 for s in index)]


def labelled(volume: Volume, level: int, chunk_bytes: int) -> xarray.DataArray:
    """`level` of `volume` with coordinates in um and s; small stored chunks are read together, up to `chunk_bytes`."""
    import dask.array
    import xarray

    source = _Indexed(volume, level)
    outer = len(volume.axes) - len(volume.spatial_axes)
    chunk = (1,) * outer + grown(volume.levels[level].chunk, source.shape[outer:], source.dtype.itemsize, chunk_bytes)
    empty = np.empty((0,) * source.ndim, source.dtype)
    lazy = dask.array.from_array(source, chunks=chunk, asarray=False, meta=empty)  # type: ignore[no-untyped-call]
    attrs = {
        "kind": volume.kind,
        "voxel_um": volume.levels[level].voxel_um,
        "frame_interval_s": volume.frame_interval_s,
    }
    coordinates = _coordinates(volume, level)
    return xarray.DataArray(lazy, coordinates, list(volume.axes), name=volume.label or volume.name, attrs=attrs)


def grown(chunk: tuple[int, ...], shape: tuple[int, ...], itemsize: int, limit: int) -> tuple[int, ...]:
    """A whole multiple of `chunk` of at most `limit` bytes, or just `chunk`; the shortest axis doubles first."""
    size = list(chunk)
    while prod(size) * 2 * itemsize <= limit and any(a < n for a, n in zip(size, shape, strict=True)):
        shortest = min((axis for axis, n in enumerate(shape) if size[axis] < n), key=size.__getitem__)
        size[shortest] *= 2
    return tuple(size)


def _coordinates(volume: Volume, level: int) -> dict[str, Any]:
    facts = volume.levels[level]
    outer = len(volume.axes) - len(volume.spatial_axes)
    coordinates: dict[str, Any] = {}
    for n, axis in enumerate(volume.axes):
        count = np.arange(facts.shape[n], dtype=float)
        if axis in SPATIAL:
            place = facts.translation_um[n - outer] + count * facts.voxel_um[n - outer]
            coordinates[axis] = (axis, place, {"units": "um"})
        elif axis == "t" and (times := [volume.time_s(t) for t in range(volume.frames)])[0] is not None:
            coordinates[axis] = (axis, np.array(times), {"units": "s"})
        elif axis == "c":
            coordinates[axis] = (axis, [c.name for c in volume.channels])
    return coordinates
