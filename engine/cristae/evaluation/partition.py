"""Partition: the two label volumes as two ways to divide the same voxels.

    VOI   variation of information: bits that are missing to know one label from the other (Meila, J. Multivariate Analysis 98, 873, 2007)
    ARI   adjusted Rand index: 1 for the same division, 0 for what chance gives (Hubert and Arabie, J. Classification 2, 193, 1985)
    adapted Rand error, as in connectomics: 1 less the F-score of pairs of voxels (Arganda-Carreras, Front. Neuroanat. 9, 142, 2015)

Counted over the voxels of true objects, where the background of a prediction is one more segment; what is predicted outside of them
is for precision to count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cristae.evaluation.figures import Counts, Figure, Figures, ratio
from cristae.evaluation.overlap import Ints, Table

FIGURES: Mapping[str, Figure] = {
    "voi_split": Figure("H(prediction | truth) in bits over the voxels of true objects: objects that were cut", 0.0),
    "voi_merge": Figure("H(truth | prediction) in bits over the same voxels: objects that were joined", 0.0),
    "ari": Figure("adjusted Rand index over the voxels of true objects"),
    "adapted_rand_error": Figure("1 - 2 P R / (P + R), P and R of pairs of voxels of true objects", 0.0),
}


def partition_counts(table: Table) -> Counts:
    """Sums over the voxels of true objects, of cells (pairs of labels), truths and predictions."""
    inside = table.truth >= 0
    voxels = table.voxels[inside]
    preds = np.zeros(len(table.preds) + 1, np.int64)
    np.add.at(preds, table.pred[inside], voxels)
    counts = {"partition_voxels": float(voxels.sum())}
    for name, sizes in (("cells", voxels), ("truths", table.truth_voxels), ("preds", preds)):
        counts[f"partition_{name}_nlogn"] = _nlogn(sizes)
        counts[f"partition_{name}_pairs"] = float((sizes * ((sizes - 1) / 2)).sum())
    return counts


def partition_figures(counts: Counts) -> Figures:
    """Figures of FIGURES from counts."""
    n = counts["partition_voxels"]
    cells, truths, preds = (counts[f"partition_{name}_nlogn"] for name in ("cells", "truths", "preds"))
    both, true, found = (counts[f"partition_{name}_pairs"] for name in ("cells", "truths", "preds"))
    same, middle = both == true == found, (true + found) / 2
    chance = ratio(true * found, n * (n - 1) / 2)
    return {
        # Rounding may leave a little less than nothing.
        "voi_split": ratio(max(truths - cells, 0.0), n),
        "voi_merge": ratio(max(preds - cells, 0.0), n),
        "ari": 1.0 if n and same else ratio(both - chance, middle - chance),
        "adapted_rand_error": 1 - ratio(both, middle),
    }


def _nlogn(sizes: Ints) -> float:
    some: NDArray[np.float64] = sizes[sizes > 0].astype(np.float64)
    return float((some * np.log2(some)).sum())
