"""Intensity: numpy and scikit-image agree, digits are kept, and voxels that are no number are named."""

from __future__ import annotations

import numpy as np
import pytest
from morphology.tabled import table
from skimage.measure import regionprops_table

from cristae.blocks.measure import ask
from cristae.blocks.stage import At
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box
from cristae.morphology import MEASURES, finish_rows, intensity_kernel
from cristae.morphology.rows import merge_rows, new_rows

PROPERTIES = ("label", "intensity_mean", "intensity_std", "intensity_min", "intensity_max", "centroid_weighted")


@pytest.mark.parametrize("shape", [(8, 11, 13), (40, 31)])
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int32", "uint32", "uint64", "float16", "float32", "float64", "bool"]
)
def test_intensity_is_that_of_skimage(shape, dtype) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 30, shape)
    values = rng.gamma(2.0, 20.0, shape)
    image = values > 30 if dtype == "bool" else values.astype(dtype)
    voxel_um = (0.3, 0.1, 0.2)[: len(shape)]
    ours = table(labels, [image], voxel_um=voxel_um, columns=["intensity"])
    wide = image.astype(np.float64)
    theirs = regionprops_table(labels, wide, properties=PROPERTIES, spacing=voxel_um)
    np.testing.assert_array_equal(ours["label"], theirs["label"])
    for name in ("mean", "std", "min", "max"):
        np.testing.assert_allclose(ours[f"intensity_{name}"], theirs[f"intensity_{name}"], rtol=1e-9)
    for a, axis in enumerate("zyx"[-len(shape) :]):
        np.testing.assert_allclose(ours[f"intensity_centroid_{axis}_um"], theirs[f"centroid_weighted-{a}"], rtol=1e-9)
    sums = np.bincount(labels.ravel(), wide.ravel())[1:]
    np.testing.assert_allclose(ours["intensity_sum"], sums, rtol=1e-12)
    whole = np.dtype(dtype).kind in "bui" and np.dtype(dtype).itemsize <= 4
    assert ours["intensity_sum"].dtype.kind == ours["intensity_max"].dtype.kind == ("i" if whole else "f")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
@pytest.mark.parametrize("block", [(40, 50, 60), (7, 50, 11)])
def test_a_bright_object_with_little_spread_keeps_its_deviation(dtype, block) -> None:
    rng = np.random.default_rng(0)
    image = (60000 + rng.normal(0, 1, (40, 50, 60))).astype(dtype)
    image[0, 0, 0] = 0  # the pivot of the first block is far from the mean
    labels = np.full(image.shape, 5, np.uint8)
    labels[0, 0, 1:] = 0
    measure = MEASURES["intensity"](voxel_um=(1, 1, 1), dtype=dtype)
    grid = BlockGrid(image.shape, block)
    found = [
        measure.partial(labels[b.slices], image[b.slices], at=At(b, (b, b), grid, i), answers={})
        for i, b in enumerate(grid)
    ]
    ours = finish_rows("intensity", measure.merge(found)["rows"], voxel_um=(1, 1, 1), shape=image.shape)
    np.testing.assert_allclose(ours["intensity_std"], image[labels == 5].astype(np.longdouble).std(), rtol=1e-9)
    labels[0, 0, 0] = 0
    steady = table(labels, [image], voxel_um=(1, 1, 1))["intensity_std"]
    np.testing.assert_allclose(steady, image[labels == 5].astype(np.longdouble).std(), rtol=1e-9)


def test_a_constant_object_has_no_deviation() -> None:
    image = np.full((3, 4, 5), 0.1)
    found = table(np.ones((3, 4, 5), int), [image], voxel_um=(1, 1, 1))
    assert found["intensity_std"] == 0
    assert found["intensity_mean"] == found["intensity_max"] == 0.1


def test_an_object_without_light_has_no_weighted_centroid() -> None:
    found = table(np.ones((2, 2, 2), int), [np.zeros((2, 2, 2), np.uint8)], voxel_um=(1, 1, 1))
    assert np.isnan(found["intensity_centroid_z_um"])
    assert found["intensity_sum"] == 0


def test_sums_of_whole_numbers_are_exact() -> None:
    image = np.full((1, 3, 1000), 2**32 - 1, np.uint32)
    image[0, 0, 0] -= 1
    found = table(np.ones(image.shape, int), [image], voxel_um=(1, 1, 1))["intensity_sum"]
    assert found.item() == 3000 * (2**32 - 1) - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_voxel_that_is_no_number_is_named_inside_an_object_and_ignored_outside(bad: float) -> None:
    labels, image = np.zeros((6, 7, 8), int), np.ones((6, 7, 8), np.float32)
    labels[:, 2:, 3:] = 9
    image[4, 0, 0] = bad
    assert table(labels, [image], voxel_um=(1, 1, 1))["intensity_max"] == 1
    image[4, 5, 6] = bad
    core, read = Box((3, 4, 4), (6, 7, 8)), Box((3, 4, 4), (6, 7, 8))
    measure = MEASURES["intensity"](voxel_um=(1, 1, 1), dtype="float32", channel="TMRM")
    at = At(core, (Box.whole(labels.shape), read), BlockGrid(labels.shape, (3, 4, 4)))
    with pytest.raises(InvalidInput, match=r"'TMRM' holds NaN.*\(3, 4, 4\) and \(6, 7, 8\).*\(4, 5, 6\) of object 9"):
        measure.partial(labels, image[read.slices], at=at, answers={})


def test_numbers_beyond_float32_are_no_nan() -> None:
    image = np.full((1, 1, 3), 1e200)
    assert table(np.ones((1, 1, 3), int), [image], voxel_um=(1, 1, 1))["intensity_mean"] == 1e200


def synthetic(dtype: np.dtype, sums: list[int]) -> np.ndarray:
    rows = [new_rows(dtype, np.array([1], np.uint64), (100_000 + 1000 * i, 0, 0)) for i in range(len(sums))]
    for row, amount in zip(rows, sums, strict=True):
        row["voxels"], row["sum"] = 10**9, amount
        row["pivot"] = row["least"] = row["largest"] = amount // 10**9
        row["weighted"] = amount * 500.0, 0, 0
    return merge_rows([{"rows": r} for r in rows], dtype)["rows"]


def test_a_thousand_million_voxels_of_the_brightest_light_do_not_overflow() -> None:
    measure = MEASURES["intensity"](voxel_um=(1, 1, 1), dtype="uint32")
    dtype = ask(measure, np.zeros((1, 1, 1), int), np.zeros((1, 1, 1), np.uint32)).arrays["rows"].dtype
    most = 10**9 * (2**32 - 1)
    found = finish_rows("intensity", synthetic(dtype, [most, most]), voxel_um=(1, 1, 1), shape=(10**6,) * 3)
    assert found["intensity_sum"].item() == 2 * most
    assert found["intensity_centroid_z_um"].item() == 101_000
    with pytest.raises(InvalidInput, match="2\\^63"):
        finish_rows("intensity", synthetic(dtype, [most] * 3), voxel_um=(1, 1, 1), shape=(10**6,) * 3)


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_compiled_kernel_sums_as_the_plain_one(dtype: str) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 80, (3, 6, 7), dtype=np.uint32)
    image = rng.integers(0, 9999, (3, 6, 8)).astype(dtype)
    kernel = intensity_kernel.intensities

    def run(function):
        kind = np.empty(0, np.int64 if dtype == "uint16" else np.float64)
        return function(labels, (1, 0, 2), image, (1, 0, 3), (2, 5, 4), kind)

    for one, other in zip(run(kernel), run(getattr(kernel, "py_func", kernel)), strict=True):
        np.testing.assert_array_equal(one, other)
