"""Labels: the block grid never shows, down to the ids. The reference is always the whole volume at once."""

from __future__ import annotations

import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import ndimage

from cristae.blocks.evaluate import finished
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import BlockGrid
from cristae.labels import STAGES, label

RIM = ((0, 1),) * 3


@dataclass(frozen=True)
class Run:
    """The two measures and the stage over a grid, in memory, as the engine walks them."""

    stage: Stage
    array: np.ndarray
    grid: BlockGrid
    answers: dict[str, Answer]

    @staticmethod
    def of(stage: Stage, array: np.ndarray, block: tuple[int, ...], backwards: bool = False) -> Run:
        grid = BlockGrid(array.shape, block)
        order = range(len(grid))[::-1] if backwards else range(len(grid))
        faces, ids = stage.asks["faces"], stage.asks["ids"]
        ats = [At(core, (core,), grid, i) for i, core in enumerate(grid)]
        told = {i: faces.partial(array[grid.core(i).slices], at=ats[i], answers={}) for i in order}
        answers = {"faces": finished(faces, faces.merge([told[i] for i in order]), told, {})}
        met = [ids.partial(at=ats[i], answers=answers) for i in order]
        answers["ids"] = finished(ids, ids.merge(met), {}, answers)
        return Run(stage, array, grid, answers)

    def block(self, index: int, halo: tuple[tuple[int, int], ...] | None = None) -> tuple[At, np.ndarray]:
        core = self.grid.core(index)
        out = core if halo is None else core.grow(halo[: len(core.start)]).clip(self.grid.shape)
        at = At(out, (core,), self.grid, index)
        return at, self.stage.apply(self.array[core.slices], at=at, answers=self.answers)

    @property
    def result(self) -> np.ndarray:
        out = np.full(self.array.shape, -1, np.int64)
        for i in range(len(self.grid)):
            at, ids = self.block(i)
            out[at.out.slices] = ids
        return out

    @property
    def objects(self) -> int:
        return int(self.answers["ids"].number("objects"))


def whole(mask: np.ndarray, connectivity: int) -> np.ndarray:
    return ndimage.label(mask, ndimage.generate_binary_structure(mask.ndim, connectivity))[0]


def in_raster_order(ids: np.ndarray) -> np.ndarray:
    """Ids 1, 2, ... by first voxel, the plain way."""
    names, first, inverse = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.zeros(len(names), np.int64)
    alive = np.flatnonzero(names)
    rank[alive[np.argsort(first[alive])]] = np.arange(1, len(alive) + 1)
    return rank[inverse].reshape(ids.shape)


def values_apart(image: np.ndarray, connectivity: int) -> np.ndarray:
    """Components of equal values, one value at a time."""
    out = np.zeros(image.shape, np.int64)
    for value in np.unique(image[image != 0]):
        part = whole(image == value, connectivity)
        out[part > 0] = part[part > 0] + out.max()
    return in_raster_order(out)


def case(seed: int, levels: int = 1) -> tuple[np.ndarray, tuple[int, ...], int]:
    """A random image with a grid that divides nothing and a connectivity; every eighth has blocks of one voxel."""
    rng = np.random.default_rng(seed)
    ndim = int(rng.integers(2, 4))
    largest = 5 if seed % 8 == 0 else 96 if ndim == 2 or seed % 50 == 1 else 24
    shape = tuple(int(n) for n in rng.integers(1, largest + 1, ndim))
    block = (1,) * ndim if seed % 8 == 0 else tuple(int(rng.integers(max(1, n // 5), n + 2)) for n in shape)
    density = {0: 0.0, 1: 1.0}.get(seed % 40, rng.uniform(0.05, 0.7))
    image = (rng.random(shape) < density) * rng.integers(1, levels + 1, shape)
    if seed % 3 == 0:  # smooth shapes span several blocks and are not convex
        noise = ndimage.gaussian_filter(rng.random(shape), 1.0)
        image = image.max(initial=0) * (noise > np.quantile(noise, 1 - density))
    return image.astype(np.uint8), block, int(rng.integers(1, ndim + 1))


def stage_for(image: np.ndarray, **settings: object) -> Stage:
    return label(voxel_um=(0.5,) * image.ndim, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("start", range(0, 320, 40))
def test_the_grid_does_not_show_in_the_ids(start: int) -> None:
    for seed in range(start, start + 40):
        image, block, connectivity = case(seed)
        run = Run.of(stage_for(image, connectivity=connectivity), image.astype(bool), block, backwards=seed % 2 == 0)
        want = whole(image, connectivity)
        np.testing.assert_array_equal(run.result, want, err_msg=f"seed {seed}")
        assert run.objects == want.max()


@pytest.mark.parametrize("connectivity", [1, 2, 3])
@pytest.mark.parametrize("block", [(7, 5, 9), (1, 16, 3), (20, 1, 1)])
def test_a_maze_across_many_blocks_is_one_object_or_many(connectivity: int, block: tuple[int, ...]) -> None:
    mask = np.indices((20, 17, 19)).sum(axis=0) % 2 == 0  # voxels touch by edges, never by faces
    np.testing.assert_array_equal(
        Run.of(stage_for(mask, connectivity=connectivity), mask, block).result, whole(mask, connectivity)
    )


@pytest.mark.parametrize("step", [(1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1), (0, 1, -1), (1, 0, -1), (1, -1, 0)])
def test_every_diagonal_joins_across_a_corner(step: tuple[int, ...]) -> None:
    mask = np.zeros((4, 4, 4), bool)
    here = tuple(1 if d >= 0 else 2 for d in step)
    there = tuple(a + d for a, d in zip(here, step, strict=True))
    mask[here] = mask[there] = True
    axes = sum(d != 0 for d in step)
    for connectivity in (1, 2, 3):
        run = Run.of(stage_for(mask, connectivity=connectivity), mask, (2, 2, 2))
        assert run.objects == (1 if connectivity >= axes else 2)


@pytest.mark.parametrize("start", range(0, 80, 40))
def test_small_objects_go_after_joining(start: int) -> None:
    for seed in range(start, start + 40):
        image, block, connectivity = case(seed)
        least = (0, 1, 2, 3, 7, 40)[seed % 6]
        want = whole(image, connectivity)
        sizes = np.bincount(want.ravel())
        want = in_raster_order(np.where(sizes[want] >= least, want, 0))
        run = Run.of(stage_for(image, connectivity=connectivity, min_voxels=least), image, block)
        np.testing.assert_array_equal(run.result, want, err_msg=f"seed {seed}")
        assert run.objects == want.max()


@pytest.mark.parametrize("start", range(0, 80, 40))
def test_multilabel_joins_equal_values_only(start: int) -> None:
    for seed in range(start, start + 40):
        image, block, connectivity = case(seed, levels=1 + seed % 4)
        run = Run.of(stage_for(image, connectivity=connectivity, multilabel=True), image, block)
        np.testing.assert_array_equal(run.result, values_apart(image, connectivity), err_msg=f"seed {seed}")


@pytest.mark.parametrize("dtype", ["int8", "uint16", ">u2", "int32", "uint64", "bool"])
def test_multilabel_takes_any_integers(dtype: str) -> None:
    image = case(6, levels=3)[0].astype(dtype)
    run = Run.of(stage_for(image, multilabel=True), image, tuple(max(1, n // 3) for n in image.shape))
    np.testing.assert_array_equal(run.result, values_apart(image, image.ndim))


def test_large_values_are_told_apart() -> None:
    image = np.array([[2**64 - 1, 2**63 - 1, 2**63 - 1, 1 << 32]], np.uint64)
    assert Run.of(stage_for(image, multilabel=True), image, (1, 1)).result.tolist() == [[1, 2, 2, 3]]


@pytest.mark.parametrize("halo", [RIM, ((1, 1),) * 3, ((1, 0), (0, 1), (1, 1))])
@pytest.mark.parametrize("multilabel", [False, True])
def test_the_rim_is_what_the_neighbours_write(halo: tuple[tuple[int, int], ...], multilabel: bool) -> None:
    for seed in range(40):
        image, block, connectivity = case(seed, levels=2)
        run = Run.of(
            stage_for(image, connectivity=connectivity, multilabel=multilabel, min_voxels=seed % 3), image, block
        )
        want = run.result
        for i in range(len(run.grid)):
            at, ids = run.block(i, halo)
            np.testing.assert_array_equal(ids, want[at.out.slices], err_msg=f"seed {seed} block {i}")


def test_a_box_beyond_the_rim_is_refused() -> None:
    run = Run.of(stage_for(np.ones((9, 9))), np.ones((9, 9), bool), (3, 3))
    with pytest.raises(ValueError, match="one voxel"):
        run.block(0, ((0, 2), (0, 0)))


def test_a_part_of_the_core_may_be_asked_for() -> None:
    image, block, _ = case(2)
    run = Run.of(stage_for(image), image, block)
    want = run.result
    core = run.grid.core(0)
    at = At(core.grow(((-1, 0),) + ((0, 0),) * (image.ndim - 1)), (core,), run.grid, 0)
    np.testing.assert_array_equal(run.stage.apply(image[core.slices], at=at, answers=run.answers), want[at.out.slices])


def test_the_stage_on_a_whole_array() -> None:
    image = case(11)[0]
    ids = stage_for(image)(image)
    assert ids.dtype == np.uint32
    np.testing.assert_array_equal(ids, whole(image, image.ndim))


def test_one_block_keeps_no_faces() -> None:
    image = np.ones((4, 5, 6), bool)
    parts = Run.of(stage_for(image), image, (4, 5, 6)).answers["faces"].parts
    assert sum(v.size for k, v in parts[0].items() if k.startswith("face")) == 0


def test_memory_order_and_views_do_not_matter() -> None:
    image = np.random.default_rng(4).random((12, 14, 16)) < 0.3
    want = whole(image, 3)
    for same in (np.asfortranarray(image), np.repeat(image, 2, axis=2)[:, :, ::2]):
        np.testing.assert_array_equal(Run.of(stage_for(image), same, (5, 6, 7)).result, want)


def test_a_volume_in_micrometres_is_a_number_of_voxels() -> None:
    def least(volume: float, voxel: tuple[float, ...]) -> object:
        return label(voxel_um=voxel, min_volume_um3=volume).asks["ids"].params["min_voxels"]

    assert least(1.0, (0.1, 0.1, 0.1)) == 1000
    assert least(1.0, (1.0, 1.0, 0.1)) == 10
    assert least(0.02, (0.3, 0.1, 0.1)) == 7
    assert least(0.0, (0.3, 0.1, 0.1)) == 0
    assert label(voxel_um=(1, 1, 1), min_voxels=9, min_volume_um3=2.0).asks["ids"].params["min_voxels"] == 9


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"connectivity": 3}, "connectivity 3"),
        ({"connectivity": 0}, "connectivity 0"),
        ({"min_voxels": -1}, "min_voxels is -1"),
        ({"min_volume_um3": 0.1}, "needs a 3D image"),
        ({"min_volume_um3": float("nan"), "voxel_um": (1.0,) * 3}, "nan"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        label(**{"voxel_um": (1.0, 1.0), **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("multilabel", [False, True])
def test_a_float_image_is_refused(multilabel: bool) -> None:
    with pytest.raises(InvalidInput, match="threshold it first"):
        stage_for(np.ones((3, 3)), multilabel=multilabel)(np.ones((3, 3), np.float32))


def test_a_stage_travels_to_a_worker() -> None:
    stage = pickle.loads(pickle.dumps(STAGES["label"](voxel_um=(1.0,) * 3, min_voxels=5)))
    image = np.random.default_rng(1).random((9, 9, 9)) < 0.3
    np.testing.assert_array_equal(stage(image), label(voxel_um=(1.0,) * 3, min_voxels=5)(image))
