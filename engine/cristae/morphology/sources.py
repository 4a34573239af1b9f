"""Sources: what objects are read from, an array in memory or a volume on disk, and the image on the grid of its labels.

    Held     an array that answers like a Volume: axes, voxel size, read(box, t, c)
    Shown    an image as its labels see it: voxel i of the labels looks at voxel floor(i * factor) of the image

The factor is a whole number or one over a whole number, an axis each: labels of a smaller pyramid level, a raw image
that was binned. Any other pair of grids is refused; cristae does not guess how one lies on the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.grid import Box, Shape
from cristae.store.facts import Channel
from cristae.store.volume import Volume, open_volume

if TYPE_CHECKING:
    import xarray


@dataclass(frozen=True, eq=False)
class Held:
    """An array in memory. `axes` are some of t c z y x in this order; channels are named by their numbers."""

    array: np.ndarray
    axes: str
    voxel_um: tuple[float, ...]
    name: str = "array"

    @property
    def path(self) -> str:
        return f"the array {' x '.join(map(str, self.array.shape))}"

    @property
    def dtype(self) -> str:
        return str(self.array.dtype.newbyteorder("=").name)

    @property
    def spatial_axes(self) -> str:
        return self.axes.lstrip("tc")

    @property
    def spatial_shape(self) -> Shape:
        return self.array.shape[-len(self.spatial_axes) :]

    @property
    def translation_um(self) -> tuple[float, ...]:
        return (0.0,) * len(self.spatial_axes)

    @property
    def chunk(self) -> Shape:
        """Whole planes, or rows of a plane: what lies together in memory."""
        return (1, *self.spatial_shape[1:])

    @property
    def frames(self) -> int:
        return self.array.shape[0] if "t" in self.axes else 1

    @property
    def frame_interval_s(self) -> float | None:
        return None

    @property
    def channel_count(self) -> int:
        return self.array.shape[self.axes.index("c")] if "c" in self.axes else 1

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(Channel(str(c)) for c in range(self.channel_count))

    @property
    def layers(self) -> int:
        return 1

    def read(self, box: Box, t: int = 0, c: int = 0) -> np.ndarray:
        """The voxels of `box` at one time and channel; a view."""
        numbers = tuple({"t": t, "c": c}[axis] for axis in self.axes if axis in "tc")
        return np.asarray(self.array[numbers][box.slices])


Source = Volume | Held
Given = Volume | str | Path | np.ndarray


def labels_of(given: Given, voxel_um: Sequence[float] | None) -> Source:
    """The labels that a user gave; an array has as many spatial axes as `voxel_um` has sizes, and may have t before.

    Raises
    ------
    InvalidInput : if an array comes without a voxel size, a volume with a second one, or what is given are no labels.
    """
    source = _opened(given, voxel_um)
    if source is None:
        array = np.asarray(given)
        sizes = tuple(float(v) for v in voxel_um or ())
        if not sizes:
            raise InvalidInput("an array does not know its voxel size; give voxel_um=(z, y, x) in micrometres")
        outer = array.ndim - len(sizes)
        if len(sizes) not in (2, 3) or outer not in (0, 1) or not all(0 < v < np.inf for v in sizes):
            raise InvalidInput(
                f"labels of shape {array.shape} with voxel size {sizes} are no volume; "
                "give [t,] z, y, x or [t,] y, x, and one positive size for each of z, y, x"
            )
        source = Held(array, "t" * outer + "zyx"[-len(sizes) :], sizes)
    elif voxel_um is not None and isinstance(given, Volume):
        raise InvalidInput(f"{source.path} has its own voxel size {source.voxel_um}; leave voxel_um out")
    if np.dtype(source.dtype).kind not in "bui":
        raise InvalidInput(f"labels are whole numbers, but {source.path} holds {source.dtype}; label the mask first")
    if source.channel_count > source.layers:
        raise InvalidInput(f"labels have one channel, but {source.path} has {source.channel_count}; take one of them")
    return source


def image_of(given: Given, voxel_um: Sequence[float] | None, labels: Source) -> Shown:
    """The image that a user gave beside `labels`; an array may have t, where the labels have it, and c before z, y, x.

    Raises
    ------
    InvalidInput : if its axes, its time points or its grid do not go with the labels.
    """
    source = _opened(given, voxel_um)
    ndim = len(labels.spatial_shape)
    if source is None:
        array = np.asarray(given)
        known = ("", "t", "tc") if labels.frames > 1 else ("", "c", "tc")
        outer = array.ndim - ndim
        if outer not in range(len(known)):
            raise InvalidInput(
                f"an image of shape {array.shape} does not go with labels of {labels.spatial_shape}; "
                "give [t,] [c,] and the labels' own z, y, x"
            )
        source = Held(array, known[outer] + labels.spatial_axes, labels.voxel_um)
    if source.frames != labels.frames:
        raise InvalidInput(
            f"labels {labels.path} have {labels.frames} time points but the image {source.path} has {source.frames}; "
            "give the image these labels were made from"
        )
    return Shown(source, _factors(labels, source))


def _opened(given: Given, voxel_um: Sequence[float] | None) -> Source | None:
    if isinstance(given, Volume):
        return given
    if isinstance(given, str | Path):
        return open_volume(given, voxel_um=tuple(voxel_um) if voxel_um is not None else None)
    return None


def _factors(labels: Source, image: Source) -> tuple[tuple[int, int], ...]:
    here, there = labels.spatial_shape, image.spatial_shape
    if len(here) != len(there) or any(max(a, b) % max(1, min(a, b)) for a, b in zip(here, there, strict=True)):
        raise InvalidInput(
            f"labels {labels.path} are {_times(here)} voxels but the image {image.path} is {_times(there)}, which is no "
            "whole number of times as many along each axis; crop or resample one"
        )
    return tuple((max(1, b // max(1, a)), max(1, a // max(1, b))) for a, b in zip(here, there, strict=True))


def _times(shape: Shape) -> str:
    return " x ".join(map(str, shape))


@dataclass(frozen=True, eq=False)
class Shown:
    """An image on the grid of its labels: along each axis, label voxel i looks at image voxel i * up // down."""

    source: Source
    factors: tuple[tuple[int, int], ...]  # (up, down), one of them 1

    def read(self, box: Box, t: int = 0, c: int = 0) -> np.ndarray:
        """The image at the voxels of `box`, which counts in voxels of the labels; has the shape of `box`."""
        if all(factor == (1, 1) for factor in self.factors):
            return self.source.read(box, t, c)
        looks = [
            np.arange(a, b) * up // down for a, b, (up, down) in zip(box.start, box.stop, self.factors, strict=True)
        ]
        seen = Box(tuple(int(i[0]) for i in looks), tuple(int(i[-1]) + 1 for i in looks))
        array = self.source.read(seen, t, c)
        return array[np.ix_(*(i - a for i, a in zip(looks, seen.start, strict=True)))]


def cropped(labels: Source, image: Shown | None, box: Box, label: int, t: int) -> xarray.Dataset:
    """`mask` of one label and, where there is one, `image` in `box` of the labels' grid; coordinates in micrometres."""
    import xarray

    axes = tuple(labels.spatial_axes)
    sides = zip(axes, box.start, box.stop, labels.voxel_um, labels.translation_um, strict=True)
    coordinates: dict[str, Any] = {a: (a, np.arange(i, j) * v + at, {"units": "um"}) for a, i, j, v, at in sides}
    found: dict[str, Any] = {}
    if image is not None:
        shown = [image.read(box, t, c) for c in range(image.source.channel_count)]
        if len(shown) > 1:
            coordinates["c"] = [channel.name for channel in image.source.channels]
            found["image"] = (("c", *axes), np.stack(shown))
        else:
            found["image"] = (axes, shown[0])
    found["mask"] = (axes, np.any([labels.read(box, t, c) == label for c in range(labels.layers)], axis=0))
    about = {"image": labels.name, "t": t, "label": label, "voxel_um": labels.voxel_um}
    return xarray.Dataset(found, coordinates, about)
