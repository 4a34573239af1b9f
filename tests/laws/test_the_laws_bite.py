"""A law that cannot be broken proves nothing: every planted lie is caught, and the honest stage is let through."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
from laws import laws, planted, registry
from laws.cases import CASES, Case
from laws.memory import memory

from cristae.pipeline.operations import BY_THE_ENGINE, stages


def _across_libraries(case: Case) -> None:
    spec = spec_from_file_location("standin", Path(__file__).parents[1] / "standin.py")
    assert spec and spec.loader
    standin = module_from_spec(spec)
    spec.loader.exec_module(standin)
    with standin.installed():
        laws.library(case, standin.device)


@pytest.mark.parametrize("law", [laws.grid, laws.reading, laws.merging, laws.boundary, laws.specs])
def test_an_honest_stage_passes(law: Callable[[Case], None]) -> None:
    law(planted.HONEST)


LIES = {
    "a halo one voxel too small, by the grid": (laws.grid, planted.HALO_TOO_SMALL, "voxels differ|differs by"),
    "a halo one voxel too small, by its reading": (laws.reading, planted.HALO_TOO_SMALL, "further than its halo"),
    "a halo one voxel too large": (laws.reading, planted.HALO_TOO_LARGE, "one voxel less of halo changes nothing"),
    "a result that knows its block": (laws.grid, planted.BLOCK_SHOWS, "voxels differ"),
    "a result that counts its calls": (laws.grid, planted.CALLS_SHOW, "voxels differ"),
    "a kernel that steps out of its array": (laws.reading, planted.STEPS_OUTSIDE, "reads outside its box"),
    "an edge that is not reflected": (laws.boundary, planted.OTHER_EDGE, "edges do not reflect"),
    "another type than declared": (laws.specs, planted.OTHER_TYPE, "float32, declared uint8"),
    "a range that does not hold": (laws.specs, planted.OTHER_RANGE, "declared 0.0 to 1.0"),
    "an input that is changed": (laws.reading, planted.CHANGES_ITS_INPUT, "reads outside its box|further"),
    "a merge that is not associative": (laws.merging, planted.MEANS_OF_MEANS, "order of merging shows"),
    "a merge that is not commutative": (laws.merging, planted.FIRST_WINS, "order of merging shows"),
    "a merge whose nothing is something": (laws.merging, planted.NOTHING_COUNTS, "order of merging|neutral"),
    "a merge that eats what it is given": (
        laws.merging,
        planted.EATS_ITS_PARTIALS,
        "order of merging|changes the partials",
    ),
    "a kernel of one array library": (_across_libraries, planted.NUMPY_ONLY, "StandIn|stand-in"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_caught(lie: str) -> None:
    law, case, sentence = LIES[lie]
    with pytest.raises((AssertionError, TypeError), match=sentence):
        law(case)


def test_a_merge_that_is_not_associative_shows_in_the_grid_too() -> None:
    with pytest.raises(AssertionError, match="mean"):
        laws.grid(planted.MEANS_OF_MEANS)


def test_a_stage_that_takes_more_memory_than_it_says_is_caught() -> None:
    with pytest.raises(AssertionError, match="takes more than it says"):
        memory(planted.TAKES_MUCH, "laws.planted", times=1)


def test_a_stage_that_says_far_more_memory_than_it_takes_is_caught() -> None:
    with pytest.raises(AssertionError, match="says far more than it takes"):
        memory(planted.CLAIMS_MUCH, "laws.planted", times=1)


def test_a_stage_that_says_what_it_takes_is_let_through() -> None:
    memory(planted.TELLS_TRUE, "laws.planted", times=1)


def blur(width: float, *, ndim: int) -> Any:
    """A stage that nobody gave a case."""


def test_a_stage_cannot_be_registered_without_a_case() -> None:
    with pytest.raises(AssertionError, match=r"no law has seen \['blur'\]"):
        registry.every_name_is_met({**stages(), "blur": blur}, CASES)


def test_a_measure_cannot_be_made_without_a_case() -> None:
    with pytest.raises(AssertionError, match=r"cristae\.optics\.spread"):
        registry.every_maker_is_met(iter(["cristae.optics.spread", *registry.makers()]), CASES)


def test_a_parameter_cannot_be_added_without_a_case() -> None:
    case = Case(blur, {}, planted.image, facts=("ndim",))
    with pytest.raises(AssertionError, match=r"\['width'\] of blur"):
        registry.every_parameter_is_set({"blur": blur}, {*BY_THE_ENGINE, "ndim"}, [case])
