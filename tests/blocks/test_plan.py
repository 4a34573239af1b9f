"""The plan's arithmetic, against counting block by block."""

from __future__ import annotations

from itertools import product
from math import prod
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cristae.blocks.plan import RUNS, Plan, make_plan
from cristae.blocks.work import Frame, Image, Pass, Ref, Target, Work
from cristae.filters.gaussian import gaussian
from cristae.filters.pyramid import downsample
from cristae.grid import BlockGrid

SIGMA_UM = 0.1
VOXEL_UM = (0.1, 0.1, 0.1)
HALO = 4  # voxels, of that sigma


def planned(
    shape: tuple[int, ...], chunk: tuple[int, ...], block: tuple[int, ...], recent: int, reader: str = "zarr"
) -> Plan:
    """Of a Gaussian, and of a coarser level of its result; a plan asks a volume for these five facts and no voxel."""
    volume: Any = SimpleNamespace(spatial_shape=shape, dtype="uint16", voxel_um=VOXEL_UM, chunk=chunk, reader=reader)
    smooth = gaussian(SIGMA_UM, voxel_um=VOXEL_UM)
    half = downsample((2, 2, 2), voxel_um=VOXEL_UM, how="mean")
    passes = (
        Pass("smooth", Ref("input"), (smooth,), ({},), sink="smooth"),
        Pass("level 1", Ref("smooth"), (half,), ({},), sink="smooth:1", ahead=False),
    )
    image = Image("cell", {"input": volume})
    return make_plan(Work("", (image,), (Frame(0, 0),), passes, (Target("smooth", "image"),), block, recent=recent))


def touched(shape: tuple[int, ...], chunk: tuple[int, ...], block: tuple[int, ...]) -> tuple[int, int]:
    """Voxels read and chunks decoded by blocks that share nothing."""
    voxels = chunks = 0
    for core in BlockGrid(shape, block):
        box = core.grow(((HALO, HALO),) * 3).clip(shape)
        voxels += box.size
        spans = [range(a // c, -(-b // c)) for a, b, c in zip(box.start, box.stop, chunk, strict=True)]
        chunks += len(list(product(*spans)))
    return voxels, chunks


sides = st.tuples(*[st.integers(1, 40)] * 3)


@given(shape=sides, chunk=st.tuples(*[st.integers(4, 20)] * 3), block=st.tuples(*[st.integers(4, 24)] * 3))
def test_what_is_read_and_decoded_is_what_counting_finds(
    shape: tuple[int, ...], chunk: tuple[int, ...], block: tuple[int, ...]
) -> None:
    voxels, chunks = touched(shape, chunk, block)
    alone = planned(shape, chunk, block, recent=0).passes[0]
    assert (alone.voxels_read, alone.chunks) == (voxels, chunks)
    shared = planned(shape, chunk, block, recent=1 << 40).passes[0]
    assert shared.voxels_read == voxels
    assert shared.chunks == prod(-(-n // c) for n, c in zip(shape, chunk, strict=True))
    assert shared.amplification == 1
    assert abs(alone.amplification - alone.chunks / shared.chunks) <= 1 / prod(shape)


def test_only_blocks_that_overlap_pay_for_shared_chunks() -> None:
    shape, chunk = (64, 64, 64), (16, 16, 16)
    little, much = (planned(shape, chunk, chunk, recent=n).passes for n in (0, 1 << 19))
    assert much[0].memory - little[0].memory == 1 << 19
    assert much[1].memory == little[1].memory


def test_who_reads_runs_holds_what_that_takes_and_no_chunks() -> None:
    sides = (64, 64, 64), (16, 16, 16), (16, 16, 16)
    labels, runs = (planned(*sides, recent=n, reader=r).passes[0] for n, r in ((0, "zarr"), (1 << 19, "runs")))
    assert runs.memory - labels.memory == RUNS


def test_room_for_a_row_saves_along_the_last_axis_only() -> None:
    shape, chunk = (64, 64, 64), (16, 16, 16)
    row = 27 * prod(chunk) * 2
    alone, shared = (planned(shape, chunk, chunk, recent=n).passes[0].chunks for n in (row - 1, row))
    assert (alone, shared) == (10 * 10 * 10, 10 * 10 * 4)
