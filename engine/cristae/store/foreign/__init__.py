"""Foreign files: what other programs write, opened lazily where it lies.

Each module knows one format and has two doors, alike in all of them:

    find(path, name, scene)     what the file says about one of its images, before a voxel is read
    open_array(path, member)    an array, indexed like numpy's, that decodes only the chunks it must

A file may hold several images; here they are called scenes, whatever the vendor calls them. What formats share has a
module for each thing known: `scenes`, `voxels`, `planes`, and `libraries`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from cristae.store.facts import Found

SUFFIXES: Mapping[str, str] = {
    ".tif": "tiff",
    ".tiff": "tiff",
    ".btf": "tiff",
    ".npy": "npy",
    ".npz": "npz",
    ".czi": "czi",
    ".nd2": "nd2",
    ".lif": "lif",
    ".ims": "ims",
    ".h5": "hdf5",
    ".hdf5": "hdf5",
}
"""The module that reads a file, by its suffix."""


def find(path: Path, name: str, scene: str | None) -> Found:
    """What a file of a known suffix says about one of its scenes.

    Raises
    ------
    InvalidInput : if it is damaged, or holds several scenes and none is named.
    MissingExtra : if its library is not installed.
    """
    found: Found = _module(SUFFIXES[path.suffix.lower()]).find(path, name, scene)
    return found


def open_array(reader: str, path: Path, member: str) -> Any:
    """The voxels of a scene."""
    return _module(reader).open_array(path, member)


def _module(reader: str) -> Any:
    return import_module(f"cristae.store.foreign.{reader}")
