"""Processes in messages: a started one crosses as a handle.

The receiver may wait for it, look and signal, whoever started it and whether or not that one still
runs. In the process that started it, it is that process's own object again.
"""

from __future__ import annotations

import fcntl
import os

from . import _engine, process

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ProcessHandle"]

_LOWEST = 3  # behind standard input, output and error


class ProcessHandle(process.BaseProcess):
    """A process that another process started."""

    def __init__(
        self,
        held: _engine.HeldProcess,
        name: str,
        identity: tuple[int, ...],
        parent: int | None,
        daemon: bool,
    ) -> None:
        self._identity = identity
        self._name = name
        self._parent_pid = parent
        self._popen = held
        self._sentinel = held.sentinel
        self._closed = False
        self._config = {"daemon": daemon}

    def close(self) -> None:
        """Give the handle back; the process goes on."""
        if self._popen is not None:
            self._popen.close()
            self._popen = None
            del self._sentinel
        self._closed = True


def hold(process_obj: process.BaseProcess) -> _engine.HeldProcess:
    """What a handle of this process stands on."""
    popen = process_obj._popen
    if type(popen) is _engine.HeldProcess:
        return popen
    if process_obj is process._current_process:
        return _engine.HeldProcess(_engine.open_this_process(), os.getpid())
    pid, known = process_obj.pid, None
    assert pid is not None
    if popen is not None and process_obj._parent_pid == os.getpid():
        if hasattr(popen, "_child"):  # not somebody's own way of starting processes
            popen._child.hand_on()
        known = popen.poll()
    return _engine.HeldProcess(_above_streams(process_obj.sentinel), pid, None, known)


def _above_streams(descriptor: int) -> int:
    """A copy whose number no standard stream will ever be given."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _LOWEST)


def take_hold(process_obj: process.BaseProcess) -> _engine.HeldProcess:
    """Makes the object a handle: a fork has copied it out of the process that started it."""
    held = hold(process_obj)
    process_obj._popen, process_obj._sentinel = held, held.sentinel
    return held


def reduce(process_obj: process.BaseProcess) -> tuple[Any, ...]:
    """For a transfer."""
    held = hold(process_obj)
    token = _engine.export_descriptor(held.sentinel)
    held.poll()  # the sender may know how it ended, or learn it now
    state = (process_obj.name, process_obj._identity, process_obj._parent_pid, process_obj.daemon)
    return _rebuild, (token, (held.pid, held.start_ticks, held.known), state)


def _rebuild(
    token: int,
    place: tuple[int, int, int | None],
    state: tuple[str, tuple[int, ...], int | None, bool],
) -> process.BaseProcess:
    held = _engine.HeldProcess(_engine.import_descriptor(token), *place)
    return _own(held, *state[1:3]) or ProcessHandle(held, *state)


def _own(
    held: _engine.HeldProcess, identity: tuple[int, ...], parent: int | None
) -> process.BaseProcess | None:
    """This process's own object of the process: its own, or that of a child which it started."""
    if held.pid == os.getpid():
        return process._current_process if held.poll() is None else None
    if parent != os.getpid():
        return None
    for child in list(process._dangling):
        popen = child._popen
        is_it = popen is not None and child._identity == identity and child._parent_pid == parent
        if is_it and popen.pid == held.pid:
            return child
    return None
