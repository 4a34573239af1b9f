"""numpy's .npz: each array a scene. The format is compressed as one stream, so an array is decoded whole."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import Found, FoundArray
from cristae.store.foreign.scenes import chosen, named
from cristae.store.foreign.voxels import number_type


def find(path: Path, name: str, scene: str | None) -> Found:
    """What an .npz file says about one of its arrays; only that array's header is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            number = chosen(path, members, scene)
            with archive.open(f"{members[number]}.npy") as f:
                formats, version = np.lib.format, np.lib.format.read_magic(f)
                header = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
                shape, _, dtype = header(f)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} is not a whole .npz file of numbers: {error}") from error
    array = FoundArray(members[number], shape, number_type(dtype, path), shape, shape, {})
    return Found(str(path), named(name, members, number), "npz", (array,))


def open_array(path: Path, member: str) -> np.ndarray:
    """One array, decoded."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[member]  # type: ignore[no-any-return]
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path} is not a whole .npz file with a numeric array {member!r}: {error}") from error
