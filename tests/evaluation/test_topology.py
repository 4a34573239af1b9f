"""Centre lines and Betti numbers: of a shape with itself, under swap, and of shapes whose numbers everybody knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation.drawn import SHAPES, cells
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number

from cristae.evaluation.topology import betti, centre_line, figures_of, topology_counts, topology_figures


def figures(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return topology_figures(topology_counts(pred, truth), pred.ndim)


@st.composite
def two_masks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(SHAPES)
    return draw(hnp.arrays(bool, shape)), draw(hnp.arrays(bool, shape))


@given(two_masks())
def test_a_shape_with_itself_is_1_and_a_swap_changes_nothing(both: tuple[np.ndarray, np.ndarray]) -> None:
    own, here, there = figures(both[0], both[0]), figures(*both), figures(*both[::-1])
    assert own["cldice"] == 1 if both[0].any() else math.isnan(own["cldice"])
    assert not any(own[name] for name in own if name.startswith("betti"))
    assert here["cldice"] == pytest.approx(there["cldice"], abs=0, nan_ok=True)
    assert here["cldice_precision"] == pytest.approx(there["cldice_sensitivity"], abs=0, nan_ok=True)
    assert list(here) == list(figures_of(both[0].ndim))


@given(two_masks())
def test_every_piece_keeps_a_line_inside_it(both: tuple[np.ndarray, np.ndarray]) -> None:
    mask = both[0]
    line = centre_line(mask)
    assert not (line & ~mask).any()
    pieces, many = ndimage.label(mask, np.ones((3,) * mask.ndim))
    assert set(np.unique(pieces[line]).tolist()) == set(range(1, many + 1))


@pytest.mark.parametrize("shape", [(2, 2, 2), (2, 2, 9), (4, 4, 4), (1, 2, 2), (6, 2, 2)])
def test_what_thinning_would_lose_keeps_its_deepest_voxel(shape: tuple[int, ...]) -> None:
    mask = np.pad(np.ones(shape, bool), 2)
    line = centre_line(mask)
    assert line.any()
    depth = ndimage.distance_transform_edt(mask)
    assert depth[line].max() == depth.max()


def test_a_broken_line_costs_sensitivity_and_a_needless_one_precision() -> None:
    truth = np.zeros((7, 60), bool)
    truth[2:5, 2:58] = True
    pred = truth.copy()
    pred[:, 20:40] = False
    found = figures(pred, truth)
    line = centre_line(truth)
    assert found["cldice_precision"] == 1
    assert found["cldice_sensitivity"] == (line & pred).sum() / line.sum()
    assert 0.5 < found["cldice_sensitivity"] < 0.8
    assert figures(truth, pred)["cldice_precision"] == found["cldice_sensitivity"]
    assert found["betti_0_error"] == 1


def test_an_empty_mask_has_no_line() -> None:
    nothing, some = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    some[1:4, 1:4, 1:4] = True
    assert math.isnan(figures(nothing, nothing)["cldice"])
    assert figures(nothing, some)["cldice"] == figures(some, nothing)["cldice"] == 0


def test_lines_beside_each_other_share_nothing() -> None:
    one, other = np.zeros((9, 30), bool), np.zeros((9, 30), bool)
    one[1:3, 2:28] = other[6:8, 2:28] = True
    assert figures(one, other)["cldice"] == 0


def shapes() -> dict[str, tuple[np.ndarray, tuple[int, ...]]]:
    ball = np.pad(np.ones((5, 5, 5), bool), 1)
    shell = ball.copy()
    shell[3, 3, 3] = False
    ring = np.pad(np.ones((3, 5, 5), bool), 1)
    ring[:, 3, 3] = False
    corners = np.zeros((2, 2, 2), bool)
    corners[0, 0, 0] = corners[1, 1, 1] = True
    flat = np.pad(np.ones((5, 5), bool), 1)
    flat[3, 3] = False
    return {
        "a ball": (ball, (1, 0, 0)),
        "a shell": (shell, (1, 0, 1)),
        "a ring": (ring, (1, 1, 0)),
        "two voxels that meet at a corner": (corners, (1, 0, 0)),
        "a ball and a ring": (np.concatenate([ball, ring]), (2, 1, 0)),
        "a disc with a hole": (flat, (1, 1)),
        "nothing": (np.zeros((3, 3, 3), bool), (0, 0, 0)),
        "everything": (np.ones((3, 3, 3), bool), (1, 0, 0)),
    }


@pytest.mark.parametrize("name", shapes())
def test_betti_numbers_of_shapes(name: str) -> None:
    mask, expected = shapes()[name]
    assert betti(mask) == expected


@pytest.mark.parametrize("seed", range(3))
def test_betti_numbers_add_up_to_the_euler_number(seed: int) -> None:
    mask = cells(seed)[0] > 0
    b0, b1, b2 = betti(mask)
    assert b0 - b1 + b2 == euler_number(mask, connectivity=3)
    assert b1 >= 0
    plane = mask[3]
    assert betti(plane)[0] - betti(plane)[1] == euler_number(plane, connectivity=2)
