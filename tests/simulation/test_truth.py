"""Truth: the rules of the paper, each against its definition; and overlapping objects in one flat image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from cristae.errors import InvalidConfiguration
from cristae.grid import Box
from cristae.simulation.truth import by_image, flat, hit


def picture(seed: int, shape: tuple[int, int] = (64, 70)) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = gaussian_filter((rng.random(shape) > 0.99).astype(np.float32), 2.0) + 1e-4
    return (found * 10 ** rng.uniform(-2, 4)).astype(np.float32)


def eight_bits(clean: np.ndarray) -> np.ndarray:
    return np.floor(clean.astype(np.float64) * 255 / clean.max() + 1e-5).astype(np.uint8)


def test_a_pixel_with_an_emitter_is_the_largest_of_its_square_nanometres() -> None:
    """The published way (a raster of 1 nm, the largest of each pixel) and the rule of whole pixels mark the same."""
    rng = np.random.default_rng(0)
    nm = rng.integers(0, 16 * 42, (300, 2)) + rng.uniform(0.05, 0.95, (300, 2))
    raster = np.zeros((16 * 42, 16 * 42), bool)
    raster[tuple(nm.astype(int).T)] = True
    pooled = raster.reshape(16, 42, 16, 42).max(axis=(1, 3))
    np.testing.assert_array_equal(hit(nm * 1e-3, Box.whole((16, 16)), (0.042, 0.042)), pooled)


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_the_flat_truth_is_the_largest_of_the_solid_one_over_depth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0, 1, (200, 3)) * (2.0, 1.6, 1.2)
    solid = hit(points, Box.whole((10, 16, 12)), (0.2, 0.1, 0.1))
    np.testing.assert_array_equal(solid.any(axis=0), hit(points[:, 1:], Box.whole((16, 12)), (0.1, 0.1)))
    one, other = (
        hit(points[:70], Box.whole((10, 16, 12)), (0.2, 0.1, 0.1)),
        hit(points[70:], Box.whole((10, 16, 12)), (0.2, 0.1, 0.1)),
    )
    np.testing.assert_array_equal(one | other, solid)


def test_a_box_marks_its_own_part_and_leaves_out_what_is_beyond() -> None:
    points = np.random.default_rng(3).uniform(-0.3, 2.0, (400, 3))
    whole, box = Box.whole((8, 16, 15)), Box((2, 3, 1), (8, 10, 15))
    size = (0.2, 0.1, 0.1)
    np.testing.assert_array_equal(hit(points, box, size), hit(points, whole, size)[box.slices])
    inside = ((points >= 0) & (points < np.array(whole.shape) * size)).all(axis=1)
    np.testing.assert_array_equal(hit(points[inside], whole, size), hit(points, whole, size))


@pytest.mark.parametrize("seed", range(12))
def test_otsu_is_that_of_skimage_on_eight_bits(seed: int) -> None:
    clean = picture(seed)
    eight = eight_bits(clean)
    expected = eight > threshold_otsu(eight)
    assert 0 < expected.mean() < 0.5
    np.testing.assert_array_equal(by_image("otsu", clean, 20, 200), expected)


@pytest.mark.parametrize("seed", range(6))
def test_erosion_is_opencvs_with_a_square_of_two(seed: int) -> None:
    """OpenCV anchors a square of two at its lower right pixel, and takes what is beyond the edge for foreground."""
    clean = picture(seed)
    mask = by_image("otsu", clean, 20, 200)
    mask_at_edge = by_image("otsu", clean[3:-2, 4:].copy(), 20, 200)
    expected = scipy.ndimage.binary_erosion(mask, np.ones((2, 2)), border_value=1)
    by_hand = np.ones_like(mask)
    for y, x in np.ndindex(mask.shape):
        by_hand[y, x] = mask[max(y - 1, 0) : y + 1, max(x - 1, 0) : x + 1].all()
    np.testing.assert_array_equal(expected, by_hand)
    np.testing.assert_array_equal(by_image("otsu-eroded", clean, 20, 200), by_hand)
    eroded = by_image("otsu-eroded", clean[3:-2, 4:].copy(), 20, 200)
    np.testing.assert_array_equal(eroded, scipy.ndimage.binary_erosion(mask_at_edge, np.ones((2, 2)), border_value=1))
    assert 0 < by_hand.sum() < mask.sum()


@pytest.mark.parametrize(("background", "peak"), [(20, 160), (39, 219), (21, 200), (33, 187)])
def test_what_is_below_the_noise_floor_is_background(background: float, peak: float) -> None:
    clean = picture(5)
    eight, floor = eight_bits(clean), int(np.floor(background / peak * 255))
    np.testing.assert_array_equal(by_image("noise", clean, background, peak), ~(eight < floor))
    np.testing.assert_array_equal(by_image("noise-half", clean, background, peak), ~(eight < floor / 2))


def test_the_brightest_pixel_is_255_of_255() -> None:
    """Whatever the scale of the light, its maximum is foreground at the highest floor there can be."""
    pictures = [picture(seed) for seed in range(40)]
    lost = [n for n, clean in enumerate(pictures) if not by_image("noise", clean, 1.0, 1.0).ravel()[clean.argmax()]]
    assert not lost, "the brightest pixel became 254"


@pytest.mark.parametrize("rule", ["otsu", "otsu-eroded"])
@pytest.mark.parametrize("level", [0.0, 3.0])
def test_an_image_without_contrast_has_no_foreground(rule: str, level: float) -> None:
    assert not by_image(rule, np.full((8, 9), level, np.float32), 20, 200).any()


def test_a_rule_that_is_none_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="noisy"):
        by_image("noisy", picture(0), 20, 200)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_a_pixel_belongs_to_the_highest_object_then_to_the_smallest_id(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks: list[Any] = [rng.random((6, 7)) < 0.4 for _ in range(count)]
    heights = rng.integers(0, 3, count).astype(float).tolist()
    found = flat(masks, heights)
    for y, x in np.ndindex(6, 7):
        owners = [n for n in range(count) if masks[n][y, x]]
        expected = max(owners, key=lambda n: (heights[n], -n)) + 1 if owners else 0
        assert found[y, x] == expected
    np.testing.assert_array_equal(found > 0, np.any(masks, axis=0))
