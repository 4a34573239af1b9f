"""Saddles: a probability is parted between the summits of its relief, and what only a shallow saddle parts is one again.

The relief of a probability p is the mean over all levels above `above` of the distance to where p is no higher, at most `reach_um`:
high in the middle of what is surely foreground, low at its rim, and low in a dip however narrow. Every voxel climbs to the highest of
its neighbours, as in `basins`; two basins are one unless the highest saddle between them lies `depth_um` or more below the lower of
their summits. Saddles are taken from the highest to the lowest, in a total order, so nothing is left to chance; and of many saddles
only those matter that join what no higher ones join, a forest, which blocks can merge in any order.

    saddles      what each block tells: faces and heights of its parts, steps out of it, and the saddles within it
    saddle_ids   pairs of parts that are one basin, the saddles between parts, and at last the id of each part
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from math import ceil
from typing import Any

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import Halo
from cristae.labels.basins import asked, out_of, painter, steps_met, told, window
from cristae.labels.components import relabelled
from cristae.labels.runs import solid
from cristae.labels.seams import (
    ahead,
    face,
    in_volume,
    leading,
    merge_faces,
    merge_pairs,
    sides,
)
from cristae.labels.union import canonical

ROOM = 1 << 16
"""Saddles that are looked at before those that no one needs are thrown away."""
EDGES: Mapping[str, type] = {"edges": np.int64, "saddle": np.float32, "voxels": np.int64}
OF_PARTS: Mapping[str, type] = {"first": np.int64, "voxels": np.uint32, "top": np.float32}


@dataclass(frozen=True, slots=True)
class Ascent:
    """Where the voxels of a block climb to on the relief of a probability."""

    voxel_um: tuple[float, ...]
    above: float
    reach_um: float

    @property
    def halo(self) -> Halo:
        """A neighbour, and what its height depends on."""
        return tuple((1 + _nearer(self.reach_um, h),) * 2 for h in self.voxel_um)

    @property
    def cost(self) -> Cost:
        """An estimate, where a tenth is foreground: the relief looks at a ball around each voxel of it."""
        return Cost(bytes_per_voxel=32.0, ns_per_voxel=30.0, fixed_bytes=16 * 2.0**20)

    def __call__(self, array: Array, at: At) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """Ids of the core, 1..n in no order; n; (k, 2) voxel of the core and voxel of the volume of each step out of it, as raster
        indices; and heights of the core."""
        from cristae.labels import saddles_kernel
        from cristae.labels.basins_kernel import climb

        box = at.core.grow(self.halo).intersect(at.reads[0])  # a pass that reads further shows no more than this
        host = to_host(array[box.within(at.reads[0])])
        if np.isnan(host).any():
            raise InvalidInput("split by probability met voxels that are NaN; replace them first")
        rim = at.core.grow(((1, 1),) * host.ndim).intersect(box)
        voxel = np.array((1.0,) * (3 - host.ndim) + self.voxel_um)
        steps, away = nearer(self.voxel_um, self.reach_um)
        with np.errstate(all="ignore"):  # doubles beyond single precision are as good as 0 and 1
            chance = np.ascontiguousarray(solid(host), np.float32)
        height = saddles_kernel.relief(chance, self.above, self.reach_um, steps, away, *window(rim, box))
        to, _ = climb(height, 0.0, *window(at.core, rim), voxel, 0.0)
        ids, n, left = out_of(height, np.inf, to, rim, at)
        return ids, n, left, np.ascontiguousarray(height.reshape(rim.shape)[at.core.within(rim)])


def _nearer(reach: float, h: float) -> int:
    """Voxels of size h that are nearer than `reach` along their axis."""
    return max(0, ceil(reach / h - 1e-9) - 1)


def nearer(voxel_um: tuple[float, ...], reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps (z, y, x) to the voxels that are nearer than `reach`, and their lengths, nearest first, equal ones in raster order."""
    axes = [np.arange(-n, n + 1) for n in (_nearer(reach, h) for h in voxel_um)]
    steps = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    square = ((steps * np.array(voxel_um)) ** 2).sum(axis=1)
    order = np.argsort(square, kind="stable")
    order = order[(square[order] > 0) & (square[order] < (reach * (1 - 1e-9)) ** 2)]
    whole = np.zeros((len(order), 3), np.int64)
    whole[:, 3 - len(axes) :] = steps[order]
    return whole, np.sqrt(square[order])


def answers_of(params: Mapping[str, Any], ascent: Ascent, depth_um: float) -> dict[str, Measure]:
    """What `split` by probability asks: `saddles` and `saddle_ids`."""
    return asked(
        "saddles",
        "saddle_ids",
        params,
        ascent,
        tell=_saddles,
        meet=_meetings,
        finish=Joined(depth_um),
        met_cost=Cost(bytes_per_voxel=2.0, ns_per_voxel=1.0),
        merge_told=partial(merge_faces, of_ids=OF_PARTS),
        merge_met=merge_edges,
    )


def _saddles(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Ascent) -> Partial:
    raw, n, steps, height = climb(array, at)
    ids, found = told(raw, n, steps, at)
    top = np.zeros(n + 1, np.float32)
    np.maximum.at(top, ids.reshape(-1), height.reshape(-1))
    return {
        **found,
        "top": top[1:],
        "summit": np.empty(0, np.int64),
        "summit_id": np.empty(0, np.int64),
        **{f"own_{name}": array for name, array in _within(ids, height, n, at).items()},
        **{
            f"height_{axis}{side}": _packed(height.take(-side, axis) if not outermost else height[:0])
            for axis, side, outermost in sides(at)
        },
    }


def _packed(layer: np.ndarray) -> np.ndarray:
    if not layer.any():
        return np.empty(0, np.uint8)
    return np.frombuffer(import_module("numcodecs").LZ4().encode(np.ascontiguousarray(layer)), np.uint8)


def _within(ids: np.ndarray, height: np.ndarray, n: int, at: At) -> Partial:
    """The saddles of a block that join its parts, ids from 1."""
    from cristae.labels.saddles_kernel import saddles_within

    room = max(ROOM, 2 * n)
    flat, heights, between = np.empty((room, 2), np.int64), np.empty(room, np.float32), np.empty((room, 2), np.int64)
    best, begin = _edges([]), 0
    while begin < ids.size:
        found, begin = saddles_within(solid(height), solid(ids), begin, flat, heights, between)
        best = _forest(_edges([best, {"edges": between[:found], "saddle": heights[:found], "voxels": flat[:found]}]))
    return best | {"voxels": np.stack([in_volume(best["voxels"][:, k], at) for k in (0, 1)], axis=1)}


def _edges(some: Sequence[Partial]) -> Partial:
    empty: Partial = {name: np.empty((0,) if name == "saddle" else (0, 2), dtype) for name, dtype in EDGES.items()}
    return {name: np.concatenate([empty[name], *(one[name] for one in some)]) for name in EDGES}


def _forest(edges: Partial) -> Partial:
    """The saddles that join what no higher ones join, the highest first."""
    from cristae.labels.saddles_kernel import spanning

    order = np.lexsort((edges["voxels"][:, 1], edges["voxels"][:, 0], edges["saddle"]))[::-1]
    named, place = np.unique(edges["edges"], return_inverse=True)
    kept = order[spanning(place.reshape(-1, 2)[order], len(named))]
    return {name: array[kept] for name, array in edges.items()}


def merge_edges(partials: Sequence[Partial]) -> Partial:
    """Every pair once, sorted, and of all saddles those that join what no higher ones join."""
    return merge_pairs(partials) | _forest(_edges(partials))


def _meetings(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    """Pairs of provisional ids that a step joins, and saddles between provisional ids, of this block and across its faces."""
    parts, begin = answers["faces"].parts, answers["faces"].arrays["offset"]
    mine = parts[at.index]
    own = {name: mine[f"own_{name}"] for name in EDGES}
    own["edges"] = own["edges"] - 1 + begin[at.index]
    found = [own, *_across(at, parts, begin)]
    return steps_met(at, parts, begin) | _forest(_edges(found))


def _across(at: At, parts: Mapping[int, Partial], begin: np.ndarray) -> Iterator[Partial]:
    """The saddles between this block and each one after it."""
    from cristae.labels.saddles_kernel import saddles_across

    for other, offset, near_of, far_of in ahead(at, len(at.grid.shape)):
        axis, _ = leading(offset)
        own, theirs = _layers(at, parts, at.index, axis, 1), _layers(at, parts, other, axis, 0)
        if own is None or theirs is None:
            continue
        near, near_height, near_flat = map(near_of, own)
        far, far_height, far_flat = map(far_of, theirs)
        room = 9 * int(np.count_nonzero(near))
        flat, height, between = np.empty((room, 2), np.int64), np.empty(room, np.float32), np.empty((room, 2), np.int64)
        n = saddles_across(near, far, near_height, far_height, near_flat, far_flat, flat, height, between)
        edges = between[:n] - 1 + np.array([begin[at.index], begin[other]])
        yield _forest({"edges": edges, "saddle": height[:n], "voxels": flat[:n]})


def _layers(
    at: At, parts: Mapping[int, Partial], index: int, axis: int, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Of a block's outermost layer, one voxel thick on `axis`: provisional ids, heights, raster indices in the volume."""
    ids = face(parts[index], at.grid, index, axis, side)
    if ids is None:
        return None
    packed = np.ascontiguousarray(parts[index][f"height_{axis}{side}"])
    height = np.frombuffer(import_module("numcodecs").LZ4().decode(packed), np.float32).reshape(ids.shape)
    core = at.grid.core(index)
    ranges = [np.arange(a, b) for a, b in zip(core.start, core.stop, strict=True)]
    ranges[axis] = ranges[axis][-side:][:1]
    return ids, height, np.ravel_multi_index(np.ix_(*ranges), at.grid.shape).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Joined:
    """`finish` of saddle_ids: basins are joined over shallow saddles, and what they form is numbered."""

    depth_um: float

    def __call__(self, merged: Partial, answers: Mapping[str, Answer]) -> Partial:
        from cristae.labels.saddles_kernel import crossed

        faces = answers["faces"].arrays
        joined, basins = crossed(faces["top"], merged["pairs"], merged["edges"], merged["saddle"], self.depth_um)
        pairs = np.concatenate([merged["pairs"], merged["edges"][joined]])
        ids, objects = canonical(faces["offset"], faces["first"], faces["voxels"], pairs)
        return {
            "map": ids,
            "objects": np.array(objects, np.int64),
            "offset": faces["offset"],
            "basins": np.array(basins, np.int64),
        }

    def ready(self) -> None:
        """Load the compiled loops, for arrays as a stored answer gives them."""
        faces = {
            "offset": np.array([0, 1]),
            "first": np.zeros(1, np.int64),
            "voxels": np.ones(1, np.uint32),
            "top": np.ones(1, np.float32),
        }
        for array in faces.values():
            array.flags.writeable = False
        self(merge_edges([]), {"faces": Answer(faces)})


def parted(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Ascent) -> Array:
    """`apply` of the stage: canonical ids of a block. It stands here, not in `basins`, for the key of a run to see this module."""
    raw, n, _, _ = climb(array, at)
    return namespace(array).asarray(relabelled(painter(raw, n), at, answers))
