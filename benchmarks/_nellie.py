"""Nellie: its stages in the order of its own command, on the CPU. Runs in an environment where cristae is not.

A. E. Y. T. Lefebvre et al., Nat. Methods 22, 751 (2025), doi:10.1038/s41592-025-02612-7; the package `nellie`, 1.0.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

HOMES = {
    "filter": ("nellie.segmentation.filtering", "Filter", {}),
    "label": ("nellie.segmentation.labelling", "Label", {}),
    "network": ("nellie.segmentation.networking", "Network", {}),
    "markers": ("nellie.segmentation.mocap_marking", "Markers", {}),
    "features": ("nellie.feature_extraction.hierarchical", "Hierarchy", {"skip_nodes": False}),
}


def written(image: np.ndarray, voxel_um: Sequence[float], folder: Path) -> Any:
    """The (z, y, x) image as the OME-TIFF that Nellie starts from, opened."""
    import tifffile
    from nellie.im_info.verifier import FileInfo, ImInfo

    path = folder / "image.ome.tif"
    size = dict(zip("ZYX", voxel_um, strict=True))
    tifffile.imwrite(
        path, image, ome=True, metadata={"axes": "ZYX", **{f"PhysicalSize{a}": n for a, n in size.items()}}
    )
    file = FileInfo(str(path))
    file.find_metadata()
    file.load_metadata()
    for axis, step in size.items():
        file.change_dim_res(axis, step)
    return ImInfo(file)


def stages(stack: Any, *names: str) -> None:
    """Run these stages, one after the other; results go to files beside the image."""
    for name in names:
        home, builder, words = HOMES[name]
        getattr(import_module(home), builder)(stack, device="cpu", **words).run()


def chunked(stack: Any, voxels: int) -> None:
    """Filter and label in the low-memory mode, in chunks of at most so many voxels; 0 is the usual mode."""
    words = {"low_memory": True, "max_chunk_voxels": voxels} if voxels else {}
    for name in ("filter", "label"):
        home, builder, _ = HOMES[name]
        getattr(import_module(home), builder)(stack, device="cpu", **words).run()


def labels(stack: Any) -> np.ndarray:
    """The (z, y, x) instances that `label` found."""
    import tifffile

    return np.asarray(tifffile.imread(stack.pipeline_paths["im_instance_label"]))


def objects(stack: Any) -> int:
    """How many instances `label` found."""
    return int(labels(stack).max())
