"""The text of a worker's traceback, as the cause of the exception that is raised here."""

from __future__ import annotations

from typing import Any


class RemoteTraceback(Exception):  # noqa: N818 - multiprocessing's name
    """The text of a worker's traceback, as the cause of the exception raised here.

    The frames themselves are in that exception's `__traceback__`; the text is made when asked for.
    """

    def __init__(self, tb: str) -> None:
        self._text: str | None = tb
        self._written: tuple[Any, ...] | None = None

    @classmethod
    def _of(cls, written: tuple[Any, ...]) -> RemoteTraceback:
        """For what a `Failure` has written."""
        made = cls.__new__(cls)
        made._text, made._written = None, written
        return made

    @property
    def _is_repeated(self) -> bool:
        """Whether the exception's traceback says all that the text does."""
        return self._written is not None

    @property
    def tb(self) -> str:
        """The text."""
        if self._text is None:
            from ._engine import describe_failure

            self._text = f'\n"""\n{describe_failure(self._written or ())}"""'
        return self._text

    def __str__(self) -> str:
        return self.tb

    def __reduce__(self) -> tuple[Any, ...]:
        return RemoteTraceback, (self.tb,)


RemoteTraceback.__module__ = "bequeath.pool"


def _nothing() -> None:
    """Whose code object others are made of."""


def _first_argument(exception: BaseException) -> Any:
    return exception.args[0]
