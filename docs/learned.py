"""Learned: `docs/learned.md` and its pictures: the models that come with cristae on real images, beside Otsu's threshold and Frangi's filter.

    .venv/bin/python docs/learned.py DATA

DATA holds physeg-real and mitograph-test-3d. No truth is known of these images: the page shows, counts, and says what one sees.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from cristae.grid import Box
from cristae.store.volume import open_volume

PAGE = Path(__file__).with_name("learned.md")
PICTURES = Path(__file__).with_name("pictures")
CRISTAE = Path(sys.executable).with_name("cristae")
OTSU = "output: {name: mito}\nsteps:\n  - threshold: {method: otsu}\n  - label: {min_diameter_um: 0.3}\n  - measure: [shape]\n"
FRANGI = (
    "output: {name: mito}\nsteps:\n  - ridge: {method: frangi, radius_um: {min: 0.15, max: 0.40, scales: 5}}\n  - threshold: {method: otsu}\n"
    "  - label: {min_diameter_um: 0.3}\n  - measure: [shape]\n"
)
IMAGES = (
    ("physeg-real/normal_025_z05_mito.tif", "mito-2d", (100, 0, 448)),
    ("physeg-real/hypoxia_001_z08_mito.tif", "mito-2d", (400, 300, 448)),
    ("physeg-real/hypoxia-adm_015_z03_mito.tif", "mito-2d", (300, 300, 448)),
    ("physeg-real/normal_025_z05_vesicle.tif", "vesicle-2d", (150, 200, 448)),
    ("physeg-real/hypoxia_001_z08_vesicle.tif", "vesicle-2d", (300, 300, 448)),
    ("mitograph-test-3d/MitoGraphTest001.tif", "mito-3d", (0, 0, 192)),
    ("mitograph-test-3d/BuddingYeastGlucose01.tif", "mito-3d", (0, 0, 200)),
    ("mitograph-test-3d/BuddingYeastGlucose03.tif", "mito-3d", (0, 0, 200)),
)
PUBLISHED = {"BuddingYeastGlucose01.tif": (4.24, 3.29), "BuddingYeastGlucose03.tif": (2.04, 1.13)}
"""Volume in um3 by voxels and by length that MitoGraph's authors give."""
RED = (255, 60, 60)


def main() -> None:
    """Segment, count, draw."""
    data = Path(sys.argv[1])
    rows, strips = [], {"2d": [], "3d": []}
    with tempfile.TemporaryDirectory() as folder:
        for n, (name, model, place) in enumerate(IMAGES):
            image = data / name
            shown, panels = brightest(image), []
            panels.append(framed(shown, None, place, model))
            figures = []
            for way, steps in (("otsu", OTSU), ("frangi", FRANGI), (model, None)):
                labels, found = objects(image, steps, model, Path(folder) / f"{n}-{way}")
                panels.append(framed(shown, labels, place, model))
                size = "volume_um3" if "volume_um3" in found.columns else "area_um2"
                figures.append(f"{found.height} ({found[size].sum():.1f})")
            kind = "3d" if model == "mito-3d" else "2d"
            strips[kind].append(np.concatenate(panels, axis=1))
            rows.append(f"| {Path(name).name} | {model} | {' | '.join(figures)} |")
    for kind, several in strips.items():
        sheet = Image.fromarray(np.concatenate(several))
        sheet = sheet.resize((sheet.width * 3 // 4, sheet.height * 3 // 4), Image.Resampling.LANCZOS)
        sheet.save(PICTURES / f"learned-{kind}.jpg", quality=80)
    PAGE.write_text(page(rows))


def objects(image: Path, steps: str | None, model: str, out: Path) -> tuple[np.ndarray, pl.DataFrame]:
    """Labels and table of one way."""
    words = [
        "segment",
        str(image),
        "--model",
        model,
        "--name",
        "mito",
        "--min-diameter-um",
        smallest(model),
        "--measure",
        "shape",
    ]
    if steps is not None:
        out.mkdir(parents=True)
        (out / "steps.yaml").write_text(steps.replace("0.3}", smallest(model) + "}"))
        words = ["run", str(out / "steps.yaml"), str(image)]
    subprocess.run([CRISTAE, *words, "--out", str(out / "found"), "--cluster", "none"], check=True, capture_output=True)
    (store,) = (out / "found" / "labels").iterdir()
    volume = open_volume(store)
    labels = volume.read(Box.whole(volume.spatial_shape))
    return labels, pl.read_parquet(out / "found" / "objects.parquet")


def smallest(model: str) -> str:
    """Of objects, um."""
    return "0.15" if model == "vesicle-2d" else "0.3"


def brightest(image: Path) -> np.ndarray:
    volume = open_volume(image)
    voxels = volume.read(Box.whole(volume.spatial_shape)).astype(np.float64)
    return voxels.max(axis=0) if voxels.ndim == 3 else voxels


def framed(image: np.ndarray, labels: np.ndarray | None, place: tuple[int, int, int], model: str) -> np.ndarray:
    """A part of an image, 0 to 255, with the outlines of what was found."""
    y, x, side = place
    low, high = np.percentile(image, [1, 99.8])
    gain = 3.0 if model == "vesicle-2d" else 1.0
    grey = np.clip((image - low) / (high - low) * gain, 0, 1) ** 0.7 * 255
    out = np.repeat(grey[..., None], 3, axis=2)
    if labels is not None:
        flat = labels.max(axis=0) if labels.ndim == 3 else labels
        out[outline(flat)] = RED
    part = out[y : y + side, x : x + side]
    zoom = max(1, 400 // side)
    part = np.repeat(np.repeat(part, zoom, 0), zoom, 1)[:400, :400]
    room = [(0, 400 - n) for n in part.shape[:2]]
    return np.pad(part, [*room, (0, 0)]).astype(np.uint8)


def outline(labels: np.ndarray) -> np.ndarray:
    """Pixels of an object that touch another or the ground."""
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis) != 0
        for side in (slice(None, -1), slice(1, None)):
            where = [slice(None)] * 2
            where[axis] = side
            edge[tuple(where)] |= differs
    return edge & (labels != 0)


def page(rows: list[str]) -> str:
    return "\n".join(
        [
            "# Networks on real images",
            "",
            "Made by `python docs/learned.py DATA`. The models were trained on simulated scenes alone, and have seen none of these images.",
            "**Of none of them is a truth known**: what follows is to be looked at, and counted. From left to right: the image (of stacks",
            "the brightest voxel along z), Otsu's threshold, Frangi's filter with Otsu's threshold (the pipeline",
            "`mitochondria`), the model.",
            "Mitochondria below 0.3 um, and vesicles below 0.15 um, are dropped everywhere.",
            "",
            "![plane](pictures/learned-2d.jpg)",
            "",
            "![stack](pictures/learned-3d.jpg)",
            "",
            "Objects, and in brackets their area in um2 or volume in um3 together:",
            "",
            "| image | model | Otsu | Frangi + Otsu | model |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "What one sees:",
            "",
            "- Widefield mitochondria (H9c2 cells, Sekh et al. 2021): Otsu takes the glow around the nucleus for one large object. Frangi's",
            "  filter finds the tubes, and the rims of the glow. The network follows tubes into the glow and leaves out what is out of focus;",
            "  where tubes lie on top of each other it marks one thick object.",
            "- Vesicles beside cells that are far out of focus: Otsu finds the cells. The network finds dots at a tenth of their brightness;",
            "  very dim ones are a matter of `--above`.",
            "- Yeast, spinning disk: " + yeast(),
            "",
        ]
    )


def yeast() -> str:
    told = "; ".join(
        f"{name.removesuffix('.tif')} {voxels:g} um3 by voxels, {length:g} by length and width"
        for name, (voxels, length) in PUBLISHED.items()
    )
    return (
        "every tube that one sees is found. Tubes that cross in the projection are parted where the network doubts, which is "
        "not always where a biologist would. The published figures of MitoGraph, one tool's output and no truth, are "
        f"{told}; thresholds differ most in how thick they make a tube that is as thin as the microscope's blur."
    )


if __name__ == "__main__":
    main()
