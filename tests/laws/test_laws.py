"""Every registered stage and measure keeps the laws, and nothing can be registered outside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from laws import laws, registry
from laws.cases import CASES, HEAVY, Case
from laws.memory import memory

from cristae.blocks.measure import Measure
from cristae.blocks.stage import Stage
from cristae.morphology import MEASURES
from cristae.pipeline.operations import BY_THE_ENGINE, ROOMS, stages

STANDIN = Path(__file__).parents[1] / "standin.py"


def each(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """A test for each case; those that want a package skip by its name where it is not installed."""
    lacking = {c.wants: c.wants != "" and find_spec(c.wants) is None for c in CASES}
    marks = {w: [pytest.mark.skipif(gone, reason=f"{w} is not installed")] for w, gone in lacking.items()}
    return pytest.mark.parametrize("case", [pytest.param(c, id=str(c), marks=marks[c.wants]) for c in cases])


each_case = each(CASES)
each_stage = each(c for c in CASES if isinstance(c.build(), Stage))
each_measure = each(c for c in CASES if isinstance(c.build(), Measure))


def test_nothing_is_registered_outside_the_laws() -> None:
    registry.every_name_is_met(stages(), CASES)
    registry.every_name_is_met(MEASURES, CASES)
    registry.every_maker_is_met(registry.makers(), CASES)


def test_every_parameter_is_under_the_laws() -> None:
    registry.every_parameter_is_set(stages(), BY_THE_ENGINE, CASES)
    registry.every_parameter_is_set(MEASURES, BY_THE_ENGINE, CASES)


def test_every_room_with_stages_is_known_to_the_pipeline() -> None:
    assert registry.rooms_with_stages() == set(ROOMS)


def test_every_stage_is_tried_in_2d_and_3d_on_several_types() -> None:
    for name in stages():
        mine = [c for c in CASES if c.name == name]
        assert {c.ndim for c in mine} == {2, 3} and len({c.dtype for c in mine}) > 1, name


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


@pytest.mark.slow
@each(HEAVY)
def test_memory_is_what_was_declared(case: Case) -> None:
    print(memory(case))


@pytest.fixture(scope="module")
def device() -> Iterator[Callable[[Any], Any]]:
    spec = spec_from_file_location("standin", STANDIN)
    assert spec and spec.loader
    standin = module_from_spec(spec)
    spec.loader.exec_module(standin)
    with standin.installed():
        yield standin.device


@each_case
def test_array_libraries_agree(case: Case, device: Callable[[Any], Any]) -> None:
    laws.library(case, device)
