"""The two label volumes as partitions: scikit-image's figures, and pairs of voxels counted one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from evaluation.drawn import cells, table_of, two_segmentations
from hypothesis import given
from skimage.metrics import adapted_rand_error, variation_of_information

from cristae.evaluation.partition import partition_counts, partition_figures

pytestmark = pytest.mark.kernel


def figures(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return partition_figures(partition_counts(table_of(pred, truth)))


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_scikit_image(seed: int) -> None:
    pred, truth = (a.astype(np.int64) for a in cells(seed))
    found = figures(pred, truth)
    split, merge = variation_of_information(truth, pred, ignore_labels=(0,))
    assert found["voi_split"] == pytest.approx(split, abs=1e-10)
    assert found["voi_merge"] == pytest.approx(merge, abs=1e-10)
    assert found["adapted_rand_error"] == pytest.approx(adapted_rand_error(truth, pred)[0], abs=1e-10)


@given(two_segmentations())
def test_the_rand_index_counts_pairs_of_voxels(both: tuple[np.ndarray, np.ndarray]) -> None:
    pred, truth = both
    pairs = list(itertools.combinations(zip(pred[truth > 0].tolist(), truth[truth > 0].tolist(), strict=True), 2))
    found = figures(pred, truth)["ari"]
    if not pairs:
        assert math.isnan(found) == (not truth.any())
        return
    same_pred = np.array([a[0] == b[0] for a, b in pairs])
    same_truth = np.array([a[1] == b[1] for a, b in pairs])
    expected = same_pred.mean() * same_truth.mean()
    most = (same_pred.mean() + same_truth.mean()) / 2
    if (same_pred == same_truth).all():
        assert found == 1
    else:
        assert found == pytest.approx(((same_pred & same_truth).mean() - expected) / (most - expected), abs=1e-9)


def test_an_object_in_two_halves_misses_one_bit() -> None:
    truth = np.ones((4, 4), np.uint8)
    pred = truth.copy()
    pred[:, 2:] = 2
    assert figures(pred, truth) | {"ari": 0} == {
        "voi_split": 1.0, "voi_merge": 0.0, "ari": 0, "adapted_rand_error": pytest.approx(1 - 2 * 56 / (56 + 120))
    }  # fmt: skip
    assert figures(truth, pred)["voi_merge"] == 1.0
