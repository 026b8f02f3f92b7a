"""A worker is killed while it holds a lock: the next one is told whose it was, and goes on."""

import os
import signal

import bequeath


def die_holding(lock) -> None:
    lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    lock = bequeath.Lock()
    worker = bequeath.Process(target=die_holding, args=(lock,), name="unlucky")
    worker.start()
    worker.join()
    print("exit code", worker.exitcode)
    try:
        lock.acquire()
    except bequeath.AbandonedLock as abandoned:
        print(f"the lock's holder died: {abandoned}")
        lock.recover()
    print("the lock is ours again")
    lock.release()
