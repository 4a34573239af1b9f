"""Reporting: runs become medians, medians ratios, ratios verdicts, and all of it a table in words.

A result is what `NAME.json` holds: plain dictionaries, so that those of another day and another machine can be shown too.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from measuring import Question

WORDS = {"wall_s": "wall", "cpu_s": "CPU", "peak_mb": "peak memory", "added_mb": "added memory"}
"""Figures of the clock, by the names that people give them."""

Record = dict[str, Any]


def medians(runs: Sequence[Mapping[str, Any]]) -> Record:
    """The median of each figure over the runs of a tool; what is no measurement (a count, a digest) is the first run's."""

    def middle(values: list[Any]) -> Any:
        return median(values) if isinstance(values[0], float) else values[0]

    return {k: middle([r[k] for r in runs]) for k in runs[0]} if runs else {}


def judged(question: Question, records: Mapping[str, Record]) -> Record:
    """Each target with its ratio and verdict, and the figures on which tools disagree."""
    figures = {name: r["median"] for name, r in records.items()}
    targets = []
    for target in question.targets:
        ratio = target.ratio(figures)
        rounded = None if ratio is None else float(f"{ratio:.4g}")
        targets.append({"target": str(target), "ratio": rounded, "verdict": target.verdict(ratio)})
    disagree = []
    for figure, tolerance in question.agree.items():
        found = {name: f[figure] for name, f in figures.items() if figure in f}
        if len(set(found.values())) > 1 and not (tolerance and _close(list(found.values()), tolerance)):
            disagree.append(f"{figure}: " + ", ".join(f"{name} {value}" for name, value in found.items()))
    return {"targets": targets, "disagree": disagree}


def _close(values: Sequence[float], tolerance: float) -> bool:
    return max(values) - min(values) <= tolerance * max(abs(v) for v in values)


def show(result: Mapping[str, Any]) -> None:
    """Print a line a tool, then a line a target."""
    width = max(len(name) for name in result["tools"])
    print(f"\n{'':{width}}  runs    wall s     CPU s   peak MB  added MB")
    for name, record in result["tools"].items():
        figures = record["median"]
        if not figures:
            why = f"failed: {record['failed']}" if "failed" in record else f"not measured: {record.get('missing')}"
            print(f"{name:{width}}  {why}")
            continue
        columns = "".join(f"{figures[k]:10.4g}" if k in figures else " " * 10 for k in WORDS)
        beside = ", ".join(f"{k} {_short(v)}" for k, v in figures.items() if not k.endswith(tuple(WORDS)))
        print(f"{name:{width}}  {len(record['runs']):4}{columns}  {beside}".rstrip())
    print()
    _show_targets(result)
    for line in result["disagree"]:
        print(f"the tools disagree on {line}")
    if result["notes"]:
        print(f"\n{result['notes']}")


def _show_targets(result: Mapping[str, Any]) -> None:
    for target in result["targets"]:
        ratio = "" if target["ratio"] is None else f"{target['ratio']:.3g}"
        print(f"{ratio:>8}  {target['verdict']:12}  {target['target']}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:12] if isinstance(value, str) else str(value)


def machine() -> Record:
    """What a figure depends on besides the code."""
    import platform

    import psutil

    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), model)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
    }


def commit() -> str:
    """The commit that was measured, and whether the tree was changed since; "" where there is no git."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return ""


def machine_words() -> str:
    facts = machine()
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']:g} GB"


def show_results(folder: Path) -> None:
    """Every target that the results in a folder know, with its ratio."""
    for path in sorted(folder.glob("*.json")):
        result = json.loads(path.read_text())
        if "targets" not in result:
            continue
        print(f"\n{path.stem} ({result['date']})")
        _show_targets(result)
