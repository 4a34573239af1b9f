"""Run: the driver. Walks the passes in order; between them it merges partials, finishes answers and journals them.

State has one owner: this process, and its truth is the journal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from cristae.blocks import answers as stored
from cristae.blocks.dispatch import Crew, Kin, Totals, run_blocks
from cristae.blocks.evaluate import needs, widest
from cristae.blocks.journal import COMMITTED, Journal, PassState
from cristae.blocks.measure import Answer
from cristae.blocks.protocol import reached
from cristae.blocks.task import combine, sentence
from cristae.blocks.work import Asked, Pass, Work, consecutive, groups
from cristae.errors import SetAside
from cristae.store.bundle import Bundle, BundleWriter

FAN_IN = 64
INNER = ("scratch", "kept")
"""Kinds of arrays that are made for later passes."""
COMBINED_BYTES = 32 << 20
"""Of partial files, what a worker merges at once; it holds them about three times while it does."""


def run_passes(work: Work, crew: Crew, make_sink: Callable[[Pass], None]) -> Totals:
    """Every pass that is not done yet. make_sink(step) makes the array a pass writes, just before it starts.

    An image of several of which a block was set aside is lost: the others go on without it, and the totals name it.

    Raises
    ------
    SetAside : if blocks of the only image were set aside, of every image, or of one that an answer is pooled over: at the end of
        their pass where it feeds a later one, or, once all others are done, in the last one.
    InvalidInput, Damaged, Claimed, CristaeError : whatever else ends a run; everything committed stays.
    """
    with ThreadPoolExecutor(1) as beside:
        beside.submit(_make_ready, work, crew.journal)
        return _walk(work, crew, make_sink)


def _make_ready(work: Work, journal: Journal) -> None:
    """Load what finishing the answers needs, such as compiled kernels, while the workers are busy with the first blocks."""
    for asked in (a for step in work.passes for a in step.measures if a.key not in journal.answered):
        if (ready := getattr(asked.measure.finish, "ready", None)) is not None:
            ready()


def _walk(work: Work, crew: Crew, make_sink: Callable[[Pass], None]) -> Totals:
    totals, journal = Totals(), crew.journal
    lost: dict[int, str] = {}
    sunk = False
    for number, step in enumerate(work.passes):
        unanswered = [a.key for a in step.measures if a.key not in journal.answered]
        if not unanswered and not _demanded(work, journal, number):
            continue
        if step.sink is not None:
            make_sink(step)
            reached("sink-made")
        state = journal.passes[number]
        gone = [blocks for image in lost for blocks in blocks_of(work, step, image)]
        todo = _todo(work, journal, number, all_of_them=bool(unanswered))
        todo = [b for b in todo if not any(b in blocks for blocks in gone)]
        facts = {"pass": number, "name": step.name, "total": len(state.state), "todo": len(todo)}
        crew.listen({"event": "pass", **facts})
        spent = run_blocks(crew, number, todo, _kin(work, step))
        totals = Totals(totals.calls + spent.calls, totals.retries + spent.retries, lost)
        lost |= _parted(work, step, state)
        sunk = sunk or _needs_all(work, step, lost)
        if sunk and number < len(work.passes) - 1:
            break
        if unanswered and not sunk:
            _answer(replace(work, lost=lost), crew, number)
    if sunk:
        raise _set_aside(journal)
    return totals


def _parted(work: Work, step: Pass, state: PassState) -> dict[int, str]:
    """Images of which a block of this pass was set aside, and why."""
    layout = work.layout(step)
    found: dict[int, str] = {}
    for block, record in state.aside.items():
        found.setdefault(work.frames[layout.locate(block)[0]].image, sentence(record["error"]))
    return found


def _needs_all(work: Work, step: Pass, lost: Mapping[int, str]) -> bool:
    """Whether a pass cannot be answered without these images."""
    pooled = any(a.measure.scope == "collection" for a in step.measures)
    return len(lost) == len(work.images) or (pooled and bool(lost))


def _kin(work: Work, step: Pass) -> Kin | None:
    """The blocks of a pass that belong to the image of a block; none where it is the only image."""
    if len(work.images) == 1:
        return None
    layout = work.layout(step)
    return lambda block: {b for own in blocks_of(work, step, work.frames[layout.locate(block)[0]].image) for b in own}


def blocks_of(work: Work, step: Pass, image: int) -> list[range]:
    """Numbers of the blocks of an image in a pass; its time points follow each other, but for those that came later."""
    layout = work.layout(step)
    own = consecutive([n for n, frame in enumerate(work.frames) if frame.image == image])
    return [range(layout.numbers(first).start, layout.numbers(stop - 1).stop) for first, stop in own]


def _demanded(work: Work, journal: Journal, number: int) -> bool:
    # An output is demanded until each of its blocks is there; a scratch, or what is kept, only while a later pass has to read it.
    sink = work.passes[number].sink
    if sink is None or (journal.passes[number].state == COMMITTED).all():
        return False
    if next((t.kind for t in work.targets if t.name == sink), "level") not in INNER:
        return True
    readers = [n for n, p in enumerate(work.passes) if sink in p.reads]
    return any(
        any(a.key not in journal.answered for a in work.passes[n].measures) or _demanded(work, journal, n)
        for n in readers
    )


def _todo(work: Work, journal: Journal, number: int, all_of_them: bool) -> list[int]:
    """Pending blocks of a pass that something waits for: of a scratch, only what the pending blocks of its readers read."""
    pending: list[int] = journal.pending(number).tolist()
    step = work.passes[number]
    if all_of_them or step.sink is None:
        return pending
    wanted: set[int] = set()
    for n, reader in enumerate(work.passes):
        if step.sink not in reader.reads:
            continue
        waiting = journal.pending(n)
        if len(waiting) == len(journal.passes[n].state):
            return pending
        wanted.update(_read_by(work, number, n, waiting.tolist()))
    kind = next(t.kind for t in work.targets if t.name == step.sink.partition(":")[0])
    return [b for b in pending if b in wanted] if kind in INNER else pending


def _read_by(work: Work, made: int, reader: int, blocks: list[int]) -> set[int]:
    """Blocks of pass `made` that hold what these blocks of pass `reader` read."""
    step, source = work.passes[reader], work.layout(work.passes[made])
    layout = work.layout(step)
    out: set[int] = set()
    for block in blocks:
        frame, index = layout.locate(block)
        numbers = source.numbers(frame)
        if step.before:  # the image is one block
            out.update(numbers)
            continue
        image = work.frames[frame].image
        grid = work.grid(image, step)
        halo = widest([a.measure.halo for a in step.measures], len(grid.shape))
        core = grid.core(index)
        boxes = needs(step.chain, [s.shape for s in work.specs(image, step)], core.grow(halo), core)
        seen = [(step.source, boxes[0]), *((ref, boxes[n]) for n, ref in step.joins.items())]
        seen += [(ref, core) for asked in step.measures for ref in asked.beside]
        for ref, box in seen:
            if ref is not None and ref.array == work.passes[made].sink:
                out.update(numbers.start + b for b in work.grid(image, work.passes[made]).meeting(box))
    return out


def _set_aside(journal: Journal) -> SetAside:
    found = [record for state in journal.passes for record in state.aside.values()]
    many = f"{len(found)} blocks were" if len(found) > 1 else "1 block was"
    return SetAside(
        f"{many} set aside after failing again (the first: block {found[0]['block']}, {found[0]['error']}); "
        "the others are done: mend the cause and give the same command again"
    )


def _answer(work: Work, crew: Crew, number: int) -> None:
    """Merge the partials of a finished pass, finish each answer, write it and journal it; lost images have no part in it."""
    step, state = work.passes[number], crew.journal.passes[number]
    folder = Path(work.folder)
    files = sorted({state.files[f] for f in np.unique(state.file_of) if f >= 0})
    held = stored.holders(str(folder / f) for f in _reduce(work, crew, number, files))
    for asked in step.measures:
        with BundleWriter(stored.answer_path(work.folder, asked.key)) as out:
            for group in groups(work, asked.measure.scope):
                partial = stored.merged(asked.measure, asked.key, group, held)
                for name, array in stored.named((group,), _finish(work, asked, group, partial)):
                    out.add(name, array)
            if asked.measure.keeps_parts:
                out.add("parts|names", np.frombuffer("\n".join(state.files).encode(), np.uint8))
                out.add("parts|file", state.file_of)
    reached("answer-written")
    crew.journal.add([{"kind": "answers", "keys": [a.key for a in step.measures], "lacking": sorted(work.lost)}])
    reached("answer-journalled")


def _finish(work: Work, asked: Asked, group: str, partial: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if asked.measure.finish is None:
        return partial
    if not asked.measure.asks:
        return asked.measure.finish(partial)
    inner = {
        name: Answer(stored.taken(Bundle(stored.answer_path(work.folder, key)), group))
        for name, key in asked.asks.items()
    }
    return asked.measure.finish(partial, inner)


def _handfuls(folder: Path, files: list[str]) -> list[list[str]]:
    """Files that one task merges: they follow each other, at most FAN_IN and no more than it has room for."""
    found: list[list[str]] = []
    room = 0
    for file in files:
        size = (folder / file).stat().st_size
        if not found or len(found[-1]) == FAN_IN or size > room:
            found.append([])
            room = COMBINED_BYTES
        found[-1].append(file)
        room -= size
    return found


def _reduce(work: Work, crew: Crew, number: int, files: list[str]) -> list[str]:
    """Partial files merged on the workers, FAN_IN at a time, until few are left, or those that are left are large."""
    level = 0
    while len(files) > FAN_IN and (few := _handfuls(Path(work.folder), files)) != [[f] for f in files]:
        level += 1
        nodes = {f"partials/{number:02d}/merge-{crew.epoch}-{level}-{i}.bundle": some for i, some in enumerate(few)}
        todo, tried = deque(nodes), 0
        flying: dict[str, str] = {}
        while todo or flying:
            while todo and len(flying) <= crew.executor.workers:
                name, tried = todo.popleft(), tried + 1
                key = f"cristae-merge-{crew.epoch}-{number}-{level}-{tried}"
                flying[key] = name
                crew.executor.start(key, (combine, (crew.work, crew.digest, number, nodes[name], name)))
            if (done := crew.executor.next(1.0)) is None or (name := flying.pop(done.key, "")) == "":
                continue
            if done.died and tried < 4 * len(nodes):
                todo.append(name)  # its only effect is its file, so it is simply done again
            elif done.error is not None:
                raise done.error
        files = list(nodes)
    return files
