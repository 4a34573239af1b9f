"""Voxels: of which type those of a file are, and how many are read at once where they lie one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cristae.errors import InvalidInput

_PAGE_BYTES = 4096  # what the system reads at once of a mapped file


def number_type(dtype: np.dtype[Any], path: Path) -> str:
    """numpy's name of a type of numbers, in native byte order."""
    if dtype.kind not in "biufc":
        raise InvalidInput(f"{path} holds {dtype}, which are no numbers; voxels are bool, integers or real numbers")
    return dtype.newbyteorder("=").name


def mapped_chunk(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """What is read at once of voxels that lie in a file one after the other."""
    return (*[1] * (len(shape) - 1), min(shape[-1], _PAGE_BYTES // dtype.itemsize)) if shape else ()
