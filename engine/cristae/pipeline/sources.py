"""Sources: where the examples of a training come from: simulated on the fly, or images beside their labels.

Both are frozen facts that travel to the processes which make the examples. Chunk k of an epoch is the same whoever makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput
from cristae.grid import Box
from cristae.inference.card import Card
from cristae.inference.examples import Variety, example, masks_of, scale_of
from cristae.inference.training import Pairs
from cristae.simulation.draws import stream
from cristae.simulation.lessons import Lessons


@dataclass(frozen=True)
class Simulated:
    """Lessons, every epoch others; with `again`, every epoch the same."""

    lessons: Lessons
    card: Card
    chunks: int
    variety: Variety = Variety()
    again: bool = False

    @property
    def digest(self) -> str:
        return _digest("simulated", self.lessons, self.chunks, self.variety, self.again)

    def chunk(self, epoch: int, k: int) -> Pairs:
        number = k if self.again else epoch * self.chunks + k
        rng = stream(self.lessons.seed, "varied", number)
        pairs, last, scale = [], None, (0.0, 1.0)
        for frame, labels, crop in self.lessons(number):
            if frame is not last:
                last, scale = frame, scale_of(frame, self.card.normalise)
            masks = masks_of(labels[crop.slices], self.card.classes, None, self.card.activation == "softmax")
            pairs.append(example(frame[crop.slices], masks, scale, self.card, self.variety, rng))
        return _together(pairs)


@dataclass(frozen=True)
class Picture:
    """One image and its labels. Each is a path that opens as a volume, or an array in an .npz and its number there."""

    image: str
    labels: str
    name: str
    number: int | None = None
    axes: str | None = None
    voxel_um: tuple[float, ...] | None = None
    channel: str | int | None = None


@dataclass(frozen=True)
class Pictures:
    """Images and labels from files; a chunk is one image, and `crops` of it, or all of it where it is a crop itself."""

    pictures: tuple[Picture, ...]
    card: Card
    crop: tuple[int, ...]
    crops: int = 4
    variety: Variety = Variety()
    numbers: Mapping[str, int] | None = field(default=None)
    seed: int = 1
    again: bool = False

    @property
    def chunks(self) -> int:
        return len(self.pictures)

    @property
    def digest(self) -> str:
        return _digest("pictures", self.pictures, self.crop, self.crops, self.variety, self.numbers, self.seed)

    def chunk(self, epoch: int, k: int) -> Pairs:
        picture = self.pictures[k]
        rng = stream(self.seed, "varied", picture.name, 0 if self.again else epoch)
        frame, labels = opened(picture, len(self.crop))
        scale = scale_of(frame, self.card.normalise)
        softmax = self.card.activation == "softmax"
        pairs = []
        whole = frame.shape == self.crop
        for _ in range(1 if whole else self.crops):
            box = _somewhere(labels, self.crop, rng)
            image, said = _filled(frame, box), _filled(labels, box)
            masks = masks_of(said, self.card.classes, self.numbers, softmax)
            pairs.append(example(image, masks, scale, self.card, self.variety, rng))
        return _together(pairs)

    @cached_property
    def voxels(self) -> int:
        """Of a crop."""
        return int(np.prod(self.crop))


def _somewhere(labels: np.ndarray, crop: tuple[int, ...], rng: np.random.Generator) -> Box:
    """A place for a crop: one time in three around something."""
    room = [max(n - c, 0) for n, c in zip(labels.shape, crop, strict=True)]
    start = [int(rng.integers(r + 1)) for r in room]
    if rng.random() < 1 / 3:
        at = np.flatnonzero(labels)
        if len(at):
            middle = np.unravel_index(int(at[int(rng.integers(len(at)))]), labels.shape)
            start = [int(np.clip(int(m) - c // 2, 0, r)) for m, c, r in zip(middle, crop, room, strict=True)]
    return Box(tuple(start), tuple(a + c for a, c in zip(start, crop, strict=True)))


def _filled(array: np.ndarray, box: Box) -> np.ndarray:
    """A box of an array, reflected where it ends too early."""
    found = array[tuple(slice(a, min(b, n)) for a, b, n in zip(box.start, box.stop, array.shape, strict=True))]
    short = [w - n for w, n in zip(box.shape, found.shape, strict=True)]
    return np.pad(found, [(0, s) for s in short], mode="reflect" if min(found.shape) > 1 else "edge") if any(short) else found


@lru_cache(maxsize=64)
def opened(picture: Picture, ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Voxels and labels of a picture, whole.

    Raises
    ------
    InvalidInput : if they do not open, or are not of one shape.
    """
    if picture.number is not None:
        images, masks = _arrays(picture.image)
        frame, labels = images[picture.number], masks[picture.number]
    else:
        frame, labels = _voxels(picture, picture.image, ndim), _voxels(picture, picture.labels, ndim, labels=True)
    if frame.shape != labels.shape:
        raise InvalidInput(f"{picture.image} has {frame.shape} voxels and its labels {picture.labels} {labels.shape}")
    return frame, labels


@lru_cache(maxsize=2)
def _arrays(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks of an .npz, (n, *space) each."""
    try:
        with np.load(path, allow_pickle=False) as held:
            names = set(held.files)
            image = next((n for n in ("image", "images", "x") if n in names), None)
            mask = next((n for n in ("mask", "masks", "labels", "label", "y") if n in names), None)
            if image is None or mask is None:
                raise InvalidInput(
                    f"{path} holds {', '.join(sorted(names))}, but examples are two arrays named image and mask, (n, y, x) each"
                )
            return held[image], held[mask]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is no .npz of images and masks: {' '.join(str(error).split())}") from None


def count_of(path: str) -> int:
    """How many examples an .npz holds."""
    images, masks = _arrays(path)
    if images.shape != masks.shape:
        raise InvalidInput(f"{path}: image is {images.shape} and mask {masks.shape}, but there is one mask for each image")
    return len(images)


def _voxels(picture: Picture, path: str, ndim: int, labels: bool = False) -> np.ndarray:
    from cristae.store import open_volume

    volume = open_volume(Path(path), **_facts(picture, labels))
    shape = tuple(volume.shape[-ndim:])
    found: np.ndarray = volume.read(Box.whole(shape))
    return found


def _facts(picture: Picture, labels: bool) -> dict[str, Any]:
    given = {"axes": picture.axes, "voxel_um": picture.voxel_um}
    return {k: v for k, v in given.items() if v is not None}


def _together(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Pairs:
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)


def _digest(*facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()
