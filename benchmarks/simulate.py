"""Simulate: what does a simulated cell cost, does a voxel stay as cheap in a large one, and what a tile, beside adding up emitters?"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from _engine import UP, cluster_up
from measuring import Question, Target, Tool, Turn, ask

FEW = 200
"""Emitters whose own PSFs are computed, to see the error."""
PRESET, TILES = "cell-epi", "physeg-epi1-mito"


def prepare(folder: Path, sizes: Mapping[str, Any]) -> None:
    """Nothing: a simulation starts from a seed."""


def rendered(turn: Turn, job: Callable[[str], Any], workers: int) -> dict[str, Any]:
    """A job to its end on worker processes that are up; bytes that one of them held at most."""
    from cristae.pipeline.execute import execute
    from cristae.pipeline.job import Settings

    peaks = [0]

    def listen(event: Mapping[str, Any]) -> None:
        peaks.append(int(event.get("peak", 0)))

    with cluster_up(workers, tiny) as cluster:
        address = Settings(cluster=cluster.scheduler_address, pyramid=False)
        with turn.clock():
            execute(job(str(turn.folder / "made.ome.zarr")), address, listen)
    return {"worker_mb": max(peaks) / 2**20}


TURN: list[Path] = []


def tiny(name: str) -> Any:
    from cristae.pipeline.simulating import cell_job
    from cristae.simulation.cells import Scene

    return cell_job(Scene(PRESET, (16, 64, 64), 1), str(TURN[0] / f"{name}.ome.zarr"))


def cell(turn: Turn, size: str, workers: int) -> dict[str, Any]:
    """A cell of three channels with labels, runs and tables."""
    from cristae.pipeline.simulating import cell_job
    from cristae.simulation.cells import Scene

    shape = tuple(turn.sizes[size])
    TURN[:] = [turn.folder]
    found = rendered(turn, lambda out: cell_job(Scene(PRESET, shape, 1), out), workers)
    shutil.rmtree(turn.folder / "made.ome.zarr")
    voxels = 3 * prod(shape)
    spent = {f"{kind}_ns_per_voxel": 1e9 * turn.figures[f"{kind}_s"] / voxels for kind in ("cpu", "wall")}
    return {**found, **spent}


def tiles(turn: Turn) -> dict[str, Any]:
    """Training tiles with their truth, written."""
    from cristae.pipeline.simulating import tiles_job
    from cristae.simulation.tiles import Tiles

    count = int(turn.sizes["tiles"])
    TURN[:] = [turn.folder]
    found = rendered(turn, lambda out: tiles_job(Tiles(TILES, 1), count, out), 2)
    made = Tiles(TILES, 1)
    rate = count / turn.figures["wall_s"]
    return {**found, "tiles_per_s": rate, "crops_per_s": rate * made.facts["montage"] ** 2}


def layered(turn: Turn) -> dict[str, Any]:
    """The noise-free image of a crop by layers."""
    from cristae.simulation import tiles as t
    from cristae.simulation.layers import imaged

    scene, emitters = some_emitters()
    through = t.optics(scene)
    imaged(emitters, np.ones(len(emitters)), through, 128)
    calls = int(turn.sizes["calls"])
    with turn.clock():
        for _ in range(calls):
            imaged(emitters, np.ones(len(emitters)), through, 128)
    few = emitters[:: -(-len(emitters) // FEW)]
    found, expected = imaged(few, np.ones(len(few)), through, 128)[0], summed(few, scene)
    error = float(np.abs(found - expected).max() / expected.max())
    return {"cpu_s_per_image": turn.figures["cpu_s"] / calls, "error": error}


def direct(turn: Turn) -> dict[str, Any]:
    """The same, every emitter's PSF added up: values at pixel centres, from a table of depths and radii that is there before."""
    from cristae.optics.microscope import microscope
    from cristae.optics.psf import focus_um, profile
    from cristae.optics.radial import radii, sampling

    scene, emitters = some_emitters()
    scope, pixel = microscope(scene.facts["microscope"]), scene.pixel_um
    stage = np.array([focus_um(scope, scene.facts["focus_um"][0])])
    step, count = sampling(scope.cutoff, 128 * pixel * 1.5)
    along = radii(step, count)
    depths = np.unique(np.round(emitters[:, 0], 2))
    table = {float(depth): profile(scope, along, stage, float(depth))[0] for depth in depths}
    centres = (np.arange(128) + 0.5) * pixel
    out = np.zeros((128, 128))
    with turn.clock():
        for depth, y, x in emitters:
            out += np.interp(np.hypot((centres - y)[:, None], centres - x), along, table[float(np.round(depth, 2))])
    return {"cpu_s_per_image": turn.figures["cpu_s"]}


def some_emitters() -> tuple[Any, np.ndarray]:
    from cristae.simulation.tiles import Tiles, scene

    tiles = Tiles(TILES, 1)
    return tiles, np.concatenate([o.emitters for o in scene(tiles, 0, 0)])


def summed(emitters: np.ndarray, tiles: Any) -> np.ndarray:
    """(128, 128) each emitter at its own depth, averaged over each pixel at 4 x 4 places."""
    from cristae.optics.microscope import microscope
    from cristae.optics.psf import focus_um, profile
    from cristae.optics.radial import radii, sampling

    scope, pixel = microscope(tiles.facts["microscope"]), tiles.pixel_um
    stage = np.array([focus_um(scope, tiles.facts["focus_um"][0])])
    step, count = sampling(scope.cutoff, 128 * pixel * 1.5)
    along, inside = radii(step / 4, 4 * count), np.polynomial.legendre.leggauss(4)
    places = ((np.arange(128) + 0.5)[:, None] + 0.5 * inside[0]).ravel() * pixel
    weight = np.tile(inside[1] / 2, 128)
    out = np.zeros((128, 128))
    for depth, y, x in emitters:
        lit = profile(scope, along, stage, float(depth))[0]
        fine = np.interp(np.hypot((places - y)[:, None], places - x), along, lit) * weight[:, None] * weight
        out += fine.reshape(128, 4, 128, 4).sum(axis=(1, 3)) * pixel**2
    return out


OURS = ("cristae", "dask", "distributed", "numpy", "scipy")
SMALL, MIDDLE, LARGE, ONE = "cell, 16 Mvoxel", "cell, 64 Mvoxel", "cell, 256 Mvoxel", "cell, 64 Mvoxel, one worker"

QUESTION = Question(
    "simulate",
    "A simulated cell of three channels with labels, instance runs and tables, on two worker processes; training tiles; one crop",
    full={
        "small": (64, 512, 512),
        "middle": (64, 1024, 1024),
        "large": (64, 2048, 2048),
        "tiles": 100,
        "calls": 20,
    },
    small={"small": (16, 128, 128), "middle": (16, 128, 256), "large": (16, 256, 256), "tiles": 4, "calls": 2},
    prepare=prepare,
    tools=(
        Tool(SMALL, partial(cell, size="small", workers=2), packages=OURS),
        Tool(MIDDLE, partial(cell, size="middle", workers=2), packages=OURS),
        Tool(ONE, partial(cell, size="middle", workers=1), packages=OURS),
        Tool(LARGE, partial(cell, size="large", workers=2), packages=OURS, runs=1),
        Tool("tiles", tiles, packages=OURS),
        Tool("crop, layers", layered, packages=OURS),
        Tool("crop, direct sum", direct, packages=OURS, runs=1),
    ),
    targets=(
        Target("wall_s", ONE, (MIDDLE,), at_least=1.6),
        Target("cpu_ns_per_voxel", LARGE, (SMALL,), at_most=1.2),
        Target("worker_mb", LARGE, (SMALL,), at_most=1.1),
        Target("tiles_per_s", "tiles", at_least=20),
        Target("crops_per_s", "tiles", at_least=20),
        Target("cpu_s_per_image", "crop, direct sum", ("crop, layers",), at_least=100),
        Target("error", "crop, layers", at_most=0.01),
    ),
    notes=f"{UP}. A tile is a montage of 2 x 2 crops of 128 x 128 pixels, as the paper trains on; a crop is what its simulator makes at once. "
    "The direct sum takes point values from a table, as the published simulator does; the error is to a sum at 4 x 4 places in each pixel.",
    repeat=5,
)

if __name__ == "__main__":
    ask(QUESTION)
