"""Microscope: the facts of an objective, its light and its sample, as frozen numbers. Nothing is computed here but limits.

Lengths are micrometres, wavelengths are in vacuum. Indices and thicknesses come in pairs: what the objective was designed
for, and what is really there; what is not given is as designed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from math import pi
from numbers import Real
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cristae.errors import InvalidConfiguration

Floats = NDArray[np.float64]
MODALITIES = ("widefield", "confocal", "airyscan", "airyscan-square", "light-sheet")
MODELS = ("scalar", "vectorial", "gaussian", "measured")
RANGES = {
    "na": (0.1, 1.7),
    "emission_um": (0.2, 2.0),
    "excitation_um": (0.2, 2.0),
    "n_sample": (1.0, 2.0),
    "n_immersion": (1.0, 2.0),
    "n_immersion_design": (1.0, 2.0),
    "n_glass": (1.0, 2.0),
    "n_glass_design": (1.0, 2.0),
    "working_distance_um": (0.0, 1e5),
    "glass_um": (0.0, 1e4),
    "glass_design_um": (0.0, 1e4),
    "pinhole_au": (0.05, 20.0),
    "sheet_fwhm_um": (0.05, 100.0),
}
"""What a number may be; outside it is a slip of the unit."""


class Measured(Protocol):
    """A PSF that was measured; it can be compared and hashed."""

    def profile(self, radius_um: Floats, away_um: Floats) -> Floats: ...


@dataclass(frozen=True, kw_only=True)
class Microscope:
    """An objective, its light and its sample.

    na : numerical aperture
    emission_um, excitation_um : wavelengths in vacuum; excitation is for confocal and Airyscan
    n_sample, n_immersion, n_glass : refractive indices as they are; `_design` as the objective wants them
    working_distance_um : of immersion, at the design
    glass_um, glass_design_um : thickness of the coverslip
    modality : widefield, confocal, airyscan (detector elements reassigned), airyscan-square (PhySeg's approximation) or light-sheet
    model : scalar (Gibson-Lanni), vectorial (Richards-Wolf), gaussian, or measured: by the image of a bead
    pinhole_au : diameter of the pinhole (or of the Airyscan detector) in Airy units
    sheet_fwhm_um : thickness of the light sheet
    voxel_um : (z, y, x), what it is usually set to
    bead : what was measured, the same at every depth

    Raises
    ------
    InvalidConfiguration : if a number cannot be, or the modality lacks one.
    """

    na: float
    emission_um: float
    n_sample: float = 1.33
    n_immersion: float = 1.515
    n_immersion_design: float | None = None
    n_glass: float = 1.515
    n_glass_design: float | None = None
    working_distance_um: float = 150.0
    glass_um: float = 170.0
    glass_design_um: float | None = None
    modality: str = "widefield"
    model: str = "scalar"
    excitation_um: float | None = None
    pinhole_au: float | None = None
    sheet_fwhm_um: float | None = None
    voxel_um: tuple[float, float, float] | None = None
    bead: Measured | None = None
    about: str = ""

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
                raise InvalidConfiguration(
                    f"{name} is {value!r}, but must be a number from {low:g} to {high:g}; lengths are micrometres"
                )
        for name, known in (("modality", MODALITIES), ("model", MODELS)):
            if getattr(self, name) not in known:
                raise InvalidConfiguration(f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(known)}")
        needed: dict[str, tuple[str, ...]] = {
            "confocal": ("excitation_um", "pinhole_au"),
            "airyscan": ("excitation_um", "pinhole_au"),
        }
        needed["light-sheet"] = ("sheet_fwhm_um",)
        for name in needed.get(self.modality, ()):
            if getattr(self, name) is None:
                raise InvalidConfiguration(f"a microscope of modality {self.modality} needs {name}")
        if (self.model == "measured") != (self.bead is not None):
            raise InvalidConfiguration("a microscope whose model is measured needs a bead, and no other has one")
        for name in ("n_immersion", "n_immersion_design"):
            index = getattr(self, name)
            if index is not None and self.na >= index:
                raise InvalidConfiguration(
                    f"na {self.na:g} is not below {name} {index:g}, so no ray could enter; give the index of the right immersion"
                )
        if self.voxel_um is not None:
            object.__setattr__(self, "voxel_um", tuple(float(v) for v in self.voxel_um))

    def designed(self, name: str) -> float:
        """The design value of n_immersion, n_glass or glass_um; as it is, where none is given."""
        found = getattr(self, name.replace("_um", "_design_um") if name.endswith("_um") else f"{name}_design")
        return float(getattr(self, name) if found is None else found)

    @property
    def cutoff(self) -> float:
        """The highest spatial frequency in the plane that passes, cycles a micrometre."""
        squared = self.modality in ("airyscan-square",)
        other = (
            2 * self.na / self.excitation_um if self.modality in ("confocal", "airyscan") and self.excitation_um else 0
        )
        return 2 * self.na / self.emission_um * (2 if squared else 1) + other

    @property
    def matched(self) -> bool:
        """Whether sample and immersion bend light alike, so that depth blurs nothing; of what was measured that is assumed."""
        if self.bead is not None:
            return True
        return self.n_sample == self.n_immersion == self.designed("n_immersion")

    @property
    def k_per_um(self) -> float:
        """Wave number in vacuum of the emission, radians a micrometre."""
        return 2 * pi / self.emission_um

    @property
    def pupil_edge(self) -> float:
        """Where the pupil ends, as a fraction of NA: beyond it no light leaves the sample."""
        limits = (self.n_sample, self.n_immersion, self.n_glass, self.designed("n_immersion"), self.designed("n_glass"))
        return min(1.0, *(n / self.na for n in limits))


@cache
def presets() -> Mapping[str, Mapping[str, Any]]:
    """The microscopes that come with cristae, as written in microscopes.yaml."""
    from ruamel.yaml import YAML

    text = (files("cristae.optics") / "microscopes.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(text)
    return found


def microscope(name: str, **changes: Any) -> Microscope:
    """A microscope by name, some of its numbers changed.

    Raises
    ------
    InvalidConfiguration : if there is none of that name, or a number cannot be.
    """
    known = presets()
    if name not in known:
        raise InvalidConfiguration(f"there is no microscope {name}; those known are {', '.join(sorted(known))}")
    words = {f.name for f in fields(Microscope)}
    if strange := sorted(set(changes) - words):
        raise InvalidConfiguration(f"a microscope has no {strange[0]}; it has {', '.join(sorted(words))}")
    return Microscope(**{**known[name], **changes})
