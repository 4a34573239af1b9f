"""Surface and topology: sums over the 2x2x2 windows of a volume. Groups `surface` and `topology`.

Both are additive: the area of a marching-cubes surface is a sum over windows of an area that depends on the window's
2x2x2 configuration and the voxel size only; the Euler number is a sum of vertices, edges, faces and cubes, each shared
out among the windows that see it. In the plane the windows are 2x2 and the surface is a perimeter.

    worth     (256,) int64, what a window of each configuration adds; areas as multiples of a quantum of 2^-k um2
    euler8    eight times the Euler number of the closed voxels: foreground is 26-connected, 8-connected in the plane

Sums are whole numbers, so no order of blocks can show in them. The surface of a voxel staircase is 8 to 9 % more than
that of the smooth ball it stands for, at any radius; it equals `skimage.measure.mesh_surface_area`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from importlib import import_module
from math import atan2, frexp, hypot, pi
from typing import Any

import numpy as np

from cristae.array import Array
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidConfiguration
from cristae.morphology.moments import fill_moments
from cristae.morphology.rows import label_region, merge_rows, new_rows, row_type, segments, slots_by_label, total

_BITS = 31  # of the largest worth: 4e9 windows of an object stay below 2^63


def surface(*, voxel_um: Sequence[float]) -> Measure:
    """Area of the marching-cubes surface at half height; in the plane, Crofton's perimeter from four directions."""
    return windows(voxel_um=voxel_um, topology=False)


def topology(*, voxel_um: Sequence[float]) -> Measure:
    """Euler number: pieces less tunnels plus cavities; in the plane, pieces less holes."""
    return windows(voxel_um=voxel_um, surface=False)


def windows(*, voxel_um: Sequence[float], surface: bool = True, topology: bool = True) -> Measure:
    """Surface and topology from one visit of the windows.

    Raises
    ------
    InvalidConfiguration : if a voxel size is not a positive number, or neither is asked for.
    """
    names = [name for name, wanted in (("surface", surface), ("topology", topology)) if wanted]
    size = tuple(float(v) for v in voxel_um)
    if not names or not all(0 < v < np.inf for v in size):
        raise InvalidConfiguration(f"windows of {names or 'nothing'} need positive voxel sizes in um, got {size}")
    fields = {"surface": "surface", "topology": "euler8"}
    dtype = row_type(("voxels", "<i8"), *((fields[name], "<i8") for name in names))
    return Measure(
        "_".join(names),
        {"voxel_um": size},
        partial(_partial, voxel_um=size, dtype=dtype),
        partial(merge_rows, dtype=dtype),
        None,
        ((1, 1),) * len(size),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=12.0),
    )


def _partial(
    labels: Array, *, at: At, answers: Mapping[str, Answer], voxel_um: tuple[float, ...], dtype: np.dtype[Any]
) -> Partial:
    from cristae.morphology import moments_kernel, surface_kernel

    where = label_region(labels, at)
    keys, slots, sums = moments_kernel.moments(where.array, where.lo, where.size)
    names, order = slots_by_label(keys, slots)
    tables = {"surface": surface_worth(voxel_um)[0], "euler8": euler_worth(len(voxel_um))}
    fields = [name for name in tables if name in (dtype.names or ())]
    worth = np.stack([tables[name] for name in fields], axis=-1)
    found = np.zeros((len(names), len(fields)), np.int64)
    surface_kernel.windows(where.array, where.lo, where.size, len(voxel_um) == 2, keys, slots, worth, found)
    rows = new_rows(dtype, names, at.out.start)
    fill_moments(rows, sums[order])
    for k, name in enumerate(fields):
        rows[name] = found[order, k]
    return {"rows": rows}


def finish_windows(rows: np.ndarray, *, voxel_um: Sequence[float]) -> dict[str, np.ndarray]:
    """Columns of surface and topology, whichever the rows carry."""
    starts = segments(rows)
    columns = {"label": rows["label"][starts]}
    names = rows.dtype.names or ()
    if "surface" in names:
        amount = total(rows["surface"], starts) * surface_worth(tuple(map(float, voxel_um)))[1]
        if len(voxel_um) == 2:
            columns["perimeter_um"] = amount
        else:
            columns["surface_um2"] = amount
            volume = total(rows["voxels"], starts) * float(np.prod(voxel_um))
            columns["sphericity"] = np.cbrt(pi) * np.cbrt(6 * volume) ** 2 / amount
    if "euler8" in names:
        columns["euler_number"] = total(rows["euler8"], starts) // 8
    return columns


@lru_cache(maxsize=16)
def surface_worth(voxel_um: tuple[float, ...]) -> tuple[np.ndarray, float]:
    """Area or length that a window of each configuration adds, as (256,) int64 multiples of a quantum, and the quantum.

    The quantum is a power of two, so that turning sums back to um2 or um rounds nothing.
    """
    exact = _areas(voxel_um) if len(voxel_um) == 3 else _lengths(voxel_um)
    quantum = 2.0 ** (frexp(exact.max())[1] - _BITS)
    worth = np.rint(exact / quantum).astype(np.int64)
    worth.flags.writeable = False
    return worth, quantum


def _shown(configuration: int) -> np.ndarray:
    return (configuration >> np.arange(8) & 1).reshape(2, 2, 2).astype(bool)


@lru_cache(maxsize=1)
def _meshes() -> tuple[np.ndarray, ...]:
    """(triangles, 3, 3) corners, in voxels, of the surface inside a window of each configuration but none and all."""
    measure: Any = import_module("skimage.measure")
    found = []
    for configuration in range(1, 255):
        vertices, faces, _, _ = measure.marching_cubes(_shown(configuration).astype(np.float32), 0.5)
        found.append(vertices[faces].astype(np.float64))
    return tuple(found)


def _areas(voxel_um: tuple[float, ...]) -> np.ndarray:
    # Vertices lie halfway between voxels whatever the voxel size, so one set of meshes serves every spacing.
    areas = np.zeros(256)
    for configuration, triangles in enumerate(_meshes(), 1):
        a, b, c = np.moveaxis(triangles * voxel_um, 1, 0)
        areas[configuration] = np.linalg.norm(np.cross(b - a, c - a), axis=-1).sum() / 2
    return areas


def _lengths(voxel_um: tuple[float, ...]) -> np.ndarray:
    """Perimeter by Cauchy and Crofton: crossings of lines along x, y and both diagonals.

    Each family of lines weighs its spacing times the angle it stands for (half way to its neighbours on each side);
    for square pixels this is `skimage.measure.perimeter_crofton` with four directions.
    """
    dy, dx = voxel_um
    slope = atan2(dy, dx)
    # A crossing is an entry or an exit, hence the half; rows and columns are seen by two windows, hence the quarter.
    along_x, along_y = slope * dy / 4, (pi / 2 - slope) * dx / 4
    diagonal = pi / 4 * dx * dy / hypot(dx, dy) / 2
    lengths = np.zeros(256)
    for configuration in range(16):
        (a, b), (c, d) = _shown(configuration)[0]
        lengths[configuration] = (
            along_x * (int(a != b) + int(c != d))
            + along_y * (int(a != c) + int(b != d))
            + diagonal * (int(a != d) + int(b != c))
        )
    return lengths


@lru_cache(maxsize=2)
def euler_worth(ndim: int) -> np.ndarray:
    """(256,) int64: eight times the share of a window's middle vertex in the Euler number of closed voxels.

    A vertex belongs to one window, an edge to two, a face to four, a cube to eight (to one, two, four in the plane);
    each is there if any voxel that it bounds is.
    """
    worth = np.zeros(256, np.int64)
    for configuration in range(2 ** (2**ndim)):
        shown = _shown(configuration)[0] if ndim == 2 else _shown(configuration)
        for fixed in np.ndindex((2,) * ndim):
            # Cells whose free axes are those with fixed == 0 meet the vertex on either side of each free axis.
            closed = tuple(a for a in range(ndim) if fixed[a])
            free = ndim - len(closed)
            cells = shown.any(axis=closed) if closed else shown
            worth[configuration] += (-1) ** free * (8 >> free) * int(np.count_nonzero(cells))
    worth.flags.writeable = False
    return worth
