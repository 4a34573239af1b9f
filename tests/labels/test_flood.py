"""Basins against a plain priority flood, scikit-image's watershed and h-minima, and shapes whose basins are known."""

from __future__ import annotations

import heapq
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.drawn import table_of
from scipy import ndimage
from skimage.morphology import h_minima, local_minima, reconstruction
from skimage.segmentation import watershed
from typer.testing import CliRunner

from cristae.blocks.stage import Spec
from cristae.blocks.work import Ref
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.evaluation.partition import partition_counts, partition_figures
from cristae.filters import gradient
from cristae.grid import Box
from cristae.labels import flood
from cristae.labels.flood import flooded
from cristae.pipeline.chain import chain_of
from cristae.pipeline.compile import Node
from cristae.pipeline.file import Object, Step
from cristae.store.volume import open_volume
from cristae_cli.main import app


def hills(shape: tuple[int, ...], seed: int, levels: int = 256, width: float = 1.5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random(shape), width)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * (levels - 1)).astype(np.uint8)


def imposed(image: np.ndarray, tolerance: float, connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Extended minima, numbered, and the image that has no others, as MorphoLibJ makes them."""
    structure = ndimage.generate_binary_structure(image.ndim, connectivity)
    real = image.astype(np.float64)
    filled = reconstruction(real + tolerance, real, "erosion", structure)
    markers, _ = ndimage.label(local_minima(filled, connectivity=connectivity), structure)
    floor = np.where(markers > 0, -1.0, real)
    return markers, reconstruction(np.where(markers > 0, -1.0, 1e9), floor, "erosion", structure)


def plainly(image: np.ndarray, tolerance: float, connectivity: int, dams: bool) -> np.ndarray:
    """A priority queue by level and age, with no cleverness: the flood as it is written in words."""
    markers, levels = imposed(image, tolerance, connectivity)
    steps = [s for s in product((-1, 0, 1), repeat=image.ndim) if 0 < np.abs(s).sum() <= connectivity]
    out = np.where(markers > 0, markers, -1)
    queued = {tuple(at) for at in np.argwhere(markers > 0).tolist()}
    queue: list[tuple[float, int, tuple[int, ...], int]] = []
    age = 0

    def around(at: tuple[int, ...]) -> list[tuple[int, ...]]:
        near = [tuple(a + d for a, d in zip(at, step, strict=True)) for step in steps]
        return [p for p in near if all(0 <= a < n for a, n in zip(p, image.shape, strict=True))]

    def onward(at: tuple[int, ...]) -> None:
        nonlocal age
        for p in around(at):
            if p not in queued:
                queued.add(p)
                heapq.heappush(queue, (float(levels[p]), age, p, int(out[at])))
                age += 1

    for at in np.argwhere(markers > 0).tolist():
        onward(tuple(at))
    while queue:
        _, _, at, came = heapq.heappop(queue)
        if dams and {int(out[p]) for p in around(at) if out[p] > 0} - {came}:
            out[at] = 0
            continue
        out[at] = came
        onward(at)
    return np.maximum(out, 0)


def renumbered(basins: np.ndarray) -> np.ndarray:
    """In the raster order of their first voxel."""
    _, first = np.unique(basins, return_index=True)
    names = basins.ravel()[np.sort(first)]
    number = np.zeros(basins.max() + 1, np.int64)
    number[names[names > 0]] = np.arange(1, (names > 0).sum() + 1)
    return number[basins]


@pytest.mark.parametrize("dams", [True, False])
@pytest.mark.parametrize(("shape", "connectivity"), [((22, 24), 1), ((22, 24), 2), ((6, 9, 10), 1), ((6, 9, 10), 3)])
@pytest.mark.parametrize(("levels", "tolerance"), [(256, 20), (256, 0), (12, 1), (4, 0)])
def test_basins_are_those_of_a_plain_priority_flood_voxel_by_voxel(
    shape: tuple[int, ...], connectivity: int, dams: bool, levels: int, tolerance: float
) -> None:
    for seed in range(3):
        image = hills(shape, seed, levels, 1.0)
        found = flooded(image, tolerance, connectivity, dams)
        assert np.array_equal(found, renumbered(plainly(image, tolerance, connectivity, dams)))


def ari(one: np.ndarray, other: np.ndarray) -> float:
    return partition_figures(partition_counts(table_of(one, other)))["ari"]


@pytest.mark.parametrize("shape", [(160, 170), (12, 40, 44)])
@pytest.mark.parametrize("seed", range(2))
def test_the_watershed_of_scikit_image_is_nearly_the_same(shape: tuple[int, ...], seed: int) -> None:
    """It settles what is as high and as near otherwise."""
    image = hills(shape, seed, width=4.0)
    markers, levels = imposed(image, 10, 1)
    theirs = watershed(levels, markers, connectivity=1)
    found = flooded(image, 10, 1, dams=False)
    assert found.max() == markers.max() > 5
    assert ari(found, theirs) > 0.99
    found, theirs = flooded(image, 10, 1), watershed(levels, markers, connectivity=1, watershed_line=True)
    both = (found > 0) & (theirs > 0)  # its lines are wider, and end elsewhere
    assert both.mean() > 0.8 and ari(found * both, theirs * both) > 0.9


def test_every_h_minimum_has_its_basin() -> None:
    image = hills((120, 130), 5, width=3.0)
    # scikit-image counts a depth of h in, MorphoLibJ does not: between whole numbers there is no difference.
    deep, many = ndimage.label(h_minima(image.astype(np.float64), 9.5, ndimage.generate_binary_structure(2, 1)))
    found = flooded(image, 9.5, 1, dams=False)
    assert found.max() == many > 5
    assert len({int(found[deep == n][0]) for n in range(1, many + 1)}) == many


def test_dams_keep_every_two_basins_apart_and_are_one_voxel_wide() -> None:
    image = hills((60, 70), 7, width=3.0)
    for connectivity in (1, 2):
        found = flooded(image, 10, connectivity)
        pieces, many = ndimage.label(found > 0, ndimage.generate_binary_structure(2, connectivity))
        assert many == found.max() and np.array_equal(renumbered(pieces), found)
        assert not (found[1:, 1:] + found[:-1, 1:] + found[1:, :-1] + found[:-1, :-1] == 0).any()


def test_a_disc_on_a_ground_is_two_basins_after_its_gradient() -> None:
    y, x = np.mgrid[:60, :64]
    disc = np.hypot(y - 30, x - 32) < 14
    image = ndimage.gaussian_filter(np.where(disc, 200.0, 20.0), 1.0).astype(np.float32)
    found = flood(voxel_um=(0.1, 0.1), tolerance=10.0)(gradient(0.1, voxel_um=(0.1, 0.1))(image))
    assert found.max() == 2 and found[0, 0] == 1 and found[30, 32] == 2
    inside = found == 2
    assert 0.85 * disc.sum() < inside.sum() < disc.sum() and not (inside & ~disc).any()


def test_a_flat_saddle_is_shared_by_both_sides() -> None:
    line = np.array([[0, *[50] * 10, 0]], np.uint8)
    assert flooded(line, 10, 1, dams=False).tolist() == [[1] * 6 + [2] * 6]
    assert flooded(np.array([[0, *[50] * 9, 0]], np.uint8), 10, 1).tolist() == [[1] * 5 + [0] + [2] * 5]


@pytest.mark.parametrize(("tolerance", "many"), [(9, 2), (9.99, 2), (10, 1), (11, 1)])
def test_a_place_as_deep_as_the_tolerance_is_none_of_its_own(tolerance: float, many: int) -> None:
    assert flooded(np.array([[5, 30, 20]], np.uint8), tolerance, 1, dams=False).max() == many


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "bool", "uint64"])
def test_types_and_memory_orders_change_nothing(dtype: str) -> None:
    image = hills((20, 24), 3, 2 if dtype == "bool" else 100)
    expected = flooded(image, 0)
    for given in (image.astype(dtype), np.asfortranarray(image.astype(dtype)), image.astype(dtype)[:, ::-1][:, ::-1]):
        assert np.array_equal(flooded(given, 0), expected)


def test_what_cannot_be_flooded_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"tolerance": -1}, "tolerance is -1"),
        ({"tolerance": float("nan")}, "tolerance is nan"),
        ({"connectivity": 3}, "connectivity 3 is not possible in 2D"),
        ({"dams": "no"}, "dams is 'no'"),
    ]
    for user, said in wrong:
        with pytest.raises(InvalidConfiguration, match=said):
            flood(voxel_um=(1.0, 1.0), **user)
    image = np.ones((4, 5), np.float32)
    image[1, 1] = np.nan
    with pytest.raises(InvalidInput, match="NaN"):
        flood(voxel_um=(1, 1))(image)
    monkeypatch.setattr(sys.modules["cristae.labels.flood"], "LARGEST", 12)  # the package has a function of that name
    with pytest.raises(InvalidInput, match="takes an image whole"):
        flood(voxel_um=(1, 1))(np.ones((4, 5), np.float32))


def test_a_run_of_many_blocks_parts_what_one_block_does(tmp_path: Path) -> None:
    image = hills((6, 30, 34), 2)
    np.save(tmp_path / "a.npy", image)
    (tmp_path / "p.yaml").write_text(
        "steps:\n  - gradient: {radius_um: 0.1}\n  - flood: {tolerance: 12}\n  - label\n  - measure: [index]\n"
    )
    for name, block in (("one", "6,30,34"), ("many", "4,13,16")):
        words = ["run", str(tmp_path / "p.yaml"), str(tmp_path / "a.npy"), "--out", str(tmp_path / name)]
        size = ["--axes", "zyx", "--voxel-um", "0.1,0.1,0.1", "--cluster", "none", "--block", block]
        done = CliRunner().invoke(app, [*words, *size])
        assert done.exit_code == 0, done.output
    one, many = (read(tmp_path / name / "labels" / "a.ome.zarr") for name in ("one", "many"))
    assert np.array_equal(one, many)
    edges = gradient(0.1, voxel_um=(0.1,) * 3, dtype="uint8")(image)
    assert np.array_equal(one, flooded(edges, 12.0)) and one.max() > 5


def read(path: Path) -> np.ndarray:
    volume = open_volume(str(path))
    return volume.read(Box.whole(volume.spatial_shape))


def test_what_follows_keeps_basins_apart() -> None:
    spec = Spec((9, 9), "float32", (0.1, 0.1))
    raw = Ref("input", 0)

    def chained(*steps: Step) -> Node:
        return chain_of(Object("cells", None, steps), spec, raw)[0]

    assert chained(Step("flood"), Step("label")).stage.params["multilabel"] is True
    with pytest.raises(InvalidConfiguration, match="fill_holes after flood would join what it parted"):
        chained(Step("flood"), Step("fill_holes"), Step("label"))
    with pytest.raises(InvalidConfiguration, match="label after flood would join"):
        chained(Step("flood"), Step("label", {"multilabel": False}))
