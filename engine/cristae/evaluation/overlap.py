"""Overlap: how many voxels each predicted object shares with each true one. The table that every score is made of.

    table     (pairs,) prediction, truth and voxels, in the order (prediction, truth); 0 is the background, and a label as any
    overlaps  the measure that finds it, block by block; whole numbers only, so no block grid can show

Of a terabyte the table has a few rows an object. Labels are whole numbers up to 64 bits; a mask is one object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cristae.array import Array
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import Box, no_halo
from cristae.morphology.rows import Region, region

Labels = NDArray[np.uint64]
Ints = NDArray[np.int64]


def overlaps(*, ndim: int) -> Measure:
    """The table of a prediction (the first array) and the truth (the second), both labels or masks of one shape.

    The answer holds `pred` and `truth`, uint64, and `voxels`, int64.

    Raises
    ------
    InvalidInput : at work, if an array is not of whole numbers, or a label is negative.
    """
    return Measure(
        "overlaps",
        {"ndim": ndim},
        _partial,
        merge_tables,
        None,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=0.25, ns_per_voxel=2.0),
    )


def _partial(pred: Array, truth: Array, *, at: At, answers: Mapping[str, Answer]) -> Partial:
    from cristae.evaluation import overlap_kernel

    one, two = (_labels(a, r, at.out, n) for a, r, n in zip((pred, truth), at.reads, ROLES, strict=True))
    keys, counts = overlap_kernel.pairs(one.array, two.array, one.lo, two.lo, one.size)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    return {"pred": keys[order, 0], "truth": keys[order, 1], "voxels": counts[order]}


ROLES = ("prediction", "truth")


def _labels(array: Array, read: Box, core: Box, role: str) -> Region:
    """One of both as the kernel takes it: unsigned."""
    found = region(array, read, core)
    kind = found.array.dtype.kind
    if kind not in "ui":
        raise InvalidInput(f"the {role} holds {found.array.dtype}, but labels are whole numbers; threshold it first")
    if kind == "i":
        if found.core.size and (least := found.core.min()) < 0:
            raise InvalidInput(
                f"the {role} has a label {least} between {core.start} and {core.stop}; labels start at 1, and 0 is background"
            )
        return Region(found.array.view(f"u{found.array.dtype.itemsize}"), found.lo, found.size)
    return found


def merge_tables(partials: Sequence[Partial]) -> Partial:
    """The table of all partials: the voxels of a pair added."""
    pred, truth, voxels = (
        np.concatenate([np.empty(0, kind), *(p[name] for p in partials)])
        for name, kind in (("pred", np.uint64), ("truth", np.uint64), ("voxels", np.int64))
    )
    order = np.lexsort((truth, pred))
    pred, truth, voxels = pred[order], truth[order], voxels[order]
    if not len(pred):
        return {"pred": pred, "truth": truth, "voxels": voxels}
    starts = np.flatnonzero(np.r_[True, (pred[1:] != pred[:-1]) | (truth[1:] != truth[:-1])])
    return {"pred": pred[starts], "truth": truth[starts], "voxels": np.add.reduceat(voxels, starts)}


@dataclass(frozen=True, eq=False)
class Table:
    """The overlaps of one frame, its labels numbered: object i of the prediction is called `preds[i]`.

    An entry's `pred` and `truth` are numbers of objects; -1 is the background.
    """

    preds: Labels
    truths: Labels
    pred: Ints
    truth: Ints
    voxels: Ints

    @staticmethod
    def of(answer: Mapping[str, np.ndarray]) -> Table:
        """The table of an answer of `overlaps`."""
        (preds, pred), (truths, truth) = (numbered(np.asarray(answer[name])) for name in ("pred", "truth"))
        return Table(preds, truths, pred, truth, np.asarray(answer["voxels"], np.int64))

    @property
    def pred_voxels(self) -> Ints:
        """(predictions,) the size of each."""
        return _sizes(self.pred, self.voxels, len(self.preds))

    @property
    def truth_voxels(self) -> Ints:
        """(truths,) the size of each."""
        return _sizes(self.truth, self.voxels, len(self.truths))

    def without_small(self, least: int) -> Table:
        """The same where predictions of fewer than `least` voxels are background."""
        keep = self.pred_voxels >= least
        if keep.all():
            return self
        number = np.r_[np.where(keep, np.cumsum(keep) - 1, -1), -1]  # the last is the background's own
        pred = number[self.pred]
        order = np.lexsort((self.truth, pred))
        pred, truth, voxels = pred[order], self.truth[order], self.voxels[order]
        starts = np.flatnonzero(np.r_[True, (pred[1:] != pred[:-1]) | (truth[1:] != truth[:-1])])
        return replace(
            self, preds=self.preds[keep], pred=pred[starts], truth=truth[starts], voxels=np.add.reduceat(voxels, starts)
        )

    def shared(self) -> tuple[Ints, Ints, Ints]:
        """Prediction, truth and voxels of the entries that are background of neither."""
        both = (self.pred >= 0) & (self.truth >= 0)
        return self.pred[both], self.truth[both], self.voxels[both]


def numbered(labels: Labels) -> tuple[Labels, Ints]:
    """The labels that are not 0, in order; and for each entry the number of its own, -1 for 0."""
    names, inverse = np.unique(labels, return_inverse=True)
    if len(names) and names[0] == 0:
        return names[1:], inverse.astype(np.int64) - 1
    return names, inverse.astype(np.int64)


def _sizes(numbers: Ints, voxels: Ints, many: int) -> Ints:
    sizes = np.zeros(many + 1, np.int64)
    np.add.at(sizes, numbers, voxels)  # the background, -1, goes to the last
    return sizes[:many]
