"""What the workers of the pool under attack do; a module of its own since they import it."""

from __future__ import annotations

import os
import time
from pathlib import Path

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
