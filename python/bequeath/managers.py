"""Managers: the names other packages import; the servers and proxies are a later issue.

`BaseManager.register` works already, since modules call it at import; it is *making* a manager
that raises.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from ._unbuilt import Unbuilt, members, unbuilt
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

    __slots__ = ("value",)

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


class Value:
    """One value to share."""

    def __init__(self, typecode: Any, value: Any, lock: bool = True) -> None:
        self._typecode = typecode
        self._value = value

    def get(self) -> Any:
        """The value."""
        return self._value

    def set(self, value: Any) -> None:
        """Another value."""
        self._value = value

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._typecode!r}, {self._value!r})"

    value = property(get, set)


def Array(  # noqa: N802 - multiprocessing's name
    typecode: str, sequence: Any, lock: bool = True
) -> array.array[Any]:
    """An array to share."""
    return array.array(typecode, sequence)


def reduce_array(a: array.array[Any]) -> tuple[Any, ...]:
    """An array as its type and its bytes."""
    return array.array, (a.typecode, a.tobytes())


def rebuild_as_list(obj: Any) -> tuple[Any, ...]:
    """Anything iterable, such as a dictionary's views, as a list."""
    return list, (list(obj),)


class ProcessLocalSet(set[Any]):
    """A set that is empty in a forked child and pickles as an empty one."""

    def __init__(self) -> None:
        from . import util

        super().__init__()
        util.register_after_fork(self, lambda obj: obj.clear())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


@members("address", "connect", "get_server", "join", "start")
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


@members(
    "Array",
    "Barrier",
    "BoundedSemaphore",
    "Condition",
    "Event",
    "JoinableQueue",
    "Lock",
    "Namespace",
    "Pool",
    "Queue",
    "RLock",
    "Semaphore",
    "Value",
    "dict",
    "list",
    "set",
)
class SyncManager(BaseManager):
    """The manager behind `Manager()`."""


@members("ShareableList", "SharedMemory")
class SharedMemoryManager(BaseManager):
    """A manager of shared memory."""


@members(
    "accept_connection",
    "accepter",
    "create",
    "debug_info",
    "decref",
    "dummy",
    "fallback_getvalue",
    "fallback_repr",
    "fallback_str",
    "get_methods",
    "handle_request",
    "incref",
    "number_of_objects",
    "serve_client",
    "serve_forever",
    "shutdown",
)
class Server(Unbuilt):
    """The server of a manager."""

    fallback_mapping: ClassVar[dict[str, Any]] = {}
    public: ClassVar[list[str]] = [
        "shutdown",
        "create",
        "accept_connection",
        "get_methods",
        "debug_info",
        "number_of_objects",
        "dummy",
        "incref",
        "decref",
    ]


@members("list_segments", "release_segment", "track_segment")
class SharedMemoryServer(Server):
    """The server of `SharedMemoryManager`."""


class BaseProxy(Unbuilt):
    """Base of the proxies."""


class NamespaceProxy(BaseProxy):
    """A proxy of a `Namespace`."""


@members("get", "set", "value")
class ValueProxy(BaseProxy):
    """A proxy of a value."""


@members("close", "send", "throw")
class IteratorProxy(BaseProxy):
    """A proxy of an iterator."""


@members("acquire", "release", "locked")
class AcquirerProxy(BaseProxy):
    """A proxy of a lock."""


@members("wait", "wait_for", "notify", "notify_all")
class ConditionProxy(AcquirerProxy):
    """A proxy of a condition."""


@members("is_set", "set", "clear", "wait")
class EventProxy(BaseProxy):
    """A proxy of an event."""


@members("wait", "abort", "reset", "parties", "n_waiting", "broken")
class BarrierProxy(BaseProxy):
    """A proxy of a barrier."""


class ArrayProxy(BaseProxy):
    """A proxy of an array."""


@members(
    "clear",
    "copy",
    "fromkeys",
    "get",
    "items",
    "keys",
    "pop",
    "popitem",
    "setdefault",
    "update",
    "values",
)
class DictProxy(BaseProxy):
    """A proxy of a dictionary."""


@members(
    "append",
    "clear",
    "copy",
    "count",
    "extend",
    "index",
    "insert",
    "pop",
    "remove",
    "reverse",
    "sort",
)
class BaseListProxy(BaseProxy):
    """A proxy of a list, without assignment in place."""


class ListProxy(BaseListProxy):
    """A proxy of a list."""


@members(
    "add",
    "clear",
    "copy",
    "difference",
    "difference_update",
    "discard",
    "intersection",
    "intersection_update",
    "isdisjoint",
    "issubset",
    "issuperset",
    "pop",
    "remove",
    "symmetric_difference",
    "symmetric_difference_update",
    "union",
    "update",
)
class SetProxy(BaseProxy):
    """A proxy of a set; managers have it since 3.14."""


@members(
    "apply",
    "apply_async",
    "close",
    "imap",
    "imap_unordered",
    "join",
    "map",
    "map_async",
    "starmap",
    "starmap_async",
    "terminate",
)
class BasePoolProxy(BaseProxy):
    """A proxy of a pool, outside of a `with`."""


class PoolProxy(BasePoolProxy):
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
