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


def show_demo(shown: Any, folder: Any) -> None:
    """What the demo found, and what to type next."""
    import polars
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False, width=120)
    console.print(f"{shown.differ} voxels differ of {shown.voxels} between the two runs")
    console.print(
        f"peak memory of a worker {shown.peak / 2**20:.0f} MiB, imports included; "
        f"the volume is {shown.volume_bytes / 2**20:.0f} MiB as stored and {2 * shown.volume_bytes / 2**20:.0f} MiB as float32"
    )
    columns = ("label", "voxels", "volume_um3", "axis_major_um", "surface_um2", "euler_number", "intensity_mean")
    largest = polars.scan_parquet(shown.table).select(columns).sort("voxels", descending=True).head(5).collect()
    table = Table(*columns, title=f"the 5 largest of {shown.objects} objects", title_justify="left")
    for row in largest.iter_rows():
        table.add_row(*(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row))
    console.print(table)
    console.print(f"picture  {shown.overview}\ntable    {shown.table}\n")
    console.print(f"next     cristae info {shown.image}")
    console.print("         cristae run YOUR.yaml YOUR.tif --out results")
    console.print(f"delete   rm -r {folder}")
