"""Inside: all passes over an image that is one block, in memory, one after the other. Its partials are its answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from cristae.array import Array
from cristae.blocks.evaluate import Answers, apply_chain, finished
from cristae.blocks.measure import Answer, Partial
from cristae.blocks.stage import At
from cristae.blocks.work import Asked, Pass, Ref
from cristae.grid import BlockGrid, Box, Shape

Found = list[tuple[Asked, Partial]]
Shapes = Callable[[Pass], Sequence[Shape]]
"""Of the source of a pass and of each stage's output."""


def visit(step: Pass, inputs: Mapping[Ref, Array], shapes: Shapes, block: Shape, t: int) -> tuple[Array, Found]:
    """The result and the partials of a pass, the passes before it done first on the same arrays.

    inputs : the whole image for every input that one of the passes names
    """
    arrays = dict(inputs)
    answers: dict[str, Answer] = {}
    for earlier in step.before:
        array, found = _one(earlier, arrays, shapes(earlier), block, t, answers)
        if earlier.sink is not None:
            arrays[Ref(earlier.sink)] = array
        for asked, partial in found:
            own = _chosen(asked.asks, answers)
            answers[asked.key] = finished(asked.measure, asked.measure.merge([partial]), {0: partial}, own)
    return _one(step, arrays, shapes(step), block, t, answers)


def inputs_of(step: Pass) -> set[Ref]:
    """Every array that a pass and those before it read and did not make."""
    made = {p.sink for p in step.before}
    refs = {p.source for p in (*step.before, step) if p.source is not None}
    refs |= {ref for p in (*step.before, step) for ref in p.beside}
    return {ref for ref in refs if ref.array not in made}


def _one(
    step: Pass,
    arrays: Mapping[Ref, Array],
    shapes: Sequence[Shape],
    block: Shape,
    t: int,
    answers: Mapping[str, Answer],
) -> tuple[Array, Found]:
    grid = BlockGrid(shapes[-1], block)
    core = grid.core(0)
    array = arrays[step.source] if step.source is not None else None
    if step.chain:
        array = apply_chain(
            step.chain,
            array,
            [Box.whole(shape) for shape in shapes],
            grid,
            0,
            t,
            lambda i: _chosen(step.asks[i], answers),
            lambda i: [arrays[step.joins[i]]] if i in step.joins else [],
            shapes,
        )
    found = []
    for asked in step.measures:
        shown = [array] if asked.measure.reads_array else []
        shown += [arrays[ref] for ref in asked.beside]
        at = At(core, (core,) * (1 + len(asked.beside)), grid, 0, t)
        found.append((asked, asked.measure.partial(*shown, at=at, answers=_chosen(asked.asks, answers))))
    return array, found


def _chosen(asks: Mapping[str, str], answers: Mapping[str, Answer]) -> Answers:
    return {name: answers[key] for name, key in asks.items()}
