"""Kills: a run with a network that dies goes on to the same bytes, and computes no finished block again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faults.campaign import Run, calls, committed, leftovers, outputs, write_store
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
    pristine = tmp_path / "pristine" / "cell.ome.zarr"
    pristine.parent.mkdir()
    write_store(pristine, np.random.default_rng(7))
    text = PIPELINE.format(model=tiny(voxel_um=(0.3, 0.1, 0.1), tile=(16, 48, 48)))
    runs = []
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        runs.append(Run.of(pristine, tmp_path / name, pipeline=text, block=(15, 48, 60)))
    whole, killed = runs
    whole.finish()
    planned = calls(whole.generation)
    assert killed.go(step).code == 137
    before = sum(committed(killed.generation).values())
    assert 0 < before < planned
    killed.finish()
    assert calls(killed.generation) == planned - before
    assert set(committed(killed.generation).values()) == {1}
    assert outputs(killed.root) == outputs(whole.root) and leftovers(killed.root) == []
    assert killed.finish().told["status"] == "nothing to do"
