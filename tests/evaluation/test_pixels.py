"""Scores of the foreground: plain numpy on masks, and the laws that bind IoU and F1."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation.drawn import cells, table_of, two_segmentations
from hypothesis import given

from cristae.evaluation.figures import added
from cristae.evaluation.pixels import FIGURES, pixel_counts, pixel_figures

pytestmark = pytest.mark.kernel


def figures(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    return pixel_figures(pixel_counts(table_of(pred, truth)))


def of_masks(pred: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """By numpy on whole masks."""
    p, t = pred > 0, truth > 0
    iou_fg = (p & t).sum() / (p | t).sum()
    iou_bg = (~p & ~t).sum() / (~p | ~t).sum()
    return {
        "iou_fg": iou_fg,
        "iou_bg": iou_bg,
        "mIOU_fgbg": np.mean([iou_fg, iou_bg]),
        "dice": 2 * (p & t).sum() / (p.sum() + t.sum()),
        "pixel_precision": t[p].mean(),
        "pixel_recall": p[t].mean(),
        "pixel_accuracy": (p == t).mean(),
    }


@pytest.mark.parametrize("seed", range(4))
def test_figures_are_those_of_the_masks(seed: int) -> None:
    pred, truth = cells(seed)
    assert figures(pred, truth) == pytest.approx(of_masks(pred, truth), rel=1e-12)
    assert list(figures(pred, truth)) == list(FIGURES)


def test_pooled_figures_are_those_of_all_voxels_in_one_image() -> None:
    pairs = [cells(seed) for seed in range(3)]
    pooled = pixel_figures(added([pixel_counts(table_of(*pair)) for pair in pairs]))
    whole = of_masks(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    assert pooled == pytest.approx(whole, rel=1e-12)


@given(two_segmentations())
def test_f1_is_bound_to_iou(both: tuple[np.ndarray, np.ndarray]) -> None:
    found = figures(*both)
    iou, f1 = found["iou_fg"], found["dice"]
    assert math.isnan(iou) == math.isnan(f1) == (not (both[0].any() or both[1].any()))
    if not math.isnan(iou):
        assert f1 == pytest.approx(2 * iou / (1 + iou), abs=1e-12)
        assert f1 >= iou


def test_an_iou_of_one_half_is_a_dice_of_two_thirds() -> None:
    pred, truth = np.array([[1, 1, 1, 0]]), np.array([[0, 1, 1, 1]])
    assert figures(pred, truth)["iou_fg"] == 0.5
    assert figures(pred, truth)["dice"] == pytest.approx(2 / 3, abs=1e-12)


def test_what_both_lack_is_no_score() -> None:
    nothing = np.zeros((4, 5), np.uint8)
    found = figures(nothing, nothing)
    assert {name for name, value in found.items() if math.isnan(value)} == {
        "iou_fg", "mIOU_fgbg", "dice", "pixel_precision", "pixel_recall",
    }  # fmt: skip
    assert found["iou_bg"] == found["pixel_accuracy"] == 1
    missed = figures(nothing, np.ones((4, 5), np.uint8))
    assert missed["iou_fg"] == missed["dice"] == missed["pixel_recall"] == 0
    assert math.isnan(missed["pixel_precision"])
