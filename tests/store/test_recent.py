"""What is kept of decoded chunks: the right voxels, within the limit, and each chunk decoded about once."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.grid import BlockGrid, Box
from cristae.store.recent import Recent

CHUNK = (16, 32, 32)
COUNTS = (4, 4, 4)
HALO = ((2, 2), (1, 1), (1, 1))
SHAPE = tuple(c * n for c, n in zip(CHUNK, COUNTS, strict=True))
IMAGE = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE)
BYTES = IMAGE.nbytes // int(np.prod(COUNTS))


def read(recent: Recent, box: Box, made: Counter[tuple[int, ...]]) -> np.ndarray:
    """The box, chunk by chunk, as a store reads it."""
    out = np.zeros(box.shape, IMAGE.dtype)
    spans = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, CHUNK, strict=True)]
    for place in product(*spans):
        chunk = Box(
            tuple(k * c for k, c in zip(place, CHUNK, strict=True)),
            tuple((k + 1) * c for k, c in zip(place, CHUNK, strict=True)),
        )
        both = [(max(a, c), min(b, d)) for a, b, c, d in zip(box.start, box.stop, chunk.start, chunk.stop, strict=True)]
        inside = tuple(slice(a - c, b - c) for (a, b), c in zip(both, chunk.start, strict=True))
        into = tuple(slice(a - c, b - c) for (a, b), c in zip(both, box.start, strict=True))

        def make(place: tuple[int, ...] = place, chunk: Box = chunk) -> np.ndarray:
            made[place] += 1
            return IMAGE[chunk.slices].copy()

        out[into] = recent.get(place, inside, CHUNK, make)
    return out


@pytest.mark.parametrize("block", [CHUNK, (8, 32, 16), (24, 40, 24), (32, 64, 64)])
@pytest.mark.parametrize("chunks", [0, 1, 8, 27, 64])
@pytest.mark.parametrize("threads", [1, 4])
def test_every_box_is_what_it_should_be(block: tuple[int, ...], chunks: int, threads: int) -> None:
    recent, made = Recent(chunks * BYTES), Counter[tuple[int, ...]]()

    def same(core: Box) -> bool:
        box = core.grow(HALO).clip(SHAPE)
        return np.array_equal(read(recent, box, made), IMAGE[box.slices])

    with ThreadPoolExecutor(threads) as pool:
        assert all(pool.map(same, BlockGrid(SHAPE, block)))
    assert recent._bytes <= recent.limit
    assert recent._bytes == sum(kept.nbytes for kept in recent._kept.values())


@given(data=st.data(), chunks=st.integers(0, 12))
def test_any_reads_in_any_order(data: st.DataObject, chunks: int) -> None:
    recent, made = Recent(chunks * BYTES), Counter[tuple[int, ...]]()
    for _ in range(data.draw(st.integers(1, 12))):
        spans = [sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in SHAPE]
        box = Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        assert np.array_equal(read(recent, box, made), IMAGE[box.slices])
        assert recent._bytes <= recent.limit


def test_with_room_for_a_layer_chunks_are_made_about_once() -> None:
    recent, made = Recent(26 * BYTES), Counter[tuple[int, ...]]()
    for core in BlockGrid(SHAPE, CHUNK):
        read(recent, core.grow(HALO).clip(SHAPE), made)
    assert sum(made.values()) <= 1.2 * np.prod(COUNTS), made
    least = Recent(0), Counter[tuple[int, ...]]()
    for core in BlockGrid(SHAPE, CHUNK):
        read(least[0], core.grow(HALO).clip(SHAPE), least[1])
    assert sum(least[1].values()) > 10 * np.prod(COUNTS)


def test_a_chunk_that_cannot_be_made_is_asked_for_again() -> None:
    recent = Recent(BYTES)
    whole = tuple(slice(0, n) for n in CHUNK)

    def broken() -> np.ndarray:
        raise ValueError("its bytes do not match their checksum")

    with pytest.raises(ValueError, match="checksum"):
        recent.get("a", whole, CHUNK, broken)
    assert recent.get("a", whole, CHUNK, lambda: np.ones(CHUNK)).all()


def test_less_room_makes_some_go() -> None:
    recent = Recent(2 * BYTES)
    whole = tuple(slice(0, n) for n in CHUNK)
    for key in "ab":
        recent.get(key, whole, CHUNK, lambda: np.ones(CHUNK, np.uint32))
    assert not recent.keep(3 * BYTES)
    assert recent.keep(BYTES)
    assert recent._bytes == BYTES


def test_what_is_kept_cannot_be_written_to() -> None:
    recent = Recent(BYTES)
    found = recent.get("a", (slice(0, 2), slice(0, 2), slice(0, 2)), CHUNK, lambda: np.ones(CHUNK))
    with pytest.raises(ValueError, match="read-only"):
        found[...] = 0
