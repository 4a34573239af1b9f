"""Tiles: the same for everyone who asks, as bright as asked, and with the truth of what is in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from cristae.blocks.stage import At
from cristae.errors import InvalidConfiguration
from cristae.grid import BlockGrid, Box
from cristae.simulation import tiles as module
from cristae.simulation.layers import imaged
from cristae.simulation.presets import presets
from cristae.simulation.tiles import (
    Tiles,
    brightness,
    clean_image,
    exposed,
    haze,
    labelled,
    masks,
    optics,
    rows,
    scene,
    tile,
    tile_truth,
)
from cristae.simulation.truth import RULES

NAMES = sorted(presets("tiles"))
CHEAP = Tiles("physeg-epi1-vesicle", 4)


def forget() -> None:
    for name in ("exposed", "labelled", "clean_image", "haze", "scene"):
        getattr(module, name).cache_clear()


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    forget()
    yield
    forget()


@pytest.mark.parametrize("name", NAMES)
def test_tiles_of_physeg_are_as_bright_as_the_paper_draws_them(name: str) -> None:
    drawn = np.array([brightness(Tiles(name), t) for t in range(300)])
    ratio = drawn[:, 0] / drawn[:, 1]
    low, high = presets("tiles")[name]["background"]
    assert drawn[:, 1].min() >= low and drawn[:, 1].max() < high
    if name.startswith("sam") or name.endswith("hazy"):
        assert ratio.min() >= 2 and ratio.max() < 6
        assert ratio.min() < 2.2 and ratio.max() > 5.8
    else:
        assert drawn[:, 0].min() >= 160 and drawn[:, 0].max() <= 219
        assert (drawn == np.rint(drawn)).all()
        assert ratio.min() >= 160 / 39 and ratio.max() <= 219 / 20


@pytest.mark.parametrize("name", ["physeg-epi1-vesicle", "physeg-airy1-vesicle", "physeg-epi2-vesicle"])
def test_the_measured_ratio_of_peak_to_background_is_the_one_drawn(name: str) -> None:
    """Counts against noise-free light is a straight line; its two ends are background and peak."""
    check_brightness(Tiles(name, 9), 12, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam-mito", "physeg-epi1-mito"])
def test_the_measured_ratio_is_the_one_drawn_for_crowded_tiles(name: str) -> None:
    check_brightness(Tiles(name, 9), 8, 4 if name == "sam-mito" else 2)


def check_brightness(tiles: Tiles, count: int, many: int) -> None:
    measured, asked = [], []
    for t in range(count):
        whole, side = exposed(tiles, t).astype(np.float64), 128
        light, counts = [], []
        for crop in range(many**2):
            clean = clean_image(tiles, t, crop).astype(np.float64)
            if clean.max() > 0:
                y, x = divmod(crop, many)
                light.append((clean / clean.max()).ravel())
                counts.append(whole[y * side : (y + 1) * side, x * side : (x + 1) * side].ravel())
        at, seen = np.concatenate(light), np.concatenate(counts)
        weight = 1 / np.sqrt(1 + 8 * at)  # brighter pixels are noisier
        slope, start = np.polyfit(at, seen, 1, w=weight)
        measured.append((slope + start) / start)
        asked.append(np.divide(*brightness(tiles, t)))
    assert np.mean(measured) == pytest.approx(np.mean(asked), rel=0.01)
    np.testing.assert_allclose(measured, asked, rtol=0.03)


@pytest.mark.parametrize("make", [tile, tile_truth])
def test_a_tile_is_the_same_whole_and_in_parts_in_any_order(make: object) -> None:
    stage = make(CHEAP)  # type: ignore[operator]
    shape = stage.output().shape
    grid = BlockGrid(shape, (75, 110))
    whole = {
        t: stage.apply(at=At(Box.whole(shape), (), BlockGrid(shape, shape), 0, t), answers={}).copy() for t in (0, 1, 5)
    }
    forget()
    order = [(t, n) for t in (5, 0, 1) for n in range(len(grid))]
    np.random.default_rng(0).shuffle(order)
    for t, n in order:
        box = grid.core(int(n))
        found = stage.apply(at=At(box, (), grid, int(n), int(t)), answers={})
        np.testing.assert_array_equal(found, whole[int(t)][box.slices])
    assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("name", ["epi1-mito-hazy", "epi1-vesicle-hazy"])
def test_haze_is_smooth_and_as_bright_as_the_preset_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = Tiles(name, 3)
    low, high = tiles.facts["haze"]["part"]
    lights = [haze(tiles, t, crop).astype(np.float64) for t in range(4) for crop in range(4)]
    for crop in range(4):
        own = clean_image(tiles, 0, crop).astype(np.float64)
        rough = [np.abs(np.diff(found, 2, axis=0)).max() / found.max() for found in (lights[crop], own)]
        assert rough[0] < 0.02 < 0.1 < rough[1]
    tops = [light.max() for light in lights]
    assert low <= min(tops) < max(tops) <= high
    bare = {k: v for k, v in tiles.facts.items() if k != "haze"}
    hazy = exposed(tiles, 0).astype(np.float64)
    monkeypatch.setattr(Tiles, "facts", property(lambda tiles: bare))
    exposed.cache_clear()
    peak, background = brightness(tiles, 0)
    added = np.mean([light.mean() for light in lights[:4]]) * (peak - background)
    assert (hazy - exposed(tiles, 0)).mean() == pytest.approx(added, rel=0.1)


def test_emitters_of_a_preset_that_blink_send_a_fifth_of_the_light_unevenly() -> None:
    tiles = Tiles("epi1-vesicle-hazy", 3)
    for crop in range(4):
        blinking = clean_image(tiles, 0, crop).sum(dtype=float)
        steady = imaged_still(tiles, crop).sum(dtype=float)
        assert blinking / steady == pytest.approx(0.2 * 10, rel=0.15)  # of 10 photons a frame while on


def imaged_still(tiles: Tiles, crop: int) -> np.ndarray:
    emitters = np.concatenate([o.emitters for o in scene(tiles, 0, crop)])
    return np.asarray(imaged(emitters, np.ones(len(emitters)), optics(tiles), 128)[0])


def test_another_seed_gives_other_tiles() -> None:
    assert not np.array_equal(exposed(CHEAP, 0), exposed(Tiles(CHEAP.name, 5), 0))
    assert (exposed(CHEAP, 0) == exposed(Tiles(CHEAP.name, 5), 0)).mean() < 0.2


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("physeg-epi1-mito", 1, 2), ("physeg-airy1-mito", 2, 2), ("physeg-epi1-vesicle", 1, 2),
        ("physeg-airy1-vesicle", 1, 2), ("sam-mito", 4, 16),
    ],
)  # fmt: skip
def test_a_crop_has_as_many_objects_as_the_papers(name: str, least: int, most: int) -> None:
    many = [len(scene(Tiles(name), t, crop)) for t in range(2 if name == "sam-mito" else 10) for crop in range(4)]
    assert least <= min(many) and max(many) <= most
    if name != "physeg-airy1-mito":
        assert min(many) < max(many)


@pytest.mark.parametrize("rule", RULES)
def test_labels_are_rows_of_the_table_and_cover_what_the_masks_do(rule: str) -> None:
    tiles = Tiles(CHEAP.name, 4, rule)
    for t in range(3):
        labels, table = labelled(tiles, t), rows(tiles, t)
        assert [row["label"] for row in table] == list(range(1, len(table) + 1))
        assert set(np.unique(labels)) - {0} <= {row["label"] for row in table}
        for crop in range(4):
            y, x = divmod(crop, 2)
            mine = labels[y * 128 : (y + 1) * 128, x * 128 : (x + 1) * 128]
            shown = masks(tiles, t, crop)
            union = np.any(shown, axis=0)
            np.testing.assert_array_equal(mine > 0, union)
            assert union.any() and set(np.unique(mine)) - {0} <= {r["label"] for r in table if r["crop"] == crop}


def test_emitters_mark_their_pixels_and_no_others() -> None:
    tiles = Tiles("physeg-epi1-mito", 2)
    for crop in range(4):
        points = np.concatenate([o.emitters for o in scene(tiles, 0, crop)])
        expected = np.zeros((128, 128), bool)
        expected[tuple(np.floor(points[:, 1:] / 0.08).astype(int).T)] = True
        np.testing.assert_array_equal(np.any(masks(tiles, 0, crop), axis=0), expected)


def test_a_solid_vesicle_is_a_disc_of_its_radius() -> None:
    tiles = Tiles("physeg-airy1-vesicle", 3, "solid")
    for t in range(4):
        for o, mask in zip(scene(tiles, t, 0), masks(tiles, t, 0), strict=True):
            y, x = ((np.mgrid[:128, :128] + 0.5) * 0.042) - np.array(o.shape.centre_um[1:])[:, None, None]  # type: ignore[attr-defined]
            radius = o.shape.radius_um  # type: ignore[attr-defined]
            away = np.hypot(y, x)
            assert mask[away < radius - 0.011].all() and not mask[away > radius].any()


def test_the_table_says_where_an_object_is_seen() -> None:
    tiles = Tiles("physeg-airy1-vesicle", 6)
    checked = 0
    for t in range(4):
        labels = labelled(tiles, t)
        for row in rows(tiles, t):
            alone = [r for r in rows(tiles, t) if r["crop"] == row["crop"]] == [row]
            if alone:
                at = (np.argwhere(labels == row["label"]).astype(float) + 0.5) * 0.042
                middle = (at.min(axis=0) + at.max(axis=0)) / 2
                np.testing.assert_allclose(middle, [row["middle_y_um"], row["middle_x_um"]], atol=0.045)
                size = (at.max(axis=0) - at.min(axis=0) + 0.042) / 2
                np.testing.assert_allclose(size, row["radius_um"], atol=0.05)
                checked += 1
    assert checked > 3


def test_a_published_tile_is_sharp_in_its_own_pixels_and_whole_counts() -> None:
    tiles = Tiles("physeg-epi1-vesicle", 2, compat=True)
    light = clean_image(tiles, 0, 0)
    assert light.max() == 255 and (light == np.rint(light)).all()
    assert Tiles("physeg-epi1-mito", 2, compat=True).pixel_um == pytest.approx(0.042)
    assert Tiles("physeg-epi1-mito", 2).pixel_um == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("sam-mitos",), "sam-mito"), (("cell-epi",), "simulate cell"), (("sam-mito", -1), "-1"),
        (("sam-mito", 1, "otso"), "otsu"), (("sam-mito", 1, "emitters", True), "sam-mito"),
        (("physeg-epi1-mito", 1, "solid", True), "solid"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_by_name(words: tuple[object, ...], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        Tiles(*words)  # type: ignore[arg-type]
