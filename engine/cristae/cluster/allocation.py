"""Allocation: what this process holds, and the C library's allocator, asked to give back what large blocks leave.

With one arena for each thread, the readers, workers and writers of a process each keep the holes of the largest block they saw,
and memory once taken stays taken. One arena, and maps of their own for arrays above a fixed size, hold a process to what its
plan says (man 3 mallopt). Smaller ones stay: dask has its workers give back every 64 KiB, and most pages are wanted again at once.

What takes the same large arrays again and again, as the layers of a network do, is better off where they stay for as long as it
goes on: fetching the pages of a small U-Net anew for each tile is a quarter of its time.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock

ARENAS = 1
MAPPED_BYTES = 8 << 20
KEPT_BYTES = 16 << 20
REUSED_BYTES, ALL = 16 << 20, 1 << 30
"""While what is freed is kept: arrays up to this size are not mapped by themselves, and this much may be free at the end."""

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
    return bool(_glibc("mallopt", _M_ARENA_MAX, ARENAS)) and _set(mapped=MAPPED_BYTES, kept=KEPT_BYTES)


def give_back_holes() -> bool:
    """Hand back every free page of this process, those between what is in use too; False where it is not glibc's."""
    return _glibc("malloc_trim", 0) is not None


@contextmanager
def freed_kept() -> Iterator[None]:
    """What this process frees stays with it for its next arrays, and is given back once nobody is inside any more."""
    with _KEEPING:
        _INSIDE[0] += 1
        if _INSIDE[0] == 1:
            _set(mapped=REUSED_BYTES, kept=ALL)
    try:
        yield
    finally:
        with _KEEPING:
            _INSIDE[0] -= 1
            if _INSIDE[0] == 0:
                _set(mapped=MAPPED_BYTES, kept=KEPT_BYTES)
                give_back_holes()


_KEEPING = Lock()
_INSIDE = [0]


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


def _set(*, mapped: int, kept: int) -> bool:
    return all([_glibc("mallopt", _M_MMAP_THRESHOLD, mapped), _glibc("mallopt", _M_TRIM_THRESHOLD, kept)])


def _glibc(name: str, *words: int) -> int | None:
    try:
        return int(getattr(ctypes.CDLL(None), name)(*words))
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return None
