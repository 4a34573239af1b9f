"""Familiar picture: how far an image is from training images, drawn: the null with the image in it, spectra, a tile, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from pathlib import Path
from textwrap import wrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cristae.inference.appearance import BANDS, bands_um
from cristae.pipeline.familiar import Familiar
from cristae.pipeline.picture import FAINT, GROUND, INK, PANEL, round_length

WIDTH, MARGIN, GAP = 1180, 28, 40
LEFT_WIDTH, HEIGHT, BELOW = 520, 300, 62  # of a panel, and of what stands under it
TRAINING, OWN, GRID = (58, 110, 170), (255, 176, 64), (44, 46, 54)
FARTHEST = 8.0
"""Standard deviations at which a bar ends."""

Pen = ImageDraw.ImageDraw
Box = tuple[int, int, int, int]  # left, top, right, bottom


def familiar_picture(found: Familiar) -> np.ndarray:
    """(height, width, 3) uint8 RGB.

    Above, distances of training tiles and of the image's own, and both power spectra; below, the tile that is typical of the image, and
    every feature's deviation from the training tiles.
    """
    lines = wrap(found.sentence, 132)
    small = [row for note in found.notes for row in wrap(note, 150)]
    head = 34 + 25 * len(lines) + 19 * len(small) + 16
    rows = len(found.compared.z)
    lower = max(LEFT_WIDTH, 17 * rows + 4)
    canvas = Image.new("RGB", (WIDTH, head + HEIGHT + BELOW + 30 + lower + BELOW), GROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text(
        (MARGIN, 14), f"{Path(found.image).name}, channel {found.channel}, beside {found.model}"[:150], FAINT, _font(14)
    )
    for n, line in enumerate(lines):
        pen.text((MARGIN, 36 + 25 * n), line, INK, _font(18))
    for n, line in enumerate(small):
        pen.text((MARGIN, 40 + 25 * len(lines) + 19 * n), line, FAINT, _font(13))
    right = MARGIN + LEFT_WIDTH + GAP + 30
    _null(pen, (MARGIN, head + 24, MARGIN + LEFT_WIDTH, head + HEIGHT), found)
    _spectra(pen, (right, head + 24, WIDTH - MARGIN, head + HEIGHT), found)
    top = head + HEIGHT + BELOW + 24
    _tile(canvas, (MARGIN, top, MARGIN + LEFT_WIDTH, top + LEFT_WIDTH), found)
    _deviations(pen, (right + 90, top, WIDTH - MARGIN, top + 17 * rows + 4), found)
    return np.asarray(canvas)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _panel(pen: Pen, box: Box, title: str, across: str = "") -> None:
    left, top, right, bottom = box
    pen.text((left, top - 22), title, FAINT, _font(13))
    pen.rectangle(box, PANEL)
    if across:
        pen.text(((left + right) / 2, bottom + 26), across, FAINT, _font(13), anchor="ma")


def _null(pen: Pen, box: Box, found: Familiar) -> None:
    """Distances of the training tiles as a histogram, those of the image as ticks, and its own number as a line."""
    left, top, right, bottom = box
    null, own = np.array(found.reference["null"]), np.array(found.compared.distances)
    ends = np.log(max(min(null[0], own.min()) * 0.8, 0.05)), np.log(max(null[-1], own.max()) * 1.25)

    def at(value: float) -> float:
        return left + float((np.log(max(value, 1e-9)) - ends[0]) / (ends[1] - ends[0])) * (right - left)

    _panel(
        pen,
        box,
        "distances of training tiles (blue), of the image's tiles (ticks), of the image (line)",
        "1 is the median training tile",
    )
    edges = np.linspace(*ends, 49)
    share = np.diff(np.interp(np.exp(edges), null, np.linspace(0, 1, len(null)), left=0, right=1))
    tall = (bottom - top - 50) / share.max()
    for n, part in enumerate(share):
        if part > 0:
            pen.rectangle(
                (at(np.exp(edges[n])) + 1, bottom - part * tall, at(np.exp(edges[n + 1])) - 1, bottom), TRAINING
            )
    for value in own:
        pen.line((at(value), bottom - 12, at(value), bottom), INK)
    x = at(found.compared.number)
    pen.line((x, top, x, bottom), OWN, 3)
    beyond = x > (left + right) / 2
    pen.text(
        (x + (-8 if beyond else 8), top + 8),
        f"{found.compared.number:.1f}",
        OWN,
        _font(20),
        anchor="ra" if beyond else "la",
    )
    for value in _round(np.exp(ends[0]), np.exp(ends[1])):
        pen.text((at(value), bottom + 6), f"{value:g}", FAINT, _font(13), anchor="ma")
        pen.line((at(value), bottom, at(value), bottom + 4), FAINT)


def _spectra(pen: Pen, box: Box, found: Familiar) -> None:
    """Power by frequency: where the middle 95 % of the training tiles lie, and the image's typical tile."""
    left, top, right, bottom = box
    names = [f"spectrum_{n}" for n in range(1, BANDS + 1)]
    where = [found.reference["names"].index(n) for n in names]
    mean, std = (np.array(found.reference[k])[where] for k in ("mean", "std"))
    own = np.array([found.spectrum[n] for n in names])
    bands = bands_um(found.voxel_um)
    middle = np.sqrt(bands[1:] * np.maximum(bands[:-1], bands[1] / 2))
    low, high = floor(min((mean - 2 * std).min(), own.min())), ceil(max((mean + 2 * std).max(), own.max()))
    first, last = np.log10(middle[0]), np.log10(middle[-1])

    def at(frequency: float, power: float) -> tuple[float, float]:
        x = left + 12 + (np.log10(frequency) - first) / (last - first) * (right - left - 24)
        return float(x), float(bottom - 8 - (power - low) / (high - low) * (bottom - top - 16))

    _panel(
        pen, box, "share of the power in the plane: 95 % of the training tiles (blue), the image (line)", "cycles / um"
    )
    for power in range(low, high + 1):
        y = at(middle[0], power)[1]
        pen.line((left, y, right, y), GRID)
        pen.text((left - 6, y), f"{10.0**power:g}", FAINT, _font(13), anchor="rm")
    upper = [at(f, p) for f, p in zip(middle, mean + 2 * std, strict=True)]
    under = [at(f, p) for f, p in zip(middle, mean - 2 * std, strict=True)]
    pen.polygon([*upper, *under[::-1]], TRAINING)
    pen.line([at(f, p) for f, p in zip(middle, mean, strict=True)], (140, 190, 240), 1)
    pen.line([at(f, p) for f, p in zip(middle, own, strict=True)], OWN, 3)
    for value in _round(float(middle[0]), float(middle[-1])):
        x = at(value, low)[0]
        pen.text((x, bottom + 6), f"{value:g}", FAINT, _font(13), anchor="ma")
        pen.line((x, bottom, x, bottom + 4), FAINT)


def _tile(canvas: Image.Image, box: Box, found: Familiar) -> None:
    """The typical tile, 0 of the normalisation black and 1 white, as far as it reaches so far."""
    left, top, right, _ = box
    pen = ImageDraw.Draw(canvas)
    low, high = (float(v) for v in np.percentile(found.tile, (0.5, 99.9)))
    high = high if high > low else low + 1.0
    _panel(pen, box, f"its typical tile; black is {low:.2f} and white {high:.2f} once normalised")
    grey = Image.fromarray((255 * np.clip((found.tile - low) / (high - low), 0, 1)).astype(np.uint8))
    y_um, x_um = (n * v for n, v in zip(found.tile.shape, found.voxel_um[-2:], strict=True))
    scale = (right - left) / max(y_um, x_um)
    grey = grey.resize((max(1, round(x_um * scale)), max(1, round(y_um * scale))), Image.Resampling.NEAREST)
    canvas.paste(grey, (left, top))
    bar_um = round_length(0.2 * x_um)
    y = top + round(y_um * scale) + 12
    pen.rectangle((left, y, left + bar_um * scale, y + 4), INK)
    pen.text((left + bar_um * scale + 8, y + 2), f"{bar_um:g} um", INK, _font(13), anchor="lm")


def _deviations(pen: Pen, box: Box, found: Familiar) -> None:
    """A bar a feature, in standard deviations of the training tiles, cut at 8."""
    left, top, right, bottom = box
    scale, zero = (right - left) / 2 / FARTHEST, (left + right) / 2
    bands = bands_um(found.voxel_um)
    _panel(pen, box, "features, in standard deviations of the training tiles")
    pen.rectangle((zero - 2 * scale, top, zero + 2 * scale, bottom), (22, 38, 56))
    for n, (name, z) in enumerate(found.compared.z.items()):
        y = top + 4 + 17 * n
        end = zero + scale * float(np.clip(z, -FARTHEST, FARTHEST))
        colour = OWN if abs(z) > 2 else TRAINING
        pen.rectangle((min(zero, end), y + 2, max(zero, end), y + 12), colour)
        if abs(z) > FARTHEST:
            pen.text((end + (-4 if z > 0 else 4), y + 7), f"{z:+.0f}", PANEL, _font(11), anchor="rm" if z > 0 else "lm")
        shown = (
            f"{bands[int(name[9:]) - 1]:.2g} to {bands[int(name[9:])]:.2g} / um"
            if "spectrum" in name
            else name.replace("_", " ")
        )
        pen.text((left - 8, y + 7), shown, INK if abs(z) > 2 else FAINT, _font(13), anchor="rm")
    for z in (-8, -4, -2, 0, 2, 4, 8):
        pen.text((zero + z * scale, bottom + 6), f"{z:+d}" if z else "0", FAINT, _font(13), anchor="ma")


def _round(low: float, high: float) -> Sequence[float]:
    """1, 2 and 5 times powers of ten that lie between."""
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
