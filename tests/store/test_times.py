"""When each time point was recorded: read from files, kept by conversion, shown in tables and coordinates."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from pipeline.test_job import MAIN, VOXEL_UM, done, main_job, store, voxels

from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import convert_job
from cristae.store.volume import open_volume

TIMES = (0.5, 2.5, 9.0, 9.75)


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """An OME-TIFF whose planes say when they were recorded, at no steady pace."""
    array = np.stack([voxels(t, (3, 20, 24)) for t in range(4)])
    planes = {"DeltaT": np.repeat(TIMES, 3).tolist(), "DeltaTUnit": ["s"] * 12}
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeY": 0.1,
        "PhysicalSizeZ": 0.3,
        "TimeIncrement": 3.0,
        "Plane": planes,
    }
    tifffile.imwrite(tmp_path / "movie.ome.tif", array, ome=True, metadata=metadata)
    return tmp_path / "movie.ome.tif"


def test_time_stamps_go_from_the_file_to_store_coordinates_and_summary(movie: Path, tmp_path: Path) -> None:
    assert open_volume(movie).times_s == TIMES
    done(convert_job(str(movie), str(tmp_path / "movie.ome.zarr"), Inputs(), None), Settings("none"))
    kept = open_volume(tmp_path / "movie.ome.zarr")
    assert kept.times_s == TIMES and kept.frame_interval_s == 3.0
    assert kept.xarray()["t"].values.tolist() == list(TIMES)
    done(main_job(tmp_path / "movie.ome.zarr", tmp_path / "out"), Settings("none"))
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines()))
    assert [float(row["time_s"]) for row in rows] == list(TIMES)
    assert open_volume(tmp_path / "out" / "labels" / "movie.ome.zarr").times_s == TIMES


def test_a_part_of_a_movie_keeps_its_times(movie: Path, tmp_path: Path) -> None:
    done(convert_job(str(movie), str(tmp_path / "part.ome.zarr"), Inputs(time=(1, 3)), None), Settings("none"))
    assert open_volume(tmp_path / "part.ome.zarr").times_s == TIMES[1:3]


def test_a_part_of_a_steady_movie_begins_when_it_did(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", np.stack([voxels(t) for t in range(4)]), axes="tzyx", frame_interval_s=2.0)
    assert open_volume(cell).times_s == ()
    done(convert_job(str(cell), str(tmp_path / "part.ome.zarr"), Inputs(time=(2, 4)), None), Settings("none"))
    part = open_volume(tmp_path / "part.ome.zarr")
    assert part.times_s == (4.0, 6.0) and part.frame_interval_s == 2.0
    done(main_job(cell, tmp_path / "out", text=MAIN, inputs=Inputs(time=(1, 2))), Settings("none"))
    (row,) = csv.DictReader((tmp_path / "out" / "summary.csv").read_text().splitlines())
    assert float(row["time_s"]) == 2.0


def test_an_image_without_time_has_no_such_column(tmp_path: Path) -> None:
    done(main_job(store(tmp_path / "cell.ome.zarr", voxels()), tmp_path / "out"), Settings("none"))
    assert "time_s" not in (tmp_path / "out" / "summary.csv").read_text()
    assert open_volume(tmp_path / "cell.ome.zarr").voxel_um == VOXEL_UM


def test_microscope_files_say_when(shared_data: Path) -> None:
    formats = shared_data / "formats"
    times = open_volume(formats / "example-timelapse.nd2").times_s
    assert len(times) == 53 and times[0] == pytest.approx(4.227198) and (np.diff(times) > 0).all()
    assert open_volume(formats / "LLS7_small.czi").times_s == (0.0, 90.038)
    pytest.importorskip("readlif")
    lif = open_volume(formats / "LeicaLASX_wavelength-sweep_example.lif", scene="x_y_z_t_lambdaEmi")
    assert lif.times_s == pytest.approx((0.0, 80.91), abs=1e-3)


LEICA = """<Image><ImageDescription><Channels>
<ChannelDescription LUTName="Green"><ChannelProperty><Key>DyeName</Key><Value>GFP</Value></ChannelProperty></ChannelDescription>
<ChannelDescription LUTName="Glow" /></Channels><Dimensions>
<DimensionDescription DimID="1" BytesInc="1" /><DimensionDescription DimID="4" BytesInc="{inc}" /></Dimensions></ImageDescription>
{stamps}</Image>"""
"""What a LIF says of an image of two channels, in as few words as its readers need."""


@pytest.mark.parametrize(
    ("stamps", "inc", "said"),
    [
        ("<TimeStampList>5f5e100 5f5e200 8f0d180 8f0d280 </TimeStampList>", 900, (0.0, 5.0)),
        (
            "<TimeStampList>" + "".join(f'<TimeStamp HighInteger="1" LowInteger="{n}" />' for n in (0, 3 * 10**7)) + "</TimeStampList>",
            900,
            (0.0, 3.0),
        ),
        ("<TimeStampList>1 2 3</TimeStampList>", 900, ()),  # no whole number a time point
        ("<TimeStampList>1 2 3 4</TimeStampList>", 0, ()),  # time is not outermost
        ("", 900, ()),
    ],
)  # fmt: skip
def test_stamps_of_planes_are_times_of_time_points(stamps: str, inc: int, said: tuple[float, ...]) -> None:
    from types import SimpleNamespace
    from xml.etree import ElementTree

    from cristae.store.foreign import lif

    about = ElementTree.fromstring(LEICA.format(stamps=stamps, inc=inc))
    assert lif._times_s(about, 2) == pytest.approx(said)
    shown = lif._channels(SimpleNamespace(dims_n={1: 4}), about)
    assert [(c.name, c.color) for c in shown] == [("GFP", "00FF00"), ("1", None)]
