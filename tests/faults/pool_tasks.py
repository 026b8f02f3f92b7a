"""What the workers of the pool under attack do; a module of its own since they import it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

_marks: dict[str, int] = {}


def work(number: int, folder: str) -> int:
    """Leaves a mark when it begins and one when it is done, and takes a moment."""
    if folder not in _marks:
        _marks[folder] = os.open(
            Path(folder) / "marks", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        )
    os.write(_marks[folder], f"b {number}\n".encode())
    if number % 7 == 0:
        time.sleep(0.002)
    os.write(_marks[folder], f"e {number}\n".encode())
    return number * 3


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def say_and_sleep(folder: str) -> None:
    """Says whose hands this task is in, and stays there."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(1000)


def eat_or_work(number: int) -> int:
    """Every eighth wants more memory than there is."""
    hoard = []
    while number % 8 == 5:
        hoard.append(bytearray(b"x") * 4_000_000)
    return number * 3


def stop_or_work(number: int) -> int:
    """Every sixteenth stops its process."""
    if number % 16 == 5:
        os.kill(os.getpid(), signal.SIGSTOP)
    return number * 3


def with_a_pool_of_its_own(method: str, pids: Any) -> None:
    """Says who works for this worker, and waits for them for ever."""
    import bequeath

    with bequeath.get_context(method).Pool(2) as inner:
        inner.map(sleep, [0.0] * 6, 1)
        inner.map_async(sleep, [1000.0] * 2, 1)
        pids.put([worker.pid for worker in inner._pool])
        time.sleep(1000)
