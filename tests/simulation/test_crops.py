"""Objects of the tile presets: what the papers say of their size, place and emitters holds for every one that is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cristae.simulation.crops import Organelle, organelle, published
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
