"""Projections merge in any order to what the whole volume gives; the picture is true to scale and never fails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cristae.blocks.measure import Measure, Partial, ask
from cristae.blocks.stage import At
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box
from cristae.pipeline import picture, projection
from cristae.pipeline.picture import INK, MARGIN, compose, overview, round_length, write_png
from cristae.pipeline.projection import merge_projections, pixel_step, project_block, projections

FRAMES = ("xy", "xz", "labels_xy", "labels_xz")


def same(one: Partial, other: Partial) -> bool:
    return one.keys() == other.keys() and all(
        one[k].dtype == other[k].dtype and np.array_equal(one[k], other[k]) for k in one
    )


def pair(shape: Sequence[int], seed: int, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 6, shape).astype(dtype), rng.integers(0, 5, shape).astype(np.uint32)


def partials(measure: Measure, image: np.ndarray, labels: np.ndarray, block: Sequence[int]) -> list[Partial]:
    grid = BlockGrid(image.shape, tuple(block))
    return [
        measure.partial(labels[core.slices], image[core.slices], at=At(core, (core, core), grid, i), answers={})
        for i, core in enumerate(grid)
    ]


def finished(merged: Partial) -> Partial:
    return projection.finish_projections(merged, voxel_um=(1, 1, 1))


def test_what_lies_between_blocks_takes_no_room() -> None:
    image, labels = pair((2, 64, 64), 5)
    corners = [Box((0, 0, 0), (2, 4, 4)), Box((0, 60, 60), (2, 64, 64))]
    merged = merge_projections([project_block(image[b.slices], labels[b.slices], b, (1, 1, 1)) for b in corners])
    assert merged["values_xy"].size == 2 * 16 and finished(merged)["xy"].shape == (64, 64)


def slow_frames(image: np.ndarray, labels: np.ndarray, step: Sequence[int]) -> Partial:
    """Each pixel asked for by itself: the largest value of its cell, and of those voxels the smallest label."""
    frames: Partial = {}
    for name, gone, (a, b) in (("xy", 0, (1, 2)), ("xz", 1, (0, 2))):
        shape = tuple(-(-image.shape[k] // step[k]) for k in (a, b))
        frames[name], frames[f"labels_{name}"] = np.zeros(shape, image.dtype), np.zeros(shape, np.uint64)
        for i, j in np.ndindex(shape):
            cell: list[slice] = [slice(None)] * 3
            cell[a] = slice(i * step[a], (i + 1) * step[a])
            cell[b] = slice(j * step[b], (j + 1) * step[b])
            assert cell[gone] == slice(None)
            values, ids = image[tuple(cell)], labels[tuple(cell)]
            frames[name][i, j] = values.max()
            frames[f"labels_{name}"][i, j] = ids[values == values.max()].min()
    return frames


extents, blocks, seeds = (
    st.tuples(*[st.integers(1, 9)] * 3),
    st.tuples(*[st.integers(1, 6)] * 3),
    st.integers(0, 99),
)


@settings(max_examples=60, deadline=None)
@given(extents, blocks, seeds, st.sampled_from([(1, 1, 1), (2, 3, 3), (1, 4, 4)]), st.randoms())
def test_blocks_merge_in_any_order_and_grouping(shape, block, seed, step, random):  # type: ignore[no-untyped-def]
    image, labels = pair(shape, seed)
    parts = [project_block(image[b.slices], labels[b.slices], b, step) for b in BlockGrid(shape, block)]
    whole = project_block(image, labels, Box.whole(shape), step)
    slow = slow_frames(image, labels, step)
    drawn = finished(whole)
    assert all(np.array_equal(drawn[name], slow[name]) for name in FRAMES)
    random.shuffle(parts)
    merged = merge_projections(parts)
    assert same(finished(merged), drawn)
    cut = random.randint(0, len(parts))
    assert same(merge_projections([merge_projections(parts[:cut]), merge_projections(parts[cut:])]), merged)


@settings(max_examples=40, deadline=None)
@given(seeds, st.lists(st.tuples(*[st.integers(0, 12)] * 3), min_size=3, max_size=3), st.integers(1, 3))
def test_the_merge_is_a_commutative_monoid(seed, corners, s):  # type: ignore[no-untyped-def]
    def one(corner: tuple[int, ...], k: int) -> Partial:
        image, labels = pair((2, 3, 4), seed + k, "float32")
        return project_block(
            image, labels, Box(corner, tuple(c + n for c, n in zip(corner, (2, 3, 4), strict=True))), (1, s, s)
        )

    a, b, c = (one(corner, k) for k, corner in enumerate(corners))
    merge = merge_projections
    assert same(merge([a, b]), merge([b, a]))
    assert same(merge([merge([a, b]), c]), merge([a, merge([b, c])]))
    assert same(merge([merge([]), a]), a) and same(merge([a]), a) and same(merge([merge([]), merge([])]), merge([]))


@pytest.mark.parametrize("block", [(4, 5, 6), (2, 7, 30), (1, 1, 1)])
def test_the_measure_gives_the_same_answer_on_any_grid(block: tuple[int, ...]) -> None:
    image, labels = pair((5, 11, 13), 3)
    measure = projections(voxel_um=(0.3, 0.1, 0.1))
    whole = ask(measure, labels, image)
    assert measure.finish is not None
    blockwise = measure.finish(measure.merge(partials(measure, image, labels, block)))
    assert same(dict(whole.arrays), blockwise)
    np.testing.assert_allclose(whole.arrays["pixel_um"], (0.3, 0.1, 0.1))


def test_large_frames_are_reduced_to_a_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixel_step((10, 4097, 100)) == (1, 3, 3) and pixel_step((5000, 2048, 7)) == (3, 1, 1)
    assert pixel_step((2049, 64)) == (1, 2, 2)
    monkeypatch.setattr(projection, "FRAME_VOXELS", 16)
    image, labels = pair((3, 50, 41), 1)
    measure = projections(voxel_um=(0.5, 0.1, 0.1))
    answer = ask(measure, labels, image).arrays
    assert answer["xy"].shape == (13, 11) and answer["xz"].shape == (3, 11)
    np.testing.assert_allclose(answer["pixel_um"], (0.5, 0.4, 0.4))
    merged = finished(measure.merge(partials(measure, image, labels, (2, 7, 9))))
    assert all(np.array_equal(merged[name], answer[name]) for name in FRAMES)


def test_nan_loses_against_every_number() -> None:
    image = np.array([[[np.nan, np.nan]], [[-3.0, np.nan]]], np.float32)
    labels = np.array([[[1, 7]], [[2, 5]]])
    frames = finished(project_block(image, labels, Box.whole(image.shape), (1, 1, 1)))
    assert frames["xy"].tolist() == [[-3.0, -np.inf]] and frames["labels_xy"].tolist() == [[2, 5]]
    assert overview(image, labels, voxel_um=(1, 1, 1)).dtype == np.uint8


def test_unequal_shapes_are_refused() -> None:
    with pytest.raises(InvalidInput, match="one shape"):
        overview(np.zeros((3, 4)), np.zeros((3, 5), int), voxel_um=(1, 1))


@given(st.floats(1e-4, 1e6))
def test_a_round_length_is_1_2_or_5_and_never_too_long(longest: float) -> None:
    length = round_length(longest)
    assert f"{length:.0e}"[0] in "125" and float(f"{length:.0e}") == pytest.approx(length, rel=1e-12)
    assert 0.39 * longest < length <= longest * (1 + 1e-12)


def panel_and_bar(rgb: np.ndarray) -> tuple[tuple[int, int], int]:
    """Width and height of the first panel of a constant image (its grey), and the length of the scale bar."""
    grey = int(rgb[MARGIN + 40, MARGIN + 3, 0])
    field = (rgb == grey).all(axis=2)
    ink = (rgb == INK).all(axis=2)
    return (int(field[MARGIN + 40].sum()), int(field[:, MARGIN + 3].sum())), int(ink.sum(axis=1).max())


@pytest.mark.parametrize(
    ("shape", "voxel_um"),
    [((300, 500), (0.1, 0.1)), ((64, 64), (0.35, 0.35)), ((200, 90), (0.5, 1.0)), ((3000, 4096), (0.02, 0.02))],
)
def test_scale_bar_and_aspect_ratio_are_true(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], voxel_um: tuple[float, float]
) -> None:
    written: list[float] = []
    monkeypatch.setattr(picture, "round_length", lambda longest: written.append(round_length(longest)) or written[0])
    rgb = overview(np.full(shape, 7, np.uint16), np.zeros(shape, int), voxel_um=voxel_um)
    (width, height), bar = panel_and_bar(rgb)
    field_um = shape[0] * voxel_um[0], shape[1] * voxel_um[1]
    assert height / width == pytest.approx(field_um[0] / field_um[1], rel=0.01)
    assert bar / width == pytest.approx(written[0] / field_um[1], rel=0.02)
    assert 0.07 * max(field_um) < written[0] <= 0.2 * max(field_um)
    assert 600 <= max(rgb.shape[:2]) <= 1600


def test_the_xz_panel_has_the_physical_height() -> None:
    image = np.full((20, 100, 100), 7, np.uint16)
    rgb = overview(image, np.zeros(image.shape, int), voxel_um=(0.25, 0.1, 0.1))
    (width, heights), _ = panel_and_bar(rgb)  # both panels stand in the column that is counted
    assert heights / width == pytest.approx((10 + 5) / 10, rel=0.01)


def test_outlines_have_the_colour_of_their_label_and_leave_the_inside_grey_or_tinted() -> None:
    image, labels = np.zeros((60, 60), np.uint8), np.zeros((60, 60), int)
    labels[10:30, 10:30], labels[10:30, 30:50] = 1, 2
    rgb = overview(image, labels, voxel_um=(0.1, 0.1))
    scale = 720 / 60
    row = rgb[MARGIN + int(20 * scale)]
    at = {x: row[MARGIN + int(x * scale)].astype(int) for x in (5, 10, 20, 29.99, 30, 40)}
    assert np.ptp(at[5]) == 0 and at[20].sum() < at[10].sum()
    np.testing.assert_array_equal(at[10], at[29.99])
    assert np.abs(at[29.99] - at[30]).max() > 60
    again = overview(image, np.where(labels == 2, 2, 0), voxel_um=(0.1, 0.1))
    np.testing.assert_array_equal(again[MARGIN + int(20 * scale), MARGIN + int(30 * scale)], at[30])


def test_values_colour_the_labels_along_a_gradient() -> None:
    labels = np.zeros((60, 60), int)
    for k in range(5):
        labels[10:50, 10 * k : 10 * k + 8] = k + 1
    values = {1: 0.0, 2: 1.0, 3: 1.0, 4: float("nan")}
    rgb = overview(np.zeros((60, 60)), labels, voxel_um=(1, 1), values=values, values_title="volume (µm³)")
    rim = rgb[MARGIN + 120 + 1, MARGIN + 40 : MARGIN + 600 : 120]
    assert (rim[1] == rim[2]).all() and (rim[0] != rim[1]).any()
    assert (rim[3] == rim[4]).all() and np.ptp(rim[3].astype(int)) < 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 1), (64, 64), (1, 3000), (3000, 2), (5, 4, 3), (100, 3, 3)])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32"])
def test_every_image_gives_a_picture(shape: tuple[int, ...], dtype: str) -> None:
    image, labels = pair(shape, 5, dtype)
    for ids in (labels, np.zeros(shape, np.uint64)):
        for field in (image, np.zeros(shape, dtype)):
            rgb = overview(field, ids, voxel_um=(0.3, 0.1, 0.1)[-len(shape) :], title="a", lines=["b " * 100])
            assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3
            assert 600 <= max(rgb.shape[:2]) <= 1700


def test_frames_of_a_part_of_the_volume_can_be_drawn() -> None:
    image, labels = pair((4, 8, 8), 2)
    corners = [Box((0, 0, 0), (2, 3, 3)), Box((2, 5, 5), (4, 8, 8))]
    parts = [project_block(image[b.slices], labels[b.slices], b, (1, 1, 1)) for b in corners]
    measure = projections(voxel_um=(1, 1, 1))
    assert measure.finish is not None
    assert compose(measure.finish(merge_projections(parts))).size


def test_a_png_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = overview(*pair((6, 20, 30), 4), voxel_um=(0.3, 0.1, 0.1), title="µm")
    write_png(tmp_path / "view.png", rgb)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "view.png")), rgb)

    def full_disk(image: Image.Image, path: Path, **_: object) -> None:
        Path(path).write_bytes(b"\x89PNG")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_png(tmp_path / "view.png", rgb)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "view.png")), rgb)
    assert [p.name for p in tmp_path.iterdir()] == ["view.png"]
