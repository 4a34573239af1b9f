"""What every test of this folder begins with: no tile of another test is still there, and a batch has the room it has in a fresh process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cristae.inference import batches
from cristae.inference.blend import HELD


@pytest.fixture(autouse=True)
def as_in_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(batches, "ROOM", dict(batches.ROOM))
    HELD.clear()
    yield
    HELD.clear()
