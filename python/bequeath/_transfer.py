"""What is said when an object cannot become a message, or must not.

Pickling itself is the engine's. After a failure `explain` looks for the culprit; success pays
nothing for it.
"""

from __future__ import annotations

import pickle
import socket

from . import _settings

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from .exceptions import BequeathError


def explain(obj: object, error: BaseException, root: str = "") -> BaseException:
    """What to raise when `dump(obj)` has raised `error`; `root` names `obj` in paths.

    In strict mode, and where a reducer of the program raised an error of its own, it is `error`
    itself; else one of the BequeathError family, with the path to the culprit.
    """
    if _settings.strict or not isinstance(error, Exception):
        return error
    from . import _explain

    return _explain.instead(obj, error, root)


def cannot_carry(obj: object, error: BaseException) -> BaseException:
    """What to raise on a connection that carries bytes only, when pickling `obj` raised `error`."""
    if _settings.strict or not isinstance(error, Exception):
        return error
    from . import _explain
    from .exceptions import BequeathRuntimeError

    better = _explain.instead(obj, error, portable=True)
    if not isinstance(better, BequeathRuntimeError):
        return better
    remedy = "Send it through a connection of Pipe(), or a queue"
    at = f"{better.path}: " if better.path else ""
    told = BequeathRuntimeError(
        f"{at}{better.reason}: this connection is a pipe, leads over a network or to another "
        f"program, and carries bytes only. {remedy}; see docs/why.md#refused"
    )
    told.path, told.culprit, told.reason = better.path, better.culprit, better.reason
    told.remedy = remedy
    return told


def stays_inside(obj: object) -> BaseException:
    """What to raise for an object of the session on its way to a process outside of it."""
    from .exceptions import BequeathRuntimeError

    reason = (
        f"{type(obj).__name__} objects live in the memory that the members of a session share, and "
        "a process started with session=False is none"
    )
    remedy = "Hand it a connection of Pipe() instead"
    return _refusal(BequeathRuntimeError, obj, reason, remedy, f"{reason}. {remedy}; see SAFETY.md")


def no_destination(obj: object, like: type[Exception] = RuntimeError) -> BaseException:
    """What to raise when a handle is pickled into plain bytes; pickle itself raises `like`."""
    text = (
        f"{type(obj).__name__} objects should only be shared between processes through inheritance"
    )
    if _settings.strict:
        return RuntimeError(text)
    from .exceptions import BequeathHandleError, BequeathRuntimeError

    remedy = "Pass it as an argument of a Process, or put it into a queue or connection"
    return _refusal(
        BequeathHandleError if issubclass(like, TypeError) else BequeathRuntimeError,
        obj,
        text,
        remedy,
        f"{text}: plain bytes have no destination, so nothing would keep it alive. {remedy}; "
        "see docs/why.md#refused",
    )


def handle_refused(obj: object, error: BaseException) -> BaseException | None:
    """What to raise when plain pickling of `obj` has raised `error`, if it is a handle that pickle
    knows nothing of: a file, a socket, a process, an executor, a ctypes object in shared memory.
    """
    if not isinstance(error, (TypeError, AttributeError, pickle.PicklingError)):
        return None
    if _settings.strict or not _is_handle(obj):
        return None
    return no_destination(obj, type(error))


def _is_handle(obj: object) -> bool:
    from . import _files, process, reduction

    if isinstance(obj, process.BaseProcess):
        return obj._is_process()
    kind = type(obj)
    if kind is socket.socket or kind in _files.REDUCERS or hasattr(kind, "_bequeath_handle"):
        return True
    # Only while it lives in shared memory: any program may have others of its type.
    memory = getattr(obj, "__dict__", {}).get("_wrapper") if _is_ctypes(kind) else None
    return memory is not None and kind in reduction.ForkingPickler._extra_reducers


def _is_ctypes(kind: type) -> bool:
    return any(base.__module__ == "_ctypes" for base in kind.__mro__)


def _refusal(
    kind: type[BequeathError], obj: object, reason: str, remedy: str, text: str
) -> BequeathError:
    error = kind(text)
    error.culprit, error.reason, error.remedy = type(obj).__name__, reason, remedy
    return error
