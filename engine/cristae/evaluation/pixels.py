"""Pixels: the foreground of a prediction against that of the truth, voxel by voxel, whatever the objects.

Counts are added over images; figures are made of counts. A figure without anything to divide by is NaN, never 1: an image in which
both are empty says nothing about its foreground.

The published mIOU of the PhySeg study is not the IoU of its foreground, since F1 = 2 IoU / (1 + IoU) is never below it; the mean
over foreground and background fits. All three are given, by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from cristae.evaluation.figures import Counts, Figure, Figures, ratio
from cristae.evaluation.overlap import Table

FIGURES: Mapping[str, Figure] = {
    "iou_fg": Figure("TP / (TP + FP + FN), voxels of the foreground"),
    "iou_bg": Figure("TN / (TN + FP + FN), the same of the background"),
    "mIOU_fgbg": Figure("mean of iou_fg and iou_bg"),
    "dice": Figure("2 TP / (2 TP + FP + FN), which is F1 and 2 iou_fg / (1 + iou_fg)"),
    "pixel_precision": Figure("TP / (TP + FP)"),
    "pixel_recall": Figure("TP / (TP + FN)"),
    "pixel_accuracy": Figure("(TP + TN) / all voxels"),
}


def pixel_counts(table: Table) -> Counts:
    """Voxels that are foreground of both (tp), of the prediction alone (fp), of the truth alone (fn), and of neither (tn)."""
    pred, truth = table.pred >= 0, table.truth >= 0
    quarters = {"tp": pred & truth, "fp": pred & ~truth, "fn": ~pred & truth, "tn": ~pred & ~truth}
    return {f"pixel_{name}": float(table.voxels[here].sum()) for name, here in quarters.items()}


def pixel_figures(counts: Counts) -> Figures:
    """Figures of FIGURES from the counts of one image, or of several added."""
    tp, fp, fn, tn = (counts[f"pixel_{name}"] for name in ("tp", "fp", "fn", "tn"))
    fg, bg = ratio(tp, tp + fp + fn), ratio(tn, tn + fp + fn)
    return {
        "iou_fg": fg,
        "iou_bg": bg,
        "mIOU_fgbg": (fg + bg) / 2,
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "pixel_precision": ratio(tp, tp + fp),
        "pixel_recall": ratio(tp, tp + fn),
        "pixel_accuracy": ratio(tp + tn, tp + fp + fn + tn),
    }
