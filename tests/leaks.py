"""What a test leaves behind: descriptors, processes, threads, shared memory, temporary folders.

Only what lives as long as the program is exempt, by name: the templates and the standard
library's fork server and resource tracker (direct children of this process, recognised by their
command lines), and the one descriptor each of them is reached by. Everything is looked at again
for a few seconds before it counts: a child that has just been joined may still be closing.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import watchdog

PATIENCE = 5.0
LIVING_AS_LONG_AS_THE_PROGRAM = (
    b"multiprocessing.forkserver",
    b"multiprocessing.resource_tracker",
    b"multiprocessing.semaphore_tracker",
    b"bequeath",
)


def private_temporary_folder() -> None:
    """Moves this run's temporary files to a folder of its own, where any newcomer is a leak."""
    if "BEQUEATH_TEST_TEMPORARY" not in os.environ:
        folder = tempfile.mkdtemp(prefix="bequeath-tests-")
        os.environ["BEQUEATH_TEST_TEMPORARY"] = os.environ["TMPDIR"] = folder
        tempfile.tempdir = folder
        # Registered before the packages are imported, so it runs after they have shut down.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def warm_up(start_methods: Sequence[str]) -> None:
    """Brings up what is made once per program, so that the first test is not blamed for it."""
    for name in ("multiprocessing", "bequeath"):
        package = sys.modules.get(name)
        if package is None or name in _warm:
            continue
        _warm.add(name)
        for method in start_methods:
            # A package that cannot even do this is for the tests to report.
            with contextlib.suppress(Exception):
                warm_up_start_method(package.get_context(method))
        # Kept until the program ends.
        importlib.import_module(f"{name}.util").get_temp_dir()
    if "multiprocessing" in _warm and "resource sharer" not in _warm:
        _warm.add("resource sharer")
        from multiprocessing.resource_sharer import DupFd

        with tempfile.TemporaryFile() as file:
            os.close(DupFd(file.fileno()).detach())


def warm_up_start_method(context: Any) -> None:
    queue = context.SimpleQueue()
    # Daemonic: what ties such children to this process is made once, too.
    process = context.Process(target=queue.put, args=(None,), daemon=True)
    process.start()
    queue.get()
    process.join()
    process.close()
    queue.close()


_warm: set[str] = set()


def command_line(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def processes() -> dict[int, str]:
    """Descendants of this process that should end with the test, zombies included."""
    me = os.getpid()
    own_helper = watchdog.helper().process.pid
    found = {}
    for pid in watchdog.descendants(me):
        line = command_line(pid)
        if pid == own_helper:
            continue
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
            is_direct = int(status.split()[1]) == me
            if is_direct and any(name in line for name in LIVING_AS_LONG_AS_THE_PROGRAM):
                continue
            comm = Path(f"/proc/{pid}/comm").read_text().strip()
            if comm in ("bequeath-spare", "bequeath-trial"):
                continue  # forked ahead by a template, and ends with it
            kind = "zombie" if status.split()[0] == "Z" else "process"
            shown = line.replace(b"\0", b" ").decode(errors="replace").strip()
            found[pid] = f"{kind} {pid} {comm}: {shown[:160]}"
    return found


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    # The one that listed the folder is gone by now. The standard library's heap keeps its arenas.
    return {
        fd: target
        for fd, target in found.items()
        if "/pym-" not in target and os.path.exists(f"/proc/self/fd/{fd}")
    }


def listing(folder: str) -> set[str]:
    with contextlib.suppress(OSError):
        return set(os.listdir(folder))
    return set()


@dataclass
class Inventory:
    """What there is at one moment."""

    descriptors: dict[int, str] = field(default_factory=dict)
    processes: dict[int, str] = field(default_factory=dict)
    shared_memory: set[str] = field(default_factory=set)
    folders: set[str] = field(default_factory=set)
    threads: set[threading.Thread] = field(default_factory=set)

    @classmethod
    def take(cls) -> Inventory:
        return cls(
            descriptors(),
            processes(),
            # The standard library's semaphores, this program's and other ones', are its own affair:
            # a queue that nobody closed is kept, with them, by its feeder thread.
            {name for name in listing("/dev/shm") if not name.startswith("sem.mp-")},
            {name for name in listing(tempfile.gettempdir()) if not name.startswith("pytest-")},
            set(threading.enumerate()),
        )

    def newer_than(self, before: Inventory) -> list[str]:
        found = [
            f"descriptor {fd}: {target}"
            for fd, target in self.descriptors.items()
            if before.descriptors.get(fd) != target
        ]
        # Numbers are reused: more descriptors are a leak, other ones are not.
        if len(self.descriptors) <= len(before.descriptors):
            found = []
        found += [text for pid, text in self.processes.items() if pid not in before.processes]
        found += [f"/dev/shm/{name}" for name in self.shared_memory - before.shared_memory]
        found += [f"temporary {name}" for name in self.folders - before.folders]
        found += [f"thread {thread.name}" for thread in self.threads - before.threads]
        return found


def reap() -> None:
    """Lets both packages notice which of their children have ended."""
    gc.collect()
    for name in ("multiprocessing", "bequeath"):
        package = sys.modules.get(name)
        if package is not None:
            package.active_children()


def what_is_left(before: Inventory) -> list[str]:
    """What is still there after some patience."""
    deadline = time.monotonic() + PATIENCE
    pause = 0.001
    while True:
        reap()
        left = Inventory.take().newer_than(before)
        if not left:
            return left
        if time.monotonic() > deadline:
            # The tests after this one are not to suffer from it.
            for pid in processes().keys() - before.processes.keys():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            reap()
            return left
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
