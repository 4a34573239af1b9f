"""Options: what many commands share, and how the words of an option become values. No engine module is imported here."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from cristae.errors import UsageError

Pipeline = Annotated[str, typer.Argument(help="A pipeline file (YAML), or the name of a shipped one.")]
Images = Annotated[list[str] | None, typer.Argument(help="Images; by default those the file names.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Change a value: output.name=mito.")]
OutFolder = Annotated[str | None, typer.Option("--out", help="Folder for labels and tables; inputs stay untouched.")]
Output = Annotated[str, typer.Argument(help="A store, a label or a run's folder.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only plan: say what would be read and written.")]
Axes = Annotated[
    str | None,
    typer.Option(
        "--axes", help="Letters of the file's axes in its order, such as zyx or tczyx.", rich_help_panel="Input"
    ),
]
VoxelUm = Annotated[
    str | None,
    typer.Option(
        "--voxel-um",
        help="Voxel size in micrometres: 0.3,0.108,0.108 or z=0.3,y=0.108,x=0.108.",
        rich_help_panel="Input",
    ),
]
FrameInterval = Annotated[
    float | None, typer.Option("--frame-interval-s", help="Seconds between time points.", rich_help_panel="Input")
]
Channel = Annotated[
    str | None, typer.Option("--channel", help="Channel by name, or number from 0.", rich_help_panel="Input")
]
Time = Annotated[
    str | None, typer.Option("--time", help="Time points A:B, B not included; or one number.", rich_help_panel="Input")
]
Scene = Annotated[
    str | None,
    typer.Option("--scene", help="One image of a file that holds several, by name or number.", rich_help_panel="Input"),
]
Crop = Annotated[
    str | None,
    typer.Option("--crop", help="A box in voxels: z=8:24,y=400:912,x=400:912.", rich_help_panel="Input"),
]
Cluster = Annotated[
    str,
    typer.Option(
        "--cluster",
        help="auto, none, threads:N, local:N, tcp://HOST:PORT or a scheduler's .json file.",
        rich_help_panel="Where it runs",
    ),
]
Memory = Annotated[
    str | None,
    typer.Option("--memory", help="Memory of one worker process, such as 4GiB.", rich_help_panel="Where it runs"),
]
Block = Annotated[
    str | None, typer.Option("--block", help="Voxels a task owns, Z,Y,X or Y,X.", rich_help_panel="Where it runs")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.", rich_help_panel="Where it runs")]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Start again; the old result is moved aside.", rich_help_panel="Where it runs"),
]
OnFinish = Annotated[
    str | None,
    typer.Option("--on-finish", help="A command to run at the end; CRISTAE_EXIT and CRISTAE_OUTPUT say how and where."),
]
Pyramid = Annotated[bool, typer.Option("--pyramid/--no-pyramid", help="Coarser levels beside the voxels, for viewers.")]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def voxel_um(text: str | None) -> tuple[float, ...] | None:
    """ "0.3,0.1,0.1" or "z=0.3,y=0.1,x=0.1" to (z, y, x) in micrometres."""
    if text is None:
        return None
    parts = [p.strip() for p in text.split(",")]
    try:
        if all("=" in p for p in parts):
            named = {k.strip(): float(v) for k, _, v in (p.partition("=") for p in parts)}
            if set(named) not in ({"z", "y", "x"}, {"y", "x"}) or len(named) != len(parts):
                raise ValueError
            return tuple(named[a] for a in "zyx" if a in named)
        return tuple(float(p) for p in parts)
    except ValueError:
        raise UsageError(
            f"--voxel-um {text} is not a size in um along z, y and x, or y and x; write 0.3,0.108,0.108 or z=0.3,y=0.108,x=0.108"
        ) from None


def shape(text: str | None, option: str) -> tuple[int, ...] | None:
    """ "64,256,256" to a tuple of positive whole numbers."""
    if text is None:
        return None
    parts = text.replace("x", ",").split(",")
    if not all(p.strip().isdigit() and int(p) > 0 for p in parts) or len(parts) not in (2, 3):
        raise UsageError(
            f"{option} {text} is not a shape; write Z,Y,X or Y,X in voxels, for example {option} 64,256,256"
        )
    return tuple(int(p) for p in parts)


def picture(path: str | None, option: str) -> None:
    """Refuse a picture that is no PNG."""
    if path is not None and not path.lower().endswith(".png"):
        raise UsageError(f"{option} {path} is no picture; end it in .png")


def time_range(text: str | None) -> tuple[int, int] | None:
    """ "A:B" or "A" to (start, stop)."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)(?::(\d+))?", text)
    if not found:
        raise UsageError(f"--time {text} is not a range of time points; write A:B with B not included, or one number")
    start, stop = int(found[1]), int(found[2] or int(found[1]) + 1)
    if stop <= start:
        raise UsageError(f"--time {text} holds no time point; write A:B with A before B, which is not included")
    return start, stop


def crop(text: str | None) -> dict[str, tuple[int, int]] | None:
    """ "z=8:24,y=400:912" to the first voxel and last + 1 by axis."""
    if text is None:
        return None
    found = [re.fullmatch(r"\s*([zyx])=(\d+):(\d+)\s*", part) for part in text.split(",")]
    if not all(found) or len({m[1] for m in found if m}) != len(found):
        raise UsageError(
            f"--crop {text} is not a box; write axis=first:last+1 for some of z, y, x, for example "
            "--crop z=8:24,y=400:912,x=400:912"
        )
    return {m[1]: (int(m[2]), int(m[3])) for m in found if m}


def memory(text: str | None) -> int | None:
    """ "4GiB" to bytes."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", text.strip().lower())
    if not found:
        raise UsageError(f"--memory {text} is not a size; write it like 4GiB or 600MiB")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def inputs(
    axes: str | None,
    voxel: str | None,
    interval: float | None = None,
    channel: str | None = None,
    time: str | None = None,
    scene: str | None = None,
    box: str | None = None,
) -> Any:
    """The input group as the engine takes it."""
    from cristae.pipeline.inputs import Inputs

    return Inputs(axes, voxel_um(voxel), interval, channel, time_range(time), scene, crop(box))


def settings(
    cluster: str,
    memory_text: str | None,
    block: str | None,
    device: str,
    fresh: bool,
    chunk: str | None = None,
    pyramid: bool = True,
) -> Any:
    """How a run behaves, as the engine takes it."""
    from cristae.array import resolve_device
    from cristae.pipeline.job import Settings

    return Settings(
        cluster,
        memory(memory_text),
        shape(block, "--block"),
        shape(chunk, "--chunk"),
        resolve_device(device),
        fresh,
        pyramid,
    )
