"""Batches: folders, globs, plates and sheets become images with names; what a sheet says is in every table; bad files are named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import tifffile
from pipeline.test_job import MAIN, VOXEL_UM, expected, labels_of, store, voxels
from polars.testing import assert_frame_equal

from cristae.errors import InvalidConfiguration, InvalidInput, PlanRefused, SetAside
from cristae.grid import Box
from cristae.pipeline import execute as module
from cristae.pipeline.audit import audit
from cristae.pipeline.batch import gathered
from cristae.pipeline.execute import execute
from cristae.pipeline.exporting import arrays_of
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.status import runs_at, status
from cristae.pipeline.viewing import views
from cristae.store.create import create_volume, publish
from cristae.store.facts import Channel
from cristae.store.volume import open_volume

SIZED = Inputs(axes="zyx", voxel_um=VOXEL_UM)
HERE = Settings("none", block=(12, 40, 44))


def tif(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, voxels(seed))
    return path


def sheet(folder: Path, header: str, *rows: str) -> Path:
    path = folder / "samples.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return path


def job_of(words: list[str], out: Path, inputs: Inputs = SIZED) -> Job:
    return run_job(load(MAIN, known()), words, str(out), inputs)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n in range(3):
        tif(tmp_path / "in" / f"cell{n}.tif", n)
    (tmp_path / "in" / "notes.txt").write_text("not an image")
    (tmp_path / "in" / ".hidden.tif").write_text("nor is this")
    return tmp_path / "in"


def test_a_folder_and_a_glob_are_their_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["cell0", "cell1", "cell2"]
    assert [s.name for s in gathered([str(folder)], SIZED).samples] == names
    assert [s.name for s in gathered([f"{folder}/cell[12].*"], SIZED).samples] == names[1:]
    monkeypatch.chdir(folder.parent)
    assert [
        s.name
        for s in gathered(
            [
                "in/*.tif",
            ],
            SIZED,
        ).samples
    ] == names
    store(folder / "more.ome.zarr", voxels())
    assert [s.name for s in gathered(["in"], Inputs(axes="zyx", voxel_um=VOXEL_UM)).samples] == [*names, "more"]
    with pytest.raises(InvalidInput, match=r"no image matches in/\*\.czi"):
        gathered(["in/*.czi"], SIZED)
    (folder.parent / "empty").mkdir()
    with pytest.raises(InvalidInput, match="a folder without images"):
        gathered(["empty"], SIZED)


def test_what_a_sheet_says_stands_in_every_table(folder: Path, tmp_path: Path) -> None:
    words = [str(sheet(folder, "path,condition,well,dose um", "cell0.tif,control,A1,0", "cell1.tif,drug,A2,2.5"))]
    execute(job_of(words, tmp_path / "out"), HERE, lambda event: None)
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    assert table.columns[:6] == ["image", "t", "label", "condition", "well", "dose um"]
    for n, condition in enumerate(("control", "drug")):
        one = table.filter(polars.col("condition") == condition)
        assert one["voxels"].to_list() == np.bincount(expected(voxels(n)).ravel())[1:].tolist()
    assert_frame_equal(polars.read_csv(tmp_path / "out" / "objects.csv", schema=table.schema), table, rel_tol=1e-15)
    assert [(r["image"], r["condition"], r["well"]) for r in rows(tmp_path / "out" / "summary.csv")] == [
        ("cell0", "control", "A1"), ("cell1", "drug", "A2"),
    ]  # fmt: skip


def test_rows_of_one_image_are_one_volume(tmp_path: Path) -> None:
    """A file for each time point and channel; and a file for each plane."""
    lines = []
    for t in (10, 9, 100):
        for c in ("TMRM", "DAPI"):
            tif(tmp_path / f"t{t}-{c}.tif", t + len(c))
            lines.append(f"t{t}-{c}.tif,film,{t},{c}")
    (sample,) = gathered([str(sheet(tmp_path, "path,image,t,c", *lines))], SIZED).samples
    film = sample.volume
    assert (sample.name, film.axes, film.shape) == ("film", "tczyx", (3, 2, *voxels().shape))
    assert [c.name for c in film.channels] == ["TMRM", "DAPI"]
    for n, t in enumerate((9, 10, 100)):
        np.testing.assert_array_equal(film.read(Box.whole(voxels().shape), n, 0), voxels(t + 4))
    np.testing.assert_array_equal(film.xarray()[2, 0].values, voxels(104))

    planes = tmp_path / "planes"
    for z, plane in enumerate(voxels(5)):
        (planes).mkdir(exist_ok=True)
        tifffile.imwrite(planes / f"z{z}.tif", plane[None])
    lines = [f"z{z}.tif,stack,{z}" for z in range(len(voxels()))]
    job = job_of([str(sheet(planes, "path,image,z", *lines))], tmp_path / "out")
    execute(job, Settings("none", block=(5, 17, 44)), lambda event: None)
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / "stack.ome.zarr"), expected(voxels(5)))


def test_a_plate_is_its_fields(tmp_path: Path) -> None:
    plate = tmp_path / "screen.zarr"
    group = {"zarr_format": 3, "node_type": "group"}
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}, {"path": "B/2", "rowIndex": 1, "columnIndex": 1}]
    plate.mkdir()
    attributes = {"ome": {"version": "0.5", "plate": {"wells": wells}}}
    (plate / "zarr.json").write_text(json.dumps({**group, "attributes": attributes}))
    for n, well in enumerate(wells):
        place = plate / well["path"]
        place.mkdir(parents=True)
        attributes = {"ome": {"version": "0.5", "well": {"images": [{"path": "0"}, {"path": "1"}]}}}
        (place / "zarr.json").write_text(json.dumps({**group, "attributes": attributes}))
        for field in "01":
            store(place / field, voxels(2 * n + int(field)))
    execute(job_of([str(plate)], tmp_path / "out", Inputs()), HERE, lambda event: None)
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    assert table["image"].unique().sort().to_list() == ["screen-A1-0", "screen-A1-1", "screen-B2-0", "screen-B2-1"]
    one = table.filter((polars.col("well") == "B2") & (polars.col("field") == "1"))
    assert one["voxels"].to_list() == np.bincount(expected(voxels(3)).ravel())[1:].tolist()


def test_a_damaged_file_is_named_and_the_others_are_done(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "cell1.tif").read_bytes()
    (folder / "cell1.tif").write_bytes(whole[: len(whole) // 2])
    job = job_of([str(folder)], tmp_path / "out")
    with pytest.raises(SetAside, match=r"2 images are done, but .*cell1\.tif is not: .*cell1\.tif is shorter"):
        execute(job, HERE, lambda event: None)
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    assert table["image"].unique().sort().to_list() == ["cell0", "cell2"]
    *_, last = rows(tmp_path / "out" / "summary.csv")
    assert "cell1.tif" in last["image"] and "left out" in last["flags"]
    found = status(runs_at(str(tmp_path / "out"))[0])
    assert [(Path(i.name).stem, i.state) for i in found.images] == [
        ("cell0", "done"),
        ("cell2", "done"),
        ("cell1", "failed"),
    ]
    with pytest.raises(SetAside):  # the same command says the same
        execute(job_of([str(folder)], tmp_path / "out"), HERE, lambda event: None)
    with pytest.raises(InvalidInput, match="cell1"):  # alone it is simply refused
        job_of([str(folder / "cell1.tif")], tmp_path / "alone")


@pytest.mark.parametrize(
    ("header", "lines", "said"),
    [
        ("file,condition", ["cell0.tif,a"], "no column path, only file, condition"),
        ("path", [], "lists no file"),
        ("path,condition", ["cell0.tif,a", ",b"], "line 3: path is empty"),
        ("path,plate,well", ["cell0.tif,p,A1", "cell1.tif,p,A1"], "line 3: p A1 is .*cell0.tif already"),
        (
            "path,image,condition",
            ["cell0.tif,a,x", "cell1.tif,a,y"],
            "both are image a, but its condition is x in one and y in the other",
        ),
        ("path,image,t", ["cell0.tif,a,0", "cell1.tif,a,0"], "two files at one place"),
        ("path,image,t,c", ["cell0.tif,a,0,x", "cell1.tif,a,1,x", "cell2.tif,a,1,y"], "has no file for t 0, c y"),
        ("path,image", ["cell0.tif,a", "cell0.tif,b"], None),
        ("path", ["cell0.tif", "sub/cell0.tif"], "both called cell0"),
        ("path,label", ["cell0.tif,a"], "column label, which tables have already"),
        ("path", ["gone.tif"], "gone.tif does not exist"),
        ("path,condition", ["cell0.tif,a,b"], "line 2 has more cells than the 2 columns"),
        ("path,objects", ["cell0.tif,4"], "column objects, which tables have already"),
        ("path,threshold_x", ["cell0.tif,4"], "column threshold_x, which tables have already"),
        ("path,image", ["cell0.tif,../../evil"], "cannot name a result"),
        ("path,image,t", ["cell0.tif,a,zero"], "t is zero, but must be a whole number"),
        ("path,image,t", ["cell0.tif,a,-1"], "t is -1, but must be a whole number"),
        ("path,time_s", ["cell0.tif,4"], "column time_s, which tables have already"),
        ("path,condition,condition", ["cell0.tif,a,b"], "two columns condition"),
        ("path,condition,", ["cell0.tif,a,b"], "cells in column 3, which has no name"),
    ],
)
def test_a_wrong_sheet_is_one_sentence(folder: Path, header: str, lines: list[str], said: str | None) -> None:
    tif(folder / "sub" / "cell0.tif", 4)
    words = [str(sheet(folder, header, *lines))]
    if said is None:
        assert [s.name for s in gathered(words, SIZED).samples] == ["a", "b"]
        return
    with pytest.raises((InvalidInput, InvalidConfiguration), match=said):
        gathered(words, SIZED)


def test_a_film_of_files_runs_like_a_film(tmp_path: Path) -> None:
    lines = []
    for t in range(3):
        tif(tmp_path / f"{t}.tif", t)
        lines.append(f"{t}.tif,film,{t}")
    job = job_of([str(sheet(tmp_path, "path,image,t", *lines))], tmp_path / "out")
    execute(job, HERE, lambda event: None)
    found = open_volume(tmp_path / "out" / "labels" / "film.ome.zarr", frame_interval_s=1.0)
    for t in range(3):
        np.testing.assert_array_equal(found.read(Box.whole(voxels().shape), t=t), expected(voxels(t)))


def calls_of(job: Job, settings: Settings = HERE) -> tuple[int, list[dict]]:
    events: list[dict] = []
    outcome = execute(job, settings, events.append)
    return outcome.facts.get("calls", 0), events


@pytest.mark.parametrize("block", [(12, 40, 44), (6, 20, 22)])
def test_a_new_image_leaves_finished_ones_finished(folder: Path, tmp_path: Path, block: tuple[int, ...]) -> None:
    here = Settings("none", block=block)
    first, _ = calls_of(job_of([str(folder)], tmp_path / "out"), here)
    old = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "labels").rglob("*") if p.is_file()}
    tif(folder / "cell00.tif", 9)  # between the others, by name
    more, _ = calls_of(job_of([str(folder)], tmp_path / "out"), Settings("none"))
    assert 3 * more == first
    assert {p: p.stat().st_mtime_ns for p in old} == old
    execute(job_of([str(folder)], tmp_path / "anew"), here, lambda event: None)
    grown, anew = (
        polars.read_parquet(tmp_path / n / "objects.parquet").sort("image", "label") for n in ("out", "anew")
    )
    assert_frame_equal(grown, anew, rel_tol=1e-12)
    assert sorted(map(str, rows(tmp_path / "out" / "summary.csv"))) == sorted(
        map(str, rows(tmp_path / "anew" / "summary.csv"))
    )
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / "cell00.ome.zarr"), expected(voxels(9)))
    assert execute(job_of([str(folder)], tmp_path / "out"), Settings("none"), lambda e: None).status == "nothing to do"
    audited = audit(runs_at(str(tmp_path / "out"))[0])
    assert not audited.findings


def test_a_mended_file_joins_by_the_same_command(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "cell1.tif").read_bytes()
    (folder / "cell1.tif").write_bytes(whole[:500])
    with pytest.raises(SetAside):
        execute(job_of([str(folder)], tmp_path / "out"), HERE, lambda event: None)
    (folder / "cell1.tif").write_bytes(whole)
    calls, _ = calls_of(job_of([str(folder)], tmp_path / "out"))
    assert calls == 1
    table = polars.read_parquet(tmp_path / "out" / "objects.parquet")
    assert table["image"].unique().sort().to_list() == ["cell0", "cell1", "cell2"]
    assert [r["flags"] for r in rows(tmp_path / "out" / "summary.csv")] == ["", "", ""]
    assert {i.state for i in status(runs_at(str(tmp_path / "out"))[0]).images} == {"done"}


def test_growing_goes_on_after_it_was_stopped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(job_of([str(folder)], tmp_path / "out"), HERE, lambda event: None)
    tif(folder / "cell00.tif", 9)
    for step in ("make_sink", "finish_outputs", "_complete"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, stopped)
            with pytest.raises(KeyboardInterrupt):
                execute(job_of([str(folder)], tmp_path / "out"), Settings("none"), lambda event: None)
    execute(job_of([str(folder)], tmp_path / "out"), Settings("none"), lambda event: None)
    execute(job_of([str(folder)], tmp_path / "anew"), HERE, lambda event: None)
    grown, anew = (
        polars.read_parquet(tmp_path / n / "objects.parquet").sort("image", "label") for n in ("out", "anew")
    )
    assert_frame_equal(grown, anew, rel_tol=1e-12)


def floats(folder: Path, bad: bool) -> None:
    for n in range(3):
        array = voxels(n).astype(np.float32)
        if bad and n == 1:
            array[7, 25, 30] = np.nan
        if n == 1 or not (folder / f"cell{n}.npy").exists():
            np.save(folder / f"cell{n}.npy", array)


def chunks(folder: Path, bad: bool) -> None:
    for n in range(3):
        if not (folder / f"cell{n}.ome.zarr").exists():
            store(folder / f"cell{n}.ome.zarr", voxels(n))
    place = max((folder / "cell1.ome.zarr").rglob("c/*/*/*"), key=lambda p: p.stat().st_size)
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 0xFF
    place.write_bytes(bytes(content))


@pytest.mark.parametrize("block", [(12, 40, 44), (6, 20, 22)], ids=["one block", "many blocks"])
@pytest.mark.parametrize("make", [floats, chunks])
def test_an_image_whose_voxels_are_wrong_is_set_aside_and_joins_when_mended(
    tmp_path: Path, make: Callable[[Path, bool], None], block: tuple[int, ...]
) -> None:
    (tmp_path / "in").mkdir()
    make(tmp_path / "in", True)
    here, out = Settings("none", block=block), tmp_path / "out"
    for _ in range(2):  # the same command says the same
        with pytest.raises(SetAside, match=r"2 images are done, but cell1 is not: .*cell1.*once that is mended"):
            execute(job_of([str(tmp_path / "in")], out), here, lambda event: None)
        table = polars.read_parquet(out / "objects.parquet")
        assert table["image"].unique().sort().to_list() == ["cell0", "cell2"]
        *_, last = rows(out / "summary.csv")
        assert last["image"] == "cell1" and last["flags"].startswith("set aside: ")
        for n in (0, 2):
            np.testing.assert_array_equal(labels_of(out / "labels" / f"cell{n}.ome.zarr"), expected(voxels(n)))
        assert not (out / "labels" / "cell1.ome.zarr").exists()
        assert not audit(runs_at(str(out))[0]).findings
        assert [p.name for p in arrays_of(str(out))] == ["cell0.ome.zarr", "cell2.ome.zarr"]
        assert [view.name for view in views(str(out))] == ["cell0", "cell2"]
        assert "cell1 could not be segmented" in (out / "methods.md").read_text(encoding="utf-8")
        found = status(runs_at(str(out))[0])
        assert [i.state for i in found.images] == ["done", "failed", "done"] and found.state == "set aside"
    make(tmp_path / "in", False)
    execute(job_of([str(tmp_path / "in")], out), Settings("none"), lambda event: None)
    execute(job_of([str(tmp_path / "in")], tmp_path / "anew"), here, lambda event: None)
    mended, anew = (polars.read_parquet(p / "objects.parquet").sort("image", "label") for p in (out, tmp_path / "anew"))
    assert_frame_equal(mended, anew, rel_tol=1e-12)
    np.testing.assert_array_equal(labels_of(out / "labels" / "cell1.ome.zarr"), expected(voxels(1)))
    assert {i.state for i in status(runs_at(str(out))[0]).images} == {"done"}
    assert not audit(runs_at(str(out))[0]).findings


def test_an_answer_pooled_over_all_images_waits_for_the_one_that_is_wrong(tmp_path: Path) -> None:
    floats(tmp_path, True)
    text = MAIN.replace("{method: otsu}", "{method: otsu, over: collection}")
    with pytest.raises(SetAside, match=r"block was set aside .*cell1.npy holds NaN"):
        execute(run_job(load(text, known()), [f"{tmp_path}/*.npy"], str(tmp_path / "out"), SIZED), HERE, lambda e: None)
    assert not (tmp_path / "out" / "objects.parquet").exists()


def stopped(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_is_pooled_over_all_images_does_not_grow(folder: Path, tmp_path: Path) -> None:
    text = MAIN.replace("{method: otsu}", "{method: otsu, over: collection}")
    out = str(tmp_path / "out")
    execute(run_job(load(text, known()), [str(folder)], out, SIZED), HERE, lambda event: None)
    tif(folder / "cell7.tif", 7)
    with pytest.raises(PlanRefused, match="its otsu is pooled over all of them"):
        execute(run_job(load(text, known()), [str(folder)], out, SIZED), HERE, lambda event: None)
    (folder / "cell7.tif").unlink()
    (folder / "cell2.tif").unlink()
    with pytest.raises(
        PlanRefused, match="with cell2, which is not among the inputs any more"
    ):  # fewer images are another result
        execute(job_of([str(folder)], tmp_path / "out"), HERE, lambda event: None)


def test_sheets_of_other_hands_are_read(folder: Path) -> None:
    """A space after each comma; semicolons and a mark at the beginning, as spreadsheets write them."""
    for text in (
        "path, condition\ncell0.tif, a\n",
        "\ufeffpath;condition\ncell0.tif;a\n",
        "path\tcondition\n\ncell0.tif\ta\n",
    ):
        (folder / "sheet.csv").write_text(text, encoding="utf-8")
        (sample,) = gathered([str(folder / "sheet.csv")], SIZED).samples
        assert (sample.name, sample.columns) == ("cell0", {"condition": "a"})


def test_a_file_of_one_channel_has_the_name_that_the_sheet_gives_it(folder: Path) -> None:
    lines = ["cell0.tif,one,mito", "cell1.tif,two,mito", "cell2.tif,two,vesicle"]
    one, two = gathered([str(sheet(folder, "path,image,c", *lines))], SIZED).samples
    assert [c.name for c in one.volume.channels] == ["mito"] and [c.name for c in two.volume.channels] == [
        "mito",
        "vesicle",
    ]


def test_what_a_spreadsheet_leaves_behind_its_last_column_is_no_column(folder: Path) -> None:
    batch = gathered([str(sheet(folder, "path,condition,,", "cell0.tif,a,,", "cell1.tif,b"))], SIZED)
    assert [dict(sample.columns) for sample in batch.samples] == [{"condition": "a"}, {"condition": "b"}]


def test_planes_in_files_of_their_own_are_a_stack_whose_step_is_given(tmp_path: Path) -> None:
    stack = voxels()
    for z, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / f"p{z}.tif", plane)
    words = [str(sheet(tmp_path, "path,image,z", *(f"p{z}.tif,cell,{z}" for z in range(len(stack)))))]
    with pytest.raises(InvalidInput, match="distance is not known; give it with their sizes, for example --voxel-um"):
        job_of(words, tmp_path / "out", Inputs(voxel_um=VOXEL_UM[1:]))
    execute(job_of(words, tmp_path / "out", Inputs(voxel_um=VOXEL_UM)), HERE, lambda event: None)
    np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / "cell.ome.zarr"), expected(stack))
    assert open_volume(tmp_path / "out" / "labels" / "cell.ome.zarr").voxel_um == VOXEL_UM
    with pytest.raises(PlanRefused, match="the input cell changed"):
        execute(job_of(words, tmp_path / "out", Inputs(voxel_um=(0.9, *VOXEL_UM[1:]))), HERE, lambda event: None)


def test_channels_of_a_sheet_have_one_order_whatever_that_of_the_rows(folder: Path, tmp_path: Path) -> None:
    rows = ["cell0.tif,a,dapi", "cell1.tif,a,gfp", "cell2.tif,b,gfp", "cell0.tif,b,dapi"]
    batch = gathered([str(sheet(folder, "path,image,c", *rows))], SIZED)
    assert [[c.name for c in s.volume.channels] for s in batch.samples] == [["dapi", "gfp"]] * 2
    np.testing.assert_array_equal(batch.samples[1].volume.read(Box.whole(voxels().shape), c=0), voxels(0))


def test_two_labels_that_would_share_a_file_are_refused(folder: Path, tmp_path: Path) -> None:
    inner = MAIN.partition("steps:")[2].replace("\n", "\n    ")
    text = f"objects:\n  b:\n    steps:{inner}\n  c-b:\n    steps:{inner}"
    words = [str(sheet(folder, "path,image", "cell0.tif,a", "cell1.tif,a-c"))]
    with pytest.raises(InvalidConfiguration, match="would hold"):
        run_job(load(text, known()), words, str(tmp_path / "out"), SIZED)


def test_images_of_one_run_have_the_same_channels(tmp_path: Path) -> None:
    for name, channels in (("a", ("cell", "mito")), ("b", ("mito", "cell")), ("c", ("cell",)), ("d", ("cell", "mito"))):
        made = create_volume(
            tmp_path / f"{name}.ome.zarr", axes="czyx", shape=(len(channels), *voxels().shape), dtype="uint16", voxel_um=VOXEL_UM,
            chunk=voxels().shape, shard=voxels().shape, channels=tuple(map(Channel, channels)),
        )  # fmt: skip
        for c in range(len(channels)):
            made.write(Box.whole(voxels().shape), voxels(), c=c)
        publish(made)
    a, b, c, d = (str(tmp_path / f"{n}.ome.zarr") for n in "abcd")
    for words, channel in (([a, b], "cell"), ([a, b], "0"), ([c, a], None)):
        with pytest.raises(InvalidInput, match="run them apart"):
            job_of(words, tmp_path / "out", Inputs(channel=channel))
    job_of([a, d], tmp_path / "out", Inputs(channel="mito"))
    job_of([c, a, d], tmp_path / "out", Inputs(channel="cell"))  # what nobody asks for may be missing
    for words, channel in (([a, c], "mito"), ([c, a, d], 1)):  # what is asked for and missing sets an image aside
        job = job_of(words, tmp_path / "out", Inputs(channel=channel))
        assert [image.name for image in job.images] == [Path(w).name[0] for w in words if w != c]
        assert list(job.left_out) == ["c"] and c in job.left_out["c"] and "cell" in job.left_out["c"]
    with pytest.raises(InvalidInput, match=r"c\.ome\.zarr"):  # alone it is simply refused
        job_of([c], tmp_path / "out", Inputs(channel="mito"))
    every = MAIN.replace("{columns:", "{channels: all, columns:")
    with pytest.raises(InvalidInput, match="run them apart"):
        run_job(load(every, known()), [a, c], str(tmp_path / "out"), Inputs(channel="cell"))
    text = MAIN.replace("steps:", "channel: cell\nsteps:")
    with pytest.raises(InvalidConfiguration, match="--channel mito: the pipeline names channel cell already"):
        run_job(load(text, known()), [a], str(tmp_path / "out"), Inputs(channel="mito"))


NAMES = ("zebra", "ant", "mole", "cell-2", "cell", "cell 3")  # in no order of theirs


@pytest.mark.parametrize("block", [(12, 40, 44), (5, 17, 44)])
@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_a_batch_in_any_order_goes_on_where_it_was(tmp_path: Path, block: tuple[int, ...], stop: int) -> None:
    shapes = [(12, 40, 44), (7, 25, 30), (12, 30, 44), (9, 40, 41), (12, 40, 20), (6, 40, 44)]
    for n, (name, shape) in enumerate(zip(NAMES, shapes, strict=True)):
        store(tmp_path / f"{name}.ome.zarr", voxels(n, shape))
    files = [str(tmp_path / f"{name}.ome.zarr") for name in NAMES]

    def job(out: str, some: Sequence[str]) -> Job:
        return run_job(load(MAIN, known()), some, str(tmp_path / out), Inputs())

    def stopping(event: dict[str, Any]) -> None:
        if event["event"] == "blocks" and event["done"] >= stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(job("out", files), Settings("none", block=block), stopping)
    execute(job("out", files[::-1]), Settings("none"), lambda event: None)
    execute(job("plain", files), Settings("none", block=block), lambda event: None)
    ours, plain = (polars.read_parquet(tmp_path / o / "objects.parquet") for o in ("out", "plain"))
    assert_frame_equal(ours, plain)
    for n, (name, shape) in enumerate(zip(NAMES, shapes, strict=True)):
        np.testing.assert_array_equal(
            labels_of(tmp_path / "out" / "labels" / f"{name}.ome.zarr"), expected(voxels(n, shape))
        )


def test_an_image_that_joins_an_unfinished_batch_waits(tmp_path: Path) -> None:
    for n, name in enumerate(NAMES[:3]):
        store(tmp_path / f"{name}.ome.zarr", voxels(n))
    files = [str(tmp_path / f"{name}.ome.zarr") for name in NAMES[:3]]

    def stopping(event: dict[str, Any]) -> None:
        if event["event"] == "blocks":
            raise KeyboardInterrupt

    def job(some: Sequence[str]) -> Job:
        return run_job(load(MAIN, known()), some, str(tmp_path / "out"), Inputs())

    with pytest.raises(KeyboardInterrupt):
        execute(job(files[:2]), Settings("none"), stopping)
    with pytest.raises(PlanRefused, match=r"without mole, and is not finished; let it finish so"):
        execute(job(files), Settings("none"), lambda event: None)
    for some in (files[:2], files):
        execute(job(some), Settings("none"), lambda event: None)
    for n, name in enumerate(NAMES[:3]):
        np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / f"{name}.ome.zarr"), expected(voxels(n)))


def test_images_that_come_later_leave_the_others_alone_in_any_order(tmp_path: Path) -> None:
    for n, name in enumerate(NAMES):
        store(tmp_path / f"{name}.ome.zarr", voxels(n))
    files = [str(tmp_path / f"{name}.ome.zarr") for name in NAMES]
    for some, blocks in ((files[:3], 3), ([files[4], *files[:3]], 1), (files, 2)):
        events: list[dict[str, Any]] = []
        made = run_job(load(MAIN, known()), some, str(tmp_path / "out"), Inputs())
        execute(made, Settings("none", block=(12, 40, 44)), events.append)
        begun = [e for e in events if e["event"] == "pass"]
        assert begun and sum(e["todo"] for e in begun) == blocks
    for n, name in enumerate(NAMES):
        np.testing.assert_array_equal(labels_of(tmp_path / "out" / "labels" / f"{name}.ome.zarr"), expected(voxels(n)))


TWO = """
objects:
  soft:
    steps:
      - gaussian: {sigma_um: 0.12}
      - threshold: {method: otsu}
      - label: {min_voxels: 3}
      - measure: [shape, intensity]
  hard:
    steps:
      - threshold: {value: 1500}
      - label
      - measure: [shape, intensity]
"""


@pytest.mark.parametrize("block", [(12, 40, 44), (5, 17, 44)])
@pytest.mark.parametrize("order", ["abcd", "dcba", "cbad"])
def test_a_mended_image_has_nothing_of_the_one_that_was_bad(tmp_path: Path, block: tuple[int, ...], order: str) -> None:
    """Of an image that is bad in its last voxel much is done before that is seen; the mended one differs everywhere."""

    def put(name: str, seed: int, bad: bool = False) -> None:
        array = voxels(seed).astype(np.float32)
        array[-1, -1, -1] = np.nan if bad else array[-1, -1, -1]
        shutil.rmtree(tmp_path / f"{name}.ome.zarr", ignore_errors=True)
        store(tmp_path / f"{name}.ome.zarr", array)

    def run(names: str, out: str) -> None:
        files = [str(tmp_path / f"{name}.ome.zarr") for name in names]
        made = run_job(load(TWO, known()), files, str(tmp_path / out), Inputs())
        settings = Settings("none", block=None if (tmp_path / out).exists() else block)
        execute(made, settings, lambda event: None)

    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        put(name, seed, bad=name == "b")
    with pytest.raises(SetAside, match="2 images are done, but b is not"):
        run(order.replace("d", ""), "out")
    put("b", 7)
    put("d", 3)
    run(order, "out")
    run(order, "plain")
    for name in ("soft", "hard"):
        ours, plain = (tmp_path / out / name / "objects.parquet" for out in ("out", "plain"))
        assert_frame_equal(*(polars.read_parquet(path).sort("image", "label") for path in (ours, plain)))
        for image in order:
            ours, plain = (
                labels_of(tmp_path / out / "labels" / f"{image}-{name}.ome.zarr") for out in ("out", "plain")
            )
            np.testing.assert_array_equal(ours, plain)


def test_a_mended_image_of_another_size_is_another_run(tmp_path: Path) -> None:
    files = []
    for n, name in enumerate("abc"):
        array = voxels(n).astype(np.float32)
        array[0, 0, 0] = np.nan if name == "b" else 0
        files.append(str(store(tmp_path / f"{name}.ome.zarr", array)))
    settings = Settings("none", block=(5, 17, 44))
    with pytest.raises(SetAside):
        execute(run_job(load(MAIN, known()), files, str(tmp_path / "out"), Inputs()), settings, lambda event: None)
    shutil.rmtree(files[1])
    store(Path(files[1]), voxels(1, (22, 40, 44)).astype(np.float32))
    with pytest.raises(PlanRefused, match=r"an image that has another size by now.*--fresh"):
        execute(
            run_job(load(MAIN, known()), files, str(tmp_path / "out"), Inputs()), Settings("none"), lambda event: None
        )
