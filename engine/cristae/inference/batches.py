"""Batches: tiles that are computed together: whose they are, how many go at once, and fewer where memory ends. No network here.

    predicted    tiles in their order, each with its result, whether it was kept, is promised by another thread, or is computed now
    in_batches   items through a device in batches of one size; the size is halved where a batch does not fit its memory

A batch is always as large as the size says, filled up with nothing where items are missing: how a device computes an item depends on
the shape of its batch, and so an item's result does not depend on its company.

A thread that has claimed tiles computes them before it waits for anybody: threads that want overlapping tiles never wait in a circle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import blake2b
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from cristae.grid import Box, Shape
from cristae.inference.tiles import Tile, said

if TYPE_CHECKING:
    from cristae.inference.blend import Held

MOST = 16
"""Items of a batch: more fill no device better, and cost more where a block has no more tiles to fill the last one with."""

ROOM: dict[str, int] = {"cpu": 0, "cuda": 1 << 30}
"""Bytes of a batch, counted as all that convolutions give; what does not fit makes it less until the process ends. A CPU is fastest,
and gives the same bytes for any blocks, with one tile at a time.
"""

LEAST_BYTES = 256
"""A voxel, of networks that take less too: what a batch waits with in the host's memory stays below 0.1 GiB."""

AHEAD = 2
"""Tiles that are looked at for each that a batch holds, where some of them are others' to compute."""

Predict = Callable[[np.ndarray], np.ndarray]
"""A tile as it was read to (*tile) float32."""

Waiting = list[tuple[Tile, "Future[np.ndarray]"]]
Name = tuple[Hashable, Box, bytes]
"""Of what is kept: what a result depends on beside the voxels, where in the tile it counts, and a digest of the voxels."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Together:
    """How tiles are computed several at a time."""

    at_once: int
    compute: Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]  # at most `at_once`, each as Predict does
    known: Callable[[np.ndarray], np.ndarray | None] = lambda tile: (
        None
    )  # the result of a tile that need not be computed


def one_by_one(predict: Predict) -> Together:
    """A function of one tile."""
    return Together(1, lambda tiles: [predict(tile) for tile in tiles])


def predicted(
    tiles: Iterable[Tile], look: Callable[[Box], np.ndarray], predict: Predict | Together, key: Hashable, held: Held
) -> Iterator[tuple[Tile, np.ndarray]]:
    """The tiles in the order in which they come, each with its result where it counts, float32 of the shape of `tile.counts`.

    look : the voxels of a box
    key : what a result depends on beside the voxels
    held : where results are shared with other blocks and threads
    """
    how = predict if isinstance(predict, Together) else one_by_one(predict)
    left = iter(tiles)
    while waiting := _begun(left, look, how, key, held):
        for tile, promised in waiting:
            yield tile, promised.result()


def _begun(
    left: Iterator[Tile], look: Callable[[Box], np.ndarray], how: Together, key: Hashable, held: Held
) -> Waiting:
    """The next tiles, those of them computed that nobody else has claimed."""
    ahead = AHEAD * how.at_once if how.at_once > 1 else 1
    waiting: Waiting = []
    mine: dict[Name, np.ndarray] = {}
    try:
        for tile in left:
            voxels = look(tile.box)
            digest = blake2b(voxels.tobytes(), digest_size=16, key=str(voxels.dtype).encode()).digest()
            name = key, tile.counts.shifted(tuple(-n for n in tile.box.start)), digest
            promised, is_mine = held.claim(name)
            waiting.append((tile, promised))
            if is_mine:
                mine[name] = voxels
                if (known := how.known(voxels)) is not None:
                    held.keep(name, _part(known, name[1]))
                    del mine[name]
            if len(mine) == how.at_once or len(waiting) == ahead or (not mine and promised.done()):
                break
        if mine:
            for name, found in zip([*mine], how.compute([*mine.values()]), strict=True):
                held.keep(name, _part(found, name[1]))
                del mine[name]
    except BaseException as error:
        for name in mine:
            held.lose(name, error)
        raise
    return waiting


def _part(found: np.ndarray, inside: Box) -> np.ndarray:
    """What is kept of a tile, in memory of its own: a view would keep the rest too."""
    part = found[inside.slices]
    return part if part.shape == found.shape else part.copy()


def at_once(item_bytes: int, device: str) -> int:
    """Items of a batch, a power of two."""
    fit = min(MOST, ROOM[device] // item_bytes)
    return 1 << (max(1, fit).bit_length() - 1)


def in_batches(
    run: Callable[[Sequence[Item], int], Sequence[Result]],
    items: Sequence[Item],
    tile: Shape,
    item_bytes: int,
    device: str,
) -> Iterator[Result]:
    """The result of each item.

    run : computes some items in a batch of so many, as (items, how many); may end in torch's error for memory
    tile, item_bytes : of one item

    Raises
    ------
    MemoryError : if not one item fits, even after all that is cached was given back.
    """
    done, again = 0, False
    while done < len(items):
        size = at_once(item_bytes, device)
        some = items[done : done + size]
        found = _unless_full(run, some, size)
        if found is not None:
            yield from found
            done, again = done + len(some), False
            continue
        if size == 1 and again:
            raise MemoryError(
                f"a tile of {said(tile)} voxels does not fit into the memory of the GPU, not even by itself; give the step a smaller tile, or "
                "compute with --device cpu"
            )
        if device == "cuda":  # gpu only
            _given_back_cuda()
        with _SHRINKING:
            ROOM[device] = min(ROOM[device], size * item_bytes // 2)
        again = True


_SHRINKING = Lock()


def _unless_full(
    run: Callable[[Sequence[Item], int], Sequence[Result]], some: Sequence[Item], size: int
) -> Sequence[Result] | None:
    """None where memory ended; by then the error, and with it the arrays it came from, is gone."""
    import torch

    try:
        return run(some, size)
    except RuntimeError as error:
        # The second is how cuDNN and cuBLAS say it.
        if isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error):
            return None
        raise


def _given_back_cuda() -> None:
    """What torch and cupy keep on the device for later."""
    import torch

    torch.cuda.empty_cache()
    if cupy := sys.modules.get("cupy"):
        cupy.get_default_memory_pool().free_all_blocks()
