"""Descriptors as picklable objects: the names of `multiprocessing.resource_sharer`.

There a background thread hands each descriptor over when the receiver comes back for it. Here a
descriptor travels with the message that names it, so nothing is served and nothing has to stop;
the sender may be gone when the message is read.
"""

from __future__ import annotations

import os
import socket

from bequeath import _engine, _transfer

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DupFd", "DupSocket", "stop"]


class DupFd:
    """A duplicate of a descriptor that can be put into a message or an argument."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = os.dup(fd)

    def detach(self) -> int:
        """The descriptor, which is the caller's from now on; once only."""
        fd, self._fd = self._fd, None
        if fd is None:
            raise ValueError("the descriptor was already detached")
        return fd

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fd is None:
            raise ValueError("the descriptor was already detached")
        if not _engine.transfer_active():
            raise _transfer.no_destination(self)
        return _rebuild, (_engine.export_descriptor(self._fd),)

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:
            self._fd = None
            os.close(fd)


def _rebuild(token: int) -> DupFd:
    arrived = DupFd.__new__(DupFd)
    arrived._fd = _engine.import_descriptor(token)
    return arrived


class DupSocket:
    """A socket that can be put into a message or an argument."""

    def __init__(self, sock: socket.socket) -> None:
        self._duplicate = DupFd(sock.fileno())
        self._shape = (sock.family, sock.type, sock.proto)

    def detach(self) -> socket.socket:
        """The socket; once only."""
        return socket.socket(*self._shape, fileno=self._duplicate.detach())


def stop(timeout: float | None = None) -> None:
    """Does nothing: there is no thread to stop."""
