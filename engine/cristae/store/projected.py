"""Projected: a stack seen along z as one plane, without a copy of it: each pixel is the brightest voxel of its ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise, product

import numpy as np

from cristae.errors import InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.store.volume import Volume


@dataclass(frozen=True)
class Projected(Volume):
    """The brightest voxel along z of `whole`, a volume of planes."""

    whole: Volume | None = None

    @property
    def depth(self) -> int:
        """Planes of the stack."""
        assert self.whole is not None
        return self.whole.spatial_shape[0]

    def read(self, box: Box, t: int = 0, c: int = 0, level: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        """As of any volume, (y, x). The stack is read a chunk at a time, so that no more than one is held."""
        self._index(box, t, c, level)  # refuses what lies outside
        stack = self.whole
        assert stack is not None
        found = np.empty(box.shape, self.dtype) if out is None else out
        depth, (deep, *sides) = stack.spatial_shape[0], stack.chunk
        spans = [_cuts(a, b, n) for a, b, n in zip(box.start, box.stop, sides, strict=True)]
        for (y, y_end), (x, x_end) in product(*spans):
            tile = found[y - box.start[0] : y_end - box.start[0], x - box.start[1] : x_end - box.start[1]]
            for z in range(0, depth, deep):
                part = stack.read(Box((z, y, x), (min(z + deep, depth), y_end, x_end)), t, c)
                brightest = part.max(axis=0)
                tile[...] = brightest if z == 0 else np.maximum(tile, brightest)
        return found

    def write(self, box: Box, array: np.ndarray, t: int = 0, c: int = 0, level: int = 0) -> dict[str, object]:  # type: ignore[override]
        raise PlanRefused(f"{self.name} is a projection, which cristae only reads; write to an OME-Zarr")

    def cropped(self, spans: Mapping[str, tuple[int, int]]) -> Volume:
        """The projection of a part of the stack; without z of all its planes."""
        assert self.whole is not None
        return projected(self.whole.cropped(spans))

    def identity(self) -> dict[str, str]:
        """That of the stack, and that it is projected."""
        assert self.whole is not None
        found = self.whole.identity()
        return {**found, "metadata": f"{found['metadata']} projected"}


def projected(volume: Volume) -> Volume:
    """A stack as the plane of the brightest voxels along z.

    Raises
    ------
    InvalidInput : if it has no z.
    """
    if "z" not in volume.axes:
        raise InvalidInput(f"{volume.path} has no z axis, and nothing to project; leave project out")
    at, level = volume.axes.index("z"), volume.levels[0]
    plane = replace(
        level,
        shape=level.shape[:at] + level.shape[at + 1 :],
        voxel_um=level.voxel_um[1:],
        translation_um=level.translation_um[1:],
        chunk=level.chunk[1:],
        unit=level.unit[1:],
    )
    facts = {name: getattr(volume, name) for name in Volume.__dataclass_fields__}
    axes = volume.axes.replace("z", "")
    seen = {"axes": axes, "levels": (plane,), "source_axes": axes, "origin": ()}
    return Projected(**{**facts, **seen}, whole=volume)


def _cuts(start: int, stop: int, chunk: int) -> list[tuple[int, int]]:
    """A span in pieces that end where chunks do."""
    inner = range((start // chunk + 1) * chunk, stop, chunk)
    edges = [start, *inner, stop]
    return list(pairwise(edges))
