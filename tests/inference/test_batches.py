"""Batches: several tiles at a time are what each is alone, whoever asks for them, and however little memory there is.

A CPU computes one tile at a time; here it is given room for more, as a GPU has.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Lock, Thread
from typing import Any

import numpy as np
import pytest
from inference.models import LEARN, VOXEL_UM, identity, tiny
from inference.volumes import blobs, ran, result, store

from cristae.blocks.stage import Stage
from cristae.blocks.task import classify
from cristae.errors import InvalidConfiguration, InvalidInput, SetAside
from cristae.grid import Box
from cristae.inference import batches, load_model, network, read_card, segment
from cristae.inference.batches import Together, predicted
from cristae.inference.blend import HELD, Held
from cristae.inference.network import Network
from cristae.inference.tiles import Tile, Tiling

torch = pytest.importorskip("torch", reason=LEARN)

SHAPE, TILE = (14, 42, 61), (8, 16, 24)
RAW = {"how": "range", "low": 0, "high": 2000}
ITEM = batches.LEAST_BYTES * 8 * 16 * 24
"""Bytes that a tile counts, of a network as small as these."""


def room(items: int) -> None:
    HELD.clear()
    batches.ROOM["cpu"] = items * ITEM


class Seen:
    """What a network's module is shown: the shape of each batch, and the tiles in it; more than `most` at once do not fit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: str, most: int = 1000) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.tiles: list[bytes] = []
        self.most, self.lock = most, Lock()
        module = load_model(path).module
        real = module.forward

        def forward(x: Any) -> Any:
            with self.lock:
                self.shapes.append(tuple(x.shape))
                if len(x) > self.most:
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} GiB.")
                self.tiles += [one.numpy().tobytes() for one in x]
            return real(x)

        monkeypatch.setattr(module, "forward", forward)

    @property
    def sizes(self) -> list[int]:
        return [shape[0] for shape in self.shapes]

    @property
    def of_the_image(self) -> list[bytes]:
        return [tile for tile in self.tiles if any(tile)]


def of(path: str, **said: Any) -> Stage:
    return segment(model=path, voxel_um=VOXEL_UM[3], tile=list(TILE), **said)


def count(stage: Stage, shape: tuple[int, ...] = SHAPE) -> int:
    tiling: Tiling = stage.apply.keywords["tiling"]  # type: ignore[attr-defined]
    return tiling.count(shape)


# --------------------------------------------------------------------------------------------------- the same result


@pytest.mark.parametrize("blend", ["gaussian", "crop"])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [2, 4, 16])
def test_batches_give_what_one_tile_at_a_time_gives(
    monkeypatch: pytest.MonkeyPatch, size: int, mirror: bool, blend: str
) -> None:
    path = tiny(how=RAW, features=(3,))
    stage, array = of(path, blend=blend, mirror=mirror), blobs(SHAPE)
    expected = stage(array)
    room(size)
    seen = Seen(monkeypatch, path)
    found = stage(array)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert found.dtype == np.float32 and np.ptp(found) > 0.02
    items = count(stage) * (8 if mirror else 1)
    assert items % size or mirror or blend == "crop", "no last batch has room to spare"
    assert seen.shapes == [(size, 1, *TILE)] * -(-items // size)
    assert len(seen.of_the_image) == items, "filled up with what is no tile"


def test_a_network_of_the_plane_and_several_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(2, how=RAW, voxel_um=(0.11, 0.1), classes=("er", "mito", "golgi"), activation="softmax")
    stage = segment(model=path, of="mito", voxel_um=VOXEL_UM[3], tile=[16, 24], mirror=True)
    array = blobs((5, 40, 44))
    expected = stage(array)
    room(1)  # of a tile eight times as large
    seen = Seen(monkeypatch, path)
    np.testing.assert_allclose(stage(array), expected, rtol=0, atol=1e-6)
    assert set(seen.shapes) == {(8, 1, 16, 24)}, "two tiles and their four flips"


def test_the_result_of_a_tile_does_not_depend_on_its_company() -> None:
    path = tiny(features=(8, 16))
    rng = np.random.default_rng(0)
    tiles = rng.normal(size=(9, *TILE)).astype(np.float32)
    one = load_model(path)
    batches.ROOM["cpu"] = 4 * one._bytes(TILE)
    expected = one.together(tiles)
    for _ in range(4):
        order = rng.permutation(9)[: rng.integers(1, 10)]
        for n, found in zip(order, one.together(tiles[order]), strict=True):
            assert found.tobytes() == expected[n].tobytes()


def test_a_cpu_computes_one_tile_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(how=RAW)
    seen = Seen(monkeypatch, path)
    stage = of(path)
    stage(blobs(SHAPE))
    assert seen.shapes == [(1, 1, *TILE)] * count(stage)


def test_a_gpu_has_a_gib_for_a_batch() -> None:
    small, large = (Network(read_card(tiny(2, features=f))[0], None, "cuda") for f in ((2, 4), (16, 32, 64)))
    assert small.at_once((64, 64)) == 16 == batches.MOST
    assert small.at_once((1024, 1024)) == 4, "of 256 bytes a voxel, the least that is counted"
    held = large.card.activation_bytes
    assert held > 300 and 2**29 < 512 * 512 * held * large.at_once((512, 512)) <= 2**30
    assert large.at_once((8192, 8192)) == 1 == small.at_once((64, 64), mirror=True) // 4
    assert all(n & (n - 1) == 0 for side in range(8, 4096, 80) for n in [large.at_once((side, side))])


@pytest.mark.parametrize("mirror", [False, True])
def test_tiles_that_need_no_network_take_no_room_in_a_batch(monkeypatch: pytest.MonkeyPatch, mirror: bool) -> None:
    path = tiny(how=RAW)
    array = np.zeros((8, 96, 96), np.uint16)
    array[:, 8:80, 10:50] = np.random.default_rng(0).integers(100, 900, (8, 72, 40))  # no two tiles alike
    stage = of(path, skip_below=100, mirror=mirror)
    expected = stage(array)
    tiling: Tiling = stage.apply.keywords["tiling"]  # type: ignore[attr-defined]
    bright = sum(array[t.box.slices].any() for t in tiling.meeting(Box.whole(array.shape), array.shape))
    assert 8 < bright < count(stage, array.shape)
    room(4)
    seen = Seen(monkeypatch, path)
    np.testing.assert_allclose(stage(array), expected, rtol=0, atol=1e-6)
    assert len(seen.of_the_image) == bright * (8 if mirror else 1)
    assert len(seen.shapes) <= (2 if mirror else 1 / 4 + 1 / 8) * bright + 3


# ------------------------------------------------------------------------------------------------- blocks and threads


@pytest.mark.parametrize("cluster", ["none", "threads:2"])
def test_no_block_grid_shows_and_every_tile_is_computed_once(tmp_path: Path, cluster: str) -> None:
    path = tiny(how=RAW)
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    room(4)
    expected = of(path, dtype="uint16")(array)
    text = f"output: {{name: mito}}\nsteps:\n  - segment: {{model: {path}, tile: {list(TILE)}}}\n"
    for n, block in enumerate([SHAPE, (7, 20, 30), (5, 17, 61)]):
        room(4)
        with pytest.MonkeyPatch.context() as patch:
            seen = Seen(patch, path)
            ran(cell, tmp_path / str(n), text, block, cluster)
        assert result(tmp_path / str(n)).tobytes() == expected.tobytes(), block
        assert len(seen.of_the_image) == len(set(seen.of_the_image)) == count(of(path)), block
        assert set(seen.sizes) == {4}


class Hall:
    """Tiles 0 to n of one voxel, each with its place as its voxels, and a slow way to compute several at a time."""

    def __init__(self, n: int, at_once: int, meet: Callable[[], None] = lambda: None) -> None:
        self.tiles = [Tile(Box((k,), (k + 1,)), Box((k,), (k + 1,))) for k in range(n)]
        self.made: list[int] = []
        self.how = Together(at_once, self.compute)
        self.meet = meet

    def look(self, box: Box) -> np.ndarray:
        return np.array([box.start[0]])

    def compute(self, several: Any) -> list[np.ndarray]:
        self.made += [int(one[0]) for one in several]
        self.meet()
        return [one * 10.0 for one in several]

    def walk(self, held: Held, order: Any) -> list[float]:
        tiles = [self.tiles[k] for k in order]
        found = list(predicted(tiles, self.look, self.how, "key", held))
        assert [tile for tile, _ in found] == tiles, "out of order"
        return [float(values[0]) for _, values in found]


def together(*acts: Callable[[], Any]) -> list[Any]:
    """Each in a thread of its own, at once; a deadlock ends the test, and not the suite."""
    promises: list[Future[Any]] = [Future() for _ in acts]

    def do(act: Callable[[], Any], promise: Future[Any]) -> None:
        try:
            promise.set_result(act())
        except BaseException as error:
            promise.set_exception(error)

    for act, promise in zip(acts, promises, strict=True):
        Thread(target=do, args=(act, promise), daemon=True).start()
    return [promise.result(timeout=60) for promise in promises]


@pytest.mark.parametrize("at_once", [1, 2, 4, 5])
def test_two_threads_that_want_each_others_tiles_do_not_wait_in_a_circle(at_once: int) -> None:
    barrier = Barrier(2)

    def meet() -> None:
        """Nobody is done before the other has claimed too; alone, at the end, one goes on."""
        try:
            barrier.wait(timeout=0.5)
        except BrokenBarrierError:
            barrier.reset()

    hall, held = Hall(12, at_once, meet), Held(1 << 20)
    there, back = list(range(12)), list(range(11, -1, -1))
    found = together(lambda: hall.walk(held, there), lambda: hall.walk(held, back))
    assert found == [[10.0 * k for k in there], [10.0 * k for k in back]]
    assert sorted(hall.made) == there, "each once"


def test_what_one_has_claimed_is_computed_before_it_waits_for_another() -> None:
    """Each has claimed one of two tiles before either looks at the other's."""
    hall, held, barrier = Hall(2, 4), Held(1 << 20), Barrier(2)
    look = hall.look

    def in_turn(first: int) -> Callable[[], list[float]]:
        def both(box: Box) -> np.ndarray:
            if box.start[0] != first:
                barrier.wait(timeout=30)
            return look(box)

        tiles = [hall.tiles[first], hall.tiles[1 - first]]
        return lambda: [float(v[0]) for _, v in predicted(tiles, both, hall.how, "key", held)]

    assert together(in_turn(0), in_turn(1)) == [[0.0, 10.0], [10.0, 0.0]]
    assert sorted(hall.made) == [0, 1]


def test_many_threads_over_overlapping_blocks_compute_each_tile_once() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        hall, held = Hall(40, int(rng.integers(1, 9))), Held(1 << 20)
        orders = [rng.permutation(40)[: rng.integers(1, 41)].tolist() for _ in range(6)]
        found = together(*(partial(hall.walk, held, order) for order in orders))
        assert found == [[10.0 * k for k in order] for order in orders]
        assert sorted(hall.made) == sorted({k for order in orders for k in order})


def test_a_failure_frees_what_was_claimed_and_reaches_who_waits() -> None:
    hall, held = Hall(6, 4), Held(1 << 20)
    real, hall.how = hall.how, Together(4, lambda several: [np.zeros(1) / 0 for _ in [1 // 0]])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            together(lambda: hall.walk(held, range(6)))
    hall.how = real
    assert together(lambda: hall.walk(held, range(6))) == [[0.0, 10.0, 20.0, 30.0, 40.0, 50.0]]

    def gone(box: Box) -> np.ndarray:
        if box.start == (2,):
            raise OSError("gone")
        return np.array([box.start[0] + 100])

    hall.look = gone  # type: ignore[method-assign]
    with pytest.raises(OSError, match="gone"):
        hall.walk(held, range(4))
    assert together(lambda: hall.walk(held, range(2))) == [[1000.0, 1010.0]], "claimed before the failure"


def test_what_others_are_computing_is_not_waited_for_while_something_is_left_to_do() -> None:
    hall, held, names = Hall(8, 4), Held(1 << 20), []
    claim = held.claim
    held.claim = lambda name: (names.append(name), claim(name))[1]  # type: ignore[method-assign,func-returns-value]
    next(predicted(hall.tiles, hall.look, lambda tile: tile, "key", held))
    assert len(names) == 1, "one at a time looks no further than the tile it is asked for"
    held.clear()
    promised, is_mine = claim(names[0])
    assert is_mine and not promised.done()
    with ThreadPoolExecutor(1) as pool:
        walking = pool.submit(hall.walk, held, range(8))
        with pytest.raises(TimeoutError):
            walking.result(timeout=2)
        held.keep(names[0], np.zeros(1))
        assert hall.made[:4] == [1, 2, 3, 4], "the first is somebody's; four others fill a batch"
        assert walking.result(timeout=30) == [10.0 * k for k in range(8)]


# ----------------------------------------------------------------------------------------------------- out of memory


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("most", [1, 2, 5])
def test_a_batch_that_does_not_fit_is_halved_and_the_smaller_one_is_remembered(
    monkeypatch: pytest.MonkeyPatch, most: int, mirror: bool
) -> None:
    path = tiny(how=RAW, features=(3,))
    stage, array = of(path, mirror=mirror), blobs(SHAPE)
    expected = stage(array)
    room(16)
    seen = Seen(monkeypatch, path, most)
    np.testing.assert_allclose(stage(array), expected, rtol=0, atol=1e-6)
    fits = {1: 1, 2: 2, 5: 4}[most]
    tried = [size for size in (16, 8, 4, 2, 1) if size >= fits]
    assert seen.sizes[: len(tried)] == tried and set(seen.sizes[len(tried) :]) <= {fits}
    assert len(seen.of_the_image) == count(stage) * (8 if mirror else 1), "none twice"
    del seen.shapes[:]
    HELD.clear()
    np.testing.assert_allclose(stage(array), expected, rtol=0, atol=1e-6)
    assert set(seen.sizes) == {fits}, "tried again what had not fitted"


def test_what_was_remembered_is_bytes_and_holds_for_other_tiles() -> None:
    batches.ROOM["cpu"] = 16 * 1000

    def full(some: Any, size: int) -> Any:
        if size > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return some

    assert list(batches.in_batches(full, range(9), (10,), 1000, "cpu")) == list(range(9))
    assert [batches.at_once(n, "cpu") for n in (1000, 500, 2000, 9000)] == [4, 8, 2, 1]
    batches.ROOM["cpu"] = 16 * 999 + 5
    assert list(batches.in_batches(full, range(9), (10,), 999, "cpu")) == list(range(9))
    assert batches.at_once(999, "cpu") == 4


@pytest.mark.parametrize("size", [1, 8])
def test_one_tile_that_does_not_fit_is_a_sentence_and_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    path = tiny(how=RAW)
    stage, array = of(path), blobs(SHAPE)
    room(size)
    seen = Seen(monkeypatch, path, most=0)
    with pytest.raises(
        MemoryError, match=r"a tile of 8,16,24 voxels does not fit .* give the step a smaller tile"
    ) as e:
        stage(array)
    assert "\n" not in str(e.value) and e.value.__context__ is None, "what holds the arrays of the batch goes on"
    assert classify(3, e.value).kind == "resource"
    assert seen.sizes == {1: [1, 1], 8: [8, 4, 2, 1]}[size], "once more after what is cached was given back"
    seen.most = 1
    assert together(lambda: stage(array))[0].shape == SHAPE, "and nobody waits for what was never computed"


def test_cudnn_and_cublas_say_it_in_their_own_words_and_other_errors_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(how=RAW)
    stage, array = of(path), blobs(SHAPE)
    expected = stage(array)
    module = load_model(path).module
    real, said = module.forward, ""

    def forward(x: Any) -> Any:
        if len(x) > 2:
            raise RuntimeError(said)
        return real(x)

    monkeypatch.setattr(module, "forward", forward)
    said = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    room(4)
    np.testing.assert_allclose(stage(array), expected, rtol=0, atol=1e-6)
    said = "CUDA error: device-side assert triggered"
    room(4)
    with pytest.raises(RuntimeError, match="device-side assert"):
        stage(array)


def test_a_run_ends_with_the_sentence_where_not_one_tile_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny(how=RAW)
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    Seen(monkeypatch, path, most=0)
    text = f"output: {{name: mito}}\nsteps:\n  - segment: {{model: {path}, tile: {list(TILE)}}}\n"
    with pytest.raises(
        SetAside, match=r"MemoryError: a tile of 8,16,24 voxels does not fit .* give the step a smaller"
    ):
        ran(cell, tmp_path / "out", text, SHAPE)


# --------------------------------------------------------------------------------------------------------- precision


def test_precision_is_part_of_what_runs_only_where_it_is_not_single() -> None:
    path = tiny(how=RAW)
    assert "precision" not in of(path).params and of(path).params == of(path, precision="single").params
    assert of(path, precision="mixed").params == {**of(path).params, "precision": "mixed"}


@pytest.mark.parametrize("word", ["half", "float16", "", 16, None, True])
def test_another_precision_is_refused(word: Any) -> None:
    with pytest.raises(InvalidConfiguration, match=r"precision is .*, but must be one of single, mixed$"):
        of(tiny(), precision=word)


def test_a_cpu_computes_in_single_precision_whatever_is_said() -> None:
    path, array = tiny(how=RAW), blobs(SHAPE)
    expected = of(path)(array)
    HELD.clear()
    assert of(path, precision="mixed")(array).tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [0, 4])
@pytest.mark.parametrize("mirror", [False, True])
def test_mixed_precision_is_near_and_is_added_up_in_single(
    monkeypatch: pytest.MonkeyPatch, size: int, mirror: bool
) -> None:
    """As a GPU does it, in torch's float16 on a CPU."""
    path, array = tiny(how=RAW, features=(8, 16)), blobs(SHAPE)
    single, mixed = (of(path, mirror=mirror, precision=word) for word in ("single", "mixed"))
    expected = single(array)
    monkeypatch.setattr(network, "HALVES", {"cpu": "float16"})
    batches.ROOM["cpu"] = size * load_model(path)._bytes(TILE)
    found = mixed(array)  # nothing was cleared: what is kept of the one is not taken for the other
    assert found.dtype == np.float32
    apart = np.abs(found - expected).max()
    assert 1e-6 < apart < 5e-3
    assert np.unique(found).size > 0.9 * np.unique(expected).size, "float16 knows no more than 15361 numbers in 0 to 1"


def test_a_network_that_float16_cannot_hold_is_refused_and_a_hole_in_the_image_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = identity(3, tile=TILE)
    stage = segment(model=path, voxel_um=VOXEL_UM[3], precision="mixed")
    monkeypatch.setattr(network, "HALVES", {"cpu": "float16"})
    array = np.full(TILE, 1e5, np.float32)
    with pytest.raises(InvalidInput, match=r"precision: mixed is too little .* what float16 can hold; leave precision"):
        stage(array)
    array[:] = 1
    array[0, 0, 0] = np.nan
    assert np.isnan(stage(array)).any() and not np.isnan(stage(array)).all()
