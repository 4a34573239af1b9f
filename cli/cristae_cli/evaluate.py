"""Evaluate: the command that scores a segmentation against a truth, and `compare`, which puts the scores of several side by side.

Scores go to stdout, as a table or as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from json import dumps as dump
from json import loads as load
from pathlib import Path
from typing import Annotated, Any

import typer

from cristae.errors import UsageError
from cristae_cli import options as o


def evaluate(
    pred: Annotated[str, typer.Argument(help="Labels or a mask; a folder, or what `run --out` wrote.")],
    truth: Annotated[
        str, typer.Argument(help="The true labels or mask, on the same grid; a folder is paired by name.")
    ],
    out: Annotated[
        str | None, typer.Option("--out", help="Keep the scores, .json or .csv; a stopped run goes on from there.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    semantic: Annotated[bool, typer.Option("--semantic", help="Score foreground only, whatever the labels.")] = False,
    min_voxels: Annotated[int, typer.Option("--min-voxels", help="Take smaller predictions out first.")] = 0,
    threshold_iou: Annotated[
        str | None, typer.Option("--threshold-iou", help="IoU of average precision: 0.5,0.75; by default 0.5 to 0.95.")
    ] = None,
    topology: Annotated[
        bool, typer.Option("--topology", help="Also centre lines (clDice) and Betti numbers, image by image.")
    ] = False,
    by: Annotated[
        str | None, typer.Option("--by", help="Recall by a column of the truth's table, such as radius_um.")
    ] = None,
    table: Annotated[str | None, typer.Option("--table", help="That table, .parquet or .csv.")] = None,
    objects: Annotated[
        str | None,
        typer.Option(
            "--objects", help="A table of which objects were found, missed or are not there, .parquet or .csv."
        ),
    ] = None,
    picture: Annotated[
        str | None, typer.Option("--picture", help="Draw what is in both and in one alone, .png.")
    ] = None,
    pictures: Annotated[
        str | None, typer.Option("--pictures", help="A folder for a picture of each image: objects and errors.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", help="The images themselves, to lie under those pictures.")
    ] = None,
    axes: o.Axes = None,
    voxel_um: o.VoxelUm = None,
    channel: o.Channel = None,
    time: o.Time = None,
    crop: o.Crop = None,
    cluster: o.Cluster = "auto",
    memory: o.Memory = None,
    block: o.Block = None,
    fresh: o.Fresh = False,
) -> None:
    """Score a segmentation against the truth: voxels, objects, partitions, and with their intervals over images."""
    from cristae.evaluation.objects import THRESHOLDS, Rules
    from cristae.pipeline.evaluating import Wanted, evaluate_job
    from cristae.pipeline.execute import execute
    from cristae_cli.talk import progress, say

    if out is None and ("://" in cluster or cluster.endswith(".json")):
        raise UsageError(f"--cluster {cluster}: its workers need a folder that they share; name one with --out")
    if out is None and objects is not None and Path(objects).exists() and not fresh:
        raise UsageError(f"--objects {objects} exists already; give another name, or --fresh to replace it")
    rules = Rules(min_voxels, _numbers(threshold_iou) or THRESHOLDS)
    wanted = Wanted(rules, semantic, topology, objects, picture, pictures, image, by, table)
    inputs = o.inputs(axes, voxel_um, None, channel, time, None, crop)
    settings = o.settings(cluster, memory, block, "cpu", fresh or out is None, pyramid=False)
    with _place(out, objects or picture or pictures) as place:
        job = evaluate_job(pred, truth, str(place), inputs, wanted)
        with progress() as listen:
            outcome = execute(job, settings, listen)
        if outcome.status == "nothing to do":
            say("nothing to do: the scores are complete")
        text = job.files[0].final.read_text(encoding="utf-8")
        if json:
            print(text)
        else:
            show_scores(load(text))
        for path in outcome.outputs if out is not None else outcome.outputs[1:]:
            say(str(path))


@contextmanager
def _place(out: str | None, other: str | None) -> Iterator[Path]:
    """Where the scores go; without a name for them into a folder that goes with the command, on the disk of what else is written."""
    from tempfile import TemporaryDirectory

    if out is not None:
        yield Path(out)
        return
    beside = next((p for p in Path(other).absolute().parents if p.is_dir()), None) if other is not None else None
    with TemporaryDirectory(prefix=".cristae-evaluate-", dir=beside) as folder:
        yield Path(folder) / "scores.json"


def _numbers(text: str | None) -> tuple[float, ...] | None:
    """ "0.5,0.75" to numbers."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--threshold-iou {text} is no list of numbers; write 0.5,0.75") from None


def compare(
    scores: Annotated[list[str], typer.Argument(help="What `evaluate --out` wrote, .json; one or more.")],
    figures: Annotated[
        str | None,
        typer.Option("--figures", help="Of these figures only, as dice,pq; by default of all that are scores."),
    ] = None,
    picture: Annotated[str | None, typer.Option("--picture", help="Draw the table in colours, .png.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Put the scores of several evaluations side by side: classes, or predictions of one truth."""
    from cristae.pipeline.compared import compared
    from cristae_cli.talk import say

    o.picture(picture, "--picture")
    chosen = [name.strip() for name in figures.split(",") if name.strip()] if figures is not None else None
    found = compared(scores, chosen)
    values = [[None if value != value else value for value in row] for row in found.values.tolist()]
    if json:
        told = [
            {"scores": name, "images": many, **dict(zip(found.figures, row, strict=True))}
            for name, many, row in zip(found.rows, found.images, values, strict=True)
        ]
        print(dump(told, indent=1))
    else:
        _show_side_by_side(found.figures, found.rows, found.images, values)
    if picture is not None:
        from cristae.pipeline.heat import heat
        from cristae.pipeline.picture import write_png

        Path(picture).absolute().parent.mkdir(parents=True, exist_ok=True)
        lines = ("means over images or time points; grey: no score between 0 and 1",)
        write_png(picture, heat(found.values, found.rows, found.figures, coloured=found.scores, lines=lines))
        say(picture)


def _show_side_by_side(
    figures: Sequence[str], rows: Sequence[str], images: Sequence[int], values: Sequence[Sequence[float | None]]
) -> None:
    from rich.table import Table

    from cristae_cli.talk import console

    table = Table("figure", *rows)
    table.add_row("images", *map(str, images))
    for k, name in enumerate(figures):
        table.add_row(name, *(_said(row[k]) for row in values))
    console().print(table)


def show_scores(scores: dict[str, Any]) -> None:
    """Scores as a person reads them: one column for one image, else mean, interval and pooled."""
    from rich.table import Table

    from cristae_cli.talk import console, say

    screen = console()
    several = len(scores["images"]) > 1
    table = Table("figure", *(("mean", "95 % interval", "n", "pooled") if several else ("score",)))
    for name in shown(list(scores["figures"])):
        if not several:
            table.add_row(name, _said(scores["pooled"][name]))
            continue
        mean = scores["mean"][name]
        interval = "" if mean["low"] is None else f"{_said(mean['low'])} to {_said(mean['high'])}"
        table.add_row(name, _said(mean["mean"]), interval, str(mean["n"]), _said(scores["pooled"][name]))
    screen.print(table)
    for key, title in (("recall_by_size", "size, "), ("recall_by_column", "")):
        if key not in scores:
            continue
        by = scores[key]
        bins = Table(title + by.get("unit", by.get("column", "")), "truths", "found", "recall")
        for one in by["bins"]:
            bins.add_row(_span(one), str(one["truths"]), str(one["found"]), _said(one["recall"]))
        screen.print(bins)
        if by.get("without"):
            say(
                f"{by['without']} true objects have no row in the table, and are in none of these bins: is it that of this truth?"
            )
    interval = scores["interval"]
    if several:
        print(
            f"mean over {len(scores['images'])} images or time points, its interval over {interval['units']} {interval['over']}"
        )


def shown(names: list[str]) -> list[str]:
    """The figures that fit a screen: of average precision the first, that at 0.75, and the mean; JSON has all."""
    several = [name for name in names if name.startswith("ap_")]
    return [name for name in names if name not in several or name in (several[0], "ap_75", "ap_mean")]


def _span(one: dict[str, Any]) -> str:
    if one["from"] == one["to"]:
        return str(one["from"]) if isinstance(one["from"], str) else f"{one['from']:.4g}"
    return f"{one['from']:.4g} to {one['to']:.4g}"


def _said(value: float | None) -> str:
    """A number with what digits it needs; a dash for what cannot be said."""
    return "-" if value is None else f"{value:.0f}" if value == int(value) else f"{value:.4f}"
