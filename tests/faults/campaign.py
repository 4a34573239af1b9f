"""Campaign: a run in a process of its own, what may be done to it, and what it left behind.

Run          what to run and where; `go` runs it to its end, `begin` only starts it
Ended        exit code, the last sentence on stderr, what stdout said, and every event
twice        the same run in two places, one to be left alone
resumes      one of them killed at a step, and what must hold when its command was given again
check_whole  what must lie there when a run is done, whatever was done to it

What else lies there afterwards has a function each: digests of the outputs, the journal's blocks, kernel calls, leftovers.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

DRIVER = Path(__file__).with_name("driver.py")
SHAPE = (30, 96, 120)
BLOCK = (15, 24, 24)  # 40 blocks
SMALL = (8, 24, 12)  # 160 blocks
VOXEL_UM = (0.3, 0.1, 0.1)
LIMIT_S = 240


def blobs(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Bright blobs on a noisy floor, uint16: some cross block faces, some are a few voxels."""
    field_ = ndimage.gaussian_filter(random.standard_normal(shape), (1.0, 2.5, 2.5))
    counts = 200 + 300 * np.maximum(field_ / field_.std() - 0.8, 0) + random.normal(0, 10, shape)
    return np.clip(counts, 0, 65535).astype(np.uint16)


def write_store(path: Path, random: np.random.Generator, frames: int = 0, channels: int = 0) -> None:
    """An OME-Zarr image of blobs; with a t or c axis where asked for."""
    from cristae.grid import Box
    from cristae.store.create import create_volume, publish
    from cristae.store.facts import Channel

    outer = "t" * bool(frames) + "c" * bool(channels)
    volume = create_volume(
        path,
        axes=outer + "zyx",
        shape=(*(n for n in (frames, channels) if n), *SHAPE),
        dtype="uint16",
        voxel_um=VOXEL_UM,
        chunk=(15, 48, 60),
        shard=(30, 48, 60),
        frame_interval_s=2.0 if frames else None,
        channels=[Channel(f"stain {n}") for n in range(channels)],
        kind="image",
    )
    for t in range(max(1, frames)):
        for c in range(max(1, channels)):
            volume.write(Box.whole(SHAPE), blobs(SHAPE, random), t=t, c=c)
    publish(volume)


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    said: str  # all of stderr but the events
    told: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def sentence(self) -> str:
        lines = self.said.strip().splitlines()
        return lines[-1] if lines else ""

    def count(self, event: str) -> int:
        return sum(e["event"] == event for e in self.events)


@dataclass(frozen=True)
class Run:
    """A command. Everything of it lies in `folder`; `told` is what the driver is told besides the input and the output."""

    folder: Path
    told: dict[str, Any] = field(default_factory=dict)
    in_store: bool = True
    input: str = "cell.ome.zarr"
    name: str = "cell"

    @staticmethod
    def of(store: Path, folder: Path, in_store: bool = True, **told: Any) -> Run:
        """A run on a copy of `store`."""
        shutil.copytree(store, folder / store.name)
        return Run(folder, {"block": BLOCK, **told}, in_store, store.name)

    def but(self, **told: Any) -> Run:
        return replace(self, told={**self.told, **told})

    @property
    def root(self) -> Path:
        return self.folder / self.input if self.in_store else self.folder / "out"

    @property
    def state(self) -> Path:
        return self.root / ".cristae" / self.name

    @property
    def generation(self) -> Path:
        return sorted(self.state.glob("gen-*"))[-1]

    def begin(self, die_at: str = "") -> subprocess.Popen[str]:
        """The process, started. It leads a group of its own, so that nothing of it need survive the test."""
        told = {**self.told, "input": str(self.folder / self.input)}
        told["out"] = None if self.in_store else str(self.folder / "out")
        return subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(told)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=surroundings() | ({"CRISTAE_DIE_AT": die_at} if die_at else {}),
            start_new_session=True,
        )

    def go(self, die_at: str = "") -> Ended:
        return end(self.begin(die_at))

    def finish(self) -> Ended:
        """Run it, and insist that it is done."""
        ended = self.go()
        assert ended.code == 0, ended.said
        return ended


def surroundings() -> dict[str, str]:
    """The environment of a process that finds the engine under test, the command line, and the driver's modules."""
    import cristae
    import cristae_cli

    rooms = [Path(m.__file__ or "").resolve().parents[1] for m in (cristae, cristae_cli)]
    path = os.pathsep.join(map(str, [*rooms, DRIVER.parents[1]]))
    kept = {k: v for k, v in os.environ.items() if k != "CRISTAE_DIE_AT"}
    return {**kept, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def end(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process and read what it said."""
    try:
        out, said = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, said = process.communicate()
        raise AssertionError(f"the run hung for {LIMIT_S} s:\n{said[-3000:]}") from None
    events, rest = [], []
    for line in said.splitlines():
        if line.startswith('{"event"'):
            try:
                events.append(json.loads(line))
            except ValueError:
                continue  # the process was killed in the middle of a line
        else:
            rest.append(line)
    return Ended(process.returncode, "\n".join(rest), json.loads(out) if out.strip() else {}, events)


def twice(folder: Path, **told: Any) -> tuple[Run, Run]:
    """The same run on the same blobs in two folders: one to be left alone, one to be killed."""
    store = folder / "pristine" / "cell.ome.zarr"
    store.parent.mkdir()
    write_store(store, np.random.default_rng(7))
    for name in ("alone", "killed"):
        (folder / name).mkdir()
    return Run.of(store, folder / "alone", **told), Run.of(store, folder / "killed", **told)


def resumes(killed: Run, step: str, alone: Run) -> None:
    """Kill a run at a step, and give its command again: it ends as the other, which is done, and computes no block twice."""
    planned = calls(alone.generation)
    assert killed.go(step).code == 137
    before = sum(committed(killed.generation).values())
    assert 0 < before < planned
    killed.finish()
    assert calls(killed.generation) == planned - before
    assert len(committed(killed.generation)) == planned
    check_whole(killed, outputs(alone.root))
    assert killed.finish().told["status"] == "nothing to do"


def check_whole(run: Run, expected: dict[str, str]) -> None:
    """Every block was committed once, the outputs are those expected, and nothing else is left."""
    assert set(committed(run.generation).values()) == {1}
    assert outputs(run.root) == expected
    assert leftovers(run.root) == []


def outputs(root: Path) -> dict[str, str]:
    """Digest of every file a user sees under `root`; of a table its contents count, not its bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_file() and ".cristae" not in path.parts:
            found[str(path.relative_to(root))] = contents(path)
    return found


def contents(path: Path) -> str:
    if path.suffix == ".parquet":
        import polars

        frame = polars.read_parquet(path)
        return hashlib.sha256(repr((frame.schema, frame.rows())).encode()).hexdigest()
    return hashlib.sha256(path.read_bytes()).hexdigest()


def records(generation: Path) -> list[dict[str, Any]]:
    """The journal."""
    from cristae.store.ledger import Ledger

    return list(Ledger(generation / "journal").read())


def committed(generation: Path) -> Counter[tuple[int, int]]:
    """How often each (pass, block) was committed."""
    found: Counter[tuple[int, int]] = Counter()
    for record in records(generation):
        if record["kind"] == "blocks":
            found.update((record["pass"], b) for start, stop in record["blocks"] for b in range(start, stop))
    return found


def leftovers(root: Path) -> list[str]:
    """What no finished run may leave: temporary files, staged outputs, scratch."""
    found = [str(p) for p in root.rglob("*.partial")]
    for name in ("staged", "scratch"):
        found += [str(p) for p in root.rglob(f".cristae/**/gen-*/{name}") if any(q.is_file() for q in p.rglob("*"))]
    return found


def calls(generation: Path) -> int:
    """Kernel calls of the process that completed the run."""
    return int(json.loads((generation / "complete.json").read_bytes())["calls"])


def until(condition: Any, seconds: float = 30.0) -> bool:
    """Whether a condition comes true in time."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if condition():
            return True
        time.sleep(0.05)
    return False
