"""Objects: which true objects were found, how well, and what was found that is not there. All from the table of overlaps.

Three ways to match stand beside each other, and every figure says by its name which it is:

    best_*     every truth takes the prediction of the largest Dice, valid from 0.5 on, as in the study of mitochondria with SAM: TP are
               predictions that some truth took, FP the others, FN truths without a valid one. A prediction may be taken twice.
    one_*      as many pairs of Dice 0.5 or more as there can be, no object in two of them
    IoU        above 0.5 pairs are unique by themselves: panoptic quality, and average precision at several IoU

Counts are added over images, so that pooled figures weigh every object alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.evaluation.figures import Counts, Figure, Figures, ratio
from cristae.evaluation.matching import Edges, best, dice, iou, largest, one_to_one
from cristae.evaluation.overlap import Ints, Table

HALF = 0.5
THRESHOLDS = tuple(round(0.5 + 0.05 * k, 2) for k in range(10))


@dataclass(frozen=True)
class Rules:
    """What a user may set: predictions of fewer voxels are taken out first; the IoU at which average precision is found."""

    min_voxels: int = 0
    iou: tuple[float, ...] = THRESHOLDS

    def __post_init__(self) -> None:
        if self.min_voxels < 0:
            raise InvalidConfiguration(f"--min-voxels {self.min_voxels} is less than nothing; give 0 or more")
        if not self.iou or not all(0 < t <= 1 for t in self.iou) or len(set(self.iou)) < len(self.iou):
            given = ",".join(f"{t:g}" for t in self.iou)
            raise InvalidConfiguration(
                f"--threshold-iou {given}: give different numbers above 0 and up to 1, such as 0.5,0.75"
            )


def figures_of(rules: Rules) -> Mapping[str, Figure]:
    """The figures that `object_figures` gives, in its order."""
    ap = {_ap(t): Figure(f"TP / (TP + FP + FN) of one-to-one pairs of IoU {t:g} or more") for t in rules.iou}
    mean = Figure(f"mean of {', '.join(ap)}: average precision as bio-image analysis has it, not COCO's integral")
    return {**_FIGURES, **ap, "ap_mean": mean}


_FIGURES: Mapping[str, Figure] = {
    "predictions": Figure("predicted objects, those of fewer than --min-voxels taken out", None, count=True),
    "truths": Figure("true objects", None, count=True),
    "count_error": Figure("(predictions - truths) / truths", 0.0),
    "best_precision": Figure("TP / (TP + FP): predictions that are the best of some truth with a Dice of 0.5 or more"),
    "best_recall": Figure("TP / (TP + FN), FN: truths whose best prediction has a Dice below 0.5"),
    "dice_all": Figure("mean over predictions of the largest Dice with a truth, 0 only without overlap"),
    "dice_all_nz": Figure("the same over predictions that overlap a truth"),
    "dice_matched": Figure("mean over predictions of their Dice with a truth that took them, 0 if none did"),
    "dice_matched_nz": Figure("the same over predictions that a truth took"),
    "one_precision": Figure("TP / predictions, TP: one-to-one pairs of Dice 0.5 or more"),
    "one_recall": Figure("TP / truths, of the same pairs"),
    "one_f1": Figure("2 TP / (predictions + truths), of the same pairs"),
    "one_dice": Figure("mean Dice of the same pairs"),
    "pq": Figure("panoptic quality: sum of IoU over pairs above 0.5, by TP + FP / 2 + FN / 2; sq times rq"),
    "sq": Figure("mean IoU of pairs above 0.5"),
    "rq": Figure("TP / (TP + FP / 2 + FN / 2) of the same pairs"),
    "seg": Figure("mean over truths of their IoU with the prediction that has more than half of them, else 0 (Cell Tracking Challenge)"),
    "splits": Figure("truths in which 2 or more predictions have most of their voxels, with an IoU of 0.5 or more together", 0.0, count=True),
    "merges": Figure("predictions in which 2 or more truths have most of their voxels, with an IoU of 0.5 or more together", 0.0, count=True),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Found:
    """The objects of one frame, matched: its counts, and for each truth whether a one-to-one pair of Dice 0.5 holds it."""

    counts: Counts
    truths: NDArray[np.uint64]
    voxels: Ints
    found: NDArray[np.bool_]


def found_objects(table: Table, rules: Rules) -> Found:
    """What one frame tells of its objects."""
    table = table.without_small(rules.min_voxels)
    preds, truths = len(table.preds), len(table.truths)
    by_dice, by_iou = dice(table), iou(table)
    taken = best(by_dice, truths, HALF)
    all_dice = largest(by_dice.fit, by_dice.pred, preds)
    matched = largest(taken.fit, taken.pred, preds)
    pairs = one_to_one(by_dice, HALF)
    unique = by_iou.where(by_iou.fit > HALF)
    counts = {
        "predictions": preds,
        "truths": truths,
        "best_tp": np.count_nonzero(matched),
        "best_fn": truths - len(np.unique(taken.truth)),
        "dice_all_sum": all_dice.sum(),
        "dice_all_some": np.count_nonzero(all_dice),
        "dice_matched_sum": matched.sum(),
        "one_tp": len(pairs.fit),
        "one_dice_sum": pairs.fit.sum(),
        "pq_tp": len(unique.fit),
        "pq_iou_sum": unique.fit.sum(),
        "seg_sum": _seg(table, by_iou),
        "splits": _pieces(table.pred_voxels, table.truth_voxels, *table.shared()),
        "merges": _pieces(table.truth_voxels, table.pred_voxels, *(table.shared()[k] for k in (1, 0, 2))),
        **{f"{_ap(t)}_tp": len(one_to_one(by_iou, t).fit) for t in rules.iou},
    }
    found = np.zeros(truths, bool)
    found[pairs.truth] = True
    return Found({name: float(value) for name, value in counts.items()}, table.truths, table.truth_voxels, found)


def object_figures(counts: Counts, rules: Rules) -> Figures:
    """Figures of `figures_of` from the counts of one image, or of several added."""
    preds, truths, tp = counts["predictions"], counts["truths"], counts["best_tp"]
    one, pq = counts["one_tp"], counts["pq_tp"]
    ap = {_ap(t): _average_precision(counts[f"{_ap(t)}_tp"], preds, truths) for t in rules.iou}
    return {
        "predictions": preds,
        "truths": truths,
        "count_error": ratio(preds - truths, truths),
        "best_precision": ratio(tp, preds),
        "best_recall": ratio(tp, tp + counts["best_fn"]),
        "dice_all": ratio(counts["dice_all_sum"], preds),
        "dice_all_nz": ratio(counts["dice_all_sum"], counts["dice_all_some"]),
        "dice_matched": ratio(counts["dice_matched_sum"], preds),
        "dice_matched_nz": ratio(counts["dice_matched_sum"], tp),
        "one_precision": ratio(one, preds),
        "one_recall": ratio(one, truths),
        "one_f1": ratio(2 * one, preds + truths),
        "one_dice": ratio(counts["one_dice_sum"], one),
        "pq": ratio(counts["pq_iou_sum"], (preds + truths) / 2),
        "sq": ratio(counts["pq_iou_sum"], pq),
        "rq": ratio(pq, (preds + truths) / 2),
        "seg": ratio(counts["seg_sum"], truths),
        "splits": counts["splits"],
        "merges": counts["merges"],
        **ap,
        "ap_mean": math.fsum(ap.values()) / len(ap),
    }


def _ap(threshold: float) -> str:
    return f"ap_{100 * threshold:g}"


def _average_precision(tp: float, preds: float, truths: float) -> float:
    return ratio(tp, preds + truths - tp)


def _seg(table: Table, by_iou: Edges) -> float:
    """The sum over truths of the IoU with the prediction that has more than half of them."""
    _, truth, voxels = table.shared()
    return float(by_iou.fit[2 * voxels > table.truth_voxels[truth]].sum())


def _pieces(sizes: Ints, wholes: Ints, piece: Ints, whole: Ints, voxels: Ints) -> int:
    """How many wholes are in pieces: 2 or more have more than half of their voxels in it, and together an IoU of 0.5 or more with it."""
    mostly = 2 * voxels > sizes[piece]
    piece, whole, voxels = piece[mostly], whole[mostly], voxels[mostly]
    many = np.bincount(whole, minlength=len(wholes))
    covered, together = (np.zeros(len(wholes), np.int64) for _ in range(2))
    np.add.at(covered, whole, voxels)
    np.add.at(together, whole, sizes[piece])
    return int(np.count_nonzero((many > 1) & (2 * covered >= together + wholes - covered)))
