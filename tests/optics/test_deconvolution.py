"""Deconvolution: against scikit-image, on points of known width, and in blocks; every slip of a user is one sentence."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile
from laws.blockwise import stage_box
from scipy.signal import fftconvolve

from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import BlockGrid
from cristae.optics import richardson_lucy, wiener
from cristae.optics.blur import weights
from cristae.optics.deconvolution import FULL_SCALE, deconvolved

BEAD = Path(__file__).parent / "bead.ome.tif"
BEAD_UM = (0.25, 0.11, 0.1)
VOXEL_UM = (0.2, 0.08, 0.08)
STACK = {"voxel_um": VOXEL_UM, "microscope": "epi1", "radius_um": 0.5, "depth_radius_um": 1.0}
PLANE = {"voxel_um": VOXEL_UM[1:], "microscope": "epi1", "radius_um": 0.8}


def kernel(stage: Stage) -> np.ndarray:
    return weights(stage.apply.keywords["blur"])  # type: ignore[attr-defined]


def blurred(light: np.ndarray, stage: Stage) -> np.ndarray:
    return np.maximum(fftconvolve(light, kernel(stage), "same"), 0).astype("float32")


def points(shape: tuple[int, ...], share: float = 0.004, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(shape) < share, rng.uniform(2000, 20000, shape), 0.0)


def fwhm(row: np.ndarray) -> float:
    """Width of a row's one hill at half its height, on straight lines between samples."""
    half, top = row.max() / 2, int(row.argmax())
    left = top - next(n for n in range(top + 1) if row[top - n] < half)
    right = top + next(n for n in range(len(row)) if row[top + n] < half)
    before = left + (half - row[left]) / (row[left + 1] - row[left])
    after = right - (half - row[right]) / (row[right - 1] - row[right])
    return float(after - before)


# ------------------------------------------------------------------------------------------- what comes out


@pytest.mark.parametrize("iterations", [1, 2, 10])
def test_equals_scikit_image_where_no_edge_is_near(iterations):
    from skimage.restoration import richardson_lucy as reference

    stage = richardson_lucy(**{**STACK, "microscope": "confocal"}, iterations=iterations)
    # A dim ground: of light that is rounding alone, each makes something else.
    image = blurred(points((60, 84, 90)) + 20, stage)
    found, expected = stage(image), reference(image, kernel(stage), num_iter=iterations, clip=False)
    inner = (slice(20, -20), slice(24, -24), slice(24, -24))
    assert np.abs(found - expected)[inner].max() <= 1e-3 * expected[inner].max()


def test_a_point_comes_back_sharper_and_with_all_its_light():
    stage = richardson_lucy(**STACK, iterations=30)
    light = np.zeros((31, 41, 41))
    light[15, 20, 20] = 1e5
    image = blurred(light, stage)
    found = stage(image)
    for axis in range(3):
        line = tuple(slice(None) if n == axis else m // 2 for n, m in enumerate(light.shape))
        assert fwhm(found[line]) < 0.6 * fwhm(image[line])
    assert found.sum() == pytest.approx(image.sum(), rel=2e-3)
    assert found.min() >= 0


def test_a_tube_comes_back_sharper_in_the_plane_too():
    stage = richardson_lucy(**PLANE, iterations=30)
    light = np.full((64, 64), 10.0)
    light[:, 32] = 1000.0
    image = blurred(np.pad(light, 20, mode="edge"), stage)[20:-20, 20:-20]
    found = stage(image)
    assert fwhm(found[30]) < 0.6 * fwhm(image[30])
    # The tube leaves the image above and below, and the edge does not show.
    np.testing.assert_allclose(found[[0, 1, -1], 32], found[30, 32], rtol=0.05)


@pytest.mark.parametrize("build", [richardson_lucy, wiener])
@pytest.mark.parametrize("words", [STACK, PLANE], ids=["3d", "2d"])
def test_even_light_stays_even_up_to_the_edge(build, words):
    image = np.full((12, 30, 33)[-len(words["voxel_um"]) :], 700, np.uint16)
    np.testing.assert_allclose(build(**words)(image), 700, rtol=1e-4)


def test_wiener_is_the_filter_that_it_says():
    stage = wiener(**PLANE, noise=0.01)
    image = blurred(points((150, 160), 0.01), stage)
    frame = np.zeros(image.shape)
    h = kernel(stage)
    frame[: h.shape[0], : h.shape[1]] = h
    transfer = np.fft.rfft2(np.roll(frame, [-(n // 2) for n in h.shape], (0, 1)))
    whole = np.fft.irfft2(np.fft.rfft2(image) * transfer.conj() * 1.01 / (abs(transfer) ** 2 + 0.01), s=image.shape)
    inner = (slice(40, -40),) * 2
    assert np.abs(stage(image)[inner] - whole[inner]).max() <= 0.01 * whole.max()


def test_wiener_sharpens_and_keeps_the_mean():
    stage = wiener(**PLANE, noise=1e-3)
    light = np.full((64, 64), 10.0)
    light[:, 32] = 1000.0
    image = blurred(np.pad(light, 20, mode="edge"), stage)[20:-20, 20:-20]
    found = stage(image)
    assert fwhm(found[30]) < 0.7 * fwhm(image[30])
    assert found.mean() == pytest.approx(image.mean(), rel=0.01)


def test_total_variation_keeps_noise_down():
    stage = richardson_lucy(**PLANE, iterations=40)
    light = np.full((90, 90), 20.0)
    light[30:60, 30:60] = 60.0
    image = np.random.default_rng(0).poisson(blurred(np.pad(light, 20, mode="edge"), stage)[20:-20, 20:-20])
    noise = {}
    for tv in (0.0, 0.002, 0.02):
        found = richardson_lucy(**PLANE, iterations=40, tv=tv)(image)
        noise[tv] = found[35:55, 35:55].std()
        assert found[35:55, 35:55].mean() == pytest.approx(60, rel=0.05)
    assert noise[0.02] < 0.6 * noise[0.0]
    assert noise[0.02] < noise[0.002] < noise[0.0]


def test_the_background_is_expected_and_not_in_the_result():
    plain, raised = (richardson_lucy(**PLANE, iterations=20, background=b) for b in (0.0, 100.0))
    light = np.zeros((60, 60))
    light[20:40, 20:40] = points((20, 20), 0.05)
    image = blurred(light, plain)
    found, other = raised(image + 100), plain(image + 100)
    assert found.sum() == pytest.approx(image.sum(), rel=0.05)
    assert np.median(found[:10]) < 1 < 90 < np.median(other[:10])


def test_voxels_that_are_no_number_are_filled_from_around():
    stage = richardson_lucy(**PLANE, iterations=10)
    image = blurred(points((80, 80), 0.02) + 50, stage)
    spoiled = image.copy()
    spoiled[40, 40], spoiled[0, 0], spoiled[7, 70] = np.nan, np.inf, -np.inf
    found, expected = stage(spoiled), stage(image)
    assert np.isfinite(found).all()
    far = np.s_[:, 10:20]
    assert np.abs(found[far][15:60] - expected[far][15:60]).max() < 1e-2 * expected.max()
    assert np.isfinite(wiener(**PLANE)(spoiled)).all()


@pytest.mark.parametrize("build", [richardson_lucy, wiener])
def test_scale_does_not_matter(build):
    image = blurred(points((50, 50), 0.02) + 5, build(**PLANE))
    one, other = build(**PLANE)(image), build(**PLANE)(image * 2.0**-20)
    np.testing.assert_allclose(other * 2.0**20, one, rtol=0, atol=1e-5 * one.max())


# ---------------------------------------------------------------------------------------------------- blocks


def farthest(stage: Stage, image: np.ndarray, block: tuple[int, ...]) -> float:
    """The largest difference between blocks and the whole, for a brightest voxel as the tolerance is stated for."""
    whole, grid, worst = stage(image), BlockGrid(image.shape, block), 0.0
    for index in range(len(grid)):
        core = grid.core(index)
        found = stage_box(stage, [image], core, grid, index, {})
        worst = max(worst, float(np.abs(found - whole[core.slices]).max()))
    return worst * FULL_SCALE / float(max(image.max(), whole.max()))


@pytest.mark.parametrize("microscope", ["epi1", "confocal"])
@pytest.mark.parametrize("block", [(12, 40, 120), (40, 33, 21), (80, 31, 45)])
@pytest.mark.parametrize("tv", [0.0, 0.01])
def test_blocks_are_the_whole_within_what_is_stated(microscope, block, tv):
    words = {"voxel_um": BEAD_UM, "microscope": microscope, "radius_um": 0.33, "depth_radius_um": 0.75}
    stage = richardson_lucy(**words, iterations=10, tv=tv)
    image = np.random.default_rng(1).poisson(blurred(points((80, 62, 90), 0.01) + 20, stage))
    assert farthest(stage, image, block) <= stage.tolerance
    image = np.where(np.arange(90) < 45, 1000, 1) * np.ones((80, 62, 1))  # the worst that was found
    assert farthest(stage, image, block) <= stage.tolerance


@pytest.mark.parametrize("iterations", [1, 2, 3, 40])
def test_blocks_of_a_plane_are_the_whole_within_what_is_stated(iterations):
    stage = richardson_lucy(**PLANE, iterations=iterations)
    image = np.random.default_rng(2).poisson(blurred(points((200, 170), 0.02) + 20, stage))
    for block in ((50, 60), (200, 17), (90, 170)):
        assert farthest(stage, image, block) <= stage.tolerance


def test_one_and_two_iterations_see_all_they_need():
    radius = np.array(kernel(richardson_lucy(**STACK)).shape) // 2
    reach = {n: np.array(richardson_lucy(**STACK, iterations=n).halo)[:, 0] for n in (1, 2, 3, 50)}
    np.testing.assert_array_equal(reach[1], radius)
    np.testing.assert_array_equal(reach[2], 3 * radius)
    np.testing.assert_array_equal(reach[3], reach[50])
    np.testing.assert_array_equal(reach[50], 3 * radius + 4)


@pytest.mark.parametrize("noise", [1e-4, 0.01, 1.0])
def test_blocks_of_wiener_differ_by_rounding(noise):
    stage = wiener(**STACK, noise=noise)
    image = np.random.default_rng(3).poisson(blurred(points((50, 60, 70), 0.01) + 20, stage))
    for block in ((50, 20, 35), (7, 60, 70), (20, 31, 33)):
        assert farthest(stage, image, block) <= stage.tolerance


def test_a_stack_of_one_plane_and_a_line_of_voxels_are_no_special_case():
    for shape in ((1, 20, 20), (1, 1, 1), (5, 1, 30)):
        image = np.random.default_rng(0).poisson(50, shape)
        for build in (richardson_lucy, wiener):
            found = build(**STACK)(image)
            assert found.shape == shape and np.isfinite(found).all()


# ----------------------------------------------------------------------------------------------- the PSF


def test_only_facts_travel():
    stage = richardson_lucy(**STACK)
    assert len(pickle.dumps(stage)) < 3000
    assert stage.params["microscope"]["na"] == 1.4


def test_weights_are_found_once_and_cannot_be_changed():
    h = kernel(richardson_lucy(**STACK))
    assert h is kernel(wiener(**STACK)) and h.sum() == pytest.approx(1, rel=1e-6)
    with pytest.raises(ValueError):
        h[0] = 0


def test_depth_changes_the_psf_and_the_key():
    near, deep = (richardson_lucy(**STACK, depth_um=d) for d in (0.0, 8.0))
    assert np.abs(kernel(near) - kernel(deep)).max() > 1e-3
    assert near.params != deep.params


def test_a_measured_psf_is_its_bead_without_the_background():
    stage = richardson_lucy(voxel_um=BEAD_UM, psf=str(BEAD))
    h, computed = (
        kernel(stage),
        kernel(richardson_lucy(voxel_um=BEAD_UM, microscope="confocal", radius_um=0.56, depth_radius_um=0.75)),
    )
    assert h.shape == (7, 11, 11) and h.sum() == pytest.approx(1, rel=1e-6) and h.argmax() == h.size // 2
    assert np.abs(h - computed[:, : h.shape[1], : h.shape[2]]).max() < 0.1 * computed.max()
    assert np.median(h[0]) < 0.002 * h.max()
    assert kernel(wiener(voxel_um=BEAD_UM[1:], psf=str(BEAD))).shape == (11, 11)


def written(path: Path, voxels: np.ndarray, voxel_um: tuple[float, ...] = BEAD_UM, axes: str = "ZYX") -> str:
    size = {f"PhysicalSize{a}": h for a, h in zip("ZYX", voxel_um, strict=True)}
    units = {f"PhysicalSize{a}Unit": "µm" for a in "ZYX"}
    tifffile.imwrite(path, voxels, ome=True, metadata={"axes": axes, **size, **units})
    return str(path)


def bead(shape: tuple[int, ...] = (9, 11, 13), at: tuple[int, ...] = (3, 5, 8)) -> np.ndarray:
    away = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) - at
    return (100 + 3000 * np.exp(-0.5 * (away**2).sum(-1) / 1.5)).astype(np.uint16)


def test_the_brightest_voxel_is_the_middle_wherever_it_lies(tmp_path):
    stage = richardson_lucy(voxel_um=BEAD_UM, psf=written(tmp_path / "aside.ome.tif", bead()), iterations=2)
    h = kernel(stage)
    assert h.shape == (11, 11, 17)
    assert np.unravel_index(h.argmax(), h.shape) == (5, 5, 8)
    np.testing.assert_allclose(h, h[::-1, ::-1, ::-1], atol=0.02 * h.max())
    cut = richardson_lucy(voxel_um=BEAD_UM, psf=stage.apply.keywords["blur"].path, radius_um=0.3, depth_radius_um=0.5)
    assert kernel(cut).shape == (5, 5, 7)


def test_voxels_of_a_psf_are_in_the_key_and_its_place_is_not(tmp_path):
    (tmp_path / "a").mkdir()
    here, there = written(tmp_path / "psf.ome.tif", bead()), written(tmp_path / "a" / "psf.ome.tif", bead())
    one, two = (richardson_lucy(voxel_um=BEAD_UM, psf=path) for path in (here, there))
    assert one.params == two.params
    written(tmp_path / "psf.ome.tif", bead() + (bead() > 2000))
    assert richardson_lucy(voxel_um=BEAD_UM, psf=here).params != two.params


def test_a_psf_that_changed_while_a_run_waited_is_refused(tmp_path):
    path = written(tmp_path / "psf.ome.tif", bead())
    stage = richardson_lucy(voxel_um=BEAD_UM, psf=path)
    written(tmp_path / "psf.ome.tif", bead() + np.uint16(1))
    with pytest.raises(InvalidInput, match="not the one that the run began with"):
        stage(np.ones((5, 5, 5)))


# ------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "either microscope: NAME or psf: FILE"),
        ({"microscope": "epi1", "psf": str(BEAD)}, "not both"),
        ({"microscope": "epi9"}, "no microscope epi9"),
        ({"microscope": 3}, "must be a name"),
        ({"microscope": "epi1", "depth_um": -1.0}, "depth_um is -1.0"),
        ({"microscope": "epi1", "depth_um": "deep"}, "depth_um is 'deep'"),
        ({"microscope": "epi1", "radius_um": -0.5}, "radius_um is -0.5"),
        ({"microscope": "epi1", "radius_um": 0.05}, "less than a voxel"),
        ({"microscope": "epi1", "radius_um": 500.0}, "128 are the most"),
        ({"microscope": "epi1", "depth_radius_um": 100.0}, "128 are the most"),
        ({"psf": str(BEAD), "depth_um": 2.0}, "leave it out"),
        ({"psf": str(BEAD), "radius_um": 0.01}, "no more than a voxel"),
        ({"psf": str(BEAD), "voxel_um": (0.3, 0.11, 0.1)}, "voxels of 0.25 x 0.11 x 0.1 um, the image of 0.3"),
        ({"microscope": "epi1", "voxel_um": (0.0, 0.1, 0.1)}, "above 0"),
    ],
)
@pytest.mark.parametrize("build", [richardson_lucy, wiener])
def test_a_wrong_psf_is_one_sentence(build, words, sentence):
    with pytest.raises(InvalidConfiguration, match=sentence):
        build(**{"voxel_um": BEAD_UM, **words})


@pytest.mark.parametrize(
    ("build", "words", "sentence"),
    [
        (richardson_lucy, {"iterations": 0}, "iterations is 0, but must be a whole number from 1 to 500"),
        (richardson_lucy, {"iterations": 10_000}, "from 1 to 500"),
        (richardson_lucy, {"iterations": 2.5}, "whole number"),
        (richardson_lucy, {"iterations": True}, "whole number"),
        (richardson_lucy, {"tv": -0.1}, "tv is -0.1"),
        (richardson_lucy, {"tv": 5.0}, "0.002 is usual"),
        (richardson_lucy, {"background": -1.0}, "background is -1.0"),
        (richardson_lucy, {"background": float("nan")}, "background is nan"),
        (wiener, {"noise": 0.0}, "noise is 0.0"),
        (wiener, {"noise": "much"}, "noise is 'much'"),
    ],
)
def test_a_wrong_number_is_one_sentence(build, words, sentence):
    with pytest.raises(InvalidConfiguration, match=sentence) as caught:
        build(**STACK, **words)
    assert str(caught.value).startswith(build.__name__)


def test_a_file_that_is_no_psf_is_one_sentence(tmp_path):
    flat = written(tmp_path / "flat.ome.tif", np.full((5, 7, 7), 100, np.uint16))
    with pytest.raises(InvalidConfiguration, match="nowhere brighter than at its border"):
        richardson_lucy(voxel_um=BEAD_UM, psf=flat)
    two = written(tmp_path / "two.ome.tif", np.stack([bead(), bead()]), axes="CZYX")
    with pytest.raises(InvalidConfiguration, match="2 channels"):
        richardson_lucy(voxel_um=BEAD_UM, psf=two)
    large = written(tmp_path / "large.ome.tif", np.zeros((65, 512, 512), np.uint8))
    with pytest.raises(InvalidConfiguration, match="far more than a PSF"):
        richardson_lucy(voxel_um=BEAD_UM, psf=large)
    with pytest.raises(InvalidInput):
        richardson_lucy(voxel_um=BEAD_UM, psf=str(tmp_path / "none.tif"))


def test_a_plane_is_no_psf_of_a_stack(tmp_path):
    path = tmp_path / "plane.ome.tif"
    units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(
        path, bead()[3], ome=True, metadata={"axes": "YX", "PhysicalSizeX": 0.1, "PhysicalSizeY": 0.11, **units}
    )
    with pytest.raises(InvalidConfiguration, match="one plane"):
        richardson_lucy(voxel_um=BEAD_UM, psf=str(path))
    assert kernel(richardson_lucy(voxel_um=BEAD_UM[1:], psf=str(path))).ndim == 2


def test_a_kernel_runs_on_arrays_alone():
    image = np.random.default_rng(0).poisson(30, (20, 24)).astype(np.float32)
    h = kernel(richardson_lucy(**PLANE))
    found = deconvolved(image, h, iterations=3, tv=0.0, background=0.0, steps=(1, 1))
    np.testing.assert_array_equal(found, richardson_lucy(**PLANE, iterations=3)(image))
