"""Flood: an image parted into the basins that water would fill from its low places, with dams where two meet.

This is MorphoLibJ's morphological segmentation. Who fills a flat place, and where a dam stands, is decided by which water was there
first, anywhere in the image: no part of it can be found from a part. So a block reads the whole image, and floods it all.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import isfinite, prod

import numpy as np

from cristae.array import Array, namespace, to_host
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Stage
from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box
from cristae.labels.components import label_spec

LARGEST = 1 << 27
"""Voxels of an image."""
EVERYWHERE = 1 << 40
"""Voxels; no image is as long."""


def flood(
    *,
    voxel_um: tuple[float, ...],
    tolerance: float = 10.0,
    connectivity: int = 1,
    dams: bool = True,
    dtype: str = "float32",
) -> Stage:
    """Part an image into basins around its dark places (morphological segmentation, a watershed).

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    tolerance : a dark place of its own is more than this deeper than the way to a darker one, in units of the image; 10 is MorphoLibJ's
        choice for 8 bits
    connectivity : how many axes may differ between voxels that touch: 1 (6 or 4 neighbours), 2 (18 or 8), 3 (26)
    dams : a line of 0, one voxel wide, parts neighbours; without, every voxel is in a basin
    dtype : of the image, which tells what memory it takes

    Returns
    -------
    A stage from any real image to uint32 basins, numbered in the raster order of their first voxel, and 0 for dams; `label` after it keeps
    them apart. Ground is a basin too: the mean intensity in the table tells bright ones from dark ones. After `gradient` objects are
    basins with their edges as dams; an image whose objects are outlined in bright is flooded as it is. The result does not depend
    on blocks, but each block floods the whole image: give a --block that holds it.
    Extended minima, imposed, and their watershed by ordered queues, as in D. Legland, I. Arganda-Carreras, P. Andrey, Bioinformatics
    32, 3532 (2016), doi:10.1093/bioinformatics/btw413; P. Soille, Morphological Image Analysis, Springer (2003), 6.4 and 9.2.

    Raises
    ------
    InvalidConfiguration : if a parameter makes no sense.
    InvalidInput : on images of more than 134 million voxels, or with NaN.
    """
    ndim = len(voxel_um)
    if (
        isinstance(tolerance, bool)
        or not isinstance(tolerance, int | float)
        or not isfinite(tolerance)
        or tolerance < 0
    ):
        raise InvalidConfiguration(
            f"flood: tolerance is {tolerance!r}, but must be a depth in units of the image, 0 or more"
        )
    if isinstance(connectivity, bool) or not isinstance(connectivity, int) or not 1 <= connectivity <= ndim:
        raise InvalidConfiguration(f"flood: connectivity {connectivity!r} is not possible in {ndim}D; give 1 to {ndim}")
    if not isinstance(dams, bool):
        raise InvalidConfiguration(f"flood: dams is {dams!r}, but must be true or false")
    return Stage(
        "flood",
        {"tolerance": tolerance, "connectivity": connectivity, "dams": dams},
        partial(_basins, tolerance=float(tolerance), connectivity=connectivity, dams=dams),
        ((EVERYWHERE, EVERYWHERE),) * ndim,
        output=label_spec,
        cost=Cost(bytes_per_voxel=18.0 + 2.0 * np.dtype(dtype).itemsize, ns_per_voxel=900.0),
        boundary="ends",
    )


def _basins(
    array: Array, *, at: At, answers: Mapping[str, Answer], tolerance: float, connectivity: int, dams: bool
) -> Array:
    whole = Box.whole(at.grid.shape)
    if at.reads[0] != whole:
        raise ValueError(f"flood was shown {at.reads[0]} of {whole}")
    if (many := prod(whole.shape)) > LARGEST:
        raise InvalidInput(
            f"flood takes an image whole, and this one has {many / 1e6:.0f} million voxels, more than the {LARGEST / 1e6:.0f} million that "
            "are taken; take a part with --crop, or part objects of a mask with split, which takes any size"
        )
    found = flooded(to_host(array), tolerance, connectivity, dams)
    return namespace(array).asarray(found[at.out.slices])


def flooded(image: np.ndarray, tolerance: float, connectivity: int = 1, dams: bool = True) -> np.ndarray:
    """The basins of a whole image, (z, y, x) or (y, x), uint32.

    Raises
    ------
    InvalidInput : on NaN.
    """
    from cristae.labels import flood_kernel as kernel

    native = image.astype(image.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "f" and np.isnan(native).any():
        raise InvalidInput("flood met voxels that are NaN; replace them first")
    inside = (slice(1, -1),) * image.ndim
    rimmed = np.full([n + 2 for n in image.shape], -1, np.int32)
    rank = rimmed.reshape(-1)
    place, levels = _ranked(native.reshape(-1), rimmed[inside])
    place = _in_rim(place, image.shape)
    steps = _steps(connectivity, rimmed.shape)
    sources = kernel.bottoms(place, rank, levels, steps, tolerance)
    del place
    basin = kernel.flooded(sources, rank, levels, steps, tolerance, False)
    if dams:
        del basin
        basin = kernel.flooded(sources, rank, levels, steps, tolerance, True)
    found = np.ascontiguousarray(basin.reshape(rimmed.shape)[inside])
    return kernel.numbered(found.reshape(-1), len(sources)).reshape(image.shape)


def _ranked(values: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the values in rising order, equal ones as they come, and the values that occur; fills in the place of each among them."""
    order = np.argsort(values, kind="stable").astype(np.int32)
    ordered = values[order]
    fresh = np.ones(order.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=fresh[1:])
    levels = ordered[fresh].astype(np.float64)
    del ordered
    found = np.empty(order.size, np.int32)
    found[order] = np.cumsum(fresh, dtype=np.int32) - np.int32(1)
    rank[...] = found.reshape(rank.shape)
    return order, levels


def _in_rim(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Where voxels of an image lie in one that is a voxel larger on every side."""
    strides = np.cumprod((1, *(n + 2 for n in shape[:0:-1])), dtype=np.int64)[::-1]
    found = np.full(flat.size, strides.sum(), np.int32)
    for axis in range(len(shape) - 1, -1, -1):
        found += flat % np.int32(shape[axis]) * np.int32(strides[axis])
        flat = flat // np.int32(shape[axis])
    return found


def _steps(connectivity: int, shape: tuple[int, ...]) -> np.ndarray:
    """From a voxel to its neighbours in flat indices of an array of this shape, in raster order."""
    near = np.stack(np.meshgrid(*[[-1, 0, 1]] * len(shape), indexing="ij"), axis=-1).reshape(-1, len(shape))
    differ = np.abs(near).sum(axis=1)
    strides = np.cumprod((1, *shape[:0:-1]), dtype=np.int64)[::-1]
    found: np.ndarray = near[(differ > 0) & (differ <= connectivity)] @ strides
    return found.astype(np.int64)
