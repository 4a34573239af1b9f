"""OME: the metadata documents of OME-Zarr, read (0.5 and before) and built (0.5). Dictionaries only, no file.

    multiscales       axes, and per level a path, a scale and a translation
    omero             names, colours and windows of channels
    image-label       marks a label image and names its source

Units are converted here: what leaves `read_image` is micrometres and seconds.
Source: https://ngff.openmicroscopy.org/0.5/ and /0.4/.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import AXES, SPATIAL, Channel, Level
from cristae.store.units import micrometres, seconds

Document = Mapping[str, Any]
OWN = "cristae"
"""The attribute of a group that holds what the standard has no place for."""
_TYPES = {"t": "time", "c": "channel"}


@dataclass(frozen=True, slots=True)
class Dataset:
    """One level as the document describes it: scale and translation in um and s, by axis letter, as far as known."""

    path: str
    scale: Mapping[str, float]
    translation: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Multiscales:
    """The first image of a document."""

    axes: str  # the file's order
    datasets: tuple[Dataset, ...]
    channels: tuple[Channel, ...]
    is_label: bool
    notes: tuple[str, ...]


def ome_of(attributes: Document) -> Document:
    """The OME part of a group's attributes: under `ome` since 0.5, at the top before."""
    ome = attributes.get("ome")
    return ome if isinstance(ome, Mapping) else attributes


def read_image(attributes: Document, where: str, axes: str | None = None) -> Multiscales:
    """The image that a group's attributes describe. `axes` overrides the document's own.

    Raises
    ------
    InvalidInput : naming `where` and what is missing or contradicts itself.
    """
    ome = ome_of(attributes)
    image = _first(ome.get("multiscales"), where, "multiscales")
    described = image.get("axes")
    if described is None and str(image.get("version", "")) in ("0.1", "0.2"):
        described = list(AXES)
    if not isinstance(described, Sequence) or isinstance(described, str) or not described:
        if axes is None:
            raise InvalidInput(f"{where} names no axes in its multiscales; give them, for example --axes zyx")
        described = [{"name": a} for a in axes]
    entries = [{"name": a} if isinstance(a, str) else a for a in described]
    if not all(isinstance(e, Mapping) for e in entries):
        raise InvalidInput(f"{where} has axes that are neither names nor objects: {described!r}")
    letters = axes or _letters(entries, where)
    if len(letters) != len(entries):
        raise InvalidInput(f"{where} has {len(entries)} axes, but --axes {axes} names {len(letters)}")

    outer = _transform(image.get("coordinateTransformations", ()), len(letters), where)
    raw = image.get("datasets")
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        raise InvalidInput(f"{where} lists no datasets in its multiscales; there is no array to read")
    transforms = []
    for entry in raw:
        path = entry.get("path") if isinstance(entry, Mapping) else None
        if not isinstance(path, str):
            raise InvalidInput(f"{where} has a dataset without a path: {entry!r}")
        scale, shift = _transform(entry.get("coordinateTransformations", ()), len(letters), f"{where}, level {path}")
        transforms.append((path, _compose(scale, shift, *outer)))

    units, notes = _units(letters, entries, transforms[0][1][0], where)
    return Multiscales(
        letters,
        tuple(
            Dataset(
                path,
                {a: s * u for a, s, u in zip(letters, scale or (), units, strict=False) if u is not None},
                {a: s * u for a, s, u in zip(letters, shift or (), units, strict=False) if u is not None},
            )
            for path, (scale, shift) in transforms
        ),
        read_channels(ome.get("omero"), where),
        "image-label" in ome,
        notes,
    )


def read_channels(omero: Any, where: str) -> tuple[Channel, ...]:
    """Channels of an `omero` block; empty where there is none."""
    if not isinstance(omero, Mapping):
        return ()
    listed = omero.get("channels", ())
    if not isinstance(listed, Sequence) or isinstance(listed, str) or not all(isinstance(c, Mapping) for c in listed):
        raise InvalidInput(f"{where} has an omero block whose channels are not a list of objects")
    return tuple(
        Channel(str(c.get("label", i)), _color(c.get("color")), _window(c.get("window"))) for i, c in enumerate(listed)
    )


def times_of(described: Mapping[str, Any]) -> tuple[float, ...]:
    """Seconds of each time point, which the standard has no place for: an attribute of our own."""
    own = described.get(OWN)
    times = own.get("times_s", ()) if isinstance(own, Mapping) else ()
    return (
        tuple(map(float, times))
        if isinstance(times, Sequence) and all(isinstance(s, int | float) for s in times)
        else ()
    )


def own_channels(described: Mapping[str, Any]) -> tuple[Channel, ...]:
    """Names of the channels of labels, such as the layers of objects that overlap, from that attribute."""
    own = described.get(OWN)
    names = own.get("channels", ()) if isinstance(own, Mapping) else ()
    sound = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(map(Channel, names)) if sound else ()


def image_document(
    name: str,
    axes: str,
    levels: Sequence[Level],
    frame_interval_s: float | None,
    channels: Sequence[Channel],
    dtype: str,
) -> dict[str, Any]:
    """Group attributes of an image in OME-Zarr 0.5."""
    document: dict[str, Any] = {"version": "0.5", "multiscales": [_multiscales(name, axes, levels, frame_interval_s)]}
    if channels:
        whole = _whole_window(dtype)
        document["omero"] = {
            "channels": [
                {
                    "label": c.name,
                    "color": c.color or "FFFFFF",
                    "window": dict(zip(("min", "max", "start", "end"), c.window or whole, strict=True)),
                    "active": True,
                }
                for c in channels
            ]
        }
    return {"ome": document}


def label_document(
    name: str,
    axes: str,
    levels: Sequence[Level],
    frame_interval_s: float | None,
    source: str | None,
    colors: Mapping[int, tuple[int, int, int, int]],
) -> dict[str, Any]:
    """Group attributes of a label image in OME-Zarr 0.5. `source` is a relative path to the image it was made from."""
    about: dict[str, Any] = {}
    if source is not None:
        about["source"] = {"image": source}
    if colors:
        about["colors"] = [{"label-value": value, "rgba": list(rgba)} for value, rgba in sorted(colors.items())]
    return {
        "ome": {
            "version": "0.5",
            "image-label": about,
            "multiscales": [_multiscales(name, axes, levels, frame_interval_s)],
        }
    }


def _multiscales(name: str, axes: str, levels: Sequence[Level], frame_interval_s: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "axes": [_axis(a, frame_interval_s) for a in axes],
        "datasets": [
            {"path": level.path, "coordinateTransformations": _transformations(axes, level, frame_interval_s)}
            for level in levels
        ],
    }


def _axis(letter: str, frame_interval_s: float | None) -> dict[str, str]:
    axis = {"name": letter, "type": _TYPES.get(letter, "space")}
    if letter in SPATIAL:
        axis["unit"] = "micrometer"
    elif letter == "t" and frame_interval_s is not None:
        axis["unit"] = "second"
    return axis


def _transformations(axes: str, level: Level, frame_interval_s: float | None) -> list[dict[str, Any]]:
    outer = [(frame_interval_s or 1.0) if a == "t" else 1.0 for a in axes if a not in SPATIAL]
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [*outer, *level.voxel_um]}]
    if any(level.translation_um):
        steps.append({"type": "translation", "translation": [*[0.0] * len(outer), *level.translation_um]})
    return steps


def _whole_window(dtype: str) -> tuple[float, float, float, float]:
    if np.dtype(dtype).kind not in "iu":
        return (0.0, 1.0, 0.0, 1.0)
    bounds = np.iinfo(dtype)
    return (int(bounds.min), int(bounds.max), int(bounds.min), int(bounds.max))


def _first(items: Any, where: str, what: str) -> Document:
    if not isinstance(items, Sequence) or isinstance(items, str) or not items or not isinstance(items[0], Mapping):
        raise InvalidInput(f"{where} has no {what} entry, so it is not an OME-Zarr image")
    return items[0]


def _letters(entries: Sequence[Document], where: str) -> str:
    """Axis letters by name, else by type; spatial axes without a usable name are the last of z, y, x in order."""
    names = [str(e.get("name", "")).lower() for e in entries]
    distinct = all(names) and len(set(names)) == len(names)
    if distinct and set(names) <= set(AXES):
        return "".join(names)
    types = [e.get("type") for e in entries]
    count = types.count("space")
    typed = set(types) <= {"time", "channel", "space"} and max(types.count("time"), types.count("channel")) <= 1
    if distinct and typed and count in (2, 3):
        spatial = iter(SPATIAL[-count:])
        return "".join({"time": "t", "channel": "c"}.get(str(t)) or next(spatial) for t in types)
    raise InvalidInput(
        f"{where} has axes named {', '.join(names)}, which are not some of t, c, z, y, x; say which they are, "
        f"for example --axes {AXES[-len(entries) :]}"
    )


Transform = tuple[tuple[float, ...] | None, tuple[float, ...] | None]


def _transform(steps: Any, ndim: int, where: str) -> Transform:
    """Scale and translation of a list of transformations; None where it says nothing."""
    scale: tuple[float, ...] | None = None
    shift: tuple[float, ...] | None = None
    for step in steps if isinstance(steps, Sequence) and not isinstance(steps, str) else (steps,):
        kind = step.get("type") if isinstance(step, Mapping) else None
        if kind == "identity":
            continue
        if kind not in ("scale", "translation") or kind not in step:
            raise InvalidInput(f"{where} has a transformation that is no scale or translation by numbers: {step!r}")
        numbers = step[kind]
        if not isinstance(numbers, Sequence) or [isinstance(n, int | float) for n in numbers] != [True] * ndim:
            raise InvalidInput(f"{where} has a {kind} of {numbers!r} for {ndim} axes")
        values = tuple(map(float, numbers))
        if kind == "scale":
            if scale is not None or shift is not None:
                raise InvalidInput(f"{where} has a second scale, or one after a translation; one scale comes first")
            scale = values
        else:
            if shift is not None:
                raise InvalidInput(f"{where} has a second translation; a level has one at most")
            shift = values
    return scale, shift


def _compose(
    scale: tuple[float, ...] | None,
    shift: tuple[float, ...] | None,
    outer_scale: tuple[float, ...] | None,
    outer_shift: tuple[float, ...] | None,
) -> Transform:
    """The inner transformation followed by the outer one, which holds for all levels."""
    if outer_scale is not None:
        scale = tuple(a * b for a, b in zip(scale, outer_scale, strict=True)) if scale else outer_scale
        shift = tuple(a * b for a, b in zip(shift, outer_scale, strict=True)) if shift else None
    if outer_shift is not None:
        shift = tuple(a + b for a, b in zip(shift, outer_shift, strict=True)) if shift else outer_shift
    return scale, shift


def _units(
    letters: str, entries: Sequence[Document], scale: tuple[float, ...] | None, where: str
) -> tuple[list[float | None], tuple[str, ...]]:
    """Micrometres or seconds per unit of each axis, None where unknown; and what had to be assumed."""
    spatial_scale = [s for a, s in zip(letters, scale or (), strict=False) if a in SPATIAL]
    unset = not spatial_scale or all(s == 1.0 for s in spatial_scale)
    units: list[float | None] = []
    notes = []
    for n, (letter, entry) in enumerate(zip(letters, entries, strict=True)):
        unit = entry.get("unit")
        if letter == "c":
            units.append(None)
        elif isinstance(unit, str) and unit:
            factor = seconds(unit) if letter == "t" else micrometres(unit)
            units.append(factor)
            if factor is None:
                notes.append(f"{where} gives its {letter} axis in {unit!r}, which is no unit that is known for it")
        elif letter == "t":
            units.append(None if scale is None or scale[n] == 1.0 else 1.0)
        else:
            units.append(None if unset else 1.0)
            if not unset:
                notes.append(f"{where} gives no unit for its {letter} axis; its scale is taken as micrometres")
    return units, tuple(notes)


def _color(color: Any) -> str | None:
    return color.lstrip("#").upper() if isinstance(color, str) and color else None


def _window(window: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(window, Mapping):
        return None
    values = [window.get(k) for k in ("min", "max", "start", "end")]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return None
    low, high, dark, bright = (v for v in values if v is not None)
    return (low, high, dark, bright)
