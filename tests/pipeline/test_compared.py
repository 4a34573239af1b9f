"""Scores side by side: the numbers are those of their files, colours those of the numbers, and what is no score is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation.drawn import cells
from PIL import Image
from pipeline.test_evaluating import store
from typer.testing import CliRunner

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.pipeline.compared import compared
from cristae.pipeline.evaluating import beside
from cristae.pipeline.heat import RAMP, heat, said, shade
from cristae_cli.main import app


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Of a prediction, by objects and as a mask."""
    pred, truth = cells(0)
    pair = store(tmp_path / "p.ome.zarr", pred), store(tmp_path / "t.ome.zarr", truth)
    for name, words in (("mito.json", ()), ("sub/er.json", ("--semantic",))):
        done = CliRunner().invoke(app, ["evaluate", *pair, *words, "--out", str(tmp_path / name), "--cluster", "none"])
        assert done.exit_code == 0, done.output
    return tmp_path


def test_rows_are_files_and_columns_figures(scores: Path) -> None:
    files = [scores / "mito.json", scores / "sub" / "er.json"]
    found = compared([str(f) for f in files])
    assert found.rows == ("mito", "er") and found.images == (1, 1)
    told = [json.loads(f.read_text())["pooled"] for f in files]
    for k, name in enumerate(found.figures):
        for n in range(2):
            assert found.values[n, k] == told[n][name] if name in told[n] else np.isnan(found.values[n, k])
    assert "splits" not in found.figures and "ap_50" not in found.figures and "ap_mean" in found.figures
    by_name = dict(zip(found.figures, found.scores, strict=True))
    assert by_name["dice"] and by_name["pq"] and by_name["ap_mean"] and by_name["ari"]
    assert not by_name["voi_split"] and not by_name["count_error"]
    assert compared([str(f) for f in files], ["pq", "dice"]).figures == ("pq", "dice")


def test_files_of_one_name_are_told_apart_by_their_folders(scores: Path) -> None:
    (scores / "sub" / "mito.json").write_bytes((scores / "mito.json").read_bytes())
    found = compared([str(scores / "mito.json"), str(scores / "sub" / "mito.json")])
    assert found.rows == (f"{scores.name}/mito", "sub/mito")


def test_the_command_prints_and_draws_the_table(scores: Path) -> None:
    files = [str(scores / "mito.json"), str(scores / "sub" / "er.json")]
    done = CliRunner().invoke(app, ["compare", *files, "--picture", str(scores / "new" / "h.png")])
    assert done.exit_code == 0, done.output
    value = json.loads((scores / "mito.json").read_text())["pooled"]["dice"]
    row = next(line for line in done.output.splitlines() if " dice " in line)
    assert row.count(f"{value:.4f}") == 2
    assert next(line for line in done.output.splitlines() if " pq " in line).count(" - ") == 1
    assert np.asarray(Image.open(scores / "new" / "h.png")).shape[2] == 3
    told = json.loads(CliRunner().invoke(app, ["compare", *files, "--figures", "dice,pq", "--json"]).output)
    assert told[0]["dice"] == value and told[1]["pq"] is None and list(told[0]) == ["scores", "images", "dice", "pq"]


def test_what_is_no_score_is_said(scores: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="no figure dicee in these scores; did you mean dice"):
        compared([str(scores / "mito.json")], ["dicee"])
    for name, text in (("a.json", "[1, 2]"), ("b.json", "?"), ("c.json", '{"mean": {}}'), ("d.json", "3")):
        (scores / name).write_text(text)
        with pytest.raises(InvalidInput, match=f"{name} holds no scores"):
            compared([str(scores / name)])
    with pytest.raises(InvalidInput, match=r"gone\.json cannot be read"):
        compared([str(scores / "gone.json")])


def test_a_csv_beside_the_json_of_another_evaluation_has_a_json_of_its_own(scores: Path) -> None:
    pair = [str(scores / "p.ome.zarr"), str(scores / "t.ome.zarr")]
    before = (scores / "mito.json").read_bytes()
    for status in ("", "nothing to do"):
        done = CliRunner().invoke(
            app, ["evaluate", *pair, "--semantic", "--out", str(scores / "mito.csv"), "--cluster", "none"]
        )
        assert done.exit_code == 0 and status in done.output, done.output
    assert (scores / "mito.json").read_bytes() == before
    assert json.loads((scores / "mito.csv.json").read_text())["scored"] == "masks"
    assert beside(scores / "mito.csv") == scores / "mito.csv.json" and beside(scores / "x.csv") == scores / "x.json"
    found = compared([str(scores / "mito.csv"), str(scores / "mito.json")], ["dice", "pq"])
    assert np.isnan(found.values[0, 1]) and np.isfinite(found.values[1, 1]) and found.values[0, 0] == found.values[1, 0]


def test_cells_of_the_picture_have_the_colour_of_their_number() -> None:
    values = np.array([[0.0, 1.0, 12.0], [0.5, np.nan, 0.7]])
    rgb = heat(values, ["a", "b"], ["one", "two", "many"], coloured=[True, True, False], title="t", lines=["l"])
    colours = {tuple(int(v) for v in c) for c in rgb.reshape(-1, 3)}
    assert {RAMP[0], RAMP[2], RAMP[-1]} <= colours
    areas = [int((rgb == np.array(c)).all(axis=2).sum()) for c in (RAMP[0], RAMP[2], RAMP[-1])]
    assert all(area > 1000 for area in areas)
    assert shade(0.25) == RAMP[1] and shade(7.0) == RAMP[-1]
    assert [said(v) for v in (0.1234, 1.0, 12.0, -3.5, float("nan"))] == ["0.123", "1", "12", "-3.5", "-"]
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in map(shade, np.linspace(0, 1, 20))]
    assert light == sorted(light), "brighter is better, without any hue"
