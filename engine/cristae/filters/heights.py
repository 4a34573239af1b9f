"""Heights: what a mask shows of an image, as the landscape that `split` climbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from cristae.array import Array
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.filters.gaussian import gaussian, half_gaussian, smoothed

GROUND = float(np.finfo(np.float32).min)


def heights(*, voxel_um: tuple[float, ...], sigma_um: float = 0.0) -> Stage:
    """The smoothed image where a mask is, and the lowest number there is elsewhere.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    sigma_um : width of the Gaussian, micrometres; 0 leaves the image as it is

    Returns
    -------
    A stage from a mask (what is not 0 is foreground) and an image on the same grid to float32.

    Raises
    ------
    InvalidConfiguration : if the width is negative.
    """
    smoothing = gaussian(sigma_um, voxel_um=voxel_um)
    sides = [half_gaussian(sigma_um / h, 4.0) if sigma_um else np.ones(1) for h in voxel_um]
    return Stage(
        "heights",
        {"sigma_um": sigma_um},
        partial(_shown, weights=sides),
        smoothing.halo,
        output=_float32,
        cost=Cost(smoothing.cost.bytes_per_voxel + 2.0, smoothing.cost.ns_per_voxel + 1.0),
    )


def _shown(mask: Array, image: Array, *, at: At, answers: Mapping[str, Answer], weights: Sequence[np.ndarray]) -> Array:
    found = smoothed(image, at.out.within(at.reads[1]), weights)
    found[mask[at.out.within(at.reads[0])] == 0] = GROUND
    return found


def _float32(spec: Spec, *_: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)
