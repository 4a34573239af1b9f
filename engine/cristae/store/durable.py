"""Durable: objects that are on the disk, whole, when the call returns.

An object is written under a temporary name, synced, renamed, and then its folder is synced: after a crash it is there
whole or not at all, while the stock local store can leave a name without bytes. What was put is noted, with its length
and digest, so that a receipt can say exactly what lies in the store.
"""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from cristae.errors import CristaeError
from cristae.store.bundle import sync_folder


class Put(NamedTuple):
    """What was stored under one key."""

    nbytes: int
    digest: str  # blake2b of the stored bytes, 16 bytes as hex


def digest(data: bytes | memoryview) -> str:
    """The digest a `Put` carries."""
    return blake2b(data, digest_size=16).hexdigest()


def put_file(path: Path, data: bytes) -> Put:
    """Store `data` at `path`, durably and whole."""
    return put_pieces(path, [data])


def put_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> Put:
    """Store what comes piece by piece at `path`, durably and whole; no more than a piece is held.

    Raises
    ------
    CristaeError : if the disk, or the user's quota on it, is full.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    seen, nbytes = blake2b(digest_size=16), 0
    try:
        _make_folder(path.parent)
        with temporary.open("xb") as f:
            for piece in pieces:
                seen.update(piece)
                nbytes += len(piece)
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CristaeError(
                f"the disk is full: {path} did not fit; make room, and the same command resumes"
            ) from error
        raise
    sync_folder(path.parent)
    return Put(nbytes, seen.hexdigest())


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)
