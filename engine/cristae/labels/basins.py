"""Basins: a mask whose objects touch is parted between its summits, exactly, whatever the block grid.

Every voxel climbs to the highest of its neighbours, and on to a summit; a summit climbs on to a higher one that foreground joins
to it within `min_separation_um`. What climbs to one place is one object: the watershed of steepest ascent, without lines and
without seeds that a block could miss. A step is found in the neighbourhood of its voxel, so every block finds the steps of its
own voxels, tells its neighbours where they leave it (`climbs`), and meets theirs (`climb_ids`).

    split   the stage; `climbs` are its faces, summits and steps outward, `climb_ids` what they came to
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from math import ceil, inf, isfinite, prod
from typing import Any

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import BlockGrid, Box, Halo
from cristae.labels.components import label_spec, relabelled
from cristae.labels.seams import (
    face,
    face_layers,
    in_volume,
    leading,
    merge_faces,
    merge_pairs,
    number_blocks,
    provisional,
    solid,
)
from cristae.labels.union import Canonical

LARGEST = 1 << 22
"""Voxels of the box around a summit in which higher ones are looked for."""
GROUND = float(np.finfo(np.float32).min)
"""Height of what is no foreground, where heights are given."""
BY = ("distance", "intensity")


def split(
    *,
    voxel_um: tuple[float, ...],
    min_separation_um: float,
    by: str = "distance",
    reach_um: float | None = None,
    sigma_um: float = 0.0,
) -> Stage:
    """Part objects that touch between their summits.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    min_separation_um : summits nearer than this to a higher one, with foreground between, are no objects of their own; about the
        radius of the smallest object
    by : a summit is where the "distance" to the ground is largest, or where the "intensity" of the raw channel is
    reach_um : for "distance": as far as it is measured; objects joined by a neck that is thicker than twice this stay one. By
        default twice min_separation_um, so that a separation far below the objects' radius parts nothing but thin necks
    sigma_um : for "intensity": width of the Gaussian that smooths it

    Returns
    -------
    A stage from a mask (by intensity: from `filters.heights`) to uint32 objects, numbered by the raster order of their first
    voxel, 0 for ground; `label` after it keeps them apart. The result does not depend on blocks.
    Steepest ascent as in S. Beucher, C. Lantuejoul (1979); summits as maxima of a total order, by value and then raster index.

    Raises
    ------
    InvalidConfiguration : if a length is not above 0, or a parameter is not one of this kind of summit.
    InvalidInput : on heights that are NaN.
    """
    if by not in BY:
        raise InvalidConfiguration(f"split: by {by!r} is not one of {', '.join(BY)}")
    lengths = {"min_separation_um": min_separation_um} | ({} if reach_um is None else {"reach_um": reach_um})
    for name, length in lengths.items():
        if isinstance(length, bool) or not isinstance(length, int | float) or not 0 < length < inf:
            raise InvalidConfiguration(f"split: {name} is {length!r}, but must be a length in um above 0")
    if (
        isinstance(sigma_um, bool)
        or not isinstance(sigma_um, int | float)
        or not (isfinite(sigma_um) and sigma_um >= 0)
    ):
        raise InvalidConfiguration(f"split: sigma_um is {sigma_um!r}, but must be a length in um, 0 or more")
    if by == "distance" and sigma_um:
        raise InvalidConfiguration("split: sigma_um belongs to by: intensity; leave it out")
    if by == "intensity" and reach_um is not None:
        raise InvalidConfiguration("split: reach_um belongs to by: distance; leave it out")
    reach = [int(min_separation_um / h) for h in voxel_um]
    if prod(2 * n + 1 for n in reach) > LARGEST:
        raise InvalidConfiguration(
            f"split: min_separation_um {min_separation_um:g} is {max(reach)} voxels, farther than summits are looked for; lengths are "
            "micrometres: give about the radius of the smallest object"
        )
    limit = None if by == "intensity" else float(reach_um or 2 * min_separation_um)
    climb = Climb(tuple(voxel_um), float(min_separation_um), limit)
    params: dict[str, Any] = {"by": by, "min_separation_um": min_separation_um}
    params |= {"sigma_um": sigma_um} if limit is None else {"reach_um": limit}
    climbs = Measure(
        "climbs",
        params,
        partial(_climbs, climb=climb),
        merge_faces,
        number_blocks,
        climb.halo,
        cost=climb.cost,
        keeps_parts=True,
    )
    ids = Measure(
        "climb_ids",
        params,
        _meetings,
        merge_pairs,
        Canonical(0),
        ((0, 0),) * len(voxel_um),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=0.4),
        asks={"faces": climbs},
        reads_array=False,
    )
    return Stage(
        "split",
        params,
        partial(_ids, climb=climb),
        climb.halo,
        output=label_spec,
        cost=climb.cost,
        asks={"faces": climbs, "ids": ids},
        boundary="ends",
        blockwise=True,
    )


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
        low, high = (np.array(_three(a)) for a in _window(at.core, box))
        high[: 3 - host.ndim] = 1
        if self.limit is None:
            if np.isnan(host).any():
                raise InvalidInput("split by intensity met voxels that are NaN; replace them first")
            height, floor, top = np.ascontiguousarray(solid(host), np.float32), GROUND, inf
        else:
            height = kernel.distances(np.ascontiguousarray(solid(host) != 0), voxel, self.limit)
            floor, top = 0.0, float(np.sqrt(np.float32(self.limit * self.limit)))
        to, summit = kernel.climb(height, floor, low, high, voxel, self.apart_um)
        leaving = np.empty((1024, 2), np.int64)
        ids, n, out = kernel.gathered(height, top, low, high, to, leaving)
        if out > len(leaving):
            leaving = np.empty((out, 2), np.int64)
            ids, n, out = kernel.gathered(height, top, low, high, to, leaving)
        shape = at.core.shape
        steps = leaving[:out]
        goals = [g + s for g, s in zip(np.unravel_index(steps[:, 1], host.shape), box.start, strict=True)]
        steps = np.stack([steps[:, 0], np.ravel_multi_index(goals, at.grid.shape).astype(np.int64)], axis=1)
        return ids.reshape(shape), n, steps, summit


def _climbs(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Climb) -> Partial:
    raw, n, steps, summit = climb(array, at)
    order, begin, voxels = provisional(raw, n)
    flat = order[raw].reshape(-1)
    own = np.flatnonzero(summit)
    return {
        "block": np.array([at.index], np.int64),
        "count": np.array([n], np.int64),
        "first": in_volume(begin, at),
        "voxels": voxels,
        "summit": in_volume(own, at),
        "summit_id": flat[own],
        "from": in_volume(steps[:, 0], at),
        "from_id": flat[steps[:, 0]],
        "to": steps[:, 1],
        **face_layers(raw, order, at),
    }


def _meetings(*, at: At, answers: Mapping[str, Answer]) -> Partial:
    """Pairs of provisional ids of this block and others that a step out of it joins."""
    parts, begin = answers["faces"].parts, answers["faces"].arrays["offset"]
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


def _ids(array: Array, *, at: At, answers: Mapping[str, Answer], climb: Climb) -> Array:
    raw, n, _, _ = climb(array, at)
    return namespace(array).asarray(relabelled(raw, n, at, answers))


def _window(core: Box, box: Box) -> tuple[tuple[int, ...], tuple[int, ...]]:
    at = core.within(box)
    return tuple(s.start for s in at), tuple(s.stop for s in at)


def _three(plane: tuple[int, ...]) -> tuple[int, ...]:
    return (0,) * (3 - len(plane)) + plane
