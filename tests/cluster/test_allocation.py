"""What the allocator was asked, here and in worker processes."""

from __future__ import annotations

import os
import platform

import pytest

from cristae.cluster.allocation import ENVIRONMENT, give_back_holes, give_back_memory
from cristae.cluster.executor import local_workers


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_glibc_does_as_it_is_asked() -> None:
    assert give_back_memory()
    assert give_back_holes()


def test_workers_start_with_it() -> None:
    with local_workers(1) as client:
        (found,) = client.run(lambda: dict(os.environ)).values()
    assert {name: found.get(name) for name in ENVIRONMENT} == {name: str(value) for name, value in ENVIRONMENT.items()}
    assert found["OMP_NUM_THREADS"] == "1", "what dask sets is kept"
