"""Draws: random numbers that depend on what they are for, never on who asked before.

A stream is named by words and whole numbers: a seed, and what is drawn for whom. The same name gives the same numbers in any order,
on any worker (Philox, a counter-based generator: J. K. Salmon et al., SC '11, doi:10.1145/2063384.2063405), and in every version: no
key of a run looks in here.

    stream      a generator by name
    fold        a name as one number
    scattered   keys that follow each other, far apart
"""

from __future__ import annotations

import hashlib

import numpy as np


def stream(*name: int | str) -> np.random.Generator:
    """The generator of this name."""
    digest = hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


def scattered(key: int) -> int:
    """Keys that follow each other as numbers far apart, so that their rows of numbers do not overlap."""
    return int.from_bytes(hashlib.blake2b(key.to_bytes(16, "little", signed=True), digest_size=8).digest(), "little")


def fold(*name: int | str) -> int:
    """A name as one number of 63 bits, for kernels that hash positions themselves."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, name)).encode(), digest_size=8).digest(), "little") >> 1
