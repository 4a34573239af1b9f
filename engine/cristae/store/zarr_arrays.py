"""Zarr arrays: created sharded and checksummed, read with every object checked, written whole object by whole object.

An array that cristae creates carries `cristae: {"complete_shards": true}` in its attributes: every chunk of every
shard is written, background or not, so a missing or empty object is damage and never a block of zeros.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from cristae.errors import Damaged, InvalidInput, PlanRefused
from cristae.store.durable import Put, put_file, put_pieces
from cristae.store.recent import Recent
from cristae.store.shards import Part, decode, encode, recipe_of

Codec = Literal["image", "label", "scratch"]
Index = tuple[int | slice, ...]
RECENT_BYTES = 200 << 20
"""What a process keeps of the chunks it decoded last, while it reads blocks that overlap: a layer of 4 x 4 chunks of 8 MiB, and
what its blocks touch of the next."""

_recent = Recent(RECENT_BYTES)
COMPLETE: dict[str, Any] = {"cristae": {"complete_shards": True}}


def codec_pipeline() -> str:
    """The pipeline that encodes and decodes here: zarr's own, or that of an extra."""
    return str(zarr.config.get("codec_pipeline.path")).rpartition(".")[2]


def compressors(codec: Codec, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    """Codecs of the inner chunks; each chain ends in a checksum over what is stored.

    Measured in benchmarks/zarr_io.py --codecs and written down in docs/formats.md: what Zstandard saves of the noise in real
    numbers is little, and costs several times the computing that made them.
    """
    if codec == "label":
        # No second checksum inside: one over voxels that shrink to a fortieth is an eighth of the encoding.
        return (ZstdCodec(level=1, checksum=False), Crc32cCodec())
    if codec == "scratch":
        return (BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec())
    if dtype.kind == "f":
        return (BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle", typesize=dtype.itemsize), Crc32cCodec())
    return (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle", typesize=dtype.itemsize), Crc32cCodec())


def create_array(
    path: Path, shape: Sequence[int], dtype: str, chunk: Sequence[int], shard: Sequence[int], codec: Codec, axes: str
) -> None:
    """A new array at `path`; where the same array was created before it stays, with all it holds.

    Raises
    ------
    PlanRefused : if a shard is not a whole number of chunks, or another array lies there.
    """
    if any(s % c for s, c in zip(shard, chunk, strict=True)):
        raise PlanRefused(
            f"a shard of {tuple(shard)} is not a whole number of chunks of {tuple(chunk)}; change --shard"
        )
    if not (path / "zarr.json").exists():
        put_file(path / "zarr.json", _document(tuple(shape), dtype, tuple(chunk), tuple(shard), codec, axes))
        return
    array = open_array(path)
    asked = (tuple(shape), np.dtype(dtype), tuple(chunk), tuple(shard))
    if asked != (array.shape, array.dtype, array.chunks, array.shards):
        raise PlanRefused(
            f"{path} holds an array of {array.shape} {array.dtype} in shards of {array.shards}, not of {tuple(shape)} "
            f"{dtype} in shards of {tuple(shard)}; give another output, or --fresh"
        )


@lru_cache(maxsize=64)
def _document(
    shape: tuple[int, ...], dtype: str, chunk: tuple[int, ...], shard: tuple[int, ...], codec: Codec, axes: str
) -> bytes:
    """Metadata of an array; many images of a batch have the same."""
    made = zarr.create_array(
        MemoryStore(),
        shape=shape,
        dtype=dtype,
        chunks=chunk,
        shards=shard,
        compressors=compressors(codec, np.dtype(dtype)),
        fill_value=0,
        dimension_names=list(axes),
        attributes=COMPLETE,
    )
    return made.metadata.to_buffer_dict(default_buffer_prototype())["zarr.json"].to_bytes()


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


def objects(array: zarr.Array[Any], box: Part) -> Iterator[tuple[str, Part]]:
    """Key of each stored object that `box` touches, and the part of `box` that lies in it."""
    spans = (_cut(s, unit) for s, unit in zip(box, write_units(array), strict=True))
    for parts in product(*spans):
        yield array.metadata.encode_chunk_key(tuple(k for k, _ in parts)), tuple(s for _, s in parts)


def _cut(span: slice, unit: int) -> list[tuple[int, slice]]:
    """Numbers of the units that one axis of a box touches, each with its part of the box."""
    numbers = range(span.start // unit, -(-span.stop // unit))
    return [(k, slice(max(span.start, k * unit), min(span.stop, (k + 1) * unit))) for k in numbers]


def _spans(index: Index) -> Part:
    return tuple(i if isinstance(i, slice) else slice(i, i + 1) for i in index)


def _inside(part: Part, box: Part) -> Part:
    """Where a part of a box lies inside an array that holds the box."""
    return tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))


def keep_recent(limit: int) -> bool:
    """From now on this process keeps at most `limit` bytes of decoded chunks; whether some had to go."""
    return _recent.keep(limit)


def read(array: zarr.Array[Any], root: Path, index: Index, out: np.ndarray) -> None:
    """`out[...] = array[index]`, or an error: never a fill value where something should have been stored.

    out : of the shape of `array[index]`, in any memory order

    Raises
    ------
    Damaged : naming the stored object that is missing, empty, torn or does not match its checksum.
    """
    recipe, complete, box = recipe_of(array), is_complete(array), _spans(index)
    if complete:
        for key, _ in objects(array, box):
            _check_there(root / key)
    if recipe is None:
        out[...] = _read_by_zarr(array, root, index)
        return
    # Who reads whole chunks reads each of them once.
    cuts = zip(box, array.chunks, array.shape, strict=True)
    recent = _recent if any(s.start % c or (s.stop % c and s.stop != n) for s, c, n in cuts) else None
    whole = out.reshape([s.stop - s.start for s in box])
    for key, part in objects(array, box):
        unit = tuple(slice(p.start // n * n, None) for p, n in zip(part, recipe.shard, strict=True))
        into = whole[_inside(part, box)]
        try:
            decode(recipe, root / key, _inside(part, unit), into, complete, recent)
        except FileNotFoundError:
            into[...] = recipe.fill
        except (ValueError, RuntimeError) as error:
            raise Damaged(f"{root / key} cannot be decoded in box {_box(part)}: {_short(error)}; {_WAY_OUT}") from error


def _read_by_zarr(array: zarr.Array[Any], root: Path, index: Index) -> np.ndarray:
    try:
        return np.asarray(array[index])
    except Exception as error:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno is not None):
            raise
        raise Damaged(_find_damage(array, root, index, error)) from error


def _check_there(path: Path) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise Damaged(f"{path} is missing: a block that was written is gone; {_WAY_OUT}") from None
    if size == 0:
        raise Damaged(f"{path} is empty: a block that was written is lost; {_WAY_OUT}")


_WAY_OUT = "run `cristae audit` on it, then the command that wrote it"


def is_complete(array: zarr.Array[Any]) -> bool:
    """Whether cristae wrote this array, and so every object of it must exist."""
    mark = array.attrs.get("cristae")
    return isinstance(mark, dict) and mark.get("complete_shards") is True


def _find_damage(array: zarr.Array[Any], root: Path, index: Index, error: Exception) -> str:
    for key, part in objects(array, _spans(index)):
        try:
            array[part]
        except Exception as first:
            return f"{root / key} cannot be decoded in box {_box(part)}: {_short(first)}; {_WAY_OUT}"
    return f"{root} could not be decoded once in box {_box(_spans(index))}, and could when tried again: {_short(error)}"


def _box(box: Part) -> str:
    return "[" + ", ".join(f"{s.start}:{s.stop}" for s in box) + "]"


def _short(error: Exception) -> str:
    return " ".join(f"{error or type(error).__name__}".split())[:200].rstrip(".")


def write(array: zarr.Array[Any], root: Path, index: Index, data: np.ndarray) -> dict[str, Put]:
    """Store `data` at `index`, which must cover whole objects; returns what was put, by key.

    Raises
    ------
    CristaeError : if the disk is full.
    """
    recipe = recipe_of(array)
    if recipe is None or not recipe.sharded:
        raise PlanRefused(f"{root} is no array that cristae has made, and those it only reads; write to a new output")
    box, puts = _spans(index), {}
    voxels = data.reshape([s.stop - s.start for s in box])
    for key, part in objects(array, box):
        puts[key] = put_pieces(root / key, encode(recipe, voxels[_inside(part, box)]))
    return puts
