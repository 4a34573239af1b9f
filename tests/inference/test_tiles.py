"""Tiles: the published places and weights, and that every voxel is somebody's, whatever the shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cristae.blocks.stage import At
from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box
from cristae.inference.batches import predicted
from cristae.inference.blend import HELD, Held, blended, taken
from cristae.inference.tiles import Blend, Tiling, gaussian, hann, positions, roomy, tiling_of, weights


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (110, 64, 0.5, [0, 23, 46]),
        (512, 128, 0.5, [0, 64, 128, 192, 256, 320, 384]),
        (1000, 256, 0.5, [0, 124, 248, 372, 496, 620, 744]),
        (300, 128, 0.5, [0, 57, 115, 172]),  # 57.33, 114.67: rounded, not cut
        (129, 128, 0.5, [0, 1]),
        (1200, 512, 0.25, [0, 344, 688]),
        (69, 64, 0.96, [0, 2, 5]),  # 2.5 goes to the even 2
        (64, 64, 0.5, [0]),
        (4, 1, 0.5, [0, 1, 2, 3]),
    ],
)
def test_even_places_are_those_of_nnunet(length: int, tile: int, overlap: float, starts: list[int]) -> None:
    assert list(positions(length, tile, overlap)) == starts


@pytest.mark.parametrize(
    ("length", "tile", "overlap", "starts"),
    [
        (110, 64, 0.5, [0, 32, 46]),
        (110, 64, 0.25, [0, 46]),
        (1000, 256, 0.25, [0, 192, 384, 576, 744]),
        (64, 64, 0.25, [0]),
    ],
)
def test_shifted_places_are_those_of_monai(length: int, tile: int, overlap: float, starts: list[int]) -> None:
    assert list(positions(length, tile, overlap, "shifted")) == starts


@pytest.mark.parametrize("tile", [2, 8, 64, 128, 256])
def test_the_gaussian_falls_to_what_four_sigma_leave(tile: int) -> None:
    found = gaussian(tile)
    assert found.max() == found[tile // 2] == 1
    assert found[0] == pytest.approx(3.355e-4, abs=1e-6)


@pytest.mark.parametrize("tile", [8, 33, 64])
def test_the_gaussian_is_a_filtered_point(tile: int) -> None:
    point = np.zeros(tile)
    point[tile // 2] = 1
    expected = ndimage.gaussian_filter(point, tile / 8, mode="constant", truncate=4)
    reached = expected > 0
    np.testing.assert_allclose(gaussian(tile)[reached], (expected / expected.max())[reached], rtol=1e-12)


@pytest.mark.parametrize("tile", [(16, 24), (8, 16, 12), (7, 9, 11)])
def test_shifted_weights_are_those_of_monai(tile: tuple[int, ...]) -> None:
    monai = pytest.importorskip("monai.data.utils", reason="the extra learn is not installed: monai")
    expected = monai.compute_importance_map(tile, mode="gaussian", sigma_scale=0.125).numpy()
    expected = np.maximum(expected, max(expected.min(), 1e-3))
    np.testing.assert_allclose(weights(Tiling(tile, rule="shifted")), expected, rtol=1e-5)


@pytest.mark.parametrize("tile", [2, 16, 128])
def test_raised_cosines_half_a_tile_apart_add_up_to_one(tile: int) -> None:
    w = hann(tile)
    np.testing.assert_allclose(w[: tile // 2] + w[tile // 2 :], 1, atol=1e-12)
    assert w.min() > 0


TILINGS = st.builds(
    lambda tile, stride, margin, overlap, blend, rule: Tiling(
        tuple((t + 2 * m) * s for t, m, s in zip(tile, margin, stride, strict=True)),
        overlap,
        blend,
        tuple(m * s - s // 2 if m else 0 for m, s in zip(margin, stride, strict=True)),
        stride,
        rule,
    ),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.sampled_from([1, 2, 4])] * 2),
    st.tuples(*[st.integers(0, 2)] * 2),
    st.floats(0, 0.9),
    st.sampled_from(["gaussian", "hann", "crop"]),
    st.sampled_from(["even", "shifted"]),
)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 60))


@given(TILINGS, SHAPES)
def test_every_voxel_counts_in_some_tile_and_with_crop_in_one(tiling: Tiling, shape: tuple[int, int]) -> None:
    owners = np.zeros(shape, int)
    padded, before = tiling.padded(shape)
    boxes = []
    for tile in tiling.meeting(Box.whole(shape), shape):
        assert tile.box.shape == tiling.tile and tile.box.contains(tile.counts)
        owners[tile.counts.slices] += 1
        boxes.append(tile.box)
        for start, stop, first, length in zip(tile.box.start, tile.box.stop, before, padded, strict=True):
            assert -first <= start and stop <= length - first
        if tiling.blend == "crop":
            for start, first, stride in zip(tile.box.start, before, tiling.stride, strict=True):
                assert (start + first) % stride == 0, "shifted by a part of the network's stride"
            for a, b, lo, hi, m, n in zip(
                tile.box.start, tile.box.stop, tile.counts.start, tile.counts.stop, tiling.margin, shape, strict=True
            ):
                assert (lo - a >= m or a <= 0) and (b - hi >= m or b >= n), "counts where a border is near"
    assert owners.min() >= 1
    assert tiling.blend != "crop" or owners.max() == 1
    assert boxes == sorted(boxes) and len(boxes) == tiling.count(shape), "not in raster order"


@given(TILINGS, SHAPES, st.tuples(st.integers(1, 20), st.integers(1, 20)))
def test_blocks_meet_the_tiles_that_reach_into_them(
    tiling: Tiling, shape: tuple[int, int], block: tuple[int, int]
) -> None:
    grid = BlockGrid(shape, block)
    every = list(tiling.meeting(Box.whole(shape), shape))
    met = 0
    for core in grid:
        found = list(tiling.meeting(core, shape))
        assert found == [tile for tile in every if not tile.counts.intersect(core).empty]
        reads = core.grow(tiling.halo).clip(shape)
        for tile in found:
            assert reads.contains(tile.box.clip(shape)), "further than the halo"
        met += len(found)
    assert met == tiling.visited(grid)


@given(TILINGS, SHAPES)
def test_a_constant_field_stays_constant(tiling: Tiling, shape: tuple[int, int]) -> None:
    HELD.clear()
    array = np.zeros(shape, np.float32)
    out = blended(array, At.whole(shape), tiling, lambda tile: np.full(tile.shape, 0.7, np.float32), "constant")
    np.testing.assert_allclose(out, 0.7, rtol=0, atol=rounding(tiling))


@given(TILINGS, SHAPES, st.integers(0, 2**16))
def test_a_function_of_the_voxel_alone_is_what_it_was(tiling: Tiling, shape: tuple[int, int], seed: int) -> None:
    HELD.clear()
    array = np.random.default_rng(seed).random(shape).astype(np.float32)
    out = blended(array, At.whole(shape), tiling, lambda tile: tile, "same")
    np.testing.assert_allclose(out, array, rtol=0, atol=rounding(tiling))


def rounding(tiling: Tiling) -> float:
    """Of a sum in single numbers; with an overlap of 0.9 a hundred tiles meet in a voxel."""
    return 1e-6 if tiling.overlap <= 0.75 else 4e-6


def test_a_short_axis_is_reflected_half_before_and_half_after() -> None:
    array = np.arange(3)
    tiling = Tiling((8,))
    (tile,) = tiling.meeting(Box.whole((3,)), (3,))
    assert tile.box == Box((-2,), (6,))
    assert taken(array, Box.whole((3,)), tile.box, (3,)).tolist() == [1, 0, 0, 1, 2, 2, 1, 0]


def test_a_tile_of_the_plane_goes_through_a_stack_slice_by_slice() -> None:
    tiling = tiling_of("segment", 3, [8, 8], None, "gaussian", (2, 2))
    assert tiling.tile == (1, 8, 8)
    assert [start for start, *_ in tiling.axes((3, 8, 8))[0]] == [0, 1, 2]


def test_visits_are_tiles_that_compute_a_voxel() -> None:
    shape = (4096,)
    for tiling in (Tiling((64,)), Tiling((64,), 0.75), Tiling((64,), blend="crop", margin=(10,), stride=(4,))):
        assert tiling.visits == pytest.approx(tiling.count(shape) * 64 / 4096, rel=0.03)


def test_a_plan_knows_about_how_many_tiles_blocks_compute() -> None:
    for tile, block in (((32, 64), (64, 128)), ((32, 64), (32, 64)), ((32, 32), (256, 256))):
        tiling, grid = Tiling(tile), BlockGrid((2048, 2048), block)
        read = sum(core.grow(tiling.halo).clip(grid.shape).size for core in grid)
        computed = tiling.visited(grid) * tile[0] * tile[1] / read
        assert 0.5 < tiling.visits_of_read / computed < 1.8


def of_one(held: Held, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """A tile that is kept under its voxels, computed if it is not there."""
    voxels = np.frombuffer(name.encode(), np.uint8)
    (tile,) = Tiling(voxels.shape).meeting(Box.whole(voxels.shape), voxels.shape)
    ((_, found),) = predicted([tile], lambda box: voxels, lambda seen: make(), "key", held)
    return found


def test_finished_tiles_are_kept_within_bounds_and_made_once() -> None:
    held, made = Held(100), []

    def make(n: int) -> np.ndarray:
        made.append(n)
        return np.zeros(6)  # 48 bytes, as long as its name

    for n in (0, 1, 0, 2, 0, 1):
        of_one(held, f"tile {n}", lambda n=n: make(n))  # type: ignore[misc]
    assert made == [0, 1, 2, 1], "the least recently used goes first"
    with pytest.raises(ZeroDivisionError):
        of_one(held, "bad", lambda: np.zeros(1 // 0))
    assert of_one(held, "bad", lambda: np.ones(3)).tolist() == [1, 1, 1], "a failure is not kept"


def test_of_a_tile_only_what_counts_is_kept() -> None:
    held, looked = Held(1 << 20), []
    tiling = Tiling((16, 16), blend="crop", margin=(4, 4))
    shape = (48, 64)

    def predict(tile: np.ndarray) -> np.ndarray:
        looked.append(tile)
        return tile.astype(np.float32)

    tiles = list(tiling.meeting(Box.whole(shape), shape))
    image = np.random.default_rng(0).integers(0, 1000, shape)
    for _ in range(2):
        for tile, found in predicted(tiles, lambda box: image[box.slices], predict, "key", held):
            np.testing.assert_array_equal(found, image[tile.counts.slices])
            assert found.base is None
    assert len(looked) == len(tiles), "each was computed once"
    assert held._bytes == 4 * 48 * 64, "every voxel is kept once"


def test_tiles_that_look_alike_count_where_they_lie() -> None:
    """At the border of a volume more of a tile counts than inside it, of voxels that may be the same."""
    tiling, shape = Tiling((16, 16), blend="crop", margin=(4, 4)), (48, 64)
    found = predicted(
        tiling.meeting(Box.whole(shape), shape),
        lambda box: np.zeros(box.shape),
        lambda tile: tile,
        "key",
        Held(1 << 20),
    )
    assert all(part.shape == tile.counts.shape for tile, part in found)


def test_two_threads_compute_a_tile_once() -> None:
    from concurrent.futures import ThreadPoolExecutor
    from time import sleep

    held, made = Held(1000), []

    def make() -> np.ndarray:
        made.append(1)
        sleep(0.05)
        return np.ones(3)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: of_one(held, "one", make), range(4)))
    assert len(made) == 1 and all(f is found[0] for f in found)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"tile": 64}, "tile is 64, but must be whole numbers"),
        ({"tile": [64, 0, 8]}, "whole numbers of voxels"),
        ({"tile": [8, 8]}, "3 numbers of voxels"),
        ({"tile": [8, 10, 8]}, "steps of 4,4,4; use 8,12,8"),
        ({"overlap": 1.0}, "from 0 to below 1"),
        ({"overlap": True}, "overlap is True"),
        ({"blend": "mean"}, "one of gaussian, hann, crop"),
        ({"blend": "crop"}, "at least 24,24,24"),
        ({"blend": "crop", "reach": None}, "sees is not known"),
        ({"blend": "crop", "overlap": 0.25, "tile": [32, 32, 32]}, "sees 9,9,9 to each side, so seams would show"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, object], sentence: str) -> None:
    facts = {"tile": [8, 8, 8], "overlap": None, "blend": "gaussian", "reach": (9, 9, 9), **said}
    with pytest.raises(InvalidConfiguration, match=sentence):
        tiling_of("segment", 3, stride=(4, 4, 4), name="net", **facts)  # type: ignore[arg-type]


def test_tiles_of_an_axis_leave_no_gap() -> None:
    for length in range(64, 300, 7):
        for overlap in (0.0, 0.25, 0.5, 0.8):
            for rule in ("even", "shifted"):
                starts = positions(length, 64, overlap, rule)  # type: ignore[arg-type]
                assert starts[0] == 0 and starts[-1] == length - 64
                assert all(0 < b - a <= 64 for a, b in pairwise(starts))


# --------------------------------------------------------------------------------------------------- what suits a network


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
@pytest.mark.parametrize("shape", [(14, 50, 61), (3, 200, 9), (64, 33, 64), (40, 130, 130)])
def test_a_tile_is_no_longer_than_the_volume(shape: tuple[int, ...], blend: Blend) -> None:
    tiling = Tiling((32, 64, 64), blend=blend, margin=(8, 12, 12), stride=(4, 8, 8), shrinks=True)
    found = tiling.fitted(shape)
    for axis, n in enumerate(shape):
        step, size = tiling.stride[axis], tiling.tile[axis]
        assert found.tile[axis] == min(size, -(-(n if blend == "crop" else n + 2) // step) * step)
    assert found.count(shape) == Tiling((32, 64, 64), blend=blend, margin=(8, 12, 12), stride=(4, 8, 8)).count(shape)
    assert found == found.fitted(shape), "of the same shape it is the same"
    covered = np.zeros(shape, int)
    for tile in found.meeting(Box.whole(shape), shape):
        covered[tile.counts.slices] += 1
    assert covered.min() >= 1 and (blend != "crop" or covered.max() == 1)
    assert replace(tiling, shrinks=False).fitted(shape).tile == (32, 64, 64)


def test_a_roomy_tile_leaves_room_for_what_the_network_sees() -> None:
    assert roomy((32, 128, 128), (23, 51, 51), (4, 8, 8), "gaussian") == (64, 128, 128)
    assert roomy((32, 128, 128), (23, 51, 51), (4, 8, 8), "crop") == (96, 208, 208)
    assert roomy((256, 256), (51, 51), (8, 8), "hann") == (256, 256)
    assert roomy((96, 96), None, (4, 4), "gaussian") == (96, 96)
    tile = roomy((1, 1), (7, 9), (3, 32), "crop")
    assert all(t % s == 0 and t >= 4 * r for t, s, r in zip(tile, (3, 32), (7, 9), strict=True))
    assert Tiling(roomy((8, 8), (20, 20), (4, 4), "crop"), blend="crop", margin=(20, 20), stride=(4, 4)).visits <= 4
