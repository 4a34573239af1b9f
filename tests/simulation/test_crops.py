"""Objects of the tile presets: what the papers say of their size, place and emitters holds for every one that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cristae.simulation.crops import Organelle, organelle, organelles, published
from cristae.simulation.presets import preset, presets
from cristae.simulation.shapes import Ball, Tube

NM = 1e-3
NAMES = sorted(presets("tiles"))
COMPAT = [name for name in NAMES if "compat" in preset("tiles", name)]


def drawn(name: str, count: int, draw: Any = organelle) -> Iterator[tuple[dict[str, Any], Organelle, float]]:
    """Objects of every batch of a preset in turn, and the middle of the crop."""
    facts = preset("tiles", name)
    middle = facts["side"] * facts["pixel_nm"] * NM / 2
    rng = np.random.default_rng([count, *name.encode()])
    for n in range(count):
        batch = dict(facts["batches"][n % len(facts["batches"])])
        yield batch, draw(facts, batch, middle, rng), middle


def check(name: str, count: int) -> None:
    facts = preset("tiles", name)
    seen = 0
    for batch, made, middle in drawn(name, count):
        shape, points = made.shape, made.emitters
        seen += 1
        low_z, high_z = batch["z_nm"][0] * NM, batch["z_nm"][1] * NM
        reach = batch["reach_nm"] * NM
        if isinstance(shape, Ball):
            assert facts["kind"] == "vesicle"
            radius = shape.radius_um / NM
            assert (
                radius == pytest.approx(round(radius))
                and batch["radius_nm"][0] <= round(radius) < batch["radius_nm"][1]
            )
            z, y, x = shape.centre_um
            assert low_z - 1e-9 <= z <= max(high_z - NM, shape.radius_um) + 1e-9
            assert max(abs(y - middle), abs(x - middle)) <= reach
            area = 4 * np.pi * shape.radius_um**2
        else:
            assert isinstance(shape, Tube) and shape.caps is facts["caps"]
            u = np.linspace(0, 1, 4001)
            line = shape.curve(u)
            steps = np.linalg.norm(np.diff(line, axis=0), axis=1)
            length, radius = steps.sum(), shape.radius_um / NM
            assert radius == pytest.approx(round(radius))
            assert batch["width_nm"][0] // 2 <= round(radius) <= (batch["width_nm"][1] - 1) // 2
            if facts["kind"] == "spline":
                assert length < batch["length_nm"] * NM
                assert np.abs(line[:, 1:] - middle).max() <= reach + 1e-3
            else:
                assert batch["length_nm"][0] * NM * (1 - 1e-5) <= length <= batch["length_nm"][1] * NM
                assert np.abs(line[:, 1:] - middle).max() + shape.radius_um <= reach + 1e-9
            assert line[:, 0].min() >= max(low_z, shape.radius_um) - 1e-9
            assert line[:, 0].max() <= max(high_z, shape.radius_um) + 1e-9
            first, second = shape.curve(u, nu=1), shape.curve(u, nu=2) if shape.curve.k > 1 else np.zeros((4001, 3))
            kappa = np.linalg.norm(np.cross(first, second), axis=1) / np.linalg.norm(first, axis=1) ** 3
            assert (kappa * shape.radius_um).max() < 1, "a tube folds onto itself"
            area = 2 * np.pi * shape.radius_um * length + (4 * np.pi * shape.radius_um**2 if shape.caps else 0)
        assert len(points) == pytest.approx(batch["density"] * area * 1e3, rel=0.02, abs=1)
        assert points[:, 0].min() >= -1e-9, "below the coverslip"
        away = shape.signed_distance(points[:: max(1, len(points) // 300)])
        assert np.abs(away).max() <= 1e-9, f"{name}: an emitter lies {np.abs(away).max():.3g} um from the membrane"
    assert seen == count


@pytest.mark.parametrize("name", NAMES)
def test_every_object_keeps_what_its_preset_says(name: str) -> None:
    check(name, 150 if "vesicle" in name else 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_thousand_objects_keep_what_their_preset_says(name: str) -> None:
    check(name, 1000)


@pytest.mark.parametrize("name", NAMES)
def test_draws_use_the_whole_of_their_ranges(name: str) -> None:
    """No range is silently narrower than the preset's: ends are reached within a tenth."""
    objects = [made.shape for _, made, _ in drawn(name, 300 if "vesicle" in name else 60)]
    facts = preset("tiles", name)
    key = "radius_nm" if facts["kind"] == "vesicle" else "width_nm"
    lows, highs = zip(*(batch[key] for batch in facts["batches"]), strict=True)
    sizes = np.array([s.radius_um / NM for s in objects]) * (1 if key == "radius_nm" else 2)  # type: ignore[attr-defined]
    room = max(highs) - min(lows)
    assert sizes.min() < min(lows) + 0.12 * room and sizes.max() > max(highs) - 0.12 * room
    highest = max(float(s.box_um[1][0]) for s in objects)
    assert highest > 0.9 * max(batch["z_nm"][1] for batch in facts["batches"]) * NM


@pytest.mark.parametrize("name", COMPAT)
def test_a_published_object_has_the_published_number_of_emitters(name: str) -> None:
    for batch, made, _ in drawn(name, 40, published):
        if isinstance(made.shape, Ball):
            r = round(made.shape.radius_um / NM)
            assert len(made.emitters) == int(4 * np.pi * r * r / 1000 * batch["density"])
            continue
        assert isinstance(made.shape, Tube)
        r = round(made.shape.radius_um / NM)
        each = int(2 * np.pi * r * batch["density"] / 1000)
        assert len(made.emitters) == pytest.approx(each * made.shape.length_um / NM, rel=0.02, abs=each)


def test_an_empty_published_tube_still_has_a_shape() -> None:
    thin = [made for _, made, _ in drawn("physeg-airy1-mito", 60, published) if made.shape.radius_um < 0.0395]  # type: ignore[attr-defined]
    assert thin and all(len(made.emitters) == 0 and made.shape.area_um2 > 0 for made in thin)


# --------------------------------------------------------------------------------------------------------- crossings


def crop(name: str, seed: int, **other: Any) -> tuple[Organelle, ...]:
    """All objects of a crop of the first batch, some of its facts changed."""
    facts = preset("tiles", name)
    batch = {**facts["batches"][0], **other}
    middle = facts["side"] * facts["pixel_nm"] * NM / 2
    return organelles(facts, batch, middle, np.random.default_rng(seed), organelle)


def cross(one: Organelle, other: Organelle) -> bool:
    """Whether two axes cross as seen from above: some piece of one has its ends on both sides of a piece of the other, and so has that."""
    a, b = (o.shape.curve(np.linspace(0, 1, 150))[:, 1:] for o in (one, other))  # type: ignore[attr-defined]

    def sides(line: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(pieces, points) on which side of each piece every point lies."""
        way, apart = np.diff(line, axis=0)[:, None], points[None] - line[:-1, None]
        return np.asarray(way[..., 0] * apart[..., 1] - way[..., 1] * apart[..., 0] > 0)

    first, second = sides(a, b), sides(b, a)
    return bool(((first[:, 1:] != first[:, :-1]) & (second[:, 1:] != second[:, :-1]).T).any())


@pytest.mark.parametrize("part", [0.0, 0.3, 0.7, 1.0])
def test_as_many_objects_as_asked_are_moved_across_another(part: float) -> None:
    batch = preset("tiles", "sam-mito-dense")["batches"][0]
    for seed in range(3):
        apart = crop("sam-mito-dense", seed, crossings=(0.0, 0.0))
        found = crop("sam-mito-dense", seed, crossings=(part, part))
        moved = [n for n, (a, b) in enumerate(zip(apart, found, strict=True)) if (a.emitters != b.emitters).any()]
        assert len(moved) == pytest.approx(part * len(found), abs=0.5 if part < 1 else 1)
        for n in moved:
            assert any(cross(found[n], other) for k, other in enumerate(found) if k != n)
            by = found[n].shape.box_um[0] - apart[n].shape.box_um[0]
            assert by[0] == pytest.approx(0, abs=1e-9)
            np.testing.assert_allclose(found[n].emitters, apart[n].emitters + by, atol=1e-9)
            low, high = found[n].shape.box_um
            assert max(abs(low[1:] - 5.12).max(), abs(high[1:] - 5.12).max()) <= batch["reach_nm"] * NM + 2e-4
            assert np.abs(found[n].shape.signed_distance(found[n].emitters[::50])).max() <= 1e-9


def test_the_part_that_is_moved_is_drawn_from_the_range_of_the_preset() -> None:
    low, high = preset("tiles", "sam-mito-dense")["batches"][0]["crossings"]
    parts = []
    for seed in range(24):
        apart, found = (crop("sam-mito-dense", seed, objects=(20, 21), **more) for more in ({"crossings": (0, 0)}, {}))
        parts.append(np.mean([(a.emitters != b.emitters).any() for a, b in zip(apart, found, strict=True)]))
    assert low - 0.026 <= min(parts) < low + 0.15 and high - 0.15 < max(parts) <= high + 0.026


def test_a_few_objects_far_apart_cross_because_it_is_asked() -> None:
    """Six short tubes in a crop hardly ever cross by chance."""
    asked = {"objects": (6, 7), "length_nm": (500, 900), "width_nm": (200, 220)}
    seen = []
    for more in ({}, {"crossings": (0.5, 0.5)}):
        found = [crop("sam-mito", seed, **asked, **more) for seed in range(10)]
        seen.append(np.mean([[any(cross(o, p) for p in c if p is not o) for o in c] for c in found]))
    assert seen[0] < 0.15 and seen[1] >= 0.5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "sam-mito-dense"])
def test_without_crossings_objects_are_drawn_one_after_the_other_and_nothing_else(name: str) -> None:
    facts = preset("tiles", name)
    batch, middle = facts["batches"][0], facts["side"] * facts["pixel_nm"] * NM / 2
    assert "crossings" not in batch
    rng, found = np.random.default_rng(3), crop(name, 3)
    for o in (organelle(facts, batch, middle, rng) for _ in range(int(rng.integers(*batch["objects"])))):
        np.testing.assert_array_equal(found[0].emitters, o.emitters)
        found = found[1:]
    assert not found
