"""Lessons: simulated images with their truth for a network to learn from. Lesson k of a seed is the same whoever asks for it.

lesson   one scene under one microscope: its light, exposed several times, each time as another camera and stain would show it
view     what of a scene is seen at once: a stack, one plane of it, or the brightest voxel along z
frame    the whole view; brightness is normalised by it, as it is by the whole frame of an image
crop     what the network is shown

A network that has seen one microscope knows one microscope. So all that differs between laboratories is drawn anew for each
lesson: objects, crowding, optics, stain, signal over background (SBR), haze, photons, gain and offset of the camera.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.draws import stream
from cristae.errors import InvalidConfiguration
from cristae.grid import Box
from cristae.simulation.cells import Changes, Scene
from cristae.simulation.exposure import facts_of, photons
from cristae.simulation.solid import painted
from cristae.simulation.tiles import Tiles, exposed, labelled

Rng = np.random.Generator
VIEWS = ("stack", "plane", "projection")
SIDE = 256
"""Pixels along a view."""
PLANES = 32
"""Planes of the scene behind a view."""
FOCUS_UM = 0.3
"""Of a single plane: what lies further above or below it is out of focus, and not to be found."""
TOP = 99.9
"""Percentile of the light that counts as the brightest voxel."""


@dataclass(frozen=True)
class Look:
    """How cameras and stains differ; each number is drawn between two.

    sbr : brightest voxel over background, the background included
    photons : of the background in a voxel
    haze : light of what is far out of focus, as a part of the brightest voxel's
    uneven : how much brighter or dimmer a stain may be from place to place, as a factor
    read_noise : electrons
    gain : counts of an electron
    """

    sbr: tuple[float, float] = (2.0, 6.0)
    photons: tuple[float, float] = (6.0, 150.0)
    haze: tuple[float, float] = (0.0, 1.0)
    uneven: float = 3.0
    read_noise: tuple[float, float] = (0.0, 3.0)
    gain: tuple[float, float] = (0.3, 5.0)


@dataclass(frozen=True)
class Scenes:
    """A kind of scene: a preset of cells and one of its organelles, or a preset of tiles.

    changes : ranges and choices in place of the preset's; a list of words is a choice, such as of microscopes
    contacts, crossings : drawn up to these; see Scene
    share : how often, beside the others
    """

    preset: str
    organelle: str = ""  # none: a preset of tiles
    views: tuple[str, ...] = ()  # of cells; none: a stack, or a plane of it, as the network has axes
    changes: Changes = ()
    contacts: float = 0.0
    crossings: float = 0.0
    share: float = 1.0


@dataclass(frozen=True)
class Lessons:
    """What to learn from. crop, voxel_um : of what the network sees, (z, y, x) or (y, x)."""

    scenes: tuple[Scenes, ...]
    crop: tuple[int, ...]
    voxel_um: tuple[float, ...]
    seed: int = 1
    exposures: int = 3  # of a scene
    crops: int = 8  # of an exposure
    look: Look = Look()

    def __post_init__(self) -> None:
        ndim = len(self.voxel_um)
        if len(self.crop) != ndim or max(self.crop[-2:]) > SIDE or (ndim == 3 and self.crop[0] > PLANES):
            raise InvalidConfiguration(
                f"a crop of {self.crop} voxels is not part of a view; give at most {PLANES} x {SIDE} x {SIDE}, or {SIDE} x {SIDE} in the plane"
            )
        for kind in self.scenes:
            wrong = [v for v in kind.views if v not in VIEWS or (v == "stack") != (ndim == 3)]
            if wrong or (not kind.organelle and ndim == 3):
                raise InvalidConfiguration(
                    f"{kind.preset} cannot be seen as {', '.join(wrong) or 'a stack'} by a network over {ndim} axes"
                )
            self.scene(kind, stream(0))

    def __call__(self, k: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint32], Box]]:
        """Lesson k: `exposures` times `crops` of a frame (counts), its labels, and the box of a crop in it. Of tiles wider than SIDE
        fewer are exposed, each for more crops."""
        rng = stream(self.seed, "lesson", k)
        share = np.array([kind.share for kind in self.scenes])
        kind = self.scenes[int(rng.choice(len(share), p=share / share.sum()))]
        for frame, labels, crops in self._frames(kind, k, rng):
            for _ in range(crops):
                room = [n - c for n, c in zip(frame.shape, self.crop, strict=True)]
                start = tuple(int(rng.integers(r + 1)) for r in room)
                yield frame, labels, Box(start, tuple(a + c for a, c in zip(start, self.crop, strict=True)))

    def scene(self, kind: Scenes, rng: Rng) -> Scene | Tiles:
        """What lies under the microscope."""
        seed = int(rng.integers(1 << 31))
        if not kind.organelle:
            return Tiles(kind.preset, seed, "solid")
        size = self.voxel_um if len(self.voxel_um) == 3 else (0.2, *self.voxel_um)
        changes = tuple((key, value if key == "optics" else _chosen(value, rng)) for key, value in kind.changes)
        contacts = kind.contacts * float(rng.random())
        crossings = min(kind.crossings * float(rng.random()), 1 - contacts)
        found = Scene(kind.preset, (PLANES, SIDE, SIDE), seed, size, contacts, crossings, changes=changes)  # type: ignore[arg-type]
        facts_of(found, kind.organelle)
        return found

    def _frames(self, kind: Scenes, k: int, rng: Rng) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint32], int]]:
        """Frames, their labels, and how many crops to take of each."""
        scene = self.scene(kind, rng)
        if isinstance(scene, Tiles):
            # Each tile is drawn anew: of larger ones there are fewer, so that all tiles give as many crops of an area.
            many = min(self.exposures, max(1, round(self.exposures * (SIDE / scene.side) ** 2)))
            each, rest = divmod(self.exposures * self.crops, many)
            for t in range(many):
                yield exposed(scene, t).astype(np.float32), labelled(scene, t), each + (t < rest)
            return
        box = Box.whole(scene.shape)
        light = photons(scene, kind.organelle, box)
        labels = painted(scene, scene.meeting(kind.organelle, *scene.um(box)), box)
        for n in range(self.exposures):
            views = kind.views or ("stack" if len(self.voxel_um) == 3 else "plane",)
            view = views[int(rng.integers(len(views)))]
            shown, truth = _seen(view, light, labels, scene.voxel_um[0], rng)
            yield camera(shown, self.look, stream(self.seed, "exposure", k, n)), truth, self.crops


def _seen(
    view: str, light: NDArray[np.float32], labels: NDArray[np.uint32], dz: float, rng: Rng
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Light and labels of a view."""
    if view == "stack":
        return light, labels
    if view == "projection":
        many = int(rng.integers(3, len(light) + 1))
        first = int(rng.integers(len(light) - many + 1))
        part = slice(first, first + many)
        return light[part].max(axis=0), labels[part].max(axis=0)
    sharp = ceil(FOCUS_UM / dz - 1e-9) - 1
    z = int(rng.integers(sharp, len(light) - sharp))
    return light[z], labels[z - sharp : z + sharp + 1].max(axis=0)


def camera(light: NDArray[np.float32], look: Look, rng: Rng) -> NDArray[np.float32]:
    """Counts of some camera: light of any unit, scaled to some SBR, over background and haze, with noise."""
    top = max(float(np.percentile(light, TOP)), 0.1 * float(light.max()), 1e-6)
    background = _between(rng, look.photons)
    signal = background * (float(rng.uniform(*look.sbr)) - 1)
    uneven = np.exp(np.log(look.uneven) * _waves(light.shape, rng))
    # Cells above and below: plateaus of light with edges more or less blurred.
    haze = float(rng.uniform(*look.haze)) / (1 + np.exp(float(rng.uniform(-12, -3)) * (_waves(light.shape, rng) - 0.2)))
    expected = background + signal * (np.minimum(light / top, 2.0) * uneven + haze)
    counts = rng.poisson(expected).astype(np.float32)
    counts += rng.normal(0, rng.uniform(*look.read_noise), counts.shape).astype(np.float32)
    counts *= _between(rng, look.gain)
    found: NDArray[np.float32] = counts + np.float32(rng.uniform(0, 200))
    return found


def _waves(shape: tuple[int, ...], rng: Rng) -> NDArray[np.float32]:
    """A field from -1 to 1 that changes slowly in the plane: a few random numbers, and what lies between them."""
    from scipy.ndimage import zoom

    few = int(rng.integers(2, 7))
    knots = rng.uniform(-1, 1, (few, few))
    plane = zoom(knots, [n / few for n in shape[-2:]], order=1, mode="nearest", grid_mode=True)
    found: NDArray[np.float32] = np.broadcast_to(plane.astype(np.float32), shape)
    return found


def _between(rng: Rng, span: tuple[float, float]) -> float:
    """Evenly on a scale of ratios."""
    return float(np.exp(rng.uniform(np.log(span[0]), np.log(span[1]))))


def _chosen(value: Any, rng: Rng) -> Any:
    """One of several words or of several ranges; anything else as it is."""
    several = isinstance(value, tuple) and len(value) > 0 and isinstance(value[0], str | tuple)
    return value[int(rng.integers(len(value)))] if several else value
