"""Streams by name: the same name the same numbers in every version, another name others."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import numpy as np

from cristae.draws import fold, scattered, stream

NAMES = [(1,), (2,), (1, "a"), (1, "b"), ("1a",), (1, "a", 0), (11,), (1, 1), (0, "noise", "mito", 3)]


def test_a_name_gives_the_same_numbers_whoever_asked_before() -> None:
    first = [stream(*name).random(5) for name in NAMES]
    second = [stream(*name).random(5) for name in reversed(NAMES)][::-1]
    np.testing.assert_array_equal(first, second)


def test_names_give_numbers_of_their_own() -> None:
    assert len({tuple(stream(*name).random(5)) for name in NAMES}) == len(NAMES)
    assert len({fold(*name) for name in NAMES}) == len(NAMES)
    assert all(0 <= fold(*name) < 2**63 for name in NAMES)
    many = np.array([stream(1, "object", n).random() for n in range(4000)])
    assert abs(many.mean() - 0.5) < 4 * (1 / 12) ** 0.5 / 4000**0.5
    assert abs(np.mean([(a - 0.5) * (b - 0.5) for a, b in pairwise(many)])) < 4 / 12 / 4000**0.5


def test_another_process_draws_the_same() -> None:
    code = "from cristae.draws import fold, stream; print(stream(3, 'x').random(), fold(3, 'x'))"
    said = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert said.stdout.split() == [str(stream(3, "x").random()), str(fold(3, "x"))]


def test_a_name_gives_the_numbers_that_it_always_gave() -> None:
    """A key of a run does not see the module, so another number would be another result under the same key."""
    assert stream(0, "noise", "mito", 3).random(3).tolist() == [
        0.33938772515563864,
        0.4549702101307598,
        0.039698446786508246,
    ]
    assert stream(7, "order", 4, 16).permutation(8).tolist() == [0, 1, 5, 4, 2, 7, 3, 6]
    assert fold(7, "order", 4, 16) == 8781546234857086024
    assert [scattered(key) for key in (0, 1, 2**62)] == [
        1041621211125469266,
        11967340547968660931,
        6496333115070026570,
    ]
