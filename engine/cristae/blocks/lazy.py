"""Lazy: a stage on a volume as a labelled dask array, for notebooks. One task a block; runs go another way (`run`).

Global answers are found at once, by walking the blocks; what is returned is computed only where it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cristae.blocks.evaluate import Answers, finished, needs
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Spec, Stage
from cristae.grid import BlockGrid

if TYPE_CHECKING:
    import xarray

    from cristae.store.volume import Volume


def lazy(stage: Stage, volume: Volume) -> xarray.DataArray:
    """`stage` over the first time point and channel of `volume`, as `volume.xarray()` with other voxels.

    Returns
    -------
    (z, y, x) or (y, x), coordinates in micrometres, one dask chunk a block.
    """
    import dask.array as da
    import xarray

    spec = stage.output(Spec(volume.spatial_shape, volume.dtype, volume.voxel_um))
    if spec.shape != volume.spatial_shape:
        raise ValueError(f"{stage.name} changes the shape; use it in a pipeline")
    target = (64, 256, 256)[-spec.ndim :]
    grid = BlockGrid(spec.shape, tuple(min(n, b) for n, b in zip(spec.shape, target, strict=True)))
    answers = {name: answer(measure, volume, grid) for name, measure in stage.asks.items()}
    numbers = da.from_array(np.arange(len(grid)).reshape(grid.counts), chunks=1)
    chunks = tuple(
        tuple(min(b, n - start) for start in range(0, n, b)) for n, b in zip(grid.shape, grid.block, strict=True)
    )
    array = da.map_blocks(
        _block, numbers, stage=stage, volume=volume, grid=grid, answers=answers, dtype=spec.dtype, chunks=chunks
    )
    labelled = volume.xarray()
    first = labelled.isel({a: 0 for a in "tc" if a in volume.axes}, drop=True)
    return xarray.DataArray(array, first.coords, first.dims, stage.name, first.attrs)


def answer(measure: Measure, volume: Volume, grid: BlockGrid) -> Answer:
    """A measure's answer over a volume, block after block in this process."""
    inner = {name: answer(m, volume, grid) for name, m in measure.asks.items()}
    parts: dict[int, Partial] = {}
    for index in range(len(grid)):
        core = grid.core(index)
        box = core.grow(measure.halo).clip(grid.shape)
        arrays = (volume.read(box),) if measure.reads_array else ()
        parts[index] = measure.partial(*arrays, at=At(core, (box,), grid, index), answers=inner)
    return finished(measure, measure.merge([measure.merge([p]) for p in parts.values()]), parts, inner)


def _block(number: np.ndarray, stage: Stage, volume: Volume, grid: BlockGrid, answers: Answers) -> np.ndarray:
    index = int(number.reshape(-1)[0])
    core = grid.core(index)
    (box, _) = needs([stage], [grid.shape, grid.shape], core, core)
    at = At(core, (box,), grid, index, source=grid.shape)
    out: np.ndarray = stage.apply(volume.read(box), at=at, answers=answers)
    return out
