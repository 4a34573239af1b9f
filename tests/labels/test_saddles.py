"""Saddles: a probability is parted as its definition says, over the whole volume and over any blocks; tubes stay whole, contacts part."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pipeline.test_job import done, labels_of, main_job, store, voxels
from scipy import ndimage

from cristae.blocks.measure import ask
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box
from cristae.labels import label, split
from cristae.labels.saddles import nearer
from cristae.labels.saddles_kernel import relief
from cristae.pipeline.job import Settings
from cristae.store.volume import open_volume

VOXEL_UM = (0.2, 0.1, 0.1)
LEVELS = np.array([0.0, 0.2, 0.45, 0.5, 0.6, 0.75, 0.9, 1.0])


def chances(shape: tuple[int, ...], seed: int, few: bool = True) -> np.ndarray:
    rng = np.random.default_rng(seed)
    found = np.clip(0.4 + 2.5 * ndimage.gaussian_filter(rng.normal(size=shape), 1.2), 0, 1)
    if few:
        found = LEVELS[np.abs(found[..., None] - LEVELS).argmin(axis=-1)]
    return found.astype(np.float32)


def heights(chance: np.ndarray, voxel_um: tuple[float, ...], above: float, reach: float) -> np.ndarray:
    solid = chance.reshape((1,) * (3 - chance.ndim) + chance.shape)
    found = relief(solid, above, reach, *nearer(voxel_um, reach), np.zeros(3, int), np.array(solid.shape))
    return found.reshape(chance.shape)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("voxel_um", "shape", "above", "reach"),
    [
        (VOXEL_UM, (9, 20, 22), 0.5, 0.2),
        ((0.3, 0.1, 0.13), (7, 20, 22), 0.45, 0.41),
        ((0.1, 0.08), (30, 33), 0.2, 0.25),
    ],
)
def test_a_height_is_the_mean_distance_over_the_levels(
    voxel_um: tuple[float, ...], shape: tuple[int, ...], above: float, reach: float, seed: int
) -> None:
    """Of a probability with few values the mean is a sum over them, of distances that scipy finds."""
    chance = chances(shape, seed)
    expected = np.zeros(shape)
    steps = [above, *[float(v) for v in LEVELS.astype(np.float32) if v > above + 1e-6]]
    for low, high in pairwise(steps):
        inside = chance > low + 1e-6
        distance = ndimage.distance_transform_edt(inside, sampling=voxel_um) if not inside.all() else np.inf
        expected += (high - low) * np.minimum(distance, reach)
    np.testing.assert_allclose(heights(chance, voxel_um, above, reach), expected / (1 - above), rtol=1e-5, atol=1e-7)


def by_hand(height: np.ndarray, depth: float) -> np.ndarray:
    """The definition, voxel by voxel: each climbs to its highest neighbour; saddles join basins from the highest to the lowest."""
    places = sorted(map(tuple, np.argwhere(height > 0)), key=lambda p: (height[p], p))
    rank = {place: n for n, place in enumerate(places)}
    steps = [s for s in np.ndindex(*(3,) * height.ndim) if s != (1,) * height.ndim]
    beside = {
        p: [q for s in steps if (q := tuple(a + b - 1 for a, b in zip(p, s, strict=True))) in rank] for p in places
    }
    summit: dict[tuple[int, ...], tuple[int, ...]] = {}
    for place in reversed(places):
        best = max([place, *beside[place]], key=rank.__getitem__)
        summit[place] = place if best == place else summit[best]
    name = {place: place for place in places}

    def root(place: tuple[int, ...]) -> tuple[int, ...]:
        while name[place] != place:
            place = name[place]
        return place

    saddles = [
        (rank[p], rank[q], p, q) for p in places for q in beside[p] if rank[p] < rank[q] and summit[p] != summit[q]
    ]
    for _, _, p, q in sorted(saddles, reverse=True):
        low, high = sorted((root(summit[p]), root(summit[q])), key=rank.__getitem__)
        if low != high and float(height[low]) - float(height[p]) < depth:
            name[low] = high
    out, seen = np.zeros(height.shape, np.uint32), {}
    for place in map(tuple, np.argwhere(height > 0)):
        out[place] = seen.setdefault(root(summit[place]), len(seen) + 1)
    return out


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize(
    ("voxel_um", "shape", "depth", "reach"), [(VOXEL_UM, (8, 18, 20), 0.04, 0.25), ((0.1, 0.1), (34, 40), 0.03, 0.3)]
)
def test_it_is_the_plain_definition(
    voxel_um: tuple[float, ...], shape: tuple[int, ...], depth: float, reach: float, few: bool, seed: int
) -> None:
    chance = chances(shape, seed, few)
    found = split(voxel_um=voxel_um, by="probability", above=0.45, depth_um=depth, reach_um=reach)(chance)
    expected = by_hand(heights(chance, voxel_um, 0.45, reach), depth)
    assert expected.max() > ndimage.label(chance > 0.45, np.ones((3,) * len(shape)))[1]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found > 0, chance > 0.45)


@pytest.mark.parametrize("seed", range(3))
def test_there_are_as_many_objects_as_summits_that_stand_out(seed: int) -> None:
    """Seen by cutting the relief at every height: a summit counts where it stays the highest of its island for a depth."""
    chance, depth = chances((30, 36), seed, few=False), 0.05
    height = heights(chance, (0.1, 0.1), 0.45, 0.3)
    order = np.zeros(height.shape, int)
    order[height > 0] = np.argsort(np.argsort(height[height > 0], kind="stable"), kind="stable") + 1
    standing = 0
    for place in zip(*np.nonzero((ndimage.maximum_filter(order, 3) == order) & (order > 0)), strict=True):
        islands = (
            ndimage.label(height > height[place] - depth + 1e-9, np.ones((3, 3)))[0],
            ndimage.label(order, np.ones((3, 3)))[0],
        )
        one = islands[0] if height[place] > depth else islands[1]
        standing += order[one == one[place]].max() == order[place]
    assert (
        split(voxel_um=(0.1, 0.1), by="probability", above=0.45, depth_um=depth, reach_um=0.3)(chance).max() == standing
    )


def test_basins_are_counted_before_they_are_joined() -> None:
    chance = chances((30, 36), 1, few=False)
    stage = split(voxel_um=(0.1, 0.1), by="probability", above=0.45, depth_um=0.05, reach_um=0.3)
    order = heights(chance, (0.1, 0.1), 0.45, 0.3).astype(float)
    order[order > 0] += 1e-9 * np.flatnonzero(order) / order.size
    summits = (ndimage.maximum_filter(order, 3) == order) & (order > 0)
    assert ask(stage.asks["ids"], chance).number("basins") == summits.sum() > stage(chance).max()


def tubes(*lines: tuple[tuple[float, float, float], tuple[float, float, float]], radius: float) -> np.ndarray:
    """Where straight tubes lie, in voxels that are cut four times finer on each axis."""
    fine = np.stack(
        np.meshgrid(*(np.arange(n * 4) * v / 4 for n, v in zip((16, 48, 90), VOXEL_UM, strict=True)), indexing="ij"), -1
    )
    inside = np.zeros(fine.shape[:3], bool)
    for begin, end in (map(np.array, line) for line in lines):
        along = end - begin
        t = np.clip(((fine - begin) @ along) / (along @ along), 0, 1)
        inside |= ((fine - begin - t[..., None] * along) ** 2).sum(axis=-1) <= radius**2
    return inside.reshape(16, 4, 48, 4, 90, 4).mean(axis=(1, 3, 5))


def seen(inside: np.ndarray, seed: int = 0) -> np.ndarray:
    """As a network might give it: sharp, 1 inside, a little uneven."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=inside.shape), (0.7, 1, 1)) * 2
    return (1 / (1 + np.exp(-(14 * (inside - 0.4) + noise)))).astype(np.float32)


@pytest.mark.parametrize("radius", [0.15, 0.2, 0.3])
@pytest.mark.parametrize("end", [(1.6, 2.4, 8.0), (2.2, 3.6, 7.0), (1.0, 4.0, 3.0)])
def test_a_thin_tube_stays_whole(radius: float, end: tuple[float, float, float]) -> None:
    for seed in range(2):
        found = split(voxel_um=VOXEL_UM, by="probability")(seen(tubes(((1.6, 0.9, 0.9), end), radius=radius), seed))
        assert np.count_nonzero(np.bincount(found.ravel())[1:] > 10) == 1


@pytest.mark.parametrize(("radius", "depth"), [(0.2, 0.08), (0.3, None)])
def test_tubes_side_by_side_and_end_to_end_come_apart(radius: float, depth: float | None) -> None:
    """0.03 um lie between them, less than a third of a voxel."""
    y, z, apart = 2.05, 1.7, 2 * radius + 0.03
    beside = tubes(((z, y, 1.0), (z, y, 8.0)), ((z, y + apart, 1.0), (z, y + apart, 8.0)), radius=radius)
    behind = tubes(((z, y, 1.0), (z, y, 4.0)), ((z, y, 4.0 + apart), (z, y, 8.0)), radius=radius)
    for inside in (beside, behind):
        chance = seen(inside)
        assert ndimage.label(chance > 0.5, np.ones((3, 3, 3)))[1] == 1
        found = split(voxel_um=VOXEL_UM, by="probability", depth_um=depth)(chance)
        assert np.count_nonzero(np.bincount(found.ravel())[1:] > 10) == 2


def test_a_wide_plain_is_one_object() -> None:
    """Where the probability is 1 farther than the reach, all heights are equal."""
    chance = np.zeros((20, 60, 60), np.float32)
    chance[2:18, 3:57, 3:57] = 1
    assert split(voxel_um=VOXEL_UM, by="probability")(chance).max() == 1
    assert split(voxel_um=VOXEL_UM, by="probability")(np.ones((5, 6, 7), np.float32)).max() == 1
    assert split(voxel_um=VOXEL_UM, by="probability")(np.zeros((5, 6, 7), np.float32)).max() == 0


PIPELINE = """
output: {name: cells}
steps:
  - split: {by: probability, above: 0.45, depth_um: 0.04, reach_um: 0.3}
  - label: {min_voxels: 5}
  - measure: [shape]
"""


@pytest.mark.parametrize("block", [(12, 40, 44), (5, 17, 44), (7, 13, 9)])
def test_a_run_gives_the_objects_of_the_whole_volume_at_every_time_point(
    tmp_path: Path, block: tuple[int, ...]
) -> None:
    film = np.stack([chances((12, 40, 44), seed, few=seed == 0) for seed in range(2)])
    cell = store(tmp_path / "cell.ome.zarr", film, axes="tzyx", frame_interval_s=1.0)
    done(main_job(cell, text=PIPELINE), Settings("none", block=block))
    labels = open_volume(cell / "labels" / "cells")
    size = labels.voxel_um
    stage = split(voxel_um=size, by="probability", above=0.45, depth_um=0.04, reach_um=0.3)
    for t, chance in enumerate(film):
        parted = stage(chance)
        assert parted.max() > ndimage.label(chance > 0.45, np.ones((3, 3, 3)))[1]
        expected = label(voxel_um=size, multilabel=True, min_voxels=5)(parted)
        np.testing.assert_array_equal(labels.read(Box.whole(chance.shape), t=t), expected)


def test_a_plane_is_parted_too(tmp_path: Path) -> None:
    chance = chances((40, 44), 2)
    cell = store(tmp_path / "cell.ome.zarr", chance, axes="yx")
    done(main_job(cell, text=PIPELINE), Settings("none", block=(11, 16)))
    parted = split(voxel_um=(0.1, 0.1), by="probability", above=0.45, depth_um=0.04, reach_um=0.3)(chance)
    expected = label(voxel_um=(0.1, 0.1), multilabel=True, min_voxels=5)(parted)
    np.testing.assert_array_equal(labels_of(cell / "labels" / "cells"), expected)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"min_separation_um": 0.4}, "min_separation_um belongs to by: distance or intensity"),
        ({"sigma_um": 0.1}, "sigma_um belongs to by: intensity"),
        ({"above": 1.0}, "above is 1.0, but must be a probability"),
        ({"above": True}, "above is True"),
        ({"depth_um": 0.3}, "depth_um 0.3 is not below reach_um 0.3"),
        ({"depth_um": 0}, "depth_um is 0, but must be a length in um above 0"),
        ({"reach_um": 300}, "reach_um 300 is 3000 voxels, farther than the ground is looked for"),
        ({"by": "distance", "above": 0.5}, "above belongs to by: probability"),
        ({"by": "intensity", "depth_um": 0.5}, "depth_um belongs to by: probability"),
        ({"by": "intensity"}, "split by intensity needs min_separation_um"),
    ],
)
def test_wrong_parameters_are_named(params: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidConfiguration, match=said):
        split(voxel_um=VOXEL_UM, **{"by": "probability", **params})  # type: ignore[arg-type]


def test_what_is_no_number_is_refused() -> None:
    chance = chances((6, 7, 8), 0)
    chance[2, 3, 4] = np.nan
    with pytest.raises(InvalidInput, match="split by probability met voxels that are NaN; replace them first"):
        split(voxel_um=VOXEL_UM, by="probability")(chance)


@pytest.mark.parametrize("before", ["", "  - gaussian: {sigma_um: 0.1}\n  - threshold: {value: 0.5}\n"])
def test_a_mask_or_an_image_is_no_probability(tmp_path: Path, before: str) -> None:
    cell = store(tmp_path / "cell.ome.zarr", voxels())
    text = PIPELINE.replace("  - split", f"{before}  - split")
    with pytest.raises(
        InvalidConfiguration, match="split by probability needs a probability, such as segment gives, but gets"
    ):
        main_job(cell, text=text)
