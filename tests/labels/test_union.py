"""Union: canonical ids against a plain union-find, and its compiled loops against themselves in plain Python."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cristae.labels import union_kernel
from cristae.labels.union import canonical


def case(seed: int, most: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Offsets, firsts (ascending in each block, interleaved between blocks), sizes and random pairs."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, most // 4 + 1, int(rng.integers(1, 9)))
    offset = np.concatenate(([0], np.cumsum(counts)))
    total = int(offset[-1])
    places = rng.permutation(4 * total)[:total].astype(np.int64) * 1_000_003
    first = np.concatenate([np.sort(places[a:b]) for a, b in pairwise(offset)])
    pairs = rng.integers(0, max(total, 1), (int(rng.integers(0, total + 1)), 2)).astype(np.int64)
    return offset, first, rng.integers(1, 9, total).astype(np.uint32), pairs


def plain(
    offset: np.ndarray, first: np.ndarray, voxels: np.ndarray, pairs: np.ndarray, *, min_voxels: int = 0
) -> np.ndarray:
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(first.size, first.size))
    group = connected_components(graph, directed=False)[1]
    begin = np.full(group.max(initial=-1) + 1, np.iinfo(np.int64).max)
    np.minimum.at(begin, group, first)
    size = np.bincount(group, weights=voxels)
    kept = np.flatnonzero(size >= min_voxels)
    ids = np.zeros(begin.size, np.int64)
    ids[kept[np.argsort(begin[kept])]] = np.arange(1, kept.size + 1)
    return ids[group]


@pytest.mark.parametrize("min_voxels", [0, 1, 4, 9, 30])
def test_ids_follow_the_first_voxel_of_what_was_joined(min_voxels: int) -> None:
    for seed in range(60):
        given = case(seed)
        ids, objects = canonical(*given, min_voxels=min_voxels)
        np.testing.assert_array_equal(ids, plain(*given, min_voxels=min_voxels), err_msg=f"seed {seed}")
        assert objects == ids.max(initial=0)
        assert ids.dtype == np.uint32


def test_the_order_and_the_repetition_of_pairs_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    for seed in range(30):
        offset, first, voxels, pairs = case(seed)
        shuffled = rng.permutation(np.concatenate((pairs, pairs[::2])))[:, ::-1]
        for least in (0, 5):
            np.testing.assert_array_equal(
                canonical(offset, first, voxels, pairs, min_voxels=least)[0],
                canonical(offset, first, voxels, shuffled, min_voxels=least)[0],
            )


def test_what_was_given_is_left_alone() -> None:
    given = case(5)
    for array in given:
        array.flags.writeable = False
    canonical(*given, min_voxels=3)


def test_sizes_add_up_beyond_32_bits() -> None:
    offset, first = np.array([0, 1, 2]), np.array([0, 1], np.int64)
    voxels = np.full(2, 2**32 - 1, np.uint32)
    pairs = np.array([[0, 1]], np.int64)
    assert canonical(offset, first, voxels, pairs, min_voxels=2**33 - 2)[0].tolist() == [1, 1]
    assert canonical(offset, first, voxels, pairs, min_voxels=2**33 - 1)[0].tolist() == [0, 0]


def test_compiled_and_plain_loops_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [case(seed, most=16) for seed in range(12)]
    compiled = [canonical(*g, min_voxels=5)[0] for g in given]
    for name in ("root", "unite", "gather", "number"):
        monkeypatch.setattr(union_kernel, name, getattr(union_kernel, name).py_func)
    for g, want in zip(given, compiled, strict=True):
        np.testing.assert_array_equal(canonical(*g, min_voxels=5)[0], want)


@pytest.mark.parametrize("min_voxels", [0, 4])
def test_a_million_ids_take_four_bytes_each_and_little_more(min_voxels: int) -> None:
    blocks, each = 1000, 1000
    rng = np.random.default_rng(1)
    offset = np.arange(blocks + 1) * each
    first = np.sort(
        rng.integers(0, 2**40, (blocks, each)) * 2**20 + rng.permutation(2**20)[: blocks * each].reshape(blocks, each)
    ).ravel()
    voxels = np.ones(first.size, np.uint32)
    pairs = np.sort(rng.integers(0, first.size, (first.size // 10, 2)), axis=1)
    canonical(*case(0), min_voxels=min_voxels)
    tracemalloc.start()
    ids, objects = canonical(offset, first, voxels, pairs, min_voxels=min_voxels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert objects == ids.max()
    assert peak < (4.2 if min_voxels == 0 else 5.2) * first.size
