"""What a pool's calls return: results that are there, or will be."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from types import GenericAlias
from typing import TYPE_CHECKING, Any

from . import _engine
from .exceptions import TimeoutError

if TYPE_CHECKING:
    from ._pool_calls import Calls

job_counter = itertools.count()

#: Seconds.
SLICE = 1.0


class ApplyResult:
    """The result of one task, now or later."""

    def __init__(
        self,
        pool: Calls,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool: Calls | None = pool
        self._event = threading.Event()
        self._job = next(job_counter)
        self._callback = callback
        self._error_callback = error_callback
        self._success = True
        self._value: Any = None
        self._tasks = range(0)
        #: In a pool of threads.
        self._begun = self._cancelled = False
        self._attend: Callable[[Any, float | None], bool] | None = None
        pool._results[self._job] = self

    __class_getitem__: Any = classmethod(GenericAlias)

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self._event.is_set()

    def successful(self) -> bool:
        """Whether the task has ended without an exception."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._success

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task has ended."""
        if self._event.is_set():
            return
        end = None if timeout is None else time.monotonic() + timeout
        pool = self._pool
        if self._attend is not None:
            if self._attend(self, timeout):
                return
        elif pool is not None:
            pool._stand_aside()
        del pool
        # In slices: a signal that comes when a thread is about to wait for a lock wakes nobody.
        left = SLICE
        while left > 0:
            if end is not None:
                left = min(SLICE, end - time.monotonic())
            if self._event.wait(max(left, 0.0)):
                return

    def _attend_by(self, attend: Callable[[Any, float | None], bool]) -> None:
        """Who waits may hear the workers meanwhile; callbacks run in the pool's thread only."""
        if self._callback is None and self._error_callback is None:
            self._attend = attend

    def get(self, timeout: float | None = None) -> Any:
        """What the task returned; its exception is raised here."""
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError
        if self._success:
            return self._value
        try:
            raise self._value
        finally:
            del self  # its traceback holds this frame: they would hold each other

    def cancel(self, running: bool = True) -> bool:
        """Give it up: what no worker has begun does not run, what one is at is stopped.

        That is interrupted first; the pool's `terminate_after` and `kill_after` say when it is told
        in a harder way. False when all is done, or begun and `running` false. Where it is true
        `get()` raises `CancelledError`.
        """
        pool = self._pool
        return pool is not None and pool._cancel(self, running)

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        self._success, self._value = outcome
        self._done()

    def _done(self) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            self._event.set()  # interrupted in the middle, and told again
            return
        pool._results.pop(self._job, None)
        callback = self._callback if self._success else self._error_callback
        if pool._state == "TERMINATE":
            callback = None  # nobody waits any more
        self._callback = self._error_callback = self._attend = None
        try:
            if callback is not None:
                callback(self._value)
        finally:
            self._event.set()


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The results of the chunks of one `map`, in order."""

    def __init__(
        self,
        pool: Calls,
        chunksize: int,
        length: int,
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        super().__init__(pool, callback, error_callback)
        self._value = [None] * length
        self._chunksize = chunksize
        self._missing = -(-length // chunksize) if length else 0
        if not length:
            self._event.set()
            self._pool = None
            del pool._results[self._job]

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        success, value = outcome
        self._missing -= 1
        if success and self._success:
            start = index * self._chunksize
            self._value[start : start + self._chunksize] = value
        elif not success and self._success:
            self._success, self._value = False, value  # the first error is the map's
        if not self._missing:
            self._done()

    # What a driver calls that puts results into the list itself.

    def _fail(self, error: BaseException) -> None:
        if self._success:
            self._success, self._value = False, error  # the first error is the map's

    def _all_set(self) -> None:
        self._done()


class Stream(_engine.ResultStream):
    """The results of one `imap`, as its pool fills them in."""

    def __new__(cls, pool: Calls, ordered: bool) -> Stream:
        return super().__new__(cls, ordered)

    def __init__(self, pool: Calls, ordered: bool) -> None:
        self._pool: Calls | None = pool
        self._job = next(job_counter)
        pool._results[self._job] = self

    def _forget(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool._results.pop(self._job, None)


class IMapIterator(_engine.ResultTaker):
    """The results of `imap`, each when it is there, in order."""

    _ordered = True

    def __new__(cls, pool: Calls) -> IMapIterator:
        return super().__new__(cls, Stream(pool, cls._ordered))


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`, each when it is there."""

    _ordered = False
