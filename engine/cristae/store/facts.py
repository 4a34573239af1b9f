"""Facts: what a volume is, and what a file says about itself, before a voxel is read.

    Channel   name, colour and display window
    Level     one resolution: where it lies, its shape, chunks, voxel size
    Found     what a reader found in a file; may lack what only the user knows

Lengths are micrometres and times seconds. `Found` keeps the file's order of axes; a `Level` is sorted t, c, z, y, x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AXES = "tczyx"
SPATIAL = "zyx"
Kind = Literal["image", "label"]
Reader = Literal["zarr", "tiff", "npy", "npz", "czi", "nd2", "lif", "ims", "hdf5", "runs"]


class GapWarning(UserWarning):
    """A file lacks planes of its image."""


class VoxelSizeWarning(UserWarning):
    """A voxel size or frame interval that is missing, assumed, or unlikely for a microscope."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: `color` is RRGGBB in hex, `window` the (lowest, highest, darkest, brightest) value for display."""

    name: str
    color: str | None = None
    window: tuple[float, float, float, float] | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of a volume; level 0 is the finest. All but `shape` is spatial, (z, y, x) or (y, x)."""

    path: str  # of the array inside the store
    shape: tuple[int, ...]  # full, t and c included
    voxel_um: tuple[float, ...]
    translation_um: tuple[float, ...]  # centre of the first voxel
    chunk: tuple[int, ...]  # voxels decoded at once
    unit: tuple[int, ...]  # voxels written at once: the shard, or the chunk where there are no shards


@dataclass(frozen=True, slots=True)
class FoundArray:
    """One array of a file, in the file's order of axes."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    unit: tuple[int, ...]
    scale: Mapping[str, float]  # um or s by axis letter, as far as the file says
    translation: Mapping[str, float] = field(default_factory=dict)  # um by axis letter


@dataclass(frozen=True, slots=True)
class Found:
    """What a reader found: enough for a Volume once axes and voxel size are known."""

    path: str
    name: str
    reader: Reader
    arrays: tuple[FoundArray, ...]
    axes: str | None = None  # the file's order, in its own letters
    channels: tuple[Channel, ...] = ()
    kind: Kind = "image"
    label: str | None = None
    notes: tuple[str, ...] = ()  # doubts about the voxel size, one sentence each; moot where the user gives one
    times_s: tuple[float, ...] = ()  # of each time point since the recording began, where the file says so
    gaps: str = ""  # planes that were never recorded, and read as 0
