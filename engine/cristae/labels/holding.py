"""Holding: a mask inside other objects becomes those objects' ids, so that labels of it know what holds them."""

from __future__ import annotations

from collections.abc import Mapping

from cristae.array import Array, namespace
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.grid import no_halo


def within(holder: str, *, voxel_um: tuple[float, ...]) -> Stage:
    """Keep a mask to the objects that hold it.

    Parameters
    ----------
    holder : name of the objects that hold; their labels are the stage's second input, on the same grid
    voxel_um : voxel size, (z, y, x) or (y, x)

    Returns
    -------
    A stage from a mask (what is not 0 is foreground) and labels to those labels where the mask is, 0 elsewhere. Labelled with
    `multilabel`, each component lies in one holder, and touching parts in two holders are two.
    """
    return Stage("within", {"holder": holder}, _held, no_halo(len(voxel_um)), output=_labels, cost=Cost(1.0, 1.0))


def _held(mask: Array, labels: Array, *, at: At, answers: Mapping[str, Answer]) -> Array:
    xp = namespace(mask)
    inside = mask[at.out.within(at.reads[0])] != 0
    return xp.where(inside, labels[at.out.within(at.reads[1])], labels.dtype.type(0))


def _labels(spec: Spec, *_: Spec) -> Spec:
    return Spec(spec.shape, "uint32", spec.voxel_um)
