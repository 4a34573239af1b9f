"""The volume that all faults run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 30 x 96 x 120 voxels in which about 150 blobs lie; never written to: tests copy it."""
    from faults.campaign import write_store

    path: Path = tmp_path_factory.mktemp("pristine") / "cell.ome.zarr"
    write_store(path, np.random.default_rng(7))
    return path
