"""Tiles: where a network looks, as integers, and how much each voxel of a tile counts. No network here, no array of voxels.

    tile      the box that is always computed as one; every tile of a volume has the same shape
    counts    the part of a tile that enters the result
    margin    voxels at each side of a tile for which a neighbour is responsible, with `crop`

Tiles are anchored to the volume: their places follow from its shape, never from a block, so that every block which meets a
tile computes the same one. An axis shorter than a tile is made longer by reflection, half before and half after, an odd voxel
after. Where the network sees a finite way the tile is made shorter instead, to as few strides as hold the axis and EDGE voxels at
each side (with `crop` none).

    gaussian   weights fall off from the middle, sigma an eighth of the tile; hides seams
    hann       a raised cosine, which adds up to one where tiles overlap by half; hides seams
    crop       each voxel is one tile's own. Where the margin holds the receptive field, and tiles start at multiples of the
               network's stride, this is what the network gives of the whole volume: there are no seams
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise, product
from math import ceil, exp, isfinite, pi, prod, sin
from typing import Any, Literal, get_args

import numpy as np

from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box, Halo, Shape, round_up

Blend = Literal["gaussian", "hann", "crop"]
Rule = Literal["even", "shifted"]
BLENDS: tuple[str, ...] = get_args(Blend)
SIGMA = 1 / 8
"""Of the Gaussian, in lengths of a tile."""

EDGE = 1
"""Reflected voxels at least at each side of a volume that is shorter than a tile. On 8, 14 and 24 planes of scenes of `docs/instances.py`
the Dice score of `mito-3d` is 0.02 to 0.06 better with one or two than with none, and 0.01 to 0.06 than with so many that they fill a tile."""

CLAMPED = 1e-3
"""What MONAI takes for weights that are smaller."""


def positions(length: int, tile: int, overlap: float, rule: Rule = "even") -> tuple[int, ...]:
    """Where the tiles of an axis start.

    Parameters
    ----------
    length, tile : voxels; the axis is at least as long as a tile
    overlap : of neighbours, as a share of a tile, at least
    rule : "even" spreads them evenly (nnU-Net: F. Isensee et al., Nat. Methods 18, 203, 2021, doi:10.1038/s41592-020-01008-z);
        "shifted" keeps one distance and shifts the last tile in (MONAI)

    Returns
    -------
    Ascending, from 0 to length - tile, each once.
    """
    if rule == "shifted":
        return regular(length, tile, max(1, int(tile * (1 - overlap))))
    steps = ceil((length - tile) / max(1.0, tile * (1 - overlap)))
    return tuple(round((length - tile) / steps * i) for i in range(steps + 1)) if steps else (0,)


def regular(length: int, tile: int, step: int) -> tuple[int, ...]:
    """Starts `step` voxels apart; the last tile is shifted in so that it ends with the axis."""
    return (*range(0, length - tile, step), length - tile)


def gaussian(tile: int, rule: Rule = "even") -> np.ndarray:
    """(tile,) float64, largest 1: a Gaussian of sigma = tile / 8 around index tile // 2, or around the very middle ("shifted", MONAI)."""
    middle = tile // 2 if rule == "even" else (tile - 1) / 2
    return np.array([exp(-(((i - middle) / (SIGMA * tile)) ** 2) / 2) for i in range(tile)])


def hann(tile: int) -> np.ndarray:
    """(tile,) float64: a raised cosine, nowhere 0; tiles half a tile apart add up to 1."""
    return np.array([sin(pi * (i + 0.5) / tile) ** 2 for i in range(tile)])


@dataclass(frozen=True, slots=True)
class Tile:
    """One tile, in voxels of the volume."""

    box: Box  # may reach outside, where the volume is reflected
    counts: Box  # never outside


@dataclass(frozen=True)
class Tiling:
    """How a volume of any shape is cut into tiles, and how they become one result.

    tile : voxels, a multiple of `stride`
    overlap : as a share of a tile; with `crop` it is the margin that says how far tiles overlap
    margin : voxels at each side, for `crop`
    stride : of the network: how far the input must move for the same output
    shrinks : whether a tile is as short as an axis of the volume; for what does not depend on the shape of a tile
    """

    tile: Shape
    overlap: float = 0.5
    blend: Blend = "gaussian"
    margin: Shape = ()
    stride: Shape = ()
    rule: Rule = "even"
    shrinks: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", self.stride or (1,) * len(self.tile))
        object.__setattr__(self, "margin", self.margin or (0,) * len(self.tile))
        if self.blend not in BLENDS:
            raise InvalidConfiguration(f"blend is {self.blend!r}, but must be one of {', '.join(BLENDS)}")
        if not 0 <= self.overlap < 1:
            raise InvalidConfiguration(f"overlap is {self.overlap!r}, but must be a share of a tile, from 0 to below 1")
        if min(self.tile) < 1:
            raise InvalidConfiguration(f"tile is {said(self.tile)}, but must be whole numbers of voxels above 0")
        if any(t % s for t, s in zip(self.tile, self.stride, strict=True)):
            near = tuple(round_up(t, s) for t, s in zip(self.tile, self.stride, strict=True))
            raise InvalidConfiguration(
                f"tile is {said(self.tile)}, but the network halves its input to steps of {said(self.stride)}; use {said(near)}"
            )
        if self.blend == "crop" and min(self._steps) < 1:
            least = tuple(round_up(2 * m + s, s) for m, s in zip(self.margin, self.stride, strict=True))
            raise InvalidConfiguration(
                f"tile is {said(self.tile)}, and with blend: crop {said(self.margin)} voxels at each side belong to neighbours; use at "
                f"least {said(least)}"
            )

    @property
    def _steps(self) -> Shape:
        """With `crop`, from tile to tile."""
        own = (t - 2 * m for t, m in zip(self.tile, self.margin, strict=True))
        return tuple(n // s * s for n, s in zip(own, self.stride, strict=True))

    @property
    def halo(self) -> Halo:
        """How far a tile that meets a voxel may reach from it."""
        return tuple((t - 1, t - 1) for t in self.tile)

    @property
    def visits(self) -> float:
        """Tiles that compute a voxel, on average, in a large volume."""
        if self.blend == "crop":
            return prod(t / s for t, s in zip(self.tile, self._steps, strict=True))
        return prod(t / max(1.0, t * (1 - self.overlap)) for t in self.tile)

    @property
    def visits_of_read(self) -> float:
        """Voxels of tiles that a block computes for each voxel that it reads, where it is about as long as a tile.

        It reads a tile's length to each side, and of these three lengths its tiles cover two on average; a longer block more of it.
        """
        return self.visits * prod(2 / 3 for t in self.tile if t > 1)

    def fitted(self, shape: Shape) -> Tiling:
        """The tiling of a volume of this shape: no axis of a tile is longer than it need be, if the tile may be shorter."""
        return _fitted(self, tuple(shape)) if self.shrinks else self

    def padded(self, shape: Shape) -> tuple[Shape, Shape]:
        """The shape that is cut into tiles, and how many reflected voxels lie before the volume on each axis."""
        strides = self.stride if self.blend == "crop" else (1,) * len(self.tile)
        wider = tuple(max(t, round_up(n, s)) for n, t, s in zip(shape, self.tile, strides, strict=True))
        return wider, tuple((w - n) // 2 for w, n in zip(wider, shape, strict=True))

    def axes(self, shape: Shape) -> list[list[tuple[int, int, int]]]:
        """For each axis its tiles in order: where one starts (in the volume), and where that which counts begins and ends."""
        return _axes(self, tuple(shape))

    def meeting(self, box: Box, shape: Shape) -> Iterator[Tile]:
        """The tiles that matter to a box of a volume, in raster order."""
        near = [
            [one for one in axis if one[1] < stop and one[2] > start]
            for axis, start, stop in zip(self.axes(shape), box.start, box.stop, strict=True)
        ]
        for several in product(*near):
            start = tuple(one[0] for one in several)
            yield Tile(
                Box(start, tuple(a + t for a, t in zip(start, self.tile, strict=True))),
                Box(tuple(one[1] for one in several), tuple(one[2] for one in several)),
            )

    def count(self, shape: Shape) -> int:
        """Tiles of a volume."""
        return prod(len(axis) for axis in self.axes(shape))

    def visited(self, grid: BlockGrid) -> int:
        """Tiles that the blocks of a grid look at, added up: what is computed where no block knows another's."""
        total = 1
        for axis, (n, size) in zip(self.axes(grid.shape), zip(grid.shape, grid.block, strict=True), strict=True):
            total *= sum(lo < min(k + size, n) and hi > k for k in range(0, n, size) for _, lo, hi in axis)
        return total


@lru_cache(maxsize=256)
def _fitted(tiling: Tiling, shape: Shape) -> Tiling:
    edge = 0 if tiling.blend == "crop" else EDGE
    whole = [
        round_up(n + 2 * edge if t > 1 else n, s) for n, s, t in zip(shape, tiling.stride, tiling.tile, strict=True)
    ]
    # An axis that one tile holds has no neighbours to keep a margin for.
    margin = tuple(0 if t >= w else m for m, t, w in zip(tiling.margin, tiling.tile, whole, strict=True))
    return replace(tiling, tile=tuple(map(min, tiling.tile, whole)), margin=margin, shrinks=False)


@lru_cache(maxsize=256)
def _axes(tiling: Tiling, shape: Shape) -> list[list[tuple[int, int, int]]]:
    found = []
    lengths, before = tiling.padded(shape)
    for axis, (n, length, first) in enumerate(zip(shape, lengths, before, strict=True)):
        size, margin = tiling.tile[axis], tiling.margin[axis]
        if tiling.blend == "crop":
            starts = regular(length, size, tiling._steps[axis])
            # Each has its voxels from its own margin to that of the next.
            edges = [0, *(s + margin for s in starts[1:]), length]
            inside = list(pairwise(edges))
        else:
            starts = positions(length, size, tiling.overlap, tiling.rule)
            inside = [(s, s + size) for s in starts]
        found.append(
            [
                (s - first, max(a - first, 0), min(b - first, n))
                for s, (a, b) in zip(starts, inside, strict=True)
                if a - first < n and b > first
            ]
        )
    return found


@lru_cache(maxsize=16)
def weights(tiling: Tiling) -> np.ndarray:
    """How much each voxel of a tile counts, float32, nowhere 0. Not for `crop`, where each is one tile's own.

    A corner of a tile counts 4e-11 of its middle in 3D, which float32 still divides by without loss; only MONAI's rule raises
    what is below 1e-3.
    """
    out = np.ones((1,) * len(tiling.tile))
    for axis, size in enumerate(tiling.tile):
        along = hann(size) if tiling.blend == "hann" else gaussian(size, tiling.rule)
        out = out * along.reshape([-1 if a == axis else 1 for a in range(len(tiling.tile))])
    if tiling.rule == "shifted":
        out = np.maximum(out, CLAMPED)
    found: np.ndarray = out.astype(np.float32)
    found.flags.writeable = False
    return found


def roomy(tile: Sequence[int], reach: Sequence[int] | None, stride: Sequence[int], blend: str) -> Shape:
    """A tile, at least as large as this one, that suits a network which sees `reach` voxels to each side.

    With `crop` half of each axis is left when the margins are off. Where tiles that overlap by half are blended, a quarter of a tile
    lies between the border and a voxel for which two of them count alike; 0.6 of the reach is enough to hide it (`docs/seams.py`).
    """
    if reach is None:
        return tuple(tile)
    wanted = (round_up(ceil((4 if blend == "crop" else 2.5) * r), 16) for r in reach)
    return tuple(max(t, round_up(w, s)) for t, w, s in zip(tile, wanted, stride, strict=True))


def tiling_of(
    step: str,
    ndim: int,
    tile: Sequence[int],
    overlap: float | None,
    blend: str,
    stride: Sequence[int] | None = None,
    reach: Sequence[int] | None = None,
    name: str = "",
) -> Tiling:
    """How a step is tiled, from what its user said; what is of the plane is done slice by slice in a stack.

    Raises
    ------
    InvalidConfiguration : if a number makes no sense, or `crop` would not be exact though it could.
    """
    given: Any = tile
    if not isinstance(given, list | tuple) or not all(type(n) is int and n > 0 for n in given):
        raise InvalidConfiguration(
            f"{step}: tile is {tile!r}, but must be whole numbers of voxels such as [32, 128, 128]"
        )
    own = len(stride) if stride is not None else ndim
    if len(tile) not in (own, ndim) or (len(tile) > own and tile[0] != 1):
        raise InvalidConfiguration(
            f"{step}: tile is {list(tile)}, but must be {own} numbers of voxels, one for each axis"
        )
    if overlap is not None and not (is_number(overlap) and 0 <= overlap < 1):
        raise InvalidConfiguration(f"{step}: overlap is {overlap!r}, but must be a share of a tile, from 0 to below 1")
    if blend not in BLENDS:
        raise InvalidConfiguration(f"{step}: blend is {blend!r}, but must be one of {', '.join(BLENDS)}")

    def everywhere(some: Sequence[int], thin: int) -> tuple[int, ...]:
        return (*(thin,) * (ndim - len(some)), *some)

    size, steps = everywhere(tile, 1), everywhere(stride or (1,) * ndim, 1)
    margin: tuple[int, ...] = (0,) * ndim
    if blend == "crop":
        least = everywhere(reach, 0) if reach is not None else None
        if overlap is None and least is None:
            raise InvalidConfiguration(
                f"{step}: how far {name or 'the function'} sees is not known, so crop cannot be exact; give overlap, or blend: gaussian"
            )
        if overlap is not None:
            margin = tuple(int(t * overlap / 2 + 1e-9) if t > 1 else 0 for t in size)
        elif least is not None:
            margin = least
        if least is not None and any(m < r for m, r in zip(margin, least, strict=True)):
            raise InvalidConfiguration(
                f"{step}: with overlap {overlap:g} a tile keeps {said(margin)} voxels at each side from its neighbours, and {name} sees "
                f"{said(least)} to each side, so seams would show; leave overlap out, or give blend: gaussian"
            )
    try:
        return Tiling(size, 0.5 if overlap is None else float(overlap), blend, margin, steps, shrinks=reach is not None)  # type: ignore[arg-type]
    except InvalidConfiguration as error:
        raise InvalidConfiguration(f"{step}: {error}") from None


def is_number(value: Any) -> bool:
    """Whether a user gave a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def said(numbers: Sequence[int]) -> str:
    """Voxels along each axis, as options give them."""
    return ",".join(map(str, numbers))
