"""Familiarity: tiles of the training's own kind are called like it, at the rate the null says; others are not, and for the right reason."""

from __future__ import annotations

import json
import time
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, stats

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.inference.appearance import BANDS, DEPTHS, FEATURES, GROUPS, bands_um, features, names_of
from cristae.inference.card import Card, read_card, written
from cristae.inference.familiarity import _parts, _shrunk, compared, distance, holds_something, reference
from cristae.simulation.tiles import Tiles, exposed

VOXEL_UM = (0.08, 0.08)
STACK_UM = (0.3, 0.1, 0.1)
REFERENCE, HELD_OUT = 48, 48


@cache
def counts(name: str = "physeg-epi1-vesicle", many: int = REFERENCE + HELD_OUT) -> tuple[np.ndarray, ...]:
    """Simulated tiles, 256 x 256 counts."""
    return tuple(exposed(Tiles(name, 7), t).astype(np.float64) for t in range(many))


def normalised(tile: np.ndarray) -> np.ndarray:
    low, high = np.percentile(tile, (1, 99.8))
    return ((tile - low) / (high - low if high > low else 1.0)).astype(np.float32)


@cache
def trained() -> dict[str, object]:
    return reference([normalised(tile) for tile in counts()[:REFERENCE]], VOXEL_UM)


def vector(tile: np.ndarray, voxel_um: tuple[float, ...] = VOXEL_UM) -> np.ndarray:
    return features(normalised(tile), voxel_um)[1]


def held_out() -> tuple[np.ndarray, ...]:
    return counts()[REFERENCE:]


@cache
def stack(seed: int, step: int = 1) -> np.ndarray:
    """Blobs in noise, (16, 64, 64); of every `step`-th plane of a deeper one."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.normal(size=(16 * step, 64, 64)), (1.5, 2, 2))[::step]
    return rng.poisson(20 + 150 * np.clip(rough / rough.std(), 0, None) ** 1.5).astype(np.float64)


# ------------------------------------------------------------------------------------------------- like it


def test_tiles_of_the_same_kind_are_as_far_as_the_null_says() -> None:
    ranks = [distance(vector(tile), trained())[1] for tile in held_out()]
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
    assert np.mean(np.array(ranks) <= 0.05) <= 0.15


@pytest.mark.slow
def test_so_are_those_of_hazy_tiles() -> None:
    tiles = [normalised(tile) for tile in counts("epi1-mito-hazy", 150)]
    found = reference(tiles[:90], VOXEL_UM)
    ranks = [distance(features(tile, VOXEL_UM)[1], found)[1] for tile in tiles[90:]]
    assert stats.kstest(ranks, "uniform").pvalue > 0.01


def test_the_null_is_of_distances_from_the_others_alone() -> None:
    """A tile that took part in what it is compared with comes out too near: that would be no null."""
    own = [distance(vector(tile), trained())[0] for tile in counts()[:REFERENCE]]
    assert np.median(own) < 0.9
    null = trained()["null"]
    assert (
        isinstance(null, list)
        and len(null) == 101
        and null == sorted(null)
        and null[50] == pytest.approx(1.0, abs=0.01)
    )


def test_an_image_of_the_same_kind_is_called_like_in_one_sentence() -> None:
    found = compared([vector(tile) for tile in held_out()], trained())
    low, high = found.usual
    assert found.verdict == "like" and found.why == "" and low < found.number < high
    assert found.sentence == (
        f"distance {found.number:.1f} (training tiles: {low:.1f} to {high:.1f}): like what it was trained on"
    )
    assert found.tiles == len(found.distances) == HELD_OUT


def test_gain_and_offset_change_nothing() -> None:
    for tile in held_out()[:3]:
        np.testing.assert_allclose(vector(3.7 * tile + 1000), vector(tile), atol=2e-3)
        plain, moved = (features(t.astype(np.float32), VOXEL_UM)[1] for t in (tile, 5 * tile - 80))
        names = names_of(2)
        for name, a, b in zip(names, plain, moved, strict=True):
            if name not in ("background", "range"):
                assert a == pytest.approx(b, abs=2e-3), name


# ----------------------------------------------------------------------------------------------- unlike it


def blurred(tile: np.ndarray) -> np.ndarray:
    return ndimage.gaussian_filter(tile, 1.5)


def magnified(tile: np.ndarray) -> np.ndarray:
    """As if its pixels were said to be three times as large."""
    return ndimage.zoom(tile, 3, order=1)[:256, :256]


def shrunk(tile: np.ndarray) -> np.ndarray:
    """As if its pixels were said to be a third as large."""
    wide = np.block([[tile, tile[::-1], tile], [tile[:, ::-1], tile.T, tile], [tile, tile[::-1], tile]])
    return wide.reshape(256, 3, 256, 3).mean((1, 3))


def inverted(tile: np.ndarray) -> np.ndarray:
    return 255 - tile


def noise(tile: np.ndarray) -> np.ndarray:
    return np.random.default_rng(int(tile.sum())).poisson(30, tile.shape).astype(np.float64)


def blank(tile: np.ndarray) -> np.ndarray:
    return np.full(tile.shape, 100.0)


def saturated(tile: np.ndarray) -> np.ndarray:
    return np.minimum(tile, np.percentile(tile, 99))


def cut(tile: np.ndarray) -> np.ndarray:
    return np.maximum(tile - np.percentile(tile, 60), 0)


def striped(tile: np.ndarray) -> np.ndarray:
    """Rows in pairs, brighter and darker: lines along x."""
    return tile + 15 * (np.arange(256) % 4 < 2)[:, None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (magnified, "less of its power lies in fine details than of theirs (is the voxel size right?"),
        (shrunk, "is the voxel size right?"),
        (blurred, "was it filtered?"),
        (inverted, "is its contrast inverted?"),
        (noise, "it shows nothing but noise (is it the right channel"),
        (blank, "nearly all of its voxels have one value"),
        (saturated, "many of its voxels share the highest value (is it saturated?)"),
        (cut, "was a background cut off at 0?"),
        (striped, "its fine details run along x (are there stripes?)"),
        (lambda tile: np.ascontiguousarray(striped(tile).T), "its fine details run along y (are there stripes?)"),
    ],
)  # fmt: skip
def test_another_image_is_called_unlike_and_why(change, said: str) -> None:  # type: ignore[no-untyped-def]
    found = compared([vector(change(tile)) for tile in held_out()[:9]], trained())
    assert found.verdict == "unlike"
    assert found.number > 1.5 * max(trained()["null"])  # type: ignore[call-overload]
    assert found.p == pytest.approx(1 / (REFERENCE + 1))
    assert said in found.why
    assert found.sentence.endswith(f": unlike what it was trained on: {found.why}")


def test_what_the_normalisation_of_a_frame_did_is_seen() -> None:
    """A tile that is fainter than its frame differs in nothing but its levels."""
    found = compared([features(0.05 * normalised(tile), VOXEL_UM)[1] for tile in held_out()], trained())
    assert found.verdict == "unlike" and found.why == "once normalised it is fainter than they are"
    assert found.parts["levels"] > 0.9


def test_the_step_along_z_is_told_apart() -> None:
    tiles = [normalised(stack(seed)) for seed in range(60)]
    trained = reference(tiles[:40], STACK_UM)
    like = compared([features(tile, STACK_UM)[1] for tile in tiles[40:]], trained)
    other = compared([vector(stack(seed, 3), STACK_UM) for seed in range(100, 110)], trained)
    assert like.verdict == "like"
    assert other.verdict == "unlike" and "(is the step along z right?)" in other.why
    assert other.parts["depth"] > 0.5


# --------------------------------------------------------------------------------------------- the numbers


def test_a_wave_is_in_the_band_that_holds_its_frequency() -> None:
    voxel_um = (0.1, 0.1)
    edges = bands_um(voxel_um)
    assert edges[-1] == pytest.approx(5.0) and np.allclose(edges[2:] / edges[1:-1], np.sqrt(2))
    y, x = np.mgrid[:256, :256] * 0.1
    for frequency in (0.4, 0.8, 1.6, 4.2):
        for turn in (0.0, 0.7):
            wave = np.sin(2 * np.pi * frequency * (np.cos(turn) * x + np.sin(turn) * y))
            found = dict(zip(*features(wave.astype(np.float32), voxel_um), strict=True))
            band = int(np.searchsorted(edges, frequency))
            assert found[f"spectrum_{band}"] == max(found[f"spectrum_{n}"] for n in range(1, BANDS + 1))
            assert found[f"spectrum_{band}"] == pytest.approx(0.0, abs=0.05)


def test_the_spectrum_is_that_of_a_plain_transform() -> None:
    """All frequencies, one by one, of a tile whose sides and voxels differ; the half that rfft leaves out included."""
    rng = np.random.default_rng(3)
    tile, voxel_um = ndimage.gaussian_filter(rng.normal(size=(40, 65)), 0.8), (0.12, 0.1)
    window = [np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2 for n in tile.shape]
    power = np.abs(np.fft.fft2((tile - tile.mean()) * np.outer(*window))) ** 2
    edges, by_band = bands_um(voxel_um), np.zeros(BANDS)
    for fy, row in zip(np.fft.fftfreq(40, 0.12), power, strict=True):
        for fx, one in zip(np.fft.fftfreq(65, 0.1), row, strict=True):
            for band in range(BANDS):
                by_band[band] += one * (edges[band] < np.hypot(fx, fy) <= edges[band + 1] * (1 + 1e-9))
    found = dict(zip(*features(tile.astype(np.float32), voxel_um), strict=True))
    own = [found[f"spectrum_{n}"] for n in range(1, BANDS + 1)]
    np.testing.assert_allclose(own, np.log10(by_band / by_band[1:].sum() + 1e-6), atol=1e-3)


def test_noise_is_measured() -> None:
    rng = np.random.default_rng(5)
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None] * np.ones((256, 1), np.float32)
    for sigma in (0.01, 0.1):
        found = dict(zip(*features(ramp + rng.normal(0, sigma, ramp.shape).astype(np.float32), VOXEL_UM), strict=True))
        # Of the range of the whole tile, that of the ramp from its 10th to its 99.5th percentile where there is little noise.
        assert 10 ** found["noise"] == pytest.approx(sigma / 10 ** found["range"], rel=0.03)


def test_shrinkage_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(1)
    for n, k in ((15, 25), (200, 25)):
        x = rng.normal(size=(n, k)) @ rng.normal(size=(k, k))
        x = (x - x.mean(0)) / x.std(0)
        sample = sum(np.outer(row, row) for row in x) / n
        m = np.trace(sample) / k
        d2 = np.sum((sample - m * np.eye(k)) ** 2) / k
        b2 = min(d2, sum(np.sum((np.outer(row, row) - sample) ** 2) / k for row in x) / n**2)
        np.testing.assert_allclose(_shrunk(x), b2 / d2 * m * np.eye(k) + (d2 - b2) / d2 * sample, atol=1e-12)
        assert np.linalg.eigvalsh(_shrunk(x)).min() > 0


def test_parts_of_a_distance_are_shares_and_each_its_own_features() -> None:
    correlation = np.array([[1, 0.9, 0], [0.9, 1, 0], [0, 0, 1.0]])
    np.testing.assert_allclose(_parts(np.array([0.0, 0.0, 3.0]), correlation), [0, 0, 1], atol=1e-12)
    against = np.array([1.0, -1.0, 1.0])  # against what the first two do together
    assert _parts(against, correlation).sum() == pytest.approx(1)
    np.testing.assert_allclose(_parts(against, correlation), np.array([10, 10, 1]) / 21, atol=1e-12)
    np.testing.assert_allclose(_parts(against, np.eye(3)), [1 / 3] * 3)


def test_a_distance_is_that_of_mahalanobis() -> None:
    found = trained()
    mean, std, correlation = (np.array(found[name]) for name in ("mean", "std", "correlation"))
    row = vector(held_out()[0])
    inverse = np.linalg.inv(correlation * np.outer(std, std))
    expected = np.sqrt((row - mean) @ inverse @ (row - mean)) / found["unit"]  # type: ignore[operator]
    assert distance(row, found)[0] == pytest.approx(expected, rel=1e-6)


def test_empty_tiles_of_an_image_do_not_count_unless_all_are_alike() -> None:
    full = [normalised(tile) for tile in held_out()[:6]]
    empty = [tile * 0.02 for tile in full]
    rows = [features(tile, VOXEL_UM)[1] for tile in (*full, *empty)]
    assert holds_something(rows, names_of(2)).tolist() == [True] * 6 + [False] * 6
    assert holds_something(rows[6:], names_of(2)).all()
    # One bright speck of dirt is not what the others are measured by.
    dirty = [*rows[:6], *rows[:6], features(full[0] * 100, VOXEL_UM)[1]]
    assert holds_something(dirty, names_of(2)).all()


def test_every_feature_has_a_group_and_words_and_is_finite_whatever_is_shown() -> None:
    assert {group for group, _, _ in FEATURES.values()} == set(GROUPS)
    assert all(lower and higher for _, lower, higher in FEATURES.values())
    assert len(names_of(3)) == len(names_of(2)) + 1 + DEPTHS
    rng = np.random.default_rng(0)
    spot = np.zeros((32, 33))
    spot[5, 7] = 1
    for plane in (
        np.zeros((32, 32)),
        np.ones((40, 32)) * 1e6,
        spot,
        rng.random((33, 47)),
        np.arange(1024.0).reshape(32, 32),
    ):
        for tile in (plane, np.stack([plane] * 8), np.stack([plane * n for n in range(9)])):
            names, found = features(tile, STACK_UM[-tile.ndim :])
            assert names == names_of(tile.ndim) and found.dtype == np.float64
            assert np.isfinite(found).all(), dict(zip(names, found, strict=True))


# --------------------------------------------------------------------------------------------- on the card


def test_a_reference_travels_on_a_card(tmp_path: Path) -> None:
    card = Card("unet", {}, 2, VOXEL_UM, ("mito",), (256, 256), (8, 8), training={"familiarity": trained()})
    written(tmp_path / "m.safetensors", card, {"w": np.zeros(1, np.float32)})
    back = read_card(tmp_path / "m.safetensors")[0].training["familiarity"]
    assert back == trained() and back["tile"] == [256, 256]
    assert len(json.dumps(back)) < 16_000
    row = vector(held_out()[0])
    assert distance(row, back) == distance(row, trained())


def test_what_cannot_be_told_is_one_sentence() -> None:
    tiles = [normalised(tile) for tile in held_out()[:14]]
    with pytest.raises(InvalidConfiguration, match="11 of 13 tiles hold more than one value, and a reference wants 12"):
        reference([*tiles[:11], tiles[0] * 0, tiles[0] * 0 + 1], VOXEL_UM)
    with pytest.raises(InvalidInput, match=r"20 x 40 voxels .* takes 32 x 32; give a larger image"):
        features(tiles[0][:20, :40], VOXEL_UM)
    with pytest.raises(InvalidInput, match=r"4 x 64 x 64 voxels .* takes 8 x 32 x 32"):
        features(stack(0)[:4], STACK_UM)
    hole = tiles[0].copy()
    hole[3, 4] = np.nan
    with pytest.raises(InvalidInput, match="not numbers"):
        features(hole, VOXEL_UM)
    with pytest.raises(InvalidInput, match="not numbers"):
        reference([*tiles, hole], VOXEL_UM)
    row = vector(held_out()[0])
    with pytest.raises(InvalidInput, match="is of version 0, and this cristae compares with version 1"):
        distance(row, {**trained(), "version": 0})
    for damage in ({"mean": [1.0]}, {"names": ["a"]}, {"null": []}, {"unit": "x"}, {"correlation": None}):
        with pytest.raises(InvalidInput, match="damaged; train it again"):
            compared([row], {**trained(), **damage})


def test_tiles_without_a_spread_in_some_feature_do_not_make_it_matter() -> None:
    """Normalised by its own percentiles each tile has the same levels, within what a network minds."""
    std = dict(zip(trained()["names"], trained()["std"], strict=True))  # type: ignore[arg-type, call-overload]
    assert std["background"] == 0.15
    found = compared([features(0.8 * normalised(tile) + 0.05, VOXEL_UM)[1] for tile in held_out()], trained())
    assert found.verdict == "like"


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "seconds"), [((256, 256), 0.005), ((32, 128, 128), 0.05)])
def test_a_tile_takes_milliseconds(shape: tuple[int, ...], seconds: float) -> None:
    tile = np.random.default_rng(0).random(shape, np.float32)
    once = partial(features, tile, STACK_UM[-len(shape) :])
    once()
    taken = []
    for _ in range(10):
        start = time.process_time()
        once()
        taken.append(time.process_time() - start)
    assert min(taken) < seconds
