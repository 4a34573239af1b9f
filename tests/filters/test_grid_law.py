"""Laws for every filter: the block grid does not show, and nothing outside the declared reach is looked at."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.blocks.evaluate import apply_chain, finished, needs
from cristae.blocks.measure import Answer, Measure
from cristae.blocks.stage import At, Spec, Stage
from cristae.filters import STAGES
from cristae.grid import BlockGrid

SETTINGS = {
    "gaussian": [{"sigma_um": 0.17}, {"sigma_um": 0.4, "truncate": 3.0}],
    "difference_of_gaussians": [{"low_sigma_um": 0.1, "high_sigma_um": 0.25}],
    "ridge": [{"radius_um": [0.3, 0.15]}, {"radius_um": 0.4, "gamma": 20.0}],
    "threshold": [{"value": 100.5}, {"method": "otsu"}],
}
STAGE_CASES = [(name, user) for name, several in SETTINGS.items() for user in several]
VOXEL_UM = (0.25, 0.11, 0.1)


def build(name: str, user: Mapping[str, object], ndim: int, dtype: str) -> Stage:
    facts = {"dtype": dtype} if name == "threshold" else {}
    return STAGES[name](**user, **facts, voxel_um=VOXEL_UM[-ndim:])


def answer_blockwise(measure: Measure, array: np.ndarray, grid: BlockGrid) -> Answer:
    answers = {name: answer_blockwise(inner, array, grid) for name, inner in measure.asks.items()}
    partials = []
    for index, core in enumerate(grid):
        read = core.grow(measure.halo).clip(array.shape)
        at = At(core, (read,), grid, index)
        partials.append(measure.partial(array[read.slices].copy(), at=at, answers=answers))
    halves = [measure.merge(partials[::2]), measure.merge([]), measure.merge(partials[1::2])]
    return finished(measure, measure.merge(halves), {}, answers)


def blockwise(stage: Stage, array: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """The stage block by block, each from nothing but the box it declares to read."""
    grid = BlockGrid(array.shape, block)
    answers = {name: answer_blockwise(measure, array, grid) for name, measure in stage.asks.items()}
    out = np.empty(array.shape, stage.output(Spec(array.shape, str(array.dtype), VOXEL_UM[-array.ndim :])).dtype)
    for index, core in enumerate(grid):
        boxes = needs([stage], [array.shape] * 2, core, core)
        piece = apply_chain([stage], array[boxes[0].slices].copy(), boxes, grid, index, 0, lambda _: answers)
        assert piece.shape == core.shape and piece.dtype == out.dtype
        out[core.slices] = piece
    return out


def image(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(1.0, 60.0, shape).clip(0, 255).astype(dtype)


@pytest.mark.parametrize(("name", "user"), STAGE_CASES)
@settings(max_examples=12)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 14), st.integers(1, 80)),
    block=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 37)),
    ndim=st.sampled_from([2, 3]),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    seed=st.integers(0, 99),
)
def test_the_grid_does_not_show_in_a_single_bit(name, user, shape, block, ndim, dtype, seed):
    stage, array = build(name, user, ndim, dtype), image(shape[-ndim:], dtype, seed)
    np.testing.assert_array_equal(blockwise(stage, array, block[-ndim:]), stage(array))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["gaussian", "ridge"])
def test_blocks_one_voxel_thin_agree_with_the_whole(name, axis):
    stage, array = build(name, SETTINGS[name][0], 3, "uint16"), image((7, 19, 67), "uint16", 1)
    block = tuple(1 if a == axis else n for a, n in enumerate(array.shape))
    np.testing.assert_array_equal(blockwise(stage, array, block), stage(array))


@pytest.mark.parametrize(("name", "user"), STAGE_CASES)
@pytest.mark.parametrize("ndim", [2, 3])
def test_specs_say_what_comes_out_and_stages_travel(name, user, ndim):
    stage, array = pickle.loads(pickle.dumps(build(name, user, ndim, "uint8"))), image((6, 9, 11)[-ndim:], "uint8", 2)
    out, spec = stage(array), stage.output(Spec(array.shape, "uint8", VOXEL_UM[-ndim:]))
    assert (out.shape, out.dtype) == (spec.shape, spec.dtype)
    if spec.values:
        assert spec.values[0] <= out.min() and out.max() <= spec.values[1]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["gaussian", "difference_of_gaussians", "ridge"])
def test_the_reach_is_no_larger_than_needed(name, axis):
    stage = build(name, SETTINGS[name][-1], 3, "float32")
    reach = tuple(after for _, after in stage.halo)
    rim = tuple(0 if a == axis else r for a, r in enumerate(reach))

    def centre_sees_the_rim(seed: int) -> bool:
        array = image(tuple(2 * r + 1 for r in reach), "float32", seed)
        changed = array.copy()
        changed[rim] += 1e7
        return bool(stage(array)[reach] != stage(changed)[reach])

    assert any(centre_sees_the_rim(seed) for seed in range(8))


@pytest.mark.parametrize(("name", "user"), STAGE_CASES)
def test_a_constant_image_is_no_trouble(name, user):
    array = np.full((5, 6, 70), 201, np.uint8)
    out = build(name, user, 3, "uint8")(array)
    expected = {"gaussian": 201, "difference_of_gaussians": 0, "ridge": 0, "threshold": "value" in user}[name]
    np.testing.assert_allclose(out, expected, atol=1e-4 if "gauss" in name else 0)
