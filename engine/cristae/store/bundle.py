"""Bundle: named arrays in one file, written durably in one go and read lazily.

Partial results and global answers travel in bundles. The layout is the simplest that can be memory-mapped: the arrays one
after the other, each aligned to 64 bytes, then a JSON index, then its length, checksum and a magic word. A torn file has
no valid tail, and so can never be taken for a whole one.
"""

from __future__ import annotations

import json
import os
import uuid
import zlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import Damaged

MAGIC = b"cristae1"
ALIGN = 64


def write_bytes(path: Path, data: bytes) -> None:
    """`data` at `path`, durably and whole: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = temporary(path)
    try:
        with open(name, "xb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def temporary(path: Path) -> Path:
    """A name beside `path` that no other writer has; files get the modes of the user's umask, so that others may read them."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (OSError, PermissionError):  # Windows cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class BundleWriter:
    """Arrays appended one by one to a file that appears at `close`, whole."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._name = temporary(path)
        self._file = open(self._name, "xb")  # noqa: SIM115 - closed by `close`
        self._index: dict[str, Any] = {}

    def add(self, name: str, array: np.ndarray) -> None:
        """Append one array; its name must be new."""
        array = np.asarray(array)
        if not array.flags.c_contiguous:
            array = array.copy()
        pad = -self._file.tell() % ALIGN
        self._file.write(b"\0" * pad)
        start = self._file.tell()
        checksum = 0
        if array.nbytes:
            view = array.reshape(-1).view(np.uint8)
            self._file.write(view.data)
            checksum = zlib.crc32(view.data)
        descr = np.lib.format.dtype_to_descr(array.dtype)
        self._index[name] = [descr, list(array.shape), start, array.nbytes, checksum]

    def close(self) -> None:
        index = json.dumps(self._index).encode()
        self._file.write(index)
        self._file.write(len(index).to_bytes(8, "little") + zlib.crc32(index).to_bytes(4, "little") + MAGIC)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._name, self.path)
        sync_folder(self.path.parent)

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()
            self._name.unlink(missing_ok=True)


def write_bundle(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """All of `arrays` in one file."""
    with BundleWriter(path) as out:
        for name, array in arrays.items():
            out.add(name, array)


class Bundle(Mapping[str, np.ndarray]):
    """A bundle on disk: indexing gives a read-only memory map (or a small array); `check` compares the checksums.

    Raises
    ------
    Damaged : if the file is missing, torn, or its index does not match its checksum.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as f:
                size = f.seek(0, 2)
                f.seek(max(0, size - 20))
                tail = f.read()
                length = int.from_bytes(tail[:8], "little")
                if len(tail) < 20 or tail[12:] != MAGIC or length > size - 20:
                    raise Damaged(f"{path} is torn: it has no whole index")
                f.seek(size - 20 - length)
                index = f.read(length)
        except FileNotFoundError:
            raise Damaged(f"{path} is missing") from None
        if zlib.crc32(index) != int.from_bytes(tail[8:12], "little"):
            raise Damaged(f"{path} is damaged: its index does not match its checksum")
        self._index: dict[str, Any] = json.loads(index)

    def __getitem__(self, name: str) -> np.ndarray:
        descr, shape, start, nbytes, _ = self._index[name]
        dtype = np.lib.format.descr_to_dtype(_tuples(descr))
        if nbytes == 0:
            return np.zeros(shape, dtype)
        if nbytes > 1 << 16:
            return np.memmap(self.path, dtype, "r", start, tuple(shape))
        with open(self.path, "rb") as f:
            f.seek(start)
            return np.frombuffer(f.read(nbytes), dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    @cached_property
    def families(self) -> Mapping[str, list[str]]:
        """Names by what stands before their last `|`: those that one writer added together."""
        found: dict[str, list[str]] = {}
        for name in self._index:
            found.setdefault(name.rpartition("|")[0], []).append(name)
        return found

    def __len__(self) -> int:
        return len(self._index)

    def check(self) -> None:
        """Compare every array with its checksum."""
        with open(self.path, "rb") as f:
            for name, (_, _, start, nbytes, checksum) in self._index.items():
                f.seek(start)
                if zlib.crc32(f.read(nbytes)) != checksum:
                    raise Damaged(f"{self.path} is damaged: array {name} does not match its checksum")


def _tuples(descr: Any) -> Any:
    # JSON turns the (name, type) pairs of a structured dtype into lists; numpy wants tuples.
    if isinstance(descr, str):
        return descr
    return [tuple(tuple(x) if isinstance(x, list) and i == 2 else x for i, x in enumerate(d)) for d in descr]
