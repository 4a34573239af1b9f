"""A scene is a function of its seed: photons, counts, labels and runs are the same whole, in any blocks and in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cristae.blocks.stage import At
from cristae.grid import BlockGrid, Box
from cristae.simulation import exposure
from cristae.simulation.cells import Scene, things
from cristae.simulation.exposure import PATCH, cell_image, cell_runs, cell_truth, photons
from cristae.simulation.presets import preset

SMALL = Scene("cell-epi", (22, 70, 90), 3, (0.25, 0.1, 0.1), 0.5, 0.3)
LONG = Scene("cell-oil", (20, 60, PATCH[2] + 14), 5)
BLINKING = Scene("cell-epi", (22, 70, 90), 3, frame_s=0.1, on_s=0.2, off_s=0.8, bleach_s=2.0)
CONFOCAL = Scene("cell-confocal", (20, 64, 64), 5, tuple(preset("cells", "cell-confocal")["voxel_um"]))
DEEP = Scene("cell-epi", (PATCH[0] + 6, 40, 48), 2)
SCENES = [SMALL, LONG, CONFOCAL, DEEP, BLINKING]
IDS = ["small", "two patches wide", "confocal", "two patches deep", "blinking"]
named = pytest.mark.parametrize("scene", SCENES, ids=IDS)


def forget() -> None:
    exposure.patch.cache_clear()
    things.cache_clear()


def grids(shape: tuple[int, ...]) -> list[BlockGrid]:
    """27 blocks; blocks that divide nothing; flat ones."""
    third = tuple(-(-n // 3) for n in shape)
    return [BlockGrid(shape, third), BlockGrid(shape, (7, 23, 101)), BlockGrid(shape, (1, shape[1], 37))]


def blockwise(grid: BlockGrid, of: Any, seed: int) -> np.ndarray:
    """Every block from nothing but its box, shuffled; what is remembered is forgotten on the way."""
    out: Any = None
    order = np.random.default_rng(seed).permutation(len(grid))
    for n, index in enumerate(order.tolist()):
        if n == len(order) // 2:
            forget()
        box = grid.core(index)
        found = of(At(box, (), grid, index))
        out = np.zeros(grid.shape, found.dtype) if out is None else out
        out[box.slices] = found
    return np.asarray(out)


@named
def test_light_counts_and_labels_do_not_depend_on_the_blocks(scene: Scene) -> None:
    kind = "mito"
    image, truth = cell_image(scene, kind), cell_truth(scene, kind)
    makers = {
        "photons": lambda at: photons(scene, kind, at.out),
        "counts": lambda at: image.apply(at=at, answers={}),
        "labels": lambda at: truth.apply(at=at, answers={}),
    }
    whole_grid = BlockGrid(scene.shape, scene.shape)
    for name, make in makers.items():
        forget()
        whole = make(At(Box.whole(scene.shape), (), whole_grid)).copy()
        assert len(np.unique(whole)) > 1
        for n, grid in enumerate(grids(scene.shape)):
            assert n or len(grid) == 27
            np.testing.assert_array_equal(blockwise(grid, make, n), whole, err_msg=name)


@named
def test_runs_of_blocks_are_the_runs_of_the_whole(scene: Scene) -> None:
    for kind in ("mito", "lysosome", "nucleus"):
        measure = cell_runs(scene, kind)

        def voxels(
            grid: BlockGrid, order: list[int], measure: Any = measure
        ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
            parts = [
                measure.partial(np.empty(grid.core(n).shape), at=At(grid.core(n), (grid.core(n),), grid, n), answers={})
                for n in order
            ]
            found = []
            for part in parts:
                for label, z, y, x, length in zip(
                    *(part[k].tolist() for k in ("label", "z", "y", "x0", "length")), strict=True
                ):
                    found += [(label, z, y, x + n) for n in range(length)]
            return np.array(sorted(found)).reshape(-1, 4), measure.merge(parts)

        whole, counted = voxels(BlockGrid(scene.shape, scene.shape), [0])
        assert len(whole) == len(np.unique(whole, axis=0))
        ids, many = np.unique(whole[:, 0], return_counts=True)
        np.testing.assert_array_equal(counted["id"], ids)
        np.testing.assert_array_equal(counted["voxels"], many)
        for n, grid in enumerate(grids(scene.shape)):
            found, again = voxels(grid, np.random.default_rng(n).permutation(len(grid)).tolist())
            np.testing.assert_array_equal(found, whole)
            for name in ("id", "voxels"):
                np.testing.assert_array_equal(again[name], counted[name])


def test_there_is_no_seam_between_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two patches, or one that holds them both: the light is the same to a hundredth of a percent of the brightest."""
    scene = Scene("cell-oil", (20, 60, PATCH[2] + 144), 5)
    forget()
    two = photons(scene, "mito", Box.whole(scene.shape)).astype(np.float64)
    forget()
    monkeypatch.setattr(exposure, "PATCH", (PATCH[0], PATCH[1], 2 * PATCH[2]))
    one = photons(scene, "mito", Box.whole(scene.shape)).astype(np.float64)
    forget()
    assert one[:, :, PATCH[2] - 2 : PATCH[2] + 2].max() > 0.02 * one.max(), "dark there"
    assert np.abs(two - one).max() <= 1e-4 * one.max()


def test_seeds_channels_and_time_points_have_light_and_noise_of_their_own() -> None:
    whole = At.whole(SMALL.shape, 0)
    made = [
        cell_image(scene, kind).apply(at=At(whole.out, (), whole.grid, 0, t), answers={})
        for scene, kind, t in (
            (SMALL, "mito", 0),
            (SMALL, "mito", 1),
            (SMALL, "lysosome", 0),
            (Scene(SMALL.name, SMALL.shape, 4, SMALL.voxel_um, 0.5), "mito", 0),
        )
    ]
    for n, one in enumerate(made):
        assert all((one == other).mean() < 0.2 for other in made[:n])


def test_a_frame_of_emitters_that_switch_is_the_same_alone_and_after_others() -> None:
    box = Box.whole(BLINKING.shape)
    forget()
    alone = photons(BLINKING, "lysosome", box, 7)
    forget()
    film = [photons(BLINKING, "lysosome", box, t) for t in (2, 7, 0)]
    np.testing.assert_array_equal(film[1], alone)
    assert not np.array_equal(film[0], alone)


@pytest.mark.parametrize(
    ("light", "part"),
    [
        ({"on_s": 0.2, "off_s": 0.8}, lambda t: 0.2),
        ({"bleach_s": 0.5}, lambda t: 5 * (np.exp(-t / 5) - np.exp(-(t + 1) / 5))),  # the mean over a frame of exp(-t)
        ({"on_s": 0.3, "off_s": 0.1, "bleach_s": 1.0}, lambda t: 7.5 * (np.exp(-t / 10) - np.exp(-(t + 1) / 10))),
    ],
    ids=["blinking", "bleaching", "both"],
)
def test_light_is_as_much_less_as_kinetics_say(light: dict[str, float], part: Any) -> None:
    box, still = Box.whole(BLINKING.shape), Scene("cell-epi", BLINKING.shape, 3)
    moving, all_of_it = Scene("cell-epi", BLINKING.shape, 3, **light), photons(still, "mito", box).sum(dtype=float)
    for t in (0, 4, 19):
        found = photons(moving, "mito", box, t).sum(dtype=float) / all_of_it
        assert found == pytest.approx(part(t), abs=0.01)
    np.testing.assert_array_equal(photons(still, "mito", box, 3), photons(still, "mito", box, 0))
