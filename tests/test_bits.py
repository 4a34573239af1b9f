"""Bits: the places of the bits that are set, against Python's own reading of the number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae import bits

KINDS = [bits.places, getattr(bits.places, "py_func", bits.places)]


@pytest.mark.kernel
@pytest.mark.parametrize("places", KINDS, ids=["compiled", "plain"])
@given(word=st.integers(0, 2**64 - 1), begin=st.integers(0, 1000))
def test_places_are_those_of_the_bits_that_are_set(places, word: int, begin: int) -> None:
    out = np.full(70, -1)
    n = places(np.uint64(word), begin, out, 3)
    assert list(out[3:n]) == [begin + i for i in range(64) if word >> i & 1]
    assert (out[:3] == -1).all() and (out[n:] == -1).all()


@pytest.mark.kernel
def test_eight_bytes_become_eight_bits() -> None:
    for gathered in (bits.gathered, getattr(bits.gathered, "py_func", bits.gathered)):
        for byte in range(256):
            eight = np.array([byte >> i & 1 for i in range(8)], np.uint8).view("<u8")[0]
            assert gathered(eight) == byte
