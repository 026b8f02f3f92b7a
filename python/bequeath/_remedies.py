"""What to do about an object that cannot cross, by its type: one sentence each."""

from __future__ import annotations

from collections.abc import Callable
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import Any

_DEFAULT = (
    "Leave it out of the state (`__getstate__`) and make it anew in the child, or give its class "
    "a `__reduce__`"
)

#: (module, name prefix) of the type; what helps.
_BY_NAME: tuple[tuple[str, str, str], ...] = (
    (
        "_thread",
        "lock",
        "Use `bequeath.Lock()`, which crosses, or leave it out of the state and make a new one "
        "in the child",
    ),
    (
        "_thread",
        "RLock",
        "Use `bequeath.RLock()`, which crosses, or leave it out of the state and make a new one "
        "in the child",
    ),
    (
        "threading",
        "",
        "Use the object of the same name of `bequeath`, which crosses, or make a new one in the "
        "child",
    ),
    ("queue", "", "Use `bequeath.Queue()`, which crosses"),
    ("_queue", "", "Use `bequeath.SimpleQueue()`, which crosses"),
    ("_thread", "_local", "Make the thread-local object in the child"),
    ("sqlite3", "", "Open the database in the child, from its path"),
    ("_ssl", "", "Make the context in the child"),
    ("ssl", "", "Hand over the plain socket and wrap it in the child"),
    ("_asyncio", "", "Futures and tasks belong to one event loop: hand over the result"),
    ("asyncio", "", "Futures, tasks and loops belong to one process: hand over the result"),
    ("concurrent.futures", "", "Hand over the result, or make the executor in the child"),
    ("weakref", "", "Hand over the object itself"),
    ("_contextvars", "", "Hand over the values"),
    ("select", "", "Make it in the child and register the descriptors there"),
    ("_io", "", "Hand over a file that has a descriptor, or its content"),
    ("mmap", "", "Use `bequeath.RawArray` or map the file in the child"),
    ("re", "", "Hand over the pattern"),
)

_BY_TYPE: tuple[tuple[tuple[type, ...], str], ...] = (
    (
        (GeneratorType, AsyncGeneratorType, CoroutineType),
        "A running computation cannot move: hand over its results (a list), or the function and "
        "its arguments",
    ),
    ((FrameType, TracebackType), "Hand over its text (`traceback.format_exception`)"),
    (
        (memoryview,),
        "Hand over the object behind the view, or `bytes(view)`",
    ),
)


def remedy(culprit: Any) -> str:
    """What helps, for this object."""
    for kinds, text in _BY_TYPE:
        if isinstance(culprit, kinds):
            return text
    for base in type(culprit).__mro__:
        for module, name, text in _BY_NAME:
            at_home = base.__module__ == module or base.__module__.startswith(module + ".")
            if at_home and base.__name__.startswith(name):
                return text
    if isinstance(culprit, type) or callable(culprit) and _is_named(culprit):
        return (
            "Define it at the top of a module that the child can import, or use a plain function "
            "or class, which crosses by value"
        )
    return _DEFAULT


def _is_named(culprit: Callable[..., Any]) -> bool:
    return hasattr(culprit, "__qualname__")
