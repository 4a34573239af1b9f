"""Publishing: finished outputs move into place, and what lay there moves aside. Nothing goes that the run did not know of.

found       what lay in the way when a generation was begun; only that may be moved aside (run.json)
replaced/   the results of a run that were moved aside, in the generation before the one that took their place
foreign/    what lay there and is of no run: `clean` leaves it
taken.json  in the generation of another run, whose results were moved aside: by whom
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Container, Sequence
from pathlib import Path

from cristae.blocks.protocol import reached
from cristae.errors import PlanRefused
from cristae.pipeline.generation import TAKEN, Generation, latest, taken_by, told
from cristae.pipeline.job import Job
from cristae.pipeline.placing import is_published, occupied, outputs, relative, staged_place
from cristae.store.bundle import write_bytes
from cristae.store.claim import moving
from cristae.store.create import register_label

GUESTS = (".cristae", "labels", "tables")
"""What a store holds beside its image, made by other commands: it stays when the image is made again."""

DERIVED = ("export", "report.html")
"""What other commands made of a result, beside it: it goes where the result goes."""


def in_the_way(job: Job) -> list[str]:
    """What lies where the outputs of a job belong, relative to its root."""
    return sorted(relative(final, job.root) for final in job.finals if occupied(final))


def publish_outputs(job: Job, generation: Generation, lost: Container[int]) -> None:
    """Move every output into place, the old ones aside. Safe to do again after a crash. lost : images of which nothing moves

    Raises
    ------
    PlanRefused : if something lies there that was not there when the run was begun.
    """
    with moving(job.state.parent):
        if not is_published(generation):
            _refuse_strangers(job, generation)
            _move_aside(job, generation)
            write_bytes(generation.folder / "published.json", b"{}")
            reached("published-marked")
        for n, output in enumerate(outputs(job)):
            if output.image in lost:
                continue
            _into_place(staged_place(generation, n, output), output.final)
            reached("in-place")
    for array in job.arrays:
        if array.store is not None and array.image not in lost:
            register_label(str(array.store), array.final.name)
            reached("listed")


def _refuse_strangers(job: Job, generation: Generation) -> None:
    known = generation.frozen.get("found")
    if known is not None and (later := [name for name in in_the_way(job) if name not in known]):
        raise PlanRefused(
            f"{job.root / later[0]} came there since this run was begun, and is no result of it; move it away, and the same command "
            "finishes this one (nothing is computed again), or give another --out"
        )


def _move_aside(job: Job, generation: Generation) -> None:
    aside = job.state / f"gen-{generation.number - 1:04d}"
    others = [(run, finals_of(run)) for state in _others(job) if (run := latest(state)) is not None]
    own = finals_of(before) if (before := _before(job, generation)) is not None else set()
    derived = [job.root / name for name in DERIVED] if job.extra.get("command") == "run" and own else []
    moves = [final for final in dict.fromkeys((*job.finals, *sorted(own), *derived)) if occupied(final)]
    for run, finals in others:
        if finals & set(moves):
            write_bytes(run.folder / TAKEN, json.dumps({"by": job.name}).encode())
    known = own.union(derived, *(finals for _, finals in others))
    for final in moves:
        kept = aside / ("replaced" if final in known else "foreign") / _inside(final, job.root)
        kept.parent.mkdir(parents=True, exist_ok=True)
        if kept.exists():  # an earlier attempt was stopped while it moved things
            kept = kept.with_name(f"{kept.name}-{generation.number}")
        if (final / ".cristae").exists():  # a store that holds its own state: the image moves, the store stays
            _move_image(final, kept, moves)
        else:
            final.rename(kept)


def finals_of(generation: Generation) -> set[Path]:
    """Where the results of a run lie; nothing of one whose results never came into place."""
    path, root = generation.folder / "outputs.json", generation.folder.parents[2]
    return {root / fact["final"] for fact in told(path)} if is_published(generation) and path.exists() else set()


def _others(job: Job) -> list[Path]:
    return [state for state in job.state.parent.iterdir() if state.is_dir() and state != job.state]


def _before(job: Job, generation: Generation) -> Generation | None:
    """The generation whose results this one replaces."""
    folder = job.state / f"gen-{generation.number - 1:04d}"
    return Generation(folder, {}, {}) if (folder / "outputs.json").exists() else None


def _inside(final: Path, root: Path) -> Path:
    return final.relative_to(root) if final.is_relative_to(root) and final != root else Path(final.name)


def _move_image(store: Path, kept: Path, moves: Sequence[Path]) -> None:
    """Everything of a store but its guests; those that this run made move by themselves."""
    kept.mkdir(exist_ok=True)
    own = {path.relative_to(store).parts[0] for path in moves if path.is_relative_to(store) and path != store}
    if guests := [name for name in GUESTS[1:] if name not in own and (store / name).exists()]:
        warnings.warn(
            f"{' and '.join(guests)} of {store} stay and were made from the image that is replaced; make them again where "
            "its voxels differ",
            stacklevel=2,
        )
    for child in store.iterdir():
        if child.name not in GUESTS:
            child.rename(kept / child.name)


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
        staged.replace(final)


def refuse_taken(generation: Generation, root: Path, name: str) -> None:
    """A run whose results made room for others does not say that they are there.

    Raises
    ------
    PlanRefused : if they did.
    """
    if (by := taken_by(generation)) is not None:
        raise PlanRefused(
            f"what {name} found at {root} was moved aside for what {by} found (--fresh); give another --out, or --fresh to have it "
            f"the other way round"
        )
