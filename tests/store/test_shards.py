"""Shards: what zarr writes is read as zarr reads it, what is written here zarr reads back, and no byte too many is decoded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec, GzipCodec, ZstdCodec

from cristae.errors import Damaged, PlanRefused
from cristae.store import shards, zarr_arrays

CHAINS: dict[str, Any] = {
    "none": (),
    "zstd": (ZstdCodec(level=3, checksum=True),),
    "blosc": (BloscCodec(cname="lz4", clevel=3, shuffle="bitshuffle"), Crc32cCodec()),
    "blosc zstd": (BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),),
    "unknown here": (GzipCodec(),),
}


def created(path: Path, *facts: Any) -> Any:
    zarr_arrays.create_array(path, *facts)
    return zarr_arrays.open_array(path)


def made(folder: Path, array: np.ndarray, sharded: bool, chain: str, version: int = 3, **more: Any) -> zarr.Array[Any]:
    """`array` as zarr itself stores it, in chunks that divide nothing."""
    chunk = tuple(min(n, 3) for n in array.shape)
    found = zarr.create_array(
        folder,
        shape=array.shape,
        dtype=array.dtype,
        chunks=chunk,
        shards=tuple(2 * c for c in chunk) if sharded else None,
        compressors=CHAINS[chain] if version == 3 else "auto",
        zarr_format=version,
        **more,
    )
    found[...] = array
    return found


def values(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    random = np.random.default_rng(0)
    return (random.integers(0, 2, shape) * random.integers(0, 200, shape)).astype(dtype)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("sharded", [True, False])
@pytest.mark.parametrize("dtype", ["bool", "uint16", "int64", "float32"])
@pytest.mark.parametrize("shape", [(7, 5), (1, 4, 11), (2, 3, 8, 4)])
def test_what_zarr_wrote_is_read(tmp_path: Path, chain: str, sharded: bool, dtype: str, shape: tuple[int, ...]) -> None:
    array = values(shape, dtype)
    stored = made(tmp_path / "a", array, sharded, chain, fill_value=1)
    assert (shards.recipe_of(stored) is None) == (chain == "unknown here")
    assert_read(stored, tmp_path / "a", array)


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_zarr_wrote_in_its_second_format_is_read(tmp_path: Path, order: str) -> None:
    array = values((5, 9, 4), "uint16")
    stored = made(tmp_path / "a", array, False, "", version=2, order=order, fill_value=0)
    assert (shards.recipe_of(stored) is None) == (order == "F")
    assert_read(stored, tmp_path / "a", array)


def read(stored: zarr.Array[Any], root: Path, index: tuple[Any, ...]) -> np.ndarray:
    out = np.empty([i.stop - i.start for i in index if isinstance(i, slice)], stored.dtype)
    zarr_arrays.read(stored, root, index, out)
    return out


def assert_read(stored: zarr.Array[Any], root: Path, array: np.ndarray) -> None:
    draw = np.random.default_rng(1)
    whole = tuple(slice(0, n) for n in array.shape)
    np.testing.assert_array_equal(read(stored, root, whole), array)
    for _ in range(10):
        ends = [np.sort(draw.choice(n + 1, 2, replace=False)) for n in array.shape]
        box: list[Any] = [slice(int(a), int(b)) for a, b in ends]
        box[0] = int(draw.integers(array.shape[0]))
        np.testing.assert_array_equal(read(stored, root, tuple(box)), array[tuple(box)])


def test_a_chunk_that_zarr_did_not_store_is_filled(tmp_path: Path) -> None:
    array = np.full((12, 12), 7, "uint8")
    array[0, 0] = 1
    for sharded in (True, False):
        stored = made(tmp_path / str(sharded), array, sharded, "zstd", fill_value=7)
        assert len(list((tmp_path / str(sharded)).rglob("0"))) < 4
        np.testing.assert_array_equal(read(stored, tmp_path / str(sharded), (slice(0, 12),) * 2), array)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_written_here_zarr_reads(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("w") / "a"
    ndim = data.draw(st.integers(1, 4))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    chunk = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    shard = tuple(c * data.draw(st.integers(1, 3)) for c in chunk)
    codec = data.draw(st.sampled_from(["image", "label", "scratch"]))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "uint32", "float32"]))
    stored = created(root, shape, dtype, chunk, shard, codec, "tzyx"[-ndim:])
    array = values(shape, dtype)
    puts = zarr_arrays.write(stored, root, tuple(slice(0, n) for n in shape), array)
    assert sorted(puts) == sorted(
        str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.name != "zarr.json"
    )
    np.testing.assert_array_equal(zarr.open_array(root, mode="r")[...], array)
    assert_read(stored, root, array)


def test_a_chunk_outside_the_array_is_not_stored_and_one_inside_must_be(tmp_path: Path) -> None:
    stored = created(tmp_path / "a", (4, 4), "uint16", (4, 4), (12, 12), "image", "yx")
    (put,) = zarr_arrays.write(stored, tmp_path / "a", (slice(0, 4), slice(0, 4)), np.ones((4, 4), "uint16")).values()
    assert put.nbytes < 16 * 9 + 4 + 100
    recipe = shards.recipe_of(stored)
    assert recipe is not None
    index = np.full((3, 3, 2), shards.MISSING, "<u8")
    (tmp_path / "a" / "c" / "0" / "0").write_bytes(shards._with_checksum(index.tobytes()))
    with pytest.raises(Damaged, match=r"chunk \(0, 0\) is missing"):
        read(stored, tmp_path / "a", (slice(0, 1), slice(0, 1)))


def test_only_the_chunks_that_are_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = values((12, 12, 12), "uint16")
    stored = created(tmp_path / "a", array.shape, "uint16", (3, 3, 3), (12, 12, 12), "image", "zyx")
    zarr_arrays.write(stored, tmp_path / "a", (slice(0, 12),) * 3, array)
    asked: list[int] = []
    plain = shards._bytes
    monkeypatch.setattr(shards, "_bytes", lambda *words: asked.append(words[2]) or plain(*words))
    read(stored, tmp_path / "a", (slice(2, 4), slice(0, 3), slice(3, 6)))
    assert len(asked) == 1 + 2  # the index and two chunks


@pytest.mark.parametrize("chain", [name for name in CHAINS if name != "unknown here"])
def test_a_whole_chunk_is_decoded_where_it_belongs(tmp_path: Path, chain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = values((9, 64, 64), "uint16")
    stored = made(tmp_path / "a", array, True, chain)
    rooms: list[np.ndarray] = []
    chunk = shards._chunk
    monkeypatch.setattr(shards, "_chunk", lambda *facts: [rooms.append(facts[-1]), chunk(*facts)][1])
    index = tuple(slice(3, 6) for _ in range(3))
    out = np.empty((3, 3, 3), "uint16")
    zarr_arrays.read(stored, tmp_path / "a", index, out)
    np.testing.assert_array_equal(out, array[index])
    assert [np.shares_memory(room, out) for room in rooms] == [True]
    beside = np.empty((3, 3, 4), "uint16")  # in which no chunk lies in one piece
    zarr_arrays.read(stored, tmp_path / "a", (*index[:2], slice(3, 7)), beside)
    np.testing.assert_array_equal(beside, array[3:6, 3:6, 3:7])


def test_another_array_is_not_written_to(tmp_path: Path) -> None:
    stored = made(tmp_path / "a", values((6, 6), "uint8"), False, "zstd")
    with pytest.raises(PlanRefused, match="only reads"):
        zarr_arrays.write(stored, tmp_path / "a", (slice(0, 6), slice(0, 6)), np.zeros((6, 6), "uint8"))
