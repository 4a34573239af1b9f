"""Lessons: the same whoever asks, with the truth that the light comes from, under cameras that differ as told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cristae.draws import stream
from cristae.errors import InvalidConfiguration
from cristae.simulation.cells import Scene, changed
from cristae.simulation.exposure import cell_image, scope_of
from cristae.simulation.lessons import Lessons, Look, Scenes, _seen, camera

CELLS = Scenes("cell-epi", "lysosome", changes=(("organelles.lysosome.per_cell", (100, 300)),))


def taken(lessons: Lessons, k: int) -> list[tuple[Any, ...]]:
    return [(frame.copy(), labels.copy(), box) for frame, labels, box in lessons(k)]


@pytest.mark.parametrize("voxel_um", [(0.1, 0.1), (0.2, 0.1, 0.1)])
def test_a_lesson_is_the_same_whatever_came_before(voxel_um: tuple[float, ...]) -> None:
    crop = (16, 64, 64)[3 - len(voxel_um) :]
    lessons = Lessons((CELLS,), crop, voxel_um, exposures=2, crops=2)
    first = taken(lessons, 3)
    taken(lessons, 1)
    again = taken(Lessons((CELLS,), crop, voxel_um, exposures=2, crops=2), 3)
    assert len(first) == 4
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(a[0], b[0]) and np.array_equal(a[1], b[1]) and a[2] == b[2]
    assert not np.array_equal(first[0][0], taken(lessons, 4)[0][0])
    frame, labels, box = first[0]
    assert frame.shape == labels.shape and box.shape == crop
    assert frame[labels > 0].mean() > frame[labels == 0].mean()


@pytest.mark.parametrize(
    ("name", "exposures", "each"),
    [("physeg-epi1-vesicle", 5, [3, 3, 3, 3, 3]), ("sam-mito", 6, [9, 9]), ("sam-mito", 1, [3]), ("sam-mito", 5, [15])],
)
def test_of_large_tiles_there_are_fewer_and_as_many_crops_in_all(name: str, exposures: int, each: list[int]) -> None:
    lessons = Lessons((Scenes(name),), (64, 64), (0.08, 0.08), exposures=exposures, crops=3)
    frames: list[Any] = []
    taken_of: list[int] = []
    for frame, labels, box in lessons(0):
        if not frames or frame is not frames[-1]:
            frames, taken_of = [*frames, frame], [*taken_of, 0]
        taken_of[-1] += 1
        assert frame.shape == labels.shape and all(b <= n for b, n in zip(box.stop, frame.shape, strict=True))
    assert taken_of == each
    assert len({f.tobytes() for f in frames}) == len(frames)


def test_another_seed_gives_other_lessons() -> None:
    lessons = Lessons((CELLS,), (64, 64), (0.1, 0.1), exposures=1, crops=1)
    other = replace(lessons, seed=2)
    assert not np.array_equal(taken(lessons, 0)[0][0], taken(other, 0)[0][0])


def test_the_truth_of_a_plane_is_what_is_in_focus() -> None:
    labels = np.zeros((32, 8, 8), np.uint32)
    labels[np.arange(32), 0, np.arange(32) % 8] = np.arange(1, 33)
    light = np.arange(32, dtype=np.float32)[:, None, None] * np.ones((1, 8, 8), np.float32)
    for n in range(20):
        shown, truth = _seen("plane", light, labels, 0.2, stream(n))
        z = int(shown[0, 0])
        assert set(np.unique(truth)) - {0} == {z, z + 1, z + 2}  # ids are planes, from 1
    shown, truth = _seen("projection", light, labels, 0.2, stream(1))
    assert truth.max() - 1 == shown.max()


def test_a_camera_keeps_signal_over_background_and_adds_shot_noise() -> None:
    light = np.zeros((200, 200), np.float32)
    light[:, 100:] = 1.0
    look = Look((4.0, 4.0), (50.0, 50.0), haze=(0, 0), uneven=1.0, read_noise=(0, 0), gain=(2.0, 2.0))
    counts = camera(light, look, stream("camera"))
    dark, bright = counts[:, :100], counts[:, 100:]
    assert bright.mean() - dark.mean() == pytest.approx(2 * 150, rel=0.02)  # 50 photons times (4 - 1), gain 2
    assert dark.var() == pytest.approx(4 * 50, rel=0.1)
    assert bright.var() == pytest.approx(4 * 200, rel=0.1)
    hazy = camera(light, replace(look, haze=(2.0, 2.0)), stream("camera"))
    assert hazy.mean() > counts.mean() + 50


@pytest.mark.parametrize(
    ("scenes", "crop", "voxel_um", "said"),
    [
        (replace(CELLS, preset="cell-none"), (64, 64), (0.1, 0.1), "cell-none"),
        (replace(CELLS, organelle="golgi"), (64, 64), (0.1, 0.1), "has no golgi"),
        (replace(CELLS, views=("stack",)), (64, 64), (0.1, 0.1), "cannot be seen as stack"),
        (Scenes("sam-mito"), (16, 64, 64), (0.2, 0.1, 0.1), "cannot be seen as a stack"),
        (replace(CELLS, changes=(("organelles.lysosome.color_of", 1),)), (64, 64), (0.1, 0.1), "could be changed"),
        (CELLS, (64, 300), (0.1, 0.1), "is not part of a view"),
    ],
)
def test_what_cannot_be_shown_is_refused(scenes: Scenes, crop: Any, voxel_um: Any, said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        Lessons((scenes,), crop, voxel_um)


def test_changes_reach_the_scene_and_its_key() -> None:
    changes = (("microscope", "lattice"), ("organelles.mito.radius_um", (0.4, 0.5)), ("optics", (("na", 0.9),)))
    plain, other = Scene("cell-epi", (16, 64, 64)), Scene("cell-epi", (16, 64, 64), changes=changes)
    assert scope_of(other, "mito").na == 0.9 and scope_of(other, "mito").modality == "light-sheet"
    assert {t.shape.radius_um >= 0.4 for t in other.every("mito")} == {True}  # type: ignore[attr-defined]
    assert cell_image(plain, "mito").params != cell_image(other, "mito").params
    assert changed("cell-epi", ()) == plain.facts
    assert changed("cell-epi", changes)["organelles"]["lysosome"] == plain.facts["organelles"]["lysosome"]
