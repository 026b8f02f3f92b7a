"""Pools of workers: processes, or threads of this one.

Both have one interface, `_pool_calls`. Here is the pool of processes, whose driver (`_pool_driver`)
is native, and what stands for one in other processes; `_thread_pool` is the other.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _settings, util
from ._engine import transfer_active
from ._pool_calls import CLOSE as CLOSE
from ._pool_calls import INIT as INIT
from ._pool_calls import RUN as RUN
from ._pool_calls import TERMINATE as TERMINATE
from ._pool_calls import Calls
from ._pool_protocol import ExceptionWithTraceback as ExceptionWithTraceback
from ._pool_protocol import MaybeEncodingError as MaybeEncodingError
from ._pool_protocol import mapstar as mapstar
from ._pool_protocol import rebuild_exc as rebuild_exc
from ._pool_protocol import starmapstar as starmapstar
from ._pool_protocol import worker as worker
from ._pool_results import ApplyResult, IMapIterator, IMapUnorderedIterator, MapResult, Stream
from ._pool_results import AsyncResult as AsyncResult
from ._pool_results import job_counter as job_counter
from ._remote_traceback import RemoteTraceback as RemoteTraceback
from .exceptions import TimeoutError as TimeoutError

if TYPE_CHECKING:
    from ._pool_guests import Door
    from ._thread_pool import ThreadPool as ThreadPool

__all__ = ["Pool", "ThreadPool"]

for _class in (ApplyResult, MapResult, IMapIterator, IMapUnorderedIterator):
    _class.__module__ = __name__  # where multiprocessing has them
del _class

#: Why a pool is refused, and what works.
NO_DESTINATION = (
    "bytes have no destination. As an argument of a bequeath Process, in a bequeath queue or "
    "connection, and in its own tasks, a pool arrives as a handle that submits to it"
)
STAYS = (
    "its workers are threads of this process. Make a ThreadPool there, or use a Pool, of "
    "which a handle arrives"
)


def __getattr__(name: str) -> Any:
    if name == "ThreadPool":  # derived from the class here
        from ._thread_pool import ThreadPool

        globals()[name] = ThreadPool
        return ThreadPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class Pool(Calls):
    """A pool of processes.

    Beyond multiprocessing's: a worker that dies costs the task in its hands, whose error is
    `WorkerDied`; with `on_death="retry"` it is tried again at most `retries` times, with "break"
    all ends. `timeout` of a call is what each task may take once a worker has begun it; then the
    worker is interrupted, after `terminate_after` seconds terminated, `kill_after` later killed.

    In a forked child, what asks the pool for something raises `RuntimeError`; `terminate` and the
    end of a `with` block do nothing there.
    """

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

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes."""
        processes: list[Any] = self._driver.processes()
        return processes

    def _repopulate_pool(self) -> None:
        """Nothing: who is missing is replaced when that is seen."""

    def share(self, obj: Any) -> Any:
        """What stands for a large object in the arguments of many tasks.

        Each worker is sent the object once, when a task first names it, and keeps it as long as
        what is returned here lives; the tasks get the object itself.
        """
        return self._driver.share(obj)

    def stats(self) -> dict[str, Any]:
        """What each worker has done and spent, and how many tasks wait."""
        stats: dict[str, Any] = self._driver.stats()
        return stats

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
        capacity: int = self._driver.engine.capacity()
        return capacity

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

    def _streamed(self, results: Stream, sink: Any) -> None:
        """The same for one who takes results as they come."""
        import weakref

        shown_by = None if sink is results else weakref.ref(sink)
        results._attend_by(self._driver.engine, shown_by)

    def _abandon(self, sink: Any) -> None:
        """Nobody will ask for these results any more."""
        self._driver.cancel_all(sink)

    def _refuse(self, result: Any, error: BaseException, index: int = 0) -> None:
        self._driver.refuse(result, index, error)

    # --- the end ---

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
        if self._door is not None:
            self._door.requests.put(None)  # guests of a broken pool were still told why

    def _join(self) -> None:
        self._driver.join()

    # --- in other processes ---

    def __reduce__(self) -> Any:
        refused = "pool objects cannot be passed between processes or pickled"
        if _settings.is_strict():
            raise NotImplementedError(refused)
        if not self._crosses:
            raise NotImplementedError(f"{refused}: {STAYS}")
        if not transfer_active():
            raise NotImplementedError(f"{refused}: {NO_DESTINATION}")
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

    def _attended(self, result: ApplyResult) -> None:
        pass

    def _stand_aside(self) -> None:
        pass

    def _streamed(self, results: Stream, sink: Any) -> None:
        import weakref

        shown_by = None if sink is results else weakref.ref(sink)
        results._cancel_by(self._driver.cancel_all, shown_by)

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
