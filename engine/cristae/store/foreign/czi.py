"""Zeiss's CZI: planes by time, channel and z, of which any rectangle is decoded alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import extra, reading
from cristae.store.foreign.planes import Planes, gaps_of
from cristae.store.foreign.scenes import chosen, named

PIXELS = {"Gray8": "uint8", "Gray16": "uint16", "Gray32Float": "float32"}
TIMES = ("Information", "Image", "Dimensions", "T", "Positions")
TILE = 1024  # a plane is decoded in tiles of about this size


def find(path: Path, name: str, scene: str | None) -> Found:
    """Axes from the extent of the planes; sizes, channels and times from the metadata document."""
    with reading(path, "CZI"), extra("pylibCZIrw.czi", path).open_czi(str(path)) as file:
        numbers = sorted(file.scenes_bounding_rectangle)
        scenes = [f"scene {n}" for n in numbers] or ["scene 0"]
        number = chosen(path, scenes, scene)
        extent = _extent(file, path)
        y, x = _rectangle(file, number)[2:]
        outer = [a for a in "TCZ" if extent[a] > 1]
        shape = (*(extent[a] for a in outer), y, x)
        about = _metadata(file)
        times = _times_s(about)
        scale = _voxel_um(about) | ({"t": s} if (s := _interval_s(about, times)) is not None and "T" in outer else {})
        chunk = (*[1] * len(outer), min(y, TILE), min(x, TILE))
        axes = "".join(outer).lower() + "yx"
        array = FoundArray(
            str(number), shape, _dtype(file, path), chunk, chunk, {a: s for a, s in scale.items() if a in axes}
        )
        gaps = _gaps(file, number, extent)
        return Found(
            str(path), named(name, scenes, number), "czi", (array,), axes, _channels(about), times_s=times, gaps=gaps
        )


def open_array(path: Path, member: str) -> Planes:
    """One scene, of whose planes only the rectangle that is asked for is decoded."""
    with reading(path, "CZI"):
        file = extra("pylibCZIrw.czi", path).CziReader(str(path))
        extent, dtype = _extent(file, path), np.dtype(_dtype(file, path))
        y, x, height, width = _rectangle(file, int(member))
    axes = [a for a in "TCZ" if extent[a] > 1]

    def tile(place: tuple[int, ...], box: tuple[slice, ...]) -> np.ndarray:
        rows, columns = box
        plane = {"T": 0, "C": 0, "Z": 0} | dict(zip(axes, place, strict=True))
        roi = (x + columns.start, y + rows.start, columns.stop - columns.start, rows.stop - rows.start)
        found: np.ndarray = file.read(plane=plane, roi=roi)
        return found[..., 0]

    return Planes((*(extent[a] for a in axes), height, width), dtype, len(axes), tile, file.close)


def _extent(file: Any, path: Path) -> dict[str, int]:
    box = dict(file.total_bounding_box)
    if odd := [a for a, (start, stop) in box.items() if a not in "TCZYX" and stop - start > 1]:
        raise InvalidInput(f"{path} has an axis {odd[0]}, which is not read; export it with t, c, z, y, x alone")
    return {a: box[a][1] - box[a][0] if a in box else 1 for a in "TCZ"}


def _gaps(file: Any, number: int, extent: Mapping[str, int]) -> str:
    """Planes of a scene of which the file holds nothing at full resolution: a recording that was stopped, or lost a part."""
    scenes = sorted(file.scenes_bounding_rectangle)
    stored = set[tuple[int, ...]]()

    def note(_: int, block: Any) -> bool:
        at = block.coordinate.to_dict()
        if block.get_zoom() == 1 and (not scenes or at.get("S", scenes[number]) == scenes[number]):
            stored.add(tuple(at.get(axis, 0) for axis in "TCZ"))
        return True

    file.enumerate_subblocks(note)
    return gaps_of({axis.lower(): extent[axis] for axis in "TCZ"}, stored)


def _rectangle(file: Any, number: int) -> tuple[int, int, int, int]:
    """y, x, height and width of a scene, at full resolution."""
    scenes = file.scenes_bounding_rectangle
    found = scenes[sorted(scenes)[number]] if scenes else file.total_bounding_rectangle
    return int(found.y), int(found.x), int(found.h), int(found.w)


def _dtype(file: Any, path: Path) -> str:
    kinds = set(file.pixel_types.values())
    if len(kinds) != 1 or not kinds <= set(PIXELS):
        raise InvalidInput(f"{path} holds pixels of {', '.join(sorted(kinds))}; grey values of one type are read")
    return PIXELS[kinds.pop()]


def _metadata(file: Any) -> Mapping[str, Any]:
    document = file.metadata or {}
    found: Mapping[str, Any] = (document.get("ImageDocument") or {}).get("Metadata") or {}
    return found


def _at(node: Any, *route: str) -> list[Mapping[str, Any]]:
    """The elements at a route: one or many look different in this document."""
    for key in route:
        node = node.get(key) if isinstance(node, dict) else None
    return [node] if isinstance(node, dict) else [n for n in node or [] if isinstance(n, dict)]


def _voxel_um(about: Mapping[str, Any]) -> dict[str, float]:
    found = {}
    for item in _at(about, "Scaling", "Items", "Distance"):
        if (axis := str(item.get("@Id", "")).lower()) in ("x", "y", "z") and item.get("Value"):
            found[axis] = float(item["Value"]) * 1e6  # metres
    return found


def _interval_s(about: Mapping[str, Any], times: Sequence[float]) -> float | None:
    """As it was asked for, else the mean of what was noted."""
    for node in _at(about, *TIMES):
        if step := [float(i["Increment"]) for i in _at(node, "Interval") if i.get("Increment")]:
            return step[0]
    return (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else None


def _times_s(about: Mapping[str, Any]) -> tuple[float, ...]:
    """When each time point was recorded, where it is noted."""
    listed = [found for node in _at(about, *TIMES) for found in _at(node, "List")]
    return tuple(float(s) for s in str(listed[0].get("Offsets", "")).split()) if listed else ()


def _channels(about: Mapping[str, Any]) -> tuple[Channel, ...]:
    """Names and colours, which lie in two places: what was recorded, and how it is shown."""
    taken = _at(about, "Information", "Image", "Dimensions", "Channels", "Channel")
    shown = _at(about, "DisplaySetting", "Channels", "Channel")
    shown += [{}] * (len(taken) - len(shown))
    return tuple(
        Channel(str(a.get("@Name") or b.get("@Name") or n), _rgb(a.get("Color") or b.get("Color")))
        for n, (a, b) in enumerate(zip(taken, shown, strict=False))
    )


def _rgb(color: Any) -> str | None:
    """#AARRGGBB without its first byte, which is opacity."""
    text = str(color or "").lstrip("#")
    return text[-6:].upper() if len(text) in (6, 8) else None
