"""Transforms: real Fourier transforms of blocks, in float32 and few copies, that deconvolutions share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from cristae.array import Array, fft, namespace
from cristae.blocks.stage import Spec
from cristae.errors import InvalidConfiguration
from cristae.grid import Shape
from cristae.optics.blur import Weights

ROUNDING = 1e-4
"""Of the brightest voxel: float32 in transforms of another size."""
FULL_SCALE = 100.0
"""The brightest voxel for which a stage's tolerance is stated; it grows with the light."""
SLAB = 1 << 20
"""Voxels worked on at a time, so that no temporary is as large as a block."""
THIN = (32, 256, 256)
"""The smallest volume for which the stated bytes hold: of a thinner one what lies beyond it is the larger part."""


def good_shape(image: Array, shape: Sequence[int]) -> Shape:
    *leading, last = shape
    find = fft(image).next_fast_len
    return (*(int(find(n)) for n in leading), int(find(last, real=True)))


def transfer_of(image: Array, kernel: Weights, shape: Shape) -> Array:
    """Spectrum of weights whose middle is moved to the first voxel of the frame."""
    xp = namespace(image)
    placed = xp.zeros(shape, xp.float32)
    placed[tuple(slice(0, n) for n in kernel.shape)] = xp.asarray(kernel)
    for axis, n in enumerate(kernel.shape):  # axis by axis: a roll of all at once holds several copies
        placed = xp.roll(placed, -(n // 2), axis)
    return fft(image).rfftn(placed)


def blurred(spectrum: Array, transfer: Array, shape: Shape, back: bool = False) -> Array:
    """What the spectrum is of, blurred; `back` is the adjoint. The spectrum is used up."""
    for rows in slabs(spectrum.shape):
        spectrum[rows] *= transfer[rows].conj() if back else transfer[rows]
    return back_from(spectrum, shape)


def back_from(spectrum: Array, shape: Shape) -> Array:
    # In two steps, the first in place: irfftn would keep the spectrum and hold a copy.
    library = fft(spectrum)
    spectrum = library.ifftn(spectrum, axes=tuple(range(len(shape) - 1)), overwrite_x=True)
    return library.irfft(spectrum, n=shape[-1], axis=-1)


def numbers_of(part: Array) -> Array:
    """A copy in float32, 0 where there is no number."""
    xp = namespace(part)
    found = part.astype(xp.float32)
    return xp.where(xp.isfinite(found), found, xp.float32(0)) if part.dtype.kind == "f" else found


def slabs(shape: Sequence[int]) -> Iterator[slice]:
    """Rows of the first axis, about SLAB voxels at a time."""
    rows = max(1, SLAB // max(1, prod(shape[1:])))
    return (slice(a, min(a + rows, shape[0])) for a in range(0, shape[0], rows))


def larger(radius: Sequence[int]) -> float:
    """Voxels of the frame over those of the thinnest volume that the stated bytes are for."""
    return prod((n + 2 * r + 1) / n for n, r in zip(THIN[-len(radius) :], radius, strict=True))


def to_float32(spec: Spec) -> Spec:
    return Spec(spec.shape, "float32", spec.voxel_um)


def need(stage: str, name: str, value: object, low: float, high: float, hint: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidConfiguration(
            f"{stage}: {name} is {value!r}, but must be a number from {low:g} to {high:g}; {hint}"
        )
