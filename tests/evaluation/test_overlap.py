"""The table of overlaps: every pair once, whatever the types; what is not a label is refused in words."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation.drawn import cells, counted, table_of, two_segmentations
from hypothesis import given

from cristae.blocks.measure import ask
from cristae.errors import InvalidInput
from cristae.evaluation.overlap import Table, overlaps

pytestmark = pytest.mark.kernel


def listed(pred: np.ndarray, truth: np.ndarray) -> dict[tuple[int, int], int]:
    found = ask(overlaps(ndim=pred.ndim), pred, truth).arrays
    rows = list(zip(found["pred"].tolist(), found["truth"].tolist(), strict=True))
    assert rows == sorted(set(rows))
    return dict(zip(rows, found["voxels"].tolist(), strict=True))


@given(two_segmentations())
def test_every_pair_is_counted(both: tuple[np.ndarray, np.ndarray]) -> None:
    assert listed(*both) == counted(*both)


@pytest.mark.parametrize("kinds", [("bool", "uint8"), ("int64", "uint16"), ("uint64", "bool"), ("int16", "int32")])
def test_whole_numbers_of_any_size_are_labels(kinds: tuple[str, str]) -> None:
    pred, truth = (a.astype(k) for a, k in zip(cells(1, (4, 9, 11)), kinds, strict=True))
    assert listed(pred, truth) == counted(pred, truth)


def test_labels_of_64_bits_stay_apart() -> None:
    high = np.uint64(2**64 - 1)
    pred = np.array([[high, high - np.uint64(1), 0, 2**53, 2**53 + 1]], np.uint64)
    truth = np.array([[2**32, 2**32 + 1, 2**33, 1, 1]], np.uint64)
    assert listed(pred, truth) == counted(pred, truth)


def test_more_pairs_than_the_table_began_with() -> None:
    pred = np.arange(40 * 50, dtype=np.uint32).reshape(40, 50)
    truth = (pred * 7919) % 1013
    assert listed(pred, truth) == counted(pred, truth)


def test_numbers_and_sizes_are_those_of_the_labels() -> None:
    pred, truth = cells(2)
    table = table_of(pred, truth)
    for labels, names, sizes in ((pred, table.preds, table.pred_voxels), (truth, table.truths, table.truth_voxels)):
        expected, many = np.unique(labels[labels > 0], return_counts=True)
        assert names.tolist() == expected.tolist()
        assert sizes.tolist() == many.tolist()


@pytest.mark.parametrize("least", [0, 1, 12, 60, 10**6])
def test_small_predictions_become_background(least: int) -> None:
    pred, truth = cells(3)
    names, many = np.unique(pred, return_counts=True)
    cleared = np.where(np.isin(pred, names[many < least]), 0, pred)
    found, expected = table_of(pred, truth).without_small(least), table_of(cleared, truth)
    for name in Table.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize(("role", "place"), [("prediction", 0), ("truth", 1)])
def test_what_is_no_label_is_refused(role: str, place: int) -> None:
    arrays = [np.ones((3, 4), np.int32), np.ones((3, 4), np.int32)]
    arrays[place] = arrays[place].copy()
    arrays[place][1, 2] = -5
    with pytest.raises(InvalidInput, match=f"the {role} has a label -5"):
        ask(overlaps(ndim=2), *arrays)
    arrays[place] = arrays[place].astype(np.float32)
    with pytest.raises(InvalidInput, match=f"the {role} holds float32"):
        ask(overlaps(ndim=2), *arrays)
