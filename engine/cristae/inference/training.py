"""Training: a network learns from chunks of examples; killed at any moment, it goes on to the same weights.

    Source   chunks of examples, each a pure function of its number: made by workers, in any order, ahead of time
    Recipe   loss, rate and when to stop: what makes one training differ from another with the same examples
    fit      epochs until the recipe says enough; after each its whole state is on disk

What is drawn is drawn from streams named by seed and number, never from a generator that somebody else may have used. On one kind
of processor, with as many threads, the same weights come out, whether or not it was interrupted, however many workers there were.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import repeat
from math import cos, pi
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from cristae.draws import stream
from cristae.errors import InvalidConfiguration
from cristae.inference.card import Card
from cristae.inference.learning import Learner
from cristae.inference.losses import LOSSES
from cristae.store.bundle import Bundle, write_bundle

Pairs = tuple[np.ndarray, np.ndarray]
"""(n, channels, *space) float32, normalised; (n, classes, *space) uint8, 1 where it is of the class."""

Listener = Callable[[dict[str, Any]], None]
SCHEDULES = ("plateau", "cosine")
WINDOW = 8
"""Chunks whose examples are shuffled together."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""What a library of linear algebra asks how many threads to take: more of them wait for each other beside those that learn."""


class Source(Protocol):
    """Examples. `chunks` of them make an epoch; `digest` is another where the examples are."""

    @property
    def chunks(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def chunk(self, epoch: int, k: int) -> Pairs: ...


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. The defaults are PhySeg's, but for the rate (Sekh et al., Nat. Mach. Intell. 3, 1071, 2021).

    loss : dice_focal, dice_ce, or dice_cldice for thin things that must not break
    rate : of Adam; `decay` is its weight decay
    schedule : "plateau" lowers the rate by 10 where the score has stood still for half of `patience`; "cosine" lowers it evenly to 0
    patience : epochs without a better score after which it ends; 0 is never
    average : of the weights, how much is kept at each step: what is scored and stored is the mean over many steps; 0 is none
    frozen : beginnings of names of weights that stay as they are
    """

    epochs: int = 50
    batch: int = 16
    loss: str = "dice_focal"
    rate: float = 1e-3
    decay: float = 0.0
    schedule: str = "plateau"
    patience: int = 10
    average: float = 0.0
    frozen: tuple[str, ...] = ()
    seed: int = 1

    def __post_init__(self) -> None:
        for name, word, known in (("loss", self.loss, LOSSES), ("schedule", self.schedule, SCHEDULES)):
            if word not in known:
                raise InvalidConfiguration(f"{name} is {word!r}, but must be one of {', '.join(known)}")
        for name, n, least in (("epochs", self.epochs, 1), ("batch", self.batch, 1), ("patience", self.patience, 0)):
            if n < least:
                raise InvalidConfiguration(f"{name} is {n}, but must be {least} or more")
        if not 0 < self.rate < 10 or not 0 <= self.average < 1 or not 0 <= self.decay < 1:
            raise InvalidConfiguration(
                f"rate {self.rate:g} must be above 0, decay {self.decay:g} and average {self.average:g} from 0 to below 1"
            )


@dataclass
class Progress:
    """Where a training stands; with the learner's tensors it is all that a resume needs."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    waited: int = 0  # epochs since the best
    lowered: int = 0  # times the rate was lowered
    history: list[dict[str, float]] = field(default_factory=list)


def fit(
    card: Card,
    recipe: Recipe,
    lessons: Source,
    exam: Source,
    folder: Path,
    *,
    listen: Listener = lambda event: None,
    begin_from: Mapping[str, np.ndarray] | None = None,
    workers: int = 0,
    threads: int = 1,
    device: str = "cpu",
) -> tuple[dict[str, np.ndarray], Progress]:
    """Train, or go on where a training in this folder ended.

    Parameters
    ----------
    card : which network, and what it sees and gives
    lessons, exam : examples to learn from, and others by which each epoch is scored, always the same
    begin_from : weights of a trained network to go on from
    workers : processes that make examples ahead; 0 makes them here
    threads : of the network on a CPU; another number rounds otherwise
    device : "cpu", "cuda", or one of several such as "cuda:1"; with "cuda" and several cards each takes a part of every batch

    Returns
    -------
    The best weights by name, and the history: loss, mean IoU of class and ground, and F1 of every epoch.

    Raises
    ------
    InvalidConfiguration : if the folder holds a training with other settings or examples.
    """
    key = _key(card, recipe, lessons, exam, begin_from, threads, device)
    state = folder / "state.bundle"
    learner = Learner(card, recipe.loss, recipe.rate, recipe.decay, recipe.average, recipe.frozen, recipe.seed, device)
    if begin_from is not None:
        learner.begin_from(begin_from)
    done = Progress()
    if state.exists():
        done = _restored(state, learner, key)
        listen({"event": "resumed", "epoch": done.epoch})
    with learner.computing(threads), _making(workers) as pool:
        feed = _Feed(lessons, pool, max(2 * workers, min(WINDOW, lessons.chunks)), recipe.epochs)
        every = map if pool is None else pool.map
        scored = list(every(_made, repeat(exam), repeat(0), range(exam.chunks)))
        while done.epoch < recipe.epochs and not (recipe.patience and done.waited >= recipe.patience):
            start, losses, seen = perf_counter(), [], 0
            rate = recipe.rate * (
                0.1**done.lowered if recipe.schedule == "plateau" else _cosine(done.epoch, recipe.epochs)
            )
            for images, masks in _batches(feed, done.epoch, recipe):
                losses.append(learner.step(images, masks, rate))
                seen += len(images)
            scores = learner.score(scored)
            done = _noted(done, recipe, learner, scores)
            done.history.append({"loss": float(np.mean(losses)), **scores, "rate": rate, "examples": seen})
            _store(state, learner, done, key)
            told = {**done.history[-1], "seconds": perf_counter() - start}
            listen({"event": "epoch", "epoch": done.epoch, "of": recipe.epochs, "best": done.best_epoch, **told})
    return learner.best_weights(), done


def _cosine(epoch: int, of: int) -> float:
    """From 1 to almost 0, epoch by epoch."""
    return 0.5 * (1 + cos(pi * epoch / of))


def _noted(done: Progress, recipe: Recipe, learner: Learner, scores: Mapping[str, float]) -> Progress:
    """What an epoch's score means for the next."""
    done.epoch += 1
    if scores["miou"] > done.best:
        done.best, done.best_epoch, done.waited = scores["miou"], done.epoch, 0
        learner.keep_best()
    else:
        done.waited += 1
        half = max(1, recipe.patience // 2)
        if recipe.schedule == "plateau" and recipe.patience and done.waited % half == 0:
            done.lowered += 1
    return done


def _batches(feed: _Feed, epoch: int, recipe: Recipe) -> Iterator[Pairs]:
    """An epoch's examples, shuffled within a window of chunks; what is left of a window begins the next."""
    rest: Pairs | None = None
    chunks = feed.source.chunks
    for first in range(0, chunks, WINDOW):
        several = [feed.take(epoch, k) for k in range(first, min(first + WINDOW, chunks))]
        images, masks = (np.concatenate(some) for some in zip(*([rest] if rest else []), *several, strict=True))
        order = stream(recipe.seed, "order", epoch, first).permutation(len(images))
        last = first + WINDOW >= chunks
        whole = len(order) if last else len(order) // recipe.batch * recipe.batch
        for begin in range(0, whole, recipe.batch):
            some = order[begin : begin + recipe.batch]
            if len(some) > 1 or whole == 1:  # statistics of one example are none
                yield images[some], masks[some]
        rest = (images[order[whole:]], masks[order[whole:]])


class _Feed:
    """Chunks in order, asked for some time before they are wanted, past the end of an epoch too.

    ahead : so many; with those of a window, the next window is made while this one is learned from
    epochs : in all: past the last nothing is asked for
    """

    def __init__(self, source: Source, pool: Executor | None, ahead: int, epochs: int) -> None:
        self.source, self.pool, self.ahead, self.end = source, pool, ahead, epochs * source.chunks
        self.waiting: deque[tuple[tuple[int, int], Future[Pairs]]] = deque()

    def take(self, epoch: int, k: int) -> Pairs:
        if self.pool is None:
            return self.source.chunk(epoch, k)
        chunks = self.source.chunks
        first = epoch * chunks + k
        for number in range(first + len(self.waiting), min(first + self.ahead + 1, self.end)):
            at = divmod(number, chunks)
            self.waiting.append((at, self.pool.submit(_made, self.source, *at)))
        at, found = self.waiting.popleft()
        assert at == (epoch, k)
        return found.result()


def _made(source: Source, epoch: int, k: int) -> Pairs:
    return source.chunk(epoch, k)


@contextmanager
def _making(workers: int) -> Iterator[Executor | None]:
    """Processes that make examples, each on one thread; they end when the training does."""
    if not workers:
        yield None
        return
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(
        dict.fromkeys(THREADS, "1")
    )  # a process inherits it when it starts, with its first chunk or later
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _key(card: Card, recipe: Recipe, lessons: Source, exam: Source, begin_from: Any, threads: int, device: str) -> str:
    weights = hashlib.sha256()
    for name in sorted(begin_from or ()):
        weights.update(name.encode() + begin_from[name].tobytes())
    facts = [asdict(card), asdict(recipe), lessons.digest, exam.digest, weights.hexdigest(), threads, device]
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _store(path: Path, learner: Learner, done: Progress, key: str) -> None:
    told = np.frombuffer(json.dumps({"key": key, **asdict(done)}).encode(), np.uint8)
    write_bundle(path, {**learner.tensors(), "progress": told})


def _restored(path: Path, learner: Learner, key: str) -> Progress:
    found = {name: np.array(array) for name, array in Bundle(path).items()}
    told = json.loads(bytes(found.pop("progress")))
    if told.pop("key") != key:
        raise InvalidConfiguration(
            f"{path.parent} holds a training with other settings or examples; give another --out, or --fresh to begin anew"
        )
    learner.restore(found)
    return Progress(**told)
