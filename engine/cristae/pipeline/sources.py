"""Sources: where the examples of a training come from: simulated on the fly, or images beside their labels.

Both are frozen facts that travel to the processes which make the examples. Chunk k of an epoch is the same whoever makes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from cristae.draws import stream
from cristae.errors import InvalidInput
from cristae.grid import Box
from cristae.inference.card import Card
from cristae.inference.examples import NONE, Variety, example, masks_of, normalised, scale_of
from cristae.inference.segment import VOXEL_TOLERANCE
from cristae.inference.training import Pairs
from cristae.simulation.lessons import Lessons
from cristae.store.volume import Volume, open_volume


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

    def unvaried(self, tile: tuple[int, ...]) -> Simulated:
        """One tile of each exposure, as it is."""
        return replace(self, lessons=replace(self.lessons, crop=tile, crops=1), variety=NONE)

    def chunk(self, epoch: int, k: int) -> Pairs:
        number = k if self.again else epoch * self.chunks + k
        rng = stream(self.lessons.seed, "varied", number)
        pairs, last = [], None
        for frame, labels, crop in self.lessons(number):
            if frame is not last:
                last, shown = frame, normalised(frame, scale_of(frame, self.card.normalise))
                masks = masks_of(labels, self.card.classes, None, self.card.activation == "softmax")
            those = masks[(slice(None), *crop.slices)]
            pairs.append(example(shown[crop.slices], those, self.card, self.variety, rng))
        return _together(pairs)


@dataclass(frozen=True)
class Picture:
    """One image and its labels. Each is a path that opens as a volume, or an array in an .npz and its number there."""

    image: str
    labels: str
    name: str
    voxel_um: tuple[float, ...]
    number: int | None = None  # in an .npz
    axes: str | None = None
    t: int = 0
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
            pairs.append(example(normalised(image, scale), masks, self.card, self.variety, rng))
        return _together(pairs)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Classes of which no picture shows a voxel; labels are read until all were seen."""
        unseen = dict(enumerate(self.card.classes))
        for picture in self.pictures:
            _, labels = opened(picture, len(self.crop))
            shown = masks_of(labels, self.card.classes, self.numbers, self.card.activation == "softmax")
            unseen = {n: name for n, name in unseen.items() if not shown[n].any()}
            if not unseen:
                break
        return tuple(unseen.values())

    def unvaried(self, tile: tuple[int, ...]) -> Pictures:
        """Crops as they are, as large as a tile where the images are."""
        return replace(self, crop=self.crop if prod(self.crop) >= prod(tile) else tile, variety=NONE)


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
    return (
        np.pad(found, [(0, s) for s in short], mode="reflect" if min(found.shape) > 1 else "edge")
        if any(short)
        else found
    )


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
        frame, labels = _voxels(picture, picture.image, picture.channel), _voxels(picture, picture.labels, None)
    if frame.ndim != ndim:
        raise InvalidInput(
            f"{picture.image} has {frame.ndim} axes in space and the course {ndim}; say --axes, or another voxel_um"
        )
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
        raise InvalidInput(
            f"{path}: image is {images.shape} and mask {masks.shape}, but there is one mask for each image"
        )
    return len(images)


def frames_of(image: str, labels: str, axes: str | None, voxel_um: tuple[float, ...]) -> int:
    """Time points of an image, each an example.

    Raises
    ------
    InvalidInput : if its labels have others, or another shape.
    """
    seen, said = (_volume(path, axes, voxel_um) for path in (image, labels))
    if seen.spatial_shape != said.spatial_shape or seen.frames != said.frames:
        raise InvalidInput(
            f"{image} has {_times(seen)} and its labels {labels} {_times(said)}; give labels of the same voxels, or leave both out"
        )
    return seen.frames


def _times(volume: Volume) -> str:
    time = f" at {volume.frames} time points" if volume.frames > 1 else ""
    return f"{' x '.join(map(str, volume.spatial_shape))} voxels{time}"


def _voxels(picture: Picture, path: str, channel: str | int | None) -> np.ndarray:
    volume = _volume(path, picture.axes, picture.voxel_um)
    box = Box.whole(volume.levels[0].shape)
    c = volume.channel_index(channel) if channel is not None else 0
    found: np.ndarray = volume.read(box, picture.t, c)
    if found.ndim > len(picture.voxel_um) and found.shape[0] == 1:
        found = found[0]
    return found


def _volume(path: str, axes: str | None, voxel_um: tuple[float, ...]) -> Volume:
    """A file as a volume. Where it does not say its voxel size, that of the course counts; where it says another, it is refused."""
    try:
        volume = open_volume(path, axes=axes, doubts=False)
    except InvalidInput:
        return open_volume(path, axes=axes, voxel_um=voxel_um, doubts=False)
    said = volume.voxel_um[-len(voxel_um) :]
    if volume.kind != "label" and any(abs(a / b - 1) > VOXEL_TOLERANCE for a, b in zip(said, voxel_um, strict=False)):
        raise InvalidInput(
            f"{path} has voxels of {' x '.join(f'{v:g}' for v in said)} um and the course says {' x '.join(f'{v:g}' for v in voxel_um)}; "
            "change voxel_um in the course, or leave the image out"
        )
    return volume


def _together(pairs: list[tuple[np.ndarray, np.ndarray]]) -> Pairs:
    images, masks = zip(*pairs, strict=True)
    return np.stack(images), np.stack(masks)


def _digest(*facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()
