"""Imaris's IMS: HDF5 with a dataset for every time point and channel, padded to whole chunks."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import extra, reading
from cristae.store.foreign.voxels import number_type

FULL = "DataSet/ResolutionLevel 0"


def find(path: Path, name: str, scene: str | None) -> Found:
    """Sizes, physical extent, channels and times of the finest level."""
    with reading(path, "Imaris"), extra("h5py", path).File(path, "r") as file:
        shape, axes, data = _layout(file)
        about = file.get("DataSetInfo", {})
        extent = about["Image"].attrs if "Image" in about else {}
        scale = {}
        for n, axis in enumerate("xyz"):
            low, high = _number(extent, f"ExtMin{n}"), _number(extent, f"ExtMax{n}")
            if low is not None and high is not None and high > low and axis in axes:
                scale[axis] = (high - low) / shape[axes.index(axis)]
        times = _times_s(about)
        if len(times) > 1 and times[-1] > times[0] and "t" in axes:
            scale["t"] = (times[-1] - times[0]) / (len(times) - 1)
        inner = data.chunks or data.shape
        chunk = (*[1] * (len(shape) - len(inner)), *(min(c, n) for c, n in zip(inner, shape[-len(inner) :])))
        array = FoundArray("0", shape, number_type(data.dtype, path), chunk, chunk, scale)
        channels = _channels(about, shape[axes.index("c")] if "c" in axes else 1)
        return Found(str(path), name, "ims", (array,), axes, channels, times_s=times)


def open_array(path: Path, member: str) -> Any:
    """The finest level, chunk by chunk."""
    with reading(path, "Imaris"):
        file = extra("h5py", path).File(path, "r")
        shape, axes, data = _layout(file)
    return Stacks(file, shape, axes, data.dtype)


class Stacks:
    """A stack for each time point and channel, of which any box is read alone; h5py has a lock of its own."""

    def __init__(self, file: Any, shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype, self._file, self._axes = shape, dtype, file, axes

    def __getitem__(self, index: tuple[int | slice, ...]) -> np.ndarray:
        at = dict(zip(self._axes, index, strict=True))
        data = self._file[_data(at.pop("t", 0), at.pop("c", 0))]
        return np.asarray(data[tuple(at.values())])


def _data(t: int | slice, c: int | slice) -> str:
    return f"{FULL}/TimePoint {t}/Channel {c}/Data"


def _layout(file: Any) -> tuple[tuple[int, ...], str, Any]:
    """Shape and axes without the padding of chunks, and the first dataset."""
    data, full = file[_data(0, 0)], file[FULL]
    frames = sum(name.startswith("TimePoint ") for name in full)
    channels = sum(name.startswith("Channel ") for name in full["TimePoint 0"])
    about = file[f"{FULL}/TimePoint 0/Channel 0"].attrs
    sizes = [_number(about, f"ImageSize{axis}") for axis in "ZYX"]
    spatial = tuple(int(s) if s is not None else n for s, n in zip(sizes, data.shape, strict=True))
    outer = {a: n for a, n in (("t", frames), ("c", channels)) if n > 1}
    return (*outer.values(), *spatial), "".join(outer) + "zyx", data


def _text(attributes: Any, name: str) -> str | None:
    """An attribute as Imaris writes it, one letter an element."""
    value = attributes.get(name)
    return None if value is None else b"".join(np.asarray(value, "S1").tolist()).decode("utf-8", "replace")


def _number(attributes: Any, name: str) -> float | None:
    text = _text(attributes, name)
    return None if text is None else float(text)


def _times_s(about: Any) -> tuple[float, ...]:
    """Time stamps, in seconds since the first."""
    stamps = about["TimeInfo"].attrs if "TimeInfo" in about else {}
    texts = [t for n in range(1, len(stamps) + 1) if (t := _text(stamps, f"TimePoint{n}")) is not None]
    when = [datetime.fromisoformat(t) for t in texts]
    return tuple((one - when[0]).total_seconds() for one in when)


def _channels(about: Any, count: int) -> tuple[Channel, ...]:
    found = []
    for c in range(count):
        attributes = about[f"Channel {c}"].attrs if f"Channel {c}" in about else {}
        parts = [float(p) for p in (_text(attributes, "Color") or "").split()]
        color = "".join(f"{round(255 * min(max(p, 0), 1)):02X}" for p in parts) if len(parts) == 3 else None
        found.append(Channel(_text(attributes, "Name") or str(c), color))
    return tuple(found)
