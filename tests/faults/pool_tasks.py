"""What the workers of the pool under attack do; a module of its own since they import it."""

from __future__ import annotations

import os
import time
from pathlib import Path


def work(number: int, folder: str) -> int:
    """Leaves a mark that it was begun, and takes a moment."""
    mark = os.open(Path(folder) / "begun", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(mark, f"{number}\n".encode())
    os.close(mark)
    if number % 7 == 0:
        time.sleep(0.002)
    return number * 3


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def say_and_sleep(folder: str) -> None:
    """Says whose hands this task is in, and stays there."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(1000)
