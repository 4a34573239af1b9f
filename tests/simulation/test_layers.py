"""The light of many emitters at once against the light of each, summed pixel by pixel from the integral of its PSF."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar
from scipy.special import j0

from cristae.optics.microscope import Microscope, microscope
from cristae.optics.psf import focus_um, profile
from cristae.simulation import layers_kernel
from cristae.simulation.layers import fold_plain, imaged, spread_plain
from cristae.simulation.transfer import SPACING_UM, TAPER, Transfer, framed, transfer

WATER = Microscope(na=1.2, emission_um=0.61, n_sample=1.33, n_immersion=1.33)
OIL = Microscope(na=1.4, emission_um=0.61, n_sample=1.33, n_immersion=1.515)
SQUARE = Microscope(na=1.4, emission_um=0.61, n_sample=1.33, n_immersion=1.515, modality="airyscan-square")
CONFOCAL = microscope("spinning-disk")


# ------------------------------------------------------------------------------------------- one emitter, by integrals


def scalar(scope: Microscope, radius: np.ndarray, stage: float, depth: float) -> np.ndarray:
    """Gibson and Lanni's PSF of the domain handbook, everything as designed but the sample; over a plane it adds up to 1."""
    edge = min(1.0, scope.n_sample / scope.na)
    low = np.sqrt(scope.n_sample**2 - (scope.na * edge) ** 2) if edge == 1 else 0.0
    x, w = np.polynomial.legendre.leggauss(160)
    s = low + 0.5 * (scope.n_sample - low) * (x + 1)  # the substitution of the handbook: rho d rho = -s ds / NA^2
    weight = 0.5 * (scope.n_sample - low) * w * s / scope.na**2
    rho = np.sqrt(np.maximum(scope.n_sample**2 - s**2, 0)) / scope.na
    k = 2 * np.pi / scope.emission_um
    path = depth * s + stage * np.sqrt(scope.n_immersion**2 - (scope.na * rho) ** 2)
    field = j0(k * scope.na * np.outer(radius, rho)) @ (weight * np.exp(1j * k * path))
    return np.abs(field) ** 2 * (k * scope.na) ** 2 / (2 * np.pi * 0.5 * edge**2)


@lru_cache(maxsize=256)
def sharpest(scope: Microscope, depth: float) -> float:
    """The stage at which a point at this depth is brightest."""
    if scope.matched:
        return -depth
    near = -depth * scope.n_immersion / scope.n_sample
    tries = np.linspace(near - 0.2 * abs(near) - 0.4, near + 0.2 * abs(near) + 0.4, 81)
    best = tries[np.argmax([scalar(scope, np.zeros(1), z, depth)[0] for z in tries])]
    found = minimize_scalar(
        lambda z: -scalar(scope, np.zeros(1), z, depth)[0], bounds=(best - 0.05, best + 0.05), method="bounded"
    )
    return float(found.x)


@lru_cache(maxsize=4096)
def line_of(scope: Microscope, plane: float, depth: float, reach: float) -> CubicSpline:
    """Light per square micrometre at each distance, of a point at `depth` in the plane that is in focus at `plane`."""
    radius = np.linspace(0, 1.5 * reach, 600)
    if scope.modality == "confocal":
        stage = focus_um(scope, 0.0) - (plane - depth)  # its indices match: only the distance from focus counts
        fine = np.arange(int(1.5 * reach / 0.01)) * 0.01
        return CubicSpline(fine, profile(scope, fine, np.array([stage]), 0.0)[0])
    lit = scalar(scope, radius, sharpest(scope, plane), depth)
    if scope.modality == "airyscan-square":
        wide = np.linspace(0, 8, 8001)
        best = scalar(scope, wide, sharpest(scope, depth), depth) ** 2
        lit = lit**2 / np.trapezoid(2 * np.pi * wide * best, wide)
    return CubicSpline(radius, lit)


def direct(
    scope: Microscope,
    points: np.ndarray,
    light: np.ndarray,
    planes: list[float],
    pixels: int,
    pixel: float,
    reach: float,
) -> np.ndarray:
    """Every emitter in every plane, integrated over every pixel."""
    x, w = np.polynomial.legendre.leggauss(4)
    at = ((np.arange(pixels) + 0.5)[:, None] + 0.5 * x).ravel() * pixel
    out = np.zeros((len(planes), pixels, pixels))
    for p, plane in enumerate(planes):
        for (z, y, x_um), photons in zip(points, light, strict=True):
            apart = np.hypot(at[:, None] - y, at[None] - x_um)
            # Where the indices match, only the distance from focus counts.
            line = (
                line_of(scope, plane - float(z), 0.0, reach)
                if scope.matched
                else line_of(scope, plane, float(z), reach)
            )
            seen = np.where(apart < 1.45 * reach, line(np.minimum(apart, 1.45 * reach)), 0)
            cells = seen.reshape(pixels, 4, pixels, 4)
            out[p] += photons * np.einsum("iajb,a,b->ij", cells, 0.5 * w, 0.5 * w) * pixel**2
    return out


def optics(
    scope: Microscope, pixels: int, pixel: float, planes: list[float], low: float, high: float, reach: float
) -> Transfer:
    frame = framed(scope, pixels, pixel)
    return transfer(scope, frame, tuple(planes), (low, high), reach_um=reach, deep_um=20.0)


def cloud(count: int, low: float, high: float, side: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.uniform(low, high, count), rng.uniform(0.2, 0.8, (count, 2)) * side])
    return points, rng.uniform(50, 150, count)


CASES = {
    "water": (WATER, 0.1, [0.4, 1.0, 1.6], 0.0, 2.0, 4.0),
    "oil": (OIL, 0.08, [0.3, 1.3], 0.0, 2.0, 4.0),
    "oil, deep": (OIL, 0.08, [6.0, 7.0], 5.5, 7.5, 4.0),
    "square": (SQUARE, 0.042, [0.5, 1.0], 0.0, 1.5, 1.6),
    "confocal": (CONFOCAL, 0.108, [0.5, 1.25], 0.0, 2.0, 1.8),
}


@pytest.mark.parametrize("case", CASES)
def test_the_light_of_many_is_the_sum_of_the_light_of_each(case: str) -> None:
    scope, pixel, planes, low, high, reach = CASES[case]
    pixels = 32
    points, light = cloud(5 if case == "square" else 12, low, high, pixels * pixel)
    frame = pixels + int(np.ceil(reach / pixel)) + 1
    through = optics(scope, frame, pixel, planes, low, high, reach)
    made = imaged(points, light, through, pixels)
    expected = direct(scope, points, light, planes, pixels, pixel, reach)
    assert made.shape == expected.shape and made.dtype == np.float32
    assert np.abs(made - expected).max() <= 0.01 * expected.max()


def test_the_light_is_right_too_where_depth_blurs_and_planes_are_many() -> None:
    """From a certain number of planes on, PSFs are computed for few depths only."""
    planes = [0.1 + 0.2 * n for n in range(40)]
    pixels, pixel, reach = 32, 0.1, 3.2
    points, light = cloud(12, 0.2, 7.8, pixels * pixel, seed=2)
    frame = pixels + int(np.ceil(reach / pixel)) + 1
    scope = microscope("epi1")
    through = optics(scope, frame, pixel, planes, 0.0, 8.0, reach)
    made = imaged(points, light, through, pixels)
    some = [0, 9, 20, 33, 39]
    expected = direct(scope, points, light, [planes[n] for n in some], pixels, pixel, reach)
    assert np.abs(made[some] - expected).max() <= 0.01 * expected.max()


# --------------------------------------------------------------------------------------------- energy, place, linearity


ONE = [
    ("water", WATER, 0.1, 0.7, 3.2),
    ("oil", OIL, 0.08, 0.9, 3.2),
    ("square", SQUARE, 0.042, 0.6, 1.6),
    ("confocal", CONFOCAL, 0.108, 0.5, 1.8),
]


def alone(
    scope: Microscope, pixel: float, depth: float, reach: float, y: float = 0.0, x: float = 0.0
) -> tuple[np.ndarray, Transfer]:
    """The image of one emitter of 1000 photons in focus, and so many pixels from the middle of a frame that holds all its light."""
    pixels = 2 * int(np.ceil(reach / pixel)) + 8
    through = optics(scope, pixels, pixel, [depth], depth - 0.05, depth + 0.05, reach)
    middle = pixels * pixel / 2
    at = np.array([[depth, middle + y * pixel, middle + x * pixel]])
    return imaged(at, np.array([1000.0]), through, pixels)[0].astype(np.float64), through


@pytest.mark.parametrize(("name", "scope", "pixel", "depth", "reach"), ONE)
def test_an_image_holds_the_light_of_the_psf_inside_its_reach(
    name: str, scope: Microscope, pixel: float, depth: float, reach: float
) -> None:
    image, through = alone(scope, pixel, depth, reach)
    radius = np.linspace(0, reach, 8001)
    line = line_of(scope, 0.0 if scope.matched else depth, 0.0 if scope.matched else depth, reach)(radius)
    end = 0.5 * (1 + np.cos(np.pi * np.clip((radius / reach - TAPER) / (1 - TAPER), 0, 1)))
    inside = np.trapezoid(2 * np.pi * radius * line * end, radius)
    assert image.sum() / 1000 == pytest.approx(inside, abs=1e-3)
    assert 0.8 < inside < 1.0001
    if scope.matched:  # what is said to be lost is for the coverslip
        assert 1 - through.lost == pytest.approx(inside, abs=1e-3)


@pytest.mark.parametrize(("name", "scope", "pixel", "depth", "reach"), ONE)
@pytest.mark.parametrize(("y", "x"), [(0.0, 0.0), (0.31, -0.47), (-1.72, 2.09)])
def test_an_emitter_is_seen_where_it_is(
    name: str, scope: Microscope, pixel: float, depth: float, reach: float, y: float, x: float
) -> None:
    image, _ = alone(scope, pixel, depth, reach, y, x)
    centres = np.arange(len(image)) + 0.5 - len(image) / 2
    assert abs((image.sum(axis=1) * centres).sum() / image.sum() - y) <= 0.01
    assert abs((image.sum(axis=0) * centres).sum() / image.sum() - x) <= 0.01


def test_twice_the_photons_are_twice_the_light_and_images_add_up() -> None:
    through = optics(WATER, 96, 0.1, [0.5, 1.5], 0.0, 2.0, 3.2)
    points, light = cloud(400, 0.0, 2.0, 4.8)
    whole = imaged(points, light, through, 48)
    peak = whole.max()
    np.testing.assert_allclose(imaged(points, 2 * light, through, 48), 2 * whole, atol=2e-5 * peak)
    parts = imaged(points[:150], light[:150], through, 48) + imaged(points[150:], light[150:], through, 48)
    np.testing.assert_allclose(parts, whole, atol=2e-5 * peak)


def test_the_order_of_emitters_does_not_matter() -> None:
    through = optics(OIL, 96, 0.08, [0.5], 0.0, 2.0, 3.2)
    points, light = cloud(1000, 0.0, 2.0, 4.0)
    order = np.random.default_rng(9).permutation(1000)
    one, other = imaged(points, light, through, 48), imaged(points[order], light[order], through, 48)
    np.testing.assert_allclose(one, other, atol=1e-5 * one.max())


def test_emitters_beside_the_picture_shine_into_it_from_their_side_only() -> None:
    """Wanted are 40 pixels of a frame of 80: light from outside comes in on its own side, and goes not round to the other."""
    through = optics(WATER, 80, 0.1, [0.5], 0.0, 1.0, 3.2)
    for outside, inside in ((-0.3, 0), (4.3, 39)):
        points = np.array([[0.5, outside, 2.0]])
        made = imaged(points, np.array([1000.0]), through, 40)[0]
        expected = direct(WATER, points, np.array([1000.0]), [0.5], 40, 0.1, 3.2)[0]
        assert np.abs(made - expected).max() <= 0.01 * expected.max() + 1e-3
        assert made[inside, 20] > 0.5 * made.max() and abs(made[39 - inside, 20]) < 1e-3 * made.max() + 0.02


@pytest.mark.parametrize("scope", [WATER, SQUARE])
def test_every_bin_holds_the_spectrum_of_the_psf_at_its_own_frequency(scope: Microscope) -> None:
    through = optics(scope, 48, 0.08, [1.0], 0.9, 1.1, 1.5)
    frame, layer = through.frame, 2
    stage = focus_um(scope, 1.0)
    depth = 0.0 if scope.matched else through.first_um + SPACING_UM * layer
    if scope.matched:
        stage = focus_um(scope, 0.0) - (1.0 - through.first_um - SPACING_UM * layer)
    radius = np.arange(3001) * 0.0005
    taper = 0.5 * (1 + np.cos(np.pi * np.clip((radius / 1.5 - TAPER) / (1 - TAPER), 0, 1)))
    lit = profile(scope, radius, np.array([stage]), depth)[0] * taper * 2 * np.pi * radius
    y = np.fft.fftfreq(frame.samples, frame.pixel_um / frame.fine)
    y = np.concatenate([y[: frame.kept + 1], y[-frame.kept :]])[:, None]
    x = np.fft.rfftfreq(frame.samples, frame.pixel_um / frame.fine)[: frame.kept + 1]
    apart = np.hypot(y, x)
    line = np.array([np.trapezoid(lit * j0(2 * np.pi * f * radius), radius) for f in np.linspace(0, apart.max(), 2000)])
    wanted = CubicSpline(np.linspace(0, apart.max(), 2000), line)(apart)
    pixel, grid = (np.sinc(y * w) * np.sinc(x * w) for w in (frame.pixel_um, frame.pixel_um / frame.fine))
    wanted = np.where(apart <= scope.cutoff, wanted * pixel / grid**4, 0)
    found = through.table[through.low[0, layer]].reshape(frame.bins)
    assert found.shape == wanted.shape and np.abs(found - wanted).max() < 2e-5 * wanted.max()
    assert (found[apart > scope.cutoff] == 0).all() and found[1, 2] != found[2, 3]


def test_no_emitters_no_light() -> None:
    through = optics(WATER, 64, 0.1, [0.5], 0.0, 1.0, 3.0)
    assert (imaged(np.empty((0, 3)), np.empty(0), through, 32) == 0).all()


# ------------------------------------------------------------------------------------------------------------- twins


@pytest.mark.kernel
def test_compiled_spreading_is_the_plain_one() -> None:
    rng = np.random.default_rng(1)
    at, light, part = rng.uniform(-5, 40, (300, 2)), rng.uniform(0, 3, 300), rng.uniform(-1, 2, 300)
    one, other = np.zeros((4, 32, 32), np.float32), np.zeros((4, 32, 32), np.float32)
    for home in (4, 7):
        spread_plain(one, home, at, light, part)
        layers_kernel.spread(other, home, at, light, part)
    np.testing.assert_allclose(one, other, atol=1e-5 * one.max())
    assert one.sum() == pytest.approx(2 * light.sum(), rel=1e-5)


@pytest.mark.kernel
@pytest.mark.parametrize("planes", [2, 40])
def test_compiled_folding_is_the_plain_one(planes: int) -> None:
    through = optics(OIL, 16, 0.3, [0.1 + 0.2 * n for n in range(planes)], 0.0, 6.0, 2.0)
    rng = np.random.default_rng(2)
    shape = through.frame.bins
    one = np.zeros((planes, *shape), np.complex64)
    other = one.copy()
    for line in range(through.layers):
        spectrum = (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)
        fold_plain(one, spectrum, line, through)
        layers_kernel.fold(other, spectrum, line, through)
    assert np.abs(one).max() > 0
    np.testing.assert_allclose(other, one, atol=1e-5 * np.abs(one).max())


def test_layers_are_no_further_apart_than_the_optics_assume() -> None:
    through = optics(WATER, 32, 0.1, [0.5], 0.0, 1.0, 2.0)
    assert through.first_um <= 0.0 and through.first_um + SPACING_UM * (through.layers - 1) >= 1.0
