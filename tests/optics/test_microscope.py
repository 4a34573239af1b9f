"""Microscopes: what each may be, what one sentence says where it may not, and that every one of the list makes a PSF."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from cristae.errors import InvalidConfiguration
from cristae.optics.microscope import MODALITIES, MODELS, Microscope, microscope, presets
from cristae.optics.psf import psf

OIL = {"na": 1.4, "emission_um": 0.61}
SHAPE = (9, 33, 31)


@pytest.mark.parametrize("model", [m for m in MODELS if m != "measured"])
@pytest.mark.parametrize("name", sorted(presets()))
def test_every_microscope_of_the_list_images_a_point_as_light_around_the_middle(name, model):
    scope = microscope(name, model=model)
    for depth_um in (0.0, 2.0):
        found = psf(scope, SHAPE, depth_um=depth_um)
        assert found.shape == SHAPE
        assert np.isfinite(found).all()
        assert (found >= 0).all()
        assert np.unravel_index(found.argmax(), SHAPE) == (4, 16, 15)
        assert found.sum((1, 2)).max() > 0.4


@pytest.mark.parametrize("name", sorted(presets()))
def test_no_plane_of_any_microscope_holds_more_light_than_there_is(name):
    found = psf(microscope(name), (5, 129, 129))
    assert found.sum((1, 2)).max() <= 1 + 1e-6


@pytest.mark.parametrize("name", sorted(presets()))
def test_the_voxel_of_a_microscope_is_taken_where_none_is_given(name):
    scope = microscope(name)
    assert scope.about
    assert scope.voxel_um == tuple(presets()[name]["voxel_um"])
    np.testing.assert_array_equal(psf(scope, (3, 5, 5)), psf(scope, (3, 5, 5), voxel_um=scope.voxel_um))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("epi1", {"na": 1.4, "emission_um": 0.61, "n_sample": 1.33, "n_immersion": 1.515, "modality": "widefield"}),
        ("epi2", {"na": 1.2, "emission_um": 0.61, "n_sample": 1.33, "n_immersion": 1.33, "modality": "widefield"}),
        ("airy1", {"na": 1.4, "n_sample": 1.33, "n_immersion": 1.515, "modality": "airyscan-square"}),
        ("sam-mito", {"na": 1.42, "emission_um": 0.66, "n_sample": 1.33, "n_immersion": 1.515}),
        ("physeg", {"na": 1.4, "emission_um": 0.51, "n_sample": 1.33, "working_distance_um": 150, "glass_um": 170}),
    ],
)
def test_published_microscopes_have_their_published_numbers(name, facts):
    scope = microscope(name)
    assert {word: getattr(scope, word) for word in facts} == facts


def test_published_voxels_are_those_of_the_cameras():
    pixels = {name: microscope(name).voxel_um[1:] for name in ("epi1", "epi2", "airy1", "sam-mito")}
    assert pixels == {"epi1": (0.08, 0.08), "epi2": (0.1, 0.1), "airy1": (0.042, 0.042), "sam-mito": (0.08, 0.08)}
    assert microscope("epi2").voxel_um[0] == 0.31
    np.testing.assert_allclose(microscope("sam-mito").voxel_um[0], 0.5 / 9, rtol=0.01)  # ten planes over 500 nm


@pytest.mark.parametrize(
    ("facts", "edge"),
    [
        ({"na": 1.40, "n_sample": 1.33}, 0.950),
        ({"na": 1.42, "n_sample": 1.33}, 0.9366),
        ({"na": 1.20, "n_sample": 1.33}, 1.0),
        ({"na": 1.40, "n_sample": 1.515, "n_glass": 1.33}, 0.950),
        ({"na": 1.40, "n_sample": 1.515, "n_glass_design": 1.33}, 0.950),
    ],
)
def test_the_pupil_ends_where_light_no_longer_leaves_the_sample(facts, edge):
    np.testing.assert_allclose(Microscope(emission_um=0.61, **facts).pupil_edge, edge, atol=1e-4)


@pytest.mark.parametrize(
    ("facts", "cutoff"),
    [
        ({}, 2 * 1.4 / 0.61),
        ({"modality": "light-sheet", "sheet_fwhm_um": 1.0}, 2 * 1.4 / 0.61),
        ({"modality": "airyscan-square"}, 4 * 1.4 / 0.61),
        ({"modality": "confocal", "excitation_um": 0.561, "pinhole_au": 1.0}, 2 * 1.4 * (1 / 0.61 + 1 / 0.561)),
        ({"modality": "airyscan", "excitation_um": 0.561, "pinhole_au": 1.25}, 2 * 1.4 * (1 / 0.61 + 1 / 0.561)),
    ],
)
def test_no_detail_passes_beyond_the_cutoff_and_some_just_below(facts, cutoff):
    scope = Microscope(**OIL, n_sample=1.515, **facts)
    np.testing.assert_allclose(scope.cutoff, cutoff, rtol=1e-12)
    pixel_um, n = 0.02, 512
    line = psf(scope, (1, n, n), voxel_um=(0.2, pixel_um, pixel_um), integrate=False)[0].sum(0) * np.hanning(n + 1)[:n]
    passed, frequency = np.abs(np.fft.rfft(line)), np.fft.rfftfreq(n, pixel_um)
    assert passed[frequency > cutoff + 0.4].max() < 1e-5 * passed[0]
    assert passed[frequency < 0.8 * cutoff].min() > 1e-4 * passed[0]


def test_what_is_not_given_is_as_designed():
    scope = Microscope(**OIL)
    whole = replace(scope, n_immersion_design=1.515, n_glass_design=1.515, glass_design_um=170.0)
    names = ("n_immersion", "n_glass", "glass_um")
    assert [scope.designed(n) for n in names] == [whole.designed(n) for n in names] == [1.515, 1.515, 170.0]
    off = Microscope(**OIL, n_immersion_design=1.51, n_glass_design=1.52, glass_design_um=160.0)
    assert [off.designed(n) for n in names] == [1.51, 1.52, 160.0]


def test_a_microscope_is_a_frozen_fact_that_can_be_compared():
    assert microscope("epi1") == microscope("epi1")
    assert len({microscope(name) for name in presets()}) == len(presets())
    with pytest.raises(FrozenInstanceError):
        microscope("epi1").na = 1.3


def test_a_change_is_the_only_difference():
    assert microscope("epi1", na=1.3) == replace(microscope("epi1"), na=1.3)
    assert microscope("epi1").na == 1.4


# --------------------------------------------------------------------------------------------------- refusals

CONFOCAL = {**OIL, "modality": "confocal", "excitation_um": 0.561, "pinhole_au": 1.0}


def without(name: str) -> dict:
    return {k: v for k, v in CONFOCAL.items() if k != name}


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: Microscope(na=1.515, emission_um=0.61), "na 1.515"),
        (lambda: Microscope(na=1.2, emission_um=0.61, n_immersion=1.0), "na 1.2 is not below n_immersion 1"),
        (lambda: Microscope(**OIL, n_immersion_design=1.33), "n_immersion_design 1.33"),
        (lambda: Microscope(na=0.0, emission_um=0.61), "na is 0"),
        (lambda: Microscope(na="wide", emission_um=0.61), "na is 'wide'"),
        (lambda: Microscope(na=float("nan"), emission_um=0.61), "na is nan"),
        (lambda: Microscope(na=1.4, emission_um=610), "emission_um is 610"),
        (lambda: Microscope(**CONFOCAL | {"excitation_um": 488}), "excitation_um is 488"),
        (lambda: Microscope(**OIL, glass_um=170_000), "glass_um is 170000"),
        (lambda: Microscope(**OIL, glass_design_um=170_000), "glass_design_um is 170000"),
        (lambda: Microscope(**OIL, working_distance_um=150_000), "working_distance_um is 150000"),
        (lambda: Microscope(**OIL, modality="light-sheet", sheet_fwhm_um=700), "sheet_fwhm_um is 700"),
        (lambda: Microscope(**OIL, n_sample=13.3), "n_sample is 13.3"),
        (lambda: Microscope(**OIL, modality="light-sheet"), "sheet_fwhm_um"),
        (lambda: Microscope(**without("excitation_um")), "excitation_um"),
        (lambda: Microscope(**without("pinhole_au")), "pinhole_au"),
        (lambda: Microscope(**without("pinhole_au") | {"modality": "airyscan"}), "pinhole_au"),
        (lambda: Microscope(**CONFOCAL | {"pinhole_au": 0}), "pinhole_au is 0"),
        (lambda: Microscope(**OIL, modality="two-photon"), "modality is 'two-photon'"),
        (lambda: Microscope(**OIL, model="airy"), "model is 'airy'"),
        (lambda: microscope("epi9"), "epi9"),
        (lambda: microscope("epi1", magnification=100), "magnification"),
        (lambda: microscope("epi1", modality="confocal"), "excitation_um"),
        (lambda: psf(microscope("epi1"), SHAPE, depth_um=-0.1), "depth_um is -0.1"),
        (lambda: psf(microscope("epi1"), SHAPE, depth_um=float("nan")), "depth_um is nan"),
        (lambda: psf(microscope("epi1"), SHAPE, depth_um=float("inf")), "depth_um is inf"),
        (lambda: psf(Microscope(**OIL), SHAPE), "voxel_um"),
        (lambda: psf(microscope("epi1"), SHAPE, voxel_um=(0.2, 0.0, 0.08)), "voxel_um"),
        (lambda: psf(microscope("epi1"), SHAPE, voxel_um=(0.2, float("nan"), 0.08)), "voxel_um"),
        (lambda: psf(microscope("epi1"), SHAPE, voxel_um=(0.08, 0.08)), "voxel_um"),
        (lambda: psf(microscope("epi1"), (1, 3, 3), voxel_um=(200, 80, 80)), "voxel_um"),
        (lambda: psf(microscope("epi1"), (33, 31)), "shape"),
        (lambda: psf(microscope("epi1"), (9, 0, 31)), "shape"),
    ],
)
def test_a_wrong_number_or_word_is_named_in_one_sentence(build, names):
    with pytest.raises(InvalidConfiguration, match=names) as refused:
        build()
    assert "\n" not in str(refused.value)
    assert ". " not in str(refused.value)


def test_words_that_may_be_written_are_listed_where_one_is_unknown():
    for build, known in (
        (lambda: microscope("epi9"), sorted(presets())),
        (lambda: Microscope(**OIL, modality="epi"), MODALITIES),
        (lambda: Microscope(**OIL, model="epi"), MODELS),
    ):
        with pytest.raises(InvalidConfiguration) as refused:
            build()
        assert all(word in str(refused.value) for word in known)
