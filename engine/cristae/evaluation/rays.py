"""Rays: where a prediction is right and wrong, seen along z: how many voxels of each pixel's ray are in both, and in one alone.

A frame holds three counts a pixel, in the order of CLASSES. A pixel is a cell of voxels, so that the largest volume still fits a screen;
a plane is seen as it is. Counts of blocks are added where they meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import Shape, no_halo

CLASSES = ("both", "prediction alone", "truth alone")
FRAME = 1024
"""Longest side of a frame, pixels."""


def rays(*, ndim: int) -> Measure:
    """The frame of a prediction (the first array) and the truth (the second): `counts` (3, y, x) int64 and `cell`, voxels along a side
    of a pixel."""
    return Measure(
        "rays",
        {"ndim": ndim},
        _partial,
        merge_rays,
        finish_rays,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=0.5 if ndim == 3 else 18.0, ns_per_voxel=3.0),
    )


def cell_of(shape: Shape) -> int:
    """Voxels along y and x of a pixel: the fewest that keep a frame within FRAME."""
    return -(-max(shape[-2:]) // FRAME)


def _partial(pred: Array, truth: Array, *, at: At, answers: Mapping[str, Answer]) -> Partial:
    core = at.out
    one, two = (
        to_host(array)[core.within(read)].reshape((-1, *core.shape[-2:]))
        for array, read in zip((pred, truth), at.reads, strict=True)
    )
    cell, first = cell_of(at.grid.shape), core.start[-2:]
    seen = np.zeros((3, *core.shape[-2:]), np.int32)
    for p, t in zip(one, two, strict=True):
        here, there = p != 0, t != 0
        both = here & there
        for count, those in zip(seen, (both, here ^ both, there ^ both), strict=True):
            count += those
    starts = [np.r_[0, np.arange(cell - a % cell, n, cell)] for a, n in zip(first, core.shape[-2:], strict=True)]
    counts = seen if cell == 1 else np.stack([_in_cells(count, *starts) for count in seen])
    low = [a // cell for a in first]
    boxes = np.array([[low, [a + n for a, n in zip(low, counts.shape[1:], strict=True)]]], np.int64)
    return {"boxes": boxes, "counts": counts.ravel(), "cell": np.array([cell])}


def _in_cells(count: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums over the cells that begin at these rows and columns."""
    high = np.add.reduceat(count, rows, axis=0, dtype=np.int32)
    return np.add.reduceat(high, columns, axis=1, dtype=np.int32)


def merge_rays(partials: Sequence[Partial]) -> Partial:
    """The patches of all partials, those of one place added."""
    patches: dict[tuple[int, ...], np.ndarray] = {}
    for part in partials:
        at = 0
        for box in part["boxes"]:
            place, many = tuple(box.ravel().tolist()), 3 * int(np.prod(box[1] - box[0]))
            own = part["counts"][at : at + many]
            patches[place] = patches[place] + own if place in patches else own
            at += many
    places = sorted(patches)
    return {
        "boxes": np.array(places, np.int64).reshape(-1, 2, 2),
        "counts": np.concatenate([np.empty(0, np.int32), *(patches[place] for place in places)]),
        "cell": np.unique(np.concatenate([np.empty(0, np.int64), *(p["cell"] for p in partials)])),
    }


def finish_rays(merged: Partial) -> Partial:
    """The frame around all patches."""
    high = merged["boxes"][:, 1].max(axis=0, initial=0)
    counts, at = np.zeros((3, *high), np.int64), 0
    for (y0, x0), (y1, x1) in merged["boxes"].tolist():
        many = 3 * (y1 - y0) * (x1 - x0)
        counts[:, y0:y1, x0:x1] += merged["counts"][at : at + many].reshape(3, y1 - y0, x1 - x0)
        at += many
    return {"counts": counts, "cell": merged["cell"]}
