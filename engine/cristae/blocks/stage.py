"""Stage: a pure function from boxes of its inputs to one output box, and what the engine must know to run it.

    Spec     what an array is before anyone computes it: shape, dtype, voxel size, range of values
    At       where a call happens: the box to return, the boxes that were read, the block it serves
    Cost     bytes and nanoseconds a voxel, so that a plan can price a run without running it
    Stage    name, parameters, apply, halo (or reads), output, cost, and the global answers it asks for

A stage that needs a global answer (a threshold over the frame, the ids of merged labels) names the Measure that
finds it in `asks`; the engine cuts the chain there, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from cristae.array import Array
from cristae.grid import BlockGrid, Box, Halo, Shape, no_halo

if TYPE_CHECKING:
    import xarray

    from cristae.blocks.measure import Answer, Measure
    from cristae.store.volume import Volume


@dataclass(frozen=True, slots=True)
class Spec:
    """What an array is before anyone computes it; `shape` and `voxel_um` are spatial, (z, y, x) or (y, x)."""

    shape: Shape
    dtype: str  # numpy's name, such as "uint16"
    voxel_um: tuple[float, ...]
    values: tuple[float, float] | None = None  # known bounds, both included

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        import numpy as np

        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class At:
    """Where one call of a stage or measure happens. Boxes are in voxels of the whole volume."""

    out: Box  # what to return
    reads: tuple[Box, ...]  # where each input array lies
    grid: BlockGrid  # of the pass
    index: int = 0  # the block this call serves; its core is what the pass commits
    t: int = 0
    source: Shape = ()  # of the whole first input, which a stage that regrids has to know

    @property
    def core(self) -> Box:
        return self.grid.core(self.index)

    @staticmethod
    def whole(shape: Shape, inputs: int = 1) -> At:
        """One block that is the whole volume: how a stage runs on an array in memory."""
        box = Box.whole(shape)
        return At(box, (box,) * inputs, BlockGrid(shape, tuple(max(n, 1) for n in shape)), source=tuple(shape))


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call needs, per voxel of its (first) input box, beyond input and output themselves, and of any call."""

    bytes_per_voxel: float = 0.0
    ns_per_voxel: float = 1.0
    fixed_bytes: float = 0.0  # whatever the size of the box: tables, or a part that is always computed as one
    process_bytes: float = 0.0  # of a process, however many blocks it works on at a time: a library, what blocks share


@dataclass(frozen=True, slots=True)
class Local:
    """`apply` of a stage whose kernel maps an array to one of the same shape: the engine crops the halo away."""

    kernel: Callable[..., Array]
    params: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, array: Array, *, at: At, answers: Mapping[str, Answer]) -> Array:
        return self.kernel(array, **self.params)[at.out.within(at.reads[0])]


def same_spec(spec: Spec) -> Spec:
    """The output of a stage that keeps shape, dtype and voxel size."""
    return Spec(spec.shape, spec.dtype, spec.voxel_um)


def no_input(out: Box, *shapes: Shape) -> tuple[Box, ...]:
    """What a stage reads that makes its output from nothing."""
    return ()


@dataclass(frozen=True)
class Stage:
    """A frozen, picklable fact: everything here is a module-level function, a number or a tuple of such.

    apply(*arrays, at, answers) returns exactly the box `at.out`. At the volume's own edge the arrays simply end; the kernel does there
    what `boundary` says ("ends": beyond it there is nothing). `params` are what the user set, in physical units: they enter the key of
    a run. `tolerance` is the largest difference between a blockwise and a whole result; 0 unless stated.
    """

    name: str
    params: Mapping[str, Any]
    apply: Callable[..., Array]
    halo: Halo
    output: Callable[..., Spec] = same_spec
    cost: Cost = Cost()
    # Instead of `halo`, where the input's grid is another: of (out, shape of the whole input, of the whole output).
    reads: Callable[..., tuple[Box, ...]] | None = None
    asks: Mapping[str, Measure] = field(default_factory=dict)
    boundary: str = "reflect"
    tolerance: float = 0.0
    blockwise: bool = False  # reads its block's core and halo, whatever box is asked for (the rest is in parts)
    voxel_um: tuple[float, ...] | None = None  # of what it was made for, where the size of its output follows from that

    @property
    def regrids(self) -> bool:
        """Whether its output lies on a grid of its own, whose size follows from the input's. In a chain it comes first."""
        return self.voxel_um is not None

    def boxes(self, out: Box, core: Box, *shapes: Shape) -> tuple[Box, ...]:
        """The box of each input that `out` needs, not yet clipped to the input. shapes : of the whole input and output"""
        if self.blockwise:
            return (core.grow(self.halo),)
        return self.reads(out, *shapes) if self.reads is not None else (out.grow(self.halo),)

    def __call__(self, *arrays: Array) -> Array:
        """The stage on whole arrays in memory; global answers are found on those arrays."""
        from cristae.blocks.evaluate import whole

        return whole(self, *arrays)

    def lazy(self, volume: Volume) -> xarray.DataArray:
        """The stage on a volume as a labelled, dask-backed array, one task a block."""
        from cristae.blocks.lazy import lazy

        return lazy(self, volume)


def local(
    name: str,
    kernel: Callable[..., Array],
    params: Mapping[str, Any],
    halo: Halo | int,
    ndim: int,
    **facts: Any,
) -> Stage:
    """A stage from a kernel that maps an array to one of the same shape. `halo` in voxels, one number for all axes."""
    sides = no_halo(ndim) if halo == 0 else ((halo, halo),) * ndim if isinstance(halo, int) else halo
    return Stage(name, params, Local(kernel, facts.pop("kernel_params", params)), sides, **facts)
