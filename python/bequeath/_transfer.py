"""How an object becomes a message: the pickler that every queue, pipe and start goes through.

The engine (`transfer.rs`) keeps one `TransferPickler` for each thread and uses it again for each
message: making a pickler is the largest single cost of a small message. The rule of transfer is
decided in `reducer_override`, in this order: a reducer that somebody registered; by reference
what the receiver can import; by value what it cannot (`_by_value`). All else is pickle's own.

After a failure `explain` looks for the culprit; success pays nothing for it.
"""

from __future__ import annotations

import _pickle
from collections.abc import Callable, Iterable
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any

from . import _settings
from .reduction import ForkingPickler

PROTOCOL = 5

_registered = ForkingPickler._extra_reducers

_PART_TYPES = frozenset(
    (
        CellType,
        CodeType,
        GetSetDescriptorType,
        MappingProxyType,
        MemberDescriptorType,
        ModuleType,
        classmethod,
        property,
        staticmethod,
    )
)


class TransferPickler(_pickle.Pickler):
    """One thread's pickler: `dump(obj)` writes into `sink`, then `clear_memo()` for the next.

    `buffer_callback` is protocol 5's: false keeps the buffer out of the stream.
    """

    def __init__(self, sink: Any, buffer_callback: Callable[[Any], Any] | None) -> None:
        super().__init__(sink, PROTOCOL, buffer_callback=buffer_callback)

    def reducer_override(self, obj: Any) -> Any:
        """A reduce value, or NotImplemented for what pickle does well by itself."""
        kind = type(obj)
        reducer = _registered.get(kind)
        if reducer is not None:
            return reducer(obj)
        if kind is FunctionType or issubclass(kind, type):
            if not _settings.strict:
                return _definitions().reduce(obj)
        elif kind in _PART_TYPES and not _settings.strict:
            return _definitions().PARTS[kind](obj)
        return NotImplemented


def _definitions() -> Any:
    # Loaded by the first function or class that crosses: most programs need it early, a mere
    # import of the package never.
    from . import _by_value

    return _by_value


def loads(data: Any, buffers: Iterable[Any] | None = None) -> Any:
    """The object of a message."""
    return _pickle.loads(data, buffers=buffers)


def explain(obj: object, error: BaseException, root: str = "") -> BaseException:
    """What to raise when `dump(obj)` has raised `error`; `root` names `obj` in paths.

    In strict mode, and where a reducer of the program raised an error of its own, it is `error`
    itself; else one of the BequeathError family, with the path to the culprit.
    """
    if _settings.strict or not isinstance(error, Exception):
        return error
    from . import _explain

    return _explain.explain(obj, error, root)
