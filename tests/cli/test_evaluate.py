"""The command `evaluate`: scores on stdout for a person or a program, and nothing left behind where nothing was asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from evaluation.drawn import cells

CALL = "from cristae_cli.main import main; main()"
SIZE = ("--axes", "zyx", "--voxel-um", "0.3,0.1,0.1")


def cristae(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-c", CALL, "evaluate", *words],
        cwd=folder, capture_output=True, text=True, env=environment, timeout=120, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for n, name in enumerate("ab"):
        for side, array in zip(("pred", "truth"), cells(n), strict=True):
            (tmp_path / side).mkdir(exist_ok=True)
            np.save(tmp_path / side / f"{name}.npy", array)
    return tmp_path


def test_scores_are_printed_and_nothing_is_left(folder: Path) -> None:
    done = cristae(folder, "pred/a.npy", "truth/a.npy", *SIZE)
    assert done.returncode == 0, done.stderr
    for name in ("iou_fg", "mIOU_fgbg", "pq", "dice_all", "ap_mean", "voi_split", "size, um3"):
        assert name in done.stdout
    assert "95 %" not in done.stdout  # one image has no interval
    assert sorted(p.name for p in folder.iterdir()) == ["pred", "truth"]


def test_json_is_json_and_a_table_has_the_same_figures(folder: Path) -> None:
    told = json.loads(cristae(folder, "pred", "truth", "--json", *SIZE).stdout)
    assert [one["image"] for one in told["images"]] == ["a", "b"]
    shown = cristae(folder, "pred", "truth", *SIZE).stdout
    row = next(line for line in shown.splitlines() if " dice " in line)
    mean = told["mean"]["dice"]
    for number in (mean["mean"], mean["low"], mean["high"], told["pooled"]["dice"]):
        assert f"{number:.4f}" in row
    assert "2 images" in shown.splitlines()[-1]


def test_scores_are_kept_where_they_are_asked_for(folder: Path) -> None:
    words = ("pred", "truth", *SIZE, "--out", "scores/s.csv", "--picture", "scores/d.png", "--topology")
    done = cristae(folder, *words)
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (folder / "scores").iterdir()} == {".cristae", "s.csv", "s.json", "d.png"}
    again = cristae(folder, *words)
    assert again.stdout == done.stdout and "nothing to do" in again.stderr


def test_a_picture_is_drawn_over_the_one_before(folder: Path) -> None:
    for name in "ab":
        done = cristae(folder, f"pred/{name}.npy", f"truth/{name}.npy", *SIZE, "--picture", "d.png")
        assert done.returncode == 0, done.stderr
        assert sorted(p.name for p in folder.iterdir()) == ["d.png", "pred", "truth"]
        found = (folder / "d.png").read_bytes()
    cristae(folder, "pred/a.npy", "truth/a.npy", *SIZE, "--picture", "d.png")
    assert (folder / "d.png").read_bytes() != found


def test_a_table_is_not_replaced_unasked(folder: Path) -> None:
    words = ("pred", "truth", *SIZE, "--objects", "new/objects.csv")
    assert cristae(folder, *words).returncode == 0
    lines = (folder / "new" / "objects.csv").read_text().splitlines()
    assert lines[0].replace(chr(34), "").startswith("image,t,state,truth,prediction") and len(lines) > 20
    again = cristae(folder, *words)
    assert again.returncode == 2 and "exists already" in again.stderr
    (folder / "new" / "objects.csv").write_text("old")
    assert cristae(folder, *words, "--fresh").returncode == 0
    assert (folder / "new" / "objects.csv").read_text().splitlines() == lines
