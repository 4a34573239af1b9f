"""Gaussian filters: smoothing at a width in the sample, and the difference of two such widths.

Local and exact: a stage reads as far as its kernel reaches, and no voxel less. Beyond the volume's own faces the image
is reflected, as in `scipy.ndimage` (mode "reflect").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite

import numpy as np

from cristae.array import Array, namespace, ndimage, pick
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Spec, Stage
from cristae.errors import InvalidConfiguration
from cristae.grid import Halo

TRUNCATE = 4.0
WIDEST = 10_000  # voxels of a sigma
"""Half width of a smoothing kernel, in standard deviations; scipy's default."""


def gaussian(sigma_um: float, *, voxel_um: tuple[float, ...], truncate: float = TRUNCATE) -> Stage:
    """Smooth with a Gaussian whose width is a length in the sample.

    Parameters
    ----------
    sigma_um : standard deviation, micrometres; 0 leaves the image as it is
    voxel_um : voxel size, (z, y, x) or (y, x); each axis gets its own width in voxels
    truncate : where the kernel is cut, in standard deviations

    Returns
    -------
    A stage from any real image to float32; equal to `scipy.ndimage.gaussian_filter` within 1e-6 of the dynamic range,
    and the same bits for every block grid.

    Raises
    ------
    InvalidConfiguration : if a parameter is negative or not a number.
    """
    _need_length("gaussian", "sigma_um", sigma_um)
    if not (isfinite(truncate) and truncate > 0):
        raise InvalidConfiguration(f"gaussian: truncate is {truncate}, but must be a positive number of sigmas")
    sigma = _in_voxels("gaussian", "sigma_um", sigma_um, voxel_um)
    return Stage(
        "gaussian",
        {"sigma_um": sigma_um, "truncate": truncate},
        partial(_gaussian, sigma=sigma, truncate=truncate),
        _halo(sigma, truncate),
        output=_float32,
        cost=_cost(sigma, truncate),
    )


def difference_of_gaussians(low_sigma_um: float, high_sigma_um: float, *, voxel_um: tuple[float, ...]) -> Stage:
    """A band of sizes: the image smoothed at `low_sigma_um` minus the image smoothed at `high_sigma_um`.

    Blobs and edges between the two widths stay, the background and the noise below them go. Float32, signed.
    D. Marr, E. Hildreth, Proc. R. Soc. B 207, 187 (1980), doi:10.1098/rspb.1980.0020.

    Raises
    ------
    InvalidConfiguration : if a width is negative or the first is not the smaller one.
    """
    _need_length("difference_of_gaussians", "low_sigma_um", low_sigma_um)
    _need_length("difference_of_gaussians", "high_sigma_um", high_sigma_um)
    if low_sigma_um >= high_sigma_um:
        raise InvalidConfiguration(
            f"difference_of_gaussians: low_sigma_um {low_sigma_um} must be smaller than high_sigma_um {high_sigma_um}"
        )
    low = _in_voxels("difference_of_gaussians", "low_sigma_um", low_sigma_um, voxel_um)
    high = _in_voxels("difference_of_gaussians", "high_sigma_um", high_sigma_um, voxel_um)
    return Stage(
        "difference_of_gaussians",
        {"low_sigma_um": low_sigma_um, "high_sigma_um": high_sigma_um},
        partial(_difference, low=low, high=high),
        _halo(high, TRUNCATE),
        output=_float32,
        cost=Cost(
            4.5 if len(low) == 3 else 8.0, _cost(low, TRUNCATE).ns_per_voxel + _cost(high, TRUNCATE).ns_per_voxel
        ),
    )


def smooth(array: Array, window: tuple[slice, ...], weights: Sequence[np.ndarray]) -> Array:
    """Separable symmetric filter of the voxels in `window`, in the array's own library.

    Parameters
    ----------
    array : any real type; it ends short of the window's reach only where the volume ends
    window : slices of `array` with start and stop
    weights : per axis (radius + 1,) float, from the centre outwards

    Returns
    -------
    float32 of the window's shape.
    """
    xp, filters = namespace(array), ndimage(array)
    array = array.astype(xp.float32)
    for axis, side in enumerate(weights):
        if side.size > 1:
            both_sides = xp.asarray(np.concatenate([side[:0:-1], side]))
            array = filters.correlate1d(array, both_sides, axis=axis, mode="reflect")
    return array[window]


def half_gaussian(sigma: float, truncate: float) -> np.ndarray:
    """Weights of a sampled Gaussian from its centre outwards, with sum 1 over both sides; sigma in voxels.

    The radius is scipy's, int(truncate * sigma + 0.5): with any other the results would differ at its rim.
    """
    radius = int(truncate * sigma + 0.5)
    side: np.ndarray = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2) if radius else np.ones(1)
    side /= side[0] + 2 * side[1:].sum()
    return side


def smoothed(array: Array, window: tuple[slice, ...], weights: Sequence[np.ndarray]) -> Array:
    """`smooth`, by the fastest kernel for this array."""
    from cristae.filters import gaussian_kernel

    return pick(array, smooth, numpy=gaussian_kernel.smooth)(array, window, weights)


def _gaussian(array: Array, *, at: At, answers: Mapping[str, Answer], sigma: Sequence[float], truncate: float) -> Array:
    return smoothed(array, at.out.within(at.reads[0]), [half_gaussian(s, truncate) for s in sigma])


def _difference(
    array: Array, *, at: At, answers: Mapping[str, Answer], low: Sequence[float], high: Sequence[float]
) -> Array:
    fine = _gaussian(array, at=at, answers=answers, sigma=low, truncate=TRUNCATE)
    fine -= _gaussian(array, at=at, answers=answers, sigma=high, truncate=TRUNCATE)
    return fine


def _halo(sigma: Sequence[float], truncate: float) -> Halo:
    return tuple((int(truncate * s + 0.5),) * 2 for s in sigma)


def _float32(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)


def _cost(sigma: Sequence[float], truncate: float) -> Cost:
    return smoothing_cost(_halo(sigma, truncate))


def smoothing_cost(halo: Halo) -> Cost:
    """What `smoothed` takes: measured with the compiled kernel, 4 ns a voxel at a radius of 8 on three axes, and one plane
    of float32, which in the plane is the whole image."""
    return Cost(0.5 if len(halo) == 3 else 4.0, 1.0 + 0.125 * sum(after for _, after in halo))


def _in_voxels(stage: str, name: str, length_um: float, voxel_um: Sequence[float]) -> tuple[float, ...]:
    if not all(h > 0 for h in voxel_um):
        raise InvalidConfiguration(f"{stage}: voxel_um is {tuple(voxel_um)}, but each size must be above 0")
    found = tuple(length_um / h for h in voxel_um)
    if max(found) > WIDEST:
        raise InvalidConfiguration(
            f"{stage}: {name} {length_um:g} is {max(found):.0f} voxels; lengths are micrometres: give a smaller one"
        )
    return found


def _need_length(stage: str, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value) or value < 0:
        raise InvalidConfiguration(f"{stage}: {name} is {value!r}, but must be a length in um, 0 or more")
