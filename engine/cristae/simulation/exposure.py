"""Exposure: what the microscope shows of a scene, and what is really there, as stages without input.

    patch    a part of the image that is always computed as one, 64 x 256 x 256 voxels from a corner that all blocks share

Blocks look into the patches they meet, so a voxel's light does not depend on the block grid, down to the last bit. The noise of a voxel
depends on its place alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage, no_input
from cristae.draws import fold, stream
from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box, no_halo
from cristae.optics.microscope import Microscope, microscope
from cristae.optics.psf import DEEPEST_UM
from cristae.simulation.camera import Camera, expose
from cristae.simulation.cells import Scene, Thing
from cristae.simulation.layers import imaged
from cristae.simulation.solid import painted, runs
from cristae.simulation.transfer import SPACING_UM, Transfer, framed, transfer

Floats = NDArray[np.float64]
PATCH = (64, 256, 256)


def cell_image(scene: Scene, organelle: str) -> Stage:
    """One channel: the counts a camera gives of one kind of organelle, uint8 or uint16."""
    camera = camera_of(scene)
    high = scene.shape[0] * scene.voxel_um[0]
    if scene.voxel_um[1] != scene.voxel_um[2]:
        raise InvalidConfiguration(f"pixels of a camera are square, got voxel_um {scene.voxel_um}; give y and x alike")
    if not scope_of(scene, organelle).matched and high > DEEPEST_UM:
        raise InvalidConfiguration(
            f"{scene.name} is {high:g} um high, and light from more than {DEEPEST_UM:g} um deep cannot be computed where the "
            "indices of sample and immersion differ; give a shape with fewer planes, or a preset under water"
        )
    # A patch and its optics: measured in fresh processes on the shipped presets.
    fixed = (170 if scope_of(scene, organelle).matched else 340) * 2.0**20
    return _stage("simulate_image", scene, organelle, _counts, camera.dtype, Cost(6.0, 400.0, fixed))


def cell_truth(scene: Scene, organelle: str) -> Stage:
    """Labels of one kind of organelle, uint32: voxels whose centre lies inside; where objects overlap, the smaller id."""
    return _stage("simulate_truth", scene, organelle, _labels, "uint32", Cost(1.0, 20.0, 40 * 2.0**20))


def cell_runs(scene: Scene, organelle: str) -> Measure:
    """Every object's own voxels, overlaps kept: the parts are rows of voxels, the answer how many voxels each object has."""
    facts_of(scene, organelle)
    return Measure(
        "cell_runs",
        params_of(scene, organelle),
        partial(_runs, scene=scene, organelle=organelle),
        _together,
        None,
        no_halo(3),
        cost=Cost(bytes_per_voxel=4.0, ns_per_voxel=20.0),
        keeps_parts=True,
    )


def _runs(*arrays: Any, at: At, answers: Mapping[str, Answer], scene: Scene, organelle: str) -> Partial:
    rows = runs(scene, scene.meeting(organelle, *scene.um(at.core)), at.core)
    counted = _together([{"id": rows["label"], "voxels": rows["length"].astype(np.int64)}])
    return {**counted, **rows}


def _together(partials: Sequence[Partial]) -> Partial:
    empty = [np.empty(0, np.uint32)], [np.empty(0, np.int64)]
    ids, where = np.unique(np.concatenate([*empty[0], *(p["id"] for p in partials)]), return_inverse=True)
    voxels = np.zeros(len(ids), np.int64)
    np.add.at(voxels, where, np.concatenate([*empty[1], *(p["voxels"] for p in partials)]))
    return {"id": ids, "voxels": voxels}


def _stage(name: str, scene: Scene, organelle: str, apply: Any, dtype: str, cost: Cost) -> Stage:
    facts_of(scene, organelle)
    return Stage(
        name,
        params_of(scene, organelle),
        partial(apply, scene=scene, organelle=organelle),
        halo=(),
        output=partial(Spec, scene.shape, dtype, scene.voxel_um),
        cost=cost,
        reads=no_input,
    )


def params_of(scene: Scene, organelle: str) -> dict[str, Any]:
    """What a result depends on."""
    return {
        "preset": scene.name,
        "organelle": organelle,
        "shape": scene.shape,
        "voxel_um": scene.voxel_um,
        "seed": scene.seed,
        "contacts": scene.contacts,
        "crossings": scene.crossings,
        "psf": None if scene.bead is None else scene.bead.digest,
        "light": (scene.frame_s, scene.on_s, scene.off_s, scene.bleach_s),
        "facts": repr(scene.facts),
    }


def facts_of(scene: Scene, organelle: str) -> Mapping[str, Any]:
    """What the preset says of an organelle.

    Raises
    ------
    InvalidConfiguration : if it has none of that name.
    """
    if organelle not in scene.organelles:
        raise InvalidConfiguration(f"{scene.name} has no {organelle}; it has {', '.join(scene.organelles)}")
    return scene.organelles[organelle]


@lru_cache(maxsize=8)
def camera_of(scene: Scene) -> Camera:
    return Camera(**scene.facts["camera"])


@lru_cache(maxsize=16)
def scope_of(scene: Scene, organelle: str) -> Microscope:
    """The microscope, set to the colour of an organelle."""
    own = {"emission_um": facts_of(scene, organelle)["emission_um"], **scene.facts.get("optics", {})}
    found = microscope(scene.facts["microscope"], **own)
    return found if scene.bead is None else replace(found, model="measured", bead=scene.bead)


def _counts(*, at: At, answers: Mapping[str, Answer], scene: Scene, organelle: str) -> NDArray[Any]:
    key = fold(scene.seed, scene.name, "noise", organelle, at.t)
    chip = fold(scene.seed, scene.name, "camera")
    found: NDArray[Any] = expose(
        photons(scene, organelle, at.out, at.t), camera_of(scene), at.out, scene.shape, key, chip
    )
    return found


def _labels(*, at: At, answers: Mapping[str, Answer], scene: Scene, organelle: str) -> NDArray[np.uint32]:
    return painted(scene, scene.meeting(organelle, *scene.um(at.out)), at.out)


def photons(scene: Scene, organelle: str, box: Box, t: int = 0) -> NDArray[np.float32]:
    """The noise-free light of a box in a frame: photons expected in each voxel."""
    grid = BlockGrid(scene.shape, tuple(map(min, PATCH, scene.shape)))
    out = np.empty(box.shape, np.float32)
    for index in grid.meeting(box):
        core = grid.core(index)
        shared = core.intersect(box)
        out[shared.within(box)] = patch(scene, organelle, index, 0 if scene.steady else t)[shared.within(core)]
    return out


@lru_cache(maxsize=2)
def patch(scene: Scene, organelle: str, index: int, t: int = 0) -> NDArray[np.float32]:
    """The light of a whole patch in a frame, from all emitters that it can see."""
    grid = BlockGrid(scene.shape, tuple(map(min, PATCH, scene.shape)))
    core = grid.core(index)
    size = np.array(scene.voxel_um)
    reach, deep = float(scene.facts["reach_um"]), float(scene.facts["deep_um"])
    low, high = scene.um(core)
    around = np.array([deep, reach, reach])
    out = np.zeros(core.shape, np.float32)
    things = list(scene.meeting(organelle, low - around, high + around))
    if not things:
        return out
    through, corner, away = _optics(scene, organelle, core)
    origin = np.array([away, low[1] - corner * size[1], low[2] - corner * size[2]])  # of the frame
    lit = [_lit(scene, organelle, thing, t, low - around, high + around, origin) for thing in things]
    points, light = (np.concatenate(some) for some in zip(*lit, strict=True))
    del lit
    side = max(core.shape[1:]) + corner
    shown = imaged(points, light, through, side, spacing_um=_spacing(scene))
    np.maximum(shown[:, corner : corner + core.shape[1], corner : corner + core.shape[2]], 0, out=out)
    return out


def _lit(
    scene: Scene, organelle: str, thing: Thing, t: int, low: Floats, high: Floats, origin: Floats
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Places, counted from an origin, and photons of an object's emitters between two corners."""
    points = emitters_of(scene, organelle, thing)
    near = ((points >= low) & (points < high)).all(axis=1)
    photons = float(facts_of(scene, organelle)["photons"])
    # Single numbers place an emitter to 10 pm, and a patch may hold millions.
    places = (points[near] - origin).astype(np.float32)
    if scene.steady:
        return places, np.full(len(places), photons, np.float32)
    name = scene.seed, scene.name, "light", organelle, thing.id
    return places, scene.kinetics(photons).photons(len(points), t, *name)[near].astype(np.float32)


def emitters_of(scene: Scene, organelle: str, thing: Thing) -> Floats:
    """(n, 3) the emitters of an object."""
    facts = facts_of(scene, organelle)
    rng = stream(scene.seed, scene.name, "emitters", organelle, thing.id)
    return thing.shape.emitters(rng, float(facts["density"]), facts["labelling"])


def _spacing(scene: Scene) -> float:
    """Between layers: at most SPACING_UM, and a whole number to a plane."""
    return scene.voxel_um[0] / ceil(scene.voxel_um[0] / SPACING_UM - 1e-9)


def _optics(scene: Scene, organelle: str, core: Box) -> tuple[Transfer, int, float]:
    """The optics of a patch, pixels between the frame's corner and the patch's, and what depths are counted from."""
    scope = scope_of(scene, organelle)
    size, depth = scene.voxel_um, core.shape[0]
    first = 0.0 if not scope.matched else core.start[0] * size[0]
    reach, deep = float(scene.facts["reach_um"]), float(scene.facts["deep_um"])
    corner = ceil(reach / min(size[1:]))
    pixels = max(core.shape[1:]) + 2 * corner
    alike = replace(scope, about="", voxel_um=None)  # what it is called and usually set to changes no light
    through = _transfer(
        alike, size, scene.shape[0] * size[0], (reach, deep), _spacing(scene), pixels, first, core.start[0], depth
    )
    return through, corner, first


@lru_cache(maxsize=8)
def _transfer(
    scope: Microscope,
    voxel_um: tuple[float, float, float],
    high_um: float,
    reaches_um: tuple[float, float],
    spacing_um: float,
    pixels: int,
    first: float,
    start: int,
    depth: int,
) -> Transfer:
    """Optics that all scenes of one microscope, size and voxel share. reaches_um : in the plane, and along the axis."""
    dz, (reach, deep) = voxel_um[0], reaches_um
    planes = tuple((start + n + 0.5) * dz - first for n in range(depth))
    low, high = planes[0] - deep, planes[-1] + deep
    if not scope.matched:
        low, high = max(low, 0.0), min(high, high_um)
    return transfer(
        scope,
        framed(scope, _good(pixels), voxel_um[1]),
        planes,
        (low, high),
        reach_um=reach,
        deep_um=deep,
        spacing_um=spacing_um,
    )


def _good(n: int) -> int:
    """A size near n that transforms fast."""
    from scipy.fft import next_fast_len

    return int(next_fast_len(n, real=True))
