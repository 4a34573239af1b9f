"""Instances: what a function finds in each tile becomes objects of the volume, whatever the block grid.

    tile_labels   each block: the function, once for every tile whose middle lies in it; the labels stay in its part
    tile_ids      each block: its tiles beside those after them (`matching`); all together: one canonical id for each object
    placed        a box of the result: each voxel is that of the tile whose own it is

Tiles lie where a `crop` puts them: each has its own voxels, and looks beyond them, where a neighbour looks too. An object that
one tile sees whole comes out whole. One that none does is still put together from what each tile sees of it, and is counted.
Ids of a tile's objects count first those with voxels of its own, by the raster order of the first; then those it only sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from math import prod
from typing import Any

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import BlockGrid, Box, Shape, no_halo
from cristae.inference.blend import taken
from cristae.inference.matching import View, met
from cristae.inference.tiles import Tile, Tiling
from cristae.labels.seams import merge_faces, merge_pairs, number_blocks
from cristae.labels.union import Canonical, canonical

Call = Callable[[np.ndarray], np.ndarray]
"""A tile as it was read to (*tile) whole numbers, 0 or more."""

SEAMS = ("tiles", "matched", "contested", "split", "beyond")
"""What the answer `seams` of `tile_ids` counts: tiles; pairs of objects that are one; objects of which a tile sees one and its
neighbour several; objects that go on into a neighbour's part and are none of its; and joined objects that no tile saw whole."""

TILE_BYTES = 180.0
"""Of a voxel of a tile, beside what the function takes: its labels, numbered anew, where each begins, and those of other tiles of a block;
measured, with a function that labels by scipy."""

OF_IDS: Mapping[str, type] = {"first": np.int64, "cut": np.bool_}
"""What is said of each object of a tile: the first voxel of its own, -1 where it has none; whether a face of the tile cuts it."""


def tile_labels(said: Mapping[str, Any], call: Call, tiling: Tiling, cost: Cost) -> Measure:
    """The labels of every tile, each computed once.

    The answer holds, in raster order of the tiles, `offset` ((tiles + 1,) where the ids of each begin, from 0), `first` (raster
    index in the volume of each object's first voxel of its tile's own, -1 without any) and `cut`. Parts keep the labels.
    """
    voxels = prod(tiling.tile)
    return Measure(
        "tile_labels",
        said,
        partial(_found, call=call, tiling=tiling),
        partial(merge_faces, of_ids=OF_IDS),
        number_blocks,
        tuple((n // 2, n - n // 2 - 1) for n in tiling.tile),
        cost=Cost(1.0, cost.ns_per_voxel * tiling.visits, voxels * (cost.bytes_per_voxel + TILE_BYTES)),
        keeps_parts=True,
    )


def tile_ids(said: Mapping[str, Any], tiling: Tiling, labels: Measure) -> Measure:
    """Which objects of tiles are one, and the id of each.

    The answer holds `map` ((ids,) canonical id; 0 for what has no voxel), `offset`, `objects` (how many) and `seams` (see SEAMS).
    """
    return Measure(
        "tile_ids",
        said,
        partial(_compared, tiling=tiling),
        _merged,
        Joined(),
        no_halo(len(tiling.tile)),
        cost=Cost(0.0, 15.0 * tiling.visits, 30.0 * prod(tiling.tile)),
        asks={"tiles": labels},
        reads_array=False,
    )


def placing_cost(tiling: Tiling) -> Cost:
    """Of `placed`: a tile is unpacked, and its own voxels are looked up."""
    return Cost(4.0, 4.0, 8.0 * prod(tiling.tile))


@dataclass(frozen=True)
class Places:
    """The tiles of a volume by number, in raster order, and which block computes each: the one that holds its middle."""

    tiling: Tiling
    grid: BlockGrid

    @property
    def axes(self) -> list[list[tuple[int, int, int]]]:
        return self.tiling.axes(self.grid.shape)

    @property
    def counts(self) -> Shape:
        return tuple(len(axis) for axis in self.axes)

    def tile(self, number: int) -> Tile:
        entries = [axis[k] for axis, k in zip(self.axes, np.unravel_index(number, self.counts), strict=True)]
        start, first, stop = zip(*entries, strict=True)
        return Tile(Box(start, tuple(a + n for a, n in zip(start, self.tiling.tile, strict=True))), Box(first, stop))

    def block(self, number: int) -> int:
        """The block that computes a tile."""
        start = self.tile(number).box.start
        middles = [self._middle(axis, a) for axis, a in enumerate(start)]
        return self.grid.index(tuple(m // b for m, b in zip(middles, self.grid.block, strict=True)))

    def of_block(self, index: int) -> list[int]:
        """The tiles that a block computes."""
        core = self.grid.core(index)
        near = [
            [k for k, (a, _, _) in enumerate(entries) if lo <= self._middle(axis, a) < hi]
            for axis, (entries, lo, hi) in enumerate(zip(self.axes, core.start, core.stop, strict=True))
        ]
        return list(self._product(near))

    def meeting(self, box: Box) -> list[int]:
        """The tiles that have voxels of their own in a box."""
        bounds = zip(self.axes, box.start, box.stop, strict=True)
        return list(
            self._product([[k for k, (_, a, b) in enumerate(axis) if a < hi and b > lo] for axis, lo, hi in bounds])
        )

    def beside(self, number: int) -> list[int]:
        """The tiles after this one that look where it does."""
        box = self.tile(number).box
        facts = zip(self.axes, box.start, box.stop, self.tiling.tile, strict=True)
        near = [[k for k, (a, _, _) in enumerate(axis) if a < hi and a + n > lo] for axis, lo, hi, n in facts]
        return [other for other in self._product(near) if other > number]

    def _middle(self, axis: int, start: int) -> int:
        return min(max(start + self.tiling.tile[axis] // 2, 0), self.grid.shape[axis] - 1)

    def _product(self, near: Sequence[Sequence[int]]) -> Iterator[int]:
        return (int(np.ravel_multi_index(position, self.counts)) for position in product(*near))


def _found(array: Array, *, at: At, answers: Mapping[str, Answer], call: Call, tiling: Tiling) -> Partial:
    host, places, shape = to_host(array), Places(tiling, at.grid), at.grid.shape
    numbers = places.of_block(at.index)
    several = [_of_tile(call, places.tile(number), host, at.reads[0], shape) for number in numbers]
    partial: Partial = {
        "block": np.array(numbers, np.int64),
        "count": np.array([len(one["first"]) for one in several], np.int64),
        **{
            name: np.concatenate([np.empty(0, dtype), *(one[name] for one in several)])
            for name, dtype in OF_IDS.items()
        },
    }
    return partial | {f"tile_{number}": one["labels"] for number, one in zip(numbers, several, strict=True)}


def _of_tile(call: Call, tile: Tile, array: np.ndarray, reads: Box, shape: Shape) -> Partial:
    """The labels of one tile, packed, and what is said of each object."""
    inside = tile.box.clip(shape)
    seen = call(taken(array, reads, tile.box, shape))[inside.within(tile.box)]
    labels, begin = numbered(seen, tile.counts.within(inside))
    first = np.full(len(begin), -1, np.int64)
    own = begin >= 0
    place = np.unravel_index(begin[own], tile.counts.shape)
    first[own] = np.ravel_multi_index([p + a for p, a in zip(place, tile.counts.start, strict=True)], shape)
    cut = np.zeros(len(begin) + 1, bool)
    for axis, n in enumerate(shape):
        if inside.start[axis] > 0:
            cut[labels.take(0, axis)] = True
        if inside.stop[axis] < n:
            cut[labels.take(-1, axis)] = True
    return {"labels": _packed(labels, len(begin)), "first": first, "cut": cut[1:]}


def numbered(seen: np.ndarray, own: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of one's own for the labels of a tile.

    Parameters
    ----------
    seen : (*tile) whole numbers, 0 for ground
    own : the part of the tile that counts

    Returns
    -------
    (*tile) ids 1..n: first of the objects that have voxels in `own`, by the first of these in raster order, then of the others;
    and (n,) int64 flat index of that voxel in `own`, -1 for the others.
    """
    if seen.max() > seen.size:
        ground = np.zeros(1, seen.dtype)
        seen = np.unique(np.append(ground, seen.reshape(-1)), return_inverse=True)[1][1:].reshape(seen.shape)
    seen = seen.astype(np.intp, copy=False)
    n = int(seen.max())
    here, anywhere = _first(seen[own], n), _first(seen, n)
    ids = np.concatenate((_ordered(here, here >= 0), _ordered(anywhere, (here < 0) & (anywhere >= 0))))
    table = np.zeros(n + 1, np.min_scalar_type(len(ids)))
    table[ids] = np.arange(1, len(ids) + 1)
    return table[seen], here[ids]


def _first(labels: np.ndarray, n: int) -> np.ndarray:
    """(n + 1,) flat index of the first voxel of each label, -1 where it has none; of the ground too, which has none."""
    flat = labels.reshape(-1)
    found = np.full(n + 1, flat.size, np.int64)
    np.minimum.at(found, flat, np.arange(flat.size))
    found[0] = flat.size
    found[found == flat.size] = -1
    return found


def _ordered(first: np.ndarray, which: np.ndarray) -> np.ndarray:
    ids = np.flatnonzero(which)
    return ids[np.argsort(first[ids])]


def _packed(labels: np.ndarray, n: int) -> np.ndarray:
    if n == 0:
        return np.empty(0, np.uint8)
    return np.frombuffer(import_module("numcodecs").LZ4().encode(np.ascontiguousarray(labels)), np.uint8)


def _view(places: Places, number: int, tiles: Answer) -> View:
    """What a tile found, from the part of the block that computed it."""
    tile, offset = places.tile(number), tiles.arrays["offset"]
    box, ids = tile.box.clip(places.grid.shape), slice(offset[number], offset[number + 1])
    counts = tiles.arrays["first"][ids] >= 0
    if not len(counts):
        return View(np.zeros(box.shape, np.uint8), box, tile.counts, counts)
    packed = np.ascontiguousarray(tiles.parts[places.block(number)][f"tile_{number}"])
    labels = np.frombuffer(import_module("numcodecs").LZ4().decode(packed), np.min_scalar_type(len(counts)))
    return View(labels.reshape(box.shape), box, tile.counts, counts)


def _compared(*, at: At, answers: Mapping[str, Answer], tiling: Tiling) -> Partial:
    """Pairs of ids of this block's tiles and of those after them that are one object."""
    tiles, places = answers["tiles"], Places(tiling, at.grid)
    offset = tiles.arrays["offset"]
    pairs, counts = [np.empty((0, 2), np.int64)], np.zeros(3, np.int64)
    for number in places.of_block(at.index):
        near = _view(places, number, tiles)
        for other in places.beside(number):
            found = met(near, _view(places, other, tiles))
            pairs.append(found.pairs - 1 + (offset[number], offset[other]))
            counts += (len(found.pairs), found.contested, found.split)
    return {**merge_pairs([merge_pairs([]), {"pairs": np.concatenate(pairs)}]), "counts": counts}


def _merged(partials: Sequence[Partial]) -> Partial:
    counts = np.sum([np.zeros(3, np.int64), *(p["counts"] for p in partials)], axis=0)
    return {**merge_pairs(partials), "counts": counts}


@dataclass(frozen=True, slots=True)
class Joined:
    """`finish` of tile_ids: pairs of objects that are one to the canonical id of each."""

    def __call__(self, merged: Partial, answers: Mapping[str, Answer]) -> Partial:
        from cristae.labels.union_kernel import unite

        offset, first, cut = (answers["tiles"].arrays[name] for name in ("offset", "first", "cut"))
        own = first >= 0
        # An object without voxels of its own may still join two others. It comes after all that have some, and so is no root of theirs.
        order = np.where(own, first, first.max(initial=0) + 1 + np.arange(first.size))
        root = np.arange(first.size, dtype=np.uint32 if first.size < 2**32 else np.uint64)
        unite(root, order, merged["pairs"])
        before = np.concatenate(([0], np.cumsum(own)))
        pairs = np.stack((before[:-1][own], before[root[own]]), axis=1)
        found, objects = canonical(before[offset], first[own], np.empty(0, np.uint32), pairs)
        ids = np.zeros(first.size, found.dtype)
        ids[own] = found
        whole = np.zeros(first.size, bool)
        whole[root[~cut]] = True
        beyond = int((~whole[np.unique(root[own])]).sum())
        return {
            "map": ids,
            "offset": offset,
            "objects": np.array(objects, np.int64),
            "seams": np.array([offset.size - 1, *merged["counts"], beyond], np.int64),
        }

    def ready(self) -> None:
        """Load the compiled loops."""
        Canonical(0).ready()


def placed(array: Array, *, at: At, answers: Mapping[str, Answer], tiling: Tiling) -> Array:
    """The objects of a box: its voxels are not looked at again, only what was found of them."""
    places, ids, offset = Places(tiling, at.grid), answers["ids"].arrays["map"], answers["ids"].arrays["offset"]
    out = np.zeros(at.out.shape, ids.dtype)
    for number in places.meeting(at.out):
        view = _view(places, number, answers["tiles"])
        if len(view.counts):
            here = view.own.intersect(at.out)
            table = np.concatenate((np.zeros(1, ids.dtype), ids[offset[number] : offset[number + 1]]))
            out[here.within(at.out)] = table[view.labels[here.within(view.box)]]
    return namespace(array).asarray(out)
