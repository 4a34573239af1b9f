"""Executor: start a small dask graph, take what is done. One door for a process, its threads, and distributed.

Every task is one node of an explicit dask graph; `none` gives it to dask's synchronous scheduler, `threads` to the same one
on a thread each, the others to a `distributed.Client`. An executor holds no state of the run: the driver hands out tasks a
bounded window at a time and asks `next` for results.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cristae.cluster.allocation import ENVIRONMENT, give_back_memory
from cristae.cluster.model import Cluster
from cristae.errors import CristaeError, InvalidConfiguration

DESERTED_S = 120.0
"""A run whose last worker is gone waits this long for another; it never hangs in silence."""

COUNTED_S = 1.0
"""How long a count of the workers holds."""

ARRIVING_S = 5
"""How long the first worker of a scheduler is waited for."""

UNINTERRUPTED = """
import signal, threading
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
"""For worker processes: Ctrl-C reaches all of a terminal's processes, and the driver alone ends the run."""

Task = tuple[Callable[..., Any], Any]
"""A function and its arguments, as dask writes a task."""


@dataclass(frozen=True)
class Done:
    """What became of a task: its value, or the error that it or its worker ended with."""

    key: str
    value: Any = None
    error: BaseException | None = None
    died: bool = False  # the worker went away without a word


class Executor(Protocol):
    """Where tasks run; `workers` at a time."""

    @property
    def workers(self) -> int: ...

    def start(self, key: str, task: Any) -> None:
        """Hand out one task; returns at once."""

    def next(self, timeout: float) -> Done | None:
        """The next finished task, or None after `timeout` seconds."""

    def ready(self) -> Done | None:
        """A task that has finished already, or None; never computes and never waits."""

    def forget(self) -> None:
        """Drop every task that has not finished."""


class Inline:
    """This process, one task after the other."""

    workers = 1

    def __init__(self) -> None:
        self._waiting: list[tuple[str, Any]] = []

    def start(self, key: str, task: Any) -> None:
        self._waiting.append((key, task))

    def next(self, timeout: float) -> Done | None:
        return _do(*self._waiting.pop(0)) if self._waiting else None

    def ready(self) -> Done | None:
        return None

    def forget(self) -> None:
        self._waiting.clear()


class Threads:
    """This process, several threads."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="block")
        self._done: queue.Queue[Done] = queue.Queue()

    def start(self, key: str, task: Any) -> None:
        self._pool.submit(lambda: self._done.put(_do(key, task)))

    def next(self, timeout: float) -> Done | None:
        try:
            return self._done.get(timeout=timeout) if timeout else self._done.get_nowait()
        except queue.Empty:
            return None

    def ready(self) -> Done | None:
        return self.next(0)

    def forget(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


class Scheduler:
    """A dask scheduler, our own or somebody's."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._done: queue.Queue[Done] = queue.Queue()
        self._futures: dict[str, Any] = {}
        self._deserted: float | None = None  # since when there has been no worker
        self._counted = (float("-inf"), 1)  # when, and how many threads they had

    def _look_for_workers(self) -> None:
        if self._client.scheduler_info(n_workers=-1)["workers"]:
            self._deserted = None
            return
        now = time.monotonic()
        self._deserted = self._deserted or now
        if now - self._deserted > DESERTED_S:
            raise CristaeError(
                f"the scheduler has had no worker for {DESERTED_S:.0f} s; start some, and the same command goes on from here"
            )

    @property
    def workers(self) -> int:
        """Threads of all workers, as they were at most COUNTED_S ago: to ask takes milliseconds, in which nothing is handed out."""
        now = time.monotonic()
        if now - self._counted[0] > COUNTED_S:
            info = self._client.scheduler_info(n_workers=-1)["workers"]
            self._counted = now, max(1, sum(int(w["nthreads"]) for w in info.values()))
        return self._counted[1]

    def start(self, key: str, task: Any) -> None:
        (future,) = self._client.get({key: task}, [key], sync=False)
        self._futures[key] = future
        future.add_done_callback(lambda f: self._done.put(self._settle(key, f)))

    def _settle(self, key: str, future: Any) -> Done:
        from distributed import KilledWorker

        try:
            if future.status == "finished":
                return Done(key, future.result())
            if future.status == "cancelled":
                return Done(key, error=CristaeError("the scheduler dropped the task"), died=True)
            error = future.exception()
            if error is None:  # lost with its worker after it had finished, and by now done again
                return Done(key, future.result())
            return Done(key, error=error, died=isinstance(error, KilledWorker))
        except Exception as lost:  # the worker died after it had finished, before its result was fetched
            return Done(key, error=lost, died=True)

    def next(self, timeout: float) -> Done | None:
        try:
            done = self._done.get(timeout=timeout) if timeout else self._done.get_nowait()
        except queue.Empty:
            if timeout:
                self._look_for_workers()
            return None
        self._deserted = None
        self._futures.pop(done.key, None)  # the scheduler may forget it
        return done

    def ready(self) -> Done | None:
        return self.next(0)

    def forget(self) -> None:
        self._client.cancel(list(self._futures.values()))
        self._futures.clear()


def _do(key: str, task: Any) -> Done:
    import dask

    try:
        return Done(key, dask.get({key: task}, key))  # type: ignore[attr-defined]
    except Exception as error:
        return Done(key, error=error)


@contextmanager
def open_cluster(cluster: Cluster, memory: int | None = None) -> Iterator[Executor]:
    """The executor of a cluster, and with `local` its worker processes, for as long as the block lasts.

    memory : bytes a worker process may hold; a process that grows past it is stopped by its nanny.
    """
    if cluster.kind in ("none", "threads"):
        give_back_memory()
    if cluster.kind == "none":
        yield Inline()
    elif cluster.kind == "threads":
        threads = Threads(cluster.workers)
        try:
            yield threads
        finally:
            threads.forget()
    elif cluster.kind == "local":
        with local_workers(cluster.workers, memory) as client:
            yield Scheduler(client)
    else:
        with _existing(cluster) as client:
            yield Scheduler(client)


@contextmanager
def local_workers(workers: int, memory: int | None = None) -> Iterator[Any]:
    """A client of a scheduler in this process and so many worker processes of one thread."""
    import dask
    from distributed import Client, LocalCluster

    settings = {
        # A death is the driver's to judge: by default distributed would run the tasks of a dead worker again, silently.
        "distributed.scheduler.allowed-failures": 0,
        # The cluster would give up a worker that is being started again when it looks, 15 s after a death, and never replace it.
        "distributed.deploy.lost-worker-timeout": "1h",
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.95 if memory else False,
        "distributed.scheduler.worker-saturation": 1.5,
        "distributed.nanny.pre-spawn-environ": {
            **dask.config.get("distributed.nanny.pre-spawn-environ"),
            **ENVIRONMENT,
        },
        "distributed.worker.preload": [UNINTERRUPTED],
        "distributed.logging.distributed": "critical",
        "distributed.admin.log-length": 0,
    }
    # A worker that is killed leaves semaphores to multiprocessing's tracker, which would say so on the user's terminal.
    os.environ.setdefault("PYTHONWARNINGS", "ignore::UserWarning:multiprocessing.resource_tracker")
    with (
        dask.config.set(settings),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            memory_limit=int(memory / 0.95) if memory else 0,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@contextmanager
def _existing(cluster: Cluster) -> Iterator[Any]:
    from distributed import Client

    where = {"scheduler_file": cluster.address} if cluster.kind == "file" else {"address": cluster.address}
    try:
        client = Client(**where, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise InvalidConfiguration(f"--cluster {cluster.address}: no scheduler answers there ({error})") from None
    with client:
        with suppress(TimeoutError):  # they may be on their way
            client.wait_for_workers(1, timeout=ARRIVING_S)
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise InvalidConfiguration(f"--cluster {cluster.address}: the scheduler has no workers; start some first")
        yield client
