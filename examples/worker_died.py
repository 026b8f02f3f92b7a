"""A worker that is killed costs the task in its hands, and its error says what happened."""

import os
import signal

import bequeath


def fragile(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


if __name__ == "__main__":
    with bequeath.Pool(2) as pool:
        results = [pool.apply_async(fragile, (number,)) for number in range(6)]
        for result in results:
            try:
                print(result.get())
            except bequeath.exceptions.WorkerDied as death:
                print(f"lost {death.task}: {death.signal}")
