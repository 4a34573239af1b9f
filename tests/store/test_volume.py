"""Volumes that cristae writes: what was written is what is read, as voxels and as facts."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.errors import CristaeError, InvalidInput, PlanRefused
from cristae.grid import BlockGrid, Box
from cristae.store import durable
from cristae.store.create import create_volume, publish, register_label
from cristae.store.facts import Channel
from cristae.store.volume import Volume, open_volume

DTYPES = ["bool", "uint8", "uint16", "uint32", "int16", "uint64", "float16", "float32", "float64"]


def fill(volume: Volume, array: np.ndarray) -> None:
    """Write all of `array`, frame by frame, channel by channel, unit by unit."""
    full = array.reshape(volume.frames, volume.channel_count, *volume.spatial_shape)
    for t, c in np.ndindex(full.shape[:2]):
        for box in BlockGrid(volume.spatial_shape, volume.unit):
            volume.write(box, full[t, c][box.slices], t, c)


@st.composite
def described(draw: st.DrawFn) -> dict:
    axes = draw(st.sampled_from(["yx", "zyx", "czyx", "tzyx", "tczyx", "cyx", "tyx"]))
    spatial = len([a for a in axes if a in "zyx"])
    shape = tuple(draw(st.integers(1, 2 if a in "tc" else 11)) for a in axes)
    chunk = tuple(draw(st.integers(1, 4)) for _ in range(spatial))
    shard = tuple(c * draw(st.integers(1, 3)) for c in chunk)
    size = st.floats(0.01, 5.0)
    return {
        "axes": axes,
        "shape": shape,
        "dtype": draw(st.sampled_from(DTYPES)),
        "voxel_um": (5.0, *draw(st.tuples(size, size)))[-spatial:],
        "translation_um": tuple(draw(st.floats(-9, 9)) for _ in range(spatial)),
        "chunk": chunk,
        "shard": shard,
        "frame_interval_s": draw(st.floats(0.01, 100)) if "t" in axes else None,
        "channels": [Channel(n, "00FF00") for n in ("TMRM", "ER")[: shape[axes.index("c")] if "c" in axes else 1]],
    }


@settings(max_examples=40)
@given(described(), st.integers(0, 2**32 - 1))
def test_a_round_trip_keeps_every_voxel_and_fact(
    tmp_path_factory: pytest.TempPathFactory, facts: dict, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("v") / "cell.ome.zarr"
    rng = np.random.default_rng(seed)
    made = create_volume(folder, **facts)
    array = (rng.integers(0, 3, facts["shape"]) * rng.integers(0, 2)).astype(facts["dtype"])
    fill(made, array)
    publish(made)
    back = pickle.loads(pickle.dumps(open_volume(folder)))
    assert (back.axes, back.shape, back.dtype) == (facts["axes"], facts["shape"], facts["dtype"])
    assert back.voxel_um == pytest.approx(facts["voxel_um"], rel=1e-15)
    assert back.translation_um == pytest.approx(facts["translation_um"], rel=1e-15)
    assert (back.frame_interval_s, back.chunk, back.unit) == (facts["frame_interval_s"], facts["chunk"], facts["shard"])
    assert [c.name for c in back.channels] == [c.name for c in facts["channels"]]
    assert (back.name, back.kind, back.label) == ("cell", "image", None)
    lazy = back.xarray()
    assert lazy.dims == tuple(facts["axes"])
    np.testing.assert_array_equal(lazy.values, array)
    start = tuple(int(rng.integers(0, n)) for n in back.spatial_shape)
    box = Box(start, tuple(int(rng.integers(a + 1, n + 1)) for a, n in zip(start, back.spatial_shape, strict=True)))
    t, c = back.frames - 1, back.channel_count - 1
    part = back.read(box, t, c)
    assert part.flags.c_contiguous
    last = array.reshape(back.frames, back.channel_count, *back.spatial_shape)[t, c]
    np.testing.assert_array_equal(part, last[box.slices])


def store(folder: Path) -> Volume:
    made = create_volume(
        folder,
        axes="tczyx",
        shape=(2, 2, 6, 40, 33),
        dtype="uint16",
        voxel_um=(0.3, 0.1, 0.1),
        chunk=(2, 8, 8),
        shard=(4, 16, 16),
        frame_interval_s=2.5,
        channels=[Channel("TMRM", "FF0000", (0, 4095, 100, 900)), Channel("ER")],
        levels=[(1, 2, 2)],
    )
    publish(made)
    return made


def test_a_store_is_valid_ome_zarr_with_image_and_label(tmp_path: Path) -> None:
    image = store(tmp_path / "cell.ome.zarr")
    label = create_volume(
        Path(image.path) / "labels" / "mito",
        axes="tzyx",
        shape=(2, 6, 40, 33),
        dtype="uint32",
        voxel_um=image.voxel_um,
        chunk=(2, 8, 8),
        shard=(4, 16, 16),
        frame_interval_s=2.5,
        kind="label",
        levels=[(1, 2, 2)],
    )
    publish(label, source="../../", colors={1: (255, 0, 0, 255)})
    register_label(image.path, "mito")
    register_label(image.path, "mito")
    yaozarrs.validate_zarr_store(image.path)
    back = open_volume(label.path)
    assert (back.name, back.label, back.kind, back.levels) == ("cell", "mito", "label", label.levels)
    assert open_volume(image.path).channels[0] == Channel("TMRM", "FF0000", (0, 4095, 100, 900))


def test_a_mean_pyramid_shifts_by_half_a_voxel(tmp_path: Path) -> None:
    coarse = open_volume(store(tmp_path / "a.ome.zarr").path).levels[1]
    assert coarse.shape == (2, 2, 6, 20, 17)
    assert coarse.voxel_um == pytest.approx((0.3, 0.2, 0.2))
    assert coarse.translation_um == pytest.approx((0.0, 0.05, 0.05))


def test_a_store_is_none_before_it_is_published(tmp_path: Path) -> None:
    create_volume(
        tmp_path / "a.ome.zarr", axes="yx", shape=(4, 4), dtype="uint8", voxel_um=(1, 1), chunk=(4, 4), shard=(4, 4)
    )
    with pytest.raises(InvalidInput, match="never completed"):
        open_volume(tmp_path / "a.ome.zarr")


def test_creating_again_finds_what_is_there_and_refuses_another(tmp_path: Path) -> None:
    facts = {"axes": "yx", "shape": (8, 8), "voxel_um": (1, 1), "chunk": (4, 4)}
    first = create_volume(tmp_path / "a", dtype="uint8", shard=(8, 8), **facts)
    first.write(Box.whole((8, 8)), np.full((8, 8), 7, "uint8"))
    again = create_volume(tmp_path / "a", dtype="uint8", shard=(8, 8), **facts)
    assert again == first
    assert again.read(Box.whole((8, 8))).min() == 7
    with pytest.raises(PlanRefused, match="--fresh"):
        create_volume(tmp_path / "a", dtype="uint8", shard=(4, 8), **facts)
    with pytest.raises(PlanRefused, match="whole number of chunks"):
        create_volume(tmp_path / "b", dtype="uint8", shard=(6, 8), **facts)


@pytest.mark.parametrize(
    "box", [Box((0, 0, 0), (4, 16, 15)), Box((2, 0, 0), (4, 16, 16)), Box((0, 32, 0), (4, 39, 16))]
)
def test_a_box_that_cuts_a_shard_is_refused(tmp_path: Path, box: Box) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    with pytest.raises(PlanRefused, match="--block"):
        volume.write(box, np.zeros(box.shape, "uint16"))


def test_a_write_says_exactly_what_it_stored(tmp_path: Path) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    box = Box((4, 32, 0), (6, 40, 33))
    puts = volume.write(box, np.ones(box.shape, "uint16"), t=1)
    files = {
        str(p.relative_to(Path(volume.path) / "0")): p for p in (Path(volume.path) / "0").rglob("c/**/*") if p.is_file()
    }
    assert set(puts) == set(files) == {f"c/1/0/1/2/{x}" for x in range(3)}
    for key, (nbytes, digest) in puts.items():
        data = files[key].read_bytes()
        assert (nbytes, digest) == (len(data), durable.digest(data))
    assert puts == volume.write(box, np.ones(box.shape, "uint16"), t=1)


def test_a_block_of_background_is_stored_too(tmp_path: Path) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    box = Box((0, 0, 0), (4, 16, 16))
    (put,) = volume.write(box, np.zeros(box.shape, "uint16")).values()
    assert put.nbytes > 0
    assert not volume.read(box).any()


def test_every_put_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    synced: list[str] = []
    real, fsync = Path.replace, durable.os.fsync
    monkeypatch.setattr(durable.os, "fsync", lambda f: (synced.append("fsync"), fsync(f))[1])
    monkeypatch.setattr(Path, "replace", lambda self, to: (synced.append("rename"), real(self, to))[1])
    volume.write(Box((0, 0, 0), (4, 16, 16)), np.zeros((4, 16, 16), "uint16"))
    assert synced.count("rename") == 1
    at = synced.index("rename")
    assert "fsync" in synced[:at] and "fsync" in synced[at:]


def test_a_full_disk_says_that_the_run_can_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = store(tmp_path / "a.ome.zarr")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(CristaeError, match=r"disk is full.*resumes") as caught:
        volume.write(Box((0, 0, 0), (4, 16, 16)), np.zeros((4, 16, 16), "uint16"))
    assert caught.value.exit_code == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_the_identity_knows_content_and_not_place(tmp_path: Path) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    box = Box((0, 0, 0), (4, 16, 16))
    volume.write(box, np.zeros(box.shape, "uint16"))
    before = volume.identity()
    moved = tmp_path / "elsewhere" / "b.ome.zarr"
    moved.parent.mkdir()
    Path(volume.path).rename(moved)
    assert open_volume(moved).identity() == open_volume(moved).identity()
    assert open_volume(moved).identity()["objects"] == before["objects"]
    assert open_volume(moved, voxel_um=(1, 1, 1)).identity()["metadata"] != open_volume(moved).identity()["metadata"]
    open_volume(moved).write(box, np.ones(box.shape, "uint16"))
    assert open_volume(moved).identity()["objects"] != before["objects"]


def test_channels_are_found_by_name_or_number(tmp_path: Path) -> None:
    volume = store(tmp_path / "a.ome.zarr")
    assert [volume.channel_index(c) for c in ("ER", 1, "1", "TMRM", 0)] == [1, 1, 1, 0, 0]
    with pytest.raises(InvalidInput, match=r"no channel 'DAPI'; it has 0 \(TMRM\), 1 \(ER\)"):
        volume.channel_index("DAPI")


def test_coordinates_are_micrometres_and_seconds(tmp_path: Path) -> None:
    lazy = store(tmp_path / "a.ome.zarr").xarray()
    assert lazy.coords["z"].values[:3] == pytest.approx([0, 0.3, 0.6])
    assert lazy.coords["t"].values.tolist() == [0, 2.5]
    assert lazy.coords["c"].values.tolist() == ["TMRM", "ER"]
    assert lazy.coords["y"].attrs["units"] == "um"


def test_a_lazy_volume_reads_nothing_and_goes_to_other_processes(tmp_path: Path) -> None:
    volume = store(tmp_path / "a.ome.zarr")  # nothing written: a read would be damage
    lazy = volume.xarray(level=1)
    assert lazy.shape == (2, 2, 6, 20, 17)
    assert pickle.loads(pickle.dumps(lazy)).shape == lazy.shape


def test_a_label_in_a_zarr_2_store_is_listed_where_its_readers_look(tmp_path: Path) -> None:
    group = zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    before = sorted(p.name for p in (tmp_path / "old.zarr").iterdir())
    label = create_volume(
        tmp_path / "old.zarr/labels/mito",
        axes="yx",
        shape=(4, 4),
        dtype="uint32",
        voxel_um=(1, 1),
        chunk=(4, 4),
        shard=(4, 4),
        kind="label",
    )
    with pytest.raises(InvalidInput, match="not a complete label"):
        register_label(tmp_path / "old.zarr", "mito")
    publish(label, source="../../")
    register_label(tmp_path / "old.zarr", "mito")
    assert group["labels"].attrs["labels"] == ["mito"]
    assert sorted(p.name for p in (tmp_path / "old.zarr").iterdir()) == sorted([*before, "labels"])
    assert open_volume(label.path).label == "mito"
