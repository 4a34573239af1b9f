"""Presets: simulations by name, as written in presets.yaml. Data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from cristae.errors import InvalidConfiguration

Preset = Mapping[str, Any]


@cache
def presets(product: str) -> Mapping[str, Preset]:
    """Every preset of "tiles" or "cells"."""
    from ruamel.yaml import YAML

    text = (files("cristae.simulation") / "presets.yaml").read_text(encoding="utf-8")
    found: dict[str, Preset] = YAML(typ="safe").load(text)[product]
    return found


def preset(product: str, name: str) -> Preset:
    """One preset.

    Raises
    ------
    InvalidConfiguration : if there is none of that name.
    """
    known = presets(product)
    if name not in known:
        other = "cells" if product == "tiles" else "tiles"
        if name in presets(other):
            word = "cell" if other == "cells" else "tiles"
            raise InvalidConfiguration(f"{name} is a preset of {other}; give it to cristae simulate {word}")
        raise InvalidConfiguration(
            f"there is no preset {name} of {product}; those known are {', '.join(sorted(known))}"
        )
    return known[name]
