"""A microscope's own file, through the commands: said what it is, converted, and run without a converted copy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

from cristae.grid import Box
from cristae.store.volume import open_volume
from cristae_cli.main import app

LIF = "LeicaLASX_wavelength-sweep_example.lif"
NUCLEI = """
channel: DAPI
output: {name: nuclei}
steps:
  - gaussian: {sigma_um: 0.6}
  - threshold: {method: otsu}
  - label: {min_voxels: 20}
  - measure: {columns: [shape, intensity], channels: all}
"""


def cristae(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


@pytest.fixture(scope="module")
def formats(shared_data: Path) -> Path:
    return shared_data / "formats"


@pytest.mark.filterwarnings("ignore")
def test_info_lists_scenes_and_says_what_a_file_lacks(formats: Path) -> None:
    listed = cristae("info", formats / LIF, "--json")
    assert [json.loads(line)["shape"][:2] for line in listed.stdout.splitlines()] == [[20, 64], [15, 64], [2, 10]]
    lacking = cristae("info", formats / "DAPI_GFP.czi", "--json")
    assert (lacking.exit_code, json.loads(lacking.stdout)["channels"]) == (0, ["DAPI", "GFP"])
    assert "--voxel-um 0.1,0.1" in json.loads(lacking.stdout)["lacks"]


@pytest.mark.filterwarnings("ignore")
def test_what_is_converted_is_what_the_file_holds(formats: Path, tmp_path: Path) -> None:
    done = cristae("convert", formats / LIF, tmp_path / "cell.ome.zarr", "--scene", "2", "--cluster", "none")
    assert done.exit_code == 0
    source, made = open_volume(formats / LIF, scene="2"), open_volume(tmp_path / "cell.ome.zarr")
    assert (made.axes, made.shape, made.dtype) == (source.axes, source.shape, source.dtype)
    assert made.voxel_um == pytest.approx(source.voxel_um)
    assert made.frame_interval_s == pytest.approx(source.frame_interval_s)
    assert [c.name for c in made.channels] == [c.name for c in source.channels]
    box = Box.whole(source.spatial_shape)
    for t in range(source.frames):
        for c in range(source.channel_count):
            np.testing.assert_array_equal(made.read(box, t, c), source.read(box, t, c))


@pytest.mark.filterwarnings("ignore")
def test_a_run_needs_no_converted_copy(formats: Path, tmp_path: Path) -> None:
    (tmp_path / "nuclei.yaml").write_text(NUCLEI, encoding="utf-8")
    tables = []
    for name in ("raw", "converted"):
        source: Path = formats / "example-multichannel.nd2"
        if name == "converted":
            assert cristae("convert", source, tmp_path / "cell.ome.zarr", "--cluster", "none").exit_code == 0
            source = tmp_path / "cell.ome.zarr"
        done = cristae("run", tmp_path / "nuclei.yaml", source, "--out", tmp_path / name, "--cluster", "none")
        assert done.exit_code == 0
        tables.append(pl.read_parquet(tmp_path / name / "objects.parquet").drop("image"))
    assert len(tables[0]) > 5
    assert "intensity_mean_TRITC BP" in tables[0].columns
    assert tables[0].equals(tables[1])


@pytest.mark.filterwarnings("ignore")
def test_a_channel_or_scene_that_is_not_there_is_named(formats: Path, tmp_path: Path) -> None:
    nd2 = formats / "example-multichannel.nd2"
    for words, said in (
        (("convert", nd2, tmp_path / "a.ome.zarr", "--channel", "GFP"), "no channel 'GFP'; it has 0 (Mono)"),
        (("convert", formats / LIF, tmp_path / "a.ome.zarr"), "choose one with --scene"),
        (("convert", formats / LIF, tmp_path / "a.ome.zarr", "--scene", "7"), "no scene '7'"),
    ):
        done = CliRunner().invoke(app, [str(w) for w in words])
        assert said in str(done.exception)
