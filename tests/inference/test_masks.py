"""Masks: a function of one's own that says what is foreground needs no threshold after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.volumes import VOXEL_UM, ran, result, spots, store, truth

from cristae.errors import InvalidInput
from cristae.inference import python

OWN = str(Path(__file__).with_name("own.py"))
LINE = (
    "output: {{name: mine}}\nsteps:\n  - python: {{file: {file}, function: bright, returns: mask, {rest}}}\n  - label\n"
)


@pytest.mark.parametrize("rest", ["halo_um: 0", "tile: [8, 16, 16]", "tile: [8, 16, 16], blend: crop, overlap: 0.3"])
def test_a_mask_needs_no_threshold(rest: str, tmp_path: Path) -> None:
    image = spots((9, 50, 60), (3, 6, 6))
    text = LINE.format(file=OWN, rest=rest)
    ran(store(tmp_path / "cell.ome.zarr", image), tmp_path / "out", text, (5, 20, 33))
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), truth(image))


def test_tiles_that_differ_vote_on_a_mask(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def above(image):\n    return (image > image.mean()).astype('u1') * 3\n")
    said: dict[str, Any] = {
        "file": str(tmp_path / "mine.py"),
        "function": "above",
        "voxel_um": VOXEL_UM,
        "tile": [8, 16, 16],
    }
    image = spots((9, 50, 60), (9, 30, 30))
    mask = python(**said, returns="mask")(image)
    assert mask.dtype == bool
    share = python(**said)(image) / 3
    assert ((share > 0.01) & (share < 0.99)).any()
    np.testing.assert_array_equal(mask, share > 0.5)


def test_a_mask_of_fractions_is_refused() -> None:
    stage = python(file=OWN, function="fractions", voxel_um=VOXEL_UM, returns="mask", halo_um=0)
    with pytest.raises(InvalidInput, match=r"returned an array of float64; it should return .* booleans"):
        stage(spots((3, 4, 5), (1, 1, 1)))
