"""Index and shape: as scikit-image measures them, on labels of any size and at any distance from the origin."""

from __future__ import annotations

import numpy as np
import pytest
from morphology.tabled import table
from skimage.io import imread
from skimage.measure import regionprops_table

from cristae.blocks.measure import ask
from cristae.morphology import MEASURES, finish_rows, moments_kernel
from cristae.morphology.moments import SHAPE, mean_and_covariance
from cristae.morphology.rows import merge_rows, new_rows

PROPERTIES = (
    "label", "area", "num_pixels", "bbox", "centroid", "axis_major_length", "axis_minor_length",
    "inertia_tensor_eigvals", "equivalent_diameter_area", "extent",
)  # fmt: skip


def assert_as_skimage(labels: np.ndarray, voxel_um: tuple[float, ...]) -> None:
    ndim = labels.ndim
    ours = table(labels, voxel_um=voxel_um, columns=["shape"])
    theirs = regionprops_table(labels, properties=PROPERTIES, spacing=voxel_um)
    np.testing.assert_array_equal(ours["label"], theirs["label"])
    np.testing.assert_array_equal(ours["voxels"], theirs["num_pixels"])
    for a, axis in enumerate("zyx"[-ndim:]):
        np.testing.assert_array_equal(ours[f"bbox_{axis}_min"], theirs[f"bbox-{a}"])
        np.testing.assert_array_equal(ours[f"bbox_{axis}_max"], theirs[f"bbox-{ndim + a}"])
        np.testing.assert_allclose(ours[f"centroid_{axis}_um"], theirs[f"centroid-{a}"], rtol=1e-9)
    np.testing.assert_allclose(ours["volume_um3" if ndim == 3 else "area_um2"], theirs["area"], rtol=1e-9)
    np.testing.assert_allclose(ours["equivalent_diameter_um"], theirs["equivalent_diameter_area"], rtol=1e-9)
    np.testing.assert_allclose(ours["extent"], theirs["extent"], rtol=1e-9)
    # A flat object's thinnest axis is the root of a rounding error of the longest.
    for name in ("major", "minor"):
        np.testing.assert_allclose(
            ours[f"axis_{name}_um"], theirs[f"axis_{name}_length"], rtol=1e-9, atol=3e-7 * max(voxel_um)
        )
    if ndim == 3:
        e = [theirs[f"inertia_tensor_eigvals-{i}"] for i in range(3)]
        middle = np.sqrt(10 * np.clip(e[0] - e[1] + e[2], 0, None))
        np.testing.assert_allclose(ours["axis_mid_um"], middle, rtol=1e-9, atol=3e-7 * max(voxel_um))


@pytest.mark.parametrize(
    ("shape", "voxel_um"), [((9, 14, 11), (1, 1, 1)), ((9, 14, 11), (0.3, 0.1, 0.12)), ((30, 41), (0.2, 0.5))]
)
def test_shape_of_random_labels_is_that_of_skimage(shape, voxel_um) -> None:
    rng = np.random.default_rng(0)
    assert_as_skimage(rng.integers(0, 40, shape, dtype=np.uint16), voxel_um)
    assert_as_skimage(np.repeat(rng.integers(0, 9, shape, dtype=np.int32), 3, axis=-1), voxel_um)


def test_shape_of_real_labels_is_that_of_skimage(shared_data) -> None:
    nuclei = imread(shared_data / "cells3d-nuclei" / "c5_nuclei_labels_classical.tif")
    assert_as_skimage(nuclei, (1.0, 1.0, 1.0))
    with np.load(shared_data / "em-fib25-train2" / "labels.npz") as stored:
        assert_as_skimage(stored["labels"][:60, :90, 70:160], (0.01, 0.01, 0.01))


def test_the_translation_moves_centroids_and_nothing_else() -> None:
    labels = np.random.default_rng(0).integers(0, 5, (4, 5, 6))
    size = (0.3, 0.1, 0.1)
    rows = ask(MEASURES["shape"](voxel_um=size), labels).arrays["rows"]
    here, there = (
        finish_rows("shape", rows, voxel_um=size, shape=labels.shape, translation_um=at)
        for at in (None, (5.0, -2.0, 1.5))
    )
    for name, values in here.items():
        moved = {"centroid_z_um": 5.0, "centroid_y_um": -2.0, "centroid_x_um": 1.5}.get(name, 0)
        np.testing.assert_allclose(there[name], values + moved if moved else values, rtol=1e-12)


def test_touching_a_face_of_the_volume_is_seen_on_every_side() -> None:
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = 1
    faces = [(0, 1, 1), (4, 1, 1), (1, 0, 3), (1, 4, 3), (3, 1, 0), (3, 1, 4)]
    for k, voxel in enumerate(faces, 2):
        labels[voxel] = k
    np.testing.assert_array_equal(table(labels, voxel_um=(1, 1, 1))["touches_border"], [False] + [True] * 6)


def test_many_sparse_labels_keep_their_numbers() -> None:
    rng = np.random.default_rng(3)
    labels = np.zeros(3000 * 2, np.uint64)
    numbers = rng.integers(1, 2**64 - 1, 3000, dtype=np.uint64)
    numbers[::3] = np.arange(1000, dtype=np.uint64) << np.uint64(33)
    numbers[0] = 2**64 - 1
    labels[::2] = numbers
    found = table(labels.reshape(10, 60, 10), voxel_um=(1, 1, 1), columns=["index"])
    names, counts = np.unique(numbers, return_counts=True)
    np.testing.assert_array_equal(found["label"], names)
    np.testing.assert_array_equal(found["voxels"], counts)


def box_row(origin: tuple[int, int, int], size: tuple[int, int, int]) -> np.ndarray:
    """The row of a block of this size, all of one label, with sums that wrap as the kernel's do."""
    n, sums = int(np.prod(size)), [s * (s - 1) // 2 for s in size]
    squares = [(s - 1) * s * (2 * s - 1) // 6 for s in size]
    first = [n * sums[a] // size[a] for a in range(3)]
    second = [n * squares[a] // size[a] for a in range(3)]
    second += [n * sums[a] * sums[b] // (size[a] * size[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    row = new_rows(SHAPE, np.array([2**50], np.uint64), origin)
    row["voxels"], row["first"] = n, first
    row["second"] = np.array([v % 2**64 for v in second], np.uint64).view(np.int64)
    row["low"], row["high"] = origin, np.add(origin, size)
    return row


def test_a_thousand_million_voxels_over_a_hundred_thousand_slices_do_not_overflow() -> None:
    size = (100_000, 100, 100)
    variance = [(s**2 - 1) / 12 for s in size]
    mean, covariance = mean_and_covariance(box_row((0, 0, 0), size))  # sum of z z is 3.3e18, of a kind that still fits
    np.testing.assert_allclose(mean[:, 0], [(s - 1) / 2 for s in size], rtol=1e-12)
    np.testing.assert_allclose(np.diag(covariance[0]), variance, rtol=1e-9)
    size = (200_000, 100, 100)  # 2.7e19 does not, and its wrapped sum is still told apart
    _, covariance = mean_and_covariance(box_row((0, 0, 0), size))
    np.testing.assert_allclose(covariance[0, 0, 0], (size[0] ** 2 - 1) / 12, rtol=1e-9)


def test_an_object_in_many_far_blocks_has_the_moments_of_the_whole() -> None:
    rows = [box_row((100_000 + 1000 * i, 5000, 70_000), (1000, 1000, 1000)) for i in range(20)]
    found = finish_rows(
        "shape",
        merge_rows([{"rows": r} for r in rows[::-1]], SHAPE)["rows"],
        voxel_um=(1.0, 1.0, 1.0),
        shape=(10**6,) * 3,
    )
    assert found["voxels"] == 20 * 10**9
    np.testing.assert_allclose(found["centroid_z_um"], 100_000 + 9999.5, rtol=1e-12)
    np.testing.assert_allclose(found["axis_major_um"], 2 * np.sqrt(5 * (20_000**2 - 1) / 12), rtol=1e-9)
    np.testing.assert_allclose(found["axis_minor_um"], 2 * np.sqrt(5 * (1000**2 - 1) / 12), rtol=1e-9)


@pytest.mark.kernel
def test_the_compiled_kernel_counts_as_the_plain_one() -> None:
    labels = np.random.default_rng(0).integers(0, 90, (4, 6, 7), dtype=np.uint64) << np.uint64(30)
    plain = getattr(moments_kernel.moments, "py_func", moments_kernel.moments)
    for one, other in zip(
        moments_kernel.moments(labels, (1, 0, 2), (3, 5, 4)), plain(labels, (1, 0, 2), (3, 5, 4)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def plain(name: str):
    kernel = getattr(moments_kernel, name)
    return getattr(kernel, "py_func", kernel)


@pytest.mark.kernel
def test_each_part_of_the_compiled_kernel_does_as_the_plain_one() -> None:
    rng = np.random.default_rng(0)
    keys, slots = np.zeros(4, np.uint64), np.zeros(4, np.int64)
    keys[2], slots[2] = 3, 1
    assert moments_kernel.place(keys, slots, np.uint64(2**60 + 1)) == plain("place")(keys, slots, np.uint64(2**60 + 1))
    np.testing.assert_array_equal(moments_kernel.wider(keys, slots), plain("wider")(keys, slots))
    sums = rng.integers(0, 9, (2, 3))
    np.testing.assert_array_equal(moments_kernel.longer(sums), plain("longer")(sums))
    one, other = np.zeros((2, moments_kernel.WIDTH), np.int64)
    moments_kernel.add_run(one, 3, 4, 5, 9)
    plain("add_run")(other, 3, 4, 5, 9)
    np.testing.assert_array_equal(one, other)


@pytest.mark.kernel
@pytest.mark.parametrize("voxels", [0, 1, 7, 8, 9, 10, 16, 17, 25, 40, 63, 64, 65, 128, 150])
def test_runs_are_where_values_change(voxels: int) -> None:
    for seed in range(10):
        row = (np.random.default_rng(seed).random(voxels) < 0.2 * (seed % 4)).astype(np.uint16)
        expected = np.flatnonzero(np.r_[True, row[1:] != row[:-1], True]) if voxels else np.zeros(1)  # no run
        for find in (moments_kernel.find_runs, plain("find_runs")):
            marks, bounds = moments_kernel.room_for_runs(voxels)
            runs = find(row, marks, bounds)
            assert runs == len(expected) - 1
            np.testing.assert_array_equal(bounds[: runs + 1] if runs else [0], expected)
