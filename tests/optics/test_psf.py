"""PSFs on voxels: what pixels, pinholes, detectors and sheets make of the light that test_pupil.py holds to be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.optics.microscope import Microscope
from cristae.optics.psf import fwhm_um, profile, psf
from cristae.optics.pupil import focus_um, intensity

OIL = Microscope(na=1.4, emission_um=0.51, n_sample=1.515, voxel_um=(0.2, 0.08, 0.08))
DEEP = Microscope(na=1.42, emission_um=0.66, n_sample=1.33, voxel_um=(0.2, 0.08, 0.08))
WATER = Microscope(na=1.2, emission_um=0.61, n_sample=1.33, n_immersion=1.33, voxel_um=(0.25, 0.1, 0.1))
AIR = Microscope(na=0.75, emission_um=0.525, n_sample=1.33, n_immersion=1.0, voxel_um=(1.0, 0.325, 0.325))
SCANNED = {"modality": "confocal", "excitation_um": 0.488, "pinhole_au": 1.0, "emission_um": 0.525}
CONFOCAL = replace(OIL, **SCANNED, voxel_um=(0.15, 0.06, 0.06))
EQUAL = replace(CONFOCAL, excitation_um=0.525)
KINDS = {
    "scalar": DEEP,
    "vectorial": replace(DEEP, model="vectorial"),
    "gaussian": replace(DEEP, model="gaussian"),
    "confocal": CONFOCAL,
    "airyscan": replace(CONFOCAL, modality="airyscan"),
    "airyscan-square": replace(OIL, modality="airyscan-square", voxel_um=(0.15, 0.04, 0.04)),
    "light-sheet": replace(WATER, modality="light-sheet", sheet_fwhm_um=0.7),
}
every_kind = pytest.mark.parametrize("scope", KINDS.values(), ids=KINDS)
AXIS = np.zeros(1)


def excitation(scope: Microscope) -> Microscope:
    return replace(scope, modality="widefield", emission_um=scope.excitation_um)


def detection(scope: Microscope) -> Microscope:
    return replace(scope, modality="widefield")


def half_width(scope: Microscope) -> float:
    """Where the plane in focus falls to half, on steps of 0.5 nm."""
    lit = profile(scope, 0.0005 * np.arange(1200), AXIS, 0.0)[0]
    return 0.0005 * float(np.argmax(lit < 0.5 * lit[0]))


def square(side_um: tuple[float, float], n: int = 32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, x and weights of the integral over a pixel."""
    x, w = np.polynomial.legendre.leggauss(n)
    y, x = np.meshgrid(0.5 * side_um[0] * x, 0.5 * side_um[1] * x, indexing="ij")
    return y.ravel(), x.ravel(), np.outer(w, w).ravel() * side_um[0] * side_um[1] / 4


def hole(scope: Microscope, n: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """y, x and weights of the mean over a pinhole of so many Airy units, 1.22 wavelengths over NA across."""
    radius = 0.61 * scope.emission_um / scope.na * scope.pinhole_au
    x, w = np.polynomial.legendre.leggauss(n)
    r, angle = 0.5 * radius * (1 + x), 2 * np.pi * np.arange(2 * n) / (2 * n)
    weight = np.repeat(r * w, 2 * n)
    return np.outer(r, np.sin(angle)).ravel(), np.outer(r, np.cos(angle)).ravel(), weight / weight.sum()


# ------------------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize(
    ("scope", "voxel_um"),
    [
        (DEEP, (0.2, 0.08, 0.08)),
        (replace(DEEP, model="vectorial"), (0.2, 0.08, 0.08)),
        (OIL, (0.2, 0.05, 0.09)),
        (WATER, (0.3, 0.1, 0.1)),
        (AIR, (1.0, 0.16, 0.16)),
        (AIR, (1.0, 0.325, 0.325)),  # 20x on a camera of 6.5 um: twice too coarse for Nyquist, and common
        (DEEP, (0.2, 0.16, 0.16)),  # a camera binned by 2
    ],
    ids=lambda v: f"{v.model}-na{v.na}" if isinstance(v, Microscope) else f"{v[1]}x{v[2]}",
)
def test_a_pixel_holds_the_light_that_falls_on_all_of_it(scope, voxel_um):
    found = psf(scope, (3, 9, 7), voxel_um=voxel_um, depth_um=1.0)
    dy, dx, weight = square(voxel_um[1:])
    stage = focus_um(scope, 1.0) + voxel_um[0] * np.array([1, 0, -1])
    for y, x in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (4, 3), (-3, 2)]:
        apart = np.hypot(y * voxel_um[1] + dy, x * voxel_um[2] + dx)
        expected = intensity(scope, apart, stage, 1.0) @ weight
        np.testing.assert_allclose(found[:, 4 + y, 3 + x], expected, rtol=0, atol=1e-6 * found.max())


def test_pixels_are_integrated_unless_their_centres_are_asked_for():
    default, mean, centre = psf(OIL, (3, 9, 9)), *(psf(OIL, (3, 9, 9), integrate=i) for i in (True, False))
    np.testing.assert_array_equal(default, mean)
    assert mean.max() < 0.97 * centre.max()


@pytest.mark.parametrize("depth_um", [0.0, 4.0])
@pytest.mark.parametrize("scope", [DEEP, replace(DEEP, model="vectorial"), WATER, AIR], ids=["s", "v", "w", "a"])
def test_the_centre_of_a_pixel_has_the_light_of_its_distance_and_a_greater_z_is_deeper(scope, depth_um):
    z_um, y_um, x_um = voxel_um = (0.4, 0.09, 0.06)
    found = psf(scope, (8, 12, 11), voxel_um=voxel_um, depth_um=depth_um, integrate=False)
    y, x = np.meshgrid(y_um * (np.arange(12) - 6), x_um * (np.arange(11) - 5), indexing="ij")
    stage = focus_um(scope, depth_um) - z_um * (np.arange(8) - 4)
    expected = intensity(scope, np.hypot(y, x).ravel(), stage, depth_um).reshape(8, 12, 11) * y_um * x_um
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * expected.max())


@every_kind
def test_a_pixel_holds_the_light_of_the_nine_within_it(scope):
    _, y_um, x_um = scope.voxel_um
    coarse = psf(scope, (3, 7, 5), voxel_um=(0.2, y_um, x_um))
    fine = psf(scope, (3, 21, 15), voxel_um=(0.2, y_um / 3, x_um / 3))  # of an odd number one is in the middle
    binned = fine.reshape(3, 7, 3, 5, 3).sum((2, 4))
    np.testing.assert_allclose(binned, coarse, rtol=0, atol=1e-6 * coarse.max())


@every_kind
def test_a_smaller_volume_is_the_middle_of_a_larger_one(scope):
    large, small = psf(scope, (9, 20, 17), depth_um=1.0), psf(scope, (5, 8, 9), depth_um=1.0)
    np.testing.assert_allclose(large[2:7, 6:14, 4:13], small, rtol=0, atol=1e-7 * small.max())


@every_kind
@pytest.mark.parametrize("shape", [(5, 11, 13), (4, 10, 12), (1, 1, 1), (2, 9, 1)])
def test_left_is_right_and_up_is_down_around_the_middle_voxel(scope, shape):
    found = psf(scope, shape, depth_um=1.0)
    middle = tuple(n // 2 for n in shape)
    assert np.unravel_index(found.argmax(), shape) == middle
    odd = found[:, 1 - shape[1] % 2 :, 1 - shape[2] % 2 :]  # of an even number the first has no partner
    np.testing.assert_array_equal(odd, odd[:, ::-1])
    np.testing.assert_array_equal(odd, odd[:, :, ::-1])


@every_kind
def test_square_pixels_know_no_y_from_x(scope):
    wide, tall = psf(scope, (3, 11, 8)), psf(scope, (3, 8, 11))
    np.testing.assert_allclose(wide, tall.transpose(0, 2, 1), rtol=0, atol=1e-15)
    y_um, x_um = 0.05, 0.09
    one, other = (psf(scope, (3, 9, 9), voxel_um=(0.2, *v)) for v in ((y_um, x_um), (x_um, y_um)))
    np.testing.assert_allclose(one, other.transpose(0, 2, 1), rtol=0, atol=1e-15)
    assert abs(one - one.transpose(0, 2, 1)).max() > 0.01 * one.max()


# ------------------------------------------------------------------------------------------------------- light


@pytest.mark.parametrize("model", ["scalar", "vectorial"])
@pytest.mark.parametrize(("scope", "depth_um"), [(OIL, 0.0), (WATER, 2.0), (DEEP, 0.5)])
def test_every_plane_of_widefield_adds_up_to_1(scope, depth_um, model):
    voxel_um = (0.4, 0.12, 0.12)
    light = psf(replace(scope, model=model), (7, 301, 301), voxel_um=voxel_um, depth_um=depth_um).sum((1, 2))
    np.testing.assert_allclose(light, 1, atol=0.015 if model == "vectorial" and scope is DEEP else 0.01)
    assert light.max() <= 1


@pytest.mark.parametrize("kind", ["gaussian", "confocal", "airyscan", "airyscan-square", "light-sheet"])
@pytest.mark.parametrize("depth_um", [0.0, 2.0])
def test_the_brightest_plane_of_every_kind_adds_up_to_1(kind, depth_um):
    light = psf(KINDS[kind], (5, 301, 301), depth_um=depth_um).sum((1, 2))
    assert light.argmax() == 2
    np.testing.assert_allclose(light[2], 1, atol=0.01)
    assert light.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", ["confocal", "airyscan", "airyscan-square"])
def test_only_widefield_keeps_its_light_out_of_focus(kind):
    light = psf(KINDS[kind], (9, 101, 101), voxel_um=(0.5, 0.06, 0.06)).sum((1, 2))
    assert (np.diff(light[4:]) < 0).all()
    assert light[0] < 0.25


# ------------------------------------------------------------------------------------------------------ widths


@pytest.mark.parametrize(
    ("scope", "lateral_nm", "axial_nm"),
    [
        (Microscope(na=1.42, emission_um=0.66, n_sample=1.515), 239.1, 620.7),
        (WATER, 261.5, 737.0),
        (OIL, 187.4, 502.3),
        (replace(OIL, modality="airyscan-square"), 134.5, 360.6),
        (Microscope(na=1.42, emission_um=0.66, n_sample=1.515, modality="airyscan-square"), 171.7, 445.4),
        (replace(WATER, modality="airyscan-square"), 187.7, 529.4),
    ],
)
def test_widths_are_those_of_the_handbook(scope, lateral_nm, axial_nm):
    axial, lateral = fwhm_um(scope)
    np.testing.assert_allclose(1000 * lateral, lateral_nm, atol=0.5)
    np.testing.assert_allclose(1000 * axial, axial_nm, atol=2)
    np.testing.assert_allclose(2000 * half_width(scope), lateral_nm, atol=1.1)  # two steps of 0.5 nm


@pytest.mark.parametrize(("depth_um", "lateral_nm"), [(0.25, 255.6), (0.5, 256.4), (1.0, 259.7), (5.0, 291.0)])
def test_depth_widens_as_the_handbook_says(depth_um, lateral_nm):
    np.testing.assert_allclose(1000 * fwhm_um(DEEP, depth_um)[1], lateral_nm, atol=0.5)


@pytest.mark.parametrize("na", [0.1, 0.2, 0.25, 0.3, 0.45, 0.75])
def test_a_dry_objective_sees_as_deep_as_waves_allow(na):
    scope = Microscope(na=na, emission_um=0.5, n_sample=1.0, n_immersion=1.0)
    axial, lateral = fwhm_um(scope)
    np.testing.assert_allclose(lateral, 0.5145 * 0.5 / na, rtol=0.003)
    np.testing.assert_allclose(axial, 0.886 * 0.5 / (1 - np.sqrt(1 - na**2)), rtol=0.03)  # exact as NA falls to 0


def test_a_vectorial_psf_is_wider_than_a_scalar_one():
    for scope in (OIL, DEEP):
        scalar, vectorial = (fwhm_um(replace(scope, model=m))[1] for m in ("scalar", "vectorial"))
        assert 1.02 * scalar < vectorial < 1.3 * scalar


# ---------------------------------------------------------------------------------------------------- symmetry


@settings(max_examples=15)
@given(n=st.floats(1.33, 1.518), share=st.floats(0.3, 0.97), depth_um=st.floats(0, 5), vectorial=st.booleans())
def test_matched_indices_look_the_same_above_and_below(n, share, depth_um, vectorial):
    model = "vectorial" if vectorial else "scalar"
    scope = Microscope(na=share * n, emission_um=0.55, n_sample=n, n_immersion=n, n_glass=n, model=model)
    found = psf(scope, (9, 11, 11), voxel_um=(0.2, 0.08, 0.08), depth_um=depth_um)
    np.testing.assert_allclose(found, found[::-1], rtol=0, atol=1e-4 * found.max())  # focus is known to 0.01 nm
    assert found[0, 5, 5] < 0.999 * found[4, 5, 5]


def test_water_under_oil_does_not():
    found = psf(DEEP, (9, 11, 11), depth_um=5.0)
    assert abs(found - found[::-1]).max() > 0.05 * found.max()


# -------------------------------------------------------------------------------------------------- modalities


@every_kind
@pytest.mark.parametrize("depth_um", [0.0, 5.0])
def test_the_middle_plane_is_the_brightest(scope, depth_um):
    along = psf(replace(scope, n_sample=1.33), (41, 1, 1), voxel_um=(0.02, 0.04, 0.04), depth_um=depth_um)[:, 0, 0]
    assert along[20] >= (1 - 1e-4) * along.max()


def test_the_middle_plane_is_the_brightest_even_where_two_colours_focus_apart():
    scope = replace(CONFOCAL, excitation_um=0.405, emission_um=0.605, n_sample=1.33)
    along = psf(scope, (41, 1, 1), voxel_um=(0.02, 0.04, 0.04), depth_um=5.0)[:, 0, 0]
    assert along[20] >= 0.999 * along.max()


STEP = 0.004
ROW = STEP * np.arange(240)
SOME = np.arange(0, 240, 13)


@pytest.mark.parametrize("n_sample", [1.515, 1.40])
@pytest.mark.parametrize("pinhole_au", [0.4, 1.0])
@pytest.mark.parametrize("modality", ["confocal", "airyscan"])
def test_scanned_psfs_are_the_sums_of_their_definition(modality, pinhole_au, n_sample):
    scope = replace(CONFOCAL, modality=modality, pinhole_au=pinhole_au, n_sample=n_sample)
    stage = focus_um(scope, 1.0) + np.array([0.0, 0.3, -0.8])
    y, x, weight = hole(scope)
    if modality == "confocal":
        lit = intensity(excitation(scope), ROW[SOME], stage, 1.0)
        expected = lit * sum_over(detection(scope), np.hypot(ROW[SOME, None] + x, y), stage, weight)
    else:  # every element, looking a to the side, is moved back by a / 2
        one, other = np.hypot(ROW[SOME, None] - x / 2, y / 2), np.hypot(ROW[SOME, None] + x / 2, y / 2)
        expected = np.array(
            [
                (intensity(excitation(scope), a, stage, 1.0) * intensity(detection(scope), b, stage, 1.0)) @ weight
                for a, b in zip(one, other)
            ]
        ).T
    found = profile(scope, ROW, stage, 1.0)[:, SOME]
    np.testing.assert_allclose(found / found[0, 0], expected / expected[0, 0], rtol=0, atol=1e-6)


def sum_over(scope: Microscope, apart: np.ndarray, stage: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.array([intensity(scope, a, stage, 1.0) @ weight for a in apart]).T


def test_a_closed_pinhole_gives_the_product_of_excitation_and_emission():
    scope, stage = replace(CONFOCAL, pinhole_au=0.05), np.linspace(-1.2, 1.2, 9)
    product = intensity(excitation(scope), ROW, stage, 0.0) * intensity(detection(scope), ROW, stage, 0.0)
    for modality in ("confocal", "airyscan"):
        found = profile(replace(scope, modality=modality), ROW, stage, 0.0)
        np.testing.assert_allclose(found / found.max(), product / product.max(), rtol=0, atol=2e-3)


def test_an_open_pinhole_gives_the_excitation_alone():
    scope = replace(CONFOCAL, na=0.4, excitation_um=0.35, pinhole_au=3.0)
    row = 3 * ROW
    found, lit = profile(scope, row, AXIS, 0.0)[0], intensity(excitation(scope), row, AXIS, 0.0)[0]
    np.testing.assert_allclose(found / found[0], lit / lit[0], rtol=0, atol=0.01)
    seen = intensity(detection(scope), row, AXIS, 0.0)[0]
    assert abs(found / found[0] - seen / seen[0]).max() > 0.1


def test_the_wider_the_pinhole_the_wider_the_psf_between_its_two_limits():
    widths = [half_width(replace(EQUAL, pinhole_au=au)) for au in (0.05, 0.3, 0.6, 1.0, 2.0)]
    assert (np.diff(widths) > 0).all()
    widefield = half_width(detection(EQUAL))
    squared = half_width(replace(EQUAL, modality="airyscan-square"))
    assert abs(widths[0] - squared) <= 0.0011  # two steps
    assert widths[-1] <= widefield + 0.0011


def test_airyscan_is_sharper_than_any_pinhole_that_lets_as_much_light_through():
    widefield = half_width(detection(EQUAL))
    airyscan, confocal = (half_width(replace(EQUAL, modality=m, pinhole_au=1.25)) for m in ("airyscan", "confocal"))
    assert 1.4 < widefield / airyscan < 1.6
    assert airyscan < 0.85 * confocal
    assert airyscan < 0.75 * half_width(replace(EQUAL, pinhole_au=2.0))


def test_the_square_of_widefield_is_what_its_name_says():
    square_, plain = (profile(replace(DEEP, modality=m), ROW, -ROW[:3], 1.0) for m in ("airyscan-square", "widefield"))
    np.testing.assert_allclose(square_ / square_[0, 0], (plain / plain[0, 0]) ** 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scope", [WATER, AIR, replace(DEEP, na=1.1)], ids=["water", "air", "oil"])
@pytest.mark.parametrize("depth_um", [0.0, 3.0])
def test_a_light_sheet_is_widefield_times_the_sheet(scope, depth_um):
    shape, z_um = (9, 15, 15), scope.voxel_um[0]
    found = psf(replace(scope, modality="light-sheet", sheet_fwhm_um=0.8), shape, depth_um=depth_um)
    sheet = 0.5 ** ((z_um * (np.arange(9) - 4) / 0.4) ** 2)
    expected = psf(scope, shape, depth_um=depth_um) * sheet[:, None, None]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * expected.max())


# ---------------------------------------------------------------------------------------------------- gaussian


@pytest.mark.parametrize(
    "scope",
    [OIL, WATER, DEEP, CONFOCAL, AIR, Microscope(na=0.25, emission_um=0.55, n_sample=1.0, n_immersion=1.0)],
    ids=["oil", "water", "deep", "confocal", "air", "low"],
)
def test_the_gaussian_is_as_wide_as_the_scalar_psf(scope):
    axial, lateral = fwhm_um(scope)
    assert min(axial, lateral) > 0
    np.testing.assert_allclose(fwhm_um(replace(scope, model="gaussian")), (axial, lateral), rtol=0.005)
    values = profile(replace(scope, model="gaussian"), np.array([0, lateral / 2]), np.array([0, axial / 2]), 0.0)
    np.testing.assert_allclose(values / values[0, 0], [[1, 0.5], [0.5, 0.25]], atol=0.005)


@pytest.mark.parametrize("depth_um", [0.0, 2.0, 10.0])
def test_the_gaussian_is_the_same_above_and_below_its_middle_plane(depth_um):
    found = psf(replace(DEEP, model="gaussian"), (9, 9, 9), depth_um=depth_um)
    np.testing.assert_allclose(found, found[::-1], rtol=0, atol=1e-3 * found.max())
