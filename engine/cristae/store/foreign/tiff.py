"""TIFF in its dialects: OME, ImageJ, tifffile's own, and tags alone; each series is a scene, opened lazily."""

from __future__ import annotations

import json
import logging
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from cristae.errors import InvalidInput, MissingExtra
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.foreign.libraries import reading
from cristae.store.foreign.scenes import chosen, named
from cristae.store.foreign.voxels import mapped_chunk
from cristae.store.units import micrometres, seconds

if TYPE_CHECKING:
    from cristae.store.volume import Volume

PRINTING_DPI = (72, 96, 100, 150, 200, 300, 600, 1200)
"""Resolutions of printers and screens, which programs write into TIFF tags without knowing the pixel size."""


def find(path: Path, name: str, scene: str | None) -> Found:
    """What a TIFF says about one of its series: OME-XML, else ImageJ's text, else tags.

    Raises
    ------
    InvalidInput : if it is no TIFF, or shorter than its own directory says.
    MissingExtra : if its compression needs a codec that is not installed.
    """
    with reading(path, "TIFF"), _tiff(path) as tiff:
        names = [s.name or f"series {n}" for n, s in enumerate(tiff.series)]
        number = chosen(path, names, scene) if names else 0
        series = _series(tiff, path, number)
        page = series.keyframe
        _check_whole(tiff, series, path)
        _check_codec(page, path)
        chunk = mapped_chunk(series.shape, series.dtype) if _can_map(series) else _tiff_chunk(series, path)
        scale, notes = _tags(page, path)
        channels: tuple[Channel, ...] = ()
        times: tuple[float, ...] = ()
        if tiff.is_imagej and tiff.imagej_metadata:
            scale = _imagej(tiff.imagej_metadata, page) or scale
        elif tiff.is_ome and tiff.ome_metadata:
            described, channels, times = _ome_xml(tiff.ome_metadata, path, number)
            scale = scale | described
        elif series.kind == "shaped":
            scale = scale | _shaped(page.description)
        if "x" in scale:
            notes = ()
        array = FoundArray(str(number), series.shape, series.dtype.newbyteorder("=").name, chunk, chunk, scale)
        axes = series.axes.lower()
        return Found(
            str(path), named(name, names, number), "tiff", (array,), axes, channels, notes=notes, times_s=times
        )


def open_array(path: Path, member: str) -> Any:
    """One series of a TIFF as a lazy array in the file's order of axes."""
    import zarr
    from tifffile.zarr import ZarrTiffStore

    tiff = _tiff(path)
    series = _series(tiff, path, int(member))
    if _can_map(series):
        tiff.close()
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    return zarr.open_array(ZarrTiffStore(series, level=0), mode="r")


def _tiff(path: Path) -> Any:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said once, by us
    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError, IndexError) as error:
        raise InvalidInput(f"{path} is not a TIFF file: {error}") from error


def _series(tiff: Any, path: Path, number: int) -> Any:
    if not tiff.series or not math.prod(tiff.series[number].shape):
        raise InvalidInput(f"{path} is a TIFF without an image")
    return tiff.series[number]


def _can_map(series: Any) -> bool:
    """Whether the voxels lie in the file one after the other, uncompressed."""
    page = series.keyframe
    return series.dataoffset is not None and page.is_memmappable and not series.is_multifile


def _tiff_chunk(series: Any, path: Path) -> tuple[int, ...]:
    import zarr
    from tifffile.zarr import ZarrTiffStore

    try:
        return tuple(zarr.open_array(ZarrTiffStore(series, level=0), mode="r").chunks)
    except Exception as error:
        raise InvalidInput(f"{path} is a TIFF whose strips or tiles cannot be read one by one: {error}") from error


def _check_whole(tiff: Any, series: Any, path: Path) -> None:
    """Refuse a file that ends before its last page does."""
    if series.is_multifile:
        return
    size, promised = os.path.getsize(path), 0
    if tiff.is_imagej and series.kind != "imagej":
        # tifffile falls back to the pages it finds when the description promises more than the file holds.
        promised = int((tiff.imagej_metadata or {}).get("images", 1))
    if promised > math.prod(series.shape[:-2]) or _end(series) > size or _goes_on(tiff, size):
        raise InvalidInput(
            f"{path} is shorter than its own directory says: its image goes on beyond {size} bytes; copy it again"
        )


def _goes_on(tiff: Any, size: int) -> bool:
    """Whether a directory of pages, or a value of the first one, lies beyond the end of the file.

    tifffile goes on without them: with fewer pages, and without the description that tells their axes.
    """
    if tiff.is_ndpi or tiff.is_lsm:  # whose offsets wrap at 4 GiB
        return False
    form, file = tiff.tiff, tiff.filehandle
    file.seek(form.offsetsize if form.version == 43 else 4)
    seen: set[int] = set()
    while True:
        (offset,) = struct.unpack(form.offsetformat, file.read(form.offsetsize).ljust(form.offsetsize, b"\0"))
        if not offset or offset in seen:
            return False
        if offset + form.tagnosize > size:
            return True
        file.seek(offset)
        (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
        entries = file.read(tags * form.tagsize)
        if offset + form.tagnosize + tags * form.tagsize + form.offsetsize > size:
            return True
        if not seen and any(end > size for end in _ends(entries, form)):
            return True
        seen.add(offset)


def _ends(entries: bytes, form: Any) -> Iterator[int]:
    """Where the values of a directory end that lie outside of it."""
    from tifffile import TIFF

    for at in range(0, len(entries), form.tagsize):
        _, kind = struct.unpack_from(form.tagformat1, entries, at)
        count, _ = struct.unpack_from(form.tagformat2, entries, at + 4)
        long = count * struct.calcsize(TIFF.DATA_FORMATS.get(kind, ""))
        if long > form.tagoffsetthreshold:
            yield long + struct.unpack_from(form.offsetformat, entries, at + form.tagsize - form.offsetsize)[0]


def _end(series: Any) -> float:
    """Where in the file the first and the last page of a series end; beyond any file where the last is not listed."""
    if series.dataoffset is not None:
        return int(series.dataoffset + series.nbytes)
    try:
        pages = (series.pages[0], series.pages[len(series.pages) - 1])
    except IndexError:
        return math.inf
    spans = (zip(p.dataoffsets, p.databytecounts, strict=True) for p in pages if p is not None)
    return max((offset + count for span in spans for offset, count in span), default=0)


def _check_codec(page: Any, path: Path) -> None:
    from tifffile import TIFF

    try:
        TIFF.DECOMPRESSORS[page.compression]
        TIFF.UNPREDICTORS[page.predictor]
    except KeyError as error:
        name = getattr(page.compression, "name", page.compression)
        raise MissingExtra(
            f"{path} is compressed as {name}, whose codec is not installed; pip install 'cristae[formats]'"
        ) from error


def _tags(page: Any, path: Path) -> tuple[dict[str, float], tuple[str, ...]]:
    """Pixel size from the resolution tags, unless they speak of printing."""
    unit = {2: 25400.0, 3: 10000.0}.get(int(page.tags.valueof("ResolutionUnit", 2)))
    x, y = _per_unit(page, "XResolution"), _per_unit(page, "YResolution")
    if unit is None or not x or not y:
        return {}, ()
    dpi = x * 25400.0 / unit
    if x == 1:  # one pixel an inch or centimetre is what writers put when they know nothing
        return {}, ()
    if any(abs(dpi - p) < 0.01 * p for p in PRINTING_DPI):
        return {}, (
            f"the resolution of {path}, {dpi:.0f} per inch, is one for printing and is not used as a pixel size",
        )
    return {"y": unit / y, "x": unit / x}, ()


def _per_unit(page: Any, tag: str) -> float:
    value = page.tags.valueof(tag, (0, 1))
    above, below = value if isinstance(value, tuple) else (value, 1)
    return above / below if below else 0.0


def _imagej(metadata: Mapping[str, Any], page: Any) -> dict[str, float]:
    """ImageJ keeps pixels per `unit` in the resolution tags, and z steps in `spacing`."""
    factor = micrometres(str(metadata.get("unit", "")))
    interval = metadata.get("finterval")
    scale: dict[str, float] = {}
    if factor is not None:
        x, y = _per_unit(page, "XResolution"), _per_unit(page, "YResolution")
        lengths = {"y": 1 / y if y else None, "x": 1 / x if x else None, "z": metadata.get("spacing")}
        scale = {a: abs(float(v)) * factor for a, v in lengths.items() if v is not None}
    if interval:
        scale["t"] = float(interval) * (seconds(str(metadata.get("tunit", "s"))) or 1.0)
    return scale


def _shaped(description: str) -> dict[str, float]:
    """tifffile's own description is JSON; `spacing` and `unit` in it mean what they mean for ImageJ."""
    try:
        written = json.loads(description)
        factor = micrometres(str(written.get("unit", "")))
        return {} if factor is None or "spacing" not in written else {"z": float(written["spacing"]) * factor}
    except (ValueError, TypeError, AttributeError):
        return {}


def _ome_xml(text: str, path: Path, number: int) -> tuple[dict[str, float], tuple[Channel, ...], tuple[float, ...]]:
    """Physical sizes, time increment, channels, and times of the first planes of one image of an OME-XML text."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput(f"{path} has an OME-XML description that is not XML: {error}") from error
    images = root.findall("./{*}Image/{*}Pixels")
    if number >= len(images):
        return {}, (), ()
    pixels = images[number]
    scale = {}
    for axis in "zyx":
        size = pixels.get(f"PhysicalSize{axis.upper()}")
        factor = micrometres(pixels.get(f"PhysicalSize{axis.upper()}Unit", "µm"))
        if size is not None and factor is not None:
            scale[axis] = float(size) * factor
    increment, factor = pixels.get("TimeIncrement"), seconds(pixels.get("TimeIncrementUnit", "s"))
    if increment is not None and factor is not None:
        scale["t"] = float(increment) * factor
    found = pixels.findall("./{*}Channel")
    channels = tuple(Channel(c.get("Name") or str(i), _rgb(c.get("Color"))) for i, c in enumerate(found))
    return scale, channels, _times_s(pixels.findall("./{*}Plane"))


def _times_s(planes: Sequence[Any]) -> tuple[float, ...]:
    """When the first plane of each time point was recorded, where each says so."""
    when: dict[int, float] = {}
    for plane in planes:
        factor = seconds(plane.get("DeltaTUnit", "s"))
        if plane.get("DeltaT") is not None and factor is not None:
            when.setdefault(int(plane.get("TheT", 0)), float(plane.get("DeltaT")) * factor)
    return tuple(when[t] for t in range(len(when))) if sorted(when) == list(range(len(when))) else ()


def _rgb(color: str | None) -> str | None:
    """OME-XML keeps RGBA as one signed integer."""
    try:
        return None if color is None else f"{(int(color) & 0xFFFFFFFF) >> 8:06X}"
    except ValueError:
        return None


def write_planes(path: Path, planes: Iterator[np.ndarray], volume: Volume) -> None:
    """An OME-TIFF of planes in the order t, c, z, with the sizes and channel names of the volume they come from.

    Raises
    ------
    InvalidInput : if the format has no such type of voxel.
    """
    import tifffile

    if volume.dtype in ("int64", "uint64", "float16"):
        raise InvalidInput(f"{volume.path} holds {volume.dtype}, which OME-TIFF does not know; convert it first")
    dtype = "uint8" if volume.dtype == "bool" else volume.dtype
    metadata: dict[str, Any] = {"axes": volume.axes.upper()}
    for axis, size in zip(volume.spatial_axes, volume.voxel_um, strict=True):
        metadata |= {f"PhysicalSize{axis.upper()}": size, f"PhysicalSize{axis.upper()}Unit": "\N{MICRO SIGN}m"}
    if volume.frame_interval_s is not None:
        metadata |= {"TimeIncrement": volume.frame_interval_s, "TimeIncrementUnit": "s"}
    if "c" in volume.axes:
        metadata["Channel"] = {"Name": [channel.name for channel in volume.channels]}
    big = math.prod(volume.shape) * np.dtype(dtype).itemsize > 2**31
    with tifffile.TiffWriter(path, bigtiff=big, ome=True) as out:
        out.write(
            (plane.astype(dtype, copy=False) for plane in planes),
            shape=volume.shape,
            dtype=dtype,
            metadata=metadata,
            compression="zlib",
            photometric="minisblack",
        )
