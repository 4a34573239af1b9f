"""Named pipelines: each loads, explains itself, and does something sensible untouched on every real stack it is for."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.pipeline.execute import execute
from cristae.pipeline.file import canonical, load
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.named import load_pipeline, names, text_of
from cristae.pipeline.operations import known

HERE = Settings("threads:2")
# pipeline, files, what the files lack, how many objects a person would find plausible in the first of them
STACKS: list[tuple[str, str, Inputs, tuple[int, int]]] = [
    ("mitochondria", "mitograph-test-3d/BuddingYeastGlucose0*.tif", Inputs(), (3, 20)),
    ("mitochondria", "mitograph-test-3d/MitoGraphTest001.tif", Inputs(), (5, 30)),
    ("mitochondria", "physeg-real/normal_*_mito.tif", Inputs(), (100, 300)),
    ("vesicles", "physeg-real/*_vesicle.tif", Inputs(), (200, 900)),
    ("nuclei", "cells3d-nuclei/neubias_nuclei_zyx.tif", Inputs(), (50, 90)),
    ("nuclei", "cells3d-nuclei/cells3d_crop_czyx.tif", Inputs(voxel_um=(0.29, 0.26, 0.26), channel=1), (1, 3)),
    ("nuclei", "formats/example-multichannel.nd2", Inputs(channel="DAPI"), (1, 10)),
    ("nuclei", "formats/mitocheck_movie_tyx.tif", Inputs("tyx", (0.65, 0.65), 1800.0), (10, 20)),
]


@pytest.mark.parametrize("name", names())
def test_a_shipped_file_loads_and_explains_its_lengths(name: str) -> None:
    text = text_of(name)
    found = load_pipeline(name, [])
    assert [item.name for item in found.objects] == [name]
    assert canonical(load(text.replace("steps:", f"output: {{name: {name}}}\nsteps:"), known())) == canonical(found)
    for line in text.splitlines():
        if re.search(r"_um: [\d{]", line):
            assert re.search(r"# um; .*\d to \d", line), f"{line} says no unit, meaning and range"


@pytest.mark.parametrize(("name", "files", "inputs", "plausible"), STACKS)
def test_a_shipped_pipeline_runs_untouched(
    name: str, files: str, inputs: Inputs, plausible: tuple[int, int], shared_data: Path, tmp_path: Path
) -> None:
    paths = sorted(str(p) for p in shared_data.glob(files))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job = run_job(load_pipeline(name, []), paths, str(tmp_path / "out"), inputs)
    execute(job, HERE, lambda event: None)
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {r["image"] for r in rows} == {image.name for image in job.images}
    assert all(r["flags"] == "" for r in rows)
    assert plausible[0] <= int(rows[0]["objects"]) <= plausible[1]


def test_a_plane_of_a_stack_is_enough(shared_data: Path, tmp_path: Path) -> None:
    """Thin input: one plane of a yeast stack, as a plane and as a stack of one."""
    import tifffile

    plane = tifffile.imread(shared_data / "mitograph-test-3d" / "BuddingYeastGlucose01.tif")[20]
    for n, (array, inputs) in enumerate(
        ((plane, Inputs("yx", (0.056, 0.056))), (plane[None], Inputs("zyx", (0.2, 0.056, 0.056))))
    ):
        np.save(tmp_path / f"{n}.npy", array)
        for name in names():
            job = run_job(load_pipeline(name, []), [str(tmp_path / f"{n}.npy")], str(tmp_path / f"{n}{name}"), inputs)
            execute(job, HERE, lambda event: None)


def test_a_file_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei").write_text("output: {name: mine}\nsteps: [label]\n", encoding="utf-8")
    assert load_pipeline("nuclei", []).objects[0].name == "mine"
    for word, said in (("nucleii", "did you mean nuclei"), ("gone.yaml", "no pipeline file gone.yaml")):
        with pytest.raises(InvalidConfiguration, match=said):
            load_pipeline(word, [])
    with pytest.raises(InvalidConfiguration, match="did you mean vesicles"):
        text_of("vesicle")


def test_a_radius_below_a_voxel_is_said(shared_data: Path, tmp_path: Path) -> None:
    found = load_pipeline("mitochondria", ["ridge.radius_um.min=0.03"])
    path = str(shared_data / "mitograph-test-3d" / "BuddingYeastGlucose01.tif")
    with pytest.warns(UserWarning, match=r"step ridge: radius_um 0.03 is less than one voxel of 0.056 um"):
        run_job(found, [path], str(tmp_path / "out"), Inputs())
    large = Inputs(voxel_um=(6.0, 6.0, 6.0))  # the number of scales, 5, is no radius
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*voxel of.*check its unit")
        run_job(
            load_pipeline("mitochondria", ["ridge.radius_um.min=7", "ridge.radius_um.max=9"]),
            [path],
            str(tmp_path / "l"),
            large,
        )
    with pytest.raises(InvalidInput, match="name one with --channel"):
        run_job(found, [str(shared_data / "formats" / "example-multichannel.nd2")], str(tmp_path / "out"), Inputs())
