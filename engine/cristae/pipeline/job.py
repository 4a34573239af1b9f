"""Job: what a command wants done, as frozen facts; and `execute`, which does it and loses nothing.

Outputs are written under `.cristae/NAME/gen-N/staged` and renamed into place when all of them are whole: a reader sees the old
result or the new one, never half of one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cristae.blocks.dispatch import Crew, Listener
from cristae.blocks.journal import Journal
from cristae.blocks.protocol import reached
from cristae.blocks.run import run_passes
from cristae.blocks.work import Frame, Image, Pass, Target, Work
from cristae.cluster.executor import open_cluster
from cristae.cluster.model import parse_cluster
from cristae.errors import PlanRefused
from cristae.grid import Shape, inner_chunk
from cristae.pipeline import generation as gen
from cristae.pipeline.compile import Choice
from cristae.pipeline.sizes import choose_block
from cristae.store.bundle import write_bytes
from cristae.store.claim import Claim
from cristae.store.create import create_volume, publish, register_label
from cristae.store.facts import Channel


@dataclass(frozen=True)
class ArrayOutput:
    """An array that a user asked for: a group of its own, or a label in a store."""

    target: str
    image: int
    kind: str  # "label" or "image"
    final: Path
    store: Path | None = None  # the store whose labels/ must list it
    source: str | None = None  # what a label outside its image's store was made from
    channels: tuple[Channel, ...] = ()
    every_channel: bool = False


@dataclass(frozen=True)
class FileOutput:
    """A table or a picture that a run leaves; `writer` makes it from the answers and says what is in it."""

    final: Path
    writer: Callable[[Work, Path], dict[str, Any]]


@dataclass(frozen=True)
class Job:
    """Everything a command wants, before anything is done."""

    name: str
    root: Path  # its `.cristae/NAME` holds the state
    images: tuple[Image, ...]
    frames: tuple[Frame, ...]
    passes: tuple[Pass, ...]
    targets: tuple[Target, ...]
    arrays: tuple[ArrayOutput, ...] = ()
    files: tuple[FileOutput, ...] = ()
    choices: tuple[Choice, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.root / ".cristae" / self.name

    @property
    def finals(self) -> list[Path]:
        return [o.final for o in self.arrays] + [o.final for o in self.files]


@dataclass(frozen=True)
class Settings:
    """How a run behaves. Only `block` (and the chunk and shard it gives) is frozen with the result."""

    cluster: str = "auto"
    memory: int | None = None
    block: Shape | None = None
    chunk: Shape | None = None
    device: str = "cpu"
    fresh: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    status: str  # "done" or "nothing to do"
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def block_of(job: Job, settings: Settings) -> Shape:
    """The block shape a new run of this job would take."""
    volumes = [v for image in job.images for v in image.volumes.values()]
    if not volumes:
        shapes = [tuple(job.extra["shape"])]
        return choose_block(shapes, shapes if settings.block else [(1,) * len(shapes[0])], settings.block)
    shapes = [v.spatial_shape for v in volumes]
    if len({len(s) for s in shapes}) > 1:
        raise PlanRefused("images of two and of three dimensions cannot share a run; give them in two commands")
    return choose_block(shapes, [v.chunk for v in volumes], settings.block)


def voxel_bytes(job: Job) -> int:
    """Bytes of all input voxels: what decides whether processes are worth their start."""
    total = 0
    for frame in job.frames:
        for volume in job.images[frame.image].volumes.values():
            size = 1
            for n in volume.spatial_shape:
                size *= n
            total += 4 * size
    return total


def execute(job: Job, settings: Settings, listen: Listener) -> Outcome:
    """Do a job, or go on with it, or say that there is nothing to do.

    Raises
    ------
    Claimed : if another run holds the output.
    PlanRefused : if a result of other facts is in the way.
    SetAside, InvalidInput, Damaged, CristaeError : as the run ends; what is committed stays.
    """
    start = time.monotonic()
    with Claim(job.state) as claim:
        reached("claimed")
        generation, new = _generation(job, settings)
        if not new and (generation.folder / "complete.json").exists() and _present(job):
            return Outcome("nothing to do", tuple(job.finals))
        block = tuple(generation.frozen["block"])
        reached("begun")
        work, path, digest = _facts(job, generation, block, settings)
        blocks = [len(work.layout(p)) for p in work.passes]
        journal = Journal.load(generation.folder, blocks)
        retried = journal.retry_aside()
        cluster = parse_cluster(settings.cluster, voxel_bytes(job))
        events = _recorder(generation.folder / "events.jsonl", listen)
        events(
            {
                "event": "start",
                "name": job.name,
                "cluster": str(cluster),
                "committed": journal.recovered,
                "retried": retried,
            }
        )
        with open_cluster(cluster, settings.memory) as executor:
            crew = Crew(executor, journal, str(path), digest, claim.epoch, events)
            totals = run_passes(work, crew, lambda step: _make_sink(work, job, step, settings, generation))
        facts = _publish(job, work, generation)
        facts |= {"calls": totals.calls, "retries": totals.retries, "seconds": round(time.monotonic() - start, 2)}
        facts |= {"versions": gen.versions(), "key": generation.key, "frozen": generation.frozen}
        _drop_scratch(work, journal, generation.folder)
        reached("scratch-dropped")
        journal.add([{"kind": "complete"}])
        write_bytes(generation.folder / "complete.json", json.dumps(facts, indent=1, default=str).encode())
        reached("completed")
        events({"event": "complete", **{k: facts[k] for k in ("calls", "retries", "seconds")}})
    return Outcome("done", tuple(job.finals), facts)


def _generation(job: Job, settings: Settings) -> tuple[gen.Generation, bool]:
    key = gen.key_of(
        job.passes, {i.name: {n: v.identity() for n, v in i.volumes.items()} for i in job.images}, job.extra
    )
    found = gen.latest(job.state)
    frozen = {"block": list(block_of(job, settings)), "versions": gen.versions(), "chunk": settings.chunk}
    if found is None:
        if not settings.fresh and (taken := [p for p in job.finals if _occupied(p)]):
            raise PlanRefused(
                f"{taken[0]} exists already and is no result of this run; give another output name, or --fresh to move it aside"
            )
        return gen.begin(job.state, 1, key, frozen), True
    complete = (found.folder / "complete.json").exists()
    if settings.fresh and (complete or dict(found.key) != key):
        return gen.begin(job.state, found.number + 1, key, frozen), True
    gen.refuse_change(found.key, key, str(job.finals[0]))
    if (
        settings.block is not None
        and list(choose_block([tuple(found.frozen["block"])], [settings.block], settings.block))
        != found.frozen["block"]
    ):
        raise PlanRefused(
            f"--block {_csv(settings.block)}: this run was started with blocks of {_csv(found.frozen['block'])}; leave --block out to go on, "
            "or give --fresh to start again"
        )
    return found, False


def _csv(numbers: Any) -> str:
    return ",".join(str(n) for n in numbers)


def _present(job: Job) -> bool:
    return all(_occupied(p) for p in job.finals)


def _occupied(path: Path) -> bool:
    """Whether something other than our own state lies there."""
    return any(c.name != ".cristae" for c in path.iterdir()) if path.is_dir() else path.exists()


def _facts(job: Job, generation: gen.Generation, block: Shape, settings: Settings) -> tuple[Work, Path, str]:
    """The facts for workers, with the places of arrays as they are now: staged, or already in place."""
    import hashlib

    places: list[dict[str, str]] = [{} for _ in job.images]
    for target in job.targets:
        for n, image in enumerate(job.images):
            if target.kind == "scratch":
                places[n][target.name] = str(generation.folder / "scratch" / image.name / f"{target.name}.zarr")
    for n, output in enumerate(job.arrays):
        staged = staged_place(generation, n, output)
        places[output.image][output.target] = str(output.final if _published(generation, output, staged) else staged)
    images = tuple(replace(image, places=places[n]) for n, image in enumerate(job.images))
    work = Work(str(generation.folder), images, job.frames, job.passes, job.targets, block, settings.device)
    path = generation.folder / "work.pkl"
    work.save(path)
    return work, path, hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def staged_place(generation: gen.Generation, number: int, output: ArrayOutput | FileOutput) -> Path:
    """Where an output lies until all are whole."""
    return generation.folder / "staged" / f"{number:05d}" / output.final.name


def _published(generation: gen.Generation, output: ArrayOutput, staged: Path) -> bool:
    return not staged.exists() and (generation.folder / "published.json").exists()


def _make_sink(work: Work, job: Job, step: Pass, settings: Settings, generation: gen.Generation) -> None:
    """The arrays that a pass writes, in every image; those that are there already stay."""
    assert step.sink is not None
    target = next(t for t in job.targets if t.name == step.sink)
    outputs = {o.image: o for o in job.arrays if o.target == step.sink}
    chunk = settings.chunk or (tuple(generation.frozen["chunk"]) if generation.frozen.get("chunk") else None)
    for n, image in enumerate(work.images):
        place = Path(image.places[step.sink])
        if (place / "zarr.json").exists():
            continue
        spec = work.specs(n, step)[-1]
        like = next(iter(image.volumes.values()), None)
        frames = [f for f in work.frames if f.image == n]
        output = outputs.get(n)
        shape, axes = spec.shape, "zyx"[-spec.ndim :]
        if output is not None and output.every_channel and like is not None and "c" in like.axes:
            shape, axes = (max(f.c for f in frames) + 1, *shape), "c" + axes
        if like is not None and "t" in like.axes:
            shape, axes = (max(f.t for f in frames) + 1, *shape), "t" + axes
        shard = tuple(work.block)
        made = create_volume(
            place,
            axes=axes,
            shape=shape,
            dtype="uint8" if spec.dtype == "bool" and target.kind != "scratch" else spec.dtype,
            voxel_um=spec.voxel_um,
            chunk=inner_chunk(shard, chunk),
            shard=shard,
            kind="label" if target.kind == "label" else "image",
            translation_um=like.translation_um if like is not None else None,
            frame_interval_s=like.frame_interval_s if like is not None else None,
            channels=output.channels if output is not None else (),
            codec="scratch" if target.kind == "scratch" else None,
            name=image.name,
        )
        publish(made, source=None if output is None else output.source)


def _publish(job: Job, work: Work, generation: gen.Generation) -> dict[str, Any]:
    """Finish tables and pictures, then move every output into place, the old ones aside. Safe to do twice."""
    facts: dict[str, Any] = {}
    for n, made in enumerate(job.files, len(job.arrays)):
        if not _published_file(generation):
            facts |= made.writer(work, staged_place(generation, n, made))
            reached("files-written")
    if not _published_file(generation):
        _move_aside(job, generation)
        write_bytes(generation.folder / "published.json", b"{}")
        reached("published-marked")
    outputs: list[ArrayOutput | FileOutput] = [*job.arrays, *job.files]
    for n, output in enumerate(outputs):
        _into_place(staged_place(generation, n, output), output.final)
        reached("in-place")
    for array in job.arrays:
        if array.store is not None:
            register_label(str(array.store), array.final.name)
            reached("listed")
    return facts


def _published_file(generation: gen.Generation) -> bool:
    return (generation.folder / "published.json").exists()


def _move_aside(job: Job, generation: gen.Generation) -> None:
    aside = job.state / f"gen-{generation.number - 1:04d}" / "replaced"
    for final in job.finals:
        if not _occupied(final):
            continue
        aside.mkdir(parents=True, exist_ok=True)
        if (final / ".cristae").exists():  # a store that holds its own state: its contents move, the store stays
            inner = aside / final.name
            inner.mkdir(exist_ok=True)
            for child in final.iterdir():
                if child.name != ".cristae":
                    child.rename(inner / child.name)
        else:
            final.rename(aside / final.name)


def _into_place(staged: Path, final: Path) -> None:
    if not staged.exists():
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    if staged.is_dir() and final.is_dir():
        # The metadata goes last: a store is recognised only when it is whole.
        for child in sorted(staged.iterdir(), key=lambda p: p.name == "zarr.json"):
            child.rename(final / child.name)
        staged.rmdir()
    else:
        staged.rename(final)


def _drop_scratch(work: Work, journal: Journal, folder: Path) -> None:
    names = [t.name for t in work.targets if t.kind == "scratch"]
    if names:
        passes = [n for n, p in enumerate(work.passes) if p.sink in names]
        journal.add([{"kind": "dropped", "arrays": names, "passes": passes}])
        shutil.rmtree(folder / "scratch", ignore_errors=True)


def _recorder(path: Path, listen: Listener) -> Listener:
    """Every event goes to the run's own log, whoever else listens."""
    log = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - it lives as long as the run

    def record(event: dict[str, Any]) -> None:
        log.write(json.dumps({"at": round(time.time(), 3), **event}) + "\n")
        listen(event)

    return record
