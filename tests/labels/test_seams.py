"""Seams: the laws of the two merges, and the compiled loops against the same loops in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from laws.blockwise import blockwise_answers, stage_box

from cristae.blocks.evaluate import finished
from cristae.blocks.measure import Measure, Partial
from cristae.blocks.stage import At, Stage
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid
from cristae.labels import fill_holes, label, seams_kernel, split
from cristae.labels.seams import label_faces, label_ids, merge_faces, merge_pairs, neighbours

VOXEL_UM = (0.2, 0.1, 0.1)


def partials(multilabel: bool = False) -> tuple[list[Partial], list[Partial]]:
    """What each block of a small volume tells of faces and of pairs; some blocks are empty."""
    rng = np.random.default_rng(3)
    image = (rng.random((9, 11, 10)) < 0.25) * rng.integers(1, 3, (9, 11, 10))
    image[:4, :4] = 0
    grid = BlockGrid(image.shape, (4, 4, 3))
    ats = [At(core, (core,), grid, i) for i, core in enumerate(grid)]
    faces, ids = label_faces(3, 3, multilabel), label_ids(3, 3, multilabel, 0)
    told = [faces.partial(image[at.core.slices], at=at, answers={}) for at in ats]
    answers = {"faces": finished(faces, faces.merge(told), dict(enumerate(told)), {})}
    return told, [ids.partial(at=at, answers=answers) for at in ats]


def same(one: Partial, other: Partial) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
        assert one[name].dtype == other[name].dtype


@pytest.mark.parametrize("which", [0, 1])
def test_merging_forgets_order_and_grouping(which: int) -> None:
    given = partials()[which]
    merge = (merge_faces, merge_pairs)[which]
    rng = np.random.default_rng(which)
    want = merge(given)
    assert len(next(iter(want.values()))) > 10
    for _ in range(30):
        shuffled = [given[i] for i in rng.permutation(len(given))]
        cuts = sorted(rng.integers(0, len(given) + 1, 3))
        groups = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(given)], strict=True)]
        same(merge([merge(group) for group in groups]), want)


@pytest.mark.parametrize("merge", [merge_faces, merge_pairs])
def test_merging_nothing_is_neutral(merge: object) -> None:
    assert callable(merge)
    nothing = merge([])
    for given in partials()[merge is merge_pairs][:6]:
        same(merge([nothing, given]), merge([given]))
        same(merge([given, nothing]), merge([given]))
    same(merge([nothing, nothing]), nothing)


def test_faces_stay_in_the_parts() -> None:
    told = partials(multilabel=True)[0]
    assert set(merge_faces(told)) == {"block", "count", "first", "voxels"}


def test_pairs_are_seen_once_and_forward() -> None:
    given = [p["pairs"] for p in partials()[1]]
    pairs = np.concatenate(given)
    assert len(np.unique(pairs, axis=0)) == len(pairs) > 0
    assert (pairs[:, 0] < pairs[:, 1]).all()


def test_a_missing_block_is_noticed() -> None:
    measure: Measure = label_faces(3, 3, False)
    assert measure.finish is not None
    with pytest.raises(ValueError, match="missing"):
        measure.finish(measure.merge(partials()[0][1:]))


@pytest.mark.parametrize(("ndim", "connectivity", "most"), [(2, 1, 4), (2, 2, 8), (3, 1, 6), (3, 2, 18), (3, 3, 26)])
def test_neighbours_are_mutual(ndim: int, connectivity: int, most: int) -> None:
    grid = BlockGrid((3,) * ndim, (1,) * ndim)
    middle = len(grid) // 2
    assert len(list(neighbours(grid, middle, connectivity))) == most
    for index in range(len(grid)):
        for offset, other in neighbours(grid, index, connectivity):
            assert (tuple(-d for d in offset), index) in list(neighbours(grid, other, connectivity))


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("alike", [False, True])
def test_meetings_are_those_of_the_plain_way(reach: int, alike: bool) -> None:
    rng = np.random.default_rng(reach)
    for rows, columns in ((1, 1), (1, 9), (8, 7)):
        # Each voxel its own component, so that nothing may be left out; straight ahead or not.
        near = (rng.random((rows, columns)) < 0.6) * np.arange(1, rows * columns + 1).reshape(rows, columns)
        far = (rng.random((rows, columns)) < 0.3) * np.arange(1, rows * columns + 1).reshape(rows, columns)
        values = [rng.integers(1, 3, rows * columns) for _ in range(2)]
        want = set()
        for y, x in np.argwhere(near):
            steps = [(y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if abs(i) + abs(j) <= reach]
            seen = [(v, u) for v, u in steps if 0 <= v < rows and 0 <= u < columns and far[v, u]]
            seen = [p for p in seen if not alike or values[0][near[y, x] - 1] == values[1][far[p] - 1]]
            if (y, x) in seen:  # the others are of its own component, wherever a library made the ids
                seen = [(y, x)]
            want |= {(int(near[y, x]), int(far[p])) for p in seen}
        for kernel in (seams_kernel.meetings, seams_kernel.meetings.py_func):
            got = kernel(near.astype(np.uint32), far.astype(np.uint32), reach, alike, *values)
            assert {(int(p) >> 32, int(p) & 0xFFFFFFFF) for p in got} == want


def test_many_meetings_grow_the_list() -> None:
    near = np.arange(1, 2501, dtype=np.uint32).reshape(50, 50)
    nothing = np.empty(0, np.int64)
    assert len(seams_kernel.meetings(near, near, 0, False, nothing, nothing)) == 2500


@pytest.mark.parametrize(
    ("stage", "dtype"),
    [
        (label(voxel_um=VOXEL_UM), bool),
        (fill_holes(voxel_um=VOXEL_UM), bool),
        (split(voxel_um=VOXEL_UM, min_separation_um=0.2), bool),
        (split(voxel_um=VOXEL_UM, by="probability"), np.float32),
    ],
    ids=["label", "fill_holes", "split", "split by probability"],
)
def test_voxels_that_change_after_they_were_counted_are_refused_and_read_no_strange_ids(
    stage: Stage, dtype: type
) -> None:
    grid = BlockGrid((4, 9, 30), (4, 9, 15))
    image = np.zeros(grid.shape, dtype)
    image[1:3, 2:6, 1:28:3] = 1
    answers = blockwise_answers(stage, [image], grid, np.random.default_rng(0))
    changed = image.copy()
    changed[:, :, 5:] = 1
    changed[1, 7, 6:12:2] = 0
    with pytest.raises(InvalidInput, match=r"components where \d+ were counted before.*--fresh"):
        stage_box(stage, [changed], grid.core(0), grid, 0, answers)
