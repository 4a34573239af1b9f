"""Show: what commands print of facts, as words for a person or as JSON for a program."""

from __future__ import annotations

import json
from typing import Any


def show_volume(volume: Any, as_json: bool) -> None:
    """The facts of a volume."""
    facts = {
        "path": volume.path,
        "kind": volume.kind,
        "axes": volume.axes,
        "shape": list(volume.shape),
        "dtype": volume.dtype,
        "voxel_um": list(volume.voxel_um),
        "translation_um": list(volume.translation_um),
        "frame_interval_s": volume.frame_interval_s,
        "channels": [c.name for c in volume.channels],
        "chunk": list(volume.chunk),
        "write_unit": list(volume.unit),
        "levels": [list(level.shape) for level in volume.levels],
    }
    if as_json:
        print(json.dumps(facts))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in facts.items():
        words = " x ".join(map(str, value)) if name in ("shape", "chunk", "write_unit") else value
        if name in ("voxel_um", "translation_um"):
            words = ", ".join(f"{a} {v:g}" for a, v in zip(volume.spatial_axes, value, strict=True))
        if name == "levels":
            words = ", ".join(" x ".join(map(str, s)) for s in value)
        if name == "channels":
            words = ", ".join(value)
        table.add_row(name.replace("_", " "), "unknown" if words is None else str(words))
    Console().print(table, highlight=False, soft_wrap=True)
