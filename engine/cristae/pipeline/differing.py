"""Differing: one picture of each image of an evaluation: its objects beside the truth, and where both differ.

    objects   the image, where it is given; objects of the prediction in colours of their own, the truth as white outlines
    errors    voxels in both, in the prediction alone, in the truth alone

A stack shows its worst plane, the one with the most voxels in one alone, and the errors along z. Planes are read strip by strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cristae.blocks import answers as stored
from cristae.blocks.work import Frame, Work, group_of
from cristae.evaluation.pixels import pixel_counts, pixel_figures
from cristae.evaluation.rays import cell_of
from cristae.grid import Box
from cristae.pipeline.evaluated import BOTH, PLANES, PREDICTED, RAYS, TRUE, coloured, tables
from cristae.pipeline.picture import (
    FAINT,
    GAP,
    GROUND,
    INK,
    MAGNIFIED,
    MARGIN,
    STRIP,
    contrast,
    hues,
    outline,
    round_length,
    write_png,
)
from cristae.store.bundle import Bundle
from cristae.store.volume import Volume

WIDTH, LEAST = 1500, 300  # pixels: of all panels together, and of one at least
STRIP_VOXELS = 1 << 24
MANY = 100
"""Pictures of one evaluation; of more images those with the lowest IoU of the foreground."""
KEY = ((BOTH, "in both (TP)"), (PREDICTED, "prediction alone (FP)"), (TRUE, "truth alone (FN)"))


@dataclass(frozen=True, eq=False)
class Seen:
    """What is drawn of one frame, all (y, x) but the counts, which are those of `rays`, (3, y, x)."""

    pred: np.ndarray  # labels of a plane
    truth: np.ndarray
    image: np.ndarray | None
    plane: np.ndarray  # counts in that plane
    along: np.ndarray | None  # counts along z
    pixel_um: tuple[float, float]
    z: int | None


@dataclass(frozen=True)
class Differences:
    """The picture of one frame; none where many others are worse."""

    number: int  # of the frame
    channels: tuple[int, int, int]  # of prediction, truth and image

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        ious = {number: pixel_figures(pixel_counts(table))["iou_fg"] for number, _, table in tables(work)}
        worst = sorted(ious, key=lambda n: (ious[n], n) if np.isfinite(ious[n]) else (2.0, n))[:MANY]
        if self.number not in worst:
            return {}
        frame, iou = work.frames[self.number], ious[self.number]
        image = work.images[frame.image]
        title = image.name + (f", time point {frame.t}" if image.volumes["input"].frames > 1 else "")
        said = "nothing is foreground" if np.isnan(iou) else f"IoU of the foreground {iou:.3f}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, differences(self._seen(work, frame), title, (said,)))
        return {}

    def _seen(self, work: Work, frame: Frame) -> Seen:
        volumes = work.images[frame.image].volumes
        spec = work.spec(frame.image, "input")
        cell, z, along = cell_of(spec.shape), None, None
        if spec.ndim == 3:
            errors = _answer(work, PLANES, self.number, frame)
            z = int(errors["z"][int(np.argmax(errors["errors"]))])
            along = np.asarray(_answer(work, RAYS, self.number, frame)["counts"])
        pred, truth, image, plane = _plane(volumes, self.channels, z, frame.t, cell)
        pixel_um = (cell * spec.voxel_um[-2], cell * spec.voxel_um[-1])
        return Seen(pred, truth, image, plane, along, pixel_um, z)


def picture_name(image: str, t: int, several: bool) -> str:
    """File name of a frame's picture; several : the image has several time points."""
    return f"{image}-t{t:04d}.png" if several else f"{image}.png"


def _answer(work: Work, key: str, number: int, frame: Frame) -> Any:
    return stored.taken(Bundle(stored.answer_path(work.folder, key)), group_of("frame", frame, number))


def _plane(
    volumes: Any, channels: Sequence[int], z: int | None, t: int, cell: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
    """Labels of prediction and truth and the image in one plane, a voxel a cell; and the counts of all voxels in it."""
    one: Volume = volumes["input"]
    rows, columns = one.spatial_shape[-2:]
    step = max(1, STRIP_VOXELS // (columns * cell)) * cell
    names = [name for name in ("input", "truth", "image") if name in volumes]
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    counts = []
    for y in range(0, rows, step):
        box = Box((y, 0), (min(y + step, rows), columns))
        if z is not None:
            box = Box((z, *box.start), (z + 1, *box.stop))
        read = {
            name: volumes[name].read(box, t=t, c=c).reshape(box.shape[-2:])
            for name, c in zip(("input", "truth", "image"), channels, strict=True)
            if name in volumes
        }
        for name in names:
            kept[name].append(read[name][::cell, ::cell])
        here, there = read["input"] != 0, read["truth"] != 0
        both = here & there
        counts.append(np.stack([_in_cells(c, cell) for c in (both, here ^ both, there ^ both)]))
    found = {name: np.concatenate(parts) for name, parts in kept.items()}
    return found["input"], found["truth"], found.get("image"), np.concatenate(counts, axis=1)


def _in_cells(those: np.ndarray, cell: int) -> np.ndarray:
    high = np.add.reduceat(those, np.arange(0, those.shape[0], cell), axis=0, dtype=np.int64)
    return np.add.reduceat(high, np.arange(0, those.shape[1], cell), axis=1)


def differences(seen: Seen, title: str, lines: Sequence[str] = ()) -> np.ndarray:
    """(height, width, 3) uint8 RGB: the panels side by side, a scale bar, a legend and a caption."""
    rows, columns = seen.pred.shape
    across = columns * seen.pixel_um[1]
    panels = 2 if seen.along is None else 3
    least = LEAST / max(columns, rows)
    scale = min(max((WIDTH / panels) / max(columns, rows), least), MAGNIFIED)
    size = max(1, round(columns * scale)), max(1, round(rows * scale * seen.pixel_um[0] / seen.pixel_um[1]))
    where = "" if seen.z is None else f" in plane {seen.z}"
    shown = [
        (f"objects of the prediction, outlines of the truth{where}", overlay(seen, size)),
        (f"errors{where}", _sized(coloured(seen.plane), size)),
    ]
    if seen.along is not None:
        shown.append(("errors along z", _sized(coloured(seen.along), size)))
    small, width = ImageFont.load_default(13), panels * size[0] + (panels - 1) * GAP
    legend = sum(30 + round(small.getlength(name)) for _, name in KEY)
    high = size[1] + STRIP
    canvas = Image.new("RGB", (max(width, legend + 160) + 2 * MARGIN, high + 3 * MARGIN + 56 + 20 * len(lines)), GROUND)
    pen = ImageDraw.Draw(canvas)
    for n, (name, panel) in enumerate(shown):
        x = MARGIN + n * (size[0] + GAP)
        pen.text((x, MARGIN - 4), _fitted(name, size[0]), FAINT, small)
        canvas.paste(panel, (x, MARGIN + STRIP))
    y, right = high + 2 * MARGIN, canvas.width - MARGIN
    bar_um = round_length(0.3 * across)
    pen.rectangle((right - round(bar_um / across * size[0]), y, right, y + 4), INK)
    pen.text((right, y + 8), f"{bar_um:g} um", INK, small, anchor="ra")
    pen.text((MARGIN, y - 6), title, INK, ImageFont.load_default(18))
    for n, line in enumerate(lines):
        pen.text((MARGIN, y + 20 + 20 * n), line, FAINT, ImageFont.load_default(14))
    x, y = MARGIN, y + 26 + 20 * len(lines)
    for colour, name in KEY:
        pen.rectangle((x, y + 2, x + 12, y + 14), colour)
        pen.text((x + 18, y), name, FAINT, small)
        x += 30 + round(small.getlength(name))
    return np.asarray(canvas)


def overlay(seen: Seen, size: tuple[int, int]) -> Image.Image:
    """Objects of the prediction in their colours over the image, the truth as white outlines; `size` (width, height)."""
    rows, columns = ((np.arange(n) * m // n) for n, m in zip(size[::-1], seen.pred.shape, strict=True))
    pred, truth = (a.astype(np.uint64).take(rows, 0).take(columns, 1) for a in (seen.pred, seen.truth))
    grey = np.zeros(seen.pred.shape) if seen.image is None else seen.image.astype(np.float64)
    low, high = contrast(grey, np.zeros(grey.shape, np.uint64))
    light = 225 * np.clip((grey - low) / (high - low), 0.0, 1.0) ** 0.8 if seen.image is not None else grey
    rgb = np.repeat(light.take(rows, 0).take(columns, 1)[..., None], 3, axis=2)
    inside = pred != 0
    share = 0.55 if seen.image is None else 0.35
    rgb[inside] = (1 - share) * rgb[inside] + share * hues(pred[inside])
    rgb[outline(pred) & inside] = hues(pred[outline(pred) & inside])
    rgb[outline(truth) & (truth != 0)] = 255
    return Image.fromarray(rgb.astype(np.uint8))


def _sized(rgb: np.ndarray, size: tuple[int, int]) -> Image.Image:
    shrinks = size[0] < rgb.shape[1] or size[1] < rgb.shape[0]
    return Image.fromarray(rgb).resize(size, Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST)


def _fitted(text: str, width: int) -> str:
    """As many words as there is room for."""
    small, words = ImageFont.load_default(13), text.split()
    while len(words) > 1 and small.getlength(" ".join(words)) > width:
        words.pop()
    return " ".join(words).rstrip(",")
