"""Pupil: light from a point through sample, coverslip and immersion, as integrals over the objective's pupil.

    rho     distance from the axis in the pupil, 1 at the aperture
    phase   optical path difference to the objective's design, radians; 0 on the axis
    stage   position of the stage: 0 as designed, negative toward the objective (z_v of Gibson and Lanni)
    depth   of the emitter above the coverslip

The integrals are Gauss-Legendre sums in s = sqrt(n^2 - NA^2 rho^2), n the lowest index on the way: in rho itself the phase has
an infinite slope at the rim wherever n < NA, and the sum would converge slowly. Everything is float64.

S. F. Gibson, F. Lanni, J. Opt. Soc. Am. A 9, 154 (1992), doi:10.1364/JOSAA.9.000154.
B. Richards, E. Wolf, Proc. R. Soc. A 253, 358 (1959), doi:10.1098/rspa.1959.0200.
F. Aguet et al., Opt. Express 17, 6829 (2009), doi:10.1364/OE.17.006829.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, pi

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.optics.microscope import Microscope

Floats = NDArray[np.float64]
CONVERGED = 1e-9
"""Of the brightest place that is tried: how little twice the nodes may change."""
MOST_NODES = 8192
FINER = 8
"""How much closer the places lie in each round of a search."""


def intensity(scope: Microscope, radius_um: Floats, stage_um: Floats, depth_um: float, nodes: int = 0) -> Floats:
    """What a point of light at `depth_um` gives at a distance from its axis, for each position of the stage.

    Parameters
    ----------
    radius_um : (r,) distances in the sample
    stage_um : (z,) positions of the stage
    depth_um : height of the point above the coverslip
    nodes : of the quadrature; 0 chooses them

    Returns
    -------
    (z, r) float64 light per square micrometre, where the whole plane of any z has 1: the objective absorbs nothing.
    """
    radius, stage = np.asarray(radius_um, np.float64), np.asarray(stage_um, np.float64)
    count = nodes or enough_nodes(scope, float(np.max(radius, initial=0)), stage, depth_um)
    return _light(scope, radius, stage, depth_um, count)


def enough_nodes(scope: Microscope, radius_um: float, stage_um: Floats, depth_um: float) -> int:
    """Nodes with which twice as many change nothing; from the span of the phase, then tried at the extremes."""
    ends = np.array([np.min(stage_um, initial=0), np.max(stage_um, initial=0)])
    rho = np.linspace(0, scope.pupil_edge, 257)
    span = float(np.ptp(phase(scope, rho, ends, depth_um), axis=1).max())
    count = 16 + ceil((span + scope.k_per_um * scope.na * radius_um) / pi)
    probe = np.linspace(0, radius_um, 9)
    while count <= MOST_NODES:
        few, many = (_light(scope, probe, ends, depth_um, n) for n in (count, 2 * count))
        if np.abs(few - many).max() <= CONVERGED * many.max():
            return count
        count *= 2
    raise InvalidConfiguration(
        f"the light of a point {depth_um:g} um deep, seen {radius_um:g} um aside and {np.abs(ends).max():g} um out of focus, does not "
        "converge; the indices or distances of this microscope are too far from what its objective was made for"
    )


def phase(scope: Microscope, rho: Floats, stage_um: Floats, depth_um: float) -> Floats:
    """(z, n) phase at each `rho`, against the axis."""
    aside = (scope.na * rho) ** 2

    def root(index: float) -> Floats:
        # index - path along the axis, written so that no digits are lost where 150 um of immersion cancel
        found: Floats = -aside / (np.sqrt(np.maximum(index**2 - aside, 0)) + index)
        return found

    gap = scope.working_distance_um
    path = depth_um * root(scope.n_sample)
    path = path + gap * (root(scope.n_immersion) - root(scope.designed("n_immersion")))
    path = path + scope.glass_um * root(scope.n_glass) - scope.designed("glass_um") * root(scope.designed("n_glass"))
    found: Floats = scope.k_per_um * (path + stage_um[:, None] * root(scope.n_immersion))
    return found


def focus_um(scope: Microscope, depth_um: float) -> float:
    """The stage position at which a point at this depth is brightest on its axis."""
    near = _flattest(scope, depth_um)
    room = 2.0 + 0.25 * abs(near)
    nodes = enough_nodes(scope, 0.0, np.array([near - room, near + room]), depth_um)

    def bright(stage: Floats) -> Floats:
        return _light(scope, np.zeros(1), stage, depth_um, nodes)[:, 0]

    return brightest(bright, np.linspace(near - room, near + room, 65 + 32 * ceil(room)))


def brightest(bright: Callable[[Floats], Floats], around: Floats) -> float:
    """Where a smooth curve is highest: the best of equally spaced places, of finer ones beside it, then the top of a parabola."""
    for _ in range(3):
        step = float(around[1] - around[0])
        best = float(around[int(np.argmax(bright(around)))])
        around = best + step / FINER * np.arange(-FINER, FINER + 1, dtype=np.float64)
    step = float(around[1] - around[0])
    low, middle, high = bright(best + step * np.array([-1.0, 0.0, 1.0])).tolist()
    bend = low - 2 * middle + high
    return best + (0.5 * step * (low - high) / bend if bend < 0 else 0.0)


def _flattest(scope: Microscope, depth_um: float) -> float:
    """The stage position at which the phase over the pupil differs least from a constant: near the focus."""
    rho = scope.pupil_edge * np.sqrt((np.arange(64) + 0.5) / 64)
    still = phase(scope, rho, np.zeros(1), depth_um)[0]
    moved = phase(scope, rho, np.ones(1), depth_um)[0] - still
    moved -= moved.mean()
    return -float((moved * still).sum() / (moved**2).sum())


def _light(scope: Microscope, radius: Floats, stage: Floats, depth_um: float, nodes: int) -> Floats:
    from scipy.special import j0, j1, jv

    rho, weight = _nodes(scope, nodes)
    wave = np.exp(1j * phase(scope, rho, stage, depth_um))
    argument = scope.k_per_um * scope.na * rho[:, None] * radius
    per_um2 = (scope.k_per_um * scope.na) ** 2 / (2 * pi)
    if scope.model != "vectorial":
        plain: Floats = per_um2 / weight.sum() * _power(wave * weight, j0(argument))
        return plain
    parts = _vector_weights(scope, rho)
    bessel = (j0(argument), j1(argument), jv(2, argument))
    share = (1.0, 2.0, 1.0)
    found = np.zeros((len(stage), len(radius)))
    for c, w, b in zip(share, parts, bessel, strict=True):
        found += c * _power(wave * (weight * w), b)
    whole = sum(c * float((weight * w**2).sum()) for c, w in zip(share, parts, strict=True))
    lit: Floats = per_um2 / whole * found
    return lit


def _power(wave: NDArray[np.complex128], bessel: Floats) -> Floats:
    # Two real products, of arrays that lie together: else numpy makes the Bessel functions complex, or does without BLAS.
    real, imaginary = np.ascontiguousarray(wave.real), np.ascontiguousarray(wave.imag)
    found: Floats = (real @ bessel) ** 2 + (imaginary @ bessel) ** 2
    return found


@lru_cache(maxsize=64)
def _legendre(nodes: int) -> tuple[Floats, Floats]:
    from scipy.special import roots_legendre

    x, w = roots_legendre(nodes)
    return x, w


def _nodes(scope: Microscope, nodes: int) -> tuple[Floats, Floats]:
    """(n,) rho and the weights of a sum for the integral over rho d rho."""
    lowest = min(
        scope.n_sample, scope.n_immersion, scope.n_glass, scope.designed("n_immersion"), scope.designed("n_glass")
    )
    first = np.sqrt(max(0.0, lowest**2 - (scope.na * scope.pupil_edge) ** 2))
    x, w = _legendre(nodes)
    s = first + (lowest - first) * 0.5 * (x + 1)
    rho = np.sqrt(np.maximum(lowest**2 - s**2, 0)) / scope.na
    return rho, 0.5 * (lowest - first) * w * s / scope.na**2


def _vector_weights(scope: Microscope, rho: Floats) -> tuple[Floats, Floats, Floats]:
    """What the three integrals of a freely turning dipole have beside the phase (Aguet, section 2)."""
    aside = scope.na * rho
    cosine = [np.sqrt(np.maximum(1 - (aside / n) ** 2, 0)) for n in (scope.n_immersion, scope.n_glass, scope.n_sample)]
    index = (scope.n_immersion, scope.n_glass, scope.n_sample)
    across, along = np.ones_like(rho), np.ones_like(rho)
    for a, b in ((0, 1), (1, 2)):  # amplitudes that Fresnel gives at each of the two boundaries
        across = across * 2 * index[a] * cosine[a] / (index[a] * cosine[a] + index[b] * cosine[b])
        along = along * 2 * index[a] * cosine[a] / (index[b] * cosine[a] + index[a] * cosine[b])
    apodised = 1 / np.sqrt(cosine[0])  # sqrt(cos) of the aplanatic objective over cos of the change to rho
    return (
        apodised * (across + along * cosine[2]),
        apodised * along * aside / scope.n_sample,
        apodised * (across - along * cosine[2]),
    )
