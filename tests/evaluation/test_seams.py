"""Borders of tiles: they do not show where there are none, and a planted one does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage

from cristae.errors import InvalidInput
from cristae.evaluation.seams import border_mismatch, borders_of, differing, label_mismatch, signed_jump
from cristae.filters import gaussian
from cristae.grid import BlockGrid

SHAPE, BLOCK = (64, 128, 128), (16, 32, 32)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, SHAPE).astype(np.float32)


def tiled(image: np.ndarray, halo: int) -> np.ndarray:
    """The image smoothed tile by tile, each tile seeing `halo` voxels around it."""
    out = np.empty_like(image)
    grid = BlockGrid(image.shape, BLOCK)
    for core in grid:
        read = core.grow(((halo, halo),) * 3).clip(image.shape)
        out[core.slices] = ndimage.gaussian_filter(image[read.slices], 2.0)[core.within(read)]
    return out


def test_an_exact_operator_leaves_no_seam(noise: np.ndarray) -> None:
    smooth, whole = tiled(noise, 8), ndimage.gaussian_filter(noise, 2.0)
    borders = borders_of(SHAPE, BLOCK)
    assert differing(smooth, whole, borders, 8) == (0, 0, 0)
    assert border_mismatch(smooth, borders).ratio == pytest.approx(1, abs=0.05)
    assert abs(signed_jump(smooth, borders).beyond) < 3
    assert gaussian(0.2, voxel_um=(0.1,) * 3)(noise) == pytest.approx(whole, abs=1e-2)  # the engine's own has that halo


def test_tiles_that_see_too_little_leave_one(noise: np.ndarray) -> None:
    smooth, whole = tiled(noise, 0), ndimage.gaussian_filter(noise, 2.0)
    borders = borders_of(SHAPE, BLOCK)
    assert border_mismatch(smooth, borders).ratio > 1.2
    everywhere, near, elsewhere = differing(smooth, whole, borders, 8)
    assert near > everywhere > elsewhere == 0


def test_a_step_at_every_border_is_a_signed_jump(noise: np.ndarray) -> None:
    ramp = noise + (np.arange(SHAPE[0]) // BLOCK[0])[:, None, None] * 5
    found = signed_jump(ramp, {0: (16, 32, 48)})
    assert found.at_borders == pytest.approx(5, abs=1)
    assert found.beyond > 3
    slope = noise + np.arange(SHAPE[0])[:, None, None] * 5
    assert abs(signed_jump(slope, {0: (16, 32, 48)}).at_borders) < 1


def test_the_numbers_are_those_of_the_definition() -> None:
    image = np.arange(20.0)[:, None] ** 2 * np.ones((20, 3))
    found = border_mismatch(image, {0: (8, 16)})
    assert found.at_borders == (8**2 - 7**2 + 16**2 - 15**2) / 2
    assert found.at_controls == (4**2 - 3**2 + 12**2 - 11**2) / 2
    assert found.planes == 2
    assert found.ratio == found.at_borders / found.at_controls
    assert signed_jump(image, {0: (8, 16)}).at_borders == 2  # the second difference of a square


def test_labels_that_change_at_a_border_are_seen() -> None:
    labels = np.zeros((32, 40), np.uint16)
    labels[2:30, 4:36] = 1
    labels[16:, 4:36] *= 2  # numbered anew from the second tile on
    labels[2:30, 20:] = np.where(labels[2:30, 20:] > 0, 3, 0)
    cut = label_mismatch(labels, {0: (16,)})
    assert cut.at_borders == pytest.approx(16 / 32) and cut.at_controls == 0
    assert cut.ratio == math.inf
    whole = (labels > 0).astype(np.uint16)
    assert label_mismatch(whole, {0: (16,)}).at_borders == 0
    assert math.isnan(label_mismatch(whole, {0: (16,)}).ratio)
    assert math.isnan(label_mismatch(np.zeros((32, 40), np.uint8), {0: (16,)}).at_borders)


def test_borders_are_those_of_the_grid() -> None:
    assert borders_of((64, 100, 10), (16, 64, 10)) == {0: (16, 32, 48), 1: (64,)}


@pytest.mark.parametrize("borders", [{0: (0,)}, {0: (20,)}, {0: (8, 4)}, {}, {0: (1,)}])
def test_borders_that_are_none_are_refused(borders: dict[int, tuple[int, ...]]) -> None:
    with pytest.raises(InvalidInput):
        border_mismatch(np.zeros((20, 4)), borders)
