"""A started child as `Process` sees it, and the start method "fork".

The child is watched by descriptor: its sentinel is a pidfd, readable when the process has ended,
and signals go through it, so that they never reach another process with a recycled number.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable

from . import _engine, _settings, process, util

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["Popen"]

#: `started` while this thread forks a process of ours, and not just a child of the program's.
forking = threading.local()


class Popen:
    """A child forked from this process."""

    method = "fork"

    pid: int
    sentinel: int

    def __init__(self, process_obj: process.BaseProcess) -> None:
        util._flush_std_streams()
        self.returncode: int | None = None
        self.finalizer: Callable[[], object] | None = None
        self._launch(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """What stands for the descriptor in the child; a forked one has it under its number."""
        return fd

    def poll(self, flag: int = os.WNOHANG) -> int | None:
        """The exit code, or None while the child runs (or wait for it, with flag 0)."""
        if self.returncode is None:
            self.returncode = self._child.wait(0 if flag == os.WNOHANG else None)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """The exit code, or None when the child still runs after `timeout` seconds."""
        if self.returncode is None:
            self.returncode = self._child.wait(timeout)
        return self.returncode

    def _send_signal(self, sig: int) -> None:
        if self.returncode is None:
            self._child.signal(sig)

    def interrupt(self) -> None:
        """Send SIGINT."""
        self._send_signal(signal.SIGINT)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptor back."""
        if self.finalizer is not None:
            self.finalizer()

    def hear_of_start(self, wait: bool = True) -> None:
        """Raise what kept a child that was started among others from being what it should be."""

    def _adopt(self, child: _engine.Child) -> None:
        self._child = child
        self.pid = child.pid
        self.sentinel = child.fileno()
        self.finalizer = util.Finalize(self, child.close)

    def _launch(self, process_obj: process.BaseProcess) -> None:
        if not process_obj._session:
            raise ValueError(
                "a forked child has all that its parent has: session=False needs the start method "
                "'spawn' or 'forkserver'"
            )
        if _settings.narrate:
            from . import _narrate

            _narrate.inherited(process_obj)
        util._make_empty_input()
        arguments, keywords = _handed_down(process_obj)
        end = on_parent_death(process_obj)
        tie = None if end is None else _engine.Tie(end)
        this_process = _engine.open_this_process()
        watch = _engine.Watch()
        try:
            forking.started = True
            try:
                pid = os.fork()
            except OSError as error:
                _engine.fork_failed(error.errno)
            finally:
                forking.started = False
            if pid == 0:
                code = 1
                try:
                    atexit._clear()
                    atexit.register(util._exit_function)
                    if tie is not None:
                        tie.hold()
                    if "numpy.random" in sys.modules and not _settings.is_strict():
                        from . import _randomness

                        _randomness.renew_after_fork()
                    process_obj._args, process_obj._kwargs = arguments, keywords
                    code = process_obj._bootstrap(parent_sentinel=this_process)
                finally:
                    leave(code)
        finally:
            os.close(this_process)
            if tie is not None:
                tie.close()
        self._adopt(_engine.Child.forked(pid, watch))


def _handed_down(process_obj: process.BaseProcess) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments as the child shall have them: pools as what can be used there."""
    arguments, keywords = process_obj._args, process_obj._kwargs
    pools = sys.modules.get("bequeath._pool_driver")
    if pools is None or _settings.is_strict():
        return arguments, keywords
    values = pools.handed_down(tuple(keywords.values()))
    return pools.handed_down(arguments), dict(zip(keywords, values, strict=True))


def leave(code: int) -> NoReturn:
    """End a forked child: exit functions, then nothing of what it inherited from its parent."""
    try:
        atexit._run_exitfuncs()
    finally:
        _engine.session_leave()
        _engine.tell_footprint()
        os._exit(code & 0xFF)


def on_parent_death(process_obj: process.BaseProcess) -> str | None:
    """How the child shall end when this process is gone.

    Daemons do not outlive their parent, nor do the children of daemons, of whatever kind.
    """
    if _settings.is_strict():
        return None
    if process_obj.daemon or process._current_process.daemon:
        return "kill"
    return process_obj._on_parent_death


# Whoever loads this is about to start children.
_engine.give_back_freed_memory()
