"""Durable: objects that are on the disk, whole, when the call returns.

An object is written under a temporary name, synced, renamed, and then its folder is synced: after a crash it is there
whole or not at all, while the stock local store can leave a name without bytes. What was put is noted, with its length
and digest, so that a receipt can say exactly what lies in the store.
"""

from __future__ import annotations

import asyncio
import errno
import os
import uuid
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zarr.storage import LocalStore

from cristae.errors import CristaeError
from cristae.store.bundle import sync_folder

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class Put(NamedTuple):
    """What was stored under one key."""

    nbytes: int
    digest: str  # blake2b of the stored bytes, 16 bytes as hex


def digest(data: bytes | memoryview) -> str:
    """The digest a `Put` carries."""
    return blake2b(data, digest_size=16).hexdigest()


def put_file(path: Path, data: bytes | memoryview) -> Put:
    """Store `data` at `path`, durably and whole.

    Raises
    ------
    CristaeError : if the disk, or the user's quota on it, is full.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        _make_folder(path.parent)
        with temporary.open("xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CristaeError(
                f"the disk is full: {len(data)} bytes did not fit for {path}; make room, and the same command resumes"
            ) from error
        raise
    sync_folder(path.parent)
    return Put(len(data), digest(data))


def _make_folder(path: Path) -> None:
    if path.is_dir():
        return
    _make_folder(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


class DurableStore(LocalStore):
    """A local store for writing whole objects. `puts` lists what this instance stored, by key.

    It never reads: a whole object replaces what lay under its name, damaged or not. (zarr would decode the old shard
    first, and so could not repair a damaged one.) Reads go through the stock store.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.puts: dict[str, Put] = {}

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return None

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        return None

    async def set(self, key: str, value: Buffer) -> None:
        await asyncio.to_thread(self.set_sync, key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not (self.root / key).exists():
            await self.set(key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        self._check_writable()
        self.puts[key] = put_file(self.root / key, memoryview(value.as_buffer_like()))
