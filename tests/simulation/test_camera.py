"""Camera: noise with the statistics of photons, electrons and converters, the same for every block of an image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kurtosis, poisson

from cristae.draws import fold
from cristae.errors import InvalidConfiguration
from cristae.grid import Box
from cristae.simulation import camera_kernel
from cristae.simulation.camera import Camera, expose, exposed_plain, places

SHAPE = (4, 256, 256)
SCMOS = Camera(background=30, qe=0.8, read_noise=1.4, spread=0.3, electrons=0.46, offset=100)
EMCCD = Camera(background=2, qe=0.9, em_gain=50, read_noise=20, electrons=5, offset=200)


def exposed(mean: float, camera: Camera, key: int = 1, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    found = expose(np.full(shape, mean, np.float32), camera, Box.whole(shape), shape, key)
    return np.asarray(found).astype(np.float64)


def raster(shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(places(np, Box.whole(shape), shape))


# ---------------------------------------------------------------------------------------------------------- photons


@pytest.mark.parametrize("mean", [0.5, 1, 3, 9.999, 10, 11.5, 30, 100, 1e3, 1e4])
def test_photons_vary_as_much_as_there_are(mean: float) -> None:
    counts = exposed(mean, Camera(background=0))
    assert abs(counts.mean() - mean) <= 4 * (mean / counts.size) ** 0.5
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("mean", [0.05, 0.5, 2, 8, 9.99, 10.01, 14, 40])
def test_counts_come_as_often_as_poisson_says(mean: float) -> None:
    counts = exposed(mean, Camera(background=0), key=12).astype(int).ravel()
    most = int(poisson.isf(30 / counts.size, mean))
    least = int(poisson.ppf(30 / counts.size, mean))
    values = np.arange(least, most + 1)
    expected = counts.size * poisson.pmf(values, mean)
    expected[0] = counts.size * poisson.cdf(least, mean)
    expected[-1] = counts.size * poisson.sf(most - 1, mean)
    found = np.bincount(np.clip(counts, least, most) - least, minlength=len(values))
    assert expected.min() > 10
    assert chi2.sf(((found - expected) ** 2 / expected).sum(), len(values) - 1) > 1e-3


def test_no_light_gives_no_count() -> None:
    assert (exposed(0, Camera(background=0)) == 0).all()


def test_neighbours_know_nothing_of_each_other() -> None:
    counts = exposed(20, Camera(background=0)) - 20
    for axis in range(3):
        one, other = np.delete(counts, 0, axis), np.delete(counts, -1, axis)
        assert abs((one * other).mean()) <= 4 * 20 / one.size**0.5


@pytest.mark.kernel
@pytest.mark.parametrize("camera", [Camera(background=0), SCMOS, EMCCD], ids=["plain", "scmos", "emccd"])
def test_the_compiled_counts_are_the_plain_ones(camera: Camera) -> None:
    rng = np.random.default_rng(0)
    light = np.concatenate([rng.uniform(0, 12, 400), rng.uniform(8, 200, 400), 10 ** rng.uniform(2, 6, 400), [0, 10.0]])
    light = light.reshape(2, -1).astype(np.float32)
    sigma = rng.uniform(1, 2, light.shape)
    for key in (0, 5, 2**62 + 11):
        plain, compiled = (np.empty(light.shape, camera.dtype) for _ in range(2))
        exposed_plain(plain, light, camera, sigma, 7, 1000, key)
        camera_kernel.exposed(compiled, light, camera, sigma, 7, 1000, key)
        np.testing.assert_array_equal(compiled, plain)


# ---------------------------------------------------------------------------------------- electrons and the converter


def test_the_dark_is_the_offset_with_read_noise() -> None:
    counts = exposed(0, Camera(background=0, read_noise=6.0, electrons=0.5, offset=300))
    assert counts.mean() == pytest.approx(300, abs=4 * 12 / counts.size**0.5)
    assert counts.std() == pytest.approx((12.0**2 + 1 / 12) ** 0.5, rel=0.01)


@pytest.mark.parametrize("camera", [SCMOS, EMCCD, Camera(qe=0.5, dark=4, background=7, electrons=0.25, offset=12)])
@pytest.mark.parametrize("photons", [0.0, 25.0, 400.0])
def test_the_mean_is_what_the_camera_expects(camera: Camera, photons: float) -> None:
    counts = exposed(photons, camera, key=4)
    assert abs(counts.mean() - camera.expected(photons)) <= 4 * counts.std() / counts.size**0.5
    by_hand = camera.qe * (photons + camera.background) + camera.dark
    assert camera.expected(photons) == pytest.approx(camera.offset + by_hand * camera.em_gain / camera.electrons)


def test_the_gain_is_seen_in_the_variance() -> None:
    """The slope of variance over mean is the gain in counts an electron, as in a photon transfer curve."""
    camera = Camera(background=0, qe=0.7, read_noise=1.5, electrons=0.46, offset=100)
    levels = [exposed(photons, camera, key=n) for n, photons in enumerate((20, 100, 400, 1500))]
    slope, _ = np.polyfit([c.mean() - 100 for c in levels], [c.var() for c in levels], 1)
    assert 1 / slope == pytest.approx(0.46, rel=0.02)
    assert levels[0].var() == pytest.approx((20 * 0.7 + 1.5**2) / 0.46**2 + 1 / 12, rel=0.02)


def test_binned_pixels_add_up_their_read_noise() -> None:
    one, four = (
        exposed(0, Camera(background=0, read_noise=5, offset=500, binning=n), shape=(2, 200, 200)).var() for n in (1, 2)
    )
    assert four / one == pytest.approx(4, rel=0.05)


def test_a_multiplying_register_doubles_the_variance() -> None:
    camera = Camera(background=0, em_gain=30, electrons=1.0)
    counts = exposed(60, camera)
    assert counts.mean() == pytest.approx(60 * 30, rel=0.003)
    assert counts.var() / (30 * counts.mean()) == pytest.approx(2, abs=0.04)


def sensor(shape: tuple[int, ...], spread: float, key: int = 3) -> np.ndarray:
    return exposed(0, Camera(background=0, read_noise=4, spread=spread, electrons=0.1, offset=2000), key, shape) - 2000


def test_pixels_of_a_sensor_differ_as_much_as_said_and_in_every_plane_alike() -> None:
    counts = sensor((400, 48, 48), 0.4)
    each = np.log(counts.std(axis=0) / 40)
    own = (each.std() ** 2 - 1 / (2 * 400)) ** 0.5  # less what 400 planes leave uncertain
    assert own == pytest.approx(0.4, rel=0.06)
    assert np.exp(each).mean() == pytest.approx(1, abs=0.05)
    halves = [counts[part].std(axis=0).ravel() for part in (slice(0, 200), slice(200, None))]
    assert np.corrcoef(*halves)[0, 1] > 0.9
    plain = np.log(sensor((400, 48, 48), 0.0).std(axis=0) / 40)
    assert plain.std() == pytest.approx((1 / 800) ** 0.5, rel=0.1)


def test_pixels_of_a_sensor_differ_in_a_flat_image_too() -> None:
    """Noise of many widths has longer tails than noise of one: along a row of the image and down a column."""
    counts = sensor((300, 300), 1.0)
    for axis in (0, 1):
        assert np.median(kurtosis(counts, axis=axis)) > 3


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_scale_ends_where_the_converter_does(bits: int) -> None:
    camera = Camera(background=0, bits=bits, offset=10, read_noise=2)
    found = expose(np.full((1, 64, 64), 1e6, np.float32), camera, Box.whole((1, 64, 64)), (1, 64, 64), 2)
    assert found.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (found == 2**bits - 1).all()
    assert camera.top == 2**bits - 1


def test_read_noise_below_nothing_is_nothing() -> None:
    counts = exposed(0, Camera(background=0, read_noise=5))
    assert counts.min() == 0 and counts.max() < 60
    assert (counts == 0).mean() == pytest.approx(0.5398, abs=0.01)  # a normal number below half a count


# ----------------------------------------------------------------------------------------------------- place and key


@settings(max_examples=30)
@given(st.data())
def test_the_noise_of_a_box_is_that_part_of_the_whole(data: Any) -> None:
    shape = (6, 23, 31)
    camera = data.draw(st.sampled_from([SCMOS, EMCCD, Camera()]))
    light = np.random.default_rng(0).gamma(1.0, 20.0, shape).astype(np.float32)
    whole = expose(light, camera, Box.whole(shape), shape, 77)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    stop = tuple(data.draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True))
    box = Box(start, stop)
    np.testing.assert_array_equal(expose(light[box.slices], camera, box, shape, 77), whole[box.slices])


def test_a_flat_box_is_that_part_of_the_flat_whole() -> None:
    shape, light = (40, 50), np.full((40, 50), 30, np.float32)
    whole, box = expose(light, SCMOS, Box.whole(shape), shape, 5), Box((7, 11), (23, 50))
    np.testing.assert_array_equal(expose(light[box.slices], SCMOS, box, shape, 5), whole[box.slices])


def test_another_key_gives_other_noise() -> None:
    first, second = fold(1, "noise", 0), fold(1, "noise", 1)
    for camera in (Camera(), SCMOS, EMCCD):
        one, other = exposed(50, camera, first), exposed(50, camera, second)
        assert (one == other).mean() < 0.1
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / one.size**0.5
        np.testing.assert_array_equal(one, exposed(50, camera, first))


@pytest.mark.parametrize("apart", [1, 2, 64])
def test_keys_need_not_be_far_apart(apart: int) -> None:
    """A key is a name: the next number, or that of the next voxel, is as good as any."""
    one, other = (exposed(50, SCMOS, key).ravel() for key in (1, 1 + apart))
    assert abs(np.corrcoef(one, other)[0, 1]) < 4 / one.size**0.5
    assert (one[1:] == other[:-1]).mean() < 0.1


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"qe": 0}, "qe is 0"), ({"qe": 1.5}, "qe is 1.5"), ({"bits": 17}, "bits"), ({"bits": 8.5}, "bits"),
        ({"read_noise": -1}, "read_noise is -1"), ({"background": float("nan")}, "background is nan"),
        ({"electrons": 0}, "electrons"), ({"em_gain": 0.5}, "em_gain"), ({"offset": "dark"}, "'dark'"),
        ({"dark": float("inf")}, "dark is inf"),
    ],
)  # fmt: skip
def test_a_camera_that_cannot_be_is_refused_by_name(numbers: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        Camera(**numbers)
