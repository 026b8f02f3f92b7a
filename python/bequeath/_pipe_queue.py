"""Queues over a pipe and locks, for subclasses that reach into multiprocessing's own.

Some libraries derive from `multiprocessing.queues.Queue` and replace its insides: `joblib`'s
`loky` has its own feeder and its own state to pickle, and its workers are programs of their own
that know nothing of our shared memory. A subclass that defines any of the names below gets the
insides it expects: a buffer, a feeder thread, a pipe with multiprocessing's wire format. All
other queues are the engine's.
"""

from __future__ import annotations

import collections
import errno
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, Full
from typing import Any

from . import util
from .connection import Connection
from .context import assert_spawning
from .queues import _sentinel
from .reduction import ForkingPickler

#: A subclass that defines one of these works on multiprocessing's insides.
_INSIDES = frozenset(
    (
        "__getstate__",
        "__setstate__",
        "_after_fork",
        "_feed",
        "_make_methods",
        "_reset",
        "_start_thread",
    )
)


def adopt(cls: type, simple: bool) -> None:
    """Give a new subclass of a queue multiprocessing's insides if it needs them."""
    insides = _SimpleInsides if simple else _Insides
    if not _INSIDES.isdisjoint(vars(cls)) and not issubclass(cls, insides):
        # Between the subclass and the engine's class, so that `super()` finds them.
        cls.__bases__ = (insides, *cls.__bases__)


def _pipe() -> tuple[Connection, Connection]:
    # Not `Pipe()`: its ends take large messages through shared memory, which is not for strangers.
    reader, writer = os.pipe()
    return Connection(reader, writable=False), Connection(writer, readable=False)


def _send(obj: Any, lock: Any, send_bytes: Callable[[Any], None]) -> None:
    data = ForkingPickler.dumps(obj)
    with lock:
        send_bytes(data)


class _Insides:
    """`multiprocessing.queues.Queue`'s names."""

    # In the way of the engine's properties: instances have attributes of these names.
    _ignore_epipe: Any = None
    _maxsize: Any = None
    _reader: Any = None
    _writer: Any = None
    _rlock: Any = None
    _wlock: Any = None
    _sem: Any = None
    _opid: Any = None
    _poll: Any = None
    _send_bytes: Any = None
    _recv_bytes: Any = None
    _thread: Any = None
    _closed: Any = None
    _close: Any = None
    _buffer: Any
    _notempty: Any
    _jointhread: Any
    _joincancelled: Any

    def __init__(self, maxsize: int = 0, *, ctx: Any = None) -> None:
        if ctx is None:
            from .context import _default_context

            ctx = _default_context.get_context()
        if maxsize <= 0:
            maxsize = 2**31 - 1
        self._maxsize = maxsize
        self._reader, self._writer = _pipe()
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._opid = os.getpid()
        self._sem = ctx.BoundedSemaphore(maxsize)
        self._ignore_epipe = False
        self._reset()
        util.register_after_fork(self, type(self)._after_fork)

    def __getstate__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return (
            self._ignore_epipe,
            self._maxsize,
            self._reader,
            self._writer,
            self._rlock,
            self._wlock,
            self._sem,
            self._opid,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        (
            self._ignore_epipe,
            self._maxsize,
            self._reader,
            self._writer,
            self._rlock,
            self._wlock,
            self._sem,
            self._opid,
        ) = state
        self._reset()

    def _after_fork(self) -> None:
        self._reset(after_fork=True)

    def _reset(self, after_fork: bool = False) -> None:
        if after_fork:
            self._notempty._at_fork_reinit()
        else:
            self._notempty = threading.Condition(threading.Lock())
        self._buffer = collections.deque()
        self._thread = self._jointhread = self._close = None
        self._joincancelled = self._closed = False
        self._send_bytes = self._writer.send_bytes
        self._recv_bytes = self._reader.recv_bytes
        self._poll = self._reader.poll

    def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
        """Hand the object to the feeder thread."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if not self._sem.acquire(block, timeout):
            raise Full
        with self._notempty:
            if self._thread is None:
                self._start_thread()
            self._buffer.append(obj)
            self._notempty.notify()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """The next object that is in the pipe."""
        if self._closed:
            raise ValueError(f"Queue {self!r} is closed")
        if block and timeout is None:
            with self._rlock:
                data = self._recv_bytes()
        else:
            data = self._recv_within(timeout if block else 0.0)
        self._sem.release()
        return ForkingPickler.loads(data)

    def _recv_within(self, timeout: float | None) -> Any:
        deadline = time.monotonic() + (timeout or 0.0)
        if not self._rlock.acquire(bool(timeout), timeout):
            raise Empty
        try:
            if not self._poll(max(0.0, deadline - time.monotonic())):
                raise Empty
            return self._recv_bytes()
        finally:
            self._rlock.release()

    def qsize(self) -> int:
        """How many objects were put and not got."""
        return int(self._maxsize - self._sem.get_value())

    def empty(self) -> bool:
        """Whether the pipe is empty."""
        return not self._poll()

    def full(self) -> bool:
        """Whether a `put` would wait."""
        return bool(self._sem.get_value() == 0)

    def put_nowait(self, obj: Any) -> None:
        """`put` without waiting."""
        self.put(obj, False)

    def get_nowait(self) -> Any:
        """`get` without waiting."""
        return self.get(False)

    def close(self) -> None:
        """No more from this process; the feeder thread ends when its buffer is empty."""
        self._closed = True
        close, self._close = self._close, None
        if close:
            close()

    def join_thread(self) -> None:
        """Wait for the feeder thread."""
        assert self._closed, f"Queue {self!r} not closed"
        if self._jointhread:
            self._jointhread()

    def cancel_join_thread(self) -> None:
        """Do not wait for the feeder thread at exit."""
        self._joincancelled = True
        if self._jointhread is not None:
            self._jointhread.cancel()

    def _terminate_broken(self) -> None:
        self._reader.close()
        self.close()
        self.join_thread()

    def _start_thread(self) -> None:
        self._buffer.clear()
        self._thread = threading.Thread(
            target=self._feed,
            args=(
                self._buffer,
                self._notempty,
                self._send_bytes,
                self._wlock,
                self._reader.close,
                self._writer.close,
                self._ignore_epipe,
                self._on_queue_feeder_error,
                self._sem,
            ),
            name="QueueFeederThread",
            daemon=True,
        )
        self._thread.start()
        if not self._joincancelled:
            self._jointhread = util.Finalize(
                self._thread, self._finalize_join, [weakref.ref(self._thread)], exitpriority=-5
            )
        self._close = util.Finalize(
            self, self._finalize_close, [self._buffer, self._notempty], exitpriority=10
        )

    @staticmethod
    def _finalize_join(reference: Callable[[], threading.Thread | None]) -> None:
        thread = reference()
        if thread is not None:
            thread.join()

    @staticmethod
    def _finalize_close(buffer: collections.deque[Any], notempty: threading.Condition) -> None:
        with notempty:
            buffer.append(_sentinel)
            notempty.notify()

    @staticmethod
    def _feed(
        buffer: collections.deque[Any],
        notempty: threading.Condition,
        send_bytes: Callable[[Any], None],
        writelock: Any,
        reader_close: Callable[[], None],
        writer_close: Callable[[], None],
        ignore_epipe: bool,
        onerror: Callable[[Exception, Any], None],
        queue_sem: Any,
    ) -> None:
        while True:
            with notempty:
                while not buffer:
                    notempty.wait()
            obj = buffer.popleft()
            if obj is _sentinel:
                reader_close()
                writer_close()
                return
            try:
                _send(obj, writelock, send_bytes)
            except Exception as error:
                if ignore_epipe and getattr(error, "errno", 0) == errno.EPIPE:
                    return
                if util.is_exiting():
                    return
                queue_sem.release()
                onerror(error, obj)
            del obj  # not kept until the next one comes

    @staticmethod
    def _on_queue_feeder_error(e: BaseException, obj: Any) -> None:
        import traceback

        traceback.print_exception(type(e), e, e.__traceback__)


class _SimpleInsides:
    """`multiprocessing.queues.SimpleQueue`'s names."""

    _reader: Any = None
    _writer: Any = None
    _rlock: Any = None
    _wlock: Any = None
    _poll: Any = None

    def __init__(self, *, ctx: Any = None) -> None:
        if ctx is None:
            from .context import _default_context

            ctx = _default_context.get_context()
        self._reader, self._writer = _pipe()
        self._rlock = ctx.Lock()
        self._wlock = ctx.Lock()
        self._poll = self._reader.poll

    def __getstate__(self) -> tuple[Any, ...]:
        assert_spawning(self)
        return self._reader, self._writer, self._rlock, self._wlock

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._reader, self._writer, self._rlock, self._wlock = state
        self._poll = self._reader.poll

    def put(self, obj: Any) -> None:
        """Pickle the object and write it into the pipe."""
        data = ForkingPickler.dumps(obj)
        with self._wlock:
            self._writer.send_bytes(data)

    def get(self) -> Any:
        """The next object in the pipe."""
        with self._rlock:
            data = self._reader.recv_bytes()
        return ForkingPickler.loads(data)

    def empty(self) -> bool:
        """Whether the pipe is empty."""
        return not self._poll()

    def close(self) -> None:
        """Close both ends."""
        self._reader.close()
        self._writer.close()
