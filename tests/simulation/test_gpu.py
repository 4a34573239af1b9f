"""On a GPU the same light, to 1e-5 of the peak, and the same noise."""

from __future__ import annotations

import numpy as np
import pytest

from cristae.grid import Box
from cristae.optics.microscope import microscope
from cristae.simulation.camera import Camera, expose
from cristae.simulation.layers import imaged
from cristae.simulation.transfer import framed, transfer

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", ["water-epi", "epi1", "confocal"])
def test_light_is_the_same_on_a_gpu(name: str) -> None:
    import cupy

    rng = np.random.default_rng(1)
    pixels, pixel, planes = 64, 0.1, (0.5, 0.7, 0.9)
    points = rng.random((3000, 3)) * (1.4, pixels * pixel, pixels * pixel)
    light = rng.random(3000)
    scope = microscope(name)
    through = transfer(scope, framed(scope, pixels + 64, pixel), planes, (0.0, 1.4), reach_um=3.2, deep_um=3.0)
    host = imaged(points, light, through, pixels)
    device = imaged(cupy.asarray(points), cupy.asarray(light), through, pixels)
    assert np.abs(device.get() - host).max() <= 1e-5 * host.max()


def test_noise_is_the_same_on_a_gpu() -> None:
    import cupy

    shape = (4, 64, 64)
    photons = (np.arange(np.prod(shape)).reshape(shape) % 500).astype(np.float32)
    camera = Camera(background=3, read_noise=1.4, spread=0.2, electrons=0.46, offset=100)
    host = expose(photons, camera, Box.whole(shape), shape, 5)
    device = expose(cupy.asarray(photons), camera, Box.whole(shape), shape, 5)
    assert (device.get() != host).mean() < 1e-4
