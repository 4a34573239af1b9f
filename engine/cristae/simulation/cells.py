"""Cells: a seeded description of a volume full of cells, each with organelles. No array; every cell can be drawn on its own.

    lattice     the volume is cut into equal tiles, and one cell lies wholly inside each
    cell        an ellipsoid, flat on its coverslip, around a nucleus; all other organelles lie between the two
    organelle   a kind of object, such as mito; each has a channel, and in every cell a number of objects
    id          of an object among its kind: the number of its cell times 1024, plus its place in the cell, from 1

Lengths are micrometres from the corner of the first voxel, (z, y, x).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, product
from math import isfinite, pi, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.draws import stream
from cristae.errors import InvalidConfiguration
from cristae.grid import Box
from cristae.optics.bead import Bead
from cristae.simulation.curves import bend, guided, sharpest
from cristae.simulation.kinetics import Kinetics
from cristae.simulation.meetings import met
from cristae.simulation.networks import Network
from cristae.simulation.placing import GAP_UM, Candidate, Placed, Rounded, clear, filled, sparse
from cristae.simulation.presets import Preset, preset
from cristae.simulation.shapes import Ball, Ellipsoid, Shape, Tube, directions

Floats = NDArray[np.float64]
Rng = np.random.Generator
Point = tuple[float, float, float]
Changes = tuple[tuple[str, Any], ...]

TILE_UM = 24.0  # about the width of a cell in culture
THICKEST_UM = 10.0  # cells on a coverslip are flat
USUAL_UM3 = TILE_UM * TILE_UM * THICKEST_UM  # the room of a cell for which numbers of objects are meant
STEP_UM = 0.5  # between the points that guide a tube
MARGIN, FLATTEST = 0.02, 0.8
"""Of a tile, what stays free at each side; of the room that is left, what a cell fills at least."""
ROOM = 2.2
"""Half the height of a cell that holds an organelle, in its largest radii."""
MOST = 1023
"""Objects of a kind in a cell."""
TIGHTEST = 0.98
"""Of the radius of a bend, how thick a tube may be."""
TRIES = 4
"""Places tried for each object, before there are fewer of them."""


@lru_cache(maxsize=64)
def changed(name: str, changes: Changes) -> Preset:
    """A preset of cells with some of its facts changed.

    Raises
    ------
    InvalidConfiguration : if there is no such preset, or it has no such fact.
    """
    found: dict[str, Any] = deepcopy(dict(preset("cells", name)))
    for key, value in changes:
        *way, last = key.split(".")
        place: Any = found
        for word in way:
            place = place.get(word) if isinstance(place, dict) else None
        if not isinstance(place, dict) or (last not in place and key != "optics"):
            raise InvalidConfiguration(f"{name} has no {key} that could be changed")
        place[last] = dict(value) if key == "optics" else value
    return found


@dataclass(frozen=True)
class Scene:
    """What is under the microscope: everything else follows from it.

    shape : (z, y, x) voxels of the volume
    contacts, crossings : parts of the objects that touch others of their kind, and that cross others
    frame_s : seconds of an exposure, and from one to the next
    on_s, off_s : how long an emitter is on and off, on average; off_s 0 is always on
    bleach_s : when it has bleached, on average; 0 is never
    bead : the PSF, where it was measured
    changes : what differs from the preset: dotted keys and values, such as ("organelles.mito.radius_um", (0.2, 0.5))
    """

    name: str
    shape: tuple[int, int, int]
    seed: int = 1
    voxel_um: Point = (0.2, 0.1, 0.1)
    contacts: float = 0.0
    crossings: float = 0.0
    frame_s: float = 0.1
    on_s: float = 0.0
    off_s: float = 0.0
    bleach_s: float = 0.0
    bead: Bead | None = None
    changes: Changes = ()

    def __post_init__(self) -> None:
        changed(self.name, self.changes)
        if len(self.shape) != 3 or min(self.shape) < 1 or len(self.voxel_um) != 3 or not min(self.voxel_um) > 0:
            raise InvalidConfiguration(
                f"a cell has three axes z, y, x of at least one voxel with a positive size, got shape {self.shape} and voxel_um "
                f"{self.voxel_um}; give for example --shape 64,512,512"
            )
        if self.seed < 0:
            raise InvalidConfiguration(f"the seed is {self.seed}, but must be 0 or more")
        for name, part in (("contacts", self.contacts), ("crossings", self.crossings)):
            if not 0 <= part <= 1:
                raise InvalidConfiguration(
                    f"{name} are a part of the objects, from 0 to 1, got {part}; give --{name} 0.3"
                )
        if self.contacts + self.crossings > 1 + 1e-9:
            raise InvalidConfiguration(
                f"contacts {self.contacts} and crossings {self.crossings} are more than all objects together; give parts whose sum "
                "is at most 1"
            )
        self._refuse_times()

    def _refuse_times(self) -> None:
        for name in ("frame_s", "on_s", "off_s", "bleach_s"):
            value, option = getattr(self, name), f"--{name.replace('_', '-')}"
            if not (isfinite(value) and (value > 0 if name == "frame_s" else value >= 0)):
                least = "above 0" if name == "frame_s" else "0 or more"
                raise InvalidConfiguration(f"{option} {value:g}: give seconds, {least}")
        if bool(self.on_s) != bool(self.off_s):
            raise InvalidConfiguration(
                f"--on-s {self.on_s:g} --off-s {self.off_s:g}: emitters that blink are on for a while and off for a while; give both, "
                "such as --on-s 0.2 --off-s 0.8, or neither"
            )

    def kinetics(self, photons: float) -> Kinetics:
        """How an emitter that sends so many photons in a frame switches and bleaches."""
        on = self.on_s / self.frame_s if self.on_s else 1.0
        return Kinetics(photons, on, self.off_s / self.frame_s, self.bleach_s / self.frame_s)

    @property
    def steady(self) -> bool:
        """Whether all frames have the same light."""
        return not self.off_s and not self.bleach_s

    @property
    def facts(self) -> Preset:
        return changed(self.name, self.changes)

    @property
    def organelles(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.facts["organelles"]
        return found

    @property
    def lattice(self) -> tuple[int, int, int]:
        """How many tiles there are along each axis."""
        z, y, x = (max(1, round(n * v / TILE_UM)) for n, v in zip(self.shape, self.voxel_um, strict=True))
        return z, y, x

    @property
    def tile_um(self) -> Floats:
        found: Floats = np.array(self.shape) * np.array(self.voxel_um) / np.array(self.lattice)
        return found

    def tiles(self, low: Floats, high: Floats) -> Iterator[tuple[int, int, int]]:
        """Lattice positions of the tiles between two corners, in raster order."""
        first = np.clip(np.floor(low / self.tile_um), 0, None).astype(int)
        last = np.minimum(np.floor(high / self.tile_um), np.array(self.lattice) - 1).astype(int)
        z, y, x = (range(a, b + 1) for a, b in zip(first.tolist(), last.tolist(), strict=True))
        return product(z, y, x)

    def meeting(self, kind: str, low: Floats, high: Floats) -> Iterator[Thing]:
        """Objects of a kind whose box touches that between two corners, in the order of their ids."""
        for tile in self.tiles(low, high):
            for thing in things(self, tile, kind):
                if (thing.low <= high).all() and (thing.high >= low).all():
                    yield thing

    def every(self, kind: str) -> Iterator[Thing]:
        """All objects of a kind."""
        return chain.from_iterable(self.cells(kind))

    def cells(self, kind: str) -> Iterator[tuple[Thing, ...]]:
        """All objects of a kind, cell by cell."""
        return (things(self, tile, kind) for tile in product(*map(range, self.lattice)))

    def um(self, box: Box) -> tuple[Floats, Floats]:
        """The corners of a box of voxels."""
        return np.array(box.start) * np.array(self.voxel_um), np.array(box.stop) * np.array(self.voxel_um)


@dataclass(frozen=True, eq=False)
class Thing:
    """One object."""

    id: int
    cell: int
    shape: Shape
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Cell:
    """One cell: what its objects lie in and around."""

    number: int
    body: Ellipsoid
    nucleus: Ellipsoid


def cell(scene: Scene, tile: tuple[int, int, int]) -> Cell:
    """The cell of a tile of the lattice."""
    number = int(np.ravel_multi_index(tile, scene.lattice))
    rng = stream(scene.seed, scene.name, "cell", number)
    size = scene.tile_um
    margin = np.minimum(MARGIN * size, 0.3)
    room = 0.5 * size - margin
    semi = np.minimum(room * (FLATTEST + (1 - FLATTEST) * rng.random(3)), (0.5 * THICKEST_UM, np.inf, np.inf))
    centre = (np.array(tile) + 0.5) * size + (room - semi) * (2 * rng.random(3) - 1)
    centre[0] = tile[0] * size[0] + margin[0] + semi[0]  # a cell sits on the glass, or on the cell below
    return Cell(
        number, Ellipsoid(_point(centre), _point(semi)), Ellipsoid(_point(centre), _point(semi * (0.55, 0.36, 0.36)))
    )


def room_um(facts: Mapping[str, Any]) -> tuple[float, float]:
    """How high a tile must be for a cell to hold an organelle: at least, and for every cell to."""
    semi = ROOM * facts["radius_um"][1] if "radius_um" in facts else 0.0
    return 2 * semi / (1 - 2 * MARGIN), 2 * semi / ((1 - 2 * MARGIN) * FLATTEST)


@lru_cache(maxsize=14)
def things(scene: Scene, tile: tuple[int, int, int], kind: str) -> tuple[Thing, ...]:
    """The objects of a kind in one cell; no other kind is drawn for them."""
    of, facts = cell(scene, tile), scene.organelles[kind]
    shapes: list[Shape]
    if facts["kind"] in ("nucleus", "body"):
        shapes = [of.nucleus if facts["kind"] == "nucleus" else of.body]
    else:
        rng = stream(scene.seed, scene.name, "objects", kind, of.number)
        share = prod(np.minimum(scene.tile_um, (THICKEST_UM, np.inf, np.inf))) / USUAL_UM3
        wanted = max(1, round(share * float(rng.integers(*facts["per_cell"]))))
        roomy = min(of.body.semi_um) > ROOM * facts["radius_um"][1]
        draw = {"tube": _tubes, "ball": _balls, "network": _networks}[facts["kind"]]
        apart = draw(rng, facts, wanted, of.body, of.nucleus)[:MOST] if roomy else []
        lots = stream(scene.seed, scene.name, "meetings", kind, of.number)
        meeting = scene.contacts + scene.crossings > 0
        shapes = [*(met(apart, scene.contacts, scene.crossings, of.body, of.nucleus, lots) if meeting else apart)]
    return tuple(Thing(of.number * (MOST + 1) + n, of.number, s, *s.box_um) for n, s in enumerate(shapes, 1))


def _tubes(rng: Rng, facts: Mapping[str, Any], wanted: int, body: Ellipsoid, nucleus: Ellipsoid) -> list[Rounded]:
    """Smooth tubes along random walks that stay in the cell and out of its nucleus, apart from each other."""

    def some(n: int) -> Iterator[Candidate]:
        radius = _within(rng, facts["radius_um"], n)
        steps = np.maximum(2, (_within(rng, facts["length_um"], n) / STEP_UM).round().astype(int))
        for walk, count, r in zip(_walks(rng, n, int(steps.max()), body, nucleus, radius), steps, radius, strict=True):
            tube = Tube(guided(walk[: count + 1]), float(r))
            straight = sharpest(tube.curve, tube.line[0]) * r < TIGHTEST
            yield tube, sparse(tube) if straight else None, float(r)

    return filled(wanted, some, TRIES, body, nucleus)


def _networks(rng: Rng, facts: Mapping[str, Any], wanted: int, body: Ellipsoid, nucleus: Ellipsoid) -> list[Rounded]:
    """Tubes with branches that begin on them, and arcs that close loops, apart from each other."""
    placed = Placed()
    found: list[Rounded] = []
    for trunk in _tubes(rng, facts, wanted, body, nucleus):
        assert isinstance(trunk, Tube)
        tubes, junctions, loops = [trunk], 0, 0
        line, radius = trunk.line[2], trunk.radius_um
        for _ in range(int(rng.integers(*facts["branches"]))):
            fork = line[int(rng.integers(len(line)))]
            steps = max(2, round(0.5 * float(_within(rng, facts["length_um"], 1)[0]) / STEP_UM))
            walk = _walks(rng, 1, steps, body, nucleus, np.array([radius]), fork[None])[0]
            junctions += _add(tubes, Tube(guided(walk), radius), body, nucleus)
        if rng.random() < facts["loops"] and trunk.length_um > 6 * radius:
            first, last = line[len(line) // 4], line[3 * len(line) // 4]
            aside = np.cross(last - first, directions(rng.random((1, 2)))[0])
            aside *= 0.6 * np.linalg.norm(last - first) / max(float(np.linalg.norm(aside)), 1e-9)
            arc = _walks(rng, 1, 0, body, nucleus, np.array([radius]), (0.5 * (first + last) + aside)[None])[0, 0]
            closed = _add(tubes, Tube(guided(np.array([first, arc, last])), radius), body, nucleus)
            junctions, loops = junctions + 2 * closed, loops + closed
        whole = np.concatenate([sparse(tube) for tube in tubes])
        rng.random()  # no longer of use; without it the scenes of a seed would be others
        if placed.takes(whole, radius):
            found.append(Network(tuple(tubes), junctions, loops))
    return found


def _add(tubes: list[Tube], tube: Tube, body: Ellipsoid, nucleus: Ellipsoid) -> int:
    """One more tube, if it does not bend too tightly and lies where it should; how many were added."""
    fits = sharpest(tube.curve, tube.line[0]) * tube.radius_um < TIGHTEST
    fits = fits and clear(sparse(tube), tube.radius_um, body, nucleus)
    if fits:
        tubes.append(tube)
    return int(fits)


def _walks(
    rng: Rng,
    count: int,
    steps: int,
    body: Ellipsoid,
    nucleus: Ellipsoid,
    radius: Floats,
    begin: Floats | None = None,
) -> Floats:
    """(count, steps + 1, 3) persistent walks, from anywhere or (count, 3) places, whose tubes stay between nucleus and membrane."""
    centre = np.array(body.centre_um)
    outer = np.array(body.semi_um) - radius[:, None] - GAP_UM
    inner = np.array(nucleus.semi_um) + radius[:, None] + GAP_UM

    def confined(points: Floats) -> Floats:
        points = points / np.maximum(1.0, np.linalg.norm(points / outer, axis=1, keepdims=True))
        level = np.linalg.norm(points / inner, axis=1, keepdims=True)
        pushed = points / np.clip(level, 1e-9, 1.0)
        # Where the nucleus fills the height of a thin cell, a point pushed up would leave it: then it goes aside.
        outside = np.linalg.norm(pushed / outer, axis=1, keepdims=True) > 1
        flat = points * (0.0, 1.0, 1.0)
        aside = flat / np.maximum(np.linalg.norm(flat / inner, axis=1, keepdims=True), 1e-9)
        kept: Floats = np.where(outside, aside, pushed)
        return kept

    heading = directions(rng.random((count, 2))) * (0.4, 1, 1)
    if begin is None:
        begin = directions(rng.random((count, 2))) * np.cbrt(rng.random((count, 1))) * outer + centre
    here = confined(begin - centre)
    path = [here]
    for _ in range(steps):
        heading = heading + 0.45 * directions(rng.random((count, 2))) * (0.6, 1, 1)
        heading /= np.linalg.norm(heading, axis=1, keepdims=True)
        there = confined(here + STEP_UM * heading)
        moved = there - here
        far = np.linalg.norm(moved, axis=1, keepdims=True)
        heading = np.where(far > 1e-6, moved / np.maximum(far, 1e-6), heading)
        here = there
        path.append(here)
    walks: Floats = np.stack(path, axis=1) + centre
    return walks


def _balls(rng: Rng, facts: Mapping[str, Any], wanted: int, body: Ellipsoid, nucleus: Ellipsoid) -> list[Rounded]:
    """Balls spread evenly between nucleus and membrane, apart from each other."""
    centre, outer = np.array(body.centre_um), np.array(body.semi_um)

    def some(n: int) -> Iterator[Candidate]:
        radius = _within(rng, facts["radius_um"], n)
        away = directions(rng.random((n, 2))) * np.cbrt(rng.random((n, 1)))
        for point, r in zip(away * (outer - radius[:, None] - GAP_UM) + centre, radius, strict=True):
            yield Ball(_point(point), float(r)), point[None], float(r)

    return filled(wanted, some, TRIES * 2, body, nucleus)


def centroid(shape: Shape) -> Floats:
    """(3,) the centre of mass, exact for a tube that does not fold onto itself."""
    if isinstance(shape, Network):
        return shape.centroid_um
    if not isinstance(shape, Tube):
        return np.array(shape.centre_um)  # type: ignore[attr-defined]
    u, s, line = shape.line
    r = shape.radius_um
    # Within a bend the outside holds more: a slice's centre of mass lies r^2 / 4 times the curvature away from the axis.
    slices = line - 0.25 * r**2 * bend(shape.curve, u)[1]
    found: Floats = pi * r**2 * np.asarray(np.trapezoid(slices, s, axis=0))
    if shape.caps:
        ends = bend(shape.curve, u[[0, -1]])[0] * [[-1.0], [1.0]]
        found += 2 / 3 * pi * r**3 * (line[[0, -1]] + 0.375 * r * ends).sum(axis=0)
    found /= shape.volume_um3
    return found


def _within(rng: Rng, span: Sequence[float], count: int) -> Floats:
    low, high = span
    return rng.uniform(low, high, count)


def _point(values: Floats) -> Point:
    z, y, x = (float(v) for v in values)
    return z, y, x
