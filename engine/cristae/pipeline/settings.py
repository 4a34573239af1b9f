"""Settings: `--set PATH=VALUE` changes one value of a pipeline document before it is validated.

    output.name=mito              a key of the file
    ridge.radius_um.max=0.4       a parameter of that step, in every object that has it
    mito.ridge.gamma=1            the same in one object
    smooth.sigma_um=2             the step that is called so by its `as:`

The value is read as YAML. A parameter that the file does not set is added; whether the step has it is the
validation's to say. A key inside a parameter is added too, unless it looks like a slip of one that stands there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from cristae.errors import InvalidConfiguration, UsageError
from cristae.pipeline.document import Document, Route, nearest, shown, step_lists, value_of

OF_AN_OBJECT = ("channel", "within")


@dataclass(frozen=True, slots=True)
class Named:
    """A step as a setting may name it: by its own name or its `as`, in one object ("" if that has no name)."""

    owner: str
    name: str
    label: str
    route: Route  # of its parameters


def apply_settings(document: Document, settings: Sequence[str], plain: bool = False) -> Document:
    """The document with each setting made, in order; `document` itself stays as it is.

    plain : the document is no pipeline, and a path is nothing but keys, whether they are there or not: whoever reads it knows its words

    Raises
    ------
    UsageError : if a setting is not PATH=VALUE, or its path leads nowhere.
    """
    for setting in settings:
        document = _applied(document, setting, plain)
    return document


def _applied(document: Document, setting: str, plain: bool) -> Document:
    path, equals, text = setting.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {setting} is not PATH=VALUE, such as output.name=mito or ridge.radius_um.max=0.4")
    try:
        value = value_of(text)
    except InvalidConfiguration:
        raise UsageError(f"--set {setting}: the value is no number, word, list or mapping; quote it") from None
    changed = Document(deepcopy(document.data), document.places, document.path)
    places = dict(document.places)
    for owner, rest in [((), keys)] if plain else _targets(changed.data, keys, setting):
        route = (*owner, *_assign(changed.at(owner), rest, value, setting, plain))
        places = {old: place for old, place in places.items() if old[: len(route)] != route}
        places[route] = f"--set {setting}"
    return Document(changed.data, places, document.path)


def _targets(data: Any, keys: list[str], setting: str) -> list[tuple[Route, list[str]]]:
    """What the first keys name (a mapping that is there), and the keys that lead on from it."""
    objects = _objects(data)
    if keys[0] == "objects" and "objects" in data:
        keys = keys[1:] or keys
    top = ("input",) if "objects" in data else ("input", *OF_AN_OBJECT)
    if keys == ["output", "name"] and "objects" not in data:
        if not isinstance(data.get("output"), dict):
            data["output"] = {}
        return [(("output",), ["name"])]
    if keys[0] in top:
        return [((), keys)]
    steps = _steps(data, objects)
    right = {*top, *objects, "output.name"} if "objects" not in data else {*top, *objects}
    if keys[0] in objects and len(keys) > 1:
        owner, *keys = keys
        if keys[0] in OF_AN_OBJECT:
            return [(objects[owner], keys)]
        steps = [step for step in steps if step.owner == owner]
        right = set(OF_AN_OBJECT)
    found = _called(keys[0], steps, setting)
    if not found:
        right |= {word for step in steps for word in (step.name, step.label) if word}
        said = ".".join(keys) if keys[0] == "output" else keys[0]
        raise UsageError(f"--set {setting}: nothing here is called {said}; {nearest(said, right, 'there are')}")
    if len(keys) == 1:
        raise UsageError(
            f"--set {setting} names a step; name one of its parameters too, as in {keys[0]}.PARAMETER=VALUE"
        )
    return [(step.route, keys[1:]) for step in found]


def _objects(data: Any) -> Mapping[str, Route]:
    """Where each object stands, by its name; the one object of a file without `objects` is called as its output."""
    if "objects" in data:
        objects = data["objects"] if isinstance(data["objects"], dict) else {}
        return {name: ("objects", name) for name, owner in objects.items() if isinstance(owner, dict)}
    output = data.get("output")
    name = output.get("name") if isinstance(output, dict) else None
    return {name: ()} if isinstance(name, str) else {}


def _steps(data: Any, objects: Mapping[str, Route]) -> list[Named]:
    names = {route: name for name, route in objects.items()}
    return [
        Named(
            names.get(route[:-1], ""),
            name,
            label if isinstance(label := params.get("as"), str) else "",
            (*route, i, name),
        )
        for route, steps in step_lists(data)
        for i, step in enumerate(steps)
        for name, params in step.items()
    ]


def _called(word: str, steps: Sequence[Named], setting: str) -> list[Named]:
    """Steps with this `as`, else those with this name; never two of one object."""
    found = [step for step in steps if step.label == word] or [step for step in steps if step.name == word]
    for owner in {step.owner for step in found}:
        if (many := sum(step.owner == owner for step in found)) > 1:
            raise UsageError(
                f"--set {setting} could mean any of {many} steps called {word}{f' in {owner}' if owner else ''}; give "
                "the one you mean a name in the file, as: NAME, and set NAME"
            )
    return found


def _assign(node: Any, keys: Sequence[str], value: Any, setting: str, plain: bool) -> Route:
    """Set the value that the keys lead to from `node`; returns the keys, as numbers where they lead into a list."""
    route: list[str | int] = []
    for depth, word in enumerate(keys):
        key: str | int = word
        inside, last = ".".join(keys[:depth]), depth == len(keys) - 1
        if isinstance(node, list):
            if not word.isdigit() or int(word) >= len(node):
                raise UsageError(
                    f"--set {setting}: {inside} is a list of {len(node)}, counted from 0; it has no {word}"
                )
            key = int(word)
        elif not isinstance(node, dict):
            raise UsageError(f"--set {setting}: {inside} is {shown(node)}, which has no {word}; set {inside} whole")
        elif plain and not last:
            node.setdefault(word, {})
        elif (
            word not in node
            and not plain
            and not (last and (depth == 0 or not get_close_matches(word, node, cutoff=0.5)))
        ):
            raise UsageError(f"--set {setting}: there is no {word} in {inside or 'this step'}; {nearest(word, node)}")
        route.append(key)
        if last:
            node[key] = deepcopy(value)
        else:
            node = node[key]
    return tuple(route)
