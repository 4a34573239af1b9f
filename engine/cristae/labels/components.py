"""Components: every connected object of a mask gets one id, the same whatever the block grid.

Each block is labelled twice: once to tell its neighbours what reaches its faces (`seams`), and, when `union` has found
which components are one, again to write the canonical ids. That is cheaper than storing the ids between.

    label   the stage; its answers are `faces` (what the blocks told) and `ids` (what it came to)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, pi, prod

import numpy as np

from cristae.array import Array, namespace
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.grid import no_halo
from cristae.labels.runs import components
from cristae.labels.seams import beyond, label_faces, label_ids, rim_of


def label(
    *,
    voxel_um: tuple[float, ...],
    connectivity: int | None = None,
    min_voxels: int = 0,
    min_volume_um3: float | None = None,
    min_diameter_um: float | None = None,
    multilabel: bool = False,
) -> Stage:
    """Connected components, numbered 1, 2, ... in the raster order of each one's first voxel.

    Parameters
    ----------
    voxel_um : voxel size, micrometres, (z, y, x) or (y, x)
    connectivity : how many axes may differ between voxels that touch: 1 (6 or 4 neighbours), 2 (18 or 8), 3 (26);
        by default all of them
    min_voxels, min_volume_um3, min_diameter_um : objects below any of them are dropped, and the ids of the others stay dense; a
        volume in cubic micrometres, for 3D only; a diameter in micrometres of the ball (in 2D the disc) of the same size
    multilabel : the input holds integers and only equal ones join; otherwise whatever is not 0 is foreground

    Returns
    -------
    A stage from a mask or integers to uint32 ids (uint64 where 2**32 objects are left), 0 for background. Without a
    size limit and `multilabel` the result is that of `scipy.ndimage.label` on the whole volume, id for id.

    Raises
    ------
    InvalidConfiguration : if a limit is negative, or the connectivity is not one of this many axes.
    InvalidInput : when a block is not of integers.
    """
    ndim = len(voxel_um)
    reach = ndim if connectivity is None else connectivity
    if not 1 <= reach <= ndim:
        raise InvalidConfiguration(
            f"label: connectivity {connectivity} is not possible in {ndim}D; give 1 to {ndim}, or leave it out"
        )
    for name, limit in (
        ("min_voxels", min_voxels),
        ("min_volume_um3", min_volume_um3),
        ("min_diameter_um", min_diameter_um),
    ):
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float)):
            raise InvalidConfiguration(f"label: {name} is {limit!r}, but must be a number")
    if min_voxels < 0 or min_voxels != int(min_voxels):
        raise InvalidConfiguration(f"label: min_voxels is {min_voxels}; give a whole number, 0 or more")
    least = max(min_voxels, _voxels(min_volume_um3, voxel_um), _across(min_diameter_um, voxel_um))
    params = {
        "connectivity": reach,
        "min_voxels": min_voxels,
        "min_volume_um3": min_volume_um3,
        "multilabel": multilabel,
    }
    return Stage(
        "label",
        params | ({} if min_diameter_um is None else {"min_diameter_um": min_diameter_um}),
        Components(reach, multilabel),
        no_halo(ndim),
        output=label_spec,
        cost=Cost(bytes_per_voxel=3.5, ns_per_voxel=3.0),
        asks={
            "faces": label_faces(ndim, reach, multilabel),
            "ids": label_ids(ndim, reach, multilabel, least),
        },
        boundary="constant",
        blockwise=True,
    )


def _voxels(volume_um3: float | None, voxel_um: tuple[float, ...]) -> int:
    """The fewest voxels whose volume is at least `volume_um3`."""
    if volume_um3 is None:
        return 0
    if len(voxel_um) != 3:
        raise InvalidConfiguration(
            f"label: min_volume_um3 {volume_um3} needs a 3D image; in 2D, as after project, give min_voxels or min_diameter_um"
        )
    if not 0 <= volume_um3 < float("inf"):
        raise InvalidConfiguration(f"label: min_volume_um3 is {volume_um3}; give 0 or more cubic micrometres")
    return _least(volume_um3, voxel_um)


def _across(diameter_um: float | None, voxel_um: tuple[float, ...]) -> int:
    """The fewest voxels that are at least as large as the ball or disc of this diameter."""
    if diameter_um is None:
        return 0
    if not 0 <= diameter_um < float("inf"):
        raise InvalidConfiguration(f"label: min_diameter_um is {diameter_um}; give 0 or more micrometres")
    return _least(pi * diameter_um ** len(voxel_um) / (2 * len(voxel_um)), voxel_um)


def _least(size: float, voxel_um: tuple[float, ...]) -> int:
    # 10 voxels of 0.1 um3 are 1 um3, though in binary 1 / 0.1 may come out a hair above 10.
    return ceil(size / prod(voxel_um) * (1 - 1e-12))


def label_spec(spec: Spec) -> Spec:
    """Ids in place of whatever was labelled."""
    return Spec(spec.shape, "uint32", spec.voxel_um)


@dataclass(frozen=True, slots=True)
class Components:
    """`apply` of the stage: the ids of one block's core, and of at most one voxel beyond it from the neighbours' faces.

    Raises
    ------
    ValueError : if a box is asked for that reaches further.
    """

    connectivity: int
    multilabel: bool

    def __call__(self, mask: Array, *, at: At, answers: Mapping[str, Answer]) -> Array:
        runs = components(mask[at.core.within(at.reads[0])], self.connectivity, self.multilabel)
        return namespace(mask).asarray(relabelled(runs.paint, at, answers))


def relabelled(paint: Callable[[np.ndarray, np.ndarray], None], at: At, answers: Mapping[str, Answer]) -> np.ndarray:
    """Canonical ids of `at.out`: of the core, and beyond it from the neighbours' faces.

    paint : writes `table[id]`, by provisional id, into an array of the core's shape that is 0 so far
    answers : `ids`, the canonical id of each provisional one, and `faces`, what the blocks told of them
    """
    whole = rim_of(at)
    ids, offset = answers["ids"].arrays["map"], answers["ids"].arrays["offset"]

    def table(block: int) -> np.ndarray:
        return np.concatenate((np.zeros(1, ids.dtype), ids[offset[block] : offset[block + 1]]))

    out = np.zeros(whole.shape, ids.dtype)
    paint(table(at.index), out[at.core.within(whole)])
    for other, there, layer in beyond(at, whole, answers["faces"].parts) if whole != at.core else ():
        if layer is not None:
            out[there.within(whole)] = table(other)[layer]
    return out[at.out.within(whole)]
