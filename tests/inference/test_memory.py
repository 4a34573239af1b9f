"""Memory: what a network states is what a fresh process takes, torch and the tiles it keeps included."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from inference.models import VOXEL_UM, needs_torch, tiny

SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from cristae.blocks.stage import At
from cristae.inference import segment
import cristae.inference.blend as blend
from cristae.cluster.allocation import give_back_memory

def status(name):
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))

give_back_memory()  # as every worker does
model, shape, voxel_um, kept = json.loads(sys.argv[1])
less = blend.HELD.limit - (kept << 20)
blend.HELD.limit = kept << 20
stage = segment(model=model, voxel_um=tuple(voxel_um))
import scipy.ndimage
array = np.random.default_rng(0).integers(0, 2000, shape).astype(np.uint16)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
stage.apply(array, at=At.whole(tuple(shape)), answers={})
voxels = array.size
stated = stage.cost.fixed_bytes + stage.cost.process_bytes + (stage.cost.bytes_per_voxel + 4) * voxels - less
print(json.dumps([status("VmHWM") - before, stated, before, blend.HELD._bytes]))
"""


@needs_torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("ndim", "features", "tile", "shape", "kept"),
    [
        (2, (16, 32), (256, 256), (1536, 1536), 24),
        (3, (16, 32, 64), (16, 64, 64), (16, 160, 160), 4),
        (3, (8, 16), (16, 64, 64), (24, 128, 160), 4),
    ],
)
def test_memory_is_what_was_stated(
    ndim: int, features: tuple[int, ...], tile: tuple[int, ...], shape: tuple[int, ...], kept: int
) -> None:
    path = tiny(ndim, features=features, tile=tile, how={"how": "range", "low": 0, "high": 2000})
    told = json.dumps([path, shape, VOXEL_UM[ndim], kept])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, told],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured, stated, before, held = json.loads(done.stdout)
    print(f"measured {measured >> 20} MiB, stated {int(stated) >> 20} MiB, beside {before >> 20}, kept {held >> 20}")
    assert 0.5 * (kept << 20) < held <= kept << 20, "the tiles that are kept were not put to the test"
    assert measured <= stated
    assert stated + before <= 1.5 * (measured + before)
