"""Watching: CPU seconds and memory of a process and of all that it started, read from outside.

CPU seconds include those of children that have ended; the system counts them in hundredths. Memory is the sum of what
each process holds resident, so that pages shared by several (libraries, mostly) count once for each of them: the figure
is never too kind to a tool with many processes.
"""

from __future__ import annotations

import time
from typing import Any

import psutil

TREE_S = 0.25
"""How often new processes are looked for; memory is sampled more often."""


class Tree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._members = [self._root]
        self._next = 0.0

    def cpu_seconds(self) -> float:
        """User and system seconds of all that lives in the tree, and of those that ended in it."""
        self._look()
        return float(sum(sum(t[:4]) for p in self._members if (t := _asked(p, "cpu_times")) is not None))

    def resident_bytes(self) -> int:
        if time.monotonic() > self._next:
            self._look()
        return int(sum(m.rss for p in self._members if (m := _asked(p, "memory_info")) is not None))

    def _look(self) -> None:
        self._members = [self._root, *(_asked(self._root, "children", recursive=True) or [])]
        self._next = time.monotonic() + TREE_S


def _asked(process: psutil.Process, question: str, **words: bool) -> Any:
    # A process may end between being seen and being asked.
    try:
        return getattr(process, question)(**words)
    except psutil.Error:
        return None


class Lap:
    """What a tree spends between now and `end`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._begin_bytes = self._peak_bytes = tree.resident_bytes()
        self._begin_cpu = tree.cpu_seconds()

    def sample(self) -> None:
        self._peak_bytes = max(self._peak_bytes, self._tree.resident_bytes())

    def end(self) -> dict[str, float]:
        """CPU seconds; the most memory held; and how much of it was not held when the lap began."""
        cpu = self._tree.cpu_seconds() - self._begin_cpu
        self.sample()
        return {
            "cpu_s": cpu,
            "peak_mb": self._peak_bytes / 1e6,
            "added_mb": (self._peak_bytes - self._begin_bytes) / 1e6,
        }
