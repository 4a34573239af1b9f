"""Which library an array lives in, and which device a word means."""

from __future__ import annotations

import types

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage

from cristae import array
from cristae.errors import InvalidConfiguration, UsageError


def test_numpy_arrays_live_in_numpy() -> None:
    here = np.zeros(3)
    assert array.library(here) == "numpy"
    assert array.namespace(here) is np
    assert array.ndimage(here) is scipy.ndimage
    assert array.fft(here) is scipy.fft


def test_a_memory_map_is_a_numpy_array(tmp_path) -> None:
    mapped = np.memmap(tmp_path / "a", np.uint8, "w+", shape=(4,))
    assert array.library(mapped) == "numpy"


def test_an_array_of_no_known_library_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="expected a numpy or cupy array, got list of builtins"):
        array.namespace([1, 2])


def test_the_array_picks_the_kernel() -> None:
    def plain(x):
        return "plain"

    def fast(x):
        return "fast"

    assert array.pick(np.zeros(1), plain, numpy=fast) is fast
    assert array.pick(np.zeros(1), plain, cupy=fast) is plain


def test_the_host_costs_no_copy() -> None:
    here = np.zeros(3)
    assert array.to_host(here) is here
    assert array.to_device(here, "cpu") is here


@pytest.mark.parametrize("word", ["gpu", "cuda:x", "cuda:-1", "CPU", "", "tpu:0", "cpu:1"])
def test_a_word_that_is_no_device_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="is not one of auto, cpu, cuda, cuda:N"):
        array.resolve_device(word)


@pytest.mark.parametrize("devices", [0, 1, 2])
def test_a_gpu_is_taken_where_there_is_one_and_never_silently_left_out(devices: int, monkeypatch) -> None:
    monkeypatch.setattr(array, "_cuda_devices", lambda: devices)
    assert array.resolve_device("cpu") == "cpu"
    assert array.resolve_device("auto") == ("cuda:0" if devices else "cpu")
    for n in range(3):
        if n < devices:
            assert array.resolve_device(f"cuda:{n}") == f"cuda:{n}"
        else:
            with pytest.raises(InvalidConfiguration, match=rf"asks for a GPU, but {devices} can be used here"):
                array.resolve_device(f"cuda:{n}")


def test_a_cupy_without_a_driver_counts_no_devices(monkeypatch) -> None:
    def failing(*_):
        raise RuntimeError("no driver")

    broken = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=failing))
    monkeypatch.setitem(__import__("sys").modules, "cupy", broken)
    assert array._cuda_devices() == 0
    assert array.resolve_device("auto") == "cpu"
