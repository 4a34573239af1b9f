"""Basins: touching objects are parted as one plain loop over the whole volume parts them, whatever the blocks."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import done, labels_of, main_job, store
from scipy import ndimage
from skimage.segmentation import watershed

from cristae.blocks.evaluate import whole
from cristae.errors import InvalidConfiguration
from cristae.filters import heights
from cristae.labels import basins_kernel, label, split
from cristae.labels.basins_kernel import distances
from cristae.pipeline.job import Settings

VOXEL_UM = (0.3, 0.1, 0.1)
EVERY = np.ones((3, 3, 3), bool)


def by_hand(
    height: np.ndarray, foreground: np.ndarray, voxel_um: tuple[float, ...], apart: float, top: float
) -> np.ndarray:
    """The definition, voxel by voxel: links to the highest neighbour, from summits to the highest summit, and over what is flat."""
    order = np.full(height.shape, -1, np.int64)
    places = np.argwhere(foreground)
    ranked = sorted(map(tuple, places), key=lambda p: (height[p], p))
    for n, place in enumerate(ranked):
        order[place] = n
    highest = ndimage.maximum_filter(order, footprint=np.ones((3,) * height.ndim), mode="constant", cval=-1)
    summit = foreground & (highest == order)
    name = np.arange(len(ranked))

    def root(n: int) -> int:
        while name[n] != n:
            n = name[n]
        return n

    def join(a: int, b: int) -> None:
        name[max(root(a), root(b))] = min(root(a), root(b))

    sides = np.array(voxel_um)
    for place in ranked:
        goal = int(highest[place])
        if summit[place]:
            away = ((places - place) * sides) ** 2
            ball = np.zeros(height.shape, bool)
            ball[tuple(places[away.sum(axis=1) <= apart**2].T)] = True
            joined = ndimage.label(ball, np.ones((3,) * height.ndim))[0]
            near = summit & (joined == joined[place])
            goal = int(order[near].max())
        join(int(order[place]), goal)
    for axis in range(height.ndim):
        flat = height >= top
        a, b = (np.moveaxis(flat, axis, 0)[s] for s in (slice(None, -1), slice(1, None)))
        one, other = (np.moveaxis(order, axis, 0)[s][a & b] for s in (slice(None, -1), slice(1, None)))
        for i, j in zip(one, other, strict=True):
            join(int(i), int(j))
    out = np.zeros(height.shape, np.uint32)
    seen: dict[int, int] = {}
    for place in map(tuple, places):
        out[place] = seen.setdefault(root(int(order[place])), len(seen) + 1)
    return out


def blobs(shape: tuple[int, ...], seed: int, width: float = 1.5, density: float = 0.45) -> np.ndarray:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), width)
    return smooth > np.quantile(smooth, 1 - density)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("apart", "reach"), [(0.25, 0.4), (0.35, 0.2), (0.12, 1.0)])
def test_it_is_the_plain_definition_by_distance(seed: int, apart: float, reach: float) -> None:
    mask = blobs((9, 20, 22), seed)
    limited = np.minimum(ndimage.distance_transform_edt(mask, sampling=VOXEL_UM), reach).astype(np.float32)
    # Equal distances must be equal numbers: those of the kernel, which the next test compares with scipy's.
    height = distances(mask, np.array(VOXEL_UM), reach)
    np.testing.assert_allclose(height, limited, rtol=1e-6)
    expected = by_hand(height, mask, VOXEL_UM, apart, float(height.max()) if height.max() >= reach * 0.9999 else np.inf)
    found = split(voxel_um=VOXEL_UM, min_separation_um=apart, reach_um=reach)(mask)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_plain_definition_by_intensity_in_the_plane(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, image = blobs((40, 44), seed), rng.integers(0, 5, (40, 44)).astype(np.uint16)
    shown = whole(heights(voxel_um=(0.1, 0.1)), mask, image)
    assert (shown[~mask] == np.finfo(np.float32).min).all() and (shown[mask] == image[mask]).all()
    found = split(voxel_um=(0.1, 0.1), min_separation_um=0.32, by="intensity")(shown)
    np.testing.assert_array_equal(found, by_hand(shown, mask, (0.1, 0.1), 0.32, np.inf))


@pytest.mark.parametrize(
    ("spacing", "limit", "halo"), [((0.3, 0.1, 0.1), 0.5, (2, 5, 5)), ((0.25, 0.25, 0.25), 0.3, (2, 2, 2))]
)
@pytest.mark.parametrize("seed", range(4))
def test_a_bounded_distance_needs_no_more_than_its_bound(
    spacing: tuple[float, ...], limit: float, halo: tuple[int, ...], seed: int
) -> None:
    """min(distance, D) from blocks with a halo of D / h voxels, rounded up, equals that of the whole volume."""
    assert tuple(int(np.ceil(limit / h)) for h in spacing) == halo
    mask = blobs((14, 30, 33), seed, 2.0, 0.7)
    expected = np.minimum(ndimage.distance_transform_edt(mask, sampling=spacing), limit)
    every = distances(mask, np.array(spacing), limit)
    np.testing.assert_allclose(every, expected, rtol=1e-6)
    core = (slice(5, 9), slice(10, 18), slice(11, 20))
    wide = tuple(slice(s.start - n, s.stop + n) for s, n in zip(core, halo, strict=True))
    part = distances(np.ascontiguousarray(mask[wide]), np.array(spacing), limit)
    inner = tuple(slice(n, n + s.stop - s.start) for s, n in zip(core, halo, strict=True))
    np.testing.assert_array_equal(part[inner], every[core])
    less = tuple(slice(s.start - max(n - 1, 0), s.stop + max(n - 1, 0)) for s, n in zip(core, halo, strict=True))
    assert distances(np.ascontiguousarray(mask[less]), np.array(spacing), limit).shape == mask[less].shape


def balls() -> np.ndarray:
    """Twelve balls of 1.6 um, each overlapping the next."""
    mask = np.zeros((24, 100, 130), bool)
    z, y, x = np.indices(mask.shape)
    for cy in (18, 46, 74):
        for cx in (18, 46, 74, 102):
            mask |= ((z - 12) * 0.3) ** 2 + ((y - cy) * 0.1) ** 2 + ((x - cx) * 0.1) ** 2 < 1.6**2
    return mask


def test_balls_that_touch_are_counted_and_agree_with_a_watershed() -> None:
    mask = balls()
    assert ndimage.label(mask, EVERY)[1] == 1
    found = split(voxel_um=VOXEL_UM, min_separation_um=1.0)(mask)
    assert found.max() == 12
    distance = ndimage.distance_transform_edt(mask, sampling=VOXEL_UM)
    seeds = np.zeros(mask.shape, np.int32)
    for n, place in enumerate(ndimage.maximum_position(distance, found, range(1, 13)), 1):
        seeds[place] = n
    theirs = watershed(-distance, seeds, mask=mask)
    assert (theirs == found)[mask].mean() > 0.97


PIPELINE = """
output: {{name: cells}}
steps:
  - threshold: {{value: 0}}
  - fill_holes
  - split: {how}
  - label: {{min_voxels: 5}}
  - measure: [shape, intensity]
"""


@pytest.mark.parametrize("block", [(24, 100, 130), (7, 33, 29), (24, 20, 130)])
@pytest.mark.parametrize("how", ["{min_separation_um: 1.0}", "{by: intensity, min_separation_um: 0.9, sigma_um: 0.2}"])
def test_a_run_gives_the_objects_of_the_whole_volume(tmp_path: Path, block: tuple[int, ...], how: str) -> None:
    mask = balls()
    near = ndimage.distance_transform_edt(mask, sampling=VOXEL_UM)
    image = np.where(mask, 20 + 400 * near, 0).astype(np.uint16)
    cell = store(tmp_path / "cell.ome.zarr", image)
    done(main_job(cell, text=PIPELINE.format(how=how)), Settings("none", block=block))
    if "intensity" in how:
        shown = whole(heights(voxel_um=VOXEL_UM, sigma_um=0.2), mask, image)
        parted = split(voxel_um=VOXEL_UM, by="intensity", min_separation_um=0.9)(shown)
    else:
        parted = split(voxel_um=VOXEL_UM, min_separation_um=1.0)(mask)
    assert parted.max() == 12
    expected = label(voxel_um=VOXEL_UM, multilabel=True, min_voxels=5)(parted)
    np.testing.assert_array_equal(labels_of(cell / "labels" / "cells"), expected)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"min_separation_um": 0}, "min_separation_um is 0"),
        ({"min_separation_um": 1, "by": "colour"}, "by 'colour' is not one of distance, intensity"),
        ({"min_separation_um": 1, "sigma_um": 1}, "sigma_um belongs to by: intensity"),
        ({"min_separation_um": 1, "by": "intensity", "reach_um": 1}, "reach_um belongs to by: distance"),
        ({"min_separation_um": 1, "reach_um": -1.0}, "reach_um is -1.0"),
        ({"min_separation_um": 1000}, "min_separation_um 1000 is 10000 voxels, farther than summits are looked for"),
        ({"min_separation_um": 1, "by": "intensity", "sigma_um": -1.0}, "sigma_um is -1.0"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        split(voxel_um=VOXEL_UM, **params)  # type: ignore[arg-type]


def test_a_separation_larger_than_the_image_parts_nothing() -> None:
    mask = balls()[:, :40]
    found = split(voxel_um=VOXEL_UM, min_separation_um=6.0, reach_um=50.0)(mask)
    np.testing.assert_array_equal(found > 0, mask)
    assert found.max() == ndimage.label(mask, EVERY)[1]


@pytest.mark.parametrize("between", ["fill_holes", "opening: {radius_um: 0.2}", "label: {multilabel: false}"])
def test_nothing_may_join_again_what_was_parted(tmp_path: Path, between: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", balls().astype(np.uint16))
    text = PIPELINE.format(how="{min_separation_um: 1.0}").replace("  - label:", f"  - {between}\n  - label:")
    with pytest.raises(InvalidConfiguration, match="after split would join what it parted"):
        main_job(cell, text=text)


@pytest.mark.parametrize("connectivity", [1, 2, 3])
def test_parts_are_counted_as_the_plain_way_counts_it(connectivity: int) -> None:
    block = np.random.default_rng(8).random((6, 7, 8)) < 0.2
    raw, n = ndimage.label(block, ndimage.generate_binary_structure(3, connectivity))
    shuffled = np.concatenate(([0], 1 + np.random.default_rng(9).permutation(n))).astype(np.uint32)[raw]
    for ids, count in product((raw, shuffled), (basins_kernel.census, basins_kernel.census.py_func)):
        order, first, voxels = np.zeros(n + 1, np.uint32), np.zeros(n, np.int64), np.zeros(n, np.uint32)
        count(ids.reshape(-1), order, first, voxels)
        names, begin, sizes = np.unique(order[ids], return_index=True, return_counts=True)
        np.testing.assert_array_equal(names[names > 0], np.arange(1, n + 1))
        np.testing.assert_array_equal(first, begin[names > 0])
        np.testing.assert_array_equal(voxels, sizes[names > 0])
        assert (np.diff(first) > 0).all()


@pytest.mark.parametrize("wrong", [[0, 3, 1, 2], [0, 1, 1, 0]])
def test_raw_ids_that_are_not_all_there_are_noticed(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match=r"lies above|not there"):
        basins_kernel.census(
            np.array(wrong, np.uint16), np.zeros(3, np.uint32), np.zeros(2, np.int64), np.zeros(2, np.uint32)
        )


def test_relabel_compiled_and_plain_agree() -> None:
    raw = np.array([[[0, 3, 3], [1, 0, 2]]], np.uint16)
    ids = np.array([7, 0, 9], np.uint32)  # of the first, second and third id met: 3, 1, 2
    for kernel in (basins_kernel.relabel, basins_kernel.relabel.py_func):
        out = np.full((1, 2, 6), 99, np.uint32)
        kernel(raw, ids, np.array([0, -1, -1, -1], np.int64), out[:, :, ::2])
        assert out[..., ::2].tolist() == [[[0, 7, 7], [0, 0, 9]]]
        assert (out[..., 1::2] == 99).all()
