"""Objective: what a file says of the microscope it was recorded with. Only what it says: nothing is guessed.

OME-TIFF, ND2 and CZI say it, each in its own words; other formats say nothing that is read here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from cristae.store.foreign.libraries import extra, reading

IMMERSION = {"oil": 1.515, "water": 1.333, "air": 1.0, "dry": 1.0, "glycerol": 1.47, "silicone": 1.406}
"""Refractive indices by the words that files use."""
NM = 1e-3


@dataclass(frozen=True)
class Objective:
    """What was found; None is what the file does not say. `emission_um` by channel name."""

    na: float | None = None
    n_immersion: float | None = None
    emission_um: Mapping[str, float] = field(default_factory=dict)


def objective_of(path: str) -> Objective:
    """What the file at `path` says of its objective and of the light of its channels."""
    file = Path(path)
    name = file.name.lower()
    if name.endswith(".nd2"):
        return _nd2(file)
    if name.endswith(".czi"):
        return _czi(file)
    if name.endswith((".tif", ".tiff")):
        return _ome(file)
    return Objective()


def _nd2(path: Path) -> Objective:
    with reading(path, "ND2"), extra("nd2", path).ND2File(path) as file:
        channels = list(getattr(file.metadata, "channels", None) or [])
        if not channels:
            return Objective()
        scope = channels[0].microscope
        emission = {c.channel.name: c.channel.emissionLambdaNm * NM for c in channels if c.channel.emissionLambdaNm}
        return Objective(scope.objectiveNumericalAperture or None, scope.immersionRefractiveIndex or None, emission)


def _czi(path: Path) -> Objective:
    with reading(path, "CZI"), extra("pylibCZIrw.czi", path).open_czi(str(path)) as file:
        root = ElementTree.fromstring(file.raw_metadata)
    image = root.find("./Metadata/Information/Image")
    used = image.find("./ObjectiveSettings/ObjectiveRef") if image is not None else None
    objectives = root.findall("./Metadata/Information/Instrument/Objectives/Objective")
    chosen = [o for o in objectives if used is not None and o.get("Id") == used.get("Id")] or objectives[:1]
    na = _number(chosen[0].findtext("LensNA")) if chosen else None
    word = chosen[0].findtext("Immersion") if chosen else None
    index = _number(chosen[0].findtext("ImmersionRefractiveIndex")) if chosen else None
    channels = root.findall("./Metadata/Information/Image/Dimensions/Channels/Channel")
    emission = {
        c.get("Name") or str(n): nm * NM
        for n, c in enumerate(channels)
        if (nm := _number(c.findtext("EmissionWavelength"))) is not None
    }
    return Objective(na, index or IMMERSION.get((word or "").lower()), emission)


def _ome(path: Path) -> Objective:
    import tifffile

    with reading(path, "TIFF"), tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    if not text:
        return Objective()
    root = ElementTree.fromstring(re.sub(r'\sxmlns="[^"]+"', "", text, count=1))
    objective = root.find("./Instrument/Objective")
    na = _number(objective.get("LensNA")) if objective is not None else None
    word = (objective.get("Immersion") or "").lower() if objective is not None else ""
    settings = root.find("./Image/ObjectiveSettings")
    index = _number(settings.get("RefractiveIndex")) if settings is not None else None
    emission = {
        c.get("Name") or str(n): nm * NM
        for n, c in enumerate(root.findall("./Image[1]/Pixels/Channel"))
        if (nm := _number(c.get("EmissionWavelength"))) is not None
    }
    return Objective(na, index or IMMERSION.get(word), emission)


def _number(text: str | None) -> float | None:
    try:
        found = float(text) if text else None
    except ValueError:
        return None
    return found if found and found > 0 else None
