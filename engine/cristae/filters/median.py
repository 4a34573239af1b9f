"""Median: the middle value within a ball; single hot voxels and shot noise go, edges stay."""

from __future__ import annotations

import numpy as np

from cristae.array import Array, namespace, ndimage
from cristae.blocks.stage import Cost, Stage, local
from cristae.filters.balls import ball


def median(radius_um: float, *, voxel_um: tuple[float, ...]) -> Stage:
    """Replace each voxel by the median within a ball of this radius.

    Parameters
    ----------
    radius_um : radius of the ball (in 2D the disc), micrometres; below one voxel nothing changes
    voxel_um : voxel size, (z, y, x) or (y, x)

    Returns
    -------
    A stage from any real image or mask to the same dtype; that of `scipy.ndimage.median_filter` with the ball as footprint
    (mode "reflect"), voxel for voxel.

    Raises
    ------
    InvalidConfiguration : if the radius is no length.
    """
    rows = ball("median", radius_um, voxel_um)
    reach = [max(abs(at[axis]) for at, _ in rows) for axis in range(len(voxel_um) - 1)] + [rows[0][1]]
    footprint = np.zeros([2 * r + 1 for r in reach], bool)
    for at, half in rows:
        middle = tuple(n + r for n, r in zip(at, reach, strict=False))
        footprint[middle][reach[-1] - half : reach[-1] + half + 1] = True
    return local(
        "median",
        _median,
        {"radius_um": radius_um},
        tuple((r, r) for r in reach),
        len(voxel_um),
        kernel_params={"footprint": footprint},
        cost=Cost(2.0, 12.0 * footprint.sum()),
    )


def _median(array: Array, *, footprint: np.ndarray) -> Array:
    if footprint.size == 1:
        return array
    xp = namespace(array)
    values = array.view(xp.uint8) if array.dtype == bool else array
    found = ndimage(array).median_filter(values, footprint=xp.asarray(footprint), mode="reflect")
    return found.view(bool) if array.dtype == bool else found
