"""Foreign files: TIFF in its dialects, and numpy's own, opened lazily and never read whole (.npz excepted).

Each format has two doors: `find_*` reads what the file says about itself, `open_*` gives an array that is indexed like
numpy and decodes only the chunks it must.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cristae.errors import InvalidInput, MissingExtra
from cristae.store.facts import Channel, Found, FoundArray
from cristae.store.units import micrometres, seconds

PRINTING_DPI = (72, 96, 100, 150, 200, 300, 600, 1200)
"""Resolutions of printers and screens, which programs write into TIFF tags without knowing the pixel size."""

_PAGE_BYTES = 4096  # what the system reads at once of a mapped file


def find_tiff(path: Path, name: str) -> Found:
    """What a TIFF says about its first series: OME-XML, else ImageJ's text, else tags.

    Raises
    ------
    InvalidInput : if it is no TIFF, or shorter than its own directory says.
    MissingExtra : if its compression needs a codec that is not installed.
    """
    with _tiff(path) as tiff:
        series = _series(tiff, path)
        page = series.keyframe
        _check_whole(tiff, series, path)
        _check_codec(page, path)
        chunk = _mapped_chunk(series.shape, series.dtype) if _can_map(series) else _tiff_chunk(series, path)
        scale, notes = _tags(page, path)
        channels: tuple[Channel, ...] = ()
        cautions: tuple[str, ...] = ()
        if tiff.is_imagej and tiff.imagej_metadata:
            scale = _imagej(tiff.imagej_metadata, page) or scale
        elif tiff.is_ome and tiff.ome_metadata:
            described, channels = _ome_xml(tiff.ome_metadata, path)
            scale = scale | described
        elif series.kind == "shaped":
            scale = scale | _shaped(page.description)
        if "x" in scale:
            notes = ()
        if len(tiff.series) > 1:
            cautions += (f"{path} holds {len(tiff.series)} series of images; only the first is read",)
        array = FoundArray("0", series.shape, series.dtype.newbyteorder("=").name, chunk, chunk, scale)
        return Found(str(path), name, "tiff", (array,), series.axes.lower(), channels, notes=notes, cautions=cautions)


def open_tiff(path: Path) -> Any:
    """The first series of a TIFF as a lazy array in the file's order of axes."""
    import zarr
    from tifffile.zarr import ZarrTiffStore

    tiff = _tiff(path)
    series = _series(tiff, path)
    if _can_map(series):
        tiff.close()
        dtype = series.dtype.newbyteorder(tiff.byteorder)
        return np.memmap(path, dtype, "r", series.dataoffset, series.shape)
    return zarr.open_array(ZarrTiffStore(series), mode="r")


def find_npy(path: Path, name: str) -> Found:
    """What a .npy file says: shape and dtype."""
    mapped = open_npy(path)
    chunk = _mapped_chunk(mapped.shape, mapped.dtype)
    array = FoundArray("0", mapped.shape, _named(mapped.dtype, path), chunk, chunk, {})
    return Found(str(path), name, "npy", (array,))


def _named(dtype: np.dtype[Any], path: Path) -> str:
    if dtype.kind not in "biufc":
        raise InvalidInput(f"{path} holds {dtype}, which are no numbers; voxels are bool, integers or real numbers")
    return dtype.newbyteorder("=").name


def open_npy(path: Path) -> np.ndarray:
    """A .npy file, mapped into memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is not a whole .npy file of numbers: {error}") from error


def find_npz(path: Path, member: str | None, name: str) -> Found:
    """What an .npz file says about one of its arrays; only that array's header is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            if member is None and len(members) != 1:
                raise InvalidInput(f"{path} holds {len(members)} arrays: {', '.join(members)}; name one as {path}:NAME")
            member = member or members[0]
            if member not in members:
                raise InvalidInput(f"{path} holds no array {member!r}, only {', '.join(members)}")
            with archive.open(f"{member}.npy") as f:
                version = np.lib.format.read_magic(f)
                formats = np.lib.format
                shape, _, dtype = (
                    formats.read_array_header_1_0(f) if version == (1, 0) else formats.read_array_header_2_0(f)
                )
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is not a whole .npz file of numbers: {error}") from error
    array = FoundArray(member, shape, _named(dtype, path), shape, shape, {})
    return Found(str(path), name if len(members) == 1 else f"{name}-{member}", "npz", (array,))


def open_npz(path: Path, member: str) -> np.ndarray:
    """One array of an .npz file. The format is compressed as one stream, so it is decoded whole."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[member]  # type: ignore[no-any-return]
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} is not a whole .npz file with a numeric array {member!r}: {error}") from error


def _tiff(path: Path) -> Any:
    import tifffile

    try:
        return tifffile.TiffFile(path)
    except (tifffile.TiffFileError, ValueError, IndexError) as error:
        raise InvalidInput(f"{path} is not a TIFF file: {error}") from error


def _series(tiff: Any, path: Path) -> Any:
    if not tiff.series or not math.prod(tiff.series[0].shape):
        raise InvalidInput(f"{path} is a TIFF without an image")
    return tiff.series[0]


def _can_map(series: Any) -> bool:
    """Whether the voxels lie in the file one after the other, uncompressed."""
    page = series.keyframe
    return series.dataoffset is not None and page.is_memmappable and not series.is_multifile


def _mapped_chunk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    return (*[1] * (len(shape) - 1), min(shape[-1], _PAGE_BYTES // dtype.itemsize)) if shape else ()


def _tiff_chunk(series: Any, path: Path) -> tuple[int, ...]:
    import zarr
    from tifffile.zarr import ZarrTiffStore

    try:
        return tuple(zarr.open_array(ZarrTiffStore(series), mode="r").chunks)
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
    if promised > math.prod(series.shape[:-2]) or _end(series) > size:
        raise InvalidInput(
            f"{path} is shorter than its own directory says: its image goes on beyond {size} bytes; copy it again"
        )


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


def _ome_xml(text: str, path: Path) -> tuple[dict[str, float], tuple[Channel, ...]]:
    """Physical sizes, time increment and channels of the first image of an OME-XML text."""
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise InvalidInput(f"{path} has an OME-XML description that is not XML: {error}") from error
    pixels = root.find("./{*}Image/{*}Pixels")
    if pixels is None:
        return {}, ()
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
    return scale, tuple(Channel(c.get("Name") or str(i), _rgb(c.get("Color"))) for i, c in enumerate(found))


def _rgb(color: str | None) -> str | None:
    """OME-XML keeps RGBA as one signed integer."""
    try:
        return None if color is None else f"{(int(color) & 0xFFFFFFFF) >> 8:06X}"
    except ValueError:
        return None
