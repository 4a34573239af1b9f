"""PhySeg: what the published simulator does, with its defects, so that its images and masks can be made again.

Used by nothing but `physeg-compat`. The rules are those of the public code of A. A. Sekh et al., Nat. Mach. Intell. 3, 1071 (2021),
doi:10.1038/s42256-021-00420-0 (github.com/bioailab/physeg):

    counts        emitters of a tube are counted for each nanometre and rounded down, so that thin tubes have none
    sites         a vesicle's emitters are drawn with replacement from a spiral
    brightness    one short time on for each emitter, from a generator that starts anew in every image: five of six stay dark
    PSF           a sum of Bessel functions fitted to the pupil (J. Li, F. Xue, T. Blu, JOSA A 34, 1029 (2017),
                  doi:10.1364/JOSAA.34.001029), tabled to a depth of 1.5 um, and nothing beyond
    wavelength    0.510 um in every image; what the scripts change is the width of the Bessel functions
    mask          the nanometre of each emitter, the brightest in each pixel; beyond the edge it goes round
"""

from __future__ import annotations

from functools import lru_cache
from math import floor, pi

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIDE = 128
"""Pixels of an image."""
STAGE_UM = -1.0
NA, N_SAMPLE, N_IMMERSION, MAGNIFICATION, WAVELENGTH_UM = 1.4, 1.33, 1.515, 100.0, 0.510
BASES, PUPIL_SAMPLES, DEPTH_STEP_UM, DEPTH_UM = 100, 1000, 0.001, 1.5
BASIS_UM = {"mito-epi": 0.603, "mito-airy": 0.595, "vesicle-epi": 0.633, "vesicle-airy": 0.653}
"""What the four scripts call the shortest wavelength."""


def emitters_on_vesicle(radius_nm: int, density: int) -> int:
    """Emitters of a vesicle, `density` for each 1 000 nm2."""
    return int(4 * pi * radius_nm * radius_nm / 1000 * density)


def emitters_on_ring(width_nm: int, density: int) -> int:
    """Emitters of a tube for each nanometre of its length."""
    return floor(2 * pi * (width_nm // 2) * density / 1000)


def vesicle_sites(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """(count,) numbers of the spiral's points that have an emitter; some have several, a third have none."""
    return rng.integers(0, count, count)


def spiral(radius_um: float, count: int) -> Floats:
    """(count, 3) points (z, y, x) of a Fibonacci spiral on a ball."""
    turn = np.arange(count) + 0.5
    polar, around = np.arccos(1 - 2 * turn / count), pi * (1 + 5**0.5) * turn
    return radius_um * np.column_stack([np.cos(polar), np.sin(around) * np.sin(polar), np.cos(around) * np.sin(polar)])


def brightness(count: int) -> Floats:
    """(count,) photons of each emitter of an image: the same row in every image."""
    rng = np.random.RandomState(0)  # numpy's old generator, as published
    found = np.zeros(count)
    for n in range(count):
        rng.exponential(0.0, (1, 1))  # the time off, of which nothing is left
        on = float(rng.exponential(1.0, (1, 1))[0, 0])
        start = int(rng.randint(0, 10))
        found[n] = 10 * (min(start + 1, on) - min(start, on))
    return found


@lru_cache(maxsize=8)
def psf_table(pixel_um: float, basis_um: float) -> NDArray[np.float32]:
    """(depths, radii) the fitted PSF, each nanometre, at each quarter of a pixel."""
    from scipy.special import j0, j1

    limit = N_SAMPLE / NA
    width = NA * (3 * np.arange(1, BASES + 1) - 2) * basis_um / WAVELENGTH_UM
    rho = np.linspace(0, limit, PUPIL_SAMPLES)
    depth = np.arange(0, DEPTH_UM, DEPTH_STEP_UM)
    k = 2 * pi / WAVELENGTH_UM
    aside = (NA * rho) ** 2
    path = depth[:, None] * np.sqrt(np.maximum(N_SAMPLE**2 - aside, 0)) + STAGE_UM * np.sqrt(N_IMMERSION**2 - aside)
    # The last digits of a fit of so many alike functions are noise, and the published images have that noise in them.
    fitted = np.linalg.lstsq(j0(width[:, None] * rho).T, np.exp(1j * k * path).T, rcond=-1)[0]
    radius = np.arange(0, ((0.5 * SIDE * SIDE) ** 0.5 + 1) * pixel_um, pixel_um / 4)
    b = (k * NA / (1 + (NA / MAGNIFICATION) ** 2) ** 0.5 * radius)[:, None]
    closed = width * j1(width * limit) * j0(b * limit) * limit - b * j0(width * limit) * j1(b * limit) * limit
    found: NDArray[np.float32] = (np.abs(closed / (width**2 - b**2) @ fitted) ** 2).T.astype(np.float32)
    return found


def image(emitters_um: Floats, pixel_um: float, basis_um: float, *, squared: bool) -> NDArray[np.uint16]:
    """The published image, without noise.

    Parameters
    ----------
    emitters_um : (n, 3) z, y, x from the middle of the image
    pixel_um : size of a pixel
    basis_um : one of BASIS_UM
    squared : the Airyscan of the paper

    Returns
    -------
    (128, 128) uint16, 255 at the brightest pixel, rounded down.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    table = spline_filter(psf_table(pixel_um, basis_um).astype(np.float64))
    y, x = ((np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2) * pixel_um)[:, None]
    found = np.zeros((SIDE, SIDE))
    lit = brightness(len(emitters_um))
    for (depth, down, right), light in zip(emitters_um, lit, strict=True):
        if light == 0:
            continue
        apart = np.hypot(x[0] - right, y[0] - down) / (pixel_um / 4)
        seen = map_coordinates(table, [np.full(apart.shape, depth / DEPTH_STEP_UM), apart], prefilter=False)
        found += light * (seen * seen if squared else seen)
    if found.max() > 0:
        found *= 255 / found.max()
    return found.astype(np.uint16)


def mask(emitters_um: Floats, pixel_nm: int, half_nm: int) -> NDArray[np.bool_]:
    """(128, 128) the published mask: pixels that hold an emitter. One beyond the upper or left edge comes in on the other side.

    half_nm : half of what places were drawn from; the image's corner is twice that from its middle
    """
    at = (1000 * emitters_um[:, 1:] + 2 * half_nm).astype(np.int64)
    at = np.where(at < 0, at + SIDE * pixel_nm, at) // pixel_nm
    found = np.zeros((SIDE, SIDE), bool)
    found[at[:, 0], at[:, 1]] = True
    return found
