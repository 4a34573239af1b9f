"""Fields: what does a batch of small images cost beyond its bare kernels and its files?"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _inputs import tubes
from measuring import Question, Target, Tool, Turn, ask

SIDE = 256
PIXEL_UM = (0.065, 0.065)
RADII = {"min": 0.2, "max": 0.5, "scales": 3}
LEAST = 10  # voxels of an object
STEPS = f"""\
output: {{name: mito}}
steps:
  - ridge: {{radius_um: {{min: {RADII["min"]}, max: {RADII["max"]}, scales: {RADII["scales"]}}}}}
  - threshold: {{method: otsu, of: positive}}
  - label: {{min_voxels: {LEAST}}}
  - measure: [shape, intensity]
"""


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    import tifffile

    (folder / "p.yaml").write_text(STEPS, encoding="utf-8")
    for name, fields in (("fields", sizes["fields"]), ("few", sizes["few"])):
        (folder / name).mkdir()
        rows = []
        for n in range(fields):
            path = f"{name}/f{n:04d}.tif"
            tifffile.imwrite(folder / path, tubes((9, SIDE, SIDE), 12, seed=n).max(axis=0))
            rows.append({"path": path, "image": f"f{n:04d}", "condition": "ab"[n % 2]})
        with open(folder / f"{name}.csv", "w", newline="", encoding="utf-8") as sheet:
            out = csv.DictWriter(sheet, list(rows[0]))
            out.writeheader()
            out.writerows(rows)


def command(turn: Turn) -> Mapping[str, Any]:
    """The command as it is typed: labels, tables, a picture of each field, journal and checksums."""

    def run(name: str) -> Path:
        words = ["run", str(turn.inputs / "p.yaml"), str(turn.inputs / f"{name}.csv"), "--out", str(turn.folder / name)]
        given = ["--voxel-um", ",".join(map(str, PIXEL_UM)), "--no-pyramid"]
        start = "import sys; from cristae_cli.main import main; sys.argv[0] = 'cristae'; main()"
        subprocess.run([sys.executable, "-c", start, *words, *given], check=True, stdout=subprocess.DEVNULL)
        return turn.folder / name / "objects.parquet"

    return both(turn, run)


def script(pictures: bool) -> Callable[[Turn], Mapping[str, Any]]:
    """The same kernels called in a loop, each field read, its labels stored, and one table."""

    def tool(turn: Turn) -> Mapping[str, Any]:
        def run(name: str) -> Path:
            start = "import sys; sys.path.insert(0, sys.argv[1]); import fields; fields.bare(*sys.argv[2:])"
            out = turn.folder / name
            out.mkdir()
            words = [str(Path(__file__).parent), str(turn.inputs / name), str(out), "pictures" * pictures]
            subprocess.run([sys.executable, "-c", start, *words], check=True, stdout=subprocess.DEVNULL)
            return out / "objects.parquet"

        return both(turn, run)

    return tool


def both(turn: Turn, run: Callable[[str], Path]) -> Mapping[str, Any]:
    """A batch of a few fields, then one of many: what a field more costs is the difference."""
    import polars

    with turn.clock("few"):
        run("few")
    with turn.clock():
        table = run("fields")
    more = turn.sizes["fields"] - turn.sizes["few"]
    figures = turn.figures
    a_field = {f"a_field_{k}": (figures[k] - figures[f"few_{k}"]) / more for k in ("wall_s", "cpu_s")}
    return {"objects": polars.read_parquet(table).height, **a_field}


def bare(source: str, out: str, pictures: str) -> None:
    """What somebody writes who has the kernels and no engine."""
    import pyarrow
    import tifffile
    import zarr
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    from cristae.blocks.stage import At
    from cristae.filters import ridge, threshold
    from cristae.labels import label
    from cristae.morphology.columns import finish_rows
    from cristae.morphology.intensity import intensity

    ridges = ridge(RADII, voxel_um=PIXEL_UM)
    bright = threshold(method="otsu", of="positive", voxel_um=PIXEL_UM, dtype="float32")
    labelled = label(voxel_um=PIXEL_UM, min_voxels=LEAST)
    measured = intensity(voxel_um=PIXEL_UM, dtype="uint16", shape=True)
    tables = []
    for path in sorted(Path(source).glob("*.tif")):
        image = tifffile.imread(path)
        labels = np.asarray(labelled(bright(ridges(image))))
        zarr.save_array(str(Path(out) / f"{path.stem}.zarr"), labels)
        rows = measured.partial(labels, image, at=At.whole(labels.shape, 2), answers={})["rows"]
        columns = {"image": np.full(len(rows), path.stem, dtype=object)}
        for group in ("shape", "intensity"):
            columns |= finish_rows(group, rows, voxel_um=PIXEL_UM, shape=labels.shape)
        tables.append(pyarrow.table(columns))
        if pictures:
            drawn(image, labels, path.stem, Path(out))
    table = pyarrow.concat_tables(tables)
    parquet.write_table(table, Path(out) / "objects.parquet")
    arrow_csv.write_csv(table, Path(out) / "objects.csv")


def drawn(image: np.ndarray, labels: np.ndarray, name: str, out: Path) -> None:
    """The picture that the command leaves of each field."""
    from cristae.grid import Box
    from cristae.pipeline.overview import SMALL
    from cristae.pipeline.picture import compose, write_png
    from cristae.pipeline.projection import finish_projections, pixel_step, project_block

    seen = project_block(image, labels, Box.whole(image.shape), pixel_step(image.shape))
    frames = finish_projections(seen, voxel_um=PIXEL_UM)
    lines = ["mito: outlines of the labels", f"{SIDE} x {SIDE} voxels"]
    write_png(out / f"{name}.png", compose(frames, title=name, lines=lines, magnified=1, smallest=SMALL))


OURS = ("cristae", "zarr", "numba", "pillow", "pyarrow", "tifffile", "dask")
BARE, DRAWN = "bare kernels, no pictures", "bare kernels, the same files"

QUESTION = Question(
    "fields",
    "Ridge, Otsu, label, measure on 96 fields of 256 x 256, TIFF to labels and table, as one command",
    full={"fields": 96, "few": 4},
    small={"fields": 6, "few": 2},
    prepare=prepare,
    tools=(
        Tool("cristae run", command, packages=OURS),
        Tool(BARE, script(pictures=False), packages=OURS),
        Tool(DRAWN, script(pictures=True), packages=OURS),
    ),
    targets=(
        Target("a_field_wall_s", "cristae run", (DRAWN,), at_most=1.5),
        Target("wall_s", "cristae run", (DRAWN,), at_most=1.5),
        Target("cpu_s", "cristae run", (DRAWN,)),
        Target("a_field_wall_s", "cristae run", (BARE,)),
        Target("wall_s", "cristae run", (BARE,)),
        Target("cpu_s", "cristae run", (BARE,)),
    ),
    agree={"objects": 0},
    notes=(
        "Each tool is a process that starts, does all fields and ends; `a field` is what one more costs, of 96 beside 4. "
        "cristae takes `--cluster auto` (threads), keeps a journal and checksums what it writes; the scripts call the same "
        "kernels in a loop on one thread, write labels and tables, and one of them also the pictures."
    ),
)

if __name__ == "__main__":
    ask(QUESTION)
