"""One worker is killed and one call fails: each costs its own future, and says what happened."""

from __future__ import annotations

import os
import signal
import traceback

import bequeath
from bequeath.exceptions import WorkerDied


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
    if number == 5:
        raise ValueError(f"{number} is not to be squared")
    return number * number


def main() -> None:
    with bequeath.ProcessPoolExecutor(2) as executor:
        futures = [executor.submit(square, number) for number in range(8)]
        for number, future in enumerate(futures):
            error = future.exception()
            if isinstance(error, WorkerDied):
                print(f"{number}: killed by {error.signal} while it ran {error.task}")
            elif error is not None:
                frame = traceback.extract_tb(error.__traceback__)[-1]
                print(f"{number}: {error!r} raised by {frame.name}: {frame.line}")
    print("sum of the others:", sum(f.result() for f in futures if f.exception() is None))


if __name__ == "__main__":
    main()
