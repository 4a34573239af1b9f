"""Help is there at once: it loads nothing heavy, names every command, and explains every option."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

HEAVY = {
    "numpy",
    "scipy",
    "dask",
    "distributed",
    "zarr",
    "numba",
    "torch",
    "pandas",
    "polars",
    "xarray",
    "skimage",
    "tifffile",
}
COMMANDS = (
    "convert",
    "label",
    "measure",
    "run",
    "info",
    "plan",
    "status",
    "audit",
    "stages",
    "doctor",
    "demo",
    "psf",
    "evaluate",
    "segment",
    "models",
    "check-model",
    "train",
    "compare",
)
CALL = "from cristae_cli.main import main; main()"


def cristae(*words: str, interpreter: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, on a terminal 100 characters wide."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "TERM": "dumb",
    }
    return subprocess.run(
        [sys.executable, *interpreter, "-c", CALL, *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )


def imported(log: str) -> set[str]:
    """Top-level packages in what `python -X importtime` said."""
    return {name.strip().partition(".")[0] for name in re.findall(r"^import time:.*\|([^|]*)$", log, re.MULTILINE)}


@pytest.mark.parametrize(
    "words",
    [
        ("--help",),
        ("run", "--help"),
        ("convert", "--help"),
        ("status", "-h"),
        ("evaluate", "--help"),
        ("segment", "--help"),
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    done = cristae(*words, interpreter=("-X", "importtime"))
    assert done.returncode == 0
    assert "typer" in imported(done.stderr)
    assert not imported(done.stderr) & HEAVY


def test_help_names_every_command() -> None:
    done = cristae("--help")
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", done.stdout), command
    assert done.stderr == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_of_it_is_explained(command: str) -> None:
    done = cristae(command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for line in done.stdout.splitlines():
        if option := re.match(r"\W*(--[a-z-]+)", line):
            said = re.sub(r"--[a-z-]+|\b[A-Z]+\b|[^A-Za-z ]|-h", " ", line)
            assert len(said.split()) >= 2, f"{command} {option[1]} is not explained: {line}"


def test_no_word_at_all_shows_the_help() -> None:
    done = cristae()
    assert "Usage" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_help_takes_little_of_the_processor() -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(5):
        cristae("--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 5 < 0.3
