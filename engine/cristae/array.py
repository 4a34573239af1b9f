"""Array: which library a block lives in, and that library's filters. The one place that knows there are two.

A kernel takes arrays and stays in their library: it asks `namespace(x)` for the functions and `ndimage(x)` for the
filters. Where a compiled kernel stands beside the plain one, `pick` chooses by the array, never by a flag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from cristae.errors import InvalidConfiguration, UsageError

Array = Any
"""numpy.ndarray or cupy.ndarray; kernels never mix them."""


@dataclass(frozen=True)
class Library:
    """Module names of one array library and of the filters that work on its arrays."""

    namespace: str
    ndimage: str
    fft: str
    special: str


LIBRARIES: dict[str, Library] = {
    "numpy": Library("numpy", "scipy.ndimage", "scipy.fft", "scipy.special"),
    "cupy": Library("cupy", "cupyx.scipy.ndimage", "cupyx.scipy.fft", "cupyx.scipy.special"),
}
"""Libraries by the root module of their array type; a test may add a stand-in."""


def library(array: Array) -> str:
    """Name of the library that `array` lives in."""
    root = type(array).__module__.partition(".")[0]
    if root not in LIBRARIES:
        raise TypeError(f"expected a numpy or cupy array, got {type(array).__name__} of {root}")
    return root


def namespace(array: Array) -> Any:
    """The library's functions: `numpy` or `cupy`."""
    return import_module(LIBRARIES[library(array)].namespace)


def ndimage(array: Array) -> Any:
    """The library's n-dimensional filters: `scipy.ndimage` or `cupyx.scipy.ndimage`."""
    return import_module(LIBRARIES[library(array)].ndimage)


def fft(array: Array) -> Any:
    """The library's Fourier transforms: `scipy.fft` or `cupyx.scipy.fft`."""
    return import_module(LIBRARIES[library(array)].fft)


def special(array: Array) -> Any:
    """The library's special functions: `scipy.special` or `cupyx.scipy.special`."""
    return import_module(LIBRARIES[library(array)].special)


def pick(array: Array, plain: Callable[..., Any], **fast: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel for this array: `fast[library]` where there is one, else `plain`; both compute the same."""
    return fast.get(library(array), plain)


def to_host(array: Array) -> np.ndarray:
    """The array in host memory: one copy down for cupy, none for numpy."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


def to_device(array: np.ndarray, device: str) -> Array:
    """The array on `device` ("cpu" or "cuda:N"): one copy up, or none."""
    if device == "cpu":
        return array
    cupy = import_module("cupy")
    with cupy.cuda.Device(int(device.partition(":")[2] or 0)):
        return cupy.asarray(array)


def resolve_device(device: str) -> str:
    """ "auto", "cpu" or "cuda[:N]" to "cpu" or "cuda:N".

    Raises
    ------
    UsageError : if the word is none of these.
    InvalidConfiguration : if a GPU is asked for by name and cannot be used; there is no silent fall to the CPU.
    """
    if device == "cpu":
        return device
    name, _, index = device.partition(":")
    if name not in ("auto", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"--device {device} is not one of auto, cpu, cuda, cuda:N")
    if usable := _cuda_devices():
        n = int(index or 0)
        if n < usable:
            return f"cuda:{n}"
    if name == "auto":
        return "cpu"
    raise InvalidConfiguration(
        f"--device {device} asks for a GPU, but {usable} can be used here; install the extra gpu-cu13 or gpu-cu12, "
        "or give --device cpu"
    )


def _cuda_devices() -> int:
    # `import cupy` succeeds without a driver, so only the driver's own answer counts.
    try:
        cupy = import_module("cupy")
        return int(cupy.cuda.runtime.getDeviceCount()) if cupy.cuda.is_available() else 0
    except Exception:
        return 0
