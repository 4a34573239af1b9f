"""Gaussian filters against scipy, and their compiled rows against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.errors import InvalidConfiguration
from cristae.filters import difference_of_gaussians, gaussian, gaussian_kernel
from cristae.filters.edge import reflected
from cristae.filters.gaussian import half_gaussian

REAL = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint64", "float16", "float32", "float64", ">u2", ">f4"]


def reference(array: np.ndarray, sigma: tuple[float, ...], truncate: float = 4.0) -> np.ndarray:
    return scipy.ndimage.gaussian_filter(array.astype(np.float32), sigma, truncate=truncate)


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 12), min_size=2, max_size=3),
    sigma_um=st.floats(0.0, 1.0),
    z_um=st.floats(0.08, 0.5),
    truncate=st.sampled_from([2.0, 4.0, 4.7]),
)
def test_equals_scipy_even_where_the_kernel_is_wider_than_the_volume(shape, sigma_um, z_um, truncate):
    voxel_um = (z_um, 0.1, 0.12)[-len(shape) :]
    array = np.random.default_rng(0).random(shape, np.float32)
    out = gaussian(sigma_um, voxel_um=voxel_um, truncate=truncate)(array)
    expected = reference(array, tuple(sigma_um / h for h in voxel_um), truncate)
    np.testing.assert_allclose(out, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", REAL)
def test_every_real_type_is_smoothed_as_float32(dtype):
    array = np.random.default_rng(1).integers(0, 2 if dtype == "bool" else 100, (9, 17, 33)).astype(dtype)
    out = gaussian(0.2, voxel_um=(0.2, 0.1, 0.1))(array)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, reference(array, (1, 2, 2)), atol=1e-6 * 100, rtol=0)


def test_a_view_with_holes_and_a_read_only_array_are_as_good_as_any():
    array = np.random.default_rng(2).random((8, 20, 22), np.float32)
    array.flags.writeable = False
    np.testing.assert_array_equal(
        gaussian(0.1, voxel_um=(0.1,) * 3)(array[::2, ::3, ::-1]),
        gaussian(0.1, voxel_um=(0.1,) * 3)(array[::2, ::3, ::-1].copy()),
    )


def test_a_bright_offset_costs_no_accuracy():
    array = np.random.default_rng(3).integers(60000, 65535, (12, 40, 50)).astype(np.uint16)
    difference = gaussian(0.2, voxel_um=(0.1,) * 3)(array) - reference(array, (2, 2, 2))
    assert np.abs(difference).max() <= 1e-6 * 65535


@pytest.mark.parametrize(("sigma", "radius"), [(1, 4), (1.5, 6), (2, 8), (2.6, 10)])
def test_the_radius_is_rounded_as_scipy_rounds_it(sigma, radius):
    assert half_gaussian(sigma, 4.0).size - 1 == radius
    assert gaussian(sigma, voxel_um=(1.0, 1.0)).halo == ((radius, radius),) * 2


def test_the_difference_is_that_of_two_smoothings():
    array = np.random.default_rng(4).random((10, 21, 30), np.float32)
    band = difference_of_gaussians(0.1, 0.3, voxel_um=(0.2, 0.1, 0.1))(array)
    expected = reference(array, (0.5, 1, 1)) - reference(array, (1.5, 3, 3))
    np.testing.assert_allclose(band, expected, atol=1e-6)


@given(st.integers(1, 9), st.integers(0, 30), st.data())
def test_reflection_is_that_of_scipy(size, radius, data):
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    padded = np.pad(np.arange(size), radius, mode="symmetric")
    np.testing.assert_array_equal(reflected(start, stop, radius, size), padded[start : stop + 2 * radius])


@pytest.mark.kernel
def test_compiled_rows_compute_what_they_say(monkeypatch):
    array = np.random.default_rng(5).integers(0, 255, (3, 5, 7)).astype(np.uint8)
    window, weights = (slice(0, 2), slice(1, 5), slice(0, 7)), [half_gaussian(s, 4.0) for s in (0.5, 1.0, 1.4)]
    compiled = gaussian_kernel.smooth(array, window, weights)
    for name, function in list(vars(gaussian_kernel).items()):
        if hasattr(function, "py_func"):
            monkeypatch.setattr(gaussian_kernel, name, function.py_func)
    np.testing.assert_allclose(gaussian_kernel.smooth(array, window, weights), compiled, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: gaussian(-0.1, voxel_um=(1, 1, 1)), "sigma_um is -0.1"),
        (lambda: gaussian(float("nan"), voxel_um=(1, 1, 1)), "sigma_um is nan"),
        (lambda: gaussian("wide", voxel_um=(1, 1, 1)), "'wide'"),
        (lambda: gaussian(1.0, voxel_um=(1, 1, 1), truncate=0), "truncate is 0"),
        (lambda: difference_of_gaussians(0.3, 0.3, voxel_um=(1, 1)), "smaller than high_sigma_um 0.3"),
        (lambda: difference_of_gaussians(-1, 0.3, voxel_um=(1, 1)), "low_sigma_um is -1"),
    ],
)
def test_a_wrong_parameter_is_named(build, names):
    with pytest.raises(InvalidConfiguration, match=names):
        build()
