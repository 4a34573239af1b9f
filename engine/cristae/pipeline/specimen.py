"""Specimen: cells with a tubular network, computed voxel by voxel from a seed. No file, and no input array.

    tile     the volume is cut into equal tiles, and one cell lies wholly inside each
    cell     an ellipsoid around a nucleus; between the two runs its network of branching tubes
    tube     a centre line of short segments, with a radius at each end and a blurred profile
    counts   background + haze of the cell + tubes, then the noise of a camera

A voxel's value depends on the seed, the shape and its own position. Only + - * / sqrt and integer hashes are used,
so that no mathematics library shows in the result: any grid, any machine, the same bytes.

Axes are (z, y, x); lengths are in micrometres, brightness in counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.compiled import njit
from cristae.errors import InvalidConfiguration
from cristae.grid import Box, Shape

Point = tuple[float, float, float]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BACKGROUND, HAZE, PEAK = 110.0, 60.0, 800.0  # counts
TILE_UM = 24.0  # about the width of a cell in culture
THICKEST_UM = 10.0  # cells on a coverslip are flat
RADIUS_UM = (0.15, 0.30)  # of a tube; mitochondria are 0.3-0.6 um wide
BLUR_UM = 0.14  # half width of a tube's soft edge
STEP_UM = 0.35  # length of a segment
STEPS = (8, 60)  # segments in a tube
TINY = 1e-12


def specimen(
    shape: Shape,
    *,
    voxel_um: tuple[float, ...] = (0.2, 0.1, 0.1),
    seed: int = 1,
    tubes: float = 2.5,
    noise: float = 1.5,
) -> Stage:
    """Cells with a mitochondria-like network: a stage that reads nothing and returns uint16 counts.

    Parameters
    ----------
    shape : (z, y, x) of the volume, voxels
    voxel_um : (z, y, x) size of a voxel, micrometres
    seed : another number gives another specimen
    tubes : unbranched tubes per 1000 um3 of volume; each cell has at least one
    noise : standard deviation, as a multiple of the square root of the expected count; 1 is photon noise, 0 is none

    Raises
    ------
    InvalidConfiguration : if a parameter is out of its range.
    """
    if len(shape) != 3 or len(voxel_um) != 3 or min(shape) < 1 or not min(voxel_um) > 0:
        raise InvalidConfiguration(
            f"the specimen has three axes z, y, x of at least one voxel with a positive size, got shape {shape} "
            f"and voxel_um {voxel_um}; give for example shape (128, 704, 704) and voxel_um (0.2, 0.1, 0.1)"
        )
    if seed < 0 or not tubes >= 0 or not noise >= 0:
        raise InvalidConfiguration(
            f"seed, tubes and noise of the specimen cannot be negative, got {seed}, {tubes} and {noise}"
        )
    depth, height, width = (float(v) for v in voxel_um)
    voxel = (depth, height, width)
    params = {"shape": shape, "voxel_um": voxel, "seed": seed, "tubes": tubes, "noise": noise}
    return Stage(
        "specimen",
        params,
        Exposure(shape, voxel, seed, tubes, noise),
        halo=(),
        output=partial(Spec, shape, "uint16", voxel, (0.0, 65535.0)),
        cost=Cost(bytes_per_voxel=5.0, ns_per_voxel=15.0),
        reads=no_input,
    )


def no_input(out: Box) -> tuple[Box, ...]:
    """What a source reads: nothing."""
    return ()


@dataclass(frozen=True, slots=True)
class Exposure:
    """`apply` of the specimen: the counts of the box `at.out`."""

    shape: Shape
    voxel_um: Point
    seed: int
    tubes: float
    noise: float

    def __call__(self, *, at: At, answers: Mapping[str, Answer]) -> np.ndarray:
        start, voxel = np.array(at.out.start), np.array(self.voxel_um)
        counts = np.full(at.out.shape, BACKGROUND, np.float32)
        for tile in tiles_meeting(at.out, self.shape, self.voxel_um):
            cell = grow_cell(self.seed, tile, tile_um(self.shape, self.voxel_um), self.tubes)
            add_haze(counts, start, voxel, cell.centre, cell.semi, cell.nucleus)
            draw_tubes(counts, start, voxel, cell.near(at.out, voxel))
        out = np.empty(at.out.shape, np.uint16)
        expose(out, counts, start, np.array(self.shape), np.uint64(self.seed), self.noise)
        return out


def tile_um(shape: Shape, voxel_um: Point) -> Point:
    """Size of a tile: the volume's extent cut into the whole number of tiles that comes nearest to TILE_UM."""
    z, y, x = (n * v / max(1, round(n * v / TILE_UM)) for n, v in zip(shape, voxel_um, strict=True))
    return z, y, x


def tiles_meeting(box: Box, shape: Shape, voxel_um: Point) -> list[Shape]:
    """Lattice positions of the tiles that `box` touches, in raster order. Nothing of a cell leaves its tile."""
    ranges = [
        range(int(a * v / size), int((b - 1) * v / size) + 1)
        for a, b, v, size in zip(box.start, box.stop, voxel_um, tile_um(shape, voxel_um), strict=True)
    ]
    return list(product(*ranges))


@dataclass(frozen=True)
class Cell:
    """One cell and its network, in micrometres from the volume's first voxel."""

    centre: Floats  # (3,)
    semi: Floats  # (3,) semi-axes of the cell
    nucleus: Floats  # (3,) semi-axes of the nucleus, about the same centre
    segments: Floats  # (n, 9) from z y x, to z y x, radius from and to, brightness 0-1
    low: Floats  # (n, 3) corners of the box that a segment can brighten
    high: Floats

    def near(self, box: Box, voxel: Floats) -> Floats:
        """The segments that can brighten a voxel of `box`."""
        first, last = np.array(box.start) * voxel, (np.array(box.stop) - 1) * voxel
        reached = ((self.low <= last) & (self.high >= first)).all(axis=1)
        return self.segments[reached]


@lru_cache(maxsize=256)
def grow_cell(seed: int, tile: Shape, size_um: Point, tubes: float) -> Cell:
    """The cell of one tile: drawn once in a process, the same in all of them."""
    rng = np.random.default_rng([seed, *tile])
    size = np.array(size_um)
    # The margin keeps soft edges inside the tile; in a volume thinner than a tube there is no room for one.
    margin = np.minimum(RADIUS_UM[1] + BLUR_UM, 0.25 * size)
    room = 0.5 * size - margin
    semi = np.minimum(room * (0.78 + 0.2 * rng.random(3)), (0.5 * THICKEST_UM, np.inf, np.inf))
    centre = (np.array(tile) + 0.5) * size + (room - semi) * np.minimum(1.0, 4.0 / size) * _signed(rng, 3)
    nucleus = semi * (0.55, 0.36, 0.36)
    count = max(1, round(tubes * size_um[0] * size_um[1] * size_um[2] / 1000)) if tubes else 0
    segments = _network(rng, count, semi, nucleus)
    segments[:, 0:3] += centre
    segments[:, 3:6] += centre
    ends = segments[:, 0:3], segments[:, 3:6]
    reach = segments[:, 6:8].max(axis=1, keepdims=True) + BLUR_UM
    return Cell(centre, semi, nucleus, segments, np.minimum(*ends) - reach, np.maximum(*ends) + reach)


def _network(rng: np.random.Generator, count: int, semi: Floats, nucleus: Floats) -> Floats:
    """(n, 9) segments about a centre at 0: `count` trunks, and on every second one a branch."""
    steps = (STEPS[0] + (STEPS[1] - STEPS[0]) * rng.random(count) * rng.random(count)).astype(np.int64)
    radius = RADIUS_UM[0] + (RADIUS_UM[1] - RADIUS_UM[0]) * rng.random(count)
    bright = 0.5 + 0.5 * rng.random(count)
    begin = _unit(_signed(rng, count, 3)) * (0.45 + 0.5 * rng.random((count, 1))) * semi
    trunks = _walk(rng, begin, steps, semi, nucleus)

    parent = np.flatnonzero(rng.random(count) < 0.5)
    fork = (rng.random(len(parent)) * steps[parent]).astype(np.int64)
    branches = _walk(rng, trunks[parent, fork], steps[parent] // 2, semi, nucleus)
    return np.concatenate(
        [
            _segments(rng, trunks, steps, radius, bright),
            _segments(rng, branches, steps[parent] // 2, radius[parent], bright[parent]),
        ]
    )


def _walk(rng: np.random.Generator, begin: Floats, steps: Ints, semi: Floats, nucleus: Floats) -> Floats:
    """(tubes, points, 3) persistent random walks from `begin` that stay in the cell and out of its nucleus."""
    path = [_confine(begin, semi, nucleus)]
    heading = _unit(_signed(rng, len(begin), 3))
    for _ in range(int(steps.max(initial=0))):
        heading = _unit(heading + 0.4 * _signed(rng, len(begin), 3))
        path.append(_confine(path[-1] + STEP_UM * heading, semi, nucleus))
        heading = _unit(path[-1] - path[-2] + TINY * heading)
    return np.stack(path, axis=1)


def _confine(points: Floats, semi: Floats, nucleus: Floats) -> Floats:
    """Points outside the cell drawn back to its surface, points inside the nucleus pushed out to its surface."""
    points = points / np.maximum(1.0, _norm(points / semi))
    return points / np.clip(_norm(points / nucleus), TINY, 1.0)


def _segments(rng: np.random.Generator, path: Floats, steps: Ints, radius: Floats, bright: Floats) -> Floats:
    """(n, 9) the first `steps` segments of each path, their radius wandering a little about the tube's own."""
    radii = np.clip(radius[:, None] + 0.04 * _signed(rng, *path.shape[:2]), *RADIUS_UM)[..., None]
    level = np.broadcast_to(bright[:, None, None], (len(path), path.shape[1] - 1, 1))
    table = np.concatenate([path[:, :-1], path[:, 1:], radii[:, :-1], radii[:, 1:], level], axis=2)
    return table[np.arange(table.shape[1]) < steps[:, None]]


def _signed(rng: np.random.Generator, *shape: int) -> Floats:
    return 2.0 * rng.random(shape) - 1.0


def _norm(v: Floats) -> Floats:
    return np.sqrt(v[..., 0:1] * v[..., 0:1] + v[..., 1:2] * v[..., 1:2] + v[..., 2:3] * v[..., 2:3])


def _unit(v: Floats) -> Floats:
    return v / np.maximum(_norm(v), TINY)


@njit(nogil=True, cache=True)
def span(low_um: float, high_um: float, voxel_um: float, start: int, count: int) -> tuple[int, int]:
    """Half-open range, within a block of `count` voxels at `start`, of the voxels between two positions."""
    first = int(np.ceil(low_um / voxel_um)) - start
    last = int(np.floor(high_um / voxel_um)) - start
    return max(first, 0), min(last + 1, count)


@njit(nogil=True, cache=True)
def add_haze(
    counts: np.ndarray, start: np.ndarray, voxel: np.ndarray, centre: np.ndarray, semi: np.ndarray, nucleus: np.ndarray
) -> None:
    """Add a cell's diffuse light, brightest around the nucleus and weak inside it, to float32 (z, y, x)."""
    depth, height, width = counts.shape
    z0, z1 = span(centre[0] - semi[0], centre[0] + semi[0], voxel[0], start[0], depth)
    y0, y1 = span(centre[1] - semi[1], centre[1] + semi[1], voxel[1], start[1], height)
    x0, x1 = span(centre[2] - semi[2], centre[2] + semi[2], voxel[2], start[2], width)
    for z in range(z0, z1):
        dz = (z + start[0]) * voxel[0] - centre[0]
        for y in range(y0, y1):
            dy = (y + start[1]) * voxel[1] - centre[1]
            outer = dz / semi[0] * (dz / semi[0]) + dy / semi[1] * (dy / semi[1])
            inner = dz / nucleus[0] * (dz / nucleus[0]) + dy / nucleus[1] * (dy / nucleus[1])
            for x in range(x0, x1):
                dx = (x + start[2]) * voxel[2] - centre[2]
                body = max(0.0, 1.0 - outer - dx / semi[2] * (dx / semi[2]))
                core = max(0.0, 1.0 - inner - dx / nucleus[2] * (dx / nucleus[2]))
                counts[z, y, x] += HAZE * body * (1.0 - 0.9 * min(1.0, 3.0 * core))


@njit(nogil=True, cache=True)
def draw_tubes(counts: np.ndarray, start: np.ndarray, voxel: np.ndarray, segments: np.ndarray) -> None:
    """Raise float32 (z, y, x) to the brightest tube that passes each voxel; the order of segments does not matter."""
    depth, height, width = counts.shape
    for s in range(len(segments)):
        az, ay, ax, bz, by, bx, r0, r1, bright = segments[s]
        reach = max(r0, r1) + BLUR_UM
        z0, z1 = span(min(az, bz) - reach, max(az, bz) + reach, voxel[0], start[0], depth)
        y0, y1 = span(min(ay, by) - reach, max(ay, by) + reach, voxel[1], start[1], height)
        x0, x1 = span(min(ax, bx) - reach, max(ax, bx) + reach, voxel[2], start[2], width)
        ez, ey, ex = bz - az, by - ay, bx - ax
        length2 = ez * ez + ey * ey + ex * ex + TINY
        for z in range(z0, z1):
            dz = (z + start[0]) * voxel[0] - az
            for y in range(y0, y1):
                dy = (y + start[1]) * voxel[1] - ay
                for x in range(x0, x1):
                    dx = (x + start[2]) * voxel[2] - ax
                    along = min(1.0, max(0.0, (dz * ez + dy * ey + dx * ex) / length2))
                    pz, py, px = dz - along * ez, dy - along * ey, dx - along * ex
                    edge = r0 + along * (r1 - r0) + BLUR_UM
                    distance2 = pz * pz + py * py + px * px
                    if distance2 < edge * edge:
                        inside = min(1.0, (edge - np.sqrt(distance2)) / (2.0 * BLUR_UM))
                        light = BACKGROUND + PEAK * bright * inside * inside * (3.0 - 2.0 * inside)
                        counts[z, y, x] = max(counts[z, y, x], np.float32(light))


@njit(nogil=True, cache=True)
def expose(
    out: np.ndarray, counts: np.ndarray, start: np.ndarray, shape: np.ndarray, seed: np.uint64, noise: float
) -> None:
    """Write uint16 counts with noise whose draw is a hash of the seed and the voxel's number in the volume.

    The sum of a hash's eight bytes is close to normal: mean 1020, variance 8 (256^2 - 1) / 12. The hash is splitmix64:
    G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014, doi:10.1145/2660193.2660195.
    """
    scale = noise / np.sqrt(8.0 * 65535.0 / 12.0)
    x = np.arange(counts.shape[2]).astype(np.uint64)
    key = np.full(1, seed) * np.uint64(0xD1342543DE82EF95)
    for z in range(counts.shape[0]):
        for y in range(counts.shape[1]):
            row = ((z + start[0]) * shape[1] + y + start[1]) * shape[2] + start[2]
            h = (x + np.uint64(row + 1) + key) * np.uint64(0x9E3779B97F4A7C15)
            h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            h = h ^ (h >> np.uint64(31))
            pairs = (h & np.uint64(0x00FF00FF00FF00FF)) + ((h >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF))
            bytes_sum = (pairs * np.uint64(0x0001000100010001)) >> np.uint64(48)
            for i in range(len(x)):
                expected = counts[z, y, i]
                value = expected + scale * np.sqrt(expected) * (np.float64(bytes_sum[i]) - 1020.0)
                out[z, y, i] = np.uint16(min(65535.0, max(0.0, value + 0.5)))
