"""Every registered stage and measure keeps the laws, and nothing can be registered outside them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cristae
from cristae.blocks.measure import Measure
from cristae.blocks.stage import Stage
from cristae.morphology import MEASURES
from cristae.pipeline.operations import BY_THE_ENGINE, ROOMS, stages
from laws import laws
from laws.cases import CASES, Case

STANDIN = Path(__file__).parents[1] / "standin.py"
FLOORS_BELOW = {"cristae.blocks"}
DISPATCH = {"cristae.pipeline.operations.build"}  # hands on to a builder that is registered

each_case = pytest.mark.parametrize("case", CASES, ids=str)
each_stage = pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.build(), Stage)], ids=str)
each_measure = pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.build(), Measure)], ids=str)


# ------------------------------------------------------------------------------------------------ the registry


def test_every_registered_stage_has_a_case() -> None:
    missing = set(stages()) - {c.name for c in CASES}
    assert not missing, f"no law has seen {sorted(missing)}: add a case to tests/laws/cases.py"


def test_every_registered_measure_has_a_case() -> None:
    missing = set(MEASURES) - {c.name for c in CASES}
    assert not missing, f"no law has seen {sorted(missing)}: add a case to tests/laws/cases.py"


def test_every_room_with_stages_is_known_to_the_pipeline() -> None:
    rooms = [m.name for m in pkgutil.iter_modules(cristae.__path__) if m.ispkg]
    holding = {r for r in rooms if hasattr(importlib.import_module(f"cristae.{r}"), "STAGES")}
    assert holding == set(ROOMS)


def test_every_function_that_makes_a_stage_or_measure_has_a_case() -> None:
    tried = {f"{c.builder.__module__}.{c.builder.__name__}" for c in CASES} | {c.asked for c in CASES} | DISPATCH
    outside = [name for name in _builders() if name not in tried and name.rpartition(".")[2] not in tried]
    assert not outside, f"no law has seen what {outside} make: add a case to tests/laws/cases.py"


def test_every_parameter_of_a_stage_is_set_by_a_case() -> None:
    for name, builder in stages().items():
        user = set(inspect.signature(builder).parameters) - BY_THE_ENGINE
        used = {p for c in CASES if c.builder is builder for p in c.params}
        assert user <= used, f"no law has seen {sorted(user - used)} of {name}: add a case to tests/laws/cases.py"


def test_every_stage_is_tried_in_2d_and_3d_on_several_types() -> None:
    for name in stages():
        mine = [c for c in CASES if c.name == name]
        assert {c.ndim for c in mine} == {2, 3} and len({c.dtype for c in mine}) > 1, name


def _builders() -> Iterator[str]:
    """Public functions of the engine that say they return a Stage or a Measure."""
    for module in pkgutil.walk_packages(cristae.__path__, "cristae."):
        if module.name.rpartition(".")[0] in FLOORS_BELOW:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if inspect.isfunction(value) and value.__module__ == module.name and not name.startswith("_"):
                if str(value.__annotations__.get("return")) in ("Stage", "Measure"):
                    yield f"{module.name}.{name}"


# ---------------------------------------------------------------------------------------------------- the laws


@each_case
def test_the_grid_does_not_show(case: Case) -> None:
    laws.grid(case)


@each_case
def test_reading_is_honest(case: Case) -> None:
    laws.reading(case)


@each_measure
def test_merging_knows_no_order(case: Case) -> None:
    laws.merging(case)


@each_stage
def test_the_edges_of_the_volume_are_as_declared(case: Case) -> None:
    laws.boundary(case)


@each_case
def test_what_comes_out_is_what_was_declared(case: Case) -> None:
    laws.specs(case)


@pytest.fixture(scope="module")
def device() -> Iterator[Callable[[Any], Any]]:
    if not STANDIN.exists():
        pytest.skip("no stand-in library: tests/standin.py is not there")
    spec = spec_from_file_location("standin", STANDIN)
    assert spec and spec.loader
    standin: ModuleType = module_from_spec(spec)
    spec.loader.exec_module(standin)
    with standin.installed():
        yield standin.device


@each_case
def test_array_libraries_agree(case: Case, device: Callable[[Any], Any]) -> None:
    laws.library(case, device)
