"""HDF5: each dataset of two axes or more is a scene, named by its path; as Fiji, ilastik and h5py write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cristae.store.facts import AXES, Found, FoundArray
from cristae.store.foreign.libraries import extra, reading
from cristae.store.foreign.scenes import chosen, named
from cristae.store.foreign.voxels import number_type


def find(path: Path, name: str, scene: str | None) -> Found:
    """Shape and chunks of one dataset; axes and voxel size where a program left them in its attributes."""
    with reading(path, "HDF5"):
        h5py = extra("h5py", path)
        with h5py.File(path, "r") as file:
            scenes: list[str] = []
            file.visititems(
                lambda at, item: scenes.append(at) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None
            )
            number = chosen(path, scenes, scene if scene is None else scene.strip("/"))
            data = file[scenes[number]]
            axes = _axes(data)
            chunk = tuple(data.chunks or (*[1] * (data.ndim - 1), data.shape[-1]))
            dtype = number_type(np.dtype(data.dtype), path)
            array = FoundArray(scenes[number], tuple(data.shape), dtype, chunk, chunk, _voxel_um(data, axes))
            return Found(str(path), named(name, scenes, number), "hdf5", (array,), axes)


def open_array(path: Path, member: str) -> Any:
    """One dataset; h5py reads what an index asks for."""
    with reading(path, "HDF5"):
        return extra("h5py", path).File(path, "r")[member]


def _axes(data: Any) -> str | None:
    """Letters from vigra's tags, which ilastik writes, or from the scales of the dimensions."""
    tags = data.attrs.get("axistags")
    if tags is not None:
        found = "".join(str(a.get("key", "")) for a in json.loads(tags).get("axes", [])).lower()
    else:
        found = "".join(dimension.label for dimension in data.dims).lower()
    return found if len(found) == data.ndim and set(found) <= set(AXES) else None


def _voxel_um(data: Any, axes: str | None) -> dict[str, float]:
    """`element_size_um` is (z, y, x), as Fiji's HDF5 plugin and ilastik write it."""
    size = data.attrs.get("element_size_um")
    if size is None or len(np.atleast_1d(size)) != 3:
        return {}
    return {a: float(s) for a, s in zip("zyx", size, strict=True) if axes is None or a in axes}
