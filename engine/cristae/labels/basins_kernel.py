"""Compiled loops over one block: how far its foreground is from the ground, and which summit each voxel climbs to.

    height      float32, (z, y, x); foreground is what lies above `floor`
    order       voxels by height, equal ones by raster index, so that no two are alike
    summit      a voxel of the foreground with no higher one among its 26 neighbours
    core        the voxels a block answers for, [low, high) of the array; the array ends short of their reach only with the volume
    raw         parts of a block as they were found: 1..n in any order, 0 is ground; `census` checks that, `relabel` relies on it

Indices of voxels are flat, of the array; a box keeps the volume's raster order.
"""

from __future__ import annotations

import numpy as np

from cristae.compiled import njit
from cristae.labels.union_kernel import root


@njit(nogil=True, cache=True)
def _spread(squares: np.ndarray, reach: int, step: float) -> None:
    """The least of each column's squared distances and the squares of the steps to them, in place.

    squares : (steps, columns) float32.
    reach : steps that count.
    step : length of one.
    """
    before = squares.copy()
    rows, columns = squares.shape
    for k in range(1, reach + 1):
        more = np.float32((k * step) ** 2)
        for y in range(rows):
            if y >= k:
                for x in range(columns):
                    squares[y, x] = min(squares[y, x], before[y - k, x] + more)
            if y + k < rows:
                for x in range(columns):
                    squares[y, x] = min(squares[y, x], before[y + k, x] + more)


@njit(nogil=True, cache=True)
def distances(mask: np.ndarray, voxel: np.ndarray, limit: float) -> np.ndarray:
    """Distance of each voxel to the nearest one that is not in the mask, at most `limit`; the volume's faces are no ground.

    mask : (z, y, x) bool.
    voxel : (3,) size of a voxel.

    One axis after the other, as the lower envelope of parabolas (P. Felzenszwalb, D. Huttenlocher, Theory of Computing 8, 415
    (2012), doi:10.4086/toc.2012.v008a019), of which a bounded distance needs only those that begin within it. Squares are added
    along x, then y, then z, and rounding keeps their order: a voxel's distance is the same in every array that holds its reach.
    """
    depth, rows, columns = mask.shape
    far = np.float32(limit * limit)
    across = np.full(mask.shape, far, np.float32)
    reach = np.empty(3, np.int64)
    for axis in range(3):
        reach[axis] = min(int(np.ceil(limit / voxel[axis])), mask.shape[axis])
    for z in range(depth):
        for y in range(rows):
            last = -reach[2] - 1
            for x in range(columns):
                if not mask[z, y, x]:
                    last = x
                    across[z, y, x] = 0.0
                elif x - last <= reach[2]:
                    across[z, y, x] = min(far, np.float32(((x - last) * voxel[2]) ** 2))
            last = columns + reach[2]
            for x in range(columns - 1, -1, -1):
                if not mask[z, y, x]:
                    last = x
                elif last - x <= reach[2]:
                    across[z, y, x] = min(across[z, y, x], np.float32(((last - x) * voxel[2]) ** 2))
    for z in range(depth):
        _spread(across[z], reach[1], voxel[1])
    for y in range(rows):
        _spread(across[:, y], reach[0], voxel[0])
    for z in range(depth):
        for y in range(rows):
            for x in range(columns):
                across[z, y, x] = np.sqrt(across[z, y, x])
    return across


@njit(nogil=True, cache=True)
def _higher_beside(height: np.ndarray, z: int, y: int, x: int) -> tuple[int, int, int]:
    """The highest voxel of a voxel and its neighbours."""
    depth, rows, columns = height.shape
    best, bz, by, bx = height[z, y, x], z, y, x
    for k in range(max(z - 1, 0), min(z + 2, depth)):
        for j in range(max(y - 1, 0), min(y + 2, rows)):
            for i in range(max(x - 1, 0), min(x + 2, columns)):
                value = height[k, j, i]
                if value > best or (value == best and (k, j, i) > (bz, by, bx)):
                    best, bz, by, bx = value, k, j, i
    return bz, by, bx


@njit(nogil=True, cache=True)
def _higher_summit(
    height: np.ndarray,
    floor: float,
    z: int,
    y: int,
    x: int,
    voxel: np.ndarray,
    apart: float,
    seen: np.ndarray,
    todo: np.ndarray,
) -> tuple[int, int, int]:
    """The highest summit that is joined to this one by foreground no further than `apart` from it; itself if none is higher.

    seen : (2 rz + 1, 2 ry + 1, 2 rx + 1) bool, todo : (seen.size, 3); room to work in.
    """
    depth, rows, columns = height.shape
    rz, ry, rx = seen.shape[0] // 2, seen.shape[1] // 2, seen.shape[2] // 2
    seen[:] = False
    seen[rz, ry, rx] = True
    todo[0, 0], todo[0, 1], todo[0, 2] = z, y, x
    left = 1
    best, bz, by, bx = height[z, y, x], z, y, x
    while left > 0:
        left -= 1
        cz, cy, cx = todo[left, 0], todo[left, 1], todo[left, 2]
        for k in range(max(cz - 1, z - rz, 0), min(cz + 2, z + rz + 1, depth)):
            for j in range(max(cy - 1, y - ry, 0), min(cy + 2, y + ry + 1, rows)):
                for i in range(max(cx - 1, x - rx, 0), min(cx + 2, x + rx + 1, columns)):
                    value = height[k, j, i]
                    if seen[k - z + rz, j - y + ry, i - x + rx] or not value > floor:
                        continue
                    seen[k - z + rz, j - y + ry, i - x + rx] = True
                    away = ((k - z) * voxel[0]) ** 2 + ((j - y) * voxel[1]) ** 2 + ((i - x) * voxel[2]) ** 2
                    if away > apart * apart:
                        continue
                    todo[left, 0], todo[left, 1], todo[left, 2] = k, j, i
                    left += 1
                    if (value > best or (value == best and (k, j, i) > (bz, by, bx))) and _higher_beside(
                        height, k, j, i
                    ) == (k, j, i):
                        best, bz, by, bx = value, k, j, i
    return bz, by, bx


@njit(nogil=True, cache=True)
def climb(
    height: np.ndarray, floor: float, low: np.ndarray, high: np.ndarray, voxel: np.ndarray, apart: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where each voxel of the core climbs to in one step.

    Returns `to`, (core voxels,) int64: flat index in the array, a voxel's own at the last summit of a climb, -1 on the ground;
    and `summit`, (core voxels,) bool. From a summit the step is to a higher one that foreground joins to it within `apart`.
    """
    _, rows, columns = height.shape
    size = high - low
    to = np.full(size[0] * size[1] * size[2], -1, np.int64)
    summit = np.zeros(to.size, np.bool_)
    shape = (
        2 * int(np.floor(apart / voxel[0] + 1e-9)) + 1,
        2 * int(np.floor(apart / voxel[1] + 1e-9)) + 1,
        2 * int(np.floor(apart / voxel[2] + 1e-9)) + 1,
    )
    seen = np.zeros(shape, np.bool_)
    todo = np.empty((seen.size, 3), np.int32)
    at = -1
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                at += 1
                if not height[z, y, x] > floor:
                    continue
                k, j, i = _higher_beside(height, z, y, x)
                if k == z and j == y and i == x:
                    summit[at] = True
                    k, j, i = _higher_summit(height, floor, z, y, x, voxel, apart, seen, todo)
                to[at] = (k * rows + j) * columns + i
    return to, summit


@njit(nogil=True, cache=True)
def _inside(flat: int, rows: int, columns: int, low: np.ndarray, high: np.ndarray) -> int:
    """Flat index within the core of a voxel of the array; -1 outside."""
    z, y, x = flat // (rows * columns), flat // columns % rows, flat % columns
    if z < low[0] or z >= high[0] or y < low[1] or y >= high[1] or x < low[2] or x >= high[2]:
        return -1
    return int(((z - low[0]) * (high[1] - low[1]) + y - low[1]) * (high[2] - low[2]) + x - low[2])


@njit(nogil=True, cache=True)
def gathered(
    height: np.ndarray, top: float, low: np.ndarray, high: np.ndarray, to: np.ndarray, leaving: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """Voxels of the core that climb to one place get one id, 1, 2, ... in no order.

    Neighbours across a face that both reach `top` belong together however they climb.
    leaving : (k, 2) int64; becomes the voxel of the core and the voxel of the array of each step out of the core, as far as
        there is room.

    Returns ids, (core voxels,) uint32, 0 on the ground; how many; and how many steps leave.
    """
    _, rows, columns = height.shape
    values = height.reshape(-1)
    parent = np.arange(to.size)
    steps = (rows * columns, columns, 1)
    out = 0
    at = -1
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                at += 1
                if to[at] < 0:
                    continue
                flat = (z * rows + y) * columns + x
                for way in range(4):
                    goal = to[at] if way == 3 else flat + steps[way]
                    if way < 3:
                        ends = (z + 1, y + 1, x + 1)[way] == height.shape[way]
                        if height[z, y, x] < top or ends or values[goal] < top:
                            continue
                    there = _inside(goal, rows, columns, low, high)
                    if there >= 0:
                        a, b = root(parent, at), root(parent, there)
                        parent[max(a, b)] = min(a, b)
                    else:
                        if out < len(leaving):
                            leaving[out, 0], leaving[out, 1] = at, goal
                        out += 1
    ids = np.zeros(to.size, np.uint32)
    count = 0
    for at in range(to.size):
        if to[at] < 0:
            continue
        above = root(parent, at)
        if ids[above] == 0:
            count += 1
            ids[above] = count
        ids[at] = ids[above]
    return ids, count, out


@njit(nogil=True, cache=True)
def census(raw: np.ndarray, order: np.ndarray, first: np.ndarray, voxels: np.ndarray) -> None:
    """Provisional ids, first voxels and sizes of the components of a block.

    raw : (voxels,) unsigned, flat.
    order : (n + 1,) uint32 zeros; becomes the provisional id of each raw id.
    first, voxels : (n,) int64 and uint32 zeros; become the flat index of the first voxel, and the number of voxels.

    Raises
    ------
    ValueError : if `raw` holds other than 1..n, each somewhere.
    """
    # Four counters an id, taken in turn: one would make each voxel wait for the addition of the one before it.
    counts = np.zeros((4, order.size), np.uint32)
    found = 0
    order[0] = 1
    for i in range(raw.size):
        v = raw[i]
        if v >= order.size:
            raise ValueError("an id lies above their count")
        counts[i & 3, v] += 1
        if order[v] == 0:
            first[found] = i
            found += 1
            order[v] = found
    order[0] = 0
    if found != first.size:
        raise ValueError("some of the ids are not there")
    for v in range(1, order.size):
        voxels[order[v] - 1] = counts[0, v] + counts[1, v] + counts[2, v] + counts[3, v]


@njit(nogil=True, cache=True)
def relabel(raw: np.ndarray, ids: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Write the canonical id of each voxel.

    raw : (z, y, x) unsigned.
    ids : (n,) canonical ids, in provisional order.
    table : (n + 1,) int64, 0 and then -1 for ids not met yet; changed in place.
    out : (z, y, x) of the type of `ids`, any strides.
    """
    met = 0
    for z in range(raw.shape[0]):
        for y in range(raw.shape[1]):
            line, target = raw[z, y], out[z, y]
            for x in range(line.size):
                v = table[line[x]]
                if v < 0:
                    v = ids[met]
                    met += 1
                    table[line[x]] = v
                target[x] = v
