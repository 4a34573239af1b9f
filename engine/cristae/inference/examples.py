"""Examples: an image beside its labels becomes crops that a network learns from: normalised as it will be in use, turned and varied.

normalised   as the card says, by the whole frame, never by the crop
varied       flips, quarter turns, brightness and noise: what a microscope may show of the same object
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cristae.inference.card import Card

Rng = np.random.Generator


@dataclass(frozen=True)
class Variety:
    """How much examples are varied.

    flips : along every axis, and quarter turns in the plane where a crop is square
    brightness : how much brighter or dimmer an image may become, as a factor; 1 is not at all
    shift : of the background, standard deviation, in normalised units
    noise : at most so much is added, standard deviation, in normalised units
    """

    flips: bool = True
    brightness: float = 1.5
    shift: float = 0.05
    noise: float = 0.05


NONE = Variety(flips=False, brightness=1.0, shift=0.0, noise=0.0)


def scale_of(frame: np.ndarray, how: Mapping[str, Any]) -> tuple[float, float]:
    """Shift and factor that normalise a frame: a voxel v becomes (v - shift) * factor."""
    if how["how"] == "percentiles":
        low, high = np.percentile(frame, [float(how["low"]), float(how["high"])], method="inverted_cdf").tolist()
    elif how["how"] == "standard":
        low = float(frame.mean(dtype=np.float64))
        high = low + float(frame.std(dtype=np.float64))
    elif how["how"] == "range":
        low, high = float(how["low"]), float(how["high"])
    else:
        return 0.0, 1.0
    return low, 1 / (high - low) if high > low else 1.0


def masks_of(
    labels: np.ndarray, classes: Sequence[str], numbers: Mapping[str, int] | None, softmax: bool
) -> np.ndarray:
    """(classes, *space) uint8: 1 where a voxel is of the class.

    numbers : the label of each class, where labels are classes; None where any label is the one class
    softmax : the first class is what is of no other
    """
    if numbers is None:
        shown = [labels != 0]
    else:
        shown = [labels == numbers[name] for name in classes if name in numbers]
    if softmax:
        shown = [~np.logical_or.reduce(shown), *shown]
    return np.stack(shown).astype(np.uint8)


def normalised(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """An image as float32, shifted and scaled."""
    return ((image.astype(np.float64) - scale[0]) * scale[1]).astype(np.float32)


def example(
    image: np.ndarray, masks: np.ndarray, card: Card, variety: Variety, rng: Rng
) -> tuple[np.ndarray, np.ndarray]:
    """One crop of a normalised image as the network is shown it, (1, *space) float32, and what it should say, (classes, *space) uint8."""
    span = np.log(variety.brightness)
    x = image * np.float32(np.exp(rng.uniform(-span, span)))
    x += np.float32(rng.normal(0, 1) * variety.shift)
    sigma = rng.uniform(0, variety.noise)
    if sigma:
        x += (sigma * rng.standard_normal(x.shape, np.float32)).astype(np.float32)
    if variety.flips:
        flipped = tuple(axis for axis in range(x.ndim) if rng.random() < 0.5)
        x, masks = np.flip(x, flipped), np.flip(masks, tuple(axis + 1 for axis in flipped))
        if x.shape[-1] == x.shape[-2] and card.voxel_um[-1] == card.voxel_um[-2]:
            turns = int(rng.integers(4))
            x, masks = np.rot90(x, turns, (-2, -1)), np.rot90(masks, turns, (-2, -1))
    return np.ascontiguousarray(x)[None], np.ascontiguousarray(masks)
