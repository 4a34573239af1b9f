"""The end of the demo: a network beside Otsu's threshold, both beside the truth; without a model, a sentence."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars
import pytest
from inference.models import identity, needs_torch, with_card
from inference.volumes import store
from scipy import ndimage

from cristae.evaluation.scores import evaluate
from cristae.grid import Box
from cristae.inference import named, segment
from cristae.labels import label, split
from cristae.pipeline import finale as end
from cristae.pipeline.demo import VOXEL_UM, Shown
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume
from cristae_cli.show import show_demo

SHAPE = (8, 48, 40)
SIDE = 32
BRIGHT = 500
"""Between ground and foreground of the image; the stand-in's probability is one half there."""


def quiet(event: dict[str, object]) -> None:
    pass


@pytest.fixture
def cell(tmp_path: Path) -> Path:
    """Balls of a few radii with noise, and what is true of them in labels/mito."""
    rng = np.random.default_rng(5)
    rough = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1.5, 3, 3))
    truth, _ = ndimage.label(rough > 1.2 * rough.std())
    image = (100 + 800 * ndimage.gaussian_filter((truth > 0).astype(float), 0.5) + rng.normal(0, 30, SHAPE)).astype(
        np.uint16
    )
    path = store(tmp_path / "cell.ome.zarr", image, VOXEL_UM)
    made = create_volume(
        path / "labels" / "mito", kind="label", axes="zyx", shape=SHAPE, dtype="uint32", voxel_um=VOXEL_UM, chunk=SHAPE, shard=SHAPE
    )  # fmt: skip
    made.write(Box.whole(SHAPE), truth.astype(np.uint32))
    publish(made)
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shipped"
    folder.mkdir()
    path = identity(3, normalise={"how": "range", "low": BRIGHT, "high": BRIGHT + 100}, tile=(8, 16, 16))
    with_card(path, folder, f"{end.MODEL}.safetensors", classes=("mito",), voxel_um=VOXEL_UM)
    monkeypatch.setattr(named, "FOLDER", folder)
    return folder


def middle_of(array: np.ndarray) -> np.ndarray:
    return array[:, 8:40, 4:36]


@needs_torch
def test_the_network_is_scored_beside_otsu_on_the_same_box(cell: Path, shelf: Path, tmp_path: Path) -> None:
    said: list[str] = []
    truth = open_volume(cell / "labels" / "mito").read(Box.whole(SHAPE))
    found = end.finale(cell, open_volume(cell / "labels" / "mito"), tmp_path / "out", quiet, said.append, side=SIDE)
    assert found is not None and said == [
        "5. a trained network, mito-3d, on a box of 8 x 32 x 32 voxels, beside a threshold of Otsu's"
    ]
    assert (found.box.start, found.box.stop) == ((0, 8, 4), (8, 40, 36))
    assert list(found.scores) == ["Otsu", "ridge, then Otsu", "mito-3d"]
    assert found.scores["ridge, then Otsu"]["one_f1"] == 1, "the truth itself stood in for the ridge"
    assert found.true == len(np.unique(middle_of(truth))) - 1 > 3

    image = middle_of(open_volume(cell).read(Box.whole(SHAPE)))
    chance = segment(model=end.MODEL, voxel_um=VOXEL_UM, dtype=str(image.dtype))(image)
    parts = split(voxel_um=VOXEL_UM, by="probability", above=0.5)(chance)
    alone = label(voxel_um=VOXEL_UM, multilabel=True, min_diameter_um=end.SMALLEST_UM)(parts)
    expected = evaluate(alone, middle_of(truth))
    assert found.scores["mito-3d"] == pytest.approx({name: expected[name] for name in end.FIGURES})
    sizes = np.bincount(alone.ravel())[1:]
    assert found.table["voxels"].to_list() == sorted(sizes.tolist(), reverse=True)[: end.LARGEST]
    assert 0 < found.read <= found.blocks == 16


def test_without_the_model_the_demo_says_so(cell: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named, "FOLDER", tmp_path / "nothing")
    said: list[str] = []
    assert end.finale(cell, open_volume(cell), tmp_path / "out", quiet, said.append) is None
    assert said == ["5. no model mito-3d comes with this cristae, so the demo ends without a network"]
    assert not (tmp_path / "out").exists()


def test_without_torch_the_demo_says_what_to_install(
    cell: Path, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    said: list[str] = []
    assert end.finale(cell, open_volume(cell), tmp_path / "out", quiet, said.append) is None
    assert len(said) == 1 and "pip install 'cristae[learn]'" in said[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(end.MODEL not in named.names(), reason=f"no model {end.MODEL} comes with this cristae")
def test_the_model_that_comes_with_cristae_takes_the_demos_cell() -> None:
    assert segment(model=end.MODEL, voxel_um=VOXEL_UM).name == "segment"


@pytest.mark.parametrize("with_network", [True, False])
def test_what_the_demo_found_is_shown(with_network: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"label": [7], "voxels": [90], "volume_um3": [1.5], "axis_major_um": [2.0], "surface_um2": [3.0]}
    objects = polars.DataFrame({**row, "euler_number": [1], "intensity_mean": [300.25]})
    objects.write_parquet(tmp_path / "objects.parquet")
    scores = {"Otsu": dict.fromkeys(end.FIGURES, 0.25), "mito-3d": dict.fromkeys(end.FIGURES, 0.75)}
    network = end.Finale(Box((0, 8, 4), (8, 40, 36)), 11, scores, tmp_path / "labels", objects, 3, 16, 42.0)
    numbers = {"voxels": 10, "differ": 0, "objects": 1, "true": 1, "pairs": 1, "bias": 0.1, "spread": 0.2, "killed": 1}
    places = {"image": tmp_path, "table": tmp_path / "objects.parquet", "picture": tmp_path / "truth.png"}
    rest = {"peak": 1 << 30, "volume_bytes": 20, "retries": 0, "finale": network if with_network else None}
    show_demo(Shown(**places, **numbers, **rest), tmp_path)
    said = capsys.readouterr().out
    assert "0 voxels differ of 10" in said and "cristae run mitochondria" in said
    told = (
        "8 x 32 x 32 voxels with 11 true objects",
        "mito-3d",
        "0.75",
        "read 3 of 16 blocks",
        "300.25",
        "cristae segment",
    )
    assert all((word in said) == (with_network or word == "300.25") for word in told)
