"""Zarr arrays: created sharded and checksummed, read with every object checked, written whole object by whole object.

An array that cristae creates carries `cristae: {"complete_shards": true}` in its attributes: every chunk of every
shard is written, background or not, so a missing or empty object is damage and never a block of zeros.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArrayConfig
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.storage import LocalStore, StorePath

from cristae.errors import CristaeError, Damaged, InvalidInput, PlanRefused
from cristae.store.durable import DurableStore, Put

Codec = Literal["image", "label", "scratch"]
Index = tuple[int | slice, ...]
COMPLETE: dict[str, Any] = {"cristae": {"complete_shards": True}}


def codec_pipeline() -> str:
    """The pipeline that encodes and decodes here: zarr's own, or that of an extra."""
    return str(zarr.config.get("codec_pipeline.path")).rpartition(".")[2]


def compressors(codec: Codec, itemsize: int) -> tuple[Any, ...]:
    """Codecs of the inner chunks; each chain ends in a checksum over what is stored."""
    if codec == "label":
        return (ZstdCodec(level=1, checksum=True), Crc32cCodec())
    if codec == "scratch":
        return (BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=itemsize), Crc32cCodec())
    return (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=itemsize), Crc32cCodec())


def create_array(
    path: Path, shape: Sequence[int], dtype: str, chunk: Sequence[int], shard: Sequence[int], codec: Codec, axes: str
) -> zarr.Array[Any]:
    """A new array at `path`; where the same array was created before, that one, with all it holds.

    Raises
    ------
    PlanRefused : if a shard is not a whole number of chunks, or another array lies there.
    """
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        raise PlanRefused(
            f"a shard of {tuple(shard)} is not a whole number of chunks of {tuple(chunk)}; change --shard"
        )
    store = DurableStore(path)
    before = path / "zarr.json"
    old = json.loads(before.read_bytes()) if before.exists() else None
    if old is None:
        zarr.create_array(
            store,
            shape=tuple(shape),
            dtype=dtype,
            chunks=tuple(chunk),
            shards=tuple(shard),
            compressors=compressors(codec, np.dtype(dtype).itemsize),
            fill_value=0,
            dimension_names=list(axes),
            attributes=COMPLETE,
        )
    array = open_array(path)
    asked = (tuple(shape), np.dtype(dtype), tuple(chunk), tuple(shard))
    if asked != (array.shape, array.dtype, array.chunks, array.shards):
        raise PlanRefused(
            f"{path} holds an array of {array.shape} {array.dtype} in shards of {array.shards}, not of {tuple(shape)} "
            f"{dtype} in shards of {tuple(shard)}; give another output, or --fresh"
        )
    return array


def open_array(path: Path) -> zarr.Array[Any]:
    """The array at `path`, for reading.

    Raises
    ------
    InvalidInput : if there is none, or its metadata cannot be used.
    """
    try:
        return zarr.open_array(LocalStore(path, read_only=True), mode="r")
    except Exception as error:
        missing = not any((path / n).exists() for n in ("zarr.json", ".zarray"))
        reason = "there is none" if missing else f"its metadata cannot be used: {_short(error)}"
        raise InvalidInput(f"no Zarr array can be opened at {path}; {reason}") from error


def write_units(array: zarr.Array[Any]) -> tuple[int, ...]:
    """Voxels of one stored object along each axis."""
    return array.shards or array.chunks


def objects(array: zarr.Array[Any], index: Index) -> Iterator[tuple[str, Index]]:
    """Key of each stored object that `index` touches, and the part of `index` that lies in it."""
    spans = (_cut(i, unit) for i, unit in zip(index, write_units(array), strict=True))
    for parts in product(*spans):
        yield array.metadata.encode_chunk_key(tuple(k for k, _ in parts)), tuple(s for _, s in parts)


def _cut(index: int | slice, unit: int) -> list[tuple[int, int | slice]]:
    """Numbers of the units that one axis of an index touches, each with its part of the index."""
    if not isinstance(index, slice):
        return [(index // unit, index)]
    numbers = range(index.start // unit, -(-index.stop // unit))
    return [(k, slice(max(index.start, k * unit), min(index.stop, (k + 1) * unit))) for k in numbers]


def read(array: zarr.Array[Any], root: Path, index: Index) -> np.ndarray:
    """`array[index]`, or an error: never a fill value where something should have been stored.

    Raises
    ------
    Damaged : naming the stored object that is missing, empty, torn or does not match its checksum.
    """
    if is_complete(array):
        for key, _ in objects(array, index):
            path = root / key
            try:
                size = path.stat().st_size
            except FileNotFoundError:
                raise Damaged(f"{path} is missing: a block that was written is gone; {_WAY_OUT}") from None
            if size == 0:
                raise Damaged(f"{path} is empty: a block that was written is lost; {_WAY_OUT}")
    try:
        return np.asarray(array[index])
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise Damaged(_find_damage(array, root, index, error)) from error


_WAY_OUT = "run `cristae audit` on it, then the command that wrote it"


def is_complete(array: zarr.Array[Any]) -> bool:
    """Whether cristae wrote this array, and so every object of it must exist."""
    mark = array.attrs.get("cristae")
    return isinstance(mark, dict) and mark.get("complete_shards") is True


def _find_damage(array: zarr.Array[Any], root: Path, index: Index, error: Exception) -> str:
    for key, part in objects(array, index):
        try:
            array[part]
        except Exception as first:
            return f"{root / key} cannot be decoded in box {_box(part)}: {_short(first)}; {_WAY_OUT}"
    return f"{root} could not be decoded once in box {_box(index)}, and could when tried again: {_short(error)}"


def _box(index: Index) -> str:
    return "[" + ", ".join(f"{i.start}:{i.stop}" if isinstance(i, slice) else str(i) for i in index) + "]"


def _short(error: Exception) -> str:
    return " ".join(f"{error or type(error).__name__}".split())[:200].rstrip(".")


def write(array: zarr.Array[Any], root: Path, index: Index, data: np.ndarray) -> dict[str, Put]:
    """Store `data` at `index`, which must cover whole objects; returns what was put, by key.

    Raises
    ------
    CristaeError : if the disk is full.
    """
    metadata = array.metadata
    if not isinstance(metadata, ArrayV3Metadata):
        raise PlanRefused(f"{root} is a Zarr 2 array, which cristae only reads; write to a new output")
    store = DurableStore(root)
    # Built from metadata already read: the durable store never reads, and one a call keeps the puts of this call apart.
    config = ArrayConfig(order="C", write_empty_chunks=True)
    writer = zarr.Array(AsyncArray(metadata=metadata, store_path=StorePath(store), config=config))
    writer[index] = data
    expected = {key for key, _ in objects(array, index)}
    if set(store.puts) != expected:
        raise CristaeError(f"{root} took {len(store.puts)} objects, not the {len(expected)} of the box; run it again")
    return store.puts
