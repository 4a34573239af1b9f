"""Evaluated: what an evaluation leaves: the scores as JSON or CSV, and a picture of where prediction and truth differ.

Each is a writer: called with a path, it writes itself there from the answers of the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.work import Frame, Work, group_of
from cristae.evaluation.figures import Counts
from cristae.evaluation.listing import listed
from cristae.evaluation.objects import Rules
from cristae.evaluation.overlap import Table
from cristae.evaluation.pixels import pixel_counts, pixel_figures
from cristae.evaluation.scores import Kind, document, score
from cristae.evaluation.topology import topology_counts
from cristae.grid import Box
from cristae.pipeline.results import csv_of
from cristae.pipeline.truths import TruthColumn
from cristae.store.bundle import Bundle, write_bytes
from cristae.store.tables import TableWriter

TABLE, RAYS, PLANES = "overlaps", "rays", "planes"
"""Keys of the answers."""

BOTH, PREDICTED, TRUE = (222, 224, 230), (255, 132, 60), (40, 150, 205)
"""Colours of voxels in both, in the prediction alone, in the truth alone."""


@dataclass(frozen=True)
class Scores:
    """The scores of every image and of all together."""

    kind: Kind
    pred: str
    truth: str
    channels: tuple[int, int]
    column: TruthColumn | None

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        scores = [
            score(
                self.kind,
                table,
                image=work.images[frame.image].name,
                t=frame.t,
                number=frame.image,
                voxel=float(prod(work.spec(frame.image, "input").voxel_um)),
                lines=self._lines(work, frame) if self.kind.with_topology else None,
            )
            for _, frame, table in tables(work)
        ]
        column = self.column.read([image.name for image in work.images]) if self.column is not None else None
        facts: dict[str, Any] = {
            "prediction": self.pred,
            "truth": self.truth,
            "scored": "objects" if self.kind.by_object else "masks",
            "min_voxels": self.kind.rules.min_voxels,
            **document(self.kind, scores, column),
        }
        if work.lost:
            facts["set_aside"] = {work.images[n].name: why for n, why in work.lost.items()}
        write_bytes(path, _csv(facts) if path.suffix == ".csv" else json.dumps(facts, indent=1).encode())
        return {"scored": len(scores)}

    def _lines(self, work: Work, frame: Frame) -> Counts:
        volumes = [work.images[frame.image].volumes[name] for name in ("input", "truth")]
        whole = Box.whole(volumes[0].spatial_shape)
        pred, truth = (v.read(whole, t=frame.t, c=c) != 0 for v, c in zip(volumes, self.channels, strict=True))
        return topology_counts(pred, truth)


@dataclass(frozen=True)
class Listed:
    """The table of objects: which were found, which missed, which are not there."""

    rules: Rules

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        with TableWriter(path) as out:
            for _, frame, table in tables(work):
                columns = listed(table, self.rules)
                many = len(columns["state"])
                image = np.full(many, work.images[frame.image].name, dtype=object)
                out.write({"image": image, "t": np.full(many, frame.t, np.int32), **columns})
        return {}


def tables(work: Work) -> Iterator[tuple[int, Frame, Table]]:
    """Number of each frame, the frame, and its table."""
    bundle = Bundle(stored.answer_path(work.folder, TABLE))
    for number, frame in work.finished():
        yield number, frame, Table.of(stored.taken(bundle, group_of("frame", frame, number)))


def _csv(facts: Mapping[str, Any]) -> bytes:
    """A row an image, then their mean, the ends of its interval, in how many images it was found, and all pooled."""
    names = list(facts["figures"])
    rows = [{"row": "image", **image} for image in facts["images"]]
    rows += [
        {
            "row": row,
            "image": "",
            "t": "",
            **{name: facts["mean"][name][row] for name in names if name in facts["mean"]},
        }
        for row in ("mean", "low", "high", "n")
    ]
    rows.append({"row": "pooled", "image": "", "t": "", **facts["pooled"]})
    return csv_of([{name: "" if value is None else value for name, value in row.items()} for row in rows])


@dataclass(frozen=True)
class Disagreement:
    """The picture of one frame, of several the one with the lowest IoU: what is in both, in the prediction alone, in the truth alone."""

    def __call__(self, work: Work, path: Path) -> dict[str, Any]:
        from cristae.pipeline.picture import write_png

        worst: tuple[float, int, Frame] | None = None
        for number, frame, table in tables(work):
            iou = pixel_figures(pixel_counts(table))["iou_fg"]
            if worst is None or iou < worst[0] or np.isnan(worst[0]):
                worst = iou, number, frame
        assert worst is not None
        iou, number, frame = worst
        seen = stored.taken(Bundle(stored.answer_path(work.folder, RAYS)), group_of("frame", frame, number))
        spec = work.spec(frame.image, "input")
        said = "nothing is foreground" if np.isnan(iou) else f"IoU of the foreground {iou:.3f}"
        title = work.images[frame.image].name + (
            f", time point {frame.t}" if work.images[frame.image].volumes["input"].frames > 1 else ""
        )
        if len(work.frames) > 1:
            said += f", the lowest of {sum(1 for _ in work.finished())}"
        pixel_um = tuple(float(seen["cell"][0]) * v for v in spec.voxel_um[-2:])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(
            path,
            drawn(np.asarray(seen["counts"]), pixel_um, title, (said, "seen along z") if spec.ndim == 3 else (said,)),
        )
        return {}


def coloured(counts: np.ndarray) -> np.ndarray:
    """(y, x, 3) uint8 of the counts (3, y, x) of `rays`: the colour says whose the voxels of a ray are, the light how many."""
    many = counts.sum(axis=0)
    colours = np.array([BOTH, PREDICTED, TRUE], np.float64)
    mixed = np.einsum("kyx,kc->yxc", counts / np.maximum(many, 1), colours)
    light = np.where(many > 0, 0.3 + 0.7 * np.sqrt(many / max(int(many.max()), 1)), 0.0)
    found: np.ndarray = (mixed * light[..., None]).astype(np.uint8)
    return found


def drawn(counts: np.ndarray, pixel_um: tuple[float, ...], title: str, lines: tuple[str, ...]) -> np.ndarray:
    """(height, width, 3) uint8 RGB: `coloured` with a scale bar and a legend."""
    from PIL import Image, ImageDraw, ImageFont

    from cristae.pipeline.picture import FAINT, GROUND, INK, MARGIN, SMALLEST, round_length

    rows, columns = counts.shape[1:]
    scale = max(1, SMALLEST // max(rows, columns))
    wide = max(1, round(columns * scale))
    high = max(1, round(rows * scale * pixel_um[0] / pixel_um[1]))
    panel = Image.fromarray(coloured(counts)).resize((wide, high), Image.Resampling.NEAREST)
    width = max(wide, 420)
    canvas = Image.new("RGB", (width + 2 * MARGIN, high + 3 * MARGIN + 48 + 20 * len(lines)), GROUND)
    canvas.paste(panel, (MARGIN, MARGIN))
    pen, y = ImageDraw.Draw(canvas), high + 2 * MARGIN
    bar_um = round_length(0.2 * columns * pixel_um[1])
    bar = max(1, round(bar_um / pixel_um[1] * scale))
    pen.rectangle((MARGIN + width - bar, y, MARGIN + width, y + 4), INK)
    pen.text((MARGIN + width, y + 8), f"{bar_um:g} um", INK, ImageFont.load_default(13), anchor="ra")
    pen.text((MARGIN, y - 4), title, INK, ImageFont.load_default(18))
    for n, line in enumerate(lines):
        pen.text((MARGIN, y + 22 + 20 * n), line, FAINT, ImageFont.load_default(14))
    x, y = MARGIN, y + 24 + 20 * len(lines)
    for colour, name in zip((BOTH, PREDICTED, TRUE), ("in both", "prediction alone", "truth alone"), strict=True):
        pen.rectangle((x, y + 3, x + 12, y + 15), colour)
        pen.text((x + 18, y), name, FAINT, ImageFont.load_default(14))
        x += 140
    return np.asarray(canvas)
