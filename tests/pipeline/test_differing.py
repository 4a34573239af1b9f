"""Pictures of an evaluation: every image has its own, its worst plane is the worst, and a pixel's colour says what is wrong there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluation.drawn import cells
from PIL import Image
from pipeline.test_evaluating import PLAIN, folders, scored, store

from cristae.blocks.measure import ask
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.evaluation.planes import planes
from cristae.evaluation.rays import cell_of
from cristae.pipeline import differing
from cristae.pipeline.differing import KEY, Seen, differences, overlay, picture_name
from cristae.pipeline.evaluated import BOTH, PREDICTED, TRUE
from cristae.pipeline.evaluating import Wanted, evaluate_job
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.picture import MARGIN, STRIP


def at(pixel: np.ndarray, y: int, x: int, scale: float, panel: int = 0, columns: int = 0) -> tuple[int, ...]:
    """The colour in the middle of a voxel of a panel."""
    left = MARGIN + panel * (round(columns * scale) + differing.GAP)
    return tuple(int(v) for v in pixel[MARGIN + STRIP + int((y + 0.5) * scale), left + int((x + 0.5) * scale)])


def test_errors_of_a_plane_are_counted_by_plane() -> None:
    pred, truth = cells(3)
    found = ask(planes(ndim=3), pred, truth).arrays
    expected = ((pred > 0) != (truth > 0)).sum(axis=(1, 2))
    assert found["z"].tolist() == list(range(len(pred))) and np.array_equal(found["errors"], expected)
    assert ask(planes(ndim=2), pred[4], truth[4]).arrays["errors"].tolist() == [expected[4]]


def test_every_image_and_time_point_has_a_picture(tmp_path: Path) -> None:
    pred, truth = folders(tmp_path, ("a", "b"), 2)
    scored(pred, truth, tmp_path / "s.json", Wanted(pictures=str(tmp_path / "seen")))
    names = {f"{image}-t000{t}.png" for image in "ab" for t in range(2)}
    assert {p.name for p in (tmp_path / "seen").iterdir()} == names
    assert len({(tmp_path / "seen" / name).read_bytes() for name in names}) == 4
    assert picture_name("a", 3, False) == "a.png"


@pytest.mark.parametrize("block", [(4, 17, 20), (10, 40, 44)])
def test_the_plane_that_is_drawn_has_the_most_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: tuple[int, ...]
) -> None:
    _, truth = cells(1)
    pred = truth.copy()
    pred[6] = 0
    pred[6, 5:30, 5:30] = 1
    shown: list[Seen] = []
    monkeypatch.setattr(differing, "differences", lambda seen, *words: shown.append(seen) or differences(seen, *words))
    words = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "t.ome.zarr", truth)
    wanted = Wanted(pictures=str(tmp_path / "seen"))
    scored(*words, tmp_path / "s.json", wanted, settings=Settings("none", block=block))
    (seen,) = shown
    assert seen.z == 6 and np.array_equal(seen.pred, pred[6]) and np.array_equal(seen.truth, truth[6])
    here, there = pred[6] > 0, truth[6] > 0
    assert np.array_equal(seen.plane, [here & there, here & ~there, ~here & there])
    along = [(k).sum(axis=0) for k in ((pred > 0) & (truth > 0), (pred > 0) & (truth == 0), (pred == 0) & (truth > 0))]
    assert np.array_equal(seen.along, along)
    picture = np.asarray(Image.open(tmp_path / "seen" / "p.png"))
    scale = min(1500 / 3 / 44, differing.MAGNIFIED)
    for those, colour in ((here & there, BOTH), (here & ~there, PREDICTED), (~here & there, TRUE)):
        for y, x in np.argwhere(those)[::40]:
            assert at(picture, y, x, scale, 1, 44) == colour


def test_a_plane_has_its_image_under_its_objects(tmp_path: Path) -> None:
    pred, truth = (a[4] for a in cells(5))
    grey = np.linspace(0, 60, pred.size).reshape(pred.shape).astype(np.float32)
    words = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "t.ome.zarr", truth)
    image = store(tmp_path / "i.ome.zarr", grey)
    wanted = Wanted(pictures=str(tmp_path / "seen"), image=image)
    scored(*words, tmp_path / "s.json", wanted, settings=Settings("none", block=(16, 20)))
    picture = np.asarray(Image.open(tmp_path / "seen" / "p.png"))
    nothing = np.argwhere((pred == 0) & (truth == 0))
    colours = [at(picture, y, x, differing.MAGNIFIED) for y, x in nothing]
    assert all(len(set(colour)) == 1 for colour in colours), "grey where there is no object"
    light = [colour[0] for colour in colours]
    assert light == sorted(light) and light[-1] > 200 > 60 > light[0]
    inside = [at(picture, y, x, differing.MAGNIFIED) for y, x in np.argwhere((pred > 0) & (truth > 0))]
    assert any(len(set(colour)) > 1 for colour in inside), "objects have a hue"


def test_the_truth_is_a_white_line_and_the_prediction_has_a_hue_an_object() -> None:
    truth = np.zeros((30, 40), np.uint32)
    truth[5:25, 5:35] = 7
    pred = np.zeros_like(truth)
    pred[8:22, 8:20], pred[8:22, 20:32] = 1, 2
    seen = Seen(pred, truth, None, np.zeros((3, 30, 40), int), None, (0.1, 0.1), None)
    rgb = np.asarray(overlay(seen, (40, 30)))
    white = (rgb == 255).all(axis=2)
    assert white[5, 5:35].all() and white[5:25, 34].all() and not white[10:20, 10:30].any() and not white[:4].any()
    assert tuple(rgb[15, 12]) != tuple(rgb[15, 28]) and (rgb[15, 12] != rgb[15, 12, 0]).any()
    assert (rgb[0] == 0).all()


def test_a_plane_larger_than_the_screen_is_read_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    pred, truth = (rng.integers(0, 3, (2, 70, 50)) for _ in range(2))

    class Kept:
        spatial_shape = (2, 70, 50)

        def __init__(self, array: np.ndarray) -> None:
            self.array, self.largest = array, 0

        def read(self, box: object, *, t: int, c: int) -> np.ndarray:
            self.largest = max(self.largest, self.array[box.slices].size)  # type: ignore[attr-defined]
            return self.array[box.slices]  # type: ignore[attr-defined]

    monkeypatch.setattr(differing, "STRIP_VOXELS", 800)
    volumes = {"input": Kept(pred), "truth": Kept(truth)}
    labels, _, image, counts = differing._plane(volumes, (0, 0, 0), 1, 0, 3)
    assert volumes["input"].largest < 800 and image is None
    assert np.array_equal(labels, pred[1, ::3, ::3])
    both = (pred[1] > 0) & (truth[1] > 0)
    assert counts.shape == (3, 24, 17) and counts[0, 1, 2] == both[3:6, 6:9].sum() and counts[0].sum() == both.sum()
    assert cell_of((2, 3000, 50)) == 3


def test_of_many_images_the_worst_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differing, "MANY", 2)
    monkeypatch.setattr("cristae.pipeline.evaluating.MANY", 2)
    for n, gone in enumerate((0, 8, 4)):
        _, truth = cells(n)
        pred = truth.copy()
        pred[:gone] = 0
        for side, array in (("pred", pred), ("truth", truth)):
            (tmp_path / side).mkdir(exist_ok=True)
            store(tmp_path / side / f"i{n}.ome.zarr", array)
    scored(
        str(tmp_path / "pred"), str(tmp_path / "truth"), tmp_path / "s.json", Wanted(pictures=str(tmp_path / "seen"))
    )
    assert {p.name for p in (tmp_path / "seen").iterdir()} == {"i1.png", "i2.png"}


def test_the_legend_names_all_three_and_they_differ_for_everyone() -> None:
    assert [colour for colour, _ in KEY] == [BOTH, PREDICTED, TRUE]
    # Two kinds of cones see blue and yellow, and light: orange and blue differ in the first, white from both in the second.
    blue_yellow = [(r + g) / 2 - b for r, g, b in (PREDICTED, TRUE)]
    assert blue_yellow[0] > 80 and blue_yellow[1] < -80
    assert min(BOTH) > max(min(PREDICTED), min(TRUE)) + 100


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    pred, truth = cells(0)
    pair = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "t.ome.zarr", truth)
    small = store(tmp_path / "i.ome.zarr", truth[:3].astype(np.float32))

    def refused(said: str, kind: type, wanted: Wanted, inputs: Inputs = PLAIN) -> None:
        with pytest.raises(kind, match=said):
            evaluate_job(*pair, str(tmp_path / "s.json"), inputs, wanted)

    refused("say where those go, with --pictures", InvalidConfiguration, Wanted(image=small))
    refused("is a file; name a folder", InvalidConfiguration, Wanted(pictures="d.png"))
    refused("10 x 40 x 44 voxels but .*i.ome.zarr is 3 x 40 x 44", InvalidInput, Wanted(pictures="d", image=small))
