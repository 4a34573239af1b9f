"""The specimen depends on seed and position only, and looks like what it says it is."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy import ndimage

from cristae.blocks.stage import At, Stage
from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box
from cristae.pipeline.specimen import BACKGROUND, HAZE, PEAK, draw_tubes, specimen, tile_um, tiles_meeting

SHAPE = (40, 150, 260)
VOXEL = (0.3, 0.15, 0.15)  # so that 12 x 22.5 x 39 um make two tiles along x


def taken(stage: Stage, block: tuple[int, ...]) -> np.ndarray:
    """The whole specimen, block by block."""
    spec = stage.output()
    grid, out = BlockGrid(spec.shape, block), np.zeros(spec.shape, spec.dtype)
    for i, core in enumerate(grid):
        out[core.slices] = stage.apply(at=At(core, (), grid, i), answers={})
    return out


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return taken(specimen(SHAPE, voxel_um=VOXEL), SHAPE)


@pytest.mark.parametrize("block", [(16, 64, 64), (7, 150, 33), (40, 1, 260), (1, 97, 131)])
def test_the_grid_does_not_show(whole: np.ndarray, block: tuple[int, ...]) -> None:
    assert taken(specimen(SHAPE, voxel_um=VOXEL), block).tobytes() == whole.tobytes()


def test_a_block_border_may_run_through_a_cell_or_between_two() -> None:
    shape = (20, 200, 200)
    stage = specimen(shape, voxel_um=(0.6, 0.24, 0.24))
    assert tile_um(shape, (0.6, 0.24, 0.24)) == pytest.approx((12.0, 24.0, 24.0))
    for x, tiles in ((0, [0]), (99, [0]), (100, [1]), (101, [1])):
        assert tiles_meeting(Box((0, 0, x), (20, 9, x + 1)), shape, (0.6, 0.24, 0.24)) == [(0, 0, t) for t in tiles]
    assert len(tiles_meeting(Box((0, 99, 99), (20, 101, 101)), shape, (0.6, 0.24, 0.24))) == 4
    assert taken(stage, (20, 100, 100)).tobytes() == taken(stage, (11, 63, 101)).tobytes()


def test_a_box_that_is_no_block_is_part_of_the_whole(whole: np.ndarray) -> None:
    box = Box((3, 17, 101), (21, 90, 203))
    stage = specimen(SHAPE, voxel_um=VOXEL)
    part = stage.apply(at=At(box, (), BlockGrid(SHAPE, SHAPE)), answers={})
    np.testing.assert_array_equal(part, whole[box.slices])


def test_the_stage_is_a_source_that_travels(whole: np.ndarray) -> None:
    stage = pickle.loads(pickle.dumps(specimen(SHAPE, voxel_um=VOXEL)))
    assert stage.boxes(Box.whole(SHAPE), Box.whole(SHAPE)) == () and not stage.asks
    assert (stage.output().shape, stage.output().dtype, stage.output().voxel_um) == (SHAPE, "uint16", VOXEL)
    np.testing.assert_array_equal(taken(stage, SHAPE), whole)


def test_another_seed_is_another_specimen(whole: np.ndarray) -> None:
    other = taken(specimen(SHAPE, voxel_um=VOXEL, seed=2), SHAPE)
    assert (other != whole).mean() > 0.9  # the noise differs
    assert ((other > 300) != (whole > 300)).sum() > 0.5 * (whole > 300).sum()  # and so do the cells


def test_it_looks_like_a_network_of_thin_tubes(whole: np.ndarray) -> None:
    clean = taken(specimen(SHAPE, voxel_um=VOXEL, noise=0), SHAPE)
    tubes = clean > 300
    assert 0.002 < tubes.mean() < 0.10
    assert 1 < ndimage.label(tubes, np.ones((3, 3, 3)))[1] < 200
    assert clean.min() == BACKGROUND and 0.8 * PEAK < clean.max() <= BACKGROUND + PEAK
    assert clean[~tubes].max() > BACKGROUND + 0.5 * HAZE
    inside = ndimage.distance_transform_edt(tubes, sampling=VOXEL)
    assert inside.max() < 1.0  # um: thin, even where tubes cross


def test_the_noise_is_white_and_its_variance_follows_the_signal() -> None:
    shape = (8, 120, 120)
    assert (taken(specimen(shape, tubes=200, noise=0), shape) > 400).sum() > 3000
    clean = taken(specimen(shape, tubes=200, noise=0), shape).astype(float)
    for factor in (1.0, 2.0):
        standard = (taken(specimen(shape, tubes=200, noise=factor), shape) - clean) / (factor * np.sqrt(clean))
        assert abs(standard.mean()) < 0.02 and standard.std() == pytest.approx(1.0, abs=0.02)
        assert standard[clean > 400].std() == pytest.approx(1.0, abs=0.05)
        assert 3.5 < np.abs(standard).max() < 5.0
        for axis in range(3):
            shifted = np.moveaxis(standard, axis, 0)
            assert abs((shifted[1:] * shifted[:-1]).mean()) < 0.02


@pytest.mark.kernel
def test_a_tube_is_half_as_bright_at_its_radius() -> None:
    counts, voxel = np.full((41, 41, 41), BACKGROUND, np.float32), np.full(3, 0.05)
    segments = np.array([[1.0, 1.0, 0.5, 1.0, 1.0, 1.5, 0.25, 0.25, 1.0]])
    draw_tubes(counts, np.zeros(3, int), voxel, segments)
    assert counts[20, 20, 20] == BACKGROUND + PEAK
    assert counts[20, 25, 20] == counts[15, 20, 20] == pytest.approx(BACKGROUND + 0.5 * PEAK, rel=1e-5)
    assert counts[20, 28, 20] == BACKGROUND
    for axis in range(3):
        np.testing.assert_allclose(np.flip(counts, axis), counts, rtol=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 64, 64), (3, 2, 500), (6, 24, 30)])
def test_small_and_thin_volumes(shape: tuple[int, int, int]) -> None:
    stage = specimen(shape)
    assert taken(stage, (1, 1, 50)).tobytes() == taken(stage, shape).tobytes()


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (8, 8)}, {"shape": (0, 8, 8)}, {"voxel_um": (0.2, 0.0, 0.1)}, {"seed": -1}, {"noise": -0.5}],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidConfiguration):
        specimen(**({"shape": (8, 8, 8)} | wrong))  # type: ignore[arg-type]
