"""Matching: which predicted object is which true one.

    edges      pairs that share voxels: prediction, truth, and how well they fit (Dice or IoU)
    best       every truth takes the prediction that fits it best; one prediction may be taken by several
    one_to_one as many pairs as possible, and of those choices the one of the largest sum: no object is in two pairs

Labels of a volume do not overlap, so few objects are in doubt: at Dice 0.5 an object has at most three partners, above IoU 0.5 one.
So the assignment falls apart into the connected parts of the graph of edges, most of one pair, and never needs a matrix of all by all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    valid = edges.where(edges.fit >= least)
    many = len(valid.fit)
    if not many:
        return valid
    (preds, p), (truths, t) = (np.unique(numbers, return_inverse=True) for numbers in (valid.pred, valid.truth))
    if len(preds) == len(truths) == many:  # nobody is in doubt, as ever above an IoU of 0.5
        return valid
    nodes = len(preds) + len(truths)
    graph = coo_array((np.ones(many, np.int8), (p, len(preds) + t)), shape=(nodes, nodes))
    _, group = connected_components(graph, directed=False)
    rows, columns = (np.bincount(group[side]) for side in (slice(len(preds)), slice(len(preds), None)))
    own = group[p]  # of each edge
    order = np.lexsort((-valid.fit, own))
    starts = np.flatnonzero(np.diff(own[order], prepend=-1))
    chosen = np.zeros(many, bool)
    # Where one side has a single object, only one pair can be: the best. Nearly all are such.
    alone = (rows == 1) | (columns == 1)
    chosen[order[starts[alone]]] = True
    stops = np.append(starts[1:], many)
    for g in np.flatnonzero(~alone):
        these = order[starts[g] : stops[g]]
        chosen[these[_assigned(p[these], t[these], valid.fit[these])]] = True
    return valid.where(chosen)


DENSE = 200
"""Objects on a side up to which a matrix is the faster way."""


def _assigned(pred: Ints, truth: Ints, fit: Floats) -> NDArray[np.bool_]:
    """Which edges are in the best assignment of objects that are all in doubt together.

    A pair brings more than all fits together, so that one more pair always pays.
    """
    (rows, p), (columns, t) = (np.unique(numbers, return_inverse=True) for numbers in (pred, truth))
    pays = 1.0 + min(len(rows), len(columns))
    partner = np.full(len(rows), -1)
    if max(len(rows), len(columns)) <= DENSE:
        from scipy.optimize import linear_sum_assignment

        gain = np.zeros((len(rows), len(columns)))
        gain[p, t] = pays + fit
        pairs: Any = linear_sum_assignment(gain, maximize=True)
    else:
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import min_weight_full_bipartite_matching

        # A row that stays alone has a column of its own for that. Every row is matched once, so 1 more for each changes no
        # choice; a zero would be no edge.
        gains = np.r_[1.0 + pays + fit, np.ones(len(rows))]
        at = np.r_[p, np.arange(len(rows))], np.r_[t, len(columns) + np.arange(len(rows))]
        graph = csr_array((gains, at), shape=(len(rows), len(columns) + len(rows)))
        pairs = min_weight_full_bipartite_matching(graph, maximize=True)
    partner[pairs[0]] = pairs[1]
    return np.asarray(partner[p] == t)
