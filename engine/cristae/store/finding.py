"""Finding: which format lies at a path, and what it says about itself. No voxel is read.

A folder is told apart by its metadata documents, a file by its suffix. A path that leads to a plate, a list of labels
or nothing gets one sentence that says where to go instead.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from cristae.errors import InvalidInput
from cristae.store import foreign, ome, runs
from cristae.store.facts import AXES, Found, FoundArray

_SUFFIXES = (".ome.zarr", ".zarr", ".ome.tiff", ".ome.tif", *foreign.SUFFIXES, runs.SUFFIX)


def find(path: str, axes: str | None, scene: str | None = None) -> Found:
    """What lies at `path`; `axes` overrides the letters of an OME-Zarr's axes, `scene` names one image of several.

    Raises
    ------
    InvalidInput : if nothing that can be read lies there.
    """
    if "://" in path:
        raise InvalidInput(f"{path} is a URL, and only local paths are read; copy it first")
    place = Path(path)
    if not place.exists() and scene is None and ":" in path:
        file, _, scene = path.rpartition(":")
        place = Path(file) if Path(file).exists() else place
    if not place.exists():
        raise InvalidInput(f"{path} does not exist")
    found = _find_at(place, scene, axes)
    # Workers may stand in another folder than the user.
    return replace(found, path=os.path.abspath(found.path))


def _find_at(place: Path, scene: str | None, axes: str | None) -> Found:
    if place.is_dir():
        if scene is not None:
            raise InvalidInput(f"{place} is a store of one image, without scenes; leave --scene {scene} out")
        return _find_zarr(place, axes)
    if not place.stat().st_size:
        raise InvalidInput(f"{place} is an empty file")
    if place.suffix.lower() in foreign.SUFFIXES:
        return foreign.find(place, stem(place), scene)
    if place.suffix.lower() == runs.SUFFIX:
        if scene is not None:
            raise InvalidInput(f"{place} is a table, without scenes; leave --scene {scene} out")
        return runs.find(place, _store_of(place))
    known = ", ".join(dict.fromkeys(foreign.SUFFIXES))
    raise InvalidInput(
        f"{place} is none of the formats that are read: OME-Zarr and Zarr folders, {known}, runs in a Parquet; save it as one of them, "
        "TIFF for example"
    )


def _store_of(file: Path) -> str:
    """The name of the store that a file lies in, else its own."""
    return stem(next((p for p in file.absolute().parents if p.name.lower().endswith(".zarr")), file))


def stem(path: Path) -> str:
    """A file's or store's name without what tells its format."""
    lower = path.name.lower()
    return next((path.name[: -len(s)] for s in _SUFFIXES if lower.endswith(s)), path.name) or path.name


def attributes(folder: Path) -> dict[str, Any] | None:
    """A group's or array's attributes, from its Zarr 3 or Zarr 2 document; None where there is neither.

    Raises
    ------
    InvalidInput : if a document is not a JSON object.
    """
    if (document := _document(folder / "zarr.json")) is not None:
        inner = document.get("attributes", {})
        return inner if isinstance(inner, dict) else {}
    if any((folder / name).exists() for name in (".zgroup", ".zarray", ".zattrs")):
        return _document(folder / ".zattrs") or {}
    return None


def _document(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"{path} is not a JSON object")
    return document


def _is_array(folder: Path) -> bool:
    document = _document(folder / "zarr.json")
    return (folder / ".zarray").exists() if document is None else document.get("node_type") == "array"


def _find_zarr(folder: Path, axes: str | None) -> Found:
    described = attributes(folder)
    if described is None:
        inside = sorted(p.name for p in folder.iterdir() if p.suffix == ".zarr")[:3] if folder.is_dir() else []
        hint = f"; it holds {', '.join(inside)}" if inside else ""
        raise InvalidInput(f"{folder} is a folder without Zarr metadata, or a store that was never completed{hint}")
    if _is_array(folder):
        return _find_array(folder, described, axes)
    document = ome.ome_of(described)
    if "multiscales" not in document:
        raise InvalidInput(_other_group(folder, document))
    return _find_image(folder, described, axes, None)


def _find_array(folder: Path, described: dict[str, Any], axes: str | None) -> Found:
    """A plain array; or one level of an OME-Zarr image, which then speaks for it."""
    parent = attributes(folder.parent)
    if parent is not None and "multiscales" in ome.ome_of(parent):
        found = _find_image(folder.parent, parent, axes, folder.name)
        if found.arrays:
            return found
    array = _array_of(folder, "", {}, {})
    named = _dimension_names(folder, described)
    fits = named is not None and len(named) == len(array.shape)
    return Found(str(folder), stem(folder), "zarr", (array,), named if fits else None)


def _dimension_names(folder: Path, described: dict[str, Any]) -> str | None:
    names = (_document(folder / "zarr.json") or {}).get("dimension_names") or described.get("_ARRAY_DIMENSIONS")
    if not isinstance(names, list) or not all(isinstance(n, str) and n.lower() in AXES and len(n) == 1 for n in names):
        return None
    return "".join(names).lower()


def _find_image(folder: Path, described: dict[str, Any], axes: str | None, only: str | None) -> Found:
    image = ome.read_image(described, str(folder), axes)
    datasets = [d for d in image.datasets if only in (None, d.path)]
    arrays = tuple(_array_of(folder, d.path, d.scale, d.translation) for d in datasets)
    for array in arrays:
        if len(array.shape) != len(image.axes):
            raise InvalidInput(
                f"{folder} has the axes {', '.join(image.axes)}, but its level {array.path} has shape {array.shape}"
            )
        if array.dtype != arrays[0].dtype:
            raise InvalidInput(
                f"{folder} has {arrays[0].dtype} voxels at level {arrays[0].path}, but {array.dtype} at {array.path}"
            )
    in_labels = folder.parent.name == "labels" and attributes(folder.parent) is not None
    is_label = image.is_label or in_labels
    return Found(
        str(folder),
        _image_name(folder.parent.parent if in_labels else folder),
        "zarr",
        arrays,
        image.axes,
        image.channels or ome.own_channels(described),
        "label" if is_label else "image",
        stem(folder) if is_label else None,
        image.notes,
        ome.times_of(described),
    )


def _array_of(folder: Path, path: str, scale: Any, translation: Any) -> FoundArray:
    from cristae.store.zarr_arrays import open_array, write_units

    array = open_array(folder / path)
    return FoundArray(
        path, array.shape, array.dtype.newbyteorder("=").name, array.chunks, write_units(array), scale, translation
    )


def _image_name(folder: Path) -> str:
    """The store's name; for an image inside a store (a field of a plate) with the way to it."""
    folder = folder.absolute()
    store = next((p for p in (folder, *folder.parents) if p.name.lower().endswith(".zarr")), folder)
    return "/".join((stem(store), *folder.relative_to(store).parts))


def plate_fields(folder: Path) -> list[tuple[str, str, str]]:
    """Well (such as B03), field and path of every image of an OME-Zarr plate, in its own order; none where it is no plate."""
    plate = ome.ome_of(attributes(folder) or {}).get("plate")
    found = []
    for well in plate.get("wells", []) if isinstance(plate, dict) else []:
        place = folder / str(well.get("path", ""))
        images = ome.ome_of(attributes(place) or {}).get("well", {}).get("images", [])
        name = "".join(str(well["path"]).split("/"))
        found += [(name, str(image["path"]), str(place / str(image["path"]))) for image in images if "path" in image]
    return found


def _other_group(folder: Path, document: Any) -> str:
    """Where to go from a group that is no image."""
    if "plate" in document:
        wells = document["plate"].get("wells", []) if isinstance(document["plate"], dict) else []
        first = next((w.get("path") for w in wells if isinstance(w, dict)), "A/1")
        return f"{folder} is a plate, not one image; `run` takes it whole, other commands a field, for example {folder}/{first}/0"
    if "well" in document:
        return f"{folder} is a well, not one image; name a field, for example {folder}/0"
    labels = listed_labels(folder)
    if labels:
        return f"{folder} holds no image, only labels; name one: {', '.join(f'{folder}/labels/{n}' for n in labels)}"
    if isinstance(document.get("labels"), list):
        names = ", ".join(f"{folder}/{n}" for n in document["labels"]) or "it lists none"
        return f"{folder} is a list of labels, not one; name one: {names}"
    folders = sorted(p for p in folder.iterdir() if p.is_dir())
    images = [str(p) for p in folders if _is_array(p) or "multiscales" in ome.ome_of(attributes(p) or {})]
    if images:
        return f"{folder} has no multiscales entry; name an image or array inside: {', '.join(images[:4])}"
    return f"{folder} has no multiscales entry, so it is not an OME-Zarr image"


def listed_labels(store: Path) -> list[str]:
    """Names of the labels that a store lists."""
    names = ome.ome_of(attributes(store / "labels") or {}).get("labels", [])
    return [str(n) for n in names] if isinstance(names, list) else []
