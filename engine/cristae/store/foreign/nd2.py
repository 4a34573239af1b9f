"""Nikon's ND2: positions are scenes; a frame is one plane with all its channels."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import extra, reading
from cristae.store.foreign.planes import Planes, gaps_of
from cristae.store.foreign.scenes import chosen, named
from cristae.store.foreign.voxels import number_type

KNOWN = {"T": "t", "Z": "z", "C": "c", "S": "c", "Y": "y", "X": "x"}
"""Letters of its axes; S are the samples of a colour image."""


def find(path: Path, name: str, scene: str | None) -> Found:
    """Axes, sizes, channels and times as the file's own metadata has them."""
    with reading(path, "ND2"), extra("nd2", path).ND2File(path) as file:
        sizes = dict(file.sizes)
        scenes = [f"position {n}" for n in range(sizes.pop("P", 1))]
        number = chosen(path, scenes, scene)
        if odd := [axis for axis in sizes if axis not in KNOWN] or ({"C", "S"} <= set(sizes) and ["S"]):
            raise InvalidInput(f"{path} has an axis {odd[0]}, which is not read; export it with t, c, z, y, x alone")
        voxel = file.voxel_size()
        scale = {"y": float(voxel.y), "x": float(voxel.x)} | ({"z": float(voxel.z)} if "Z" in sizes else {})
        if (interval := _interval_s(file)) is not None and "T" in sizes:
            scale["t"] = interval
        axes, shape = "".join(KNOWN[a] for a in sizes), tuple(sizes.values())
        chunk = tuple(n if a in "CSYX" else 1 for a, n in sizes.items())
        array = FoundArray(str(number), shape, number_type(np.dtype(file.dtype), path), chunk, chunk, scale)
        gaps = _gaps(file, number)
        return Found(
            str(path),
            named(name, scenes, number),
            "nd2",
            (array,),
            axes,
            _channels(file),
            times_s=_times_s(file, number),
            gaps=gaps,
        )


def open_array(path: Path, member: str) -> Planes:
    """One position, frame by frame."""
    with reading(path, "ND2"):
        file = extra("nd2", path).ND2File(path)
        sizes = dict(file.sizes)
        loops = [a for a in sizes if a not in "CSYX"]
        outer = [a for a in loops if a != "P"]
        inner = [a for a in sizes if a in "CSYX"]

    def frame(place: tuple[int, ...], box: tuple[slice, ...]) -> np.ndarray:
        at = dict(zip(outer, place, strict=True)) | {"P": int(member)}
        number = np.ravel_multi_index([at[a] for a in loops], [sizes[a] for a in loops]) if loops else 0
        return np.asarray(file.read_frame(int(number))).reshape([sizes[a] for a in inner])[box]

    return Planes(tuple(sizes[a] for a in (*outer, *inner)), np.dtype(file.dtype), len(outer), frame, file.close)


def _gaps(file: Any, position: int) -> str:
    """Frames of a position that the file's map does not have; the library gives zeros for them."""
    recorded = getattr(getattr(file, "_rdr", None), "_frame_offsets", None)
    if recorded is None:
        return ""
    loops = {a: n for a, n in file.sizes.items() if a not in "CSYX"}
    places = (np.unravel_index(n, list(loops.values())) for n in recorded if n < prod(loops.values()))
    seen = [dict(zip(loops, map(int, place), strict=True)) for place in places] if loops else []
    stored = {tuple(at.get(a, 0) for a in "TZ") for at in seen if at.get("P", position) == position}
    return gaps_of({a.lower(): loops.get(a, 1) for a in "TZ"}, stored if loops else {(0, 0)} if recorded else set())


def _channels(file: Any) -> tuple[Channel, ...]:
    found = [c.channel for c in getattr(file.metadata, "channels", None) or ()]
    return tuple(Channel(c.name, f"{c.color.r:02X}{c.color.g:02X}{c.color.b:02X}") for c in found)


def _times_s(file: Any, position: int) -> tuple[float, ...]:
    """When the first plane of each time point was recorded, where it is noted."""
    noted = file.events(orient="dict") if "T" in file.sizes else {}
    loops = {a: n for a, n in file.sizes.items() if a not in "CSYX"}
    numbers = [
        int(np.ravel_multi_index([t if a == "T" else position if a == "P" else 0 for a in loops], list(loops.values())))
        for t in range(loops.get("T", 0))
    ]
    when = {
        int(n): float(noted["Time [s]"][row])
        for row, n in noted.get("Index", {}).items()
        if row in noted.get("Time [s]", {})
    }
    return tuple(when[n] for n in numbers) if all(n in when for n in numbers) else ()


def _interval_s(file: Any) -> float | None:
    """Mean time between frames: as it was measured, else as it was asked for."""
    for loop in file.experiment or ():
        if "Time" in type(loop).__name__:
            params = loop.parameters
            measured = getattr(getattr(params, "periodDiff", None), "avg", 0)
            period = measured or getattr(params, "periodMs", 0)
            return float(period) / 1000 if period else None
    return None
