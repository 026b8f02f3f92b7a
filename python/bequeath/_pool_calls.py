"""What pools of processes and of threads have in common: calls become tasks and results.

A call becomes one task, or one per chunk of elements, and a result object that the caller holds.
Who works on what is each pool's own affair.
"""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._engine import usable_processors
from ._pool_protocol import mapstar
from ._pool_results import (
    ApplyResult,
    IMapIterator,
    IMapUnorderedIterator,
    MapResult,
    Stream,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CLOSE", "INIT", "RUN", "SEQUENCES", "TERMINATE", "Calls"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"

#: What is handed to the driver as it is: their elements are read whenever, by nobody's code.
SEQUENCES = (list, tuple, range)


class Calls:
    """The calls of a pool, and its end as its user sees it."""

    _state = INIT

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
        elif type(iterable) not in SEQUENCES:
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
        self._streamed(results, sink)
        if type(iterable) in SEQUENCES and buffersize is None:
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
                if not room or found is not None and self._state == TERMINATE:
                    error = self._given_up(results)
                    if error is not None:
                        # Otherwise what has come would pass for the results of the whole input.
                        sink._set(length, (False, error))
                        length += 1
                    break
                if found is None:
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
            if results._is_abandoned():
                self._abandon(sink)
            sink._set_length(length)
            with self._feeding:
                self._fed.discard(results)
                if not self._fed:
                    self._feeding.notify_all()
                    if self._state == CLOSE:
                        self._end_when_done()

    def _given_up(self, results: Stream) -> BaseException | None:
        """Why the rest of an input is not read, for who may still ask for its results."""
        from ._pool_driver import Errors

        if self._state == TERMINATE:
            return Errors().terminated()
        return Errors().cancelled() if results._is_abandoned() else None

    @staticmethod
    def _get_tasks(
        func: Callable[..., Any], it: Iterable[Any], size: int
    ) -> Generator[tuple[Any, tuple[Any, ...]], None, None]:
        items = iter(it)
        while chunk := tuple(itertools.islice(items, size)):
            yield func, chunk

    def _waited(self, ask: Callable[..., ApplyResult], *arguments: Any) -> Any:
        """What a call that waits returns; interrupted at any moment, it leaves no tasks behind."""
        begun: list[Any] = []
        try:
            return ask(*arguments, begun).get()
        except KeyboardInterrupt:
            for sink in begun:
                self._abandon(sink)
            raise
        finally:
            begun.clear()  # an exception's traceback holds this frame, and a result its exception

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

    def __enter__(self) -> Self:
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

    def __repr__(self) -> str:
        kind = type(self)
        size = getattr(self, "_processes", 0)
        return f"<{kind.__module__}.{kind.__qualname__} state={self._state} pool_size={size}>"

    if TYPE_CHECKING:
        # What each kind of pool has of its own.

        def _submit(
            self,
            result: Any,
            index: int,
            func: Callable[..., Any],
            args: tuple[Any, ...],
            kwds: dict[str, Any],
            timeout: float | None,
            called: str | None = None,
        ) -> None: ...
        def _submit_many(
            self,
            result: Any,
            func: Callable[..., Any],
            items: Any,
            chunksize: int,
            star: bool,
            values: list[Any] | None,
            timeout: float | None,
        ) -> range: ...
        def _refuse(self, result: Any, error: BaseException, index: int = 0) -> None: ...
        def _capacity(self) -> int: ...
        def _cancel(self, result: ApplyResult, running: bool) -> bool: ...
        def _attended(self, result: ApplyResult) -> None: ...
        def _streamed(self, results: Stream, sink: Any) -> None: ...
        def _stand_aside(self) -> None: ...
        def _about_to_feed(self) -> None: ...
        def _abandon(self, sink: Any) -> None: ...
        def _end_when_done(self) -> None: ...
        def _join(self) -> None: ...
        def terminate(self) -> None: ...


def _wanted(progress: Any) -> bool:
    return progress is not None and progress is not False  # a tqdm bar has no truth


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
    """Items with their numbers; an exception of the iterable, of any kind, is the last item."""
    source: Iterator[Any] | None = None
    for index in itertools.count():
        try:
            source = iter(items) if source is None else source
            item = next(source)
        except StopIteration:
            return
        except BaseException as error:
            yield index, _Raised(error)
            return
        yield index, item
