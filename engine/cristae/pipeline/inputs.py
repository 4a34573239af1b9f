"""Inputs: what a command's input options say, and volumes opened by them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cristae.blocks.work import Frame
from cristae.errors import InvalidInput, UsageError
from cristae.store.volume import Volume, open_volume


@dataclass(frozen=True)
class Inputs:
    """The input group of options, which every command that computes takes."""

    axes: str | None = None
    voxel_um: tuple[float, ...] | None = None
    frame_interval_s: float | None = None
    channel: str | int | None = None
    time: tuple[int, int] | None = None
    scene: str | None = None
    crop: Mapping[str, tuple[int, int]] | None = None

    def open(self, path: str) -> Volume:
        volume = open_volume(
            absolute(path),
            axes=self.axes,
            voxel_um=self.voxel_um,
            frame_interval_s=self.frame_interval_s,
            scene=self.scene,
        )
        return volume if self.crop is None else volume.cropped(self.crop)

    def frames(self, number: int, volume: Volume) -> list[Frame]:
        """The time points to do, each on its own."""
        start, stop = self.time or (0, volume.frames)
        if not 0 <= start < stop <= volume.frames:
            raise InvalidInput(f"--time {start}:{stop} is outside the {volume.frames} time points of {volume.path}")
        return [Frame(number, t) for t in range(start, stop)]

    @property
    def facts(self) -> dict[str, Any]:
        return {"channel": self.channel, "time": self.time} | ({} if self.crop is None else {"crop": dict(self.crop)})


def absolute(path: str) -> str:
    """A path as workers find it, whose working folder may be another."""
    if not path:
        raise UsageError("a path on the command line is empty; name a file or folder")
    return os.path.abspath(path)
