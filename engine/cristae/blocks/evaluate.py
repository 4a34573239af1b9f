"""Evaluate: one block through a chain of stages and measures, in memory. No file, no scheduler.

The same few functions serve a notebook (`stage(array)`), a task on a worker and the laws.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from cristae.array import Array
from cristae.blocks.measure import Answer, Measure, Partial
from cristae.blocks.stage import At, Spec, Stage
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box, Halo

Answers = Mapping[str, Answer]


def needs(chain: Sequence[Stage], shapes: Sequence[tuple[int, ...]], out: Box, core: Box) -> list[Box]:
    """Boxes from the chain's source to its result: `needs(...)[0]` is what to read, the last is `out`.

    shapes : spatial shape of the source and of each stage's output, one more than there are stages.
    """
    boxes = [out.clip(shapes[-1])]
    for stage, (shape, made) in zip(reversed(chain), reversed(list(pairwise(shapes))), strict=True):
        read = stage.boxes(boxes[-1], core, shape, made)
        boxes.append(read[0].clip(shape) if read else boxes[-1])
    return boxes[::-1]


def apply_chain(
    chain: Sequence[Stage],
    array: Array,
    boxes: Sequence[Box],
    grid: BlockGrid,
    index: int,
    t: int,
    answers: Callable[[int], Answers],
    joined: Callable[[int], Sequence[Array]] = lambda i: (),
    shapes: Sequence[tuple[int, ...]] = (),
) -> Array:
    """`array`, which lies at boxes[0], through every stage; `answers(i)` are those that stage i asked for.

    `joined(i)` are further inputs of stage i, which lie where its first does. A chain that starts from nothing (a
    rendering) is given None. shapes : as in `needs`, which only a chain that changes the grid has to know
    """
    for i, stage in enumerate(chain):
        others = joined(i)
        reads, arrays = ((boxes[i],), (array,)) if array is not None else ((), ())
        reads, arrays = (*reads, *(boxes[i],) * len(others)), (*arrays, *others)
        at = At(boxes[i + 1], reads, grid, index, t, tuple(shapes[i]) if shapes else ())
        array = stage.apply(*arrays, at=at, answers=answers(i))
    return array


def whole(stage: Stage, *arrays: Array) -> Array:
    """A stage on whole arrays in memory, its global answers found on the same arrays."""
    if not arrays:
        return stage.apply(at=At.whole(stage.output().shape, 0), answers={})
    for array in arrays:
        if not hasattr(array, "ndim") or array.dtype.kind not in "biuf":
            what = f"an array of {array.dtype}" if hasattr(array, "dtype") else f"a {type(array).__name__}"
            raise InvalidInput(f"{stage.name} works on arrays of real numbers, got {what}; convert it first")
        if stage.halo and array.ndim != len(stage.halo):
            raise InvalidInput(
                f"{stage.name} was made for {len(stage.halo)} axes, by its voxel_um, and the array has {array.ndim}; give a size for each axis"
            )
    answers = {name: answer_whole(measure, arrays) for name, measure in stage.asks.items()}
    return stage.apply(*arrays, at=at_whole(stage, *arrays), answers=answers)


def at_whole(stage: Stage, *arrays: Array) -> At:
    """Where a stage on whole arrays in memory happens: all of its output. They have no voxel size but the one it was made for."""
    shape = arrays[0].shape
    out = stage.output(Spec(shape, str(arrays[0].dtype), stage.voxel_um or (1.0,) * len(shape))).shape
    return replace(At.whole(out, 0), reads=tuple(Box.whole(a.shape) for a in arrays), source=tuple(shape))


def answer_whole(measure: Measure, arrays: Sequence[Array]) -> Answer:
    """A measure's answer on whole arrays in memory: one block, one partial."""
    answers = {name: answer_whole(inner, arrays) for name, inner in measure.asks.items()}
    at = At.whole(arrays[0].shape, len(arrays))
    partial = measure.partial(*(arrays if measure.reads_array else ()), at=at, answers=answers)
    return finished(measure, measure.merge([partial]), {0: partial}, answers)


def finished(measure: Measure, merged: Partial, parts: Mapping[int, Partial], answers: Answers) -> Answer:
    """The answer from the merge of all partials; a measure that asks gets its answers for finishing too."""
    if measure.finish is None:
        arrays = merged
    else:
        arrays = measure.finish(merged, answers) if measure.asks else measure.finish(merged)
    return Answer(arrays, parts if measure.keeps_parts else {})


def widest(halos: Sequence[Halo], ndim: int) -> Halo:
    """The smallest halo that holds each of `halos`."""
    return tuple(
        (max((h[a][0] for h in halos), default=0), max((h[a][1] for h in halos), default=0)) for a in range(ndim)
    )
