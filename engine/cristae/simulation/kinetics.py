"""Kinetics: how many photons an emitter sends in an exposure, as it switches on and off and in the end bleaches.

    on, off     two states with exponential dwell times; no off time means always on
    exposure    one frame: frame t lasts from t to t + 1, and times are in frames
    boundary    the state between two frames: found by halving, so that frame t needs no frame before it

An emitter starts in the stationary state. Its states at the boundaries are drawn by bridging, from the ends of a span towards the
middle; within a frame its path is drawn again until it ends as the boundary says. Both are exact (domain: telegraph process).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log2

import numpy as np
from numpy.typing import NDArray

from cristae.draws import stream
from cristae.errors import InvalidConfiguration

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SPAN = 2**20
"""Frames of a movie at most: the first halving starts from both ends of this."""


@dataclass(frozen=True)
class Kinetics:
    """Two states, in frames: `tau_on`, `tau_off`; `rate` photons a frame while on; `tau_bleach` 0 is never.

    Raises
    ------
    InvalidConfiguration : if a time or the rate cannot be.
    """

    rate: float = 10.0
    tau_on: float = 1.0
    tau_off: float = 0.0
    tau_bleach: float = 0.0

    def __post_init__(self) -> None:
        if not (self.rate > 0 and self.tau_on > 0 and self.tau_off >= 0 and self.tau_bleach >= 0):
            raise InvalidConfiguration(
                f"kinetics: rate {self.rate:g} and tau_on {self.tau_on:g} must be above 0, tau_off {self.tau_off:g} and tau_bleach "
                f"{self.tau_bleach:g} 0 or more"
            )

    @property
    def share(self) -> float:
        """Of the time, on."""
        return self.tau_on / (self.tau_on + self.tau_off)

    def photons(self, count: int, frame: int, *name: int | str) -> Floats:
        """(count,) expected photons of each emitter in a frame, before the noise of the camera. `name` is whose emitters they are."""
        if not 0 <= frame < SPAN:
            raise InvalidConfiguration(f"frame {frame} is not from 0 to {SPAN - 1}")
        if self.tau_off == 0:
            lit = np.ones(count)
        else:
            before, after = (self._boundary(count, at, name) for at in (frame, frame + 1))
            lit = self._path(before, after, frame, name)
        if self.tau_bleach:
            end = stream(*name, "bleach").exponential(self.tau_bleach, count)
            # Of a frame in which it bleaches, an emitter that blinks is on for as much as of a whole one.
            lit = lit * np.clip(end - frame, 0, 1)
        found: Floats = self.rate * lit
        return found

    def _step(self, state: Bools, span: float) -> Floats:
        """The chance to be on after a span."""
        both = exp(-span * (1 / self.tau_on + 1 / self.tau_off))
        found: Floats = self.share + (state.astype(np.float64) - self.share) * both
        return found

    def _boundary(self, count: int, at: int, name: tuple[int | str, ...]) -> Bools:
        low, high = 0, SPAN
        first = stream(*name, "state", 0).random(count) < self.share
        last = stream(*name, "state", SPAN).random(count) < self._step(first, SPAN)
        if at in (low, high):
            return first if at == low else last
        for _ in range(int(log2(SPAN))):
            middle = (low + high) // 2
            on = self._step(first, middle - low)
            ends_on, ends_off = (self._step(np.full(count, s), high - middle) for s in (True, False))
            then = np.where(last, ends_on, 1 - ends_on) * on
            other = np.where(last, ends_off, 1 - ends_off) * (1 - on)
            state = stream(*name, "state", middle).random(count) < then / (then + other)
            if at == middle:
                return state
            if at < middle:
                high, last = middle, state
            else:
                low, first = middle, state
        raise AssertionError("halving ends at every frame")

    def _path(self, before: Bools, after: Bools, frame: int, name: tuple[int | str, ...]) -> Floats:
        """(n,) part of a frame spent on, given the states at its ends: paths are drawn until they fit."""
        lit = np.zeros(len(before))
        waiting = np.arange(len(before))
        rng = stream(*name, "path", frame)
        while len(waiting):
            now, on, state = np.zeros(len(waiting)), np.zeros(len(waiting)), before[waiting].copy()
            moving = np.arange(len(waiting))
            while len(moving):
                stay = rng.standard_exponential(len(moving)) * np.where(state[moving], self.tau_on, self.tau_off)
                stop = np.minimum(now[moving] + stay, 1)
                on[moving] += np.where(state[moving], stop - now[moving], 0)
                now[moving] = stop
                moving = moving[stop < 1]
                state[moving] = ~state[moving]
            fits = state == after[waiting]
            lit[waiting[fits]] = on[fits]
            waiting = waiting[~fits]
        return lit


def expected_variance(kinetics: Kinetics, frames: float) -> float:
    """Of the photons that are expected in an exposure of so many frames: the switching's part, without shot noise."""
    p, rate = kinetics.share, kinetics.rate
    if kinetics.tau_off == 0:
        return 0.0
    tau = kinetics.tau_on * kinetics.tau_off / (kinetics.tau_on + kinetics.tau_off)
    return 2 * rate**2 * p * (1 - p) * tau**2 * (frames / tau - 1 + exp(-frames / tau))
