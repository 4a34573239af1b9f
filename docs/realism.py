"""Realism: `docs/realism.md` and its picture: simulated images beside real ones, in figures.

    .venv/bin/python docs/realism.py [DATA]

DATA is the folder with `physeg-real` and `mitograph-test-3d`; by default CRISTAE_DATA, else ../shared/data beside the checkout.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cristae.filters.cuts import otsu_value
from cristae.grid import Box
from cristae.optics.microscope import presets as microscopes
from cristae.simulation.cells import Scene
from cristae.simulation.exposure import cell_image
from cristae.simulation.presets import presets
from cristae.simulation.tiles import Tiles, exposed
from cristae.store.volume import open_volume

PAGE = Path(__file__).with_name("realism.md")
PICTURE = Path(__file__).with_name("pictures") / "realism.jpg"
SIDE = 256
TILES = 8
BANDS = (0.0, 0.5, 1.0, 2.0, 4.0)  # cycles a um
REAL = {
    "physeg-epi1-mito": ("physeg-real", "*_mito.tif", 0.08),
    "sam-mito": ("physeg-real", "*_mito.tif", 0.08),
    "sam-mito-dense": ("physeg-real", "*_mito.tif", 0.08),
    "epi1-mito-hazy": ("physeg-real", "*_mito.tif", 0.08),
    "physeg-epi1-vesicle": ("physeg-real", "*_vesicle.tif", 0.08),
    "epi1-vesicle-hazy": ("physeg-real", "*_vesicle.tif", 0.08),
    "cell-epi": ("physeg-real", "*_mito.tif", 0.08),
    "cell-confocal": ("mitograph-test-3d", "*.tif", 0.0),
}


def main(data: Path) -> None:
    """Measure and write."""
    lines, pairs = [], []
    for name, (folder, pattern, pixel) in REAL.items():
        made, pixel_um = simulated(name)
        real = list(recorded(data / folder, pattern, pixel))
        lines += [
            row(f"{name}, simulated", made, pixel_um),
            row(f"{folder} {pattern}, real", [r for r, _ in real], real[0][1]),
        ]
        pairs.append(np.concatenate([shown(made[0]), shown(real[0][0])], axis=1))
    PAGE.write_text(page(lines))
    Image.fromarray(np.concatenate(pairs)).save(PICTURE, quality=85)


def simulated(name: str) -> tuple[list[np.ndarray], float]:
    """A few images of a preset, 256 pixels a side; of a cell the brightest along z."""
    if name in presets("cells"):
        scene = Scene(name, (48, 320, 320), 1)
        image = np.asarray(cell_image(scene, "mito")())
        return [image.max(axis=0)[32 : 32 + SIDE, 32 : 32 + SIDE]], scene.voxel_um[1]
    tiles = Tiles(name, 1)
    return [exposed(tiles, t)[:SIDE, :SIDE] for t in range(TILES)], tiles.pixel_um


def recorded(folder: Path, pattern: str, pixel_um: float) -> Iterator[tuple[np.ndarray, float]]:
    """Pieces of the real images; of a stack the brightest along z."""
    for path in sorted(folder.glob(pattern)):
        volume = open_volume(
            str(path), axes=None if pixel_um else "zyx", voxel_um=(pixel_um,) * 2 if pixel_um else (0.2, 0.056, 0.056)
        )
        array = volume.read(Box.whole(volume.spatial_shape))
        array = array.max(axis=0) if array.ndim == 3 else array
        start = [(n - min(n, SIDE)) // 2 for n in array.shape]
        yield array[start[0] : start[0] + SIDE, start[1] : start[1] + SIDE], volume.voxel_um[-1]


def row(called: str, images: Sequence[np.ndarray], pixel_um: float) -> str:
    """A line of figures, each the median over the images."""
    figures = np.median([figures_of(image.astype(np.float64), pixel_um) for image in images], axis=0)
    return f"| {called} | {len(images)} | {pixel_um:g} | " + " | ".join(f"{v:.2f}" for v in figures) + " |"


def figures_of(image: np.ndarray, pixel_um: float) -> list[float]:
    """SBR, foreground fraction, place of the quartiles between dark and bright, and where the power of the structure lies."""
    values, counts = np.unique(image, return_counts=True)
    cut = otsu_value(counts, values)
    ground, signal = image[image <= cut], image[image > cut]
    dark, bright = np.percentile(image, (1, 99.8))
    places = [(np.percentile(image, q) - dark) / (bright - dark) for q in (50, 75, 95)]
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    along = [np.fft.fftfreq(n, pixel_um) for n in image.shape]
    apart = np.hypot(along[0][:, None], along[1])
    whole = power[apart < BANDS[-1]].sum()
    bands = [power[(apart >= a) & (apart < b)].sum() / whole for a, b in pairwise(BANDS)]
    return [float(np.percentile(signal, 99) / np.median(ground)), float((image > cut).mean()), *places, *bands]


def shown(image: np.ndarray) -> np.ndarray:
    """(256, 256) as a viewer shows it."""
    low, high = np.percentile(image, (1, 99.8))
    grey = np.uint8(np.clip((image - low) / (high - low), 0, 1) * 255)
    square = np.zeros((SIDE, SIDE), np.uint8)
    square[: grey.shape[0], : grey.shape[1]] = grey
    return square


def page(lines: Sequence[str]) -> str:
    """The page."""
    return f"""<!-- Written by docs/realism.py: run it again. -->
# How real are the simulated images?

Simulated on the left, recorded on the right, each drawn from its 1st to its 99.8th percentile:
{", ".join(REAL)} from the top.

![simulated and real images side by side](pictures/realism.jpg)

SBR is the 99th percentile of what lies above Otsu's threshold over the median of what lies below. The quartiles are places between dark (1 %)
and bright (99.8 %). Bands are parts of the power below 4 cycles a micrometre. Each figure is the median over the images.

| images | number | pixel, um | SBR | above Otsu | 50 % | 75 % | 95 % | 0-0.5 /um | 0.5-1 | 1-2 | 2-4 |
|---|---|---|---|---|---|---|---|---|---|---|---|
{chr(10).join(lines)}

What differs, and why:

- **The published tiles are emptier than cells.** A PhySeg tile has one or two objects in each quarter, so that most of it is dark; a cell has
  hundreds. Less of a tile is above Otsu's threshold, and its power lies at higher frequencies. `sam-mito-dense` and the cells come nearer.
- **Real background is not flat.** Light from out of focus and from the medium lifts it unevenly; the published tiles have none. The presets
  with `hazy` in their names have that of objects deep below; the vesicles come nearer by it in brightness and in low frequencies.
  The cells have that of
  their own emitters within `deep_um` of a plane. Light from farther away belongs to the camera's `background`.
- **Grey values of the recorded images were scaled to 8 bits by their authors**, image by image, and some are clipped: their SBR is that of the
  scaled image, and not the microscope's.

## The presets

| tiles | what | microscope | pixel, nm | objects | density, 1/1000 nm2 | depth, nm |
|---|---|---|---|---|---|---|
{chr(10).join(tile_row(name, found) for name, found in presets("tiles").items())}

| cells | what | microscope | voxel, um | organelles |
|---|---|---|---|---|
{chr(10).join(cell_row(name, found) for name, found in presets("cells").items())}

| microscope | what | modality | NA | emission, um | sample / immersion |
|---|---|---|---|---|---|
{chr(10).join(scope_row(name, found) for name, found in microscopes().items())}

Made by one command: `.venv/bin/python docs/realism.py`.
"""


def tile_row(name: str, found: Any) -> str:
    batches = found["batches"]
    objects = f"{min(b['objects'][0] for b in batches)}-{max(b['objects'][1] for b in batches) - 1} a crop"
    density = ", ".join(sorted({f"{b['density']:g}" for b in batches}))
    depth = f"{min(b['z_nm'][0] for b in batches)}-{max(b['z_nm'][1] for b in batches)}"
    return (
        f"| {name} | {found['about']} | {found['microscope']} | {found['pixel_nm']} | {objects} | {density} | {depth} |"
    )


def cell_row(name: str, found: Any) -> str:
    size = " x ".join(f"{v:g}" for v in found["voxel_um"])
    return f"| {name} | {found['about']} | {found['microscope']} | {size} | {', '.join(found['organelles'])} |"


def scope_row(name: str, found: Any) -> str:
    return (
        f"| {name} | {found['about']} | {found['modality']} | {found['na']} | {found['emission_um']} | "
        f"{found['n_sample']} / {found.get('n_immersion', 1.515)} |"
    )


if __name__ == "__main__":
    named = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("CRISTAE_DATA")
    main(Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data")
