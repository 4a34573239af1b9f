"""Compiled loop: moments of each label of a block, with the sums and extremes of an image inside it.

Powers are taken of the difference to a pivot, the value of the label's first voxel in the block, so that a bright
object with little spread loses no digits. Labels are numbered and walked as in `moments_kernel`: finding the runs is
most of the work, so their moments come with them.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit
from cristae.morphology.moments_kernel import (
    LOW,
    WIDTH,
    add_run,
    enough,
    find_runs,
    longer,
    place,
    room_for_runs,
    wider,
)

# Columns of `powers`.
PIVOT, LEAST, LARGEST, SHIFTED, SQUARED, WEIGHTED, POWERS = 0, 1, 2, 3, 4, 5, 8


@njit(nogil=True, cache=True)
def add_values(
    powers: np.ndarray, exact: np.ndarray, s: int, values: np.ndarray, z: int, y: int, a: int, x: int
) -> None:
    """Add values a to x - 1 of one row to the sums of slot s."""
    pivot = powers[s, PIVOT]
    amount, least, largest = exact[s, 0], powers[s, LEAST], powers[s, LARGEST]
    shifted = squared = along = 0.0
    for i in range(a, x):
        v = float(values[i])
        d = v - pivot
        amount += values[i]
        least = v if v < least else least
        largest = v if v > largest else largest
        shifted += d
        squared += d * d
        along += v * i
    mass = shifted + (x - a) * pivot
    exact[s, 0], powers[s, LEAST], powers[s, LARGEST] = amount, least, largest
    powers[s, SHIFTED] += shifted
    powers[s, SQUARED] += squared
    powers[s, WEIGHTED] += mass * z
    powers[s, WEIGHTED + 1] += mass * y
    powers[s, WEIGHTED + 2] += along


@njit(nogil=True, cache=True)
def _walk(
    labels: np.ndarray,
    lo: tuple[int, int, int],
    image: np.ndarray,
    image_lo: tuple[int, int, int],
    size: tuple[int, int, int],
    keys: np.ndarray,
    slots: np.ndarray,
    sums: np.ndarray,
    powers: np.ndarray,
    exact: np.ndarray,
    begin: int,
    found: int,
) -> tuple[int, int]:
    # As `moments_kernel._walk`.
    last, s = np.uint64(0), 0
    marks, bounds = room_for_runs(size[2])
    for i in range(begin, size[0] * size[1]):
        if found + size[2] > sums.shape[0]:
            return i, found
        z, y = i // size[1], i % size[1]
        row = labels[lo[0] + z, lo[1] + y, lo[2] : lo[2] + size[2]]
        values = image[image_lo[0] + z, image_lo[1] + y, image_lo[2] : image_lo[2] + size[2]]
        for j in range(find_runs(row, marks, bounds)):
            a, x = bounds[j], bounds[j + 1]
            label = np.uint64(row[a])
            if label == 0:
                continue
            if label != last:
                last = label
                p = place(keys, slots, label)
                s = slots[p] - 1
                if s < 0:
                    s = found
                    found += 1
                    keys[p], slots[p] = label, found
                    sums[s, LOW : LOW + 3] = size
                    powers[s, PIVOT] = powers[s, LEAST] = powers[s, LARGEST] = values[a]
            add_run(sums[s], z, y, a, x)
            add_values(powers, exact, s, values, z, y, a, x)
    return size[0] * size[1], found


@njit(nogil=True, cache=True)
def intensities(
    labels: np.ndarray,
    lo: tuple[int, int, int],
    image: np.ndarray,
    image_lo: tuple[int, int, int],
    size: tuple[int, int, int],
    kind: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Moments of each label of the core, and sums of `image` over it.

    labels, image : (z, y, x) C-contiguous; their cores begin at `lo` and `image_lo` and have the shape `size`.
    kind : (0,) int64 for integer images of up to 4 bytes, float64 for others; the type of the last table.

    Returns
    -------
    keys, slots and sums as of `moments`; powers (slots or more, POWERS) float64: pivot, least and largest value,
    sum and sum of squares of value - pivot, sum of value times z, y, x; exact (slots or more, 1): sum of values.
    """
    room = enough(size[2])
    keys, slots = np.zeros(2 * room, np.uint64), np.zeros(2 * room, np.int64)
    sums, powers = np.zeros((room, WIDTH), np.int64), np.zeros((room, POWERS))
    exact = np.zeros((room, 1), kind.dtype)
    done, found = _walk(labels, lo, image, image_lo, size, keys, slots, sums, powers, exact, 0, 0)
    while done < size[0] * size[1]:
        keys, slots = wider(keys, slots)
        sums, powers, exact = longer(sums), longer(powers), longer(exact)
        done, found = _walk(labels, lo, image, image_lo, size, keys, slots, sums, powers, exact, done, found)
    return keys, slots, sums, powers, exact
