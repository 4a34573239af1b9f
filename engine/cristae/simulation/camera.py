"""Camera: expected photons become the numbers a camera gives, each voxel with noise of its own.

    photons -> electrons   Poisson(QE photons + dark current); an EM register multiplies them and doubles the variance
    electrons -> counts    read noise (each pixel of an sCMOS its own), gain, offset, rounding, the end of the scale

The noise of a voxel depends on the key, on where the voxel lies in the whole image, and on nothing else: blocks, order and worker do
not show. Expected values are rounded to 2^-20 electrons first, so that libraries that differ in the last digit agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, pi
from typing import Any

from cristae.array import Array, namespace, pick, special
from cristae.draws import scattered
from cristae.errors import InvalidConfiguration
from cristae.grid import Box, Shape
from cristae.simulation import camera_kernel
from cristae.simulation.camera_kernel import FEW, FIRST, GRID


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What turns photons into counts.

    background : photons of a voxel that come from no emitter
    qe, dark : quantum efficiency, electrons of dark current in an exposure
    em_gain : of an EM register; 1 is none
    read_noise : electrons, standard deviation; `spread` is how much it differs between pixels (sCMOS), as a part of it
    electrons : for each count
    offset : counts in the dark; bits : of the converter
    binning : pixels along each side that are read as one: their read noise adds up

    Raises
    ------
    InvalidConfiguration : if a number cannot be.
    """

    background: float = 10.0
    qe: float = 1.0
    dark: float = 0.0
    em_gain: float = 1.0
    read_noise: float = 0.0
    spread: float = 0.0
    electrons: float = 1.0
    offset: float = 0.0
    bits: int = 16
    binning: int = 1

    def __post_init__(self) -> None:
        limits = {
            "background": (0, inf), "qe": (1e-6, 1), "dark": (0, inf), "em_gain": (1, 1e4), "read_noise": (0, 1e4),
            "spread": (0, 5), "electrons": (1e-6, 1e6), "offset": (0, 65535), "bits": (1, 16), "binning": (1, 64),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not low <= value <= high
                or value == inf
            ):
                raise InvalidConfiguration(
                    f"camera: {name} is {value!r}, but must be a number from {low:g} to {high:g}"
                )
        if self.bits != int(self.bits) or self.binning != int(self.binning):
            raise InvalidConfiguration(
                f"camera: bits and binning are whole numbers, got {self.bits} and {self.binning}"
            )

    @property
    def dtype(self) -> str:
        return "uint8" if self.bits <= 8 else "uint16"

    @property
    def top(self) -> int:
        """The largest count."""
        return (1 << int(self.bits)) - 1

    def expected(self, photons: float) -> float:
        """Counts that so many photons of emitters give on average, the background with them, nothing cut off."""
        return self.offset + (self.qe * (photons + self.background) + self.dark) * self.em_gain / self.electrons


def expose(photons: Array, camera: Camera, at: Box, shape: Shape, key: int, chip: int = 0) -> Array:
    """The counts of a box of an image.

    Parameters
    ----------
    photons : light of emitters that is expected in each voxel of `at`
    at : where that lies in the whole image
    shape : of the whole image
    key : of the image, the channel and the frame
    chip : of the camera: its pixels differ in the same way in all that it records

    Returns
    -------
    uint8 or uint16 of the same shape, in the same library.
    """
    xp = namespace(photons)
    planes = photons.reshape(-1, *photons.shape[-2:])
    out = xp.empty(planes.shape, camera.dtype)
    sigma = _read_noise(xp, camera, at, shape, chip)
    exposed = pick(photons, exposed_plain, numpy=camera_kernel.exposed)
    for n in range(len(planes)):  # plane by plane: the numbers on the way take ten times what the image does
        z = at.start[0] + n if len(shape) > 2 else 0
        first = (z * shape[-2] + at.start[-2]) * shape[-1] + at.start[-1]
        exposed(out[n], planes[n], camera, sigma, first, shape[-1], key)
    return out.reshape(photons.shape)


def _read_noise(xp: Any, camera: Camera, at: Box, shape: Shape, chip: int) -> Array:
    """(rows, columns) electrons of each pixel of a box, the same in every plane."""
    sigma = xp.full(at.shape[-2:], camera.read_noise * camera.binning, xp.float64)
    if camera.spread and camera.read_noise:
        pixels = places(xp, Box(at.start[-2:], at.stop[-2:]), shape[-2:])
        sigma *= xp.exp(camera.spread * normal(xp, pixels, chip, 5) - 0.5 * camera.spread**2)
    return sigma


def exposed_plain(out: Array, photons: Array, camera: Camera, sigma: Array, first: int, width: int, key: int) -> None:
    """Counts of one plane, into `out`. `first` is the raster number of its corner in the image, `width` of a row of that."""
    xp = namespace(photons)
    mean = camera.qe * (photons.astype(xp.float64) + camera.background) + camera.dark
    mean = xp.floor(xp.maximum(mean, 0) * GRID + 0.5) / GRID
    rows, columns = (xp.arange(n, dtype=xp.uint64) for n in photons.shape)
    index = xp.uint64(first) + rows[:, None] * xp.uint64(width) + columns
    drawn = poisson_plain(mean, index, key)
    if camera.em_gain > 1:
        # A register of many stages: a gamma with the mean n g and the variance n g^2, here by its normal limit.
        drawn = camera.em_gain * (drawn + xp.sqrt(drawn) * normal(xp, index, key, 3))
    if camera.read_noise:
        drawn = drawn + sigma * normal(xp, index, key, 7)
    counts = xp.floor(drawn / camera.electrons + camera.offset + 0.5)
    out[...] = xp.clip(counts, 0, camera.top).astype(camera.dtype)


def places(xp: Any, at: Box, shape: Shape) -> Array:
    """uint64 raster number of every voxel of a box."""
    found = xp.zeros((1,) * len(shape), xp.uint64)
    for axis, n in enumerate(shape):
        line = xp.arange(at.start[axis], at.stop[axis], dtype=xp.uint64)
        found = found * xp.uint64(n) + line.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return found


def uniform(xp: Any, index: Array, key: int, draw: int) -> Array:
    """Numbers above 0 and below 1 for each place: number `draw` of its own row.

    G. L. Steele, D. Lea, C. H. Flood, OOPSLA '14, doi:10.1145/2660193.2660195 (SplitMix64).
    """
    h = (index * xp.uint64(64) + xp.uint64(draw) + xp.uint64(scattered(key))) * xp.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> xp.uint64(30))) * xp.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> xp.uint64(27))) * xp.uint64(0x94D049BB133111EB)
    h = h ^ (h >> xp.uint64(31))
    return ((h >> xp.uint64(11)).astype(xp.float64) + 0.5) * 2.0**-53


def normal(xp: Any, index: Array, key: int, draw: int) -> Array:
    """Normal numbers, from draws `draw` and `draw + 1` (Box and Muller)."""
    far = xp.sqrt(-2 * xp.log(uniform(xp, index, key, draw)))
    return far * xp.cos(2 * pi * uniform(xp, index, key, draw + 1))


def poisson_plain(mean: Array, index: Array, key: int) -> Array:
    """Poisson numbers as float64: by adding up chances below FEW, above by rejection.

    W. Hormann, Insurance Math. Econom. 12, 39 (1993), doi:10.1016/0167-6687(93)90997-4 (PTRS).
    """
    xp = namespace(mean)
    index = xp.broadcast_to(index, mean.shape)
    out = xp.zeros(mean.shape, xp.float64)
    few = mean < FEW
    out[few] = _added(xp, mean[few], uniform(xp, index[few], key, FIRST))
    out[~few] = _rejected(xp, mean[~few], index[~few], key)
    return out


def _added(xp: Any, mean: Array, u: Array) -> Array:
    found = xp.zeros(mean.shape, xp.float64)
    chance = xp.exp(-mean)
    total = chance.copy()
    for n in range(1, 200):
        more = u > total
        if not bool(more.any()):
            break
        found += more
        chance = chance * mean / n
        total = xp.where(more, total + chance, total)
    return found


def _rejected(xp: Any, mean: Array, index: Array, key: int) -> Array:
    log_gamma = special(mean).gammaln
    b = 0.931 + 2.53 * xp.sqrt(mean)
    a = -0.059 + 0.02483 * b
    alpha = 1.1239 + 1.1328 / (b - 3.4)
    quick = 0.9277 - 3.6224 / (b - 2)
    found = xp.zeros(mean.shape, xp.float64)
    open_ = xp.ones(mean.shape, bool)
    draw = FIRST
    while bool(open_.any()):
        u, v = uniform(xp, index, key, draw) - 0.5, uniform(xp, index, key, draw + 1)
        inside = 0.5 - xp.abs(u)
        k = xp.floor((2 * a / inside + b) * u + mean + 0.43)
        left = xp.log(v * alpha / (a / (inside * inside) + b))
        right = -mean + k * xp.log(mean) - log_gamma(xp.maximum(k, 0) + 1)
        taken = ((inside >= 0.07) & (v <= quick)) | ((k >= 0) & ~((inside < 0.013) & (v > inside)) & (left <= right))
        found = xp.where(open_ & taken, k, found)
        open_ &= ~taken
        draw += 2
    return found
