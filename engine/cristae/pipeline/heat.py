"""Heat: figures of several things as a picture: a row a thing, a column a figure, its number in its colour, uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cristae.pipeline.picture import FAINT, GROUND, INK, MARGIN

RAMP = ((0, 32, 77), (60, 77, 110), (124, 123, 120), (187, 175, 113), (255, 234, 70))
"""Dark to bright, blue to yellow, as those see it too who do not tell red from green: after cividis (J. R. Nunez et al., PLoS ONE 13,
e0199239 (2018), doi:10.1371/journal.pone.0199239)."""
EMPTY = (44, 46, 54)
CELL, HIGH, TALL = 64, 30, 15  # pixels: of a cell, and of its letters


def heat(
    values: NDArray[np.float64],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    coloured: Sequence[bool] | None = None,
    title: str = "",
    lines: Sequence[str] = (),
) -> np.ndarray:
    """(height, width, 3): the table in colours from 0 to 1.

    values : (rows, columns); NaN is a dash
    coloured : which columns are scores from 0 to 1; of others the number alone is shown
    title, lines : above and below the table
    """
    font, small = ImageFont.load_default(TALL), ImageFont.load_default(13)
    left = max((int(font.getlength(row)) for row in rows), default=0) + 12
    slanted = max((int(small.getlength(name)) for name in columns), default=0)
    top = slanted + 14 + (34 if title else 0)
    grid = CELL * len(columns), HIGH * len(rows)
    legend = 46 + 20 * len(lines)
    room = max(int(ImageFont.load_default(18).getlength(title)), 280, *(int(small.getlength(n)) for n in lines), 0)
    size = max(left + grid[0], room) + 2 * MARGIN, top + grid[1] + legend + 2 * MARGIN
    canvas = Image.new("RGB", size, GROUND)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN - 8), title, INK, ImageFont.load_default(18))
    for k, name in enumerate(columns):
        upright = Image.new("RGB", (slanted + 4, 18), GROUND)
        ImageDraw.Draw(upright).text((2, 1), name, FAINT, small)
        at = MARGIN + left + CELL * k + (CELL - 18) // 2, MARGIN + top - slanted - 10
        canvas.paste(upright.rotate(90, expand=True), at)
    for n, row in enumerate(rows):
        y = MARGIN + top + HIGH * n
        pen.text((MARGIN + left - 12, y + HIGH / 2), row, INK, font, anchor="rm")
        for k, value in enumerate(values[n]):
            x = MARGIN + left + CELL * k
            seen = np.isfinite(value) and (coloured is None or coloured[k])
            pen.rectangle((x, y, x + CELL - 2, y + HIGH - 2), shade(float(value)) if seen else EMPTY)
            ink = (16, 17, 21) if seen and value > 0.5 else INK
            pen.text((x + CELL / 2 - 1, y + HIGH / 2), said(float(value)), ink, font, anchor="mm")
    x, y = MARGIN + left, MARGIN + top + grid[1] + 14
    ramp = np.array([[shade(float(p)) for p in np.linspace(0, 1, 160)]] * 10, np.uint8)
    canvas.paste(Image.fromarray(ramp), (x, y))
    pen.text((x, y + 13), "0", FAINT, small)
    pen.text((x + 160, y + 13), "1", FAINT, small, anchor="ra")
    for n, line in enumerate(lines):
        pen.text((MARGIN, y + 36 + 20 * n), line, FAINT, small)
    return np.asarray(canvas)


def shade(value: float) -> tuple[int, int, int]:
    """The colour of a score, 0 to 1."""
    place = min(max(value, 0.0), 1.0)
    stops = np.linspace(0.0, 1.0, len(RAMP))
    red, green, blue = (round(float(np.interp(place, stops, channel))) for channel in np.array(RAMP, float).T)
    return red, green, blue


def said(value: float) -> str:
    """A number in a cell."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) <= 1 and value != int(value) else f"{value:.4g}"
