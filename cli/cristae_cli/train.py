"""Train: the command that makes a model from a course: its loss as a curve on a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cristae.errors import UsageError
from cristae_cli import options as o

BARS = " ▁▂▃▄▅▆▇█"
WIDE = 60


def train(
    course: Annotated[
        str | None, typer.Argument(help="A course: a YAML file that says which model, which examples, and how.")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="A course that comes with cristae: mito-2d, mito-3d, vesicle-2d, physeg."),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            "--like", help="Simulate the microscope of this image: its voxel size, and its optics if it says them."
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", help="The folder to write; by default named as the model.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one value of the course: recipe.epochs=20. Repeatable.")
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Go on from a trained model, by name or path (fine-tuning).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that make examples ahead; 0 makes them in turn with learning."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Of the network on a CPU; by default all cores.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N; cuda takes all cards.")] = "auto",
    print_: Annotated[bool, typer.Option("--print", help="Print the course as a commented file, and stop.")] = False,
    voxel_um: o.VoxelUm = None,
    channel: o.Channel = None,
    fresh: o.Fresh = False,
) -> None:
    """Train a network on simulated scenes, or on images and labels of your own. Killed, the same command goes on."""
    if (course is None) == (preset is None):
        raise UsageError("give either a course, such as mine.yaml, or --preset mito-3d")
    from cristae.pipeline.course import load_course, text_of

    if print_:
        if set_ or like or start:
            raise UsageError(
                "--print shows a course as it is written; leave --set, --like and --from out, or change what it prints"
            )
        print(Path(course).read_text(encoding="utf-8") if course else text_of(str(preset)), end="")
        return
    from cristae.pipeline import training
    from cristae_cli.talk import say

    word = str(course or preset)
    changes = [*(set_ or ()), *([f"model.from={start}"] if start else ())]
    if like is not None:
        from cristae.pipeline.likeness import likeness

        seen = o.inputs(None, voxel_um, None, channel, None, None, None)
        alike = likeness(like, seen, word, preset is not None)
        say(alike.sentence)
        word, changes = alike.course, [*alike.settings, *changes]
    plan = load_course(word, changes, preset is not None)
    where = training.where(plan, workers, threads, device)
    folder = Path(out or plan.name)
    training.refuse_finished(plan, folder, fresh)
    told = training.estimate(plan, where)
    say(
        f"{plan.name}: {training.counted(plan.recipe.epochs, 'epoch')} of {told['examples']:.0f} examples on {where.said}; about "
        f"{training.spoken(told['all'])}, measured on {training.SAMPLES} steps"
    )
    with _shown(plan.recipe.epochs) as listen:
        model, done, scores = training.train(plan, folder, where, listen, fresh)
    say(
        f"best at epoch {done.best_epoch} of {done.epoch}; on {plan.tested_on}: mean IoU {scores['miou']:.3f}, F1 {scores['f1']:.3f}"
    )
    print(model)


@contextmanager
def _shown(of: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A curve that grows on a terminal; elsewhere a line an epoch."""
    from cristae_cli.talk import say

    losses: list[float] = []

    def line(event: dict[str, Any]) -> str:
        return (
            f"epoch {event['epoch']}/{of}: loss {event['loss']:.4f}, mean IoU {event['miou']:.4f}, F1 {event['f1']:.4f}, "
            f"best at {event['best']}, {event['examples'] / max(event['seconds'], 1e-9):.0f} examples/s"
        )

    def plain(event: dict[str, Any]) -> None:
        say(f"going on after epoch {event['epoch']}" if event["event"] == "resumed" else line(event))

    if not sys.stderr.isatty():
        yield plain
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:

        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "epoch":
                losses.append(event["loss"])
                live.update(f"loss {curve(losses)}\n{line(event)}")
            else:
                live.console.print(f"going on after epoch {event['epoch']}", highlight=False)

        yield listen


def curve(values: list[float]) -> str:
    """Numbers as a row of bars, the largest highest; many are put together."""
    step = -(-len(values) // WIDE) if values else 1
    means = [sum(values[n : n + step]) / len(values[n : n + step]) for n in range(0, len(values), step)]
    top = max(means, default=0.0)
    return "".join(BARS[round(v / top * (len(BARS) - 1))] if top > 0 else BARS[0] for v in means)
