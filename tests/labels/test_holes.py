"""Holes: what scipy fills on the whole volume is filled, whatever the blocks, and nothing that reaches a face of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import VOXEL_UM, done, labels_of, main_job, store
from scipy import ndimage

from cristae.errors import InvalidConfiguration
from cristae.filters import opening
from cristae.labels import fill_holes, label
from cristae.pipeline.job import Settings

SHAPE = (20, 40, 44)
PIPELINE = """
output: {name: cells}
steps:
  - threshold: {value: 0}
  - fill_holes
  - opening: {radius_um: 0.3}
  - label
  - measure: [shape]
"""


def shells() -> np.ndarray:
    """A ball within a shell within a shell, larger than any block; a shell with a pinhole; and one at the volume's face."""
    z, y, x = np.indices(SHAPE)
    away = np.sqrt(((z - 10) * 2) ** 2 + (y - 20) ** 2 + (x - 20) ** 2)
    mask = ((away < 18) & (away > 15)) | ((away < 10) & (away > 8)) | (away < 3)
    other = np.sqrt((z - 10) ** 2 + (y - 8) ** 2 + (x - 38) ** 2)
    mask |= (other < 5.5) & (other > 4)
    mask[10, 8, 42:] = False
    mask[0, 33:40, 33:44] = True
    mask[1, 34:39, 34:43] = False
    return mask


@pytest.mark.parametrize("block", [SHAPE, (5, 9, 11), (7, 40, 6)])
def test_nested_shells_are_filled_across_blocks(tmp_path: Path, block: tuple[int, ...]) -> None:
    """The opening reads beyond its block what fill_holes gives no further than it: the run stores it between them."""
    mask = shells()
    cell = store(tmp_path / "cell.ome.zarr", mask.astype(np.uint8))
    done(main_job(cell, text=PIPELINE), Settings("none", block=block))
    filled = ndimage.binary_fill_holes(mask)
    assert filled.sum() > mask.sum() * 1.5
    np.testing.assert_array_equal(fill_holes(voxel_um=VOXEL_UM)(mask), filled)
    expected = label(voxel_um=VOXEL_UM)(opening(0.3, voxel_um=VOXEL_UM)(filled))
    np.testing.assert_array_equal(labels_of(cell / "labels" / "cells"), expected)


def test_a_diameter_drops_objects_in_the_plane_and_in_space() -> None:
    for ndim in (2, 3):
        voxel = (0.1,) * ndim
        mask = np.zeros((30,) * ndim, bool)
        mask[(slice(2, 8),) * ndim] = True  # 0.6 um a side
        mask[(slice(15, 18),) * ndim] = True  # 0.3 um a side
        assert label(voxel_um=voxel, min_diameter_um=0.3)(mask).max() == 2
        assert label(voxel_um=voxel, min_diameter_um=0.45)(mask).max() == 1
        assert label(voxel_um=voxel, min_diameter_um=0.8)(mask).max() == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidConfiguration, match="give 1 to 2"):
        fill_holes(voxel_um=(0.1, 0.1), connectivity=3)
    for params, said in (
        ({"min_diameter_um": -1}, "min_diameter_um is -1"),
        ({"min_diameter_um": "abc"}, "min_diameter_um is 'abc', but must be a number"),
        ({"min_voxels": 1.5}, "min_voxels is 1.5; give a whole number"),
    ):
        with pytest.raises(InvalidConfiguration, match=said):
            label(voxel_um=(0.1, 0.1), **params)
