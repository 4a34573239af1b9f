"""Training: what is learned, that a kill changes nothing, and what is said of mistakes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from inference.models import needs_torch

from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused
from cristae.inference.card import contents, read_card, read_tensors
from cristae.pipeline.course import load_course, names, text_of
from cristae.pipeline.training import Where, estimate, train

pytestmark = needs_torch

COURSE = """
model:
  classes: [disc]
  voxel_um: [0.1, 0.1]
  features: [4, 8]
  tile: [64, 64]
data:
  images: discs.npz
  crop: [32, 32]
  crops: 3
recipe: {epochs: 6, batch: 8, rate: 0.02, average: 0.8}
"""


def discs(folder: Path, many: int = 20, side: int = 48) -> Path:
    """Noisy discs on an uneven ground, and their masks."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:side, :side]
    masks = np.zeros((many, side, side), bool)
    for mask in masks:
        for cy, cx, r in rng.uniform((0, 0, 3), (side, side, 7), (4, 3)):
            mask |= (y - cy) ** 2 + (x - cx) ** 2 < r * r
    images = rng.poisson(20 + 40 * masks + x / 4).astype(np.uint16)
    np.savez(folder / "discs.npz", image=images, mask=masks.astype(np.uint8))
    return folder / "discs.npz"


def course(folder: Path, text: str = COURSE, *changes: str) -> Any:
    discs(folder)
    (folder / "course.yaml").write_text(text)
    return load_course(str(folder / "course.yaml"), changes)


def test_a_network_learns_what_it_is_shown(tmp_path: Path) -> None:
    plan = course(tmp_path)
    model, done, scores = train(plan, tmp_path / "out", Where())
    assert done.history[-1]["loss"] < 0.5 * done.history[0]["loss"]
    assert scores["f1"] > 0.85
    card = read_card(model)[0]
    assert card.scores == pytest.approx(scores)
    assert card.training["examples"] == 6 * 12 * 3
    assert card.classes == ("disc",)
    assert (tmp_path / "out" / "log.csv").read_text().count("\n") == 7
    assert not (tmp_path / "out" / "state.bundle").exists()


def test_a_model_works_as_a_step(tmp_path: Path) -> None:
    from cristae.inference import segment

    plan = course(tmp_path)
    model, _, _ = train(plan, tmp_path / "out", Where())
    with np.load(tmp_path / "discs.npz") as held:
        image, mask = held["image"][0], held["mask"][0] > 0
    found = segment(model=str(model), voxel_um=(0.1, 0.1), dtype="uint16")(image) > 0.5
    assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) > 0.8


@pytest.mark.parametrize("changes", [(), ("recipe.schedule=cosine", "recipe.patience=0"), ("recipe.loss=dice_cldice",)])
def test_stopped_after_any_epoch_it_comes_to_the_same_weights(tmp_path: Path, changes: tuple[str, ...]) -> None:
    plan = course(tmp_path, COURSE, *changes)
    whole, _, _ = train(plan, tmp_path / "whole", Where())

    class Stop(Exception):
        pass

    for stop in (1, 3, 5):

        def listen(event: dict[str, Any], stop: int = stop) -> None:
            if event["event"] == "epoch" and event["epoch"] == stop:
                raise Stop

        with pytest.raises(Stop):
            train(plan, tmp_path / "parts", Where(), listen)
    parts, done, _ = train(plan, tmp_path / "parts", Where())
    assert parts.read_bytes() == whole.read_bytes()
    assert [row["epoch"] for row in rows(tmp_path / "parts")] == [str(n) for n in range(1, done.epoch + 1)]


def rows(folder: Path) -> list[dict[str, str]]:
    import csv

    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_killed_it_goes_on(tmp_path: Path) -> None:
    plan = course(tmp_path, COURSE, "recipe.epochs=8")
    whole, _, _ = train(plan, tmp_path / "whole", Where())
    words = ["train", str(tmp_path / "course.yaml"), "--out", str(tmp_path / "killed"), "--set", "recipe.epochs=8"]
    words += ["--threads", "1", "--workers", "0", "--device", "cpu"]
    command = [sys.executable, "-c", "from cristae_cli.main import main; main()", *words]
    for _ in range(2):
        running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = len(rows(tmp_path / "killed")) if (tmp_path / "killed" / "log.csv").exists() else 0
        end = time.monotonic() + 120
        while time.monotonic() < end and running.poll() is None:
            if (tmp_path / "killed" / "log.csv").exists() and len(rows(tmp_path / "killed")) > before + 1:
                break
            time.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        running.wait()
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert said.returncode == 0, said.stderr
    assert Path(said.stdout.strip()).read_bytes() == whole.read_bytes()


def test_workers_change_nothing(tmp_path: Path) -> None:
    plan = course(tmp_path, COURSE, "recipe.epochs=3")
    one, _, _ = train(plan, tmp_path / "one", Where(workers=0))
    two, _, _ = train(plan, tmp_path / "two", Where(workers=2))
    assert one.read_bytes() == two.read_bytes()


def test_what_is_frozen_stays_and_the_rest_learns(tmp_path: Path) -> None:
    plan = course(tmp_path)
    model, _, _ = train(plan, tmp_path / "first", Where())
    fine = load_course(
        str(tmp_path / "course.yaml"),
        (f"model.from={model}", "recipe.frozen=[layers.down_0]", "recipe.epochs=2", "model.name=fine"),
    )
    other, _, _ = train(fine, tmp_path / "second", Where())
    before, after = (read_tensors(p, contents(p))[1] for p in (model, other))
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert {n for n in before if n.startswith("layers.down_0")} <= same
    assert not any(n.startswith("layers.up_0") and n.endswith("weight") for n in same)


def test_classes_that_exclude_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    labels = np.zeros((12, 32, 32), np.uint8)
    labels[:, 4:14, 4:14], labels[:, 18:28, 18:28] = 1, 2
    np.savez(tmp_path / "two.npz", image=rng.poisson(10 + 40 * labels).astype(np.uint16), mask=labels)
    text = """
model: {classes: [a, b], voxel_um: [0.1, 0.1], features: [4, 8], activation: softmax}
data: {images: two.npz, crop: [32, 32], numbers: {a: 1, b: 2}}
recipe: {epochs: 60, batch: 4, rate: 0.02, schedule: cosine, patience: 0}
"""
    (tmp_path / "two.yaml").write_text(text)
    plan = load_course(str(tmp_path / "two.yaml"))
    assert plan.card.classes == ("ground", "a", "b")
    _, done, scores = train(plan, tmp_path / "out", Where())
    assert scores["f1"] > 0.9, done.history[-1]


def test_images_and_labels_in_folders(tmp_path: Path) -> None:
    discs(tmp_path)
    with np.load(tmp_path / "discs.npz") as held:
        for kind in ("image", "mask"):
            (tmp_path / kind).mkdir()
            for n, plane in enumerate(held[kind]):
                tifffile.imwrite(tmp_path / kind / f"{n:02}.tif", plane)
    text = COURSE.replace("images: discs.npz", "images: image/*.tif\n  labels: mask/*.tif\n  axes: yx")
    plan = course(tmp_path, text)
    whole = course(tmp_path)
    assert plan.lessons.chunks == whole.lessons.chunks
    assert {p.labels.rpartition("/")[2] for p in plan.lessons.pictures} == {
        f"{p.number:02}.tif" for p in whole.lessons.pictures
    }
    _, _, scores = train(plan, tmp_path / "out", Where())
    assert scores["f1"] > 0.8


def test_classes_whose_labels_nobody_said_or_drew_are_refused(tmp_path: Path) -> None:
    discs(tmp_path)
    two = COURSE.replace("classes: [disc]", "classes: [disc, ring]")
    with pytest.raises(InvalidConfiguration, match=r"which label is disc; give numbers: \{disc: 1, ring: 2\}, say"):
        course(tmp_path, two)
    plan = course(tmp_path, two.replace("images: discs.npz", "images: discs.npz\n  numbers: {disc: 1, ring: 7}"))
    with pytest.raises(
        InvalidInput, match=r"images to learn from has a label of ring; give more images, say by numbers"
    ):
        estimate(plan, Where())


def test_a_model_to_go_on_from_is_known_by_name_and_looked_at_first(tmp_path: Path) -> None:
    discs(tmp_path)
    with pytest.raises(InvalidConfiguration, match=r"there is no model mito-9d"):
        course(tmp_path, COURSE.replace("model:", "model:\n  from: mito-9d"))
    plan = course(tmp_path, COURSE.replace("model:", "model:\n  from: mito-2d"))
    with pytest.raises(InvalidConfiguration, match="a training cannot begin from this model"):
        estimate(plan, Where())


def test_a_label_that_is_missing_is_named(tmp_path: Path) -> None:
    discs(tmp_path)
    for kind, many in (("image", 4), ("mask", 3)):
        (tmp_path / kind).mkdir()
        for n in range(many):
            tifffile.imwrite(tmp_path / kind / f"{n:02}.tif", np.zeros((40, 40), np.uint8))
    with pytest.raises(InvalidInput, match=r"4 images and 3 labels.*03"):
        course(tmp_path, COURSE.replace("images: discs.npz", "images: image/*.tif\n  labels: mask/*.tif"))


@pytest.mark.parametrize(
    ("masks", "shape", "said"),
    [
        (("00", "01", "02", "04"), (40, 40), "image 03 comes beside labels 04, though others share their names"),
        (
            ("00", "01", "02", "03"),
            (40, 39),
            r"00.tif has 40 x 40 voxels and its labels .*00.tif 40 x 39 voxels; give labels",
        ),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_learned(
    tmp_path: Path, masks: tuple[str, ...], shape: tuple[int, int], said: str
) -> None:
    for kind, words, size in (("image", ("00", "01", "02", "03"), (40, 40)), ("mask", masks, shape)):
        (tmp_path / kind).mkdir()
        for name in words:
            tifffile.imwrite(tmp_path / kind / f"{name}.tif", np.zeros(size, np.uint8))
    with pytest.raises(InvalidInput, match=said):
        course(tmp_path, COURSE.replace("images: discs.npz", "images: image/*.tif\n  labels: mask/*.tif\n  axes: yx"))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("classes: [disc]", "clases: [disc]", "model has no key clases; did you mean classes"),
        ("rate: 0.02", "rate: fast", "rate should be a number above 0, not 'fast'"),
        ("rate: 0.02", "loss: dize", "loss is 'dize', but must be one of dice_focal"),
        ("crop: [32, 32]", "crop: 32", "crop should be voxels that are learned from as one"),
        ("  crop: [32, 32]\n", "", "data needs crop, voxels that are learned from as one"),
        ("images: discs.npz", "images: none/*.tif", "there is no none/"),
        ("model:", "modell:", "a course has no key modell; did you mean model"),
        ("recipe: {epochs: 6", "recipe: {epochs: 0", "epochs should be a whole number above 0, not 0"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises((InvalidConfiguration, InvalidInput)) as caught:
        course(tmp_path, COURSE.replace(old, new))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_images_of_other_voxels_are_refused(tmp_path: Path) -> None:
    discs(tmp_path)
    for kind in ("image", "mask"):
        (tmp_path / kind).mkdir()
        for n in range(6):
            tifffile.imwrite(
                tmp_path / kind / f"{n:02}.ome.tif",
                np.zeros((40, 40), np.uint8),
                metadata={"axes": "YX", "PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2},
            )
    with pytest.raises(InvalidInput, match=r"00.ome.tif has voxels of 0.2 x 0.2 um and the course says 0.1 x 0.1"):
        course(tmp_path, COURSE.replace("images: discs.npz", "images: image/*.tif\n  labels: mask/*.tif"))


def test_a_course_that_is_not_there_is_said() -> None:
    with pytest.raises(
        InvalidConfiguration, match=r"there is no course none.yaml; give a YAML file, or --preset with one of mito-2d"
    ):
        load_course("none.yaml")
    with pytest.raises(InvalidConfiguration, match=r"or cristae train --preset mito-3d"):
        load_course("mito-3d")


def test_a_pickle_in_an_npz_is_not_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "trap.npz", image=np.array([Trap()], object), mask=np.array([Trap()], object))
    (tmp_path / "sprung").rmdir() if (tmp_path / "sprung").exists() else None
    with pytest.raises(InvalidInput, match=r"trap.npz is no .npz of images and masks"):
        course(tmp_path, COURSE.replace("discs.npz", "trap.npz"))
    assert not (tmp_path / "sprung").exists()


def test_another_course_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    plan = course(tmp_path)

    class Stop(Exception):
        pass

    def listen(event: dict[str, Any]) -> None:
        raise Stop

    with pytest.raises(Stop):
        train(plan, tmp_path / "out", Where(), listen)
    other = load_course(str(tmp_path / "course.yaml"), ("recipe.rate=0.01",))
    with pytest.raises(InvalidConfiguration, match="other settings or examples"):
        train(other, tmp_path / "out", Where())
    model, _, _ = train(other, tmp_path / "out", Where(), fresh=True)
    with pytest.raises(PlanRefused, match="is there already"):
        train(other, tmp_path / "out", Where())
    made = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.is_file()}
    again, _, _ = train(load_course(str(tmp_path / "course.yaml")), tmp_path / "out", Where(), fresh=True)
    assert again == model and model.read_bytes() != made[model.name]
    aside = tmp_path / "out" / "replaced-2"  # the first is what the stopped one had left
    assert {p.name: p.read_bytes() for p in aside.iterdir()} == {k: v for k, v in made.items() if k != "course.yaml"}


def test_a_course_is_printed_as_it_is_or_not_at_all() -> None:
    for words in (("--set", "recipe.epochs=2"), ("--from", "mito-2d"), ("--like", "cell.tif")):
        said = subprocess.run(
            [sys.executable, "-m", "cristae_cli.main", "train", "--preset", "mito-2d", "--print", *words],
            capture_output=True,
            text=True,
        )
        assert said.returncode == 2 and "--print shows a course as it is written" in said.stderr


def test_a_model_of_another_shape_cannot_be_gone_on_from(tmp_path: Path) -> None:
    model, _, _ = train(course(tmp_path, COURSE, "recipe.epochs=1"), tmp_path / "out", Where())
    with pytest.raises(InvalidConfiguration, match="cannot begin from this model"):
        train(course(tmp_path, COURSE, "model.features=[4, 16]", f"model.from={model}"), tmp_path / "other", Where())


@pytest.mark.parametrize("name", names())
def test_every_course_that_is_shipped_is_whole(name: str, tmp_path: Path) -> None:
    assert text_of(name).startswith("#")
    if name == "physeg":
        discs(tmp_path)
        plan = load_course(name, (f"data.images={tmp_path / 'discs.npz'}",), preset=True)
    else:
        plan = load_course(name, (), preset=True)
    assert plan.name == name
    assert plan.card.classes


def test_lessons_are_the_same_whoever_asks_and_have_a_truth() -> None:
    plan = load_course("vesicle-2d", ("data.simulate.exposures=2", "data.simulate.crops=3"), preset=True)
    first, again = plan.exam.chunk(0, 1), plan.exam.chunk(5, 1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    images, masks = plan.lessons.chunk(0, 2)
    assert images.shape == (6, 1, 128, 128) and masks.shape == (6, 1, 128, 128)
    assert not np.array_equal(images, plan.lessons.chunk(1, 2)[0])
    inside, outside = images[:, :1][masks == 1], images[:, :1][masks == 0]
    assert inside.mean() > outside.mean()


class Noted:
    """A pool that notes what it is asked for and makes nothing until it is wanted."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def submit(self, made: Any, source: Any, epoch: int, k: int) -> Any:
        from concurrent.futures import Future

        self.asked.append((epoch, k))
        future: Any = Future()
        future.set_result((epoch, k))
        return future


def test_a_window_is_made_ahead_and_nothing_past_the_last_epoch(tmp_path: Path) -> None:
    from cristae.inference.training import _Feed

    source: Any = course(tmp_path).lessons
    pool: Any = Noted()
    feed = _Feed(source, pool, 4, epochs=2)
    many = source.chunks
    every = [divmod(n, many) for n in range(2 * many)]
    for n, (epoch, k) in enumerate(every):
        assert feed.take(epoch, k) == (epoch, k)
        assert pool.asked == every[: min(n + 5, 2 * many)]


def test_after_a_kill_chunks_are_asked_for_from_there(tmp_path: Path) -> None:
    from cristae.inference.training import _Feed

    source: Any = course(tmp_path).lessons
    pool: Any = Noted()
    assert _Feed(source, pool, 2, epochs=3).take(2, 0) == (2, 0)
    assert pool.asked == [(2, 0), (2, 1), (2, 2)]


def test_who_makes_examples_computes_on_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    from cristae.inference.training import THREADS, _making

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with _making(1) as pool:
        assert pool is not None
        assert [pool.submit(os.getenv, name).result() for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ["OMP_NUM_THREADS"] == "7" and "OPENBLAS_NUM_THREADS" not in os.environ


def test_one_epoch_is_said_as_one(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cristae_cli.main import app

    course(tmp_path)
    words = ["train", str(tmp_path / "course.yaml"), "--out", str(tmp_path / "out"), "--set", "recipe.epochs=1"]
    said = CliRunner().invoke(app, [*words, "--threads", "1", "--workers", "1", "--device", "cpu"])
    assert said.exit_code == 0
    assert "course: 1 epoch of 36 examples on 1 thread and 1 process that makes examples" in said.output


def test_the_time_is_told_before_it_begins(tmp_path: Path) -> None:
    told = estimate(course(tmp_path), Where())
    assert told["examples"] == 36
    assert 0 < told["step"] < told["all"]
