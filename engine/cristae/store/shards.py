"""Shards: one stored object, encoded or decoded chunk by chunk, straight from bytes to voxels.

The format is Zarr's `sharding_indexed`: the chunks one after the other, then for each its offset and length, then a CRC-32C
of that index (https://zarr-specs.readthedocs.io, codecs/sharding-indexed/v1.0). Where the chain of an array's chunks is known
here, no event loop, no prototype buffer and no copy of the object stands between the file and the voxels; any other array is
left to zarr. An array without shards, of Zarr 3 or 2, is read in the same way: its objects are one bare chunk each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import FileIO
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from google_crc32c import value as crc32c
from numcodecs import blosc, zstd
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, ShardingCodec, ShardingCodecIndexLocation, ZstdCodec
from zarr.core.metadata.v2 import ArrayV2Metadata

from cristae.store.recent import Recent

Shape = tuple[int, ...]
Part = tuple[slice, ...]
Step = tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]
"""Encoder, and decoder; that is also given an array which may be used for what comes out, or None."""

MISSING = np.uint64(2**64 - 1)
"""Offset and length of a chunk that is not stored."""


@dataclass(frozen=True)
class Recipe:
    """How the objects of an array are made; `steps` encode a chunk and, from the last to the first, decode it."""

    shard: Shape
    chunk: Shape
    dtype: np.dtype[Any]
    fill: Any
    steps: tuple[Step, ...]
    sharded: bool

    @property
    def counts(self) -> Shape:
        """Chunks of a shard along each axis."""
        return tuple(s // c for s, c in zip(self.shard, self.chunk, strict=True))

    @property
    def index_bytes(self) -> int:
        return 16 * int(np.prod(self.counts)) + 4


def recipe_of(array: zarr.Array[Any]) -> Recipe | None:
    """The recipe of an array's objects, or None where it is not known here."""
    metadata, dtype = array.metadata, array.dtype
    if dtype.kind not in "buif" or not dtype.isnative:
        return None
    if isinstance(metadata, ArrayV2Metadata):
        return _recipe_of_2(metadata, array)
    codecs, sharding = metadata.codecs, metadata.codecs[0]
    sharded = isinstance(sharding, ShardingCodec)
    if isinstance(sharding, ShardingCodec):
        kinds = [type(c) for c in sharding.index_codecs]
        at_end = sharding.index_location == ShardingCodecIndexLocation.end
        if len(codecs) > 1 or not at_end or kinds != [BytesCodec, Crc32cCodec]:
            return None
        codecs = sharding.codecs
    first, *chain = codecs
    steps = [_step(codec) for codec in chain]
    if not isinstance(first, BytesCodec) or _swapped(first, dtype) or None in steps:
        return None
    known = tuple(s for s in steps if s is not None)
    return Recipe(array.shards or array.chunks, array.chunks, dtype, metadata.fill_value, known, sharded)


def _recipe_of_2(metadata: ArrayV2Metadata, array: zarr.Array[Any]) -> Recipe | None:
    if metadata.filters or (metadata.order != "C" and array.ndim > 1):
        return None
    compressor = metadata.compressor
    steps = () if compressor is None else ((compressor.encode, lambda data, room: compressor.decode(data)),)
    fill = 0 if metadata.fill_value is None else metadata.fill_value
    return Recipe(array.chunks, array.chunks, array.dtype, fill, steps, False)


def _swapped(codec: BytesCodec, dtype: np.dtype[Any]) -> bool:
    return dtype.itemsize > 1 and (codec.endian is None or codec.endian.value != "little" or np.little_endian is False)


def _step(codec: Any) -> Step | None:
    if isinstance(codec, BloscCodec):
        shuffle = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
        words = (codec.cname.value.encode(), codec.clevel, shuffle[codec.shuffle.value], codec.blocksize)
        return (lambda data: blosc.compress(data, *words)), _decoder(blosc.decompress, _blosc_bytes)
    if isinstance(codec, ZstdCodec):
        return (lambda data: zstd.compress(data, codec.level, codec.checksum)), _decoder(zstd.decompress, _zstd_bytes)
    if isinstance(codec, Crc32cCodec):
        return _with_checksum, _without_checksum
    return None


def _decoder(decompress: Callable[..., Any], size: Callable[[bytes], int]) -> Callable[[Any, Any], Any]:
    """Decompress into `room` where the data say that they fill it: new memory for each chunk costs more than decoding it."""

    def decode(data: bytes, room: np.ndarray | None) -> Any:
        return decompress(data, room if room is not None and size(data) == room.nbytes else None)

    return decode


def _blosc_bytes(data: bytes) -> int:
    # https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
    return int.from_bytes(data[4:8], "little")


def _zstd_bytes(data: bytes) -> int:
    # RFC 8878, 3.1.1.1: magic, descriptor, window unless there is a single segment, dictionary id, content size.
    if len(data) < 18:
        return -1
    code, single = data[4] >> 6, data[4] >> 5 & 1
    if code == 0 and not single:
        return -1
    start = 5 + (1 - single) + (0, 1, 2, 4)[data[4] & 3]
    width = (1, 2, 4, 8)[code]
    return int.from_bytes(data[start : start + width], "little") + (256 if code == 1 else 0)


def _with_checksum(data: Any) -> bytes:
    return b"".join((data, crc32c(bytes(data)).to_bytes(4, "little")))


def _without_checksum(data: bytes, room: None = None) -> bytes:
    body = data[:-4]
    if crc32c(body) != int.from_bytes(data[-4:], "little"):
        raise ValueError("its bytes do not match their checksum")
    return body


def _chunks(recipe: Recipe, part: Part) -> Iterator[tuple[Shape, Part, Part]]:
    """Chunks that a part of a shard touches: where in the index, which part of the chunk, and where in the part."""
    spans = []
    for span, chunk in zip(part, recipe.chunk, strict=True):
        along = []
        for k in range(span.start // chunk, -(-span.stop // chunk)):
            low, high = max(span.start, k * chunk), min(span.stop, (k + 1) * chunk)
            along.append((k, slice(low - k * chunk, high - k * chunk), slice(low - span.start, high - span.start)))
        spans.append(along)
    for combined in product(*spans):
        yield tuple(k for k, _, _ in combined), tuple(a for _, a, _ in combined), tuple(b for _, _, b in combined)


def encode(recipe: Recipe, voxels: np.ndarray) -> Iterator[memoryview]:
    """The shard that holds `voxels`, which begin at its first voxel, piece by piece; at the end of an array they may be fewer than fit.

    A chunk that lies wholly outside the array is not stored.
    """
    index = np.full((*recipe.counts, 2), MISSING, "<u8")
    end = 0
    for place, inside, of_voxels in _chunks(recipe, tuple(slice(0, n) for n in voxels.shape)):
        data: Any = voxels[of_voxels]
        if data.shape != recipe.chunk:
            whole = np.full(recipe.chunk, recipe.fill, recipe.dtype)
            whole[inside] = data
            data = whole
        data = np.ascontiguousarray(data, recipe.dtype)
        for make, _ in recipe.steps:
            data = make(data)
        piece = memoryview(data).cast("B")
        index[place] = end, len(piece)
        end += len(piece)
        yield piece
    yield memoryview(_with_checksum(index.tobytes()))


def decode(recipe: Recipe, path: Path, part: Part, out: np.ndarray, complete: bool, recent: Recent | None) -> None:
    """Voxels of a part of the object at `path`, into `out`.

    complete : whether every chunk must be there; otherwise one that is not stored is filled
    recent : keeps the chunks for those who will ask for them again

    Raises
    ------
    ValueError : naming what is wrong with the object.
    OSError : if it cannot be read.
    """
    room = np.empty(recipe.chunk, recipe.dtype) if recent is None else None
    with open(path, "rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        size = facts.st_size
        index = _index(recipe, file, size) if recipe.sharded else np.array([0, size], "<u8").reshape(*recipe.counts, 2)
        for place, inside, of_out in _chunks(recipe, part):
            offset, length = index[place]
            if offset == MISSING and length == MISSING:
                if complete:
                    raise ValueError(f"its chunk {place} is missing")
                out[of_out] = recipe.fill
                continue
            there = out[of_out]
            # A whole chunk that lies in one piece is decoded where it belongs.
            into = there if recent is None and _holds(recipe, there) else room
            take = partial(_chunk, recipe, file, int(offset), int(length), into)
            key = (path, facts.st_mtime_ns, size, place)
            found = take()[inside] if recent is None else recent.get(key, inside, recipe.chunk, take)
            if found.ctypes.data != there.ctypes.data:
                there[...] = found


def _holds(recipe: Recipe, array: np.ndarray) -> bool:
    """Whether an array is as a whole chunk lies in memory."""
    return array.shape == recipe.chunk and array.dtype == recipe.dtype and array.flags.c_contiguous


def _chunk(recipe: Recipe, file: FileIO, offset: int, length: int, room: np.ndarray | None) -> np.ndarray:
    """The voxels of a chunk; in `room`, where that is given and they fit."""
    data: Any = _bytes(file, offset, length)
    into = np.empty(recipe.chunk, recipe.dtype) if room is None else room
    for n, (_, unmake) in reversed(list(enumerate(recipe.steps))):
        data = unmake(data, None if n else into)
    voxels = np.frombuffer(data, recipe.dtype)
    if voxels.size != into.size:
        raise ValueError(f"a chunk holds {voxels.size} voxels")
    return voxels.reshape(recipe.chunk)


def _index(recipe: Recipe, file: FileIO, size: int) -> np.ndarray:
    length = recipe.index_bytes
    if size < length:
        raise ValueError(f"its {size} bytes hold no whole index")
    index = _without_checksum(_bytes(file, size - length, length))
    return np.frombuffer(index, "<u8").reshape(*recipe.counts, 2)


def _bytes(file: FileIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) != length:
        raise ValueError(f"{len(data)} of {length} bytes are there at byte {offset}")
    return data
