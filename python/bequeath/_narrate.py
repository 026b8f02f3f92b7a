"""`--narrate`: at each start, one line that tells how what the child gets has crossed.

Loaded only when narration is on. While a start is packed, the pickler's question about each
object is listened to, on this thread.
"""

from __future__ import annotations

import sys
import threading
from types import FunctionType, ModuleType
from typing import Any

from . import _engine

_BY_REFERENCE = "by reference"
_EITHER = "by reference, else by value"
_BY_VALUE = "by value"
_AS_HANDLE = "as a handle"

_local = threading.local()


def pack(process: Any, method: str) -> Any:
    """`_engine.pack`, and the line."""
    heard: dict[str, dict[str, None]] = {
        way: {} for way in (_BY_REFERENCE, _EITHER, _BY_VALUE, _AS_HANDLE)
    }
    _local.heard = heard
    _local.process = process
    try:
        packed = _engine.pack(process, _listen)
    finally:
        _local.heard = _local.process = None
    for given in _given(process):
        name = _plain(given)
        if name is not None:
            heard[_BY_VALUE][name] = None
    parts = [f"{way}: {', '.join(names)}" for way, names in heard.items() if names]
    _tell(process, method, "; ".join(parts) or "by value: nothing but its name")
    return packed


def _given(process: Any) -> list[Any]:
    """What the caller gave the child: arguments, what its target is bound to, own attributes."""
    own = [value for name, value in vars(process).items() if not name.startswith("_")]
    bound = getattr(process._target, "__self__", None)
    return [*process._args, *process._kwargs.values(), bound, *own]


def _plain(obj: Any) -> str | None:
    """What crosses as a copy, and how much of it; None for what was told otherwise."""
    kind = type(obj)
    if obj is None or isinstance(obj, (FunctionType, type, ModuleType)) or _way(obj) is not None:
        return None
    if _is_ours(kind.__module__):
        return None
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    size = getattr(obj, "nbytes", None)
    if isinstance(size, int) or isinstance(obj, (bytes, bytearray)):
        return f"{name} ({len(obj) if size is None else size} bytes)"
    if isinstance(obj, (list, tuple, dict, set, frozenset)):
        return f"{name} of {len(obj)}"
    return name


def inherited(process: Any) -> None:
    """The line of a fork."""
    _tell(process, "fork", "by inheritance: everything")


def _tell(process: Any, method: str, what: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"bequeath: {process.name} ({method}): {what}\n")
        sys.stderr.flush()


def _listen(obj: Any) -> None:
    heard = getattr(_local, "heard", None)
    if heard is not None and obj is not _local.process:
        way = _way(obj)
        if way is not None:
            heard[way][_name(obj)] = None


def _way(obj: Any) -> str | None:
    if isinstance(obj, (FunctionType, type)):
        return None if _is_everybodys(obj.__module__) else _engine.way_of_definition(obj)
    kind = type(obj)
    if hasattr(kind, "fileno"):
        return _AS_HANDLE
    shared = _is_ours(kind.__module__) and kind.__name__ not in (
        "AuthenticationString",
        "DupFd",
    )
    return _AS_HANDLE if shared else None


def _is_everybodys(module: object) -> bool:
    """Ours or the standard library's: that it crosses by name is no news."""
    if not isinstance(module, str) or module == "__main__":
        return False
    return _is_ours(module) or module.partition(".")[0] in sys.stdlib_module_names


def _is_ours(module: object) -> bool:
    return isinstance(module, str) and module.partition(".")[0] == "bequeath"


def _name(obj: Any) -> str:
    if isinstance(obj, FunctionType) and "<" in obj.__qualname__:
        code = obj.__code__
        return f"{obj.__qualname__} ({code.co_filename}:{code.co_firstlineno})"
    if isinstance(obj, (FunctionType, type)):
        return f"{obj.__module__}.{obj.__qualname__}"
    return type(obj).__name__
