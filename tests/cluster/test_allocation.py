"""What the allocator was asked, here and in worker processes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from cristae.cluster.allocation import ENVIRONMENT, give_back_holes, give_back_memory
from cristae.cluster.executor import local_workers


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_glibc_does_as_it_is_asked() -> None:
    assert give_back_memory()
    assert give_back_holes()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="page faults are read from /proc")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_what_is_freed_stays_while_it_is_wanted_and_goes_afterwards() -> None:
    script = """
import numpy as np, resource
from cristae.cluster.allocation import freed_kept, give_back_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [np.ones(3 << 20, np.uint8) for _ in range(12)]
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

give_back_memory()
faults()
before, held = faults(), resident()
with freed_kept():
    with freed_kept():
        faults()
    inside, kept = faults(), resident()
print(before, inside, faults(), kept - held, resident() - held)
"""
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120).stdout
    before, inside, after, kept, left = map(int, out.split())
    assert inside < 100 < before / 10 and after > before / 2
    assert kept > 20 << 20 > 8 << 20 > left


def test_workers_start_with_it() -> None:
    with local_workers(1) as client:
        (found,) = client.run(lambda: dict(os.environ)).values()
    assert {name: found.get(name) for name in ENVIRONMENT} == {name: str(value) for name, value in ENVIRONMENT.items()}
    assert found["OMP_NUM_THREADS"] == "1", "what dask sets is kept"
