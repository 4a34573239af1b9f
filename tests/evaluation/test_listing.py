"""The list of objects: every object of either side once, with the numbers of masks compared one by one."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.drawn import cells, table_of, two_segmentations
from hypothesis import given

from cristae.evaluation.listing import COLUMNS, listed
from cristae.evaluation.objects import Rules, found_objects

pytestmark = pytest.mark.kernel


def check(pred: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    rows = listed(table_of(pred, truth), Rules())
    assert list(rows) == list(COLUMNS)
    state = rows["state"]
    counts = found_objects(table_of(pred, truth), Rules()).counts
    assert (state == "found").sum() == counts["one_tp"]
    names = [np.unique(a)[np.unique(a) > 0].tolist() for a in (truth, pred)]
    assert sorted(rows["truth"][state != "extra"].tolist()) == names[0]
    assert sorted(rows["prediction"][state != "missed"].tolist()) == names[1]
    for n in range(len(state)):
        t, p = rows["truth"][n], rows["prediction"][n]
        a, b = (truth == t) & (t > 0), (pred == p) & (p > 0)
        both = (a & b).sum()
        assert (rows["truth_voxels"][n], rows["prediction_voxels"][n], rows["shared_voxels"][n]) == (
            a.sum(),
            b.sum(),
            both,
        )
        assert rows["dice"][n] == pytest.approx(2 * both / (a.sum() + b.sum()))
        assert rows["iou"][n] == pytest.approx(both / (a | b).sum())
        own, others = (a, pred) if state[n] == "missed" else (b, truth)
        if state[n] != "found":  # nothing fits it better
            fits = [2 * (own & (others == k)).sum() / (own.sum() + (others == k).sum()) for k in np.unique(others) if k]
            assert rows["dice"][n] == pytest.approx(max(fits, default=0))
        else:
            assert rows["dice"][n] >= 0.5
    return rows


@given(two_segmentations())
def test_every_object_is_listed_once(both: tuple[np.ndarray, np.ndarray]) -> None:
    check(*both)


def test_all_states_occur_and_come_in_order() -> None:
    rows = check(*cells(1))
    assert list(dict.fromkeys(rows["state"])) == ["found", "missed", "extra"]
    for state in ("found", "missed"):
        assert (np.diff(rows["truth"][rows["state"] == state].astype(int)) > 0).all()


def test_small_predictions_are_not_listed() -> None:
    pred, truth = cells(1)
    rows = listed(table_of(pred, truth), Rules(min_voxels=40))
    assert rows["prediction_voxels"][rows["prediction"] > 0].min() >= 40
