"""Boxes and block grids: cores tile a volume exactly once, and every question about them agrees with counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.grid import CHUNK, BlockGrid, Box, add_halos, inner_chunk, no_halo

sides = st.integers(1, 9)
shapes = st.integers(1, 3).flatmap(lambda n: st.tuples(*[sides] * n))


@st.composite
def grids(draw: st.DrawFn) -> BlockGrid:
    shape = draw(shapes)
    return BlockGrid(shape, tuple(draw(st.integers(1, 11)) for _ in shape))


@st.composite
def boxes(draw: st.DrawFn, ndim: int = 3, low: int = -4, high: int = 12) -> Box:
    pairs = [sorted((draw(st.integers(low, high)), draw(st.integers(low, high)))) for _ in range(ndim)]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def painted(box: Box, shape: tuple[int, ...] = (20, 20, 20), shift: int = 6) -> np.ndarray:
    """The voxels of a box, on a canvas whose first voxel lies at -shift."""
    out = np.zeros(shape, bool)
    out[tuple(slice(a + shift, max(b, a) + shift) for a, b in zip(box.start, box.stop, strict=True))] = True
    return out


@given(grids())
def test_cores_cover_every_voxel_once_in_raster_order(grid: BlockGrid) -> None:
    owners = np.zeros(grid.shape, int)
    for core in grid:
        assert not core.empty
        owners[core.slices] += 1
    assert (owners == 1).all()
    assert len(list(grid)) == len(grid) == np.prod(grid.counts)
    starts = [core.start for core in grid]
    assert starts == sorted(starts)


@given(grids())
def test_numbers_and_positions_are_each_others_inverse(grid: BlockGrid) -> None:
    positions = [grid.position(i) for i in range(len(grid))]
    assert positions == list(np.ndindex(grid.counts))
    assert [grid.index(p) for p in positions] == list(range(len(grid)))


@given(grids(), st.data())
def test_the_blocks_that_meet_a_box_are_those_that_share_a_voxel(grid: BlockGrid, data: st.DataObject) -> None:
    box = data.draw(boxes(len(grid.shape)))
    expected = [i for i, core in enumerate(grid) if not core.intersect(box).empty]
    assert grid.meeting(box) == expected


@given(boxes(), boxes())
def test_an_intersection_holds_the_voxels_of_both(one: Box, other: Box) -> None:
    both = one.intersect(other)
    assert (painted(both) == painted(one) & painted(other)).all()
    assert both == other.intersect(one)
    assert both.empty or both.size == np.count_nonzero(painted(one) & painted(other))
    assert one.contains(other) == (both == other)


@given(boxes(), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3))
def test_growing_adds_halos_and_clipping_undoes_what_lies_outside(box: Box, halo: list[tuple[int, int]]) -> None:
    grown = box.grow(tuple(halo))
    assert grown.contains(box)
    assert grown.shape == tuple(n + a + b for n, (a, b) in zip(box.shape, halo, strict=True))
    assert grown.grow(tuple(halo)) == box.grow(add_halos(tuple(halo), tuple(halo)))
    assert box.grow(no_halo(3)) == box
    assert Box.whole((8, 8, 8)).contains(box.clip((8, 8, 8))) or box.clip((8, 8, 8)).empty


@given(boxes(low=0), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3))
def test_within_finds_a_box_inside_what_was_loaded(box: Box, halo: list[tuple[int, int]]) -> None:
    volume = np.arange(20**3).reshape(20, 20, 20)
    outer = box.grow(tuple(halo)).clip(volume.shape)
    np.testing.assert_array_equal(volume[outer.slices][box.within(outer)], volume[box.slices])


def test_a_block_that_cannot_tile_is_refused() -> None:
    for shape, block in (((4, 4), (2, 0)), ((4, 4), (2, 2, 2)), ((4,), (-1,))):
        with pytest.raises(ValueError, match="cannot tile"):
            BlockGrid(shape, block)


def test_nothing_here_knows_an_array() -> None:
    import ast
    import inspect

    import cristae.grid as module

    nodes = list(ast.walk(ast.parse(inspect.getsource(module))))
    imported = {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    assert imported <= {"__future__", "collections.abc", "dataclasses", "itertools", "math"}


@given(st.integers(1, 3).flatmap(lambda n: st.tuples(*[st.integers(1, 5000)] * n)))
def test_an_inner_chunk_divides_its_shard_and_is_no_sliver(shard: tuple[int, ...]) -> None:
    chunk = inner_chunk(shard)
    for n, c, near in zip(shard, chunk, CHUNK[len(shard)], strict=True):
        assert n % c == 0
        assert c == n or c <= near
        assert 4 * c >= min(near, n)
