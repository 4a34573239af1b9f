"""On a GPU a network says the same, to single precision, and the same bytes again, in batches and where memory is short."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from inference.models import VOXEL_UM, tiny

from cristae.blocks.stage import At, Stage
from cristae.grid import BlockGrid
from cristae.inference import batches, load_model, segment
from cristae.inference.blend import HELD

pytestmark = pytest.mark.gpu

SHAPE, TILE = (24, 200, 180), (24, 64, 64)


def image(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 900, shape).astype(np.uint16)


def of(path: str, **said: Any) -> Stage:
    return segment(model=path, voxel_um=VOXEL_UM[3], tile=list(TILE), **said)


def raw(features: tuple[int, ...] = (8, 16)) -> str:
    return tiny(features=features, how={"how": "range", "low": 0, "high": 900})


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_a_gpu_agrees_with_the_cpu(ndim: int, blend: str) -> None:
    import cupy

    path = tiny(ndim, features=(8, 16))
    shape, tile = (((150, 170), [96, 96]), ((24, 130, 110), [24, 96, 96]))[ndim - 2]
    array = image(shape)
    stage = segment(model=path, voxel_um=VOXEL_UM[ndim], tile=tile, blend=blend, dtype="uint16")
    host, device = stage(array), stage(cupy.asarray(array))
    assert type(device).__module__.startswith("cupy")
    assert 0 < np.abs(device.get() - host).max() < 1e-4, "0: the CPU's tiles were taken for the GPU's"
    HELD.clear()
    assert (stage(cupy.asarray(array)).get() == device.get()).all()


def test_a_model_is_loaded_once_for_each_device() -> None:
    path = tiny(2)
    assert load_model(path, device="cuda") is load_model(path, device="cuda")
    assert next(load_model(path, device="cuda").module.parameters()).is_cuda
    assert not next(load_model(path).module.parameters()).is_cuda


@pytest.mark.parametrize("mirror", [False, True])
def test_batches_are_what_one_tile_at_a_time_is(mirror: bool) -> None:
    import cupy

    path, there = raw(), cupy.asarray(image())
    stage = of(path, mirror=mirror)
    network = load_model(path, device="cuda")
    assert batches.at_once(network._bytes(TILE), "cuda") > 1
    together = stage(there).get()
    HELD.clear()
    batches.ROOM["cuda"] = 0
    alone = stage(there).get()
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


def test_the_result_of_a_tile_does_not_depend_on_its_company() -> None:
    network = load_model(raw(), device="cuda")
    rng = np.random.default_rng(0)
    tiles = rng.normal(size=(20, *TILE)).astype(np.float32)
    expected = network.together(tiles)
    for n in (1, 5, 17):
        order = rng.permutation(20)[:n]
        for k, found in zip(order, network.together(tiles[order]), strict=True):
            assert found.tobytes() == expected[k].tobytes()


def test_no_block_grid_and_no_thread_shows() -> None:
    import cupy

    array, stage = image(), of(raw())
    expected = stage(cupy.asarray(array)).get()
    for block in ((24, 90, 100), (7, 200, 61)):
        grid = BlockGrid(SHAPE, block)
        HELD.clear()
        found = np.zeros(SHAPE, np.float32)

        def act(core: Any, grid: BlockGrid = grid, found: np.ndarray = found) -> None:
            reads = core.grow(stage.halo).clip(SHAPE)
            at = At(core, (reads,), grid)
            found[core.slices] = stage.apply(cupy.asarray(array[reads.slices]), at=at, answers={}).get()

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(act, grid))
        assert found.tobytes() == expected.tobytes(), block


def test_a_batch_that_does_not_fit_is_halved_and_the_way_on_is_remembered() -> None:
    """The process is given a share of the card that holds a few tiles' layers, and not all of a batch."""
    import cupy
    import torch

    path, there = raw((32, 64)), cupy.asarray(image())
    stage = of(path)
    expected = stage(there).get()
    HELD.clear()
    batches.ROOM["cuda"] = 16 * load_model(path, device="cuda")._bytes(TILE)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    load_model(path, device="cuda").together(np.zeros((1, *TILE), np.float32))
    of_sixteen = torch.cuda.max_memory_reserved()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(of_sixteen / 4 / total)
    try:
        np.testing.assert_allclose(stage(there).get(), expected, rtol=0, atol=1e-5)
        assert 1 <= batches.at_once(load_model(path, device="cuda")._bytes(TILE), "cuda") < 16
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1e-6)
        HELD.clear()
        with pytest.raises(MemoryError, match="a tile of 24,64,64 voxels does not fit into the memory of the GPU"):
            stage(there)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    HELD.clear()
    np.testing.assert_allclose(stage(there).get(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_mixed_precision_is_near_and_the_same_bytes_again(blend: str) -> None:
    import cupy

    path, there = raw(), cupy.asarray(image())
    single, mixed = (of(path, blend=blend, precision=word) for word in ("single", "mixed"))
    expected, found = single(there).get(), mixed(there).get()
    assert found.dtype == np.float32 and 1e-6 < np.abs(found - expected).max() < 1e-2
    HELD.clear()
    assert mixed(there).get().tobytes() == found.tobytes()
    network = replace(load_model(path, device="cuda"), precision="mixed")
    assert network(np.zeros(TILE, np.float32)).dtype == np.float32
