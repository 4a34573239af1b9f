"""Claim: who may write a run's output. One owner at a time, each with an epoch higher than the last.

The owner holds a lock on a file for as long as it lives, and leaves its name beside it. Workers carry the epoch and look
before each put (`Claim.still_holds`), so a straggler of an older run writes nothing once a newer one has started.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cristae.errors import Claimed, PlanRefused
from cristae.store.bundle import write_bytes

UNWRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)


class Claim:
    """The right to write under `folder`; a context manager. `epoch` is known once it is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.epoch = 0
        self._lock = FileLock(folder / "lock", timeout=0)

    def __enter__(self) -> Claim:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise PlanRefused(
                f"{self.folder.parent.parent} cannot be written to ({error.strerror}); give another output"
            ) from None
        try:
            self._lock.acquire()
        except Timeout:
            raise Claimed(
                f"{self.folder.parent.parent} is being written by {_holder(self.folder)}; wait, or stop that run"
            ) from None
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise PlanRefused(
                f"{self.folder.parent.parent} cannot be written to ({error.strerror}); give another output"
            ) from None
        self.epoch = int(_read(self.folder).get("epoch", 0)) + 1
        owner = {
            "epoch": self.epoch,
            "user": _user(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        write_bytes(self.folder / "claim.json", json.dumps(owner).encode())
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def leave_nothing(self) -> None:
        """Take the claim's own files away, and folders that are empty then: nothing was begun."""
        for name in ("claim.json", "lock"):
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def moving(folder: Path) -> Iterator[None]:
    """Whoever moves results in or out of the folder that holds this one does so alone; waits for its turn."""
    with FileLock(folder / "moving"):
        yield


def still_holds(folder: Path, epoch: int) -> bool:
    """Whether the run that started with `epoch` is still the newest one."""
    return int(_read(folder).get("epoch", 0)) == epoch


def holder(folder: Path) -> str | None:
    """Name of the live owner of `folder`, or None when nobody holds it."""
    if not (folder / "lock").exists():
        return None
    lock = FileLock(folder / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return _holder(folder)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        return None  # nobody who is here could write either
    lock.release()
    return None


def _holder(folder: Path) -> str:
    owner = _read(folder)
    if not owner:
        return "another run"
    return f"{owner['user']} on {owner['host']} (process {owner['pid']}, since {owner['since']})"


def _read(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / "claim.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
