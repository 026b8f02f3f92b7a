"""Pools in processes that did not make them: what the owner does for its guests, and what those do.

A guest seals its call and puts it into the owner's queue; the owner makes a task of it, unopened; a
worker opens it, and seals what came of it for the guest's own queue. So what cannot be pickled is
the guest's error, and what cannot be rebuilt is the error of that call alone. The queue of a guest
that is killed is freed with the last of its calls.
"""

from __future__ import annotations

import os
import queue
import threading
import weakref
from collections.abc import Callable

from . import queues, synchronize, util
from ._engine import Sealed
from ._pool_driver import show
from ._pool_worker import Carried, map_chunk, starmap_chunk
from ._remote_error import pack, unpack

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any

    #: What a call is given up by: the guest, and the guest's number for it.
    Key = tuple[bytes, int]
    Cancel = Callable[[int, bool], bool]
    Outcome = Sealed | tuple[bool, Any]

__all__ = ["Client", "Door", "client_of", "door_of", "not_here"]

#: Seconds between two looks at whether the owner still serves, while a guest waits.
SLICE = 1.0

#: What is cancelled in the place of a call that is done.
_DONE: tuple[int, Cancel] = (0, lambda task, running: False)


class Door:
    """How a pool is reached from everywhere in the session."""

    def __init__(self, processes: int, tries: int) -> None:
        self.processes, self.tries = processes, tries
        self.requests: queues.Queue[Any] = queues.Queue()
        #: Held while the owner serves: who finds it free or abandoned knows that nobody answers.
        self.serving = synchronize.Lock()


# --- the owner ---


def door_of(pool: Any, processes: int, tries: int) -> Door:
    """A pool's or an executor's door, and the thread behind it; made once."""
    driver = pool._driver_for_guests()
    if not driver.engine.is_home():
        raise RuntimeError(
            "this pool is a copy that came by a fork; pass it as an argument of the Process"
        )
    door = Door(processes, tries)
    door.serving.acquire()
    thread = threading.Thread(
        target=_serve, args=(door, weakref.ref(pool)), name="bequeath-pool-guests", daemon=True
    )
    thread.start()
    requests, broken_by = door.requests, driver.engine.broken_by

    def end() -> None:
        if broken_by() is None:
            requests.put(None)  # else guests are told why, as long as there is somebody to ask

    driver.ends.append(end)
    if not driver.thread.is_alive():
        end()
    # At exit after the driver's end, which still has something to tell.
    util.Finalize(pool, _stop_serving, (requests, thread), exitpriority=14)
    return door


def _stop_serving(requests: queues.Queue[Any], thread: threading.Thread) -> None:
    requests.put(None)
    if util.is_exiting():  # else a pool was forgotten, wherever that happens to be noticed
        thread.join()


def _serve(door: Door, pool: Callable[[], Any]) -> None:
    tasks: dict[Key, tuple[int, Cancel]] = {}
    try:
        while (request := door.requests.get()) is not None:
            try:
                _answer(pool(), tasks, *request)
            except Exception as error:
                show(error)
            del request
    finally:
        door.serving.release()


def _answer(
    pool: Any,
    tasks: dict[Key, tuple[int, Cancel]],
    guest: bytes,
    number: int,
    results: queues.Queue[Any],
    call: Sealed | None,
    about: Any,
    limit: Any,
) -> None:
    """Submit a call (of the name `about`), or give up the one with the number `about`."""
    told = _Told(tasks, (guest, number), results)
    try:
        if call is None:
            task, cancel = tasks.get((guest, about), _DONE)
            results.put((number, (True, cancel(task, limit))))
            return
        if pool is None:
            raise ValueError("Pool not running")
        driver = pool._driver_for_guests()
        carried = Carried(call, results, number, about, limit is None)
        told.submitted(driver.submit(told, 0, carried, (), {}, limit), driver.cancel)
    except Exception as error:
        told._set(0, (False, error))


class _Told:
    """What the driver tells of a guest's call."""

    def __init__(
        self, tasks: dict[Key, tuple[int, Cancel]], key: Key, results: queues.Queue[Any]
    ) -> None:
        self._tasks, self._key, self._results = tasks, key, results
        self._done = False

    def submitted(self, task: int, cancel: Cancel) -> None:
        self._tasks[self._key] = task, cancel
        if self._done:  # meanwhile
            self._tasks.pop(self._key, None)

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        self._done = True
        self._tasks.pop(self._key, None)
        success, value = outcome
        if not success:  # else the worker has said it
            self._results.put((self._key[1], Sealed((False, pack(value)))))


# --- the guest ---


class Client:
    """Asks the owner of a pool, with the interface of a driver. One per handle and process."""

    def __init__(self, door: Door) -> None:
        self.pid = os.getpid()
        self._door = door
        self._guest = os.urandom(8)
        self._lock = threading.Lock()
        self._next = 0
        #: Outcomes by number, sealed where they may fail to be rebuilt; None where `_open` has it.
        self._results: queues.Queue[tuple[int, Outcome | None]] = queues.Queue()
        #: Who is told what; and what, if that is known here.
        self._open: dict[int, tuple[Any, int, BaseException | None]] = {}
        self._reader: threading.Thread | None = None

    def submit(
        self,
        sink: Any,
        index: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: dict[str, Any],
        timeout: float | None = None,
        called: str | None = None,
    ) -> int:
        """Ask for a call; its number."""
        number = self._reserve(1)
        call = (function, arguments, keywords)
        self._send(number, sink, index, call, _name(function), timeout, called)
        return number

    def submit_many(
        self,
        sink: Any,
        function: Callable[..., Any],
        items: Any,
        chunksize: int,
        star: bool,
        values: list[Any] | None,
        timeout: float | None,
    ) -> tuple[int, int]:
        """Ask for the chunks of a map; their first number, and how many they are."""
        name = _name(function)
        bare = values is None and chunksize == 1 and not star
        run = starmap_chunk if star else map_chunk
        count = -(-len(items) // chunksize)
        first = self._reserve(count)
        for index in range(count):
            start = index * chunksize
            call: tuple[Any, ...]
            if bare:
                call, parts = (function, (items[index],), {}), f"iterable[{start}],"
            else:
                chunk = tuple(items[start : start + chunksize])
                call, parts = (run, (function, chunk), {}), f"function, iterable[{start}:]"
            called = f"(function, ({parts}), kwargs)"
            try:
                self._send(first + index, sink, index, call, name, timeout, called)
            except Exception as error:
                self.refuse(sink, index, error)
        return first, count

    def refuse(self, sink: Any, index: int, error: BaseException) -> None:
        """An outcome that is known here; told by the thread that tells all others."""
        number = self._reserve(1)
        self._expect(number, sink, index, error)
        self._results.put((number, None))

    @staticmethod
    def is_running() -> bool:
        """The answer to each call says it."""
        return True

    def cancel(self, task: int, running: bool = False) -> bool:
        """Give a call up. In a callback nobody waits for whether that was in time."""
        if task not in self._open:
            return False
        asked = _Asked()
        self._ask(self._reserve(1), asked, 0, None, task, running)
        return threading.current_thread() is self._reader or asked.get()

    def cancel_all(self, sink: Any) -> None:
        """Give up all that a sink was to be told of, and tell it nothing more."""
        with self._lock:
            entries = list(self._open.items())
            unwanted = [number for number, entry in entries if entry[0] is sink]
            for number in unwanted:
                del self._open[number]
        for number in reversed(unwanted):
            self._ask(self._reserve(1), _Asked(), 0, None, number, True)

    def _reserve(self, count: int) -> int:
        with self._lock:
            first = self._next
            self._next += count
        return first

    def _send(
        self,
        number: int,
        sink: Any,
        index: int,
        call: tuple[Any, ...],
        name: str,
        timeout: float | None,
        called: str | None,
    ) -> None:
        sealed = Sealed(call, self._door.tries, called or "(function, args, kwargs)")
        self._ask(number, sink, index, sealed, name, timeout)

    def _ask(
        self, number: int, sink: Any, index: int, call: Sealed | None, about: Any, limit: Any
    ) -> None:
        self._expect(number, sink, index)
        try:
            self._door.requests.put((self._guest, number, self._results, call, about, limit))
        except BaseException:
            self._open.pop(number, None)
            raise

    def _expect(
        self, number: int, sink: Any, index: int, error: BaseException | None = None
    ) -> None:
        with self._lock:
            self._open[number] = (sink, index, error)
            if self._reader is None:
                self._reader = threading.Thread(
                    target=self._read, name="bequeath-pool-guest", daemon=True
                )
                self._reader.start()

    def _read(self) -> None:
        """Tell of outcomes, until there has been nothing to wait for during a slice."""
        while True:
            ended = self._ended()
            try:
                number, outcome = self._results.get(ended is None, SLICE)
            except queue.Empty:
                with self._lock:
                    if not self._open:
                        self._reader = None
                        return
                    lost = list(self._open) if ended is not None else []
                for number in lost:
                    self._tell(number, None, ended)
            else:
                self._tell(number, outcome)
                del outcome

    def _tell(
        self, number: int, outcome: Outcome | None, instead: BaseException | None = None
    ) -> None:
        sink, index, known = self._open.pop(number, (None, 0, None))
        if sink is None:
            return  # nobody asks for it any more, or it was told: a worker died after its answer
        success, value = False, known or instead
        if outcome is not None:
            try:
                success, value = outcome.open() if type(outcome) is Sealed else outcome
            except Exception as error:  # it arrived, and cannot be rebuilt
                value = error
        try:
            begin = getattr(sink, "_begin", None)
            if begin is not None and not begin(index):
                return  # a future that was cancelled
            sink._set(index, (success, value if success else unpack(value)))
        except BaseException as error:  # a callback's
            show(error)

    def _ended(self) -> BaseException | None:
        """Why nobody will answer, if so."""
        from .exceptions import AbandonedLock, PoolBroken

        try:
            if not self._door.serving.acquire(False):
                return None
        except AbandonedLock as error:
            broken = PoolBroken(f"the process that had the pool (pid {error.pid}) died")
            broken.__cause__ = error
            return broken
        self._door.serving.release()
        return ValueError("Pool not running")


def client_of(door: Door, client: Client | None) -> Client:
    """The client, or a new one: a forked child has not the thread that its parent's has."""
    return client if client is not None and client.pid == os.getpid() else Client(door)


def not_here(what: str) -> RuntimeError:
    """Why a handle refuses what is the owner's."""
    return RuntimeError(
        f"{what}() is for the process that made the pool; this is a handle of it, by which calls "
        "are submitted"
    )


class _Asked:
    """Waits for the answer to a question about a call."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._outcome = False

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        success, value = outcome
        self._outcome = success and value
        self._there.set()

    def get(self) -> bool:
        # In slices: a signal that comes when a thread is about to wait for a lock wakes nobody.
        while not self._there.wait(SLICE):
            pass
        return self._outcome


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__
