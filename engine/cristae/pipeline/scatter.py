"""Scatter: measured against true values as a square picture, logarithmic on both sides, uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cristae.pipeline.picture import FAINT, GROUND, INK, PANEL

Floats = NDArray[np.float64]
LEFT, BELOW, ABOVE, RIGHT = 64, 52, 36, 24
DOT = (64, 200, 150)


def scatter(
    true: Floats, measured: Floats, side: int, *, title: str, across: str, up: str, lines: Sequence[str] = ()
) -> np.ndarray:
    """(side, side, 3): a dot an object; on the line the two are equal."""
    canvas = Image.new("RGB", (side, side), GROUND)
    pen, small = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    room = side - max(LEFT + RIGHT, ABOVE + BELOW)
    good = (true > 0) & (measured > 0) & np.isfinite(true) & np.isfinite(measured)
    low, high = _decades(np.concatenate([true[good], measured[good]]))

    def at(x: Floats, y: Floats) -> tuple[Floats, Floats]:
        unit = [(np.log10(v) - low) / (high - low) for v in (x, y)]
        return LEFT + unit[0] * room, ABOVE + room - unit[1] * room

    pen.rectangle((LEFT, ABOVE, LEFT + room, ABOVE + room), PANEL)
    for power in range(low, high + 1):
        x, y = at(np.array(10.0**power), np.array(10.0**power))
        pen.line((float(x), ABOVE, float(x), ABOVE + room), (44, 46, 54))
        pen.line((LEFT, float(y), LEFT + room, float(y)), (44, 46, 54))
        pen.text((float(x), ABOVE + room + 6), f"{10.0**power:g}", FAINT, small, anchor="ma")
        pen.text((LEFT - 8, float(y)), f"{10.0**power:g}", FAINT, small, anchor="rm")
    pen.line((LEFT, ABOVE + room, LEFT + room, ABOVE), FAINT)
    for x, y in zip(*at(true[good], measured[good]), strict=True):
        pen.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), DOT)
    pen.text((LEFT, 8), title, INK, ImageFont.load_default(16))
    pen.text((LEFT + room / 2, side - 8), across, FAINT, small, anchor="md")
    turned = Image.new("RGB", (room, 18), GROUND)
    ImageDraw.Draw(turned).text((room / 2, 2), up, FAINT, small, anchor="ma")
    canvas.paste(turned.rotate(90, expand=True), (4, ABOVE))
    for n, line in enumerate(lines):
        pen.text((LEFT + 10, ABOVE + 8 + 18 * n), line, INK, small)
    return np.asarray(canvas)


def _decades(values: Floats) -> tuple[int, int]:
    if not len(values):
        return -1, 1
    low, high = floor(log10(values.min())), ceil(log10(values.max()))
    return low, max(high, low + 1)
