"""Damage: whatever is done to a stored object, it is said, and never read as voxels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cristae.errors import Damaged
from cristae.grid import Box
from cristae.store.create import create_volume
from cristae.store.facts import Kind
from cristae.store.volume import Volume

WHOLE = Box((0, 0, 0), (8, 8, 8))


def stored(folder: Path, kind: Kind = "image", codec: str | None = None) -> tuple[Volume, Path, np.ndarray]:
    """A volume of one shard of two chunks, its file, its voxels."""
    dtype = "uint32" if kind == "label" else "uint16"
    volume = create_volume(
        folder / "a", axes="zyx", shape=(8, 8, 8), dtype=dtype, voxel_um=(1, 1, 1), chunk=(4, 8, 8), shard=(8, 8, 8),
        kind=kind, codec=codec,  # type: ignore[arg-type]
    )  # fmt: skip
    array = np.zeros((8, 8, 8), dtype)
    array[2:5, 2:5, 2:5] = 7
    array[0, 0] = range(8)
    (key,) = volume.write(WHOLE, array)
    return volume, folder / "a" / "0" / key, array


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "ten bytes": lambda data: data[:10],
    "twenty bytes": lambda data: data[:20],
    "one byte short": lambda data: data[:-1],
    "first half only, padded": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "a byte of a chunk": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "a byte of the index": lambda data: data[:-12] + bytes([data[-12] ^ 1]) + data[-11:],
}


@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("box", [WHOLE, Box((0, 0, 0), (4, 8, 8)), Box((1, 2, 3), (2, 4, 8))])
def test_a_damaged_object_is_named(tmp_path: Path, what: str, box: Box) -> None:
    volume, file, _ = stored(tmp_path)
    file.write_bytes(DAMAGE[what](file.read_bytes()))
    with pytest.raises(Damaged, match=str(file)) as caught:
        volume.read(box)
    assert caught.value.exit_code == 6


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    volume, file, _ = stored(tmp_path)
    file.unlink()
    with pytest.raises(Damaged, match=f"{file} is missing"):
        volume.read(WHOLE)


@pytest.mark.parametrize(("kind", "codec"), [("image", None), ("label", None), ("image", "scratch")])
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, kind: Kind, codec: str | None) -> None:
    volume, file, _ = stored(tmp_path, kind, codec)
    good = file.read_bytes()
    for bit in range(0, len(good) * 8, 3):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        file.write_bytes(bad)
        with pytest.raises(Damaged):
            volume.read(WHOLE)


@pytest.mark.parametrize("what", DAMAGE)
def test_writing_again_mends(tmp_path: Path, what: str) -> None:
    volume, file, array = stored(tmp_path)
    good = file.read_bytes()
    file.write_bytes(DAMAGE[what](good))
    volume.write(WHOLE, array)
    assert file.read_bytes() == good
    np.testing.assert_array_equal(volume.read(WHOLE), array)


def test_an_error_of_the_system_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, _, _ = stored(tmp_path)

    def gone(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("cristae.store.shards._bytes", gone)
    with pytest.raises(OSError, match="Input/output error"):
        volume.read(WHOLE)
