"""Plain kernels stay in the library of their arrays, and compute what the compiled ones compute."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cristae.blocks.measure import ask
from cristae.filters import STAGES
from cristae.filters.histogram import histogram

CASES = [
    ("gaussian", {"sigma_um": 0.2}, 1e-4),
    ("difference_of_gaussians", {"low_sigma_um": 0.1, "high_sigma_um": 0.2}, 1e-4),
    ("ridge", {"radius_um": [0.15, 0.3]}, 1e-4),
    ("threshold", {"value": 60.5}, 0),
    ("threshold", {"method": "otsu"}, 0),
]


@pytest.fixture(scope="module")
def standin() -> Iterator[ModuleType]:
    spec = spec_from_file_location("standin", Path(__file__).parents[1] / "standin.py")
    assert spec and spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.installed():
        yield module


@pytest.mark.parametrize(("name", "user", "tolerance"), CASES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_another_library_gives_the_same_answer_in_its_own_arrays(standin, name, user, tolerance, dtype, ndim):
    facts = {"dtype": dtype} if name == "threshold" else {}
    stage = STAGES[name](**user, **facts, voxel_um=(0.2, 0.1, 0.1)[-ndim:])
    array = np.random.default_rng(0).gamma(2.0, 30.0, (7, 20, 24)[-ndim:]).clip(0, 255).astype(dtype)
    there, here = stage(standin.device(array)), stage(array)
    assert isinstance(there, standin.StandIn) and there.get().dtype == here.dtype
    np.testing.assert_allclose(there.get().astype(float), here.astype(float), atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype", ["bool", "int16", "int64", "float32"])
def test_histograms_of_another_library_are_the_same(standin, dtype):
    array = np.random.default_rng(1).normal(0, 40, (9, 30)).astype(dtype)
    if dtype == "int64":
        array = array * 10**12
    measure = histogram(ndim=2, dtype=dtype)
    there, here = ask(measure, standin.device(array)).arrays, ask(measure, array).arrays
    for name in here:
        np.testing.assert_array_equal(there[name], here[name])


def test_the_stand_in_refuses_what_cupy_refuses(standin):
    array = standin.device(np.ones(3))
    for mistake in (np.asarray, np.sqrt, np.concatenate, lambda a: a + np.ones(3), lambda a: np.ones(3) * a):
        with pytest.raises(TypeError):
            mistake(array)
