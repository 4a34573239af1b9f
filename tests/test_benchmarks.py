"""Benchmarks: those of the block engine, labels and tables still run, and their tools agree; small, so that figures mean nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize("name", ["empty_blocks", "gaussian", "label", "table"])
def test_a_small_run_of_a_benchmark_ends_well(name: str) -> None:
    made = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", "--small", "--repeat", "1"], capture_output=True, text=True, timeout=300
    )
    assert made.returncode == 0, made.stdout + made.stderr
