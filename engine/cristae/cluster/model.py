"""Cluster: the words after --cluster become one frozen fact.

none             this process, one block after the other
threads:N        this process, N threads
local:N          N worker processes of one thread each, started and stopped with the run
tcp://...        a dask scheduler that is already there
FILE.json        the same, by its scheduler file
auto             threads for a small piece of work, else one process a core
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cristae.errors import InvalidConfiguration, UsageError

SMALL_BYTES = 1 << 30
"""Below this much voxel data `auto` takes threads: starting processes would cost more than they bring."""

Kind = Literal["none", "threads", "local", "address", "file"]


@dataclass(frozen=True)
class Cluster:
    """Where blocks run: `workers` tasks at a time, in `processes` processes on this machine (0: elsewhere)."""

    kind: Kind
    workers: int = 1
    address: str = ""

    @property
    def processes(self) -> int:
        return {"none": 1, "threads": 1, "local": self.workers}.get(self.kind, 0)

    @property
    def threads(self) -> int:
        """Tasks at a time within one process."""
        return self.workers if self.kind == "threads" else 1

    def __str__(self) -> str:
        return self.address or (self.kind if self.kind == "none" else f"{self.kind}:{self.workers}")


def parse_cluster(text: str, work_bytes: int) -> Cluster:
    """The cluster that `text` names, for work that touches `work_bytes` of voxels.

    Raises
    ------
    UsageError : if the text is none of the forms above.
    InvalidConfiguration : if there is no such scheduler file.
    """
    cores = usable_cores()
    name, _, count = text.partition(":")
    if text == "auto":
        return Cluster("threads" if work_bytes < SMALL_BYTES else "local", cores)
    if text == "none":
        return Cluster("none")
    if name in ("threads", "local") and (not count or (count.isdigit() and int(count) > 0)):
        return Cluster("threads" if name == "threads" else "local", int(count or cores))
    if "://" in text:
        return Cluster("address", 1, text)
    if text.endswith(".json"):
        if not os.path.isfile(text):
            raise InvalidConfiguration(f"--cluster {text}: there is no such scheduler file")
        return Cluster("file", 1, text)
    raise UsageError(
        f"--cluster {text} is not one of auto, none, threads:N, local:N, tcp://HOST:PORT or a scheduler's .json file"
    )


def usable_cores() -> int:
    """Cores this process may use: its affinity, the Slurm allocation, the cgroup's share."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if (slurm := os.environ.get("SLURM_CPUS_PER_TASK", "")).isdigit():
        cores = min(cores, int(slurm))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def usable_memory() -> int:
    """Bytes that RAM, the cgroup and Slurm leave to this machine's part of a run."""
    import psutil

    limits = [int(psutil.virtual_memory().available)]
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if text != "max":
            limits.append(int(text))
    except OSError:
        pass
    if (slurm := os.environ.get("SLURM_MEM_PER_NODE", "")).isdigit():
        limits.append(int(slurm) << 20)
    return min(limits)
