"""Wiener: the inverse of a PSF where an image has more signal than noise, as a filter of finite width."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np

from cristae.array import Array, fft, namespace
from cristae.blocks.measure import Answer
from cristae.blocks.stage import At, Cost, Stage
from cristae.grid import Halo
from cristae.optics.blur import Blur, Weights, chosen, weights
from cristae.optics.transforms import (
    FULL_SCALE,
    ROUNDING,
    back_from,
    good_shape,
    larger,
    need,
    numbers_of,
    to_float32,
    transfer_of,
)

WINDOW = 2
"""Of the PSF's radius: how far Wiener's filter reaches."""


def wiener(
    *,
    voxel_um: tuple[float, ...],
    microscope: str | None = None,
    psf: str | None = None,
    depth_um: float = 0.0,
    radius_um: float | None = None,
    depth_radius_um: float | None = None,
    noise: float = 0.01,
) -> Stage:
    """Deconvolution by Wiener's filter, the inverse of the PSF where the image has more signal than noise.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x); a plane is taken as in focus
    microscope : name of a preset whose PSF is computed; this or `psf`
    psf : a file with the image of one bead, with voxels of the same size; its border is taken as background
    depth_um : how deep in the sample the PSF of the microscope is computed for, micrometres
    radius_um : how far the PSF is followed in the plane; by default 1 um, and all of a measured one
    depth_radius_um : the same along z; by default 2 um, and all of a measured one
    noise : power of the noise over that of the signal, the same at all frequencies, above 0 to 10; more is smoother

    Returns
    -------
    A stage from any real image to float32 of the same mean; below 0 beside bright edges. Voxels that are no number count as 0.

    Raises
    ------
    InvalidConfiguration : if not exactly one of `microscope` and `psf` is given, or a value makes no sense.
    InvalidInput : if the file of a PSF cannot be opened.

    Notes
    -----
    The filter is computed once, on a window of two PSF radii to each side, and ends there; so a block differs from the whole volume by
    the rounding of transforms of another size alone, below 1e-4 of the brightest voxel (`tolerance` says it for a brightest voxel of 100).

    N. Wiener, Extrapolation, Interpolation, and Smoothing of Stationary Time Series (MIT Press, 1949).
    """
    need("wiener", "noise", noise, 1e-6, 10.0, "noise power over signal power")
    blur, facts = chosen("wiener", voxel_um, microscope, psf, depth_um, radius_um, depth_radius_um)
    halo = tuple((WINDOW * r,) * 2 for r in blur.radius)
    return Stage(
        "wiener",
        {**facts, "noise": float(noise)},
        partial(_wiener, blur=blur, noise=float(noise), halo=halo),
        halo,
        output=to_float32,
        cost=Cost(12.5 * larger([WINDOW * r for r in blur.radius]), 60.0),
        tolerance=FULL_SCALE * ROUNDING,
    )


def _wiener(array: Array, *, at: At, answers: Mapping[str, Answer], blur: Blur, noise: float, halo: Halo) -> Array:
    xp, wanted = namespace(array), at.out.grow(halo)
    seen = wanted.intersect(at.reads[0])
    ends = list(zip(wanted.start, seen.start, seen.stop, wanted.stop, strict=True))
    image = numbers_of(array[seen.within(at.reads[0])])
    image = xp.pad(image, [(b - a, d - c) for a, b, c, d in ends], mode="symmetric")
    shape = good_shape(array, image.shape)
    with np.errstate(under="ignore"):
        spectrum = fft(array).rfftn(image, s=shape)
        del image
        spectrum *= transfer_of(array, _inverse(blur, noise), shape)
        found = back_from(spectrum, shape)
    return found[at.out.within(wanted)].copy()


@lru_cache(maxsize=8)
def _inverse(blur: Blur, noise: float) -> Weights:
    """Wiener's filter as weights around a voxel, on a window that repeats; even light passes unchanged."""
    from scipy.fft import fftshift, ifftshift, irfftn, rfftn

    around = [((WINDOW - 1) * r,) * 2 for r in blur.radius]
    transfer = rfftn(ifftshift(np.pad(weights(blur).astype(np.float64), around)))
    shape = [2 * WINDOW * r + 1 for r in blur.radius]
    response = irfftn(np.conj(transfer) * (1 + noise) / (np.abs(transfer) ** 2 + noise), s=shape)
    found: Weights = fftshift(response).astype(np.float32)
    found.flags.writeable = False
    return found
