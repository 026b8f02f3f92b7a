"""Waits that Ctrl-C must end, each with what shows afterwards that the object still works."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from implementation import Implementation

WAITS: dict[str, Callable[[Implementation], None]] = {}


def wait(function: Callable[[Implementation], None]) -> Callable[[Implementation], None]:
    WAITS[function.__name__] = function
    return function


def main_thread_sleeps() -> bool:
    """In the kernel, which it enters without the interpreter's lock or to get it."""
    pid = os.getpid()
    stat = Path(f"/proc/self/task/{pid}/stat").read_text(errors="replace")
    return stat.rpartition(")")[2].split()[0] == "S"


@contextmanager
def interrupted() -> Iterator[None]:
    """The block waits for ever; real SIGINTs come, once the main thread sleeps, till one raises."""
    over = threading.Event()

    def send() -> None:
        seen = 0
        while not over.is_set():
            # Twice in a row: it has arrived in the wait and not just paused on its way.
            seen = seen + 1 if main_thread_sleeps() else 0
            if seen >= 3:
                os.kill(os.getpid(), signal.SIGINT)
                over.wait(0.2)
                seen = 0
            over.wait(0.002)

    sender = threading.Thread(target=send)
    try:
        sender.start()
        yield
        raise AssertionError("the wait ended without an interrupt")
    except KeyboardInterrupt:
        pass
    finally:
        # One more may be on its way: it is not the next operation's.
        while True:
            try:
                over.set()
                sender.join()
                time.sleep(0)
                break
            except KeyboardInterrupt:
                continue


@contextmanager
def held_by_another_thread(lock: Any) -> Iterator[None]:
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            enough.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    yield
    enough.set()
    thread.join()


@wait
def queue_get(mp: Implementation) -> None:
    queue = mp.Queue()
    with interrupted():
        queue.get()
    queue.put("works")
    assert queue.get() == "works"
    queue.close()
    queue.join_thread()


@wait
def queue_put(mp: Implementation) -> None:
    queue = mp.Queue(1)
    queue.put(1)
    with interrupted():
        queue.put(2)
    assert queue.get() == 1
    queue.put(3)
    assert queue.get() == 3
    queue.close()
    queue.join_thread()


@wait
def simple_queue_get(mp: Implementation) -> None:
    queue = mp.SimpleQueue()
    with interrupted():
        queue.get()
    queue.put("works")
    assert queue.get() == "works"
    queue.close()


@wait
def queue_join(mp: Implementation) -> None:
    queue = mp.JoinableQueue()
    queue.put(1)
    with interrupted():
        queue.join()
    queue.get()
    queue.task_done()
    queue.join()
    queue.close()
    queue.join_thread()


@wait
def lock_acquire(mp: Implementation) -> None:
    lock = mp.Lock()
    with lock, interrupted():
        lock.acquire()
    with lock:
        pass


@wait
def rlock_acquire(mp: Implementation) -> None:
    lock = mp.RLock()
    with held_by_another_thread(lock), interrupted():
        lock.acquire()
    with lock, lock:
        pass


@wait
def semaphore_acquire(mp: Implementation) -> None:
    for semaphore in (mp.Semaphore(0), mp.BoundedSemaphore(1)):
        if semaphore.acquire(False):
            with interrupted():
                semaphore.acquire()
        else:
            with interrupted():
                semaphore.acquire()
        semaphore.release()
        assert semaphore.acquire(False) and not semaphore.acquire(False)
        semaphore.release()


@wait
def value_lock(mp: Implementation) -> None:
    value = mp.Value("i", 0)
    with held_by_another_thread(value.get_lock()), interrupted():
        value.get_lock().acquire()
    value.value += 1
    assert value.value == 1


@wait
def condition_wait(mp: Implementation) -> None:
    condition = mp.Condition()
    with condition:
        with interrupted():
            condition.wait()
        # Held again, as after any wait.
        condition.notify()
    with condition:
        assert not condition.wait(0)


@wait
def event_wait(mp: Implementation) -> None:
    event = mp.Event()
    with interrupted():
        event.wait()
    assert not event.is_set()
    event.set()
    assert event.wait()


@wait
def barrier_wait(mp: Implementation) -> None:
    barrier = mp.Barrier(2)
    with interrupted():
        barrier.wait()
    barrier.reset()
    thread = threading.Thread(target=barrier.wait)
    thread.start()
    barrier.wait()
    thread.join()


@wait
def recv(mp: Implementation) -> None:
    mine, theirs = mp.Pipe()
    for receive in (mine.recv, mine.recv_bytes, lambda: mine.poll(None)):
        with interrupted():
            receive()
    theirs.send("works")
    assert mine.recv() == "works"
    mine.close()
    theirs.close()


@wait
def connection_wait(mp: Implementation) -> None:
    mine, theirs = mp.Pipe()
    with interrupted():
        mp.module("connection").wait([mine])
    theirs.send("works")
    assert mp.module("connection").wait([mine]) == [mine] and mine.recv() == "works"
    mine.close()
    theirs.close()


@wait
def send_on_full_pipe(mp: Implementation) -> None:
    mine, theirs = mp.Pipe()
    sent = 0
    with interrupted():
        while True:
            mine.send_bytes(b"." * 64)
            sent += 1
    # Whole messages only: all that were sent, and at most the interrupted one.
    received = 0
    while theirs.poll(0):
        assert theirs.recv_bytes() == b"." * 64
        received += 1
    assert received in (sent, sent + 1)
    mine.send("works")
    assert theirs.recv() == "works"
    mine.close()
    theirs.close()


def pause() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        signal.pause()


def nothing() -> None:
    pass


@wait
def join(mp: Implementation) -> None:
    process = mp.Process(target=pause)
    process.start()
    with interrupted():
        process.join()
    with interrupted():
        mp.module("connection").wait([process.sentinel])
    assert process.is_alive()
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


@wait
def start(mp: Implementation) -> None:
    """At whatever moment: the next start works, and what was started can be waited for."""
    for _ in range(10):
        sender = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT))
        process = mp.Process(target=nothing)
        try:
            sender.start()
            process.start()
            sender.join()
        except KeyboardInterrupt:
            sender.join()
    for child in mp.package.active_children():
        child.join()
    process = mp.Process(target=nothing)
    process.start()
    process.join()
    assert process.exitcode == 0


def run_all(mp: Implementation, names: list[str], report: Any) -> None:
    """In a child, or in this process: each wait in turn."""
    # A new session of processes may have been started with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in names:
        WAITS[name](mp)
        report(name)
