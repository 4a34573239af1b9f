"""Projection: what a volume and its labels look like along an axis, as a measure whose partials merge.

    frame       at each pixel the brightest value of the ray, and the label found there
    patch       the frame of a box; a projection holds the patches of any number of boxes, and no pixel between them
    pixel       a cell of `step` voxels a side, so that the frames of the largest volume still fit a screen

Where two values tie, the smaller label wins, so the merge does not depend on order. A pixel that no box has reached
holds the lowest value and the largest label, which lose against everything.

Axes are (z, y, x); a plane image is a volume of one z. Nothing here knows how labels were made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Cost
from cristae.errors import InvalidInput
from cristae.grid import Box, Shape, no_halo

N = TypeVar("N")
Patch = tuple[int, ...]
"""Of a frame, the first pixel of a box and the one beyond its last: row and column of each."""

FRAME_VOXELS = 2048  # longest side of a frame, pixels
FRAMES = (("xy", 0, (1, 2)), ("xz", 1, (0, 2)))  # name, the axis that is looked along, those that are left
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
    """The patches of one box.

    image, labels : of the box's shape, (z, y, x) or (y, x); bool, integer or float, and integer. NaN counts as -inf.
    step : voxels in a pixel, (z, y, x)

    Returns, for each frame, its `values` and `labels` as flat arrays, the `boxes` of pixels they fill one after the other, int64
    (k, 2, 2), and the `step`.
    """
    if image.shape != labels.shape:
        raise InvalidInput(
            f"a picture needs an image and labels of one shape, got {image.shape} and {labels.shape}; "
            "give the image that the labels were made from"
        )
    start = _three(box.start, 0)
    image, labels = image.reshape(_three(image.shape, 1)), labels.reshape(_three(labels.shape, 1))
    partial: Partial = {"step": np.array(step)}
    for name, axis, kept in FRAMES:
        value, label = _brightest_along(image, labels, axis)
        first, cell = tuple(start[a] for a in kept), tuple(step[a] for a in kept)
        value, label = _reduce(value, label, first, cell)
        low = np.array(first) // cell
        patches = {(*low.tolist(), *(low + value.shape).tolist()): (value, label)}
        partial |= _packed(name, patches)
    return partial


def merge_projections(partials: Sequence[Partial]) -> Partial:
    """The patches of all `partials`, those of one place made one; associative and commutative, and `[]` gives none."""
    some = [p for p in partials if p["boxes_xy"].size]
    merged: Partial = {"step": some[0]["step"] if some else np.ones(3, np.int64)}
    for name, _, _ in FRAMES:
        patches: dict[Patch, tuple[np.ndarray, np.ndarray]] = {}
        for part in some:
            for place, value, label in _patches(name, part):
                if place in patches:
                    _brighten(*patches[place], value, label)
                else:
                    patches[place] = value.copy(), label.copy()
        merged |= _packed(name, patches)
    return merged


def finish_projections(merged: Partial, *, voxel_um: Sequence[float]) -> Partial:
    """The frames around all patches, and the size of their pixels along z, y and x."""
    found: Partial = {}
    for name, _, _ in FRAMES:
        boxes = merged[f"boxes_{name}"]
        low = boxes[:, 0].min(axis=0, initial=np.iinfo(np.int64).max) if len(boxes) else np.zeros(2, np.int64)
        high = boxes[:, 1].max(axis=0, initial=0) if len(boxes) else low
        value, label = _unreached(tuple((high - low).tolist()), merged[f"values_{name}"].dtype)
        for place, patch, ids in _patches(name, merged):
            at = tuple(slice(a - c, b - c) for a, b, c in zip(place[:2], place[2:], low.tolist(), strict=True))
            _brighten(value[at], label[at], patch, ids)
        found[name], found[f"labels_{name}"] = value, label
    return found | {"pixel_um": merged["step"] * np.array(_three(tuple(voxel_um), 1.0))}


def _packed(name: str, patches: Mapping[Patch, tuple[np.ndarray, np.ndarray]]) -> Partial:
    """Patches in the order of their places."""
    places = sorted(patches)
    return {
        f"boxes_{name}": np.array(places, np.int64).reshape(-1, 2, 2),
        f"values_{name}": np.concatenate([patches[p][0].ravel() for p in places] or [np.empty(0, np.uint8)]),
        f"labels_{name}": np.concatenate([patches[p][1].ravel() for p in places] or [np.empty(0, np.uint64)]),
    }


def _patches(name: str, part: Partial) -> Iterator[tuple[Patch, np.ndarray, np.ndarray]]:
    at = 0
    for box in part[f"boxes_{name}"]:
        rows, columns = (box[1] - box[0]).tolist()
        own, at = slice(at, at + rows * columns), at + rows * columns
        place = tuple(box.ravel().tolist())
        value, label = (part[f"{what}_{name}"][own].reshape(rows, columns) for what in ("values", "labels"))
        yield place, value, label


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


def _three(plane: Sequence[N], first: N) -> tuple[N, N, N]:
    padded = [first] * (3 - len(plane))
    padded.extend(plane)
    z, y, x = padded
    return z, y, x
