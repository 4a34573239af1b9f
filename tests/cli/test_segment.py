"""The commands of models: segment is the pipeline it prints, and finds what the network says; a mistake is one sentence."""

from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from inference.models import VOXEL_UM, identity, needs_torch, tiny, with_card
from inference.volumes import blobs, store
from scipy import ndimage

from cristae.errors import CristaeError, InvalidConfiguration, InvalidInput, MissingExtra, UsageError
from cristae.grid import Box
from cristae.inference import named, segment
from cristae.labels import label, split
from cristae.pipeline.file import load
from cristae.pipeline.operations import known
from cristae.pipeline.segmenting import Wish, pipeline_of, remarks, written
from cristae.store.volume import open_volume
from cristae_cli.main import app

SHAPE = (6, 40, 40)
RANGE = {"how": "range", "low": 500, "high": 1000}
"""With the identity as network a voxel v has the probability sigmoid((v - 500) / 500)."""


@dataclass(frozen=True)
class Said:
    out: str
    err: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, a model that gives back what it sees, and a shelf with that model under a name."""
    store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    (tmp_path / "shipped").mkdir()
    path = identity(3, normalise=RANGE, tile=(6, 16, 16), training={"data": "drawn", "seeds": [1, 2]}, scores={"F1": 1})
    with_card(path, tmp_path / "shipped", "mito-3d.safetensors", classes=("mito",))
    monkeypatch.setattr(named, "FOLDER", tmp_path / "shipped")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cristae(capfd: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def call(*words: str) -> Said:
        app(list(words), standalone_mode=False)
        return Said(*capfd.readouterr())

    return call


def labelled(image: np.ndarray, above: float) -> np.ndarray:
    """What scipy says of the voxels that the network gives a probability above this."""
    value = 500 + 500 * np.log(above / (1 - above))
    found, _ = ndimage.label(image > value, np.ones((3, 3, 3)))
    return found


def labels_in(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Box.whole(volume.spatial_shape))


@needs_torch
@pytest.mark.parametrize("above", [0.5, 0.7])
def test_labels_are_the_components_of_what_the_network_says(
    folder: Path, cristae: Callable[..., Said], above: float
) -> None:
    said = cristae(
        "segment", "cell.ome.zarr", "--model", "mito-3d", "--no-split", "--above", str(above), "--cluster", "none"
    )
    labels = folder / "cell.ome.zarr" / "labels" / "mito"
    tables = folder / "cell.ome.zarr" / "tables" / "mito"
    assert [str(labels), str(tables / "overview.png")] == [said.out.splitlines()[n] for n in (0, -1)]
    expected = labelled(blobs(SHAPE), above)
    assert expected.max() > 5
    np.testing.assert_array_equal(labels_in(labels), expected)
    (row,) = csv.DictReader((tables / "summary.csv").open())
    assert int(row["objects"]) == expected.max()
    assert "mito-3d.safetensors" in (tables / "methods.md").read_text()
    assert (tables / "table.parquet").stat().st_size and (tables / "overview.png").stat().st_size


@needs_torch
def test_touching_objects_are_parted_unless_that_is_not_wanted(folder: Path, cristae: Callable[..., Said]) -> None:
    cristae("segment", "cell.ome.zarr", "--model", "mito-3d", "--cluster", "none", "--block", "4,20,20")
    image = blobs(SHAPE)
    chance = segment(model="mito-3d", voxel_um=VOXEL_UM[3], dtype="uint16")(image)
    parts = split(voxel_um=VOXEL_UM[3], by="probability", above=0.5)(chance)
    expected = label(voxel_um=VOXEL_UM[3], multilabel=True)(parts)
    np.testing.assert_array_equal(labels_in(folder / "cell.ome.zarr" / "labels" / "mito"), expected)
    assert expected.max() >= labelled(image, 0.5).max()


@needs_torch
def test_options_become_steps_and_several_images_one_run(folder: Path, cristae: Callable[..., Said]) -> None:
    store(folder / "other.ome.zarr", blobs(SHAPE, seed=1))
    words = ("cell.ome.zarr", "other.ome.zarr", "--model", "mito-3d", "--no-split", "--out", "out", "--name", "mine")
    cristae(
        "segment", *words, "--min-diameter-um", "0.6", "--measure", "shape", "--cluster", "none", "--block", "3,20,20"
    )
    for name, seed in (("cell", 0), ("other", 1)):
        whole = labelled(blobs(SHAPE, seed), 0.5)
        sizes = np.bincount(whole.ravel())[1:] * 0.25 * 0.11 * 0.1
        large = (sizes >= np.pi / 6 * 0.6**3).sum()
        assert 0 < large < whole.max()
        assert labels_in(folder / "out" / "labels" / f"{name}.ome.zarr").max() == large
    header = (folder / "out" / "objects.csv").read_text().splitlines()[0]
    assert "volume_um3" in header and "intensity" not in header
    assert (folder / "out" / ".cristae" / "mine").is_dir()


@needs_torch
def test_every_time_point_of_a_film_is_done_by_itself(folder: Path, cristae: Callable[..., Said]) -> None:
    frames = np.stack([blobs(SHAPE, seed) for seed in (0, 1)])
    np.save(folder / "film.npy", frames)
    size = ("--axes", "tzyx", "--voxel-um", "0.25,0.11,0.1", "--frame-interval-s", "2")
    cristae("segment", "film.npy", "--model", "mito-3d", "--no-split", "--out", "out", "--cluster", "none", *size)
    labels = open_volume(folder / "out" / "labels" / "film.ome.zarr")
    for t, image in enumerate(frames):
        np.testing.assert_array_equal(labels.read(Box.whole(SHAPE), t=t), labelled(image, 0.5))
    rows = list(csv.DictReader((folder / "out" / "objects.csv").open()))
    assert {row["t"] for row in rows} == {"0", "1"}


@needs_torch
def test_the_printed_pipeline_makes_the_same_and_has_nothing_left_to_do(
    folder: Path, cristae: Callable[..., Said]
) -> None:
    asked = ("--model", "mito-3d", "--separate-um", "0.3", "--blend", "crop", "--channel", "0")
    printed = cristae("segment", *asked, "--print").out
    assert "split: {min_separation_um: 0.3}" in printed and "blend: crop" in printed
    (folder / "mine.yaml").write_text(printed)
    cristae("segment", "cell.ome.zarr", *asked, "--cluster", "none")
    again = cristae("run", "mine.yaml", "cell.ome.zarr", "--cluster", "none")
    assert "nothing to do" in again.err


@pytest.mark.parametrize(
    "wish",
    [
        Wish("mito-3d"),
        Wish("mito-3d", channel="TMRM: 1", above=0.25, separate_um=0.4, min_diameter_um=0.0, name="a.b-c"),
        Wish(
            "mito-3d",
            tile=(4, 16, 16),
            overlap=0.25,
            blend="hann",
            mirror=True,
            precision="mixed",
            keep=True,
            measure=("volume_um3",),
        ),
    ],
)
def test_a_printed_pipeline_is_read_back_as_what_runs(folder: Path, wish: Wish) -> None:
    pipeline = pipeline_of(wish)
    assert load(written(pipeline, "cristae segment"), known()) == pipeline


def test_every_option_that_changes_a_result_is_in_the_pipeline() -> None:
    plain = Wish(tiny(3, classes=("mito", "golgi")), "mito")
    others = {
        "of": "golgi", "name": "x", "channel": "1", "above": 0.4, "min_diameter_um": 0.2, "separate_um": 0.2, "split": False, "tile": (8, 8, 8),
        "overlap": 0.2, "blend": "crop", "mirror": True, "precision": "mixed", "keep": True, "measure": ("shape",),
    }  # fmt: skip
    from dataclasses import fields, replace

    assert set(others) == {f.name for f in fields(Wish)} - {"model"}
    for name, value in others.items():
        assert pipeline_of(replace(plain, **{name: value})) != pipeline_of(plain), name


def test_the_smallest_object_is_what_the_maker_says_unless_the_user_does(folder: Path) -> None:
    path = tiny(3, training={"min_diameter_um": 0.35})
    assert pipeline_of(Wish(path)).objects[0].steps[-2].params == {"min_diameter_um": 0.35}
    assert pipeline_of(Wish(path, min_diameter_um=0.1)).objects[0].steps[-2].params == {"min_diameter_um": 0.1}
    assert pipeline_of(Wish(path, min_diameter_um=0.0)).objects[0].steps[-2].params == {}
    assert pipeline_of(Wish(tiny(3, training={"min_diameter_um": "small"}))).objects[0].steps[-2].params == {}


def test_a_class_that_is_no_name_becomes_one() -> None:
    assert pipeline_of(Wish(tiny(3, classes=("outer membrane (OMM)",)))).objects[0].name == "outer-membrane-OMM"


def test_a_plan_writes_nothing_and_needs_no_torch(
    folder: Path, cristae: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "torch")
    said = cristae("segment", "cell.ome.zarr", "--model", "mito-3d", "--out", "out", "--dry-run")
    assert "mito: label" in said.out and "a run would begin" in said.err
    assert not (folder / "out").exists()


def _without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == package else found(name, *more)
    )


WRONG: dict[str, tuple[type[CristaeError], tuple[str, ...], str]] = {
    "no such name": (InvalidConfiguration, ("--model", "mito3d"), "there is no model mito3d; the nearest is mito-3d"),
    "no such file": (InvalidConfiguration, ("--model", "gone.safetensors"), "there is no model gone.safetensors"),
    "a pickle": (InvalidInput, ("--model", "gone.pt"), "is a pickle"),
    "no such class": (InvalidConfiguration, ("--class", "golgi"), "mito-3d.safetensors knows mito, and --class golgi is not"),
    "no such channel": (InvalidInput, ("--channel", "TMRM"), "has no channel 'TMRM'; it has 0"),
    "a voxel of another size": (InvalidConfiguration, ("--voxel-um", "1,1,1"), "was trained on voxels of 0.25 x 0.11 x 0.1"),
    "no probability": (InvalidConfiguration, ("--above", "1.5"), "--above 1.5 is no probability"),
    "no length": (InvalidConfiguration, ("--separate-um", "-1"), "--separate-um -1 is no length"),
    "parted and not": (InvalidConfiguration, ("--separate-um", "0.3", "--no-split"), "leave one of them out"),
    "nor this": (InvalidConfiguration, ("--min-diameter-um", "nan"), "--min-diameter-um nan is no length"),
    "no name": (InvalidConfiguration, ("--name", "a/b"), "--name a/b cannot name a result"),
    "no tile": (UsageError, ("--tile", "some"), "--tile some is not a shape"),
    "a tile of the plane": (InvalidConfiguration, ("--tile", "16,16"), "segment: tile is [16, 16], but must be 3 numbers"),
    "no blend": (InvalidConfiguration, ("--blend", "soft"), "segment: blend is 'soft', but must be one of"),
    "no precision": (InvalidConfiguration, ("--precision", "half"), "segment: precision is 'half', but must be one of single, mixed"),
    "no column": (CristaeError, ("--measure", "shap"), "shap"),
}  # fmt: skip


@needs_torch
@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    folder: Path, cristae: Callable[..., Said], case: str
) -> None:
    kind, words, sentence = WRONG[case]
    model = () if "--model" in words else ("--model", "mito-3d")
    with pytest.raises(kind) as caught:
        cristae("segment", "cell.ome.zarr", *model, *words, "--out", "out", "--cluster", "none")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)
    assert not (folder / "out").exists()


@needs_torch
def test_a_model_of_stacks_refuses_a_plane(folder: Path, cristae: Callable[..., Said]) -> None:
    store(folder / "plane.ome.zarr", blobs((40, 40)))
    with pytest.raises(InvalidConfiguration, match=r"mito-3d.safetensors is for stacks, and the image is one plane"):
        cristae("segment", "plane.ome.zarr", "--model", "mito-3d", "--out", "out")
    assert not (folder / "out").exists()


def test_several_classes_and_none_named(folder: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="knows mito, golgi, and --class is not given; name one of them"):
        pipeline_of(Wish(tiny(3, classes=("mito", "golgi"))))


def test_without_the_extra_it_is_said_what_to_install(
    folder: Path, cristae: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    _without(monkeypatch, "torch")
    with pytest.raises(MissingExtra, match=r"needs torch, which is not installed; pip install 'cristae\[learn\]'"):
        cristae("segment", "cell.ome.zarr", "--model", "mito-3d", "--out", "out")
    assert not (folder / "out").exists()


def test_no_image_is_a_mistake_of_the_command_line(folder: Path, cristae: Callable[..., Said]) -> None:
    with pytest.raises(UsageError, match="segment was given no image"):
        cristae("segment", "--model", "mito-3d")


def test_voxels_that_differ_a_little_are_said_once(folder: Path, cristae: Callable[..., Said]) -> None:
    assert remarks(named.model_of("mito-3d"), open_volume(folder / "cell.ome.zarr")) == []
    for name in ("a", "b"):
        store(folder / f"{name}.ome.zarr", blobs(SHAPE), (0.25, 0.11, 0.105))
    said = cristae("segment", "a.ome.zarr", "b.ome.zarr", "--model", "mito-3d", "--out", "out", "--dry-run").err
    assert "voxels are not quite those that mito-3d was trained on, in um: x 0.105 for 0.1" in said.splitlines()
    assert said.splitlines()[0].startswith("mito-3d says nothing of its training images")
    assert said.count("not quite") == 1


def test_models_are_listed_by_name(folder: Path, cristae: Callable[..., Said]) -> None:
    shutil.copy(tiny(2), folder / "shipped" / "spots.safetensors")
    said = cristae("models").out
    lines = [line for line in said.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in lines] == ["mito-3d", "spots"]
    assert all(word in lines[0] for word in ("zyx", "0.25 x 0.11 x 0.1", "mito", "image", "drawn", "F1 1"))
    listed = json.loads(cristae("models", "--json").out)
    assert [one["name"] for one in listed] == ["mito-3d", "spots"]
    assert listed[0]["card"]["classes"] == ["mito"] and listed[0]["card"]["training"] == {
        "data": "drawn",
        "seeds": [1, 2],
    }
    assert listed[0]["weights"] == named.model_of("mito-3d").numbers


def test_a_card_is_told_whole(folder: Path, cristae: Callable[..., Said]) -> None:
    said = cristae("models", "mito-3d").out
    rows = dict(line.split("  ", 1) for line in said.splitlines())
    told = {name.strip(): value.strip() for name, value in rows.items()}
    assert told["name"] == "mito-3d" and told["finds"] == "mito" and told["training data"] == "drawn"
    assert told["score F1"] == "1" and told["training seeds"] == "[1, 2]"
    assert told["brightness"] == "500 of the image becomes 0, 1000 becomes 1"
    assert json.loads(cristae("models", "shipped/mito-3d.safetensors", "--json").out)["sha256"] == told["sha256"]


def test_where_no_model_comes_with_it_the_list_says_so(
    folder: Path, cristae: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(named, "FOLDER", folder / "nothing")
    assert cristae("models").out == "no model comes with this cristae; --model takes the path of a .safetensors file\n"
    assert json.loads(cristae("models", "--json").out) == []


def test_neither_command_needs_torch_to_speak_of_models(folder: Path, cristae: Callable[..., Said]) -> None:
    import subprocess

    script = (
        "import sys; sys.modules['torch'] = None\n"
        "from cristae_cli.main import app\n"
        f"for words in (['models'], ['models', {str(tiny(3))!r}], ['segment', '--model', {str(tiny(3))!r}, '--print']):\n"
        "    app(words, standalone_mode=False)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
