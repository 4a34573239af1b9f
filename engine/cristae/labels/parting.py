"""Parting: objects that touch come apart, by their distance to the ground, by the image, or by a network's probability.

split   the stage; see `basins` for the first two, `saddles` for the third
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import inf, isfinite, prod
from typing import Any

from cristae.array import Array
from cristae.blocks.measure import Measure
from cristae.blocks.stage import Stage
from cristae.errors import InvalidConfiguration
from cristae.labels import basins, saddles
from cristae.labels.components import label_spec

LARGEST = 1 << 22
"""Voxels of the box in which summits, or the ground, are looked for."""
REACH_UM, DEPTH_UM, ABOVE = 0.3, 0.1, 0.5
"""For tubes of 0.15 to 0.3 um radius: docs/instances.md has what was measured."""
OWN: Mapping[str, tuple[str, ...]] = {
    "distance": ("min_separation_um", "reach_um"),
    "intensity": ("min_separation_um", "sigma_um"),
    "probability": ("above", "depth_um", "reach_um"),
}
"""What each kind of summit is chosen by."""


def split(
    *,
    voxel_um: tuple[float, ...],
    min_separation_um: float | None = None,
    by: str = "distance",
    reach_um: float | None = None,
    sigma_um: float = 0.0,
    above: float | None = None,
    depth_um: float | None = None,
) -> Stage:
    """Part objects that touch between their summits.

    Parameters
    ----------
    voxel_um : voxel size, (z, y, x) or (y, x)
    min_separation_um : for "distance" and "intensity": summits nearer than this to a higher one, with foreground between, are no objects
        of their own; about the radius of the smallest object
    by : a summit is where the "distance" to the ground is largest, where the "intensity" of the raw channel is, or where a
        "probability" is surest and farthest from where it falls; the last one works on the probability, without a threshold before it
    reach_um : for "distance": as far as it is measured; objects joined by a neck that is thicker than twice this stay one. By
        default twice min_separation_um, so that a separation far below the objects' radius parts nothing but thin necks.
        For "probability": the same, about the radius of the objects; 0.3 unless given
    sigma_um : for "intensity": width of the Gaussian that smooths it
    above : for "probability": foreground is what lies above it; 0.5 unless given
    depth_um : for "probability": two summits are two objects where the saddle between them lies this much lower, or more, than the lower
        one; a height is the mean over the levels from `above` to 1 of the distance to where the probability is no higher; 0.1
        unless given

    Returns
    -------
    A stage from a mask (by intensity: from `filters.heights`; by probability: from floats) to uint32 objects, numbered by the raster
    order of their first voxel, 0 for ground; `label` after it keeps them apart. The result does not depend on blocks.
    Steepest ascent as in S. Beucher, C. Lantuejoul (1979); summits as maxima of a total order, by value and then raster index;
    depth of saddles as in M. Grimaud, Proc. SPIE 1769, 292 (1992), doi:10.1117/12.60650.

    Raises
    ------
    InvalidConfiguration : if a length is not above 0, or a parameter is not one of this kind of summit.
    InvalidInput : on heights that are NaN.
    """
    given = {"min_separation_um": min_separation_um, "reach_um": reach_um, "depth_um": depth_um, "above": above}
    given |= {"sigma_um": sigma_um or None}
    _refuse_others(by, given)
    for name in ("min_separation_um", "reach_um", "depth_um"):
        length = given[name]
        if length is not None and not (_number(length) and 0 < length < inf):
            raise InvalidConfiguration(f"split: {name} is {length!r}, but must be a length in um above 0")
    if not (_number(sigma_um) and isfinite(sigma_um) and sigma_um >= 0):
        raise InvalidConfiguration(f"split: sigma_um is {sigma_um!r}, but must be a length in um, 0 or more")
    if above is not None and not (_number(above) and 0 <= above < 1):
        raise InvalidConfiguration(f"split: above is {above!r}, but must be a probability, 0 or more and below 1")
    if by == "probability":
        return _by_probability(voxel_um, above, depth_um, reach_um)
    if min_separation_um is None:
        raise InvalidConfiguration(f"split by {by} needs min_separation_um, about the radius of the smallest object")
    _refuse_far("min_separation_um", min_separation_um, voxel_um, "farther than summits are looked for")
    limit = None if by == "intensity" else float(reach_um or 2 * min_separation_um)
    climb = basins.Climb(tuple(voxel_um), float(min_separation_um), limit)
    params: dict[str, Any] = {"by": by, "min_separation_um": min_separation_um}
    params |= {"sigma_um": sigma_um} if limit is None else {"reach_um": limit}
    return _stage(params, climb, basins.parted, basins.answers_of(params, climb))


def _by_probability(
    voxel_um: tuple[float, ...], above: float | None, depth_um: float | None, reach_um: float | None
) -> Stage:
    reach = REACH_UM if reach_um is None else float(reach_um)
    depth = DEPTH_UM if depth_um is None else float(depth_um)
    ascent = saddles.Ascent(tuple(voxel_um), ABOVE if above is None else float(above), reach)
    _refuse_far("reach_um", reach, voxel_um, "farther than the ground is looked for")
    if depth >= reach:
        raise InvalidConfiguration(
            f"split: depth_um {depth:g} is not below reach_um {reach:g}, which no height exceeds, so nothing would be parted; give a smaller "
            "depth_um, or a larger reach_um"
        )
    params = {"by": "probability", "above": ascent.above, "depth_um": depth, "reach_um": reach}
    return _stage(params, ascent, saddles.parted, saddles.answers_of(params, ascent, depth))


def _stage(
    params: Mapping[str, Any], climb: basins.Climbing, parted: Callable[..., Array], asks: Mapping[str, Measure]
) -> Stage:
    return Stage(
        "split",
        params,
        partial(parted, climb=climb),
        climb.halo,
        output=label_spec,
        cost=climb.cost,
        asks=asks,
        boundary="ends",
        blockwise=True,
    )


def _refuse_others(by: str, given: Mapping[str, float | None]) -> None:
    """A parameter of another kind of summit."""
    if by not in OWN:
        raise InvalidConfiguration(f"split: by {by!r} is not one of {', '.join(OWN)}")
    for name, value in given.items():
        if value is not None and name not in OWN[by]:
            kinds = " or ".join(kind for kind, names in OWN.items() if name in names)
            raise InvalidConfiguration(f"split: {name} belongs to by: {kinds}; leave it out")


def _refuse_far(name: str, length: float, voxel_um: tuple[float, ...], what: str) -> None:
    reach = [int(length / h) for h in voxel_um]
    if prod(2 * n + 1 for n in reach) > LARGEST:
        raise InvalidConfiguration(
            f"split: {name} {length:g} is {max(reach)} voxels, {what}; lengths are micrometres: give about the radius of the smallest object"
        )


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
