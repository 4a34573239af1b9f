"""Task: what a worker does with a batch of blocks, and nothing else: read, compute, write, report.

One reader thread is a block ahead and one writer thread a block behind. A block that fails is reported with its class and
traceback; the others of the batch go on. The report (a receipt for each block) is the only thing that returns.
"""

from __future__ import annotations

import errno
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from google_crc32c import value as crc32c

from cristae.array import Array, to_device, to_host
from cristae.blocks import answers as stored
from cristae.blocks.evaluate import Answers, apply_chain, needs, widest
from cristae.blocks.inside import inputs_of, visit
from cristae.blocks.measure import Answer, Partial
from cristae.blocks.plan import shares_chunks
from cristae.blocks.protocol import reached
from cristae.blocks.stage import At
from cristae.blocks.work import Asked, Frame, Layout, Pass, Ref, Work, group_of, load_work, witnessed
from cristae.cluster.allocation import give_back_holes, peak_memory
from cristae.errors import CristaeError, Damaged, InvalidInput
from cristae.grid import BlockGrid, Box
from cristae.store.bundle import write_bundle
from cristae.store.claim import still_holds
from cristae.store.volume import Volume, open_volume
from cristae.store.zarr_arrays import keep_recent


@dataclass(frozen=True)
class Order:
    """A batch: which blocks of which pass, and how the worker finds the facts."""

    work: str  # path of the frozen facts
    digest: str
    number: int  # of the pass
    blocks: tuple[int, ...]
    attempt: int
    epoch: int
    stamp: int  # changes when an answer was written anew


@dataclass
class Failure:
    """Why a block could not be done: its class decides the policy."""

    block: int
    kind: str  # transient, resource, deterministic, invalid, damaged, full, superseded
    error: str
    trace: str = ""


def sentence(error: str) -> str:
    """What a failure says, without the name of its class."""
    return error.partition(": ")[2] or error


@dataclass
class Report:
    """What a batch tells the driver: for each block done what it wrote, and where the batch's partials lie."""

    number: int
    attempt: int
    done: list[int] = field(default_factory=list)
    puts: list[list[Any]] = field(default_factory=list)  # [block, array, object key, bytes, digest]
    empty: list[int] = field(default_factory=list)
    sources: list[list[int]] = field(default_factory=list)  # [block, checksum of the input voxels of its core]
    partials: str = ""  # relative to the run's folder
    failed: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    peak: int = 0  # bytes resident in this process at most, so far
    calls: int = 0


class Superseded(CristaeError):
    """A newer run has claimed the output; this one writes no more."""


def run_batch(order: Order) -> Report:
    """Every block of an order, in turn; never raises for a block's own failure."""
    start = time.perf_counter()
    work = load_work(order.work, order.digest)
    step = work.passes[order.number]
    layout, first_times, recent = _walked(order.work, order.digest, order.number)
    if keep_recent(recent):
        give_back_holes()
    report = Report(order.number, order.attempt)
    partials: dict[tuple[str, str], list[Partial]] = {}
    kept: dict[str, np.ndarray] = {}
    job = _Job(work, step, layout, first_times, order)
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        ahead: Future[_Read] | None = None
        behind: list[tuple[int, Future[list[list[Any]]], list[tuple[Asked, str, Partial]], bool]] = []
        for i, block in enumerate(order.blocks):
            current = ahead or reader.submit(job.read, block)
            wanted = step.ahead and i + 1 < len(order.blocks)
            ahead = reader.submit(job.read, order.blocks[i + 1]) if wanted else None
            try:
                found, array, empty = job.compute(current.result())
                report.calls += 1
                report.sources += job.checked(current.result())
                reached("computed")
                if behind:
                    _settle(behind.pop(), report, partials, kept)
                behind.append((block, writer.submit(job.write, block, array), found, empty))
                del array  # it is the writer's, and gone as soon as it is written
            except Exception as error:
                report.failed.append(classify(block, job.blamed(error, block)))
        for item in behind:
            _settle(item, report, partials, kept)
    if report.done and (partials or kept):
        try:
            report.partials = _store_partials(work, order, partials, kept, {a.key: a for a in step.measures})
        except Exception as error:
            report.failed += [classify(block, error) for block in report.done]
            report.done, report.puts, report.empty = [], [], []
    report.seconds = time.perf_counter() - start
    report.peak = peak_memory()
    return report


@lru_cache(maxsize=64)
def _walked(path: str, digest: str, number: int) -> tuple[Layout, Mapping[int, int], int]:
    """How a pass numbers its blocks, the first time point of each image, and bytes of chunks to keep: alike for every batch."""
    work = load_work(path, digest)
    first: dict[int, int] = {}
    for frame in work.frames:
        first[frame.image] = min(frame.t, first.get(frame.image, frame.t))
    step = work.passes[number]
    return work.layout(step), first, work.recent if shares_chunks(work, step) else 0


def _settle(
    item: tuple[int, Future[list[list[Any]]], list[tuple[Asked, str, Partial]], bool],
    report: Report,
    partials: dict[tuple[str, str], list[Partial]],
    kept: dict[str, np.ndarray],
) -> None:
    """A block is done when its bytes are written and what it told is merged: then, and only then."""
    block, written, found, empty = item
    try:
        puts = written.result()
        merged = [(asked, group, partial, asked.measure.merge([partial])) for asked, group, partial in found]
    except Exception as error:
        report.failed.append(classify(block, error))
        return
    report.puts += puts
    report.done.append(block)
    if empty:
        report.empty.append(block)
    for asked, group, partial, ready in merged:
        partials.setdefault((asked.key, group), []).append(ready)
        if asked.measure.keeps_parts:
            kept.update(stored.named((asked.key, f"#{block}"), partial))


def _store_partials(
    work: Work,
    order: Order,
    partials: Mapping[tuple[str, str], Sequence[Partial]],
    kept: Mapping[str, np.ndarray],
    asked: Mapping[str, Asked],
) -> str:
    arrays = dict(kept)
    for (key, group), several in partials.items():
        arrays.update(stored.named((key, group), asked[key].measure.merge(several)))
    name = f"partials/{order.number:02d}/{order.blocks[0]:09d}-{order.epoch}-{order.attempt}.bundle"
    write_bundle(Path(work.folder) / name, arrays)
    reached("partials-stored")
    return name


@dataclass(frozen=True)
class _Read:
    block: int
    boxes: list[Box]
    source: np.ndarray | None
    beside: Mapping[Ref, np.ndarray]  # at the core
    joined: Mapping[int, np.ndarray] = field(default_factory=dict)  # where the stage of that number reads


@dataclass(frozen=True)
class _Job:
    """One pass on one worker: read, compute and write a block."""

    work: Work
    step: Pass
    layout: Layout
    first_times: Mapping[int, int]  # of each image
    order: Order

    def place(self, block: int) -> tuple[Frame, int, BlockGrid, int]:
        number, index = self.layout.locate(block)
        frame = self.work.frames[number]
        return frame, number, self.work.grid(frame.image, self.step), index

    def volume(self, frame: Frame, array: str) -> tuple[Volume, int]:
        """The volume of an array and its level: "mito:1" is the first coarser level of "mito"."""
        image = self.work.images[frame.image]
        name, _, level = array.partition(":")
        found = image.volumes.get(name)
        return (found if found is not None else open_target(image.places[name])), int(level or 0)

    def own_t(self, frame: Frame) -> int:
        """Number of a time point in the run's own arrays, which hold only those that the run was asked for."""
        return frame.t - self.first_times[frame.image]

    def read(self, block: int) -> _Read:
        frame, _, grid, index = self.place(block)
        core = grid.core(index)
        step = self.step
        if step.before:
            reached("read")
            wholes = {ref: Box.whole(self.work.spec(frame.image, ref.array).shape) for ref in inputs_of(step)}
            loaded = {ref: self.load(frame, ref, box) for ref, box in wholes.items()}
            boxes = [core] if step.first_source is None else [wholes[step.first_source], core]
            return _Read(block, boxes, None, loaded)
        shapes = [s.shape for s in self.work.specs(frame.image, step)]
        halo = widest([a.measure.halo for a in step.measures], len(grid.shape))
        boxes = needs(step.chain, shapes, core.grow(halo), core)
        source = self.load(frame, step.source, boxes[0]) if step.source else None
        reached("read")
        shown = {ref for asked in step.measures for ref in asked.beside}
        beside = {ref: self.load(frame, ref, core) for ref in shown}
        joined = {i: self.load(frame, ref, boxes[i]) for i, ref in step.joins.items()}
        return _Read(block, boxes, source, beside, joined)

    def load(self, frame: Frame, ref: Ref, box: Box) -> np.ndarray:
        volume, level = self.volume(frame, ref.array)
        own = ref.array not in self.work.images[frame.image].volumes
        channel = frame.c if ref.channel is None else ref.channel
        array = volume.read(
            box,
            t=self.own_t(frame) if own else frame.t,
            c=0 if own and "c" not in volume.axes else channel,
            level=level,
        )
        if not own and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidInput(
                f"{volume.path} holds NaN or infinite voxels between {box.start} and {box.stop}; "
                "replace them before the run"
            )
        return array

    def blamed(self, error: Exception, block: int) -> Exception:
        """The error; one about voxels says in which file they are."""
        frame, *_ = self.place(block)
        volume = self.work.images[frame.image].volumes.get("input")
        if not isinstance(error, InvalidInput) or volume is None or volume.path in str(error):
            return error
        return InvalidInput(f"{volume.path}: {error}")

    def checked(self, read: _Read) -> list[list[int]]:
        """The checksum of the input voxels that a block answers for, where a pass reads the user's own image."""
        frame, _, _, index = self.place(read.block)
        source = self.step.first_source
        if source is None or source.array not in self.work.images[frame.image].volumes:
            return []
        seen = witnessed(self.work, self.step, frame.image, index)
        array = read.beside[source] if self.step.before else read.source
        if array is None or not read.boxes[0].contains(seen):
            return []
        return [[read.block, checksum(array[seen.within(read.boxes[0])])]]

    def compute(self, read: _Read) -> tuple[list[tuple[Asked, str, Partial]], np.ndarray | None, bool]:
        frame, number, grid, index = self.place(read.block)
        core = grid.core(index)
        step = self.step
        if step.before:
            return self.compute_inside(read, frame, number, grid)
        array: Array = None
        if read.source is not None:
            array = to_device(read.source, self.work.device)
        if step.chain:
            array = apply_chain(
                step.chain,
                array,
                read.boxes,
                grid,
                index,
                frame.t,
                lambda i: self.answers(step.asks[i], frame, number),
                lambda i: [to_device(read.joined[i], self.work.device)] if i in step.joins else [],
                [s.shape for s in self.work.specs(frame.image, step)],
            )
        found = []
        for asked in step.measures:
            shown = [array] if asked.measure.reads_array else []
            shown += [to_device(read.beside[ref], self.work.device) for ref in asked.beside]
            at = At(core, (read.boxes[-1],) + (core,) * len(asked.beside), grid, index, frame.t)
            partial = asked.measure.partial(*shown, at=at, answers=self.answers(asked.asks, frame, number))
            found.append((asked, group_of(asked.measure.scope, frame, number), partial))
        return found, *self.result(array, read, core)

    def compute_inside(
        self, read: _Read, frame: Frame, number: int, grid: BlockGrid
    ) -> tuple[list[tuple[Asked, str, Partial]], np.ndarray | None, bool]:
        """A whole image in one visit: every pass before this one, then this one."""
        inputs = {ref: to_device(array, self.work.device) for ref, array in read.beside.items()}
        specs, image = self.work.specs, frame.image
        array, found = visit(self.step, inputs, lambda p: [s.shape for s in specs(image, p)], grid.block, frame.t)
        grouped = [(asked, group_of(asked.measure.scope, frame, number), partial) for asked, partial in found]
        return grouped, *self.result(array, read, grid.core(0))

    def result(self, array: Array, read: _Read, core: Box) -> tuple[np.ndarray | None, bool]:
        """What is to be written, and whether it is empty."""
        if self.step.sink is None:
            return None, False
        out = to_host(array[core.within(read.boxes[-1])])
        few = out[(slice(None, None, 7),) * out.ndim]  # which mostly tells
        return out, not (few.any() or out.any())

    def answers(self, asks: Mapping[str, str], frame: Frame, number: int) -> Answers:
        out: dict[str, Answer] = {}
        for name, key in asks.items():
            asked = next(a for p in self.work.passes for a in p.measures if a.key == key)
            group = group_of(asked.measure.scope, frame, number)
            blocks = self.layout.numbers(number)
            out[name] = stored.load_answer(self.work.folder, key, group, blocks.start, len(blocks), self.order.stamp)
        return out

    def write(self, block: int, array: np.ndarray | None) -> list[list[Any]]:
        if self.step.sink is None or array is None:
            return []
        if not still_holds(Path(self.work.folder).parent, self.order.epoch):
            raise Superseded("a newer run has claimed this output; this one writes no more")
        frame, _, grid, index = self.place(block)
        volume, level = self.volume(frame, self.step.sink)
        own_c = frame.c if self.step.into is None else self.step.into
        t, c = self.own_t(frame), (own_c if "c" in volume.axes else 0)
        array = array.astype(volume.dtype, copy=False)
        puts = volume.write(grid.core(index), array, t=t, c=c, level=level)
        prefix = f"{level}/"
        reached("written")
        name = self.step.sink.partition(":")[0]
        return [[block, name, prefix + key, size, digest] for key, (size, digest) in puts.items()]


def open_target(place: str) -> Volume:
    """An array that the run itself made; `place` is its path, wherever it lies now."""
    return open_volume(place, doubts=False)


def combine(order: tuple[str, str, int, Sequence[str], str]) -> str:
    """Merge the partial files of a pass into one file: a node of the reduction tree. Returns the file's name."""
    path, digest, number, files, name = order
    if keep_recent(0):  # the pass is over; what it kept makes room for its partials
        give_back_holes()
    work = load_work(path, digest)
    step = work.passes[number]
    folder = Path(work.folder)
    measures = {a.key: a.measure for a in step.measures}
    held = stored.holders(str(folder / f) for f in files)
    arrays: dict[str, np.ndarray] = {}
    for key, group in held:
        arrays.update(stored.named((key, group), stored.merged(measures[key], key, group, held)))
    write_bundle(folder / name, arrays)
    return name


def classify(block: int, error: BaseException) -> Failure:
    """The class of a failure; it decides whether and how the block is tried again."""
    kind, name, said = _kind(error), type(error).__name__, str(error)
    if kind == "full" and isinstance(error, OSError):
        said = f"the disk is full ({error.strerror}); make room, and the same command goes on from here"
    return Failure(block, kind, f"{name}: {said}" if said else name, "".join(traceback.format_exception(error)))


def _kind(error: BaseException) -> str:
    if isinstance(error, Superseded):
        return "superseded"
    if isinstance(error, Damaged):
        return "damaged"
    if isinstance(error, CristaeError):
        return "full" if error.exit_code == 1 else "invalid"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "resource"
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "full"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR):
            return "deterministic"
        return "transient"
    return "deterministic"


def checksum(array: np.ndarray) -> int:
    """CRC-32C of the voxels in raster order."""
    return int(crc32c(np.ascontiguousarray(array).reshape(-1).view(np.uint8)))
