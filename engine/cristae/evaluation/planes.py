"""Planes: in which plane of a stack a prediction is wrong, by how many voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import no_halo


def planes(*, ndim: int) -> Measure:
    """Voxels of each plane along z that are in the prediction (the first array) or in the truth (the second) alone: `errors` (n,) int64,
    and `z` (n,) int64, rising; an image without z is its own plane 0."""
    return Measure(
        "planes",
        {"ndim": ndim},
        _partial,
        merge_planes,
        None,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=3.0, ns_per_voxel=1.5),
    )


def _partial(pred: Array, truth: Array, *, at: At, answers: Mapping[str, Answer]) -> Partial:
    core = at.out
    one, two = (
        to_host(array)[core.within(read)].reshape((-1, *core.shape[-2:]))
        for array, read in zip((pred, truth), at.reads, strict=True)
    )
    first = core.start[0] if len(core.start) == 3 else 0
    return {"z": first + np.arange(len(one)), "errors": ((one != 0) ^ (two != 0)).sum(axis=(1, 2), dtype=np.int64)}


def merge_planes(partials: Sequence[Partial]) -> Partial:
    """Errors of one plane added, planes in rising order."""
    z, errors = (
        np.concatenate([np.empty(0, np.int64), *(p[name] for p in partials)]).astype(np.int64)
        for name in ("z", "errors")
    )
    rising, place = np.unique(z, return_inverse=True)
    found = np.zeros(len(rising), np.int64)
    np.add.at(found, place, errors)
    return {"z": rising, "errors": found}
