"""Scores of objects: masks compared one by one, the assignment by all matrices at once, and what no numbering may change."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
from evaluation.drawn import cells, table_of, two_segmentations
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from cristae.errors import InvalidConfiguration
from cristae.evaluation import matching
from cristae.evaluation.figures import added
from cristae.evaluation.matching import Edges, one_to_one
from cristae.evaluation.objects import Rules, figures_of, found_objects, object_figures
from cristae.evaluation.partition import partition_counts, partition_figures

pytestmark = pytest.mark.kernel
RULES = Rules()


def figures(pred: np.ndarray, truth: np.ndarray, rules: Rules = RULES) -> dict[str, float]:
    return object_figures(found_objects(table_of(pred, truth), rules).counts, rules)


def masks(labels: np.ndarray) -> list[np.ndarray]:
    return [labels == name for name in np.unique(labels) if name]


def fits(pred: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shared voxels, Dice and IoU of every prediction with every truth, (predictions, truths)."""
    p, t = masks(pred), masks(truth)
    shared = np.array([[(a & b).sum() for b in t] for a in p], float).reshape(len(p), len(t))
    either = np.array([[(a | b).sum() for b in t] for a in p], float).reshape(len(p), len(t))
    total = np.array([[a.sum() + b.sum() for b in t] for a in p], float).reshape(len(p), len(t))
    return shared, 2 * shared / total, shared / either


def assigned(fit: np.ndarray, least: float) -> list[float]:
    """The fits of the pairs of the largest sum among those of the largest number, by a dense assignment."""
    valid = np.where(fit >= least, 1000.0 + fit, 0.0)
    rows, columns = linear_sum_assignment(valid, maximize=True)
    return [fit[r, c] for r, c in zip(rows, columns, strict=True) if valid[r, c]]


def mean(values: list[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def by_hand(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    shared, dice, iou = fits(pred, truth)
    n, m = dice.shape
    top = dice.max(axis=0, initial=0)
    takes = (dice == top) & (dice >= 0.5)
    taken = takes.any(axis=1)
    of_pred = dice.max(axis=1, initial=0)
    matched = np.where(takes, dice, 0).max(axis=1, initial=0)
    tp, fn = taken.sum(), m - takes.any(axis=0).sum()
    one, unique = assigned(dice, 0.5), iou[iou > 0.5]
    found: dict[str, float] = {
        "predictions": n,
        "truths": m,
        "count_error": (n - m) / m if m else math.nan,
        "best_precision": mean(taken),
        "best_recall": tp / (tp + fn) if tp + fn else math.nan,
        "dice_all": mean(of_pred),
        "dice_all_nz": mean(of_pred[of_pred > 0]),
        "dice_matched": mean(matched),
        "dice_matched_nz": mean(matched[matched > 0]),
        "one_precision": len(one) / n if n else math.nan,
        "one_recall": len(one) / m if m else math.nan,
        "one_f1": 2 * len(one) / (n + m) if n + m else math.nan,
        "one_dice": mean(one),
        "pq": unique.sum() / (len(unique) + (n - len(unique)) / 2 + (m - len(unique)) / 2) if n + m else math.nan,
        "sq": mean(unique),
        "rq": len(unique) / (len(unique) + (n - len(unique)) / 2 + (m - len(unique)) / 2) if n + m else math.nan,
        "seg": mean([sum(iou[i, j] for i in range(n) if shared[i, j] > b.sum() / 2) for j, b in enumerate(masks(truth))]),
        "splits": in_pieces(pred, truth),
        "merges": in_pieces(truth, pred),
    }  # fmt: skip
    for tau in (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95):
        hits = len(assigned(iou, tau))
        found[f"ap_{100 * tau:g}"] = hits / (n + m - hits) if n + m else math.nan
    found["ap_mean"] = mean([value for name, value in found.items() if name.startswith("ap_")])
    return found


def in_pieces(pieces: np.ndarray, wholes: np.ndarray) -> int:
    many = 0
    for whole in masks(wholes):
        inside = [p for p in masks(pieces) if (p & whole).sum() > p.sum() / 2]
        if len(inside) > 1:
            together = np.logical_or.reduce(inside)
            many += (together & whole).sum() >= (together | whole).sum() / 2
    return many


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_masks_compared_one_by_one(seed: int) -> None:
    pred, truth = cells(seed)
    found = figures(pred, truth)
    assert found == pytest.approx(by_hand(pred, truth), rel=1e-12)
    assert list(found) == list(figures_of(RULES))
    assert 0 < found["best_recall"] < 1


def test_an_object_cut_in_two_is_a_split_and_two_joined_are_a_merge() -> None:
    truth = np.zeros((4, 20), np.uint8)
    truth[:, 1:9], truth[:, 11:15], truth[:, 15:19] = 1, 2, 3
    pred = np.zeros_like(truth)
    pred[:, 1:5], pred[:, 5:8], pred[:, 11:19] = 1, 2, 3
    assert (figures(pred, truth)["splits"], figures(pred, truth)["merges"]) == (1, 1)
    pred[:, 1:8] *= (np.arange(4) < 2)[:, None].astype(np.uint8)  # less than half of it is left
    assert (figures(pred, truth)["splits"], figures(pred, truth)["merges"]) == (0, 1)


@given(two_segmentations())
def test_so_are_those_of_objects_that_overlap_in_every_way(both: tuple[np.ndarray, np.ndarray]) -> None:
    assert figures(*both) == pytest.approx(by_hand(*both), rel=1e-9, nan_ok=True)


@given(two_segmentations(), st.randoms(use_true_random=False))
def test_how_objects_are_numbered_changes_nothing(both: tuple[np.ndarray, np.ndarray], random: object) -> None:
    renamed = []
    for labels in both:
        names = list(range(1, 20))
        random.shuffle(names)  # type: ignore[attr-defined]
        renamed.append(np.array([0, *names], np.uint32)[labels])
    before, after = ({**figures(*pair), **partition(*pair)} for pair in (both, renamed))
    assert after == pytest.approx(before, rel=1e-12, nan_ok=True)


def partition(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return partition_figures(partition_counts(table_of(pred, truth)))


@given(two_segmentations())
def test_a_segmentation_against_itself_is_the_best_there_is(both: tuple[np.ndarray, np.ndarray]) -> None:
    found = {**figures(both[0], both[0]), **partition(both[0], both[0])}
    from cristae.evaluation.partition import FIGURES

    for name, figure in {**figures_of(RULES), **FIGURES}.items():
        lacking = not both[0].any() or (name == "adapted_rand_error" and found["ari"] == 1)
        if figure.best is not None and not (lacking and math.isnan(found[name])):
            assert found[name] == pytest.approx(figure.best, abs=1e-12), name


@pytest.mark.parametrize("largest", [200, 0], ids=["by matrices", "by graphs"])
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 100)), max_size=20, unique_by=lambda e: e[:2]
    )
)
def test_the_assignment_by_parts_is_that_of_all_by_all(largest: int, listed: list[tuple[int, int, int]]) -> None:
    """Also where objects overlap more freely than labels of one volume can."""
    p, t, fit = (
        np.array(column, kind) for column, kind in zip(zip(*listed) if listed else ((), (), ()), (int, int, float))
    )
    edges = Edges(p, t, fit / 100)
    dense = np.zeros((6, 6))
    dense[edges.pred, edges.truth] = edges.fit
    with mock.patch.object(matching, "DENSE", largest):
        found = one_to_one(edges, 0.2)
    assert len(set(found.pred.tolist())) == len(set(found.truth.tolist())) == len(found.fit)
    expected = assigned(dense, 0.2)
    assert len(found.fit) == len(expected)
    assert found.fit.sum() == pytest.approx(sum(expected), abs=1e-9)


def test_a_long_chain_of_doubt_is_solved_without_a_matrix() -> None:
    many = 20_000
    numbers = np.arange(many)
    p, t = np.r_[numbers, numbers[1:]], np.r_[numbers, numbers[:-1]]
    found = one_to_one(Edges(p, t, np.r_[np.full(many, 0.5), np.full(many - 1, 0.6)]), 0.5)
    assert len(found.fit) == many


def test_pieces_that_have_half_of_an_object_together_still_are_its_pieces() -> None:
    truth = np.ones((2, 8), np.uint8)
    pred = np.zeros_like(truth)
    pred[0, :4], pred[0, 4:] = 1, 2
    assert figures(pred, truth)["splits"] == 1
    pred[0, 7] = 0
    assert figures(pred, truth)["splits"] == 0


def test_small_predictions_are_taken_out_first() -> None:
    truth = np.zeros((8, 12), np.uint8)
    truth[:, :6] = 1
    pred = truth.copy()
    pred[2:5, 8:11] = 2  # 9 pixels
    assert figures(pred, truth)["best_precision"] == 0.5
    assert figures(pred, truth, Rules(min_voxels=9))["best_precision"] == 0.5
    assert figures(pred, truth, Rules(min_voxels=10))["best_precision"] == 1


def test_which_dice_is_printed_is_told_apart() -> None:
    """A prediction that overlaps too little keeps its Dice in `dice_all`, and has 0 in `dice_matched`."""
    truth = np.zeros((1, 30), np.uint8)
    truth[0, :10], truth[0, 10:20] = 1, 2
    pred = np.zeros_like(truth)
    pred[0, :8], pred[0, 18:26] = 1, 2
    found = figures(pred, truth)
    assert found["dice_all"] == found["dice_all_nz"] == pytest.approx((16 / 18 + 4 / 18) / 2)
    assert found["dice_matched"] == pytest.approx(8 / 18)
    assert found["dice_matched_nz"] == pytest.approx(16 / 18)


def test_a_prediction_may_be_taken_twice_but_paired_once() -> None:
    truth = np.zeros((1, 10), np.uint8)
    truth[0, :5], truth[0, 5:] = 1, 2
    found = figures(np.ones_like(truth), truth)
    assert found["best_precision"] == found["best_recall"] == 1
    assert found["one_recall"] == 0.5
    assert found["merges"] == 1 and found["splits"] == 0


def test_pooled_figures_weigh_every_object_alike() -> None:
    pairs = [cells(seed) for seed in range(3)]
    pooled = object_figures(added([found_objects(table_of(*pair), RULES).counts for pair in pairs]), RULES)
    apart = [
        [a + (a > 0).astype(np.uint32) * 1000 * n for n, a in enumerate(side)] for side in zip(*pairs, strict=True)
    ]
    assert pooled == pytest.approx(figures(*(np.concatenate(side) for side in apart)), rel=1e-12)


@pytest.mark.parametrize(("rules", "said"), [({"min_voxels": -1}, "--min-voxels -1"), ({"iou": (0.5, 0.0)}, "0.5,0"), ({"iou": ()}, "iou"),
                                             ({"iou": (0.5, 0.5)}, "different"), ({"iou": (1.5,)}, "up to 1")])  # fmt: skip
def test_rules_that_make_no_sense_are_refused(rules: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        Rules(**rules)  # type: ignore[arg-type]
