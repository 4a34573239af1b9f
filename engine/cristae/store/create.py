"""Create: a new image or label as OME-Zarr 0.5. Arrays come first and metadata last: a store is one only when complete.

create_volume    the arrays of all levels, ready to be written, not yet an OME-Zarr
lengthen         more time points for arrays that are there
publish          the group's metadata; from here on readers see an image or label
register_label   the name of a label in its store's list
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cristae.errors import InvalidInput
from cristae.store import ome
from cristae.store.durable import put_file
from cristae.store.facts import SPATIAL, Channel, Kind, Level
from cristae.store.finding import attributes, listed_labels, stem
from cristae.store.volume import Volume
from cristae.store.zarr_arrays import Codec, create_array


def create_volume(
    path: str | Path,
    *,
    axes: str,
    shape: Sequence[int],
    dtype: str,
    voxel_um: tuple[float, ...],
    chunk: tuple[int, ...],
    shard: tuple[int, ...],
    kind: Kind = "image",
    translation_um: tuple[float, ...] | None = None,
    frame_interval_s: float | None = None,
    times_s: Sequence[float] = (),
    channels: Sequence[Channel] = (),
    levels: Sequence[tuple[int, ...]] = (),
    codec: Codec | None = None,
    name: str | None = None,
) -> Volume:
    """Create the arrays of a volume, or find those of an earlier attempt with the same facts.

    shape : full, in the order of `axes`
    chunk, shard : spatial, voxels; what is read and what is written at once
    levels : spatial factors of the coarser levels relative to level 0, such as ((1, 2, 2), (1, 4, 4))
    codec : of the chunks; by default what suits `kind`, "scratch" where speed matters and size does not

    Raises
    ------
    PlanRefused : if a shard is not a whole number of chunks, or another array lies there.
    """
    path = Path(path)
    outer = len(axes) - len(voxel_um)
    if axes[outer:] != SPATIAL[-len(voxel_um) :] or len(shape) != len(axes):
        raise ValueError(f"axes {axes} do not fit a shape of {tuple(shape)} with voxels of {voxel_um} um")
    if kind == "label" and dtype not in ("uint8", "uint16", "uint32", "uint64"):
        raise ValueError(f"labels are unsigned integers, not {dtype}")
    origin = translation_um or (0.0,) * len(voxel_um)
    made = []
    for n, factor in enumerate(((1,) * len(voxel_um), *levels)):
        spatial = tuple(-(-s // f) for s, f in zip(shape[outer:], factor, strict=True))
        # A coarse level smaller than a shard gets the smallest shard that holds it.
        held = tuple(-(-m // c) * c for m, c in zip(spatial, chunk, strict=True))
        unit = tuple(map(min, shard, held)) if n else tuple(shard)
        full, ones = (*shape[:outer], *spatial), (1,) * outer
        create_array(path / str(n), full, dtype, ones + tuple(chunk), ones + unit, codec or kind, axes)
        made.append(
            Level(
                path=str(n),
                shape=full,
                voxel_um=tuple(v * f for v, f in zip(voxel_um, factor, strict=True)),
                # A coarse voxel stands for f fine ones: its centre lies (f - 1) / 2 of them further.
                translation_um=tuple(o + v * (f - 1) / 2 for o, v, f in zip(origin, voxel_um, factor, strict=True)),
                chunk=tuple(chunk),
                unit=unit,
            )
        )
    count = shape[axes.index("c")] if "c" in axes else 1
    named = tuple(channels)[:count] + tuple(Channel(str(n)) for n in range(len(channels), count))
    label = stem(path) if kind == "label" else None
    store = path.parent.parent if path.parent.name == "labels" else path
    return Volume(
        path=os.path.abspath(path),
        name=name or stem(store),
        axes=axes,
        dtype=dtype,
        levels=tuple(made),
        channels=named,
        frame_interval_s=frame_interval_s,
        kind=kind,
        reader="zarr",
        source_axes=axes,
        label=label,
        times_s=tuple(times_s),
    )


def lengthen(path: str | Path, frames: int) -> None:
    """Give the arrays of a volume that begins with time so many time points; those that are there stay as they are."""
    for place in sorted(Path(path).glob("[0-9]*/zarr.json")):
        document = json.loads(place.read_bytes())
        if document["shape"][0] < frames:
            put_file(place, _json({**document, "shape": [frames, *document["shape"][1:]]}).rstrip())


def publish(
    volume: Volume, *, source: str | None = None, colors: Mapping[int, tuple[int, int, int, int]] | None = None
) -> None:
    """Write the group's metadata, last and durably: readers see the volume from now on.

    source : for a label, the relative path to the image it was made from; "../../" for a label in its image's store.
    colors : for a label, RGBA by label.
    """
    facts = (volume.axes, volume.levels, volume.frame_interval_s)
    if volume.kind == "label":
        document = ome.label_document(volume.label or volume.name, *facts, source, colors or {})
    else:
        document = ome.image_document(volume.name, *facts, volume.channels, volume.dtype)
    own: dict[str, Any] = {"times_s": list(volume.times_s)} if volume.times_s else {}
    called = [channel.name for channel in volume.channels]
    if volume.kind == "label" and "c" in volume.axes and called != [str(n) for n in range(len(called))]:
        own["channels"] = called  # an image's stand where viewers look for them
    if own:
        document[ome.OWN] = own
    _write_group(Path(volume.path), document)


def register_label(store: str | Path, name: str) -> None:
    """Add `name` to the list of labels of a store, in the Zarr format the store has; makes the groups that are missing.

    Raises
    ------
    InvalidInput : if there is no such label.
    """
    store = Path(store)
    if attributes(store / "labels" / name) is None:
        raise InvalidInput(f"{store}/labels/{name} is not a complete label, so {store} cannot list it")
    names = listed_labels(store)
    labels = store / "labels"
    old = attributes(labels) or {}
    listed = names if name in names else [*names, name]
    if attributes(store) is None:
        _write_group(store, {})
    if (store / ".zgroup").exists() and not (store / "zarr.json").exists():
        put_file(labels / ".zgroup", _json({"zarr_format": 2}))
        put_file(labels / ".zattrs", _json({**old, "labels": listed}))
    else:
        inner = ome.ome_of(old) if "ome" in old else {}
        _write_group(labels, {**old, "ome": {**inner, "version": "0.5", "labels": listed}})


def _write_group(folder: Path, described: Mapping[str, Any]) -> None:
    """Write a Zarr 3 group, keeping attributes of others that stand in it."""
    kept = attributes(folder) or {}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {**kept, **described}}
    put_file(folder / "zarr.json", _json(document))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"
