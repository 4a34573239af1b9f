"""Appearance: what a tile looks like to a network, in some thirty numbers; each is about normal over tiles of one kind.

    levels      where the normalisation put the tile's background and how much lies above it
    values      how voxels are distributed between the two
    clipping    shares of voxels at the least and the greatest value
    contrast    how far the bright stand out of the spread of the dim
    noise       of the finest details, as a part of the range
    spectrum    power in the plane, in half-octaves up to the highest frequency that the voxels hold, cycles/um
    grain       whether details of 2, 4 and 8 pixels are bright on dark or dark on bright
    direction   whether fine details run along x, y or between
    depth       power along z, and how it compares with that in the plane; of stacks only

Logarithms are to the base of ten. All but `levels` are the same for a * tile + b, a > 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidInput

Floats = NDArray[np.float64]
Plane = NDArray[np.float32]

LEAST = (8, 32, 32)
"""Voxels along z, y and x from which a tile's spectrum can be told."""

BANDS, DEPTHS = 9, 4
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9, 0.995)
FLOOR = 1e-6
"""A share of power or of voxels below which there is none."""

TELLS: Mapping[str, tuple[str, str]] = {
    "values": ("more of its voxels are bright than of theirs", "fewer of its voxels are bright than of theirs"),
    "in the plane": (
        "less of its power lies in fine details than of theirs (is the voxel size right? was it filtered?)",
        "more of its power lies in fine details than of theirs (is the voxel size right? is there more than noise?)",
    ),
    "along z": (
        "less of its power along z lies in fine details than of theirs (is the step along z right?)",
        "more of its power along z lies in fine details than of theirs (is the step along z right?)",
    ),
    "grain": ("its details are less bright on dark than theirs", "its details are more bright on dark than theirs"),
}
ONE_VALUE = "nearly all of its voxels have one value (is it the right channel?)"
ONLY_NOISE = "it shows nothing but noise (is it the right channel, and in focus?)"
INVERTED = "most of its voxels are bright, and few of theirs (is its contrast inverted?)"

FEATURES: Mapping[str, tuple[str, str, str]] = {
    "background": (
        "levels",
        "once normalised its background is darker than theirs",
        "once normalised its background is brighter than theirs",
    ),
    "range": ("levels", "once normalised it is fainter than they are", "once normalised it is brighter than they are"),
    **dict.fromkeys(("quarter", "middle", "three_quarters", "nine_tenths"), ("values", *TELLS["values"][::-1])),
    "skew": ("values", *TELLS["values"]),
    "at_floor": (
        "clipping",
        "fewer of its voxels than of theirs share the lowest value",
        "many of its voxels share the lowest value (was a background cut off at 0? are its values coarse?)",
    ),
    "at_top": (
        "clipping",
        "fewer of its voxels than of theirs share the highest value",
        "many of its voxels share the highest value (is it saturated?)",
    ),
    "contrast": (
        "contrast",
        "its objects stand out of the background less than theirs",
        "its objects stand out of the background more than theirs",
    ),
    "noise": ("noise", "it has less noise than they have (was it filtered?)", "it has more noise than they have"),
    **dict.fromkeys((f"spectrum_{n}" for n in range(1, BANDS + 1)), ("spectrum", *TELLS["in the plane"])),
    **dict.fromkeys(("grain_2", "grain_4", "grain_8"), ("grain", *TELLS["grain"])),
    "along_y": (
        "direction",
        "its fine details run along x (are there stripes?)",
        "its fine details run along y (are there stripes?)",
    ),
    "diagonal": ("direction", *("its fine details run aslant (are there stripes?)",) * 2),
    "depth": (
        "depth",
        "it changes less along z than they do (is the step along z right?)",
        "it changes more along z than they do (is the step along z right?)",
    ),
    **dict.fromkeys((f"depth_{n}" for n in range(1, DEPTHS + 1)), ("depth", *TELLS["along z"])),
}
"""Features by name: their group, and what is said of an image in which they are lower and higher than in the training images (they)."""

GROUPS = tuple(dict.fromkeys(group for group, _, _ in FEATURES.values()))
SLACK: Mapping[str, float] = {"levels": 0.15, **dict.fromkeys(GROUPS[1:], 0.05)}
"""The least standard deviation of a feature of each group: less is nothing that a network minds."""


def names_of(ndim: int) -> tuple[str, ...]:
    """Features of a tile of so many axes, in order."""
    return tuple(name for name, (group, _, _) in FEATURES.items() if ndim == 3 or group != "depth")


def group_of(name: str) -> str:
    return FEATURES[name][0]


def slack_of(ndim: int) -> Floats:
    """The least standard deviation of each feature."""
    return np.array([SLACK[group_of(name)] for name in names_of(ndim)])


def features(tile: np.ndarray, voxel_um: Sequence[float]) -> tuple[tuple[str, ...], Floats]:
    """What a tile looks like: names, and as many finite numbers.

    tile : (z, y, x) or (y, x), real, normalised as the network's input is, at the voxel size it was trained on
    voxel_um : along the same axes

    Raises
    ------
    InvalidInput : if the tile is smaller than 32 pixels or 8 planes, or holds what is not a number.
    """
    if any(n < least for n, least in zip(tile.shape, LEAST[-tile.ndim :], strict=True)):
        raise InvalidInput(
            f"{' x '.join(map(str, tile.shape))} voxels at the model's voxel size are too few to tell what an image looks like, which "
            f"takes {' x '.join(map(str, LEAST[-tile.ndim :]))}; give a larger image"
        )
    planes = np.asarray(tile, np.float32).reshape(-1, *tile.shape[-2:])
    values = planes.ravel()
    if not np.isfinite(values).all():
        raise InvalidInput(
            "the image holds voxels that are not numbers, or too large for the network's; give one without, or a --crop"
        )
    ordered = [float(q) for q in _quantiles(values)]
    low, top = ordered[0], ordered[-1]
    least, most = float(values.min()), float(values.max())
    # Of a tile with very few bright voxels the quantiles may be one value.
    span = top - low if top > low else most - least
    unit = span if span > 0 else 1.0
    planes = (planes - np.float32(low)) / np.float32(unit)
    values = planes.ravel()
    noise = _noise(planes)
    dim = (ordered[2] - low) / unit / 1.28 + 0.1 * noise
    edge = np.float32(1e-3 * (most - least) / unit)
    found = [
        low,
        np.log10(span + 1e-3),
        *((q - low) / unit for q in ordered[1:5]),
        np.arcsinh(_skew(values - values.mean())),
        *(np.log10(float(np.mean(at)) + 1e-3) for at in (values <= values.min() + edge, values >= values.max() - edge)),
        np.log10(1 / (dim + 1e-3)),
        np.log10(noise + 1e-4),
        *(spectrum := _spectrum(planes, voxel_um[-2:]))[:BANDS],
        *_grain(planes),
        *spectrum[BANDS:],
        *(_depth(planes) if tile.ndim == 3 else ()),
    ]
    return names_of(tile.ndim), np.array(found, np.float64)


def bands_um(voxel_um: Sequence[float]) -> Floats:
    """(10,) frequencies between which the bands of the spectrum lie, cycles/um."""
    highest = 0.5 / max(voxel_um[-2:])
    return np.array([0.0, *(highest * 2.0 ** (-(BANDS - 1 - n) / 2) for n in range(BANDS))])


def white() -> Floats:
    """(9,) what the spectrum's features are of noise that is white: as large as the bands are."""
    area = np.diff(bands_um((1.0, 1.0)) ** 2)
    found: Floats = np.log10(area / area[1:].sum())
    return found


def _quantiles(values: Plane) -> Floats:
    places = [round(q * (len(values) - 1)) for q in QUANTILES]
    found: Floats = np.partition(values, places)[places].astype(np.float64)
    return found


def _skew(centred: Plane) -> float:
    square = centred * centred
    variance = float(square.mean(dtype=np.float64))
    return float((square * centred).mean(dtype=np.float64)) / variance**1.5 if variance > FLOOR**2 else 0.0


def _noise(planes: Plane) -> float:
    """Standard deviation of white noise that has as large diagonal differences; D. Donoho's estimate, by the mean, which takes ties well."""
    differences = planes[:, 1:, 1:] - planes[:, 1:, :-1] - planes[:, :-1, 1:] + planes[:, :-1, :-1]
    return float(np.abs(differences).mean(dtype=np.float64)) / 2 * float(np.sqrt(np.pi / 2))


def _spectrum(planes: Plane, voxel_um: Sequence[float]) -> list[float]:
    """Of each band the logarithm of its power over that of all but the first, then the direction of the finer half: along y, diagonal."""
    _, height, width = planes.shape
    window, band, fine, turns, twice = _frequencies(height, width, float(voxel_um[0]), float(voxel_um[1]))
    power = np.zeros((height, width // 2 + 1))
    for plane in planes:
        spectrum = np.fft.rfft2((plane - plane.mean()) * window)
        power += spectrum.real**2 + spectrum.imag**2
    power *= twice
    by_band = np.bincount(band.ravel(), power.ravel(), BANDS + 2)[1 : BANDS + 1]
    whole = float(by_band[1:].sum())
    shares = by_band / whole if whole > FLOOR**2 else np.zeros(BANDS)
    weight = power * fine
    turn = (weight * turns).sum() / weight.sum() if whole > FLOOR**2 and weight.sum() > 0 else 0j
    # A detail along y changes along x, where the angle of its frequency is 0.
    return [*np.log10(shares + FLOOR), float(turn.real), float(turn.imag)]


@lru_cache(maxsize=4)
def _frequencies(height: int, width: int, y_um: float, x_um: float) -> tuple[np.ndarray, ...]:
    """Of a plane's half spectrum: the window before it; of each frequency its band, from 1, whether it is fine, its direction, its number."""
    window = np.outer(_hann(height), _hann(width)).astype(np.float32)
    down, across = np.fft.fftfreq(height, y_um)[:, None], np.fft.rfftfreq(width, x_um)[None]
    radius, edges = np.hypot(down, across), bands_um((y_um, x_um))
    band = np.searchsorted(edges * (1 + 1e-9), radius, side="left")  # 0 is the mean; a band holds its upper edge
    fine = (radius > edges[-1] / 4) & (radius <= edges[-1])
    twice = np.where((across == 0) | (2 * across * x_um >= 1), 1.0, 2.0)
    return window, band, fine, np.exp(2j * np.arctan2(down, across)), twice


def _grain(planes: Plane) -> list[float]:
    """Skew of the details between one pyramid level and the next coarser one, of 2, 4 and 8 pixels."""
    found, level = [], _halved(planes)
    for _ in range(3):
        coarser = _halved(level)
        down, across = 2 * coarser.shape[1], 2 * coarser.shape[2]
        detail = level[:, :down, :across] - coarser.repeat(2, 1).repeat(2, 2)
        found.append(float(np.arcsinh(_skew(detail))))
        level = coarser
    return found


def _halved(planes: Plane) -> Plane:
    down, across = planes.shape[1] // 2 * 2, planes.shape[2] // 2 * 2
    rows = planes[:, 0:down:2] + planes[:, 1:down:2]
    out: Plane = (rows[:, :, 0:across:2] + rows[:, :, 1:across:2]) * np.float32(0.25)
    return out


def _depth(planes: Plane) -> list[float]:
    """The logarithm of the variance along z over that in the plane, and of the power of each quarter of the frequencies along z."""
    along = planes - planes.mean(0)
    across = float(planes.var(axis=(1, 2), dtype=np.float64).mean())
    part = float(np.square(along).mean(dtype=np.float64)) / across if across > FLOOR**2 else 0.0
    spectrum = np.fft.rfft(along * _hann(len(planes)).astype(np.float32)[:, None, None], axis=0)
    power = (spectrum.real**2 + spectrum.imag**2).sum(axis=(1, 2), dtype=np.float64)
    frequency = np.fft.rfftfreq(len(planes)) * 2
    band = np.ceil(frequency * DEPTHS * (1 - 1e-9)).astype(int)
    by_band = np.bincount(band, power, DEPTHS + 1)[1:]
    whole = float(by_band.sum())
    shares = by_band / whole if whole > FLOOR**2 else np.zeros(DEPTHS)
    return [float(np.log10(part + 1e-3)), *np.log10(shares + FLOOR)]


def _hann(n: int) -> Floats:
    found: Floats = np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2
    return found
