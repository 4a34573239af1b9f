"""A second array library for machines without a GPU: numpy inside, and as touchy as cupy.

Its arrays refuse numpy's functions and mixing with host arrays, so a kernel that passes has asked `namespace` for every
function. It proves that and nothing else: not kernels on a device, not memory, not speed.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.special

from cristae.array import LIBRARIES, Library

NAME = "standin_library"


class StandIn:
    """An array that lives elsewhere; `.get()` brings it to the host, `device` makes one."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    def get(self) -> np.ndarray:
        return self._host.copy()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("a stand-in array was turned into a numpy array without asking: use array.to_host")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a stand-in array: use array.namespace")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._host, name)
        return _crossing(value, name) if callable(value) else value

    def __getitem__(self, key: Any) -> StandIn:
        return StandIn(self._host[_inside(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_inside(key)] = _inside(value)

    def __len__(self) -> int:
        return len(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __bool__(self) -> bool:
        return bool(self._host)


def _forward(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StandIn, *others: Any) -> StandIn:
        return StandIn(function(self._host, *map(_inside, others)))

    return method


def _reverse(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, other: StandIn(function(_inside(other), self._host))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift"):
    _stem = _name.strip("_")
    setattr(StandIn, f"__{_stem}__", _forward(_name))
    setattr(StandIn, f"__r{_stem}__", _reverse(_name))
    setattr(StandIn, f"__i{_stem}__", _forward(f"i{_stem}"))
for _name in ("lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert"):
    setattr(StandIn, f"__{_name}__", _forward(_name))

StandIn.__module__ = NAME


def device(host: np.ndarray) -> StandIn:
    """The array, as if it had been copied to a device."""
    return StandIn(host.copy())


@contextmanager
def installed() -> Iterator[None]:
    """While this holds, `cristae.array` knows the stand-in as a library."""
    modules = {NAME: np, f"{NAME}_ndimage": scipy.ndimage, f"{NAME}_fft": scipy.fft, f"{NAME}_special": scipy.special}
    for name, module in modules.items():
        sys.modules[name] = _Mirror(name, module)
    LIBRARIES[NAME] = Library(*modules)
    try:
        yield
    finally:
        del LIBRARIES[NAME]
        for name in modules:
            del sys.modules[name]


class _Mirror(ModuleType):
    """A module of functions that take and return stand-in arrays; types and constants are the original's."""

    def __init__(self, name: str, original: ModuleType) -> None:
        super().__init__(name)
        self._original = original

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        value = getattr(self._original, name)
        return _crossing(value, name) if callable(value) and not isinstance(value, type) else value


def _crossing(function: Any, name: str) -> Any:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        upload = name in ("asarray", "array")
        return _outside(function(*_inside(args, upload), **{k: _inside(v, upload) for k, v in kwargs.items()}))

    return call


def _inside(value: Any, upload: bool = False) -> Any:
    if isinstance(value, StandIn):
        return value._host
    if isinstance(value, np.ndarray) and not upload:
        raise TypeError(f"a numpy array of shape {value.shape} met stand-in arrays: use array.namespace(x).asarray")
    if isinstance(value, (tuple, list)):
        return type(value)(_inside(v, upload) for v in value)
    return value


def _outside(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return StandIn(value)
    return tuple(map(_outside, value)) if isinstance(value, tuple) else value
