"""Measuring: every tool in a fresh process, in turn (A B A B), and ratios that answer a question.

    Question   one line of words, the sizes, how inputs are made, the tools and the targets
    Tool       one way to do the job; sets itself up, then does the job in `with turn.clock():`
    Turn       one run of one tool: sizes, inputs, an empty folder of its own, the clock
    Target     a figure of one tool, over the same figure of another, and the limit that was set

A tool's process says when its timed part begins and ends; CPU and memory are read from here, of that process and all it
started, so that measuring costs the measured nothing. Figures are medians of all runs. A file of this folder is one
question, and `ask` is all it calls. Run by itself, this page prints what results/ holds.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module, metadata, util
from pathlib import Path
from typing import IO, Any

from _reporting import WORDS, commit, judged, machine, machine_words, medians, show, show_results

FOLDER = Path(__file__).resolve().parent
SAMPLE_S = 0.02
START = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); from measuring import take_turn; take_turn(sys.argv[1])"
Record = dict[str, Any]


class NotMeasured(Exception):
    """A tool that cannot run here; the message says what it lacks."""


# ------------------------------------------------------------------------------------------------------- facts


@dataclass(frozen=True)
class Tool:
    """One way to do the job. `run` returns figures beside those of the clock."""

    name: str
    run: Callable[[Turn], Mapping[str, Any] | None]
    needs: tuple[str, ...] = ()  # modules
    install: str = ""  # what to give pip where they are missing
    packages: tuple[str, ...] = ()  # whose versions belong to the result
    runs: int = 99  # at most; a tool of minutes is not run five times
    flag: str = ""  # runs only where --FLAG is given
    environment: str = ""  # a Python of its own: --ENVIRONMENT, or .venv/peers/ENVIRONMENT


@dataclass(frozen=True)
class Target:
    """`figure` of tool `over`, divided by that of each tool `under` that was measured; the worst of the ratios counts."""

    figure: str
    over: str
    under: tuple[str, ...] = ()  # none: the figure itself
    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        what = WORDS.get(self.figure, self.figure.replace("_", " "))
        limits = {"=": self.at_most} if self.at_most == self.at_least else {"<=": self.at_most, ">=": self.at_least}
        said = [f" {sign} {limit:g}" for sign, limit in limits.items() if limit is not None]
        below = f" / {' or '.join(self.under)}" if self.under else ""
        return f"{what}: {self.over}{below}{''.join(said)}"

    def ratio(self, figures: Mapping[str, Mapping[str, Any]]) -> float | None:
        """The ratio, or None where one of the two was not measured."""
        mine = figures.get(self.over, {}).get(self.figure)
        theirs = [x for name in self.under if (x := figures.get(name, {}).get(self.figure))]
        if mine is None or (self.under and not theirs):
            return None
        ratios: list[float] = [mine / x for x in theirs or [1]]
        return max(ratios) if self.at_least is None else min(ratios)

    def verdict(self, ratio: float | None) -> str:
        if ratio is None:
            return "not measured"
        if self.at_most is None and self.at_least is None:
            return "no target"
        high = self.at_most is None or ratio <= self.at_most
        low = self.at_least is None or ratio >= self.at_least
        return "met" if high and low else "missed"


@dataclass(frozen=True)
class Question:
    """A file of this folder. `agree`: figures that all tools must give alike, and the relative difference allowed."""

    name: str  # of the file
    words: str
    full: Mapping[str, Any]
    small: Mapping[str, Any]
    prepare: Callable[[Path, Mapping[str, Any]], None]
    tools: tuple[Tool, ...]
    targets: tuple[Target, ...]
    agree: Mapping[str, float] = field(default_factory=dict)
    notes: str = ""
    repeat: int = 3


# ----------------------------------------------------------------------------------------- in the tool's process


@dataclass
class Turn:
    """One run of one tool, seen from inside."""

    sizes: Mapping[str, Any]
    inputs: Path  # what `prepare` made; never written to
    folder: Path  # this run's own
    wire: IO[str]
    figures: Record = field(default_factory=dict)

    @contextmanager
    def clock(self, name: str = "") -> Iterator[None]:
        """The timed part; a tool with several names them, and their figures are NAME_wall_s and so on."""
        self._tell({"begin": name})
        begin = time.perf_counter()
        yield
        wall = time.perf_counter() - begin
        spent = {"wall_s": wall, **self._tell({"end": name})}
        self.figures |= {f"{name}_{k}" if name else k: v for k, v in spent.items()}

    def _tell(self, message: Record) -> Record:
        _send(self.wire, message)
        heard: Record = json.loads(self.wire.readline())
        return heard


def take_turn(order: str) -> None:
    """The life of a tool's process: find the tool, run it, send its figures."""
    facts = json.loads(order)
    wire = socket.socket(fileno=facts["wire"]).makefile("rw", encoding="utf-8")
    tool = next(t for t in import_module(facts["question"]).QUESTION.tools if t.name == facts["tool"])
    if missing := [m for m in tool.needs if util.find_spec(m) is None]:
        return _send(wire, {"missing": f"pip install {tool.install or ' '.join(missing)}"})
    turn = Turn(facts["sizes"], Path(facts["inputs"]), Path(facts["folder"]), wire)
    try:
        more = tool.run(turn)
    except NotMeasured as reason:
        return _send(wire, {"missing": str(reason)})
    return _send(wire, {"figures": {**turn.figures, **(more or {})}, "versions": _versions(tool.packages)})


def _send(wire: IO[str], message: Record) -> None:
    wire.write(json.dumps(message, default=lambda number: number.item()) + "\n")
    wire.flush()


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in ("numpy", *packages):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


# ------------------------------------------------------------------------------------------------ in this process


def ask(question: Question) -> None:
    """Make the inputs, give every tool its turns, print the table, write results/NAME.json."""
    options = _options(question)
    sizes = question.small if options.small else question.full
    load = os.getloadavg()[0]
    print(f"{question.words}\n{machine_words()}")
    if load > 0.5:
        print(f"the load of this machine is {load:.1f}: others compute on it, and seconds may be wrong")
    if options.small:
        print("--small shows that everything runs; its ratios say nothing")
    tools = [t for t in question.tools if options.only is None or t.name in options.only]
    if not tools:
        sys.exit(f"no tool is called {', '.join(options.only)}; there are {'; '.join(t.name for t in question.tools)}")
    with ExitStack() as stack:
        place = options.tmp or stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        inputs = _inputs(question, sizes, Path(place))
        records = _rounds(question, tools, sizes, inputs, options)
    result = {
        "question": question.words,
        "date": time.strftime("%Y-%m-%d %H:%M %z"),
        "commit": commit(),
        "machine": {**machine(), "load_before": load},
        "arguments": sys.argv[1:],
        "sizes": sizes,
        "notes": question.notes,
        "tools": records,
        **judged(question, records),
    }
    show(result)
    folder = options.results or (None if options.small or options.only else FOLDER / "results")
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        written = Path(folder) / f"{question.name}.json"
        written.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(f"written to {written}")
    if result["disagree"] or any("failed" in records.get(t.name, {}) for t in tools if t.name.startswith("cristae")):
        sys.exit(1)


def _options(question: Question) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=question.words, epilog=question.notes)
    parser.add_argument("--small", action="store_true", help="a tiny version, to see that everything runs")
    parser.add_argument("--repeat", type=int, default=question.repeat, help="runs of each tool (%(default)s)")
    names = "; ".join(t.name for t in question.tools)
    parser.add_argument("--only", action="append", help=f"this tool; may be given several times: {names}")
    parser.add_argument("--tmp", type=_absolute, help="folder that keeps the inputs for the next time")
    parser.add_argument("--results", type=Path, help="folder for NAME.json (results/; none with --small or --only)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds allowed to one run (%(default)g)")
    for flag in dict.fromkeys(t.flag for t in question.tools if t.flag):
        names = ", ".join(t.name for t in question.tools if t.flag == flag)
        parser.add_argument(f"--{flag}", action="store_true", help=f"also measure {names}")
    for name in dict.fromkeys(t.environment for t in question.tools if t.environment):
        default = FOLDER.parent / ".venv" / "peers" / name / "bin" / "python"
        parser.add_argument(f"--{name}", type=_absolute, default=default, help=f"the Python that has {name}")
    return parser.parse_args()


def _absolute(path: str) -> Path:
    # Tools run in folders of their own. Links stay: a virtual environment's Python is one.
    return Path(path).absolute()


def _inputs(question: Question, sizes: Mapping[str, Any], place: Path) -> Path:
    folder = place / question.name
    mark, facts = folder / "sizes.json", json.dumps(sizes)
    if not (mark.exists() and mark.read_text() == facts):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        question.prepare(folder, sizes)
        mark.write_text(facts)
    return folder


def _rounds(
    question: Question, tools: Sequence[Tool], sizes: Mapping[str, Any], inputs: Path, options: argparse.Namespace
) -> dict[str, Record]:
    records: dict[str, Record] = {t.name: {"runs": []} for t in tools}
    for turn in range(options.repeat):
        for tool in tools:
            record = records[tool.name]
            if turn >= tool.runs or "missing" in record or "failed" in record:
                continue
            if tool.flag and not getattr(options, tool.flag):
                record["missing"] = f"give --{tool.flag}"
                continue
            print(f"  {turn + 1}/{min(options.repeat, tool.runs)} {tool.name} ...", file=sys.stderr, flush=True)
            heard = _turn(question, tool, sizes, inputs, options)
            record |= {k: v for k, v in heard.items() if k != "figures"}
            record["runs"] += [heard["figures"]] if "figures" in heard else []
    for record in records.values():
        record["median"] = medians(record["runs"])
    return records


def _turn(
    question: Question, tool: Tool, sizes: Mapping[str, Any], inputs: Path, options: argparse.Namespace
) -> Record:
    """One run in a process of its own: its figures, what it lacks, or how it failed."""
    python = str(getattr(options, tool.environment)) if tool.environment else sys.executable
    if not Path(python).exists():
        home = Path(python).parent.parent
        return {"missing": f"python -m venv {home} and {home}/bin/pip install {tool.install}"}
    os.sync()  # what the tool before left to be written is not this one's to pay for
    here, there = socket.socketpair()
    with tempfile.TemporaryDirectory(dir=inputs.parent, ignore_cleanup_errors=True) as folder, here:
        order = {"question": question.name, "tool": tool.name, "sizes": sizes, "wire": there.fileno()}
        order |= {"inputs": str(inputs), "folder": folder}
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            process = subprocess.Popen(
                [python, "-c", START, json.dumps(order)],
                pass_fds=[there.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=folder,
            )
            there.close()
            try:
                heard = _listen(process, here, time.monotonic() + options.timeout)
            finally:
                _end(process)
            log.seek(0)
            said = [line for line in log.read().splitlines() if line.strip()]
    return heard or {"failed": said[-1][-300:] if said else "it ended without a word", "log": said[-30:]}


def _listen(process: subprocess.Popen[bytes], here: socket.socket, until: float) -> Record | None:
    """Answer the tool's clock until it sends its figures; None where it ends without them."""
    from _watching import Lap, Tree

    tree, lap = Tree(process.pid), None
    wire = here.makefile("rw", encoding="utf-8")
    while True:
        ready, _, _ = select.select([here], [], [], SAMPLE_S if lap else 0.5)
        if time.monotonic() > until:
            return {"failed": "it took longer than --timeout"}
        if not ready:
            if lap:
                lap.sample()
            continue
        if not (line := wire.readline()):
            return None
        heard: Record = json.loads(line)
        if "begin" in heard:
            lap = Lap(tree)
            _send(wire, {})
        elif "end" in heard and lap is not None:
            _send(wire, lap.end())
            lap = None
        else:
            return heard


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that has said its last word; stop it, and what it started, if it stays."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    show_results(FOLDER / "results")
