"""Models by name: a word is a shipped model or a path, and a wrong one is answered with the nearest right one."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from inference.models import tiny, with_card
from inference.volumes import blobs, job, store

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference import named
from cristae.inference.card import read_card, read_tensors
from cristae.inference.segment import segment


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models that holds two."""
    folder = tmp_path / "shipped"
    folder.mkdir()
    shutil.copy(tiny(3, tile=(4, 16, 16)), folder / "mito-3d.safetensors")
    shutil.copy(tiny(2, tile=(16, 16)), folder / "mito-2d.safetensors")
    (folder / "README.md").write_text("no model")
    monkeypatch.setattr(named, "FOLDER", folder)
    return folder


def test_every_file_that_is_shipped_is_a_model_of_its_name() -> None:
    assert named.FOLDER.is_dir()
    for model in named.models():
        assert model.card.classes and named.is_name(model.name) and model.bytes < 20 << 20, model.name


def test_a_model_that_is_not_as_it_was_shipped_is_refused(shelf: Path) -> None:
    shipped = files("cristae.inference") / "shipped"
    listed = {line.split()[1] for line in (shipped / "SHA256SUMS").read_text().splitlines()}
    assert listed == {path.name for path in shipped.iterdir() if path.name.endswith(".safetensors")}
    (shelf / "SHA256SUMS").write_text(f"{named.model_of('mito-3d').sha256}  mito-3d.safetensors\n")
    assert named.model_of("mito-3d").card.ndim == 3
    path = shelf / "mito-3d.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(InvalidInput, match="is not the file that came with cristae; install cristae again"):
        named.model_of("mito-3d")


def test_what_is_shipped_is_in_the_package_that_is_built_and_not_ignored() -> None:
    root = Path(__file__).resolve().parents[2]
    built = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    assert any(named.FOLDER.is_relative_to(root / folder) for folder in built)
    if not (root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no git here to ask what is ignored, which a build leaves out")
    asked = ["git", "check-ignore", "--no-index", "-q", str(named.FOLDER / "mito-3d.safetensors")]
    assert subprocess.run(asked, cwd=root, check=False).returncode == 1
    asked[-1] = str(named.FOLDER / "__pycache__" / "x.pyc")
    assert subprocess.run(asked, cwd=root, check=False).returncode == 0


def test_a_name_is_the_file_on_the_shelf(shelf: Path) -> None:
    assert named.names() == ("mito-2d", "mito-3d")
    assert named.model_path("mito-3d") == shelf / "mito-3d.safetensors"
    assert [m.card.ndim for m in named.models()] == [2, 3]


def test_a_name_comes_before_a_file_of_that_name_and_a_path_is_taken_as_it_is(
    shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mito-3d", "mine"):
        shutil.copy(tiny(3), tmp_path / name)
    assert named.model_path("mito-3d").parent == shelf
    assert named.model_path("mine") == Path("mine")
    assert named.model_path("./mito-3d") == Path("./mito-3d")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mito3d", "there is no model mito3d; the nearest is mito-3d, all are mito-2d, mito-3d; or give the path"),
        ("MITO-2D", "the nearest is mito-2d"),
        ("golgi", "there is no model golgi; there are mito-2d, mito-3d; or give the path of a .safetensors file"),
        ("gone/mito-3.safetensors", "there is no model gone/mito-3.safetensors; the nearest is mito-"),
    ],
)
def test_an_unknown_word_is_answered_with_the_nearest(shelf: Path, word: str, said: str) -> None:
    with pytest.raises(InvalidConfiguration) as caught:
        named.model_path(word)
    assert said in str(caught.value)


def test_where_none_is_shipped_the_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "FOLDER", tmp_path / "nothing")
    assert named.models() == ()
    with pytest.raises(InvalidConfiguration, match="there is no model mito-3d, and none comes with this cristae"):
        named.model_path("mito-3d")


def test_a_pickle_is_still_refused_as_one(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="is a pickle"):
        named.model_of(str(tmp_path / "gone.pt"))


def test_the_numbers_of_a_file_are_those_of_its_tensors() -> None:
    path = tiny(3)
    _, tensors = read_tensors(path, Path(path).read_bytes())
    floats = sum(array.size for array in tensors.values() if array.dtype == np.float32)
    found = named.model_of(path)
    assert found.numbers == floats > 0
    assert found.bytes == Path(path).stat().st_size and found.sha256 == read_card(path)[1]


def test_the_step_takes_a_name_and_is_the_step_of_the_file(shelf: Path) -> None:
    by_name = segment(model="mito-3d", voxel_um=(0.25, 0.11, 0.1))
    by_path = segment(model=str(shelf / "mito-3d.safetensors"), voxel_um=(0.25, 0.11, 0.1))
    assert by_name.params == by_path.params and by_name.apply.keywords == by_path.apply.keywords


def test_a_name_in_a_pipeline_is_no_file_beside_it(shelf: Path, tmp_path: Path) -> None:
    from cristae.pipeline.file import load
    from cristae.pipeline.operations import known

    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a.yaml").write_text("steps:\n  - segment: {model: mito-3d}\n")
    (folder / "b.yaml").write_text("steps:\n  - segment: {model: own.safetensors}\n")
    models = [load(folder / name, known()).objects[0].steps[0].params["model"] for name in ("a.yaml", "b.yaml")]
    assert models == ["mito-3d", str(folder / "own.safetensors")]


def test_a_mistake_in_a_pipeline_has_its_place(shelf: Path, tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs((4, 16, 16)))
    with pytest.raises(InvalidConfiguration, match=r"line 3: there is no model mito3d; the nearest is mito-3d"):
        job(cell, tmp_path / "out", "output: {name: mito}\nsteps:\n  - segment: {model: mito3d}\n")


def test_a_damaged_file_on_the_shelf_is_named(shelf: Path) -> None:
    path = shelf / "mito-3d.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InvalidInput, match=r"mito-3d.safetensors is cut short"):
        named.models()
    with_card(tiny(2), shelf, "mito-3d.safetensors", classes=("other",))
    assert named.model_of("mito-3d").card.classes == ("other",)
