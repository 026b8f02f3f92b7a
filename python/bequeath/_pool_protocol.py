"""What multiprocessing's workers of a pool run and send, for programs that use it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from ._remote_traceback import RemoteTraceback

__all__ = [
    "ExceptionWithTraceback",
    "MaybeEncodingError",
    "mapstar",
    "rebuild_exc",
    "starmapstar",
    "worker",
]


def mapstar(args: tuple[Any, ...]) -> list[Any]:
    """What a chunk of `map` runs in a worker."""
    return list(map(*args))


def starmapstar(args: tuple[Any, Any]) -> list[Any]:
    """What a chunk of `starmap` runs in a worker."""
    function, chunk = args
    return [function(*arguments) for arguments in chunk]


class ExceptionWithTraceback:
    """An exception on its way here, with its traceback as text."""

    def __init__(self, exc: BaseException, tb: TracebackType | None) -> None:
        import traceback

        text = "".join(traceback.format_exception(type(exc), exc, tb))
        self.exc = exc
        # The frames stay behind: they would keep the worker's objects alive.
        self.exc.__traceback__ = None
        self.tb = f'\n"""\n{text}"""'

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild_exc, (self.exc, self.tb)


def rebuild_exc(exc: BaseException, tb: str) -> BaseException:
    """Put the text back as the cause."""
    exc.__cause__ = RemoteTraceback(tb)
    return exc


class MaybeEncodingError(Exception):
    """The result of a task cannot be sent; both texts, since the objects cannot travel."""

    def __init__(self, exc: object, value: object) -> None:
        self.exc = _shown(exc)
        self.value = _shown(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


def _shown(value: object) -> str:
    try:
        return repr(value)
    except BaseException:
        # What is wrong with this one shall not be its worker's end.
        return object.__repr__(value)


def worker(
    inqueue: Any,
    outqueue: Any,
    initializer: Callable[..., object] | None = None,
    initargs: Iterable[Any] = (),
    maxtasks: int | None = None,
    wrap_exception: bool = False,
) -> None:
    """Do tasks from one queue, (job, index, function, args, kwds) or None, into another."""
    if maxtasks is not None and not (isinstance(maxtasks, int) and maxtasks >= 1):
        raise AssertionError(f"Maxtasks {maxtasks!r} is not valid")
    if initializer is not None:
        initializer(*initargs)
    for _ in itertools.count() if maxtasks is None else range(maxtasks):
        try:
            task = inqueue.get()
        except (EOFError, OSError):
            return
        if task is None:
            return
        job, index, function, args, kwds = task
        result: tuple[bool, Any]
        try:
            result = (True, function(*args, **kwds))
        except Exception as error:
            wrapped = ExceptionWithTraceback(error, error.__traceback__)
            result = (False, wrapped if wrap_exception else error)
        try:
            outqueue.put((job, index, result))
        except Exception as error:
            outqueue.put((job, index, (False, MaybeEncodingError(error, result[1]))))


for _one in (
    mapstar,
    starmapstar,
    ExceptionWithTraceback,
    rebuild_exc,
    MaybeEncodingError,
    worker,
):
    _one.__module__ = "bequeath.pool"  # where multiprocessing has them
del _one
