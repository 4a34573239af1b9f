"""File: what a person wrote to say which organelles to find, validated before anything else happens.

    objects:                      channel: TMRM
      mito:                       steps: [...]
        channel: TMRM             output: {name: mito}
        steps: [...]

Both say the same; the short form has one object, called as its file where `output` does not name it. Operations are
not known here: `load` is told the names of the steps and of their parameters, and values are for each step to judge.

    from: NAME    the step works on the one called so by its `as:`, or on `input`, the object's own channel
    as: NAME      what later steps of the object call this one
    keep: true    its output stays when the run is done
"""

from __future__ import annotations

import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from cristae.inference.named import is_name
from cristae.pipeline.document import WORDS, Document, Route, nearest, read, shown
from cristae.pipeline.entries import EXPECTED, FileEntry, PythonEntry, ShortEntry, StepEntry, checked
from cristae.pipeline.settings import apply_settings

Known = Mapping[str, Collection[str] | None]
"""Parameters by the name of a step; None where they are not known."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
INPUT = "input"
PYTHON = "python"
SEGMENT = "segment"
FILES = {PYTHON: "file", "flatfield": "image", "richardson_lucy": "psf", SEGMENT: "model", "wiener": "psf"}
"""The parameter of a step that is a path; of `segment` also the name of a model."""


@dataclass(frozen=True)
class Step:
    """One step of an object; where it stands in the file is no part of what it is."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    place: str | None = field(default=None, compare=False)  # file and line, as a sentence names them
    source: str | None = None  # `from`: the label of an earlier step, or "input"; None for the step before
    label: str | None = None  # `as`
    keep: bool = False


@dataclass(frozen=True)
class Object:
    """One kind of organelle: the channel it is seen in, and the steps that find it."""

    name: str
    channel: str | int | None
    steps: tuple[Step, ...]
    within: str | None = None  # name of the object that holds it


@dataclass(frozen=True)
class PipelineFile:
    """A validated pipeline. Inputs that were relative to the file are relative to the working folder here."""

    objects: tuple[Object, ...]
    inputs: tuple[str, ...] = ()
    path: str | None = field(default=None, compare=False)


def load(source: str | Path, known: Known, settings: Sequence[str] = ()) -> PipelineFile:
    """A pipeline from a path or from text (a string with a line break), with `--set` settings made first.

    Raises
    ------
    InvalidConfiguration : at the first mistake: file, line, what is wrong, and the nearest right word.
    UsageError : if a setting leads nowhere.
    """
    return validate(apply_settings(read(source), settings), known)


def validate(document: Document, known: Known) -> PipelineFile:
    """The pipeline that a document describes; see `load`."""
    entry: FileEntry | ShortEntry
    if "objects" in document.data:
        entry = checked(FileEntry, document, (), document.data)
        routes: dict[str, Route] = {name: ("objects", name) for name in entry.objects}
    else:
        entry = checked(ShortEntry, document, (), document.data)
        routes = {_only_name(document, entry): ()}
    for name, route in routes.items():
        if not NAME.fullmatch(name):
            rule = "letters, digits, '_', '-' and '.', the first one a letter or digit"
            raise document.wrong(route or ("output", "name"), f"{shown(name)} cannot name an object; a name has {rule}")
    objects = tuple(_object(document, route, name, known) for name, route in routes.items())
    _check_within(document, objects, routes)
    inputs = [entry.input] if isinstance(entry.input, str) else entry.input or []
    return PipelineFile(objects, tuple(_from_file(document, path) for path in inputs), document.path)


def holders_first(objects: Sequence[Object]) -> list[Object]:
    """The objects in an order in which each comes after the one that holds it; otherwise as they are written."""
    found: list[Object] = []
    while len(found) < len(objects):
        known = {item.name for item in found}
        found += [item for item in objects if item not in found and (item.within is None or item.within in known)]
    return found


def canonical(pipeline: PipelineFile) -> dict[str, Any]:
    """What decides the result, as JSON has it, for the key of a run: no path, line or label, and 1.0 is 1."""
    return {item.name: _canonical_object(item) for item in pipeline.objects}


def dump(pipeline: PipelineFile) -> str:
    """The pipeline as YAML, in the form with objects; `load` makes the same pipeline of it."""
    objects = {}
    for item in pipeline.objects:
        about = {"channel": item.channel, "within": item.within}
        steps = [{step.name: {**step.params, **_words(step)}} for step in item.steps]
        objects[item.name] = {**{k: v for k, v in about.items() if v is not None}, "steps": steps}
    text = io.StringIO()
    yaml = YAML(typ="rt", pure=True)
    yaml.dump({**({"input": list(pipeline.inputs)} if pipeline.inputs else {}), "objects": objects}, text)
    return text.getvalue()


def _words(step: Step) -> dict[str, Any]:
    words = {"from": step.source, "as": step.label, "keep": step.keep or None}
    return {word: value for word, value in words.items() if value is not None}


def _only_name(document: Document, entry: ShortEntry) -> str:
    if entry.output is not None:
        return entry.output.name
    stem = Path(document.path).stem if document.path else ""
    if not NAME.fullmatch(stem):
        raise document.wrong((), "the object needs a name; add output: {name: NAME}")
    return stem


def _object(document: Document, route: Route, name: str, known: Known) -> Object:
    written = document.at(route)
    steps: list[Step] = []
    for i, step in enumerate(written["steps"]):
        ((word, params),) = step.items()
        steps.append(_step(document, (*route, "steps", i, word), params, steps, written["steps"][i + 1 :], known))
    return Object(name, written.get("channel"), tuple(steps), written.get("within"))


def _step(
    document: Document,
    route: Route,
    written: Mapping[str, Any],
    before: Sequence[Step],
    after: Sequence[Mapping[str, Any]],
    known: Known,
) -> Step:
    name = str(route[-1])
    params = {key: value for key, value in written.items() if key not in WORDS}
    if name not in known and name != PYTHON:
        raise document.wrong(route, f"there is no step {name}; {nearest(name, {*known, PYTHON}, 'the steps are')}")
    words = checked(StepEntry, document, route, {key: written[key] for key in written if key in WORDS})
    if name == PYTHON:
        own = checked(PythonEntry, document, route, params)
        if own.halo_um is None and own.tile is None:
            raise document.wrong(route, f"python needs halo_um, {EXPECTED['halo_um']}; or tile, {EXPECTED['tile']}")
    elif (right := known[name]) is not None:
        for key in params:
            if key not in right:
                raise document.wrong((*route, key), f"{name} has no parameter {key}; {nearest(key, right)}")
    if isinstance(file := params.get(FILES.get(name, "")), str) and not (name == SEGMENT and is_name(file)):
        params[FILES[name]] = _from_file(document, file)
    labels = {step.label for step in before if step.label}
    if words.label in labels or words.label == INPUT:
        taken = "is the object's own channel" if words.label == INPUT else "names an earlier step already"
        raise document.wrong((*route, "as"), f"as: {words.label} {taken}; take another name")
    if words.source is not None and words.source not in {*labels, INPUT}:
        raise document.wrong((*route, "from"), _no_source(words.source, labels, before, after))
    return Step(name, params, document.where(route), words.source, words.label, words.keep)


def _no_source(source: str, labels: set[str], before: Sequence[Step], after: Sequence[Mapping[str, Any]]) -> str:
    if any(params.get("as") == source for step in after for params in step.values()):
        return f"from: {source} names a step that comes later; a step works on one before it"
    if any(step.name == source for step in before):
        return f"no earlier step is called {source}; give the step {source} above the words as: {source}"
    return f"no earlier step is called {source}; {nearest(source, {*labels, INPUT})}"


def _check_within(document: Document, objects: Sequence[Object], routes: Mapping[str, Route]) -> None:
    holder = {item.name: item.within for item in objects}
    for item in objects:
        where = (*routes[item.name], "within")
        if item.within is not None and item.within not in holder:
            others = [name for name in holder if name != item.name]
            raise document.wrong(
                where, f"{item.name} is within {item.within}, which is no object here; {nearest(item.within, others)}"
            )
        chain = [item.name]
        while (outer := holder[chain[-1]]) is not None and outer in holder:
            chain.append(outer)
            if outer == item.name:
                raise document.wrong(
                    where, f"objects hold each other in a circle, {' within '.join(chain)}; leave one out"
                )
            if outer in chain[:-1]:
                break


def _from_file(document: Document, path: str) -> str:
    """A path that is relative to the pipeline file, relative to the working folder; others and addresses stay."""
    if document.path is None or "://" in path:
        return path
    return str(Path(document.path).parent / Path(path).expanduser())


def _canonical_object(item: Object) -> dict[str, Any]:
    """Steps point to the one they work on by its number, None for the channel, so that labels may change freely."""
    number = {step.label: i for i, step in enumerate(item.steps) if step.label}
    steps = []
    for i, step in enumerate(item.steps):
        source = number.get(step.source) if step.source else i - 1 if i else None
        params = dict(step.params)
        # What a file holds is in the key of a run, not where it lies.
        if isinstance(file := params.get(FILES.get(step.name, "")), str):
            params[FILES[step.name]] = Path(file).name
        steps.append({"step": step.name, "from": source, "params": _numbers(params)})
    return {"channel": item.channel, "within": item.within, "steps": steps}


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
