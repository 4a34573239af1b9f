"""Familiar: an image beside those a model was trained on, before the model is asked anything; a few tiles of it are read, no network runs.

places    where tiles are looked at: in the middles of equal parts of the image, wherever its objects lie
seen      such a tile at the model's voxel size
familiar  the image's tiles beside the reference on the model's card
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod
from typing import Any

import numpy as np

from cristae.blocks.measure import ask
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.filters.resample import Reads, taps
from cristae.grid import Box
from cristae.inference.appearance import LEAST, features, names_of
from cristae.inference.card import Card, read_card
from cristae.inference.familiarity import KEY, Compared, compared, holds_something
from cristae.inference.named import model_path
from cristae.inference.normalisation import brightness
from cristae.inference.segment import VOXEL_TOLERANCE
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.objects import one_channel
from cristae.store.volume import Volume

MOST_TILES, MOST_VOXELS = 64, 1 << 24
"""Looked at of one image, at the model's voxel size: more tiles do not move the median by much."""

LARGEST = 1 << 26
"""Voxels of the image that one tile may take."""


@dataclass(frozen=True)
class Familiar:
    """An image beside a model's training images."""

    model: str
    image: str
    channel: str
    t: int
    voxel_um: tuple[float, ...]  # at which it was seen
    looked_at: int  # tiles
    compared: Compared  # those that hold something
    notes: tuple[str, ...]  # what else a person should know of the number
    spectrum: Mapping[str, float]  # of the typical tile, features by name
    reference: Mapping[str, Any]
    tile: np.ndarray  # (y, x) float32, normalised: the tile whose distance is the image's, of a stack its middle plane

    @property
    def sentence(self) -> str:
        """One line for a person: the number, its null, and what it means."""
        return self.compared.sentence

    @property
    def facts(self) -> dict[str, Any]:
        """The same for a program."""
        c = self.compared
        return {
            "model": self.model,
            "image": self.image,
            "channel": self.channel,
            "t": self.t,
            "voxel_um": self.voxel_um,
            "distance": c.number,
            "p": c.p,
            "training_tiles_5_to_95": c.usual,
            "verdict": c.verdict,
            "most_unlike": c.why,
            "tiles": {"looked_at": self.looked_at, "compared": c.tiles, "distances": c.distances},
            "parts": dict(c.parts),
            "z": dict(c.z),
            "notes": self.notes,
        }


def check_model(model: str, image: str, inputs: Inputs) -> Familiar:
    """How far an image is from what a model was trained on.

    model : a name or a file, whose card holds a reference
    image : any image that opens; of a recording the first time point that `inputs` names

    Raises
    ------
    InvalidInput : if the model says nothing of its training images, or the image cannot be compared with them.
    InvalidConfiguration : if the model is for other images.
    """
    path = model_path(model)
    card, _ = read_card(path)
    volume = inputs.open(image)
    return familiar(card, path.name, volume, one_channel(volume, inputs.channel), inputs.frames(0, volume)[0].t)


def familiar(card: Card, name: str, volume: Volume, channel: int, t: int = 0) -> Familiar:
    """One channel and time point of an image beside a model's training images.

    At most 64 tiles, and 16 Mi voxels, are looked at, in the middles of equal parts of the image. What the card wants normalised by the
    frame is normalised by all of them together, by the same measure that `segment` asks over the whole frame: of an image that they
    cover they are that.

    Raises as `check_model`.
    """
    reference = _reference(card, name)
    ratio = _ratio(card, name, volume)
    shape = tuple(max(1, round(n * r)) for n, r in zip(volume.spatial_shape, ratio, strict=True))
    size = (*(1,) * (len(shape) - card.ndim), *card.tile)
    boxes = places(shape, size)
    if any(n < least for n, least in zip(boxes[0].shape[-card.ndim :], LEAST[-card.ndim :], strict=True)):
        other = shape != volume.spatial_shape
        seen_as = f", which at the model's voxel size are {_times(shape)}" if other else ""
        raise InvalidInput(
            f"{volume.path} has {_times(volume.spatial_shape)} voxels{seen_as}, too few to compare with what {name} was trained on, which "
            f"takes {_times(LEAST[-card.ndim :])}; give a larger image"
            + (", or --voxel-um if its voxel size is said wrong" if other else "")
        )
    raw = [seen(volume, box, shape, channel, t) for box in boxes]
    tiles = [tile for tile in raw if np.isfinite(tile).all()]
    if not tiles:
        raise InvalidInput(f"{volume.path} holds voxels that are not numbers all over; give a --crop without them")
    notes = _notes(reference, card, volume, shape, boxes[0], len(raw) - len(tiles), len(raw))
    shift, scale = _normalisation(card.normalise, tiles)
    tiles = [_normalised(tile, shift, scale).reshape(tile.shape[-card.ndim :]) for tile in tiles]
    names = names_of(card.ndim)
    rows = [features(tile, card.voxel_um)[1] for tile in tiles]
    chosen = np.flatnonzero(holds_something(rows, names))
    found = compared([rows[n] for n in chosen], reference)
    typical = tiles[chosen[int(np.argmin(np.abs(np.array(found.distances) - found.number)))]]
    middle = np.median([rows[n] for n in chosen], axis=0)
    return Familiar(
        name,
        volume.path,
        volume.channels[channel].name,
        t,
        tuple(card.voxel_um),
        len(raw),
        found,
        notes,
        dict(zip(names, middle.tolist(), strict=True)),
        reference,
        typical[len(typical) // 2] if typical.ndim == 3 else typical,
    )


def places(shape: Sequence[int], tile: Sequence[int]) -> list[Box]:
    """Where tiles are looked at, in raster order: the volume is cut into equal parts, and each shows its middle.

    Of each axis as many parts as tiles are needed to cover it; while they are more than 64 together, or hold more than 16 Mi voxels, the
    axis with most of them has one less. Tiles are no longer than the volume.
    """
    size = [min(n, s) for n, s in zip(shape, tile, strict=True)]
    most = max(1, min(MOST_TILES, MOST_VOXELS // prod(size)))
    parts = [ceil(n / s) for n, s in zip(shape, size, strict=True)]
    while prod(parts) > most:
        parts[int(np.argmax(parts))] -= 1
    starts = [
        [min(max(round((i + 0.5) * n / k - s / 2), 0), n - s) for i in range(k)]
        for n, s, k in zip(shape, size, parts, strict=True)
    ]
    return [Box(corner, tuple(c + s for c, s in zip(corner, size, strict=True))) for corner in product(*starts)]


def seen(volume: Volume, box: Box, shape: Sequence[int], channel: int, t: int) -> np.ndarray:
    """The voxels of `box` of the volume brought to `shape`: the volume's own where that is its shape, else float32.

    Each is what the linear `resample` makes of the whole volume, as a network on such voxels would see it.

    Raises
    ------
    InvalidInput : if the box takes more voxels of the volume than should be read at once.
    """
    source = volume.spatial_shape
    if tuple(shape) == tuple(source):
        return volume.read(box, t, channel)
    (read,) = Reads("linear")(box, source, tuple(shape))
    if prod(read.shape) > LARGEST:
        finer = max(n / m for n, m in zip(source, shape, strict=True))
        raise InvalidInput(
            f"{volume.path} has voxels up to {finer:.0f} times finer than the model's, and a tile would take {prod(read.shape)} of them; "
            "bring the image nearer to the model's voxel size before, or give --voxel-um if it is said wrong"
        )
    from cristae.filters.resample_kernel import resampled

    along = [taps("linear", a, b, n, m) for a, b, n, m in zip(box.start, box.stop, source, shape, strict=True)]
    return resampled(volume.read(read, t, channel), read.start, along)


def _reference(card: Card, name: str) -> Mapping[str, Any]:
    found = card.training.get(KEY)
    if not isinstance(found, Mapping):
        raise InvalidInput(
            f"{name} does not say what its training images look like, so no image can be compared with them; use a model that cristae "
            "trained, or add cristae.inference.familiarity.reference of its training tiles to the card"
        )
    return found


def _ratio(card: Card, name: str, volume: Volume) -> tuple[float, ...]:
    """Voxels of the model in one of the image, along each axis; 1 for all where no resampling is needed."""
    if len(card.channels) != 1:
        raise InvalidConfiguration(
            f"{name} wants {len(card.channels)} channels ({', '.join(card.channels)}), and one is compared; use another model"
        )
    if card.ndim > len(volume.voxel_um):
        raise InvalidConfiguration(f"{name} is for stacks, and {volume.path} is one plane; use a model of the plane")
    own = volume.voxel_um[-card.ndim :]
    ratio = [v / c for v, c in zip(own, card.voxel_um, strict=True)]
    if all(abs(r - 1) <= VOXEL_TOLERANCE for r in ratio):
        ratio = [1.0] * card.ndim
    return (*(1.0,) * (len(volume.voxel_um) - card.ndim), *ratio)


def _normalisation(how: Mapping[str, Any], tiles: Sequence[np.ndarray]) -> tuple[float, float]:
    """Shift and scale, over all tiles together where the card wants the frame's."""
    if how["how"] == "none":
        return 0.0, 1.0
    if how["how"] == "range":
        return float(how["low"]), 1 / (float(how["high"]) - float(how["low"]))
    pooled = np.concatenate([tile.reshape(-1, tile.shape[-1]) for tile in tiles])
    found = ask(brightness(how, ndim=2, dtype=str(pooled.dtype)), pooled)
    return found.number("shift"), found.number("scale")


def _normalised(tile: np.ndarray, shift: float, scale: float) -> np.ndarray:
    with np.errstate(all="ignore"):  # what is too large for float32 is said by who looks at it
        return ((tile.astype(np.float64) - shift) * scale).astype(np.float32)


def _notes(
    reference: Mapping[str, Any], card: Card, volume: Volume, shape: tuple[int, ...], box: Box, bad: int, of: int
) -> tuple[str, ...]:
    notes = []
    if shape != volume.spatial_shape:
        notes.append(
            f"seen at the model's voxels of {_times(card.voxel_um)} um; the image's are {_times(volume.voxel_um[-card.ndim :])} um"
        )
    trained = tuple(reference.get("tile", ()))
    if len(trained) == card.ndim and any(n < m for n, m in zip(box.shape[-card.ndim :], trained, strict=True)):
        notes.append(
            f"the image is smaller than a training tile ({_times(box.shape[-card.ndim :])} voxels, not {_times(trained)}), which alone makes "
            "a larger distance"
        )
    if bad:
        notes.append(f"{bad} of {of} tiles hold voxels that are not numbers, and were left out")
    return tuple(notes)


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{n:g}" for n in numbers)
