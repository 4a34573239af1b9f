"""Intensity: what a raw channel shows inside each object. Group `intensity`, one measure for each channel.

Sum, least and largest value are exact for integer images of up to 4 bytes. The spread comes from sums about a pivot in
each block, combined between blocks by the rule of Chan, Golub and LeVeque (The American Statistician 37, 242, 1983):
a mean of 60000 with a deviation of 1 loses nothing. Deviations divide by n, as in `numpy.std`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from cristae.array import Array
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import Box, no_halo
from cristae.morphology.moments import SHAPE_FIELDS, fill_moments
from cristae.morphology.rows import (
    Region,
    label_region,
    merge_rows,
    new_rows,
    region,
    row_type,
    segments,
    slots_by_label,
)


def intensity(*, voxel_um: Sequence[float], dtype: str, channel: str = "", shape: bool = False) -> Measure:
    """Sum, mean, deviation, extremes and weighted centroid of one channel in each label.

    The measure reads labels and that channel; `dtype` is the channel's, and `channel` its name in messages. With
    `shape`, rows also carry what the measure `shape` finds, at a small part of its price.

    Raises
    ------
    InvalidInput : if `dtype` is neither a whole nor a real number.
    """
    kind = np.dtype(dtype)
    if kind.kind not in "buif":
        raise InvalidInput(
            f"channel {channel!r} holds {dtype}, whose intensity has no order; convert it to real numbers"
        )
    exact = "<i8" if kind.kind in "bui" and kind.itemsize <= 4 else "<f8"
    rows = row_type(
        *(SHAPE_FIELDS if shape else (("voxels", "<i8"),)),
        ("sum", exact), ("least", exact), ("largest", exact),
        ("pivot", "<f8"), ("shifted", "<f8"), ("squared", "<f8"), ("weighted", "<f8", (3,)),
    )  # fmt: skip
    ndim = len(voxel_um)
    return Measure(
        "shape_intensity" if shape else "intensity",
        {"ndim": ndim, "dtype": kind.name, "channel": channel},
        partial(_partial, dtype=rows, channel=channel),
        partial(merge_rows, dtype=rows),
        None,
        no_halo(ndim),
        cost=Cost(bytes_per_voxel=1.0, ns_per_voxel=2.5),
        tolerance=1e-9,
    )


def _partial(
    labels: Array, image: Array, *, at: At, answers: Mapping[str, Answer], dtype: np.dtype[Any], channel: str
) -> Partial:
    from cristae.morphology import intensity_kernel as kernel

    where, shown = label_region(labels, at), region(image, at.reads[1], at.out)
    values = shown.array.astype(np.float32) if shown.array.dtype == np.float16 else shown.array
    kind = np.empty(0, dtype["sum"])
    keys, slots, sums, powers, exact = kernel.intensities(where.array, where.lo, values, shown.lo, where.size, kind)
    names, order = slots_by_label(keys, slots)
    powers, exact = powers[order], exact[order, 0]
    if not np.isfinite(exact).all():
        _refuse_non_finite(where, shown, at.out, channel)
    rows = new_rows(dtype, names, at.out.start)
    fill_moments(rows, sums[order])
    rows["sum"] = exact
    rows["least"], rows["largest"] = powers[:, kernel.LEAST], powers[:, kernel.LARGEST]
    rows["pivot"] = powers[:, kernel.PIVOT]
    rows["shifted"] = powers[:, kernel.SHIFTED]
    rows["squared"] = powers[:, kernel.SQUARED]
    rows["weighted"] = powers[:, kernel.WEIGHTED :]
    return {"rows": rows}


def _refuse_non_finite(labels: Region, image: Region, core: Box, channel: str) -> None:
    found = np.argwhere(~np.isfinite(image.core) & (labels.core != 0))
    if len(found):
        z, y, x = found[0]
        voxel = tuple(int(i) + s for i, s in zip(found[0][-len(core.start) :], core.start, strict=True))
        raise InvalidInput(
            f"channel {channel!r} holds NaN or infinity at {len(found)} voxels of objects between {core.start} and "
            f"{core.stop}, first at voxel {voxel} of object {labels.core[z, y, x]}; replace them, or "
            "take them out of the labels"
        )


def finish_intensity(
    rows: np.ndarray, *, voxel_um: Sequence[float], translation_um: Sequence[float], background: float = 0
) -> dict[str, np.ndarray]:
    """Columns of one channel, without its name.

    background : what a voxel shows where there is nothing; taken from sum, mean, min and max. The weighted centroid is that of the
        raw channel, and NaN where an object's sum is 0.

    Raises
    ------
    InvalidInput : if a sum of whole numbers passes 2^63.
    """
    from cristae.morphology.finish_kernel import amounts, spreads

    ndim = len(voxel_um)
    starts = segments(rows)
    count, mean, scatter = np.empty(len(starts), np.int64), np.empty(len(starts)), np.empty(len(starts))
    spreads(starts, rows["voxels"], rows["pivot"], rows["shifted"], rows["squared"], count, mean, scatter)
    amount, least, largest = (np.empty(len(starts), rows.dtype[name]) for name in ("sum", "least", "largest"))
    centre = np.empty((3, len(starts)))
    origin = (rows["z0"], rows["y0"], rows["x0"])
    amounts(
        starts, *origin, rows["sum"], rows["least"], rows["largest"], rows["weighted"], amount, least, largest, centre
    )
    if amount.dtype.kind == "i" and (np.abs(mean * count) > 2.0**63).any():
        raise InvalidInput("an object's summed intensity passes 2^63; convert the channel to float32")
    columns = {
        "label": rows["label"][starts],
        "intensity_sum": amount,
        "intensity_mean": mean,
        "intensity_std": np.sqrt(np.clip(scatter, 0, None) / count),
        "intensity_min": least,
        "intensity_max": largest,
    }
    for a, axis in list(enumerate("zyx"))[-ndim:]:
        i = a - (3 - ndim)
        columns[f"intensity_centroid_{axis}_um"] = centre[a] * voxel_um[i] + translation_um[i]
    if background:
        columns["intensity_sum"] = columns["intensity_sum"] - background * count
        for name in ("intensity_mean", "intensity_min", "intensity_max"):
            columns[name] = columns[name] - background
    return columns


SUBTRACTED = ("intensity_sum", "intensity_mean", "intensity_min", "intensity_max")
"""Columns that a background is taken from."""
