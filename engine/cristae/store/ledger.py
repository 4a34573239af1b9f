"""Ledger: an append-only list of records on disk, in segments; a record is there only when it is durable.

One line a record: the checksum of its JSON, a space, the JSON. A driver that dies while it writes leaves a torn last
line, which is cut off when the ledger is opened again; a bad line anywhere else is damage, and said.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from cristae.errors import Damaged
from cristae.store.bundle import sync_folder

SEGMENT_BYTES = 64 << 20
Record = dict[str, Any]


class Ledger:
    """Records of one run, in `folder`/00000.jsonl, 00001.jsonl, ... One writer, held off others by the claim."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: Path | None = None  # the segment that was appended to, so that the folder is searched once

    def read(self) -> Iterator[Record]:
        """Every whole record, oldest first; a torn tail is left out.

        Raises
        ------
        Damaged : if a line that is followed by a whole record does not match its checksum.
        """
        bad = ""
        for path in self._segments():
            with open(path, "rb") as f:
                for number, line in enumerate(f, 1):
                    record = _parse(line)
                    if record is None:
                        bad = bad or f"{path} line {number}"
                    elif bad:
                        raise Damaged(f"{bad} does not match its checksum; run again with --fresh")
                    else:
                        yield record

    def append(self, records: Iterable[Record]) -> None:
        """Add records and make them durable, all together."""
        data = b"".join(_line(r) for r in records)
        if not data:
            return
        path = self._last = self._tail()
        new = not path.exists()
        with open(path, "ab") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        if new:
            sync_folder(self.folder)

    def mend(self) -> None:
        """Cut off a torn tail, so that the next record starts on a line of its own; damage before a whole record stays."""
        segments = self._segments()
        if not segments:
            return
        with open(segments[-1], "rb+") as f:
            good = 0
            torn = False
            for line in f:
                whole = _parse(line) is not None
                if torn and whole:
                    return
                torn = torn or not whole
                good += len(line) if whole else 0
            if torn:
                f.truncate(good)

    def _segments(self) -> list[Path]:
        return sorted(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []

    def _tail(self) -> Path:
        segments = [self._last] if self._last is not None and self._last.exists() else self._segments()
        if segments and segments[-1].stat().st_size < SEGMENT_BYTES:
            return segments[-1]
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{len(self._segments()):05d}.jsonl"


def _line(record: Record) -> bytes:
    data = json.dumps(record, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(data), data)


def _parse(line: bytes) -> Record | None:
    if not line.endswith(b"\n") or line[8:9] != b" ":
        return None
    data = line[9:-1]
    try:
        if int(line[:8], 16) != zlib.crc32(data):
            return None
        record: Record = json.loads(data)
    except ValueError:
        return None
    return record
