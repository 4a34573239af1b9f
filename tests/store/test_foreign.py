"""Files of microscopes: every voxel as the vendor's own reader has it, sizes and channels kept, damage said in one sentence."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cristae.errors import InvalidInput, MissingExtra, SeveralScenes
from cristae.grid import Box
from cristae.store import foreign
from cristae.store.facts import GapWarning
from cristae.store.volume import Volume, open_volume

LIF = "LeicaLASX_wavelength-sweep_example.lif"


@pytest.fixture(scope="session")
def formats(shared_data: Path) -> Path:
    return shared_data / "formats"


def whole(volume: Volume) -> np.ndarray:
    """Every voxel, (t, c, ...)."""
    box = Box.whole(volume.spatial_shape)
    frames = [[volume.read(box, t, c) for c in range(volume.channel_count)] for t in range(volume.frames)]
    return np.array(frames)


def by_nd2(path: Path) -> np.ndarray:
    import nd2

    return np.asarray(nd2.imread(path))


def by_czi(path: Path) -> np.ndarray:
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as file:
        t, c, z = (file.total_bounding_box[a][1] for a in "TCZ")
        planes = [[[file.read(plane={"T": i, "C": j, "Z": k}) for k in range(z)] for j in range(c)] for i in range(t)]
    return np.array(planes)[..., 0]


def by_lif(path: Path) -> np.ndarray:
    from readlif.reader import LifFile

    image = LifFile(str(path)).get_image(2)
    steps = image.dims_n[5]
    planes = [
        [[image.get_plane(requested_dims={3: z, 4: t, 5: step}) for z in range(image.dims.z)] for step in range(steps)]
        for t in range(image.dims.t)
    ]
    return np.array(planes)


def by_h5py(path: Path) -> np.ndarray:
    import h5py

    with h5py.File(path) as file:
        return np.asarray(file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"])


# file, scene, what the user must add, its own reader, axes, voxel size in um, seconds a frame, channels
FILES: dict[str, tuple[str | None, dict, Callable[[Path], np.ndarray], str, tuple, float | None, dict]] = {
    "example-multichannel.nd2": (
        None, {}, by_nd2, "cyx", (0.32339, 0.32339), None,
        {"Mono": "FFFFFF", "DAPI": "0033FF", "FITC BP": "07FF00", "TRITC BP": "FFBF00"},
    ),
    "example-zstack.nd2": (None, {}, by_nd2, "zyx", (6.0, 0.32339, 0.32339), None, {"FITC BP": "07FF00"}),
    "example-timelapse.nd2": (None, {}, by_nd2, "tyx", (0.325, 0.325), 0.50016, {"GFP 488 nm": "07FF00"}),
    "LLS7_small.czi": (
        None, {}, by_czi, "tczyx", (0.144992, 0.144992, 0.144992), 90.038,
        {"LatticeLightsheet 1-T1": "FF00FF", "LatticeLightsheet 2-T2": "00FFFF"},
    ),
    "DAPI_GFP.czi": (
        None, {"voxel_um": (0.1, 0.1)}, by_czi, "cyx", (0.1, 0.1), None, {"DAPI": "0000FF", "GFP": "00FF00"},
    ),
    LIF: (
        "x_y_z_t_lambdaEmi", {}, by_lif, "tczyx", (1 / 1.99919, 1 / 9.54067, 1 / 9.54067), 80.91,
        {f"emission {n}": None for n in range(10)},
    ),
    "Minimal_IMS_File.ims": (None, {}, by_h5py, "zyx", (0.1, 7 / 128, 7 / 128), None, {"0": None}),
    "multi-channel.ome.tif": (
        None, {"voxel_um": (0.1, 0.1)}, tifffile.imread, "cyx", (0.1, 0.1), None, {"0": None, "1": None, "2": None},
    ),
    "mitocheck_movie_tyx.tif": (
        None, {"voxel_um": (0.1, 0.1), "axes": "tyx", "frame_interval_s": 1800.0}, tifffile.imread, "tyx", (0.1, 0.1),
        1800.0, {"0": None},
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_as_by_its_own_reader(name: str, formats: Path) -> None:
    scene, given, reader, axes, voxel, interval, channels = FILES[name]
    volume = open_volume(formats / name, scene=scene, **given)
    assert volume.axes == axes
    assert volume.voxel_um == pytest.approx(voxel, rel=1e-4)
    assert volume.frame_interval_s == (interval and pytest.approx(interval, rel=1e-3))
    assert {c.name: c.color for c in volume.channels} == channels
    expected = reader(formats / name)
    found = whole(volume)
    assert volume.dtype == expected.dtype
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FILES)
def test_any_box_is_that_of_the_whole(name: str, formats: Path) -> None:
    scene, given, *_ = FILES[name]
    volume = open_volume(formats / name, scene=scene, **given)
    every, rng = whole(volume), random.Random(0)
    for _ in range(20):
        t, c = rng.randrange(volume.frames), rng.randrange(volume.channel_count)
        spans = [sorted(rng.sample(range(n + 1), 2)) for n in volume.spatial_shape]
        box = Box(tuple(a for a, _ in spans), tuple(b for _, b in spans))
        np.testing.assert_array_equal(volume.read(box, t, c), every[(t, c, *box.slices)])


@pytest.mark.filterwarnings("ignore")
def test_a_file_of_several_scenes_asks_which(formats: Path) -> None:
    with pytest.raises(SeveralScenes, match=r"3 scenes: 0 \(x_y_lambdaEmi\).*--scene"):
        open_volume(formats / LIF)
    with pytest.raises(InvalidInput, match="no scene 'x_y'; it has 0"):
        open_volume(formats / LIF, scene="x_y")
    by_number, by_name = (open_volume(formats / LIF, scene=s) for s in ("2", "x_y_z_t_lambdaEmi"))
    assert by_number == by_name == open_volume(f"{formats / LIF}:2")
    assert by_number.name.endswith("-x_y_z_t_lambdaEmi")


@pytest.mark.parametrize("name", ["one.npy", "one.tif"])
def test_a_scene_of_a_file_of_one_image_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    (np.save if name.endswith("npy") else tifffile.imwrite)(path, np.zeros((8, 9), np.uint16))
    given = {"axes": "yx", "voxel_um": (0.1, 0.1)}
    with pytest.raises(InvalidInput, match="holds one image, and no scene '3'; leave the scene out"):
        open_volume(path, scene="3", **given)
    assert open_volume(path, scene="0", **given).name == "one"


def test_planes_that_a_czi_lacks_are_named(tmp_path: Path) -> None:
    czi = pytest.importorskip("pylibCZIrw.czi")

    def recorded(name: str, lost: set[tuple[int, int]]) -> Path:
        with czi.create_czi(str(tmp_path / name)) as file:
            for t, z in itertools.product(range(3), range(4)):
                if (t, z) not in lost:
                    file.write(np.full((20, 30, 1), 10 * t + z + 1, np.uint16), plane={"T": t, "Z": z, "C": 0})
            file.write_metadata("a", scale_x=1e-7, scale_y=1e-7, scale_z=3e-7)
        return tmp_path / name

    with warnings.catch_warnings():
        warnings.simplefilter("error", GapWarning)
        assert (whole(open_volume(recorded("whole.czi", set()), frame_interval_s=1)) > 0).all()
    with pytest.warns(
        GapWarning, match="2 of 12 planes are not in the file, the first at t 1, z 2, and read as 0.*--time"
    ):
        seen = whole(open_volume(recorded("stopped.czi", {(1, 2), (2, 3)}), frame_interval_s=1))
    assert {(t, z) for t, _, z in np.argwhere((seen == 0).all(axis=(-2, -1)))} == {(1, 2), (2, 3)}


@pytest.mark.parametrize("name", ["example-zstack.nd2", "example-timelapse.nd2"])
def test_frames_that_an_nd2_lacks_are_named(name: str, formats: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nd2._readers._modern.modern_reader import ModernReader

    whole_map = ModernReader._frame_offsets.fget
    monkeypatch.setattr(
        ModernReader, "_frame_offsets", property(lambda self: {n: at for n, at in whole_map(self).items() if n != 1})
    )
    with pytest.warns(GapWarning, match=r"1 of \d+ planes are not in the file, the first at [tz] 1, and read as 0"):
        volume = open_volume(formats / name)
    axis = 0 if volume.frames > 1 else 2
    assert np.flatnonzero(
        (whole(volume) == 0).all(axis=tuple(n for n in range(whole(volume).ndim) if n != axis))
    ).tolist() == [1]


def test_a_series_of_a_tiff_is_a_scene(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "two.ome.tif", ome=True) as out:
        for n, shape in enumerate(((3, 20, 30), (4, 16, 18))):
            stack = np.full(shape, n + 1, np.uint8)
            sizes = {"axes": "ZYX", "Name": f"cell {n}"}
            out.write(stack, metadata={**sizes, **{f"PhysicalSize{a}": 0.1 * (n + 1) for a in "XYZ"}})
    with pytest.raises(SeveralScenes, match="cell 0"):
        open_volume(tmp_path / "two.ome.tif")
    second = open_volume(tmp_path / "two.ome.tif", scene="cell 1")
    assert (second.shape, second.voxel_um, second.name) == ((4, 16, 18), pytest.approx((0.2, 0.2, 0.2)), "two-1")
    assert whole(second).min() == 2


def test_a_dataset_of_an_hdf5_is_a_scene(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    stack = np.arange(4 * 6 * 8, dtype=np.uint16).reshape(4, 6, 8)
    with h5py.File(tmp_path / "cell.h5", "w") as file:
        data = file.create_dataset("t0/raw", data=stack, chunks=(2, 3, 4))
        data.attrs["element_size_um"] = (0.5, 0.1, 0.2)
    volume = open_volume(tmp_path / "cell.h5", axes="zyx")
    assert (volume.voxel_um, volume.chunk, volume.name) == ((0.5, 0.1, 0.2), (2, 3, 4), "cell")
    np.testing.assert_array_equal(whole(volume)[0, 0], stack)
    with h5py.File(tmp_path / "two.h5", "w") as file:
        tags = '{"axes": [{"key": "y"}, {"key": "x"}, {"key": "z"}]}'
        file.create_dataset("mask", data=np.moveaxis(stack, 0, -1)).attrs["axistags"] = tags
        file.create_dataset("t0/raw", data=stack)
    turned = open_volume(tmp_path / "two.h5", scene="mask", voxel_um=(1, 1, 1))
    assert (turned.axes, turned.name) == ("zyx", "two-mask")
    assert open_volume(tmp_path / "two.h5", scene="t0/raw", axes="zyx", voxel_um=(1, 1, 1)).name == "two-1"
    np.testing.assert_array_equal(whole(turned)[0, 0], stack)


def damaged(data: bytes, way: int) -> bytes:
    """Ten ways in which files are lost: cut short, zeroed, overwritten, or something else altogether."""
    n, rng, changed = len(data), random.Random(way), bytearray(data)
    if way < 4:
        return data[: (n // 10, n // 2, n * 9 // 10, n - 64)[way]]
    if way == 4:
        changed[:512] = bytes(512)
    elif way == 5:
        for _ in range(64):
            changed[rng.randrange(min(2048, n))] = rng.randrange(256)
    elif way == 6:
        return b"this is no image at all\n" * 100
    elif way == 7:
        changed[n // 3 : n // 3 + n // 4] = bytes(n // 4)
    elif way == 8:
        changed[-n // 10 :] = bytes(len(changed[-n // 10 :]))
    else:
        for _ in range(200):
            changed[rng.randrange(n)] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", range(10))
@pytest.mark.parametrize("name", [n for n in FILES if "mitocheck" not in n])
def test_a_damaged_file_is_refused_in_one_sentence(name: str, way: int, formats: Path, tmp_path: Path) -> None:
    scene, given, *_ = FILES[name]
    data = (formats / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(damaged(data, way))
    found, said = None, ""
    try:
        found = whole(open_volume(path, scene=scene, **given))
    except InvalidInput as error:
        said = str(error)
    if found is None:
        assert name in said
        assert "\n" not in said
        assert len(said) < 500
    else:
        # Formats without checksums cannot tell changed voxels from taken ones; a file cut to a half or less is told.
        assert way not in (0, 1, 4, 6)
        assert found.shape == whole(open_volume(formats / name, scene=scene, **given)).shape


@pytest.mark.parametrize(
    ("suffix", "library", "said"),
    [
        (".czi", "pylibCZIrw.czi", r"cristae\[formats\]"),
        (".nd2", "nd2", r"cristae\[formats\]"),
        (".h5", "h5py", r"cristae\[formats\]"),
        (".lif", "readlif.reader", r"cristae\[lif\]"),
    ],
)
def test_a_reader_that_is_not_installed_is_named(
    suffix: str, library: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"cell{suffix}"
    path.write_bytes(b"something")
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(MissingExtra, match=said):
        open_volume(path)


def test_every_suffix_has_its_reader() -> None:
    for reader in set(foreign.SUFFIXES.values()):
        module = foreign._module(reader)
        assert module.find
        assert module.open_array
