"""The command: what is wrong with a model or a function is one sentence with its place in the file, and exit code 3."""

from __future__ import annotations

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
from inference.models import tiny
from inference.volumes import blobs, store

CALL = "from cristae_cli.main import main; main()"


def cristae(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CALL, *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", "NO_COLOR": "1"},
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("bench")
    store(here / "cell.ome.zarr", blobs((6, 20, 20)))
    data = Path(tiny(tile=(4, 16, 16))).read_bytes()
    (here / "whole.safetensors").write_bytes(data)
    (here / "short.safetensors").write_bytes(data[:-5])
    (here / "weights.pt").write_bytes(pickle.dumps({"weights": [1.0]}))
    (here / "mine.py").write_text("def f(image):\n    return image\n")
    return here


@pytest.mark.parametrize(
    ("step", "sentence"),
    [
        ("segment: {model: short.safetensors}", "short.safetensors is cut short"),
        ("segment: {model: weights.pt}", "weights.pt is a pickle"),
        ("segment: {model: whole.safetensors, of: golgi}", "a.yaml, line 2: segment: of is 'golgi'"),
        ("segment: {model: whole.safetensors, blend: soft}", "a.yaml, line 2: segment: blend is 'soft'"),
        (
            "segment: {model: whole.safetensors, overlaps: 0.5}",
            "segment has no parameter overlaps; did you mean overlap?",
        ),
        ("python: {file: mine.py, function: g, halo_um: 0}", "a.yaml, line 2: python: .* defines no function g"),
        ("python: {file: mine.py, function: f, tile: [4, 16.5, 16]}", "a.yaml, line 2: tile should be whole numbers"),
    ],
)
def test_a_mistake_is_one_sentence(folder: Path, step: str, sentence: str) -> None:
    (folder / "a.yaml").write_text(f"steps:\n  - {step}\n")
    done = cristae(folder, "plan", "a.yaml", "cell.ome.zarr", "--out", "out")
    said = " ".join(done.stderr.split())
    assert done.returncode == 3 and "Traceback" not in said, done.stderr
    assert re.search(sentence, said), said
    assert not (folder / "out").exists()


@pytest.mark.parametrize("cut", ["method: otsu", "value: 0.5"])
def test_the_network_is_computed_by_one_pass_and_left_in_scratch(folder: Path, cut: str) -> None:
    (folder / "whole-sized.safetensors").write_bytes(Path(tiny(features=(16, 32), tile=(4, 16, 16))).read_bytes())
    (folder / "b.yaml").write_text(
        f"steps:\n  - segment: {{model: whole-sized.safetensors}}\n  - threshold: {{{cut}}}\n  - label\n"
    )
    done = cristae(folder, "plan", "b.yaml", "cell.ome.zarr", "--out", "out", "--block", "3,10,20", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert sum("segment" in one["name"] for one in plan["passes"]) == 1
    assert plan["scratch"] >= 4 * 6 * 20 * 20
    assert [one["staged"] for one in plan["choices"]] == [True, False]


def test_the_steps_are_explained(folder: Path) -> None:
    for name, words in (("segment", "probability"), ("python", "function of your own")):
        done = cristae(folder, "stages", name)
        assert done.returncode == 0 and words in done.stdout
