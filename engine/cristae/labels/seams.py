"""Seams: what a block tells its neighbours about the components that reach its faces, and which of them meet.

    label_faces   each block: how many components, where each begins, how large it is, and its outer layers of ids
    label_ids     each pair of neighbouring blocks: which components touch; all together: one canonical id for each

    face_{axis}{side}   the layer of provisional ids at the start (side 0) or end (side 1) of an axis, as bytes of an
                        LZ4 frame of uint32; no bytes where the layer is background or ends the volume

A block looks only forward, at neighbours whose offset begins with +1, such as (0, 1, -1): two voxels that touch across
blocks are seen once. The leading axis of an offset says which two layers face each other; on the other axes an offset
of 1 or -1 leaves one line, or one voxel, of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import product
from typing import Any

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import BlockGrid, Box, Shape, no_halo
from cristae.labels.runs import components
from cristae.labels.union import Canonical

Answers = Mapping[str, Answer]


def label_faces(ndim: int, connectivity: int, multilabel: bool) -> Measure:
    """Count the components of each block and keep its faces.

    The answer holds, in block order, `block` (number), `offset` ((blocks + 1,) where its provisional ids begin, from
    0), `first` (raster index in the volume of each component's first voxel) and `voxels` (sizes within the block).
    """
    return Measure(
        "label_faces",
        {"connectivity": connectivity, "multilabel": multilabel},
        Faces(connectivity, multilabel),
        merge_faces,
        number_blocks,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=3.5 if ndim == 3 else 5.5, ns_per_voxel=2.5),
        keeps_parts=True,
    )


def label_ids(ndim: int, connectivity: int, multilabel: bool, min_voxels: int) -> Measure:
    """Find the canonical id of every provisional component.

    The answer holds `map` ((provisional ids,) canonical id or 0), `objects` (how many are left), `offset`, and `seams`: how many of
    them lie in several blocks, in how many parts, of which how many pairs touch.
    """
    return Measure(
        "label_ids",
        {"connectivity": connectivity, "multilabel": multilabel, "min_voxels": min_voxels},
        Meetings(connectivity, multilabel),
        merge_pairs,
        Canonical(min_voxels),
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=0.4),
        asks={"faces": label_faces(ndim, connectivity, multilabel)},
        reads_array=False,
    )


@dataclass(frozen=True, slots=True)
class Faces:
    """`partial` of label_faces; with `borders` it also says which components lie at a face of the volume (`open`)."""

    connectivity: int
    multilabel: bool
    borders: bool = False

    def __call__(self, mask: Array, *, at: At, answers: Answers) -> Partial:
        block = mask[at.core.within(at.reads[0])]
        runs = components(block, self.connectivity, self.multilabel)
        n = runs.first.size
        partial: Partial = {
            "block": np.array([at.index], np.int64),
            "count": np.array([n], np.int64),
            "first": in_volume(runs.first, at),
            "voxels": runs.voxels,
        }
        if self.multilabel:
            partial["value"] = to_host(block)[np.unravel_index(runs.first, runs.shape)].astype(np.int64)
        if self.borders:
            partial["open"] = np.zeros(n, bool)
        for axis, side, outermost in sides(at) if self.borders else ():
            if outermost:
                there = np.unique(runs.layer(axis, side))
                partial["open"][there[there > 0] - 1] = True
        return partial | face_layers(runs.layer, at)


def in_volume(flat: np.ndarray, at: At) -> np.ndarray:
    """Raster indices in the volume of voxels of the core, int64."""
    place = np.unravel_index(flat, at.core.shape)
    shifted = tuple(p + a for p, a in zip(place, at.core.start, strict=True))
    return np.ravel_multi_index(shifted, at.grid.shape).astype(np.int64, copy=False)


def face_layers(layer: Callable[[int, int], np.ndarray], at: At) -> Partial:
    """The outer layers of a block, as `face` reads them. layer : provisional ids, uint32, of the first or last layer on an axis"""
    return {
        f"face_{axis}{side}": np.empty(0, np.uint8) if outermost else _packed(layer(axis, side))
        for axis, side, outermost in sides(at)
    }


def sides(at: At) -> Iterator[tuple[int, int, bool]]:
    """Axis and side of each face of a block, and whether the volume ends there."""
    for axis, (k, count) in enumerate(zip(at.grid.position(at.index), at.grid.counts, strict=True)):
        yield axis, 0, k == 0
        yield axis, 1, k == count - 1


def _packed(layer: np.ndarray) -> np.ndarray:
    if not layer.any():
        return np.empty(0, np.uint8)
    return np.frombuffer(import_module("numcodecs").LZ4().encode(np.ascontiguousarray(layer)), np.uint8)


def face(part: Partial, grid: BlockGrid, index: int, axis: int, side: int) -> np.ndarray | None:
    """A block's outermost layer of provisional ids, one voxel thick on `axis`; None where it is all background."""
    packed = part[f"face_{axis}{side}"]
    if packed.size == 0:
        return None
    shape = list(grid.core(index).shape)
    shape[axis] = 1
    layer = import_module("numcodecs").LZ4().decode(np.ascontiguousarray(packed))
    return np.frombuffer(layer, np.uint32).reshape(shape)


def rim_of(at: At) -> Box:
    """The core and what is asked for around it, which is at most one voxel.

    Raises
    ------
    ValueError : if more is asked for than the neighbours' faces can tell.
    """
    if not at.core.grow(((1, 1),) * len(at.core.start)).clip(at.grid.shape).contains(at.out):
        raise ValueError(f"at most one voxel beyond {at.core} can be given, not {at.out}")
    return Box(tuple(map(min, at.core.start, at.out.start)), tuple(map(max, at.core.stop, at.out.stop)))


def beyond(at: At, whole: Box, parts: Mapping[int, Partial]) -> Iterator[tuple[int, Box, np.ndarray | None]]:
    """Of each block around: its number, where it meets `whole`, and its provisional ids there; None where it has none."""
    for step, other in neighbours(at.grid, at.index, len(at.core.start)):
        core = at.grid.core(other)
        there = core.intersect(whole)
        if there.empty:
            continue
        axis, sign = leading(step)
        layer = face(parts[other], at.grid, other, axis, 0 if sign > 0 else 1)
        start, stop = list(core.start), list(core.stop)
        start[axis], stop[axis] = there.start[axis], there.stop[axis]
        yield other, there, None if layer is None else layer[there.within(Box(tuple(start), tuple(stop)))]


def leading(offset: Shape) -> tuple[int, int]:
    """Axis and sign of the first step of an offset between two blocks."""
    return next((axis, step) for axis, step in enumerate(offset) if step)


def neighbours(grid: BlockGrid, index: int, reach: int) -> Iterator[tuple[Shape, int]]:
    """Offset and number of each block around block `index`, at most `reach` axes away."""
    position = grid.position(index)
    for offset in product((-1, 0, 1), repeat=len(position)):
        there = tuple(k + d for k, d in zip(position, offset, strict=True))
        inside = all(0 <= k < n for k, n in zip(there, grid.counts, strict=True))
        if inside and 0 < np.count_nonzero(offset) <= reach:
            yield offset, grid.index(there)


@dataclass(frozen=True, slots=True)
class Meetings:
    """`partial` of label_ids."""

    connectivity: int
    multilabel: bool

    def __call__(self, *, at: At, answers: Answers) -> Partial:
        from cristae.labels.seams_kernel import meetings

        parts, begin = answers["faces"].parts, answers["faces"].arrays["offset"]
        mine = parts[at.index]
        own = [face(mine, at.grid, at.index, axis, 1) for axis in range(len(at.grid.shape))]
        found = []
        for other, offset, near_of, far_of in ahead(at, self.connectivity):
            axis, _ = leading(offset)
            near = own[axis]
            if near is None:
                continue
            theirs = parts[other]
            far = face(theirs, at.grid, other, axis, 0)
            if far is None:
                continue
            packed = meetings(
                near_of(near),
                far_of(far),
                self.connectivity - int(np.count_nonzero(offset)),
                self.multilabel,
                mine["value"] if self.multilabel else _NO_VALUES,
                theirs["value"] if self.multilabel else _NO_VALUES,
            )
            pairs = np.unique(packed)
            near_ids = (pairs >> np.uint64(32)).astype(np.int64) - 1 + begin[at.index]
            far_ids = (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64) - 1 + begin[other]
            found.append({"pairs": np.stack((near_ids, far_ids), axis=1)})
        return merge_pairs(found)


_NO_VALUES = np.empty(0, np.int64)

Facing = Callable[[np.ndarray], np.ndarray]


def ahead(at: At, reach: int) -> Iterator[tuple[int, Shape, Facing, Facing]]:
    """Each block after this one, at most `reach` axes away: its number and offset, and what takes the voxels that face each other,
    as rows and columns, from a last layer of this block and from a first layer of that one."""
    for offset, other in neighbours(at.grid, at.index, reach):
        axis, step = leading(offset)
        if step < 0:
            continue
        steps = offset[axis + 1 :]
        back = tuple(-d for d in steps)
        yield other, offset, partial(_facing, axis=axis, steps=steps), partial(_facing, axis=axis, steps=back)


def _facing(layer: np.ndarray, axis: int, steps: Shape) -> np.ndarray:
    return _plane(layer[_lines(steps, layer.ndim)], axis)


def _lines(steps: Shape, ndim: int) -> tuple[Any, ...]:
    """Of a layer, the voxels next to a block that lies `steps` away on the last axes."""
    which = {-1: slice(0, 1), 0: slice(None), 1: slice(-1, None)}
    return (slice(None),) * (ndim - len(steps)) + tuple(which[d] for d in steps)


def _plane(layer: np.ndarray, axis: int) -> np.ndarray:
    """A layer without its thin axis, as rows and columns also where the volume is a plane."""
    flat = layer.squeeze(axis)
    return flat if flat.ndim == 2 else flat[np.newaxis]


_OF_BLOCKS: Mapping[str, type] = {"block": np.int64, "count": np.int64}
_OF_IDS: Mapping[str, type] = {"first": np.int64, "voxels": np.uint32}


def merge_faces(partials: Sequence[Partial], of_ids: Mapping[str, type] = _OF_IDS) -> Partial:
    """All blocks in order of their number; faces and values stay in the parts. of_ids : arrays with a value an id."""
    kept = {**_OF_BLOCKS, **of_ids}
    # Sorted by their first block, most partials follow each other and a plain concatenation is in order.
    ordered = sorted((p for p in partials if p["block"].size), key=lambda p: int(p["block"][0]))
    merged = {name: np.concatenate([p[name] for p in ordered] or [np.empty(0, dtype)]) for name, dtype in kept.items()}
    order = np.argsort(merged["block"], kind="stable")
    if np.array_equal(order, np.arange(order.size)):
        return merged
    stops = np.cumsum(merged["count"])
    runs = [slice(stops[i] - merged["count"][i], stops[i]) for i in order]
    return {name: merged[name][order] for name in _OF_BLOCKS} | {
        name: np.concatenate([merged[name][run] for run in runs]) for name in of_ids
    }


def number_blocks(merged: Partial) -> Partial:
    """`finish` of label_faces: provisional ids count through the blocks, from 0."""
    blocks = merged["block"]
    if not np.array_equal(blocks, np.arange(blocks.size)):
        raise ValueError(f"faces of {blocks.size} blocks with numbers up to {blocks.max()}: some are missing")
    offset = np.concatenate(([0], np.cumsum(merged["count"], dtype=np.int64)))
    return {"block": blocks, "offset": offset, **{k: v for k, v in merged.items() if k not in _OF_BLOCKS}}


def merge_pairs(partials: Sequence[Partial]) -> Partial:
    """Every pair once, sorted."""
    pairs = np.concatenate([np.empty((0, 2), np.int64), *(p["pairs"] for p in partials)])
    if len(partials) == 1:
        return {"pairs": pairs}
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    fresh = np.ones(len(pairs), bool)
    fresh[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
    return {"pairs": pairs[fresh]}
