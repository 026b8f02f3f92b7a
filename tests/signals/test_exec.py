"""`os.exec*` while other threads use shared objects: no cell is left locked by who is no more."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import pytest

from implementation import Implementation

THREADS = 4
ROUNDS = 5
OTHER = "import signal; signal.pause()"


def busy(queue: Any, semaphore: Any, event: Any) -> None:
    while True:
        queue.put(b"x" * 50)
        queue.get()
        semaphore.acquire()
        semaphore.release()
        event.set()
        event.clear()


def become_another_program(*objects: Any) -> None:
    for _ in range(THREADS):
        threading.Thread(target=busy, args=objects, daemon=True).start()
    # The objects are in use, by other threads, at this very moment.
    objects[0].put("running")
    objects[0].get()
    os.execv(sys.executable, [sys.executable, "-S", "-c", OTHER])


def use(queue: Any, semaphore: Any, event: Any) -> None:
    queue.put("after")
    while queue.get() != "after":
        pass
    event.set()
    # The other program's threads may have ended with it in their hands.
    semaphore.acquire(False)
    semaphore.release()


@pytest.mark.limit(120)
@pytest.mark.skipif(not os.path.exists("/proc/self/cmdline"), reason="procfs is missing")
def test_no_object_is_stuck() -> None:
    # What comes before an exec is the same in a child of each start method.
    mp = Implementation("bequeath", "fork")
    for _ in range(ROUNDS):
        objects = mp.Queue(), mp.Semaphore(1), mp.Event()
        process = mp.Process(target=become_another_program, args=objects)
        process.start()
        # The other program runs, with the pid and the start time of the one that used the objects.
        until_other_program(process.pid)
        use(*objects)
        process.kill()
        process.join()
        objects[0].close()


def until_other_program(pid: int) -> None:
    while True:
        with open(f"/proc/{pid}/cmdline", "rb") as line:
            if b"signal.pause()" in line.read():
                return


def test_after_a_failed_exec_everything_goes_on(ours: Implementation) -> None:
    queue, stop = ours.SimpleQueue(), threading.Event()

    def echo() -> None:
        while not stop.is_set():
            queue.put(1)
            queue.get()

    threads = [threading.Thread(target=echo) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        with pytest.raises(FileNotFoundError):
            os.execv("/nonexistent/program", ["program"])
        queue.put(2)
        queue.get()
    stop.set()
    for thread in threads:
        thread.join()
    queue.close()
