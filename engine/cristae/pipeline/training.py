"""Training: a course is followed, in a folder that a killed training takes up again, and what comes out is a model file.

NAME.safetensors   the model: weights that scored best, and a card with what it learned from and how it scores
log.csv            a row an epoch
curve.png          loss and scores
course.yaml        what was asked for
state.bundle       all that a resume needs; deleted when the model is there
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from cristae import __version__
from cristae.cluster.model import usable_cores
from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused, UsageError
from cristae.inference.card import contents, read_tensors
from cristae.inference.familiarity import FEWEST, KEY, reference
from cristae.inference.learning import Learner
from cristae.inference.network import build_network, needed, save_model
from cristae.inference.training import Listener, Progress, fit
from cristae.pipeline.course import Course
from cristae.pipeline.sources import Pictures
from cristae.store.bundle import write_bytes

SAMPLES = 3
"""Steps by which the time of a training is told before it begins."""


@dataclass(frozen=True)
class Where:
    """What computes: processes that make examples, threads of the network, and the device."""

    workers: int = 0
    threads: int = 1
    device: str = "cpu"

    @property
    def said(self) -> str:
        learning = self.device if self.device != "cpu" else counted(self.threads, "thread")
        making = "process that makes" if self.workers == 1 else "processes that make"
        return f"{learning} and {self.workers} {making} examples"


def where(course: Course, workers: int | None, threads: int | None, device: str) -> Where:
    """What computes unless it is said: all cores learn, and where scenes are simulated as many make them.

    Raises
    ------
    UsageError : if a number is below what is possible.
    InvalidConfiguration : if a GPU is asked for and there is none.
    """
    cores = usable_cores()
    for name, number, least in (("workers", workers, 0), ("threads", threads, 1)):
        if number is not None and number < least:
            raise UsageError(f"--{name} {number}: give {least} or more")
    many = (max(1, cores - 1) if course.simulated else 0) if workers is None else workers
    return Where(many, cores if threads is None else threads, _device(device))


def _device(word: str) -> str:
    for package in ("torch", "monai"):
        needed(package)
    import torch

    many = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if word == "auto":
        return "cuda" if many else "cpu"
    name, _, index = word.partition(":")
    if word != "cpu" and (name != "cuda" or (index and not index.isdigit())):
        raise UsageError(f"--device {word} is not one of auto, cpu, cuda, cuda:N")
    if name == "cuda" and int(index or 0) >= many:
        raise InvalidConfiguration(f"--device {word} asks for a GPU, but torch can use {many} here; give --device cpu")
    return word


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number} {noun}{'s' * (number != 1)}"


def spoken(seconds: float) -> str:
    """A time as one says it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def refuse_finished(course: Course, out: Path, fresh: bool) -> Path:
    """The model file that a training will write.

    Raises
    ------
    PlanRefused : if it is there already, and `fresh` is not asked for.
    """
    model = out / f"{course.name}.safetensors"
    if model.exists() and not fresh:
        raise PlanRefused(f"{model} is there already; give another --out, or --fresh to train it anew")
    return model


def estimate(course: Course, where: Where) -> dict[str, float]:
    """Seconds that all epochs will take, from a few steps that are thrown away: `step` of a batch, `chunk` of examples, `all` of it.

    Raises
    ------
    InvalidConfiguration : if the model to go on from is of another network.
    InvalidInput : if images do not open, or show nothing of a class.
    """
    recipe = course.recipe
    learner = Learner(course.card, recipe.loss, recipe.rate, 0.0, 0.0, (), recipe.seed, where.device)
    if course.start is not None:
        learner.begin_from(_beginning(course.start))
    refuse_blank(course)
    start = perf_counter()
    images, masks = course.lessons.chunk(0, 0)
    images, masks = course.lessons.chunk(0, min(1, course.lessons.chunks - 1))
    chunk = (perf_counter() - start) / 2
    some = np.resize(np.arange(len(images)), recipe.batch)
    with learner.computing(where.threads):
        learner.step(images[some], masks[some], 1e-6)
        start = perf_counter()
        for _ in range(SAMPLES):
            learner.step(images[some], masks[some], 1e-6)
    step = (perf_counter() - start) / SAMPLES
    examples = len(images) * course.lessons.chunks
    making = chunk * course.lessons.chunks / max(where.workers, 1)
    learning = step * examples / recipe.batch + 0.4 * step * course.exam.chunks * len(images) / recipe.batch
    # Whoever makes examples takes nothing from who learns only where there are cores for both.
    epoch = max(making, learning) if where.workers else making + learning
    return {"step": step, "chunk": chunk, "all": epoch * recipe.epochs, "examples": float(examples)}


def refuse_blank(course: Course) -> None:
    """Raise InvalidInput where images that teach, or that choose the epoch, show nothing of a class."""
    for source, word in ((course.lessons, "learn from"), (course.exam, "be examined by")):
        if isinstance(source, Pictures) and (lacking := source.lacking):
            raise InvalidInput(
                f"none of the {source.chunks} images to {word} has a label of {lacking[0]}; give more images, say by numbers which label it "
                "is, or leave the class out"
            )


def _set_aside(*paths: Path) -> None:
    """What a finished training left goes to the first free folder replaced-N beside it."""
    there = [p for p in paths if p.exists()]
    if there:
        folder = next(f for n in count(1) if not (f := there[0].parent / f"replaced-{n}").exists())
        folder.mkdir()
        for path in there:
            path.rename(folder / path.name)


def _beginning(model: Path) -> dict[str, np.ndarray]:
    return read_tensors(model, contents(model))[1]


def train(
    course: Course, out: Path, where: Where, listen: Listener = lambda event: None, fresh: bool = False
) -> tuple[Path, Progress, dict[str, float]]:
    """Follow a course to its end, or on from where it was killed; the model file, the history, and scores on the test part.

    Raises
    ------
    PlanRefused : if the folder holds a finished model, and `fresh` is not asked for.
    InvalidConfiguration : if it holds the beginning of another course.
    """
    model, state = refuse_finished(course, out, fresh), out / "state.bundle"
    if fresh:
        state.unlink(missing_ok=True)
        _set_aside(model, out / "log.csv", out / "curve.png")
    weights = _beginning(course.start) if course.start is not None else None
    out.mkdir(parents=True, exist_ok=True)
    log = _Log(out / "log.csv", listen)
    best, done = fit(
        course.card,
        course.recipe,
        course.lessons,
        course.exam,
        out,
        listen=log,
        begin_from=weights,
        workers=where.workers,
        threads=where.threads,
        device=where.device,
    )
    if not best:
        raise InvalidConfiguration("no epoch was scored; give epochs above 0")
    scores = tested(course, best, where)
    finished(model, course, best, _training(course, done), scores)
    write_bytes(out / "curve.png", curve(done.history, done.best_epoch))
    state.unlink(missing_ok=True)
    return model, done, scores


def finished(
    path: Path,
    course: Course,
    weights: Mapping[str, np.ndarray],
    training: Mapping[str, Any],
    scores: Mapping[str, float],
) -> str:
    """Write the model: its weights, and a card that says how it came about and what it has seen; returns its sha256."""
    seen = course.test.unvaried(course.card.tile)
    tiles = [tile for k in range(seen.chunks) for tile in seen.chunk(0, k)[0][:, 0]]
    facts = dict(training)
    if len(tiles) >= FEWEST:
        facts[KEY] = reference(tiles, course.card.voxel_um)
    network = build_network(course.card.architecture, course.card.hyper, course.card.ndim)
    network.load_state_dict(_tensors(weights))
    return save_model(path, network, course.card.with_facts(facts, dict(scores)))


def tested(course: Course, weights: Mapping[str, np.ndarray], where: Where) -> dict[str, float]:
    """Scores on examples that neither taught nor chose anything; those of the exam where there are none."""
    recipe = course.recipe
    learner = Learner(course.card, recipe.loss, recipe.rate, 0.0, 0.0, (), recipe.seed, where.device)
    learner.begin_from(weights)
    source = course.test
    with learner.computing(where.threads):
        return learner.score([source.chunk(0, k) for k in range(source.chunks)])


def _tensors(weights: Mapping[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(array)) for name, array in weights.items()}


def _training(course: Course, done: Progress) -> dict[str, Any]:
    """What the card says of how the model came about."""
    kind = "simulated scenes" if course.simulated else counted(course.lessons.chunks, "image")
    return {
        "data": f"{kind}, course {course.name}",
        "course": course.entry.model_dump(mode="json", by_alias=True, exclude_none=True),
        "cristae": __version__,
        "examples": int(sum(row["examples"] for row in done.history)),
        "epochs": done.epoch,
        "best_epoch": done.best_epoch,
    }


class _Log:
    """Writes a row an epoch, and passes every event on."""

    def __init__(self, path: Path, listen: Listener) -> None:
        self.path, self.listen = path, listen

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            row = {k: v for k, v in event.items() if k not in ("event", "of", "best")}
            new = event["epoch"] == 1 or not self.path.exists()
            with open(self.path, "w" if new else "a", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(row))
                if new:
                    writer.writeheader()
                writer.writerow(row)
        self.listen(event)


def curve(rows: Sequence[Mapping[str, float]], best: int) -> bytes:
    """Loss, mean IoU and F1 over the epochs, as a picture."""
    from io import BytesIO

    from PIL import Image, ImageDraw

    wide, high, edge = 640, 320, 40
    picture = Image.new("RGB", (wide, high), "white")
    draw = ImageDraw.Draw(picture)
    top = max((row["loss"] for row in rows), default=1.0) or 1.0
    lines = (("loss", "#D55E00", top), ("miou", "#0072B2", 1.0), ("f1", "#009E73", 1.0))
    for tick in range(5):
        y = high - edge - tick / 4 * (high - 2 * edge)
        draw.line([(edge, y), (wide - edge, y)], fill="#DDDDDD")
        draw.text((8, y - 6), f"{tick / 4:.2f}", fill="black")
    for n, (name, color, most) in enumerate(lines):
        points = [
            (
                edge + i / max(len(rows) - 1, 1) * (wide - 2 * edge),
                high - edge - row[name] / most * (high - 2 * edge),
            )
            for i, row in enumerate(rows)
        ]
        if len(points) > 1:
            draw.line(points, fill=color, width=2)
        label = f"{name}, 1 is {most:.3g}" if name == "loss" else name
        draw.text((edge + 170 * n, 12), f"{label}: {rows[-1][name]:.4f}" if rows else label, fill=color)
    draw.text((edge, high - 24), f"{counted(len(rows), 'epoch')}; best {best}", fill="black")
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
