"""Adapter: a function of one's own gives what it gives of the whole volume; its source is part of what was run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.volumes import VOXEL_UM, blobs, peak_of, ran, result, store
from scipy import ndimage

from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused, SetAside
from cristae.inference import python
from cristae.inference.blend import HELD

OWN = str(Path(__file__).with_name("own.py"))
SHAPE = (14, 50, 61)
LINE = "output: {{name: mine}}\nsteps:\n  - python: {{file: {file}, function: {function}, {rest}}}\n"


def own(**said: Any) -> Stage:
    return python(**{"file": OWN, "function": "smooth", "voxel_um": VOXEL_UM, "halo_um": 0.5, **said})


@pytest.mark.parametrize("cluster", ["none", "threads:2", pytest.param("local:2", marks=pytest.mark.cluster)])
def test_a_function_with_a_halo_gives_what_it_gives_of_the_whole_volume(tmp_path: Path, cluster: str) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    ran(
        cell,
        tmp_path / "out",
        LINE.format(file=OWN, function="smooth", rest="halo_um: [0.5, 0.22, 0.2]"),
        (5, 17, 30),
        cluster,
    )
    expected = ndimage.gaussian_filter(array.astype(np.float32), 1, truncate=2)
    np.testing.assert_array_equal(result(tmp_path / "out"), expected)


def test_a_function_that_knows_what_it_is_shown_is_shown_tiles_of_the_volume(tmp_path: Path) -> None:
    array = blobs(SHAPE)
    cell = store(tmp_path / "cell.ome.zarr", array)
    expected = own(function="ranked", halo_um=None, tile=[8, 16, 16])(array)
    assert np.abs(expected - (array - array.mean())).max() > 10
    for n, block in enumerate([(14, 50, 61), (5, 17, 30)]):
        HELD.clear()
        text = LINE.format(file=OWN, function="ranked", rest="tile: [8, 16, 16]")
        ran(cell, tmp_path / str(n), text, block)
        assert result(tmp_path / str(n)).tobytes() == expected.tobytes()


def test_a_function_is_told_the_voxel_size_if_it_asks_and_its_own_parameters() -> None:
    array = blobs((3, 4, 5))
    np.testing.assert_allclose(own(function="sized")(array), array * np.float32(np.prod(VOXEL_UM)))
    wide = own(params={"sigma": 2})(array)
    np.testing.assert_array_equal(wide, ndimage.gaussian_filter(array.astype(np.float32), 2, truncate=2))


def test_another_source_is_another_run_and_a_note_or_a_place_is_not(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    mine = tmp_path / "mine.py"
    mine.write_text("def f(image):\n    return image * 2\n")
    text = LINE.format(file=mine, function="f", rest="halo_um: 0, version: 1")
    ran(cell, tmp_path / "out", text, (6, 20, 20))
    np.testing.assert_array_equal(result(tmp_path / "out"), blobs((6, 20, 20)) * 2)
    again, _ = ran(cell, tmp_path / "out", text, (6, 20, 20))
    assert again.status == "nothing to do"
    with pytest.raises(PlanRefused, match="version: 1 -> 2"):
        ran(cell, tmp_path / "out", text.replace("version: 1", "version: 2"), (6, 20, 20))
    mine.write_text("def f(image):\n    return image * 3\n")
    with pytest.raises(PlanRefused, match=r"parameters of python \(source_digest"):
        ran(cell, tmp_path / "out", text, (6, 20, 20))


def test_workers_run_what_was_planned_with_and_find_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("FACTOR = 5\n")
    mine = tmp_path / "mine.py"
    mine.write_text("from beside_mine import FACTOR\ndef f(image):\n    return image * FACTOR\n")
    stage = python(file=str(mine), function="f", halo_um=0, voxel_um=VOXEL_UM)
    mine.write_text("def f(image):\n    return image * 0\n")
    array = blobs((3, 4, 5))
    np.testing.assert_array_equal(stage(array), array * 5)


def test_a_function_may_do_what_it_likes_with_its_input(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(image):\n    image *= 2\n    return image\n")
    array = blobs((3, 4, 5))
    array.flags.writeable = False
    stage = python(file=str(tmp_path / "mine.py"), function="f", halo_um=0, voxel_um=VOXEL_UM)
    np.testing.assert_array_equal(stage(array), array * 2)


def test_a_file_that_is_loaded_hides_no_module_from_a_thread_that_searches_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    before, searching = list(sys.path), iter(sys.path)
    monkeypatch.setattr(sys, "another_thread", lambda: seen.append(next(searching)), raising=False)
    (tmp_path / "beside.py").write_text("FACTOR = 3\n")
    source = "import sys\nimport beside\nsys.another_thread()\ndef f(image):\n    return image * beside.FACTOR\n"
    (tmp_path / "mine.py").write_text(source)
    stage = python(file=str(tmp_path / "mine.py"), function="f", halo_um=0, voxel_um=VOXEL_UM)
    sys.another_thread()  # type: ignore[attr-defined]
    array = blobs((3, 4, 5))
    np.testing.assert_array_equal(stage(array), array * 3)
    assert len(seen) == 2
    assert [*seen, *searching] == before == sys.path


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"file": "nowhere.py"}, "there is no file .*nowhere.py"),
        ({"file": str(Path(OWN).parent)}, "cannot be read"),
        ({"function": "smoth"}, "defines no function smoth at its top; it has smooth, sized"),
        ({"function": 3}, "function is 3"),
        ({"halo_um": None}, "give either halo_um"),
        ({"tile": [8, 8, 8]}, "and not both"),
        ({"halo_um": -1}, "halo_um is -1"),
        ({"halo_um": [0.1, 0.1]}, "one for each of 3 axes"),
        ({"halo_um": "far"}, "halo_um is 'far'"),
        ({"overlap": 0.5}, "belong to tile"),
        ({"halo_um": None, "tile": [8, 8]}, "3 numbers of voxels"),
        ({"halo_um": None, "tile": [8, 8, 8], "blend": "crop"}, "how far the function sees is not known"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(said: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidConfiguration, match=sentence) as error:
        own(**said)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_python_is_refused_and_none_is_run_by_a_plan(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def f(image:\n    return image\n")
    with pytest.raises(InvalidConfiguration, match=r"mine\.py, line 1 is no Python"):
        own(file=str(tmp_path / "mine.py"), function="f")
    (tmp_path / "trap.py").write_text("raise SystemExit\ndef f(image):\n    return image\n")
    own(file=str(tmp_path / "trap.py"), function="f")


@pytest.mark.parametrize(
    ("function", "sentence"),
    [("shorter", "own.py:shorter was given .* voxels and returned"), ("words", "returned a list")],
)
def test_what_is_no_image_of_the_same_shape_is_refused(function: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        own(function=function)(blobs((3, 4, 5)))
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    with pytest.raises(InvalidInput, match=sentence):
        ran(cell, tmp_path / "out", LINE.format(file=OWN, function=function, rest="halo_um: 0"), (3, 20, 20))


def test_a_module_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_package\ndef f(image):\n    return image\n")
    stage = own(file=str(tmp_path / "mine.py"), function="f")
    with pytest.raises(InvalidInput, match=r"no_such_package.*install what it needs"):
        stage(blobs((3, 4, 5)))


@pytest.mark.parametrize(
    ("line", "why"), [("raise SystemExit(3)", "SystemExit: 3"), ("nothing", "NameError: name 'nothing'")]
)
def test_a_file_that_ends_before_its_function_is_called_says_so(line: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"{line}\ndef f(image):\n    return image\n")
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    with pytest.raises(InvalidInput, match=why):
        ran(
            cell, tmp_path / "out", LINE.format(file=tmp_path / "mine.py", function="f", rest="halo_um: 0"), (3, 20, 20)
        )


def test_a_function_that_fails_sets_its_blocks_aside(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", blobs((6, 20, 20)))
    with pytest.raises(SetAside, match=r"own.py:failing failed in line \d+ of .*own.py: ZeroDivisionError: as ever"):
        ran(cell, tmp_path / "out", LINE.format(file=OWN, function="failing", rest="halo_um: 0"), (3, 20, 20))


ADAPTER = '''
import numpy as np
from scipy import ndimage


def edges(image, sigma=1.0):
    """How steep the image is."""
    smooth = ndimage.gaussian_filter(image.astype(np.float32), sigma, truncate=3.0)
    return np.sqrt(sum(np.gradient(smooth, axis=axis) ** 2 for axis in range(3)))
'''


@pytest.mark.slow
def test_a_volume_larger_than_the_memory_of_its_run(tmp_path: Path) -> None:
    """By the command, in a process of its own; the whole-volume answer is that of the same fifteen lines."""
    (tmp_path / "mine.py").write_text(ADAPTER)
    array = np.random.default_rng(0).random((64, 832, 1024))  # 416 MiB
    cell = store(tmp_path / "cell.ome.zarr", array, (0.1, 0.1, 0.1), (32, 64, 128))
    (tmp_path / "mine.yaml").write_text(LINE.format(file="mine.py", function="edges", rest="halo_um: 0.4"))
    _, peak = peak_of(
        tmp_path, "run", "mine.yaml", str(cell), "--out", "out", "--block", "32,128,128", "--memory", "400M"
    )
    print(f"{peak >> 20} MiB at most, of a volume of {array.nbytes >> 20} MiB")
    assert peak < 400e6 < array.nbytes
    sys.path.insert(0, str(tmp_path))
    try:
        from mine import edges  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(tmp_path))
    np.testing.assert_array_equal(result(tmp_path / "out"), edges(array))
