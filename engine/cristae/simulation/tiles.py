"""Tiles: small simulated images for training, each with its truth. Tile t of a seed is the same whoever asks for it, and when.

crop     one scene: a few organelles under the microscope, its brightest pixel scaled to what the preset says
tile     a montage of crops, each a scene of its own; its noise is drawn over the whole
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost, Spec, Stage, no_input
from cristae.draws import fold, stream
from cristae.errors import InvalidConfiguration
from cristae.grid import Box, no_halo
from cristae.optics.microscope import microscope
from cristae.simulation import physeg
from cristae.simulation.camera import Camera, expose
from cristae.simulation.crops import NM, Organelle, organelle, organelles, published
from cristae.simulation.kinetics import Kinetics
from cristae.simulation.layers import imaged
from cristae.simulation.presets import Preset, preset, presets
from cristae.simulation.shapes import Tube
from cristae.simulation.solid import shadow
from cristae.simulation.transfer import SPACING_UM, Transfer, framed, transfer
from cristae.simulation.truth import RULES, by_image, flat, hit

Floats = NDArray[np.float64]
DEEP_SPACING_UM = 0.25
"""Between layers far out of focus, where a PSF hardly changes."""
ROOM = 64
"""Pixels around a crop into which light may fall before it would come in on the other side."""


@dataclass(frozen=True)
class Tiles:
    """Which tiles: a preset, a seed, the rule of the truth, and whether the published simulator's defects are wanted."""

    name: str
    seed: int = 1
    rule: str = "emitters"
    compat: bool = False

    def __post_init__(self) -> None:
        found = preset("tiles", self.name)
        if self.seed < 0:
            raise InvalidConfiguration(f"the seed is {self.seed}, but must be 0 or more")
        if self.rule not in RULES:
            raise InvalidConfiguration(f"there is no rule {self.rule!r} for the truth; it is one of {', '.join(RULES)}")
        if self.compat and "compat" not in found:
            raise InvalidConfiguration(
                f"{self.name} is no preset of the published simulator, which has {', '.join(_published())}; leave --physeg-compat out"
            )
        if self.compat and self.rule == "solid":
            raise InvalidConfiguration("the published simulator has no solid truth; leave --physeg-compat out")

    @property
    def facts(self) -> Preset:
        return preset("tiles", self.name)

    @property
    def side(self) -> int:
        """Pixels along a tile."""
        return int(self.facts["side"] * self.facts["montage"])

    @property
    def pixel_um(self) -> float:
        of = self.facts["compat"] if self.compat else self.facts
        return float(of["pixel_nm"]) * NM

    @property
    def spec(self) -> Spec:
        return Spec((self.side, self.side), "uint8", (self.pixel_um,) * 2, (0, 255))


def _published() -> list[str]:
    return [name for name, facts in presets("tiles").items() if "compat" in facts]


def tile(tiles: Tiles) -> Stage:
    """The noisy image of tile t, at time point t: a stage that reads nothing and returns (y, x) uint8 counts."""
    return _stage("simulate_tile", tiles, _image, tiles.spec)


def tile_truth(tiles: Tiles) -> Stage:
    """The labels of tile t: (y, x) uint32, ids from 1 crop by crop; where objects overlap, the one with the greater z."""
    return _stage("simulate_truth", tiles, _truth, replace(tiles.spec, dtype="uint32", values=None))


def tile_objects(tiles: Tiles) -> Measure:
    """The truth table of a tile, found where its labels are made: a row an object, by label."""
    return Measure(
        "tile_objects",
        {"preset": tiles.name, "seed": tiles.seed, "compat": tiles.compat, "facts": repr(tiles.facts)},
        partial(_objects, tiles=tiles),
        _by_label,
        None,
        no_halo(2),
        cost=Cost(0.0, 10.0),
    )


LENGTHS = ("radius_um", "length_um", "volume_um3", "area_um2", "middle_z_um", "middle_y_um", "middle_x_um")
COLUMNS: Mapping[str, str] = {"crop": "int32", **dict.fromkeys(LENGTHS, "float64"), "emitters": "int64"}
"""Of a tile's table, beside the label, with their types."""
KINDS = {"label": "uint32", **COLUMNS}


def _objects(*arrays: Any, at: At, answers: Mapping[str, Answer], tiles: Tiles) -> Partial:
    found = [] if any(at.core.start) else rows(tiles, at.t)  # of a tile in several blocks the first one tells
    return {name: np.array([row[name] for row in found], kind) for name, kind in KINDS.items()}


def _by_label(partials: Sequence[Partial]) -> Partial:
    whole = {name: np.concatenate([np.empty(0, kind), *(p[name] for p in partials)]) for name, kind in KINDS.items()}
    order = np.argsort(whole["label"], kind="stable")
    return {name: column[order] for name, column in whole.items()}


def _stage(name: str, tiles: Tiles, apply: Any, spec: Spec) -> Stage:
    params = {"preset": tiles.name, "seed": tiles.seed, "compat": tiles.compat, "facts": repr(tiles.facts)}
    if name == "simulate_truth":
        params["rule"] = tiles.rule
    return Stage(
        name,
        params,
        partial(apply, tiles=tiles),
        halo=(),
        output=partial(Spec, spec.shape, spec.dtype, spec.voxel_um, spec.values),
        cost=Cost(20.0, 800.0, 100 * 2.0**20),
        reads=no_input,
    )


def _image(*, at: At, answers: Mapping[str, Answer], tiles: Tiles) -> NDArray[np.uint8]:
    whole = exposed(tiles, at.t)
    return whole[at.out.slices]


def _truth(*, at: At, answers: Mapping[str, Answer], tiles: Tiles) -> NDArray[np.uint32]:
    return labelled(tiles, at.t)[at.out.slices]


@lru_cache(maxsize=2)
def exposed(tiles: Tiles, t: int) -> NDArray[np.uint8]:
    """The whole image of a tile."""
    side, many = int(tiles.facts["side"]), int(tiles.facts["montage"])
    peak, background = brightness(tiles, t)
    photons = np.zeros((tiles.side, tiles.side), np.float32)
    for crop, at in enumerate(_corners(side, many)):
        clean = clean_image(tiles, t, crop)
        top = float(clean.max())
        if top > 0:
            photons[at] = clean * ((peak - background) / top)
        if "haze" in tiles.facts:
            photons[at] += haze(tiles, t, crop) * (peak - background)
    if tiles.compat:
        photons = np.rint(photons)
    box = Box.whole(photons.shape)
    found: NDArray[np.uint8] = expose(
        photons, Camera(background=background, bits=8), box, photons.shape, fold(tiles.seed, tiles.name, "noise", t)
    )
    return found


@lru_cache(maxsize=2)
def labelled(tiles: Tiles, t: int) -> NDArray[np.uint32]:
    """The whole flat label image of a tile."""
    side, many = int(tiles.facts["side"]), int(tiles.facts["montage"])
    out = np.zeros((tiles.side, tiles.side), np.uint32)
    first = 0
    for crop, at in enumerate(_corners(side, many)):
        shown = masks(tiles, t, crop)
        heights = [float(o.emitters[:, 0].mean()) if len(o.emitters) else 0.0 for o in scene(tiles, t, crop)]
        if shown:
            found = flat(shown, heights if len(heights) == len(shown) else [0.0] * len(shown))
            out[at] = np.where(found, found + first, 0)
        first += len(scene(tiles, t, crop))
    return out


def masks(tiles: Tiles, t: int, crop: int) -> list[NDArray[np.bool_]]:
    """One mask an object, overlaps kept; one for all of them where the rule looks at the picture."""
    side = int(tiles.facts["side"])
    box, pixel = Box.whole((side, side)), (tiles.pixel_um,) * 2
    objects = scene(tiles, t, crop)
    if tiles.rule == "emitters" and tiles.compat:
        half = int(tiles.facts["compat"]["half_nm"])
        middle = side * tiles.pixel_um / 2
        return [physeg.mask(o.emitters - (0, middle, middle), round(tiles.pixel_um / NM), half) for o in objects]
    if tiles.rule == "emitters":
        return [hit(o.emitters[:, 1:], box, pixel) for o in objects]
    if tiles.rule == "solid":
        return [shadow(o.shape, side, tiles.pixel_um) for o in objects]
    peak, background = brightness(tiles, t)
    return [by_image(tiles.rule, clean_image(tiles, t, crop), background, peak)] if objects else []


def brightness(tiles: Tiles, t: int) -> tuple[float, float]:
    """Expected counts of the brightest pixel and of the background, drawn for each tile."""
    rng = stream(tiles.seed, tiles.name, "brightness", t)
    background = float(rng.integers(*tiles.facts["background"]))
    if "sbr" in tiles.facts:
        low, high = tiles.facts["sbr"]
        return background * float(rng.uniform(low, high)), background
    return float(rng.integers(*tiles.facts["peak"])), background


@lru_cache(maxsize=4)
def clean_image(tiles: Tiles, t: int, crop: int) -> NDArray[np.float32]:
    """(side, side) the noise-free light of a crop; of several planes the brightest."""
    side = int(tiles.facts["side"])
    objects = scene(tiles, t, crop)
    emitters = np.concatenate([o.emitters for o in objects]) if objects else np.empty((0, 3))
    if tiles.compat:
        middle = side * tiles.pixel_um / 2
        of = tiles.facts["compat"]
        squared = tiles.facts["microscope"].startswith("airy")
        basis = physeg.BASIS_UM[of["basis"]]
        made = physeg.image(emitters - (0, middle, middle), tiles.pixel_um, basis, squared=squared)
        return made.astype(np.float32)
    if not len(emitters):
        return np.zeros((side, side), np.float32)
    light = np.ones(len(emitters))
    if "kinetics" in tiles.facts:
        switching, name = Kinetics(**tiles.facts["kinetics"]), (tiles.seed, tiles.name, "light", t, crop)
        light = np.concatenate([switching.photons(len(o.emitters), 0, *name, n) for n, o in enumerate(objects)])
    planes = imaged(emitters, light, optics(tiles), side)
    found: NDArray[np.float32] = np.maximum(planes.max(axis=0), 0)
    return found


@lru_cache(maxsize=4)
def haze(tiles: Tiles, t: int, crop: int) -> NDArray[np.float32]:
    """(side, side) the light of other objects deep below the focus; its brightest pixel is a part of what the crop's own objects give."""
    facts = tiles.facts["haze"]
    rng = stream(tiles.seed, tiles.name, "haze", t, crop)
    batch = tiles.facts["batches"][int(rng.integers(len(tiles.facts["batches"])))]
    deep = {**batch, "objects": facts["objects"], "z_nm": facts["z_nm"]}
    side = int(tiles.facts["side"])
    objects = organelles(tiles.facts, deep, side * tiles.pixel_um / 2, rng, organelle)
    emitters = np.concatenate([o.emitters for o in objects])
    planes = imaged(emitters, np.ones(len(emitters)), _deep_optics(tiles), side, spacing_um=DEEP_SPACING_UM)
    light = np.maximum(planes.max(axis=0), 0)
    found: NDArray[np.float32] = light * np.float32(rng.uniform(*facts["part"]) / light.max())
    return found


def optics(tiles: Tiles) -> Transfer:
    """How light of a preset's emitters gets into its planes."""
    deepest = max(b["z_nm"][1] for b in tiles.facts["batches"])
    return _optics(tiles.name, tiles.pixel_um, 0.0, deepest, SPACING_UM)


def _deep_optics(tiles: Tiles) -> Transfer:
    """The same for the emitters of the haze."""
    low, high = tiles.facts["haze"]["z_nm"]
    return _optics(tiles.name, tiles.pixel_um, low, high, DEEP_SPACING_UM)


@lru_cache(maxsize=8)
def _optics(name: str, pixel_um: float, low_nm: float, high_nm: float, spacing_um: float) -> Transfer:
    """For objects whose middle lies between two depths; the same for all seeds."""
    facts = preset("tiles", name)
    scope = microscope(facts["microscope"])
    thick = max(max(b.get("radius_nm", (0,))[-1], b.get("width_nm", (0,))[-1] / 2) for b in facts["batches"])
    return transfer(
        scope,
        framed(scope, int(facts["side"]) + ROOM, pixel_um),
        tuple(facts["focus_um"]),
        (max(low_nm - thick, 0.0) * NM, (high_nm + thick) * NM),
        reach_um=ROOM * pixel_um,
        deep_um=100.0,
        spacing_um=spacing_um,
    )


@lru_cache(maxsize=16)
def scene(tiles: Tiles, t: int, crop: int) -> tuple[Organelle, ...]:
    """The objects of a crop."""
    facts = tiles.facts
    rng = stream(tiles.seed, tiles.name, "scene", t, crop)
    batch = facts["batches"][int(rng.integers(len(facts["batches"])))]
    if tiles.compat:
        batch = {**batch, "reach_nm": facts["compat"]["reach_nm"]}
    middle = int(facts["side"]) * tiles.pixel_um / 2
    return organelles(facts, batch, middle, rng, published if tiles.compat else organelle)


def _corners(side: int, many: int) -> list[tuple[slice, slice]]:
    return [
        (slice(a * side, (a + 1) * side), slice(b * side, (b + 1) * side)) for a, b in product(range(many), range(many))
    ]


def rows(tiles: Tiles, t: int) -> list[dict[str, Any]]:
    """The truth table of a tile: a row an object, in the order of the labels."""
    side, many = int(tiles.facts["side"]), int(tiles.facts["montage"])
    found: list[dict[str, Any]] = []
    for crop, at in enumerate(_corners(side, many)):
        corner = np.array([at[0].start, at[1].start]) * tiles.pixel_um
        for o in scene(tiles, t, crop):
            low, high = o.shape.box_um
            middle = 0.5 * (low + high)
            found.append(
                {
                    "label": len(found) + 1,
                    "crop": crop,
                    "radius_um": float(o.shape.radius_um),  # type: ignore[attr-defined]
                    "length_um": o.shape.length_um if isinstance(o.shape, Tube) else 0.0,
                    "volume_um3": o.shape.volume_um3,
                    "area_um2": o.shape.area_um2,
                    "emitters": len(o.emitters),
                    "middle_z_um": middle[0],
                    "middle_y_um": middle[1] + corner[0],
                    "middle_x_um": middle[2] + corner[1],
                }
            )
    return found
