"""Poison: a stage that returns what it is given, except where a flag file says how a block shall fail.

Flags lie in a folder, one file a block: NUMBER holds `raise`, `segfault`, `eio` or `memory`, and NUMBER.times, where
there is one, how often; taking the flags away mends the cause without a change of the stage.
While a file `all` lies there, every block takes so many seconds longer as it says.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cristae.blocks.stage import At, Stage


@dataclass(frozen=True)
class Poison:
    """`apply` of the stage."""

    flags: str

    def __call__(self, array: Any, *, at: At, answers: Mapping[str, Any]) -> Any:
        every = Path(self.flags, "all")
        if every.exists():
            time.sleep(float(every.read_text()))
        flag = Path(self.flags) / str(at.index)
        if flag.exists() and self._armed(flag):
            fail(flag.read_text(), at.index)
        return array[at.out.within(at.reads[0])]

    def _armed(self, flag: Path) -> bool:
        times = flag.with_name(f"{flag.name}.times")
        if not times.exists():
            return True
        for n in range(int(times.read_text())):
            try:
                flag.with_name(f"{flag.name}.spent-{n}").touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def fail(how: str, block: int) -> None:
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "eio":
        raise OSError(errno.EIO, "the disk coughed")
    if how == "memory":
        raise MemoryError(f"no room for block {block}")
    raise ZeroDivisionError(f"poison in block {block}")


def poison(flags: str, ndim: int) -> Stage:
    """The stage. The folder is no parameter, so that a copied run keeps its key."""
    return Stage("poison", {}, Poison(flags), ((0, 0),) * ndim)
