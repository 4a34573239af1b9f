"""Objects that overlap, and tables of their runs, found voxel by voxel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq

from cristae.grid import BlockGrid, Box
from cristae.store.runs import COLUMNS, About

SHAPE, VOXEL_UM, BLOCK = (9, 20, 31), (0.3, 0.1, 0.12), (4, 8, 16)
ABOUT = About("vesicle", SHAPE, VOXEL_UM, BLOCK)
Masks = dict[tuple[int, int], np.ndarray]


def balls(seed: int, count: int, shape: tuple[int, ...] = SHAPE, frames: int = 1) -> Masks:
    """The voxels of balls anywhere, by time point and label; many overlap."""
    rng = np.random.default_rng(seed)
    at = np.indices(shape)
    found = {}
    for n in range(count):
        centre, radius = rng.random(3) * shape, rng.uniform(1.0, 4.0)
        inside = ((at - centre[:, None, None, None]) ** 2).sum(axis=0) <= radius**2
        if inside.any():
            found[int(rng.integers(frames)), 3 * n + 1] = inside
    return found


def rows_of(masks: Masks, box: Box | None = None) -> dict[str, np.ndarray]:
    """Runs found voxel by voxel, of a box."""
    rows = []
    for (t, label), mask in masks.items():
        box = box or Box.whole(mask.shape)
        for z in range(box.start[0], box.stop[0]):
            for y in range(box.start[1], box.stop[1]):
                line, x = mask[z, y], box.start[2]
                while x < box.stop[2]:
                    n = 0
                    while x + n < box.stop[2] and line[x + n]:
                        n += 1
                    rows += [(t, label, z, y, x, n)] if n else []
                    x += n + 1
    kinds = {"label": np.uint32}
    whole = np.array(rows, np.int64).reshape(-1, 6)
    return {name: whole[:, n].astype(kinds.get(name, np.int32)) for n, name in enumerate(COLUMNS)}


def written(path: Path, parts: list[dict[str, np.ndarray]], about: About = ABOUT, **how: Any) -> Path:
    """A row group for each part."""
    tables = [pyarrow.table(part).replace_schema_metadata(about.noted()) for part in parts]
    with pq.ParquetWriter(path, tables[0].schema, **how) as out:
        for table in tables:
            out.write_table(table)
    return path


def blocks_of(masks: Masks, about: About = ABOUT) -> list[dict[str, np.ndarray]]:
    grid = BlockGrid(about.shape, about.block)
    return [rows_of(masks, grid.core(n)) for n in range(len(grid))]
