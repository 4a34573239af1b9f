"""Compiled twin of `camera.poisson_plain`: the same numbers, voxel by voxel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cristae.compiled import njit
from cristae.simulation.draws import FEW, FIRST, scattered


def poisson(mean: NDArray[np.float64], index: NDArray[np.uint64], key: int) -> NDArray[np.float64]:
    """`camera.poisson_plain`."""
    out = np.empty(mean.shape)
    places = np.broadcast_to(index, mean.shape)
    key_of = np.uint64(scattered(key))
    with np.errstate(over="ignore"):  # whole numbers of 64 bits go round, also where nothing is compiled
        _poisson(
            out.reshape(-1), np.ascontiguousarray(mean).reshape(-1), np.ascontiguousarray(places).reshape(-1), key_of
        )
    return out


@njit(nogil=True, cache=True)
def _uniform(index, key, draw):  # type: ignore[no-untyped-def]
    h = (index * np.uint64(64) + np.uint64(draw) + key) * np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    h = h ^ (h >> np.uint64(31))
    return (np.float64(h >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(nogil=True, cache=True)
def _poisson(out, mean, index, key):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        m = mean[i]
        if m < FEW:
            u = _uniform(index[i], key, FIRST)
            chance = math.exp(-m)
            total = chance
            n = 0
            while u > total and n < 199:
                n += 1
                chance = chance * m / n
                total += chance
            out[i] = n
            continue
        b = 0.931 + 2.53 * math.sqrt(m)
        a = -0.059 + 0.02483 * b
        alpha = 1.1239 + 1.1328 / (b - 3.4)
        quick = 0.9277 - 3.6224 / (b - 2)
        draw = FIRST
        while True:
            u, v = _uniform(index[i], key, draw) - 0.5, _uniform(index[i], key, draw + 1)
            draw += 2
            inside = 0.5 - abs(u)
            k = math.floor((2 * a / inside + b) * u + m + 0.43)
            if inside >= 0.07 and v <= quick:
                break
            if k < 0 or (inside < 0.013 and v > inside):
                continue
            if math.log(v * alpha / (a / (inside * inside) + b)) <= -m + k * math.log(m) - math.lgamma(k + 1.0):
                break
        out[i] = k
