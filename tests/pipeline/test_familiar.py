"""Familiar: an image of any size, at any voxel size, beside a model's training tiles; a bounded part of it is read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference.volumes import store
from PIL import Image
from scipy import ndimage

from cristae.blocks.measure import ask
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.filters import resample
from cristae.grid import Box
from cristae.inference.appearance import names_of
from cristae.inference.card import Card, written
from cristae.inference.familiarity import reference
from cristae.inference.normalisation import brightness
from cristae.pipeline.familiar import LARGEST, MOST_TILES, MOST_VOXELS, check_model, familiar, places, seen
from cristae.pipeline.familiar_picture import familiar_picture
from cristae.pipeline.inputs import Inputs
from cristae.store.volume import Volume, open_volume

PLANE_UM, STACK_UM = (0.1, 0.1), (0.3, 0.1, 0.1)
PERCENTILES = {"how": "percentiles", "low": 1, "high": 99.8}


def field(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blobs of 0.2 um in noise, uint16."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=shape), (1.5, 2, 2)[-len(shape) :])
    return rng.poisson(100 + 300 * np.clip(rough / rough.std(), 0, None) ** 1.5).astype(np.uint16)


def card_of(ndim: int, tile: tuple[int, ...], seeds: int = 40, **facts: Any) -> Card:
    """Of a model that was trained on such fields."""
    voxel_um = STACK_UM[-ndim:]
    tiles = []
    for seed in range(seeds):
        found = field(tile, seed)
        at = ask(brightness(PERCENTILES, ndim=ndim, dtype="uint16"), found)
        tiles.append(((found - at.number("shift")) * at.number("scale")).astype(np.float32))
    told = {"normalise": PERCENTILES, "training": {"familiarity": reference(tiles, voxel_um)}, **facts}
    return Card("unet", {}, ndim, voxel_um, ("mito",), tile, (1,) * ndim, **told)


@pytest.fixture(scope="module")
def plane() -> Card:
    return card_of(2, (128, 128))


@pytest.fixture(scope="module")
def stack() -> Card:
    return card_of(3, (12, 48, 48))


def volume_of(path: Path, array: np.ndarray, voxel_um: tuple[float, ...] = STACK_UM) -> Volume:
    return open_volume(store(path / "a.ome.zarr", array, voxel_um, chunk=None), doubts=False)


# ------------------------------------------------------------------------------------------------- places


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 300)), min_size=2, max_size=3))
def test_places_lie_in_the_volume_are_few_and_cover_what_they_can(axes: list[tuple[int, int]]) -> None:
    shape, tile = [n for n, _ in axes], [t for _, t in axes]
    boxes = places(shape, tile)
    size = tuple(min(n, t) for n, t in zip(shape, tile, strict=True))
    assert all(box.shape == size and Box.whole(tuple(shape)).contains(box) for box in boxes)
    assert len(set(boxes)) == len(boxes) <= MOST_TILES and (len(boxes) == 1 or len(boxes) * prod(size) <= MOST_VOXELS)
    assert boxes == places(shape, tile)
    many = [-(-n // s) for n, s in zip(shape, size, strict=True)]
    if prod(many) == len(boxes):
        for axis, n in enumerate(shape):
            spans = sorted({(box.start[axis], box.stop[axis]) for box in boxes})
            assert spans[0][0] == 0 and spans[-1][1] == n
            assert all(b[0] <= a[1] for a, b in pairwise(spans))


def test_places_are_the_middles_of_equal_parts() -> None:
    assert [box.start for box in places((4000, 300), (100, 100))][:4] == [(45, 0), (45, 100), (45, 200), (236, 0)]
    assert [box.start for box in places((50, 1000), (64, 900))] == [(0, 0), (0, 100)]


# --------------------------------------------------------------------------------------------- resampling


@pytest.mark.parametrize(
    ("made", "voxel_um"), [((61, 77), (0.1, 0.1)), ((150, 190), (0.1, 0.1)), ((60, 190), (0.1, 0.1))]
)
def test_a_tile_of_other_voxels_is_what_pillow_and_the_stage_make_of_the_whole(
    tmp_path: Path, made: tuple[int, int], voxel_um: tuple[float, float]
) -> None:
    array = field((100, 131))
    volume = volume_of(tmp_path, array, voxel_um)
    whole = np.asarray(Image.fromarray(array.astype(np.float32)).resize(made[::-1], Image.Resampling.BILINEAR))
    to_um = [v * n / m for v, n, m in zip(voxel_um, array.shape, made, strict=True)]
    staged = resample(to_um=to_um, voxel_um=voxel_um)(array)
    assert staged.shape == made
    for box in (Box((0, 0), (40, 30)), Box((made[0] - 33, made[1] - 50), made), Box((20, 30), (55, 71))):
        np.testing.assert_allclose(seen(volume, box, made, 0, 0), whole[box.slices], rtol=1e-6)
        np.testing.assert_array_equal(seen(volume, box, made, 0, 0), staged[box.slices])


def test_an_image_of_finer_voxels_is_like_and_one_whose_voxels_are_said_wrong_is_not(
    plane: Card, tmp_path: Path
) -> None:
    array = field((500, 500), 99)
    like = familiar(plane, "m", volume_of(tmp_path / "a", array, PLANE_UM), 0)
    assert like.compared.verdict == "like" and like.looked_at == 16 and like.notes == ()
    same = familiar(plane, "m", volume_of(tmp_path / "b", array, (0.105, 0.095)), 0)
    assert same.compared == like.compared, "within a tenth nothing is resampled"
    for name, size in (("c", 0.3), ("d", 0.033)):
        other = familiar(plane, "m", volume_of(tmp_path / name, array, (size, size)), 0)
        assert other.compared.verdict == "unlike" and "is the voxel size right?" in other.compared.why
        assert other.notes[0] == f"seen at the model's voxels of 0.1 x 0.1 um; the image's are {size} x {size} um"


# ----------------------------------------------------------------------------------------- what is looked at


def test_a_model_of_the_plane_looks_at_planes_of_a_stack(plane: Card, tmp_path: Path) -> None:
    array = np.stack([field((150, 150), seed) for seed in range(50, 70)])
    found = familiar(plane, "m", volume_of(tmp_path, array), 0)
    assert found.compared.verdict == "like" and set(found.compared.z) == set(names_of(2))
    assert found.tile.shape == (128, 128) and found.looked_at == 4 * 16


def test_a_model_of_stacks_looks_along_z(stack: Card, tmp_path: Path) -> None:
    array = field((30, 100, 110), 77)
    like = familiar(stack, "m", volume_of(tmp_path / "a", array), 0)
    assert like.compared.verdict == "like" and like.tile.shape == (48, 48) and like.looked_at == 3 * 3 * 3
    other = familiar(stack, "m", volume_of(tmp_path / "b", np.repeat(array, 3, 0)), 0)
    assert other.compared.verdict == "unlike" and other.compared.parts["depth"] > 0.5


def test_levels_are_those_of_the_tiles_together(plane: Card, tmp_path: Path) -> None:
    """One tile of four is ten times as bright: by itself it would be like all others, beside them the others are faint."""
    array = field((256, 256), 5)
    array[:128, :128] = 100 + 10.0 * (array[:128, :128] - 100.0).clip(0)
    found = familiar(plane, "m", volume_of(tmp_path, array, PLANE_UM), 0)
    assert found.compared.tiles == 1 and found.looked_at == 4
    at = ask(brightness(PERCENTILES, ndim=2, dtype="uint16"), array)
    np.testing.assert_allclose(found.tile, (array[:128, :128] - at.number("shift")) * at.number("scale"), rtol=1e-6)


@pytest.mark.parametrize("how", [{"how": "none"}, {"how": "range", "low": 100, "high": 1500}, {"how": "standard"}])
def test_every_normalisation_is_that_of_the_network(plane: Card, tmp_path: Path, how: dict[str, Any]) -> None:
    array = field((128, 128), 5)
    found = familiar(replace(plane, normalise=how), "m", volume_of(tmp_path, array, PLANE_UM), 0)
    numbers = array.astype(np.float64)
    expected = {
        "none": numbers,
        "range": (numbers - 100) / 1400,
        "standard": (numbers - numbers.mean()) / numbers.std(),
    }[how["how"]]
    np.testing.assert_allclose(found.tile, expected, rtol=1e-5, atol=1e-6)


def test_one_channel_at_one_time_is_looked_at(plane: Card, tmp_path: Path) -> None:
    good, dark = field((128, 128), 5), np.full((128, 128), 7, np.uint16)
    path = tmp_path / "a.npy"
    np.save(path, np.stack([np.stack([dark, dark]), np.stack([dark, good])]))
    written(tmp_path / "m.safetensors", plane, {"w": np.zeros(1, np.float32)})
    said = {}
    for t in (0, 1):
        inputs = Inputs("tcyx", PLANE_UM, 1.0, channel="1", time=(t, t + 1))
        said[t] = check_model(str(tmp_path / "m.safetensors"), str(path), inputs)
    assert said[1].compared.verdict == "like" and said[0].compared.why.startswith(
        "nearly all of its voxels have one value"
    )
    with pytest.raises(InvalidInput, match="has 2 channels"):
        check_model(str(tmp_path / "m.safetensors"), str(path), Inputs("tcyx", PLANE_UM, 1.0))


def test_tiles_with_voxels_that_are_no_numbers_are_left_out(plane: Card, tmp_path: Path) -> None:
    array = field((256, 256), 5).astype(np.float32)
    array[10, 10] = np.nan
    found = familiar(plane, "m", volume_of(tmp_path / "a", array, PLANE_UM), 0)
    assert found.notes == ("1 of 4 tiles hold voxels that are not numbers, and were left out",)
    assert found.compared.verdict == "like" and found.compared.tiles == 3
    array[::100, ::100] = np.inf
    with pytest.raises(InvalidInput, match="holds voxels that are not numbers all over; give a --crop without them"):
        familiar(plane, "m", volume_of(tmp_path / "b", array, PLANE_UM), 0)
    huge = field((128, 128), 5).astype(np.float64)
    huge[3, 3] = 1e300
    with pytest.raises(InvalidInput, match="too large for the network's"):
        familiar(replace(plane, normalise={"how": "none"}), "m", volume_of(tmp_path / "c", huge, PLANE_UM), 0)


def test_memory_does_not_grow_with_the_image(plane: Card, tmp_path: Path) -> None:
    """Tiles of a large image are read one by one: 4 MiB at the model's voxel size, however many voxels there are."""
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, "w+", np.uint16, (8000, 8000))
    large[:] = np.tile(field((1000, 1000)), (8, 8))
    large.flush()
    volume = open_volume(path, axes="yx", voxel_um=PLANE_UM)
    tracemalloc.start()
    found = familiar(plane, "m", volume, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.looked_at == 64 and found.compared.verdict == "like"
    assert peak < 32 << 20 < large.nbytes


# ------------------------------------------------------------------------------------------------ sentences


def test_what_cannot_be_compared_is_one_sentence(plane: Card, stack: Card, tmp_path: Path) -> None:
    small = volume_of(tmp_path / "a", field((20, 200)), PLANE_UM)
    with pytest.raises(
        InvalidInput, match=r"has 20 x 200 voxels, too few to compare .* takes 32 x 32; give a larger image$"
    ):
        familiar(plane, "m", small, 0)
    shrunk = volume_of(tmp_path / "b", field((200, 200)), (0.01, 0.01))
    with pytest.raises(
        InvalidInput, match=r"model's voxel size are 20 x 20, too few .* or --voxel-um if its voxel size is said"
    ):
        familiar(plane, "m", shrunk, 0)
    with pytest.raises(InvalidConfiguration, match=r"m is for stacks, and .* is one plane; use a model of the plane"):
        familiar(stack, "m", small, 0)
    with pytest.raises(InvalidConfiguration, match=r"wants 2 channels \(a, b\)"):
        familiar(replace(plane, channels=("a", "b")), "m", small, 0)
    for training in ({}, {"seed": 1}, {"familiarity": None}):
        with pytest.raises(InvalidInput, match="m does not say what its training images look like"):
            familiar(replace(plane, training=training), "m", small, 0)


def test_a_tile_of_too_many_fine_voxels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fine.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (12000, 12000))  # a hole in the disk
    volume = open_volume(path, axes="yx", voxel_um=PLANE_UM)
    assert prod(volume.shape) > LARGEST
    with pytest.raises(
        InvalidInput, match="voxels up to 100 times finer than the model's, and a tile would take 144000000"
    ):
        seen(volume, Box((0, 0), (120, 120)), (120, 120), 0, 0)


def test_a_small_image_is_told_with_its_doubt(plane: Card, tmp_path: Path) -> None:
    found = familiar(plane, "m", volume_of(tmp_path, field((64, 90), 3), PLANE_UM), 0)
    assert "smaller than a training tile (64 x 90 voxels, not 128 x 128)" in found.notes[0]


def test_real_recordings_that_took_no_part_are_like_and_their_pixels_said_wrong_are_not(shared_data: Path) -> None:
    paths = sorted((shared_data / "physeg-real").glob("*_mito.tif"))
    recording = {path: path.name.split("_z")[0] for path in paths}
    assert len(set(recording.values())) == 3
    for left_out in set(recording.values()):
        tiles, rng = [], np.random.default_rng(1)
        for path in paths:
            if recording[path] != left_out:
                volume = open_volume(path, voxel_um=(0.08, 0.08), doubts=False)
                whole = volume.read(Box.whole(volume.spatial_shape)).astype(np.float32)
                low, high = np.percentile(whole, (1, 99.8))
                corners = rng.integers(0, np.array(whole.shape) - 128, (20, 2))
                tiles += [(whole[y : y + 128, x : x + 128] - low) / (high - low) for y, x in corners]
        told = {"normalise": PERCENTILES, "training": {"familiarity": reference(tiles, (0.08, 0.08))}}
        card = Card("unet", {}, 2, (0.08, 0.08), ("mito",), (128, 128), (1, 1), **told)
        path = next(p for p in paths if recording[p] == left_out)
        like, wrong = (
            familiar(card, "m", open_volume(path, voxel_um=(um, um), doubts=False), 0).compared for um in (0.08, 0.24)
        )
        assert like.verdict == "like" and wrong.verdict == "unlike" and "is the voxel size right?" in wrong.why


# --------------------------------------------------------------------------------------- picture and command


def test_the_picture_shows_the_number_in_its_null_and_the_tile(plane: Card, stack: Card, tmp_path: Path) -> None:
    like = familiar(plane, "m", volume_of(tmp_path / "a", field((256, 256), 5), PLANE_UM), 0)
    inverse = familiar(plane, "m", volume_of(tmp_path / "b", 3000 - field((256, 256), 5).clip(0, 3000), PLANE_UM), 0)
    deep = familiar(stack, "m", volume_of(tmp_path / "c", field((12, 48, 48), 99)), 0)
    near, far, taller = (familiar_picture(one) for one in (like, inverse, deep))
    assert near.dtype == np.uint8 and near.shape[1:] == (1180, 3)
    orange = [np.flatnonzero((p[:420, :560] == (255, 176, 64)).all(-1).sum(0) > 150) for p in (near, far)]
    assert len(orange[0]) == len(orange[1]) == 3, "one line"
    assert orange[0].max() < orange[1].min(), "farther is to the right"
    assert taller.shape[0] > 900 and not (taller == taller[0, 0]).all()
    blank = familiar(plane, "m", volume_of(tmp_path / "d", np.zeros((128, 128), np.uint8), PLANE_UM), 0)
    assert familiar_picture(blank).shape[1] == 1180


def cristae(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from cristae_cli.main import main; main()", "check-model", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", "NO_COLOR": "1"},
        check=False,
    )


def test_the_command_says_one_line_and_exits_0_whatever_the_line_is(plane: Card, tmp_path: Path) -> None:
    written(tmp_path / "m.safetensors", plane, {"w": np.zeros(1, np.float32)})
    written(tmp_path / "old.safetensors", replace(plane, training={}), {"w": np.zeros(1, np.float32)})
    store(tmp_path / "like.ome.zarr", field((256, 256), 5), PLANE_UM)
    store(tmp_path / "not.ome.zarr", 3000 - field((256, 256), 5).clip(0, 3000), PLANE_UM)
    like = cristae(tmp_path, "m.safetensors", "like.ome.zarr", "--picture", "new/p.png")
    assert like.returncode == 0, like.stderr
    assert like.stdout.count("\n") == 1 and like.stdout.endswith(": like what it was trained on\n")
    assert like.stderr.strip() == "new/p.png" and Image.open(tmp_path / "new" / "p.png").width == 1180
    other = cristae(tmp_path, "m.safetensors", "not.ome.zarr", "--json")
    assert other.returncode == 0
    told = json.loads(other.stdout)
    assert told["verdict"] == "unlike" and told["distance"] > 3 and "inverted" in told["most_unlike"]
    assert len(told["tiles"]["distances"]) == told["tiles"]["compared"] == 4 and set(told["z"]) == set(names_of(2))
    for words, code, said in (
        (("old.safetensors", "like.ome.zarr"), 3, "old.safetensors does not say what its training images look like"),
        (("gone.safetensors", "like.ome.zarr"), 3, "there is no model gone.safetensors"),
        (("m.safetensors", "like.ome.zarr", "--picture", "p.jpg"), 2, "--picture p.jpg is no picture; end it in .png"),
        (("m.safetensors", "like.ome.zarr", "--channel", "dapi"), 3, "has no channel 'dapi'"),
    ):
        done = cristae(tmp_path, *words)
        assert done.returncode == code and said in " ".join(done.stderr.split()), done.stderr
        assert done.stdout == "" and "Traceback" not in done.stderr
