"""Managers: the names other packages import; the servers and proxies are a later issue.

`BaseManager.register` works already, since modules call it at import; it is *making* a manager
that raises.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ._unbuilt import Unbuilt, unbuilt
from .exceptions import ProcessError

__all__ = ["BaseManager", "SyncManager", "BaseProxy", "Token", "SharedMemoryManager"]


class RemoteError(Exception):
    """An error in the manager's server that could not be sent as itself."""

    def __str__(self) -> str:
        line = "-" * 75
        return f"\n{line}\n{self.args[0]!s}{line}"


class Token(NamedTuple):
    """What a proxy refers to."""

    typeid: str
    address: Any
    id: str


class State:
    """The state of a manager."""

    INITIAL = 0
    STARTED = 1
    SHUTDOWN = 2


class Namespace:
    """Attributes to share."""

    def __init__(self, /, **kwds: Any) -> None:
        self.__dict__.update(kwds)

    def __repr__(self) -> str:
        shown = sorted(
            f"{name}={value!r}" for name, value in self.__dict__.items() if name[:1] != "_"
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class ProcessLocalSet(set[Any]):
    """A set that is empty in a forked child and pickles as an empty one."""

    def __init__(self) -> None:
        from . import util

        super().__init__()
        util.register_after_fork(self, lambda obj: obj.clear())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


class BaseManager(Unbuilt):
    """Starts a server and makes proxies."""

    _registry: ClassVar[dict[str, tuple[Any, ...]]] = {}

    @classmethod
    def register(
        cls,
        typeid: str,
        callable: Callable[..., Any] | None = None,
        proxytype: Any = None,
        exposed: Any = None,
        method_to_typeid: dict[str, str] | None = None,
        create_method: bool = True,
    ) -> None:
        """Make a type known to managers of this class."""
        if "_registry" not in cls.__dict__:
            cls._registry = cls._registry.copy()
        cls._registry[typeid] = (callable, exposed, method_to_typeid, proxytype)
        if create_method:
            setattr(cls, typeid, unbuilt(__name__, f"{cls.__qualname__}.{typeid}"))


class SyncManager(BaseManager):
    """The manager behind `Manager()`."""


class SharedMemoryManager(BaseManager):
    """A manager of shared memory."""


class SharedMemoryServer(Unbuilt):
    """The server of `SharedMemoryManager`."""


class Server(Unbuilt):
    """The server of a manager."""


class BaseProxy(Unbuilt):
    """Base of the proxies."""


class NamespaceProxy(BaseProxy):
    """A proxy of a `Namespace`."""


class ValueProxy(BaseProxy):
    """A proxy of a value."""


class IteratorProxy(BaseProxy):
    """A proxy of an iterator."""


class AcquirerProxy(BaseProxy):
    """A proxy of a lock."""


class ConditionProxy(AcquirerProxy):
    """A proxy of a condition."""


class EventProxy(BaseProxy):
    """A proxy of an event."""


class BarrierProxy(BaseProxy):
    """A proxy of a barrier."""


class ArrayProxy(BaseProxy):
    """A proxy of an array."""


class DictProxy(BaseProxy):
    """A proxy of a dictionary."""


class ListProxy(BaseProxy):
    """A proxy of a list."""


class PoolProxy(BaseProxy):
    """A proxy of a pool."""


def all_methods(obj: object) -> list[str]:
    """The names of an object's callables."""
    return [name for name in dir(obj) if callable(getattr(obj, name))]


def public_methods(obj: object) -> list[str]:
    """The names of an object's callables that have no leading underscore."""
    return [name for name in all_methods(obj) if name[0] != "_"]


def convert_to_error(kind: str, result: Any) -> BaseException:
    """The exception for a reply that is not a result."""
    if kind == "#ERROR":
        return result  # type: ignore[no-any-return]
    if kind in ("#TRACEBACK", "#UNSERIALIZABLE"):
        if not isinstance(result, str):
            raise TypeError(f"Result {result!r} (kind '{kind}') type is {type(result)}, not str")
        return RemoteError(f"Unserializable message: {result}\n" if kind[1] == "U" else result)
    return ProcessError(f"Unrecognized message type {kind!r}")


MakeProxyType = unbuilt(__name__, "MakeProxyType")
AutoProxy = unbuilt(__name__, "AutoProxy")
RebuildProxy = unbuilt(__name__, "RebuildProxy")
dispatch = unbuilt(__name__, "dispatch")
