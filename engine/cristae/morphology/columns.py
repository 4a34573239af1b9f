"""Columns: the names a table may show, what each means, and how rows become them.

    group    what one measure knows: index, shape, surface, topology, intensity; `index` comes with every table
    column   a name that carries its unit; 2D tables say area and perimeter and have no z

Intensity columns of a table with several channels end in the channel's name: `intensity_mean_TMRM`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from cristae.errors import InvalidConfiguration
from cristae.grid import Shape
from cristae.morphology.intensity import finish_intensity
from cristae.morphology.moments import finish_index, finish_shape
from cristae.morphology.surface import finish_windows


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table of objects; `ndims` says in which tables it stands."""

    unit: str  # "" for a number without one; "a.u." for the raw image's own
    definition: str
    group: str
    ndims: tuple[int, ...] = (2, 3)


_AXES: Mapping[str, tuple[int, ...]] = {"z": (3,), "y": (2, 3), "x": (2, 3)}


def _columns() -> dict[str, Column]:
    found = {"voxels": Column("voxel", "number of voxels", "index")}
    for axis, ndims in _AXES.items():
        found[f"bbox_{axis}_min"] = Column("voxel", f"least {axis} of the object", "index", ndims)
        found[f"bbox_{axis}_max"] = Column("voxel", f"largest {axis} of the object plus 1", "index", ndims)
    found["volume_um3"] = Column("um3", "voxels times the volume of one", "shape", (3,))
    found["area_um2"] = Column("um2", "pixels times the area of one", "shape", (2,))
    for axis, ndims in _AXES.items():
        found[f"centroid_{axis}_um"] = Column("um", f"mean {axis} of the voxel centres", "shape", ndims)
    same = "ellipsoid with the same second moments"
    found["axis_major_um"] = Column("um", f"longest axis of the {same}", "shape")
    found["axis_mid_um"] = Column("um", f"middle axis of the {same}", "shape", (3,))
    found["axis_minor_um"] = Column("um", f"shortest axis of the {same}", "shape")
    found["equivalent_diameter_um"] = Column("um", "diameter of the ball (disc) of the same volume (area)", "shape")
    found["extent"] = Column("", "voxels divided by those of the bounding box", "shape")
    found["touches_border"] = Column("", "whether the object lies at a face of the volume", "shape")
    found["surface_um2"] = Column("um2", "area of the marching-cubes surface at half height", "surface", (3,))
    found["sphericity"] = Column("", "surface of the ball of the same volume divided by surface_um2", "surface", (3,))
    found["perimeter_um"] = Column("um", "Crofton perimeter from lines in four directions", "surface", (2,))
    found["euler_number"] = Column(
        "", "pieces less tunnels plus cavities (2D: less holes); voxels touch at corners", "topology"
    )
    for name, definition in {
        "sum": "sum of the raw channel over the object",
        "mean": "mean of the raw channel over the object",
        "std": "standard deviation of the raw channel over the object, divided by n",
        "min": "least value of the raw channel in the object",
        "max": "largest value of the raw channel in the object",
    }.items():
        found[f"intensity_{name}"] = Column("a.u.", definition, "intensity")
    for axis, ndims in _AXES.items():
        found[f"intensity_centroid_{axis}_um"] = Column(
            "um", f"mean {axis} of the voxel centres, weighted by the raw channel", "intensity", ndims
        )
    return found


COLUMNS: Mapping[str, Column] = _columns()
KEY = ("image", "t", "label")
"""Columns that every table begins with."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(column.group for column in COLUMNS.values()))


def names_of(group: str, *, ndim: int = 3, channels: Sequence[str] = ()) -> tuple[str, ...]:
    """Columns of one group, in the order of the table."""
    names = [name for name, column in COLUMNS.items() if column.group == group and ndim in column.ndims]
    if group == "intensity" and len(channels) > 1:
        return tuple(f"{name}_{channel}" for channel in channels for name in names)
    return tuple(names)


def group_of(column: str, *, channels: Sequence[str] = ()) -> str:
    """The group whose measure finds this column.

    Raises
    ------
    InvalidConfiguration : if there is no such column; the message names the nearest.
    """
    if column in COLUMNS:
        return COLUMNS[column].group
    if any(column in names_of("intensity", ndim=ndim, channels=channels) for ndim in (2, 3)):
        return "intensity"
    raise _unknown(column, [*COLUMNS, *names_of("intensity", channels=channels)])


def expand(names: Iterable[str], *, ndim: int = 3, channels: Sequence[str] = ()) -> tuple[str, ...]:
    """Columns that these names of groups and columns ask for, the index first, in the order of the table.

    Raises
    ------
    InvalidConfiguration : if a name is neither a group nor a column of a table of `ndim` axes; the nearest is named.
    """
    known = {group: names_of(group, ndim=ndim, channels=channels) for group in GROUPS}
    columns = [column for group in known.values() for column in group]
    wanted = set(known["index"])
    for name in names:
        if name in KEY:
            continue
        if name in known:
            wanted.update(known[name])
        elif name in columns:
            wanted.add(name)
        elif name in COLUMNS and ndim not in COLUMNS[name].ndims:
            raise InvalidConfiguration(
                f"column {name!r} is not in tables of {ndim}D objects; their {COLUMNS[name].group} columns are "
                f"{', '.join(known[COLUMNS[name].group])}"
            )
        else:
            raise _unknown(name, [*known, *columns])
    return tuple(column for column in columns if column in wanted)


def _unknown(name: str, known: Sequence[str]) -> InvalidConfiguration:
    near = get_close_matches(name, known, 1)
    nearest = f"the nearest is {near[0]!r}, all are" if near else "there are"
    return InvalidConfiguration(f"there is no column or group {name!r}; {nearest}: {', '.join(known)}")


def finish_rows(
    group: str,
    rows: np.ndarray,
    *,
    voxel_um: Sequence[float],
    shape: Shape,
    translation_um: Sequence[float] | None = None,
    channel: str | None = None,
    background: float = 0,
) -> dict[str, np.ndarray]:
    """Columns of one group from its merged rows: `label` first, one value a label, labels in rising order.

    Parameters
    ----------
    group : of the measure that made the rows; "surface" and "topology" also take the rows of both.
    rows : sorted by label and origin, as `merge` leaves them; all rows of each label.
    voxel_um, shape, translation_um : of the volume; index 0 lies at the translation.
    channel : appended to the names of intensity columns, where a table has several channels.
    background : taken from the intensity of each voxel.
    """
    origin = tuple(translation_um) if translation_um is not None else (0.0,) * len(voxel_um)
    finish: Mapping[str, Callable[[], dict[str, np.ndarray]]] = {
        "index": lambda: finish_index(rows, ndim=len(voxel_um)),
        "shape": lambda: finish_shape(rows, voxel_um=voxel_um, shape=shape, translation_um=origin),
        "surface": lambda: finish_windows(rows, voxel_um=voxel_um),
        "topology": lambda: finish_windows(rows, voxel_um=voxel_um),
        "intensity": lambda: finish_intensity(rows, voxel_um=voxel_um, translation_um=origin, background=background),
    }
    if group not in finish:
        raise _unknown(group, list(finish))
    columns = finish[group]()
    if channel is None:
        return columns
    return {name if name == "label" else f"{name}_{channel}": values for name, values in columns.items()}
