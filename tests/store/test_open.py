"""Opening what others wrote: every voxel and size as they meant it, or one sentence that says what to do."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from cristae.errors import InvalidInput
from cristae.grid import Box
from cristae.store import ome
from cristae.store.finding import attributes
from cristae.store.volume import Volume, VoxelSizeWarning, open_volume

STACK = np.arange(5 * 12 * 14, dtype="uint16").reshape(5, 12, 14)


def whole(volume: Volume, t: int = 0, c: int = 0) -> np.ndarray:
    return volume.read(Box.whole(volume.spatial_shape), t, c)


# TIFF


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m"])
def test_imagej_says_its_axes_and_sizes(tmp_path: Path, unit: str) -> None:
    array = np.arange(2 * 3 * 2 * 6 * 7, dtype="uint16").reshape(2, 3, 2, 6, 7)
    meta = {"axes": "TZCYX", "spacing": 0.3, "unit": unit, "finterval": 2.5}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(10, 8), metadata=meta)
    volume = open_volume(tmp_path / "a.tif")
    assert (volume.axes, volume.shape, volume.frame_interval_s) == ("tczyx", (2, 2, 3, 6, 7), 2.5)
    assert volume.voxel_um == pytest.approx((0.3, 0.125, 0.1))
    for t, c in np.ndindex(2, 2):
        np.testing.assert_array_equal(whole(volume, t, c), array[t, :, c])
    np.testing.assert_array_equal(volume.xarray().transpose("t", "z", "c", "y", "x").values, array)


def test_imagej_in_nanometres(tmp_path: Path) -> None:
    meta = {"axes": "ZYX", "spacing": 300, "unit": "nm"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(0.01, 0.01), metadata=meta)
    assert open_volume(tmp_path / "a.tif").voxel_um == pytest.approx((0.3, 0.1, 0.1))


@pytest.mark.parametrize("axes", ["TCZYX", "ZCTYX", "CTZYX"])
def test_ome_tiff_in_any_order(tmp_path: Path, axes: str) -> None:
    sizes = {"T": 2, "C": 3, "Z": 4, "Y": 6, "X": 7}
    array = np.arange(2 * 3 * 4 * 6 * 7, dtype="uint16").reshape([sizes[a] for a in axes])
    meta = {
        "axes": axes, "PhysicalSizeX": 100, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.1, "PhysicalSizeYUnit": "µm",
        "PhysicalSizeZ": 0.3, "PhysicalSizeZUnit": "µm", "TimeIncrement": 500, "TimeIncrementUnit": "ms",
        "Channel": {"Name": ["TMRM", "ER", "DAPI"]},
    }  # fmt: skip
    tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata=meta, compression="zlib", ome=True)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert (volume.name, volume.axes, volume.shape) == ("a", "tczyx", (2, 3, 4, 6, 7))
    assert volume.voxel_um == pytest.approx((0.3, 0.1, 0.1))
    assert (volume.frame_interval_s, [c.name for c in volume.channels]) == (0.5, ["TMRM", "ER", "DAPI"])
    ordered = array.transpose([axes.index(a) for a in "TCZYX"])
    for t, c in np.ndindex(2, 3):
        np.testing.assert_array_equal(whole(volume, t, c), ordered[t, c])


@pytest.mark.parametrize(
    "how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"byteorder": ">"}, {"rowsperstrip": 3}]
)
def test_tiff_is_read_in_parts_and_exactly(tmp_path: Path, how: dict[str, Any]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"}, **how)
    volume = open_volume(tmp_path / "a.tif", voxel_um=(0.3, 0.1, 0.1))
    box = Box((1, 3, 2), (4, 11, 13))
    part = volume.read(box)
    np.testing.assert_array_equal(part, STACK[box.slices])
    assert part.dtype.isnative and part.flags.c_contiguous
    assert all(c <= n for c, n in zip(volume.chunk, (1, 16, 16), strict=True))


def test_a_plain_stack_must_be_told_its_axes(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata=None, resolution=(1e5, 1e5), resolutionunit="CENTIMETER")
    with pytest.raises(InvalidInput, match="--axes zyx"):
        open_volume(tmp_path / "a.tif", voxel_um=(0.3, 0.1, 0.1))
    with pytest.raises(InvalidInput, match=r"along z; give it.*--voxel-um 0.3,0.1,0.1"):
        open_volume(tmp_path / "a.tif", axes="zyx")
    volume = open_volume(tmp_path / "a.tif", axes="xyz", voxel_um=(0.3, 0.1, 0.1))
    np.testing.assert_array_equal(whole(volume), STACK.transpose(2, 1, 0))


def test_colour_is_channels_when_the_user_says_so(tmp_path: Path) -> None:
    array = np.arange(6 * 7 * 3, dtype="uint8").reshape(6, 7, 3)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    with pytest.raises(InvalidInput, match="--axes yxc"):
        open_volume(tmp_path / "a.tif", voxel_um=(0.1, 0.1))
    volume = open_volume(tmp_path / "a.tif", axes="yxc", voxel_um=(0.1, 0.1))
    assert (volume.axes, volume.shape) == ("cyx", (3, 6, 7))
    np.testing.assert_array_equal(whole(volume, c=2), array[..., 2])


@pytest.mark.parametrize("dpi", [72, 96, 150, 300, 600])
def test_a_printing_resolution_is_no_pixel_size(tmp_path: Path, dpi: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], resolution=(dpi, dpi), resolutionunit="INCH")
    with pytest.raises(InvalidInput, match=rf"{dpi} per inch.*printing.*--voxel-um 0.1,0.1"):
        open_volume(tmp_path / "a.tif")
    assert open_volume(tmp_path / "a.tif", voxel_um=(0.1, 0.1)).voxel_um == (0.1, 0.1)


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "lzw"}, {"imagej": True}])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_a_file_shorter_than_it_says_is_refused(tmp_path: Path, how: dict[str, Any], kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 60000, (10, 64, 64)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", noise, metadata={"axes": "ZYX"}, **how)
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(InvalidInput, match="shorter than its own directory says"):
        open_volume(tmp_path / "a.tif", voxel_um=(0.3, 0.1, 0.1))


@pytest.mark.parametrize(
    "how", [{}, {"compression": "zlib"}, {"bigtiff": True}, {"tile": (16, 16)}, {"byteorder": ">"}]
)
@pytest.mark.parametrize("lost", [1, 8, 100, 700, 3000])
def test_an_ome_tiff_that_lost_its_end_is_refused(tmp_path: Path, how: dict[str, Any], lost: int) -> None:
    """Its description and its later pages lie at the end: without them it would open with one page and no axes."""
    path = tmp_path / "a.ome.tif"
    noise = np.random.default_rng(0).integers(0, 60000, (3, 5, 32, 32)).astype("uint16")
    tifffile.imwrite(path, noise, ome=True, metadata={"axes": "CZYX"}, **how)
    assert open_volume(path, voxel_um=(0.3, 0.1, 0.1)).shape == noise.shape
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(InvalidInput, match=r"shorter than its own directory says|not a whole TIFF file"):
        open_volume(path, voxel_um=(0.3, 0.1, 0.1))


@pytest.mark.parametrize("levels", [1, 2])
def test_a_tiff_with_coarser_levels_is_read_at_its_finest(tmp_path: Path, levels: int) -> None:
    noise = np.random.default_rng(0).integers(0, 60000, (2, 3, 128, 128)).astype("uint16")
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as out:
        out.write(noise, subifds=levels, tile=(32, 32), metadata={"axes": "CZYX"})
        for n in range(1, levels + 1):
            out.write(noise[..., :: 2**n, :: 2**n], subfiletype=1, tile=(32, 32))
    volume = open_volume(tmp_path / "a.ome.tif", voxel_um=(0.3, 0.1, 0.1))
    assert (volume.axes, volume.shape) == ("czyx", noise.shape)
    for c in range(2):
        np.testing.assert_array_equal(whole(volume, c=c), noise[c])


def test_a_dataset_in_a_group_is_named_behind_the_file(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["g/one"], file["g/two"] = STACK, STACK + 1
    volume = open_volume(f"{tmp_path / 'a.h5'}:g/two", axes="zyx", voxel_um=(0.3, 0.1, 0.1))
    np.testing.assert_array_equal(whole(volume), STACK + 1)


def test_a_missing_codec_names_the_extra(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, metadata={"axes": "ZYX"}, compression="jpeg2000")
    code = (
        "import sys; sys.modules['imagecodecs'] = None\n"
        "from cristae.store.volume import open_volume\n"
        f"open_volume({str(tmp_path / 'a.tif')!r}, voxel_um=(1, 1, 1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert re.search(r"MissingExtra: .*JPEG.*pip install 'cristae\[formats\]'", done.stderr)


# numpy


def test_npy_is_mapped(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK.astype(">u2"))
    with pytest.raises(InvalidInput, match="--axes zyx"):
        open_volume(tmp_path / "a.npy")
    with pytest.raises(InvalidInput, match=r"--voxel-um 0\.3,0\.1,0\.1"):
        open_volume(tmp_path / "a.npy", axes="zyx")
    volume = open_volume(tmp_path / "a.npy", axes="zyx", voxel_um=(0.3, 0.1, 0.1))
    assert (volume.name, volume.dtype, volume.reader) == ("a", "uint16", "npy")
    np.testing.assert_array_equal(whole(volume), STACK)


def test_npz_with_several_arrays_asks_which(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", image=STACK, mask=STACK > 9)
    with pytest.raises(InvalidInput, match=r"a\.npz holds 2 scenes: 0 \(image\), 1 \(mask\); choose one with --scene"):
        open_volume(tmp_path / "a.npz")
    with pytest.raises(InvalidInput, match="no scene 'x'"):
        open_volume(f"{tmp_path}/a.npz:x")
    volume = open_volume(f"{tmp_path}/a.npz:mask", axes="zyx", voxel_um=(0.3, 0.1, 0.1))
    assert (volume.name, volume.dtype) == ("a-mask", "bool")
    np.testing.assert_array_equal(whole(volume), STACK > 9)


# Zarr


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_array_takes_axes_and_size_from_the_user(tmp_path: Path, version: Any) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(2, 5, 6), zarr_format=version)
    with pytest.raises(InvalidInput, match="--axes zyx"):
        open_volume(tmp_path / "a.zarr")
    volume = open_volume(tmp_path / "a.zarr", axes="zyx", voxel_um=(0.3, 0.1, 0.1))
    assert (volume.name, volume.chunk, volume.unit) == ("a", (2, 5, 6), (2, 5, 6))
    np.testing.assert_array_equal(whole(volume), STACK)
    assert volume.identity() == volume.identity()


def ome_store(folder: Path, version: str, array: np.ndarray, multiscale: dict[str, Any], **more: Any) -> Path:
    """An OME-Zarr as another program would write it."""
    document = {"multiscales": [{"version": version, "datasets": [_dataset(1.0, 1.0, 1.0)], **multiscale}], **more}
    group = zarr.open_group(folder, mode="w", zarr_format=3 if version == "0.5" else 2)
    group.attrs.update({"ome": {"version": version, **document}} if version == "0.5" else document)
    group.create_array("0", data=array, chunks=tuple(min(4, n) for n in array.shape))
    return folder


def _dataset(*scale: float, translation: tuple[float, ...] | None = None) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
    if translation:
        steps.append({"type": "translation", "translation": list(translation)})
    return {"path": "0", "coordinateTransformations": steps}


def _axes(names: str, **units: str) -> list[dict[str, str]]:
    types = {"t": "time", "c": "channel"}
    return [{"name": n, "type": types.get(n, "space"), **({"unit": units[n]} if n in units else {})} for n in names]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_scales_of_level_and_image_multiply_and_units_convert(tmp_path: Path, version: str) -> None:
    multiscale = {
        "axes": _axes("tczyx", t="millisecond", z="micrometer", y="nanometer", x="nanometer"),
        "datasets": [_dataset(1, 1, 0.3, 50, 50, translation=(0, 0, 1, 10, 20))],
        "coordinateTransformations": [{"type": "scale", "scale": [500, 1, 1, 2, 2]}],
    }
    omero = {"channels": [{"label": "TMRM", "color": "ff0000", "window": {"min": 0, "max": 9, "start": 1, "end": 8}}]}
    volume = open_volume(ome_store(tmp_path / "a.zarr", version, STACK[None, None], multiscale, omero=omero))
    assert volume.voxel_um == pytest.approx((0.3, 0.1, 0.1))
    assert volume.translation_um == pytest.approx((1, 0.02, 0.04))
    assert volume.frame_interval_s == pytest.approx(0.5)
    assert (volume.channels[0].name, volume.channels[0].color, volume.channels[0].window) == (
        "TMRM",
        "FF0000",
        (0, 9, 1, 8),
    )
    np.testing.assert_array_equal(whole(volume), STACK)


def test_axes_in_another_order_are_sorted(tmp_path: Path) -> None:
    um = dict.fromkeys("zyx", "micrometer")
    volume = open_volume(
        ome_store(
            tmp_path / "a.zarr", "0.4", STACK, {"axes": _axes("xzy", **um), "datasets": [_dataset(0.1, 0.3, 0.2)]}
        )
    )
    assert volume.voxel_um == (0.3, 0.2, 0.1)
    np.testing.assert_array_equal(whole(volume), STACK.transpose(1, 2, 0))


def test_a_scale_of_ones_without_a_unit_is_no_voxel_size(tmp_path: Path) -> None:
    path = ome_store(tmp_path / "a.zarr", "0.4", STACK, {"axes": _axes("zyx")})
    with pytest.raises(InvalidInput, match="--voxel-um"):
        open_volume(path)
    assert open_volume(path, voxel_um=(0.3, 0.1, 0.1)).voxel_um == (0.3, 0.1, 0.1)


def test_a_scale_without_a_unit_is_taken_as_micrometres_and_said(tmp_path: Path) -> None:
    path = ome_store(tmp_path / "a.zarr", "0.4", STACK, {"axes": _axes("zyx"), "datasets": [_dataset(0.3, 0.1, 0.1)]})
    with pytest.warns(VoxelSizeWarning, match="no unit"):
        assert open_volume(path).voxel_um == (0.3, 0.1, 0.1)


@pytest.mark.parametrize("bad", [0.0, -0.1, float("nan")])
def test_a_size_that_is_no_size_is_refused(tmp_path: Path, bad: float) -> None:
    um = dict.fromkeys("zyx", "micrometer")
    path = ome_store(
        tmp_path / "a.zarr", "0.4", STACK, {"axes": _axes("zyx", **um), "datasets": [_dataset(0.3, bad, 0.1)]}
    )
    with pytest.raises(InvalidInput, match="--voxel-um"):
        open_volume(path)
    with pytest.raises(InvalidInput, match="--voxel-um"):
        open_volume(path, voxel_um=(0.3, bad, 0.1))


@pytest.mark.parametrize(
    ("voxel_um", "sentence"),
    [((0.05, 0.1, 0.1), "finer than its pixels"), ((30, 0.1, 0.1), "outside"), ((0.1, 0.001, 0.001), "outside")],
)
def test_unlikely_sizes_are_said_and_used(tmp_path: Path, voxel_um: tuple[float, ...], sentence: str) -> None:
    np.save(tmp_path / "a.npy", STACK)
    with pytest.warns(VoxelSizeWarning, match=sentence):
        assert open_volume(tmp_path / "a.npy", axes="zyx", voxel_um=voxel_um).voxel_um == voxel_um


def test_a_missing_frame_interval_only_warns(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    with pytest.warns(VoxelSizeWarning, match="stay in frames"):
        assert open_volume(tmp_path / "a.npy", axes="tyx", voxel_um=(0.1, 0.1)).frame_interval_s is None
    assert open_volume(tmp_path / "a.npy", axes="tyx", voxel_um=(0.1, 0.1), frame_interval_s=2).frame_interval_s == 2


def _text(folder: Path) -> Path:
    (folder / "a.tif").write_text("z,y,x\n1,2,3\n")
    return folder / "a.tif"


def _empty(folder: Path) -> Path:
    (folder / "a.tif").touch()
    return folder / "a.tif"


def _torn_json(folder: Path) -> Path:
    (folder / "zarr.json").write_text('{"zarr_format": 3,')
    return folder


def _labels_only(folder: Path) -> Path:
    for name in ("", "labels"):
        zarr.open_group(folder / "a.zarr" / name, mode="w", zarr_format=3)
    zarr.open_group(folder / "a.zarr/labels").attrs["ome"] = {"labels": ["mito", "er"]}
    return folder / "a.zarr"


def _torn_npy(folder: Path) -> Path:
    np.save(folder / "a.npy", STACK)
    (folder / "a.npy").write_bytes((folder / "a.npy").read_bytes()[:200])
    return folder / "a.npy"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "nothing.zarr", "does not exist"),
        (lambda p: p, "without Zarr metadata"),
        (_text, "is not a TIFF"),
        (_empty, "empty file"),
        (_torn_json, "is not JSON"),
        (_torn_npy, "not a whole .npy"),
        (_labels_only, r"only labels; name one: .*labels/mito, .*labels/er"),
        (lambda p: "s3://bucket/a.zarr", "local paths"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(tmp_path: Path, make: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence) as caught:
        open_volume(make(tmp_path), voxel_um=(1, 1))
    assert "\n" not in str(caught.value)


# real data


def test_real_stacks_open_with_their_published_sizes(shared_data: Path) -> None:
    for file, um in {
        "mitograph-test-3d/MitoGraphTest001.tif": (0.2, 0.056, 0.056),
        "em-fib25-train2/image_z000-119.tif": (0.01, 0.01, 0.01),
        "cells3d-nuclei/neubias_nuclei_zyx.tif": (4.0, 0.8286, 0.8286),
        "neubias-em/xy_8bit__em_mitochondria_er.tif": (0.008, 0.008),
        "physeg-real/hypoxia_001_z08_mito.tif": (0.08, 0.08),
    }.items():
        volume = open_volume(shared_data / file)
        assert volume.voxel_um == pytest.approx(um, rel=1e-3), file
        np.testing.assert_array_equal(whole(volume), tifffile.imread(shared_data / file))


def test_every_real_tiff_opens_once_told_its_size(shared_data: Path) -> None:
    files = sorted(shared_data.rglob("*.tif"))
    assert files
    for file in files[::5]:
        with tifffile.TiffFile(file) as tiff:
            shape = tiff.series[0].shape
        spatial = 3 if "ZYX" in tiff.series[0].axes else 2
        volume = open_volume(file, voxel_um=(0.3, 0.1, 0.1)[-spatial:], frame_interval_s=1.0)
        assert volume.shape == shape
        full = tifffile.imread(file).reshape(volume.frames, volume.channel_count, *volume.spatial_shape)
        np.testing.assert_array_equal(whole(volume, volume.frames - 1, volume.channel_count - 1), full[-1, -1])


def test_the_specifications_own_stores(shared_data: Path) -> None:
    folder = shared_data / "zarr-conformance"
    broken = {
        "image-01": "no multiscales",
        "image-02": "no multiscales",
        "image-03": "no Zarr array",
        "image-04": "level 1 has shape",
    }
    for name, sentence in broken.items():
        with pytest.raises(InvalidInput, match=sentence):
            open_volume(folder / f"examples-0.4/invalid/{name}.zarr")
    for store in sorted((folder / "examples-0.4/valid").glob("image-*.zarr")):
        volume = open_volume(store)
        reference = np.asarray(zarr.open_array(store / "0", mode="r")[...])
        np.testing.assert_array_equal(whole(volume), reference)
    with pytest.raises(InvalidInput, match=r"is a plate.*plate-01\.zarr/\w+/\w+/0"):
        open_volume(folder / "examples-0.4/valid/plate-01.zarr")


# What the specification allows and a microscope volume is not: an axis that is an angle, two scales for three axes.
NO_VOLUME = {"mismatch_axes_units", "untyped_axes", "custom_type_axes"}
# What the specification forbids and a reader can bear: colours are for display, the rest stands elsewhere too.
BORNE = {"invalid_channels_color", "invalid_channels_window", "invalid_version", "invalid_axis_type"}


def test_the_metadata_cases_of_the_specification(shared_data: Path) -> None:
    """These stores hold no arrays: what is asked is whether axes and voxel size can be had from the metadata."""
    folder = shared_data / "zarr-conformance"
    wrong = {}
    for case in json.loads((folder / "manifest.json").read_text()):
        store = folder / case["store"]
        if case["scope"] != "metadata-only" or case["kind"] != "image" or "base" not in case["rule_level"]:
            continue
        with pytest.raises(InvalidInput) as caught:
            open_volume(store, voxel_um=(1, 1, 1))
        assert "\n" not in str(caught.value)
        try:
            image = ome.read_image(attributes(store) or {}, "store")
            usable = {"y", "x"} <= set(image.axes) and all({"y", "x"} <= d.scale.keys() for d in image.datasets)
        except InvalidInput:
            usable = False
        if usable != (case["expected"] == "valid") and store.stem not in NO_VOLUME | BORNE:
            wrong[case["store"]] = case["expected"]
    assert not wrong
