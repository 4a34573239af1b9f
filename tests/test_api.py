"""The public surface: few names, sorted, each of them there; and nothing heavy behind `import cristae`."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys

import pytest

import cristae
from cristae import errors

HEAVY = (
    "numpy",
    "scipy",
    "dask",
    "distributed",
    "zarr",
    "numba",
    "torch",
    "cupy",
    "pandas",
    "polars",
    "xarray",
    "skimage",
)


def loaded_after(statement: str) -> set[str]:
    """Top-level modules that a fresh process holds after `statement`."""
    script = f"import json, sys\n{statement}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=_environment()
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


def _environment() -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_the_surface_is_sorted_and_small() -> None:
    assert cristae.__all__ == sorted(cristae.__all__)
    assert len(cristae.__all__) == len(set(cristae.__all__)) <= 25


@pytest.mark.parametrize("name", cristae.__all__)
def test_every_public_name_is_there_and_explains_itself(name: str) -> None:
    found = getattr(cristae, name)
    assert found.__doc__, f"cristae.{name} has no docstring"
    assert found.__module__.startswith("cristae")
    assert name in dir(cristae)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'gausian'"):
        _ = cristae.gausian


@pytest.mark.parametrize("statement", ["import cristae", "import cristae.errors", "import cristae.grid"])
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert not loaded_after(statement) & set(HEAVY)


def test_the_stages_load_no_scheduler_and_no_store() -> None:
    assert not loaded_after("from cristae import gaussian, label, ridge, threshold") & {"distributed", "zarr", "torch"}


def test_every_module_imports_and_says_what_it_is_for() -> None:
    for module in pkgutil.walk_packages(cristae.__path__, "cristae."):
        found = importlib.import_module(module.name)
        if not module.ispkg:
            assert found.__doc__, f"{module.name} has no docstring"


def test_every_kind_of_error_has_the_exit_code_of_its_tree() -> None:
    codes = {
        "CristaeError": 1,
        "UsageError": 2,
        "InvalidInput": 3,
        "MissingExtra": 3,
        "SeveralScenes": 3,
        "InvalidConfiguration": 3,
        "PlanRefused": 3,
        "SetAside": 4,
        "Claimed": 5,
        "Damaged": 6,
    }
    classes = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.CristaeError)}
    assert {n: c.exit_code for n, c in classes.items()} == codes
    for name, code in codes.items():
        assert f"{name} " in str(errors.__doc__) and str(code) in str(errors.__doc__)


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (1, 143)])
def test_a_stop_carries_the_code_of_its_signal(number: int, code: int) -> None:
    stopped = errors.Stopped("stopped", number)
    assert stopped.exit_code == code
    assert not isinstance(stopped, Exception)  # `except Exception` around a block must let it pass
