"""cristae: exact, stitched, measured organelles from microscope volumes of any size.

`import cristae` loads nothing heavy; each name is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Box": "cristae.grid",
    "CristaeError": "cristae.errors",
    "Instances": "cristae.morphology.instances",
    "Measure": "cristae.blocks.measure",
    "Spec": "cristae.blocks.stage",
    "Stage": "cristae.blocks.stage",
    "Volume": "cristae.store.volume",
    "difference_of_gaussians": "cristae.filters.gaussian",
    "gaussian": "cristae.filters.gaussian",
    "label": "cristae.labels.components",
    "measure": "cristae.morphology.instances",
    "open_volume": "cristae.store.volume",
    "ridge": "cristae.filters.ridge",
    "threshold": "cristae.filters.threshold",
}

__version__ = "0.1.0"
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cristae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
