"""The start method "forkserver": a child of a template that has the program's modules loaded."""

from __future__ import annotations

from . import popen_spawn_posix, reduction

if not reduction.HAVE_SEND_HANDLE:
    raise ImportError("No support for sending fds between processes")

__all__ = ["Popen"]


class _DupFd(popen_spawn_posix._DupFd):
    def __init__(self, ind: int) -> None:
        super().__init__(ind)


class Popen(popen_spawn_posix.Popen):
    """A child forked from the program's own template."""

    method = "forkserver"
    DupFd = _DupFd  # type: ignore[assignment]
