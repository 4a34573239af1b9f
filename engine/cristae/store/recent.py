"""Recent: the chunks that were decoded last, shared by the threads of a process.

A block that reads beyond itself touches the chunks of its neighbours, which touch its own. Kept for a while, each is decoded
about once instead of once for every block that touches it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from threading import Lock

import numpy as np


class Recent:
    """Arrays by key, the least recently used forgotten once all of them exceed `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Hashable, Future[np.ndarray]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array of a key, read-only; made once, however many threads ask for it at the same time."""
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            else:
                mine = self._kept[key] = Future()
        if found is not None:
            return found.result()
        try:
            array = make()
        except BaseException as error:
            with self._lock:
                del self._kept[key]
            mine.set_exception(error)
            raise
        array.flags.writeable = False
        with self._lock:
            mine.set_result(array)
            self._bytes += array.nbytes
            self._forget()
        return array

    def _forget(self) -> None:
        for key in list(self._kept):
            if self._bytes <= self.limit:
                return
            if self._kept[key].done():
                self._bytes -= self._kept.pop(key).result().nbytes
