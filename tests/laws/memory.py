"""The law of memory: what one call holds at most is what its cost declares, and not much less.

    declared   input + output + cost.bytes_per_voxel for each voxel of the (first) input box + cost.fixed_bytes and process_bytes;
               a measure has no output
    measured   the highest resident memory during the call, less the process's own before it had any voxels

    measured <= declared, and declared + baseline <= 1.5 x (measured + baseline)

Memory never returns quite to where it was, so each measurement takes a fresh process: `python -m laws.memory MODULE CASE`
prints it as JSON. Linux only: the kernel's own high-water mark is reset just before the call.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from math import prod
from pathlib import Path
from statistics import median_low

from laws.blockwise import whole_stage
from laws.cases import Arrays, Case

from cristae.array import Array
from cristae.blocks.evaluate import at_whole
from cristae.blocks.measure import Measure, Partial, ask
from cristae.blocks.stage import At, Stage
from cristae.grid import BlockGrid, Box, Shape

INPUT = 64 << 20
ROOM = 1.5
GRAIN = 2 << 20
"""Memory comes in pages, and Python's own small objects come and go: less than this cannot be told."""
SMALL = (16, 32, 48)


@dataclass(frozen=True)
class Measured:
    """Bytes of one call in a process of its own."""

    baseline: int
    declared: int
    measured: int
    voxels: int

    @property
    def kept(self) -> bool:
        return self.measured <= self.declared + GRAIN

    @property
    def near(self) -> bool:
        return self.declared + self.baseline <= ROOM * (self.measured + self.baseline)

    def __str__(self) -> str:
        per_voxel = [f"{n / self.voxels:.2f}" for n in (self.declared, self.measured)]
        return (
            f"declared {self.declared >> 20} MiB, measured {self.measured >> 20} MiB beside {self.baseline >> 20} MiB "
            f"({per_voxel[0]} and {per_voxel[1]} bytes a voxel)"
        )


def memory(case: Case, module: str = "laws.cases", times: int = 3) -> Measured:
    """The law for a case that `module`.HEAVY lists; returns the median of what was measured."""
    several = [measured_apart(module, str(case)) for _ in range(times)]
    found = replace(several[0], **{n: median_low([asdict(m)[n] for m in several]) for n in ("baseline", "measured")})
    assert found.kept, f"{case} takes more than it says: {found}"
    assert found.near, f"{case} says far more than it takes: {found}"
    return found


def measured_apart(module: str, case: str) -> Measured:
    """One measurement in a fresh process."""
    path = [str(Path(__file__).resolve().parents[1]), *sys.path]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[:0] = {path!r}; from laws.memory import main; main()",
            module,
            case,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{case} could not be measured:\n{done.stderr}"
    return Measured(**json.loads(done.stdout))


def main() -> None:
    module, name = sys.argv[1:]
    case = next(c for c in import_module(module).HEAVY if str(c) == name)
    print(json.dumps(asdict(measure_here(case))))


def measure_here(case: Case) -> Measured:
    """One measurement in this process."""
    fact = case.build()
    shape = case.shape or _large(case)
    _call(case, fact, case.arrays(case.shape or SMALL[-case.ndim :], 1))  # compile, and import what is imported late
    baseline = _status("VmRSS")
    arrays = case.arrays(shape, 1)
    answers = {name: ask(measure, *arrays) for name, measure in fact.asks.items()}
    held = _status("VmRSS") - baseline - sum(a.nbytes for a in arrays)
    Path("/proc/self/clear_refs").write_text("5")
    out = _apply(fact, arrays, answers)
    peak = _status("VmHWM") - baseline - max(0, held)
    given = sum(a.nbytes for a in arrays)
    made = out.nbytes if isinstance(fact, Stage) else 0
    voxels = prod(shape)
    return Measured(
        baseline,
        int(given + made + fact.cost.bytes_per_voxel * voxels + fact.cost.fixed_bytes + fact.cost.process_bytes),
        peak,
        voxels,
    )


def _large(case: Case) -> Shape:
    """A block of at least 64 MiB, about as deep as blocks are."""
    (least, *_) = sorted(a.itemsize for a in case.arrays((1,) * case.ndim, 0))
    voxels = INPUT // least
    return (voxels >> 18, 512, 512) if case.ndim == 3 else (voxels >> 13, 8192)


def _call(case: Case, fact: Stage | Measure, arrays: Arrays) -> None:
    if isinstance(fact, Stage):
        whole_stage(fact, arrays)
    else:
        ask(fact, *arrays)


def _apply(fact: Stage | Measure, arrays: Arrays, answers: dict[str, object]) -> Array | Partial:
    shape = arrays[0].shape if arrays else fact.output().shape  # type: ignore[union-attr]
    at = At(Box.whole(shape), (Box.whole(shape),) * len(arrays), BlockGrid(shape, shape))
    if isinstance(fact, Stage):
        return fact.apply(*arrays, at=at_whole(fact, *arrays) if arrays else at, answers=answers)
    return fact.partial(*(arrays if fact.reads_array else ()), at=at, answers=answers)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise LookupError(name)


if __name__ == "__main__":
    main()
