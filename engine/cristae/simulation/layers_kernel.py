"""Compiled twins of `layers`: the same sums, in the same order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.compiled import njit
from cristae.simulation.transfer import Transfer


def spread(
    layers: NDArray[np.float32], home: int, at: NDArray[Any], light: NDArray[Any], part: NDArray[np.floating]
) -> None:
    """`layers.spread_plain`."""
    _spread(layers, home, np.ascontiguousarray(at), np.ascontiguousarray(light), part)


def fold(planes: NDArray[np.complex64], spectrum: NDArray[np.complex64], line: int, through: Transfer) -> None:
    """`layers.fold_plain`."""
    summed = planes.reshape(len(planes), -1)
    columns = through.low[:, line], through.high[:, line], through.share[:, line]
    _fold(summed, np.ascontiguousarray(spectrum).reshape(-1), through.table, *columns)


@njit(nogil=True, cache=True)
def _spread(layers, home, at, light, part):  # type: ignore[no-untyped-def]
    n = layers.shape[1]
    wz, wy, wx = np.empty(4), np.empty(4), np.empty(4)
    for i in range(len(light)):
        y, x = int(np.floor(at[i, 0])), int(np.floor(at[i, 1]))
        _spline(wy, at[i, 0] - y)
        _spline(wx, at[i, 1] - x)
        _lagrange(wz, np.float64(part[i]))
        for tap in range(4):
            layer = (home - 1 + tap) % 4
            lit = light[i] * wz[tap]
            for dy in range(4):
                row = (y + dy - 1) % n
                for dx in range(4):
                    layers[layer, row, (x + dx - 1) % n] += np.float32(lit * wy[dy] * wx[dx])


@njit(nogil=True, cache=True)
def _lagrange(w, t):  # type: ignore[no-untyped-def]
    w[0] = -t * (t - 1) * (t - 2) / 6
    w[1] = (t + 1) * (t - 1) * (t - 2) / 2
    w[2] = -(t + 1) * t * (t - 2) / 2
    w[3] = (t + 1) * t * (t - 1) / 6


@njit(nogil=True, cache=True)
def _spline(w, t):  # type: ignore[no-untyped-def]
    w[0] = (1 - t) ** 3 / 6
    w[1] = (4 - 6 * t**2 + 3 * t**3) / 6
    w[2] = (1 + 3 * t + 3 * t**2 - 3 * t**3) / 6
    w[3] = t**3 / 6


@njit(nogil=True, cache=True)
def _fold(planes, spectrum, table, low, high, share):  # type: ignore[no-untyped-def]
    for p in range(len(planes)):
        one, other, w = low[p], high[p], share[p]
        if one < 0:
            continue
        if w == 0 or one == other:
            for b in range(len(spectrum)):
                planes[p, b] += spectrum[b] * table[one, b]
        else:
            for b in range(len(spectrum)):
                planes[p, b] += spectrum[b] * (table[one, b] * (np.float32(1) - w) + table[other, b] * w)
