"""Turns a hang into stack dumps and a failed test.

Three steps, each for what the one before could not end:
1. A timer in this process raises `Hung` in the main thread, after printing all its threads'
   stacks and ending the descendants with SIGABRT (faulthandler makes them print theirs).
2. If the main thread does not come back, a helper process kills the descendants,
3. and then this process, so that the run ends instead of standing still.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

GRACE = 30.0


class Hung(BaseException):
    """A test took longer than its limit. No `except Exception` in a test may swallow it."""


def parents() -> dict[int, int]:
    """pid -> parent's pid, of every process of this machine."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                found[int(entry.name)] = int(fields[1])
    return found


def children(pid: int) -> list[int]:
    """What the kernel lists as children of a process's threads; raises where it keeps no list."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            found += map(int, (task / "children").read_text().split())
    return found


HAS_LISTS = Path("/proc/self/task", str(os.getpid()), "children").exists()


def descendants(pid: int) -> list[int]:
    """The children of a process and theirs, nearest first."""
    tree = {} if HAS_LISTS else parents()
    found, level = [], [pid]
    while level:
        if HAS_LISTS:
            below: list[int] = []
            for one in level:
                with contextlib.suppress(OSError):
                    below += children(one)
            level = below
        else:
            level = [child for child, parent in tree.items() if parent in level]
        found += level
    return found


def end_descendants(pid: int, spare: int, number: int) -> None:
    for child in descendants(pid):
        if child != spare:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, number)


class Helper:
    """The process of steps 2 and 3: told of each test's deadline through its standard input."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdin
        os.set_inheritable(self.process.stdin.fileno(), False)

    def tell(self, deadline: float) -> None:
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{deadline}\n".encode())
            self.process.stdin.flush()


_helper: Helper | None = None


def helper() -> Helper:
    global _helper
    if _helper is None:
        _helper = Helper()
    return _helper


def stop() -> None:
    global _helper
    if _helper is not None:
        _helper.process.communicate()
        _helper = None


@contextlib.contextmanager
def guard(name: str, seconds: float) -> Iterator[None]:
    spare = helper().process.pid
    owner = os.getpid()

    def on_alarm(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            return
        sys.__stderr__.write(f"\n{name}: no end after {seconds:.0f} s\n")
        sys.__stderr__.flush()
        faulthandler.dump_traceback(file=sys.__stderr__.fileno())
        end_descendants(owner, spare, signal.SIGABRT)
        raise Hung(f"no end after {seconds:.0f} s; the stacks are on stderr")

    previous = signal.signal(signal.SIGALRM, on_alarm)
    helper().tell(time.monotonic() + seconds + GRACE)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        if os.getpid() == owner:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
            helper().tell(0)


def main(pid: int) -> None:
    """The helper: reads deadlines (0: none) until its parent closes the pipe."""
    deadline = 0.0
    while True:
        wait = max(0.0, deadline - time.monotonic()) if deadline else None
        if select.select([0], [], [], wait)[0]:
            received = os.read(0, 65536)
            if not received:
                return
            deadline = float(received.split()[-1])
        elif deadline:
            sys.stderr.write("watchdog: the test run itself hangs; ending it\n")
            end_descendants(pid, os.getpid(), signal.SIGABRT)
            time.sleep(2)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGABRT)
            end_descendants(pid, os.getpid(), signal.SIGKILL)
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
