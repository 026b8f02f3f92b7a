"""`ThreadPool`: its workers are threads of this process, which take tasks from one queue."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Any

from . import util
from ._pool_calls import RUN, TERMINATE
from ._pool_protocol import mapstar, starmapstar
from ._pool_results import ApplyResult, Stream
from .pool import Pool

__all__ = ["ThreadPool"]


class ThreadPool(Pool):
    """A pool of threads of this process."""

    _crosses = False

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        self._begin(processes, initializer, None)
        self._pid = os.getpid()
        self._tasks: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._outcomes = threading.Lock()
        self._threads: list[Any] = []
        self._state = RUN
        self._terminate = util.Finalize(
            self, _end_threads, (self._tasks, self._threads), exitpriority=15
        )
        self._fill(initializer, tuple(initargs))

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - multiprocessing's name
        """What a worker is."""
        from .dummy import Process

        return Process(*args, **kwds)

    @property
    def _pool(self) -> list[Any]:
        return self._threads

    def _fill(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        import weakref

        for _ in range(self._processes):
            worker = self.Process(
                None, target=_work, args=(weakref.ref(self), self._tasks, initializer, initargs)
            )
            worker.name = worker.name.replace("Process", "PoolWorker")
            worker.daemon = True
            worker.start()
            self._threads.append(worker)

    def _submit(
        self,
        result: Any,
        index: int,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        kwds: dict[str, Any],
        timeout: float | None,
        called: str | None = None,
    ) -> None:
        if timeout is not None:
            raise ValueError("a thread cannot be stopped: no timeout for tasks of a ThreadPool")
        self._tasks.put((result._job, index, func, args, kwds))

    def _submit_many(
        self,
        result: Any,
        func: Callable[..., Any],
        items: Any,
        chunksize: int,
        star: bool,
        values: list[Any] | None,
        timeout: float | None,
    ) -> range:
        mapper = starmapstar if star else mapstar
        if values is None and chunksize == 1 and not star:
            for index, item in enumerate(items):
                self._submit(result, index, func, (item,), {}, timeout)
            return range(0)
        for index, chunk in enumerate(self._get_tasks(func, items, chunksize)):
            self._submit(result, index, mapper, (chunk,), {}, timeout)
        return range(0)

    def _capacity(self) -> int:
        return self._processes * 16

    def _cancel(self, result: ApplyResult, running: bool) -> bool:
        # A thread cannot be stopped; what none has begun ends as soon as one comes to it.
        with self._outcomes:
            if result._begun or result.ready():
                return False
            result._cancelled = True
            return True

    def _begins(self, job: int) -> bool:
        with self._outcomes:
            result = self._results.get(job)
            if getattr(result, "_cancelled", False):
                return False
            if isinstance(result, ApplyResult):
                result._begun = True
            return True

    def _attended(self, result: ApplyResult) -> None:
        pass

    def _stand_aside(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError("the pool belongs to the process that made it")

    def _about_to_feed(self) -> None:
        self._stand_aside()

    def _streamed(self, results: Stream, sink: Any) -> None:
        pass

    def _abandon(self, sink: Any) -> None:
        """Nothing: what threads have taken they do."""

    def _refuse(self, result: Any, error: BaseException, index: int = 0) -> None:
        self._tasks.put((result._job, index, _raise, (error,), {}))

    def _settle(self, job: int, index: int, outcome: tuple[bool, Any]) -> None:
        with self._outcomes:
            result = self._results.get(job)
            if result is not None:
                result._set(index, outcome)

    def _end_when_done(self) -> None:
        _release_threads(self._tasks, self._threads)

    def terminate(self) -> None:
        """Drop all tasks that no worker has begun."""
        self._state = TERMINATE
        if self._pid == os.getpid():
            self._stop_feeding()
        self._terminate()

    def _join(self) -> None:
        for worker in self._threads:
            worker.join()

    def share(self, obj: Any) -> Any:
        """The object: threads have it already."""
        return obj

    def stats(self) -> dict[str, Any]:
        """How many tasks wait."""
        return {"waiting": self._tasks.qsize(), "workers": []}


ThreadPool.__module__ = "bequeath.pool"  # where multiprocessing has it


def _work(
    pool: Callable[[], ThreadPool | None],
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
        owner = pool()
        if broken is not None:
            outcome = (False, broken)
        elif owner is not None and not owner._begins(job):
            outcome = (False, _cancelled())
        else:
            del owner
            try:
                outcome = (True, function(*args, **kwargs))
            except BaseException as error:
                outcome = (False, error)
        owner = pool()
        if owner is None:
            return
        try:
            owner._settle(job, index, outcome)
        except BaseException:
            # A callback's error is nobody's result: shown, and the worker works on.
            threading.excepthook(
                threading.ExceptHookArgs((*_current_error(), threading.current_thread()))
            )
        del task, function, args, kwargs, outcome, owner


def _current_error() -> tuple[Any, Any, Any]:
    import sys

    return sys.exc_info()


def _cancelled() -> BaseException:
    from concurrent.futures import CancelledError

    return CancelledError()


def _raise(error: BaseException) -> None:
    raise error


def _release_threads(tasks: queue.SimpleQueue[Any], workers: list[Any]) -> None:
    for _ in workers:
        tasks.put(None)


def _end_threads(tasks: queue.SimpleQueue[Any], workers: list[Any]) -> None:
    try:
        while True:
            tasks.get_nowait()
    except queue.Empty:
        pass
    _release_threads(tasks, workers)
