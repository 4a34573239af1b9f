"""Means over images and their intervals: what is drawn is images, what is missing is left out, and the same seed gives the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evaluation.drawn import cells, table_of

from cristae.errors import InvalidInput
from cristae.evaluation.figures import added, averaged
from cristae.evaluation.objects import Rules, found_objects
from cristae.evaluation.overlap import Table
from cristae.evaluation.pixels import FIGURES
from cristae.evaluation.recall import by_column, by_size
from cristae.evaluation.scores import Kind, document, evaluate, score
from cristae.evaluation.topology import topology_counts


def test_a_mean_weighs_every_image_alike_and_leaves_out_what_cannot_be_said() -> None:
    frames = [{"a": 0.2, "b": math.nan}, {"a": 0.4, "b": 0.5}, {"a": 0.9, "b": math.nan}]
    found = averaged(frames, [0, 1, 2])
    assert found["a"].mean == pytest.approx(0.5) and found["a"].n == 3
    assert found["b"].mean == 0.5 and found["b"].n == 1
    assert math.isnan(found["b"].low) and math.isnan(found["b"].high)


def test_the_interval_is_about_what_the_theory_of_a_mean_says() -> None:
    values = np.random.default_rng(5).normal(0.7, 0.1, 200)
    found = averaged([{"a": v} for v in values], list(range(200)))["a"]
    error = values.std() / math.sqrt(200)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)
    again = averaged([{"a": v} for v in values], list(range(200)))["a"]
    assert (again.low, again.high) == (found.low, found.high)


def test_time_points_of_an_image_are_drawn_together() -> None:
    """Twenty equal time points of two images tell no more than one of each."""
    frames = [{"a": 0.0}] * 20 + [{"a": 1.0}] * 20
    together = averaged(frames, [0] * 20 + [1] * 20)["a"]
    assert (together.low, together.high) == (0.0, 1.0)
    apart = averaged(frames, list(range(40)))["a"]
    assert 0.3 < apart.low < 0.5 < apart.high < 0.7
    of_one_image = averaged(frames, [0] * 40)["a"]
    assert (of_one_image.low, of_one_image.high) == (apart.low, apart.high)


def test_one_image_has_no_interval() -> None:
    found = averaged([{"a": 0.5}], [0])["a"]
    assert found.mean == 0.5 and math.isnan(found.low)
    assert averaged([], []) == {}


def test_counts_are_added_by_name() -> None:
    assert added([{"a": 1.0}, {"a": 2.0, "b": 5.0}]) == {"a": 3.0, "b": 5.0}


def test_recall_by_size_counts_every_truth_once() -> None:
    frames = [(found_objects(table_of(*cells(seed)), Rules()), 0.003) for seed in range(3)]
    bins = by_size(frames)
    assert sum(b.truths for b in bins) == sum(len(f.truths) for f, _ in frames)
    assert sum(b.found for b in bins) == sum(f.found.sum() for f, _ in frames)
    for one in bins:
        inside = [(f.voxels * 0.003 >= one.low) & (f.voxels * 0.003 < one.high) for f, _ in frames]
        assert one.truths == sum(i.sum() for i in inside)
        assert one.found == sum((i & f.found).sum() for i, (f, _) in zip(inside, frames, strict=True))


def test_recall_by_a_column() -> None:
    found = np.array([True, False, True, True, False, True])
    words = by_column(np.array(["tube", "ball", "tube", "ball", "", "tube"]), found)
    assert [(b.low, b.truths, b.found) for b in words] == [("ball", 2, 1), ("tube", 3, 3)]
    numbers = by_column(np.array([1, 2, 1, 2, 2, 1]), found)
    assert [(b.low, b.high, b.truths, b.found) for b in numbers] == [(1, 1, 3, 3), (2, 2, 3, 1)]
    many = np.r_[np.arange(100.0), np.nan]
    quarters = by_column(many, many < 25)
    assert [b.truths for b in quarters] == [25, 25, 25, 25]
    assert [b.recall for b in quarters] == [1, 0, 0, 0]
    assert by_column(np.empty(0), np.empty(0, bool)) == []


def test_a_document_is_json_and_names_every_figure() -> None:
    import json

    kind = Kind(3)
    scores = [score(kind, table_of(*cells(n)), image=f"i{n}", number=n, voxel=0.003) for n in range(3)]
    nothing = np.zeros((3, 4, 5), np.uint8)
    scores.append(score(kind, table_of(nothing, nothing), image="empty", number=3, voxel=0.003))
    told = json.loads(json.dumps(document(kind, scores), allow_nan=False))
    assert list(told["figures"]) == list(kind.figures) == list(told["pooled"]) == list(told["images"][0])[2:]
    assert told["images"][3]["iou_fg"] is None
    assert told["mean"]["iou_fg"]["n"] == 3 and told["mean"]["iou_bg"]["n"] == 4
    assert told["interval"] == {"percent": 95, "over": "images", "units": 4, "resamples": 2000, "seed": 1}
    assert told["pooled"]["truths"] == sum(one["truths"] for one in told["images"])
    assert isinstance(told["pooled"]["truths"], int)
    masks = document(Kind(3, by_object=False), scores[:1])
    assert "pq" not in masks["figures"] and "recall_by_size" not in masks


def test_arrays_in_a_notebook_have_the_figures_of_the_command() -> None:
    pred, truth = cells(2)
    kind = Kind(3, with_topology=True)
    found = evaluate(pred, truth, with_topology=True)
    assert list(found) == list(kind.figures)
    lines = topology_counts(pred > 0, truth > 0)
    assert found == kind.of(score(kind, table_of(pred, truth), lines=lines).counts)
    assert list(evaluate(pred > 0, truth)) == list(evaluate(pred, truth, semantic=True)) == list(FIGURES)
    assert evaluate(pred, truth, min_voxels=10**6)["predictions"] == 0
    with pytest.raises(InvalidInput, match="of one shape"):
        evaluate(pred, truth[0])


def test_small_predictions_are_background_to_partitions_and_foreground_to_voxels() -> None:
    truth = np.array([[1, 1, 1, 1, 1, 1]])
    pred = np.array([[1, 1, 1, 1, 2, 0]])
    found = document(
        Kind(2, rules=Rules(min_voxels=2)), [score(Kind(2, rules=Rules(min_voxels=2)), table_of(pred, truth))]
    )
    without = document(Kind(2), [score(Kind(2), table_of(np.where(pred == 2, 0, pred), truth))])
    assert found["pooled"]["voi_split"] == without["pooled"]["voi_split"]
    assert found["pooled"]["predictions"] == 1
    assert found["pooled"]["pixel_recall"] == 5 / 6


def test_a_column_is_joined_by_label_and_frame() -> None:
    kind = Kind(2)
    truth = np.array([[0, 5, 5, 0, 9, 9, 0, 70, 70]])
    pred = np.array([[0, 1, 1, 0, 0, 0, 0, 3, 3]])
    scores = [score(kind, table_of(pred, truth), image="a", t=t) for t in range(2)]
    labels = np.array([5, 9, 1000], np.uint64)  # 70 is not in the table
    column = ("kind", {("a", 0): (labels, np.array(["x", "y", "z"])), ("b", 1): (labels, np.array(["x", "y", "z"]))})
    bins = document(kind, scores, column)["recall_by_column"]["bins"]
    assert [(b["from"], b["truths"], b["found"]) for b in bins] == [("x", 1, 1), ("y", 1, 0)]


def test_the_table_of_no_block_is_empty() -> None:
    from cristae.evaluation.overlap import merge_tables

    table = Table.of(merge_tables([]))
    assert len(table.preds) == len(table.truths) == len(table.voxels) == 0
