"""The laws: what every stage and measure must keep, each as a function of a case that raises AssertionError.

    grid      the block grid does not show
    reading   nothing outside the declared boxes is looked at, and everything inside is needed
    merging   partials merge in any order, and survive their file
    boundary  the volume's own edges are as the stage says
    specs     what comes out is what was declared, for awkward input too
    library   a second array library gives the same answer, and a plain reference too

The sixth law, memory, needs a process of its own: see `laws.memory`.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from laws.blockwise import (
    blockwise_answer,
    blockwise_answers,
    cut,
    merged,
    partials,
    shape_of,
    spec_of,
    stage_box,
    whole_stage,
)
from laws.cases import Arrays, Case
from laws.comparing import as_bytes, equal, same, same_columns

from cristae.blocks.measure import Answer, Measure, Partial, ask
from cristae.blocks.stage import At, Spec, Stage
from cristae.errors import InvalidInput
from cristae.grid import BlockGrid, Box, Shape
from cristae.store.bundle import Bundle, write_bundle

ACROSS_GRIDS = 1e-12
"""Float columns of a table: relative difference between two block grids."""


# ------------------------------------------------------------------------------------------------- 1 the grid


def grid(case: Case, rounds: int = 8) -> None:
    """Random shapes, grids that divide nothing, blocks one voxel thin: blockwise is whole."""
    fact = case.build()
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        shape = case.shape or _some_shape(case, rng)
        arrays = case.arrays(shape, seed)
        shape = shape_of(fact, arrays) if isinstance(fact, Stage) else shape
        blocks = _some_grid(shape, rng, thin=seed % 2 == 1)
        where = f"{case}, {shape} in blocks of {blocks.block}, seed {seed}"
        if isinstance(fact, Stage):
            _stage_over(fact, arrays, blocks, rng, where)
        else:
            here, there = blockwise_answer(fact, arrays, blocks, rng), ask(fact, *arrays)
            tolerance = max(fact.tolerance, ACROSS_GRIDS if case.shown else 0.0)
            same_columns(case.columns(here, shape), case.columns(there, shape), tolerance, where)


def _stage_over(stage: Stage, arrays: Arrays, blocks: BlockGrid, rng: np.random.Generator, where: str) -> None:
    expected = whole_stage(stage, arrays)
    answers = blockwise_answers(stage, arrays, blocks, rng)
    for index in rng.permutation(len(blocks)):
        # What follows in the chain may want a rim around the core; labels give one voxel.
        core = blocks.core(int(index))
        rim = tuple((int(a), int(b)) for a, b in rng.integers(0, 2, (len(core.start), 2)))
        out = core.grow(rim).clip(blocks.shape)
        found = stage_box(stage, arrays, out, blocks, int(index), answers)
        assert found.shape == out.shape, f"{where}: block {index} has shape {found.shape}, not {out.shape}"
        same(found, expected[out.slices], stage.tolerance, f"{where}, block {index}")


def _some_shape(case: Case, rng: np.random.Generator) -> Shape:
    extent = case.extent[-case.ndim :]
    return tuple(int(rng.integers(1, n + 1)) for n in extent)


def _some_grid(shape: Shape, rng: np.random.Generator, thin: bool) -> BlockGrid:
    block = [int(rng.integers(1, n + 2)) for n in shape]
    if thin:
        block[int(rng.integers(len(shape)))] = 1
    while len(BlockGrid(shape, tuple(block))) > 60:
        axis = int(np.argmax(BlockGrid(shape, tuple(block)).counts))
        block[axis] = 2 * block[axis] + 1
    return BlockGrid(shape, tuple(block))


# ---------------------------------------------------------------------------------------------- 2 the reading


def reading(case: Case) -> None:
    """What lies outside the boxes does not matter, and every voxel of the halo does."""
    fact = case.build()
    if case.shape is not None or (isinstance(fact, Measure) and not fact.reads_array):
        return
    core, blocks, shape, box = _middle(case, fact)
    faces = [(axis, side) for axis in range(case.ndim) for side in (0, 1)]
    needless = {(axis, side) for axis, side in faces if _beyond(box, core, axis, side) or _changes_shape(fact)}
    for seed in range(12):
        arrays = case.arrays(shape, seed)
        answers = {name: ask(measure, *arrays) for name, measure in fact.asks.items()}
        if isinstance(fact, Stage) and fact.blockwise:
            answers = blockwise_answers(fact, arrays, blocks, np.random.default_rng(0))
        call = _caller(fact, core, blocks, shape, answers)
        beside = box if isinstance(fact, Stage) else core  # where further arrays lie
        expected = call([cut(a, b) for a, b in _boxed(arrays, box, beside)], box)
        if seed < 4:
            _deaf_to_garbage(case, fact, arrays, box, core, call, expected)
        for axis, side in list(needless):
            other = _other_rim(fact, arrays, case.arrays(shape, seed + 100), box, axis, side)
            for one, two in ((arrays, other), _only_the_rim(arrays, box, axis, side)):
                boxed = [[cut(a, b) for a, b in _boxed(shown, box, beside)] for shown in (one, two)]
                found = [_given_or_refused(call, some, box) for some in boxed]
                if not equal(*found):
                    needless.discard((axis, side))
        if not needless and seed >= 4:
            break
    if case.slack:
        assert needless, f"{case} registers a slack ({case.slack}), but every voxel of its halo is needed"
        return
    assert not needless, f"{case}: one voxel less of halo changes nothing on {sorted(needless)} (axis, side)"


def _middle(case: Case, fact: Stage | Measure) -> tuple[Box, BlockGrid, Shape, Box]:
    """Core of the middle block of 3 x 3 x 3, the grid, the shape of the input, and what the core reads of it."""
    if isinstance(fact, Stage) and fact.regrids:
        return _middle_of_another_grid(case, fact)
    block = tuple(max(2, 1 + max(sides)) + axis for axis, sides in enumerate(fact.halo))
    blocks = BlockGrid(tuple(3 * b + 1 for b in block), block)
    core = blocks.core(blocks.index((1,) * len(block)))
    if isinstance(fact, Measure):
        return core, blocks, blocks.shape, core.grow(fact.halo)
    (last,) = fact.boxes(Box.whole(blocks.shape), Box.whole(blocks.shape))
    shape = last.stop if _changes_shape(fact) else blocks.shape
    (box,) = fact.boxes(core, core)
    return core, blocks, shape, box


def _middle_of_another_grid(case: Case, stage: Stage) -> tuple[Box, BlockGrid, Shape, Box]:
    shape = tuple(13 + 2 * axis for axis in range(case.ndim))
    made = stage.output(Spec(shape, case.dtype, case.voxel_um)).shape
    blocks = BlockGrid(made, tuple(max(1, n // 3) for n in made))
    core = blocks.core(blocks.index(tuple(n // 2 for n in blocks.counts)))
    (box,) = stage.boxes(core, core, shape, made)
    return core, blocks, shape, box


def _changes_shape(fact: Stage | Measure) -> bool:
    return isinstance(fact, Stage) and fact.reads is not None


def _beyond(box: Box, core: Box, axis: int, side: int) -> bool:
    return box.start[axis] < core.start[axis] if side == 0 else box.stop[axis] > core.stop[axis]


def _boxed(arrays: Arrays, first: Box, others: Box) -> list[tuple[np.ndarray, Box]]:
    return [(a, first if n == 0 else others) for n, a in enumerate(arrays)]


def _rim(box: Box, axis: int, side: int) -> tuple[slice, ...]:
    """The layer of a box that a smaller one would not see."""
    at = list(box.slices)
    at[axis] = slice(box.start[axis], box.start[axis] + 1) if side == 0 else slice(box.stop[axis] - 1, box.stop[axis])
    return tuple(at)


def _other_rim(fact: Stage | Measure, arrays: Arrays, others: Arrays, box: Box, axis: int, side: int) -> Arrays:
    """The same arrays but for the rim of those that are read there: all inputs of a stage, the first of a measure."""
    changed = [a.copy() for a in (arrays if isinstance(fact, Stage) else arrays[:1])]
    for array, other in zip(changed, others, strict=False):
        array[_rim(box, axis, side)] = other[_rim(box, axis, side)]
    return [*changed, *arrays[len(changed) :]]


def _only_the_rim(arrays: Arrays, box: Box, axis: int, side: int) -> tuple[Arrays, Arrays]:
    """A dark volume, and one that is bright in the rim alone: the faintest weight shows."""
    dark = np.zeros_like(arrays[0])
    bright = dark.copy()
    bright[_rim(box, axis, side)] = 1 if dark.dtype == bool else 100
    return [dark, *arrays[1:]], [bright, *arrays[1:]]


Call = Callable[[Sequence[np.ndarray], Box], Any]


def _caller(fact: Stage | Measure, core: Box, blocks: BlockGrid, shape: Shape, answers: Mapping[str, Answer]) -> Call:
    index = blocks.meeting(core)[0]

    def call(arrays: Sequence[np.ndarray], first: Box) -> Any:
        beside = first if isinstance(fact, Stage) else core
        at = At(core, (first,) + (beside,) * (len(arrays) - 1), blocks, index, source=shape)
        return (fact.apply if isinstance(fact, Stage) else fact.partial)(*arrays, at=at, answers=answers)

    return call


def _given_or_refused(call: Call, arrays: Sequence[np.ndarray], first: Box) -> Any:
    """What a call gives; where the answers are of other voxels than those it is shown, it may refuse instead."""
    try:
        return call(arrays, first)
    except InvalidInput as refusal:
        return np.frombuffer(str(refusal).encode(), np.uint8)


def _deaf_to_garbage(
    case: Case, fact: Stage | Measure, arrays: Arrays, box: Box, core: Box, call: Call, expected: Any
) -> None:
    whole = Box.whole(arrays[0].shape)
    beside, all_beside = (box, whole) if isinstance(fact, Stage) else (core, core)
    for garbage in ("nothing a number", "the largest value", "the smallest value", "ones"):
        spoiled = [_spoiled(a, b, garbage) for a, b in _boxed(arrays, box, beside)]
        # A view into the garbage: a kernel that steps out of its array meets it.
        found = call([a[b.slices] for a, b in _boxed(spoiled, box, beside)], box)
        assert equal(found, expected), f"{case} reads outside its box where {garbage} lies"
        if isinstance(fact, Stage) and (fact.blockwise or fact.reads is not None):
            continue
        # An array that reaches further, as in a pass that a measure with a wider halo shares.
        found = call([spoiled[0], *(a[all_beside.slices] for a in spoiled[1:])], whole)
        assert equal(found, expected), f"{case} looks further than its halo of {fact.halo}: {garbage} shows"


def _spoiled(array: np.ndarray, kept: Box, garbage: str) -> np.ndarray:
    out = np.full_like(array, _garbage(array.dtype)[garbage])
    out[kept.slices] = array[kept.slices]
    return out


def _garbage(dtype: np.dtype[Any]) -> dict[str, float | int]:
    if dtype.kind == "f":
        low, high, none = -np.inf, float(np.finfo(dtype).max), np.nan
    elif dtype.kind == "b":
        low, high, none = 0, 1, 0
    else:
        low, high, none = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max), 0
    return {"nothing a number": none, "the largest value": high, "the smallest value": low, "ones": 1}


# ---------------------------------------------------------------------------------------------- 3 the merging


def merging(case: Case) -> None:
    """Associative, commutative, with a neutral element; a partial's file gives the same partial back."""
    measure = case.build()
    if not isinstance(measure, Measure):
        return
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(3):
            rng = np.random.default_rng(seed)
            shape = tuple(case.extent[-case.ndim :])
            blocks = _some_grid(shape, rng, thin=False)
            arrays = case.arrays(shape, seed)
            answers = blockwise_answers(measure, arrays, blocks, rng)
            found = list(partials(measure, arrays, blocks, answers).values())
            before = [as_bytes(p) for p in found]
            expected = measure.merge(found)
            for _ in range(4):
                assert equal(merged(measure, found, rng), expected), f"{case}: the order of merging shows (seed {seed})"
            assert [as_bytes(p) for p in found] == before, f"{case}: merge changes the partials it is given"
            alone = measure.merge([found[0]])
            neutral = measure.merge([])
            for several in ([found[0], neutral], [neutral, found[0]], [neutral, alone, neutral]):
                assert equal(measure.merge(several), alone), f"{case}: merge([]) is not neutral"
            stored = [_stored(Path(folder) / f"{seed}-{n}.bundle", p) for n, p in enumerate(found)]
            for kept, read in zip(found, stored, strict=True):
                assert equal(read, kept), f"{case}: a partial does not survive its file"
            assert equal(measure.merge(stored), expected), f"{case}: partials from files merge to something else"


def _stored(path: Path, partial: Partial) -> Partial:
    write_bundle(path, partial)
    bundle = Bundle(path)
    bundle.check()
    return dict(bundle)


# ------------------------------------------------------------------------------------------- 4 the boundaries


def boundary(case: Case) -> None:
    """The volume's edges are those of a volume that goes on as the stage says."""
    stage = case.build()
    if not isinstance(stage, Stage) or case.shape is not None:
        return
    modes = {
        "reflect": "symmetric",
        "constant": "constant",
        "ends": None,
    }  # where it ends, no volume that goes on is like it
    assert stage.boundary in modes, f"{case}: a boundary of {stage.boundary!r} is not one the laws know"
    for seed in range(4):
        rng = np.random.default_rng(seed)
        shape = _some_shape(case, rng)
        array, *others = case.arrays(shape, seed)
        _as_reference(case, stage, array, *others)
        if stage.reads is not None or modes[stage.boundary] is None:
            continue
        answers = {name: ask(measure, array) for name, measure in stage.asks.items()}
        # One voxel more than the stage can see; ids of labels may only be counted on the volume they belong to.
        pad = [(a + 1, b + 1) for a, b in stage.halo]
        wider = [np.pad(a, pad, mode=modes[stage.boundary]) for a in (array, *others)]  # type: ignore[call-overload]
        padded = whole_stage(stage, wider) if stage.blockwise else whole_stage(stage, wider, answers)
        inner = tuple(slice(a, a + n) for (a, _), n in zip(pad, shape, strict=True))
        same(
            padded[inner],
            stage(array, *others),
            stage.tolerance,
            f"{case}, {shape}, seed {seed}: its edges do not {stage.boundary}",
        )


def _as_reference(case: Case, stage: Stage, *arrays: np.ndarray) -> None:
    if case.reference is None:
        return
    found, expected = stage(*arrays), case.reference(case, *arrays)
    if found.dtype != expected.dtype:
        assert expected.dtype.kind in "iuf" and found.dtype.kind in "iuf", (
            f"{case}: {found.dtype}, not {expected.dtype}"
        )
        expected = expected.astype(found.dtype)
    same(found, expected, case.reference_tolerance, f"{case}, {arrays[0].shape}: not the reference")


# ------------------------------------------------------------------------------------------------- 5 the specs


def specs(case: Case) -> None:
    """Shape, type, voxel size and range are those declared, for empty, constant and extreme input, 2D and 3D."""
    fact = case.build()
    travelled = pickle.loads(pickle.dumps(fact))
    assert travelled.params == fact.params, f"{case} does not travel"
    if isinstance(fact, Stage):
        for name, arrays in _awkward(case):
            _stage_specs(case, fact, travelled, arrays, f"{case}, {name}")
        if np.dtype(case.dtype).kind == "f":
            _one_that_is_no_number(case, fact)
    else:
        for name, arrays in _awkward(case):
            _measure_specs(case, fact, travelled, arrays, f"{case}, {name}")


def _stage_specs(case: Case, stage: Stage, travelled: Stage, arrays: Arrays, where: str) -> None:
    given = [spec_of(a, case.voxel_um) for a in arrays]
    declared = stage.output(*given)
    kept = [a.copy() for a in arrays]
    for array in arrays:
        array.flags.writeable = False
    with np.errstate(all="raise"):
        out = whole_stage(stage, arrays)
    assert out.shape == declared.shape, f"{where}: shape {out.shape}, declared {declared.shape}"
    assert out.dtype.name == declared.dtype, f"{where}: {out.dtype.name}, declared {declared.dtype}"
    assert len(declared.voxel_um) == case.ndim
    assert declared.voxel_um == case.params.get("voxel_um", declared.voxel_um), f"{where}: voxels {declared.voxel_um}"
    for spec in given:
        here, there = (np.array(s.shape) * s.voxel_um for s in (spec, declared))
        assert (np.abs(here - there) < declared.voxel_um).all(), f"{where}: the volume measures {there} um, not {here}"
    assert not arrays or equal(stage(*arrays), out), f"{where}: stage(array) is another result"
    if declared.values is not None:
        low, high = declared.values
        assert low <= out.min() and out.max() <= high, f"{where}: {out.min()} to {out.max()}, declared {low} to {high}"
    assert np.isfinite(out).all(), f"{where}: not finite"
    assert equal(whole_stage(travelled, arrays), out), f"{where}: another result after travelling"
    for array, before in zip(arrays, kept, strict=True):
        assert array.tobytes() == before.tobytes(), f"{where}: the input was changed"
    foreign = [a.astype(a.dtype.newbyteorder("S")) for a in arrays]
    turned = [np.asfortranarray(a) for a in arrays]
    for other, what in ((foreign, "byte order"), (turned, "memory order")):
        found = whole_stage(stage, other)
        assert equal(found.astype(found.dtype.newbyteorder("=")), out), f"{where}: {what} shows"


def _one_that_is_no_number(case: Case, stage: Stage) -> None:
    """NaN is refused in words, or the result is still what was declared; other voxels keep theirs."""
    shape = tuple(case.extent[-case.ndim :])
    *others, clean = case.arrays(shape, 1)
    answers = {name: ask(measure, *others, clean) for name, measure in stage.asks.items()}
    spoiled = clean.copy()
    spoiled[(0,) * case.ndim] = np.nan
    reached = (
        tuple(slice(0, 1 + before) for before, _ in stage.halo) if not stage.regrids else _reached(stage, case, shape)
    )
    if not stage.blockwise:  # else the answers are of the voxels they were found on
        with np.errstate(all="ignore"), suppress(InvalidInput):
            expected, found = (whole_stage(stage, [*others, last], answers) for last in (clean, spoiled))
            found[reached] = expected[reached]
            same(found, expected, stage.tolerance, f"{case}: one voxel that is NaN shows beyond the halo")
    if stage.asks:
        with suppress(InvalidInput):
            stage(*others, spoiled)


def _reached(stage: Stage, case: Case, shape: Shape) -> tuple[slice, ...]:
    """The outputs that read the first voxel, axis by axis."""
    made = stage.output(Spec(shape, case.dtype, case.voxel_um)).shape
    whole = Box.whole(made)

    def first(axis: int, n: int) -> int:
        start = tuple(n if a == axis else 0 for a in range(len(made)))
        return stage.boxes(Box(start, whole.stop), whole, shape, made)[0].start[axis]

    return tuple(slice(0, sum(first(axis, n) == 0 for n in range(m))) for axis, m in enumerate(made))


def _measure_specs(case: Case, measure: Measure, travelled: Measure, arrays: Arrays, where: str) -> None:
    for array in arrays:
        array.flags.writeable = False
    answer, again = ask(measure, *arrays), ask(travelled, *arrays)
    assert answer.arrays and equal(dict(answer.arrays), dict(again.arrays)), f"{where}: another answer after travelling"
    for name, found in answer.arrays.items():
        assert isinstance(found, np.ndarray) and found.dtype.kind != "O", f"{where}: {name} is no plain array"
    columns = case.columns(answer, arrays[0].shape)
    assert columns, f"{where}: nothing is found"


def _awkward(case: Case) -> Iterator[tuple[str, Arrays]]:
    """Inputs by name: usual ones, empty, constant, the extremes of the type, one voxel, one line."""
    if case.shape is not None:
        yield "as it is", case.arrays(case.shape, 1)
        return
    shape = tuple(case.extent[-case.ndim :])
    yield "usual", case.arrays(shape, 1)
    for one in (1, shape[-1]):
        line = (1,) * (case.ndim - 1) + (one,)
        yield f"a line of {one}", case.arrays(line, 1)
    drawn = case.arrays(shape, 1)
    for name, value in _levels(drawn[-1].dtype).items():
        filled = [a.copy() for a in drawn]
        filled[-1][...] = value
        yield name, filled
    if len(drawn) > 1:
        yield "no object", [np.zeros_like(drawn[0]), *drawn[1:]]
        yield "one object", [np.ones_like(drawn[0]), *drawn[1:]]


def _levels(dtype: np.dtype[Any]) -> dict[str, Any]:
    if dtype.kind == "f":
        return {"empty": 0.0, "constant": 3.25, "dim": np.finfo(dtype).tiny, "negative": -7.5, "bright": 1e4}
    if dtype.kind == "b":
        return {"empty": False, "constant": True}
    info = np.iinfo(dtype)
    levels = {"empty": 0, "constant": 7, "largest": info.max}
    return levels if info.min == 0 else levels | {"smallest": info.min}


# ----------------------------------------------------------------------------------------------- 8 the library


def library(case: Case, device: Callable[[np.ndarray], Any]) -> None:
    """The plain kernel, in a second array library, gives what the compiled one gives."""
    fact = case.build()
    if case.shape is not None or (isinstance(fact, Measure) and not fact.reads_array):
        return
    for seed in range(4):
        arrays = case.arrays(tuple(case.extent[-case.ndim :]), seed)
        there = [device(a) for a in arrays]
        where = f"{case}, seed {seed}: between libraries"
        if isinstance(fact, Stage):
            here, found = fact(*arrays), fact(*there)
            assert type(found) is type(there[0]), f"{where}: the result left its library"
            same(found.get(), here, case.library_tolerance, where)
        else:
            same_columns(
                case.columns(ask(fact, *there), arrays[0].shape),
                case.columns(ask(fact, *arrays), arrays[0].shape),
                case.library_tolerance,
                where,
            )
