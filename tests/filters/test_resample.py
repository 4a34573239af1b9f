"""Resampling: the same extent on other voxels, as other people's code finds it, back to the voxels it came from, and refused in words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from cristae.blocks.stage import At, Spec
from cristae.errors import InvalidConfiguration
from cristae.filters import resample
from cristae.filters.resample import taps
from cristae.grid import BlockGrid, Box

VOXEL_UM = (0.3, 0.13, 0.1)


def noise(shape: tuple[int, ...], dtype: str = "uint16") -> np.ndarray:
    return (1000 * np.random.default_rng(0).random(shape)).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 7, 5), (14, 50, 61), (3, 999, 64)])
@pytest.mark.parametrize("to", [(0.3, 0.2, 0.2), (0.1, 0.05, 0.033), (1.0, 0.9, 0.05), (0.31, 0.1299, 0.12)])
def test_both_grids_cover_the_same_and_the_way_back_ends_where_it_began(
    shape: tuple[int, ...], to: tuple[float, ...]
) -> None:
    spec = Spec(shape, "uint16", VOXEL_UM)
    there = resample(to_um=to, voxel_um=VOXEL_UM).output(spec)
    for n, v, m, w, t in zip(shape, VOXEL_UM, there.shape, there.voxel_um, to, strict=True):
        assert m * w == pytest.approx(n * v, rel=1e-12)
        assert m == 1 or abs(w - t) <= t / (2 * m) * 1.001, "no other number of voxels comes nearer to what was asked"
    back = resample(to_um=VOXEL_UM, voxel_um=there.voxel_um).output(there)
    assert (back.shape, back.voxel_um) == (shape, VOXEL_UM)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("to", [(0.1, 0.05, 0.033), (1.0, 0.9, 0.31)])
def test_a_constant_stays_what_it_is(dtype: str, to: tuple[float, ...]) -> None:
    for value in (0, 3, 255, 0.1) if dtype == "float32" else (0, 3, 255):
        array = np.full((5, 21, 34), value, dtype)
        found = resample(to_um=to, voxel_um=VOXEL_UM)(array)
        assert (found == array[0, 0, 0]).all() and found.dtype == np.float32


def test_the_same_voxels_are_the_same_image() -> None:
    array = noise((5, 21, 34))
    np.testing.assert_array_equal(resample(to_um=VOXEL_UM, voxel_um=VOXEL_UM)(array), array.astype(np.float32))


def test_no_voxel_is_brighter_than_the_brightest() -> None:
    """So that bounds of an image are bounds of what was made of it: noise of the two extremes, where rounding would show."""
    array = np.random.default_rng(0).choice(np.array([0.1, 0.7], np.float32), (6, 90, 90))
    for to in (0.07, 0.31):
        stage = resample(to_um=to, voxel_um=(0.1, 0.1, 0.1))
        found = stage(array)
        assert array.min() <= found.min() and found.max() <= array.max()
    bounded = Spec(array.shape, "float32", (0.1, 0.1, 0.1), (0.0, 1.0))
    assert stage.output(bounded).values == (0.0, 1.0)
    wide = Spec(array.shape, "uint32", (0.1, 0.1, 0.1), (0.0, 2.0**32 - 1))
    assert stage.output(wide).values is None, "float32 has no such number"


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_finer_voxels_lie_on_straight_lines_as_scipy_draws_them(factor: int) -> None:
    array = noise((4, 9, 11), "float32")
    found = resample(to_um=0.3 / factor, voxel_um=(0.3,) * 3)(array)
    expected = ndimage.zoom(array.astype(float), factor, order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_coarser_voxels_are_tents_of_all_that_lies_under_them() -> None:
    """Written out: the weights of a factor of 3, by hand."""
    array = noise((15,), "float32")[None]
    found = resample(to_um=[0.1, 0.3], voxel_um=(0.1, 0.1))(array)
    # The middle of output 2 is input 7; a tent of half width 3 reaches inputs 5 ... 9.
    tent = np.array([1, 2, 3, 2, 1]) / 9
    assert found.shape == (1, 5) and found[0, 2] == pytest.approx(float(tent @ array[0, 5:10]), rel=1e-6)
    end = np.array([2, 3, 2, 1]) / 8  # the voxel before the first is not there, and the others count for it
    assert found[0, 0] == pytest.approx(float(end @ array[0, :4]), rel=1e-6)


def test_two_numbers_leave_the_planes_of_a_stack_as_they_are() -> None:
    array = noise((5, 40, 30))
    found = resample(to_um=[0.2, 0.25], voxel_um=VOXEL_UM)(array)
    layers = [resample(to_um=[0.2, 0.25], voxel_um=VOXEL_UM[1:])(layer) for layer in array]
    np.testing.assert_array_equal(found, np.stack(layers))


def test_nearest_keeps_labels_and_their_type() -> None:
    labels = np.array([[0, 0, 70000, 70000, 3, 3]], np.uint32)
    coarse = resample(to_um=[0.1, 0.2], voxel_um=(0.1, 0.1), how="nearest")(labels)
    assert coarse.dtype == np.uint32 and coarse.tolist() == [[0, 70000, 3]]
    fine = resample(to_um=[0.1, 0.1], voxel_um=(0.1, 0.2), how="nearest")(coarse)
    np.testing.assert_array_equal(fine, labels)


def test_weights_are_those_of_the_place_whatever_the_piece() -> None:
    """An axis of a hundred thousand voxels: far from its beginning nothing is rounded away."""
    n, m = 100_003, 33_331
    whole = taps("linear", 0, m, n, m)
    part = taps("linear", 33_000, 33_010, n, m)
    np.testing.assert_array_equal(part.first, whole.first[33_000:33_010])
    width = part.weights.shape[1]
    np.testing.assert_array_equal(part.weights, whole.weights[33_000:33_010, :width])
    assert not whole.weights[33_000:33_010, width:].any()


def test_blocks_of_one_voxel_are_the_whole() -> None:
    array = noise((4, 6, 7))
    for to in (0.21, 0.07):
        stage = resample(to_um=to, voxel_um=(0.1, 0.1, 0.1))
        whole = stage(array)
        grid = BlockGrid(whole.shape, (1, 1, 1))
        for index in np.random.default_rng(0).integers(0, len(grid), 40).tolist():
            core = grid.core(index)
            (box,) = stage.boxes(core, core, array.shape, whole.shape)
            piece = stage.apply(
                array[box.slices].copy(), at=At(core, (box,), grid, index, source=array.shape), answers={}
            )
            assert piece.tobytes() == whole[core.slices].tobytes()
        assert Box.whole(array.shape).contains(box)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"to_um": 0}, "to_um is 0, but must be one or more positive numbers"),
        ({"to_um": "fine"}, "to_um is 'fine'"),
        ({"to_um": [0.1, float("nan"), 1]}, "positive numbers"),
        ({"to_um": [True, 1, 1]}, "positive numbers"),
        ({"to_um": [0.1]}, "to_um has 1 numbers, but the image has 3 axes; give one for each, or two for y and x"),
        ({"to_um": [0.1] * 4}, "to_um has 4 numbers"),
        ({"to_um": 0.1, "how": "cubic"}, "how is 'cubic', but must be one of linear, nearest"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence) as error:
        resample(voxel_um=VOXEL_UM, **said)
    assert "\n" not in str(error.value)
