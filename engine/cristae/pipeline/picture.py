"""Picture: projections composed into one picture with outlines, a scale bar and a caption, uint8 RGB."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import floor, log10
from pathlib import Path
from textwrap import wrap

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from cristae.grid import Box
from cristae.pipeline.projection import NOWHERE, finish_projections, pixel_step, project_block

Labels = NDArray[np.uint64]
Floats = NDArray[np.float64]
Colouring = Callable[[Labels], Floats]  # labels (n,) to RGB (n, 3), 0-255

SMALLEST, LARGEST = 720, 1380  # the longest side of the panels lies between these,
MAGNIFIED = 12  # and where it can, a pixel of a frame takes no more screen pixels than this

GROUND, PANEL, INK, FAINT = (16, 17, 21), (0, 0, 0), (236, 238, 242), (146, 151, 162)
GRADIENT = ((58, 82, 190), (40, 150, 205), (64, 200, 150), (190, 222, 82), (255, 214, 70), (255, 132, 60))
MARGIN, GAP, STRIP, LEGEND, SMALL = 24, 14, 20, 190, 13  # pixels; a strip holds a panel's name
READABLE = 600  # pixels of a caption, unless the whole picture may be smaller


def overview(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    voxel_um: Sequence[float],
    title: str = "",
    lines: Sequence[str] = (),
    values: Mapping[int, float] | None = None,
    values_title: str = "",
) -> np.ndarray:
    """The picture of arrays in memory, (z, y, x) or (y, x); see `compose`."""
    projection = project_block(image, labels, Box.whole(image.shape), pixel_step(image.shape))
    frames = finish_projections(projection, voxel_um=voxel_um)
    return compose(frames, title=title, lines=lines, values=values, values_title=values_title)


def compose(
    frames: Mapping[str, np.ndarray],
    *,
    title: str = "",
    lines: Sequence[str] = (),
    values: Mapping[int, float] | None = None,
    values_title: str = "",
    bounds: tuple[float, float] | None = None,
    magnified: int = MAGNIFIED,
    smallest: int = SMALLEST,
) -> np.ndarray:
    """(height, width, 3) uint8 RGB: projections with the outlines of labels, a scale bar and a caption.

    frames : the answer of `projections`
    title, lines : the caption under the panels; long lines are broken
    values : colour of each label from a gradient instead of its own hue; labels that are missing are grey
    values_title : what the values are, with their unit
    bounds : the values at the ends of the gradient, where pictures are to share it
    magnified : screen pixels that a pixel of a frame takes at most, unless the picture would be smaller than
    smallest : pixels of its longest side
    """
    z_um, y_um, x_um = (float(v) for v in frames["pixel_um"])
    deep = len(frames["xz"]) > 1
    panels = {"xy": y_um, "xz": z_um} if deep else {"xy": y_um}
    heights_um = [len(frames[name]) * row_um for name, row_um in panels.items()]
    width_um = frames["xy"].shape[1] * x_um
    stacked = heights_um[-1] <= 0.6 * heights_um[0]
    extent_um = (sum(heights_um), width_um) if stacked else (max(heights_um), len(panels) * width_um)
    scale = _pixels_per_um(max(extent_um), min(y_um, x_um), magnified, smallest)

    low, high = contrast(frames["xy"], frames["labels_xy"])
    hue = hues if values is None else partial(_shades, values=values, bounds=bounds or _bounds(values))
    drawn = []
    for name, height_um in zip(panels, heights_um, strict=True):
        pixels = max(1, round(width_um * scale)), max(1, round(height_um * scale))
        drawn.append(_panel(frames[name], frames[f"labels_{name}"], pixels, low, high, hue))

    names = ("xy  brightest along z", "xz  brightest along y") if deep else ("",)
    body = _arrange(drawn, names, stacked)
    width = max(body.width, min(smallest, READABLE))
    footer = _footer(width, title, lines, max(extent_um), scale, values, values_title, bounds)
    size = max(body.width, footer.width) + 2 * MARGIN, body.height + footer.height + 3 * MARGIN
    canvas = Image.new("RGB", size, GROUND)
    canvas.paste(body, (MARGIN, MARGIN))
    canvas.paste(footer, (MARGIN, body.height + 2 * MARGIN))
    return np.asarray(canvas)


def write_png(path: Path | str, rgb: np.ndarray) -> None:
    """Write (y, x, 3) uint8 as PNG; the file appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        Image.fromarray(rgb).save(unfinished, format="PNG", compress_level=1)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def round_length(longest: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is at most `longest`."""
    decade = 10.0 ** floor(log10(longest))
    return max(m * decade for m in (1, 2, 5) if m == 1 or m * decade <= longest)


def _pixels_per_um(extent_um: float, pixel_um: float, magnified: int, smallest: int) -> float:
    """The scale of the picture, for panels whose longest side is `extent_um`."""
    return min(LARGEST / extent_um, max(smallest / extent_um, magnified / pixel_um))


def contrast(value: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """The values drawn black and white."""
    seen = value[(label != NOWHERE) & np.isfinite(value)]
    if not seen.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(seen, (1.0, 99.9)))
    return (low, high) if high > low else (low - 1.0, low + 2.0)


def _panel(
    value: np.ndarray, label: np.ndarray, size: tuple[int, int], low: float, high: float, hue: Colouring
) -> Image.Image:
    """One frame in grey at `size` (width, height), its labels lightly tinted and outlined."""
    light = np.clip((value.astype(np.float64) - low) / (high - low), 0.0, 1.0) ** 0.8
    grey = Image.fromarray(np.where(label == NOWHERE, 0, 225 * light).astype(np.uint8))
    shrinks = size[0] < grey.width or size[1] < grey.height
    grey = grey.resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    rgb = np.array(grey.convert("RGB"))

    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size[::-1], label.shape, strict=True))
    ids = np.where(label == NOWHERE, 0, label).take(rows, 0).take(columns, 1)
    inside = ids != 0
    grey_inside, colour = rgb[inside], hue(ids[inside])
    tinted = grey_inside * (0.6 + 0.4 * colour / 255.0)
    outlined = 0.15 * grey_inside + 0.85 * colour
    rgb[inside] = np.where(outline(ids)[inside][:, None], outlined, tinted).astype(np.uint8)
    return Image.fromarray(rgb)


def outline(ids: np.ndarray) -> np.ndarray:
    """The pixels whose neighbour has another label; the frame's own border is no outline."""
    edge = np.zeros(ids.shape, bool)
    for here, there in (((slice(1, None),), (slice(-1),)), ((slice(None), slice(1, None)), (slice(None), slice(-1)))):
        differs = ids[here] != ids[there]
        edge[here] |= differs
        edge[there] |= differs
    return edge


def hues(ids: Labels) -> Floats:
    """(n, 3) a colour for each label, always the same one, neighbouring numbers far apart: golden-ratio steps."""
    turn = (ids * np.uint64(0x9E3779B97F4A7C15)) / 2.0**64
    sector: Floats = (np.array([5.0, 3.0, 1.0]) + 6.0 * turn[:, None]) % 6.0
    colour: Floats = 255.0 - 191.0 * np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    return colour


def _bounds(values: Mapping[int, float]) -> tuple[float, float]:
    """The values at the ends of the gradient; the outermost 2 % are drawn like their neighbours."""
    finite = [v for v in values.values() if np.isfinite(v)] or [0.0]
    low, high = np.percentile(finite, (2.0, 98.0))
    return float(low), float(high)


def _shades(ids: Labels, *, values: Mapping[int, float], bounds: tuple[float, float]) -> Floats:
    """(n, 3) the gradient's colour for each label's value."""
    which, back = np.unique(ids, return_inverse=True)
    of = np.array([values.get(int(i), np.nan) for i in which])
    low, high = bounds
    place = (np.clip(of, low, high) - low) / (high - low if high > low else 1.0)
    colours = _gradient(np.nan_to_num(place))
    colours[np.isnan(place)] = FAINT
    return colours[back]


def _gradient(place: Floats) -> Floats:
    """(n, 3) colours along the gradient, 0 to 1."""
    stops = np.linspace(0.0, 1.0, len(GRADIENT))
    return np.stack([np.interp(place, stops, channel) for channel in np.array(GRADIENT, float).T], axis=-1)


def _arrange(panels: Sequence[Image.Image], names: Sequence[str], stacked: bool) -> Image.Image:
    """The panels below or beside each other, each under its name."""
    strip = STRIP if any(names) else 0
    down, right = (p.height for p in panels), (p.width for p in panels)
    between = GAP * (len(panels) - 1)
    size = (max(right), sum(down) + between) if stacked else (sum(right) + between, max(down))
    body = Image.new("RGB", (size[0], size[1] + strip * (len(panels) if stacked else 1)), GROUND)
    pen, small, x, y = ImageDraw.Draw(body), ImageFont.load_default(SMALL), 0, 0
    for panel, name in zip(panels, names, strict=True):
        pen.text((x, y - 2), name, FAINT, small)
        body.paste(panel, (x, y + strip))
        x, y = (x, y + strip + panel.height + GAP) if stacked else (x + panel.width + GAP, y)
    return body


def _footer(
    width: int,
    title: str,
    lines: Sequence[str],
    extent_um: float,
    scale: float,
    values: Mapping[int, float] | None,
    values_title: str,
    bounds: tuple[float, float] | None,
) -> Image.Image:
    """Caption on the left; scale bar and, for values, their gradient on the right."""
    bar_um = round_length(0.2 * extent_um)
    bar = max(1, round(bar_um * scale))
    room = width - (bar if values is None else max(bar, LEGEND)) - MARGIN
    rows = [(row, 18, INK) for row in wrap(_lettered(title), room // 10)]
    rows += [(row, 14, FAINT) for line in lines for row in wrap(_lettered(line), room // 7) or [""]]
    legend = 28 if values is None else 78
    footer = Image.new("RGB", (width, max(legend, sum(7 * size // 5 for _, size, _ in rows))), GROUND)
    pen, small, y = ImageDraw.Draw(footer), ImageFont.load_default(SMALL), 0
    for row, size, ink in rows:
        pen.text((0, y), row, ink, ImageFont.load_default(size))
        y += 7 * size // 5
    pen.rectangle((width - bar, 3, width - 1, 6), INK)
    pen.text((width, 10), f"{bar_um:g} um", INK, small, anchor="ra")
    if values is not None:
        low, high = bounds or _bounds(values)
        ramp = np.broadcast_to(_gradient(np.linspace(0, 1, LEGEND)).astype(np.uint8), (8, LEGEND, 3))
        footer.paste(Image.fromarray(np.ascontiguousarray(ramp)), (width - LEGEND, 50))
        pen.text((width - LEGEND, 33), _lettered(values_title), FAINT, small)
        pen.text((width - LEGEND, 60), f"{low:.3g}", FAINT, small)
        pen.text((width, 60), f"{high:.3g}", FAINT, small, anchor="ra")
    return footer


def _lettered(text: str) -> str:
    """The text in the letters that pillow's own font has."""
    return text.translate({0xB5: "u", 0x3BC: "u", 0xB2: "2", 0xB3: "3", 0xD7: "x"})
