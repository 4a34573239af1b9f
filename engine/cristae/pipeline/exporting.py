"""Exporting: labels as OME-TIFF, for programs that do not read OME-Zarr."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput, PlanRefused
from cristae.grid import Box
from cristae.pipeline.status import finished_arrays, opened, runs_at
from cristae.store.foreign.tiff import write_planes
from cristae.store.volume import Volume, open_volume


def arrays_of(output: str) -> list[Path]:
    """The arrays that the runs at an output have finished, labels and images; for a store or label itself, that.

    Raises
    ------
    InvalidInput : if there is none.
    """
    place = Path(output)
    if (place / "zarr.json").exists() and not (place / ".cristae").is_dir():
        return [place]
    found = [path for state in runs_at(output) for _, path in finished_arrays(opened(state)[0])]
    if not found:
        raise InvalidInput(f"{output} holds no finished labels; run its command to the end first")
    return list(dict.fromkeys(found))


def export_folder(output: str) -> Path:
    """Where exported files go by default: `export` in the folder of a run; for a single array, beside its store."""
    place = Path(output)
    if (place / ".cristae").is_dir() or not (place / "zarr.json").exists():
        return place / "export"
    store = place.absolute()
    while (store.parent / "zarr.json").exists() or (
        store.parent.name == "labels" and (store.parent.parent / "zarr.json").exists()
    ):
        store = store.parent
    return store.parent / "export"


def export(source: Path, final: Path) -> None:
    """One array as an OME-TIFF with its voxel size; plane by plane, so that it never lies whole in memory.

    Raises
    ------
    PlanRefused : if something lies at `final` already.
    """
    if final.exists():
        raise PlanRefused(f"{final} exists already, perhaps of an earlier result; move it away, or give another --out")
    volume = open_volume(source, doubts=False)
    final.parent.mkdir(parents=True, exist_ok=True)
    unfinished = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        write_planes(unfinished, _planes(volume), volume)
        os.replace(unfinished, final)
    finally:
        unfinished.unlink(missing_ok=True)


def _planes(volume: Volume) -> Iterator[np.ndarray[Any, Any]]:
    """Every plane in the order t, c, z; slabs of planes are read together."""
    depth, plane = (
        (volume.spatial_shape[0], volume.spatial_shape[1:]) if "z" in volume.axes else (1, volume.spatial_shape)
    )
    for t in range(volume.frames):
        for c in range(volume.channel_count):
            step = volume.chunk[0] if "z" in volume.axes else 1
            for z in range(0, depth, step):
                stop = min(z + step, depth)
                box = Box((z, *(0,) * len(plane)), (stop, *plane)) if "z" in volume.axes else Box.whole(plane)
                yield from volume.read(box, t, c).reshape(-1, *plane)
