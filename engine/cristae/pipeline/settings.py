"""Settings: `--set PATH=VALUE` changes one value of a pipeline document before it is validated.

    output.name=mito              a key of the file
    ridge.radius_um.max=0.4       a parameter of that step, in every object that has it
    mito.ridge.gamma=1            the same in one object
    smooth.sigma_um=2             the step that is called so by its `as:`

The value is read as YAML. A parameter that the step has but the file does not is added; whether the step has it is
the validation's to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from difflib import get_close_matches
from typing import Any

from ruamel.yaml.error import YAMLError

from cristae.errors import InvalidConfiguration, UsageError
from cristae.pipeline.document import Document, Route, nearest, plain_value, step_lists

OF_AN_OBJECT = ("channel", "within")


def apply_settings(document: Document, settings: Sequence[str]) -> Document:
    """The document with each setting made, in order; `document` itself stays as it is.

    Raises
    ------
    UsageError : if a setting is not PATH=VALUE, or its path leads nowhere.
    """
    for setting in settings:
        document = _set(document, setting)
    return document


def _set(document: Document, setting: str) -> Document:
    path, equals, text = setting.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"--set {setting} is not PATH=VALUE, such as output.name=mito or ridge.radius_um.max=0.4")
    try:
        value = plain_value(text)
    except (YAMLError, InvalidConfiguration):
        raise UsageError(f"--set {setting}: {text} is no YAML value; quote it") from None
    data, places = deepcopy(document.data), dict(document.places)
    for route in _routes(data, keys, setting):
        _assign(data, route, deepcopy(value), setting)
        places = {old: place for old, place in places.items() if old[: len(route)] != route}
        places[route] = f"--set {setting}"
    return Document(data, places, document.path)


def _routes(data: Any, keys: list[str], setting: str) -> list[Route]:
    """Where in the document the keys lead: to one value, or to the same parameter in several objects."""
    objects = _objects(data)
    several = isinstance(data, dict) and "objects" in data
    if several and keys[0] == "objects":
        keys = keys[1:] or [""]
    top = ["input"] if several else ["input", "output.name", *OF_AN_OBJECT]
    if ".".join(keys) in top:
        return [tuple(keys)]
    owners = objects
    if keys[0] in objects and len(keys) > 1:
        owners = {keys[0]: objects[keys[0]]}
        keys = keys[1:]
        if len(keys) == 1 and keys[0] in OF_AN_OBJECT:
            return [(*owner, keys[0]) for owner in owners.values()]
        top = list(OF_AN_OBJECT)
    steps = {name: list(_steps(data, owner)) for name, owner in owners.items()}
    found = [route for name in steps for route in _named(steps[name], keys[0], name, setting)]
    if found and len(keys) > 1:
        return [(*route, *_indices(data, route, keys[1:])) for route in found]
    if found:
        raise UsageError(f"--set {setting} names a step; name one of its parameters, as in {keys[0]}.PARAMETER=VALUE")
    here = {word for name in steps for _, *words in steps[name] for word in words if word}
    right = {*top, *here, *(objects if owners is objects else ())}
    raise UsageError(f"--set {setting}: nothing is called {keys[0]} here; {_nearest(keys, right)}")


def _nearest(keys: list[str], right: set[str]) -> str:
    whole = ".".join(keys)
    if get_close_matches(whole.lower(), sorted(right), n=1, cutoff=0.7):
        return nearest(whole, right, "a path begins with one of")
    return nearest(keys[0], right, "a path begins with one of")


def _objects(data: Any) -> dict[str, Route]:
    """Route to every object by its name; that of a file with one object is its output's, if it has one."""
    if not isinstance(data, dict):
        return {}
    objects = data.get("objects")
    if isinstance(objects, dict):
        return {name: ("objects", name) for name, owner in objects.items() if isinstance(owner, dict)}
    output = data.get("output")
    name = output.get("name") if isinstance(output, dict) else None
    return {name if isinstance(name, str) else "": ()}


def _steps(data: Any, owner: Route) -> Iterator[tuple[Route, str, str]]:
    """Route to the parameters, name and `as` ("" if it has none) of each step of one object."""
    for route, steps in step_lists(data):
        for i, step in enumerate(steps):
            if route[:-1] == owner:
                ((name, params),) = step.items()
                label = params.get("as")
                yield (*route, i, name), name, label if isinstance(label, str) else ""


def _named(steps: list[tuple[Route, str, str]], word: str, owner: str, setting: str) -> list[Route]:
    called = [route for route, _, label in steps if label == word]
    found = called or [route for route, name, _ in steps if name == word]
    if len(found) > 1:
        of = f" of {owner}" if owner else ""
        raise UsageError(
            f"--set {setting} could mean any of {len(found)} steps{of} called {word}; give that step a name of its "
            "own in the file with as: NAME, and set NAME here"
        )
    return found


def _indices(data: Any, route: Route, keys: list[str]) -> list[str | int]:
    """The keys with numbers where they lead into a list."""
    node = data
    for key in route:
        node = node[key]
    return [*_descend(node, keys)]


def _descend(node: Any, keys: list[str]) -> Iterator[str | int]:
    for key in keys:
        if isinstance(node, list) and key.isdigit():
            yield int(key)
            node = node[int(key)] if int(key) < len(node) else None
        else:
            yield key
            node = node.get(key) if isinstance(node, dict) else None


def _assign(data: Any, route: Route, value: Any, setting: str) -> None:
    """Set the value; a key on the way must be there, the last one need not be unless it looks like a slip."""
    node, last = data, len(route) - 1
    for depth, key in enumerate(route):
        inside = ".".join(map(str, route[:depth])) or "the file"
        if isinstance(node, list):
            if not isinstance(key, int) or key >= len(node):
                raise UsageError(f"--set {setting}: {route[depth - 1]} is a list of {len(node)}; it has no {key}")
        elif not isinstance(node, dict):
            raise UsageError(f"--set {setting}: {route[depth - 1]} is {node!r}, which has no {key}; set it whole")
        elif key not in node and route == ("output", "name"):
            node[key] = {} if depth < last else value
        elif key not in node:
            deep = depth > _step_depth(route)
            if depth < last or (deep and get_close_matches(str(key), list(node), n=1, cutoff=0.5)):
                raise UsageError(f"--set {setting}: {inside} has no {key}; {nearest(str(key), map(str, node))}")
        if depth == last:
            node[key] = value
        else:
            node = node[key]
