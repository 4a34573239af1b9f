"""Basins: a mask whose objects touch is parted between its summits, exactly, whatever the block grid.

Every voxel climbs to the highest of its neighbours, and on to a summit; a summit climbs on to a higher one that foreground joins
to it within `min_separation_um`. What climbs to one place is one object: the watershed of steepest ascent, without lines and
without seeds that a block could miss. A step is found in the neighbourhood of its voxel, so every block finds the steps of its
own voxels, tells its neighbours where they leave it (`climbs`), and meets theirs (`climb_ids`).

    climbs      what each block tells: faces of its parts, summits, and steps out of it
    climb_ids   pairs of parts that are one object, and at last the id of each part

What any landscape on which voxels climb to their neighbours needs is of use to `saddles` too: `out_of`, `told`, `steps_met`, `asked`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, inf
from typing import Any, Protocol

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box, Halo, no_halo
from cristae.labels.components import relabelled
from cristae.labels.runs import as_counted, solid
from cristae.labels.seams import (
    face,
    face_layers,
    in_volume,
    leading,
    merge_faces,
    merge_pairs,
    number_blocks,
)
from cristae.labels.union import Canonical

GROUND = float(np.finfo(np.float32).min)
"""Height of what is no foreground, where heights are given."""


class Climbing(Protocol):
    """A landscape: where the voxels of a block climb to."""

    @property
    def halo(self) -> Halo: ...

    @property
    def cost(self) -> Cost: ...

    def __call__(self, array: Array, at: At, /) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]: ...


@dataclass(frozen=True, slots=True)
class Climb:
    """Where the voxels of a block climb to. limit : of the distance to the ground; None where heights are given."""

    voxel_um: tuple[float, ...]
    apart_um: float
    limit: float | None

    @property
    def halo(self) -> Halo:
        """As far as a block looks: to a summit apart, its neighbours, and the ground from there."""
        far = [int(self.apart_um / h + 1e-9) + 1 + ceil((self.limit or 0.0) / h) for h in self.voxel_um]
        return tuple((n, n) for n in far)

    @property
    def cost(self) -> Cost:
        """Measured: heights and masks in the whole box, and of the core where each voxel climbs to and its root."""
        reach = sum(2 * ceil((self.limit or 0.0) / h) for h in self.voxel_um)
        return Cost(bytes_per_voxel=30.0, ns_per_voxel=40.0 + 0.7 * reach)

    def __call__(self, array: Array, at: At) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
        """Ids of the core, 1..n in no order; n; (k, 2) voxel of the core and voxel of the volume of each step out of it, as raster
        indices; and which voxels of the core are summits."""
        from cristae.labels import basins_kernel as kernel

        box = at.core.grow(self.halo).intersect(at.reads[0])  # a pass that reads further shows no more than this
        host = to_host(array[box.within(at.reads[0])])
        voxel = np.array((1.0,) * (3 - host.ndim) + self.voxel_um)
        low, high = window(at.core, box)
        if self.limit is None:
            if np.isnan(host).any():
                raise InvalidInput("split by intensity met voxels that are NaN; replace them first")
            height, floor, top = np.ascontiguousarray(solid(host), np.float32), GROUND, inf
        else:
            height = kernel.distances(np.ascontiguousarray(solid(host) != 0), voxel, self.limit)
            floor, top = 0.0, float(np.sqrt(np.float32(self.limit * self.limit)))
        to, summit = kernel.climb(height, floor, low, high, voxel, self.apart_um)
        ids, n, steps = out_of(height, top, to, box, at)
        return ids, n, steps, summit


def window(inner: Box, outer: Box) -> tuple[np.ndarray, np.ndarray]:
    """Where a box begins and ends in one around it, (z, y, x)."""
    found, missing = inner.within(outer), 3 - len(inner.start)
    return np.array([0] * missing + [s.start for s in found]), np.array([1] * missing + [s.stop for s in found])


def out_of(height: np.ndarray, top: float, to: np.ndarray, box: Box, at: At) -> tuple[np.ndarray, int, np.ndarray]:
    """Ids of the core, 1..n in no order; n; (k, 2) voxel of the core and voxel of the volume of each step out of it, as raster indices.

    height : (z, y, x) float32 of `box`; none is above `top`
    to : where each voxel of the core climbs to
    """
    from cristae.labels.basins_kernel import gathered

    low, high = window(at.core, box)
    leaving = np.empty((1024, 2), np.int64)
    ids, n, out = gathered(height, top, low, high, to, leaving)
    if out > len(leaving):
        leaving = np.empty((out, 2), np.int64)
        ids, n, out = gathered(height, top, low, high, to, leaving)
    steps = leaving[:out]
    goals = [g + s for g, s in zip(np.unravel_index(steps[:, 1], box.shape), box.start, strict=True)]
    steps = np.stack([steps[:, 0], np.ravel_multi_index(goals, at.grid.shape).astype(np.int64)], axis=1)
    return ids.reshape(at.core.shape), n, steps


def asked(
    faces: str,
    ids: str,
    params: Mapping[str, Any],
    climb: Climbing,
    *,
    tell: Callable[..., Partial],
    meet: Callable[..., Partial],
    finish: Callable[..., Partial],
    met_cost: Cost,
    merge_told: Callable[[Sequence[Partial]], Partial] = merge_faces,
    merge_met: Callable[[Sequence[Partial]], Partial] = merge_pairs,
) -> dict[str, Measure]:
    """What a stage asks: `faces`, for which each block is parted and tells its neighbours, and `ids`, the canonical id of every part.

    tell : `partial` of the first, which takes `climb` besides; of the second it is `meet`, for which no voxel is read
    """
    cost, halo = climb.cost, climb.halo
    first = Measure(
        faces, params, partial(tell, climb=climb), merge_told, number_blocks, halo, cost=cost, keeps_parts=True
    )
    asks, none = {"faces": first}, no_halo(len(halo))
    return {
        **asks,
        "ids": Measure(ids, params, meet, merge_met, finish, none, cost=met_cost, asks=asks, reads_array=False),
    }


def answers_of(params: Mapping[str, Any], climb: Climb) -> dict[str, Measure]:
    """What `split` by distance or intensity asks: `climbs` and `climb_ids`."""
    cost = Cost(bytes_per_voxel=1.0, ns_per_voxel=0.4)
    return asked("climbs", "climb_ids", params, climb, tell=_climbs, meet=_meetings, finish=Canonical(0), met_cost=cost)


def _climbs(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Climb) -> Partial:
    raw, n, steps, summit = climb(array, at)
    ids, found = told(raw, n, steps, at)
    own = np.flatnonzero(summit)
    return found | {"summit": in_volume(own, at), "summit_id": ids.reshape(-1)[own]}


def told(raw: np.ndarray, n: int, steps: np.ndarray, at: At) -> tuple[np.ndarray, Partial]:
    """Provisional ids of the core, and what others must know of its parts, but for where summits lie that far steps lead to."""
    order, begin, voxels = provisional(raw, n)
    ids: np.ndarray = order[raw]
    return ids, {
        "block": np.array([at.index], np.int64),
        "count": np.array([n], np.int64),
        "first": in_volume(begin, at),
        "voxels": voxels,
        "from": in_volume(steps[:, 0], at),
        "from_id": ids.reshape(-1)[steps[:, 0]],
        "to": steps[:, 1],
        **face_layers(lambda axis, side: ids.take([-side], axis), at),
    }


def provisional(raw: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of raw ids 1..n: the provisional id of each, (n + 1,); flat index of the first voxel, and voxels, (n,) in their order."""
    from cristae.labels.basins_kernel import census

    order, begin, voxels = np.zeros(n + 1, np.uint32), np.zeros(n, np.int64), np.zeros(n, np.uint32)
    census(raw.reshape(-1), order, begin, voxels)
    return order, begin, voxels


def painter(raw: np.ndarray, n: int) -> Callable[[np.ndarray, np.ndarray], None]:
    """What writes `table[id]`, by provisional id, where `raw` has ids 1..n."""
    from cristae.labels.basins_kernel import relabel

    def paint(table: np.ndarray, out: np.ndarray) -> None:
        as_counted(n, table)
        met = np.full(n + 1, -1, np.int64)
        met[0] = 0
        relabel(solid(raw), table[1:], met, solid(out))

    return paint


def _meetings(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    return steps_met(at, answers["faces"].parts, answers["faces"].arrays["offset"])


def steps_met(at: At, parts: Mapping[int, Partial], begin: np.ndarray) -> Partial:
    """Pairs of provisional ids of this block and others that a step out of it joins. begin : where each block's ids begin."""
    mine = parts[at.index]
    if not mine["to"].size:
        return merge_pairs([])
    start = np.stack(np.unravel_index(mine["from"], at.grid.shape), axis=1)
    goal = np.stack(np.unravel_index(mine["to"], at.grid.shape), axis=1)
    near = (np.abs(goal - start) <= 1).all(axis=1)
    found = []
    for other, here in _by_block(goal, at.grid):
        ids = np.zeros(len(here), np.int64)
        beside = near[here]
        ids[beside] = _at_face(parts[other], at, other, goal[here[beside]])
        summits = parts[other]["summit"]
        far = here[~beside]
        place = np.searchsorted(summits, mine["to"][far])
        ids[~beside] = parts[other]["summit_id"][place]
        pairs = np.stack((mine["from_id"][here] - 1 + begin[at.index], ids - 1 + begin[other]), axis=1)
        found.append({"pairs": np.unique(pairs.astype(np.int64), axis=0)})
    return merge_pairs([merge_pairs([]), *found])


def _by_block(goal: np.ndarray, grid: BlockGrid) -> Iterator[tuple[int, np.ndarray]]:
    """Each block that holds some of these voxels, (k, axes), and which."""
    blocks = np.ravel_multi_index(tuple((goal // grid.block).T), grid.counts)
    order = np.argsort(blocks, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(blocks[order])) + 1):
        yield int(blocks[some[0]]), some


def _at_face(part: Partial, at: At, other: int, goal: np.ndarray) -> np.ndarray:
    """Provisional ids of voxels of another block that lie at this one."""
    step = tuple(b - a for a, b in zip(at.grid.position(at.index), at.grid.position(other), strict=True))
    axis, sign = leading(step)
    layer = face(part, at.grid, other, axis, 0 if sign > 0 else 1)
    if layer is None or not len(goal):
        return np.zeros(len(goal), np.int64)
    inside = goal - at.grid.core(other).start
    inside[:, axis] = 0
    found: np.ndarray = layer[tuple(inside.T)].astype(np.int64)
    return found


def parted(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Climb) -> Array:
    """`apply` of the stage: canonical ids of a block."""
    raw, n, _, _ = climb(array, at)
    return namespace(array).asarray(relabelled(painter(raw, n), at, answers))
