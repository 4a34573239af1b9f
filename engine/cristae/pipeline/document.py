"""Document: a pipeline file as it was written, with the place of every key. It knows YAML, and no operation.

    route     the keys and indices that lead to a value, such as ("objects", "mito", "steps", 0, "ridge")
    place     the line a key stands on, counted from 1, or the `--set` that put it there
    spelling  a step may be written in several ways; here each becomes {name: {parameter: value, ...}}, and the words
              `from`, `as` and `keep` stand among the parameters

What is wrong with a document is one sentence that begins with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from reprlib import Repr
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError

from cristae.errors import InvalidConfiguration

Route = tuple[str | int, ...]

WORDS = ("from", "as", "keep")
"""Words of a step that are no parameters: what it works on, what it is called, whether its output is kept."""

LARGEST = 1 << 20  # bytes; a larger file is an image given in the wrong place
LONGEST = 160  # characters of what the parser says
DEEPEST = 20  # levels; more, and an alias stands inside itself


@dataclass(frozen=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None), and where each part of it stands."""

    data: Any
    places: Mapping[Route, int | str]
    path: str | None = None

    def at(self, route: Route) -> Any:
        """The value at a route that exists."""
        node = self.data
        for key in route:
            node = node[key]
        return node

    def wrong(self, route: Route, sentence: str) -> InvalidConfiguration:
        """The error that says what is wrong at a route."""
        return InvalidConfiguration(f"{self.where(route)}: {sentence}")

    def where(self, route: Route) -> str:
        """File and line of a key, or of the nearest key above it that has a place."""
        while route and route not in self.places:
            route = route[:-1]
        place = self.places.get(route)
        name = self.path or "the pipeline"
        return place if isinstance(place, str) else f"{name}, line {place}" if place else name


ALSO = {
    "watershed": "split",
    "morphological_segmentation": "flood",
    "morpholibj": "flood",
    "extended_minima": "flood",
    "basins": "flood",
    "frangi": "ridge",
    "tubeness": "ridge",
    "vesselness": "ridge",
    "sato": "ridge",
    "otsu": "threshold",
    "adaptive": "threshold",
    "adaptive_threshold": "threshold",
    "binarize": "threshold",
    "segmentation": "threshold",
    "blur": "gaussian",
    "smooth": "gaussian",
    "dog": "difference_of_gaussians",
    "rolling_ball": "top_hat",
    "subtract_background": "top_hat",
    "tophat": "top_hat",
    "white_tophat": "top_hat",
    "morphological_gradient": "gradient",
    "edges": "gradient",
    "illumination": "flatfield",
    "shading": "flatfield",
    "connected_components": "label",
    "regionprops": "measure",
    "mip": "project",
    "max_projection": "project",
    "zproject": "project",
}
"""What others call a step."""


def nearest(word: str, right: Iterable[str], all_of: str = "it is one of") -> str:
    """How a sentence about an unknown word ends: the right word that means or looks most like it, or all of them."""
    words = sorted(right)
    if (meant := ALSO.get(word.lower().replace("-", "_"))) in words:
        return f"did you mean {meant}?"
    close = get_close_matches(word.lower(), words, n=1, cutoff=0.5)
    if close:
        return f"did you mean {close[0]}?"
    return f"{all_of} {', '.join(words)}" if words else "there is none to name"


def shown(value: Any) -> str:
    """A value in a sentence, cut short where it is long."""
    said = Repr()
    said.maxlevel, said.maxstring, said.maxother = 2, 60, 60
    return " ".join(said.repr(value).split())


def read(source: str | Path) -> Document:
    """A document from a path, or from text: a string is text if it has a line break, and a path otherwise.

    Raises
    ------
    InvalidConfiguration : if it cannot be read, is no YAML mapping, or has a step that is no step.
    """
    if isinstance(source, str) and "\n" in source:
        text, path = source, None
    else:
        text, path = _text(Path(source)), str(source)
    document = _parsed(text, path)
    if not isinstance(document.data, dict):
        said = "is empty" if document.data is None else f"holds {shown(document.data)}"
        raise InvalidConfiguration(
            f"{path or 'the pipeline'} {said}; a pipeline is a mapping with steps, or with objects"
        )
    return spelled_out(document)


def value_of(text: str) -> Any:
    """One value, read as YAML, as plain data.

    Raises
    ------
    InvalidConfiguration : if it is no YAML, or nothing that a pipeline may hold.
    """
    return _parsed(text, None).data


def _parsed(text: str, path: str | None) -> Document:
    name = path or "the pipeline"
    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        key = re.search(r'duplicate key "(.*?)"', str(error.problem))
        twice = f"the key {key[1]}" if key else "a key"
        raise InvalidConfiguration(f"{name}{_line(error)}: {twice} stands twice; keep one of them") from None
    except MarkedYAMLError as error:
        raise InvalidConfiguration(f"{name}{_line(error)}: this is not YAML, {_said(error)}") from None
    except Exception as error:  # the parser meets some odd tags and keys with an error of Python's own
        raise InvalidConfiguration(f"{name}: this is not YAML, {_said(error)}") from None
    places: dict[Route, int | str] = {}
    return Document(_plain(loaded, (), places, path), places, path)


def _text(path: Path) -> str:
    other = "the pipeline file comes first, then the inputs"
    try:
        if path.is_dir():
            raise InvalidConfiguration(f"{path} is a folder, not a pipeline file; {other}")
        if (size := path.stat().st_size) > LARGEST:
            raise InvalidConfiguration(f"{path} holds {size} bytes, too many for a pipeline file; {other}")
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise InvalidConfiguration(f"there is no pipeline file {path}") from None
    except UnicodeDecodeError:
        raise InvalidConfiguration(f"{path} is not UTF-8 text; {other}") from None
    except OSError as error:
        raise InvalidConfiguration(f"the pipeline file {path} cannot be read: {error.strerror}") from None


def _said(error: Exception) -> str:
    parts = (error.context, error.problem) if isinstance(error, MarkedYAMLError) else (error,)
    said = " ".join(", ".join(str(part) for part in parts if part).split()) or type(error).__name__
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}..."


def _line(error: MarkedYAMLError) -> str:
    return f", line {error.problem_mark.line + 1}" if error.problem_mark else ""


def _plain(node: Any, route: Route, places: dict[Route, int | str], path: str | None) -> Any:
    """ruamel's tree without ruamel's types; fills in `places` on the way."""
    here = Document(None, places, path)
    if len(route) > DEEPEST:
        raise here.wrong(route, f"more than {DEEPEST} levels stand inside each other")
    if isinstance(node, dict | list) and getattr(getattr(node, "tag", None), "value", None) is None:
        lines = node.lc.data or {} if hasattr(node, "lc") else {}
        pairs: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, dict) else enumerate(node)
        found = {}
        for key, value in pairs:
            inside: Route = (*route, int(key) if isinstance(node, list) else str(key))
            if key in lines:  # a merged key (<<) has no line of its own
                places[inside] = lines[key][0] + 1
            if isinstance(node, dict) and not isinstance(key, str):
                raise here.wrong(inside, f"keys are words, but {shown(key)} is none; put it in quotes")
            found[inside[-1]] = _plain(value, inside, places, path)
        return found if isinstance(node, dict) else list(found.values())
    if node is None or isinstance(node, str):
        return node if node is None else str(node)
    if isinstance(node, bool) or type(node).__name__ == "ScalarBoolean":
        return bool(node)
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float) and isfinite(node):
        return float(node)
    said = " ".join(str(node).split())
    raise here.wrong(route, f"a value is a finite number, a word, a list or a mapping, not {said}; quote a word")


def step_lists(data: Any) -> Iterator[tuple[Route, list[Any]]]:
    """Route and content of every list of steps: of the one object at the top, and of those under `objects`."""
    if not isinstance(data, dict):
        return
    objects = data.get("objects")
    owners: list[tuple[Route, Any]] = [((), data)]
    if isinstance(objects, dict):
        owners += [(("objects", name), owner) for name, owner in objects.items()]
    for route, owner in owners:
        if isinstance(owner, dict) and isinstance(owner.get("steps"), list):
            yield (*route, "steps"), owner["steps"]


def spelled_out(document: Document) -> Document:
    """The same document with every step in the one spelling. Changes `document.data` in place."""
    places = dict(document.places)
    for route, steps in step_lists(document.data):
        for i, written in enumerate(steps):
            name, params = _step(document, (*route, i), written)
            for word in WORDS:
                if isinstance(written, dict) and word in written and (*route, i, word) in places:
                    places[(*route, i, name, word)] = places[(*route, i, word)]
            steps[i] = {name: params}
    return Document(document.data, places, document.path)


def _step(document: Document, route: Route, written: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(written, str):
        return written, {}
    if not isinstance(written, dict):
        raise document.wrong(route, f"a step is a name, or a name and its parameters, not {shown(written)}")
    names = [key for key in written if key not in WORDS]
    if len(names) != 1:
        said = (
            f"{' and '.join(names)} stand in one step; begin the second with a dash" if names else "a step has no name"
        )
        raise document.wrong(route, said)
    name = names[0]
    params = written[name]
    if name == "measure" and isinstance(params, list):
        params = {"columns": params}
    if name == "project" and isinstance(params, str):
        params = {"method": params}
    if not isinstance(params, dict | None):
        raise document.wrong(
            (*route, name),
            f"{name} takes its parameters by name, as in {name}: {{parameter: value}}, not {shown(params)}",
        )
    beside = {word: written[word] for word in WORDS if word in written}
    for word in beside:
        if params and word in params:
            raise document.wrong((*route, word), f"{word} stands both beside and inside {name}; keep one of them")
    return name, {**(params or {}), **beside}
