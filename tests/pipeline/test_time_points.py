"""Time points in files of their own: one that is added joins a finished run, of which not one block is computed again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import tifffile
from pipeline.test_job import MAIN, VOXEL_UM, expected, voxels
from polars.testing import assert_frame_equal

from cristae.errors import PlanRefused, SetAside
from cristae.grid import Box
from cristae.pipeline import execute as module
from cristae.pipeline.audit import audit
from cristae.pipeline.execute import execute
from cristae.pipeline.file import load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Job, Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.operations import known
from cristae.pipeline.status import runs_at, status
from cristae.store.volume import open_volume

SHAPE = voxels().shape
BLOCKS = [SHAPE, (12, 20, 44)]


def film(folder: Path, **points: Sequence[int]) -> Path:
    """A sheet of images with these time points, each in a file of its own."""
    lines = ["path,image,t,condition"]
    for image, times in points.items():
        for t in times:
            if not (path := folder / f"{image}-{t}.tif").exists():
                tifffile.imwrite(path, voxels(seed(image, t)))
            lines.append(f"{path.name},{image},{t},x")
    (folder / "sheet.csv").write_text("\n".join(lines) + "\n")
    return folder / "sheet.csv"


def seed(image: str, t: int) -> int:
    return 100 * ord(image) + t


def job(sheet: Path, out: str = "out", text: str = MAIN) -> Job:
    inputs = Inputs(axes="zyx", voxel_um=VOXEL_UM, frame_interval_s=2.0)
    return run_job(load(text, known()), [str(sheet)], str(sheet.parent / out), inputs)


def calls_of(job: Job, settings: Settings) -> int:
    return int(execute(job, settings, lambda event: None).facts["calls"])


def same(folder: Path, **points: Sequence[int]) -> None:
    """Labels, rows and summary of `out` are those of `anew` and those computed in memory; nothing is damaged."""
    for image, times in points.items():
        made = open_volume(folder / "out" / "labels" / f"{image}.ome.zarr")
        assert (made.frames, made.axes, made.frame_interval_s) == (len(times), "tzyx", 2.0)
        for n, t in enumerate(times):
            np.testing.assert_array_equal(made.read(Box.whole(SHAPE), t=n), expected(voxels(seed(image, t))))
    for table in ("objects.parquet", "summary.csv"):
        read = polars.read_parquet if table.endswith("parquet") else polars.read_csv
        one, other = (read(folder / name / table) for name in ("out", "anew"))
        assert_frame_equal(one, other, rel_tol=1e-12)
    (state,) = runs_at(str(folder / "out"))
    assert not audit(state).findings
    assert {image.state for image in status(state).images} == {"done"}


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cluster", ["none", "threads:2"])
def test_a_time_point_joins_and_finished_ones_stay(tmp_path: Path, block: tuple[int, ...], cluster: str) -> None:
    settings = Settings(cluster, block=block)
    first = calls_of(job(film(tmp_path, b=range(2), a=range(3))), settings)
    one = first // 5
    sheet = film(tmp_path, b=range(3), a=range(5))
    assert calls_of(job(sheet), settings) == 3 * one
    assert calls_of(job(sheet, "anew"), settings) == 8 * one
    same(tmp_path, b=range(3), a=range(5))
    assert execute(job(sheet), settings, lambda event: None).status == "nothing to do"
    sheet = film(tmp_path, b=range(4), a=range(5), c=range(2))  # and again, with a new image
    assert calls_of(job(sheet), settings) == 3 * one
    calls_of(job(sheet, "anew2"), settings)
    (tmp_path / "anew").rename(tmp_path / "before")
    (tmp_path / "anew2").rename(tmp_path / "anew")
    same(tmp_path, b=range(4), a=range(5), c=range(2))
    sheet = film(tmp_path, b=range(6), a=range(5), c=range(3))
    assert calls_of(job(sheet), settings) == 3 * one


@pytest.mark.parametrize("block", BLOCKS)
def test_joining_goes_on_after_it_was_stopped(
    tmp_path: Path, block: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    here = Settings("none", block=block)
    execute(job(film(tmp_path, b=range(2), a=range(3))), here, lambda event: None)
    sheet = film(tmp_path, b=range(4), a=range(4))
    for step in ("make_sink", "finish_outputs", "_complete"):
        with monkeypatch.context() as patch:
            patch.setattr(module, step, stopped)
            with pytest.raises(KeyboardInterrupt):
                execute(job(sheet), here, lambda event: None)
        assert not audit(runs_at(str(tmp_path / "out"))[0]).findings
    execute(job(sheet), here, lambda event: None)
    execute(job(sheet, "anew"), here, lambda event: None)
    same(tmp_path, b=range(4), a=range(4))


def test_a_time_point_before_the_others_or_a_changed_one_is_another_run(tmp_path: Path) -> None:
    here = Settings("none")
    execute(job(film(tmp_path, b=(1, 2))), here, lambda event: None)
    with pytest.raises(PlanRefused, match="the input b changed since"):
        execute(job(film(tmp_path, b=(0, 1, 2))), here, lambda event: None)
    with pytest.raises(PlanRefused, match="the input b changed since"):
        execute(job(film(tmp_path, b=(1, 3))), here, lambda event: None)
    tifffile.imwrite(tmp_path / "b-2.tif", voxels(7))
    with pytest.raises(PlanRefused, match="the input b changed since"):
        execute(job(film(tmp_path, b=(1, 2, 3))), here, lambda event: None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (MAIN.replace("{method: otsu}", "{method: otsu, over: image}"), "b has more time points than before, and its .*pooled"),
        (MAIN.replace("{method: otsu}", "{method: otsu, over: collection}"), "pooled over all of them"),
        (MAIN.replace("{sigma_um: 0.12}", "{sigma_um: 0.12, keep: true}"), "keep: true"),
    ],
)  # fmt: skip
def test_what_would_change_for_all_time_points_is_refused(tmp_path: Path, text: str, said: str) -> None:
    here = Settings("none")
    execute(job(film(tmp_path, b=range(2), a=range(2)), text=text), here, lambda event: None)
    with pytest.raises(PlanRefused, match=said):
        execute(job(film(tmp_path, b=range(3), a=range(2)), text=text), here, lambda event: None)


def test_a_time_point_of_an_unfinished_run_waits(tmp_path: Path) -> None:
    def stopping(event: dict[str, Any]) -> None:
        if event["event"] == "blocks":
            raise KeyboardInterrupt

    here = Settings("none", block=BLOCKS[1])
    with pytest.raises(KeyboardInterrupt):
        execute(job(film(tmp_path, b=range(2))), here, stopping)
    with pytest.raises(PlanRefused, match="with fewer time points of b, and is not finished; let it finish so"):
        execute(job(film(tmp_path, b=range(3))), here, lambda event: None)


def test_a_bad_time_point_that_joins_sets_its_image_aside(tmp_path: Path) -> None:
    here = Settings("none", block=BLOCKS[1])
    execute(job(film(tmp_path, b=range(2), a=range(2))), here, lambda event: None)
    sheet = film(tmp_path, b=range(3), a=range(3))
    tifffile.imwrite(tmp_path / "b-2.tif", voxels(seed("b", 2)), compression="zlib")
    whole = (tmp_path / "b-2.tif").read_bytes()
    torn = bytearray(whole)
    torn[len(whole) // 2 : len(whole) // 2 + 400] = bytes(400)
    (tmp_path / "b-2.tif").write_bytes(torn)
    with pytest.raises(SetAside, match=r"b is not: .*b-2\.tif"):
        execute(job(sheet), here, lambda event: None)
    (tmp_path / "b-2.tif").write_bytes(whole)
    execute(job(sheet), here, lambda event: None)
    execute(job(sheet, "anew"), here, lambda event: None)
    same(tmp_path, b=range(3), a=range(3))
