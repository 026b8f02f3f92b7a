"""Contexts: one start method each, with everything made to go with it.

The functions of the package are the methods of one default context, whose start method is
chosen late, and at most once.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import ModuleType

from . import process, reduction
from .exceptions import AuthenticationError as AuthenticationError
from .exceptions import BufferTooShort as BufferTooShort
from .exceptions import ProcessError as ProcessError
from .exceptions import TimeoutError as TimeoutError

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any, Literal, NoReturn

    from . import connection, managers, pool, queues, synchronize

__all__ = ()


class BaseContext:
    """What all contexts have: factories, bound to the context's start method."""

    ProcessError = ProcessError
    BufferTooShort = BufferTooShort
    TimeoutError = TimeoutError
    AuthenticationError = AuthenticationError

    current_process = staticmethod(process.current_process)
    parent_process = staticmethod(process.parent_process)
    active_children = staticmethod(process.active_children)

    _name: str
    Process: type[process.BaseProcess]

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # noqa: PLW3201
        """Also an instance of multiprocessing's BaseContext once that is loaded.

        Other libraries ask for one where they take a context.
        """
        return _class_beside_theirs(type(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # pickle compares `__class__`, which says more here than the type.
        return _context_of, (getattr(self, "_name", None),)

    def cpu_count(self) -> int:
        """How many processors the system has."""
        count = os.cpu_count()
        if count is None:
            raise NotImplementedError("cannot determine number of cpus")
        return count

    # --- objects to share ------------------------------------------------------------------------

    def Manager(self) -> managers.SyncManager:
        """A started manager: a process that holds objects for others."""
        from .managers import SyncManager

        manager: managers.SyncManager = SyncManager(ctx=self.get_context())
        manager.start()
        return manager

    def Pipe(self, duplex: bool = True) -> tuple[connection.Connection, connection.Connection]:
        """Two connected connections."""
        from .connection import Pipe

        return Pipe(duplex)

    def Lock(self) -> synchronize.Lock:
        """A lock that any process and thread may release."""
        from .synchronize import Lock

        return Lock(ctx=self.get_context())

    def RLock(self) -> synchronize.RLock:
        """A lock that its holder may take again."""
        from .synchronize import RLock

        return RLock(ctx=self.get_context())

    def Condition(self, lock: Any = None) -> synchronize.Condition:
        """A condition variable."""
        from .synchronize import Condition

        return Condition(lock, ctx=self.get_context())

    def Semaphore(self, value: int = 1) -> synchronize.Semaphore:
        """A semaphore."""
        from .synchronize import Semaphore

        return Semaphore(value, ctx=self.get_context())

    def BoundedSemaphore(self, value: int = 1) -> synchronize.BoundedSemaphore:
        """A semaphore that refuses to rise above where it began."""
        from .synchronize import BoundedSemaphore

        return BoundedSemaphore(value, ctx=self.get_context())

    def Event(self) -> synchronize.Event:
        """A flag to wait for."""
        from .synchronize import Event

        return Event(ctx=self.get_context())

    def Barrier(
        self,
        parties: int,
        action: Callable[[], object] | None = None,
        timeout: float | None = None,
    ) -> synchronize.Barrier:
        """A place where `parties` processes wait for each other."""
        from .synchronize import Barrier

        return Barrier(parties, action, timeout, ctx=self.get_context())

    def Queue(self, maxsize: int = 0) -> queues.Queue[Any]:
        """A queue of messages, for many senders and receivers."""
        from .queues import Queue

        return Queue(maxsize, ctx=self.get_context())

    def JoinableQueue(self, maxsize: int = 0) -> queues.JoinableQueue[Any]:
        """A queue that knows what is still being worked on."""
        from .queues import JoinableQueue

        return JoinableQueue(maxsize, ctx=self.get_context())

    def SimpleQueue(self) -> queues.SimpleQueue[Any]:
        """A queue with three methods."""
        from .queues import SimpleQueue

        return SimpleQueue(ctx=self.get_context())

    def Pool(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> pool.Pool:
        """Worker processes that share out tasks; `options` are bequeath's own."""
        from .pool import Pool

        context = self.get_context()
        return Pool(processes, initializer, initargs, maxtasksperchild, context=context, **options)

    def RawValue(self, typecode_or_type: Any, *args: Any) -> Any:
        """A shared ctypes object without a lock."""
        from .sharedctypes import RawValue

        return RawValue(typecode_or_type, *args)

    def RawArray(self, typecode_or_type: Any, size_or_initializer: Any) -> Any:
        """A shared ctypes array without a lock."""
        from .sharedctypes import RawArray

        return RawArray(typecode_or_type, size_or_initializer)

    def Value(self, typecode_or_type: Any, *args: Any, lock: Any = True) -> Any:
        """A shared ctypes object with a lock."""
        from .sharedctypes import Value

        return Value(typecode_or_type, *args, lock=lock, ctx=self.get_context())

    def Array(self, typecode_or_type: Any, size_or_initializer: Any, *, lock: Any = True) -> Any:
        """A shared ctypes array with a lock."""
        from .sharedctypes import Array

        return Array(typecode_or_type, size_or_initializer, lock=lock, ctx=self.get_context())

    # --- settings --------------------------------------------------------------------------------

    def freeze_support(self) -> None:
        """For frozen programs on Windows; here there is nothing to do."""

    def get_logger(self) -> Any:
        """The package's logger, made at the first call."""
        from .util import get_logger

        return get_logger()

    def log_to_stderr(self, level: int | str | None = None) -> Any:
        """The package's logger, with a handler that writes to standard error."""
        from .util import log_to_stderr

        return log_to_stderr(level)

    def allow_connection_pickling(self) -> None:
        """Kept for compatibility: connections and sockets always travel."""
        from . import connection as connection

    def set_executable(self, executable: str | bytes | None) -> None:
        """The interpreter that children run; each is then really exec'ed."""
        from .spawn import set_executable

        set_executable(executable)

    def set_forkserver_preload(self, module_names: list[str], *, on_error: str = "ignore") -> None:
        """Modules that the forkserver's children find imported, as far as that is safe."""
        from .forkserver import set_forkserver_preload

        set_forkserver_preload(module_names, on_error=on_error)

    def get_context(self, method: str | None = None) -> BaseContext:
        """The context of a start method; without one, this context."""
        if method is None:
            return self
        try:
            context = _concrete_contexts[method]
        except KeyError:
            raise ValueError(f"cannot find context for {method!r}") from None
        context._check_available()
        return context

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """The name of this context's start method."""
        return self._name

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Refused: the start method of a concrete context is fixed."""
        raise ValueError("cannot set start method of concrete context")

    @property
    def reducer(self) -> Any:
        """The module that reduces objects for other processes."""
        return globals().get("reduction")

    @reducer.setter
    def reducer(self, reduction: ModuleType | Any) -> None:
        globals()["reduction"] = reduction

    def _check_available(self) -> None:
        pass


def _context_of(name: str | None) -> BaseContext:
    return _default_context if name is None else _concrete_contexts[name]


_classes_beside_theirs: dict[tuple[type, type], type] = {}


def _class_beside_theirs(kind: type) -> type:
    """A class that derives from ours and from the standard library's, if the program has that."""
    theirs = getattr(sys.modules.get("multiprocessing.context"), "BaseContext", None)
    if theirs is None or theirs is BaseContext:
        return kind
    both = _classes_beside_theirs.get((kind, theirs))
    if both is None:
        both = type(kind.__name__, (kind, theirs), {"__module__": kind.__module__})
        _classes_beside_theirs[kind, theirs] = both
    return both


class Process(process.BaseProcess):
    """An activity in a process of its own, started by whatever method is then the default."""

    _start_method = None

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:  # type: ignore[override]
        return _default_context.get_context().Process._Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        return _default_context.get_context().Process._after_fork()


class DefaultContext(BaseContext):
    """The context behind the package's functions; its start method is chosen at first use."""

    Process = Process

    def __init__(self, context: BaseContext | None = None) -> None:
        if context is None:
            context = _concrete_contexts[_DEFAULT_METHOD]
        self._default_context = context
        self._actual_context: BaseContext | None = None

    def get_context(self, method: str | None = None) -> BaseContext:
        """The context of a start method; without one, of the chosen one."""
        if method is not None:
            return super().get_context(method)
        if self._actual_context is None:
            self._actual_context = self._default_context
        return self._actual_context

    def set_start_method(self, method: str | None, force: bool = False) -> None:
        """Choose the start method; at most once unless forced. (None, forced: choose anew.)"""
        if self._actual_context is not None and not force:
            raise RuntimeError("context has already been set")
        if method is None and force:
            self._actual_context = None
            return
        self._actual_context = self.get_context(method)

    def get_start_method(self, allow_none: bool = False) -> str | None:
        """The name of the start method; asking fixes it, unless None is allowed."""
        if self._actual_context is None:
            if allow_none:
                return None
            self._actual_context = self._default_context
        return self._actual_context._name

    def get_all_start_methods(self) -> list[str]:
        """The start methods of this system, the default first."""
        default = self._default_context._name
        return [default, *(name for name in _concrete_contexts if name != default)]


# --- contexts of one start method -----------------------------------------------------------------


class ForkProcess(process.BaseProcess):
    """A copy of its parent."""

    _start_method = "fork"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:  # type: ignore[override]
        from .popen_fork import Popen

        return Popen(process_obj)


class SpawnProcess(process.BaseProcess):
    """A fresh interpreter."""

    _start_method = "spawn"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:  # type: ignore[override]
        from .popen_spawn_posix import Popen

        return Popen(process_obj)

    @staticmethod
    def _after_fork() -> None:
        """Nothing: to the program this process was not forked."""


class ForkServerProcess(process.BaseProcess):
    """A copy of a template that has the program's modules loaded."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: process.BaseProcess) -> Any:  # type: ignore[override]
        from .popen_forkserver import Popen

        return Popen(process_obj)


class ForkContext(BaseContext):
    """Children are forked from their parent."""

    _name: Literal["fork"] = "fork"
    Process = ForkProcess


class SpawnContext(BaseContext):
    """Children are fresh interpreters."""

    _name: Literal["spawn"] = "spawn"
    Process = SpawnProcess


class ForkServerContext(BaseContext):
    """Children are forked from a template."""

    _name: Literal["forkserver"] = "forkserver"
    Process = ForkServerProcess

    def _check_available(self) -> None:
        if not reduction.HAVE_SEND_HANDLE:
            raise ValueError("forkserver start method not available")


_concrete_contexts: dict[str, BaseContext] = {
    "fork": ForkContext(),
    "spawn": SpawnContext(),
    "forkserver": ForkServerContext(),
}
_DEFAULT_METHOD = "forkserver" if sys.version_info >= (3, 14) else "fork"
_default_context = DefaultContext()


def _force_start_method(method: str) -> None:
    _default_context._actual_context = _concrete_contexts[method]


process._context = sys.modules[__name__]

# --- what is being started by this thread ---------------------------------------------------------

_tls = threading.local()


def get_spawning_popen() -> Any:
    """The start that this thread is pickling for, or None."""
    return getattr(_tls, "spawning_popen", None)


def set_spawning_popen(popen: Any) -> None:
    """Say what start this thread pickles for, also to the standard library's objects."""
    _tls.spawning_popen = popen
    theirs = sys.modules.get("multiprocessing.context")
    if theirs is not None and theirs is not sys.modules[__name__]:
        theirs.set_spawning_popen(popen)


def assert_spawning(obj: object) -> None | NoReturn:
    """Refuse to pickle an object except for a child that is being started."""
    if get_spawning_popen() is None:
        raise RuntimeError(
            f"{type(obj).__name__} objects should only be shared between processes"
            " through inheritance"
        )
    return None
