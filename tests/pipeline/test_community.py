"""What a run leaves, seen by other people's programs: napari and its OME-Zarr reader, ngio, and two validators."""

from __future__ import annotations

from pathlib import Path

import ngio
import numpy as np
import pytest
import yaozarrs
import zarr
from napari.components import ViewerModel
from napari_ome_zarr import napari_get_reader
from ome_zarr_models import open_ome_zarr
from pipeline.test_job import VOXEL_UM, done, expected, main_job, store, voxels

from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import convert_job
from cristae.pipeline.layers import add_layers
from cristae.pipeline.viewing import views

SHAPE = (4, 300, 520)  # so large that there are coarser levels
CHANNELS = ("DNA", "TOM20")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted image of two channels and two time points, labels in a store and labels beside a table."""
    folder = tmp_path_factory.mktemp("community")
    raw = np.stack([[voxels(t + 2 * c, SHAPE) for c in range(2)] for t in range(2)])
    np.save(folder / "raw.npy", raw)
    inputs = Inputs(axes="tczyx", voxel_um=VOXEL_UM, frame_interval_s=3.0)
    done(convert_job(str(folder / "raw.npy"), str(folder / "image.ome.zarr"), inputs, (4, 128, 128)), pyramid())
    cell = store(folder / "cell.ome.zarr", raw[0, 0])
    done(main_job(cell), pyramid())
    done(main_job(cell, folder / "out"), pyramid())
    return folder


def pyramid() -> Settings:
    return Settings("none", block=(4, 256, 256))


PLACES = {
    "image.ome.zarr": "Image",
    "cell.ome.zarr/labels/mito": "ImageLabel",
    "out/labels/cell.ome.zarr": "ImageLabel",
}


@pytest.mark.parametrize("place", PLACES)
def test_two_validators_find_nothing_wrong(made: Path, place: str) -> None:
    yaozarrs.validate_zarr_store(str(made / place))
    found = open_ome_zarr(zarr.open_group(made / place, mode="r"), version="0.5")
    assert type(found).__name__ == PLACES[place]


def test_an_image_that_holds_labels_is_valid(made: Path) -> None:
    # ome-zarr-models 1.6 trips over every image whose labels name no colours, which the standard allows; the other does not.
    yaozarrs.validate_zarr_store(str(made / "cell.ome.zarr"))


def test_ngio_reads_image_and_labels(made: Path) -> None:
    image = ngio.open_ome_zarr_container(str(made / "image.ome.zarr"))
    finest = image.get_image(path="0")
    np.testing.assert_array_equal(finest.get_array(), np.load(made / "raw.npy"))
    size = finest.pixel_size
    assert (size.z, size.y, size.x) == VOXEL_UM and image.levels > 1
    assert [c.label for c in image.get_image().meta.channels_meta.channels] == ["0", "1"]
    held = ngio.open_ome_zarr_container(str(made / "cell.ome.zarr"))
    assert held.list_labels() == ["mito"]
    truth = expected(np.load(made / "raw.npy")[0, 0])
    np.testing.assert_array_equal(held.get_label("mito", path="0").get_array(), truth)
    np.testing.assert_array_equal(ngio.open_label(str(made / "out/labels/cell.ome.zarr"), path="0").get_array(), truth)


def test_napari_reads_image_and_labels(made: Path) -> None:
    ((image, about, kind),) = read_by_napari(made / "image.ome.zarr")
    assert kind == "image" and about["channel_axis"] == 1 and tuple(about["scale"]) == (3.0, *VOXEL_UM)
    np.testing.assert_array_equal(image[0], np.load(made / "raw.npy"))
    assert len(image) > 1
    layers = read_by_napari(made / "cell.ome.zarr")
    assert [kind for _, _, kind in layers] == ["image", "labels"]
    for levels, about, _ in (layers[1], *read_by_napari(made / "out" / "labels" / "cell.ome.zarr")):
        np.testing.assert_array_equal(levels[0], expected(np.load(made / "raw.npy")[0, 0]))
        assert tuple(about["scale"]) == VOXEL_UM


def read_by_napari(path: Path) -> list[tuple]:
    reader = napari_get_reader(str(path))
    assert reader is not None
    return reader(str(path))


def test_view_fills_napari(made: Path) -> None:
    viewer = ViewerModel()
    add_layers(viewer, views(str(made / "out")), "volume_um3")
    image, labels = viewer.layers
    assert (image.name, labels.name) == ("cell", "cell: mito") and labels.multiscale
    np.testing.assert_array_equal(labels.data[0], expected(np.load(made / "raw.npy")[0, 0]))
    assert tuple(labels.scale) == VOXEL_UM
    colours = labels.colormap.color_dict
    assert len({tuple(np.round(colours[n], 3)) for n in range(1, 4)}) > 1
