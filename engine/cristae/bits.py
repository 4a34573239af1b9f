"""Bits: 64 answers of yes or no in one word, for compiled loops that step from one yes to the next.

A loop that asks eight voxels at a time and looks into those where something is guesses wrongly, again and again, whether there
is anything to look into; with 64 in a word it does so once for many voxels.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit

_ONE, _PRIME = np.uint64(1), np.uint64(67)
_STEPS = np.uint64(7), np.uint64(14), np.uint64(28)
_BYTE = np.uint64(255)
_PLACE = np.zeros(67, np.int64)
# Powers of two below 2^66 leave 66 different remainders: 2 is a primitive root modulo 67.
_PLACE[[2**bit % 67 for bit in range(64)]] = range(64)


@njit(nogil=True, cache=True)
def gathered(eight: np.uint64) -> np.uint64:
    """Eight bytes of 0 or 1 as the bits of one, the lowest byte's the lowest."""
    # A product by 0x0102040810204080 does it too, and wraps, of which numpy warns where there is no compiler.
    eight |= eight >> _STEPS[0]
    eight |= eight >> _STEPS[1]
    eight |= eight >> _STEPS[2]
    return eight & _BYTE


@njit(nogil=True, cache=True)
def places(bits: np.uint64, begin: int, out: np.ndarray, n: int) -> int:
    """Write begin + i for each bit i that is set, in ascending order, into out[n], out[n + 1], ...; where the next would go."""
    while bits != 0:
        rest = bits & (bits - _ONE)
        out[n] = begin + _PLACE[(bits ^ rest) % _PRIME]
        n += 1
        bits = rest
    return n
