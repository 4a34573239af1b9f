"""The seam report of a run says what one finds by cutting the labels of the whole volume by the same blocks."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import MAIN, done, main_job, store, voxels
from scipy import ndimage

from cristae.grid import BlockGrid, Box
from cristae.pipeline.job import Settings
from cristae.store.volume import open_volume
from cristae_cli.talk import sentence

PARTED = """
output: {name: mito}
steps:
  - gaussian: {sigma_um: 0.12}
  - threshold: {method: otsu}
  - split: {min_separation_um: 0.3}
  - label: {min_voxels: 3}
"""


def cut_by(labels: np.ndarray, block: tuple[int, ...], connectivity: int) -> dict[str, int]:
    """Parts are components of one label in one block; a pair is two of one label that touch across blocks."""
    structure = ndimage.generate_binary_structure(labels.ndim, connectivity)
    parts, where = np.zeros(labels.shape, int), np.zeros(labels.shape, int)
    for number, core in enumerate(BlockGrid(labels.shape, block)):
        where[core.slices] = number
        for value in np.unique(labels[core.slices][labels[core.slices] > 0]):
            here = ndimage.label(labels[core.slices] == value, structure)[0]
            parts[core.slices] += np.where(here > 0, here + parts.max(), 0)
    pairs = set()
    for step in product((-1, 0, 1), repeat=labels.ndim):
        if not 0 < np.count_nonzero(step) <= connectivity:
            continue
        one = tuple(slice(max(0, -s), n - max(0, s)) for s, n in zip(step, labels.shape, strict=True))
        two = tuple(slice(max(0, s), n - max(0, -s)) for s, n in zip(step, labels.shape, strict=True))
        meet = (labels[one] == labels[two]) & (labels[one] > 0) & (where[one] != where[two])
        pairs |= {
            tuple(sorted(pair)) for pair in zip(parts[one][meet].tolist(), parts[two][meet].tolist(), strict=True)
        }
    value_of = dict(zip(parts.ravel().tolist(), labels.ravel().tolist(), strict=True))
    crossing = {n for n in np.unique(labels)[1:].tolist() if len(np.unique(where[labels == n])) > 1}
    return {
        "crossing": len(crossing),
        "parts": sum(value in crossing for part, value in value_of.items() if part),
        "joined": len(pairs),
    }


@pytest.mark.parametrize("block", [(6, 20, 22), (5, 13, 44), (12, 7, 9)])
@pytest.mark.parametrize(
    ("text", "connectivity"), [(MAIN, 3), (MAIN.replace("{min_voxels: 3}", "{connectivity: 1}"), 1), (PARTED, 3)]
)
def test_it_says_what_cutting_the_labels_finds(
    tmp_path: Path, text: str, connectivity: int, block: tuple[int, ...]
) -> None:
    cell, out = store(tmp_path / "cell.ome.zarr", voxels()), tmp_path / "out"
    _, events = done(main_job(cell, out, text), Settings("none", block=block))
    labels = open_volume(out / "labels" / "cell.ome.zarr")
    expected = cut_by(labels.read(Box.whole(labels.spatial_shape)), block, connectivity)
    found = json.loads((out / "seams.json").read_bytes())
    assert {name: found[name] for name in expected} == expected
    assert expected["joined"] >= expected["parts"] - expected["crossing"] > 0
    assert (found["block"], found["contested"], found["beyond_halo"]) == (list(block), 0, 0)
    (said,) = (event for event in events if event["event"] == "seams")
    assert {name: said[name] for name in expected} == expected and said["object"] == "mito"
    crossing = f"seams: {expected['crossing']} objects of mito cross block borders, {expected['parts']} parts joined, none contested"
    assert sentence(said) == crossing


def test_every_time_point_has_its_own(tmp_path: Path) -> None:
    film = np.stack([voxels(seed) for seed in range(3)])
    cell, out = store(tmp_path / "cell.ome.zarr", film, axes="tzyx", frame_interval_s=1.0), tmp_path / "out"
    done(main_job(cell, out), Settings("none", block=(6, 20, 22)))
    labels = open_volume(out / "labels" / "cell.ome.zarr")
    found = json.loads((out / "seams.json").read_bytes())
    whole = [cut_by(labels.read(Box.whole(labels.spatial_shape), t=t), (6, 20, 22), 3) for t in range(3)]
    assert [{name: frame[name] for name in whole[0]} for frame in found["frames"]] == whole
    assert [(f["image"], f["t"], f["blocks"]) for f in found["frames"]] == [("cell", t, 8) for t in range(3)]
    assert found["crossing"] == sum(one["crossing"] for one in whole) and found["blocks"] == 24


def test_an_image_of_one_block_has_no_seam(tmp_path: Path) -> None:
    cell, out = store(tmp_path / "cell.ome.zarr", voxels()), tmp_path / "out"
    _, events = done(main_job(cell, out), Settings("none", block=(12, 40, 44)))
    found = json.loads((out / "seams.json").read_bytes())
    assert [found[name] for name in ("blocks", "crossing", "parts", "joined")] == [1, 0, 0, 0]
    assert not [event for event in events if event["event"] == "seams"]
