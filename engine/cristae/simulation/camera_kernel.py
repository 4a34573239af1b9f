"""Compiled twin of `camera.exposed_plain`: the same counts, voxel by voxel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cristae.compiled import njit
from cristae.draws import scattered

if TYPE_CHECKING:
    from cristae.simulation.camera import Camera

FEW = 10.0
"""Electrons from which Poisson numbers are drawn by rejection; below, by adding up chances."""
GRID = 2.0**20
"""To an electron: expected values are rounded to this grid before anything is drawn."""
FIRST = 16
"""Of the numbers of a voxel, the first that its Poisson number uses."""


def exposed(
    out: NDArray[Any],
    photons: NDArray[Any],
    camera: Camera,
    sigma: NDArray[np.float64],
    first: int,
    width: int,
    key: int,
) -> None:
    """`camera.exposed_plain`."""
    corner = np.uint64(first), np.uint64(width), np.uint64(scattered(key))
    light = np.array([camera.qe, camera.background, camera.dark, camera.em_gain], np.float64)
    scale = np.array([camera.electrons, camera.offset, camera.top], np.float64)
    with np.errstate(over="ignore"):  # whole numbers of 64 bits go round, also where nothing is compiled
        _expose(out, photons, corner, light, sigma, camera.read_noise > 0, scale)


@njit(nogil=True, cache=True)
def _uniform(index, key, draw):  # type: ignore[no-untyped-def]
    h = (index * np.uint64(64) + np.uint64(draw) + key) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return (np.float64(h >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(nogil=True, cache=True)
def _normal(index, key, draw):  # type: ignore[no-untyped-def]
    far = math.sqrt(-2 * math.log(_uniform(index, key, draw)))
    return far * math.cos(2 * math.pi * _uniform(index, key, draw + 1))


@njit(nogil=True, cache=True)
def _poisson(m, index, key):  # type: ignore[no-untyped-def]
    if m < FEW:
        u = _uniform(index, key, FIRST)
        chance = math.exp(-m)
        total = chance
        n = 0
        while u > total and n < 199:
            n += 1
            chance = chance * m / n
            total += chance
        return float(n)
    b = 0.931 + 2.53 * math.sqrt(m)
    a = -0.059 + 0.02483 * b
    alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2)
    draw = FIRST
    while True:
        u, v = _uniform(index, key, draw) - 0.5, _uniform(index, key, draw + 1)
        draw += 2
        inside = 0.5 - abs(u)
        k = math.floor((2 * a / inside + b) * u + m + 0.43)
        if inside >= 0.07 and v <= quick:
            return float(k)
        if k < 0 or (inside < 0.013 and v > inside):
            continue
        if math.log(v * alpha / (a / (inside * inside) + b)) <= -m + k * math.log(m) - math.lgamma(k + 1.0):
            return float(k)


@njit(nogil=True, cache=True)
def _expose(out, photons, corner, light, sigma, noisy, scale):  # type: ignore[no-untyped-def]
    first, width, key = corner
    qe, background, dark, em_gain = light[0], light[1], light[2], light[3]
    electrons, offset, top = scale[0], scale[1], scale[2]
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            index = first + np.uint64(r) * width + np.uint64(c)
            mean = qe * (np.float64(photons[r, c]) + background) + dark
            drawn = _poisson(math.floor(max(mean, 0.0) * GRID + 0.5) / GRID, index, key)
            if em_gain > 1:
                drawn = em_gain * (drawn + math.sqrt(drawn) * _normal(index, key, 3))
            if noisy:
                drawn += sigma[r, c] * _normal(index, key, 7)
            out[r, c] = min(max(math.floor(drawn / electrons + offset + 0.5), 0.0), top)
