"""Empty blocks: what does the engine itself cost a block, receipts and journal included, and does it stay that?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _engine import UP, cluster_up, do
from measuring import Question, Target, Tool, Turn, ask

if TYPE_CHECKING:
    from cristae.pipeline.job import Job

ROW = 1000
ONE_VOXEL = (1, 1, 1)
CALLED: list[None] = []
"""Grows by one at every call of the kernel in this process."""


def nothing(*, at: Any, answers: Mapping[str, Any]) -> np.ndarray:
    """The kernel: a block of zeros."""
    CALLED.append(None)
    return np.zeros(at.out.shape, np.uint8)


def one_block(_: np.ndarray, *, at: Any, answers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {"blocks": np.ones((), np.int64)}


def added(partials: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {"blocks": np.array(sum(int(p["blocks"]) for p in partials))}


def job_of(turn: Turn, blocks: int, name: str) -> Job:
    """So many blocks of one voxel, from nothing to one number."""
    from cristae.blocks.measure import Measure
    from cristae.blocks.stage import Spec, Stage
    from cristae.blocks.work import Asked, Frame, Image, Pass
    from cristae.grid import no_halo
    from cristae.pipeline.job import Job

    shape = (blocks // ROW, 1, ROW)
    spec = partial(Spec, shape, "uint8", (1.0, 1.0, 1.0))
    stage = Stage("nothing", {}, nothing, (), output=spec, reads=_no_input)
    measure = Measure("blocks", {}, one_block, added, None, no_halo(3))
    step = Pass("empty blocks", None, (stage,), ({},), (Asked("blocks", measure),))
    images, frames = (Image("nothing", {}),), (Frame(0, 0),)
    return Job("empty", turn.folder / name, images, frames, (step,), (), extra={"shape": list(shape)})


def _no_input(out: Any, *shapes: Any) -> tuple[Any, ...]:
    return ()


def blocks_of(size: str) -> Callable[[Turn], Mapping[str, Any]]:
    def run(turn: Turn) -> Mapping[str, Any]:
        from distributed import Client

        count = turn.sizes[size]
        with cluster_up(2, partial(job_of, turn, ROW)) as cluster, Client(cluster) as client:
            before = sum(client.run(called_here).values())
            tasks = most_tasks(cluster.scheduler)
            with turn.clock():
                made = do(job_of(turn, count, "empty"), cluster, ONE_VOXEL)
            calls = sum(client.run(called_here).values()) - before
        wall = turn.figures["wall_s"]
        return {
            "blocks": count,
            "blocks_per_s": count / wall,
            "us_per_block": wall / count * 1e6,
            "calls_per_block": calls / count,
            "engine_counted_calls": made.facts["calls"],
            "most_tasks_on_scheduler": tasks[0],
            "journal_bytes_per_block": size_of(turn.folder / "empty") / count,
        }

    return run


def called_here() -> int:
    # Asked by name: a function that travels by value would bring a list of its own.
    import empty_blocks

    return len(empty_blocks.CALLED)


def most_tasks(scheduler: Any) -> list[int]:
    """The most tasks that the scheduler ever knew at once, from now on; counted at every change of any task."""
    from distributed.diagnostics.plugin import SchedulerPlugin

    most = [0]

    class Count(SchedulerPlugin):
        def transition(self, *_: Any, **__: Any) -> None:
            most[0] = max(most[0], len(scheduler.tasks))

    scheduler.add_plugin(Count())
    return most


def size_of(root: Path) -> int:
    """Bytes of the run's journal: its receipts."""
    return sum(p.stat().st_size for p in root.rglob("journal/*"))


PACKAGES = ("cristae", "dask", "distributed")
FEW, MANY = "cristae, 10 000 blocks", "cristae, 100 000 blocks"

QUESTION = Question(
    "empty_blocks",
    "Blocks that compute nothing, through two worker processes, receipts and journal on",
    full={"few": 10_000, "many": 100_000},
    small={"few": 1000, "many": 4000},
    prepare=lambda folder, sizes: None,
    tools=(
        Tool(FEW, blocks_of("few"), packages=PACKAGES),
        Tool(MANY, blocks_of("many"), packages=PACKAGES),
    ),
    targets=(
        Target("blocks_per_s", FEW, at_least=3000),
        Target("us_per_block", MANY, (FEW,), at_most=1.2),
        Target("calls_per_block", FEW, at_most=1, at_least=1),
        Target("calls_per_block", MANY, at_most=1, at_least=1),
        Target("most_tasks_on_scheduler", MANY, (FEW,), at_most=1.5),
    ),
    notes=f"{UP}. Kernel calls are counted in the kernel, tasks on the scheduler at every change of one.",
)

if __name__ == "__main__":
    ask(QUESTION)
