"""The exceptions: multiprocessing's own four, and the family of a refused transfer.

multiprocessing has its four in `context`; `context` re-exports them from here. Refusals derive
from `pickle.PicklingError` and from whatever the standard library raises at the same place, so
that an `except` clause written for either keeps working.
"""

from __future__ import annotations

import pickle

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import ClassVar

__all__ = [
    "AbandonedLock",
    "AuthenticationError",
    "BequeathAttributeError",
    "BequeathError",
    "BequeathRuntimeError",
    "BequeathTypeError",
    "BequeathValueError",
    "BufferTooShort",
    "ProcessError",
    "TimeoutError",
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


class BequeathError(pickle.PicklingError):
    """An object cannot be handed to the other process; nothing has been sent.

    `path` says where it was found (``args[1].config['log'].stream``), `culprit` is its type's
    name, `reason` and `remedy` are sentences.
    """

    path: str = ""
    culprit: str = ""
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


class BequeathTypeError(BequeathError, TypeError):
    """Refused where the standard library raises TypeError."""

    _like = TypeError


class BequeathAttributeError(BequeathError, AttributeError):
    """Refused where the standard library raises AttributeError."""

    _like = AttributeError


class BequeathRuntimeError(BequeathError, RuntimeError):
    """Refused where the standard library raises RuntimeError."""

    _like = RuntimeError


class BequeathValueError(BequeathError, ValueError):
    """Refused where the standard library raises ValueError."""

    _like = ValueError


_FAMILY = (BequeathTypeError, BequeathAttributeError, BequeathRuntimeError, BequeathValueError)
