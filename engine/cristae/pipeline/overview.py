"""Overview: the picture a run leaves of an image and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cristae.blocks import answers as stored
from cristae.blocks.work import Image, Work, group_of
from cristae.store.bundle import Bundle

SMALL = 384
"""Pixels of the longest side of a picture that is one of many."""


def overview_key(name: str) -> str:
    """The key of the answer that holds an object's projections."""
    return f"{name}/overview"


def overview_name(image: str, images: Sequence[Image]) -> str:
    """File name of an image's picture: its own name only where there are several."""
    return "overview.png" if len(images) == 1 else f"overview/{image}.png"


@dataclass(frozen=True)
class Overview:
    """The picture of one image's first time point; called with a path, it draws itself there."""

    key: str  # answer of `projections`
    image: int
    object: str
    small: bool = False  # as one of many, which together should take no longer than their labels

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        from cristae.pipeline.picture import MAGNIFIED, SMALLEST, compose, write_png

        number, frame = next((n, f) for n, f in enumerate(work.frames) if f.image == self.image)
        bundle = Bundle(stored.answer_path(work.folder, self.key))
        frames = stored.taken(bundle, group_of("frame", frame, number))
        image = work.images[self.image]
        volume = next(iter(image.volumes.values()))
        voxels = " x ".join(str(n) for n in volume.spatial_shape)
        lines = [f"{self.object}: outlines of the labels over the brightest voxel along each axis", f"{voxels} voxels"]
        if volume.frames > 1:
            lines[-1] += f", time point {frame.t} of {volume.frames}"
        path.parent.mkdir(parents=True, exist_ok=True)
        magnified, smallest = (1, SMALL) if self.small else (MAGNIFIED, SMALLEST)
        write_png(path, compose(frames, title=image.name, lines=lines, magnified=magnified, smallest=smallest))
        return {}
