"""What every test may ask for: the shared data, and hypothesis without a clock.

The first example of a compiled kernel pays for its compiler, so no example has a deadline; under CI examples are
drawn the same way every time.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("faults.campaign")

settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data: CRISTAE_DATA, else ../shared/data beside the checkout; skips where there is none."""
    named = os.environ.get("CRISTAE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; CRISTAE_DATA names another folder")
    return folder


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A gpu test runs where the driver answers, not merely where cupy imports."""
    if item.get_closest_marker("gpu") is None:
        return
    try:
        import cupy

        usable = cupy.cuda.is_available()
    except Exception as reason:
        pytest.skip(f"no GPU can be used: {reason}")
    if not usable:
        pytest.skip("no GPU can be used: the driver does not answer")
