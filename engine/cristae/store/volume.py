"""Volume: one image or label, opened lazily; a frozen fact that travels, whose voxels stay where they are.

    open_volume   OME-Zarr 0.4 and 0.5, plain Zarr, the files of `foreign`, and tables of runs
    Volume        axes, shape, voxel size, channels, levels; read(box), write(box, array), xarray(), identity()

Axes are some of t, c, z, y, x, always in this order and always ending in y, x, whatever the order in the file. A Box is
spatial; t and c are numbers beside it. Lengths are micrometres, times seconds. A process opens an array when it first
reads from it, never before a fork.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cristae.errors import InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.store import foreign
from cristae.store.facts import AXES, SPATIAL, Channel, GapWarning, Kind, Level, Reader, VoxelSizeWarning
from cristae.store.finding import find
from cristae.store.settling import axes_of, channels_of, level_of, scale_of

if TYPE_CHECKING:
    import xarray

    from cristae.store.durable import Put

__all__ = ["Channel", "Level", "Volume", "VoxelSizeWarning", "open_volume"]

LIKELY_UM = (0.005, 10.0)
"""Voxel sizes of microscopes, electron to light; others are said, and used."""

_LAZY_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class Volume:
    """One image or label. `name` is the image's, `label` the label's where it is one in a store."""

    path: str
    name: str
    axes: str
    dtype: str
    levels: tuple[Level, ...]
    channels: tuple[Channel, ...]
    frame_interval_s: float | None
    kind: Kind
    reader: Reader
    source_axes: str  # order in the file
    label: str | None = None
    origin: tuple[int, ...] = ()  # of a crop: its first voxel in what is stored, spatial
    times_s: tuple[float, ...] = ()  # of each time point since the recording began, where they are known one by one

    @property
    def shape(self) -> tuple[int, ...]:
        return self.levels[0].shape

    @property
    def voxel_um(self) -> tuple[float, ...]:
        return self.levels[0].voxel_um

    @property
    def translation_um(self) -> tuple[float, ...]:
        return self.levels[0].translation_um

    @property
    def chunk(self) -> tuple[int, ...]:
        return self.levels[0].chunk

    @property
    def unit(self) -> tuple[int, ...]:
        return self.levels[0].unit

    @property
    def spatial_axes(self) -> str:
        return "".join(a for a in self.axes if a in SPATIAL)

    @property
    def spatial_shape(self) -> tuple[int, ...]:
        return self.shape[-len(self.spatial_axes) :]

    @property
    def frames(self) -> int:
        """Number of time points; 1 without a t axis."""
        return self._extent("t")

    @property
    def channel_count(self) -> int:
        return self._extent("c")

    @property
    def layers(self) -> int:
        """How many channels hold the objects of a label, each of them in one; more than one where objects may overlap."""
        return self.channel_count if self.reader == "runs" else 1

    def time_s(self, t: int) -> float | None:
        """Seconds of a time point since the recording began: as it was noted, else by the interval; None where neither is known."""
        if self.times_s:
            return self.times_s[t]
        return None if self.frame_interval_s is None else t * self.frame_interval_s

    def _extent(self, axis: str) -> int:
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

    def cropped(self, spans: Mapping[str, tuple[int, int]]) -> Volume:
        """The part of the finest level within `spans`, first voxel and last + 1 by axis; its translation says where it lies.

        Raises
        ------
        InvalidInput : if it reaches outside, or has an axis that the volume lacks.
        """
        sizes = dict(zip(self.spatial_axes, self.spatial_shape, strict=True))
        whole = ",".join(f"{a}=0:{n}" for a, n in sizes.items())
        for axis, (start, stop) in spans.items():
            if axis not in sizes or not 0 <= start < stop <= sizes[axis]:
                raise InvalidInput(
                    f"--crop {axis}={start}:{stop} is not inside {self.path}, which is {whole}; give a box within that"
                )
        box = [spans.get(a, (0, n)) for a, n in sizes.items()]
        level, lead = self.levels[0], self.shape[: len(self.axes) - len(sizes)]
        placed = zip(level.translation_um, box, level.voxel_um, strict=True)
        part = replace(
            level,
            shape=(*lead, *(stop - start for start, stop in box)),
            translation_um=tuple(t + start * v for t, (start, _), v in placed),
        )
        origin = self.origin or (0,) * len(sizes)
        moved = tuple(o + start for o, (start, _) in zip(origin, box, strict=True))
        return replace(self, levels=(part,), origin=moved)

    def channel_index(self, channel: str | int) -> int:
        """Number of a channel given by name or number from 0.

        Raises
        ------
        InvalidInput : naming the channels there are.
        """
        names = [c.name for c in self.channels]
        if channel in names:
            return names.index(str(channel))
        if str(channel).isdecimal() and int(channel) < self.channel_count:
            return int(channel)
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
        raise InvalidInput(f"{self.path} has no channel {channel!r}; it has {known}")

    def read(self, box: Box, t: int = 0, c: int = 0, level: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """The voxels of `box` at one time and channel, (z, y, x) or (y, x), in native byte order.

        out : where to put them, of the box's shape; by default a new C-contiguous array

        Raises
        ------
        Damaged : if what is stored is not what was written.
        InvalidInput : if a foreign file ends early or cannot be decoded.
        """
        index = self._index(box, t, c, level)
        array = _opened(self, level)
        if out is None:
            out = np.empty(box.shape, self.dtype)
        order = [self.spatial_axes.index(a) for a in self.source_axes if a in SPATIAL]
        stored = out.transpose(order)
        if self.reader == "zarr":
            from cristae.store import zarr_arrays

            zarr_arrays.read(array, self._root(level), index, stored)
        else:
            try:
                if self.reader == "runs":
                    array.paint(index, stored)
                else:
                    stored[...] = array[index]
            except Exception as error:
                if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
                    raise
                raise InvalidInput(f"{self.path} cannot be decoded at {box.start} to {box.stop}: {error}") from error
        return out

    def write(self, box: Box, array: np.ndarray, t: int = 0, c: int = 0, level: int = 0) -> dict[str, Put]:
        """Store `array` at `box`, durably; returns what was put, by key relative to the level.

        Raises
        ------
        PlanRefused : if the box cuts a stored object, which another task may be writing.
        CristaeError : if the disk is full.
        """
        facts = self.levels[level]
        spatial = facts.shape[-len(self.spatial_axes) :]
        if self.origin:
            raise PlanRefused(f"a crop of {self.path} is only read; write to the whole of it")
        if self.reader != "zarr":
            raise PlanRefused(f"{self.path} is a {self.reader} file, which cristae only reads; write to an OME-Zarr")
        for a, b, unit, n in zip(box.start, box.stop, facts.unit, spatial, strict=True):
            if a % unit or (b % unit and b != n):
                raise PlanRefused(
                    f"the box {box.start} to {box.stop} cuts stored objects of {facts.unit} voxels "
                    f"in {self._root(level)}; give a --block that is a multiple of them"
                )
        if array.shape != box.shape or array.dtype != self.dtype:
            raise ValueError(f"a box of {box.shape} {self.dtype} cannot take an array of {array.shape} {array.dtype}")
        from cristae.store import zarr_arrays

        index = self._index(box, t, c, level)
        order = [self.spatial_axes.index(a) for a in self.source_axes if a in SPATIAL]
        return zarr_arrays.write(_opened(self, level), self._root(level), index, array.transpose(order))

    def xarray(self, level: int = 0) -> xarray.DataArray:
        """The whole volume, labelled and lazy: dask chunks of whole stored chunks, coordinates in um and s."""
        from cristae.store.labelled import labelled

        return labelled(self, level, _LAZY_CHUNK_BYTES)

    def identity(self) -> dict[str, str]:
        """What a run's key knows of this input: a digest of its metadata, and one of its objects' sizes and times.

        No path is part of it. `metadata` covers the documents and what the user overrode; times are of modification.
        """
        metadata = blake2b(digest_size=16)
        root = Path(self.path)
        level = self._root(0)
        for folder in dict.fromkeys((root, level)):
            for name in _DOCUMENTS:
                if folder.is_dir() and (folder / name).exists():
                    metadata.update(name.encode() + (folder / name).read_bytes())
        facts = (self.source_axes, self.dtype, self.levels, self.channels, self.frame_interval_s, self.kind)
        metadata.update(repr(facts if not self.origin else (*facts, self.origin)).encode())
        objects = blake2b(digest_size=16)
        for key, stat in _objects(level) if level.is_dir() else [("", level.stat())]:
            objects.update(f"{key}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return {"metadata": metadata.hexdigest(), "objects": objects.hexdigest()}

    def _root(self, level: int) -> Path:
        """Folder of the array of a level; for a single file, the file."""
        return Path(self.path) / self.levels[level].path if self.reader == "zarr" else Path(self.path)

    def _index(self, box: Box, t: int, c: int, level: int) -> tuple[int | slice, ...]:
        shape = self.levels[level].shape
        spatial = Box.whole(shape[-len(self.spatial_axes) :])
        if len(box.start) != len(spatial.start) or not spatial.contains(box) or box.empty:
            raise ValueError(f"the box {box.start} to {box.stop} does not lie in a volume of {spatial.stop}")
        if not 0 <= t < self.frames or not 0 <= c < self.channel_count:
            raise InvalidInput(
                f"{self.path} has {self.frames} frames and {self.channel_count} channels, but no t {t}, c {c}"
            )
        stored = box.shifted(self.origin) if self.origin else box
        at: dict[str, int | slice] = {"t": t, "c": c, **dict(zip(self.spatial_axes, stored.slices, strict=True))}
        return tuple(at[a] for a in self.source_axes)


_DOCUMENTS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def _objects(folder: Path, prefix: str = "") -> list[tuple[str, os.stat_result]]:
    found = []
    for entry in sorted(os.scandir(folder), key=lambda e: e.name):
        if entry.is_dir():
            found += _objects(Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.name not in _DOCUMENTS and not entry.name.endswith(".partial"):
            found.append((prefix + entry.name, entry.stat()))
    return found


def _opened(volume: Volume, level: int) -> Any:
    """The array of a level, opened once a process and again when its file was replaced."""
    root = volume._root(level)
    mark = next((p for p in (root / n for n in ("zarr.json", ".zarray")) if p.exists()), root)
    try:
        stat = mark.stat()
    except FileNotFoundError:
        raise InvalidInput(f"{root} is gone; it was there when {volume.path} was opened") from None
    return _open(volume.reader, str(root), volume.levels[level].path, os.getpid(), stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=32)
def _open(reader: Reader, root: str, member: str, *_: int) -> Any:
    path = Path(root)
    if reader == "zarr":
        from cristae.store.zarr_arrays import open_array

        return open_array(path)
    if reader == "runs":
        from cristae.store.runs import open_runs

        return open_runs(path)
    return foreign.open_array(reader, path, member)


def open_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_um: tuple[float, ...] | None = None,
    frame_interval_s: float | None = None,
    scene: str | None = None,
    doubts: bool = True,
) -> Volume:
    """Open one image or label; no voxel is read. The arguments override what the file says.

    path : an OME-Zarr group, a label in one (`x.ome.zarr/labels/mito`), a Zarr array, a microscope's file, or FILE:SCENE
    axes : letters of the file's axes in the file's order, such as "zyx" or "zcyx"
    voxel_um : spatial, (z, y, x) or (y, x)
    scene : name or number of one image of a file that holds several
    doubts : warn of what is unlikely or missing; an array that a run made itself says nothing new

    Raises
    ------
    InvalidInput : if the file cannot be read, or says too little and the option that would say it was not given.
    """
    found = find(str(path), axes, scene)
    notes = found.notes if voxel_um is None else ()
    order = axes_of(found, axes)
    scales = [scale_of(found, a, order, voxel_um) for a in found.arrays]
    interval = frame_interval_s if frame_interval_s is not None else scales[0].get("t")
    if interval is not None and not 0 < interval < math.inf:
        raise InvalidInput(f"{path} has a frame interval of {interval} s, which is not a time; give --frame-interval-s")
    sorted_axes = "".join(a for a in AXES if a in order)
    volume = Volume(
        path=found.path,
        name=found.name,
        axes=sorted_axes,
        dtype=found.arrays[0].dtype,
        levels=tuple(level_of(a, order, s) for a, s in zip(found.arrays, scales, strict=True)),
        channels=channels_of(found.channels, found.arrays[0].shape[order.index("c")] if "c" in order else 1),
        frame_interval_s=interval if "t" in order else None,
        kind=found.kind,
        reader=found.reader,
        source_axes=order,
        label=found.label,
        times_s=found.times_s if "t" in order and len(found.times_s) == found.arrays[0].shape[order.index("t")] else (),
    )
    for note in (*notes, *_doubts(volume)) if doubts else ():
        warnings.warn(note, VoxelSizeWarning, stacklevel=2)
    if found.gaps and doubts:
        warnings.warn(f"{path}: {found.gaps}", GapWarning, stacklevel=2)
    return volume


def _doubts(volume: Volume) -> list[str]:
    """What is unlikely about a voxel size, one sentence each."""
    said = []
    facts = zip(volume.spatial_axes, volume.voxel_um, volume.spatial_shape, strict=True)
    sizes = {a: v for a, v, n in facts if n > 1}
    low, high = LIKELY_UM
    if odd := [f"{v:g} um along {a}" for a, v in sizes.items() if not low <= v <= high]:
        said.append(f"{volume.path} has a voxel of {', '.join(odd)}, outside {low:g} to {high:g} um; check its unit")
    if "z" in sizes and sizes["z"] < max(volume.voxel_um[1:]) * 0.999:
        said.append(f"{volume.path} has a z step of {sizes['z']:g} um, finer than its pixels; sizes are given z,y,x")
    if volume.frames > 1 and volume.frame_interval_s is None:
        said.append(f"{volume.path} has no frame interval, so times stay in frames; give --frame-interval-s")
    return said
