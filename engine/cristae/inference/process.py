"""Process: what torch is told of the process that it computes in: one thread, one way of computing, and how memory is taken."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any


def in_huge_pages() -> None:
    """Arrays of 2 MiB and more are asked for in huge pages, where the system has them: a fifth less time in space, by fewer page faults.

    torch looks once, when it makes its first array. Whoever has set the variable has decided.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def exact_on_gpu() -> None:
    """Single precision as it is on a CPU, and one way of computing it: no shorter mantissas, no kernels chosen by a race."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False


_ENTERING = Lock()
_BUSY: list[Any] = [0, False, True]  # callers inside, and what was set before the first came


@contextmanager
def computing(threads: int = 1) -> Iterator[None]:
    """So many threads for each caller, and deterministic algorithms; afterwards what was set before. Threads may be inside together.

    torch then also writes NaN into all memory before it is used, to show up who reads it unwritten: a tenth of the time of a small U-Net.
    Our networks read nothing unwritten, and the tests compare bytes.
    """
    import torch
    from torch.utils import deterministic

    before = torch.get_num_threads()  # a thread's own number
    with _ENTERING:
        if _BUSY[0] == 0:
            _BUSY[1:] = torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory
            torch.use_deterministic_algorithms(True)
            deterministic.fill_uninitialized_memory = False
        _BUSY[0] += 1
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        with _ENTERING:
            _BUSY[0] -= 1
            if _BUSY[0] == 0:
                torch.use_deterministic_algorithms(_BUSY[1])
                deterministic.fill_uninitialized_memory = _BUSY[2]
