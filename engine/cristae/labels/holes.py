"""Holes: ground that is shut in by foreground becomes foreground, exactly, however large the hole and whatever the block grid.

The ground is labelled as a mask is (`seams`), with one thing more to say of each component: whether it lies at a face of
the volume. What is joined to none that does is a hole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.grid import no_halo
from cristae.labels.runs import components
from cristae.labels.seams import (
    Faces,
    Meetings,
    beyond,
    merge_faces,
    merge_pairs,
    number_blocks,
    rim_of,
)

_OF_IDS: Mapping[str, type] = {"first": np.int64, "open": np.bool_}


def fill_holes(*, voxel_um: tuple[float, ...], connectivity: int = 1) -> Stage:
    """Fill ground that foreground shuts in on all sides.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    connectivity : how many axes may differ between voxels of ground that are joined; 1, the neighbours of a face, is the
        counterpart of foreground that joins over corners

    Returns
    -------
    A stage from a mask (what is not 0 is foreground) to bool: that of `scipy.ndimage.binary_fill_holes` on the whole
    volume. Ground that reaches a face of the volume is no hole, so in a stack of few planes few are.

    Raises
    ------
    InvalidConfiguration : if the connectivity is not one of this many axes.
    """
    ndim = len(voxel_um)
    if not 1 <= connectivity <= ndim:
        raise InvalidConfiguration(
            f"fill_holes: connectivity {connectivity} is not possible in {ndim}D; give 1 to {ndim}, or leave it out"
        )
    return Stage(
        "fill_holes",
        {"connectivity": connectivity},
        partial(_fill, connectivity=connectivity),
        no_halo(ndim),
        output=_mask,
        cost=Cost(bytes_per_voxel=4.0, ns_per_voxel=3.2),
        asks={"faces": ground_faces(ndim, connectivity), "holes": ground_holes(ndim, connectivity)},
        boundary="constant",
        blockwise=True,
    )


def ground_faces(ndim: int, connectivity: int) -> Measure:
    """As `label_faces`, of the ground; the answer also holds `open`, which components lie at a face of the volume."""
    return Measure(
        "ground_faces",
        {"connectivity": connectivity},
        partial(_faces, connectivity=connectivity),
        partial(merge_faces, of_ids=_OF_IDS),
        number_blocks,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=4.5 if ndim == 3 else 5.5, ns_per_voxel=2.8),
        keeps_parts=True,
    )


def ground_holes(ndim: int, connectivity: int) -> Measure:
    """Which provisional components of the ground are holes: `hole` ((provisional ids,) bool) and `offset`."""
    return Measure(
        "ground_holes",
        {"connectivity": connectivity},
        Meetings(connectivity, multilabel=False),
        merge_pairs,
        Shut(),
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=0.4),
        asks={"faces": ground_faces(ndim, connectivity)},
        reads_array=False,
    )


@dataclass(frozen=True, slots=True)
class Shut:
    """`finish` of ground_holes."""

    def __call__(self, merged: Partial, answers: Mapping[str, Answer]) -> Partial:
        from cristae.labels.union_kernel import unite

        faces = answers["faces"].arrays
        parent = np.arange(faces["first"].size, dtype=np.uint32 if faces["first"].size < 2**32 else np.uint64)
        unite(parent, faces["first"], merged["pairs"])
        reaches = np.zeros(parent.size, bool)
        reaches[parent[faces["open"]]] = True
        return {"hole": ~reaches[parent], "offset": faces["offset"]}


def _faces(mask: Array, *, at: At, answers: Mapping[str, Answer], connectivity: int) -> Partial:
    found = Faces(connectivity, multilabel=False, borders=True)(mask == 0, at=at, answers=answers)
    del found["voxels"]  # a hole is one whatever its size
    return found


def _fill(mask: Array, *, at: At, answers: Mapping[str, Answer], connectivity: int) -> Array:
    whole = rim_of(at)
    hole, offset = answers["holes"].arrays["hole"], answers["holes"].arrays["offset"]
    ground = to_host(mask[at.core.within(at.reads[0])]) == 0
    out = np.ones(whole.shape, bool)
    components(ground, connectivity, multilabel=False).paint(
        _filled(hole, offset, at.index), out[at.core.within(whole)]
    )
    for other, there, layer in beyond(at, whole, answers["faces"].parts):
        out[there.within(whole)] = True if layer is None else _filled(hole, offset, other)[layer]
    return namespace(mask).asarray(out[at.out.within(whole)])


def _filled(hole: np.ndarray, offset: np.ndarray, block: int) -> np.ndarray:
    """Whether a block's provisional component of the ground is filled; 0 is foreground already."""
    return np.concatenate(([True], hole[offset[block] : offset[block + 1]]))


def _mask(spec: Spec) -> Spec:
    return Spec(spec.shape, "bool", spec.voxel_um, (0, 1))
