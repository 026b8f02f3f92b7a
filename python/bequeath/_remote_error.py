"""Exceptions on their way from a worker to the caller: packed there, rebuilt by their arrival."""

from __future__ import annotations

from typing import Any

from . import _engine

#: Characters of a text about what is too large to be sent.
LONGEST = 500


def pack(error: BaseException) -> Any:
    """In the worker: what is sent for an exception, and arrives as the exception itself."""
    return _engine.Failure(error)


def unpack(arrived: Any) -> BaseException:
    """In the caller: the exception."""
    if isinstance(arrived, BaseException):
        return arrived
    return TypeError(f"a worker sent {type(arrived).__name__} as an exception")


def cannot_send(error: BaseException, value: object, short: bool = False) -> Any:
    """In the worker: what is sent instead of a result that cannot be."""
    from .pool import MaybeEncodingError  # loaded, so that the class crosses by its name there

    told = MaybeEncodingError(error, value)
    if short:
        told.args = told.exc, told.value = _clipped(told.exc), _clipped(told.value)
    told.__cause__ = error
    return pack(told)


def _clipped(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text)} characters)"


def unloadable(error: BaseException) -> BaseException:
    """In the caller: a task's exception when what came of it arrived and cannot be rebuilt."""
    return error
