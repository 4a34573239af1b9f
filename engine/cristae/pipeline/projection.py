"""Projection: what a volume and its labels look like along an axis, as a measure whose partials merge.

    frame       at each pixel the brightest value of the ray, and the label found there
    projection  the frames of a box; they merge into the frames of any union of boxes
    pixel       a cell of `step` voxels a side, so that the frames of the largest volume still fit a screen

Where two values tie, the smaller label wins, so the merge does not depend on order. A pixel that no box has reached
holds the lowest value and the largest label, which lose against everything.

Axes are (z, y, x); a plane image is a volume of one z. Nothing here knows how labels were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import Box, Shape, no_halo

N = TypeVar("N")

FRAME_VOXELS = 2048  # longest side of a frame, pixels
NOWHERE = np.iinfo(np.uint64).max  # the label of a pixel that no box has reached


def projections(*, voxel_um: Sequence[float]) -> Measure:
    """The frames of a labelled image along z ("xy") and along y ("xz"), found block by block.

    voxel_um : (z, y, x) or (y, x), micrometres

    The arrays are labels (integers, 0 is background) and image, of one shape. The answer holds `xy` (y, x) and `xz`
    (z, x) in the image's dtype, `labels_xy` and `labels_xz` uint64, and `pixel_um` (3,), the size of a pixel of a frame
    along z, y and x; `compose` draws them.
    """
    voxel = tuple(float(v) for v in voxel_um)
    return Measure(
        "projections",
        {"voxel_um": voxel},
        partial=_describe,
        merge=merge_projections,
        finish=partial(finish_projections, voxel_um=voxel),
        halo=no_halo(len(voxel)),
        cost=Cost(bytes_per_voxel=1.0 if len(voxel_um) == 3 else 21.0, ns_per_voxel=9.0),
    )


def _describe(labels: Array, image: Array, *, at: At, answers: Mapping[str, Answer]) -> Partial:
    core = at.out
    return project_block(
        to_host(image)[core.within(at.reads[-1])],
        to_host(labels)[core.within(at.reads[0])],
        core,
        pixel_step(at.grid.shape),
    )


def pixel_step(shape: Shape) -> tuple[int, int, int]:
    """Voxels in a pixel along (z, y, x): y and x alike, the fewest that keep a frame within FRAME_VOXELS."""
    depth, *plane = _three(shape, 1)
    lateral = -(-max(plane) // FRAME_VOXELS)
    return -(-depth // FRAME_VOXELS), lateral, lateral


def project_block(image: np.ndarray, labels: np.ndarray, box: Box, step: tuple[int, int, int]) -> Partial:
    """The frames of one box.

    image, labels : of the box's shape, (z, y, x) or (y, x); bool, integer or float, and integer. NaN counts as -inf.
    step : voxels in a pixel, (z, y, x)

    Returns `xy`, `xz`, `labels_xy`, `labels_xz`, the `box` they cover in pixels, int64 (2, 3), and the `step`.
    """
    if image.shape != labels.shape:
        raise InvalidInput(
            f"a picture needs an image and labels of one shape, got {image.shape} and {labels.shape}; "
            "give the image that the labels were made from"
        )
    start = _three(box.start, 0)
    image, labels = image.reshape(_three(image.shape, 1)), labels.reshape(_three(labels.shape, 1))
    frames = {}
    for name, axis, kept in (("xy", 0, (1, 2)), ("xz", 1, (0, 2))):
        value, label = _brightest_along(image, labels, axis)
        frames[name], frames[f"labels_{name}"] = _reduce(
            value, label, tuple(start[a] for a in kept), tuple(step[a] for a in kept)
        )
    low = [a // s for a, s in zip(start, step, strict=True)]
    high = [-(-(a + n) // s) for a, n, s in zip(start, image.shape, step, strict=True)]
    return frames | {"box": np.array([low, high]), "step": np.array(step)}


def merge_projections(partials: Sequence[Partial]) -> Partial:
    """The frames of the box around all `partials`; associative and commutative, and `[]` gives frames of no pixel."""
    some = [p for p in partials if p["xy"].size]
    if len(some) < 2:
        return some[0] if some else _no_projection()
    low = np.min([p["box"][0] for p in some], axis=0)
    high = np.max([p["box"][1] for p in some], axis=0)
    merged: Partial = {"box": np.array([low, high]), "step": some[0]["step"]}
    for name, kept in (("xy", (1, 2)), ("xz", (0, 2))):
        value, label = _unreached(tuple(int(high[a] - low[a]) for a in kept), some[0][name].dtype)
        for p in some:
            at = tuple(slice(p["box"][0, a] - low[a], p["box"][1, a] - low[a]) for a in kept)
            _brighten(value[at], label[at], p[name], p[f"labels_{name}"])
        merged[name], merged[f"labels_{name}"] = value, label
    return merged


def finish_projections(merged: Partial, *, voxel_um: Sequence[float]) -> Partial:
    """The frames, and the size of their pixels along z, y and x."""
    frames = {name: merged[name] for name in ("xy", "xz", "labels_xy", "labels_xz")}
    return frames | {"pixel_um": merged["step"] * np.array(_three(tuple(voxel_um), 1.0))}


def _brighten(value: np.ndarray, label: np.ndarray, other: np.ndarray, other_label: np.ndarray) -> None:
    """The one rule, in place: the larger value with its label; of equal values, the smaller label."""
    wins = (other > value) | ((other == value) & (other_label < label))
    np.copyto(value, other, where=wins)
    np.copyto(label, other_label, where=wins)


def _brightest_along(image: np.ndarray, labels: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Value and label at the brightest voxel of each ray, the axis gone."""
    dtype = np.dtype(np.uint8) if image.dtype == bool else image.dtype
    value, label = _unreached(tuple(n for a, n in enumerate(image.shape) if a != axis), dtype)
    for plane, ids in zip(np.moveaxis(image, axis, 0), np.moveaxis(labels, axis, 0), strict=True):
        if dtype.kind == "f":
            plane = np.where(np.isnan(plane), -np.inf, plane).astype(dtype)
        _brighten(value, label, plane, ids.astype(np.uint64))
    return value, label


def _reduce(
    value: np.ndarray, label: np.ndarray, start: tuple[int, ...], step: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of `step` voxels, on the volume's own lattice: a pixel may be cut by the box, and merges later."""
    if max(step) == 1:
        return value, label
    lead = [a % s for a, s in zip(start, step, strict=True)]
    padded = tuple(-(-(n + c) // s) * s for n, c, s in zip(value.shape, lead, step, strict=True))
    wide, wide_label = _unreached(padded, value.dtype)
    inner = tuple(slice(c, c + n) for c, n in zip(lead, value.shape, strict=True))
    wide[inner], wide_label[inner] = value, label
    out, out_label = _unreached(tuple(n // s for n, s in zip(padded, step, strict=True)), value.dtype)
    for i in range(step[0]):
        for j in range(step[1]):
            _brighten(out, out_label, wide[i :: step[0], j :: step[1]], wide_label[i :: step[0], j :: step[1]])
    return out, out_label


def _unreached(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    lowest = -np.inf if dtype.kind == "f" else np.iinfo(dtype).min
    return np.full(shape, lowest, dtype), np.full(shape, NOWHERE, np.uint64)


def _no_projection() -> Partial:
    value, label = _unreached((0, 0), np.dtype(np.uint8))
    box = np.zeros((2, 3), np.int64)
    return {"xy": value, "xz": value, "labels_xy": label, "labels_xz": label, "box": box, "step": box[0] + 1}


def _three(plane: Sequence[N], first: N) -> tuple[N, N, N]:
    padded = [first] * (3 - len(plane))
    padded.extend(plane)
    z, y, x = padded
    return z, y, x
