"""Kills: a run with a network that dies goes on to the same bytes, and computes no finished block again."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.campaign import resumes, twice
from inference.models import needs_torch, tiny

PIPELINE = """
output: {{name: cell}}
steps:
  - segment: {{model: {model}}}
  - threshold: {{method: otsu}}
  - label
  - measure: [shape]
"""


@needs_torch
@pytest.mark.parametrize("step", [pytest.param("computed:7", marks=pytest.mark.faults), "journalled:4"])
def test_a_killed_run_goes_on_to_the_same_bytes(step: str, tmp_path: Path) -> None:
    text = PIPELINE.format(model=tiny(voxel_um=(0.3, 0.1, 0.1), tile=(16, 48, 48)))
    alone, killed = twice(tmp_path, pipeline=text, block=(15, 48, 60))
    alone.finish()
    resumes(killed, step, alone)
