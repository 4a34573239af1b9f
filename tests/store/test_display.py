"""The display window of a converted image: what a viewer that knows nothing else draws black and white."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import done

from cristae.pipeline.audit import audit
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import convert_job


def converted(folder: Path, array: np.ndarray, axes: str, name: str = "out") -> list[dict[str, float]]:
    if not (folder / f"{name}.npy").exists():
        np.save(folder / f"{name}.npy", array)
    inputs = Inputs(axes=axes, voxel_um=(0.2, 0.1, 0.1)[-sum(a in "zyx" for a in axes) :])
    job = convert_job(str(folder / f"{name}.npy"), str(folder / f"{name}.ome.zarr"), inputs, None)
    done(job, Settings("none"))
    channels = json.loads((folder / f"{name}.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]["omero"][
        "channels"
    ]
    return [channel["window"] for channel in channels]


def test_each_channel_is_drawn_by_its_own_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = np.stack([rng.normal(600, 40, (5, 90, 80)), rng.normal(9000, 300, (5, 90, 80))]).astype(np.uint16)
    for window, channel in zip(converted(tmp_path, array, "czyx"), array, strict=True):
        low, high = np.quantile(channel, (0.001, 0.999))
        assert abs(window["start"] - low) < 0.1 * (high - low) and abs(window["end"] - high) < 0.1 * (high - low)
        assert (window["min"], window["max"]) == (0, 65535)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("axes", ["zyx", "yx"])
def test_an_image_of_one_value_has_a_window_too(tmp_path: Path, dtype: str, axes: str) -> None:
    (window,) = converted(tmp_path, np.full((3, 20, 21)[-len(axes) :], 7, dtype), axes)
    assert window["start"] == 7 and 7 < window["end"] <= window["max"] and window["min"] <= 7


def test_a_mask_is_drawn_from_0_to_1(tmp_path: Path) -> None:
    (window,) = converted(tmp_path, np.random.default_rng(0).random((3, 20, 21)) > 0.5, "zyx")
    assert window == {"min": 0, "max": 1, "start": 0, "end": 1} and not any(
        isinstance(v, bool) for v in window.values()
    )


def test_metadata_that_were_lost_come_back_with_it(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(100, 300, (4, 40, 50)).astype(np.uint16)
    before = converted(tmp_path, array, "zyx")
    (tmp_path / "out.ome.zarr" / "zarr.json").unlink()
    assert audit(tmp_path / "out.ome.zarr" / ".cristae" / "convert").findings
    assert converted(tmp_path, array, "zyx") == before
    assert not audit(tmp_path / "out.ome.zarr" / ".cristae" / "convert").findings
