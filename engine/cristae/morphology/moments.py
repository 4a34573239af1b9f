"""Moments: how large an object is, where it lies, how long and how thin. Groups `index` and `shape`.

    index   voxels and bounding box
    shape   the same, with the first and second moments of the voxel centres

Per row all is whole numbers, relative to the block's origin, hence exact. Finishing shifts them: each row about a voxel
near its own centre (still exact), then rows about the object's mean in float64 by the rule of Chan, Golub and LeVeque
(The American Statistician 37, 242, 1983), where no large numbers cancel. Centroids are those of whole voxel indices:
index 0 lies at 0 um plus the volume's translation. Axes are those of the ellipsoid with the same second moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cristae.array import Array
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.grid import Shape, no_halo
from cristae.morphology.rows import (
    Field,
    label_region,
    merge_rows,
    new_rows,
    origins,
    row_type,
    segments,
    slots_by_label,
    total,
)

_BOX: tuple[Field, ...] = ("voxels", "<i8"), ("low", "<i4", (3,)), ("high", "<i4", (3,))
SHAPE_FIELDS: tuple[Field, ...] = (*_BOX, ("first", "<i8", (3,)), ("second", "<i8", (6,)))
INDEX, SHAPE = row_type(*_BOX), row_type(*SHAPE_FIELDS)


def index(*, voxel_um: Sequence[float]) -> Measure:
    """Voxels and bounding box of each label; nothing that has a unit of length."""
    return _measure("index", INDEX, len(voxel_um))


def shape(*, voxel_um: Sequence[float]) -> Measure:
    """What `index` knows, and the moments that give centroid and axes."""
    return _measure("shape", SHAPE, len(voxel_um))


def _measure(name: str, dtype: np.dtype[Any], ndim: int) -> Measure:
    return Measure(
        name,
        {"ndim": ndim},
        partial(_partial, dtype=dtype),
        partial(merge_rows, dtype=dtype),
        None,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=1.5),
    )


def _partial(labels: Array, *, at: At, answers: Mapping[str, Answer], dtype: np.dtype[Any]) -> Partial:
    from cristae.morphology import moments_kernel as kernel

    where = label_region(labels, at)
    keys, slots, sums = kernel.moments(where.array, where.lo, where.size)
    names, order = slots_by_label(keys, slots)
    rows = new_rows(dtype, names, at.out.start)
    fill_moments(rows, sums[order])
    return {"rows": rows}


def fill_moments(rows: np.ndarray, sums: np.ndarray) -> None:
    """Write a kernel's sums into those fields of index and shape that the rows have; boxes become absolute."""
    from cristae.morphology import moments_kernel as kernel

    names = rows.dtype.names or ()
    rows["voxels"] = sums[:, kernel.VOXELS]
    if "low" in names:
        rows["low"] = origins(rows) + sums[:, kernel.LOW : kernel.LOW + 3]
        rows["high"] = origins(rows) + sums[:, kernel.HIGH : kernel.HIGH + 3]
    if "first" in names:
        rows["first"] = sums[:, kernel.FIRST : kernel.FIRST + 3]
        rows["second"] = sums[:, kernel.SECOND : kernel.SECOND + 6]


def finish_index(rows: np.ndarray, *, ndim: int) -> dict[str, np.ndarray]:
    """Columns of the index: label, voxels, and the half-open bounding box in voxels of the volume."""
    from cristae.morphology.finish_kernel import boxes

    starts = segments(rows)
    columns = {"label": rows["label"][starts], "voxels": total(rows["voxels"], starts)}
    first, last = np.empty((3, len(starts)), np.int64), np.empty((3, len(starts)), np.int64)
    boxes(starts, rows["low"], rows["high"], first, last)
    for a, axis in list(enumerate("zyx"))[-ndim:]:
        columns[f"bbox_{axis}_min"], columns[f"bbox_{axis}_max"] = first[a], last[a]
    return columns


def finish_shape(
    rows: np.ndarray, *, voxel_um: Sequence[float], shape: Shape, translation_um: Sequence[float]
) -> dict[str, np.ndarray]:
    """Columns of the index and of shape; `shape` is the volume's, in voxels."""
    from cristae.morphology.axes_kernel import eigenvalues

    ndim = len(voxel_um)
    axes = "zyx"[-ndim:]
    columns = finish_index(rows, ndim=ndim)
    voxels = columns["voxels"]
    size = voxels * float(np.prod(voxel_um))
    low = np.stack([columns[f"bbox_{a}_min"] for a in axes], axis=-1)
    high = np.stack([columns[f"bbox_{a}_max"] for a in axes], axis=-1)
    mean, covariance = mean_and_covariance(rows)

    columns["volume_um3" if ndim == 3 else "area_um2"] = size
    for a, axis in enumerate(axes):
        columns[f"centroid_{axis}_um"] = mean[3 - ndim + a] * voxel_um[a] + translation_um[a]
    # Semi-axes of a solid ellipsoid are sqrt(5 variance), of an ellipse sqrt(4 variance).
    scale = np.outer(voxel_um, voxel_um)
    variance = eigenvalues(covariance[:, -ndim:, -ndim:] * scale)
    lengths = 2 * np.sqrt((ndim + 2) * np.clip(variance, 0, None))
    for i, name in enumerate(("minor", "mid", "major") if ndim == 3 else ("minor", "major")):
        columns[f"axis_{name}_um"] = lengths[:, i]
    columns["equivalent_diameter_um"] = (2 * ndim * size / np.pi) ** (1 / ndim)
    columns["extent"] = voxels / np.prod(high - low, axis=1)
    columns["touches_border"] = ((low == 0) | (high == np.array(shape))).any(axis=1)
    return columns


def mean_and_covariance(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3, labels) mean voxel and (labels, 3, 3) covariance with n in the denominator, in voxels of the volume.

    Exact up to float64 for any row whose second moments about its own mean stay below 2^63: 1e9 voxels spread over
    1e5 slices are fine.
    """
    from cristae.morphology.finish_kernel import ellipsoids

    starts = segments(rows)
    mean, covariance = np.empty((3, len(starts))), np.empty((len(starts), 3, 3))
    origin = (rows["z0"], rows["y0"], rows["x0"])
    ellipsoids(starts, *origin, rows["voxels"], rows["first"], rows["second"], mean, covariance)
    return mean, covariance
