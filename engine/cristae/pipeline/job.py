"""Job: what a command wants done, as frozen facts. `execute` does it, `placing` knows where its outputs lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from cristae.blocks.work import Frame, Image, Pass, Target, Work
from cristae.errors import PlanRefused, UsageError
from cristae.grid import Shape, choose_block, round_up
from cristae.pipeline.compile import Choice
from cristae.store.facts import Channel
from cristae.store.projected import Projected


@dataclass(frozen=True)
class ArrayOutput:
    """An array that a user asked for: a group of its own, or a label in a store."""

    target: str
    image: int
    kind: str  # "label" or "image"
    final: Path
    store: Path | None = None  # the store whose labels/ must list it
    source: str | None = None  # what a label outside its image's store was made from
    channels: tuple[Channel, ...] = ()
    every_channel: bool = False
    frame_interval_s: float | None = None  # where there is no input that says


@dataclass(frozen=True)
class FileOutput:
    """A table or a picture that a run leaves; `writer` makes it from the answers and says what is in it.

    One that is not `certain` may leave nothing, and then is not missed.
    """

    final: Path
    writer: Callable[[Work, Path], dict[str, Any]]
    certain: bool = True
    image: int | None = None  # the one it is of


@dataclass(frozen=True)
class Job:
    """Everything a command wants, before anything is done."""

    name: str
    root: Path  # its `.cristae/NAME` holds the state
    images: tuple[Image, ...]
    frames: tuple[Frame, ...]
    passes: tuple[Pass, ...]
    targets: tuple[Target, ...]
    arrays: tuple[ArrayOutput, ...] = ()
    files: tuple[FileOutput, ...] = ()
    choices: tuple[Choice, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # digest for each image, by the array that is kept
    left_out: Mapping[str, str] = field(default_factory=dict)  # images that could not be opened: why, by name

    @property
    def state(self) -> Path:
        return self.root / ".cristae" / self.name

    @property
    def finals(self) -> list[Path]:
        """Where its outputs lie in the end."""
        return [o.final for o in self.arrays] + [o.final for o in self.files]

    @property
    def expected(self) -> list[Path]:
        """Those it is certain to leave."""
        return [o.final for o in self.arrays] + [o.final for o in self.files if o.certain]


@dataclass(frozen=True)
class Settings:
    """How a run behaves. Only `block` (with the chunk and shard it gives) and `pyramid` are frozen with the result."""

    cluster: str = "auto"
    memory: int | None = None
    block: Shape | None = None
    chunk: Shape | None = None
    device: str = "cpu"
    fresh: bool = False
    pyramid: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    status: str  # "done" or "nothing to do"
    outputs: tuple[Path, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


def block_of(job: Job, settings: Settings) -> Shape:
    """The block shape a new run of this job would take."""
    volumes = [v for image in job.images for v in image.volumes.values()]
    if not volumes:
        shapes = [tuple(job.extra["shape"])]
        return choose_block(shapes, shapes if settings.block else [(1,) * len(shapes[0])], settings.block)
    shapes = [v.spatial_shape for v in volumes]
    if len({len(s) for s in shapes}) > 1:
        raise PlanRefused("images of two and of three dimensions cannot share a run; give them in two commands")
    ndim, where = len(shapes[0]), volumes[0].path
    flat = ", as project makes of it" if isinstance(volumes[0], Projected) else ""
    for option, numbers in (("--block (or --shard)", settings.block), ("--chunk", settings.chunk)):
        if numbers is not None and len(numbers) != ndim:
            raise UsageError(
                f"{option} has {len(numbers)} numbers, but {where} has {ndim} axes of space{flat}; give one for each"
            )
    if settings.chunk is None:
        return choose_block(shapes, [v.chunk for v in volumes], settings.block)
    block = choose_block(shapes, [settings.chunk], settings.block)
    if settings.block is not None and any(b % c for b, c in zip(settings.block, settings.chunk, strict=True)):
        raise UsageError(
            f"a shard of {settings.block} is not a whole number of chunks of {settings.chunk}; change --shard or --chunk"
        )
    return tuple(round_up(b, c) for b, c in zip(block, settings.chunk, strict=True))


def voxel_bytes(job: Job) -> int:
    """Bytes of all input voxels as float32: what decides whether processes are worth their start."""
    if "frames" in job.extra:  # made from nothing
        return int(4 * prod(job.extra["shape"]) * job.extra["frames"])
    return sum(4 * prod(v.spatial_shape) for frame in job.frames for v in job.images[frame.image].volumes.values())
