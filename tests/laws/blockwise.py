"""Blockwise: a stage or measure over a grid, in memory, each block from nothing but the boxes it declares.

What a run does with files and workers, without either: boxes come from `evaluate.needs`, partials are merged in a random
order along a random tree, and global answers carry the parts of single blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cristae.blocks.evaluate import Answers, apply_chain, finished, needs
from cristae.blocks.measure import Answer, Measure, Partial, ask
from cristae.blocks.stage import At, Spec, Stage
from cristae.grid import BlockGrid, Box, Shape


def cut(array: np.ndarray, box: Box) -> np.ndarray:
    """The voxels of a box, in memory of their own."""
    return array[box.slices].copy()


def spec_of(array: np.ndarray, voxel_um: tuple[float, ...]) -> Spec:
    return Spec(array.shape, array.dtype.name, voxel_um)


def shape_of(stage: Stage, arrays: Sequence[np.ndarray]) -> Shape:
    """Shape of the stage's result; a stage without input knows its own."""
    return stage.output(*(spec_of(a, stage.voxel_um or (1.0,) * a.ndim) for a in arrays)).shape


def whole_stage(stage: Stage, arrays: Sequence[np.ndarray], answers: Answers | None = None) -> np.ndarray:
    """The stage on the whole volume at once, its answers found there too."""
    out = Box.whole(shape_of(stage, arrays))
    found = {name: ask(measure, *arrays) for name, measure in stage.asks.items()} if answers is None else answers
    source = arrays[0].shape if arrays else ()
    at = At(out, tuple(Box.whole(a.shape) for a in arrays), BlockGrid(out.shape, out.shape), source=source)
    result: np.ndarray = stage.apply(*arrays, at=at, answers=found)
    return result


def stage_box(
    stage: Stage, arrays: Sequence[np.ndarray], out: Box, grid: BlockGrid, index: int, answers: Answers
) -> np.ndarray:
    """One box of the stage's result, found for block `index` of a grid over that result."""
    shapes = [arrays[0].shape if arrays else grid.shape, grid.shape]
    boxes = needs([stage], shapes, out, grid.core(index))
    array = cut(arrays[0], boxes[0]) if arrays else None
    others = [cut(a, boxes[0]) for a in arrays[1:]]
    return apply_chain([stage], array, boxes, grid, index, 0, lambda _: answers, lambda _: others, shapes)


def blockwise_answers(
    fact: Stage | Measure, arrays: Sequence[np.ndarray], grid: BlockGrid, rng: np.random.Generator
) -> dict[str, Answer]:
    """Everything that `fact` asks for, found block by block."""
    return {name: blockwise_answer(measure, arrays, grid, rng) for name, measure in fact.asks.items()}


def blockwise_answer(
    measure: Measure, arrays: Sequence[np.ndarray], grid: BlockGrid, rng: np.random.Generator
) -> Answer:
    answers = blockwise_answers(measure, arrays, grid, rng)
    parts = partials(measure, arrays, grid, answers)
    return finished(measure, merged(measure, list(parts.values()), rng), parts, answers)


def partials(
    measure: Measure, arrays: Sequence[np.ndarray], grid: BlockGrid, answers: Answers, widen: int = 0
) -> dict[int, Partial]:
    """One partial a block. `widen`: voxels that the first array reaches further than asked for, as it does in a pass that
    another measure shares."""
    return {index: partial_of(measure, arrays, grid, index, answers, widen) for index in range(len(grid))}


def partial_of(
    measure: Measure, arrays: Sequence[np.ndarray], grid: BlockGrid, index: int, answers: Answers, widen: int = 0
) -> Partial:
    core = grid.core(index)
    reach = tuple((a + widen, b + widen) for a, b in measure.halo)
    boxes = (core.grow(reach).clip(grid.shape), *[core] * (len(arrays) - 1))
    shown = [cut(a, b) for a, b in zip(arrays, boxes, strict=True)] if measure.reads_array else []
    return measure.partial(*shown, at=At(core, boxes, grid, index), answers=answers)


def merged(measure: Measure, several: Sequence[Partial], rng: np.random.Generator) -> Partial:
    """All partials, in a random order along a random tree that also holds neutral elements."""
    left = [several[i] for i in rng.permutation(len(several))] + [measure.merge([])]
    while len(left) > 1:
        fan = int(rng.integers(2, 5))
        taken = [left.pop(int(rng.integers(len(left)))) for _ in range(min(fan, len(left)))]
        left.append(measure.merge(taken))
    return measure.merge(left)
