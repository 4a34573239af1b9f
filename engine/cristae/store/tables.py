"""Tables on disk: Parquet in row groups or CSV, written as a stream to a temporary name, durable and whole at the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidConfiguration
from cristae.store.bundle import sync_folder

SUFFIXES = (".parquet", ".csv")
TOGETHER = 1 << 16
"""Rows that are written at once, where blocks are smaller."""


def check_suffix(path: Path) -> None:
    """Refuse a table whose format its name does not say."""
    if path.suffix not in SUFFIXES:
        raise InvalidConfiguration(f"--out {path}: a table's name ends in .parquet or .csv")


class TableWriter:
    """Successive blocks of columns into one file; a context manager. Every block has the same columns and types.

    notes : what the schema of a Parquet says beside the columns
    """

    def __init__(self, path: Path, notes: Mapping[str, str] | None = None) -> None:
        self.path = path
        self._notes = dict(notes or {})
        self._partial = path.with_name(f".{path.name}.partial")
        self._sink: Any = None
        self._waiting: list[Any] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> TableWriter:
        return self

    def write(self, columns: Mapping[str, np.ndarray]) -> None:
        """Append one block. Small ones wait, and go into the file together: a row group of a Parquet."""
        import pyarrow

        self._waiting.append(pyarrow.table({name: _arrow(column) for name, column in columns.items()}))
        if sum(table.num_rows for table in self._waiting) >= TOGETHER:
            self._flush()

    def _flush(self) -> None:
        import pyarrow

        if not self._waiting:
            return
        table, self._waiting = pyarrow.concat_tables(self._waiting), []
        if self._sink is None:
            self._sink = self._open(table.schema)
        if table.num_rows:
            self._sink.write_table(table)

    def _open(self, schema: Any) -> Any:
        if self.path.suffix == ".csv":
            from pyarrow.csv import CSVWriter, WriteOptions

            return CSVWriter(self._partial, schema, write_options=WriteOptions(quoting_style="needed"))
        from pyarrow.parquet import ParquetWriter

        noted = schema.with_metadata(self._notes) if self._notes else schema
        return ParquetWriter(self._partial, noted, compression="zstd", write_page_checksum=True)

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self._flush()
        if self._sink is not None:
            self._sink.close()
        if kind is not None:
            self._partial.unlink(missing_ok=True)
            return
        with open(self._partial, "rb") as f:
            os.fsync(f.fileno())
        os.replace(self._partial, self.path)
        sync_folder(self.path.parent)


def _arrow(column: np.ndarray) -> Any:
    """A column as Arrow sees it: numbers stay where they lie, objects become their text.

    `pyarrow.array` does the same, but imports pandas first, which takes longer than the tables of a hundred fields.
    """
    import pyarrow

    buffers: list[Any]
    if column.dtype == bool:
        kind, buffers = pyarrow.bool_(), [np.packbits(column, bitorder="little")]
    elif column.dtype == object:
        texts = [str(value).encode() for value in column]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int32)
        kind, buffers = pyarrow.string(), [ends, b"".join(texts)]
    else:
        kind, buffers = pyarrow.from_numpy_dtype(column.dtype), [np.ascontiguousarray(column)]
    return pyarrow.Array.from_buffers(kind, len(column), [None, *map(pyarrow.py_buffer, buffers)])
