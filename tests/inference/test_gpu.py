"""On a GPU a network says the same, to single precision, and the same bytes again."""

from __future__ import annotations

import numpy as np
import pytest
from inference.models import VOXEL_UM, tiny

from cristae.inference import load_model, segment

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("blend", ["gaussian", "crop"])
def test_a_gpu_agrees_with_the_cpu(ndim: int, blend: str) -> None:
    import cupy

    path = tiny(ndim, features=(8, 16))
    shape, tile = (((150, 170), [96, 96]), ((24, 130, 110), [24, 96, 96]))[ndim - 2]
    image = np.random.default_rng(3).integers(0, 900, shape).astype(np.uint16)
    stage = segment(model=path, voxel_um=VOXEL_UM[ndim], tile=tile, blend=blend, dtype="uint16")
    host, device = stage(image), stage(cupy.asarray(image))
    assert type(device).__module__.startswith("cupy")
    assert np.abs(device.get() - host).max() < 1e-4
    assert (stage(cupy.asarray(image)).get() == device.get()).all()


def test_a_model_is_loaded_once_for_each_device() -> None:
    path = tiny(2)
    assert load_model(path, device="cuda") is load_model(path, device="cuda")
    assert next(load_model(path, device="cuda").module.parameters()).is_cuda
    assert not next(load_model(path).module.parameters()).is_cuda
