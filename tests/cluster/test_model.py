"""The words after --cluster, and what a machine leaves to a run."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from cristae.cluster import model
from cristae.cluster.model import SMALL_BYTES, Cluster, parse_cluster, usable_cores, usable_memory
from cristae.errors import InvalidConfiguration, UsageError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine of eight cores, outside of Slurm and of every cgroup."""
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(Path, "read_text", _no_file)
    return monkeypatch


def _no_file(path: Path, *_: object, **__: object) -> str:
    raise FileNotFoundError(path)


@pytest.mark.parametrize(
    ("text", "expected", "processes", "threads"),
    [
        ("none", Cluster("none"), 1, 1),
        ("threads:3", Cluster("threads", 3), 1, 3),
        ("local:5", Cluster("local", 5), 5, 1),
        ("threads", Cluster("threads", 8), 1, 8),
        ("local", Cluster("local", 8), 8, 1),
        ("tcp://10.0.0.1:8786", Cluster("address", 1, "tcp://10.0.0.1:8786"), 0, 1),
        ("tls://host:1", Cluster("address", 1, "tls://host:1"), 0, 1),
    ],
)
def test_a_word_names_a_cluster(bare, text: str, expected: Cluster, processes: int, threads: int) -> None:
    found = parse_cluster(text, 0)
    assert found == expected
    assert (found.processes, found.threads) == (processes, threads)
    assert parse_cluster(str(found), 0) == found


def test_auto_takes_threads_for_little_and_processes_for_much(bare) -> None:
    assert parse_cluster("auto", SMALL_BYTES - 1) == Cluster("threads", 8)
    assert parse_cluster("auto", SMALL_BYTES) == Cluster("local", 8)


def test_a_scheduler_file_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text("{}")
    assert parse_cluster(str(tmp_path / "s.json"), 0).kind == "file"
    with pytest.raises(InvalidConfiguration, match="there is no such scheduler file"):
        parse_cluster(str(tmp_path / "gone.json"), 0)


@pytest.mark.parametrize(
    "text", ["", "many", "threads:0", "local:-1", "local:x", "none:2", "auto:3", "threads:1.5", "Local:2"]
)
def test_other_words_are_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"is not one of auto, none, threads:N, local:N"):
        parse_cluster(text, 0)


def test_slurm_and_the_cgroup_lower_the_number_of_cores(bare) -> None:
    assert usable_cores() == 8
    bare.setenv("SLURM_CPUS_PER_TASK", "6")
    assert usable_cores() == 6
    bare.setattr(Path, "read_text", lambda *_, **__: "350000 100000")
    assert usable_cores() == 3
    bare.setattr(Path, "read_text", lambda *_, **__: "50000 100000")
    assert usable_cores() == 1
    bare.setattr(Path, "read_text", lambda *_, **__: "max 100000")
    assert usable_cores() == 6
    bare.setenv("SLURM_CPUS_PER_TASK", "64")
    assert usable_cores() == 8


def test_slurm_and_the_cgroup_lower_the_memory(bare) -> None:
    bare.setattr(psutil, "virtual_memory", lambda: type("M", (), {"available": 10 << 30}))
    assert usable_memory() == 10 << 30
    bare.setenv("SLURM_MEM_PER_NODE", "4096")
    assert usable_memory() == 4 << 30
    bare.setattr(Path, "read_text", lambda *_, **__: str(2 << 30))
    assert usable_memory() == 2 << 30
    bare.setattr(Path, "read_text", lambda *_, **__: "max")
    assert usable_memory() == 4 << 30


def test_this_machine_has_a_core_and_some_memory() -> None:
    assert model.usable_cores() >= 1
    assert model.usable_memory() > 1 << 26
