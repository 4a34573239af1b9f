"""Model files: what is written is read, by the format's own library too; what is no model is refused in one sentence, and not run."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from inference.models import tiny, with_card

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.card import Card, contents, read_card, read_tensors, written

CARD = Card("unet", {}, 3, (0.3, 0.1, 0.1), ("mito", "er"), (8, 16, 16), (2, 4, 4), (3, 5, 5), training={"seed": 4})


def test_a_model_comes_back(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array(7), "c": np.array([True, False])}
    sha = written(tmp_path / "m.safetensors", CARD, tensors)
    card, again = read_card(tmp_path / "m.safetensors")
    assert (card, again) == (CARD, sha)
    _, found = read_tensors("m", contents(tmp_path / "m.safetensors"))
    assert {n: (a.dtype, a.tolist()) for n, a in found.items()} == {
        n: (a.dtype, a.tolist()) for n, a in tensors.items()
    }
    assert sha == written(tmp_path / "again.safetensors", CARD, dict(reversed(tensors.items())))


def test_the_library_of_the_format_reads_what_is_written_and_the_other_way(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy", reason="the extra learn is not installed: safetensors")
    tensors = {"w": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32), "n": np.array(3)}
    written(tmp_path / "ours.safetensors", CARD, tensors)
    theirs = library.load_file(tmp_path / "ours.safetensors")
    assert all(np.array_equal(theirs[n], a) and theirs[n].dtype == a.dtype for n, a in tensors.items())
    metadata = {"cristae": json.dumps(asdict(CARD))}
    library.save_file(tensors, tmp_path / "theirs.safetensors", metadata)
    assert read_card(tmp_path / "theirs.safetensors")[0] == CARD


@pytest.mark.parametrize("at", [-1, -40, "mito"])
def test_a_byte_that_was_changed_is_noticed(tmp_path: Path, at: int | str) -> None:
    written(tmp_path / "whole.safetensors", *read_tensors(tiny(), contents(tiny())))
    data = bytearray((tmp_path / "whole.safetensors").read_bytes())
    place = data.index(at.encode()) if isinstance(at, str) else at
    data[place] ^= 1
    (path := tmp_path / "changed.safetensors").write_bytes(data)
    with pytest.raises(InvalidInput, match="is not as it was written: its card or a weight was changed"):
        read_card(path)
    with pytest.raises(InvalidInput, match="is not as it was written"):
        read_tensors(path, contents(path))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.99])
def test_a_file_cut_short_says_so(tmp_path: Path, share: float) -> None:
    data = Path(tiny()).read_bytes()
    (tmp_path / "short.safetensors").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(
        InvalidInput, match=r"short\.safetensors (is cut short: \d+ bytes of \d+|is no \.safetensors file)"
    ):
        read_card(tmp_path / "short.safetensors")


class Trap:
    """Unpickling it would leave a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_a_header_as_long_as_a_pickle_begins_is_a_header(tmp_path: Path) -> None:
    firsts = set()
    for size in range(256):
        path = with_card(tiny(), tmp_path, f"{size}.safetensors", training={"note": "x" * size})
        assert read_card(path)[0].training["note"] == "x" * size
        firsts.add(Path(path).read_bytes()[0])
    assert 0x80 in firsts


@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.PKL", "m.ckpt", "m.bin", "m.safetensors"])
def test_a_pickle_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(pickle.dumps(Trap(tmp_path / "trace")))
    with pytest.raises(InvalidInput, match="is a pickle, which can run anything"):
        read_card(tmp_path / name)
    assert not (tmp_path / "trace").exists()


def header(told: object) -> bytes:
    text = json.dumps(told).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "is no .safetensors file"),
        (b"II*\0" + bytes(100), "is no .safetensors file"),
        (b"PK\x03\x04" + bytes(100), "is a pickle"),
        ((1 << 60).to_bytes(8, "little") + b"{}", "is no .safetensors file"),
        (header([1, 2]), "is no .safetensors file"),
        (header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}) + bytes(4), "is no .safetensors file"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(9), "is no .safetensors file"),
        (header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}), "is no .safetensors file"),
        (header({"a": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}) + bytes(1), "F8_E4M3"),
        (header({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4), "but no card"),
        (header({"__metadata__": {"format": "pt"}}), "but no card"),
        (header({"__metadata__": {"cristae": "no json"}}), "card in .* cannot be used"),
        (header({"__metadata__": {"cristae": "[]"}}), "card in .* cannot be used"),
        (header({"__metadata__": {"cristae": '{"flavour": "sweet"}'}}), "it knows flavour"),
        (header({"__metadata__": {"cristae": '{"architecture": "unet"}'}}), "card in .* cannot be used"),
    ],
)
def test_a_foreign_file_is_refused_in_one_sentence(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(InvalidInput, match=sentence) as error:
        read_card(tmp_path / "m.safetensors")
    assert str(tmp_path / "m.safetensors") in str(error.value) and "\n" not in str(error.value)


def test_no_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no model"):
        read_card(tmp_path / "m.safetensors")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_card(tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ndim": 4},
        {"voxel_um": (0.1, 0.1)},
        {"voxel_um": (0.1, 0.0, 0.1)},
        {"tile": (0, 8, 8)},
        {"tile": (8.5, 8, 8)},
        {"classes": ()},
        {"classes": ("mito", "mito")},
        {"activation": "tanh"},
        {"normalise": {"how": "percentiles", "low": 1}},
        {"normalise": {"how": "instance"}},
        {"normalise": {"how": "range", "low": 3, "high": 3}},
        {"normalise": {"how": "percentiles", "low": "1", "high": 99}},
        {"classes": (3,)},
        {"reach": (1, 1)},
    ],
)
def test_a_card_that_contradicts_itself_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidConfiguration, match="a card"):
        with_card(tiny(), tmp_path, **wrong)
