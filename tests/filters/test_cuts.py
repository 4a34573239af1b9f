"""Cuts: every rule gives scikit-image's value, on any histogram; what is asked of contrast and of positive values holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import filters

from cristae.errors import InvalidConfiguration
from cristae.filters import threshold
from cristae.filters.cuts import li_value, otsu_value, triangle_value

VOXEL_UM = (0.3, 0.1, 0.1)
RULES = {"otsu": otsu_value, "li": li_value, "triangle": triangle_value}


def counted(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found, counts = np.unique(values, return_counts=True)
    return counts, found


@pytest.mark.parametrize("method", RULES)
@given(st.lists(st.integers(0, 300), min_size=2, max_size=400), st.integers(0, 3))
def test_a_rule_is_that_of_scikit_image(method: str, numbers: list[int], power: int) -> None:
    image = np.array(numbers, np.uint16) ** np.uint16(1 + (power > 1)) // 2 + 5
    expected = getattr(filters, f"threshold_{method}")(image)
    assert RULES[method](*counted(image)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("method", RULES)
def test_a_wide_histogram_costs_no_memory(method: str) -> None:
    """Values of 32 bits: their range is never laid out."""
    image = np.r_[np.full(900, 7), np.arange(60) * 60_000_000 + 50].astype(np.uint32)
    assert 7 <= RULES[method](*counted(image)) < 2**32


@pytest.mark.parametrize("method", RULES)
def test_triangle_of_floats_is_that_of_the_bins(method: str) -> None:
    image = np.random.default_rng(1).gamma(2, 30, (8, 30, 30)).astype(np.float32)
    mask = threshold(method=method, voxel_um=VOXEL_UM, dtype="float32")(image)
    exact = getattr(filters, f"threshold_{method}")(image)
    step = float(np.ptp(image)) / 256
    assert abs(float(image[mask].min()) - exact) < 2 * step


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16"])
def test_only_positive_values_are_counted_if_asked(dtype: str) -> None:
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(30, 3, 300), rng.normal(90, 5, 300)].clip(1)
    image = np.concatenate([np.zeros(20000), values]).astype(dtype).reshape(1, 40, -1)
    found = threshold(method="otsu", of="positive", voxel_um=VOXEL_UM, dtype=dtype)(image)
    np.testing.assert_array_equal(found, image > filters.threshold_otsu(image[image > 0]))


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("method", RULES)
def test_an_image_without_contrast_has_no_foreground(method: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(100, 4, (4, 30, 30)).astype(dtype)
    cell = flat.copy()
    cell[1:3, 8:20, 8:20] += np.dtype(dtype).type(80)
    for image, some in ((flat, False), (cell, True)):
        found = threshold(method=method, min_contrast=40, voxel_um=VOXEL_UM, dtype=dtype)(image)
        assert found.any() == some
    for empty in (np.zeros((3, 4, 5), dtype), np.full((3, 4, 5), 9, dtype)):
        assert not threshold(method=method, of="positive", voxel_um=VOXEL_UM, dtype=dtype)(empty).any()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"method": "otsuu"}, "otsu, li, triangle, local"),
        ({}, "either a value or a method"),
        ({"method": "local"}, "needs radius_um"),
        ({"method": "local", "radius_um": 0}, "above 0"),
        ({"method": "otsu", "radius_um": 1.0}, "belong to method: local"),
        ({"method": "otsu", "of": "negative"}, "all, positive"),
        ({"method": "otsu", "min_contrast": "much"}, "must be a number"),
    ],
)
def test_what_does_not_belong_together_is_refused(params: dict, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        threshold(**params, voxel_um=VOXEL_UM)
