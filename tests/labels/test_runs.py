"""Runs: the components of one block are scipy's, id for id, of any shape, density and type; and what a block tells is what they hold."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from cristae.errors import InvalidInput
from cristae.labels import runs_kernel
from cristae.labels.runs import NARROW, Runs, components

SHAPES = [
    (1, 1, 1),
    (5, 4, 3),
    (3, 1, 9),
    (1, 7, 8),
    (4, 5, 16),
    (3, 6, 17),
    (2, 3, 64),
    (2, 5, 71),
    (6, 9),
    (1, 40),
    (7, 33),
    (9, 1),
]


def dense(runs: Runs) -> np.ndarray:
    """Every id as an array."""
    out = np.zeros(runs.shape, np.uint32)
    runs.paint(np.arange(runs.first.size + 1, dtype=np.uint32), out)
    return out


def by_scipy(block: np.ndarray, connectivity: int, multilabel: bool) -> np.ndarray:
    """Ids in the raster order of first voxels."""
    structure = ndimage.generate_binary_structure(block.ndim, connectivity)
    out, n = np.zeros(block.shape, np.int64), 0
    for value in np.unique(block[block != 0]) if multilabel else (None,):
        found, several = ndimage.label(block != 0 if value is None else block == value, structure)
        out += np.where(found, found + n, 0)
        n += several
    ids, first = np.unique(out, return_index=True)
    table = np.zeros(n + 1, np.int64)
    order = np.argsort(first[ids > 0])
    table[ids[ids > 0][order]] = np.arange(1, n + 1)
    return table[out]


def holds(runs: Runs, want: np.ndarray) -> None:
    """All that the runs can tell is what this array of ids says."""
    n = int(want.max(initial=0))
    np.testing.assert_array_equal(dense(runs), want)
    assert runs.first.size == runs.voxels.size == n
    flat = want.reshape(-1)
    np.testing.assert_array_equal(runs.first, [np.flatnonzero(flat == i)[0] for i in range(1, n + 1)])
    np.testing.assert_array_equal(runs.voxels, np.bincount(flat, minlength=n + 1)[1:])
    for axis, side in product(range(want.ndim), (0, 1)):
        layer = runs.layer(axis, side)
        assert layer.dtype == np.uint32
        np.testing.assert_array_equal(layer, want.take([-side], axis))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("density", [0.02, 0.2, 0.5, 0.9, 1.0])
def test_the_components_of_a_mask_are_scipys(shape: tuple[int, ...], density: float) -> None:
    block = np.random.default_rng(len(shape) + int(100 * density)).random(shape) < density
    for connectivity in range(1, len(shape) + 1):
        holds(components(block, connectivity, False), by_scipy(block, connectivity, False))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "i8", ">u2", "bool"])
def test_equal_values_are_joined_where_that_is_asked(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(sum(shape))
    block = (rng.integers(0, 4, shape) * (rng.random(shape) < 0.8)).astype(dtype)
    for connectivity in range(1, len(shape) + 1):
        holds(components(block, connectivity, True), by_scipy(block, connectivity, True))
        holds(components(block, connectivity, False), by_scipy(block, connectivity, False))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_block(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 20), min_size=2, max_size=3), label="shape"))
    values = data.draw(st.sampled_from([st.integers(0, 1), st.integers(0, 2), st.sampled_from([0, 1, 128, 255])]))
    block = data.draw(arrays(np.uint8, shape, elements=values, fill=st.just(0)), label="block")
    connectivity, multilabel = data.draw(st.integers(1, len(shape))), data.draw(st.booleans())
    holds(components(block, connectivity, multilabel), by_scipy(block, connectivity, multilabel))


def test_every_byte_but_0_is_foreground() -> None:
    block = np.arange(256, dtype=np.uint8).reshape(1, 8, 32)
    np.testing.assert_array_equal(dense(components(block, 1, False)) > 0, block > 0)
    odd = np.tile(np.array([0, 1, 2, 128, 0, 255, 254, 0], np.uint8), 6).reshape(1, 2, 24)
    for seen in (odd, odd.view(bool)):
        np.testing.assert_array_equal(dense(components(seen, 1, False)) > 0, odd > 0)


@pytest.mark.parametrize("values", [2**63, 2**64 - 1])
def test_large_values_are_told_apart(values: int) -> None:
    block = np.array([[[values, values - 1, 0, values]]], np.uint64)
    assert dense(components(block, 3, True)).tolist() == [[[1, 2, 0, 3]]]


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 63, 64, 65, 71, 127, 128, 129, 200])
@pytest.mark.parametrize("density", [0.05, 0.5, 0.95])
def test_rows_of_any_length(width: int, density: float) -> None:
    block = np.random.default_rng(width).random((2, 3, width)) < density
    holds(components(block, 3, False), by_scipy(block, 3, False))


@pytest.mark.parametrize("shift", range(8))
def test_a_block_may_begin_anywhere_in_memory(shift: int) -> None:
    rng = np.random.default_rng(shift)
    memory = np.zeros(3 * 5 * 19 + shift, np.uint8)
    block = memory[shift:].reshape(3, 5, 19)
    block[:] = rng.random(block.shape) < 0.6
    memory.flags.writeable = block.flags.writeable = shift % 2 == 0
    holds(components(block, 3, False), by_scipy(block, 3, False))


def test_a_line_wider_than_two_bytes_say() -> None:
    block = np.zeros((1, 2, NARROW + 10), bool)
    block[0, 0, NARROW - 3 :] = True
    block[0, 1, ::2] = True
    runs = components(block, 3, False)
    assert runs.edges.dtype == np.uint32 and runs.edges.max() == NARROW + 10
    np.testing.assert_array_equal(dense(runs), by_scipy(block, 3, False))
    assert components(block[..., : NARROW - 1], 3, False).edges.dtype == np.uint16


def test_many_more_runs_than_there_was_room_for() -> None:
    block = np.zeros((16, 64, 128), bool)
    block[..., ::2] = True
    assert components(block, 1, False).ids.size == block.size // 2
    block[:, 1::2] = False
    holds(components(block[:3, :5], 1, False), by_scipy(block[:3, :5], 1, False))


@pytest.mark.parametrize("multilabel", [False, True])
def test_compiled_and_plain_agree(multilabel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    block = np.random.default_rng(3).integers(0, 3, (3, 4, 19)).astype(np.uint8)
    for connectivity in (1, 2, 3):
        compiled = components(block, connectivity, multilabel)
        with monkeypatch.context() as plain, np.errstate(over="raise"):
            for name in (
                "_roomy",
                "_singly",
                "places",
                "gathered",
                "_solid",
                "_join",
                "root",
                "mask_runs",
                "value_runs",
                "look_up",
                "unite_runs",
                "number_runs",
            ):
                plain.setattr(runs_kernel, name, getattr(runs_kernel, name).py_func)
            slow = components(block, connectivity, multilabel)
        for name in ("first", "voxels", "row", "edges", "ids"):
            np.testing.assert_array_equal(getattr(slow, name), getattr(compiled, name), err_msg=name)


def test_what_is_no_integer_is_refused() -> None:
    with pytest.raises(InvalidInput, match="float32; threshold it first"):
        components(np.zeros((2, 2), np.float32), 1, False)
