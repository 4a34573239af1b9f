"""The block of a run that must fit: halved where that costs least, and a refusal that says what would do."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
from inference.models import LEARN, tiny
from inference.volumes import blobs, job, store

from cristae.cluster import model
from cristae.cluster.model import parse_cluster
from cristae.errors import PlanRefused
from cristae.pipeline import execute as execution
from cristae.pipeline import fitting
from cristae.pipeline.execute import execute, plan
from cristae.pipeline.fitting import cluster_of, fitting_block
from cristae.pipeline.job import Job, Settings

FLAT = "output: {{name: mito}}\nsteps:\n  - segment: {{model: {model}, tile: [32, 32]}}\n"
ROUND = "output: {name: mito}\nsteps:\n  - gaussian: {sigma_um: 0.4}\n"


def fitted(work: Job, settings: Settings) -> tuple[int, ...]:
    return fitting_block(work, settings, parse_cluster(settings.cluster, 0))


def just_too_large(work: Job, settings: Settings) -> Settings:
    return replace(settings, memory=plan(work, settings)[0].memory - 1)


def test_a_network_of_the_plane_gets_fewer_planes(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=LEARN)
    cell = store(tmp_path / "cell.ome.zarr", blobs((32, 96, 96)), chunk=(8, 32, 32))
    work = job(cell, tmp_path / "out", FLAT.format(model=tiny(2)))
    settings = Settings("none", pyramid=False)
    assert fitted(work, settings) == (32, 96, 96)
    smaller = just_too_large(work, settings)
    assert fitted(work, smaller) == (16, 96, 96), (
        "a plane is seen whole: planes are all that can be left out for nothing"
    )
    assert fitted(work, just_too_large(work, smaller)) == (8, 96, 96)
    assert plan(work, smaller)[0].memory <= (smaller.memory or 0)


def test_a_block_that_reads_as_far_everywhere_stays_a_cube(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", np.zeros((64, 64, 64), np.uint16), (0.1, 0.1, 0.1), chunk=(16, 16, 16))
    work = job(cell, tmp_path / "out", ROUND)
    settings, seen = Settings("none", pyramid=False), []
    for _ in range(3):
        settings = just_too_large(work, settings)
        seen.append(fitted(work, settings))
    assert [sorted(block) for block in seen] == [[32, 64, 64], [32, 32, 64], [32, 32, 32]]


@pytest.mark.parametrize(("small", "kind"), [(1 << 40, "threads"), (0, "local")])
def test_where_memory_is_short_fewer_workers_do_what_many_could_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: int, kind: str
) -> None:
    pytest.importorskip("torch", reason=LEARN)
    cell = store(tmp_path / "cell.ome.zarr", blobs((16, 64, 64)), chunk=(8, 32, 32))
    work = job(cell, tmp_path / "out", FLAT.format(model=tiny(2)))
    monkeypatch.setattr(model, "usable_cores", lambda: 8)
    monkeypatch.setattr(model, "SMALL_BYTES", small)
    one = plan(work, Settings("none", pyramid=False))[0].memory

    def with_memory(size: float) -> str:
        monkeypatch.setattr(fitting, "usable_memory", lambda: int(size / fitting.SHARE))
        return str(cluster_of(work, Settings("auto", pyramid=False)))

    assert with_memory(100 * one) == f"{kind}:8"
    little = with_memory(1.05 * one)
    assert little.startswith(kind) and int(little.partition(":")[2]) < 8
    assert with_memory(one / 100) == f"{kind}:8", "nothing fits: the refusal speaks of what was asked for"
    monkeypatch.setattr(fitting, "usable_memory", lambda: int(1.05 * one / fitting.SHARE))
    told: list[dict[str, object]] = []
    monkeypatch.setattr(execution, "usable_cores", lambda: 8)
    if kind == "threads":
        execute(work, Settings("auto", pyramid=False), told.append)
        assert told[0]["cores"] == 8 and told[0]["cluster"] == little


def test_what_a_process_needs_once_is_counted_once(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason=LEARN)
    cell = store(tmp_path / "cell.ome.zarr", blobs((32, 96, 96)), chunk=(8, 32, 32))
    work = job(cell, tmp_path / "out", FLAT.format(model=tiny(2)))
    need = [plan(work, Settings(f"threads:{n}", pyramid=False))[0].memory for n in (1, 2, 3)]
    each = need[1] - need[0]
    once = max(s.cost.process_bytes for p in work.passes for s in p.chain)
    assert need[2] - need[1] == pytest.approx(each, abs=2)
    assert need[0] > each + once and once > 400 << 20


def test_what_does_not_fit_says_what_would(tmp_path: Path) -> None:
    cell = store(tmp_path / "cell.ome.zarr", np.zeros((64, 64, 64), np.uint16), (0.1, 0.1, 0.1), chunk=(16, 16, 16))
    work = job(cell, tmp_path / "out", ROUND)
    asked = just_too_large(work, Settings("none", block=(64, 64, 64), pyramid=False))
    with pytest.raises(
        PlanRefused, match=r"'mito: gaussian', but --memory leaves it \d+ MiB; use --block 32,64,64, or"
    ):
        execute(work, asked, lambda event: None)
    little = Settings("none", memory=50 << 20, pyramid=False)
    with pytest.raises(
        PlanRefused, match=r"leaves it 50 MiB; even blocks of 16,16,16 need (\d+) MiB: give it more"
    ) as one:
        execute(work, little, lambda event: None)
    need = int(str(one.value).split(" need ")[1].split()[0])
    assert prod(fitted(work, replace(little, memory=(need + 1) << 20))) < 64**3
    assert not (tmp_path / "out").exists()
