"""The registry: what the engine offers, and the law that none of it lies outside the laws.

A stage or measure comes under a name in some room's STAGES or MEASURES, or from a public function that says it returns one.
All of them, and every parameter a user can set, must be met by a case.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from laws.cases import Case

import cristae

HOW = "add a case to tests/laws/cases.py"
DISPATCH = {"cristae.pipeline.operations.build"}  # hands on to a builder that is registered
NOUNS = "cristae.blocks."  # where Stage and Measure themselves come from


def every_name_is_met(registered: Mapping[str, Callable[..., Any]], cases: Sequence[Case]) -> None:
    """Each registered builder is the builder of a case."""
    tried = [c.builder for c in cases]
    missing = sorted(name for name, builder in registered.items() if builder not in tried)
    assert not missing, f"no law has seen {missing}: {HOW}"


def every_parameter_is_set(
    registered: Mapping[str, Callable[..., Any]], by_the_engine: Collection[str], cases: Sequence[Case]
) -> None:
    """Each parameter that a user can set is set by a case."""
    for name, builder in registered.items():
        of_the_user = set(inspect.signature(builder).parameters) - set(by_the_engine)
        unset = of_the_user - {p for c in cases if c.builder is builder for p in c.params}
        assert not unset, f"no law has seen {sorted(unset)} of {name}: {HOW}"


def every_maker_is_met(makers: Iterator[str], cases: Sequence[Case]) -> None:
    """Each function that makes a stage or measure is the builder of a case, or is asked for by one."""
    tried = {f"{c.builder.__module__}.{c.builder.__name__}" for c in cases} | DISPATCH
    asked = {c.asked for c in cases}
    outside = [name for name in makers if name not in tried and name.rpartition(".")[2] not in asked]
    assert not outside, f"no law has seen what {outside} make: {HOW}"


def makers() -> Iterator[str]:
    """Full names of the engine's public functions that say they return a Stage or a Measure."""
    for module in pkgutil.walk_packages(cristae.__path__, "cristae."):
        if module.name.startswith(NOUNS):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            own = inspect.isfunction(value) and value.__module__ == module.name and not name.startswith("_")
            if own and str(value.__annotations__.get("return")) in ("Stage", "Measure"):
                yield f"{module.name}.{name}"


def rooms_with_stages() -> set[str]:
    """Rooms that have something to register."""
    rooms = [m.name for m in pkgutil.iter_modules(cristae.__path__) if m.ispkg]
    return {r for r in rooms if hasattr(importlib.import_module(f"cristae.{r}"), "STAGES")}
