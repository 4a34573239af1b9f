"""Solid: which voxels lie inside an object, for any box of the volume.

A voxel belongs to an object when its centre is in it. A tube is the union of short round pieces along its curve, which differ from it
by less than 0.1 nm; an ellipsoid is asked directly. Labels of a box do not depend on how the volume is cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from cristae.compiled import njit
from cristae.grid import Box
from cristae.simulation.cells import Scene, Thing
from cristae.simulation.networks import Network
from cristae.simulation.shapes import Ball, Ellipsoid, Shape, Tube

Rows = dict[str, NDArray[np.integer]]
NONE = np.uint32(0)
INSIDE, DOUBTFUL = np.uint32(1), np.uint32(2)


def painted(scene: Scene, things: Iterable[Thing], box: Box) -> NDArray[np.uint32]:
    """Labels of a box: where objects overlap, the smallest id."""
    out = np.zeros(box.shape, np.uint32)
    for thing in things:
        _paint(out, scene, thing, box)
    return out


def runs(scene: Scene, things: Iterable[Thing], box: Box) -> Rows:
    """Every object's own voxels as rows of voxels, overlaps kept: label, z, y, x0, length; by label, z, y, x0."""
    found = []
    for thing in things:
        near = _voxels(scene, thing, box)
        if near.empty:
            continue
        alone = np.zeros(near.shape, np.uint32)
        _paint(alone, scene, thing, near)
        edges = np.diff(np.pad(alone != 0, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
        first, last = np.argwhere(edges == 1), np.argwhere(edges == -1)
        rows = np.empty((len(first), 5), np.int64)
        rows[:, 0] = thing.id
        rows[:, 1:4] = first + np.array(near.start)
        rows[:, 4] = last[:, 2] - first[:, 2]
        found.append(rows)
    whole = np.concatenate(found) if found else np.empty((0, 5), np.int64)
    kinds = {"label": np.uint32, "z": np.int32, "y": np.int32, "x0": np.int32, "length": np.int32}
    return {name: whole[:, n].astype(kind) for n, (name, kind) in enumerate(kinds.items())}


def shadow(shape: Shape, side: int, pixel_um: float) -> NDArray[np.bool_]:
    """(side, side) pixels above or below whose centre some part of a shape lies, looked for at depths half a pixel apart."""
    low, high = shape.box_um
    step = pixel_um / 2
    depth = np.arange(low[0] + step / 2, high[0], step)
    centres = (np.arange(side) + 0.5) * pixel_um
    rows, columns = (np.flatnonzero((centres >= a) & (centres <= b)) for a, b in zip(low[1:], high[1:], strict=True))
    found = np.zeros((side, side), bool)
    if not (len(rows) and len(columns) and len(depth)):
        return found
    near = np.full((len(depth), len(rows), len(columns)), DOUBTFUL)
    if isinstance(shape, Tube):
        near = _sure(shape, (low[0] / step, rows[0], columns[0]), (step, pixel_um, pixel_um), near.shape)
    inside = (near == INSIDE).any(axis=0)
    some = np.nonzero((near == DOUBTFUL) & ~inside)
    points = np.column_stack([depth[some[0]], centres[rows[some[1]]], centres[columns[some[2]]]])
    if len(points):
        those = shape.signed_distance(points) <= 0
        inside[some[1][those], some[2][those]] = True
    found[np.ix_(rows, columns)] = inside
    return found


def _sure(tube: Tube, start: Sequence[float], size: Sequence[float], shape: Sequence[int]) -> NDArray[np.uint32]:
    """INSIDE where a voxel's centre surely lies in a tube, 0 where surely not, DOUBTFUL where its curve has to be asked: within what the
    curve may bend away from its points, and at ends that are flat."""
    _, along, line = tube.line
    slack = 1e-3 + float(np.diff(along).max()) ** 2 / (
        8 * tube.radius_um
    )  # nowhere does it bend as tightly as its radius
    out = np.zeros(shape, np.uint32)
    at = np.array(start, np.float64), np.array(size)
    _pieces(out, *at, line, tube.radius_um + slack, DOUBTFUL)
    if tube.radius_um > slack:
        _pieces(out, *at, line, tube.radius_um - slack, INSIDE)
    if not tube.caps:
        for end in (line[0], line[-1]):
            flat = np.zeros(shape, np.uint32)
            _pieces(flat, *at, np.array([end, end]), tube.radius_um + slack, DOUBTFUL)
            out[flat != 0] = DOUBTFUL
    return out


def _voxels(scene: Scene, thing: Thing, box: Box) -> Box:
    """The part of a box that an object may reach."""
    size = np.array(scene.voxel_um)
    start, stop = np.floor(thing.low / size).astype(int), np.ceil(thing.high / size).astype(int) + 1
    return Box(tuple(map(int, start)), tuple(map(int, stop))).intersect(box)


def _paint(out: NDArray[np.uint32], scene: Scene, thing: Thing, box: Box) -> None:
    start, size = np.array(box.start, np.float64), np.array(scene.voxel_um)
    shape = thing.shape
    if isinstance(shape, Ellipsoid):
        _ellipsoid(out, start, size, np.array(shape.centre_um), np.array(shape.semi_um), np.uint32(thing.id))
        return
    if isinstance(shape, Network):
        for tube in shape.tubes:
            _pieces(out, start, size, tube.line[2], tube.radius_um, np.uint32(thing.id))
        return
    if isinstance(shape, Tube):
        line, radius = shape.line[2], shape.radius_um
    else:
        assert isinstance(shape, Ball)
        line, radius = np.array([shape.centre_um, shape.centre_um]), shape.radius_um
    _pieces(out, start, size, line, radius, np.uint32(thing.id))


@njit(nogil=True, cache=True)
def _span(low, high, start, size, count):  # type: ignore[no-untyped-def]
    # Voxels whose centre, at (index + start + 1/2) * size, may lie between two places.
    first = int(np.floor(low / size - start - 0.5))
    last = int(np.ceil(high / size - start - 0.5)) + 1
    return max(first, 0), min(last, count)


@njit(nogil=True, cache=True)
def _pieces(out, start, size, line, radius, label):  # type: ignore[no-untyped-def]
    square = radius * radius
    for n in range(len(line) - 1):
        az, ay, ax = line[n]
        dz, dy, dx = line[n + 1] - line[n]
        length = dz * dz + dy * dy + dx * dx
        z0, z1 = _span(min(az, az + dz) - radius, max(az, az + dz) + radius, start[0], size[0], out.shape[0])
        y0, y1 = _span(min(ay, ay + dy) - radius, max(ay, ay + dy) + radius, start[1], size[1], out.shape[1])
        x0, x1 = _span(min(ax, ax + dx) - radius, max(ax, ax + dx) + radius, start[2], size[2], out.shape[2])
        for i in range(z0, z1):
            pz = (i + start[0] + 0.5) * size[0] - az
            for j in range(y0, y1):
                py = (j + start[1] + 0.5) * size[1] - ay
                for k in range(x0, x1):
                    if out[i, j, k] != 0 and out[i, j, k] <= label:
                        continue
                    px = (k + start[2] + 0.5) * size[2] - ax
                    t = 0.0
                    if length > 0:
                        t = min(1.0, max(0.0, (pz * dz + py * dy + px * dx) / length))
                    ez, ey, ex = pz - t * dz, py - t * dy, px - t * dx
                    if ez * ez + ey * ey + ex * ex <= square:
                        out[i, j, k] = label


@njit(nogil=True, cache=True)
def _ellipsoid(out, start, size, centre, semi, label):  # type: ignore[no-untyped-def]
    z0, z1 = _span(centre[0] - semi[0], centre[0] + semi[0], start[0], size[0], out.shape[0])
    y0, y1 = _span(centre[1] - semi[1], centre[1] + semi[1], start[1], size[1], out.shape[1])
    x0, x1 = _span(centre[2] - semi[2], centre[2] + semi[2], start[2], size[2], out.shape[2])
    for i in range(z0, z1):
        pz = ((i + start[0] + 0.5) * size[0] - centre[0]) / semi[0]
        for j in range(y0, y1):
            py = ((j + start[1] + 0.5) * size[1] - centre[1]) / semi[1]
            for k in range(x0, x1):
                px = ((k + start[2] + 0.5) * size[2] - centre[2]) / semi[2]
                if pz * pz + py * py + px * px <= 1 and (out[i, j, k] == 0 or out[i, j, k] > label):
                    out[i, j, k] = label
