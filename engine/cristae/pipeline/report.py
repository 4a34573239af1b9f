"""Report: one page of what a run found: pictures, distributions by condition, what looks odd, and how it was done.

The page is one HTML file that fetches nothing: pictures are inside it, plots are SVG. Replicates are images: a dot is the
median of one image's objects, a bar the mean of the dots.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path

import polars as pl

from cristae.errors import InvalidInput
from cristae.morphology.columns import COLUMNS
from cristae.pipeline.audit import AUDITED
from cristae.pipeline.document import nearest
from cristae.pipeline.status import opened, runs_at
from cristae.store.bundle import write_bytes

SHOWN = ("volume_um3", "area_um2", "axis_major_um", "sphericity", "extent", "euler_number", "intensity_mean")
"""Columns that are drawn where a table has them."""

PICTURES, WIDTH = 12, 640
"""Pictures on the page, those of flagged images first, and how wide they are stored."""
FEW = 2
"""Pictures up to which each takes half of the page; of more, a quarter."""


def report(folder: Path, by: str | None = None) -> str:
    """The page for a folder that `run --out` wrote, or one object's folder inside it. by : a column of the sample sheet.

    Raises
    ------
    InvalidInput : if the folder holds no results, or the table has no column `by`.
    """
    if not (folder / "objects.parquet").exists():
        inside = sorted(str(p.parent) for p in folder.glob("*/objects.parquet"))
        hint = f"; it holds {', '.join(inside)}" if inside else ""
        way = "name the folder that `run --out` wrote"
        if (folder / "tables").is_dir():
            way = "results that lie in their image have no report: run with --out for one"
        elif (folder / ".cristae").is_dir() and not inside:
            way = "the run there measured nothing, or the table was deleted, and the run's own command makes it again"
        raise InvalidInput(f"{folder} holds no objects.parquet{hint}; {way}")
    table = pl.read_parquet(folder / "objects.parquet")
    with open(folder / "summary.csv", encoding="utf-8", newline="") as file:
        summary = list(csv.DictReader(file))
    own = [name for name in table.columns if name not in _measured(table) and name not in ("image", "t", "label")]
    if by is not None and by not in own:
        raise InvalidInput(f"{folder} has no column {by} to report by; {nearest(by, own, 'its columns are')}")
    parts = [
        f"<h1>{escape(folder.resolve().name)}</h1>",
        f"<p>{len(table)} objects in {len({r['image'] for r in summary if r.get('objects')})} images.</p>",
        "<h2>Pictures</h2>",
        *_pictures(folder, summary),
        f"<h2>Distributions{f' by {escape(by)}' if by else ''}</h2>",
        "<p>A dot is the median over one image's objects; the bar is the mean of the dots.</p>",
        *(_plot(table, name, by) for name in SHOWN if name in table.columns),
        "<h2>Images</h2>",
        _table(summary),
        *_sure(folder),
        "<h2>Methods</h2>",
        f"<pre>{escape((folder / 'methods.md').read_text(encoding='utf-8'))}</pre>",
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(folder.resolve().name)}</title><style>{_style()}</style></head><body>{''.join(parts)}</body></html>"
    )


def _sure(folder: Path) -> list[str]:
    """Seams and audit: what the run's own state says, where it still lies beside the results."""
    try:
        runs = [opened(state) for state in runs_at(str(folder))]
    except InvalidInput:
        return []
    found = []
    for generation, work, _ in runs:
        blocks = sum(max(len(work.grid(frame.image, p)) for p in work.passes) for _, frame in work.finished())
        seen = generation.folder / AUDITED
        audited = (
            "Audited {date}: {objects} stored objects compared with what was written, {damaged} damaged.".format(
                **json.loads(seen.read_bytes())
            )
            if seen.exists()
            else "Not audited yet: cristae audit compares every stored object with what was written."
        )
        size = " x ".join(map(str, work.block))
        found += [
            f"<li>Computed in {blocks} block{'s' * (blocks > 1)} of at most {size} voxels. Objects that cross blocks are joined where they "
            f"touch, exactly: the labels are those of the whole image.{_crossing(folder)}</li>",
            f"<li>{audited}</li>",
        ]
    return ["<h2>Seams and audit</h2>", f"<ul>{''.join(found)}</ul>"]


def _crossing(folder: Path) -> str:
    """What the seam report of this folder says."""
    path = folder / "seams.json"
    if not path.exists():
        return ""
    found = json.loads(path.read_bytes())
    return (
        f" {found['crossing']} object{'s' * (found['crossing'] != 1)} of {escape(found['object'])} lies in more than one block, in "
        f"{found['parts']} parts; {found['contested'] or 'none'} contested."
    )


def write_report(folder: Path, by: str | None = None) -> Path:
    """The page beside the results, as report.html."""
    final = folder / "report.html"
    write_bytes(final, report(folder, by).encode("utf-8"))
    return final


def _style() -> str:
    return (files("cristae.pipeline") / "shipped" / "report.css").read_text(encoding="utf-8")


def _measured(table: pl.DataFrame) -> set[str]:
    return {name for name in table.columns if any(name == c or name.startswith(f"{c}_") for c in COLUMNS)}


def _pictures(folder: Path, summary: Sequence[Mapping[str, str]]) -> list[str]:
    flagged = {row["image"]: row["flags"] for row in summary if row.get("flags")}
    single = folder / "overview.png"
    found = {
        row["image"]: single if single.exists() else folder / "overview" / f"{row['image']}.png" for row in summary
    }
    order = sorted(found, key=lambda image: image not in flagged)
    shown = []
    for image in [i for i in order if found[i].exists()][:PICTURES]:
        flag = f" ({flagged[image]})" if image in flagged else ""
        shown.append(
            f'<figure><img alt="{escape(image)}" src="data:image/png;base64,{_small(found[image])}">'
            f"<figcaption>{escape(image + flag)}</figcaption></figure>"
        )
    lost = [f"<li>{escape(image)}: {escape(why)}</li>" for image, why in flagged.items() if not found[image].exists()]
    shown = [f'<div class="{"many" if len(shown) > FEW else "few"}">{"".join(shown)}</div>']
    return [*shown, f"<ul>{''.join(lost)}</ul>" if lost else ""]


def _small(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as picture:
        picture.thumbnail((WIDTH, WIDTH))
        out = io.BytesIO()
        picture.save(out, format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()


def _plot(table: pl.DataFrame, column: str, by: str | None) -> str:
    """One column: dots for images, side by side for the values of `by`."""
    keys = ["image"] if by is None else [by, "image"]
    medians = table.group_by(keys, maintain_order=True).agg(pl.col(column).median()).drop_nulls(column)
    groups: dict[str, list[float]] = {}
    for row in medians.iter_rows(named=True):
        groups.setdefault(str(row[by]) if by else "all images", []).append(float(row[column]))
    values = [v for some in groups.values() for v in some if v == v]
    if not values:
        return ""
    low, high = min(values), max(values)
    low, high = (low - 0.5, high + 0.5) if low == high else (low - 0.08 * (high - low), high + 0.08 * (high - low))
    width, height, left, step = 90 + 110 * len(groups), 220, 70, 110

    def y(value: float) -> float:
        return 190 - 170 * (value - low) / (high - low)

    drawn = [f'<line class="axis" x1="{left}" x2="{left}" y1="15" y2="190"/>']
    drawn += [
        f'<text class="faint" x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:.3g}</text>'
        for mark in (low, (low + high) / 2, high)
    ]
    for n, (name, some) in enumerate(groups.items()):
        middle = left + step * n + step / 2
        for k, value in enumerate(some):
            shift = ((k * 0.618034) % 1 - 0.5) * 44  # beside each other, the same way every time
            drawn.append(f'<circle class="dot" cx="{middle + shift:.1f}" cy="{y(value):.1f}" r="3.5"/>')
        mean = sum(some) / len(some)
        drawn.append(f'<line class="bar" x1="{middle - 28}" x2="{middle + 28}" y1="{y(mean):.1f}" y2="{y(mean):.1f}"/>')
        drawn.append(f'<text x="{middle}" y="208" text-anchor="middle">{escape(name)} ({len(some)})</text>')
    about = COLUMNS[column]
    unit = f", {about.unit}" if about.unit else ""
    return (
        f'<figure><svg role="img" aria-label="{column} of each image" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">{"".join(drawn)}</svg>'
        f"<figcaption>{column}{escape(unit)}: {escape(about.definition)}</figcaption></figure>"
    )


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    names = list(rows[0]) if rows else []
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(_cell(row.get(name) or "") for name in names) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(text: str) -> str:
    try:
        return f'<td class="n">{float(text):.6g}</td>'
    except ValueError:
        return f"<td>{escape(text)}</td>"
