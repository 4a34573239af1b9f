"""Instances: objects that a function finds in tiles are those of the whole volume, and what is doubtful is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.campaign import resumes, twice, write_store
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from inference import own as functions
from inference.joined_plainly import joined
from inference.volumes import VOXEL_UM, job, peak_of, ran, result, spots, store, truth
from laws.blockwise import blockwise_answers, stage_box
from scipy import ndimage

from cristae.blocks.measure import ask
from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import BlockGrid, Box
from cristae.inference import python
from cristae.inference.instances import SEAMS
from cristae.pipeline.execute import plan
from cristae.pipeline.job import Settings
from cristae.store.volume import open_volume

OWN = str(Path(__file__).with_name("own.py"))
SHAPE = (19, 70, 83)
TILE, OVERLAP = (12, 32, 32), 0.5
LINE = "output: {{name: mine}}\nsteps:\n  - python: {{file: {file}, function: {function}, returns: labels, {rest}}}\n  - label\n"
HOW = f"tile: {list(TILE)}, overlap: {OVERLAP}"


def own(function: str, tile: tuple[int, ...] | None = TILE, overlap: float | None = OVERLAP, **said: Any) -> Stage:
    known = {"file": OWN, "function": function, "voxel_um": VOXEL_UM[-len(tile or TILE) :], "returns": "labels"}
    return python(**{**known, "tile": tile, "overlap": overlap, **said})


def seams(stage: Stage, image: np.ndarray) -> dict[str, int]:
    return dict(zip(SEAMS, ask(stage.asks["ids"], image).arrays["seams"].tolist(), strict=True))


def report(out: Path) -> dict[str, int]:
    (row,) = json.loads((out / "stitched.json").read_text())
    return {name: row[name] for name in SEAMS}


GRIDS = [(19, 70, 83), (19, 35, 42), (8, 70, 30), (5, 17, 29), (19, 9, 83)]


def test_objects_that_some_tile_sees_whole_are_those_of_the_whole_volume_on_every_grid(tmp_path: Path) -> None:
    image = spots(SHAPE, (5, 15, 15))
    expected = truth(image)
    assert max(s.stop - s.start for one in ndimage.find_objects(expected) for s in one[1:]) > 10
    cell = store(tmp_path / "cell.ome.zarr", image)
    found = []
    for n, block in enumerate(GRIDS):
        log = tmp_path / f"{n}.log"
        ran(
            cell,
            tmp_path / str(n),
            LINE.format(file=OWN, function="found", rest=f"{HOW}, params: {{log: {log}}}"),
            block,
        )
        np.testing.assert_array_equal(result(tmp_path / str(n), "labels"), expected)
        found.append(report(tmp_path / str(n)))
        assert log.stat().st_size == found[0]["tiles"], f"blocks of {block}: a tile is computed once"
    assert all(one == found[0] for one in found)
    assert found[0] == seams(own("found"), image)
    assert found[0]["tiles"] == 3 * 4 * 5 and found[0]["matched"] > 100
    assert (found[0]["contested"], found[0]["split"], found[0]["beyond"]) == (0, 0, 0)


@pytest.mark.parametrize("cluster", ["threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
def test_workers_do_not_show(tmp_path: Path, cluster: str) -> None:
    image = spots((9, 50, 60), (9, 30, 30))
    cell = store(tmp_path / "cell.ome.zarr", image)
    text = LINE.format(file=OWN, function="unlike", rest="tile: [4, 16, 16]")
    ran(cell, tmp_path / "one", text, (9, 50, 60))
    ran(cell, tmp_path / "several", text, (4, 20, 33), cluster)
    assert result(tmp_path / "several", "labels").tobytes() == result(tmp_path / "one", "labels").tobytes()
    assert report(tmp_path / "several") == report(tmp_path / "one")
    assert report(tmp_path / "one")["split"] > 0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 13), min_size=2, max_size=3),
    st.lists(st.integers(3, 7), min_size=3, max_size=3),
    st.sampled_from([0.2, 0.5, 0.66]),
    st.integers(0, 2**20),
    st.data(),
)
def test_objects_are_joined_as_sets_of_voxels_would_be(
    shape: list[int], tile: list[int], overlap: float, seed: int, data: st.DataObject
) -> None:
    """Of a function whose tiles contradict each other; block by block."""
    shape = shape if len(shape) == 2 else [min(n, 6) for n in shape]
    size = tuple(tile[: len(shape)])
    image = np.random.default_rng(seed).integers(0, 9, shape).astype(np.uint8)
    if seed % 2:
        image = ndimage.uniform_filter(image * 20, 3)
    try:
        stage = own("unlike", size, overlap)
    except InvalidConfiguration:
        assume(False)
    expected, counts = joined(image, functions.unlike, size, overlap)
    block = tuple(data.draw(st.integers(1, n + 1)) for n in shape)
    grid = BlockGrid(image.shape, block)
    rng = np.random.default_rng(seed)
    answers = blockwise_answers(stage, [image], grid, rng)
    found = np.zeros(image.shape, np.uint32)
    for index in rng.permutation(len(grid)):
        core = grid.core(int(index))
        found[core.slices] = stage_box(stage, [image], core, grid, int(index), answers)
    np.testing.assert_array_equal(found, expected)
    assert dict(zip(SEAMS, answers["ids"].arrays["seams"].tolist(), strict=True)) == counts


def test_objects_that_abut_where_a_tile_ends_stay_two(tmp_path: Path) -> None:
    """Touching is no evidence: faces at each end of a tile, of its own part, and everywhere between."""
    for face in range(20, 45):
        image = np.zeros((40, 64), np.uint8)
        image[10:20, face - 6 : face], image[10:20, face : face + 6] = 1, 2
        stage = own("levels", (32, 32), 0.25)
        found = stage(image)
        np.testing.assert_array_equal(found, image)
        assert seams(stage, image)["split"] == 0
    cell = store(tmp_path / "cell.ome.zarr", image)
    ran(cell, tmp_path / "out", LINE.format(file=OWN, function="levels", rest="tile: [32, 32]"), (17, 23))
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), image)


def test_an_object_longer_than_any_tile_is_one_and_is_reported() -> None:
    image = np.zeros((20, 200), np.uint16)
    image[5:9, 3:190] = 500
    image[14:17, 30:35] = 500
    stage = own("found", (20, 32), 0.25)
    np.testing.assert_array_equal(stage(image), truth(image))
    assert seams(stage, image) | {"tiles": 0, "matched": 0} == dict.fromkeys(SEAMS, 0) | {"beyond": 1}


def test_what_one_tile_sees_and_its_neighbour_does_not_is_counted() -> None:
    """The function sees an object only where its tile also holds the bright voxel at the far left."""
    image = np.zeros((8, 48), np.uint16)
    image[2:6, 20:32] = 1
    image[0, 0] = 900
    stage = own("unlike", (8, 32), 0.25)
    image[2:6, 20:32] = 400
    image[:, 40:] = 900
    counts = seams(stage, image)
    expected, plain = joined(image, functions.unlike, (8, 32), 0.25)
    np.testing.assert_array_equal(stage(image), expected)
    assert counts == plain


def test_planes_of_a_stack_are_labelled_each_by_itself_with_a_flat_tile() -> None:
    image = spots((4, 40, 50), (2, 8, 8))
    found = own("found", (1, 24, 24))(image)
    for plane, of in zip(found, image, strict=True):
        ids = np.unique(plane)
        np.testing.assert_array_equal(np.searchsorted(ids, plane), truth(of))


def test_nothing_found_is_no_object(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", spots((6, 20, 20), (2, 3, 3)))
    ran(cell, tmp_path / "out", LINE.format(file=OWN, function="empty", rest="tile: [4, 8, 8]"), (3, 20, 20))
    assert not result(tmp_path / "out", "labels").any()
    assert report(tmp_path / "out")["matched"] == 0


def test_small_objects_are_dropped_once_they_are_joined(tmp_path: Path) -> None:
    image = spots(SHAPE, (6, 16, 16))
    text = LINE.format(file=OWN, function="found", rest=HOW).replace("- label", "- label: {min_voxels: 60}")
    ran(store(tmp_path / "cell.ome.zarr", image), tmp_path / "out", text, (5, 17, 29))
    expected = truth(image)
    sizes = np.bincount(expected.ravel())
    kept = np.where((sizes >= 60) & (np.arange(len(sizes)) > 0), 1, 0)
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), (np.cumsum(kept) * kept)[expected])


def test_a_run_says_what_its_seams_came_to(tmp_path: Path) -> None:
    image = spots((9, 50, 60), (3, 6, 6))
    cell = store(tmp_path / "cell.ome.zarr", image)
    text = LINE.format(file=OWN, function="found", rest="tile: [8, 24, 24]")
    _, events = ran(cell, tmp_path / "out", text, (5, 30, 30))
    counts = report(tmp_path / "out")
    (said,) = (e["text"] for e in events if e["event"] == "stitched")
    assert said.startswith(
        f"mine: seams of {counts['tiles']} tiles: {counts['matched']} pairs of objects joined, 0 contested"
    )
    (facts,) = tmp_path.glob("out/.cristae/mine/gen-*/complete.json")
    assert json.loads(facts.read_text())["stitched mine"] == counts
    _, events = ran(cell, tmp_path / "whole", text, (9, 50, 60))
    assert report(tmp_path / "whole") == counts and any(e.get("text") == said for e in events)


def test_each_time_point_has_its_own_objects_and_its_own_report(tmp_path: Path) -> None:
    cell = tmp_path / "cell.ome.zarr"
    write_store(cell, np.random.default_rng(3), frames=2)
    text = LINE.format(file=OWN, function="found", rest="tile: [16, 48, 48], overlap: 0.5")
    ran(cell, tmp_path / "out", text, (15, 48, 60))
    source, labels = open_volume(cell), open_volume(next((tmp_path / "out" / "labels").glob("*.ome.zarr")))
    rows = json.loads((tmp_path / "out" / "stitched.json").read_text())
    for t, row in enumerate(rows):
        box = Box.whole(source.spatial_shape)
        np.testing.assert_array_equal(labels.read(box, t=t), truth(source.read(box, t=t)))
        assert row["t"] == t and row["tiles"] == 3 * 3 * 4
    assert len(rows) == 2 and rows[0]["matched"] != rows[1]["matched"]


def test_a_plan_counts_the_tile_that_a_block_holds(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", np.zeros((9, 50, 60), np.uint16))
    needed = []
    for tile in ("[8, 24, 24]", "[8, 500, 500]"):
        one = job(cell, tmp_path / "out", LINE.format(file=OWN, function="found", rest=f"tile: {tile}"))
        needed.append(plan(one, Settings("none", block=(5, 30, 30)))[0].memory)
    assert needed[1] - needed[0] > 50 * 8 * (500 * 500 - 24 * 24)


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        ("fractions", "own.py:fractions returned an array of float64; it should return .* whole numbers"),
        ("masked", "own.py:masked returned an array of bool; .* whole numbers"),
        ("below", "own.py:below returned a label of -1; labels are whole numbers, 0 for ground"),
        ("shorter", "own.py:shorter was given .* voxels and returned"),
        ("words", "returned a list"),
    ],
)
def test_what_are_no_labels_is_refused_in_one_sentence(function: str, sentence: str, tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", spots((6, 20, 20), (2, 3, 3)))
    with pytest.raises(InvalidInput, match=sentence) as error:
        ran(cell, tmp_path / "out", LINE.format(file=OWN, function=function, rest="tile: [4, 8, 8]"), (3, 20, 20))
    assert "\n" not in str(error.value) and error.value.exit_code == 3


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"returns": "objects"}, "returns is 'objects', but must be one of probability, mask, labels"),
        ({"tile": None}, "wants tile"),
        ({"halo_um": 0.1}, "no halo_um"),
        ({"blend": "hann"}, "leave blend out"),
        ({"overlap": 0}, "overlap is 0"),
        ({"tile": (2, 32, 32)}, "too thin"),
        ({"tile": (4, 32, 32), "overlap": 0.9}, "belong to neighbours"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence) as error:
        own("found", **said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        ("  - gaussian: {sigma_um: 0.1}\n  - threshold: {value: 1}\n  - label\n", "gaussian after python would join"),
        ("  - label: {multilabel: false}\n", "leave multilabel out"),
    ],
)
def test_labels_are_for_label(steps: str, sentence: str, tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", spots((6, 20, 20), (2, 3, 3)))
    text = LINE.format(file=OWN, function="found", rest="tile: [4, 8, 8]").replace("  - label\n", steps)
    with pytest.raises(InvalidConfiguration, match=sentence):
        job(cell, tmp_path / "out", text)


# ------------------------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("step", ["journalled:4", pytest.param("computed:13", marks=pytest.mark.faults)])
def test_a_killed_run_goes_on_to_the_same_bytes(step: str, tmp_path: Path) -> None:
    log = tmp_path / "log"  # is a parameter, and so must be alike
    text = LINE.format(file=OWN, function="found", rest=f"tile: [16, 32, 32], params: {{log: {log}}}")
    text = text.replace("mine", "cell") + "  - label\n  - measure: [shape]\n"
    alone, killed = twice(tmp_path, pipeline=text, block=(15, 48, 60))
    alone.finish()
    once = log.stat().st_size
    log.unlink()
    resumes(killed, step, alone)
    # Only the block that was at work when the process died is computed again.
    assert once <= log.stat().st_size < 2 * once


ADAPTER = """
import numpy as np
from scipy import ndimage


def spots(image):
    labels, _ = ndimage.label(image > 0.5, np.ones((3, 3, 3)))
    return labels
"""


@pytest.mark.slow
def test_a_volume_larger_than_the_memory_of_its_run(tmp_path: Path) -> None:
    """By the command, in a process of its own: the whole-volume answer of scipy, id for id."""
    (tmp_path / "mine.py").write_text(ADAPTER)
    rng = np.random.default_rng(0)
    array = np.zeros((72, 1024, 1024))  # 576 MiB
    for z, y, x in rng.integers((0, 0, 0), (60, 1016, 1016), (20000, 3)):
        array[z : z + 4, y : y + 8, x : x + 8] = 1
    array *= rng.random(array.shape) > 0.2
    labels, n = ndimage.label(array > 0.5, np.ones((3, 3, 3)))
    for number, one in enumerate(ndimage.find_objects(labels), 1):
        if any(s.stop - s.start > w for s, w in zip(one, (8, 32, 32), strict=True)):
            array[one][labels[one] == number] = 0
    expected, n = ndimage.label(array > 0.5, np.ones((3, 3, 3)))
    assert n > 5000
    cell = store(tmp_path / "cell.ome.zarr", array, (0.1, 0.1, 0.1), (32, 64, 128))
    how = "returns: labels, tile: [32, 128, 128]"
    (tmp_path / "mine.yaml").write_text(
        f"output: {{name: mine}}\nsteps:\n  - python: {{file: mine.py, function: spots, {how}}}\n  - label\n"
    )
    said, peak = peak_of(
        tmp_path, "run", "mine.yaml", str(cell), "--out", "out", "--block", "32,128,128", "--memory", "600M"
    )
    assert "mine: seams of" in said and "0 contested, 0 split" in said
    print(f"{peak >> 20} MiB at most, of a volume of {array.nbytes >> 20} MiB")
    assert peak < 600e6 < array.nbytes
    np.testing.assert_array_equal(result(tmp_path / "out", "labels"), expected)
