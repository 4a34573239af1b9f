"""Allocation: what this process holds, and the C library's allocator, asked to give back what large blocks leave.

With one arena for each thread, the readers, workers and writers of a process each keep the holes of the largest block they saw,
and memory once taken stays taken. One arena, and maps of their own for arrays above a fixed size, hold a process to what its
plan says (man 3 mallopt). Smaller ones stay: dask has its workers give back every 64 KiB, and most pages are wanted again at once.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from functools import cache
from pathlib import Path

ARENAS = 1
MAPPED_BYTES = 8 << 20
KEPT_BYTES = 16 << 20

ENVIRONMENT = {
    "MALLOC_ARENA_MAX": ARENAS,
    "MALLOC_MMAP_THRESHOLD_": MAPPED_BYTES,
    "MALLOC_TRIM_THRESHOLD_": KEPT_BYTES,
}
"""The same, for processes that are yet to start."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


@cache
def give_back_memory() -> bool:
    """Ask the allocator of this process, once; False where it is not glibc's."""
    asked = {_M_ARENA_MAX: ARENAS, _M_MMAP_THRESHOLD: MAPPED_BYTES, _M_TRIM_THRESHOLD: KEPT_BYTES}
    return all(_glibc("mallopt", what, value) for what, value in asked.items())


def give_back_holes() -> bool:
    """Hand back every free page of this process, those between what is in use too; False where it is not glibc's."""
    return _glibc("malloc_trim", 0) is not None


def peak_memory() -> int:
    """Bytes this process held at most, 0 where the system does not say."""
    with suppress(
        OSError, ValueError
    ):  # the other figure of Linux starts with what the process held that started this one
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _glibc(name: str, *words: int) -> int | None:
    try:
        return int(getattr(ctypes.CDLL(None), name)(*words))
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
