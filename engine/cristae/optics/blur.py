"""Blur: the PSF that a deconvolution undoes, as facts that travel and as weights that each process finds once.

    Computed   by the optics of a microscope
    Measured   on a bead, in a file; its digest says which voxels were meant
    chosen     one of the two, from what a user gave; all that can be wrong is said here
    weights    (z, y, x) or (y, x), odd sizes, brightest in the middle, with sum 1

An image in the plane is taken as in focus: of a PSF it has the brightest plane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from hashlib import blake2b
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration, InvalidInput
from cristae.grid import Box, Shape
from cristae.optics.microscope import Microscope
from cristae.optics.microscope import microscope as by_name
from cristae.optics.psf import need_depth
from cristae.optics.psf import psf as image_of_a_point
from cristae.store.volume import Volume, open_volume

Weights = NDArray[np.float32]

RADIUS_UM = 1.0
DEPTH_RADIUS_UM = 2.0
"""How far a computed PSF is followed where nobody says; of a measured one all that the file holds is taken."""
WIDEST = 128  # voxels
MOST_VOXELS = 1 << 24
"""Of a file that is taken for a PSF; a larger one is an image."""
ALIKE = 0.01
"""How much a voxel size may differ, relative to itself: files round it."""


@dataclass(frozen=True)
class Computed:
    """A PSF by its optics; `radius` in voxels."""

    scope: Microscope
    depth_um: float
    voxel_um: tuple[float, ...]
    radius: Shape


@dataclass(frozen=True)
class Measured:
    """A PSF in a file, and the digest of its voxels; `radius` in voxels."""

    path: str
    digest: str
    radius: Shape


Blur = Computed | Measured


@lru_cache(maxsize=8)
def weights(blur: Blur) -> Weights:
    """The share of a point's light that each voxel around it gets.

    Returns
    -------
    (2 r + 1, ...) float32 for a radius r of each axis; read-only, since all who ask get the same.

    Raises
    ------
    InvalidInput : if a file is no longer what it was when the stage was made.
    """
    light = _computed(blur) if isinstance(blur, Computed) else _measured(blur)
    found: Weights = (light / light.sum()).astype(np.float32)
    found.flags.writeable = False
    return found


def chosen(
    stage: str,
    voxel_um: tuple[float, ...],
    microscope: str | None,
    psf: str | None,
    depth_um: float,
    radius_um: float | None,
    depth_radius_um: float | None,
) -> tuple[Blur, Mapping[str, Any]]:
    """The PSF a user asked for, and what of it belongs to the key of a run: numbers of the optics, or a digest.

    Raises
    ------
    InvalidConfiguration : if not exactly one of `microscope` and `psf` is given, or a value makes no sense.
    InvalidInput : if the file cannot be opened.
    """
    if (microscope is None) == (psf is None):
        raise InvalidConfiguration(f"{stage}: give either microscope: NAME or psf: FILE, and not both")
    for name, value in (("microscope", microscope), ("psf", psf)):
        if value is not None and (not isinstance(value, str) or not value):
            raise InvalidConfiguration(f"{stage}: {name} is {value!r}, but must be a name")
    if len(voxel_um) not in (2, 3) or not all(isfinite(h) and h > 0 for h in voxel_um):
        raise InvalidConfiguration(f"{stage}: voxel_um is {tuple(voxel_um)}, but must be (z, y, x) or (y, x) above 0")
    for name, length in (("radius_um", radius_um), ("depth_radius_um", depth_radius_um)):
        if length is not None and not (_is_number(length) and length > 0):
            raise InvalidConfiguration(f"{stage}: {name} is {length!r}, but must be a length in um above 0")
    given = {"radius_um": radius_um, "depth_radius_um": depth_radius_um}
    said = {name: length for name, length in given.items() if length is not None}
    if microscope is not None:
        need_depth(depth_um)
        across, along = radius_um or RADIUS_UM, depth_radius_um or DEPTH_RADIUS_UM
        radius = _reach(stage, voxel_um, across, along)
        scope = by_name(microscope)
        return Computed(scope, float(depth_um), voxel_um, radius), _facts(microscope, scope, depth_um) | said
    assert psf is not None
    if depth_um:
        raise InvalidConfiguration(
            f"{stage}: depth_um {depth_um!r} is for a microscope; a measured PSF has the depth of its bead: leave it out"
        )
    return _of_file(stage, psf, voxel_um, radius_um, depth_radius_um, said)


def _facts(name: str, scope: Microscope, depth_um: float) -> dict[str, Any]:
    """All that a computed PSF depends on: a preset may be another in a later version."""
    kept = {k: v for k, v in asdict(scope).items() if v is not None and k not in ("about", "voxel_um")}
    return {"microscope": {"name": name, **kept}, "depth_um": float(depth_um)}


def _reach(stage: str, voxel_um: tuple[float, ...], across_um: float, along_um: float) -> Shape:
    lengths = (along_um, across_um, across_um)[-len(voxel_um) :]
    found = tuple(int(length / h + 1e-9) for length, h in zip(lengths, voxel_um, strict=True))
    if max(found) > WIDEST:
        raise InvalidConfiguration(
            f"{stage}: the PSF is followed for {max(found)} voxels to each side, and {WIDEST} are the most; give a smaller "
            "radius_um or depth_radius_um"
        )
    if min(found[-2:]) < 1:
        raise InvalidConfiguration(f"{stage}: radius_um {across_um:g} is less than a voxel; give a larger one")
    return found


def _of_file(
    stage: str,
    path: str,
    voxel_um: tuple[float, ...],
    radius_um: float | None,
    depth_radius_um: float | None,
    said: Mapping[str, float],
) -> tuple[Measured, Mapping[str, Any]]:
    volume = open_volume(path)
    _refuse_other(stage, volume, voxel_um)
    voxels, digest = voxels_of(volume), ""
    digest = digest_of(voxels)
    cut = alone(voxels, len(voxel_um))
    if not cut.any():
        raise InvalidConfiguration(
            f"{stage}: {path} is nowhere brighter than at its border, so no point is seen in it; give a stack of one bead"
        )
    peak = brightest_voxel(cut)
    held = [max(at, n - 1 - at) for at, n in zip(peak, cut.shape, strict=True)]
    lengths = (depth_radius_um, radius_um, radius_um)[-len(voxel_um) :]
    radius = tuple(
        n if length is None else min(n, int(length / h + 1e-9))
        for n, length, h in zip(held, lengths, voxel_um, strict=True)
    )
    if max(radius) > WIDEST:
        raise InvalidConfiguration(
            f"{stage}: the PSF in {path} reaches {max(radius)} voxels from its brightest, and {WIDEST} are the most; give radius_um "
            "and depth_radius_um to take less of it"
        )
    if min(radius[-2:]) < 1:
        raise InvalidConfiguration(
            f"{stage}: of the PSF in {path} no more than a voxel would be taken; give a larger radius_um"
        )
    return Measured(str(Path(path).absolute()) if "://" not in path else path, digest, radius), {
        "psf": Path(path).name,
        "psf_digest": digest,
        **said,
    }


def _refuse_other(stage: str, volume: Volume, voxel_um: tuple[float, ...]) -> None:
    """A file that is no PSF of this image's voxels."""
    if volume.frames * volume.channel_count > 1:
        raise InvalidConfiguration(
            f"{stage}: {volume.path} has {volume.frames} time points and {volume.channel_count} channels, but a PSF has one of "
            "each; save the one that is meant by itself"
        )
    if prod(volume.spatial_shape) > MOST_VOXELS:
        raise InvalidConfiguration(
            f"{stage}: {volume.path} has {' x '.join(map(str, volume.spatial_shape))} voxels, far more than a PSF; cut out one bead"
        )
    if len(volume.voxel_um) < len(voxel_um):
        raise InvalidConfiguration(
            f"{stage}: {volume.path} is one plane, but the image is a stack; give a stack of a bead"
        )
    theirs = volume.voxel_um[-len(voxel_um) :]
    if any(abs(a - b) > ALIKE * b for a, b in zip(theirs, voxel_um, strict=True)):
        raise InvalidConfiguration(
            f"{stage}: the PSF in {volume.path} has voxels of {_csv(theirs)} um, the image of {_csv(voxel_um)}; measure a bead as "
            "the image was taken, or save the PSF with its right voxel size"
        )


def _csv(lengths: tuple[float, ...]) -> str:
    return " x ".join(f"{h:g}" for h in lengths)


def voxels_of(volume: Volume) -> NDArray[Any]:
    return volume.read(Box.whole(volume.spatial_shape))


def digest_of(voxels: NDArray[Any]) -> str:
    facts = f"{voxels.dtype.name} {voxels.shape}".encode()
    return blake2b(facts + np.ascontiguousarray(voxels).tobytes(), digest_size=16).hexdigest()


def alone(voxels: NDArray[Any], ndim: int) -> NDArray[np.float64]:
    """The light of the point alone: what the border shows is its background, and what is darker than that is noise."""
    light: NDArray[np.float64] = np.nan_to_num(voxels.astype(np.float64))
    border = np.ones(light.shape, bool)
    border[tuple(slice(1, -1) if n > 2 else slice(None) for n in light.shape)] = False
    light -= np.median(light[border]) if border.any() else 0.0
    np.maximum(light, 0, out=light)
    return light[brightest_voxel(light)[0]] if light.ndim > ndim else light


def brightest_voxel(light: NDArray[np.float64]) -> tuple[int, ...]:
    return tuple(int(n) for n in np.unravel_index(int(np.argmax(light)), light.shape))


def _computed(blur: Computed) -> NDArray[np.float64]:
    in_plane = len(blur.radius) == 2
    deep, rows, columns = (2 * r + 1 for r in ((0,) if in_plane else ()) + blur.radius)
    z, y, x = ((1.0,) if in_plane else ()) + blur.voxel_um
    stack = image_of_a_point(blur.scope, (deep, rows, columns), voxel_um=(z, y, x), depth_um=blur.depth_um)
    return stack.reshape(rows, columns) if in_plane else stack


def _measured(blur: Measured) -> NDArray[np.float64]:
    voxels = voxels_of(open_volume(blur.path))
    if digest_of(voxels) != blur.digest:
        raise InvalidInput(
            f"the PSF in {blur.path} is not the one that the run began with; put that one back, or begin anew"
        )
    light = alone(voxels, len(blur.radius))
    found = np.zeros([2 * r + 1 for r in blur.radius])
    spans = [
        (max(at - r, 0), min(at + r + 1, n), r - at)
        for at, r, n in zip(brightest_voxel(light), blur.radius, light.shape, strict=True)
    ]
    there = tuple(slice(start + shift, stop + shift) for start, stop, shift in spans)
    found[there] = light[tuple(slice(start, stop) for start, stop, _ in spans)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
