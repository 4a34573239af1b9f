"""Seams: `docs/seams.md` and its picture: whether borders of tiles, blocks and chunks show, in cristae, in Nellie and in tiles by themselves.

    .venv/bin/python docs/seams.py --model-2d mito-2d.safetensors --model-3d mito-3d.safetensors

Images are simulated cells. What a network gives of the whole image at once is the truth of the first table; what each tool gives of the
whole image is the truth of its own curve. Nellie runs in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

import cristae.inference.blend as blend
from cristae.blocks.measure import ask
from cristae.blocks.stage import At, Stage
from cristae.evaluation.scores import evaluate
from cristae.evaluation.seams import Borders, Seam, border_mismatch, borders_of
from cristae.grid import BlockGrid, Box
from cristae.inference import segment
from cristae.inference.card import read_card
from cristae.inference.network import load_model
from cristae.inference.tiles import Tiling
from cristae.pipeline.execute import execute
from cristae.pipeline.inputs import Inputs
from cristae.pipeline.job import Settings
from cristae.pipeline.jobs import run_job
from cristae.pipeline.named import load_pipeline
from cristae.pipeline.picture import FAINT, GROUND, INK, PANEL, write_png
from cristae.simulation.cells import Scene
from cristae.simulation.exposure import cell_image
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "engine" / "cristae" / "inference" / "shipped"
PAGE = Path(__file__).with_name("seams.md")
PICTURE = Path(__file__).with_name("pictures") / "seams.png"
BLENDS = ("gaussian", "hann", "crop")
BLOCKS = {2: (200, 200), 3: (40, 200, 200)}
"""Whose borders are none of the tiles'."""

SEGMENT = "segment: {{model: {model}}}\n  - threshold: {{value: 0.5}}"
CLASSICAL = "ridge: {radius_um: {min: 0.15, max: 0.40, scales: 5}}\n  - threshold: {method: otsu, over: frame}"
COLOURS = {
    "cristae, segment": (64, 200, 150),
    "cristae, ridge": (90, 150, 255),
    "Nellie, low memory": (255, 170, 60),
    "Nellie, its filter alone": (190, 120, 230),
    "tiles by themselves": (240, 90, 110),
}
NELLIE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from _nellie import chunked, labels, stages, written
image, voxel_um, chunks, folder = Path(sys.argv[2]), json.loads(sys.argv[3]), json.loads(sys.argv[4]), Path(sys.argv[5])
for n, chunk in enumerate(chunks):
    (folder / str(n)).mkdir()
    stack = written(np.load(image), voxel_um, folder / str(n))
    chunked(stack, chunk)
    np.save(folder / f"{n}.npy", labels(stack))
    if chunk:
        stages(stack, "label")
        np.save(folder / f"{n}-filter.npy", labels(stack))
"""


@dataclass(frozen=True)
class Row:
    """One way to blend, on one image, against the network on the whole of it."""

    ndim: int
    blend: str
    tiles: Seam
    blocks: Seam
    tiles_whole: Seam  # the result of the whole image, at the same planes
    blocks_whole: Seam
    tile: tuple[int, ...]
    everywhere: float  # voxels on the other side of 0.5, as a part of all
    differing: float  # the same, as a part of the thresholded mask
    apart: float  # largest difference of a probability
    grid: float  # largest difference between blocks and no blocks


def cell(voxel_um: tuple[float, float, float], shape: tuple[int, ...]) -> np.ndarray:
    """Mitochondria of simulated cells; an image of the plane is the middle one of a stack."""
    deep = shape if len(shape) == 3 else (64, *shape)
    scene = Scene("cell-epi", deep, 1, voxel_um)
    box = Box.whole(deep) if len(shape) == 3 else Box((32, 0, 0), (33, *shape))
    at = At(box, (), BlockGrid(deep, deep))
    return np.asarray(cell_image(scene, "mito").apply(at=at, answers={})).reshape(shape)


def bare(model: str) -> Any:
    """The network on a tile that is normalised by itself; a whole image is such a tile too."""
    network, how = load_model(model), read_card(model)[0].normalise

    def probability(tile: np.ndarray) -> np.ndarray:
        low, high = 0.0, 1.0
        if how["how"] == "percentiles":
            low, high = np.percentile(tile, [how["low"], how["high"]], method="inverted_cdf").astype(float)
        elif how["how"] == "range":
            low, high = how["low"], how["high"]
        elif how["how"] == "standard":
            low = float(tile.mean(dtype=float))
            high = low + float(tile.std(dtype=float))
        scale = 1 / (high - low) if high > low else 0.0
        return network(((tile.astype(float) - low) * scale).astype(np.float32))[0]

    return probability


def in_blocks(stage: Stage, image: np.ndarray, block: Sequence[int]) -> np.ndarray:
    """The stage block by block, as a run does it, each block given what it reads and no more."""
    grid = BlockGrid(image.shape, tuple(block))
    answers = {name: ask(measure, image) for name, measure in stage.asks.items()}
    out = np.empty(image.shape, np.float32)
    for index, core in enumerate(grid):
        (read,) = (box.clip(image.shape) for box in stage.boxes(core, core))
        at = At(core, (read,), grid, index)
        out[core.slices] = stage.apply(image[read.slices], at=at, answers=answers)
    return out


def tile_borders(tiling: Tiling, shape: Sequence[int]) -> Borders:
    """Where what counts of a tile begins or ends, at least four voxels from the next such place."""
    found = {}
    for axis, tiles in enumerate(tiling.axes(tuple(shape))):
        edges = sorted({e for _, a, b in tiles for e in (a, b) if 0 < e < shape[axis]})
        kept = [e for n, e in enumerate(edges) if n == 0 or e - edges[n - 1] >= 4]
        if kept:
            found[axis] = tuple(kept)
    return found


def blended(model: str, image: np.ndarray) -> Iterator[Row]:
    """Every way to blend, against the network on the whole image."""
    card, _ = read_card(model)
    whole, block_borders = bare(model)(image), borders_of(image.shape, BLOCKS[image.ndim])
    for how in BLENDS:
        stage = segment(model=model, voxel_um=card.voxel_um, blend=how, dtype=image.dtype.name)
        found, blocks = stage(image), in_blocks(stage, image, BLOCKS[image.ndim])
        tiling = stage.apply.keywords["tiling"].fitted(image.shape)  # type: ignore[attr-defined]
        borders = tile_borders(tiling, image.shape)
        differs = (blocks > 0.5) != (whole > 0.5)
        yield Row(
            image.ndim,
            how,
            border_mismatch(found, borders),
            border_mismatch(blocks, block_borders),
            border_mismatch(whole, borders),
            border_mismatch(whole, block_borders),
            tiling.tile,
            float(differs.mean()),
            float(differs.sum() / max((whole > 0.5).sum(), 1)),
            float(np.abs(blocks - whole).max()),
            float(np.abs(blocks - found).max()),
        )


def ran(text: str, store: Path, folder: Path, block: Sequence[int]) -> np.ndarray:
    """The labels of a pipeline in blocks of this size, by the engine."""
    file = folder / "steps.yaml"
    file.write_text(f"output: {{name: mito}}\nsteps:\n  - {text}\n  - label: {{min_voxels: 20}}\n", encoding="utf-8")
    out = folder / "x".join(map(str, block))
    job = run_job(load_pipeline(str(file), []), [str(store)], str(out), Inputs())
    execute(job, Settings("none", block=tuple(block), pyramid=False), lambda event: None)
    (path,) = (out / "labels").glob("*.ome.zarr")
    volume = open_volume(path)
    return volume.read(Box.whole(volume.spatial_shape))


def stored(image: np.ndarray, voxel_um: tuple[float, ...], path: Path) -> Path:
    chunk = tuple(min(64, n) for n in image.shape)
    made = create_volume(
        path, axes="zyx", shape=image.shape, dtype=image.dtype.name, voxel_um=voxel_um, chunk=chunk, shard=chunk
    )
    made.write(Box.whole(image.shape), image)
    publish(made)
    return path


def by_themselves(model: str, image: np.ndarray, chunk: Sequence[int]) -> np.ndarray:
    """Each tile normalised, computed, thresholded and labelled by itself; no overlap, nothing joined."""
    network, out, ids = bare(model), np.zeros(image.shape, np.int64), 0
    for start in product(*(range(0, n, c) for n, c in zip(image.shape, chunk, strict=True))):
        at = tuple(slice(a, a + c) for a, c in zip(start, chunk, strict=True))
        found, many = ndimage.label(network(image[at]) > 0.5, np.ones((3,) * image.ndim))
        out[at] = np.where(found, found + ids, 0)
        ids += many
    return out


def by_nellie(
    python: Path, image: np.ndarray, voxel_um: Sequence[float], sizes: Sequence[Sequence[int]], folder: Path
) -> tuple[np.ndarray, dict[str, list[np.ndarray]]] | None:
    """Nellie's labels of the whole image, in its chunks, and with chunks in its filter alone; None where it is not installed."""
    if not python.exists():
        return None
    np.save(folder / "image.npy", image)
    voxels = [0, *(int(np.prod(s)) for s in sizes)]
    told = [str(ROOT / "benchmarks"), str(folder / "image.npy"), json.dumps(voxel_um), json.dumps(voxels), str(folder)]
    subprocess.run([str(python), "-c", NELLIE, *told], check=True, stdout=subprocess.DEVNULL)
    ways = {"Nellie, low memory": "", "Nellie, its filter alone": "-filter"}
    found = {way: [np.load(folder / f"{n + 1}{end}.npy") for n in range(len(sizes))] for way, end in ways.items()}
    return np.load(folder / "0.npy"), found


Curve = list[tuple[int, float, float, int]]
"""A point a size of chunk: its side, differing voxels of the mask as a part of it, adapted Rand error of the labels, objects."""


def curve(whole: np.ndarray, found: Sequence[np.ndarray], sides: Sequence[int]) -> Curve:
    points = [(max(whole.shape), 0.0, 0.0, len(np.unique(whole)) - 1)]
    for side, labels in zip(sides, found, strict=True):
        differing = float(((labels != 0) != (whole != 0)).sum() / max((whole != 0).sum(), 1))
        error = float(evaluate(labels.astype(np.uint32), whole.astype(np.uint32))["adapted_rand_error"])
        points.append((side, differing, error, len(np.unique(labels)) - 1))
    return points


def curves(model: str, image: np.ndarray, sides: Sequence[int], python: Path, folder: Path) -> Mapping[str, Curve]:
    """Every tool against its own result of the whole image."""
    voxel_um = read_card(model)[0].voxel_um
    sizes = [tuple(min(side, n) for n in image.shape) for side in sides]
    store = stored(image, voxel_um, folder / "cell.ome.zarr")
    found = {}
    for name, text in (
        ("cristae, segment", SEGMENT.format(model=str(Path(model).absolute()))),
        ("cristae, ridge", CLASSICAL),
    ):
        place = folder / name.replace(", ", "-")
        place.mkdir()
        several = [ran(text, store, place, size) for size in (image.shape, *sizes)]
        found[name] = curve(several[0], several[1:], sides)
    (folder / "nellie").mkdir()
    theirs = by_nellie(python, image, voxel_um, sizes, folder / "nellie")
    if theirs is not None:
        found |= {way: curve(theirs[0], several, sides) for way, several in theirs[1].items()}
    naive = partial(by_themselves, model, image)
    found["tiles by themselves"] = curve(naive(image.shape), [naive(s) for s in sizes], sides)
    return found


def drawn(found: Mapping[str, Curve]) -> np.ndarray:
    """Differing voxels against the side of a chunk, RGB."""
    width, height, left, top, right, below = 760, 440, 76, 44, 220, 56
    canvas = Image.new("RGB", (width, height), GROUND)
    pen, small = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    high = max(100 * p[1] for points in found.values() for p in points) * 1.1 or 1.0
    places = sorted({p[0] for points in found.values() for p in points})
    room_x, room_y = width - left - right, height - top - below
    pen.rectangle((left, top, left + room_x, top + room_y), PANEL)
    pen.text(
        (left, 10), "Mask voxels that differ from the tool's own whole-image result", INK, ImageFont.load_default(16)
    )

    def at(side: int, percent: float) -> tuple[float, float]:
        step = np.log2(side / places[0]) / np.log2(places[-1] / places[0])
        return left + 20 + float(step) * (room_x - 40), top + room_y - percent / high * room_y

    for side in places:
        said = str(side) if side < places[-1] else "whole"
        pen.text((at(side, 0)[0], top + room_y + 6), said, FAINT, small, anchor="ma")
    for n in range(5):
        percent = high * n / 4
        y = at(places[0], percent)[1]
        pen.line((left, y, left + room_x, y), (44, 46, 54))
        pen.text((left - 8, y), f"{percent:.1f} %", FAINT, small, anchor="rm")
    pen.text((left + room_x / 2, height - 8), "side of a chunk, voxels", FAINT, small, anchor="md")
    for n, (name, points) in enumerate(sorted(found.items(), key=lambda item: -item[1][-1][1])):
        line = [at(side, 100 * differing) for side, differing, _, _ in sorted(points)]
        pen.line(line, COLOURS[name], 3)
        for x, y in line:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), COLOURS[name])
        place = top + 38 + 24 * n
        pen.ellipse((left + room_x + 16, place - 5, left + room_x + 26, place + 5), COLOURS[name])
        pen.text((left + room_x + 34, place), name, INK, small, anchor="lm")
    return np.asarray(canvas)


def ratio(seam: Seam, whole: Seam) -> str:
    return f"{seam.ratio / whole.ratio:.4f} ({seam.ratio:.3f} / {whole.ratio:.3f})"


def blend_lines(rows: Sequence[Row]) -> Iterator[str]:
    for r in rows:
        yield (
            f"| {r.ndim}D | {r.blend} | {' x '.join(map(str, r.tile))} | {ratio(r.tiles, r.tiles_whole)} | "
            f"{ratio(r.blocks, r.blocks_whole)} | {100 * r.everywhere:.4f} | {100 * r.differing:.4f} | {r.apart:.1e} | {r.grid:g} |"
        )


def curve_lines(found: Mapping[str, Curve]) -> Iterator[str]:
    for name, points in found.items():
        for side, differing, error, objects in points[1:]:
            yield f"| {name} | {side} | {100 * differing:.3f} | {error:.4f} | {objects} of {points[0][3]} |"


def page(rows: Sequence[Row], found: Mapping[str, Curve], names: Sequence[str]) -> str:
    """The page."""
    nellie = "Nellie was not measured: it is not installed here ([benchmarks](../benchmarks/README.md#peers))."
    if "Nellie, low memory" in found:
        nellie = (
            "It is 1.0.4, `low_memory=True`, with `max_chunk_voxels` those of the chunk; the whole is its usual mode."
        )
    planes = ", ".join(str(max(1, 64 * side**2 // 512**2)) for side in (256, 128, 64))
    return f"""<!-- Written by docs/seams.py: run it again. -->
# Do the borders show?

An image that is computed in parts can show where the parts met: as steps in a probability, as objects cut in two, as a threshold that
changes from chunk to chunk. Here mitochondria of simulated cells (`cell-epi`) are segmented: a plane of 1024 x 1024 pixels, and 64 x 512
x 512 voxels.

## Tiles and blocks

The truth here is what the network says of the whole image in one piece. Models: {" and ".join(names)}.

| image | `blend` | tile | steps at tiles | steps at blocks | voxels that differ, % | of the mask, % | probability differs | blocks or none |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(blend_lines(rows))}

- **Steps**: the border mismatch ratio, the mean step of the probability across borders over that across planes half way between them. An
  image has steps of its own where structures happen to lie, so it is divided by the ratio of the whole image's result at the same planes
  (in brackets: both). 1 is: nothing to be seen.
- Blocks are {" and ".join(" x ".join(map(str, BLOCKS[n])) for n in (2, 3))}, whose borders are none of the tiles'. `blocks or none`: the
  largest difference between the result in blocks and the one without, 0 to the last bit.
- `voxels that differ`: on the other side of 0.5 than in the whole image, as a part of all voxels; `of the mask`: as a part of those
  above 0.5; `probability differs`: at most. Tiles are those that `segment` takes by itself. `crop` takes larger ones, since it needs
  room for what the network sees, and is the result of the whole image; a mean hides borders and is another answer.

## Chunks of any size

Each tool against its own result of the whole volume, 64 x 512 x 512. A chunk is at most so many voxels long on each axis.

![voxels that differ, by size of chunk](pictures/seams.png)

| tool | chunk | mask differs, % | adapted Rand error | objects, and of the whole |
|---|---|---|---|---|
{chr(10).join(curve_lines(found))}

- **cristae** finds what a chunk cannot know, a threshold or the brightness of the frame, before the chunk is computed, reads a halo
  around it, and joins objects across borders: `segment` and 0.5, or `ridge` and Otsu's threshold, then `label`.
- **Nellie** reads a halo too, and joins objects across chunks, but its filter finds a scale (`gamma`) and a mask in each chunk by itself,
  and its labels lose small objects and are smoothed slab by slab, of whole planes: {planes} for these sizes. {nellie}
  `its filter alone` has chunks in the filter, and labels in the usual mode. A million voxels are its own choice for a chunk.
- **Tiles by themselves**: each normalised by its own percentiles, computed by the same network, thresholded and labelled, with no
  overlap: a loop over files, say.

Made by one command: `.venv/bin/python docs/seams.py`; `--model-2d` and `--model-3d` name other models.
"""


def main() -> None:
    """Measure, write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    for n in ("2d", "3d"):
        parser.add_argument(f"--model-{n}", default=str(SHIPPED / f"mito-{n}.safetensors"))
    parser.add_argument("--nellie", type=Path, default=ROOT / ".venv" / "peers" / "nellie" / "bin" / "python")
    parser.add_argument("--small", action="store_true", help="a tiny version, printed and not written")
    options = parser.parse_args()
    blend.HELD.limit = 2 << 30  # blocks of five sizes look at the same tiles
    flat = (1024, 1024) if not options.small else (512, 512)
    deep = (64, 512, 512) if not options.small else (48, 224, 224)
    sides = (256, 128, 64) if not options.small else (64,)
    plane_um = read_card(options.model_2d)[0].voxel_um
    image = cell((0.2, *plane_um), flat)  # type: ignore[arg-type]
    rows = list(blended(options.model_2d, image))
    print(*blend_lines(rows), sep="\n", flush=True)
    volume = cell(read_card(options.model_3d)[0].voxel_um, deep)  # type: ignore[arg-type]
    with tempfile.TemporaryDirectory() as folder:
        found = curves(options.model_3d, volume, sides, options.nellie.absolute(), Path(folder))
    print(*curve_lines(found), sep="\n", flush=True)
    rows += blended(options.model_3d, volume)
    print(*blend_lines(rows[3:]), sep="\n", flush=True)
    if not options.small:
        names = [Path(p).name for p in (options.model_2d, options.model_3d)]
        PAGE.write_text(page(rows, found, names), encoding="utf-8")
        write_png(PICTURE, drawn(found))


if __name__ == "__main__":
    main()
