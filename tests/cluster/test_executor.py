"""One door for a process, its threads and a scheduler: tasks go in, what became of them comes out."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from cristae.cluster.executor import Done, Executor, Scheduler, open_cluster
from cristae.cluster.model import Cluster
from cristae.errors import InvalidConfiguration

NONE, THREADS, LOCAL = Cluster("none"), Cluster("threads", 2), Cluster("local", 2)


def double(n: int) -> int:
    return 2 * n


def fail(n: int) -> int:
    raise ValueError(f"no {n}")


def die(n: int) -> None:
    os._exit(9)


def slow(n: int) -> int:
    time.sleep(0.2)
    return n


def process(_: int) -> int:
    return os.getpid()


def all_done(executor: Executor, count: int, seconds: float = 60.0) -> dict[str, Done]:
    found: dict[str, Done] = {}
    limit = time.monotonic() + seconds
    while len(found) < count and time.monotonic() < limit:
        if (done := executor.next(0.5)) is not None:
            found[done.key] = done
    return found


@pytest.fixture(scope="module", params=[NONE, THREADS, pytest.param(LOCAL, marks=pytest.mark.cluster)], ids=str)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    with open_cluster(request.param) as found:
        yield found


def test_what_goes_in_comes_out_under_its_key(executor: Executor) -> None:
    for n in range(20):
        executor.start(f"a{n}", (double, n))
    found = all_done(executor, 20)
    assert {key: done.value for key, done in found.items()} == {f"a{n}": 2 * n for n in range(20)}
    assert not any(done.error or done.died for done in found.values())
    assert executor.ready() is None


def test_an_error_comes_back_as_it_was_raised(executor: Executor) -> None:
    executor.start("bad", (fail, 3))
    executor.start("good", (double, 3))
    found = all_done(executor, 2)
    assert isinstance(found["bad"].error, ValueError)
    assert str(found["bad"].error) == "no 3"
    assert not found["bad"].died
    assert found["good"].value == 6


def test_nothing_to_wait_for_is_none(executor: Executor) -> None:
    assert executor.next(0.01) is None
    assert executor.ready() is None


def test_there_is_at_least_one_worker(executor: Executor) -> None:
    assert executor.workers >= 1


def test_none_works_in_order_and_only_when_asked() -> None:
    with open_cluster(NONE) as executor:
        executor.start("a", (double, 1))
        executor.start("b", (threading.get_ident,))
        assert executor.ready() is None
        assert [executor.next(0).key for _ in range(2)] == ["a", "b"]  # type: ignore[union-attr]
        executor.start("c", (double, 1))
        executor.forget()
        assert executor.next(0) is None


def test_threads_work_side_by_side() -> None:
    with open_cluster(THREADS) as executor:
        assert executor.workers == 2
        start = time.monotonic()
        for n in range(4):
            executor.start(str(n), (slow, n))
        assert len(all_done(executor, 4)) == 4
        assert time.monotonic() - start < 0.7


def test_threads_that_are_given_up_finish_what_they_began_and_no_more() -> None:
    before = threading.active_count()
    with open_cluster(THREADS) as executor:
        for n in range(20):
            executor.start(str(n), (slow, n))
        time.sleep(0.05)
    assert threading.active_count() == before


@pytest.mark.cluster
def test_a_worker_that_dies_is_said_and_the_others_go_on() -> None:
    with open_cluster(LOCAL) as executor:
        assert executor.workers == 2
        executor.start("fatal", (die, 0))
        died = all_done(executor, 1)["fatal"]
        assert died.died
        assert died.error is not None
        for n in range(4):
            executor.start(f"after{n}", (process, n))
        found = all_done(executor, 4)
        assert len(found) == 4
        assert os.getpid() not in {done.value for done in found.values()}


@pytest.mark.cluster
def test_an_existing_scheduler_is_used_by_address_and_by_file_and_left_running(tmp_path) -> None:
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
    ) as there:
        (tmp_path / "s.json").write_text(__import__("json").dumps({"address": there.scheduler_address}))
        for cluster in (Cluster("address", 1, there.scheduler_address), Cluster("file", 1, str(tmp_path / "s.json"))):
            with open_cluster(cluster) as executor:
                executor.start("a", (double, 4))
                assert all_done(executor, 1)["a"].value == 8
        assert there.scheduler.workers


@pytest.mark.cluster
def test_a_scheduler_without_workers_is_refused() -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=50) as there:
        empty = Cluster("address", 1, there.scheduler_address)
        with pytest.raises(InvalidConfiguration, match="the scheduler has no workers"), open_cluster(empty):
            pass


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_refused() -> None:
    with (
        pytest.raises(InvalidConfiguration, match="no scheduler answers there"),
        open_cluster(Cluster("address", 1, "tcp://127.0.0.1:9")),
    ):
        pass


class Lost:
    """A future whose worker died after it had finished: pending when it is looked at, done again when it is asked."""

    status = "pending"

    def exception(self) -> None:
        return None

    def result(self) -> int:
        return 7


def test_a_result_that_was_lost_and_made_again_is_the_result() -> None:
    assert Scheduler(client=None)._settle("a", Lost()) == Done("a", 7)
