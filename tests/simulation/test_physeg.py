"""The published simulator, made again with its defects: its counts, its masks and its images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cristae.simulation import physeg
from cristae.simulation.crops import published
from cristae.simulation.presets import preset
from cristae.simulation.shapes import Tube

FOLDERS = {  # pixel and half field of each folder, as its README gives them
    "mito_epi": (42, 1344, False),
    "mito_airy": (42, 1344, True),
    "vesicle_epi": (80, 2560, False),
    "vesicle_airy": (42, 1344, True),
}


def shipped(folder: Path) -> dict[str, np.ndarray]:
    """Emitters (z, y, x) of every sample that has an image and a mask."""
    with np.load(folder / "emitters.npz") as samples:
        return {name: samples[name][:, ::-1] for name in samples.files if (folder / f"{name}_gt.png").exists()}


@pytest.fixture(params=FOLDERS)
def sample(request: pytest.FixtureRequest, shared_data: Path) -> tuple[str, Path]:
    return request.param, shared_data / "physeg-emitters" / request.param


# ---------------------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("radius", "emitters"),
    [(55, 152), (99, 492), (137, 943), (149, 1115), (154, 1192), (191, 1833), (207, 2153), (228, 2613)],
)
def test_a_vesicle_has_as_many_emitters_as_the_published_one(radius: int, emitters: int) -> None:
    assert physeg.emitters_on_vesicle(radius, 4) == emitters
    batch = {"radius_nm": [radius, radius + 1], "z_nm": [600, 601], "reach_nm": 100, "density": 4}
    made = published(preset("tiles", "physeg-epi1-vesicle"), batch, 5.12, np.random.default_rng(0))
    assert len(made.emitters) == emitters


def ring_tube(width: int, density: int) -> tuple[Tube, int]:
    """A published tube of this width, and how many emitters it has."""
    facts = preset("tiles", "physeg-airy1-mito")
    batch = {**facts["batches"][0], "width_nm": [width, width + 1], "density": density}
    made = published(facts, batch, 2.688, np.random.default_rng(width))
    assert isinstance(made.shape, Tube)
    return made.shape, len(made.emitters)


def test_a_tube_of_density_2_has_one_emitter_a_nanometre_whatever_its_width() -> None:
    assert {physeg.emitters_on_ring(width, 2) for width in range(200, 300)} == {1}
    tube, emitters = ring_tube(252, 2)
    assert emitters == pytest.approx(1000 * tube.length_um, abs=2)
    assert emitters / (1e3 * 2 * np.pi * 0.126 * tube.length_um) == pytest.approx(1.26, abs=0.01)


@pytest.mark.parametrize(("width", "each"), [(20, 0), (50, 0), (79, 0), (80, 1), (299, 3)])
def test_a_tube_of_density_4_is_counted_down_to_whole_emitters_a_nanometre(width: int, each: int) -> None:
    assert physeg.emitters_on_ring(width, 4) == each
    tube, emitters = ring_tube(width, 4)
    assert emitters == pytest.approx(each * 1000 * tube.length_um, abs=2 * each)


def test_rings_lie_on_the_tube_within_two_degrees_of_its_cross_section() -> None:
    facts = preset("tiles", "physeg-airy1-mito")
    batch = {**facts["batches"][0], "width_nm": [280, 281]}
    made = published(facts, batch, 2.688, np.random.default_rng(3))
    assert isinstance(made.shape, Tube)
    away = made.shape.signed_distance(made.emitters)
    assert np.abs(away).max() <= 0.14 * np.sin(np.radians(2)) + 1e-9
    assert np.abs(away).max() > 1e-6, "tilted a little they must be"


@pytest.mark.parametrize("folder", ["vesicle_epi", "vesicle_airy"])
def test_every_shipped_vesicle_has_the_counted_emitters(folder: str, shared_data: Path) -> None:
    """Emitters come object by object: the first twenty of those left tell the sphere, and all that follow on it are one vesicle."""
    found = 0
    samples = np.load(shared_data / "physeg-emitters" / folder / "emitters.npz")
    for points in (samples[name] for name in samples.files):
        left = points.astype(np.float64) * 1e3
        while len(left):
            some = left[:20]
            fit = np.linalg.lstsq(np.column_stack([2 * some, np.ones(20)]), (some**2).sum(axis=1), rcond=None)[0]
            radius = np.sqrt(fit[3] + fit[:3] @ fit[:3])
            on = np.abs(np.linalg.norm(left - fit[:3], axis=1) - radius) < 0.05
            many = len(left) if on.all() else int(np.argmin(on))
            assert abs(radius - round(radius)) < 0.05, "the published radii are whole nanometres"
            assert many in {physeg.emitters_on_vesicle(round(radius), density) for density in (4, 8)}
            left, found = left[many:], found + 1
    assert found >= 16


def test_a_third_of_a_vesicles_sites_stay_empty() -> None:
    rng, count = np.random.default_rng(1), 152
    distinct = np.array([len(np.unique(physeg.vesicle_sites(count, rng))) for _ in range(2000)])
    assert abs(distinct.mean() - 0.6333 * count) <= 4 * distinct.std() / len(distinct) ** 0.5 + 0.00005 * count


def test_sites_lie_on_a_ball_and_evenly_along_its_axis() -> None:
    sites = physeg.spiral(0.2, 500)
    np.testing.assert_allclose(np.linalg.norm(sites, axis=1), 0.2, rtol=1e-12)
    np.testing.assert_allclose(np.sort(sites[:, 0]) / 0.2, -1 + 2 * (np.arange(500) + 0.5) / 500, atol=1e-12)


def test_five_of_six_emitters_stay_dark_and_every_image_has_the_same_brightness() -> None:
    light = physeg.brightness(40_000)
    assert (light > 0).mean() == pytest.approx(0.158, abs=0.006)
    assert light.mean() == pytest.approx(1.0, abs=4 * light.std() / 200)
    np.testing.assert_array_equal(physeg.brightness(300), light[:300])


# ------------------------------------------------------------------------------------------------ masks and images


def test_masks_are_those_published_to_the_pixel(sample: tuple[str, Path]) -> None:
    name, folder = sample
    pixel, half, _ = FOLDERS[name]
    emitters = shipped(folder)
    assert len(emitters) >= 10
    for number, points in emitters.items():
        truth = np.asarray(Image.open(folder / f"{number}_gt.png"))[..., 0] > 0
        assert (physeg.mask(points.astype(np.float64), pixel, half) != truth).sum() == 0, f"{name} {number}"


def test_an_emitter_beyond_the_upper_or_left_edge_comes_in_on_the_other_side() -> None:
    corner = 2 * 1.344
    found = physeg.mask(np.array([[0.5, -corner - 0.05, 0.0]]), 42, 1344)
    assert np.argwhere(found).tolist() == [[126, 64]]


def check_image(name: str, folder: Path, number: str, points: np.ndarray) -> None:
    pixel, _, squared = FOLDERS[name]
    basis = physeg.BASIS_UM[name.replace("_", "-")]
    made = physeg.image(points.astype(np.float64), pixel * 1e-3, basis, squared=squared)
    truth = tifffile.imread(folder / f"{number}_image.tif")
    assert made.shape == truth.shape == (128, 128)
    assert np.abs(made.astype(int) - truth.astype(int)).max() <= 1, f"{name} {number}"
    assert np.corrcoef(made.ravel(), truth.ravel())[0, 1] >= 0.995, f"{name} {number}"


def test_images_are_those_published_to_one_count(sample: tuple[str, Path]) -> None:
    name, folder = sample
    emitters = shipped(folder)
    for number in sorted(emitters, key=lambda n: len(emitters[n]) or 10**9)[:1]:
        check_image(name, folder, number, emitters[number])


@pytest.mark.slow
def test_all_images_are_those_published_to_one_count(sample: tuple[str, Path]) -> None:
    name, folder = sample
    for number, points in shipped(folder).items():
        if len(points):
            check_image(name, folder, number, points)
