"""Execute: do a job, go on with it, or say that there is nothing to do. What is committed is never lost."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cristae.blocks.dispatch import Crew, Listener
from cristae.blocks.journal import Journal
from cristae.blocks.plan import Plan, make_plan, refuse
from cristae.blocks.protocol import reached
from cristae.blocks.run import run_passes
from cristae.blocks.work import Work
from cristae.cluster.executor import open_cluster
from cristae.cluster.model import Cluster, usable_cores
from cristae.errors import CristaeError, Damaged, InvalidInput, PlanRefused, SetAside, Stopped
from cristae.grid import Shape
from cristae.pipeline import generation as gen
from cristae.pipeline.audit import AUDITED, compare
from cristae.pipeline.fitting import cluster_of, fitting_block, memory_limit, work_of
from cristae.pipeline.growing import grown, order_of
from cristae.pipeline.job import Job, Outcome, Settings, block_of
from cristae.pipeline.keeping import note_kept, reuse, share
from cristae.pipeline.placing import (
    digests,
    drop_scratch,
    finish_outputs,
    is_published,
    make_metadata_again,
    make_sink,
    occupied,
    record_places,
    sweep,
)
from cristae.pipeline.publishing import in_the_way, publish_outputs, refuse_taken
from cristae.pipeline.status import facts_of, places
from cristae.pipeline.stitching import said_of_seams
from cristae.store.bundle import write_bytes
from cristae.store.claim import Claim

NAMED = 8
"""Images that a sentence names at most."""

COURSES = {
    "begin": "begin",
    "again": "begin again, and move the old result aside",
    "grow": "do the images and time points that are new or were not done",
    "go on": "go on where it was",
}
"""What a run may do with what is there, in words."""


def execute(job: Job, settings: Settings, listen: Listener) -> Outcome:
    """Do a job, or go on with it, or say that there is nothing to do.

    Raises
    ------
    Claimed : if another run holds the output.
    PlanRefused : if it cannot fit, or a result of other facts is in the way.
    SetAside, InvalidInput, Damaged, CristaeError : as the run ends; what is committed stays.
    """
    try:
        outcome = _execute(job, settings, listen)
        if job.left_out:
            raise SetAside(_lacking(len(job.images), job.left_out))
        return outcome
    except Damaged as error:
        if str(job.state) not in str(error) or "put it back" in str(error):
            raise
        raise Damaged(
            f"{error}; `cristae audit {job.root}` finds all that is damaged, and the same command makes it again"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CristaeError(
                f"the disk that holds {job.root} is full; make room, and the same command goes on from here"
            ) from error
        raise


def _execute(job: Job, settings: Settings, listen: Listener) -> Outcome:
    start = time.monotonic()
    before = gen.latest(job.state)
    cluster = cluster_of(job, settings, _kept_block(settings, before))
    if before is None:
        fitting_block(job, settings, cluster)  # what cannot fit is refused before anything is written
    elif _finished(job, before) and _course(job, settings, _key(job), before) == "go on":
        return Outcome("nothing to do", tuple(filter(occupied, job.finals)))
    with Claim(job.state) as claim:
        reached("claimed")
        try:
            generation = _generation(job, settings, cluster)
        except CristaeError:
            if before is None:
                claim.leave_nothing()
            raise
        limit = memory_limit(cluster, settings)
        work = work_of(job, tuple(generation.frozen["block"]), settings, limit, generation)
        path, digest = _save(work)
        record_places(job, generation)
        note_kept(job, generation)
        write_bytes(generation.folder / "left_out.json", json.dumps(dict(job.left_out)).encode())
        reached("begun")
        refuse(make_plan(work, cluster.threads), limit)
        journal = Journal.load(generation.folder, [len(work.layout(p)) for p in work.passes])
        retried = journal.retry_aside()
        reused = reuse(job, work, journal)
        with _recorded(generation.folder / "events.jsonl", listen) as events:
            facts = {"name": job.name, "cluster": str(cluster), "committed": journal.recovered, "retried": retried}
            if settings.cluster == "auto" and cluster.workers < usable_cores():
                facts["cores"] = usable_cores()
            events({"event": "start", **facts})
            if reused:
                events({"event": "reused", "steps": reused})
            if is_published(generation) and (
                _gone(job, generation) or not all(path.exists() for _, path in places(generation))
            ):
                compare(generation, work, journal)  # somebody deleted a result: what is gone is made again
            make_metadata_again(work, job, settings, generation, journal.damaged_files)
            with open_cluster(cluster, settings.memory) as executor:
                crew = Crew(executor, journal, str(path), digest, claim.epoch, events)
                totals = run_passes(work, crew, lambda step: make_sink(work, job, step, settings, generation))
            lost = {job.images[n].name: why for n, why in totals.lost.items()}
            gen.lose(generation, lost)
            work = replace(work, lost=totals.lost)
            found = finish_outputs(job, work, generation, journal.damaged_files, journal.grown)
            for name in (name for name in found if name.startswith("seams of ")):
                events({"event": "seams", "object": name.removeprefix("seams of "), **found[name]})
            for text in said_of_seams(found):
                events({"event": "stitched", "text": text})
            publish_outputs(job, generation, work.lost)
            share(job, generation, totals.lost)
            sweep(generation, *(p for p in job.finals if p.is_dir()))
            _forget_scratch(work, journal, generation)
            found |= {"calls": totals.calls, "retries": totals.retries, "seconds": round(time.monotonic() - start, 2)}
            if lost:
                journal.add([{"kind": "lacking", "files": digests(job, work.lost)}])
                raise SetAside(_lacking(len(job.images) - len(lost), {**lost, **job.left_out}))
            _complete(job, work, journal, generation, found)
            events({"event": "complete", **{k: found[k] for k in ("calls", "retries", "seconds")}})
    return Outcome("done", tuple(filter(occupied, job.finals)), found)


def _lacking(done: int, without: Mapping[str, str]) -> str:
    """How many images are done, and which are not: all by name, the first with its reason."""
    names, why = list(without), next(iter(without.values()))
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return (
        f"{done} {'image is' if done == 1 else 'images are'} done, but {shown} {'is' if len(names) == 1 else 'are'} not: {why} "
        "(once that is mended, the same command goes on)"
    )


def plan(job: Job, settings: Settings) -> tuple[Plan, int]:
    """The plan of a job and the bytes a worker may take; nothing is written.

    Raises
    ------
    PlanRefused : if the blocks that were asked for do not fit.
    """
    kept = _kept_block(settings, gen.latest(job.state))
    cluster = cluster_of(job, settings, kept)
    block = kept or fitting_block(job, settings, cluster)
    limit = memory_limit(cluster, settings)
    return make_plan(work_of(job, block, settings, limit), cluster.threads), limit


def _kept_block(settings: Settings, before: gen.Generation | None) -> Shape | None:
    """The block shape of a run that goes on."""
    return tuple(before.frozen["block"]) if before is not None and not settings.fresh else None


def outlook(job: Job, settings: Settings) -> str:
    """What a run would do with what lies at its output, in words; nothing is written.

    Raises
    ------
    PlanRefused : as the run would.
    """
    key, found = _key(job), gen.latest(job.state)
    course = _course(job, settings, key, found)
    if course == "go on" and found is not None and (found.folder / "complete.json").exists():
        return "do nothing: the result is complete" if _finished(job, found) else "make what is missing"
    return COURSES[course]


def _key(job: Job) -> dict[str, Any]:
    inputs = {i.name: {n: v.identity() for n, v in i.volumes.items()} for i in job.images}
    return gen.key_of(job.passes, inputs, job.extra)


def _finished(job: Job, found: gen.Generation) -> bool:
    """Whether there is nothing to do for the images that this generation knows."""
    if not (found.folder / "complete.json").exists() or not all(map(occupied, job.expected)) or _gone(job, found):
        return False
    try:
        facts_of(found)
    except Damaged:
        return False  # what a damaged file said is written again
    except InvalidInput:
        return True  # of another version: whole all the same
    return True


def _gone(job: Job, found: gen.Generation) -> list[Path]:
    """Files of a finished result that somebody deleted."""
    path = found.folder / "complete.json"
    made = gen.told(path).get("files", ()) if path.exists() else ()
    return [job.root / name for name in made if not (job.root / name).exists()]


def _generation(job: Job, settings: Settings, cluster: Cluster) -> gen.Generation:
    key, found = _key(job), gen.latest(job.state)
    course = _course(job, settings, key, found)
    if found is None or course == "again":
        frozen = {
            "block": list(fitting_block(job, settings, cluster)),
            "versions": gen.versions(),
            "chunk": settings.chunk,
            "pyramid": settings.pyramid,
            "found": in_the_way(job),
            **order_of(job),
        }
        return gen.begin(job.state, found.number + 1 if found is not None else 1, key, frozen)
    if course == "grow":
        work = work_of(job, tuple(found.frozen["block"]), settings, memory_limit(cluster, settings), found)
        return grown(job, work, found, key)
    return found


def _course(job: Job, settings: Settings, key: dict[str, Any], found: gen.Generation | None) -> str:
    """One of COURSES. Raises PlanRefused where what is there is of other facts."""
    if found is None:
        if not settings.fresh and (taken := [p for p in job.finals if occupied(p)]):
            raise PlanRefused(
                f"{taken[0]} exists already and is no result of this run; give another output name or --out, or --fresh to move it aside"
            )
        return "begin"
    if not settings.fresh:
        refuse_taken(found, job.root, job.name)
    complete = (found.folder / "complete.json").exists() or gen.taken_by(found) is not None
    started = tuple(found.frozen["block"])
    other_block = settings.block is not None and block_of(job, settings) != started
    if settings.fresh and (complete or other_block or dict(found.key) != key):
        return "again"
    lost = gen.lost_of(found)
    if (lost or dict(found.key) != key) and gen.grows(found.key, key, lost) and is_published(found):
        return "grow"
    there = [str(p) for p in job.finals if occupied(p)]
    gen.refuse_change(found.key, key, there[0] if there else f"the result {job.name} in {job.root}")
    if settings.block is not None and other_block:
        raise PlanRefused(
            f"--block {_csv(settings.block)}: this run was started with blocks of {_csv(started)}; leave --block out to go on, "
            "or give --fresh to start again"
        )
    if [image.name for image in job.images] != list(found.frozen.get("images", [i.name for i in job.images])):
        raise PlanRefused(
            f"{job.root} was begun with its images in another order, by which its blocks are numbered; give another --out, or --fresh"
        )
    return "go on"


def _csv(numbers: Shape) -> str:
    return ",".join(str(n) for n in numbers)


def _save(work: Work) -> tuple[Path, str]:
    path = Path(work.folder) / "work.pkl"
    work.save(path)
    return path, hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()


def _forget_scratch(work: Work, journal: Journal, generation: gen.Generation) -> None:
    names = [t.name for t in work.targets if t.kind == "scratch"]
    if names:
        passes = [n for n, p in enumerate(work.passes) if p.sink in names]
        journal.add([{"kind": "dropped", "arrays": names, "passes": passes}])
        drop_scratch(generation)
    reached("scratch-dropped")


def _complete(job: Job, work: Work, journal: Journal, generation: gen.Generation, found: dict[str, Any]) -> None:
    """Provenance, then the mark that the run is done."""
    assert is_published(generation)
    files = digests(job)
    journal.add([{"kind": "complete", "files": files}])
    facts = {
        **found,
        "files": sorted(files),
        "versions": gen.versions(),
        "key": generation.key,
        "frozen": generation.frozen,
        "passes": [p.name for p in work.passes],
        "choices": [vars_of(c) for c in job.choices],
    }
    (generation.folder / AUDITED).unlink(missing_ok=True)  # it spoke of what is mended by now
    write_bytes(generation.folder / "complete.json", json.dumps(facts, indent=1, default=str).encode())
    reached("completed")


def vars_of(fact: Any) -> dict[str, Any]:
    """The fields of a frozen fact."""
    return {name: getattr(fact, name) for name in fact.__dataclass_fields__}


@contextmanager
def _recorded(path: Path, listen: Listener) -> Iterator[Listener]:
    """Every event goes to the run's own log, whoever else listens."""
    with open(path, "a", encoding="utf-8", buffering=1) as log:

        def record(event: dict[str, Any]) -> None:
            log.write(json.dumps({"at": round(time.time(), 3), **event}) + "\n")
            listen(event)

        try:
            yield record
        except (CristaeError, Stopped) as error:
            record({"event": "ended", "error": str(error)})
            raise
