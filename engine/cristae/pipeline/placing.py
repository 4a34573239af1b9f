"""Placing: where the arrays and files of a run lie, from the first block to the day the result is replaced.

Outputs are written under `gen-N/staged` and renamed into place when all of them are whole: a reader sees the old result or the
new one, never half of one. Scratch lies in `gen-N/scratch` and goes when the run is done. `outputs.json` keeps both places of each
output, relative to the folder that holds `.cristae`, so that a store may be moved or copied whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from cristae.blocks import answers as stored
from cristae.blocks.protocol import reached
from cristae.blocks.work import Image, Pass, Work
from cristae.grid import inner_chunk
from cristae.pipeline.generation import Generation
from cristae.pipeline.job import ArrayOutput, FileOutput, Job, Settings
from cristae.pipeline.keeping import place_of
from cristae.store.bundle import Bundle, write_bytes
from cristae.store.create import create_volume, lengthen, publish
from cristae.store.display import windowed
from cristae.store.durable import digest
from cristae.store.volume import Volume, open_volume

PAINTERS = 2
"""Pictures, one of each image, that are drawn at once, while the tables are written."""

Output = ArrayOutput | FileOutput


def outputs(job: Job) -> list[Output]:
    """Every output, in the order that numbers its staging place."""
    return [*job.arrays, *job.files]


def staged_place(generation: Generation, number: int, output: Output) -> Path:
    """Where an output lies until all are whole."""
    return generation.folder / "staged" / f"{number:05d}" / output.final.name


def occupied(path: Path) -> bool:
    """Whether something other than our own state lies there."""
    return any(c.name != ".cristae" for c in path.iterdir()) if path.is_dir() else path.exists()


def is_published(generation: Generation) -> bool:
    """Whether the outputs have begun to move into place."""
    return (generation.folder / "published.json").exists()


def placed(job: Job, generation: Generation) -> tuple[Image, ...]:
    """The images with the places of the run's arrays as they are now: staged, or already in place."""
    places: list[dict[str, str]] = [{} for _ in job.images]
    for target in job.targets:
        for n, image in enumerate(job.images):
            if target.kind == "scratch":
                places[n][target.name] = str(generation.folder / "scratch" / image.name / f"{target.name}.zarr")
            elif target.kind == "kept":
                places[n][target.name] = str(place_of(job, generation, target.name, n))
    for n, output in enumerate(job.arrays):
        staged = staged_place(generation, n, output)
        moved = is_published(generation) and not staged.exists()
        places[output.image][output.target] = str(output.final if moved else staged)
    return tuple(replace(image, places=places[n]) for n, image in enumerate(job.images))


def record_places(job: Job, generation: Generation) -> None:
    """Keep both places of every output for those who know the folder but not the job."""
    root, expected = job.root, set(job.expected)
    facts = [
        {
            "array": output.target if isinstance(output, ArrayOutput) else None,
            "image": output.image if isinstance(output, ArrayOutput) else None,
            "staged": relative(staged_place(generation, n, output), root),
            "final": relative(output.final, root),
            "certain": output.final in expected,
        }
        for n, output in enumerate(outputs(job))
    ]
    write_bytes(generation.folder / "outputs.json", json.dumps(facts).encode())


def relative(path: Path, root: Path) -> str:
    """A path from a folder above it, or whole."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def make_sink(work: Work, job: Job, step: Pass, settings: Settings, generation: Generation) -> None:
    """The arrays that a pass writes, in every image; those that are there already stay, with all they hold."""
    name, _, level = (step.sink or "").partition(":")
    if level:
        return  # a coarser level is made with its array
    target = next(t for t in job.targets if t.name == name)
    outputs_of = {o.image: o for o in job.arrays if o.target == name}
    chunk = settings.chunk or (tuple(generation.frozen["chunk"]) if generation.frozen.get("chunk") else None)
    for n, image in enumerate(work.images):
        place = Path(image.places[name])
        like = next(iter(image.volumes.values()), None)
        frames = [f for f in work.frames if f.image == n]
        groups = ["", *map(str, range(1 + len(work.levels(n, name))))]
        if all((place / group / "zarr.json").exists() for group in groups):
            if like is not None and "t" in like.axes:
                lengthen(place, len({f.t for f in frames}))
            continue
        spec = work.specs(n, step)[-1]
        output = outputs_of.get(n)
        shape, axes = spec.shape, "zyx"[-spec.ndim :]
        if (
            output is not None
            and output.every_channel
            and (len(output.channels) > 1 if like is None else "c" in like.axes)
        ):
            shape, axes = (len(output.channels) if like is None else max(f.c for f in frames) + 1, *shape), "c" + axes
        if len({f.t for f in frames}) > 1 if like is None else "t" in like.axes:
            shape, axes = (len({f.t for f in frames}), *shape), "t" + axes
        made = create_volume(
            place,
            axes=axes,
            shape=shape,
            dtype=_stored_dtype(work, step, spec.dtype, target.kind),
            voxel_um=spec.voxel_um,
            chunk=inner_chunk(work.block, chunk),
            shard=work.block,
            kind="label" if target.kind == "label" else "image",
            translation_um=work.origin(n, spec),
            frame_interval_s=like.frame_interval_s
            if like is not None
            else output.frame_interval_s
            if output is not None
            else None,
            times_s=_times(like, sorted({f.t for f in frames})) if like is not None else (),
            channels=output.channels if output is not None else (),
            levels=work.levels(n, name),
            codec="scratch" if target.kind == "scratch" else None,
            name=image.name,
        )
        publish(made, source=None if output is None else output.source)


def _times(like: Volume, points: Sequence[int]) -> tuple[float, ...]:
    """When these time points were recorded, unless that is what the interval says."""
    if not like.times_s and points[0] == 0:
        return ()
    times = [like.time_s(t) for t in points]
    return tuple(s for s in times if s is not None) if "t" in like.axes and None not in times else ()


def _stored_dtype(work: Work, step: Pass, dtype: str, kind: str) -> str:
    """Labels are unsigned integers, and as many bits as the merge found that they need."""
    if kind != "label":
        return dtype
    for asks in step.asks:
        for key in asks.values():
            path = stored.answer_path(work.folder, key)
            if path.exists():
                bundle = Bundle(path)
                if any(name.endswith("|map") and bundle[name].dtype.itemsize == 8 for name in bundle):
                    return "uint64"
    return "uint8" if dtype == "bool" else dtype


def finish_outputs(job: Job, work: Work, generation: Generation, redo: set[str], grown: bool) -> dict[str, Any]:
    """Make tables and pictures where they are staged. Safe to do again after a crash.

    Of images that are lost nothing is made.
    redo : files that were found damaged, relative to the run's root, and are made again
    grown : whether images have joined, so that every file is made again
    """
    todo = [
        (made, staged_place(generation, n, made))
        for n, made in enumerate(job.files, len(job.arrays))
        if made.image not in work.lost
        and (grown or not is_published(generation) or relative(made.final, job.root) in redo or not made.final.exists())
    ]
    facts: dict[str, Any] = {}
    pictures = [one for one in todo if one[0].image is not None]
    with ThreadPoolExecutor(PAINTERS) as pool:
        drawn = pool.map(lambda one: one[0].writer(work, one[1]), pictures)
        tables = (made.writer(work, place) for made, place in todo if made.image is None)
        for found in chain(tables, drawn):
            facts |= found
            reached("files-written")
    for n, array in enumerate(job.arrays):
        staged = staged_place(generation, n, array)
        again = relative(array.final / "zarr.json", job.root) in redo
        if array.kind == "image" and array.image not in work.lost and (staged.exists() or again):
            _show_well(staged if staged.exists() else array.final, array, work.images[array.image].name)
    return facts


def _show_well(place: Path, array: ArrayOutput, name: str) -> None:
    """Channels of which nobody said how to draw them are drawn by what is in them."""
    made = open_volume(place, doubts=False)
    given = array.channels or tuple(replace(c, window=None) for c in made.channels)
    if any(channel.window is None for channel in given):
        publish(windowed(replace(made, name=name, channels=given)))


def digests(job: Job, lost: Container[int] = ()) -> dict[str, str]:
    """Digest of every finished file and of the metadata of every finished array, by path relative to the run's root."""
    paths = [f.final for f in job.files if f.image not in lost and (f.certain or f.final.exists())]
    for output in (o for o in job.arrays if o.image not in lost):
        paths += [output.final / "zarr.json", *sorted(output.final.glob("[0-9]*/zarr.json"))]
    return {relative(path, job.root): digest(path.read_bytes()) for path in paths}


def make_metadata_again(work: Work, job: Job, settings: Settings, generation: Generation, redo: set[str]) -> None:
    """Metadata of arrays that an audit found wanting; the objects beside it stay as they are."""
    wanting = [job.root / name for name in redo if Path(name).name == "zarr.json"]
    for path in wanting:
        path.unlink(missing_ok=True)
    for step in work.passes if wanting else ():
        if step.sink is not None and any(o.target == step.sink for o in job.arrays):
            make_sink(work, job, step, settings, generation)


def drop_scratch(generation: Generation) -> None:
    """Delete the scratch arrays; the answers stay, so that a damaged block can be made again."""
    shutil.rmtree(generation.folder / "scratch", ignore_errors=True)


def sweep(generation: Generation, *folders: Path) -> None:
    """Delete temporary files that dead attempts left."""
    for folder in (generation.folder, *folders):
        for left in folder.rglob("*.partial"):
            left.unlink(missing_ok=True)
