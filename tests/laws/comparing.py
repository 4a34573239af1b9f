"""Comparing: what the laws mean by equal. Bytes where nothing else was registered, a stated difference where it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from cristae.grid import Shape


def same(found: np.ndarray, expected: np.ndarray, tolerance: float, where: str) -> None:
    assert found.dtype == expected.dtype, f"{where}: {found.dtype} is not {expected.dtype}"
    assert found.shape == expected.shape, f"{where}: {found.shape} is not {expected.shape}"
    if tolerance == 0:
        if found.tobytes() == expected.tobytes():
            return
        differ = np.argwhere(found != expected)
        assert len(differ) == 0, f"{where}: {len(differ)} voxels differ, the first at {tuple(differ[0])}"
        raise AssertionError(f"{where}: equal numbers of different bytes")
    assert np.array_equal(found != found, expected != expected), f"{where}: not the same voxels are NaN"
    gap = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    assert np.nanmax(gap, initial=0.0) <= tolerance, f"{where}: differs by {np.nanmax(gap)}, more than {tolerance}"


def same_columns(
    found: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], tolerance: float, where: str
) -> None:
    assert list(found) == list(expected), f"{where}: {list(found)} are not {list(expected)}"
    for name, column in expected.items():
        assert found[name].dtype == column.dtype and found[name].shape == column.shape, f"{where}: {name} is another"
        if column.dtype.kind != "f" or tolerance == 0:
            np.testing.assert_array_equal(found[name], column, err_msg=f"{where}: {name}")
        else:
            scale = max(1.0, float(np.nanmax(np.abs(column), initial=0.0)))
            np.testing.assert_allclose(
                found[name], column, rtol=tolerance, atol=tolerance * scale, err_msg=f"{where}: {name}"
            )


def as_bytes(partial: Mapping[str, np.ndarray]) -> list[tuple[str, str, Shape, bytes]]:
    return [(name, str(a.dtype), a.shape, a.tobytes()) for name, a in sorted(partial.items())]


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return as_bytes(one) == as_bytes(other)
