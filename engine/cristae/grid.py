"""Grid: boxes and the blocks that tile a volume. Integers only: no array, no file, no scheduler.

    Box        half-open region of a volume, in voxels
    BlockGrid  cuts a shape into blocks; every voxel belongs to exactly one core
    Halo       voxels a stage looks at beyond a face: (before, after) per axis

Axes are (z, y, x), or (y, x) in the plane; t and c never enter this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

Shape = tuple[int, ...]
Halo = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, order=True)
class Box:
    """Half-open region: `start` belongs to it, `stop` does not."""

    start: Shape
    stop: Shape

    @staticmethod
    def whole(shape: Shape) -> Box:
        """The box of all voxels of an array of this shape."""
        return Box((0,) * len(shape), tuple(shape))

    @property
    def shape(self) -> Shape:
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def empty(self) -> bool:
        return any(b <= a for a, b in zip(self.start, self.stop, strict=True))

    @property
    def slices(self) -> tuple[slice, ...]:
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def grow(self, halo: Halo) -> Box:
        """This box with `halo` more voxels on each side; may reach outside the volume."""
        return Box(
            tuple(a - lo for a, (lo, _) in zip(self.start, halo, strict=True)),
            tuple(b + hi for b, (_, hi) in zip(self.stop, halo, strict=True)),
        )

    def shifted(self, by: Shape) -> Box:
        """This box so many voxels further on each axis."""
        return Box(
            tuple(a + n for a, n in zip(self.start, by, strict=True)),
            tuple(b + n for b, n in zip(self.stop, by, strict=True)),
        )

    def clip(self, shape: Shape) -> Box:
        """The part of this box inside a volume of `shape`."""
        return self.intersect(Box.whole(shape))

    def intersect(self, other: Box) -> Box:
        """The voxels in both; empty (stop <= start somewhere) where they do not meet."""
        return Box(
            tuple(map(max, self.start, other.start)),
            tuple(map(min, self.stop, other.stop)),
        )

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Where this box lies inside an array that was loaded with `outer`."""
        return tuple(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, outer.start, strict=True))

    def contains(self, other: Box) -> bool:
        return self.intersect(other) == other


def no_halo(ndim: int) -> Halo:
    """The halo of a stage that looks at nothing but its own voxel."""
    return ((0, 0),) * ndim


def add_halos(one: Halo, other: Halo) -> Halo:
    """What a chain of two stages looks at."""
    return tuple((a + c, b + d) for (a, b), (c, d) in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class BlockGrid:
    """Blocks of `block` voxels that tile `shape`, numbered in raster order; the last ones may be smaller."""

    shape: Shape
    block: Shape

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.block) or min(self.block, default=0) < 1:
            raise ValueError(f"a block of {self.block} cannot tile a volume of {self.shape}")

    @property
    def counts(self) -> Shape:
        """Blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[Box]:
        return (self.core(i) for i in range(len(self)))

    def position(self, index: int) -> Shape:
        """Block coordinates of block number `index`."""
        out = []
        for n in reversed(self.counts):
            index, k = divmod(index, n)
            out.append(k)
        return tuple(reversed(out))

    def index(self, position: Shape) -> int:
        """Number of the block at block coordinates `position`."""
        i = 0
        for k, n in zip(position, self.counts, strict=True):
            i = i * n + k
        return i

    def core(self, index: int) -> Box:
        """The voxels that block number `index` owns."""
        at = self.position(index)
        return Box(
            tuple(k * b for k, b in zip(at, self.block, strict=True)),
            tuple(min((k + 1) * b, n) for k, b, n in zip(at, self.block, self.shape, strict=True)),
        )

    def meeting(self, box: Box) -> list[int]:
        """Numbers of the blocks that share a voxel with `box`, in raster order."""
        box = box.clip(self.shape)
        if box.empty:
            return []
        ranges = [range(a // b, -(-c // b)) for a, c, b in zip(box.start, box.stop, self.block, strict=True)]
        return [self.index(p) for p in product(*ranges)]


CHUNK = {3: (32, 128, 128), 2: (512, 512), 1: (65536,)}
"""Chunk shapes of what we write: about a MB, so that a slice or a crop decodes little."""


def inner_chunk(shard: Shape, wanted: Shape | None = None) -> Shape:
    """The chunk of a shard: divides it, and is near `CHUNK` (or `wanted`)."""
    aim = wanted or CHUNK[len(shard)]
    return tuple(_divisor(s, min(a, s)) for s, a in zip(shard, aim, strict=True))


def _divisor(n: int, near: int) -> int:
    # The largest divisor of n that is not above `near`; a prime side would give slivers, so then the whole side.
    best = max(d for d in range(1, near + 1) if n % d == 0)
    return best if best * 4 >= near else n


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
