"""Pools of workers. Threads work already; the pool of processes is a later issue.

A pool hands chunks of tasks to its workers through one queue; a worker puts what came of a task
into the result object that the caller holds, and runs the callbacks, one at a time in the pool.
"""

from __future__ import annotations

import itertools
import os
import queue
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import Any

from . import util
from ._pool_results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
)
from ._pool_results import AsyncResult as AsyncResult
from ._pool_results import job_counter as job_counter
from ._remote_traceback import RemoteTraceback as RemoteTraceback
from ._unbuilt import refusal, unbuilt
from .exceptions import TimeoutError as TimeoutError

__all__ = ["Pool", "ThreadPool"]

for _class in (ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator):
    _class.__module__ = __name__  # where multiprocessing has them
del _class

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


def mapstar(args: tuple[Any, ...]) -> list[Any]:
    """What a chunk of `map` runs in a worker."""
    return list(map(*args))


def starmapstar(args: tuple[Any, Any]) -> list[Any]:
    """What a chunk of `starmap` runs in a worker."""
    function, chunk = args
    return [function(*arguments) for arguments in chunk]


# --- errors on their way ---


class ExceptionWithTraceback:
    """An exception on its way here, with its traceback as text."""

    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None:
        import traceback

        text = "".join(traceback.format_exception(type(exc), exc, tb))
        self.exc = exc
        # The frames stay behind: they would keep the worker's objects alive.
        self.exc.__traceback__ = None
        self.tb = f'\n"""\n{text}"""'

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """Put the text back as the cause."""
    exc.__cause__ = RemoteTraceback(tb)
    return exc


class MaybeEncodingError(Exception):
    """The result of a task cannot be sent; both texts, since the objects cannot travel."""

    def __init__(self, exc: object, value: object) -> None:
        self.exc = repr(exc)
        self.value = repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


# --- pools ---


class Pool:
    """A pool of processes: not built yet. Its interface is that of `ThreadPool`."""

    _state = INIT

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        raise refusal("pool.Pool")

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - multiprocessing's name
        """What a worker is."""
        return ctx.Process(*args, **kwds)

    def _begin(
        self,
        processes: int | None,
        initializer: Callable[..., object] | None,
        initargs: Iterable[Any],
    ) -> None:
        if processes is None:
            processes = os.cpu_count() or 1
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._results: dict[int, Any] = {}
        self._tasks: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._outcomes = threading.Lock()
        self._pool: list[Any] = []
        self._state = RUN
        self._terminate = util.Finalize(
            self, _end_workers, (self._tasks, self._pool), exitpriority=15
        )
        self._fill(initializer, tuple(initargs))

    def _fill(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        raise refusal("pool.Pool")

    # --- asking for work ---

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] = {},  # noqa: B006
    ) -> Any:
        """Call the function in a worker; its result."""
        return self.apply_async(func, args, kwds).get()

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call the function for each item; the results in order."""
        return self._map_async(func, iterable, mapstar, chunksize).get()  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """`map` for items that are tuples of arguments."""
        return self._map_async(func, iterable, starmapstar, chunksize).get()  # type: ignore[no-any-return]

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] = {},  # noqa: B006
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> ApplyResult:
        """`apply` without waiting."""
        self._check_running()
        result = ApplyResult(self, callback, error_callback)
        self._tasks.put((result._job, 0, func, tuple(args), dict(kwds)))
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """`map` without waiting."""
        return self._map_async(func, iterable, mapstar, chunksize, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        """`starmap` without waiting."""
        return self._map_async(func, iterable, starmapstar, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        """The results one after the other, in order."""
        return self._imap(IMapIterator(self), func, iterable, chunksize)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int = 1
    ) -> Iterator[Any]:
        """The results as they come."""
        return self._imap(IMapUnorderedIterator(self), func, iterable, chunksize)

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        mapper: Callable[[Any], list[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult:
        self._check_running()
        items = iterable if hasattr(iterable, "__len__") else list(iterable)
        length: int = len(items)  # type: ignore[arg-type]
        if chunksize is None:
            chunksize, more = divmod(length, len(self._pool) * 4)
            chunksize += bool(more)
        chunksize = max(chunksize, 1)
        result = MapResult(self, chunksize, length, callback, error_callback)
        chunks = self._get_tasks(func, items, chunksize)
        for index, chunk in _to_the_end(chunks):
            if isinstance(chunk, BaseException):
                self._tasks.put((result._job, index, _raise, (chunk,), {}))
            else:
                self._tasks.put((result._job, index, mapper, (chunk,), {}))
        return result

    def _imap(
        self,
        results: IMapIterator,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> Iterator[Any]:
        del self._results[results._job]
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        self._results[results._job] = results
        feeder = threading.Thread(
            target=self._feed, args=(results, func, iterable, chunksize), daemon=True
        )
        feeder.start()
        if chunksize == 1:
            return results
        return (item for chunk in results for item in chunk)

    def _feed(
        self,
        results: IMapIterator,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
    ) -> None:
        # A thread of its own: the iterable may wait for results of this very call.
        length = 0
        tasks: Iterable[Any] = iterable
        if chunksize > 1:
            tasks = self._get_tasks(func, iterable, chunksize)
        for index, task in _to_the_end(tasks):
            if self._state == TERMINATE:
                break
            if isinstance(task, BaseException):
                self._tasks.put((results._job, index, _raise, (task,), {}))
            elif chunksize > 1:
                self._tasks.put((results._job, index, mapstar, (task,), {}))
            else:
                self._tasks.put((results._job, index, func, (task,), {}))
            length = index + 1
        results._set_length(length)

    @staticmethod
    def _get_tasks(
        func: Callable[..., Any], it: Iterable[Any], size: int
    ) -> Generator[tuple[Any, tuple[Any, ...]], None, None]:
        items = iter(it)
        while chunk := tuple(itertools.islice(items, size)):
            yield func, chunk

    # --- work done ---

    def _settle(self, job: int, index: int, outcome: tuple[bool, Any]) -> None:
        with self._outcomes:
            result = self._results.get(job)
            if result is not None:
                result._set(index, outcome)

    # --- the end ---

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Take no more tasks; the workers end when all are done."""
        if self._state == RUN:
            self._state = CLOSE
            threading.Thread(target=self._end_when_done, daemon=True).start()

    def _end_when_done(self) -> None:
        while self._results and self._state == CLOSE:
            result = next(iter(list(self._results.values())), None)
            if isinstance(result, ApplyResult):
                result.wait(0.1)
            elif result is not None:
                time.sleep(0.01)
        _release_workers(self._tasks, self._pool)

    def terminate(self) -> None:
        """Drop all tasks that no worker has begun."""
        self._state = TERMINATE
        self._terminate()

    def join(self) -> None:
        """Wait for the workers; after `close` or `terminate`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        for worker in self._pool:
            worker.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, RUN: str = RUN) -> None:  # noqa: N803
        if self._state == RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        kind = type(self)
        size = len(getattr(self, "_pool", ()))
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={size}>"


class ThreadPool(Pool):
    """A pool of threads of this process."""

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        self._begin(processes, initializer, initargs)

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - multiprocessing's name
        """What a worker is."""
        from .dummy import Process

        return Process(*args, **kwds)

    def _fill(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        import weakref

        for _ in range(self._processes):
            worker = self.Process(
                None, target=_work, args=(weakref.ref(self), self._tasks, initializer, initargs)
            )
            worker.name = worker.name.replace("Process", "PoolWorker")
            worker.daemon = True
            worker.start()
            self._pool.append(worker)


def _work(
    pool: Callable[[], Pool | None],
    tasks: queue.SimpleQueue[tuple[Any, ...] | None],
    initializer: Callable[..., object] | None,
    initargs: tuple[Any, ...],
) -> None:
    """A worker's life. It does not keep the pool alive: an abandoned pool ends its workers."""
    broken: BaseException | None = None
    if initializer is not None:
        try:
            initializer(*initargs)
        except BaseException as error:
            broken = error  # every task of this worker says so
    while (task := tasks.get()) is not None:
        job, index, function, args, kwargs = task
        outcome: tuple[bool, Any]
        if broken is not None:
            outcome = (False, broken)
        else:
            try:
                outcome = (True, function(*args, **kwargs))
            except BaseException as error:
                outcome = (False, error)
        owner = pool()
        if owner is None:
            return
        try:
            owner._settle(job, index, outcome)
        except Exception:
            # A callback's error is nobody's result: shown, and the worker works on.
            threading.excepthook(
                threading.ExceptHookArgs((*_current_error(), threading.current_thread()))
            )
        del task, function, args, kwargs, outcome, owner


def _current_error() -> tuple[Any, Any, Any]:
    import sys

    return sys.exc_info()


def _to_the_end(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Items with their numbers; an exception of the iterable is the last item."""
    index = -1
    try:
        for index, item in enumerate(items):
            yield index, item
    except Exception as error:
        yield index + 1, error


def _raise(error: BaseException) -> None:
    raise error


def _release_workers(tasks: queue.SimpleQueue[Any], workers: list[Any]) -> None:
    for _ in workers:
        tasks.put(None)


def _end_workers(tasks: queue.SimpleQueue[Any], workers: list[Any]) -> None:
    try:
        while True:
            tasks.get_nowait()
    except queue.Empty:
        pass
    _release_workers(tasks, workers)


worker = unbuilt(__name__, "worker")
