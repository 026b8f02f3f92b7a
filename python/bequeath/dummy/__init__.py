"""multiprocessing's names over threads of this process."""

from __future__ import annotations

import array
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from queue import Queue
from threading import Barrier, BoundedSemaphore, Condition, Event, Lock, RLock, Semaphore
from typing import TYPE_CHECKING, Any

from .connection import Pipe

if TYPE_CHECKING:
    from ..pool import ThreadPool

__all__ = [
    "Process",
    "current_process",
    "active_children",
    "freeze_support",
    "Lock",
    "RLock",
    "Semaphore",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "Barrier",
    "Queue",
    "Manager",
    "Pipe",
    "Pool",
    "JoinableQueue",
]

current_process = threading.current_thread


class DummyProcess(threading.Thread):
    """A thread with a process's manners."""

    def __init__(
        self,
        group: None = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(group, target, name, args, kwargs or {})
        self._pid: None = None
        self._children: weakref.WeakKeyDictionary[Any, None] = weakref.WeakKeyDictionary()
        self._start_called = False
        self._parent = current_process()

    def start(self) -> None:
        """Start the thread; only whoever made it may."""
        if self._parent is not current_process():
            raise RuntimeError(
                f"Parent is {self._parent!r} but current_process is {current_process()!r}"
            )
        self._start_called = True
        children = getattr(self._parent, "_children", None)
        if children is not None:
            children[self] = None
        super().start()

    @property
    def exitcode(self) -> int | None:
        """0 when the thread has ended, None before."""
        return 0 if self._start_called and not self.is_alive() else None


Process = DummyProcess
current_process()._children = weakref.WeakKeyDictionary()  # type: ignore[attr-defined]


def active_children() -> list[Any]:
    """The threads that this one started and that still run."""
    children = current_process()._children  # type: ignore[attr-defined]
    for child in list(children):
        if not child.is_alive():
            children.pop(child, None)
    return list(children)


def freeze_support() -> None:
    """Nothing: threads need no start-up."""


class Namespace:
    """Attributes to share."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(
            f"{name}={value!r}" for name, value in self.__dict__.items() if name[:1] != "_"
        )
        return f"{type(self).__name__}({', '.join(shown)})"


dict = dict  # noqa: A001 - a manager's names
list = list  # noqa: A001


def Array(  # noqa: N802 - multiprocessing's name
    typecode: str, sequence: Iterable[Any], lock: bool = True
) -> array.array[Any]:
    """An array of the type."""
    return array.array(typecode, sequence)


class Value:
    """One value; threads share it as it is."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    @property
    def value(self) -> Any:
        """The value."""
        return self._value

    @value.setter
    def value(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._typecode!r}, {self._value!r})>"


def Manager() -> Any:  # noqa: N802 - multiprocessing's name
    """This module: threads need no manager."""
    return sys.modules[__name__]


def shutdown() -> None:
    """Nothing: there is no manager to end."""


def Pool(  # noqa: N802 - multiprocessing's name
    processes: int | None = None,
    initializer: Callable[..., Any] | None = None,
    initargs: Iterable[Any] = (),
) -> ThreadPool:
    """A pool of threads."""
    from ..pool import ThreadPool

    return ThreadPool(processes, initializer, initargs)


JoinableQueue = Queue
