"""Colouring: no two objects of a layer share a voxel, each lies as low as it can, and the order of runs is nothing."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.store.colouring import coloured, conflicts

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9), st.integers(0, 7)), max_size=40)


def columns(spans: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, length, item = np.array(spans, np.int64).reshape(-1, 3).T
    return first, first + length, item


def expected(spans: list[tuple[int, int, int]]) -> tuple[set[tuple[int, int]], list[int]]:
    """Pairs and layers voxel by voxel and item by item, straight from their definition."""
    owned = {item: {v for f, n, i in spans if i == item for v in range(f, f + n)} for item in range(8)}
    pairs = {(a, b) for a in range(8) for b in range(a + 1, 8) if owned[a] & owned[b]}
    layers: list[int] = []
    for item in range(8):
        taken = {layers[other] for other in range(item) if (other, item) in pairs}
        layers.append(min(set(range(9)) - taken))
    return pairs, layers


@given(SPANS, st.randoms())
def test_pairs_and_layers_are_those_of_their_definition_whatever_the_order(
    spans: list[tuple[int, int, int]], random: Random
) -> None:
    pairs, layers = expected(spans)
    found = conflicts(*columns(spans))
    assert {(int(a), int(b)) for a, b in found} == pairs and len(found) == len(pairs)
    assert coloured(8, found).tolist() == layers
    random.shuffle(spans)
    np.testing.assert_array_equal(conflicts(*columns(spans)), found)


@given(st.sets(st.tuples(st.integers(0, 12), st.integers(0, 12)).filter(lambda p: p[0] < p[1])), st.randoms())
def test_no_pair_shares_a_layer(pairs: set[tuple[int, int]], random: Random) -> None:
    some = sorted(pairs)
    layer = coloured(13, np.array(some, np.int64).reshape(-1, 2))
    assert all(layer[a] != layer[b] for a, b in some)
    for item in range(13):  # nothing could lie lower
        below = {int(layer[a]) for a, b in some if b == item}
        assert set(range(layer[item])) <= below
    random.shuffle(some)
    np.testing.assert_array_equal(coloured(13, np.array(some, np.int64).reshape(-1, 2)), layer)


@pytest.mark.parametrize(("spans", "pairs"), [
    ([(0, 5, 0), (5, 5, 1)], []),  # they touch
    ([(0, 6, 0), (5, 5, 1)], [[0, 1]]),
    ([(0, 9, 3), (2, 1, 3), (4, 1, 3)], []),  # its own voxels twice
    ([(0, 9, 2), (1, 1, 0), (8, 1, 1)], [[0, 2], [1, 2]]),  # one around two
    ([(4, 2, n) for n in range(3)], [[0, 1], [0, 2], [1, 2]]),
])  # fmt: skip
def test_known_pairs(spans: list[tuple[int, int, int]], pairs: list[list[int]]) -> None:
    assert conflicts(*columns(spans)).tolist() == pairs
