"""Generations: what a result depends on is in its key, and whatever changes is named with both ways out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cristae.blocks.stage import Stage, local
from cristae.blocks.work import Asked, Pass, Ref
from cristae.errors import PlanRefused
from cristae.filters import difference_of_gaussians, gaussian, ridge, threshold
from cristae.labels import label
from cristae.morphology.intensity import intensity
from cristae.morphology.moments import shape
from cristae.pipeline import generation as gen

VOXEL_UM = (0.3, 0.1, 0.1)
INPUTS = {"cell": {"input": {"metadata": "m", "objects": "o"}}}
EXTRA = {"command": "run", "channels": [0]}


def passes(
    soft: float = 0.1,
    again: float = 0.2,
    radii: Sequence[float] = (0.15, 0.3),
    value: float = 0.1,
    connectivity: int = 3,
    channels: Sequence[str] = ("A", "B"),
    first: Callable[..., Stage] = gaussian,
) -> list[Pass]:
    """Two gaussians, a ridge, a mask, labels, and a table with two channels."""
    params = {"low_sigma_um": 0.05, "high_sigma_um": 0.1} if first is difference_of_gaussians else {"sigma_um": soft}
    tubes = ridge(list(radii), voxel_um=VOXEL_UM)
    smooth = (first(**params, voxel_um=VOXEL_UM), gaussian(again, voxel_um=VOXEL_UM))
    mask, ids = threshold(value=value, voxel_um=VOXEL_UM), label(connectivity=connectivity, voxel_um=VOXEL_UM)
    shown = [intensity(voxel_um=VOXEL_UM, dtype="uint16", channel=c) for c in channels]
    table = (
        Asked("t/shape", shape(voxel_um=VOXEL_UM)),
        *(Asked(f"t/{n}", m, {}, (Ref("input", n),)) for n, m in enumerate(shown)),
    )
    return [
        Pass("norm", Ref("input"), smooth, ({}, {}), (Asked("norm", tubes.asks["gamma"]),)),
        Pass("last", Ref("input"), (*smooth, tubes, mask, ids), ({},) * 5, table, "mito"),
    ]


def key(
    several: Sequence[Pass] = (), inputs: Mapping[str, Any] = INPUTS, extra: Mapping[str, Any] = EXTRA
) -> dict[str, Any]:
    return gen.key_of(several or passes(), inputs, extra)


def wider(number: int) -> list[Pass]:
    """The stage at this place of every chain reads one voxel more."""
    return [replace(p, chain=tuple(_wider(s) if n == number else s for n, s in enumerate(p.chain))) for p in passes()]


def wider_measures() -> list[Pass]:
    return [
        replace(p, measures=tuple(a if a.beside else replace(a, measure=_wider(a.measure)) for a in p.measures))
        for p in passes()
    ]


def _wider(fact: Any) -> Any:
    return replace(fact, halo=tuple((a + 1, b + 1) for a, b in fact.halo))


MUTATIONS: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "a parameter of the first step": (lambda: key(passes(soft=0.101)), "gaussian"),
    "a parameter of the same step further on": (lambda: key(passes(again=0.201)), "gaussian"),
    "a radius": (lambda: key(passes(radii=(0.15, 0.301))), "ridge"),
    "a threshold": (lambda: key(passes(value=0.2)), r"threshold .*0\.1.*0\.2"),
    "the connectivity": (lambda: key(passes(connectivity=1)), "label"),
    "another step": (lambda: key(passes(first=difference_of_gaussians)), "difference_of_gaussians"),
    "the order of steps": (lambda: key([replace(p, chain=p.chain[::-1]) for p in passes()]), r"order|halo|parameters"),
    "the halo of a stage": (lambda: key(wider(2)), "halo of ridge"),
    "the halo of the first of two like stages": (lambda: key(wider(0)), "halo of gaussian"),
    "the halo of the second of two like stages": (lambda: key(wider(1)), "halo of gaussian"),
    "the halo of a measure": (lambda: key(wider_measures()), r"halo of (shape|ridge_norm)"),
    "the first measured channel": (lambda: key(passes(channels=("C", "B"))), "intensity"),
    "the second measured channel": (lambda: key(passes(channels=("A", "C"))), "intensity"),
    "the input's voxels": (
        lambda: key(inputs={"cell": {"input": {"metadata": "m", "objects": "changed"}}}),
        "the input cell",
    ),
    "the input's metadata": (
        lambda: key(inputs={"cell": {"input": {"metadata": "x", "objects": "o"}}}),
        "the input cell",
    ),
    "another input": (lambda: key(inputs={**INPUTS, "second": {}}), "without second, and is not finished"),
    "the channel": (lambda: key(extra={**EXTRA, "channels": [1]}), "channels"),
    "a fact that is new": (lambda: key(extra={**EXTRA, "time": [0, 2]}), "time"),
    "a fact that is gone": (lambda: key(extra={"command": "run"}), "channels"),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutation_is_noticed_and_named(mutation: str) -> None:
    changed, word = MUTATIONS[mutation]
    with pytest.raises(PlanRefused, match=word) as refused:
        gen.refuse_change(key(), changed(), "out/labels/mito")
    sentence = str(refused.value)
    assert "out/labels/mito was made under other facts" in sentence
    assert "another output name" in sentence
    assert "--fresh" in sentence
    assert "\n" not in sentence


def test_the_same_facts_are_the_same_key() -> None:
    gen.refuse_change(key(), key(), "here")
    assert json.loads(json.dumps(key())) == key()


def test_numbers_are_numbers_however_they_are_written() -> None:
    assert key(passes(soft=np.float64(0.1), radii=np.array([0.15, 0.3]))) == key()  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------- the source of stages


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """Writes a module of one room, and loads it anew each time."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cristae_room").mkdir()
    (tmp_path / "cristae_room" / "__init__.py").touch()

    def write(name: str, text: str) -> ModuleType:
        import importlib

        (tmp_path / "cristae_room" / f"{name}.py").write_text(text)
        for old in [m for m in sys.modules if m.startswith("cristae_room")]:
            monkeypatch.delitem(sys.modules, old)
        importlib.invalidate_caches()
        gen._source.cache_clear()
        return importlib.import_module(f"cristae_room.{name}")

    return write


def test_another_body_of_a_kernel_is_another_stage(room: Callable[[str, str], ModuleType]) -> None:
    def identity(text: str) -> str:
        return gen.identity(local("mine", room("mine", text).kernel, {}, 1, 3))

    one = identity("def kernel(x):\n    return x + 1\n")
    assert identity("def kernel(x):\n    return x + 1\n") == one
    assert identity("def kernel(x):\n    return x + 2\n") != one


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        (gaussian(0.1, voxel_um=VOXEL_UM), "cristae.filters.gaussian_kernel"),
        (ridge(0.2, voxel_um=VOXEL_UM), "cristae.filters.ridge_kernel"),
        (ridge(0.2, voxel_um=VOXEL_UM), "cristae.filters.ridge_plain"),
        (label(voxel_um=VOXEL_UM), "cristae.labels.runs_kernel"),
        (label(voxel_um=VOXEL_UM).asks["ids"], "cristae.labels.seams_kernel"),
        (label(voxel_um=VOXEL_UM).asks["ids"], "cristae.labels.union"),
        (label(voxel_um=VOXEL_UM).asks["ids"], "cristae.labels.union_kernel"),
        (shape(voxel_um=VOXEL_UM), "cristae.morphology.moments_kernel"),
        (shape(voxel_um=VOXEL_UM), "cristae.morphology.rows"),
    ],
    ids=lambda x: getattr(x, "name", x),
)
def test_the_source_of_a_compiled_kernel_is_part_of_a_stage(
    stage: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changing the module in which the numbers are really computed makes another stage, though it is imported late."""
    import importlib

    importlib.import_module(module)
    before, read = gen.identity(stage), gen._source
    monkeypatch.setattr(gen, "_source", lambda name: read(name) + (b"# changed" if name == module else b""))
    assert gen.identity(stage) != before, f"a change of {module} would not be noticed"


def test_the_source_of_a_stage_does_not_depend_on_what_was_imported_before() -> None:
    import subprocess

    script = (
        "import sys\n{first}\nfrom cristae.pipeline.generation import identity\nfrom cristae.filters import gaussian\n"
        "print(identity(gaussian(0.1, voxel_um=(0.3, 0.1, 0.1))))"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n" + script.format(first=first)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for first in ("", "import cristae.filters.gaussian_kernel, cristae.filters.ridge_kernel")
    }
    assert len(told) == 1


# ------------------------------------------------------------------------------------------------------- on disk


def test_generations_count_up_and_the_newest_is_found(tmp_path: Path) -> None:
    assert gen.latest(tmp_path) is None
    for number in (1, 2, 11):
        gen.begin(tmp_path, number, key(), {"block": [4, 4, 4]})
        found = gen.latest(tmp_path)
        assert found is not None
        assert (found.number, found.key, found.frozen) == (number, key(), {"block": [4, 4, 4]})


def test_a_generation_whose_facts_were_never_written_is_none(tmp_path: Path) -> None:
    gen.begin(tmp_path, 1, key(), {})
    (tmp_path / "gen-0002").mkdir()
    found = gen.latest(tmp_path)
    assert found is not None
    assert found.number == 1


def test_versions_name_what_a_result_may_depend_on() -> None:
    found = gen.versions()
    assert {"python", "numpy", "numba", "zarr"} <= set(found)
    assert found["numpy"] == np.__version__
