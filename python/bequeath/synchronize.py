"""Locks and their kin between processes.

The classes are the engine's own. Beside multiprocessing's interface, Lock and RLock have
`recover()`: after a holder was killed, `acquire` raises `AbandonedLock` without taking the lock,
until one caller's `recover()` takes it or anyone's `release()` frees it.
"""

from __future__ import annotations

import os

from ._engine import (
    Barrier as Barrier,
)
from ._engine import (
    BoundedSemaphore,
    Condition,
    Event,
    Lock,
    RLock,
    Semaphore,
)
from ._multiprocessing import sem_unlink as sem_unlink
from .exceptions import AbandonedLock

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BoundedSemaphore", "Condition", "Event", "Lock", "RLock", "Semaphore"]

RECURSIVE_MUTEX, SEMAPHORE = 0, 1
SEM_VALUE_MAX = 2**31 - 1


class _AnySemaphore(type):
    """Locks and semaphores count as instances of SemLock, their base in multiprocessing."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, (Lock, RLock, Semaphore))

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, (Lock, RLock, Semaphore))


class SemLock(metaclass=_AnySemaphore):
    """Makes a lock or semaphore by its kind."""

    def __new__(cls, kind: int, value: int, maxvalue: int, *, ctx: Any = None) -> Any:
        if kind == RECURSIVE_MUTEX:
            return RLock(ctx=ctx)
        if kind != SEMAPHORE:
            raise ValueError("unrecognized kind")
        if maxvalue == SEM_VALUE_MAX:
            return Semaphore(value, ctx=ctx)
        made = BoundedSemaphore(maxvalue, ctx=ctx)
        for _ in range(maxvalue - value):
            made.acquire()
        return made

    def locked(self) -> bool:
        """Whether it could not be acquired at once; as a function, for any lock or semaphore."""
        return bool(self.locked())


def _abandoned(pid: int) -> AbandonedLock:
    """The exception for a holder that was killed, with what this process knows of it."""
    from . import process

    for known in list(process._dangling):
        popen = known._popen
        if popen is not None and popen.pid == pid and known._parent_pid == os.getpid():
            code = known.exitcode
            return AbandonedLock(pid, known.name, -code if code is not None and code < 0 else None)
    return AbandonedLock(pid)
