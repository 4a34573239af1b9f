"""Surface and topology: bodies whose answer is known, and scikit-image on masks without any order."""

from __future__ import annotations

import numpy as np
import pytest
from morphology.tabled import table
from skimage.io import imread
from skimage.measure import euler_number, marching_cubes, mesh_surface_area, perimeter_crofton, regionprops

from cristae.errors import InvalidConfiguration
from cristae.morphology import moments_kernel, surface_kernel, windows
from cristae.morphology.surface import euler_worth, surface_worth

BOTH = ("surface", "topology")


def ball(radius: float, ndim: int = 3) -> np.ndarray:
    n = int(radius) + 2
    return sum(g**2 for g in np.mgrid[(slice(-n, n + 1),) * ndim]) <= radius**2


def mesh_area(mask: np.ndarray, voxel_um: tuple[float, ...]) -> float:
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=voxel_um)
    return float(mesh_surface_area(vertices, faces))


def test_surfaces_of_one_voxel_of_eight_and_of_a_ball() -> None:
    def area(mask):
        return table(mask, voxel_um=(1, 1, 1), columns=["surface_um2"])["surface_um2"].item()

    np.testing.assert_allclose(area(np.ones((1, 1, 1), bool)), np.sqrt(3), rtol=1e-8)
    np.testing.assert_allclose(area(np.ones((2, 2, 2), bool)), 16.2173, atol=5e-5)
    np.testing.assert_allclose(area(ball(10)), 1.0918 * 4 * np.pi * 100, rtol=1e-4)


def test_a_ball_is_nearly_a_sphere_and_a_needle_is_not() -> None:
    round_, thin = ball(10), np.ones((1, 1, 60), bool)
    found = [table(m, voxel_um=(1, 1, 1), columns=BOTH)["sphericity"].item() for m in (round_, thin)]
    volume, area = round_.sum(), mesh_area(round_, (1, 1, 1))
    np.testing.assert_allclose(found[0], np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / area, rtol=1e-6)
    assert found[1] < 0.6 < 0.9 < found[0] < 1


@pytest.mark.parametrize("voxel_um", [(1.0, 1.0, 1.0), (0.3, 0.1, 0.1), (0.29, 0.26, 0.11)])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_surface_and_euler_of_random_masks_are_those_of_skimage(voxel_um, density) -> None:
    mask = np.random.default_rng(0).random((12, 13, 14)) < density
    found = table(mask, voxel_um=voxel_um, columns=BOTH)
    np.testing.assert_allclose(found["surface_um2"], mesh_area(mask, voxel_um), rtol=1e-6)
    assert found["euler_number"] == euler_number(mask, connectivity=3)


def test_each_label_is_measured_as_if_it_were_alone() -> None:
    labels = np.random.default_rng(1).choice(np.array([0, 3, 2**35, 2**63], np.uint64), (9, 8, 10))
    found = table(labels, voxel_um=(0.3, 0.1, 0.1), columns=BOTH)
    for i, label in enumerate(found["label"]):
        np.testing.assert_allclose(found["surface_um2"][i], mesh_area(labels == label, (0.3, 0.1, 0.1)), rtol=1e-6)
        assert found["euler_number"][i] == euler_number(labels == label, connectivity=3)


def test_surface_and_euler_of_real_labels_are_those_of_skimage(shared_data) -> None:
    labels = imread(shared_data / "cells3d-nuclei" / "neubias_nuclei_labels_classical.tif")
    voxel_um = (4.0, 0.8286, 0.8286)
    found = table(labels, voxel_um=voxel_um, columns=BOTH)
    regions = regionprops(labels)
    np.testing.assert_array_equal(found["euler_number"], [r.euler_number for r in regions])
    np.testing.assert_allclose(found["surface_um2"], [mesh_area(r.image, voxel_um) for r in regions], rtol=1e-6)
    with np.load(shared_data / "em-fib25-train2" / "labels.npz") as stored:
        labels = stored["labels"][100:140, 60:120, 60:130]
    found = table(labels, voxel_um=(1, 1, 1), columns=BOTH)
    regions = regionprops(labels)
    np.testing.assert_array_equal(found["euler_number"], [r.euler_number for r in regions])
    np.testing.assert_allclose(found["surface_um2"], [mesh_area(r.image, (1, 1, 1)) for r in regions], rtol=1e-6)


def test_a_torus_has_euler_number_0_and_a_shell_2() -> None:
    z, y, x = np.mgrid[-4:5, -11:12, -11:12]
    torus = (np.hypot(y, x) - 7) ** 2 + z**2 <= 9
    shell = ball(8) & ~np.pad(ball(4), 4)
    for mask, expected in ((torus, 0), (shell, 2), (ball(6), 1)):
        assert table(mask, voxel_um=(1, 1, 1), columns=["euler_number"])["euler_number"] == expected


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_perimeter_and_euler_in_the_plane_are_those_of_skimage(density) -> None:
    labels = np.random.default_rng(2).choice([0, 1, 2], (25, 31), p=[1 - density, density / 2, density / 2])
    found = table(labels, voxel_um=(0.25, 0.25), columns=BOTH)
    for i in (0, 1):
        mask = labels == i + 1
        np.testing.assert_allclose(found["perimeter_um"][i], 0.25 * perimeter_crofton(mask, directions=4), rtol=1e-8)
        assert found["euler_number"][i] == euler_number(mask, connectivity=2)


@pytest.mark.parametrize("voxel_um", [(0.1, 0.1), (0.2, 0.1), (0.1, 0.3)])
def test_the_perimeter_of_a_disc_is_that_of_a_circle_whatever_the_pixels(voxel_um) -> None:
    y, x = (np.arange(-60, 61)[:, None] * voxel_um[0], np.arange(-60, 61) * voxel_um[1])
    disc = np.hypot(y, x) <= 5
    found = table(disc, voxel_um=voxel_um, columns=["perimeter_um"])["perimeter_um"].item()
    np.testing.assert_allclose(found, 2 * np.pi * 5, rtol=0.05)


def test_the_worth_of_a_window_is_whole_and_nothing_where_nothing_ends() -> None:
    for voxel_um in ((1.0, 1.0, 1.0), (0.3, 0.1, 0.1), (1e-3, 1e-3, 1e-3), (5.0, 1.0)):
        worth, quantum = surface_worth(voxel_um)
        full = 255 if len(voxel_um) == 3 else 15
        assert worth[0] == worth[full] == 0
        assert 2**30 <= worth.max() < 2**31
        assert np.log2(quantum) % 1 == 0
    assert euler_worth(3)[0] == euler_worth(3)[255] == 0
    assert euler_worth(2)[15] == 0


def test_windows_without_a_size_are_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="positive"):
        windows(voxel_um=(1.0, 0.0, 1.0))


@pytest.mark.kernel
@pytest.mark.parametrize("flat", [False, True])
def test_the_compiled_kernel_sums_as_the_plain_one(flat: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (1 if flat else 5, 5, 6), dtype=np.uint16)
    lo, size = ((0, 1, 1), (1, 3, 4)) if flat else ((1, 0, 1), (3, 5, 4))
    keys, slots, _ = moments_kernel.moments(labels, lo, size)
    worth = np.stack([surface_worth((1.0, 2.0) if flat else (1.0, 2.0, 1.0))[0], euler_worth(2 if flat else 3)], axis=1)
    kernel = surface_kernel.windows
    sums = []
    for function in (kernel, getattr(kernel, "py_func", kernel)):
        sums.append(np.zeros((int(slots.max()), 2), np.int64))
        function(labels, lo, size, flat, keys, slots, worth, sums[-1])
    assert sums[0].any()
    np.testing.assert_array_equal(*sums)
