"""Plan: what a run will cost, by arithmetic alone, and the refusal of what cannot fit. Nothing is executed here.

A worker holds at most, at any moment:

    its imports (BASELINE), and what it takes to read a table of runs (RUNS)
    where blocks share chunks, those it decoded last (Work.recent)
    what its stages need however many blocks there are: libraries, results that blocks share (Cost.process_bytes)
    the block it works on, and the one its reader thread has ready (Pass.ahead): source, what lies beside it, and what decoding takes
    the largest stage: its input, its output and its working memory
    the block its writer thread has behind: the voxels, and a few chunks of them as they are encoded
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from cristae.blocks.evaluate import needs, widest
from cristae.blocks.stage import Spec
from cristae.blocks.work import Pass, Work
from cristae.errors import PlanRefused
from cristae.grid import BlockGrid, Shape, inner_chunk

BASELINE = 245 << 20
"""Bytes a worker process holds beside its blocks: Python and the imports of the engine, 225, and what its heap cannot give back."""

RUNS = 130 << 20
"""Bytes more that a process holds where it reads a table of runs: pyarrow, and the rows among which it looked for overlaps."""

DRIVER_BYTES = 100
"""A block that waits for its turn in the pass that is going on, as the driver keeps it."""

WRITE_NS_PER_BYTE = 4.0
READ_NS_PER_BYTE = 1.5


@dataclass(frozen=True)
class PassPlan:
    """One pass over the whole collection."""

    name: str
    blocks: int
    voxels: int  # of all cores
    voxels_read: int  # halos included
    chunks: int  # decoded source chunks
    amplification: float  # decoded voxels of the source over its voxels
    bytes_read: int
    bytes_written: int  # before compression
    memory: int  # bytes of one worker process that does one block at a time
    nanoseconds: float  # of work, all blocks
    calls: Mapping[str, int]


@dataclass(frozen=True)
class Plan:
    """All that a run needs, decided before the first byte moves."""

    block: Shape
    passes: tuple[PassPlan, ...]
    memory: int  # bytes of one worker process
    driver: int  # bytes
    scratch: int  # bytes, before compression
    output: int  # bytes, before compression

    @property
    def seconds(self) -> float:
        """CPU seconds of all blocks, from the stages' stated costs."""
        return sum(p.nanoseconds for p in self.passes) / 1e9


def make_plan(work: Work, threads: int = 1) -> Plan:
    """The plan of a run. threads : blocks that one process works on at a time."""
    passes = tuple(_plan_pass(work, step, threads) for step in work.passes)
    kinds = {t.name: t.kind for t in work.targets}
    scratch = sum(
        p.bytes_written
        for p, s in zip(passes, work.passes, strict=True)
        if s.sink and kinds[s.sink.partition(":")[0]] == "scratch"
    )
    output = sum(
        p.bytes_written
        for p, s in zip(passes, work.passes, strict=True)
        if s.sink and kinds[s.sink.partition(":")[0]] != "scratch"
    )
    blocks = max((p.blocks for p in passes), default=0)
    memory = max((p.memory for p in passes), default=BASELINE)
    return Plan(work.block, passes, memory, BASELINE + blocks * (5 * len(passes) + DRIVER_BYTES), scratch, output)


def refuse(plan: Plan, limit: int, smallest: Plan | None = None) -> None:
    """Raise PlanRefused if a worker would need more than `limit` bytes; `smallest` is the plan of the smallest blocks that were tried."""
    if plan.memory <= limit:
        return
    step = max(plan.passes, key=lambda p: p.memory)
    way = "give it more --memory"
    if smallest is not None and smallest.memory <= limit:
        way = f"use --block {_csv(smallest.block)}, or give it more --memory"
    elif smallest is not None:
        way = f"even blocks of {_csv(smallest.block)} need {smallest.memory / 2**20:.0f} MiB: give it more --memory"
    raise PlanRefused(
        f"a worker needs {plan.memory / 2**20:.0f} MiB for blocks of {_csv(plan.block)} in '{step.name}', but --memory "
        f"leaves it {limit / 2**20:.0f} MiB; {way}"
    )


def _csv(shape: Sequence[int]) -> str:
    return ",".join(str(n) for n in shape)


def _plan_pass(work: Work, step: Pass, threads: int) -> PassPlan:
    counted: dict[int, int] = {}
    for frame in work.frames:
        counted[frame.image] = counted.get(frame.image, 0) + 1
    parts = [(_plan_frame(work, step, image, threads), frames) for image, frames in _alike(work, step, counted)]
    totals = {
        name: sum(getattr(p, name) * n for p, n in parts)
        for name in ("blocks", "voxels", "voxels_read", "chunks", "bytes_read", "bytes_written", "nanoseconds")
    }
    done = (*step.before, step)
    calls = {s.name: totals["blocks"] for p in done for s in p.chain}
    calls |= {a.measure.name: totals["blocks"] for p in done for a in p.measures}
    return PassPlan(
        name=step.name,
        amplification=max((p.amplification for p, _ in parts), default=1.0),
        memory=max((p.memory for p, _ in parts), default=BASELINE),
        calls=calls,
        **totals,
    )


def _alike(work: Work, step: Pass, counted: Mapping[int, int]) -> list[tuple[int, int]]:
    # Ten thousand fields of one shape are planned once.
    found: dict[tuple[object, ...], list[int]] = {}
    for image, frames in counted.items():
        volumes = work.images[image].volumes.values()
        key = tuple((v.spatial_shape, v.dtype, v.chunk) for v in volumes)
        found.setdefault(key, [image, 0])[1] += frames
    return [(image, frames) for image, frames in found.values()]


def _plan_frame(work: Work, step: Pass, image: int, threads: int) -> PassPlan:
    """One pass over one frame. Passes done together read once, and hold what they hand on until the last is done."""
    if not step.before:
        return _plan_one(work, step, image, threads)
    inner = [_plan_one(work, p, image, threads) for p in (*step.before, step)]
    made = [work.specs(image, p)[-1] for p in step.before if p.sink]
    handed = sum(s.nbytes for s in made)
    return replace(
        inner[-1],
        voxels_read=inner[0].voxels_read,
        chunks=inner[0].chunks,
        amplification=inner[0].amplification,
        bytes_read=inner[0].bytes_read,
        memory=max(p.memory for p in inner) + threads * handed,
        nanoseconds=sum(p.nanoseconds for p in inner),
    )


def _plan_one(work: Work, step: Pass, image: int, threads: int) -> PassPlan:
    specs = work.specs(image, step)
    grid = BlockGrid(specs[-1].shape, work.block)
    blocks, voxels = len(grid), prod(grid.shape)
    ndim = len(grid.shape)
    item = np.dtype(specs[0].dtype).itemsize if step.source is not None else 0
    source, axes = prod(specs[0].shape), _reading(work, step, image)
    read = chunks = recent = 0
    decoded = 0.0
    if axes:
        chunk_bytes = prod(_chunk_of(work, step, image)) * item
        read, chunks = prod(a.voxels for a in axes), _decoded(axes, work.recent // chunk_bytes)
        decoded = source * chunks / prod(a.chunks for a in axes)
        # Chunks at the far edge are kept whole.
        kept = min(work.recent, prod(a.chunks for a in axes) * chunk_bytes)
        recent = kept if any(a.touched > a.chunks for a in axes) else 0
    if any(volume.reader == "runs" for volume in work.images[image].volumes.values()):
        recent = RUNS  # of which no chunk is kept
    shared = sum(k.cost.process_bytes for k in step.chain) + sum(a.measure.cost.process_bytes for a in step.measures)
    beside = sum(np.dtype(work.spec(image, r.array).dtype).itemsize for r in step.beside)
    out_item = np.dtype(specs[-1].dtype).itemsize if step.sink is not None else 0
    halo = read / source if read else 1.0
    ns = sum(k.cost.ns_per_voxel * prod(s.shape) for k, s in zip(step.chain, specs, strict=False)) * halo / voxels
    ns += sum(a.measure.cost.ns_per_voxel for a in step.measures)
    ns += decoded / max(1, voxels) * item * READ_NS_PER_BYTE + beside * READ_NS_PER_BYTE + out_item * WRITE_NS_PER_BYTE
    return PassPlan(
        name=step.name,
        blocks=blocks,
        voxels=voxels,
        voxels_read=read,
        chunks=chunks,
        amplification=decoded / source if read else 1.0,
        bytes_read=read * item + voxels * beside,
        bytes_written=voxels * out_item,
        memory=BASELINE + recent + int(shared) + threads * _block_memory(work, step, image, specs, grid, ndim),
        nanoseconds=ns * voxels,
        calls={},
    )


def _chunk_of(work: Work, step: Pass, image: int) -> Shape:
    if step.source is None:
        return work.block
    volume = work.images[image].volumes.get(step.source.array)
    if volume is not None:
        return volume.chunk
    return inner_chunk(work.block)


@dataclass(frozen=True)
class _Axis:
    """What the blocks of a pass read along one axis."""

    voxels: int  # added up over the blocks
    touched: int  # chunks, added up over the blocks
    chunks: int  # that there are
    longest: int  # chunks of one block


def _reading(work: Work, step: Pass, image: int) -> list[_Axis]:
    if step.source is None:
        return []
    specs, grid, chunk = work.specs(image, step), work.grid(image, step), _chunk_of(work, step, image)
    shapes, ndim = [s.shape for s in specs], len(grid.shape)
    halo = widest([a.measure.halo for a in step.measures], ndim)
    found = []
    for axis in range(ndim):
        voxels, touched = 0, []
        for k in range(grid.counts[axis]):
            position = [0] * ndim
            position[axis] = k
            core = grid.core(grid.index(tuple(position)))
            box = needs(step.chain, shapes, core.grow(halo), core)[0]
            a, b, c = box.start[axis], box.stop[axis], chunk[axis]
            voxels += b - a
            touched.append(-(-b // c) - a // c)
        found.append(_Axis(voxels, sum(touched), -(-shapes[0][axis] // chunk[axis]), max(touched)))
    return found


def shares_chunks(work: Work, step: Pass) -> bool:
    """Whether some chunk is read by several blocks of a pass, so that keeping it for a while saves decoding it again."""
    inner = (*step.before, step)[0]
    some = [image for image, _ in _alike(work, inner, dict.fromkeys(range(len(work.images)), 1))]
    return any(a.touched > a.chunks for image in some for a in _reading(work, inner, image))


def _decoded(axes: Sequence[_Axis], recent: int) -> int:
    """Chunks decoded by one process that can keep so many of them.

    Blocks that follow each other along an axis share what lies between them where there is room for all that is touched in
    the meantime; the last axis is walked first.
    """
    touched = [a.touched for a in axes]
    for n, axis in enumerate(axes):
        if prod(a.longest for a in axes[: n + 1]) * prod(a.chunks for a in axes[n + 1 :]) <= recent:
            touched[n] = min(axis.touched, axis.chunks)
    return prod(touched)


def _block_memory(work: Work, step: Pass, image: int, specs: Sequence[Spec], grid: BlockGrid, ndim: int) -> int:
    """Bytes of one block at work, one ahead and one behind; the block in the middle has the whole halo."""
    middle = grid.index(tuple(n // 2 if n > 2 else 0 for n in grid.counts))
    core = grid.core(middle)
    halo = widest([a.measure.halo for a in step.measures], ndim)
    boxes = needs(step.chain, [s.shape for s in specs], core.grow(halo), core)
    sizes = [b.size * np.dtype(s.dtype).itemsize for b, s in zip(boxes, specs, strict=True)]
    source = sizes[0] if step.source is not None else 0
    shown = [(r, core) for asked in step.measures for r in asked.beside]
    shown += [(r, boxes[i]) for i, r in step.joins.items()]
    beside = sum(box.size * np.dtype(work.spec(image, r.array).dtype).itemsize for r, box in shown)
    work_bytes = [
        sizes[i] + sizes[i + 1] + boxes[i].size * s.cost.bytes_per_voxel + s.cost.fixed_bytes
        for i, s in enumerate(step.chain)
    ] + [sizes[-1] + core.size * a.measure.cost.bytes_per_voxel + a.measure.cost.fixed_bytes for a in step.measures]
    out = core.size * np.dtype(specs[-1].dtype).itemsize if step.sink is not None else 0
    computing = max([w - (sizes[0] if i == 0 and source else 0) for i, w in enumerate(work_bytes)], default=0)
    return int((2 if step.ahead else 1) * (source + beside) + source / 2 + computing + 1.5 * out)
