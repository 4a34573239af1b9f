"""Baselines: `docs/baselines.md`: classical methods on simulated tiles with an exact truth, and trained networks beside them.

    .venv/bin/python docs/baselines.py [DATA]                     the classical rows
    .venv/bin/python docs/baselines.py [DATA] --model FILE        adds a row for a network, or replaces it; the others stay

DATA is the folder with `physeg-sim`; by default CRISTAE_DATA, else ../shared/data beside the checkout. Every mask is what stages of
cristae make of a tile. Settings that are not a method's own were chosen on training tiles, never on those that are scored.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from cristae.blocks.measure import ask
from cristae.blocks.stage import Stage
from cristae.evaluation.overlap import Table, overlaps
from cristae.evaluation.scores import Kind, document, score
from cristae.filters import gaussian, gradient, ridge, threshold
from cristae.labels import flood, label
from cristae.pipeline.heat import heat
from cristae.pipeline.picture import write_png

PAGE = Path(__file__).with_name("baselines.md")
PICTURE = Path(__file__).with_name("pictures") / "baselines.png"
RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "baselines.json"
VOXEL_UM = (0.08, 0.08)
PIXEL, SIDE = VOXEL_UM[0], 256
EVERY = 5
"""Of the training tiles, each so many is used to choose settings."""
FIGURES = ("mIOU_fgbg", "dice", "iou_fg", "pixel_precision", "pixel_recall")
KIND = Kind(2, by_object=False)

Mask = Callable[[np.ndarray], np.ndarray]
Settings = dict[str, Any]
Facts = dict[str, Any]


def main() -> None:
    """Score, and write the results, the page and the picture."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", nargs="?", type=Path, default=None)
    words.add_argument("--model", action="append", default=[], help="a .safetensors file; may be given several times")
    given = words.parse_args()
    data = given.data or Path(os.environ.get("CRISTAE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    tiles = loaded(data / "physeg-sim" / "val.npz")
    before = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    if given.model:
        found = [network(path, tiles) for path in given.model]
        rows = [row for row in before if row["name"] not in {one["name"] for one in found}] + found
    else:
        some = loaded(data / "physeg-sim" / "train.npz")[::EVERY]
        rows = [*classical(tiles, some), *(row for row in before if row["kind"] == "network")]
    RESULTS.write_text(json.dumps({"tiles": len(tiles), "data": "physeg-sim/val.npz", "rows": rows}, indent=1) + "\n")
    PAGE.write_text(page(rows, len(tiles)))
    values = np.array([[row["mean"][name] for name in FIGURES] for row in rows], np.float64)  # None becomes NaN
    lines = (f"means over {len(tiles)} tiles",)
    write_png(PICTURE, heat(values, [row["name"] for row in rows], FIGURES, lines=lines))


Tiles = Sequence[tuple[np.ndarray, np.ndarray]]


def loaded(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Image and mask of every tile."""
    with np.load(path) as file:
        return [(image, mask > 0) for image, mask in zip(file["image"], file["mask"], strict=True)]


# -------------------------------------------------------------------------------------------------- the methods


def otsu() -> Mask:
    return threshold(voxel_um=VOXEL_UM, method="otsu", dtype="uint8")


def level(*, value: float, sigma_px: float = 0.0) -> Mask:
    return through(gaussian(sigma_px * PIXEL, voxel_um=VOXEL_UM), threshold(voxel_um=VOXEL_UM, value=value))


def adaptive(*, side_px: int, offset: float, sigma_px: float = 0.0, mean: str = "gaussian") -> Mask:
    """side_px : of the window; sigma_px : of a Gaussian before it."""
    local = threshold(
        voxel_um=VOXEL_UM, method="local", radius_um=side_px // 2 * PIXEL, mean=mean, offset=offset, dtype="float32"
    )
    return through(gaussian(sigma_px * PIXEL, voxel_um=VOXEL_UM), local)


def frangi(*, radii_px: Sequence[float], gamma: float | str, cut: str | float, min_voxels: int = 10) -> Mask:
    """Tubes, a threshold, and objects that are not too small. cut : "otsu", "triangle", or a value."""
    by: Settings = {"method": cut} if isinstance(cut, str) else {"value": cut}
    rest = through(threshold(voxel_um=VOXEL_UM, **by), label(voxel_um=VOXEL_UM, min_voxels=min_voxels))
    return lambda image: rest(tubes(image.tobytes(), tuple(radii_px), gamma))


@lru_cache(maxsize=128)  # cuts and sizes of the same tubes are tried one after the other
def tubes(pixels: bytes, radii_px: tuple[float, ...], gamma: float | str) -> np.ndarray:
    image = np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE)
    found: np.ndarray = ridge(voxel_um=VOXEL_UM, radius_um=[r * PIXEL for r in radii_px], gamma=gamma)(image)
    return found


def morphological(*, edges_px: float, tolerance: float, sigma_px: float = 0.0) -> Mask:
    """Basins of the gradient (or, with 0, of the image as it is), of which the bright ones are kept: those whose mean lies above Otsu's
    threshold of the image in which each basin shows its mean. Dams are ground."""
    smooth = gaussian(sigma_px * PIXEL, voxel_um=VOXEL_UM)
    edges = gradient(edges_px * PIXEL, voxel_um=VOXEL_UM) if edges_px else None
    basins = flood(voxel_um=VOXEL_UM, tolerance=tolerance)

    def mask(image: np.ndarray) -> np.ndarray:
        seen = smooth(image)
        found = basins(seen if edges is None else edges(seen))
        sums, many = (np.bincount(found.ravel(), w, found.max() + 1) for w in (image.ravel(), None))
        means = (sums / np.maximum(many, 1)).astype(np.float32)[found]
        kept: np.ndarray = threshold(voxel_um=VOXEL_UM, method="otsu")(means) & (found > 0)
        return kept

    return mask


def dams(*, tolerance: float) -> Mask:
    """The dams themselves, of the image as it is: the border image's way of seeing bright lines."""
    basins = flood(voxel_um=VOXEL_UM, tolerance=tolerance, dtype="uint8")
    return lambda image: basins(image) == 0


def through(*stages: Stage) -> Mask:
    def mask(image: np.ndarray) -> np.ndarray:
        for stage in stages:
            image = stage(image)
        return image != 0

    return mask


METHODS: Mapping[str, Callable[..., Mask]] = {
    "Otsu": otsu,
    "best level": level,
    "adaptive": adaptive,
    "Frangi and labels": frangi,
    "MorphoLibJ-style": morphological,
    "MorphoLibJ-style, dams": dams,
}

FIXED: Sequence[tuple[str, str, Settings, str]] = (
    ("Otsu", "Otsu", {}, "`threshold: {method: otsu}` of each tile"),
    (
        "adaptive, 51 px, 2",
        "adaptive",
        {"side_px": 51, "offset": 2.0},
        "a window of 51 pixels, Gaussian, 2 above the mean (OpenCV: C = -2)",
    ),
    (
        "Frangi and labels",
        "Frangi and labels",
        {"radii_px": (2.0, 3.0, 4.0), "gamma": "global", "cut": "otsu"},
        "`ridge` of radii 2, 3 and 4 pixels with `gamma: global`, Otsu, `label: {min_voxels: 10}`",
    ),
    (
        "MorphoLibJ-style, object",
        "MorphoLibJ-style",
        {"edges_px": 1.5, "tolerance": 10.0},
        "its defaults for an object image: gradient over 3 x 3, tolerance 10, connectivity 4; bright basins",
    ),
    (
        "MorphoLibJ-style, border",
        "MorphoLibJ-style",
        {"edges_px": 0.0, "tolerance": 10.0},
        "its defaults for a border image: no gradient; bright basins",
    ),
    (
        "MorphoLibJ-style, dams",
        "MorphoLibJ-style, dams",
        {"tolerance": 10.0},
        "the same, and the dams are what is found",
    ),
)
"""Name, method, its settings, and what they are: nothing was chosen by looking at a score."""

CHOSEN: Mapping[str, tuple[str, Mapping[str, Sequence[Any]]]] = {
    "best level": ("best level", {"value": tuple(range(16, 100, 4)), "sigma_px": (0.0, 1.0)}),
    "adaptive, chosen": (
        "adaptive",
        {"side_px": (21, 31, 51), "offset": (1.0, 1.5, 2.0, 3.0, 5.0, 10.0), "sigma_px": (0.0, 1.0, 1.5)},
    ),
    "Frangi and labels, chosen": (
        "Frangi and labels",
        {
            "radii_px": ((1.5, 2.5), (2.0, 3.0), (2.5, 3.5), (2.0, 3.0, 4.0)),
            "gamma": ("global", 10.0, 20.0, 40.0),
            "cut": ("otsu", "triangle", 0.05, 0.1),
            "min_voxels": (10, 40),
        },
    ),
    "MorphoLibJ-style, chosen": (
        "MorphoLibJ-style",
        {"edges_px": (0.0, 1.0, 1.5), "tolerance": (1.0, 2.0, 5.0, 10.0), "sigma_px": (1.0, 2.0, 3.0)},
    ),
}
"""Settings that were tried, of which the one with the largest mean of mIOU_fgbg over the training tiles is scored."""


def classical(tiles: Tiles, some: Tiles) -> Iterator[Facts]:
    """A row a method. some : the tiles on which settings are chosen."""
    for name, method, settings, what in FIXED:
        yield scored(name, METHODS[method](**settings), tiles) | {"kind": "fixed", "settings": settings, "what": what}
    for name, (method, tried) in CHOSEN.items():
        every = [dict(zip(tried, values, strict=True)) for values in product(*tried.values())]
        best = max(every, key=lambda settings: overall(METHODS[method](**settings), some))
        words = ", ".join(f"{key} {shown(value)}" for key, value in best.items())
        what = f"{words}: the best of {len(every)} on {len(some)} training tiles"
        yield scored(name, METHODS[method](**best), tiles) | {"kind": "chosen", "settings": best, "what": what}
        print(name, what, flush=True)


def network(path: str, tiles: Tiles) -> Facts:
    """The row of a model file: probability above 0.5, on pixels of the size that it was trained on."""
    from cristae.inference import segment
    from cristae.inference.card import read_card

    card, digest = read_card(path)
    voxel_um = tuple(card.voxel_um or VOXEL_UM)
    found = segment(model=path, voxel_um=voxel_um, dtype="uint8")
    mask = through(found, threshold(voxel_um=voxel_um, value=0.5))
    name = Path(path).stem
    what = f"`segment: {{model: {Path(path).name}}}`, `threshold: {{value: 0.5}}`"
    return scored(name, mask, tiles) | {"kind": "network", "settings": {"model_digest": digest}, "what": what}


# --------------------------------------------------------------------------------------------------- the scores


def table(mask: np.ndarray, truth: np.ndarray) -> Table:
    return Table.of(ask(overlaps(ndim=2), mask, truth).arrays)


def scored(name: str, mask: Mask, tiles: Tiles) -> Facts:
    """Means with their intervals, and pooled, as `cristae evaluate` gives them."""
    scores = [score(KIND, table(mask(image), truth), image=str(n), number=n) for n, (image, truth) in enumerate(tiles)]
    told = document(KIND, scores)
    return {
        "name": name,
        "mean": {figure: told["mean"][figure]["mean"] for figure in FIGURES},
        "interval": {figure: [told["mean"][figure][end] for end in ("low", "high")] for figure in FIGURES},
        "pooled": {figure: told["pooled"][figure] for figure in FIGURES},
    }


def overall(mask: Mask, tiles: Tiles) -> float:
    """Mean over tiles of the mean IoU of foreground and background."""
    return float(np.mean([KIND.of(score(KIND, table(mask(i), t)).counts)["mIOU_fgbg"] for i, t in tiles]))


def shown(value: Any) -> str:
    return " ".join(f"{v:g}" for v in value) if isinstance(value, tuple) else str(value)


def line(row: Facts) -> str:
    (low, high), (bad, good) = row["interval"]["mIOU_fgbg"], row["interval"]["dice"]
    mean, pooled = row["mean"], row["pooled"]
    cells = [f"{mean['mIOU_fgbg']:.3f} ({low:.3f} to {high:.3f})", f"{mean['dice']:.3f} ({bad:.3f} to {good:.3f})"]
    cells += ["-" if mean[name] is None else f"{mean[name]:.3f}" for name in ("pixel_precision", "pixel_recall")]
    cells += [f"{pooled['mIOU_fgbg']:.3f}", f"{pooled['dice']:.3f}"]
    return f"| {row['name']} | {' | '.join(cells)} |"


def page(rows: Sequence[Facts], many: int) -> str:
    """The page."""
    return f"""<!-- Written by docs/baselines.py: run it again. -->
# Classical methods on tiles with an exact truth

What does a network have to beat? {many} simulated tiles of mitochondria of the PhySeg study (256 x 256 pixels of 8 bits, from its validation
set; the truth is where emitters were) through stages of cristae, scored as [`cristae evaluate`](evaluation.md) scores: the mean of the IoU
of foreground and background, and F1 (Dice) of the foreground. **mean**: every tile weighs the same, with its 95 % interval over tiles.
**pooled**: the pixels of all tiles together.

| method | mean IoU | mean F1 | precision | recall | pooled IoU | pooled F1 |
|---|---|---|---|---|---|---|
{chr(10).join(line(row) for row in rows)}

![the same as colours](pictures/baselines.png)

How each was set:

{chr(10).join(f"- **{row['name']}**: {row['what']}." for row in rows)}

- A setting that had to be chosen was chosen on training tiles, by the mean IoU, and scored on the others once. "best level" is one value
  for all tiles.
- Published figures of these methods are of other tiles and unknown settings; compare only rows of this table.
- What the morphological segmentation gives are basins, not a foreground. Here those are kept whose mean intensity is above Otsu's threshold
  of the image in which every basin shows its mean; dams count as ground, which takes a pixel from every border. As a border image
  nearly nothing is found: bright objects on a dark ground are no borders between cells, and few basins are bright.
- Noise decides: the same adaptive threshold or level after a Gaussian of one pixel is another method. Where settings
  were chosen that was one of them, but for Frangi, whose tubes are smoothed anyway.
- Tiles are montages of four scenes, and the edges between them are real steps in brightness.

Made by `.venv/bin/python docs/baselines.py`; a network's row is added by `.venv/bin/python docs/baselines.py --model FILE`, where a
probability above 0.5 is foreground. All digits are in `benchmarks/results/baselines.json`.
"""


if __name__ == "__main__":
    main()
