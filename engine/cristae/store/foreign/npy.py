"""numpy's .npy: one array, mapped into memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import Found, FoundArray
from cristae.store.foreign.scenes import chosen
from cristae.store.foreign.voxels import mapped_chunk, number_type


def find(path: Path, name: str, scene: str | None) -> Found:
    """What a .npy file says: shape and dtype."""
    mapped = open_array(path)
    chosen(path, ("0",), scene)
    chunk = mapped_chunk(mapped.shape, mapped.dtype)
    array = FoundArray("0", mapped.shape, number_type(mapped.dtype, path), chunk, chunk, {})
    return Found(str(path), name, "npy", (array,))


def open_array(path: Path, member: str = "0") -> np.ndarray:
    """The array, mapped into memory."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is not a whole .npy file of numbers: {error}") from error
