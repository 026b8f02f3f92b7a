"""A process that removes *named* resources when the program that named them is gone.

Nothing of bequeath has a name, so by itself the package never starts it. It exists for the named
shared memory a program asks for and for libraries that register their own (`joblib`'s `loky`
subclasses `ResourceTracker`). It is silent: nothing is warned, at exit or ever. Its exit status is
all it says: 1 when there was something left to remove.

The tracker reads lines ``COMMAND:name:type`` from a pipe that every process of the program holds
open; at end of file it removes what is still registered and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from ._version import FORKS_LEAVE_TRACKER

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ensure_running", "register", "unregister"]


def _unlink_shared_memory(name: str) -> None:
    try:
        import _posixshmem  # type: ignore[import-not-found]
    except ImportError:
        return
    _posixshmem.shm_unlink(name)


def _unlink_semaphore(name: str) -> None:
    from ._multiprocessing import sem_unlink

    sem_unlink(name)


def cleanup_noop(name: str) -> None:
    """For the type with which the pipe is probed: nothing of it is ever registered."""


#: What removes a resource of each type; other packages add their own types.
_CLEANUP_FUNCS: dict[str, Callable[[str], object]] = {
    "noop": cleanup_noop,
    "semaphore": _unlink_semaphore,
    "shared_memory": _unlink_shared_memory,
}

if sys.version_info >= (3, 13):
    _CLEANUP_FUNCS["dummy"] = lambda name: None  # there by then, and listed by programs

_LINE_LIMIT = 512  # a write of at most PIPE_BUF bytes is never torn


class ReentrantCallError(RuntimeError):
    """The tracker's lock was asked for from within; ours may be."""


class ResourceTracker:
    """This process's end of the tracker."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._fd: int | None = None
        self._pid: int | None = None
        self._exitcode: int | None = None
        self._waitpid_timed_out = False

    def _after_fork(self) -> None:
        self._lock = threading.RLock()  # a thread that is not here has the other, perhaps
        self._pid = None  # its parent's child
        ours = getattr(sys.modules.get(f"{__package__}.popen_fork"), "forking", None)
        if FORKS_LEAVE_TRACKER and not getattr(ours, "started", False) and self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def getfd(self) -> int | None:
        """The descriptor to hand to children; starts the tracker."""
        self.ensure_running()
        return self._fd

    def ensure_running(self) -> None:
        """Start the tracker unless one serves already, ours or one inherited."""
        with self._lock:
            if self._fd is not None:
                if self._check_alive():
                    return
                os.close(self._fd)
                self._reap()
            self._fd = self._pid = None
            self._start()

    def _start(self) -> None:
        from . import util
        from ._launch_command import interpreter_command

        reader, writer = os.pipe()
        try:
            keep = [reader]
            try:
                keep.append(sys.stderr.fileno())
            except Exception:
                pass
            command = interpreter_command(
                f"from bequeath.resource_tracker import main; main({reader})"
            )
            masked = signal.pthread_sigmask(
                signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM)
            )  # the tracker ignores them, but not before it runs
            try:
                self._pid = util.spawnv_passfds(command[0], command, keep)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, masked)
        except BaseException:
            os.close(writer)
            raise
        finally:
            os.close(reader)
        self._fd = writer

    def _check_alive(self) -> bool:
        try:
            os.write(self._fd, b"PROBE:0:noop\n")  # type: ignore[arg-type]
        except OSError:
            return False
        return True

    def _reap(self, timeout: float | None = None) -> None:
        if self._pid is None:
            return
        end = None if timeout is None else time.monotonic() + timeout
        try:
            _pid, status = os.waitpid(self._pid, 0 if end is None else os.WNOHANG)
            while end is not None and not _pid:
                if time.monotonic() > end:
                    self._waitpid_timed_out = True
                    return
                time.sleep(0.01)
                _pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            return  # inherited: somebody else's child
        self._exitcode = os.waitstatus_to_exitcode(status)

    def _stop(self, wait_timeout: float | None = None) -> None:
        """Close our end; if nobody else holds one the tracker cleans up and ends.

        That is waited for, or so many seconds: a child may hold the pipe for as long as it likes.
        """
        with self._lock:
            if self._fd is None:
                # None was needed, so nothing is left behind: what one that ran would say by 0.
                self._exitcode = 0 if self._exitcode is None else self._exitcode
                return
            os.close(self._fd)
            self._fd = None
            self._reap(wait_timeout)
            self._pid = None

    def register(self, name: str, rtype: str) -> None:
        """Have the resource removed when the program is gone."""
        self._send("REGISTER", name, rtype)

    def unregister(self, name: str, rtype: str) -> None:
        """Somebody has removed the resource already."""
        self._send("UNREGISTER", name, rtype)

    def _send(self, cmd: str, name: str, rtype: str) -> None:
        self.ensure_running()
        line = f"{cmd}:{name}:{rtype}\n".encode("ascii")
        if len(line) > _LINE_LIMIT:
            raise ValueError("msg too long")
        written = os.write(self._fd, line)  # type: ignore[arg-type]
        assert written == len(line), f"{written} of {len(line)} bytes written"


_resource_tracker = ResourceTracker()
os.register_at_fork(after_in_child=_resource_tracker._after_fork)
ensure_running = _resource_tracker.ensure_running
register = _resource_tracker.register
unregister = _resource_tracker.unregister
getfd = _resource_tracker.getfd


def main(fd: int) -> None:
    """The tracker's own program: follow the lines, then remove what is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    for stream in (sys.stdin, sys.stdout):
        try:
            stream.close()
        except Exception:
            pass
    registered: dict[str, set[str]] = {rtype: set() for rtype in _CLEANUP_FUNCS}
    with open(fd, "rb") as lines:
        for line in lines:
            _follow(line, registered)
    _remove(registered)
    if any(registered.values()):
        sys.exit(1)  # how a parent that waits learns that something had been left behind


def _follow(line: bytes, registered: dict[str, set[str]]) -> None:
    try:
        command, rest = line.decode("ascii").strip().split(":", 1)
        name, rtype = rest.rsplit(":", 1)
    except ValueError:
        return
    names: set[Any] | None = registered.get(rtype)
    if names is None:
        return
    if command == "REGISTER":
        names.add(name)
    elif command == "UNREGISTER":
        names.discard(name)


def _remove(registered: dict[str, set[str]]) -> None:
    for rtype, names in registered.items():
        for name in names:
            try:
                _CLEANUP_FUNCS[rtype](name)
            except Exception:
                continue  # gone already, or not ours to remove: there is nobody to tell
