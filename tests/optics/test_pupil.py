"""Pupil integrals against Gibson-Lanni and Richards-Wolf summed plainly, in rho and in theta, with very many nodes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import simpson
from scipy.special import j0, j1, jv

from cristae.errors import InvalidConfiguration
from cristae.optics.microscope import Microscope
from cristae.optics.pupil import focus_um, intensity

OIL = Microscope(na=1.4, emission_um=0.51, n_sample=1.515)
WATER = Microscope(na=1.2, emission_um=0.61, n_sample=1.33, n_immersion=1.33)
SAM = Microscope(na=1.42, emission_um=0.66, n_sample=1.33)
AXIS = np.zeros(1)


def crowded(last: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights from 0 to `last`, panels halved again and again toward the rim, where a root may end."""
    even = np.linspace(0, last, 161)
    edges = np.concatenate([even[:-1], last - (last - even[-2]) * 0.5 ** np.arange(1, 48), [last]])
    x, w = np.polynomial.legendre.leggauss(12)
    half = 0.5 * np.diff(edges)[:, None]
    return (edges[:-1, None] + half * (1 + x)).ravel(), (half * w).ravel()


def path(scope: Microscope, aside: np.ndarray, stage: np.ndarray, depth: float) -> np.ndarray:
    """Lambda of Gibson and Lanni in full; `aside` is NA rho."""

    def root(index):
        return np.sqrt(np.maximum(index**2 - aside**2, 0))

    immersion = scope.n_immersion if scope.n_immersion_design is None else scope.n_immersion_design
    glass = scope.n_glass if scope.n_glass_design is None else scope.n_glass_design
    glass_um = scope.glass_um if scope.glass_design_um is None else scope.glass_design_um
    gap = scope.working_distance_um
    return (
        depth * root(scope.n_sample)
        + (gap + stage[:, None]) * root(scope.n_immersion)
        - gap * root(immersion)
        + scope.glass_um * root(scope.n_glass)
        - glass_um * root(glass)
    )


def lowest_index(scope: Microscope) -> float:
    given = (scope.n_sample, scope.n_immersion, scope.n_immersion_design, scope.n_glass, scope.n_glass_design)
    return min(n for n in given if n is not None)


def gibson_lanni(scope: Microscope, radius: np.ndarray, stage: np.ndarray, depth: float) -> np.ndarray:
    """(z, r): the integral over rho d rho, squared, of light whose plane adds up to 1 (Parseval)."""
    k, last = 2 * np.pi / scope.emission_um, min(1.0, lowest_index(scope) / scope.na)
    rho, weight = crowded(last)
    wave = np.exp(1j * k * path(scope, scope.na * rho, stage, depth)) * rho * weight
    return np.abs(wave @ j0(k * scope.na * rho[:, None] * radius)) ** 2 * (k * scope.na) ** 2 / (np.pi * last**2)


def richards_wolf(scope: Microscope, radius: np.ndarray, stage: np.ndarray, depth: float) -> np.ndarray:
    """(z, r): |I0|^2 + 2 |I1|^2 + |I2|^2, integrals over the angle in the immersion; up to a factor."""
    k = 2 * np.pi / scope.emission_um
    n_i, n_g, n_s = scope.n_immersion, scope.n_glass, scope.n_sample
    theta, weight = crowded(float(np.arcsin(min(scope.na, lowest_index(scope)) / n_i)))
    sine_i, cosine_i = np.sin(theta), np.cos(theta)
    cosine_g, cosine_s = (np.sqrt(np.maximum(1 - (n_i * sine_i / n) ** 2, 1e-99)) for n in (n_g, n_s))
    sine_s = n_i * sine_i / n_s
    t_s = (
        2 * n_i * cosine_i / (n_i * cosine_i + n_g * cosine_g) * 2 * n_g * cosine_g / (n_g * cosine_g + n_s * cosine_s)
    )
    t_p = (
        2 * n_i * cosine_i / (n_g * cosine_i + n_i * cosine_g) * 2 * n_g * cosine_g / (n_s * cosine_g + n_g * cosine_s)
    )
    wave = np.exp(1j * k * path(scope, n_i * sine_i, stage, depth)) * np.sqrt(cosine_i) * sine_i * weight
    v = k * n_i * sine_i[:, None] * radius
    i_0 = (wave * (t_s + t_p * cosine_s)) @ j0(v)
    i_1 = (wave * t_p * sine_s) @ j1(v)
    i_2 = (wave * (t_s - t_p * cosine_s)) @ jv(2, v)
    return np.abs(i_0) ** 2 + 2 * np.abs(i_1) ** 2 + np.abs(i_2) ** 2


@st.composite
def scopes(draw, model="scalar") -> Microscope:
    na = draw(st.floats(0.8, 1.49))
    immersion = draw(st.floats(max(1.0, na + 0.003), 1.518))
    off = draw(st.sampled_from([0.0, 0.0, -0.004, 0.003]))
    return Microscope(
        na=na,
        emission_um=draw(st.floats(0.45, 0.7)),
        n_sample=draw(st.sampled_from([1.33, 1.38, 1.46, 1.515, 1.52]) | st.floats(1.33, 1.52)),
        n_immersion=immersion,
        n_immersion_design=max(immersion + off, na + 0.002, 1.0),
        n_glass=draw(st.sampled_from([1.515, 1.525])),
        n_glass_design=1.515,
        glass_um=draw(st.sampled_from([165.0, 170.0, 175.0]) | st.floats(165, 175)),
        glass_design_um=170.0,
        model=model,
    )


def half_width(scope: Microscope) -> float:
    """Where the plane at stage 0 falls to half."""
    r = np.linspace(0, 2, 4001)
    lit = intensity(scope, r, AXIS, 0.0)[0]
    return float(r[np.argmax(lit < 0.5 * lit[0])])


# ------------------------------------------------------------------------------------------------ Gibson-Lanni


@settings(max_examples=60)
@given(scope=scopes(), depth=st.floats(0, 10))
def test_the_scalar_integral_is_that_of_gibson_and_lanni(scope, depth):
    radius, stage = np.array([0, 0.07, 0.19, 0.31, 0.5, 0.83, 1.4, 2.2, 3.1, 4.3, 5.0]), np.linspace(-15, 5, 41)
    expected = gibson_lanni(scope, radius, stage, depth)
    np.testing.assert_allclose(intensity(scope, radius, stage, depth), expected, rtol=0, atol=1e-6 * expected.max())


def test_a_coverslip_of_low_index_limits_the_pupil():
    radius, stage = np.linspace(0, 3, 13), np.linspace(-3, 2, 11)
    for scope in (replace(SAM, n_sample=1.515, n_glass=1.38), replace(SAM, n_sample=1.34, n_glass=1.33)):
        expected = gibson_lanni(scope, radius, stage, 1.0)
        np.testing.assert_allclose(intensity(scope, radius, stage, 1.0), expected, rtol=0, atol=1e-6 * expected.max())


@settings(max_examples=30)
@given(n=st.floats(1.33, 1.52), share=st.floats(0.2, 0.98), emission_um=st.floats(0.4, 0.8))
def test_where_all_indices_match_the_focus_is_an_airy_disc(n, share, emission_um):
    scope = Microscope(na=share * n, emission_um=emission_um, n_sample=n, n_immersion=n, n_glass=n)
    radius = np.linspace(0, 3, 200)
    lit = intensity(scope, radius, AXIS, 0.0)[0]
    v = 2 * np.pi / emission_um * scope.na * radius[1:]
    np.testing.assert_allclose(lit[1:] / lit[0], (2 * j1(v) / v) ** 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scope", [OIL, WATER, SAM, replace(SAM, na=1.2), replace(OIL, n_sample=1.33)])
def test_32_nodes_are_as_good_as_2000(scope):
    radius, stage = np.linspace(0, 3, 61), np.linspace(-1, 1, 21)
    few, many = (intensity(scope, radius, stage, 1.0, nodes=n) for n in (32, 2000))
    np.testing.assert_allclose(few, many, rtol=0, atol=1e-10 * many.max())


def test_as_many_nodes_are_taken_as_distance_and_defocus_need():
    radius, stage = np.linspace(0, 40, 41), np.array([-60.0, -12.0, 0.0, 30.0])
    expected = gibson_lanni(SAM, radius, stage, 9.0)
    np.testing.assert_allclose(intensity(SAM, radius, stage, 9.0), expected, rtol=0, atol=1e-6 * expected.max())


@settings(max_examples=20)
@given(scope=scopes(), depth=st.floats(0, 10), height=st.floats(0.01, 4))
def test_matched_indices_are_symmetric_in_z_around_any_depth(scope, depth, height):
    n = scope.n_immersion
    matched = replace(scope, n_sample=n, n_glass=n, n_immersion_design=n, n_glass_design=n, glass_um=170.0)
    radius = np.linspace(0, 3, 31)
    above, below = intensity(matched, radius, np.array([height, -height]) - depth, depth)
    focus = intensity(matched, AXIS, np.array([-depth]), depth)[0, 0]
    np.testing.assert_allclose(above, below, rtol=0, atol=1e-9 * focus)
    np.testing.assert_allclose(focus, np.pi * scope.na**2 / scope.emission_um**2, rtol=1e-9)


@settings(max_examples=20)
@given(scope=scopes(), depth=st.floats(1, 10))
def test_a_sample_of_the_index_of_the_immersion_only_moves_the_focus(scope, depth):
    same = replace(scope, n_sample=scope.n_immersion)
    radius, stage = np.linspace(0, 2, 21), np.linspace(-3, 3, 13)
    there = intensity(same, radius, stage, 0.0)
    np.testing.assert_allclose(
        intensity(same, radius, stage - depth, depth), there, rtol=0, atol=1e-8 * np.pi * scope.na**2 / 0.45**2
    )


# ------------------------------------------------------------------------------------------------------- light


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
@pytest.mark.parametrize(
    ("scope", "depth"),
    [(OIL, 0.0), (WATER, 3.0), (SAM, 0.0), (SAM, 2.0), (replace(OIL, glass_um=172.0, glass_design_um=170.0), 1.0)],
)
def test_every_plane_holds_all_the_light(scope, depth, model):
    radius, stage = np.linspace(0, 70, 3501), np.array([-3.5, -1.5, -0.4, 0.0, 0.7, 2.0])
    lit = intensity(replace(scope, model=model), radius, stage, depth)
    light = 2 * np.pi * simpson(lit * radius, x=radius, axis=1)
    np.testing.assert_allclose(light, 1, atol=0.01)
    assert (light < 1).all()  # what is missing lies outside


# ------------------------------------------------------------------------------------------------ Richards-Wolf


@settings(max_examples=30)
@given(scope=scopes("vectorial"), depth=st.floats(0, 10))
def test_the_vectorial_integrals_are_those_of_richards_and_wolf(scope, depth):
    radius, stage = np.array([0, 0.07, 0.19, 0.31, 0.5, 0.83, 1.4, 2.2, 3.1, 5.0]), np.linspace(-15, 5, 31)
    expected, found = richards_wolf(scope, radius, stage, depth), intensity(scope, radius, stage, depth)
    brightest = np.unravel_index(expected.argmax(), expected.shape)
    np.testing.assert_allclose(found / found[brightest], expected / expected[brightest], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_sample", [1.33, 1.46, 1.515])
def test_at_low_na_the_vectorial_psf_becomes_the_scalar_one_with_the_square_of_na(n_sample):
    radius, stage = np.linspace(0, 4, 81), np.linspace(-4, 4, 9)
    apart = []
    for na in (0.1, 0.2, 0.3):
        scope = Microscope(na=na, emission_um=0.55, n_sample=n_sample)
        scalar, vectorial = (intensity(replace(scope, model=m), radius, stage, 1.0) for m in ("scalar", "vectorial"))
        apart.append(np.abs(scalar - vectorial).max() / scalar.max())
    assert apart[2] < 0.03
    np.testing.assert_allclose(np.array(apart) / apart[0], [1, 4, 9], rtol=0.1)


@pytest.mark.parametrize("scope", [OIL, replace(OIL, n_sample=1.46), SAM])
def test_at_high_na_the_vectorial_psf_is_wider(scope):
    scalar, vectorial = half_width(scope), half_width(replace(scope, model="vectorial"))
    assert 1.02 * scalar < vectorial < 1.3 * scalar


# ------------------------------------------------------------------------------------------------------- focus


def test_an_emitter_in_water_under_oil_is_focused_deeper_than_it_lies_and_is_dimmer():
    stage = focus_um(SAM, 1.0)
    np.testing.assert_allclose(stage, -1.38, atol=0.01)
    deep, top = (intensity(SAM, AXIS, np.array([z]), d)[0, 0] for z, d in ((stage, 1.0), (0.0, 0.0)))
    np.testing.assert_allclose(deep / top, 0.893, atol=0.005)


@pytest.mark.parametrize(
    ("depth", "stage", "peak"), [(0.0, 0.0, 1.0), (0.25, -0.35, 0.99), (0.5, -0.695, 0.97), (5.0, -6.36, 0.51)]
)
def test_focus_and_peak_at_other_depths_are_those_of_the_handbook(depth, stage, peak):
    found = focus_um(SAM, depth)
    np.testing.assert_allclose(found, stage, atol=0.01)
    lit, top = (intensity(SAM, AXIS, np.array([z]), d)[0, 0] for z, d in ((found, depth), (0.0, 0.0)))
    np.testing.assert_allclose(lit / top, peak, atol=0.005)


@pytest.mark.parametrize(
    "scope",
    [
        OIL,
        WATER,
        SAM,
        Microscope(na=0.95, emission_um=0.5, n_sample=1.33, n_immersion=1.0),
        Microscope(na=1.2, emission_um=0.5, n_sample=1.52, n_immersion=1.33),
        replace(OIL, n_immersion=1.518, n_immersion_design=1.515),
        replace(OIL, glass_um=171.0, glass_design_um=170.0),
        replace(OIL, glass_um=175.0, glass_design_um=170.0),  # coverslips of one box differ by 10 um
        replace(OIL, glass_um=162.0, glass_design_um=170.0),
        replace(OIL, n_glass=1.525, n_glass_design=1.515),
        replace(WATER, n_immersion_design=1.34, working_distance_um=280.0),
    ],
    ids=lambda s: f"na{s.na}-n{s.n_sample}-{s.n_immersion}-{s.n_immersion_design}-glass{s.glass_um}-{s.n_glass}",
)
@pytest.mark.parametrize("depth", [0.0, 2.0, 10.0])
def test_no_stage_is_brighter_than_the_focus(scope, depth):
    stage = np.linspace(-30, 20, 5001)
    best = intensity(scope, AXIS, stage, depth)[:, 0].max()
    lit = intensity(scope, AXIS, np.array([focus_um(scope, depth)]), depth)[0, 0]
    assert lit >= (1 - 1e-6) * best


def test_light_that_cannot_be_summed_is_refused():
    with pytest.raises(InvalidConfiguration, match="does not converge"):
        intensity(SAM, AXIS, np.array([1e6]), 0.0)
