"""A run of several passes over a small volume: the same bytes wherever it runs and however often it was stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cristae.blocks import dispatch, run
from cristae.blocks.answers import answer_path
from cristae.blocks.dispatch import Crew, Totals
from cristae.blocks.journal import COMMITTED, Journal
from cristae.blocks.measure import Measure, Partial, ask
from cristae.blocks.run import run_passes
from cristae.blocks.stage import At, Spec, Stage, same_spec
from cristae.blocks.task import Order
from cristae.blocks.work import Asked, Frame, Image, Pass, Ref, Target, Work
from cristae.cluster.executor import Done, Executor, Inline, open_cluster
from cristae.cluster.model import Cluster
from cristae.errors import Claimed, InvalidInput, PlanRefused, SetAside
from cristae.filters import gaussian, threshold
from cristae.grid import Box, no_halo
from cristae.labels import label
from cristae.morphology.moments import shape
from cristae.morphology.surface import surface
from cristae.pipeline.compile import Node, Passes
from cristae.store.bundle import Bundle
from cristae.store.claim import Claim
from cristae.store.create import create_volume, publish
from cristae.store.volume import Volume, open_volume

SHAPE, BLOCK, FRAMES = (11, 40, 50), (4, 16, 25), 2
VOXEL_UM = (0.3, 0.1, 0.1)
CLUSTERS = [Cluster("none"), Cluster("threads", 2), pytest.param(Cluster("local", 2), marks=pytest.mark.cluster)]


def voxels(t: int, dtype: str = "uint16") -> np.ndarray:
    rng = np.random.default_rng(t)
    return (rng.random(SHAPE) ** 20 * 4000).astype(dtype)


def stages(spec: Spec) -> list[Stage]:
    return [
        gaussian(0.12, voxel_um=VOXEL_UM),
        threshold(method="otsu", voxel_um=VOXEL_UM, dtype="float32"),
        label(min_voxels=3, voxel_um=VOXEL_UM),
    ]


@dataclass
class Bench:
    """A run's facts in a folder, and what may be asked of it."""

    work: Work
    state: Path

    @property
    def folder(self) -> Path:
        return Path(self.work.folder)

    @property
    def blocks(self) -> list[int]:
        return [len(self.work.layout(p)) for p in self.work.passes]

    @contextmanager
    def crew(self, executor: Executor, events: list[dict[str, Any]] | None = None) -> Iterator[Crew]:
        self.work.save(self.folder / "work.pkl")
        digest = blake2b((self.folder / "work.pkl").read_bytes()).hexdigest()
        with Claim(self.state) as claim:
            journal = Journal.load(self.folder, self.blocks)
            journal.retry_aside()
            listen = (events if events is not None else []).append
            yield Crew(executor, journal, str(self.folder / "work.pkl"), digest, claim.epoch, listen, 0.001)

    def go(self, executor: Executor | None = None, events: list[dict[str, Any]] | None = None) -> Totals:
        with self.crew(executor or Inline(), events) as crew:
            return run_passes(self.work, crew, self.make_sink)

    def make_sink(self, step: Pass) -> None:
        place = Path(self.work.images[0].places[step.sink or ""])
        if (place / "zarr.json").exists():
            return
        spec = self.work.specs(0, step)[-1]
        kind: Any = next(t.kind for t in self.work.targets if t.name == step.sink)
        made = create_volume(
            place,
            axes="tzyx",
            shape=(FRAMES, *spec.shape),
            dtype=spec.dtype,
            voxel_um=spec.voxel_um,
            chunk=BLOCK,
            shard=BLOCK,
            frame_interval_s=1.0,
            kind="label" if kind == "label" else "image",
            codec="scratch" if kind == "scratch" else None,
        )
        publish(made)

    def journal(self) -> Journal:
        return Journal.load(self.folder, self.blocks)

    def result(self, name: str = "mito") -> np.ndarray:
        volume = open_volume(self.work.images[0].places[name])
        return np.stack([volume.read(Box.whole(SHAPE), t=t) for t in range(FRAMES)])

    def objects(self, name: str = "mito") -> dict[str, bytes]:
        place = Path(self.work.images[0].places[name]) / "0"
        return {str(p.relative_to(place)): p.read_bytes() for p in sorted(place.rglob("*")) if p.is_file()}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return stored(tmp_path_factory.mktemp("source"), [voxels(t) for t in range(FRAMES)])


def stored(folder: Path, frames: Sequence[np.ndarray]) -> Volume:
    volume = create_volume(
        folder / "cell.ome.zarr",
        axes="tzyx",
        shape=(len(frames), *SHAPE),
        dtype=frames[0].dtype.name,
        voxel_um=VOXEL_UM,
        chunk=(6, 20, 25),
        shard=(6, 20, 25),
        frame_interval_s=1.0,
    )
    for t, array in enumerate(frames):
        for start in np.ndindex(2, 2, 2):
            low = tuple(a * n for a, n in zip(start, (6, 20, 25), strict=True))
            box = Box(low, tuple(a + n for a, n in zip(low, (6, 20, 25), strict=True))).clip(SHAPE)
            volume.write(box, array[box.slices], t=t)
    publish(volume)
    return volume


def bench(folder: Path, source: Volume, chain: Sequence[Stage] = (), kept: Sequence[int] = (0, 1)) -> Bench:
    """Gaussian, Otsu, labels and a table over two frames, unless another chain is given; `kept`: staged in scratch."""
    spec = Spec(source.spatial_shape, source.dtype, source.voxel_um)
    nodes: list[Node] = []
    for stage in chain or stages(spec):
        before = nodes[-1].spec if nodes else spec
        nodes.append(Node(stage.name, stage, nodes[-1] if nodes else None, stage.output(before)))
    passes = Passes(Ref("input"), spec, "mito", {id(nodes[n]) for n in kept})
    table = () if chain else (shape(voxel_um=VOXEL_UM), surface(voxel_um=VOXEL_UM))
    kind = "image" if chain else "label"
    passes.end(nodes[-1], Target("mito", kind), tuple(Asked(f"mito/table/{m.name}", m) for m in table))
    return bench_of(folder, source, passes.passes, passes.targets)


def bench_of(folder: Path, source: Volume, passes: Sequence[Pass], targets: Sequence[Target]) -> Bench:
    state = folder / "out" / ".cristae" / "mito"
    places = {t.name: str(folder / f"{t.name}.zarr") for t in targets}
    image = Image("cell", {"input": source}, places)
    frames = tuple(Frame(0, t) for t in range(FRAMES))
    return Bench(Work(str(state / "gen-0001"), (image,), frames, tuple(passes), tuple(targets), BLOCK), state)


@pytest.fixture(scope="session")
def expected() -> np.ndarray:
    """The same stages, each on whole frames in memory."""
    frames = []
    for t in range(FRAMES):
        array: Any = voxels(t)
        for stage in stages(Spec(SHAPE, "uint16", VOXEL_UM)):
            array = stage(array)
        frames.append(array)
    assert [int(f.max()) for f in frames] != [0, 0]
    return np.stack(frames)


@pytest.fixture(scope="session")
def undisturbed(source: Volume, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    found = bench(tmp_path_factory.mktemp("undisturbed"), source)
    found.go()
    return found


# ----------------------------------------------------------------------------------------------------- one path


@pytest.mark.parametrize("cluster", CLUSTERS, ids=str)
def test_the_result_is_that_of_the_whole_volume_wherever_it_runs(
    cluster: Cluster, source: Volume, expected: np.ndarray, undisturbed: Bench, tmp_path: Path
) -> None:
    here = bench(tmp_path, source)
    with open_cluster(cluster) as executor:
        totals = here.go(executor)
    np.testing.assert_array_equal(here.result(), expected)
    assert here.result().dtype == expected.dtype
    assert here.objects() == undisturbed.objects()
    assert totals == Totals(calls=sum(here.blocks), retries=0)
    assert all((p.state == COMMITTED).all() for p in here.journal().passes)


@pytest.mark.parametrize("kept", [(), (0,), (1,)], ids=str)
def test_what_is_staged_and_what_is_computed_again_does_not_show(
    kept: tuple[int, ...], source: Volume, expected: np.ndarray, tmp_path: Path
) -> None:
    here = bench(tmp_path, source, kept=kept)
    here.go()
    np.testing.assert_array_equal(here.result(), expected)


def test_the_answers_are_those_of_whole_frames(undisturbed: Bench) -> None:
    wanted = {key for p in undisturbed.work.passes for key in p.wants}
    (key,) = [k for k in wanted if k.endswith("otsu")]
    bundle = Bundle(answer_path(undisturbed.work.folder, key))
    otsu = stages(Spec(SHAPE, "uint16", VOXEL_UM))[1].asks["threshold"]
    for t in range(FRAMES):
        smooth = gaussian(0.12, voxel_um=VOXEL_UM)(voxels(t))
        assert bundle[f"f{t}|value"] == ask(otsu, smooth).arrays["value"]


def test_the_table_rows_are_those_of_whole_frames(undisturbed: Bench, expected: np.ndarray) -> None:
    bundle = Bundle(answer_path(undisturbed.work.folder, "mito/table/shape"))
    for t in range(FRAMES):
        rows = bundle[f"f{t}|rows"]
        counts = np.bincount(expected[t].ravel())[1:]
        assert np.array_equal(np.unique(rows["label"]), np.arange(1, len(counts) + 1))
        assert np.array_equal(np.bincount(rows["label"].astype(int), rows["voxels"])[1:], counts)


def test_a_reduction_tree_gives_the_same_answers(
    source: Volume, undisturbed: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FAN_IN", 3)
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 1)
    here = bench(tmp_path, source)
    here.go()
    assert here.objects() == undisturbed.objects()
    merges = list((here.folder / "partials").rglob("merge-*"))
    assert len(merges) > 10
    for key in ("mito/table/shape", "mito/table/surface"):
        one, other = (Bundle(answer_path(b.work.folder, key)) for b in (here, undisturbed))
        assert {n: one[n].tobytes() for n in one} == {n: other[n].tobytes() for n in other}


def test_receipts_say_what_was_put_and_what_is_empty(undisturbed: Bench, expected: np.ndarray) -> None:
    journal = undisturbed.journal()
    last = len(undisturbed.work.passes) - 1
    place = Path(undisturbed.work.images[0].places["mito"])
    puts = [p for p in journal.puts() if p[2] == "mito"]
    assert len(puts) + sum(1 for _ in empty_blocks(undisturbed, last)) >= undisturbed.blocks[last]
    for _, _, _, key, size, digest in puts:
        data = (place / key).read_bytes()
        assert (len(data), blake2b(data, digest_size=16).hexdigest()) == (size, digest)
    grid = undisturbed.work.grid(0, undisturbed.work.passes[last])
    told = set(empty_blocks(undisturbed, last))
    for t in range(FRAMES):
        for n, core in enumerate(grid):
            assert (t * len(grid) + n in told) == (not expected[t][core.slices].any())


def empty_blocks(here: Bench, number: int) -> Iterator[int]:
    for record in here.journal().ledger.read():
        if record["kind"] == "blocks" and record["pass"] == number:
            for start, stop in record["empty"]:
                yield from range(start, stop)


# ------------------------------------------------------------------------------------------------ stopped and resumed


@dataclass
class Counting(Inline):
    """This process; remembers what was handed out, and stops the run at a given order."""

    stop_at: int = 10**9
    orders: list[Order] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def start(self, key: str, task: Any) -> None:
        if isinstance(task[1], Order):
            if len(self.orders) >= self.stop_at:
                raise KeyboardInterrupt
            self.orders.append(task[1])
        super().start(key, task)

    @property
    def blocks(self) -> Counter[tuple[int, int]]:
        return Counter((o.number, b) for o in self.orders for b in o.blocks)


def committed(journal: Journal) -> set[tuple[int, int]]:
    return {(n, int(b)) for n, p in enumerate(journal.passes) for b in np.flatnonzero(p.state == COMMITTED)}


@pytest.mark.parametrize("stop_at", [0, 1, 5, 30, 60, 80])
def test_what_is_committed_is_never_computed_again(
    stop_at: int, source: Volume, undisturbed: Bench, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 2)
    here = bench(tmp_path, source)
    first = Counting(stop_at)
    with pytest.raises(KeyboardInterrupt):
        here.go(first)
    before = committed(here.journal())
    again = Counting()
    here.go(again)
    assert not before & set(again.blocks)
    assert before | set(again.blocks) == {(n, b) for n, count in enumerate(here.blocks) for b in range(count)}
    assert here.objects() == undisturbed.objects()


def test_a_run_stopped_again_and_again_ends_as_if_it_never_was(
    source: Volume, undisturbed: Bench, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 3)
    here = bench(tmp_path, source)
    done: Counter[tuple[int, int]] = Counter()
    for stop_at in [3, 2, 9, 1, 4, 30, 7] * 20:
        part = Counting(stop_at)
        try:
            here.go(part)
        except KeyboardInterrupt:
            continue
        finally:
            done.update(b for b in part.blocks if b in committed(here.journal()))
        break
    assert here.objects() == undisturbed.objects()
    assert set(done.values()) == {1}


def test_a_finished_run_has_nothing_to_do(source: Volume, tmp_path: Path) -> None:
    here = bench(tmp_path, source)
    here.go()
    again = Counting()
    assert here.go(again) == Totals()
    assert not again.orders


def test_only_condemned_blocks_and_what_they_need_are_made_again(
    source: Volume, undisturbed: Bench, tmp_path: Path
) -> None:
    here = bench(tmp_path, source)
    here.go()
    last = len(here.blocks) - 1
    before = here.objects()
    victim = sorted(p for p in before if p.startswith("c/"))[0]
    (Path(here.work.images[0].places["mito"]) / "0" / victim).write_bytes(b"")
    (block,) = [b for _, b, array, key, *_ in here.journal().puts() if array == "mito" and key == f"0/{victim}"]
    here.journal().add([{"kind": "redo", "pass": last, "blocks": [[block, block + 1]]}])
    again = Counting()
    here.go(again)
    assert set(again.blocks) == {(last, block)}
    assert here.objects() == before


def test_a_newer_owner_stops_the_writers_of_an_older_one(source: Volume, tmp_path: Path) -> None:
    here = bench(tmp_path, source)

    class Overtaken(Counting):
        def start(self, key: str, task: Any) -> None:
            if isinstance(task[1], Order) and task[1].number == len(here.work.passes) - 1 and len(task[1].blocks) > 1:
                (here.state / "claim.json").write_bytes(b'{"epoch": 99}')
            super().start(key, task)

    with pytest.raises(Claimed, match="newer run has claimed"):
        here.go(Overtaken())
    objects = here.objects()
    assert sum(name.startswith("c/") for name in objects) <= 2


# ---------------------------------------------------------------------------------------------------- failures


@dataclass(frozen=True)
class Failing:
    """`apply` of a stage that passes its input on, but raises at some blocks while a flag lies there."""

    flag: str
    blocks: tuple[int, ...]
    error: type[BaseException] = ValueError

    def __call__(self, array: np.ndarray, *, at: At, answers: Mapping[str, Any]) -> np.ndarray:
        if at.index in self.blocks and Path(self.flag).exists():
            raise self.error(f"block {at.index} is cursed")
        return array[at.out.within(at.reads[0])]


def failing(folder: Path, *blocks: int, error: type[BaseException] = ValueError) -> Stage:
    flag = folder / "cursed"
    flag.touch()
    return Stage("failing", {}, Failing(str(flag), blocks, error), no_halo(3), same_spec)


def test_blocks_that_fail_in_the_last_pass_are_set_aside_and_the_others_are_there(
    source: Volume, tmp_path: Path
) -> None:
    here = bench(tmp_path, source, [failing(tmp_path, 3, 7)], kept=())
    events: list[dict[str, Any]] = []
    with pytest.raises(SetAside, match=r"4 blocks were set aside .* block 3, ValueError: block 3 is cursed"):
        here.go(events=events)
    assert here.journal().passes[0].count(COMMITTED) == here.blocks[0] - 4
    assert "is cursed" in next(iter(here.journal().passes[0].aside.values()))["trace"]
    (tmp_path / "cursed").unlink()
    again = Counting()
    here.go(again)
    assert len(again.blocks) == 4
    np.testing.assert_array_equal(here.result(), np.stack([voxels(t) for t in range(FRAMES)]))


def test_nothing_that_waits_for_a_failed_pass_starts(source: Volume, expected: np.ndarray, tmp_path: Path) -> None:
    chain = [failing(tmp_path, 3), *stages(Spec(SHAPE, "uint16", VOXEL_UM))]
    here = bench(tmp_path, source, chain, kept=())
    first = Counting()
    with pytest.raises(SetAside):
        here.go(first)
    assert {number for number, _ in first.blocks} == {0}
    assert here.journal().passes[0].count(COMMITTED) == here.blocks[0] - FRAMES
    (tmp_path / "cursed").unlink()
    again = Counting()
    here.go(again)
    assert sum(number == 0 for number, _ in again.blocks) == FRAMES
    np.testing.assert_array_equal(here.result(), expected)


def test_too_little_memory_for_a_batch_is_enough_for_a_block(source: Volume, tmp_path: Path) -> None:
    here = bench(tmp_path, source, [failing(tmp_path, 3, error=MemoryError)], kept=())
    flag = tmp_path / "cursed"

    class Roomy(Counting):
        def start(self, key: str, task: Any) -> None:
            if (
                task[1].attempt > 1
                and len(task[1].blocks) == 1
                and task[1].blocks[0] in (3, 3 + here.blocks[0] // FRAMES)
            ):
                flag.unlink(missing_ok=True)
            super().start(key, task)

    here.go(Roomy())
    np.testing.assert_array_equal(here.result(), np.stack([voxels(t) for t in range(FRAMES)]))


def test_a_voxel_that_is_no_number_ends_the_run_in_words(tmp_path: Path) -> None:
    frames = [voxels(t, "float32") for t in range(FRAMES)]
    frames[1][5, 30, 30] = np.nan
    here = bench(tmp_path, stored(tmp_path, frames))
    with pytest.raises(InvalidInput, match=r"cell.ome.zarr holds NaN or infinite voxels between .* replace them"):
        here.go()


def _one_each(array: np.ndarray, *, at: At, answers: Mapping[str, Any]) -> Partial:
    return {"blocks": np.array([at.t * 1000 + at.index])}


@dataclass(frozen=True)
class Stumbling:
    """A merge that has no memory left when it first meets one block."""

    flag: str

    def __call__(self, partials: Sequence[Partial]) -> Partial:
        found = np.concatenate([np.empty(0, np.int64), *(p["blocks"] for p in partials)])
        if 5 in found and Path(self.flag).exists():
            Path(self.flag).unlink()
            raise MemoryError
        return {"blocks": np.sort(found)}


def test_a_merge_that_fails_once_loses_no_block(source: Volume, tmp_path: Path) -> None:
    """What a block told is part of it: a block is not committed while its partial is not in the file."""
    (tmp_path / "stumble").touch()
    measure = Measure("seen", {}, _one_each, Stumbling(str(tmp_path / "stumble")), None, no_halo(3))
    here = bench_of(tmp_path, source, [Pass("seen", Ref("input"), measures=(Asked("seen", measure),))], [])
    here.go()
    bundle = Bundle(answer_path(here.work.folder, "seen"))
    found = [*bundle["f0|blocks"].tolist(), *bundle["f1|blocks"].tolist()]
    half = here.blocks[0] // FRAMES
    assert found == [*range(half), *range(1000, 1000 + half)]


def test_a_merge_node_whose_worker_dies_is_done_again(
    source: Volume, undisturbed: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "FAN_IN", 3)
    monkeypatch.setattr(dispatch, "BATCH_BLOCKS", 1)

    class Mortal(Inline):
        deaths = 0

        def next(self, timeout: float) -> Done | None:
            done = super().next(timeout)
            if done is not None and "merge" in done.key and self.deaths < 4:
                self.deaths += 1
                return Done(done.key, error=RuntimeError("killed"), died=True)
            return done

    here, mortal = bench(tmp_path, source), Mortal()
    here.go(mortal)
    assert mortal.deaths == 4
    assert here.objects() == undisturbed.objects()


# ------------------------------------------------------------------------------------------------- the write unit


@pytest.mark.parametrize("cut", [Box((1, 0, 0), (4, 16, 25)), Box((0, 0, 0), (4, 16, 24)), Box((0, 0, 0), (4, 15, 25))])
def test_a_write_that_cuts_a_stored_object_is_refused_before_a_byte(cut: Box, tmp_path: Path) -> None:
    volume = create_volume(
        tmp_path / "a", axes="zyx", shape=SHAPE, dtype="uint8", voxel_um=VOXEL_UM, chunk=(2, 8, 25), shard=BLOCK
    )
    before = sorted(p for p in (tmp_path / "a").rglob("*"))
    with pytest.raises(PlanRefused, match=r"cuts stored objects .* give a --block that is a multiple"):
        volume.write(cut, np.ones(cut.shape, np.uint8))
    assert sorted(p for p in (tmp_path / "a").rglob("*")) == before
