"""Coarse levels against plain Python cells, and the laws for a stage whose output lies on another grid than its input."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from importlib.util import module_from_spec, spec_from_file_location
from itertools import product
from math import prod
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import block_reduce

from cristae.blocks.evaluate import apply_chain, needs
from cristae.blocks.stage import At, Spec, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.filters import STAGES, gaussian, pyramid_kernel
from cristae.filters.pyramid import LEVELS, downsample, mean, mode, pyramid_factors, pyramid_steps
from cristae.grid import BlockGrid, Box

INTEGERS = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
VOXEL_UM = (0.3, 0.11, 0.1)
HOWS = ["mean", "mode", "stride"]

shapes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 21))
factors3 = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
ndims = st.sampled_from([2, 3])


def build(factors: tuple[int, ...], how: str) -> Stage:
    return downsample(factors, voxel_um=VOXEL_UM[-len(factors) :], how=how)


def allowed(how: str, dtype: str) -> bool:
    """Floats have no mode."""
    return how != "mode" or dtype not in FLOATS


def coarse_shape(shape: tuple[int, ...], factors: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // f) for n, f in zip(shape, factors, strict=True))


def image(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Labels that tie often, the whole range of the type, or a normal image: by turns."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return (rng.normal(0, 100, shape) * 10.0 ** rng.integers(-3, 3, shape)).astype(dtype)
    info = np.iinfo("uint8" if dtype == "bool" else dtype)
    if dtype == "bool" or seed % 3 == 0:
        return rng.integers(max(info.min, -2), 4, shape).clip(0 if dtype == "bool" else None, None).astype(dtype)
    if seed % 3 == 1:
        return rng.choice(np.array([info.min, info.min + 1, info.max - 1, info.max], dtype), shape)
    return rng.integers(info.min, info.max, shape, dtype, endpoint=True)


def cells(array: np.ndarray, factors: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], list]]:
    """Every coarse voxel with the Python numbers of its cell, in raster order."""
    for at in np.ndindex(coarse_shape(array.shape, factors)):
        yield at, array[tuple(slice(i * f, i * f + f) for i, f in zip(at, factors, strict=True))].ravel().tolist()


def elected(values: list[int]) -> int:
    counts = Counter(values)
    return min((v for v, n in counts.items() if n == max(counts.values())), key=lambda v: (v == 0, v))


def blockwise(stage: Stage, array: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """The stage over a grid of its output, each block from a volume that is garbage outside the declared box."""
    spec = stage.output(Spec(array.shape, array.dtype.name, VOXEL_UM[-array.ndim :]))
    grid = BlockGrid(spec.shape, block)
    out = np.empty(spec.shape, spec.dtype)
    for index, core in enumerate(grid):
        boxes = needs([stage], [array.shape, spec.shape], core, core)
        assert Box.whole(array.shape).contains(boxes[0]) and not boxes[0].empty
        piece = apply_chain([stage], array[boxes[0].slices].copy(), boxes, grid, index, 0, lambda _: {})
        assert piece.shape == core.shape and piece.dtype == out.dtype
        out[core.slices] = piece
    return out


# --------------------------------------------------------------------------------------- what a cell becomes


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=25)
@given(shape=shapes, factors=factors3, ndim=ndims, seed=st.integers(0, 99))
def test_integer_means_are_exact_fractions_rounded_half_to_even(dtype, shape, factors, ndim, seed):
    array, factors = image(shape[-ndim:], dtype, seed), factors[-ndim:]
    out = build(factors, "mean")(array)
    assert out.dtype == array.dtype
    for at, values in cells(array, factors):
        assert int(out[at]) == round(Fraction(sum(values), len(values)))


@pytest.mark.parametrize("dtype", FLOATS)
@settings(max_examples=15)
@given(shape=shapes, factors=factors3, ndim=ndims, seed=st.integers(0, 99))
def test_float_means_are_sums_in_raster_order(dtype, shape, factors, ndim, seed):
    array, factors = image(shape[-ndim:], dtype, seed), factors[-ndim:]
    expected = np.empty(coarse_shape(array.shape, factors), dtype)
    for at, values in cells(array, factors):
        total = 0.0
        for v in values:
            total += v
        expected[at] = total / len(values)
    np.testing.assert_array_equal(build(factors, "mean")(array), expected)


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=25)
@given(shape=shapes, factors=factors3, ndim=ndims, seed=st.integers(0, 99))
def test_modes_are_the_most_frequent_and_ties_go_to_the_smallest_label(dtype, shape, factors, ndim, seed):
    array, factors = image(shape[-ndim:], dtype, seed), factors[-ndim:]
    out = build(factors, "mode")(array)
    assert out.dtype == array.dtype
    for at, values in cells(array, factors):
        assert out[at] == elected(values)


@pytest.mark.parametrize("factors", [(1, 2, 2), (2, 2, 2), (2, 3, 4)])
def test_whole_cells_agree_with_scikit_image(factors):
    array = np.random.default_rng(0).random((8, 24, 48), np.float32)
    expected = block_reduce(array, factors, np.mean, func_kwargs={"dtype": np.float64})
    np.testing.assert_allclose(build(factors, "mean")(array), expected, rtol=1e-6)
    np.testing.assert_array_equal(build(factors, "stride")(array), array[:: factors[0], :: factors[1], :: factors[2]])


def test_a_tie_with_the_background_goes_to_the_object_and_a_majority_of_background_stays():
    labels = np.array([[0, 9, 0, 0], [0, 9, 7, 0], [5, 3, 0, 6], [3, 5, 6, 0]], np.uint32)
    np.testing.assert_array_equal(build((2, 2), "mode")(labels), [[9, 0], [3, 6]])


def test_a_row_longer_than_one_run_of_the_kernel():
    labels = np.random.default_rng(3).integers(0, 5, (2, 3, 5003)).astype(np.uint16)
    np.testing.assert_array_equal(build((1, 2, 2), "mode")(labels), mode(labels, (1, 2, 2)))
    np.testing.assert_array_equal(build((1, 2, 2), "mean")(labels), mean(labels, (1, 2, 2)))


@settings(max_examples=20)
@given(shape=shapes, seed=st.integers(0, 99), levels=st.integers(1, 3))
def test_ids_of_a_coarse_level_are_ids_of_the_level_below(shape, seed, levels):
    labels = np.random.default_rng(seed).choice(np.array([0, 0, 1, 7, 2**24 + 1, 2**32 - 1], np.uint32), shape)
    for _ in range(levels):
        coarse = build((2, 2, 2), "mode")(labels)
        assert set(np.unique(coarse)) <= set(np.unique(labels))
        labels = coarse


@pytest.mark.parametrize(("how", "dtype"), [(h, d) for h in HOWS for d in INTEGERS + FLOATS if allowed(h, d)])
def test_a_constant_volume_stays_constant(how, dtype):
    top = 1 if dtype == "bool" else 7.25 if dtype in FLOATS else np.iinfo(dtype).max
    array = np.full((3, 5, 67), top, dtype)
    np.testing.assert_array_equal(build((2, 2, 3), how)(array), np.full((2, 3, 23), top, dtype))


def test_nan_and_infinity_stay_in_their_cell():
    array = np.ones((4, 6), np.float32)
    array[0, 1], array[3, 4] = np.nan, -np.inf
    np.testing.assert_array_equal(build((2, 2), "mean")(array), [[np.nan, 1, 1], [1, 1, -np.inf]])


def test_means_of_float16_are_rounded_once():
    # 1 + 2^-11 + 2^-26 lies above the middle of two float16; as a float32 it would be that middle, and fall to 1.
    array = np.array([[2, 2 + 2**-9], [2**-24, 0]], np.float16)
    assert build((2, 2), "mean")(array)[0, 0] == 1 + 2**-10 == mean(array, (2, 2))[0, 0]


@pytest.mark.parametrize("how", HOWS)
def test_planes_of_foreign_byte_order_read_only_or_strided_are_the_same(how):
    array = image((3, 8, 30), "uint16", 2)
    expected, stage = build((1, 2, 2), how)(array), build((1, 2, 2), how)
    frozen, strided = array.copy(), np.repeat(array, 2, axis=2)[:, :, ::2]
    frozen.flags.writeable = False
    for other in (array.astype(">u2"), frozen, strided, np.asfortranarray(array)):
        np.testing.assert_array_equal(stage(other), expected)


def test_the_result_of_stride_shares_no_memory_with_its_block():
    array = np.zeros((4, 4), np.uint8)
    for factors in ((1, 1), (2, 2)):
        assert not np.shares_memory(build(factors, "stride")(array), array)


# ------------------------------------------------------------------------------------------------------ laws


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=25)
@given(
    shape=shapes,
    block=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 7)),
    factors=factors3,
    ndim=ndims,
    dtype=st.sampled_from(["uint8", "uint16", "uint32", "float32"]),
    seed=st.integers(0, 99),
)
def test_the_grid_does_not_show_in_a_single_bit(how, shape, block, factors, ndim, dtype, seed):
    array = image(shape[-ndim:], dtype if allowed(how, dtype) else "int64", seed)
    stage = build(factors[-ndim:], how)
    np.testing.assert_array_equal(blockwise(stage, array, block[-ndim:]), stage(array))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_blocks_one_voxel_thin_agree_with_the_whole(how, axis):
    array, stage = image((7, 19, 67), "uint16", 1), build((2, 2, 3), how)
    block = tuple(1 if a == axis else n for a, n in enumerate(coarse_shape(array.shape, (2, 2, 3))))
    np.testing.assert_array_equal(blockwise(stage, array, block), stage(array))


@pytest.mark.parametrize("how", HOWS)
def test_a_block_that_was_read_wider_than_asked_gives_the_same(how):
    array, stage = image((5, 9, 13), "uint16", 1), build((2, 2, 2), how)
    at = At(Box((1, 1, 2), (3, 4, 6)), (Box((1, 1, 3), (5, 9, 13)),), BlockGrid((3, 5, 7), (2, 3, 4)))
    piece = stage.apply(array[at.reads[0].slices], at=at, answers={})
    np.testing.assert_array_equal(piece, stage(array)[at.out.slices])


@pytest.mark.parametrize("how", ["mean", "mode"])
@given(shape=shapes, factors=factors3, at=st.tuples(*[st.integers(0, 30)] * 3))
@settings(max_examples=25)
def test_a_cell_is_read_whole_and_nothing_else_is(how, shape, factors, at):
    stage, coarse = build(factors, how), coarse_shape(shape, factors)
    start = tuple(a % n for a, n in zip(at, coarse, strict=True))
    out = Box(start, tuple(a + 1 for a in start))
    (read,) = stage.boxes(out, out)
    read = read.clip(shape)
    garbage = np.full(shape, 65535, np.uint16)
    garbage[read.slices] = 3
    assert stage(garbage)[start] == 3
    for corner in product(*({a, b - 1} for a, b in zip(read.start, read.stop, strict=True))):
        seen = np.zeros(shape, np.uint16)
        if how == "mode":  # all labels tie, so the smallest counts wherever it is
            seen[read.slices] = np.arange(2, read.size + 2).reshape(read.shape)
        before = stage(seen)[start]
        seen[corner] = 60000 if how == "mean" else 1
        assert stage(seen)[start] != before


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(("shape", "factors"), [((6, 9, 11), (1, 2, 2)), ((7, 5, 1), (2, 2, 1)), ((9, 11), (2, 4))])
def test_specs_say_what_comes_out_and_stages_travel(how, shape, factors):
    stage, array = pickle.loads(pickle.dumps(build(factors, how))), image(shape, "uint16", 2)
    voxel_um = VOXEL_UM[-len(shape) :]
    spec = stage.output(Spec(shape, "uint16", voxel_um, (0, 65535)))
    out = stage(array)
    assert (out.shape, out.dtype, spec.values) == (spec.shape, spec.dtype, (0, 65535))
    assert spec.voxel_um == tuple(v * f for v, f in zip(voxel_um, factors, strict=True))
    assert stage.params == {"factors": factors, "how": how}


def test_bounds_of_float64_are_not_promised():
    array = np.full((1, 3), 0.1)
    spec = Spec((1, 3), "float64", (0.1, 0.1), (0.1, 0.1))
    assert build((1, 3), "mean")(array)[0, 0] > 0.1
    assert build((1, 3), "mean").output(spec).values is None
    assert build((1, 3), "stride").output(spec).values == (0.1, 0.1)


def test_a_chain_reads_through_a_level_exactly():
    array = image((6, 15, 23), "uint16", 2)
    chain = [build((1, 2, 2), "mean"), gaussian(0.3, voxel_um=(0.3, 0.22, 0.2))]
    coarse = chain[0](array)
    expected, grid = chain[1](coarse), BlockGrid(coarse.shape, (2, 3, 5))
    for index, core in enumerate(grid):
        boxes = needs(chain, [array.shape, coarse.shape, coarse.shape], core, core)
        piece = apply_chain(chain, array[boxes[0].slices].copy(), boxes, grid, index, 0, lambda _: {})
        np.testing.assert_array_equal(piece, expected[core.slices])


def test_users_cannot_name_it():
    assert "downsample" not in STAGES


# ------------------------------------------------------------------------------- two libraries, and no compiler


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
@settings(max_examples=15)
@given(shape=shapes, factors=factors3, ndim=ndims, seed=st.integers(0, 99))
def test_the_plain_twins_are_equal_to_the_last_bit(dtype, shape, factors, ndim, seed):
    array, factors = image(shape[-ndim:], dtype, seed), factors[-ndim:]
    pairs = [(mean, pyramid_kernel.mean)] + [(mode, pyramid_kernel.mode)] * allowed("mode", dtype)
    for plain, fast in pairs:
        one, other = plain(array, factors), fast(array, factors)
        assert one.dtype == other.dtype == array.dtype and one.tobytes() == other.tobytes()


def test_a_mean_of_minus_zeros_is_the_same_zero_in_both():
    array = np.full((2, 2), -0.0, np.float32)
    assert mean(array, (2, 2)).tobytes() == pyramid_kernel.mean(array, (2, 2)).tobytes()


@pytest.fixture(scope="module")
def standin() -> Iterator[ModuleType]:
    spec = spec_from_file_location("standin", Path(__file__).parents[1] / "standin.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.installed():
        yield module


@pytest.mark.parametrize(
    ("how", "dtype"),
    [(h, d) for h in HOWS for d in ("bool", "uint16", "int64", "uint64", "float32") if allowed(h, d)],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_another_library_gives_the_same_answer_in_its_own_arrays(standin, how, dtype, ndim):
    array, stage = image((5, 11, 14)[-ndim:], dtype, 4), build((2, 2, 3)[-ndim:], how)
    there = stage(standin.device(array))
    assert isinstance(there, standin.StandIn) and there.get().dtype == array.dtype
    np.testing.assert_array_equal(there.get(), stage(array))


@pytest.mark.kernel
@pytest.mark.parametrize("dtype", ["bool", "uint16", "int32", "int64", "uint64", "float16", "float32"])
@pytest.mark.parametrize("factors", [(2, 2, 2), (1, 3, 3)])
def test_the_compiled_kernel_does_what_its_source_says(dtype, factors):
    array = image((3, 5, 11), dtype, 1)
    np.testing.assert_array_equal(pyramid_kernel.mean(array, factors), mean(array, factors))
    if allowed("mode", dtype):
        np.testing.assert_array_equal(pyramid_kernel.mode(array, factors), mode(array, factors))


# ------------------------------------------------------------------------------------------- which levels there are


@pytest.mark.parametrize(
    ("shape", "voxel_um", "expected"),
    [
        ((64, 1024, 1024), (0.3, 0.1, 0.1), ((1, 2, 2), (2, 4, 4))),
        ((64, 1025, 100), (0.3, 0.1, 0.1), ((1, 2, 2), (2, 4, 4), (4, 8, 8))),
        ((64, 1024, 1024), (0.1, 0.1, 0.1), ((2, 2, 2), (4, 4, 4))),
        ((64, 512, 512), (0.45, 0.3, 0.3), ((2, 2, 2),)),
        ((64, 512, 512), (0.46, 0.3, 0.3), ((1, 2, 2),)),
        ((2, 2048, 2048), (0.1, 0.1, 0.1), ((2, 2, 2), (2, 4, 4), (2, 8, 8))),
        ((1, 600, 600), (1.0, 0.1, 0.1), ((1, 2, 2), (1, 4, 4))),
        ((1000, 256, 256), (0.1, 0.1, 0.1), ()),
        ((2048, 2048), (0.1, 0.1), ((2, 2), (4, 4), (8, 8))),
        ((2048, 1), (0.1, 0.1), ((2, 1), (4, 1), (8, 1))),
        ((30, 30), (0.1, 0.1), ()),
    ],
)
def test_levels_keep_z_until_voxels_are_isotropic(shape, voxel_um, expected):
    assert pyramid_factors(shape, voxel_um) == expected


def test_there_are_never_more_levels_than_stated():
    found = pyramid_factors((10**6, 10**6), (0.1, 0.1))
    assert len(found) == LEVELS - 1 and found[-1] == (2 ** (LEVELS - 1),) * 2


@settings(max_examples=60)
@given(
    shape=st.lists(st.integers(1, 3000), min_size=2, max_size=3),
    z_um=st.floats(0.02, 5.0),
    smallest=st.sampled_from([1, 30, 256]),
)
def test_steps_lead_from_level_to_level(shape, z_um, smallest):
    shape, voxel_um = tuple(shape), (z_um, 0.1, 0.1)[-len(shape) :]
    factors = pyramid_factors(shape, voxel_um, smallest=smallest)
    steps = pyramid_steps(factors)
    assert len(steps) == len(factors)
    level = Spec(shape, "uint16", voxel_um)
    for whole, step in zip(factors, steps, strict=True):
        assert set(step) <= {1, 2} and prod(step) > 1
        assert all(s == 1 for s, n in zip(step, level.shape, strict=True) if n == 1)
        level = downsample(step, voxel_um=level.voxel_um, how="mean").output(level)
        assert level.shape == coarse_shape(shape, whole)
    assert max(level.shape[-2:]) <= smallest or len(factors) == LEVELS - 1


# --------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("factors", [(1, 2), (2, 2, 0), (2, 2, -1), (2, 2, 1.5), (2, 2, True)])
def test_factors_that_make_no_cells_are_refused(factors):
    with pytest.raises(InvalidConfiguration, match="factors"):
        downsample(factors, voxel_um=VOXEL_UM, how="mean")


def test_unknown_ways_and_impossible_planes_are_refused():
    with pytest.raises(InvalidConfiguration, match="mean, mode, stride"):
        downsample((2, 2), voxel_um=(0.1, 0.1), how="median")
    with pytest.raises(InvalidConfiguration, match="smallest"):
        pyramid_factors((9, 9), (0.1, 0.1), smallest=0)


def test_floats_have_no_mode():
    stage = build((2, 2), "mode")
    for attempt in (lambda: stage.output(Spec((4, 4), "float32", (0.1, 0.1))), lambda: stage(np.ones((4, 4)))):
        with pytest.raises(InvalidInput, match="mode elects labels"):
            attempt()
