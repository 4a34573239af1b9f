"""Listing: a row for every pair, every truth without one, and every prediction without one: what to look at where scores are low.

found   a one-to-one pair of Dice 0.5 or more
missed  a truth without one, beside the prediction that fits it best, if any touches it
extra   a prediction without one, beside the truth that fits it best, if any touches it
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cristae.evaluation.matching import Edges, dice, one_to_one
from cristae.evaluation.objects import HALF, Rules
from cristae.evaluation.overlap import Ints, Table

COLUMNS: Mapping[str, str] = {
    "state": "found, missed or extra",
    "truth": "label of the true object; 0 if none touches the prediction",
    "prediction": "label of the predicted object; 0 if none touches the truth",
    "truth_voxels": "voxels of the true object",
    "prediction_voxels": "voxels of the predicted object",
    "shared_voxels": "voxels of both",
    "dice": "2 shared / (truth + prediction)",
    "iou": "shared / (truth + prediction - shared)",
}


def listed(table: Table, rules: Rules) -> dict[str, np.ndarray]:
    """COLUMNS of one frame: pairs, missed truths, extra predictions, each in the order of their labels."""
    table = table.without_small(rules.min_voxels)
    edges = dice(table)
    pairs = one_to_one(edges, HALF)
    preds, truths = len(table.preds), len(table.truths)
    missed, extra = np.setdiff1d(np.arange(truths), pairs.truth), np.setdiff1d(np.arange(preds), pairs.pred)
    order = np.argsort(pairs.truth)
    pred = np.concatenate([pairs.pred[order], _nearest(edges.truth, edges.pred, edges, truths)[missed], extra])
    truth = np.concatenate([pairs.truth[order], missed, _nearest(edges.pred, edges.truth, edges, preds)[extra]])
    of_pred, of_truth = np.append(table.pred_voxels, 0)[pred], np.append(table.truth_voxels, 0)[truth]
    both = _shared(table, pred, truth)
    return {
        "state": np.repeat(np.array(["found", "missed", "extra"], object), [len(pairs.fit), len(missed), len(extra)]),
        "truth": np.append(table.truths, np.uint64(0))[truth],
        "prediction": np.append(table.preds, np.uint64(0))[pred],
        "truth_voxels": of_truth,
        "prediction_voxels": of_pred,
        "shared_voxels": both,
        "dice": 2.0 * both / (of_pred + of_truth),
        "iou": both / (of_pred + of_truth - both),
    }


def _nearest(own: Ints, other: Ints, edges: Edges, many: int) -> Ints:
    """For each object of one side the best fit of the other, of equal ones the first; -1 where it touches none."""
    found = np.full(many, -1)
    order = np.lexsort((-other, edges.fit))  # the last that is written stays
    found[own[order]] = other[order]
    return found


def _shared(table: Table, pred: Ints, truth: Ints) -> Ints:
    """Voxels that these objects share; 0 where one is -1."""
    one, two, voxels = table.shared()
    width = len(table.truths) + 1
    keys = one * width + two
    place = np.searchsorted(keys, pred * width + truth)
    place[place == len(keys)] = 0
    known = (pred >= 0) & (truth >= 0)
    return np.where(known, voxels[place], 0) if len(voxels) else np.zeros(len(pred), np.int64)
