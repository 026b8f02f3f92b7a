"""Pools of workers: processes, or threads of this one.

Both have one interface. A call becomes tasks, one or one per chunk of elements, and a result object
that the caller holds. Who works on what is the driver's affair (`_pool_driver`), which is native;
in a pool of threads, the workers take tasks from one queue.
"""

from __future__ import annotations

import functools
import itertools
import os
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _settings, util
from ._engine import transfer_active, usable_processors
from ._pool_results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    Stream,
)
from ._pool_results import AsyncResult as AsyncResult
from ._pool_results import job_counter as job_counter
from ._remote_traceback import RemoteTraceback as RemoteTraceback
from .exceptions import TimeoutError as TimeoutError

if TYPE_CHECKING:
    from ._pool_guests import Door

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
        self.exc = _shown(exc)
        self.value = _shown(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except BaseException:
        # What is wrong with this one shall not be its worker's end.
        return object.__repr__(value)


# --- pools ---


class Pool:
    """A pool of processes.

    Beyond multiprocessing's: a worker that dies costs the task in its hands, whose error is
    `WorkerDied`; with `on_death="retry"` it is tried again at most `retries` times, with "break"
    all ends. `timeout` of a call is what each task may take once a worker has begun it; then the
    worker is interrupted, after `terminate_after` seconds terminated, `kill_after` later killed.

    In a forked child, what asks the pool for something raises `RuntimeError`; `terminate` and the
    end of a `with` block do nothing there.
    """

    _state = INIT
    #: Other processes may have a handle of it.
    _crosses = True
    _door: Door | None = None
    #: How often a task may be given to a worker.
    _tries = 1

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        on_death: str = "fail",
        retries: int = 2,
        terminate_after: float = 2.0,
        kill_after: float = 2.0,
    ) -> None:
        from ._pool_driver import Driver

        if context is None:
            from .context import _default_context

            context = _default_context.get_context()
        self._ctx = context
        self._begin(processes, initializer, maxtasksperchild)
        if on_death == "retry":
            self._tries += retries
        self._driver: Any = Driver(
            context,
            self._processes,
            initializer,
            initargs,
            max_tasks=maxtasksperchild,
            on_death=on_death,
            retries=retries,
            terminate_after=terminate_after,
            kill_after=kill_after,
            process=functools.partial(type(self).Process, context),
        )
        self._state = RUN

    @staticmethod
    def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802 - multiprocessing's name
        """What a worker is."""
        return ctx.Process(*args, **kwds)

    def _begin(
        self,
        processes: int | None,
        initializer: Callable[..., object] | None,
        maxtasksperchild: int | None,
    ) -> None:
        if processes is None:
            processes = usable_processors()
        if processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (
            not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0
        ):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._processes = processes
        self._results: dict[int, Any] = {}
        #: Threads that read the iterables of `imap`, and whoever closes the pool, take turns.
        self._feeding = threading.Condition()
        self._fed: set[Stream] = set()

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes."""
        return self._driver.processes()

    def _repopulate_pool(self) -> None:
        """Nothing: who is missing is replaced when that is seen."""

    # --- asking for work ---

    def apply(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] = {},  # noqa: B006
        *,
        timeout: float | None = None,
    ) -> Any:
        """Call the function in a worker; its result."""
        return self._waited(self._apply_async, func, args, kwds, None, None, timeout)

    def map(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Any = None,
    ) -> list[Any]:
        """Call the function for each item; the results in order."""
        arguments = (func, iterable, False, chunksize, None, None, timeout, progress)
        return self._waited(self._map_async, *arguments)  # type: ignore[no-any-return]

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        timeout: float | None = None,
        progress: Any = None,
    ) -> list[Any]:
        """`map` for items that are tuples of arguments."""
        arguments = (func, iterable, True, chunksize, None, None, timeout, progress)
        return self._waited(self._map_async, *arguments)  # type: ignore[no-any-return]

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] = {},  # noqa: B006
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
    ) -> ApplyResult:
        """`apply` without waiting."""
        return self._apply_async(func, args, kwds, callback, error_callback, timeout, [])

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        progress: Any = None,
    ) -> MapResult:
        """`map` without waiting."""
        return self._map_async(
            func, iterable, False, chunksize, callback, error_callback, timeout, progress, []
        )

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[list[Any]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
        *,
        timeout: float | None = None,
        progress: Any = None,
    ) -> MapResult:
        """`starmap` without waiting."""
        return self._map_async(
            func, iterable, True, chunksize, callback, error_callback, timeout, progress, []
        )

    def imap(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        timeout: float | None = None,
        progress: Any = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results one after the other, in order.

        An iterable that is no list, tuple or range is read as workers and whoever takes results
        need it; `buffersize` says how many chunks there may be whose results are not taken. Once
        results were asked for, or with `buffersize`, it is read no further when what is returned
        here is forgotten.
        """
        return self._imap(IMapIterator, func, iterable, chunksize, timeout, progress, buffersize)

    def imap_unordered(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        timeout: float | None = None,
        progress: Any = None,
        buffersize: int | None = None,
    ) -> Iterator[Any]:
        """The results as they come."""
        return self._imap(
            IMapUnorderedIterator, func, iterable, chunksize, timeout, progress, buffersize
        )

    def _apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwds: dict[str, Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        timeout: float | None,
        begun: list[Any],
    ) -> ApplyResult:
        self._check_running()
        result = ApplyResult(self, callback, error_callback)
        begun.append(result)
        self._attended(result)
        self._submit(result, 0, func, tuple(args), dict(kwds), timeout)
        return result

    def _map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        star: bool,
        chunksize: int | None,
        callback: Callable[[list[Any]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        timeout: float | None,
        progress: Any,
        begun: list[Any],
    ) -> MapResult:
        self._check_running()
        failure: BaseException | None = None
        items: Any = iterable
        if not hasattr(iterable, "__len__"):
            items = list(iterable)
        elif type(iterable) not in _SEQUENCES:
            # What says its length may still raise when it is read: that is the result.
            items, failure = _read(iterable)
        length = len(items)
        if failure is not None:
            result = MapResult(self, 1, 1, callback, error_callback)
            self._refuse(result, failure)
            return result
        if chunksize is None and timeout is not None:
            chunksize = 1
        if chunksize is None:
            chunksize, more = divmod(length, self._processes * 4)
            chunksize += bool(more)
        chunksize = max(chunksize, 1)
        result = MapResult(self, chunksize, length, callback, error_callback)
        if length and _wanted(progress):
            bare = chunksize == 1 and not star
            shown = self._shown(result, func, length, chunksize, progress, bare)
            begun.append(shown)
            result._tasks = self._submit_many(shown, func, items, chunksize, star, None, timeout)
        elif length:
            begun.append(result)
            self._attended(result)
            values = result._value
            result._tasks = self._submit_many(result, func, items, chunksize, star, values, timeout)
        return result

    def _shown(
        self,
        results: Any,
        func: Callable[..., Any],
        length: int | None,
        chunksize: int,
        progress: Any,
        bare: bool = False,
    ) -> Any:
        """Results that are shown by a bar as they come."""
        from ._progress import Bar, Shown

        try:
            bar = Bar(progress, length, getattr(func, "__name__", "tasks"))
        except BaseException:
            self._results.pop(results._job, None)
            raise
        shown = Shown(results, bar, length, chunksize, bare)
        self._results[results._job] = shown
        return shown

    def _imap(
        self,
        kind: type[IMapIterator],
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        timeout: float | None,
        progress: Any,
        buffersize: int | None,
    ) -> Iterator[Any]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        taken = kind(self)
        results = taken._stream
        sink: Any = results
        if _wanted(progress):
            sized: Any = iterable
            known = len(sized) if hasattr(sized, "__len__") else None
            sink = self._shown(results, func, known, chunksize, progress)
        else:
            self._streamed(results)
        if type(iterable) in _SEQUENCES and buffersize is None:
            length = len(iterable)  # type: ignore[arg-type]
            if length:
                items = list(iterable) if type(iterable) is list else iterable
                self._submit_many(sink, func, items, chunksize, False, None, timeout)
            sink._set_length(-(-length // chunksize))
        else:
            self._about_to_feed()
            with self._feeding:
                self._fed.add(results)
            threading.Thread(
                target=self._feed,
                args=(results, sink, func, iterable, chunksize, timeout, buffersize),
                name="bequeath pool imap",
                daemon=True,
            ).start()
        if chunksize == 1:
            return taken
        return (item for chunk in taken for item in chunk)

    def _feed(
        self,
        results: Stream,
        sink: Any,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        timeout: float | None,
        buffersize: int | None,
    ) -> None:
        # A thread of its own: the iterable may wait for results of this very call.
        length = room = 0
        try:
            tasks: Iterable[Any] = iterable
            if chunksize > 1:
                tasks = self._get_tasks(func, iterable, chunksize)
            source = _to_the_end(tasks)
            while True:
                # First the room, then the element: an input may be larger than memory.
                room = room or results._wait_for_room(length, self._capacity(), buffersize)
                found = next(source, None) if room else None
                if found is None or self._state == TERMINATE:
                    break
                index, task = found
                length, room = index + 1, room - 1
                if isinstance(task, _Raised):
                    self._refuse(sink, task.error, index)
                elif chunksize > 1:
                    called = f"(function, ((function, iterable[{index * chunksize}:]),), kwargs)"
                    self._submit(sink, index, mapstar, (task,), {}, timeout, called)
                else:
                    called = f"(function, (iterable[{index}],), kwargs)"
                    self._submit(sink, index, func, (task,), {}, timeout, called)
        finally:
            sink._set_length(length)
            with self._feeding:
                self._fed.discard(results)
                if not self._fed:
                    self._feeding.notify_all()
                    if self._state == CLOSE:
                        self._end_when_done()

    @staticmethod
    def _get_tasks(
        func: Callable[..., Any], it: Iterable[Any], size: int
    ) -> Generator[tuple[Any, tuple[Any, ...]], None, None]:
        items = iter(it)
        while chunk := tuple(itertools.islice(items, size)):
            yield func, chunk

    # --- how work gets to the workers ---

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
        try:
            first = self._driver.submit(result, index, func, args, kwds, timeout, called)
            result._tasks = range(first, first + 1)
        except Exception as error:
            # What cannot be pickled is the task's error, as in multiprocessing.
            self._refuse(result, error, index)
        except BaseException:
            self._abandon(result)
            raise

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
        limit = None if timeout is None else timeout * chunksize
        submit = self._driver.submit_many
        try:
            first, count = submit(result, func, items, chunksize, star, values, limit)
        except BaseException:
            self._abandon(result)
            raise
        return range(first, first + count)

    def _capacity(self) -> int:
        """How many tasks keep the workers busy."""
        return self._driver.engine.capacity()

    def _cancel(self, result: ApplyResult, running: bool) -> bool:
        cancelled = [self._driver.cancel(task, running) for task in reversed(result._tasks)]
        return any(cancelled)

    def _attended(self, result: ApplyResult) -> None:
        """Who waits for it may hear the workers meanwhile."""
        result._attend_by(self._driver.attend_for)

    def _stand_aside(self) -> None:
        """This thread is about to wait for what others do."""
        self._driver.engine.stand_aside()

    def _about_to_feed(self) -> None:
        """What would keep another thread from handing tasks over is raised here."""
        self._stand_aside()
        if util.is_exiting() and not self._driver.is_running():
            raise ValueError("Pool not running")

    def _streamed(self, results: Stream) -> None:
        """The same for one who takes results as they come."""
        results._attend_by(self._driver.engine)

    def _waited(self, ask: Callable[..., ApplyResult], *arguments: Any) -> Any:
        """What a call that waits returns; interrupted at any moment, it leaves no tasks behind."""
        begun: list[Any] = []
        try:
            return ask(*arguments, begun).get()
        except KeyboardInterrupt:
            for sink in begun:
                self._abandon(sink)
            raise

    def _abandon(self, sink: Any) -> None:
        """Nobody will ask for these results any more."""
        self._driver.cancel_all(sink)

    def _refuse(self, result: Any, error: BaseException, index: int = 0) -> None:
        self._driver.refuse(result, index, error)

    # --- the end ---

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Take no more tasks; the workers end when all are done."""
        if self._state == RUN:
            self._stand_aside()
            with self._feeding:
                self._state = CLOSE
                if not self._fed:
                    self._end_when_done()

    def _end_when_done(self) -> None:
        self._driver.close()

    def terminate(self) -> None:
        """Drop all tasks, end the workers, and wait for that."""
        self._state = TERMINATE
        if not self._driver.engine.is_home():
            return  # a forked child's copy: the workers are its parent's
        self._stop_feeding()
        self._driver.terminate()
        if threading.current_thread() is not self._driver.thread:
            self._driver.join()

    def _stop_feeding(self) -> None:
        with self._feeding:
            fed = list(self._fed)
        for results in fed:
            results._stop_feeding()

    def join(self) -> None:
        """Wait for the workers; after `close` or `terminate`."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        with self._feeding:
            fed = list(self._fed)
        for results in fed:
            results._lift_bound()  # nobody takes results meanwhile
        self._join()

    def _join(self) -> None:
        self._driver.join()

    def share(self, obj: Any) -> Any:
        """What stands for a large object in the arguments of many tasks.

        Each worker is sent the object once, when a task first names it, and keeps it as long as
        what is returned here lives; the tasks get the object itself.
        """
        return self._driver.share(obj)

    def stats(self) -> dict[str, Any]:
        """What each worker has done and spent, and how many tasks wait."""
        return self._driver.stats()

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
        if not self._crosses or not transfer_active() or _settings.is_strict():
            raise NotImplementedError("pool objects cannot be passed between processes or pickled")
        return PoolHandle, (self._open_door(),)

    def _bequeath_handle(self) -> Pool:
        """What a forked child has in the place of the pool."""
        return PoolHandle(self._open_door()) if self._crosses and self._state == RUN else self

    def _open_door(self) -> Door:
        from ._pool_guests import door_of

        with self._feeding:
            if self._door is None:
                self._door = door_of(self, self._processes, self._tries)
            return self._door

    def _driver_for_guests(self) -> Any:
        self._check_running()
        return self._driver

    def __repr__(self) -> str:
        kind = type(self)
        size = getattr(self, "_processes", 0)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={size}>"


class PoolHandle(Pool):
    """A pool of another process, as it arrives in a message or among a start's arguments.

    Calls are those of `Pool`. The pool belongs to who made it: only there it is closed, and its end
    is that of all calls that wait here; where its process dies their error is `PoolBroken`.
    """

    def __init__(self, door: Door) -> None:
        self._begin(door.processes, None, None)
        self._door: Door = door
        self._client: Any = None
        self._state = RUN

    @property
    def _driver(self) -> Any:
        from ._pool_guests import client_of

        self._client = client_of(self._door, self._client)
        return self._client

    @property
    def _pool(self) -> list[Any]:
        return []

    def _open_door(self) -> Door:
        return self._door

    def _bequeath_handle(self) -> Pool:
        return self

    def _capacity(self) -> int:
        return self._processes * 16

    def _imap(self, results: IMapIterator, func: Any, iterable: Any, *rest: Any) -> Iterator[Any]:
        # Read as workers need it: each call that is open has memory of its own.
        items = _Read(iterable) if type(iterable) in _SEQUENCES else iterable
        return super()._imap(results, func, items, *rest)

    def _attended(self, result: ApplyResult) -> None:
        pass

    def _stand_aside(self) -> None:
        pass

    def _streamed(self, results: IMapIterator) -> None:
        pass

    @staticmethod
    def _not_here(what: str) -> RuntimeError:
        from ._pool_guests import not_here

        return not_here(what)

    def close(self) -> None:
        """Refused: others use the pool."""
        raise self._not_here("close")

    def terminate(self) -> None:
        """Refused: others use the pool."""
        raise self._not_here("terminate")

    def join(self) -> None:
        """Refused: the workers are another process's."""
        raise self._not_here("join")

    def share(self, obj: Any) -> Any:
        """The object: it goes along with each call that names it."""
        return obj

    def stats(self) -> dict[str, Any]:
        """Refused: the workers are another process's."""
        raise self._not_here("stats")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Nothing: the pool goes on."""

    def __del__(self, *_: Any) -> None:
        """Nothing: the pool goes on."""


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

    def _streamed(self, results: Stream) -> None:
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


#: What is handed to the driver as it is: their elements are read whenever, by nobody's code.
_SEQUENCES = (list, tuple, range)


def _wanted(progress: Any) -> bool:
    return progress is not None and progress is not False  # a tqdm bar has no truth


class _Read:
    """A sequence that is not handed over whole."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)


class _Raised:
    """What an iterable raised, in the place of its next element."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _read(iterable: Iterable[Any]) -> tuple[list[Any], BaseException | None]:
    items: list[Any] = []
    try:
        items.extend(iterable)
    except Exception as error:
        return items, error
    return items, None


def _to_the_end(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Items with their numbers; an exception of the iterable is the last item."""
    index = -1
    try:
        for index, item in enumerate(items):
            yield index, item
    except Exception as error:
        yield index + 1, _Raised(error)


# --- threads ---


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


# --- multiprocessing's worker, for programs that run one themselves ---


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """Do tasks from one queue, (job, index, function, args, kwds) or None, into another."""
    if maxtasks is not None and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    if initializer is not None:
        initializer(*initargs)
    for _ in itertools.count() if maxtasks is None else range(maxtasks):
        try:
            task = inqueue.get()
        except (EOFError, OSError):
            return
        if task is None:
            return
        job, index, function, args, kwds = task
        result: tuple[bool, Any]
        try:
            result = (True, function(*args, **kwds))
        except Exception as error:
            wrapped = ExceptionWithTraceback(error, error.__traceback__)
            result = (False, wrapped if wrap_exception else error)
        try:
            outqueue.put((job, index, result))
        except Exception as error:
            outqueue.put((job, index, (False, MaybeEncodingError(error, result[1]))))
