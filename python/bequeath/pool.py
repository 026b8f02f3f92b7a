"""Pools of workers: the names other packages import; the pools themselves are a later issue."""

from __future__ import annotations

from typing import Any

from ._unbuilt import Unbuilt, unbuilt

__all__ = ["Pool", "ThreadPool"]

INIT = "INIT"
RUN = "RUN"
CLOSE = "CLOSE"
TERMINATE = "TERMINATE"


def mapstar(args: tuple[Any, ...]) -> list[Any]:
    """What a chunk of `map` runs in a worker."""
    return list(map(*args))


def starmapstar(args: tuple[Any, Any]) -> list[Any]:
    """What a chunk of `starmap` runs in a worker."""
    function, chunk = args
    return [function(*arguments) for arguments in chunk]


class RemoteTraceback(Exception):  # noqa: N818 - multiprocessing's name
    """The text of a worker's traceback, as the cause of the exception raised here."""

    def __init__(self, tb: str) -> None:
        self.tb = tb

    def __str__(self) -> str:
        return self.tb


class ExceptionWithTraceback:
    """An exception on its way here, with its traceback as text."""

    def __init__(self, exc: BaseException, tb: Any) -> None:
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
        self.exc = repr(exc)
        self.value = repr(value)
        super().__init__(self.exc, self.value)

    def __str__(self) -> str:
        return f"Error sending result: '{self.value}'. Reason: '{self.exc}'"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self}>"


class Pool(Unbuilt):
    """A pool of processes."""


class ThreadPool(Pool):
    """A pool of threads."""


class ApplyResult(Unbuilt):
    """The result of `apply_async`."""


AsyncResult = ApplyResult


class MapResult(ApplyResult):
    """The result of `map_async`."""


class IMapIterator(Unbuilt):
    """The results of `imap`."""


class IMapUnorderedIterator(IMapIterator):
    """The results of `imap_unordered`."""


worker = unbuilt(__name__, "worker")
