"""Operations: every step a pipeline may name, in one place. Rooms list their own; this page only gathers them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from cristae.blocks.stage import Spec, Stage
from cristae.errors import InvalidConfiguration

ROOMS = ("filters", "labels", "optics", "inference")
PLANNED = ("skeleton",)
"""Steps that the format knows and that are not built yet; a file that names one is valid, and a run says so."""

BY_THE_ENGINE = {"voxel_um", "dtype"}
"""Keywords of a builder that come from the array a step works on, not from the user."""


@cache
def stages() -> Mapping[str, Callable[..., Stage]]:
    """Builders of every stage, by the name a pipeline uses."""
    found: dict[str, Callable[..., Stage]] = {}
    for room in ROOMS:
        found.update(import_module(f"cristae.{room}").STAGES)
    return dict(sorted(found.items()))


def measure(
    columns: Sequence[str] = ("shape", "intensity"),
    channels: Sequence[str | int] | str | None = None,
    background: float = 0,
) -> None:
    """Columns of every object, after label: a table beside the labels.

    columns : groups (index, shape, surface, topology, intensity) and single columns
    channels : whose intensity is measured, by name or number; "all"; by default the object's own
    background : what a voxel shows where there is nothing, in units of the image; taken from the sum, mean, min and max of intensity
    """


def project(method: str = "max") -> None:
    """The brightest voxel along z in place of the stack, before everything else.

    method : "max"; `project: max` is the short form. The first step of every object, or of none: all that follows is in the plane
    """


OTHERS: Mapping[str, Callable[..., None]] = {"measure": measure, "project": project}
"""Steps that are no stage: one makes the table, one is how the image is read."""


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """What a user may set on a step."""
    signature = inspect.signature(OTHERS[name] if name in OTHERS else stages()[name])
    return {k: p for k, p in signature.parameters.items() if k not in BY_THE_ENGINE}


def known() -> Mapping[str, tuple[str, ...] | None]:
    """Step names and the parameters of each, as the pipeline file's reader wants them; None where they are not listed yet."""
    found = {name: tuple(parameters(name)) for name in stages()}
    return {**dict.fromkeys(PLANNED), **found, **{name: tuple(parameters(name)) for name in OTHERS}}


def build(name: str, params: Mapping[str, Any], spec: Spec) -> Stage:
    """The stage of a step that works on an array of this spec.

    Raises
    ------
    InvalidConfiguration : if a parameter is missing, or the builder refuses a value.
    """
    builder = stages()[name]
    accepted = inspect.signature(builder).parameters
    given = {"voxel_um": spec.voxel_um, "dtype": spec.dtype}
    missing = [k for k, p in parameters(name).items() if p.default is p.empty and k not in params]
    if missing:
        raise InvalidConfiguration(f"step {name} needs {', '.join(missing)}; see 'cristae stages {name}'")
    try:
        return builder(**params, **{k: v for k, v in given.items() if k in accepted})
    except TypeError as error:
        raise InvalidConfiguration(f"step {name}: {error}; see 'cristae stages {name}'") from None
