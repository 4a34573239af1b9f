"""Matching: which predicted object is which true one.

    edges      pairs that share voxels: prediction, truth, and how well they fit (Dice or IoU)
    best       every truth takes the prediction that fits it best; one prediction may be taken by several
    one_to_one as many pairs as possible, and of those choices the one of the largest sum: no object is in two pairs

Labels of a volume do not overlap, so few objects are in doubt: at Dice 0.5 an object has at most three partners, above IoU 0.5 one.
Pairs that nobody else claims are taken as they are; the rest is solved as one sparse assignment, never as a matrix of all by all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cristae.evaluation.overlap import Ints, Table

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edges:
    """Pairs of objects that share voxels, by number, and the fit of each."""

    pred: Ints
    truth: Ints
    fit: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Edges:
        return Edges(self.pred[chosen], self.truth[chosen], self.fit[chosen])


def dice(table: Table) -> Edges:
    """Twice the voxels that are shared, by those of both."""
    pred, truth, voxels = table.shared()
    return Edges(pred, truth, 2.0 * voxels / (table.pred_voxels[pred] + table.truth_voxels[truth]))


def iou(table: Table) -> Edges:
    """The voxels that are shared, by those of either."""
    pred, truth, voxels = table.shared()
    return Edges(pred, truth, voxels / (table.pred_voxels[pred] + table.truth_voxels[truth] - voxels))


def largest(fit: Floats, numbers: Ints, many: int) -> Floats:
    """(many,) the best fit of each object; 0 where it shares nothing."""
    found = np.zeros(many)
    np.maximum.at(found, numbers, fit)
    return found


def best(edges: Edges, truths: int, least: float) -> Edges:
    """For every truth the prediction that fits it best, where that is `least` or more; of several that fit alike, all.

    Who is taken must not depend on how objects are numbered, hence all.
    """
    top = largest(edges.fit, edges.truth, truths)
    return edges.where((edges.fit == top[edges.truth]) & (edges.fit >= least))


def one_to_one(edges: Edges, least: float) -> Edges:
    """Pairs of the largest sum of fits among those of the largest number, each fit `least` or more."""
    valid = edges.where(edges.fit >= least)
    (_, p), (_, t) = (np.unique(numbers, return_inverse=True) for numbers in (valid.pred, valid.truth))
    sure = (np.bincount(p)[p] == 1) & (np.bincount(t)[t] == 1) if len(p) else np.zeros(0, bool)
    chosen = sure.copy()
    chosen[~sure] = _assigned(valid.where(~sure))
    return valid.where(chosen)


def _assigned(edges: Edges) -> NDArray[np.bool_]:
    """Which edges are in the best assignment.

    An object of the smaller side may stay alone: it has a partner of its own for that, who brings nothing. A pair brings more than
    all fits together, so that one more pair always pays.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    if not len(edges.fit):
        return np.zeros(0, bool)
    (rows, p), (columns, t) = (np.unique(numbers, return_inverse=True) for numbers in (edges.pred, edges.truth))
    pays = 1.0 + min(len(rows), len(columns))
    # Every row is matched once, so 1 for each changes no choice; a zero would be no edge.
    weights = np.r_[1.0 + pays + edges.fit, np.ones(len(rows))]
    at = np.r_[p, np.arange(len(rows))], np.r_[t, len(columns) + np.arange(len(rows))]
    graph = csr_array((weights, at), shape=(len(rows), len(columns) + len(rows)))
    row, column = min_weight_full_bipartite_matching(graph, maximize=True)
    partner = np.empty(len(rows), np.int64)
    partner[row] = column
    return np.asarray(partner[p] == t)
