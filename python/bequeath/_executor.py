"""`ProcessPoolExecutor`: concurrent.futures' interface over the driver of pools.

Loaded when somebody asks for the executor, since it needs `concurrent.futures`. Its futures are
that package's own. What it raises for dead workers is what that package raises, and says more.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import _base
from concurrent.futures._base import CancelledError, Executor, Future
from functools import partial
from typing import TYPE_CHECKING, Any, SupportsIndex

from . import _engine, _settings, exceptions
from ._pool_driver import Driver, Errors, in_short
from ._remote_traceback import RemoteTraceback

if TYPE_CHECKING:
    from ._pool_guests import Door

__all__ = ["ProcessPoolExecutor"]

#: Drivers that have not ended. Executors may be forgotten before that.
_drivers: dict[object, Driver] = {}
_interpreter_ends = False


def _finish_all() -> None:
    """At the interpreter's end, before its threads are joined: what was submitted is done."""
    global _interpreter_ends
    _interpreter_ends = True
    mine = [driver for driver in _drivers.values() if driver.engine.is_home()]
    for driver in mine:
        driver.close()
    for driver in mine:
        driver.join()


threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


class _Errors(Errors):
    """What concurrent.futures has for the ends of tasks."""

    def died(self, facts: dict[str, Any]) -> BaseException:
        _derive()
        error = super().died(facts)
        error.__cause__ = _abrupt_end(facts)
        return error

    def broken(
        self, reason: str, cause: BaseException | None, facts: dict[str, Any]
    ) -> BaseException:
        _derive()
        return super().broken(reason, cause or _abrupt_end(facts), facts)

    def timed_out(self, seconds: float, task: tuple[Any, ...]) -> BaseException:
        return _base.TimeoutError(f"{in_short(*task)} took longer than {seconds:g} s")

    def cancelled(self) -> BaseException:
        return CancelledError()

    def terminated(self) -> BaseException:
        _derive()
        return exceptions.PoolBroken("the workers were ended before the task was done")


def _abrupt_end(facts: dict[str, Any]) -> RemoteTraceback | None:
    """The cause that the standard executor gives since 3.14, where a process ended of itself."""
    process, exitcode = facts.get("process"), facts.get("exitcode")
    if process is None or not exitcode:
        return None
    ended = f"Process {process.pid} terminated abruptly with exit code {exitcode}"
    return RemoteTraceback(f'\n"""\n{ended}"""')


def _derive() -> None:
    """Let our exceptions be `BrokenProcessPool`, once the program has loaded the module of that."""
    theirs = sys.modules.get("concurrent.futures.process")
    base = getattr(theirs, "BrokenProcessPool", _base.BrokenExecutor)
    for kind in (exceptions.WorkerDied, exceptions.PoolBroken):
        if kind.__bases__ != (base,):
            kind.__bases__ = (base,)


def _as_theirs(error: BaseException) -> BaseException:
    """The text of the worker's traceback, in the standard executor's class where that is loaded."""
    theirs = sys.modules.get("concurrent.futures.process")
    kind = getattr(theirs, "_RemoteTraceback", None)
    at: BaseException | None = error
    seen = set()
    while kind is not None and at is not None and id(at) not in seen:
        seen.add(id(at))
        cause = at.__cause__
        if type(cause) is RemoteTraceback:
            quiet = at.__suppress_context__
            BaseException.__dict__["__cause__"].__set__(at, kind(cause.tb))
            BaseException.__dict__["__suppress_context__"].__set__(at, quiet)
            break
        at = cause
    return error


class _Call:
    """One call that was submitted; what the driver tells goes to its future."""

    __slots__ = ("future", "open", "task")

    def __init__(self, future: Future[Any], open: dict[int, Any]) -> None:
        self.future, self.open = future, open
        self.task: int | None = None

    def _begin(self, index: int) -> bool:
        if self.future.running():
            return True  # taken back from a worker that was busy
        wanted = self.future.set_running_or_notify_cancel()
        if not wanted:
            self.open.pop(index, None)
        return wanted

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        self.open.pop(index, None)
        success, value = outcome
        future = self.future
        if success:
            future.set_result(value)
        elif isinstance(value, CancelledError) and not future.running():
            if future.cancel():
                future.set_running_or_notify_cancel()
        else:
            if type(value).__name__ == "MaybeEncodingError" and value.__cause__ is not None:
                value = value.__cause__  # Pool's word for it
            future.set_exception(_as_theirs(value))


class _Map:
    """The results of one `map`, in order, each when it is there."""

    def __init__(self, open: dict[int, Any], number: int) -> None:
        self.open, self.number = open, number
        self._job = number
        self.there = threading.Condition()
        self.outcomes: dict[int, tuple[bool, Any]] = {}
        self.tasks = range(0)

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        with self.there:
            self.outcomes[index] = outcome
            self.there.notify_all()

    def results(self, driver: Driver, single: bool, end: float | None) -> Iterator[Any]:
        """What `map` returns: cancels what is left when it is closed or raises."""
        following = 0
        try:
            while following < len(self.tasks):
                with self.there:
                    left = None if end is None else end - time.monotonic()
                    if not self.there.wait_for(
                        partial(self.outcomes.__contains__, following), left
                    ):
                        raise _base.TimeoutError
                    success, value = self.outcomes.pop(following)
                following += 1
                if not success:
                    raise _as_theirs(value)
                values = [value] if single else value
                del value
                values.reverse()
                # A result that was handed out is not held here.
                while values:
                    yield values.pop()
        finally:
            self.open.pop(self.number, None)
            for task in self.tasks[following:]:
                driver.cancel(task)

    def cancel(self, driver: Driver) -> None:
        for task in self.tasks:
            driver.cancel(task)


class _Calls:
    """The way of calls to the workers, as far as programs look at the standard executor's."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def join_thread(self) -> None:
        """Wait for the thread that sends them, after the shutdown."""
        self._driver.join()


class ProcessPoolExecutor(Executor):
    """concurrent.futures' executor, whose tasks do not perish with a worker that runs another one.

    Beyond the standard one: a worker that dies costs the task in its hands, whose error is
    `WorkerDied` (a `BrokenProcessPool`); `on_death="retry"` tries that one again, at most `retries`
    times, and "break" ends all, as the standard one does. `timeout` is what each task may take once
    a worker has begun it; then, and after `interrupt()`, the worker is interrupted, after
    `terminate_after` seconds terminated, `kill_after` later killed.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        on_death: str = "fail",
        retries: int = 2,
        timeout: float | None = None,
        terminate_after: float = 2.0,
        kill_after: float = 2.0,
    ) -> None:
        if max_workers is None:
            max_workers = _engine.usable_processors()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        context = _context(mp_context, max_tasks_per_child)
        _check_tasks(max_tasks_per_child, context)
        _derive()
        self._max_workers = max_workers
        self._mp_context = context
        self._timeout = timeout
        self._shutdown_lock = threading.Lock()
        self._door: Door | None = None
        self._door_lock = threading.Lock()
        self._tries = 1 + retries if on_death == "retry" else 1
        self._shutdown_thread = False
        #: Calls and maps that are not done, by number: calls by their own, maps by a negative one.
        self._open: dict[int, Any] = {}
        self._numbers = itertools.count(1)
        self._arguments: dict[str, Any] = dict(
            initializer=None if initializer is None else _initialize,
            initargs=(initializer, initargs),
            max_tasks=max_tasks_per_child,
            on_death=on_death,
            retries=retries,
            terminate_after=terminate_after,
            kill_after=kill_after,
            # Forked ones all at once: later there are more threads, whose locks a fork copies.
            on_demand=context.get_start_method() != "fork",
            daemon=False,
            name="Process",
            errors=_Errors(),
            process=partial(context.Process, on_parent_death="terminate"),
        )
        self._started: Driver | None = None
        if on_death not in ("fail", "retry", "break"):
            raise ValueError(f"on_death must be 'fail', 'retry' or 'break', not {on_death!r}")

    # --- asking for work ---

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the function in a worker; a future of its result."""
        return self._schedule(fn, args, kwargs, self._timeout)

    def schedule(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        timeout: float | None = None,
    ) -> Future[Any]:
        """`submit` with a timeout for this call: so long it may take once a worker has begun it."""
        return self._schedule(fn, args, kwargs or {}, timeout)

    def _schedule(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any],
        kwargs: dict[str, Any],
        timeout: float | None,
        called: str | None = None,
    ) -> Future[Any]:
        future: Future[Any] = Future()
        call = _Call(future, self._open)
        with self._shutdown_lock:
            driver = self._driver()
            number = next(self._numbers)
            self._open[number] = call
            try:
                call.task = driver.submit(call, number, fn, tuple(args), kwargs, timeout, called)
            except Exception as error:
                self._open.pop(number, None)
                if not driver.is_running():
                    raise self._refusal(driver) from None
                # What cannot be pickled is the future's error, as in the standard executor.
                future.set_running_or_notify_cancel()
                future.set_exception(error)
        return future

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Any = None,
    ) -> Iterator[Any]:
        """The results of `map(fn, *iterables)`, computed by workers, in order.

        `progress` shows a bar, as Pool's do.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        end = None if timeout is None else timeout + time.monotonic()
        shows = progress is not None and progress is not False
        if buffersize is not None or type(self).submit is not ProcessPoolExecutor.submit:
            bar = _bar(progress, fn, iterables) if shows else None
            return self._map_bounded(fn, iterables, end, chunksize, buffersize, bar)
        single = len(iterables) == 1
        items: Any = list(iterables[0]) if single else list(zip(*iterables, strict=False))
        number = -next(self._numbers)
        work = _Map(self._open, number)
        sink: Any = work
        if shows and items:
            from ._progress import Bar, Shown

            name = getattr(fn, "__name__", "tasks")
            sink = Shown(work, Bar(progress, len(items), name), len(items), chunksize, False)
        with self._shutdown_lock:
            driver = self._driver()
            if items:
                limit = None if self._timeout is None else self._timeout * chunksize
                first, count = driver.submit_many(
                    sink, fn, items, chunksize, not single, None, limit
                )
                work.tasks = range(first, first + count)
                self._open[number] = work
        return work.results(driver, single and chunksize == 1, end)

    def _map_bounded(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        end: float | None,
        chunksize: int,
        buffersize: int | None,
        bar: Any,
    ) -> Iterator[Any]:
        """`map` that reads so many chunks ahead of the results that were asked for."""
        calls = zip(*iterables, strict=False)
        chunks = enumerate(iter(lambda: list(itertools.islice(calls, chunksize)), []))
        ahead = chunks if buffersize is None else itertools.islice(chunks, buffersize)
        waiting = deque(self._submit_chunk(fn, chunk, n * chunksize) for n, chunk in ahead)
        # Forgotten results are to be no reason to keep the executor.
        me = weakref.ref(self)

        def results() -> Iterator[Any]:
            try:
                while waiting:
                    executor = me()
                    if buffersize is not None and executor is not None:
                        waiting.extend(
                            executor._submit_chunk(fn, chunk, n * chunksize)
                            for n, chunk in itertools.islice(chunks, 1)
                        )
                    del executor
                    future = waiting.popleft()
                    try:
                        left = None if end is None else end - time.monotonic()
                        values = future.result(left)
                        if bar is not None:
                            bar.step(len(values))
                        yield from values
                    finally:
                        future.cancel()
            finally:
                for future in waiting:
                    future.cancel()
                if bar is not None:
                    bar.close()

        return results()

    def _submit_chunk(
        self, fn: Callable[..., Any], chunk: list[tuple[Any, ...]], first: int
    ) -> Future[Any]:
        if type(self).submit is not ProcessPoolExecutor.submit:
            return self.submit(_run_chunk, fn, chunk)
        called = f"(function, (function, iterable[{first}:]), kwargs)"
        return self._schedule(_run_chunk, (fn, chunk), {}, self._timeout, called)

    def interrupt(self, future: Future[Any]) -> bool:
        """Stop a call, also one that a worker is at: by SIGINT, then SIGTERM, then SIGKILL.

        Whether it could be; its future then ends with `CancelledError`.
        """
        if future.cancel():
            return True
        driver = self._started
        for call in list(self._open.values()):
            if isinstance(call, _Call) and call.future is future and call.task is not None:
                return driver is not None and driver.cancel(call.task, running=True)
        return False

    # --- workers ---

    def _driver(self) -> Driver:
        """The driver, made with the first task. With the lock held."""
        if self._shutdown_thread:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if _interpreter_ends:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        driver = self._started
        if driver is None:
            key = object()
            finished = partial(_drivers.pop, key, None)
            driver = Driver(
                self._mp_context, self._max_workers, finished=finished, **self._arguments
            )
            self._started = driver
            _drivers[key] = driver
            if driver.join(0):
                finished()  # it could not wait
            # Forgotten, it does what was submitted, and ends.
            weakref.finalize(self, _close, weakref.ref(driver)).atexit = False
        elif not driver.is_running():
            raise self._refusal(driver)
        return driver

    def _refusal(self, driver: Driver) -> BaseException:
        _derive()
        broken = driver.broken
        if broken is None:
            return exceptions.PoolBroken("the workers were ended; the executor takes no more tasks")
        error = exceptions.PoolBroken(*broken.args)
        error.__cause__ = broken.__cause__
        return error

    @property
    def _broken(self) -> BaseException | None:
        return None if self._started is None else self._started.broken

    @property
    def _processes(self) -> dict[int, Any] | None:
        """The workers' processes by pid; None after shutdown."""
        if self._started is None:
            return None if self._shutdown_thread else {}
        return {process.pid: process for process in self._started.processes()}

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:
        return None if self._started is None else self._started.thread

    @property
    def _call_queue(self) -> _Calls | None:
        return None if self._started is None else _Calls(self._started)

    def stats(self) -> dict[str, Any]:
        """What each worker has done and spent, and how many tasks wait."""
        return {"waiting": 0, "workers": []} if self._started is None else self._started.stats()

    # --- other processes ---

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        if not _engine.transfer_active() or _settings.is_strict():
            return super().__reduce_ex__(protocol)
        from ._executor_handle import ExecutorHandle

        return ExecutorHandle, (self._open_door(), self._timeout)

    def _bequeath_handle(self) -> ProcessPoolExecutor:
        """What a forked child has in the place of the executor."""
        from ._executor_handle import ExecutorHandle

        return self if self._shutdown_thread else ExecutorHandle(self._open_door(), self._timeout)

    def _open_door(self) -> Door:
        from ._pool_guests import door_of

        with self._door_lock:
            if self._door is None:
                self._door = door_of(self, self._max_workers, self._tries)
            return self._door

    def _driver_for_guests(self) -> Driver:
        with self._shutdown_lock:
            return self._driver()

    # --- the end ---

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; the workers end when all are done."""
        with self._shutdown_lock:
            self._shutdown_thread = True
            driver = self._started
        if driver is None:
            return
        if cancel_futures:
            self._cancel_open(driver)
        driver.close()
        if wait:
            driver.join()
            self._started = None

    def _cancel_open(self, driver: Driver) -> None:
        for call in list(self._open.values()):
            if isinstance(call, _Map):
                call.cancel(driver)
            elif call.future.cancel() and call.task is not None:
                driver.cancel(call.task)

    def terminate_workers(self) -> None:
        """End the workers by SIGTERM, and with them what they are at; the executor is shut down."""
        self._force_shutdown(operation="terminate")

    def kill_workers(self) -> None:
        """The same with SIGKILL."""
        self._force_shutdown(operation="kill")

    def _force_shutdown(self, operation: str) -> None:
        """What both do; of this name because subclasses of the standard executor's replace it."""
        if operation not in ("terminate", "kill"):
            raise ValueError(f"Unsupported operation: {operation!r}")
        driver = self._started
        self.shutdown(wait=False, cancel_futures=True)
        if driver is not None:
            getattr(driver, operation)()


ProcessPoolExecutor.__module__ = "bequeath"


def _close(driver: Callable[[], Driver | None]) -> None:
    found = driver()
    if found is not None:
        found.close()


def _initialize(initializer: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    try:
        initializer(*arguments)
    except BaseException:
        _base.LOGGER.critical("Exception in initializer:", exc_info=True)
        raise


def _run_chunk(fn: Callable[..., Any], chunk: list[tuple[Any, ...]]) -> list[Any]:
    return [fn(*arguments) for arguments in chunk]


def _bar(progress: Any, fn: Callable[..., Any], iterables: tuple[Any, ...]) -> Any:
    from ._progress import Bar

    known = [len(one) for one in iterables if hasattr(one, "__len__")]
    total = min(known) if len(known) == len(iterables) else None
    return Bar(progress, total, getattr(fn, "__name__", "tasks"))


def _context(given: Any, max_tasks: int | None) -> Any:
    """The context of ours for a context, whoever's it is."""
    from . import context

    if given is None:
        method = "spawn" if max_tasks is not None else None
        return context._default_context.get_context(method)
    if isinstance(given, context.BaseContext) and type(given).__module__.startswith("bequeath"):
        return given.get_context()
    return context._default_context.get_context(given.get_start_method())


def _check_tasks(max_tasks: Any, context: Any) -> None:
    if max_tasks is None:
        return
    if not isinstance(max_tasks, int):
        raise TypeError("max_tasks_per_child must be an integer")
    if max_tasks <= 0:
        raise ValueError("max_tasks_per_child must be >= 1")
    if context.get_start_method(allow_none=False) == "fork":
        raise ValueError(
            "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
            "supply a different mp_context."
        )
