"""Columns: every name has a unit and a meaning, tables hold what was asked for, and a slip of the pen is answered."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from morphology.tabled import table

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.morphology import COLUMNS, MEASURES, expand, finish_rows, group_of
from cristae.morphology.columns import GROUPS, names_of

INDEX = ("voxels", "bbox_z_min", "bbox_z_max", "bbox_y_min", "bbox_y_max", "bbox_x_min", "bbox_x_max")


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_table_of_everything_has_every_column(ndim: int) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (5, 6, 7)[-ndim:])
    found = table(labels, [labels.astype(np.uint8)], voxel_um=(1.0,) * ndim, columns=MEASURES)
    assert tuple(found) == ("label", *(n for n, c in COLUMNS.items() if ndim in c.ndims))
    assert {v.shape for v in found.values()} == {(3,)}


def test_every_column_has_a_meaning_and_a_measure_and_says_its_unit() -> None:
    assert tuple(MEASURES) == GROUPS
    for name, column in COLUMNS.items():
        assert column.definition
        assert group_of(name) == column.group
        if column.unit.startswith("um"):
            assert name.endswith("_" + column.unit)


def test_the_index_comes_with_every_table() -> None:
    assert expand([]) == INDEX
    assert expand(["euler_number", "surface_um2"]) == (*INDEX, "surface_um2", "euler_number")
    assert expand(["shape", "surface"])[: len(INDEX)] == INDEX
    assert set(expand(["shape", "axis_mid_um"])) == set(INDEX) | set(names_of("shape"))
    assert "bbox_z_min" not in expand(["shape"], ndim=2)


def test_columns_of_several_channels_end_in_the_channel() -> None:
    channels = ("TMRM", "DAPI")
    wanted = expand(["intensity_mean_DAPI", "voxels"], channels=channels)
    assert wanted == (*INDEX, "intensity_mean_DAPI")
    assert group_of("intensity_mean_DAPI", channels=channels) == "intensity"
    labels = np.ones((2, 3, 4), int)
    found = table(labels, [np.full(labels.shape, 3), np.full(labels.shape, 5)], voxel_um=(1, 1, 1))
    assert found["intensity_mean_0"] == 3
    assert found["intensity_mean_1"] == 5
    assert "intensity_mean" not in found
    assert len(names_of("intensity", channels=channels)) == 2 * len(names_of("intensity"))


@pytest.mark.parametrize(
    ("name", "nearest"), [("volume_um", "volume_um3"), ("surfce", "surface"), ("intensity_mena", "intensity_mean")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"'{name}'; the nearest is '{nearest}'"):
        expand([name])


def test_a_column_of_another_dimension_says_which_there_are() -> None:
    with pytest.raises(InvalidConfiguration, match="2D objects; their shape columns are area_um2"):
        expand(["volume_um3"], ndim=2)
    with pytest.raises(InvalidConfiguration, match="no column or group 'nonsense'; there are: voxels"):
        group_of("nonsense")
    with pytest.raises(InvalidConfiguration, match="nearest is 'shape'"):
        finish_rows("shapes", np.empty(0), voxel_um=(1, 1), shape=(1, 1))


def test_arrays_that_do_not_fit_are_refused() -> None:
    labels = np.ones((3, 4, 5), int)
    with pytest.raises(InvalidInput, match="3 x 4 x 4"):
        table(labels, [labels[..., :4]], voxel_um=(1, 1, 1))
    with pytest.raises(InvalidInput, match="voxel size"):
        table(labels, voxel_um=(1, 1, 1, 1))
    with pytest.raises(InvalidInput, match="image"):
        table(labels, voxel_um=(1, 1, 1), columns=["intensity"])
    with pytest.raises(InvalidInput, match="complex64"):
        table(labels, [labels.astype(np.complex64)], voxel_um=(1, 1, 1))


def test_the_room_opens_without_a_compiler() -> None:
    code = "import sys, cristae.morphology; sys.exit(bool({'numba', 'skimage', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}).returncode == 0
