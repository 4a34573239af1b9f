"""Segment: a network over a volume is what it is over the whole, and nobody can find blocks or tiles in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.models import LEARN, VOXEL_UM, identity, tiny, with_card
from inference.volumes import blobs, job, ran, result, store

from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused
from cristae.filters import threshold
from cristae.grid import BlockGrid, Box
from cristae.inference import load_model, read_card, segment
from cristae.inference.blend import HELD, taken
from cristae.inference.network import Network
from cristae.inference.tiles import Tiling
from cristae.labels import label
from cristae.pipeline.execute import execute
from cristae.pipeline.job import Settings

torch = pytest.importorskip("torch", reason=LEARN)

SHAPE = (14, 50, 61)
LINE = "output: {{name: mito}}\nsteps:\n  - segment: {{model: {model}, {rest}}}\n"
RAW = {"how": "range", "low": 0, "high": 2000}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each tile that a network of this process computes."""
    found: list[int] = []
    real = Network.__call__

    def counting(self: Network, tile: np.ndarray, mirror: bool = False) -> np.ndarray:
        found.append(1)
        return real(self, tile, mirror)

    monkeypatch.setattr(Network, "__call__", counting)
    return found


def tiling_of(stage: Stage, shape: tuple[int, ...]) -> Tiling:
    """How a stage cuts a volume of this shape."""
    found: Tiling = stage.apply.keywords["tiling"]  # type: ignore[attr-defined]
    return found.fitted(shape)


def of_the_whole(path: str, array: np.ndarray, stage: Stage, low: float = 0, high: float = 2000) -> np.ndarray:
    """The network once, over the whole volume, made longer as the tiling says."""
    wider, before = tiling_of(stage, array.shape).padded(array.shape)
    box = Box(tuple(-b for b in before), tuple(w - b for w, b in zip(wider, before, strict=True)))
    seen = taken(array, Box.whole(array.shape), box, array.shape)
    found = load_model(path)(((seen.astype(float) - low) / (high - low)).astype(np.float32))[0]
    return found[tuple(slice(b, b + n) for b, n in zip(before, array.shape, strict=True))]


# ------------------------------------------------------------------------------------------------------ one network


@pytest.mark.parametrize("features", [(3,), (2, 4), (2, 4, 4)])
@pytest.mark.parametrize("shape", [(28, 96, 104), (21, 83, 67), (3, 60, 11)])
def test_crop_is_the_network_of_the_whole_volume(features: tuple[int, ...], shape: tuple[int, ...]) -> None:
    path = tiny(features=features, how=RAW, tile=(24, 56, 56))
    stage = segment(model=path, voxel_um=VOXEL_UM[3], blend="crop", tile=[24, 56, 56])
    array = blobs(shape)
    found, expected = stage(array), of_the_whole(path, array, stage)
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    hidden = segment(model=path, voxel_um=VOXEL_UM[3], tile=[24, 56, 56])(array)
    if tiling_of(stage, shape).count(shape) > 1:
        assert np.abs(hidden - expected).max() > 1e-4, "gaussian hides seams, it does not remove them"


def test_crop_with_mirrors_is_the_mirrored_network_of_the_whole_volume() -> None:
    path = tiny(how=RAW, tile=(16, 32, 32))
    stage = segment(model=path, voxel_um=VOXEL_UM[3], blend="crop", mirror=True, tile=[16, 32, 32])
    array = blobs((16, 64, 48))
    seen = (array.astype(float) / 2000).astype(np.float32)
    np.testing.assert_allclose(stage(array), load_model(path)(seen, mirror=True)[0], rtol=0, atol=1e-5)


def test_seams_on_noise_are_no_steeper_than_the_middles_of_tiles() -> None:
    """Differing pixels 0, and the border mismatch ratio in 1 ± 0.05: domain rows 47 and 2.10."""
    path = tiny(2, how=RAW, features=(3,), tile=(32, 32))
    array = np.random.default_rng(5).integers(0, 2000, (512, 512)).astype(np.uint16)
    stage = segment(model=path, voxel_um=VOXEL_UM[2], blend="crop", tile=[32, 32])
    found, expected = stage(array), of_the_whole(path, array, stage)
    assert np.count_nonzero((found > 0.5) != (expected > 0.5)) == 0 and 0.01 < (expected > 0.5).mean() < 0.99
    (_, axis) = tiling_of(stage, array.shape).axes(array.shape)
    borders = np.array([lo for _, lo, _ in axis[1:]])
    middles = (borders[:-1] + borders[1:]) // 2
    steps = np.abs(np.diff(found, axis=1)).mean(axis=0)
    ratio = steps[borders - 1].mean() / steps[middles - 1].mean()
    assert len(middles) > 10 and ratio == pytest.approx(1, abs=0.05)
    tiles = np.zeros_like(found)  # what no blending would give: the measure is not blind
    for k in range(0, 512, 32):
        for n in range(0, 512, 32):
            at = (slice(k, k + 32), slice(n, n + 32))
            tiles[at] = load_model(path)((array[at] / 2000).astype(np.float32))[0]
    bare = np.abs(np.diff(tiles, axis=1)).mean(axis=0)
    edges = np.arange(32, 512, 32)
    assert abs(bare[edges - 1].mean() / bare[edges - 17].mean() - 1) > 0.05


@pytest.mark.parametrize("blend", ["gaussian", "hann", "crop"])
def test_the_identity_gives_the_image_back(blend: str) -> None:
    array = np.random.default_rng(0).normal(0, 2, (9, 33, 40)).astype(np.float32)
    stage = segment(model=identity(3, tile=(8, 16, 16)), voxel_um=VOXEL_UM[3], blend=blend)
    np.testing.assert_allclose(stage(array), 1 / (1 + np.exp(-array.astype(float))), rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize(("overlap", "tile"), [(0.25, (8, 16, 24)), (0.5, (8, 32, 32))])
def test_shifted_tiles_give_what_monai_gives(mode: str, overlap: float, tile: tuple[int, ...]) -> None:
    inferers = pytest.importorskip("monai.inferers", reason="the extra learn is not installed: monai")
    path = tiny(how=RAW)
    array = blobs(SHAPE)
    stage = segment(model=path, voxel_um=VOXEL_UM[3], tile=list(tile), overlap=overlap)
    tiling = replace(tiling_of(stage, array.shape), rule="shifted")
    stage.apply.keywords["tiling"] = tiling  # type: ignore[attr-defined]
    if mode == "constant":
        import cristae.inference.blend as blend

        even = np.ones(tile, np.float32)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blend, "weights", lambda _: even)
            found = stage(array)
    else:
        found = stage(array)
    seen = torch.from_numpy((array.astype(float) / 2000).astype(np.float32))[None, None]
    network = load_model(path)
    with torch.inference_mode():
        theirs = inferers.SlidingWindowInferer(tile, 1, overlap, mode=mode)(seen, lambda x: network.module(x).sigmoid())
    np.testing.assert_allclose(found, theirs[0, 0].numpy(), rtol=0, atol=1e-5)


def test_a_network_of_the_plane_sees_a_stack_slice_by_slice() -> None:
    path = tiny(2, how=RAW, voxel_um=(0.11, 0.1))
    array = blobs((5, 40, 44))
    stack = segment(model=path, voxel_um=VOXEL_UM[3], tile=[16, 24])(array)
    plane = segment(model=path, voxel_um=(0.11, 0.1), tile=[16, 24])
    np.testing.assert_array_equal(stack, np.stack([plane(layer) for layer in array]))


def test_all_tiles_are_normalised_by_the_whole_frame() -> None:
    array = blobs(SHAPE)
    how = {"how": "percentiles", "low": 2, "high": 98}
    by_frame = segment(model=tiny(how=how, tile=(8, 16, 16)), voxel_um=VOXEL_UM[3], dtype="uint16", tile=[8, 16, 16])
    low, high = np.percentile(array, [2, 98], method="inverted_cdf")
    fixed = segment(
        model=tiny(how={"how": "range", "low": int(low), "high": int(high)}), voxel_um=VOXEL_UM[3], tile=[8, 16, 16]
    )
    np.testing.assert_array_equal(by_frame(array), fixed(array))
    standard = segment(
        model=tiny(how={"how": "standard"}, tile=(8, 16, 16)), voxel_um=VOXEL_UM[3], dtype="uint16", tile=[8, 16, 16]
    )
    mean, std = float(array.mean(dtype=float)), float(array.std(dtype=float))
    fixed = segment(
        model=tiny(how={"how": "range", "low": mean, "high": mean + std}), voxel_um=VOXEL_UM[3], tile=[8, 16, 16]
    )
    np.testing.assert_allclose(standard(array), fixed(array), rtol=0, atol=1e-6)
    # A dark half is dark, not stretched to what its tiles would show by themselves.
    dim = array.copy()
    dim[:, :25] //= 50
    assert np.ptp(by_frame(dim)[:, :9]) < np.ptp(by_frame(dim)[:, 40:])


def test_a_class_is_taken_by_its_name() -> None:
    path = tiny(classes=("er", "mito", "golgi"), how=RAW, activation="softmax", tile=(8, 16, 16))
    array = blobs(SHAPE)
    parts = [
        segment(model=path, of=name, voxel_um=VOXEL_UM[3], tile=[8, 16, 16])(array) for name in ("er", "mito", "golgi")
    ]
    np.testing.assert_allclose(sum(parts), 1, atol=1e-6)
    assert np.abs(parts[0] - parts[1]).max() > 0.05


# ------------------------------------------------------------------------------------------------------------- calls


def test_empty_tiles_are_not_computed(calls: list[int]) -> None:
    array = np.zeros((8, 64, 64), np.uint16)
    array[:, 40:50, 40:50] = 500
    path = tiny(how=RAW, tile=(8, 16, 16))
    skipping = segment(model=path, voxel_um=VOXEL_UM[3], skip_below=100, tile=[8, 16, 16])
    found = skipping(array)
    tiling = tiling_of(skipping, array.shape)
    occupied = sum(array[tile.box.slices].any() for tile in tiling.meeting(Box.whole(array.shape), array.shape))
    assert 0 < len(calls) == occupied < tiling.count(array.shape)
    assert not found[:, :24, :24].any() and found[:, 45, 45].all()
    HELD.clear()
    everywhere = segment(model=path, voxel_um=VOXEL_UM[3], tile=[8, 16, 16])(array)
    np.testing.assert_array_equal(found[:, 40:50, 40:50], everywhere[:, 40:50, 40:50])
    assert everywhere[:, :24, :24].any(), "a network has its opinion of nothing too"


@pytest.mark.parametrize("cluster", ["none", "threads:2"])
@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_tiles_that_blocks_share_are_computed_once(tmp_path: Path, calls: list[int], blend: str, cluster: str) -> None:
    path = tiny(tile=(16, 32, 32))
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    tiling = tiling_of(segment(model=path, voxel_um=VOXEL_UM[3], blend=blend), SHAPE)
    block = (7, 20, 30)
    assert tiling.count(SHAPE) < tiling.visited(BlockGrid(SHAPE, block))
    ran(cell, tmp_path / "out", LINE.format(model=path, rest=f"blend: {blend}"), block, cluster)
    assert len(calls) == tiling.count(SHAPE)


def test_without_room_each_block_computes_the_tiles_it_meets(
    tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HELD, "limit", 0)
    path = tiny(tile=(16, 32, 32))
    cell = store(tmp_path / "cell.ome.zarr", blobs(SHAPE))
    tiling = tiling_of(segment(model=path, voxel_um=VOXEL_UM[3]), SHAPE)
    ran(cell, tmp_path / "out", LINE.format(model=path, rest="mirror: false"), (7, 20, 30))
    assert len(calls) == tiling.visited(BlockGrid(SHAPE, (7, 20, 30)))


CHAIN = """
output: {{name: mito}}
steps:
  - segment: {{model: {model}}}
  - threshold: {{method: otsu}}
  - label: {{min_voxels: 2}}
  - measure: [shape, intensity]
"""


def test_the_network_is_computed_once_however_often_its_output_is_needed(tmp_path: Path, calls: list[int]) -> None:
    path = tiny(tile=(16, 32, 32))
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    made = job(cell, tmp_path / "out", CHAIN.format(model=path))
    assert [c.staged for c in made.choices if c.node == "segment"] == [True]
    assert sum(any(s.name == "segment" for s in p.chain) for p in made.passes) == 1
    execute(made, Settings("none", block=(7, 20, 30)), lambda event: None)
    stage = segment(model=path, voxel_um=VOXEL_UM[3], dtype="uint16")
    assert len(calls) == tiling_of(stage, SHAPE).count(SHAPE)
    mask = threshold(method="otsu", voxel_um=VOXEL_UM[3])(stage(array))
    expected = label(min_voxels=2, voxel_um=VOXEL_UM[3])(mask)
    assert expected.max() > 3
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), expected)
    text = (tmp_path / "out" / "methods.md").read_text(encoding="utf-8")
    assert "segment: the probability of one class" in text and f"torch {torch.__version__.partition('+')[0]}" in text
    assert Path(path).name in text and read_card(path)[1] in text


# ------------------------------------------------------------------------------------------------------------- blocks

GRIDS = [(14, 50, 61), (7, 20, 30), (5, 17, 61), (1, 50, 61), (9, 9, 23)]


@pytest.mark.parametrize("blend", ["gaussian", "hann", "crop"])
def test_no_block_grid_shows(tmp_path: Path, blend: str) -> None:
    path = tiny(tile=(16, 32, 32))
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    expected = segment(model=path, voxel_um=VOXEL_UM[3], blend=blend, dtype="uint16")(array)
    for n, block in enumerate(GRIDS):
        for cluster in ("none", "threads:2"):
            HELD.clear()
            out = tmp_path / f"{n}-{cluster[0]}"
            ran(cell, out, LINE.format(model=path, rest=f"blend: {blend}"), block, cluster)
            assert result(out).tobytes() == expected.tobytes(), f"{block} {cluster}"


@pytest.mark.cluster
def test_no_worker_process_shows(tmp_path: Path) -> None:
    path = tiny(tile=(16, 32, 32))
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    expected = segment(model=path, voxel_um=VOXEL_UM[3], dtype="uint16")(array)
    for n, block in enumerate(GRIDS):
        ran(cell, tmp_path / str(n), LINE.format(model=path, rest="over: image"), block, "local:2")
        assert result(tmp_path / str(n)).tobytes() == expected.tobytes(), block


# ---------------------------------------------------------------------------------------------------------- refusals


def test_a_model_that_changes_is_another_run(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    text = LINE.format(model=tmp_path / "m.safetensors", rest="over: frame")
    data = Path(tiny(tile=(4, 16, 16))).read_bytes()
    (tmp_path / "m.safetensors").write_bytes(data)
    ran(cell, tmp_path / "out", text, (6, 20, 20))
    (tmp_path / "moved").mkdir()
    (tmp_path / "moved" / "m.safetensors").write_bytes(data)
    again, _ = ran(
        cell, tmp_path / "out", LINE.format(model=tmp_path / "moved" / "m.safetensors", rest="over: frame"), (6, 20, 20)
    )
    assert again.status == "nothing to do", "paths are no part of what was run"
    (tmp_path / "m.safetensors").write_bytes(Path(tiny(seed=1, tile=(4, 16, 16))).read_bytes())
    with pytest.raises(PlanRefused, match=r"parameters of segment \(model_digest"):
        ran(cell, tmp_path / "out", text, (6, 20, 20))


def test_a_model_that_is_swapped_under_a_run_is_refused(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    path = tmp_path / "m.safetensors"
    path.write_bytes(Path(tiny(tile=(4, 16, 16))).read_bytes())
    made = job(cell, tmp_path / "out", LINE.format(model=path, rest="over: frame"))
    path.write_bytes(Path(tiny(seed=1, tile=(4, 16, 16))).read_bytes())
    with pytest.raises(InvalidInput, match="is not the one this was planned with"):
        execute(made, Settings("none", block=(6, 20, 20)), lambda event: None)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            {"voxel_um": (0.25, 0.13, 0.1)},
            r"0\.25 x 0\.11 x 0\.1 um and the image has 0\.25 x 0\.13 x 0\.1.*resample the image to those first",
        ),
        ({"voxel_um": (0.11, 0.1)}, "is for stacks, and the image is one plane"),
        ({"of": "er"}, "of is 'er', and .* knows mito"),
        ({"model": 7}, "model is 7"),
        ({"model": "mine.py:f"}, "there is no model mine.py:f"),
        ({"model": "mine.py"}, "is the step python"),
        ({"mirror": "yes"}, "mirror is 'yes'"),
        ({"over": "tile"}, "over 'tile' is not one of frame, image, collection"),
        ({"skip_below": "dark"}, "skip_below is 'dark'"),
        ({"tile": [8, 15, 16]}, "steps of 1,2,2; use 8,16,16"),
        ({"tile": "large"}, "tile is 'large'"),
        ({"blend": "crop", "tile": [8, 12, 12]}, "use at least"),
        ({"blend": "crop", "overlap": 0.1}, "so seams would show; leave overlap out"),
        ({"blend": "mean"}, "blend is 'mean'"),
        ({"overlap": -1}, "overlap is -1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    facts = {"model": tiny(), "voxel_um": VOXEL_UM[3], **said}
    with pytest.raises((InvalidConfiguration, InvalidInput), match=sentence) as error:
        segment(**facts)
    assert "\n" not in str(error.value) and error.value.exit_code == 3


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activation": "none"}, "is no probability"),
        ({"channels": ("green", "red")}, "wants 2 channels"),
        ({"reach": None}, "how far other.safetensors sees is not known, so crop cannot be exact"),
    ],
)
def test_a_model_for_other_work_is_refused(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence):
        segment(model=with_card(tiny(), tmp_path, **changes), voxel_um=VOXEL_UM[3], blend="crop")


def test_two_classes_want_a_name() -> None:
    with pytest.raises(InvalidConfiguration, match=r"of is not given, and .* knows er, mito; name one of them"):
        segment(model=tiny(classes=("er", "mito")), voxel_um=VOXEL_UM[3])


def test_a_plan_needs_no_torch() -> None:
    import subprocess
    import sys

    script = (
        "import sys\nfrom cristae.inference import segment\n"
        f"segment(model={tiny()!r}, voxel_um={VOXEL_UM[3]!r})\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": ":".join(sys.path)})
