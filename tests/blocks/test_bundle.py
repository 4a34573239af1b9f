"""Bundles: what is read is what was written, and no torn or flipped file is ever taken for a whole one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp

from cristae.errors import Damaged
from cristae.store.bundle import Bundle, BundleWriter, write_bundle, write_bytes

ROW = np.dtype([("label", "<u8"), ("z0", "<i4"), ("low", "<i4", (3,)), ("weighted", "<f8", (2, 2))])

ARRAYS = {
    "number": np.array(3.5),
    "flag": np.array(True),
    "nothing": np.empty((0, 3), np.float32),
    "no rows": np.empty(0, ROW),
    "rows": np.zeros(5, ROW),
    "big endian": np.arange(6, dtype=">u2").reshape(2, 3),
    "turned": np.arange(24).reshape(2, 3, 4).T,
    "every other": np.arange(20, dtype=np.int8)[::2],
    "text": np.frombuffer("früh".encode(), np.uint8),
    "mapped": np.arange(20_000, dtype=np.float64),
    "many rows": np.ones(3_000, ROW),
}


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()


def test_every_kind_of_array_comes_back(tmp_path: Path) -> None:
    ARRAYS["rows"]["weighted"] = np.random.default_rng(0).random((5, 2, 2))
    write_bundle(tmp_path / "deep" / "a.bundle", ARRAYS)
    bundle = Bundle(tmp_path / "deep" / "a.bundle")
    bundle.check()
    assert list(bundle) == list(ARRAYS)
    assert len(bundle) == len(ARRAYS)
    for name, array in ARRAYS.items():
        assert same(bundle[name], array), name
        assert not bundle[name].flags.writeable or array.size == 0


@given(
    array=hnp.arrays(hnp.scalar_dtypes().filter(lambda d: d.kind in "biufc"), hnp.array_shapes(min_dims=0, min_side=0))
)
def test_any_array_comes_back(array: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("bundle") / "a"
    write_bundle(path, {"a": array, "b": array.T})
    bundle = Bundle(path)
    bundle.check()
    assert same(bundle["a"], array)
    assert same(bundle["b"], array.T)


def test_large_arrays_are_mapped_and_aligned(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", ARRAYS)
    mapped = Bundle(tmp_path / "a")["mapped"]
    assert isinstance(mapped, np.memmap)
    assert mapped.ctypes.data % 64 == 0


def test_families_are_what_was_added_under_one_name(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {"k|f0|x": np.zeros(1), "k|f0|y": np.zeros(1), "k|f1|x": np.zeros(1)})
    assert dict(Bundle(tmp_path / "a").families) == {"k|f0": ["k|f0|x", "k|f0|y"], "k|f1": ["k|f1|x"]}


def test_a_file_torn_at_any_length_is_damaged(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {"a": np.arange(7, dtype=np.int16), "b": np.zeros(2, ROW)})
    whole = (tmp_path / "a").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "torn").write_bytes(whole[:length])
        with pytest.raises(Damaged, match=r"torn|damaged"):
            Bundle(tmp_path / "torn")


def test_a_tail_that_lost_its_front_is_damaged(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {"a": np.arange(7, dtype=np.int16)})
    whole = (tmp_path / "a").read_bytes()
    for missing in range(1, len(whole)):
        (tmp_path / "torn").write_bytes(whole[missing:])
        with pytest.raises(Damaged):
            Bundle(tmp_path / "torn").check()


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    a, b = np.arange(8, dtype=np.int64), np.arange(16, dtype=np.int32)
    write_bundle(tmp_path / "a", {"a": a, "b": b})  # 64 bytes each, so no padding lies between
    whole = (tmp_path / "a").read_bytes()
    for at in range(len(whole)):
        (tmp_path / "flipped").write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        with pytest.raises(Damaged):
            Bundle(tmp_path / "flipped").check()


def test_a_missing_file_is_damaged_by_name(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"gone\.bundle is missing"):
        Bundle(tmp_path / "gone.bundle")


def test_a_name_that_is_not_there_is_a_key_error(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {})
    assert len(Bundle(tmp_path / "a")) == 0
    with pytest.raises(KeyError):
        Bundle(tmp_path / "a")["b"]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with BundleWriter(tmp_path / "a") as out:
            out.add("a", np.zeros(3))
            raise ValueError

    with pytest.raises(ValueError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_replaces_the_first_whole(tmp_path: Path) -> None:
    write_bundle(tmp_path / "a", {"a": np.zeros(30_000)})
    before = Bundle(tmp_path / "a")["a"]
    write_bundle(tmp_path / "a", {"a": np.ones(5)})
    assert (before == 0).all()
    assert (Bundle(tmp_path / "a")["a"] == 1).all()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_bytes_appear_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(tmp_path / "deep" / "facts.json", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(tmp_path / "deep" / "facts.json", b"new")
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["facts.json"]
    assert (tmp_path / "deep" / "facts.json").read_bytes() == b"old"
