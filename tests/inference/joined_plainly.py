"""Joined plainly: objects of tiles joined with sets of voxels, voxel by voxel, to compare the engine with. Shares no code with it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from math import ceil

import numpy as np

Voxel = tuple[int, ...]


def joined(
    image: np.ndarray, find: Callable[[np.ndarray], np.ndarray], tile: tuple[int, ...], overlap: float
) -> tuple[np.ndarray, dict[str, int]]:
    """Objects of the whole image, and what is counted at the seams."""
    axes = [_along(n, t, ceil(t * overlap / 2) if t > 1 else 0) for n, t in zip(image.shape, tile, strict=True)]
    pads = [
        ((max(n, t) - n) // 2, max(n, t) - n - (max(n, t) - n) // 2) for n, t in zip(image.shape, tile, strict=True)
    ]
    padded = np.pad(image, pads, mode="symmetric")
    tiles, objects = [], {}
    for number, several in enumerate(product(*axes)):
        start, own = [s for s, _, _ in several], [range(a, b) for _, a, b in several]
        labels = find(padded[tuple(slice(s + p, s + p + t) for s, (p, _), t in zip(start, pads, tile, strict=True))])
        box = [range(max(s, 0), min(s + t, n)) for s, t, n in zip(start, tile, image.shape, strict=True)]
        tiles.append((box, own))
        for voxel in product(*box):
            if label := int(labels[tuple(v - s for v, s in zip(voxel, start, strict=True))]):
                objects.setdefault((number, label), set()).add(voxel)
    parent = {key: {key} for key in objects}
    counts = {"tiles": len(tiles), "matched": 0, "contested": 0, "split": 0, "beyond": 0}
    for (m, one), (n, two) in combinations(enumerate(tiles), 2):
        strip = set(product(*(sorted(set(a) & set(b)) for a, b in zip(one[0], two[0], strict=True))))
        if not strip:
            continue
        partners: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for near in (k for k in objects if k[0] == m):
            for far in (k for k in objects if k[0] == n):
                if _same(objects[near] & strip, objects[far] & strip, one[0], two[0]):
                    partners.setdefault(near, []).append(far)
                    partners.setdefault(far, []).append(near)
                    group = parent[near] | parent[far]
                    parent |= dict.fromkeys(group, group)
        counts["matched"] += sum(len(p) for p in partners.values()) // 2
        for key, others in partners.items():
            mine, theirs = (one[0], two[0]) if key[0] == m else (two[0], one[0])
            counts["contested"] += len(others) > 1 and any(not _cut(objects[k] & strip, theirs, mine) for k in others)
        for key in (k for k in objects if k[0] in (m, n)):
            mine, theirs = (one[1], two[1]) if key[0] == m else (two[1], one[1])
            on = [any(_inside(v, own) for v in objects[key]) for own in (mine, theirs)]
            counts["split"] += all(on) and key not in partners
    out = np.zeros(image.shape, np.int64)
    ids: dict[frozenset[tuple[int, int]], int] = {}
    for voxel in product(*map(range, image.shape)):
        (number,) = (k for k, (_, own) in enumerate(tiles) if _inside(voxel, own))
        for key in (k for k in objects if k[0] == number and voxel in objects[k]):
            out[voxel] = ids.setdefault(frozenset(parent[key]), len(ids) + 1)
    for group in ids:
        counts["beyond"] += all(_leaves(objects[key], tiles[key[0]][0], image.shape) for key in group)
    return out, counts


def _along(n: int, tile: int, margin: int) -> list[tuple[int, int, int]]:
    """Of each tile of an axis: its start, and the first and last of its own."""
    if n <= tile:
        return [(-((tile - n) // 2), 0, n)]
    starts = [*range(0, n - tile, tile - 2 * margin), n - tile]
    begins = [0, *(s + margin for s in starts[1:])]
    return list(zip(starts, begins, [*begins[1:], n], strict=True))


def _same(a: set[Voxel], b: set[Voxel], near: list[range], far: list[range]) -> bool:
    both = len(a & b)
    if not both:
        return False
    return (
        both / len(a | b) > 0.5
        or (_cut(a, near, far) and both / len(a) > 0.5)
        or (_cut(b, far, near) and both / len(b) > 0.5)
    )


def _cut(voxels: set[Voxel], own: list[range], other: list[range]) -> bool:
    """Whether some lie at a face of their own tile beyond which the other looks."""
    return any(
        (v[axis] == mine[0] and mine[0] - 1 in theirs) or (v[axis] == mine[-1] and mine[-1] + 1 in theirs)
        for v in voxels
        for axis, (mine, theirs) in enumerate(zip(own, other, strict=True))
    )


def _leaves(voxels: set[Voxel], box: list[range], shape: tuple[int, ...]) -> bool:
    return any(
        (v[axis] == r[0] and r[0] > 0) or (v[axis] == r[-1] and r[-1] < n - 1)
        for v in voxels
        for axis, (r, n) in enumerate(zip(box, shape, strict=True))
    )


def _inside(voxel: Voxel, box: list[range]) -> bool:
    return all(v in r for v, r in zip(voxel, box, strict=True))
