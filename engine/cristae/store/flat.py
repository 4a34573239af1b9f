"""Flat: an image of even light, as a volume beside each image that it belongs to: the same plane at every depth and time."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

import numpy as np

from cristae.errors import InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.store.volume import Volume, open_volume


@dataclass(frozen=True)
class Flat(Volume):
    """`plane` less `offset`, divided by its mean, float32; it has the axes, shape and channels of the image it belongs to."""

    plane: Volume | None = None
    offset: float = 0.0
    corner: tuple[int, int] = (0, 0)  # of the image in the plane, where it is a crop

    def read(self, box: Box, t: int = 0, c: int = 0, level: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """As of any volume. A plane of one channel serves every channel of the image."""
        self._index(box, t, c, level)  # refuses what lies outside
        assert self.plane is not None
        rows, columns = (
            slice(a + first, b + first) for a, b, first in zip(box.start[-2:], box.stop[-2:], self.corner, strict=True)
        )
        found = np.empty(box.shape, self.dtype) if out is None else out
        found[...] = _light(self.plane, c if self.plane.channel_count > 1 else 0, self.offset)[rows, columns]
        return found

    def write(self, box: Box, array: np.ndarray, t: int = 0, c: int = 0, level: int = 0) -> dict[str, object]:  # type: ignore[override]
        raise PlanRefused(f"{self.path} is only read; write to an OME-Zarr")

    def cropped(self, spans: Mapping[str, tuple[int, int]]) -> Volume:
        """That of a part of the image."""
        first = tuple(n + spans.get(axis, (0, 0))[0] for n, axis in zip(self.corner, "yx", strict=True))
        return replace(super().cropped(spans), corner=first)  # type: ignore[call-arg]

    def identity(self) -> dict[str, str]:
        """That of the plane; the offset is the step's."""
        assert self.plane is not None
        return self.plane.identity()


def flat_of(path: str, image: Volume, corner: tuple[int, int] | None, offset: float) -> Flat:
    """The light of an image, from a file of one plane. corner : of the image in the plane, where it is a crop

    Raises
    ------
    InvalidInput : if the file cannot be opened, is no plane of the image's size, has neither one channel nor the image's, or is
        no brighter than the offset.
    """
    plane = _opened(path, image)
    size, found = image.spatial_shape[-2:], plane.spatial_shape[-2:]
    if plane.frames * prod(plane.spatial_shape[:-2]) > 1:
        raise InvalidInput(f"the flat field {path} has several planes ({plane.axes} {plane.shape}); give a single one")
    ends = tuple(n + first for n, first in zip(size, corner or (0, 0), strict=True))
    if found != ends and (corner is None or any(n > has for n, has in zip(ends, found, strict=True))):
        raise InvalidInput(
            f"the flat field {path} is {found[0]} x {found[1]} pixels but {image.path} is {size[0]} x {size[1]}; "
            "give one of the same camera and binning"
        )
    if plane.channel_count not in (1, image.channel_count):
        raise InvalidInput(
            f"the flat field {path} has {plane.channel_count} channels but {image.path} has {image.channel_count}; "
            "give one for all, or one for each"
        )
    for c in range(plane.channel_count):
        _light(plane, c, offset)
    _doubt(path, image)
    facts = {name: getattr(image, name) for name in Volume.__dataclass_fields__}
    own = {"path": plane.path, "name": plane.name, "dtype": "float32", "kind": "image", "reader": plane.reader}
    seen = {"levels": image.levels[:1], "source_axes": image.axes, "origin": (), "label": None}
    return Flat(**{**facts, **own, **seen}, plane=plane, offset=offset, corner=corner or (0, 0))


def _doubt(path: str, image: Volume) -> None:
    """Another pixel size than the image's is often another objective, whose light is not that of the image."""
    with suppress(InvalidInput):
        own, pixel = open_volume(path, doubts=False).voxel_um[-2:], image.voxel_um[-2:]
        if any(abs(a - b) > 0.01 * b for a, b in zip(own, pixel, strict=True)):
            sizes = (" x ".join(f"{v:g}" for v in of) for of in (own, pixel))
            warnings.warn(
                f"the flat field {path} has pixels of {next(sizes)} um but the image {next(sizes)}: is it of the same objective?",
                stacklevel=2,
            )


def _opened(path: str, image: Volume) -> Volume:
    """A plane needs no voxel size of its own: the image has one."""
    pixel = image.voxel_um[-2:]
    try:
        return open_volume(path, voxel_um=pixel, doubts=False)
    except InvalidInput as error:
        for axes, size in ((None, (1.0, *pixel)), ("yx", pixel), ("cyx", pixel)):
            with suppress(InvalidInput):
                return open_volume(path, axes=axes, voxel_um=size, doubts=False)
        raise InvalidInput(f"the flat field: {error}") from None


@lru_cache(maxsize=8)
def _light(plane: Volume, c: int, offset: float) -> np.ndarray:
    """(y, x) float32 around 1."""
    seen = plane.read(Box.whole(plane.spatial_shape), c=c).astype(np.float64).reshape(plane.spatial_shape[-2:]) - offset
    if not np.isfinite(seen).all():
        raise InvalidInput(f"the flat field {plane.path} holds NaN or infinite pixels; replace them before the run")
    if not seen.mean() > 0:
        raise InvalidInput(
            f"the flat field {plane.path} is {seen.mean() + offset:g} in the mean, no brighter than the offset of {offset:g}, and "
            "nothing can be divided by it; give a lower offset"
        )
    found: np.ndarray = (seen / seen.mean()).astype(np.float32)
    return found
