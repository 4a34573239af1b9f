"""Beads: a PSF that is measured in the image of a computed one is that one, and blurs a cell as that one does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cristae.errors import CristaeError, InvalidConfiguration, InvalidInput
from cristae.grid import Box
from cristae.optics.bead import Bead, bead_of
from cristae.optics.microscope import Microscope, microscope
from cristae.optics.psf import fwhm_um, profile, psf
from cristae.optics.radial import radii
from cristae.simulation.cells import Scene
from cristae.simulation.exposure import photons
from cristae.store.create import create_volume, publish
from cristae.store.volume import open_volume
from cristae_cli.main import app

WATER = microscope("water-epi", emission_um=0.610)
VOXEL_UM = (0.1, 0.05, 0.05)


def stored(path: Path, voxels: np.ndarray, voxel_um: tuple[float, ...] = VOXEL_UM) -> str:
    whole = voxels.shape
    made = create_volume(
        path, axes="zyx"[-len(whole) :], shape=whole, dtype=str(voxels.dtype), voxel_um=voxel_um, chunk=whole, shard=whole,
        kind="image", name="bead",
    )  # fmt: skip
    made.write(Box.whole(voxels.shape), voxels)
    publish(made)
    return str(path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A bead as a camera sees it: counts over a background, with noise, moved by a part of a pixel."""
    light = psf(WATER, (81, 141, 141), voxel_um=VOXEL_UM)
    frequencies = np.fft.fftfreq(141)
    turned = np.fft.fft2(light) * np.exp(-2j * np.pi * (0.3 * frequencies[:, None] - 0.2 * frequencies))
    counts = np.random.default_rng(0).poisson(100 + 4e5 * np.maximum(np.fft.ifft2(turned).real, 0))
    return stored(tmp_path_factory.mktemp("bead") / "bead.ome.zarr", counts.astype(np.uint16))


@pytest.fixture(scope="module")
def bead(image: str) -> Bead:
    return bead_of(image)


def test_the_measured_light_is_the_computed_light(bead: Bead) -> None:
    """To what the pixel's width and the noise leave of it."""
    radius, away = radii(0.02, 100), np.array([0.0, 0.3, -0.3, 1.0])
    found, expected = bead.profile(radius, away), profile(WATER, radius, -away, 0.0)
    assert np.abs(found - expected).max() < 0.06 * expected.max()
    half = np.interp(0.5 * found[0, 0], found[0, ::-1], radius[::-1])
    assert 2 * half == pytest.approx(fwhm_um(WATER)[1], rel=0.08)


def test_nothing_is_known_beyond_the_image(bead: Bead) -> None:
    assert (bead.profile(np.array([0.0, 5.0]), np.array([-9.0, 9.0])) == 0).all()
    assert bead.profile(np.array([0.0, 5.0]), np.zeros(1))[0, 1] == 0


def test_a_cell_looks_as_under_the_microscope_that_took_the_bead(bead: Bead) -> None:
    shape = (24, 96, 96)
    computed, measured = (
        photons(Scene("cell-epi", shape, 4, bead=one), "lysosome", Box.whole(shape)) for one in (None, bead)
    )
    assert np.abs(computed - measured).max() < 0.06 * computed.max()
    # Faint light at the border of the bead's image was taken for background.
    assert 0.85 < measured.sum(dtype=float) / computed.sum(dtype=float) < 1.02
    assert np.corrcoef(computed.ravel(), measured.ravel())[0, 1] > 0.998


def test_the_command_takes_a_bead_and_refuses_what_is_none(image: str, tmp_path: Path) -> None:
    words = ["simulate", "cell", "--shape", "12,40,40", "--organelles", "nucleus", "--cluster", "none", "--out"]
    for name, more in (("bead", ["--psf", image]), ("plain", [])):
        assert CliRunner().invoke(app, [*words, str(tmp_path / f"{name}.zarr"), *more]).exit_code == 0
    one, other = (open_volume(tmp_path / f"{name}.zarr").read(Box.whole((12, 40, 40))) for name in ("bead", "plain"))
    assert not np.array_equal(one, other) and one.mean() == pytest.approx(other.mean(), rel=0.1)
    refused = CliRunner().invoke(
        app, [*words, str(tmp_path / "no.zarr"), "--psf", str(tmp_path / "plain.zarr" / "labels" / "no")]
    )
    assert isinstance(refused.exception, CristaeError) and not (tmp_path / "no.zarr").exists()


def test_equal_images_are_equal_beads_and_another_is_another(image: str, bead: Bead, tmp_path: Path) -> None:
    again = bead_of(image)
    assert (
        again == bead
        and hash(again) == hash(bead)
        and Scene("cell-epi", (8, 8, 8), bead=again) == Scene("cell-epi", (8, 8, 8), bead=bead)
    )
    light = (1e4 * psf(WATER, (21, 61, 61), voxel_um=VOXEL_UM)).astype(np.uint16)
    assert bead_of(stored(tmp_path / "other.ome.zarr", light)) != bead


@pytest.mark.parametrize(
    ("voxels", "voxel_um", "said"),
    [
        (np.zeros((9, 31, 31), np.uint16), VOXEL_UM, "brighter"),
        (np.ones((31, 31), np.uint16), VOXEL_UM[1:], "stack"),
        (np.eye(31, dtype=np.uint16)[None].repeat(9, 0) * (np.arange(31) < 2), VOXEL_UM, "border"),
        (np.ones((9, 31, 31), np.uint16), (0.1, 0.05, 0.06), "square"),
    ],
)  # fmt: skip
def test_what_is_no_bead_is_refused(tmp_path: Path, voxels: np.ndarray, voxel_um: tuple[float, ...], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        bead_of(stored(tmp_path / "none.ome.zarr", voxels.astype(np.uint16), voxel_um))


def test_a_measured_microscope_needs_a_bead_and_no_other_takes_one(bead: Bead) -> None:
    with pytest.raises(InvalidConfiguration, match="bead"):
        Microscope(na=1.2, emission_um=0.6, n_immersion=1.33, model="measured")
    with pytest.raises(InvalidConfiguration, match="bead"):
        Microscope(na=1.2, emission_um=0.6, n_immersion=1.33, bead=bead)
