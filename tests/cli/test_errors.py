"""Whatever a person can do wrong is answered with one sentence and the right exit code, never with a traceback."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

CALL = "from cristae_cli.main import main; main()"
PIPELINE = "steps:\n  - gaussian: {sigma_um: 0.1}\n  - threshold: {method: otsu}\n  - label\n  - measure: [shape]\n"
SIZE = ("--axes", "zyx", "--voxel-um", "0.3,0.1,0.1")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "100", "NO_COLOR": "1"}


def cristae(folder: Path, *words: str, first: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with `folder` as its working folder. first : done there before it begins."""
    return subprocess.run(
        [sys.executable, "-c", CALL, *words],
        cwd=folder, capture_output=True, text=True, env=environment(), timeout=120, check=False, preexec_fn=first,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two good files, and everything that can be wrong with one."""
    here = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    cell = rng.integers(0, 900, (6, 20, 20)).astype(np.uint16)
    tifffile.imwrite(here / "cell.tif", cell)
    np.save(here / "mask.npy", cell > 500)
    np.save(here / "float.npy", cell.astype(np.float32))
    spoiled = cell.astype(np.float32)
    spoiled[2, 3, 4] = np.nan
    np.save(here / "nan.npy", spoiled)
    np.save(here / "five.npy", np.zeros((2, 2, 3, 8, 8), np.uint8))
    np.save(here / "complex.npy", np.zeros((3, 8, 8), np.complex64))
    np.save(here / "empty.npy", np.zeros((0, 8, 8), np.uint8))
    np.save(here / "text.npy", np.array([["a", "b"], ["c", "d"]]))
    np.save(here / "negative.npy", -cell.astype(np.int32))
    np.save(here / "small-labels.npy", (cell > 500).astype(np.uint8))
    np.save(here / "small.npy", np.ones((1, 1, 1), np.uint8))
    cristae(here, "convert", "cell.tif", "cell.ome.zarr", *SIZE)
    (here / "text.tif").write_text("Dear reader, I am no image.\n")
    (here / "none.tif").touch()
    (here / "torn.tif").write_bytes((here / "cell.tif").read_bytes()[:300])
    (here / "torn.npy").write_bytes((here / "mask.npy").read_bytes()[:200])
    (here / "a-file").write_text("not a folder")
    (here / "notes.docx").write_text("?")
    (here / "folder").mkdir()
    (here / "good.yaml").write_text(PIPELINE)
    (here / "unknown.yaml").write_text(PIPELINE.replace("gaussian", "gausian"))
    (here / "misspelt.yaml").write_text(PIPELINE.replace("sigma_um", "sigma_mu"))
    (here / "key.yaml").write_text("step:" + PIPELINE[6:])
    (here / "broken.yaml").write_text("steps: [\n")
    (here / "text.yaml").write_text("just words\n")
    (here / "nothing.yaml").write_text("")
    (here / "negative.yaml").write_text(PIPELINE.replace("0.1", "-0.1"))
    return here


TALK = re.compile(r"warning: |\w+: .* blocks to do$")
"""What a run may say before it meets a mistake."""

RUN = ("run", "good.yaml")
BAD: dict[str, tuple[int, tuple[str, ...], str]] = {
    "a file that is not there": (3, ("info", "gone.tif"), "gone.tif"),
    "a model that is not there": (3, ("segment", "cell.ome.zarr", "--model", "gone", "--out", "o"), "no model gone"),
    "no model": (2, ("segment", "cell.ome.zarr", "--out", "o"), "--model"),
    "a pipeline that is not there": (3, ("run", "gone.yaml", "cell.tif", "--out", "o", *SIZE), "gone.yaml"),
    "text called an image": (3, ("info", "text.tif"), "text.tif"),
    "an empty file": (3, ("info", "none.tif"), "none.tif"),
    "half an image": (3, ("info", "torn.tif", *SIZE), "torn.tif"),
    "half an array": (3, ("label", "torn.npy", "o1", *SIZE), "torn.npy"),
    "a format nobody reads": (3, ("info", "notes.docx"), "notes.docx"),
    "an empty folder": (3, ("info", "folder"), "folder"),
    "five axes without a name": (3, ("convert", "five.npy", "new.ome.zarr"), "--axes"),
    "no voxel size": (3, ("info", "mask.npy", "--axes", "zyx"), "--voxel-um"),
    "axes that do not fit": (3, ("info", "mask.npy", "--axes", "tzyx"), "--axes"),
    "an axis twice": (3, ("info", "mask.npy", "--axes", "zzx"), "--axes"),
    "complex numbers": (3, ("info", "complex.npy", *SIZE), "complex"),
    "no voxel at all": (3, ("info", "empty.npy", *SIZE), "no voxels"),
    "a negative voxel size": (3, ("info", "mask.npy", "--axes", "zyx", "--voxel-um", "0.3,-0.1,0.1"), "-0.1"),
    "a voxel size of zero": (3, ("info", "mask.npy", "--axes", "zyx", "--voxel-um", "0.3,0,0.1"), "0"),
    "a voxel size that is no number": (3, ("info", "mask.npy", "--axes", "zyx", "--voxel-um", "nan,0.1,0.1"), "nan"),
    "a voxel size in words": (2, ("info", "mask.npy", "--voxel-um", "small"), "--voxel-um small"),
    "too few voxel sizes": (3, ("info", "mask.npy", "--axes", "zyx", "--voxel-um", "0.1,0.1"), "--voxel-um"),
    "a float image to label": (3, ("label", "float.npy", "o2", *SIZE), "threshold it first"),
    "a voxel that is no number": (3, (*RUN, "nan.npy", "--out", "o3", *SIZE), "NaN"),
    "a file in place of a folder": (3, (*RUN, "cell.tif", "--out", "a-file", *SIZE), "a-file"),
    "a folder inside a file": (3, ("convert", "cell.tif", "a-file/deep.ome.zarr", *SIZE), "a-file"),
    "an input that cannot hold results": (3, (*RUN, "cell.tif", *SIZE), "--out"),
    "an unknown step": (3, ("run", "unknown.yaml", "cell.tif", "--out", "o4", *SIZE), "gaussian"),
    "a misspelt parameter": (3, ("run", "misspelt.yaml", "cell.tif", "--out", "o4", *SIZE), "sigma_um"),
    "a misspelt key": (3, ("run", "key.yaml", "cell.tif", "--out", "o4", *SIZE), "steps"),
    "broken YAML": (3, ("run", "broken.yaml", "cell.tif", "--out", "o4", *SIZE), "broken.yaml"),
    "a pipeline of words": (3, ("run", "text.yaml", "cell.tif", "--out", "o4", *SIZE), "text.yaml"),
    "an empty pipeline": (3, ("run", "nothing.yaml", "cell.tif", "--out", "o4", *SIZE), "nothing.yaml"),
    "a parameter out of range": (3, ("run", "negative.yaml", "cell.tif", "--out", "o4", *SIZE), "sigma_um"),
    "no input": (3, (*RUN, "--out", "o4"), "input"),
    "an unknown channel": (3, (*RUN, "cell.tif", "--out", "o4", "--channel", "TMRM", *SIZE), "TMRM"),
    "time beyond the end": (3, (*RUN, "cell.tif", "--out", "o4", "--time", "3:9", *SIZE), "--time"),
    "time in words": (2, (*RUN, "cell.tif", "--out", "o4", "--time", "all", *SIZE), "--time all"),
    "a block of nothing": (2, (*RUN, "cell.tif", "--out", "o4", "--block", "0,4,4", *SIZE), "--block"),
    "a block of words": (2, (*RUN, "cell.tif", "--out", "o4", "--block", "big", *SIZE), "--block big"),
    "a block with too few numbers": (2, ("label", "mask.npy", "o5", "--block", "4,4", *SIZE), "--block"),
    "a chunk with too few numbers": (2, ("convert", "cell.tif", "o5.zarr", "--chunk", "4,4", *SIZE), "--chunk"),
    "a shard that is no whole number of chunks": (
        2,
        ("convert", "cell.tif", "o5.zarr", "--chunk", "4,4,4", "--shard", "6,8,8", *SIZE),
        "--shard",
    ),
    "time backwards": (2, (*RUN, "cell.tif", "--out", "o4", "--time", "2:1", *SIZE), "--time 2:1"),
    "a path of no letters": (2, ("info", ""), "empty"),
    "letters instead of numbers": (3, ("info", "text.npy"), "text.npy"),
    "a negative label": (3, ("measure", "negative.npy", "--out", "negative/t.csv", *SIZE), "negative.npy"),
    "a label of another shape": (3, ("label", "small.npy", "cell.ome.zarr/labels/small", *SIZE), "1 x 1 x 1"),
    "a store in the name of a file": (3, ("label", "mask.npy", "mask.tif", *SIZE), "mask.ome.zarr"),
    "an output that is the input": (3, ("convert", "cell.ome.zarr", "cell.ome.zarr", "--fresh"), "cell.ome.zarr"),
    "an output inside the input": (3, (*RUN, "cell.ome.zarr", "--out", "cell.ome.zarr/r"), "cell.ome.zarr"),
    "a column of every table is none too many": (
        3,
        ("measure", "mask.npy", "--out", "t.csv", "--columns", "label,foo", *SIZE),
        "'foo'",
    ),
    "memory in words": (2, (*RUN, "cell.tif", "--out", "o4", "--memory", "lots", *SIZE), "--memory lots"),
    "memory of two points": (2, (*RUN, "cell.tif", "--out", "o4", "--memory", "1.2.3GiB", *SIZE), "--memory"),
    "too little memory": (3, (*RUN, "cell.tif", "--out", "o4", "--memory", "1MiB", *SIZE), "--memory"),
    "an unknown cluster": (2, (*RUN, "cell.tif", "--out", "o4", "--cluster", "moon", *SIZE), "--cluster moon"),
    "an unknown device": (2, (*RUN, "cell.tif", "--out", "o4", "--device", "tpu", *SIZE), "--device tpu"),
    "a setting that leads nowhere": (2, (*RUN, "cell.tif", "--out", "o4", "--set", "blur.sigma=1", *SIZE), "--set"),
    "an unknown column": (3, ("measure", "mask.npy", "--out", "t.csv", "--columns", "volum", *SIZE), "volume"),
    "intensity without an image": (
        3,
        ("measure", "mask.npy", "--out", "t.csv", "--columns", "intensity", *SIZE),
        "--image",
    ),
    "a table of no known kind": (3, ("measure", "mask.npy", "--out", "t.xls", *SIZE), ".parquet"),
    "connectivity of four": (3, ("label", "mask.npy", "o5", "--connectivity", "4", *SIZE), "connectivity 4"),
    "a size below nothing": (3, ("label", "mask.npy", "o5", "--min-voxels", "-1", *SIZE), "-1"),
    "a status of nothing": (3, ("status", "folder"), "folder"),
    "an audit of nothing": (3, ("audit", "gone"), "gone"),
    "a step that is none": (3, ("stages", "gausian"), "gaussian"),
    "a command that is none": (2, ("ruin",), "run"),
    "an option that is none": (2, ("info", "cell.tif", "--jsn"), "--json"),
    "a word too few": (2, ("convert", "cell.tif"), "dst"),
    "a truth of another shape": (3, ("evaluate", "mask.npy", "small.npy", *SIZE), "6 x 20 x 20"),
    "a truth that is not there": (3, ("evaluate", "mask.npy", "gone.npy", *SIZE), "gone.npy"),
    "an image called a prediction": (3, ("evaluate", "float.npy", "mask.npy", *SIZE), "threshold it first"),
    "a truth with a negative label": (
        3,
        ("evaluate", "small-labels.npy", "negative.npy", *SIZE),
        "the truth has a label -",
    ),
    "scores of no known kind": (3, ("evaluate", "mask.npy", "mask.npy", "--out", "s.txt", *SIZE), ".json or .csv"),
    "a threshold in words": (
        2,
        ("evaluate", "mask.npy", "mask.npy", "--threshold-iou", "half", *SIZE),
        "--threshold-iou half",
    ),
    "a threshold beyond 1": (
        3,
        ("evaluate", "mask.npy", "mask.npy", "--threshold-iou", "50", *SIZE),
        "--threshold-iou 50",
    ),
    "a picture of no known kind": (3, ("evaluate", "mask.npy", "mask.npy", "--picture", "d.jpg", *SIZE), ".png"),
    "fewer voxels than none": (3, ("evaluate", "mask.npy", "mask.npy", "--min-voxels", "-3", *SIZE), "-3"),
    "recall of masks by a column": (3, ("evaluate", "mask.npy", "mask.npy", "--by", "radius_um", *SIZE), "is a mask"),
    "workers elsewhere without a place": (
        2,
        ("evaluate", "mask.npy", "mask.npy", "--cluster", "tcp://x:1", *SIZE),
        "--out",
    ),
    "a number in words": (2, ("label", "mask.npy", "o5", "--min-voxels", "few"), "--min-voxels"),
}


FOUND_AT_WORK = ("a voxel that is no number", "a negative label")
"""Mistakes that only the voxels show: the run has begun, and the same command goes on once they are mended."""


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_one_sentence_and_an_exit_code(folder: Path, mistake: str) -> None:
    code, words, said = BAD[mistake]
    before = sorted(folder.iterdir())
    done = cristae(folder, *words)
    lines = [line for line in done.stderr.splitlines() if not TALK.match(line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("cristae: ")
    assert said in lines[0]
    assert ".;" not in lines[0]
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.returncode == code, lines[0]
    assert (folder / "a-file").read_text() == "not a folder"
    left = [p.name for p in sorted(folder.iterdir()) if p not in before]
    if mistake not in FOUND_AT_WORK:
        assert not left, f"a refused command left {left}"


def test_what_is_right_goes_to_stdout_and_the_talk_to_stderr(folder: Path) -> None:
    done = cristae(folder, *RUN, "cell.tif", "--out", "fine", *SIZE)
    assert done.returncode == 0, done.stderr
    printed = [Path(line) for line in done.stdout.splitlines()]
    assert printed
    assert all(p.exists() for p in printed)
    assert not [line for line in done.stderr.splitlines() if line.startswith("cristae:")]
    again = cristae(folder, *RUN, "cell.tif", "--out", "fine", *SIZE)
    assert again.returncode == 0
    assert again.stdout == done.stdout
    assert "nothing to do" in again.stderr


def test_an_image_made_again_leaves_its_labels(folder: Path) -> None:
    for words in (("convert", "cell.tif", "again.ome.zarr"), ("label", "mask.npy", "again.ome.zarr/labels/foo")):
        assert cristae(folder, *words, *SIZE).returncode == 0
    done = cristae(folder, "convert", "cell.tif", "again.ome.zarr", *SIZE, "--fresh")
    assert done.returncode == 0
    assert "warning: labels of" in done.stderr
    assert cristae(folder, "info", "again.ome.zarr/labels/foo").returncode == 0
    assert cristae(folder, "audit", "again.ome.zarr").returncode == 0


def test_a_run_that_ended_says_why(folder: Path) -> None:
    assert cristae(folder, *RUN, "nan.npy", "--out", "why", *SIZE).returncode == 3
    done = cristae(folder, "status", "why")
    assert "stopped: " in done.stdout
    assert "nan.npy holds NaN" in done.stdout


def test_chunks_are_those_that_were_asked_for(folder: Path) -> None:
    assert cristae(folder, "convert", "cell.tif", "odd.ome.zarr", *SIZE, "--chunk", "5,7,9").returncode == 0
    shown = cristae(folder, "info", "odd.ome.zarr").stdout
    assert "5 x 7 x 9" in shown


def mortal() -> None:
    """From the next program on, root may write no more than the modes of files allow."""
    drop_from_bounding_set, override_modes = 24, 1  # prctl(2), capabilities(7): PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(drop_from_bounding_set, override_modes, 0, 0, 0) == 0


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="elsewhere root may write everywhere")
def test_a_folder_nobody_may_write_to_is_said(folder: Path) -> None:
    (folder / "locked").mkdir(mode=0o500)
    done = cristae(folder, *RUN, "cell.tif", "--out", "locked/deep", *SIZE, first=mortal)
    assert done.returncode in (1, 3)
    assert done.stderr.count("\n") == 1
    assert "locked" in done.stderr


FILLED = """
import os
from cristae.store import durable
def full(handle):
    raise OSError(28, "No space left on device")
durable.os.fsync = full
from cristae_cli.main import main
main()
"""


def test_a_full_disk_is_said_and_can_be_resumed(folder: Path) -> None:
    words = ("convert", "cell.tif", "full.ome.zarr", *SIZE, "--cluster", "none")
    done = subprocess.run(
        [sys.executable, "-c", FILLED, *words],
        cwd=folder, capture_output=True, text=True, env=environment(), timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("cristae: ")]
    assert len(sentences) == 1
    assert "Traceback" not in done.stderr
    assert "space" in sentences[0] or "full" in sentences[0]
    assert cristae(folder, *words).returncode == 0


SLEEPS = """
import time
import cristae_cli.main as module
def asleep(**_):
    print("ready", flush=True)
    time.sleep(60)
module.app = asleep
module.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)])
def test_a_stop_is_said_in_one_sentence(number: signal.Signals, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == code
    assert said == "cristae: stopped; the same command goes on where this one left off\n"


def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CALL, "stages"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    said = process.stderr.read()
    process.wait(timeout=60)
    assert "Traceback" not in said
    assert "Exception ignored" not in said


@pytest.mark.parametrize(
    ("words", "check"),
    [
        (("info", "mask.npy", *SIZE, "--json"), lambda text: __import__("json").loads(text)["axes"] == "zyx"),
        (("stages",), lambda text: "gaussian" in text),
        (("stages", "ridge", "--schema"), lambda text: "radius_um" in str(__import__("json").loads(text))),
        (
            ("plan", "good.yaml", "cell.tif", "--out", "planned", *SIZE, "--json"),
            lambda text: __import__("json").loads(text),
        ),
    ],
    ids=lambda x: x[0] if isinstance(x, tuple) else "",
)
def test_data_is_data(folder: Path, words: tuple[str, ...], check: Callable[[str], bool]) -> None:
    done = cristae(folder, *words)
    assert done.returncode == 0, done.stderr
    assert check(done.stdout)
    assert not (folder / "planned").exists()


@pytest.mark.parametrize("said", ["z=0.3,x=0.1", "z=0.3", "y=0.1,z=7", "x=0.1,x=0.2", "y=0.1"])
def test_a_size_that_is_not_given_is_not_guessed(said: str) -> None:
    from cristae.errors import UsageError
    from cristae_cli.options import voxel_um

    with pytest.raises(UsageError, match="is not a size in um along z, y and x"):
        voxel_um(said)
    assert voxel_um("x=0.1,y=0.2") == (0.2, 0.1)
    assert voxel_um("x=0.1,z=0.3,y=0.2") == (0.3, 0.2, 0.1)
