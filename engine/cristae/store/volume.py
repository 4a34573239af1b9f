"""Volume: one image or label, opened lazily; a frozen fact that travels, whose voxels stay where they are.

    open_volume   OME-Zarr 0.4 and 0.5, plain Zarr, TIFF, .npy, .npz
    Volume        axes, shape, voxel size, channels, levels; read(box), write(box, array), xarray(), identity()

Axes are some of t, c, z, y, x, always in this order and always ending in y, x, whatever the order in the file. A Box is
spatial; t and c are numbers beside it. Lengths are micrometres, times seconds. A process opens an array when it first
reads from it, never before a fork.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cristae.errors import CristaeError, InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.store import foreign
from cristae.store.facts import AXES, SPATIAL, Channel, Found, FoundArray, Kind, Level, Reader, VoxelSizeWarning
from cristae.store.finding import find

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

    def _extent(self, axis: str) -> int:
        return self.shape[self.axes.index(axis)] if axis in self.axes else 1

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
        raise InvalidInput(f"{self.path} has no channel {channel!r}; it has {', '.join(f'{i}: {n}' for i, n in enumerate(names))}")

    def read(self, box: Box, t: int = 0, c: int = 0, level: int = 0) -> np.ndarray:
        """The voxels of `box` at one time and channel, C-contiguous, (z, y, x) or (y, x), in native byte order.

        Raises
        ------
        Damaged : if what is stored is not what was written.
        InvalidInput : if a foreign file ends early or cannot be decoded.
        """
        index = self._index(box, t, c, level)
        array = _opened(self, level)
        if self.reader == "zarr":
            from cristae.store import zarr_arrays

            data = zarr_arrays.read(array, self._root(level), index)
        else:
            try:
                data = np.asarray(array[index])
            except Exception as error:
                if isinstance(error, MemoryError | CristaeError) or (isinstance(error, OSError) and error.errno is not None):
                    raise
                raise InvalidInput(f"{self.path} cannot be decoded at {box.start} to {box.stop}: {error}") from error
        order = [a for a in self.source_axes if a in SPATIAL]
        data = data.transpose([order.index(a) for a in self.spatial_axes])
        return np.ascontiguousarray(data, dtype=self.dtype)

    def write(self, box: Box, array: np.ndarray, t: int = 0, c: int = 0, level: int = 0) -> dict[str, Put]:
        """Store `array` at `box`, durably; returns what was put, by key relative to the level.

        Raises
        ------
        PlanRefused : if the box cuts a stored object, which another task may be writing.
        CristaeError : if the disk is full.
        """
        facts = self.levels[level]
        spatial = facts.shape[-len(self.spatial_axes) :]
        if self.reader != "zarr":
            raise PlanRefused(f"{self.path} is a {self.reader} file, which cristae only reads; write to an OME-Zarr")
        for a, b, unit, n in zip(box.start, box.stop, facts.unit, spatial, strict=True):
            if a % unit or (b % unit and b != n):
                raise PlanRefused(
                    f"the box {box.start} to {box.stop} cuts stored objects of {facts.unit} voxels in {self._root(level)}; "
                    "write whole ones, as `--block` a multiple of them does"
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
        """What a run's key knows of this input: digests of its metadata and of its objects' sizes and modification marks.

        No path is part of it. `metadata` covers the documents and what the user overrode.
        """
        metadata = blake2b(digest_size=16)
        root = Path(self.path)
        level = self._root(0)
        for folder in dict.fromkeys((root, level)):
            for name in _DOCUMENTS:
                if folder.is_dir() and (folder / name).exists():
                    metadata.update(name.encode() + (folder / name).read_bytes())
        facts = (self.source_axes, self.dtype, self.levels, self.channels, self.frame_interval_s, self.kind)
        metadata.update(repr(facts).encode())
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
            raise InvalidInput(f"{self.path} has {self.frames} frames and {self.channel_count} channels, but t {t} and c {c} were asked for")
        at: dict[str, int | slice] = {"t": t, "c": c, **dict(zip(self.spatial_axes, box.slices, strict=True))}
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
    if reader == "npz":
        return foreign.open_npz(path, member)
    return foreign.open_npy(path) if reader == "npy" else foreign.open_tiff(path)


def open_volume(
    path: str | Path,
    *,
    axes: str | None = None,
    voxel_um: tuple[float, ...] | None = None,
    frame_interval_s: float | None = None,
) -> Volume:
    """Open one image or label; no voxel is read. The arguments override what the file says.

    path : an OME-Zarr group, a label in one (`x.ome.zarr/labels/mito`), a Zarr array, a TIFF, .npy, or FILE.npz:NAME
    axes : letters of the file's axes in the file's order, such as "zyx" or "zcyx"
    voxel_um : spatial, (z, y, x) or (y, x)

    Raises
    ------
    InvalidInput : if the file cannot be read, or says too little and the option that would say it was not given.
    """
    found = find(str(path), axes)
    notes = found.notes if voxel_um is None else ()
    order = _axes(found, axes)
    scales = [_scale(found, a, order, voxel_um) for a in found.arrays]
    interval = frame_interval_s if frame_interval_s is not None else scales[0].get("t")
    if interval is not None and not 0 < interval < math.inf:
        raise InvalidInput(f"{path} has a frame interval of {interval} s, which is not a time; give --frame-interval-s")
    sorted_axes = "".join(a for a in AXES if a in order)
    volume = Volume(
        path=found.path,
        name=found.name,
        axes=sorted_axes,
        dtype=found.arrays[0].dtype,
        levels=tuple(_level(a, order, s) for a, s in zip(found.arrays, scales, strict=True)),
        channels=_channels(found.channels, found.arrays[0].shape[order.index("c")] if "c" in order else 1),
        frame_interval_s=interval if "t" in order else None,
        kind=found.kind,
        reader=found.reader,
        source_axes=order,
        label=found.label,
    )
    for note in (*notes, *_doubts(volume)):
        warnings.warn(note, VoxelSizeWarning, stacklevel=2)
    return volume


def _axes(found: Found, axes: str | None) -> str:
    """The file's order of axes, in letters t c z y x."""
    shape = found.arrays[0].shape
    example = foreign.suggested_axes(len(shape), found.axes)
    if axes is not None:
        axes = axes.lower()
        if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= set(AXES):
            raise InvalidInput(
                f"--axes {axes} does not fit {found.path}, whose shape is {shape}: give one of the letters t, c, z, y, x an axis, "
                f"y and x among them, for example --axes {example}"
            )
    elif found.axes is None and len(shape) == 2:
        axes = "yx"
    elif found.axes is not None and {"y", "x"} <= set(found.axes) <= set(AXES):
        axes = found.axes
    else:
        raise InvalidInput(f"{found.path} does not say which axes its shape {shape} has; give them, for example --axes {example}")
    if not all(shape):
        raise InvalidInput(f"{found.path} holds no voxels: its shape is {shape}")
    if np.dtype(found.arrays[0].dtype).kind not in "biuf":
        raise InvalidInput(f"{found.path} holds {found.arrays[0].dtype}, which is not a kind of voxel; real numbers are read")
    return axes


def _scale(found: Found, array: FoundArray, order: str, voxel_um: tuple[float, ...] | None) -> dict[str, float]:
    """Micrometres or seconds a step, by axis; a voxel size of the user holds for level 0, and coarser ones in proportion."""
    spatial = [a for a in AXES if a in order and a in SPATIAL]
    example = f"--voxel-um {'0.3,0.1,0.1' if len(spatial) == 3 else '0.1,0.1'}"
    scale = dict(array.scale)
    if voxel_um is not None:
        if len(voxel_um) != len(spatial):
            raise InvalidInput(
                f"--voxel-um gives {len(voxel_um)} sizes, but {found.path} has the axes {', '.join(spatial)}; for example {example}"
            )
        finest = found.arrays[0].shape
        ratios = (round(finest[n] / array.shape[n]) for n in map(order.index, spatial))
        scale |= {a: v * r for a, v, r in zip(spatial, voxel_um, ratios, strict=True)}
    if missing := [a for a in spatial if a not in scale]:
        raise InvalidInput(
            f"{found.path} does not say how large a voxel is along {', '.join(missing)}"
            f"{'; ' + found.notes[0] if found.notes else ''}; give it in micrometres, for example {example}"
        )
    for a in spatial:
        if not 0 < scale[a] < math.inf:
            raise InvalidInput(f"{found.path} has a voxel size of {scale[a]} um along {a}; give it in micrometres, for example {example}")
    return scale


def _level(array: FoundArray, order: str, scale: dict[str, float]) -> Level:
    spatial = [a for a in SPATIAL if a in order]
    at = [order.index(a) for a in spatial]
    return Level(
        path=array.path,
        shape=tuple(array.shape[order.index(a)] for a in AXES if a in order),
        voxel_um=tuple(float(scale[a]) for a in spatial),
        translation_um=tuple(float(array.translation.get(a, 0.0)) for a in spatial),
        chunk=tuple(array.chunk[n] for n in at),
        unit=tuple(array.unit[n] for n in at),
    )


def _channels(known: tuple[Channel, ...], count: int) -> tuple[Channel, ...]:
    return known[:count] + tuple(Channel(str(n)) for n in range(len(known), count))


def _doubts(volume: Volume) -> list[str]:
    """What is unlikely about a voxel size, one sentence each."""
    said = []
    spaced = [(a, v) for a, v, n in zip(volume.spatial_axes, volume.voxel_um, volume.spatial_shape, strict=True) if n > 1]
    low, high = LIKELY_UM
    if odd := [f"{v:g} um along {a}" for a, v in spaced if not low <= v <= high]:
        said.append(f"{volume.path} has a voxel of {', '.join(odd)}, outside {low:g} to {high:g} um; check the unit, or give --voxel-um")
    sizes = dict(spaced)
    if "z" in sizes and sizes["z"] < min(volume.voxel_um[1:]) * 0.999:
        said.append(f"{volume.path} has a z step of {sizes['z']:g} um, finer than its pixels; check the order of --voxel-um z,y,x")
    if volume.frames > 1 and volume.frame_interval_s is None:
        said.append(f"{volume.path} has no frame interval, so times stay in frames; give --frame-interval-s")
    return said
