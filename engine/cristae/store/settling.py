"""Settling: what a file says and what the user says, made one. The user's word holds; what neither says is asked for.

Pure functions from `Found` to the parts of a Volume.
"""

from __future__ import annotations

import math

import numpy as np

from cristae.errors import InvalidInput
from cristae.store.facts import AXES, SPATIAL, Channel, Found, FoundArray, Level


def axes_of(found: Found, axes: str | None) -> str:
    """The file's order of axes, in letters t c z y x."""
    shape = found.arrays[0].shape
    example = _suggested(len(shape), found.axes)
    if axes is not None:
        axes = axes.lower()
        if len(axes) != len(shape) or len(set(axes)) != len(axes) or not {"y", "x"} <= set(axes) <= set(AXES):
            raise InvalidInput(
                f"--axes {axes} does not fit {found.path}, whose shape is {shape}: give each axis one of the letters "
                f"t, c, z, y, x, and name y and x, for example --axes {example}"
            )
    elif found.axes is None and len(shape) == 2:
        axes = "yx"
    elif found.axes is not None and {"y", "x"} <= set(found.axes) <= set(AXES):
        axes = found.axes
    else:
        raise InvalidInput(
            f"{found.path} has shape {shape}, but names no axes; give them, for example --axes {example}"
        )
    if not all(shape):
        raise InvalidInput(f"{found.path} holds no voxels: its shape is {shape}")
    if np.dtype(found.arrays[0].dtype).kind not in "biuf":
        raise InvalidInput(f"{found.path} holds {found.arrays[0].dtype}, and voxels are real numbers; convert it first")
    return axes


def scale_of(found: Found, array: FoundArray, order: str, voxel_um: tuple[float, ...] | None) -> dict[str, float]:
    """Micrometres or seconds a step, by axis; a size the user gives is level 0's, and coarser ones follow."""
    spatial = [a for a in AXES if a in order and a in SPATIAL]
    example = f"--voxel-um {'0.3,0.1,0.1' if len(spatial) == 3 else '0.1,0.1'}"
    scale = dict(array.scale)
    if voxel_um is not None:
        if len(voxel_um) != len(spatial):
            raise InvalidInput(
                f"--voxel-um gives {len(voxel_um)} sizes, but {found.path} has the axes {', '.join(spatial)}; "
                f"give one each, for example {example}"
            )
        finest = found.arrays[0].shape
        ratios = (round(finest[n] / array.shape[n]) for n in map(order.index, spatial))
        scale |= {a: v * r for a, v, r in zip(spatial, voxel_um, ratios, strict=True)}
    if missing := [a for a in spatial if a not in scale]:
        raise InvalidInput(
            f"{found.path} does not say how large a voxel is along {', '.join(missing)}"
            f"{'; ' + found.notes[0] if found.notes else ''}; give it in micrometres, for example {example}"
        )
    for a in spatial:
        if not 0 < scale[a] < math.inf:
            raise InvalidInput(
                f"{found.path} has a voxel size of {scale[a]} um along {a}; give one, for example {example}"
            )
    return scale


def level_of(array: FoundArray, order: str, scale: dict[str, float]) -> Level:
    """One array of the file as a level, its axes sorted."""
    spatial = [a for a in SPATIAL if a in order]
    at = [order.index(a) for a in spatial]
    return Level(
        path=array.path,
        shape=tuple(array.shape[order.index(a)] for a in AXES if a in order),
        voxel_um=tuple(float(scale[a]) for a in spatial),
        translation_um=tuple(float(array.translation.get(a, 0.0)) for a in spatial),
        chunk=tuple(array.chunk[n] for n in at),
        unit=tuple(array.unit[n] for n in at),
    )


def channels_of(known: tuple[Channel, ...], count: int) -> tuple[Channel, ...]:
    """As many channels as there are, those without a name called by their number."""
    return known[:count] + tuple(Channel(str(n)) for n in range(len(known), count))


def _suggested(ndim: int, axes: str | None) -> str:
    """An example for --axes: the file's own letters where they are known, the usual order elsewhere."""
    if axes is not None and axes.endswith("s") and ndim > 2:
        return AXES.replace("c", "")[-(ndim - 1) :] + "c"
    return {2: "yx", 3: "zyx", 4: "czyx"}.get(ndim, AXES)
