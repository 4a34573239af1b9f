"""Thresholds against scikit-image on whole arrays, merges of histograms, and the meaning of "above"."""

from __future__ import annotations

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.filters import threshold_otsu

from cristae.blocks.measure import Answer, ask
from cristae.blocks.stage import At
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.filters import threshold
from cristae.filters.cuts import otsu
from cristae.filters.histogram import extrema, histogram
from cristae.filters.threshold import above
from cristae.grid import BlockGrid

INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"]


def two_classes(dtype: str, seed: int, spread: float = 12.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low, high = (-60, 60) if np.dtype(dtype).kind != "u" else (70, 170)
    return np.concatenate([rng.normal(low, spread, 700), rng.normal(high, spread, 300)]).reshape(10, 100).astype(dtype)


@pytest.mark.parametrize("dtype", [*INTEGERS, "float16", "float32", "float64"])
@pytest.mark.parametrize("seed", range(5))
def test_otsu_is_that_of_scikit_image_bit_for_bit(dtype, seed):
    array = two_classes(dtype, seed)
    found = ask(otsu(ndim=2, dtype=dtype), array).arrays["value"]
    assert found == threshold_otsu(array) and found.shape == ()


@settings(max_examples=150)
@given(hnp.arrays(np.int16, st.integers(1, 40), elements=st.integers(-300, 300)))
def test_otsu_of_few_integers_takes_the_first_of_equals_as_scikit_image_does(array):
    assert ask(otsu(ndim=1, dtype="int16"), array).number("value") == threshold_otsu(array)


@pytest.mark.parametrize("value", [-7, 0, 3])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_a_constant_image_is_its_own_threshold_and_has_no_foreground(dtype, value):
    array = np.full((4, 5), value, dtype)
    stage = threshold(voxel_um=(1, 1), method="otsu", dtype=dtype)
    assert ask(stage.asks["threshold"], array).number("value") == threshold_otsu(array)
    assert not stage(array).any()


@settings(max_examples=40)
@given(st.sampled_from([*INTEGERS, "float32", "float64"]), st.lists(st.integers(1, 99), max_size=4), st.integers(0, 99))
def test_merged_histograms_are_the_histogram_whatever_the_cuts(dtype, cuts, seed):
    array = two_classes(dtype, seed, 30.0).ravel()
    measure, whole = otsu(ndim=1, dtype=dtype), At.whole(array.shape)
    answers = {name: ask(inner, array) for name, inner in measure.asks.items()}

    def part(piece: np.ndarray) -> dict[str, np.ndarray]:
        return measure.partial(piece, at=At.whole(piece.shape), answers=answers)

    total = measure.partial(array, at=whole, answers=answers)
    parts = [part(p) for p in np.split(array, sorted(set(cuts)))]
    for merged in (
        measure.merge(parts),
        measure.merge(parts[::-1]),
        measure.merge([measure.merge(parts[:1]), measure.merge([]), measure.merge(parts[1:])]),
    ):
        for name in total:
            assert merged[name].dtype == total[name].dtype
            np.testing.assert_array_equal(merged[name], total[name])


def test_integer_counts_are_those_of_numpy_and_floats_those_of_its_bins():
    integers, floats = two_classes("int32", 1), two_classes("float32", 1)
    values, counts = np.unique(integers, return_counts=True)
    answer = ask(histogram(ndim=2, dtype="int32"), integers).arrays
    np.testing.assert_array_equal(answer["values"], values)
    np.testing.assert_array_equal(answer["counts"], counts)
    counts, edges = np.histogram(floats, 64)
    answer = ask(histogram(64, ndim=2, dtype="float32"), floats).arrays
    np.testing.assert_array_equal(answer["values"], (edges[1:] + edges[:-1]) / 2)
    np.testing.assert_array_equal(answer["counts"], counts)


def test_floats_closer_than_a_bin_are_still_counted():
    array = np.float32(1) + np.arange(10, dtype=np.float32) * np.finfo(np.float32).eps
    answer = ask(otsu(ndim=1, dtype="float32"), array)
    assert 1 <= answer.number("value") <= array.max()


def test_wide_integers_cost_memory_for_values_not_for_the_range():
    array = np.array([[-(2**62), 2**62, 5, 5, 2**62]])
    tracemalloc.start()
    answer = ask(histogram(ndim=2, dtype="int64"), array).arrays
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer["values"].tolist() == [-(2**62), 5, 2**62] and answer["counts"].tolist() == [1, 2, 2]
    assert peak < 1e6


def test_the_upper_half_of_uint64_is_counted_exactly():
    array = np.array([2**64 - 1, 2**64 - 3, 2**64 - 1], np.uint64)
    measure = histogram(ndim=1, dtype="uint64")
    merged = measure.merge([measure.merge([]), measure.partial(array, at=At.whole((3,)), answers={})])
    assert merged["values"].tolist() == [2**64 - 3, 2**64 - 1] and merged["counts"].tolist() == [1, 2]


def test_extremes_merge_and_their_neutral_element_is_no_value():
    measure = extrema(ndim=1)
    parts = [measure.partial(np.array(p, np.float32), at=At.whole((2,)), answers={}) for p in ([3, 4], [-1, 2])]
    merged = measure.merge([measure.merge([]), *parts])
    assert (merged["min"], merged["max"]) == (-1, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_with_their_box(bad):
    array = np.ones((4, 6), np.float32)
    array[2, 3] = bad
    grid = BlockGrid((4, 6), (2, 6))
    at = At(grid.core(1), (grid.core(1),), grid, 1, t=7)
    extremes = {"extrema": Answer({"min": np.array(0.0), "max": np.array(1.0)})}
    for measure in (extrema(ndim=2), histogram(ndim=2, dtype="float32")):
        with pytest.raises(InvalidInput, match=r"NaN or infinite .* \(2, 0\) and \(4, 6\) of frame 7"):
            measure.partial(array[2:], at=at, answers=extremes)


def test_blocks_of_another_kind_than_announced_are_refused():
    with pytest.raises(InvalidConfiguration, match="give dtype='uint8'"):
        threshold(voxel_um=(1, 1), method="otsu", dtype="float32")(np.zeros((2, 2), np.uint8))


@settings(max_examples=200)
@given(
    st.floats(-300, 300) | st.integers(-300, 300) | st.sampled_from([0.1, 1e-50, -1e-50, 1e30, -1e30]),
    st.sampled_from(["bool", "int8", "uint8", "uint16", "float16", "float32", "float64"]),
)
def test_above_compares_real_numbers(value, dtype):
    near = np.array([value, np.nextafter(value, 1e9), -128, 0, 0.1, 1, 127])
    info = np.finfo(dtype) if dtype.startswith("f") else np.iinfo("uint8" if dtype == "bool" else dtype)
    array = np.clip(near, float(info.min), float(info.max)).astype(dtype)
    exact = [Fraction(x.item()) > Fraction(value) for x in array]
    mask = above(array, value)
    assert mask.dtype == bool and mask.tolist() == exact


@pytest.mark.parametrize("scope", ["frame", "image", "collection"])
def test_the_measures_of_a_method_share_its_scope(scope):
    measure = threshold(voxel_um=(1, 1), method="otsu", over=scope).asks["threshold"]
    assert measure.scope == scope and measure.asks["extrema"].scope == scope


@pytest.mark.parametrize(
    ("user", "names"),
    [
        ({}, "either a value or a method"),
        ({"value": 1, "method": "otsu"}, "not both"),
        ({"method": "guess"}, "'guess' is not known"),
        ({"method": "otsu", "over": "plate"}, "'plate' is not one of frame, image, collection"),
        ({"value": float("nan")}, "value is nan"),
        ({"value": True}, "value is True"),
    ],
)
def test_a_wrong_parameter_is_named(user, names):
    with pytest.raises(InvalidConfiguration, match=names):
        threshold(voxel_um=(1, 1), **user)
    with pytest.raises(InvalidConfiguration, match="bins is 1"):
        histogram(1, ndim=2)
