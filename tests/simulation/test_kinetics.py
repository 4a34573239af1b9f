"""Emitters that blink and bleach: the telegraph process's mean, variance and memory, whichever frame is asked for first."""

from __future__ import annotations

import numpy as np
import pytest

from cristae.errors import InvalidConfiguration
from cristae.simulation.kinetics import SPAN, Kinetics, expected_variance

MANY = 40_000
BLINKING = Kinetics(10.0, 2.0, 8.0)


def integrated_variance(rate: float, on: float, off: float, frames: float) -> float:
    """Of the light expected from a stationary telegraph process in an exposure: two integrals over its covariance, by sums."""
    share, decay = on / (on + off), 1 / on + 1 / off
    lag = (np.arange(200_000) + 0.5) * frames / 200_000
    return float(2 * rate**2 * share * (1 - share) * ((frames - lag) * np.exp(-lag * decay)).mean() * frames)


def within_4_errors(samples: np.ndarray, expected: float) -> None:
    assert abs(samples.mean() - expected) <= 4 * samples.std() / len(samples) ** 0.5


def test_an_emitter_that_never_goes_off_shines_in_every_frame_alike() -> None:
    for frame in (0, 1, 7, 5000):
        np.testing.assert_array_equal(Kinetics(12.5, 3.0, 0.0).photons(50, frame, "a"), 12.5)


@pytest.mark.parametrize("frame", [0, 3, 1000, SPAN // 2, SPAN - 1])
def test_mean_and_variance_of_a_frame_are_those_of_the_stationary_process(frame: int) -> None:
    light = BLINKING.photons(MANY, frame, "law", 1)
    within_4_errors(light, 2.0)
    within_4_errors((light - 2.0) ** 2, integrated_variance(10, 2, 8, 1))
    assert light.min() >= 0 and light.max() <= 10 * (1 + 1e-12)


@pytest.mark.parametrize("first", [0, 511, SPAN // 2 - 3])
def test_five_frames_together_vary_as_one_long_exposure(first: int) -> None:
    light = sum(BLINKING.photons(MANY, first + n, "law", 2) for n in range(5))
    assert integrated_variance(10, 2, 8, 5) == pytest.approx(177.68, abs=0.01)
    within_4_errors(light, 10.0)
    within_4_errors((light - 10.0) ** 2, 177.68)


@pytest.mark.parametrize(("on", "off", "frames"), [(2, 8, 1), (2, 8, 5), (0.3, 0.1, 2), (50, 20, 1)])
def test_the_expected_variance_is_the_integral_of_the_covariance(on: float, off: float, frames: float) -> None:
    assert expected_variance(Kinetics(10.0, on, off), frames) == pytest.approx(
        integrated_variance(10, on, off, frames), rel=1e-6
    )
    assert expected_variance(Kinetics(10.0, on, 0.0), frames) == 0


@pytest.mark.parametrize("lag", [1, 2, 4, 9])
@pytest.mark.parametrize("first", [0, 250, SPAN // 2 - 2])
def test_frames_remember_each_other_as_the_telegraph_process_forgets(lag: int, first: int) -> None:
    one, other = (BLINKING.photons(MANY, n, "memory", first) for n in (first, first + lag))
    tau, share = 1.6, 0.2
    expected = 100 * share * (1 - share) * tau**2 * (1 - np.exp(-1 / tau)) ** 2 * np.exp(-(lag - 1) / tau)
    within_4_errors((one - 2.0) * (other - 2.0), expected)


def test_states_that_last_long_forget_slowly() -> None:
    """States last so long that frames are almost samples of them: p (1 - p) times the exponential."""
    slow = Kinetics(1.0, 300.0, 100.0)
    tau, share = 75.0, 0.75
    for lag in (10, 75, 150):
        one, other = (slow.photons(MANY, n, "slow") for n in (40, 40 + lag))
        expected = share * (1 - share) * np.exp(-lag / tau)
        within_4_errors((one - share) * (other - share), expected * (tau * 2 * np.sinh(0.5 / tau)) ** 2)


def test_a_frame_is_the_same_alone_and_after_others_in_any_order() -> None:
    both = Kinetics(10.0, 2.0, 8.0, 30.0)
    alone = both.photons(200, 17, "seed", 4, "mito", 9)
    forward = [both.photons(200, n, "seed", 4, "mito", 9) for n in range(20)]
    backward = [both.photons(200, n, "seed", 4, "mito", 9) for n in reversed(range(20))][::-1]
    np.testing.assert_array_equal(np.array(forward), np.array(backward))
    np.testing.assert_array_equal(forward[17], alone)


def test_emitters_of_another_name_blink_on_their_own() -> None:
    one, other = (BLINKING.photons(MANY, 3, "object", n) for n in (1, 2))
    within_4_errors((one - 2.0) * (other - 2.0), 0.0)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("off", [0.0, 8.0, 1e-3])
@pytest.mark.parametrize("bleach", [1.5, 6.0, 40.0])
def test_bleached_light_fades_as_the_emitters_survive(bleach: float, off: float) -> None:
    """An emitter that bleaches within a frame sends light only until then, whether it blinks or not."""
    fading = Kinetics(10.0, 2.0, off, bleach)
    for frame in (0, 1, 5):
        survive = bleach * (np.exp(-frame / bleach) - np.exp(-(frame + 1) / bleach))
        within_4_errors(fading.photons(MANY, frame, "bleach", 1), 10.0 * 2.0 / (2.0 + off) * survive)


def test_what_is_bleached_stays_dark() -> None:
    fading = Kinetics(10.0, 1.0, 0.0, 4.0)
    light = np.array([fading.photons(500, n, "dark") for n in range(30)])
    assert (np.diff(light, axis=0) <= 0).all()
    assert (light[-1] == 0).mean() > 0.98


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ((0, 1, 1, 0), "rate 0"),
        ((1, 0, 1, 0), "tau_on 0"),
        ((1, 1, -1, 0), "tau_off -1"),
        ((1, 1, 1, -2), "tau_bleach"),
    ],
)
def test_times_that_cannot_be_are_named(numbers: tuple[float, ...], named: str) -> None:
    with pytest.raises(InvalidConfiguration, match=named):
        Kinetics(*numbers)


@pytest.mark.parametrize("frame", [-1, SPAN])
def test_a_frame_outside_the_movie_is_refused(frame: int) -> None:
    with pytest.raises(InvalidConfiguration, match=f"frame {frame}"):
        BLINKING.photons(3, frame, "a")
