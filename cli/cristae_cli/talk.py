"""Talk: progress on stderr, data and tables on stdout. A bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Listener = Callable[[dict[str, Any]], None]


@contextmanager
def progress() -> Iterator[Listener]:
    """A listener for a run's events, for as long as the run lasts."""
    if sys.stderr.isatty():
        with _bar() as listen:
            yield listen
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} blocks"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None, note="")

        def listen(event: dict[str, Any]) -> None:
            if event["event"] == "pass":
                done = event["total"] - event["todo"]
                bars.reset(task, description=event["name"], total=event["total"], completed=done, note="")
            elif event["event"] == "blocks":
                note = f"{event['peak'] / 2**30:.1f} GiB" + (
                    f", {event['retries']} retries" if event["retries"] else ""
                )
                bars.update(task, completed=event["done"], note=note)
            elif (text := sentence(event)) is not None:
                bars.console.print(text, highlight=False)

        yield listen


def _lines() -> Listener:
    last = 0.0

    def listen(event: dict[str, Any]) -> None:
        nonlocal last
        text = sentence(event)
        if event["event"] == "pass":
            text = f"{event['name']}: {event['todo']} of {event['total']} blocks to do"
        elif event["event"] == "blocks" and time.monotonic() - last > 10:
            text = f"  {event['done']}/{event['total']} blocks, {event['peak'] / 2**30:.1f} GiB"
        if text is not None:
            last = time.monotonic()
            say(text)

    return listen


def sentence(event: dict[str, Any]) -> str | None:
    """What a person should read of an event; most need no words."""
    kind = event["event"]
    if kind == "start":
        words = [f"going on: {event['committed']} blocks are committed already"] if event["committed"] else []
        if "cores" in event:
            words.append(f"memory is short: not all {event['cores']} cores work, but {event['cluster']}")
        return "; ".join(words) or None
    if kind == "reused":
        return f"taken from what an earlier run kept: {', '.join(event['steps'])}"
    if kind == "retry":
        return f"block {event['block']} failed ({event['error']}) and is tried again"
    if kind == "aside":
        return f"block {event['block']} failed again and is set aside: {event['error']}"
    if kind == "death":
        return f"a worker died; {event['blocks']} blocks run again"
    if kind == "slow":
        return f"blocks {event['blocks']} have run for {event['seconds']:.0f} s, far longer than the others"
    if kind == "seams":
        one = event["crossing"] == 1
        return (
            f"seams: {event['crossing']} object{'' if one else 's'} of {event['object']} cross{'es' if one else ''} block borders, "
            f"{event['parts']} parts joined, {event['contested'] or 'none'} contested"
        )
    if kind == "stitched":
        return str(event["text"])
    if kind == "warning":
        return f"warning: {event['text']}"
    return None


def console(otherwise: int = 120, **how: Any) -> Any:
    """Where tables go: stdout, as wide as the terminal, or so wide where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else otherwise, **how)


def say(text: str) -> None:
    """One line for the person, on stderr."""
    print(text, file=sys.stderr, flush=True)


def tell(command: str, code: int, output: object) -> None:
    """Run a user's own command at the end of a run; its failure is said, and changes nothing."""
    import os
    import subprocess

    env = {**os.environ, "CRISTAE_EXIT": str(code), "CRISTAE_OUTPUT": str(output)}
    done = subprocess.run(command, shell=True, env=env, check=False)
    if done.returncode:
        say(f"warning: --on-finish {command} ended with {done.returncode}")
