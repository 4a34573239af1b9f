"""Work: the frozen facts of a run, as every worker reads them. No array, no open file.

    Ref      an array by name and channel: "input", a scratch array, an output
    Asked    a measure of a pass, under the key that its answer will have
    Pass     source -> chain of stages -> measures and at most one written array
    Image    one member of the collection: its input volumes and where its own arrays lie
    Frame    one time point (and channel) of one image: what labels and global answers belong to
    Work     images, frames, passes and the block shape

A pass numbers its blocks frame by frame, each frame in raster order; `Layout` translates.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cristae.blocks.evaluate import needs
from cristae.blocks.measure import Measure
from cristae.blocks.stage import Spec, Stage
from cristae.grid import BlockGrid, Box, Shape
from cristae.store.zarr_arrays import RECENT_BYTES

if TYPE_CHECKING:
    from cristae.store.volume import Volume


@dataclass(frozen=True)
class Ref:
    """An array by name. `channel` None is the frame's own (a conversion walks every channel)."""

    array: str
    channel: int | None = 0


@dataclass(frozen=True)
class Asked:
    """A measure of a pass. `asks` maps each answer it wants to that answer's key; `beside` are raw arrays it is shown."""

    key: str
    measure: Measure
    asks: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Ref, ...] = ()


@dataclass(frozen=True)
class Pass:
    """The longest chain that needs no global answer in its middle."""

    name: str
    source: Ref | None
    chain: tuple[Stage, ...] = ()
    asks: tuple[Mapping[str, str], ...] = ()  # for each stage of the chain, as in Asked
    measures: tuple[Asked, ...] = ()
    sink: str | None = None
    grid_of: str | None = None  # where no voxel is read: the array whose blocks are walked
    through: tuple[Stage, ...] = ()  # and what brings that array's grid to the one that is meant
    before: tuple[Pass, ...] = ()  # done first and in memory, where the image is one block
    joins: Mapping[int, Ref] = field(default_factory=dict)  # by stage, a second input, read where its first is
    into: int | None = None  # the channel of the sink that is written; None is the frame's own
    ahead: bool = True  # read the next block while one is computed; not where what is read is several times the block

    @property
    def first_source(self) -> Ref | None:
        """What the first of the passes done together reads."""
        return (*self.before, self)[0].source

    @property
    def beside(self) -> tuple[Ref, ...]:
        """Arrays that are read beside the source."""
        return (*self.joins.values(), *(ref for asked in self.measures for ref in asked.beside))

    @property
    def reads(self) -> frozenset[str]:
        """Every array that this pass reads, with those that are done together with it."""
        done = (*self.before, self)
        return frozenset(ref.array for p in done for ref in (p.source, *p.beside) if ref is not None)

    @property
    def wants(self) -> set[str]:
        """Keys of the answers that must be there before this pass starts."""
        asked = [*self.asks, *(m.asks for m in self.measures)]
        return {key for asks in asked for key in asks.values()}


@dataclass(frozen=True)
class Target:
    """An array that the run writes: a scratch, a step's result that is kept, an image or a label."""

    name: str
    kind: str  # "scratch", "kept", "image" or "label"


@dataclass(frozen=True)
class Image:
    """One member of the collection.

    `places` says where the run's own arrays lie: staged, then final; `columns` what a sample sheet says of it.
    """

    name: str
    volumes: Mapping[str, Volume]
    places: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Frame:
    image: int
    t: int
    c: int = 0


@dataclass(frozen=True)
class Work:
    """Everything a task needs besides its block numbers; lies in the run's folder as one file."""

    folder: str
    images: tuple[Image, ...]
    frames: tuple[Frame, ...]
    passes: tuple[Pass, ...]
    targets: tuple[Target, ...]
    block: Shape
    device: str = "cpu"
    recent: int = RECENT_BYTES  # bytes that a process may keep of chunks it decoded
    lost: Mapping[int, str] = field(default_factory=dict)  # images without a result: why; never in a saved file

    @property
    def every_pass(self) -> tuple[Pass, ...]:
        """The passes, and those inside them."""
        return tuple(p for step in self.passes for p in (*step.before, step))

    def finished(self) -> Iterator[tuple[int, Frame]]:
        """Number of each frame that has a result, and the frame; image by image, each in the order of time."""
        numbered = ((number, frame) for number, frame in enumerate(self.frames) if frame.image not in self.lost)
        return iter(sorted(numbered, key=lambda one: (one[1].image, one[1].t, one[1].c)))

    def levels(self, image: int, array: str) -> tuple[tuple[int, ...], ...]:
        """Factors of the coarser levels of an array that later passes will fill, relative to level 0."""
        fine = self.spec(image, array).shape
        coarser = {p.sink: p for p in self.passes if p.sink and p.sink.startswith(f"{array}:")}
        coarse = [self.specs(image, p)[-1] for p in coarser.values()]
        size = self.spec(image, array).voxel_um
        assert all(len(c.shape) == len(fine) for c in coarse)
        return tuple(tuple(round(v / s) for v, s in zip(c.voxel_um, size, strict=True)) for c in coarse)

    def spec(self, image: int, array: str) -> Spec:
        """What an array of an image is, computed from the input: no file of the run is opened."""
        found = self.images[image].volumes.get(array)
        if found is not None:
            return Spec(found.spatial_shape, found.dtype, found.voxel_um)
        for step in self.every_pass:
            if step.sink == array:
                return self.specs(image, step)[-1]
        raise KeyError(array)

    def origin(self, image: int, spec: Spec) -> tuple[float, ...]:
        """The middle of the first voxel of an array that covers what the image does, perhaps with other voxels; micrometres."""
        like = next(iter(self.images[image].volumes.values()), None)
        if like is None:
            return (0.0,) * spec.ndim
        return tuple(o + (s - v) / 2 for o, s, v in zip(like.translation_um, spec.voxel_um, like.voxel_um, strict=True))

    def specs(self, image: int, step: Pass) -> list[Spec]:
        """Specs from the source of a pass to its result, one more than the chain has stages."""
        if step.source is None:
            if not step.chain:
                walked = self.spec(image, step.grid_of or "input")
                for stage in step.through:
                    walked = stage.output(walked)
                return [walked]
            first = step.chain[0].output()
            out, rest = [first, first], step.chain[1:]
        else:
            out, rest = [self.spec(image, step.source.array)], step.chain
        for stage in rest:
            out.append(stage.output(out[-1]))
        return out

    def grid(self, image: int, step: Pass) -> BlockGrid:
        """The blocks of a pass over one image."""
        shape = self.specs(image, step)[-1].shape
        return BlockGrid(shape, self.block)

    def layout(self, step: Pass) -> Layout:
        counts: dict[int, int] = {}
        for frame in self.frames:
            if frame.image not in counts:
                counts[frame.image] = len(self.grid(frame.image, step))
        return Layout(np.cumsum([0] + [counts[f.image] for f in self.frames]))

    def save(self, path: Path) -> None:
        """Write the facts where workers find them."""
        import cloudpickle

        from cristae.store.bundle import write_bytes

        write_bytes(path, cloudpickle.dumps(self))


@dataclass(frozen=True)
class Layout:
    """Block numbers of a pass: those of frame f start at `first[f]`."""

    first: np.ndarray

    def __len__(self) -> int:
        return int(self.first[-1])

    def locate(self, number: int) -> tuple[int, int]:
        """Frame and block within the frame."""
        frame = int(np.searchsorted(self.first, number, side="right")) - 1
        return frame, number - int(self.first[frame])

    def numbers(self, frame: int) -> range:
        return range(int(self.first[frame]), int(self.first[frame + 1]))


def witnessed(work: Work, step: Pass, image: int, index: int) -> Box:
    """The voxels of what a pass reads first whose checksum a block's receipt has: its core, or, from another grid, all that makes it."""
    first, grid = (*step.before, step)[0], work.grid(image, step)
    shapes, core = [s.shape for s in work.specs(image, first)], grid.core(index)
    if shapes[0] == grid.shape:
        return core
    return Box.whole(shapes[0]) if step.before else needs(first.chain, shapes, core, core)[0]


def group_of(scope: str, frame: Frame, number: int) -> str:
    """Name of the group whose partials are merged with those of this frame."""
    return {"frame": f"f{number}", "image": f"i{frame.image}", "collection": "all"}[scope]


def groups(work: Work, scope: str) -> Iterator[str]:
    """Every group of a scope, once, in order; those of lost images have no answer."""
    return iter(dict.fromkeys(group_of(scope, frame, number) for number, frame in work.finished()))


@lru_cache(maxsize=4)
def load_work(path: str, digest: str) -> Work:
    """The facts at `path`; the digest names the version, so a worker never keeps an old one."""
    work: Work = pickle.loads(Path(path).read_bytes())
    return work


def consecutive(numbers: Sequence[int]) -> list[list[int]]:
    """Block numbers as [start, stop) ranges, which is how records keep them."""
    if len(numbers) == 0:
        return []
    array = np.asarray(numbers)
    cuts = np.flatnonzero(np.diff(array) != 1) + 1
    return [[int(part[0]), int(part[-1]) + 1] for part in np.split(array, cuts)]
