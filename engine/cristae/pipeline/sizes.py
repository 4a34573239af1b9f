"""Sizes: the block shape of a run, from the volume, its chunks and the memory there is."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from cristae.grid import Shape

TARGET = {3: (64, 256, 256), 2: (2048, 2048)}
"""Block shapes that keep components and separable filters in cache and tasks long enough to be worth a task."""


def round_up(n: int, unit: int) -> int:
    """The smallest multiple of `unit` that is not below `n`."""
    return -(-n // unit) * unit


def choose_block(shapes: Sequence[Shape], chunks: Sequence[Shape], wanted: Shape | None = None) -> Shape:
    """A block for images of these shapes stored in these chunks: `wanted`, or about 4 million voxels of whole chunks.

    A source whose chunks are whole planes gets blocks of whole planes: a block must never decode a chunk for a part of it
    again and again.
    """
    ndim = len(shapes[0])
    largest = tuple(max(s[a] for s in shapes) for a in range(ndim))
    if wanted is not None:
        return tuple(min(b, max(1, n)) for b, n in zip(wanted, largest, strict=True))
    chunk = tuple(max(c[a] for c in chunks) for a in range(ndim))
    target = TARGET[ndim]
    block = [min(n, round_up(min(t, n), min(c, n))) for t, n, c in zip(target, largest, chunk, strict=True)]
    while prod(block) > 4 * prod(target) and block[0] > chunk[0]:
        block[0] = max(chunk[0], round_up(block[0] // 2, chunk[0]))
    return tuple(max(1, b) for b in block)
