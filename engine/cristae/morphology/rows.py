"""Rows: what one block knows of one label, and how the rows of many blocks come together.

    row       label, origin of the block's core in voxels, then the sums of one group; at most 256 bytes
    merge     rows of several blocks in the order (label, origin): concatenated, never added
    segments  the rows of one label, which lie together; sums over them run in raster order of the blocks

Adding waits until a table is finished, so that float sums do not depend on the order in which blocks were done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cristae.array import Array, to_host
from cristae.blocks.measure import Partial
from cristae.blocks.stage import At
from cristae.errors import InvalidInput
from cristae.grid import Box

HEAD = [("label", "<u8"), ("z0", "<i4"), ("y0", "<i4"), ("x0", "<i4")]

Field = tuple[str, str] | tuple[str, str, tuple[int, ...]]


def row_type(*fields: Field) -> np.dtype[Any]:
    """The type of a row that carries these fields after label and origin."""
    return np.dtype([*HEAD, *fields])


def merge_rows(partials: Sequence[Partial], dtype: np.dtype[Any]) -> Partial:
    """The rows of all partials, sorted by label and then by raster order of their blocks; each partial is sorted."""
    several = [p["rows"] for p in partials if len(p["rows"])]
    if len(several) < 2:
        return {"rows": several[0] if several else np.empty(0, dtype)}
    keys = [np.concatenate([rows[name] for rows in several]) for name in ("x0", "y0", "z0", "label")]
    place = np.empty(len(keys[0]), np.intp)
    place[np.lexsort(keys)] = np.arange(len(place))
    # Each row is moved once, to where it belongs; as bytes, since a record is copied field by field.
    merged = np.empty(len(place), dtype)
    for rows, stop in zip(several, np.cumsum([len(rows) for rows in several]), strict=True):
        _bytes(merged)[place[stop - len(rows) : stop]] = _bytes(rows)
    return {"rows": merged}


def _bytes(rows: np.ndarray) -> np.ndarray:
    return rows.view(f"V{rows.dtype.itemsize}")


def new_rows(dtype: np.dtype[Any], labels: np.ndarray, origin: tuple[int, ...]) -> np.ndarray:
    """Rows of one block, their sums still zero; origin is (z, y, x), or (y, x) in the plane, where z is 0."""
    rows = np.zeros(len(labels), dtype)
    rows["label"] = labels
    for name, start in zip(("z0", "y0", "x0"), (0,) * (3 - len(origin)) + origin, strict=True):
        rows[name] = start
    return rows


def origins(rows: np.ndarray) -> np.ndarray:
    """(rows, 3) int64 origin of each row's block, z y x."""
    return np.stack([rows["z0"], rows["y0"], rows["x0"]], axis=-1).astype(np.int64)


def segments(rows: np.ndarray) -> np.ndarray:
    """(labels,) where the rows of each label begin; `rows` are sorted."""
    label = rows["label"]
    return np.flatnonzero(np.r_[True, label[1:] != label[:-1]]) if len(rows) else np.empty(0, np.int64)


def total(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sums of `values` (rows, ...) over each segment, first row first."""
    return values if len(starts) == len(values) else np.add.reduceat(values, starts, axis=0)


@dataclass(frozen=True, slots=True)
class Region:
    """An array in three axes as a kernel takes it, and where the core lies inside."""

    array: np.ndarray  # (z, y, x) C-contiguous, in host memory, native byte order; one z in the plane
    lo: tuple[int, int, int]
    size: tuple[int, int, int]

    @property
    def core(self) -> np.ndarray:
        return self.array[tuple(slice(a, a + n) for a, n in zip(self.lo, self.size, strict=True))]


def region(array: Array, read: Box, core: Box) -> Region:
    """`array`, which lies at `read`, as kernels take it."""
    host = to_host(array)
    host = np.ascontiguousarray(host, host.dtype.newbyteorder("="))
    if host.dtype == bool:
        host = host.view(np.uint8)
    lead = (0,) * (3 - host.ndim)
    start = (*lead, *(c - r for c, r in zip(core.start, read.start, strict=True)))
    z, y, x = ((1,) * 3 + core.shape)[-3:]
    return Region(host.reshape((1,) * len(lead) + host.shape), (start[0], start[1], start[2]), (z, y, x))


def label_region(labels: Array, at: At) -> Region:
    """The label array of a call; signed labels are taken as unsigned ones of the same size.

    Raises
    ------
    InvalidInput : if labels are not whole numbers, or one in the core is negative.
    """
    found = region(labels, at.reads[0], at.out)
    kind = found.array.dtype.kind
    if kind not in "ui":
        raise InvalidInput(
            f"labels are whole numbers, but this array is {found.array.dtype}; convert it, or label the mask"
        )
    if kind == "i":
        if found.core.size and (least := found.core.min()) < 0:
            raise InvalidInput(
                f"a label between {at.out.start} and {at.out.stop} is {least}; labels start at 1, and 0 is background"
            )
        found = Region(found.array.view(f"u{found.array.dtype.itemsize}"), found.lo, found.size)
    return found


def slots_by_label(keys: np.ndarray, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels of a kernel's table in rising order, and the slot of each."""
    used = np.flatnonzero(slots)
    used = used[np.argsort(keys[used])]
    return keys[used], slots[used] - 1
