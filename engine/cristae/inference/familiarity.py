"""Familiarity: how far images are from those a model was trained on, as one number with its null distribution.

    features     what a network's input looks like, in some thirty numbers: levels, clipping, noise, spectrum, grain, direction
    reference    how these numbers vary over training tiles, and how far each such tile lies from all others
    distance     of one tile: 1 for the median training tile
    compared     of all tiles of an image: its typical tile, and what about it is most unlike

A tile is seen as the network sees it: after the model's normalisation, at the model's voxel size. Of the numbers only `background`
and `range` know what the normalisation made of the frame; the others are the same for a * tile + b, a > 0.

    distance = sqrt((f - mean)' C^-1 (f - mean)), over the same of the median training tile

C is the covariance of the training tiles, shrunk (O. Ledoit, M. Wolf, J. Multivar. Anal. 88, 365 (2004)), which some dozens of tiles
are enough for. The null holds each training tile's distance from all the others. What is most unlike is told by the parts into which
P. H. Garthwaite, I. Koch, Aust. N. Z. J. Stat. 58, 261 (2016) divide the squared distance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.appearance import (
    FEATURES,
    GROUPS,
    INVERTED,
    ONE_VALUE,
    ONLY_NOISE,
    features,
    group_of,
    names_of,
    slack_of,
    white,
)

__all__ = ["Compared", "compared", "distance", "features", "holds_something", "reference"]

Floats = NDArray[np.float64]

KEY = "familiarity"
"""Under which a card's `training` holds the reference."""

VERSION = 1
"""Of what the numbers mean; a reference of another version is not compared with."""

FEWEST = 12
"""Training tiles from which a reference is made."""

LEVELS = 101
"""Quantiles of the null that are kept, from its least to its greatest."""

LIKE, EDGE = 0.95, 0.99
"""Up to which share of the training tiles an image counts as like them, and as at their edge."""

FAR, NEGATIVE = 4.0, -0.3
"""Standard deviations from which a feature is told though another makes more of the distance; a skew that is one of inverted images."""

NEARLY_ALL = -0.01
"""Logarithm of the share of voxels at one value."""

WHITE = np.array([0.3] * 3 + [0.1] * 6)
"""How far each band of a spectrum may be from white noise to be called that; coarse bands hold few frequencies."""

COUNTS = 0.25
"""A tile holds something if its range is at least this part of that of the image's brighter tiles."""


def reference(tiles: Sequence[np.ndarray], voxel_um: Sequence[float]) -> dict[str, Any]:
    """What training tiles look like, for a model's card: `training["familiarity"]`, a few kilobytes of JSON.

    tiles : normalised as the card says, of the card's tile shape or near it, at its voxel size; 12 or more, better 200. Tiles of one
        value are left out
    voxel_um : (z, y, x) or (y, x)

    Raises
    ------
    InvalidConfiguration : if fewer than 12 tiles hold more than one value.
    InvalidInput : if a tile is too small, or holds what is not a number.
    """
    varied = [tile for tile in tiles if np.ptp(np.asarray(tile)) != 0]
    if len(varied) < FEWEST:
        raise InvalidConfiguration(
            f"{len(varied)} of {len(tiles)} tiles hold more than one value, and a reference wants {FEWEST}; give more"
        )
    names = names_of(len(voxel_um))
    seen = np.stack([features(tile, voxel_um)[1] for tile in varied])
    slack = slack_of(len(voxel_um))
    mean, std, correlation = _summary(seen, slack)
    null = [_squared(row, *_summary(np.delete(seen, n, 0), slack)) for n, row in enumerate(seen)]
    lengths = np.sort(np.sqrt(null))
    unit = float(np.median(lengths))
    return {
        "version": VERSION,
        "tiles": len(varied),
        "tile": [int(np.median(sizes)) for sizes in zip(*(np.shape(tile) for tile in varied), strict=True)],
        "voxel_um": [float(v) for v in voxel_um],
        "names": list(names),
        "mean": _rounded(mean),
        "std": _rounded(std),
        "correlation": [_rounded(row) for row in correlation],
        "unit": float(f"{unit:.6g}"),
        "null": _rounded(np.quantile(lengths / unit, np.linspace(0, 1, LEVELS))),
    }


def distance(vector: Floats, reference: Mapping[str, Any]) -> tuple[float, float]:
    """How far one tile is: 1 as the median training tile, and the share of training tiles that are as far, never 0.

    vector : of `features`, for the reference's axes

    Raises
    ------
    InvalidInput : if the reference is of another version of cristae, or damaged.
    """
    mean, std, correlation = _read(reference)
    number = float(np.sqrt(_squared(vector, mean, std, correlation)) / reference["unit"])
    return number, _share_as_far(number, reference)


@dataclass(frozen=True)
class Compared:
    """An image beside a model's training tiles."""

    number: float  # of its typical tile; 1 is the median training tile
    p: float  # share of training tiles that are as far
    usual: tuple[float, float]  # between which 90 % of the training tiles lie
    verdict: str  # "like", "edge", "unlike"
    tiles: int  # that were compared
    distances: tuple[float, ...]  # of each of them
    z: Mapping[str, float]  # of the typical tile, in standard deviations of the training tiles
    parts: Mapping[str, float]  # of the squared distance, by group; they sum to 1
    why: str  # what is most unlike, in words; empty where it is like

    @property
    def sentence(self) -> str:
        """One line for a person."""
        low, high = self.usual
        said = f"distance {self.number:.1f} (training tiles: {low:.1f} to {high:.1f})"
        if self.verdict == "like":
            return f"{said}: like what it was trained on"
        where = "unlike" if self.verdict == "unlike" else "at the edge of"
        return f"{said}: {where} what it was trained on: {self.why}"


def compared(vectors: Sequence[Floats], reference: Mapping[str, Any]) -> Compared:
    """All tiles of an image that hold something beside a model's training tiles.

    The number is the median of the tiles' distances, and what is said of it is of that typical tile: it is compared with single
    training tiles, so an image whose tiles are all a little unusual in the same way is called like.

    Raises
    ------
    InvalidInput : if the reference is of another version of cristae, or damaged.
    """
    mean, std, correlation = _read(reference)
    names = reference["names"]
    rows = np.stack(list(vectors))
    lengths = np.array([np.sqrt(_squared(row, mean, std, correlation)) for row in rows]) / reference["unit"]
    number = float(np.median(lengths))
    null = np.array(reference["null"])
    like, edge = np.quantile(null, (LIKE, EDGE))
    verdict = "like" if number <= like else "edge" if number <= edge else "unlike"
    z = (np.median(rows, axis=0) - mean) / std
    by_name = dict(zip(names, _parts(z, correlation).tolist(), strict=True))
    by_group = {g: sum(part for n, part in by_name.items() if group_of(n) == g) for g in GROUPS}
    found = dict(zip(names, z.tolist(), strict=True))
    low, high = np.quantile(null, (0.05, 0.95))
    return Compared(
        number,
        _share_as_far(number, reference),
        (float(low), float(high)),
        verdict,
        len(rows),
        tuple(lengths.tolist()),
        found,
        by_group,
        ""
        if verdict == "like"
        else _most(by_name, dict(zip(names, np.median(rows, axis=0).tolist(), strict=True)), found),
    )


def holds_something(vectors: Sequence[Floats], names: Sequence[str]) -> NDArray[np.bool_]:
    """Which tiles of an image count: (n,) bool, those whose range is at least a quarter of that of its brighter tiles (the 90th percentile).

    Where all tiles are alike, as in noise alone, all of them count.
    """
    spans = 10 ** np.array([vector[list(names).index("range")] for vector in vectors])
    chosen: NDArray[np.bool_] = spans >= COUNTS * np.quantile(spans, 0.9)
    return chosen


def _summary(seen: Floats, slack: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, standard deviation and shrunk correlation of rows; no deviation is below what a network hardly minds."""
    mean, std = seen.mean(0), np.maximum(seen.std(0), slack)
    return mean, std, _shrunk((seen - mean) / std)


def _shrunk(x: Floats) -> Floats:
    """Covariance of centred rows, drawn towards a multiple of one by as much as Ledoit and Wolf find best.

    Where a deviation was raised its variance here is below 1, and would be told apart from noise that is not there: the diagonal is
    set to what it is of the others.
    """
    n, k = x.shape
    sample = x.T @ x / n
    middle = np.trace(sample) / k
    spread = float(((sample - middle * np.eye(k)) ** 2).sum())
    unsure = float((((x**2).sum(1)) ** 2).sum() / n - (sample**2).sum()) / n
    part = min(1.0, unsure / spread) if spread > 0 else 1.0
    out: Floats = (1 - part) * sample + part * middle * np.eye(k)
    out[np.diag_indices(k)] = np.maximum(out.diagonal(), 1.0)
    return out


def _squared(row: Floats, mean: Floats, std: Floats, correlation: Floats) -> float:
    z = (row - mean) / std
    return float(z @ np.linalg.solve(correlation, z))


def _parts(z: Floats, correlation: Floats) -> Floats:
    """(k,) shares of the squared distance, each as close to its own feature as can be; they sum to 1."""
    values, vectors = np.linalg.eigh(correlation)
    squares: Floats = (vectors @ ((vectors.T @ z) / np.sqrt(values))) ** 2
    whole = float(squares.sum())
    return squares / whole if whole > 0 else np.full(len(z), 1 / len(z))


def _most(parts: Mapping[str, float], typical: Mapping[str, float], z: Mapping[str, float]) -> str:
    """What makes the distance, in words: the group that has the largest part in it, and that of the feature that lies farthest out."""
    if typical["at_floor"] > NEARLY_ALL:
        return ONE_VALUE
    spectrum = np.array([value for name, value in typical.items() if name.startswith("spectrum_")])
    if (np.abs(spectrum - white()) < WHITE).all():
        return ONLY_NOISE
    farthest = max(z, key=lambda n: abs(z[n]))
    groups = [max(GROUPS, key=lambda g: sum(part for n, part in parts.items() if group_of(n) == g))]
    if group_of(farthest) not in groups and abs(z[farthest]) > FAR:
        groups.append(group_of(farthest))
    return "; ".join(dict.fromkeys(_told(group, parts, typical, z) for group in groups))


def _told(group: str, parts: Mapping[str, float], typical: Mapping[str, float], z: Mapping[str, float]) -> str:
    """A group by its feature that stands out; a spectrum by whether power moved up."""
    own = [n for n in z if group_of(n) == group]
    if group in ("values", "grain") and typical["skew"] < NEGATIVE and z["skew"] < -FAR:
        return INVERTED
    name = max(own, key=lambda n: parts[n] * abs(z[n]))
    up = z[name]
    if name.startswith(("spectrum_", "depth_")):
        bands = [n for n in own if n[-1].isdigit()]
        up = sum(z[n] * (at - (len(bands) - 1) / 2) for at, n in enumerate(bands))
    _, lower, higher = FEATURES[name]
    return lower if up < 0 else higher


def _share_as_far(number: float, reference: Mapping[str, Any]) -> float:
    """Of the training tiles and this one, how many are at least as far; interpolated between the quantiles that are kept."""
    n = int(reference["tiles"])
    below = float(np.interp(number, reference["null"], np.linspace(0, 1, LEVELS), left=0.0, right=1.0))
    return (1 + n * (1 - below)) / (n + 1)


def _read(reference: Mapping[str, Any]) -> tuple[Floats, Floats, Floats]:
    if reference.get("version") != VERSION:
        raise InvalidInput(
            f"the model's reference of its training images is of version {reference.get('version')}, and this cristae compares with "
            f"version {VERSION}; train it again"
        )
    try:
        k = len(reference["names"])
        mean, std, correlation = (np.array(reference[name], np.float64) for name in ("mean", "std", "correlation"))
        good = mean.shape == std.shape == (k,) and correlation.shape == (k, k) and len(reference["null"]) == LEVELS
        good = (
            good and tuple(reference["names"]) == names_of(len(reference["voxel_um"])) and float(reference["unit"]) > 0
        )
    except (KeyError, TypeError, ValueError):
        good = False
    if not good:
        raise InvalidInput("the model's reference of its training images is damaged; train it again")
    return mean, std, correlation


def _rounded(values: Floats) -> list[float]:
    return [float(f"{v:.6g}") for v in values]
