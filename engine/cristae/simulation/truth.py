"""Truth: which pixels belong to which object, by rules that do not look at the picture, and by those that do.

    emitters       a pixel that holds an emitter, at any depth (PhySeg's G4, the default); in 3D a voxel that does
    otsu           Otsu on the noise-free image in 8 bits (G1)
    otsu-eroded    the same, eroded by 2 x 2 (G2)
    noise          above the noise floor of the camera (G3); noise-half is above half of it
    solid          voxels whose centre lies inside the shape: a surface labelled sparsely is hollow by the other rules

A. A. Sekh et al., Nat. Mach. Intell. 3, 1071 (2021). Where objects overlap, every one keeps its own voxels (`Runs`); a flat label image
gives a voxel to the object that is nearest to the viewer, the one with the greater z, and of equals to the smaller id.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration
from cristae.filters.cuts import otsu_value
from cristae.grid import Box

Floats = NDArray[np.float64]
RULES = ("emitters", "otsu", "otsu-eroded", "noise", "noise-half", "solid")


def hit(emitters_um: Floats, box: Box, voxel_um: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels of `box` that hold an emitter; (n, 2) emitters mark pixels, whatever their depth."""
    at = np.floor(emitters_um / np.array(voxel_um)).astype(np.int64) - np.array(box.start)
    inside = ((at >= 0) & (at < np.array(box.shape))).all(axis=1)
    found = np.zeros(box.shape, bool)
    found[tuple(at[inside].T)] = True
    return found


def by_image(rule: str, clean: NDArray[np.float32], background: float, peak: float) -> NDArray[np.bool_]:
    """The mask that a rule makes of a noise-free image.

    background, peak : expected counts of the camera, for the noise rules

    Raises
    ------
    InvalidConfiguration : if there is no such rule.
    """
    top = float(clean.max())
    eight = (clean.astype(np.float64) / top * 255).astype(np.uint8) if top > 0 else np.zeros(clean.shape, np.uint8)
    if rule in ("otsu", "otsu-eroded"):
        if eight.min() == eight.max():
            return np.zeros(clean.shape, bool)
        values, counts = np.unique(eight, return_counts=True)
        found: NDArray[np.bool_] = eight > otsu_value(counts, values.astype(np.float64))
        return _eroded(found) if rule == "otsu-eroded" else found
    if rule in ("noise", "noise-half"):
        floor = int(background / peak * 255)
        return eight >= (floor / 2 if rule == "noise-half" else floor)
    raise InvalidConfiguration(f"there is no rule {rule!r} for the truth; it is one of {', '.join(RULES)}")


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """By 2 x 2 whose anchor is the lower right, as OpenCV's; the image's edge erodes nothing."""
    padded = np.pad(mask, ((1, 0), (1, 0)), constant_values=True)
    return padded[1:, 1:] & padded[:-1, 1:] & padded[1:, :-1] & padded[:-1, :-1]


def flat(masks: Sequence[NDArray[np.bool_]], heights: Sequence[float]) -> NDArray[np.uint32]:
    """One label a pixel, ids from 1 in the order of `masks`: the greatest height in front, of equals the smaller id."""
    found = np.zeros(masks[0].shape if masks else (0, 0), np.uint32)
    order = sorted(range(len(masks)), key=lambda n: (heights[n], -n))
    for n in order:
        found[masks[n]] = n + 1
    return found
