"""Every measure of the room: the grid does not show, partials merge in any order, a block speaks of its own labels."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.blocks.measure import Measure, Partial, ask
from cristae.blocks.stage import At
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid
from cristae.morphology import MEASURES, finish_rows, windows

SPACING = {2: (0.25, 0.1), 3: (0.3, 0.1, 0.12)}

BUILDERS: dict[str, Callable[..., Measure]] = {
    **{name: MEASURES[name] for name in ("index", "shape", "surface", "topology")},
    "both": windows,
    "uint16": lambda voxel_um: MEASURES["intensity"](voxel_um=voxel_um, dtype="uint16", channel="a"),
    "float32": lambda voxel_um: MEASURES["intensity"](voxel_um=voxel_um, dtype="float32", channel="b", shape=True),
}
GROUP = {"both": "surface", "uint16": "intensity", "float32": "intensity"}
EXACT = {"index", "surface", "topology", "both"}


def scene(shape: tuple[int, ...], name: str, seed: int = 0) -> list[np.ndarray]:
    """Random labels, most of them touching others, and the image that the measure wants."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(np.array([0, 0, 1, 2, 7, 2**40 + 5], np.uint64), shape)
    image = rng.integers(0, 60000, shape)
    return [labels, image.astype(name)] if name in ("uint16", "float32") else [labels]


def parts(measure: Measure, arrays: list[np.ndarray], block: tuple[int, ...]) -> list[Partial]:
    """One partial a block; beyond what a block may read there is nothing to see."""
    shape = arrays[0].shape
    grid = BlockGrid(shape, block)
    found = []
    for i, core in enumerate(grid):
        box = core.grow(measure.halo).clip(shape)
        at = At(core, (box,) + (core,) * (len(arrays) - 1), grid, i)
        shown = [a[b.slices] for a, b in zip(arrays, at.reads, strict=True)]
        found.append(measure.partial(*shown, at=at, answers={}))
    return found


def finished(name: str, rows: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    return finish_rows(GROUP.get(name, name), rows, voxel_um=SPACING[len(shape)], shape=shape)


def assert_same(name: str, one: dict[str, np.ndarray], other: dict[str, np.ndarray], shape: tuple[int, ...]) -> None:
    assert list(one) == list(other)
    for column, values in one.items():
        if name in EXACT or values.dtype.kind in "uib":
            np.testing.assert_array_equal(values, other[column], err_msg=column)
        else:
            # An axis of a flat object is the root of a rounding error: compare lengths with the volume's.
            np.testing.assert_allclose(values, other[column], rtol=1e-9, atol=1e-7 if "axis" in column else 1e-12)


@pytest.mark.parametrize("name", BUILDERS)
@settings(max_examples=25)
@given(data=st.data())
def test_the_grid_does_not_show(name: str, data: st.DataObject) -> None:
    ndim = data.draw(st.sampled_from([2, 3]))
    shape = tuple(data.draw(st.lists(st.integers(1, 7), min_size=ndim, max_size=ndim)))
    block = tuple(data.draw(st.lists(st.integers(1, 5), min_size=ndim, max_size=ndim)))
    measure = BUILDERS[name](voxel_um=SPACING[ndim])
    arrays = scene(shape, name, data.draw(st.integers(0, 99)))
    found = parts(measure, arrays, block)
    order = data.draw(st.permutations(range(len(found))))
    rows = measure.merge([found[i] for i in order])["rows"]
    whole = ask(measure, *arrays).arrays["rows"]
    assert_same(name, finished(name, rows, shape), finished(name, whole, shape), shape)


@pytest.mark.parametrize("block", [(17, 23, 31), (50, 13, 90)])
@pytest.mark.parametrize("name", BUILDERS)
def test_the_grid_does_not_show_in_real_labels(name: str, block: tuple[int, ...], shared_data) -> None:
    with np.load(shared_data / "em-fib25-train2" / "labels.npz") as stored:
        labels = stored["labels"][40:90, 60:130, 100:190]
    image = np.random.default_rng(1).integers(0, 60000, labels.shape)
    arrays = [labels, image.astype(name)] if name in ("uint16", "float32") else [labels]
    measure = BUILDERS[name](voxel_um=SPACING[3])
    found = parts(measure, arrays, block)
    np.random.default_rng(2).shuffle(found)
    whole = finished(name, ask(measure, *arrays).arrays["rows"], labels.shape)
    assert_same(name, finished(name, measure.merge(found)["rows"], labels.shape), whole, labels.shape)


@pytest.mark.parametrize("name", BUILDERS)
def test_merging_is_associative_commutative_and_has_a_neutral_element(name: str) -> None:
    measure = BUILDERS[name](voxel_um=SPACING[3])
    found = parts(measure, scene((7, 8, 9), name), (3, 5, 4))
    merge, nothing = measure.merge, measure.merge([])
    once = merge(found)["rows"]
    nested = merge([merge(found[5:]), nothing, merge([merge(found[2:5]), merge(found[:2])])])["rows"]
    assert once.tobytes() == nested.tobytes()
    assert nothing["rows"].dtype == once.dtype
    assert len(nothing["rows"]) == 0


@pytest.mark.parametrize("name", BUILDERS)
def test_no_order_of_merging_changes_a_bit_of_a_column(name: str) -> None:
    measure = BUILDERS[name](voxel_um=SPACING[3])
    found = parts(measure, scene((9, 11, 12), name), (2, 3, 5))
    here = finished(name, measure.merge(found)["rows"], (9, 11, 12))
    there = finished(name, measure.merge(found[::-1])["rows"], (9, 11, 12))
    for column, values in here.items():
        assert values.tobytes() == there[column].tobytes(), column


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_block_has_one_short_row_for_each_label_of_its_core(name: str, ndim: int) -> None:
    measure = pickle.loads(pickle.dumps(BUILDERS[name](voxel_um=SPACING[ndim])))
    shape, block = (6, 9, 10)[-ndim:], (4, 2, 3)[-ndim:]
    arrays = scene(shape, name)
    arrays[0][(slice(0, 4),) * ndim] = 0  # the first block is empty
    grid = BlockGrid(shape, block)
    for i, part in enumerate(parts(measure, arrays, block)):
        rows, core = part["rows"], grid.core(i)
        own = np.unique(arrays[0][core.slices])
        assert rows.dtype.itemsize <= 256
        assert rows.dtype.names[:4] == ("label", "z0", "y0", "x0")
        np.testing.assert_array_equal(rows["label"], own[own > 0])
        assert all(tuple(r)[1:4] == (0,) * (3 - ndim) + core.start for r in rows)
        assert rows["voxels"].sum() == np.count_nonzero(arrays[0][core.slices])


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_windows_need_their_halo_on_every_side(axis: int, side: int) -> None:
    measure = windows(voxel_um=SPACING[3])
    labels, block = np.ones((4, 4, 4), np.uint8), (2, 2, 2)
    grid = BlockGrid(labels.shape, block)
    i = 0 if side else 7
    core = grid.core(i)
    short = tuple((1 - (a == axis and not side), 1 - (a == axis and bool(side))) for a in range(3))
    seen = [core.grow(h).clip(labels.shape) for h in (measure.halo, short)]
    rows = [measure.partial(labels[b.slices], at=At(core, (b,), grid, i), answers={})["rows"] for b in seen]
    assert rows[0].tobytes() != rows[1].tobytes()


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_volume_without_objects_has_columns_without_rows(name: str, ndim: int) -> None:
    measure = BUILDERS[name](voxel_um=SPACING[ndim])
    arrays = scene((3, 4, 5)[-ndim:], name)
    arrays[0][:] = 0
    empty = finished(name, ask(measure, *arrays).arrays["rows"], arrays[0].shape)
    arrays[0][..., 1] = 3
    full = finished(name, ask(measure, *arrays).arrays["rows"], arrays[0].shape)
    assert {n: (v.dtype, v.shape) for n, v in empty.items()} == {n: (v.dtype, (0,)) for n, v in full.items()}


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("dtype", ["bool", "u1", ">u2", "i4", ">i8", "u8"])
def test_how_labels_are_stored_does_not_matter(name: str, dtype: str) -> None:
    measure = BUILDERS[name](voxel_um=SPACING[3])
    arrays = scene((5, 6, 7), name)
    arrays[0] = (arrays[0] > 1).astype("u8")
    expected = ask(measure, *arrays).arrays["rows"]
    turned = [
        arrays[0].astype(dtype).T.copy().T,
        *(a.astype(a.dtype.newbyteorder(">"))[::-1][::-1] for a in arrays[1:]),
    ]
    for array in turned:
        array.flags.writeable = False
    assert ask(measure, *turned).arrays["rows"].tobytes() == expected.tobytes()


def test_labels_that_are_not_whole_or_not_positive_are_refused() -> None:
    measure = MEASURES["index"](voxel_um=SPACING[3])
    with pytest.raises(InvalidInput, match="float32"):
        ask(measure, np.ones((2, 2, 2), np.float32))
    with pytest.raises(InvalidInput, match="-4"):
        ask(measure, np.full((2, 2, 2), -4, np.int16))
