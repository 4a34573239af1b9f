"""Generation: one attempt at an output, and the facts it was started with.

    ROOT/.cristae/NAME/            lock, claim
        gen-0001/                  run.json, journal/, work.pkl, partials/, answers/, scratch/, staged/, events.jsonl
        gen-0002/                  a later --fresh; the result it replaced lies in gen-0001/replaced/

The key says what a result depends on: steps and parameters, the source of every stage and measure, the inputs. Paths are no
part of it. A generation goes on only under its own key; any other is refused, in words.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from itertools import count
from pathlib import Path
from typing import Any

from cristae.blocks.journal import Journal
from cristae.blocks.measure import Measure
from cristae.blocks.stage import Stage
from cristae.blocks.work import Pass
from cristae.errors import Damaged, PlanRefused
from cristae.pipeline.operations import stages
from cristae.store.bundle import write_bytes

PACKAGES = (
    "cristae",
    "numpy",
    "scipy",
    "scikit-image",
    "zarr",
    "numba",
    "dask",
    "torch",
    "monai",
)


TAKEN = "taken.json"
"""In a generation whose results were moved aside for those of another run: by which."""


@dataclass(frozen=True)
class Generation:
    """One attempt: where it lies, the key it was started under, and what was frozen then."""

    folder: Path
    key: Mapping[str, Any]
    frozen: Mapping[str, Any]

    @property
    def number(self) -> int:
        return int(self.folder.name.partition("-")[2])


def latest(root: Path) -> Generation | None:
    """The newest generation under `.cristae/NAME`, or None."""
    found = sorted(p for p in root.glob("gen-*") if (p / "run.json").exists())
    if not found:
        return None
    path = found[-1] / "run.json"
    facts = told(path)
    try:
        if facts.get("digest", wanted := _digest(facts["key"], facts["frozen"])) != wanted:
            raise ValueError("it is not what was written")
        return Generation(found[-1], facts["key"], facts["frozen"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from error


def told(path: Path) -> Any:
    """What a file of a run's state says.

    Raises
    ------
    Damaged : if it cannot be read.
    """
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> Damaged:
    return Damaged(
        f"{path}, which says what was run, cannot be read ({error}); put it back from a copy, or move {path.parents[2]} away and begin anew"
    )


def _digest(*facts: Any) -> str:
    return hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=8).hexdigest()


def taken_by(generation: Generation) -> str | None:
    """The run for whose results those of this one were moved aside."""
    path = generation.folder / TAKEN
    return str(told(path)["by"]) if path.exists() else None


def begin(root: Path, number: int, key: Mapping[str, Any], frozen: Mapping[str, Any]) -> Generation:
    """A new generation, its facts on disk before anything else."""
    folder = root / f"gen-{number:04d}"
    _write(folder, key, frozen)
    return Generation(folder, key, frozen)


def _write(folder: Path, key: Mapping[str, Any], frozen: Mapping[str, Any]) -> None:
    facts = {"key": key, "frozen": frozen, "digest": _digest(key, frozen)}
    write_bytes(folder / "run.json", json.dumps(facts, indent=1).encode())


def versions() -> dict[str, str]:
    """Versions that a result may depend on; frozen at the start, and part of the provenance."""
    found = {name: _version(name) for name in PACKAGES}
    return {"python": sys.version.split()[0], **{name: version for name, version in found.items() if version}}


@cache
def _version(package: str) -> str:
    """Of what is installed, empty where it is not; a process looks once."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def key_of(passes: Iterable[Pass], inputs: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What a result depends on, section by section, so that a refusal can name what changed.

    A stage or measure that stands in several passes counts once; a second one of the same name is called NAME#2.
    """
    named: dict[str, dict[str, Any]] = {}
    order: list[list[str]] = []
    for step in passes:
        facts: list[Stage | Measure] = [*step.chain, *(a.measure for a in step.measures)]
        order.append([_name(named, _facts(fact), fact.name) for fact in facts])
    sections = {s: {n: facts[s] for n, facts in named.items()} for s in ("steps", "halos", "stages")}
    return {**sections, "order": order, "inputs": _plain(inputs), **{k: _plain(v) for k, v in extra.items()}}


def _facts(fact: Stage | Measure) -> dict[str, Any]:
    asks = sorted(m.name for m in fact.asks.values())
    return {
        "steps": _plain({**fact.params, "asks": asks} if asks else fact.params),
        "halos": [list(h) for h in fact.halo],
        "stages": identity(fact),
    }


def fingerprint(fact: Stage | Measure) -> dict[str, Any]:
    """All that a stage or measure depends on, what it asks for included."""
    asks = {name: fingerprint(measure) for name, measure in sorted(fact.asks.items())}
    return {"name": fact.name, **_facts(fact), "asked": asks}


def _name(named: dict[str, dict[str, Any]], facts: dict[str, Any], name: str) -> str:
    for n in count(1):
        called = name if n == 1 else f"{name}#{n}"
        if named.setdefault(called, facts) == facts:
            return called
    raise AssertionError("names never run out")


def identity(fact: Stage | Measure) -> str:
    """Digest of the source of a stage or measure: its module, and those of its room that the module takes from, kernels too."""
    function = fact.apply if isinstance(fact, Stage) else fact.partial
    function = getattr(function, "kernel", function)
    function = getattr(function, "func", function)
    name = getattr(function, "__module__", None) or type(function).__module__
    digest = hashlib.blake2b(digest_size=16)
    for module in sorted(_modules(name)):
        digest.update(_source(module))
    return digest.hexdigest()


def _modules(name: str) -> set[str]:
    """A module and the modules of its own room that it imports, at its top or inside a function, and theirs."""
    room, seen, todo = name.rpartition(".")[0], set[str](), [name]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        todo += [n for n in _imports(module) if room and n.rpartition(".")[0] == room and _source(n)]
    return seen


@cache
def _imports(module: str) -> tuple[str, ...]:
    """All that a module imports by name, and what may be a module in it."""
    found: list[str] = []
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return tuple(found)


@cache
def _source(name: str) -> bytes:
    """Source of a module, which is read and not imported: a kernel's compiler is not loaded for it."""
    try:
        spec = importlib.util.find_spec(name)
        return Path(spec.origin).read_bytes() if spec and spec.origin and spec.origin.endswith(".py") else b""
    except (OSError, ImportError, ValueError, AttributeError):
        return b""


def _plain(value: Any) -> Any:
    # What JSON gives back: tuples become lists, numpy numbers become numbers.
    return json.loads(json.dumps(value, default=_number, sort_keys=True))


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else dict(value) if isinstance(value, Mapping) else str(value)


SHOWN = {"label_faces": "label", "label_ids": "label"}
"""Stages under the names that users know."""


def _difference(before: Any, after: Any) -> str:
    """What differs, and nothing else."""
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return f"{before} -> {after}"
    names = [n for n in dict.fromkeys((*after, *before)) if before.get(n) != after.get(n)]
    names = [n for n in names if n != "asks"] or names
    return ", ".join(f"{n}: {before.get(n)} -> {after.get(n)}" for n in names)


def grows(old: Mapping[str, Any], new: Mapping[str, Any], lost: Container[str] = ()) -> bool:
    """Whether the new key is the old one with more images or time points; images that were lost may differ by now, but not be gone."""
    more = [name for name in ("inputs", "samples") if name in old or name in new]
    if any(old.get(name) != new.get(name) for name in {*old, *new} - {*more}):
        return False
    return all(
        image in new.get(name, {}) and (image in lost or holds(new[name][image], facts))
        for name in more
        for image, facts in old.get(name, {}).items()
    )


def holds(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Whether what is said of an image is what was said of it, or that and time points after its own."""
    if new.keys() != old.keys() or not all(isinstance(facts, Mapping) for facts in old.values()):
        return new == old
    return all(new[n] == facts or ("t 0" in facts and facts.items() <= new[n].items()) for n, facts in old.items())


def lose(generation: Generation, lost: Mapping[str, str]) -> None:
    """Keep which images have no result though the others are in place, and why."""
    write_bytes(generation.folder / "lost.json", json.dumps(dict(lost)).encode())


def lost_of(generation: Generation) -> dict[str, str]:
    """The images that a generation was published without, and why."""
    path = generation.folder / "lost.json"
    found: dict[str, str] = told(path) if path.exists() else {}
    return found


def grow(
    generation: Generation, key: Mapping[str, Any], order: Mapping[str, Any], redo: Sequence[dict[str, Any]]
) -> Generation:
    """Let a published generation go on with a longer key, its images and frames in this order; what is done stays done, but for `redo`."""
    ledger = Journal(generation.folder, []).ledger
    ledger.mend()
    ledger.append([{"kind": "grown"}, *redo])
    frozen = {**generation.frozen, **order}
    _write(generation.folder, key, frozen)
    for name in ("complete.json", "lost.json"):
        (generation.folder / name).unlink(missing_ok=True)
    return replace(generation, key=key, frozen=frozen)


BOTH_WAYS = (
    "give another output name or --out to keep both, or --fresh to make it again (the old result is moved aside)"
)


def refuse_change(old: Mapping[str, Any], new: Mapping[str, Any], where: str) -> None:
    """Raise PlanRefused, naming the first thing that changed and both ways out, unless the keys are equal."""
    if old == new:
        return
    # What the user said first; what follows from it, such as the measures that columns need, last.
    said = [s for s in {**new, **old} if s not in ("steps", "halos", "stages", "order", "inputs")]
    section = next(s for s in dict.fromkeys((*said, "inputs", *new, *old)) if old.get(s) != new.get(s))
    words = {"steps": "parameters of", "stages": "the source of", "inputs": "the input", "halos": "the halo of"}
    what = words.get(section, section)
    if section == "order":
        raise PlanRefused(
            f"{where} was made under other facts: the order of the steps, or which of them are kept, changed since; {BOTH_WAYS}"
        )
    before, after = old.get(section), new.get(section)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        changed = [n for n in dict.fromkeys((*after, *before)) if before.get(n) != after.get(n)]
        # What a user can name comes before the measures that it asks for.
        name = next((n for n in changed if n.partition("#")[0] in stages()), changed[0])
        hidden = section in ("stages", "inputs")
        if section == "inputs" and name in before and name in after:
            what = (
                "".join(f"{n} beside " for n in after[name] if n != "input" and before[name].get(n) != after[name][n])
                + what
            )
        gone, come = ([n for n in one if n not in other] for one, other in ((before, after), (after, before)))
        if section == "inputs" and gone and come:
            raise PlanRefused(f"{where} was made from {gone[0]}, not from {come[0]}; {BOTH_WAYS}")
        if section == "inputs" and gone:
            raise PlanRefused(
                f"{where} was made under other facts: with {gone[0]}, which is not among the inputs any more; {BOTH_WAYS}"
            )
        if section == "inputs" and name in before and name in after and holds(after[name], before[name]):
            raise PlanRefused(
                f"{where} was made under other facts: with fewer time points of {name}, and is not finished; let it finish so, and the new "
                f"ones join by the same command later; or {BOTH_WAYS}"
            )
        if section == "inputs" and name not in before:
            raise PlanRefused(
                f"{where} was made under other facts: without {name}, and is not finished; let it finish so, and that image joins by the same "
                f"command later; or {BOTH_WAYS}"
            )
        what = f"{what} {SHOWN.get(name, name)}" + (
            "" if hidden else f" ({_difference(before.get(name), after.get(name))})"
        )
    else:
        what = f"{what} ({before} -> {after})"
    raise PlanRefused(f"{where} was made under other facts: {what} changed since; {BOTH_WAYS}")
