"""The exceptions: multiprocessing's own four, and the family of a refused transfer.

multiprocessing has its four in `context`; `context` re-exports them from here. Refusals derive
from `pickle.PicklingError` and from whatever the standard library raises at the same place, so
that an `except` clause written for either keeps working.
"""

from __future__ import annotations

import pickle
import sys

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = [
    "AbandonedLock",
    "AuthenticationError",
    "BequeathAttributeError",
    "BequeathError",
    "BequeathHandleError",
    "BequeathNotImplementedError",
    "BequeathRuntimeError",
    "BequeathTypeError",
    "BequeathValueError",
    "BufferTooShort",
    "PoolBroken",
    "ProcessError",
    "RemoteError",
    "TimeoutError",
    "WorkerDied",
]


class ProcessError(Exception):
    """Base of multiprocessing's own exceptions."""


class BufferTooShort(ProcessError):  # noqa: N818 - multiprocessing's name
    """The message is longer than the buffer; `args[0]` holds all of it."""


class TimeoutError(ProcessError):
    """A result was not there in time."""


class AuthenticationError(ProcessError):
    """The other end of a connection does not know the key."""


for _class in (ProcessError, BufferTooShort, TimeoutError, AuthenticationError):
    # Where multiprocessing has them; a pickle that names them must load by that name.
    _class.__module__ = "bequeath.context"
del _class


class AbandonedLock(RuntimeError):  # noqa: N818 - a state of the lock, not a mistake
    """The process that held a lock was killed; what the lock protects may be half written.

    The lock was *not* acquired. `lock.recover()` takes it, `lock.release()` frees it.
    `process_name` and `signal` are None where they are not known here.
    """

    pid: int
    process_name: str | None
    signal: int | None

    def __init__(
        self, pid: int, process_name: str | None = None, signal: int | None = None
    ) -> None:
        super().__init__(pid, process_name, signal)
        self.pid, self.process_name, self.signal = pid, process_name, signal

    def __str__(self) -> str:
        name = "" if self.process_name is None else f"{self.process_name}, "
        how = "" if self.signal is None else f" by signal {self.signal}"
        return (
            f"the lock was not acquired: its holder ({name}pid {self.pid}) was killed{how} while "
            f"holding it; recover() takes it over, release() frees it"
        )


class RemoteError(Exception):
    """Stands for another process's exception that cannot be made anew here.

    `type_name`, `text` and `reason` say which it was, its text, and why. It is also an instance of
    the nearest builtin class, so that `except ValueError` catches what derives from it.
    """

    type_name: str = ""
    text: str = ""
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text} [stands for it: {self.reason}]"

    def __reduce__(self) -> tuple[Any, ...]:
        builtin = type(self).__mro__[-1 if type(self) is RemoteError else 2].__name__
        return _stand_in, (builtin, self.type_name, self.text, self.reason), self.__dict__


def _stand_in(builtin: str, type_name: str, text: str, reason: str) -> RemoteError:
    """A `RemoteError` that is also a builtin exception of this name, where there is one."""
    import builtins

    base = getattr(builtins, builtin, None)
    kind: Any = RemoteError
    if isinstance(base, type) and issubclass(base, Exception) and base is not Exception:
        kind = type("RemoteError", (RemoteError, base), {"__module__": __name__})
    made: RemoteError = kind.__new__(kind)
    made.type_name, made.text, made.reason = type_name, text, reason
    return made


class _Broken(RuntimeError):
    """Stands as the base until concurrent.futures is there; a builtin one could not be changed."""


class PoolBroken(_Broken):  # noqa: N818 - as WorkerDied
    """No task of a pool can succeed any more; the text says why."""


class WorkerDied(_Broken):  # noqa: N818 - what happened, as AbandonedLock
    """A worker of a pool ended with a task in its hands. Only that task is lost.

    `exitcode` is the exit code, or the number of the signal negated; `task` the call in short;
    `seconds` how long it ran; `stack` the worker's last Python stack as text, where one could be
    had; `oom` whether the kernel ended it for lack of memory, None where nobody can tell.
    """

    def __init__(
        self,
        pid: int | None = None,
        name: str | None = None,
        exitcode: int | None = None,
        task: str | None = None,
        seconds: float | None = None,
        stack: str | None = None,
        oom: bool | None = None,
    ) -> None:
        super().__init__(pid, name, exitcode, task, seconds, stack, oom)
        self.pid = pid
        self.name = name
        self.exitcode = exitcode
        self.task = task
        self.seconds = seconds
        self.stack = stack
        self.oom = oom

    @property
    def signal(self) -> str | None:
        """The name of the signal that ended the worker."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        import signal

        try:
            return signal.Signals(-self.exitcode).name
        except ValueError:
            return f"signal {-self.exitcode}"

    def __str__(self) -> str:
        how = f"was killed by {self.signal}" if self.signal else f"exited with code {self.exitcode}"
        if self.exitcode is None:
            how = "ended"
        if self.oom:
            how += " (out of memory)"
        text = f"worker {self.name} (pid {self.pid}) {how}"
        if self.task is not None:
            text += f" while it ran {self.task}"
        if self.seconds is not None:
            text += f", after {self.seconds:.3g} s"
        if self.stack:
            text += f"\n{self.stack}"
        return text


class BequeathError(pickle.PicklingError):
    """An object cannot be handed to the other process; nothing has been sent.

    `path` says where it was found (``args[1].config['log'].stream``), `culprit` is its type's
    name, `definition` the file and line of its class or function, `reason` and `remedy` are
    sentences.
    """

    path: str = ""
    culprit: str = ""
    definition: str = ""
    reason: str = ""
    remedy: str = ""

    _like: ClassVar[type[Exception] | None] = None

    @classmethod
    def like(cls, error: BaseException) -> type[BequeathError]:
        """The member of the family that an `except` for `error` also catches."""
        for member in _FAMILY:
            if member._like is not None and isinstance(error, member._like):
                return member
        return BequeathError

    @classmethod
    def where(cls, situation: str) -> type[BequeathError]:
        """The member of the family that the standard library's refusal there is like."""
        standard = standard_refusal(situation)
        for member in _FAMILY:
            if member._like is standard:
                return member
        return BequeathError


class BequeathTypeError(BequeathError, TypeError):
    """Refused where the standard library raises TypeError."""

    _like = TypeError


class BequeathAttributeError(BequeathError, AttributeError):
    """Refused where the standard library raises AttributeError."""

    _like = AttributeError


class BequeathRuntimeError(BequeathError, RuntimeError):
    """Refused where the standard library raises RuntimeError."""

    _like: ClassVar[type[Exception] | None] = RuntimeError


class BequeathHandleError(BequeathRuntimeError, TypeError):
    """A socket, a file or a process refused by plain pickling, where pickle's own is TypeError.

    Handles are refused with RuntimeError, as queues and locks are; programs that catch TypeError
    for these go on doing so.
    """

    _like: ClassVar[type[Exception] | None] = None


class BequeathValueError(BequeathError, ValueError):
    """Refused where the standard library raises ValueError."""

    _like = ValueError


class BequeathNotImplementedError(BequeathRuntimeError, NotImplementedError):
    """Refused where the standard library raises NotImplementedError."""

    _like = NotImplementedError


_FAMILY = (
    BequeathTypeError,
    BequeathAttributeError,
    BequeathNotImplementedError,
    BequeathRuntimeError,
    BequeathValueError,
)

#: What the standard library's pickler raises, by what it met, in (first version, class) pairs.
STANDARD: dict[str, tuple[tuple[tuple[int, int], type[Exception]], ...]] = {
    # an instance that has no reduction: a lock, a generator, a frame, a module
    "unpicklable": (((3, 10), TypeError),),
    # a function or class inside a function
    "local": (((3, 10), AttributeError), ((3, 14), pickle.PicklingError)),
    # a function or class that its module does not have, or has another one of that name
    "missing": (((3, 10), pickle.PicklingError),),
    # one that can be found by name, and was refused for something else
    "found": (((3, 10), pickle.PicklingError),),
    # what may only be handed to a process that is being started
    "inheritance": (((3, 10), RuntimeError),),
    # what says of itself that it does not travel: a pool
    "unimplemented": (((3, 10), NotImplementedError),),
    # a reducer that returns what pickle does not understand
    "pickling": (((3, 10), pickle.PicklingError),),
    "attribute": (((3, 10), AttributeError),),
    "value": (((3, 10), ValueError),),
}


def standard_refusal(situation: str, version: tuple[int, int] | None = None) -> type[Exception]:
    """What the standard library of a Python version (this one) raises in a situation."""
    version = version or sys.version_info[:2]
    since = [refusal for first, refusal in STANDARD[situation] if first <= version]
    return since[-1]
