"""What is said when an object cannot become a message, or must not.

Pickling itself is the engine's. After a failure `explain` looks for the culprit; success pays
nothing for it.
"""

from __future__ import annotations

from . import _settings


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

    name = type(obj).__name__
    reason = (
        f"{name} objects live in the memory that the members of a session share, and a process "
        "started with session=False is none"
    )
    remedy = "Hand it a connection of Pipe() instead"
    error = BequeathRuntimeError(f"{reason}. {remedy}; see SAFETY.md")
    error.culprit, error.reason, error.remedy = name, reason, remedy
    return error


def no_destination(obj: object) -> BaseException:
    """What to raise when a shared object is pickled into plain bytes."""
    text = (
        f"{type(obj).__name__} objects should only be shared between processes through inheritance"
    )
    if _settings.strict:
        return RuntimeError(text)
    from .exceptions import BequeathRuntimeError

    error = BequeathRuntimeError(
        f"{text}: plain bytes have no destination, so nothing would keep it alive. Pass it as an "
        f"argument of a Process, or put it into a queue or connection; see docs/why.md#refused"
    )
    error.culprit = type(obj).__name__
    error.reason = text
    error.remedy = "Pass it as an argument of a Process, or put it into a queue or connection"
    return error
