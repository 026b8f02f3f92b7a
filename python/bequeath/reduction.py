"""How objects become bytes where multiprocessing's users look for it.

`ForkingPickler` is the engine's pickler with a table of reducers that packages extend by
`register`; bequeath's own transfers obey the same table. Descriptors (`DupFd`,
`send_handle`, `sendfds`, …) are in the second half.
"""

from __future__ import annotations

import array
import copyreg
import functools
import io
import os
import socket
from abc import ABCMeta
from collections import ChainMap
from collections.abc import Callable, Iterable

from bequeath import _engine

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = [
    "send_handle",
    "recv_handle",
    "ForkingPickler",
    "register",
    "dump",
    "DupFd",
    "sendfds",
    "recvfds",
]


class ForkingPickler(_engine.Pickler):
    """The pickler that knows multiprocessing's types and those that packages registered."""

    _extra_reducers: ClassVar[dict[type, Callable[[Any], Any]]] = {}
    _copyreg_dispatch: ClassVar[ChainMap[type, Any]] = ChainMap(copyreg.dispatch_table)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dispatch_table = self._copyreg_dispatch.new_child(self._extra_reducers)

    @classmethod
    def register(cls, type: type, reduce: Callable[[Any], Any]) -> None:
        """Reduce objects of exactly this type by this function, here and in every transfer."""
        cls._extra_reducers[type] = reduce

    @classmethod
    def dumps(cls, obj: object, protocol: int | None = None) -> memoryview:
        """The pickle of an object, as a buffer."""
        sink = io.BytesIO()
        cls(sink, protocol).dump(obj)
        return sink.getbuffer()

    loads = _engine.loads


register = ForkingPickler.register


def dump(obj: object, file: Any, protocol: int | None = None) -> None:
    """Pickle an object into a file."""
    ForkingPickler(file, protocol).dump(obj)


# --- reducers of types that plain pickle refuses ---


def _reduce_method(method: Any) -> tuple[Any, ...]:
    return getattr, (method.__self__, method.__func__.__name__)


def _reduce_method_descriptor(descriptor: Any) -> tuple[Any, ...]:
    return getattr, (descriptor.__objclass__, descriptor.__name__)


def _reduce_partial(partial: functools.partial[Any]) -> tuple[Any, ...]:
    return _rebuild_partial, (partial.func, partial.args, partial.keywords or {})


def _rebuild_partial(
    func: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any]
) -> functools.partial[Any]:
    return functools.partial(func, *args, **keywords)


class _Sample:
    def method(self) -> None: ...


register(type(_Sample().method), _reduce_method)
register(type(list.append), _reduce_method_descriptor)
register(type(int.__add__), _reduce_method_descriptor)
register(functools.partial, _reduce_partial)
del _Sample


# --- descriptors ---

HAVE_SEND_HANDLE = True
#: Only macOS needs a received descriptor acknowledged.
ACKNOWLEDGE = False


def DupFd(fd: int) -> Any:  # noqa: N802 - multiprocessing's name
    """An object that stands for a descriptor in a pickle; `detach()` gives it on the other side."""
    from . import context, resource_sharer  # context imports this module

    if not _engine.transfer_active():
        popen = context.get_spawning_popen()
        if hasattr(popen, "duplicate_for_child"):  # somebody's own way of starting processes
            return popen.DupFd(popen.duplicate_for_child(fd))
    return resource_sharer.DupFd(fd)


def duplicate(handle: int, target_process: int | None = None, inheritable: bool = False) -> int:
    """A copy of a descriptor of this process."""
    if target_process not in (None, os.getpid()):
        raise ValueError("a descriptor is not put into another process: send it, by send_handle()")
    copy = os.dup(handle)
    os.set_inheritable(copy, inheritable)
    return copy


def sendfds(sock: socket.socket, fds: Iterable[int]) -> None:
    """Send descriptors over a local socket, in multiprocessing's form."""
    rights = array.array("i", fds)
    sock.sendmsg([bytes([len(rights) % 256])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])


def recvfds(sock: socket.socket, size: int) -> list[int]:
    """Receive up to `size` descriptors sent by `sendfds`."""
    rights = array.array("i")
    space = socket.CMSG_SPACE(rights.itemsize * size)
    message, ancillary, _, _ = sock.recvmsg(1, space, socket.MSG_CMSG_CLOEXEC)
    if not message and not ancillary:
        raise EOFError
    if len(ancillary) != 1:
        raise RuntimeError(f"received {len(ancillary)} items of ancdata")
    level, kind, data = ancillary[0]
    whole = len(data) % rights.itemsize == 0
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS) or not message or not whole:
        raise RuntimeError("Invalid data received")
    rights.frombytes(data)
    if len(rights) % 256 != message[0]:
        for fd in rights:
            os.close(fd)
        raise AssertionError(f"Len is {len(rights)} but msg[0] is {message[0]!r}")
    return list(rights)


def send_handle(conn: Any, handle: int, destination_pid: int | None) -> None:
    """Send one descriptor over a local connection."""
    with socket.fromfd(conn.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sendfds(sock, [handle])


def recv_handle(conn: Any) -> int:
    """Receive one descriptor over a local connection."""
    with socket.fromfd(conn.fileno(), socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        return recvfds(sock, 1)[0]


def _reduce_socket(sock: socket.socket) -> tuple[Any, ...]:
    # Plain numbers, which programs of other languages read, too.
    shape = (int(sock.family), int(sock.type), sock.proto)
    return _rebuild_socket, (DupFd(sock.fileno()), *shape)


def _rebuild_socket(df: Any, family: int, type: int, proto: int) -> socket.socket:
    return socket.socket(family, type, proto, fileno=df.detach())


register(socket.socket, _reduce_socket)


# --- replacing all of it ---


class AbstractReducer(metaclass=ABCMeta):  # noqa: B024 - multiprocessing's shape
    """Base for a replacement of this module (`context.reducer = …`)."""

    ForkingPickler = ForkingPickler
    register = register
    dump = dump
    send_handle = send_handle
    recv_handle = recv_handle
    sendfds = sendfds
    recvfds = recvfds
    DupFd = DupFd
    _reduce_method = _reduce_method
    _reduce_method_descriptor = _reduce_method_descriptor
    _rebuild_partial = _rebuild_partial
    _reduce_socket = _reduce_socket
    _rebuild_socket = _rebuild_socket

    def __init__(self, *args: Any) -> None:
        for method in (_reduce_method, _reduce_method_descriptor):
            sample = self.__init__ if method is _reduce_method else list.append  # type: ignore[misc]
            register(type(sample), method)
        register(type(int.__add__), _reduce_method_descriptor)
        register(functools.partial, _reduce_partial)
        register(socket.socket, _reduce_socket)
