"""What is measured: each cell with its target, who takes part, and one sample's work.

A cell opens a contender (makes its objects and the process at the other end) and then gives
samples: seconds for one operation. The other end is a forked process that lives as long as the
cell, so that only the operations are inside the time.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

Sample = Callable[[], float]


@dataclass(frozen=True)
class Cell:
    """`target`: how many times faster than the standard library's like-named object."""

    title: str
    target: float
    opened: Callable[[str], Any]
    objects: tuple[str, ...]
    beside: tuple[str, ...] = ()
    program: str = "measure.py"
    rounds: int = 9


def context(package: str) -> Any:
    return importlib.import_module(package).get_context("fork")


def make_queue(contender: str, capacity: int, largest: int) -> Any:
    package, kind = contender.split(".")
    if package == "faster_fifo":
        room = max(1 << 20, 3 * largest)
        return importlib.import_module(package).Queue(max_size_bytes=room)
    made = getattr(context(package), kind)
    return made() if kind == "SimpleQueue" else made(capacity)


def other_end(contender: str) -> Any:
    """The package whose Process and Pipe drive the other end: never part of what is timed."""
    package = contender.split(".")[0]
    return context("multiprocessing" if package == "faster_fifo" else package)


@contextmanager
def peer(contender: str, target: Callable[..., None], *arguments: Any) -> Iterator[Any]:
    mine, theirs = other_end(contender).Pipe()
    process = other_end(contender).Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield mine
    finally:
        process.kill()
        process.join()


# --- queues ----------------------------------------------------------------------------------


def messages(kind: str) -> Any:
    if kind == "int":
        return 7
    if kind.startswith("bytes"):
        return bytes(int(kind.split()[1]))
    return importlib.import_module("numpy").ones(int(kind.split()[1]) // 8)


def look_at(message: Any) -> None:
    """Reads one number of each page, so that memory that was not really received shows."""
    if hasattr(message, "shape"):
        message[::512].sum()


def send_on_demand(orders: Any, queue: Any, kind: str) -> None:
    message = messages(kind)
    while True:
        for _ in range(orders.recv()):
            queue.put(message)


def one_to_one(kind: str, count: int, capacity: int = 0) -> Callable[[str], Any]:
    size = int(kind.split()[1]) if " " in kind else 100

    @contextmanager
    def opened(contender: str) -> Iterator[Sample]:
        queue = make_queue(contender, capacity, size)
        with peer(contender, send_on_demand, queue, kind) as orders:

            def sample() -> float:
                began = time.perf_counter()
                orders.send(count)
                for _ in range(count):
                    look_at(queue.get())
                return (time.perf_counter() - began) / count

            yield sample

    return opened


def receive_on_demand(orders: Any, queue: Any) -> None:
    while True:
        for _ in range(orders.recv()):
            queue.get()
        orders.send(None)


@contextmanager
def four_to_four(contender: str) -> Iterator[Sample]:
    share = 5000
    queue = make_queue(contender, 0, 1 << 20)
    with (
        peer(contender, send_on_demand, queue, "int") as s1,
        peer(contender, send_on_demand, queue, "int") as s2,
        peer(contender, send_on_demand, queue, "int") as s3,
        peer(contender, send_on_demand, queue, "int") as s4,
        peer(contender, receive_on_demand, queue) as r1,
        peer(contender, receive_on_demand, queue) as r2,
        peer(contender, receive_on_demand, queue) as r3,
        peer(contender, receive_on_demand, queue) as r4,
    ):
        senders, receivers = (s1, s2, s3, s4), (r1, r2, r3, r4)

        def sample() -> float:
            began = time.perf_counter()
            for orders in (*receivers, *senders):
                orders.send(share)
            for orders in receivers:
                orders.recv()
            return (time.perf_counter() - began) / (4 * share)

        yield sample


def echo_queue(orders: Any, requests: Any, replies: Any) -> None:
    while True:
        replies.put(requests.get())


@contextmanager
def queue_ping_pong(contender: str) -> Iterator[Sample]:
    requests, replies = make_queue(contender, 0, 100), make_queue(contender, 0, 100)
    with peer(contender, echo_queue, requests, replies):

        def sample() -> float:
            count = 500
            began = time.perf_counter()
            for number in range(count):
                requests.put(number)
                replies.get()
            return (time.perf_counter() - began) / count

        yield sample


def echo_pipe(orders: Any) -> None:
    while True:
        orders.send(orders.recv())


@contextmanager
def pipe_ping_pong(contender: str) -> Iterator[Sample]:
    with peer(contender, echo_pipe) as connection:

        def sample() -> float:
            count = 1000
            began = time.perf_counter()
            for number in range(count):
                connection.send(number)
                connection.recv()
            return (time.perf_counter() - began) / count

        yield sample


# --- synchronisation -------------------------------------------------------------------------


@contextmanager
def with_lock(contender: str) -> Iterator[Sample]:
    lock = context(contender.split(".")[0]).Lock()

    def sample() -> float:
        count = 20000
        began = time.perf_counter()
        for _ in range(count):
            with lock:
                pass
        return (time.perf_counter() - began) / count

    yield sample


@contextmanager
def by_calls(contender: str) -> Iterator[Sample]:
    package, kind = contender.split(".")
    held = getattr(context(package), kind)()

    def sample() -> float:
        count = 50000
        began = time.perf_counter()
        for _ in range(count):
            held.acquire()
            held.release()
        return (time.perf_counter() - began) / count

    yield sample


def answer_events(orders: Any, ping: Any, pong: Any) -> None:
    while True:
        ping.wait()
        ping.clear()
        pong.set()


@contextmanager
def event_round_trip(contender: str) -> Iterator[Sample]:
    events = context(contender.split(".")[0])
    ping, pong = events.Event(), events.Event()
    with peer(contender, answer_events, ping, pong):

        def sample() -> float:
            count = 500
            began = time.perf_counter()
            for _ in range(count):
                ping.set()
                pong.wait()
                pong.clear()
            return (time.perf_counter() - began) / count

        yield sample


@contextmanager
def value_update(contender: str) -> Iterator[Sample]:
    value = context(contender.split(".")[0]).Value("q", 0)

    def sample() -> float:
        count = 10000
        began = time.perf_counter()
        for _ in range(count):
            with value.get_lock():
                value.value += 1
        return (time.perf_counter() - began) / count

    yield sample


# --- processes -------------------------------------------------------------------------------


def start_to_join(method: str, count: int) -> Callable[[str], Any]:
    @contextmanager
    def opened(contender: str) -> Iterator[Sample]:
        chosen = importlib.import_module(contender.split(".")[0]).get_context(method)
        nothing = importlib.import_module("__main__").nothing

        def sample() -> float:
            began = time.perf_counter()
            for _ in range(count):
                process = chosen.Process(target=nothing)
                process.start()
                process.join()
            return (time.perf_counter() - began) / count

        yield sample

    return opened


QUEUES: Any = {"objects": ("Queue", "SimpleQueue"), "beside": ("faster_fifo.Queue",)}
PROCESS: Any = {"objects": ("Process",)}

CELLS = {
    "queue-int": Cell("Queue, small ints, one to one", 6, one_to_one("int", 20000), **QUEUES),
    "queue-10k": Cell("Queue, 10 KiB bytes", 2.5, one_to_one("bytes 10240", 6000), **QUEUES),
    "queue-1m": Cell("Queue, 1 MiB bytes", 4, one_to_one("bytes 1048576", 60, 8), **QUEUES),
    "queue-1m-array": Cell("Queue, 1 MiB array", 8, one_to_one("array 1048576", 60, 8), **QUEUES),
    "queue-64m-array": Cell(
        "Queue, 64 MiB array", 8, one_to_one("array 67108864", 4, 2), **QUEUES, rounds=5
    ),
    "queue-four-to-four": Cell("Queue, small ints, four to four", 3, four_to_four, **QUEUES),
    "queue-ping-pong": Cell("Queue ping-pong", 5, queue_ping_pong, **QUEUES),
    "pipe-ping-pong": Cell("Pipe ping-pong", 1.2, pipe_ping_pong, ("Pipe",)),
    "lock": Cell("with Lock", 2, with_lock, ("Lock",)),
    "semaphore": Cell("Semaphore, acquire() and release()", 1, by_calls, ("Semaphore",)),
    "bounded": Cell("BoundedSemaphore, the same", 1, by_calls, ("BoundedSemaphore",)),
    "event": Cell("Event round trip", 2, event_round_trip, ("Event",)),
    "value": Cell("Value update under its lock", 3, value_update, ("Value",)),
    "spawn": Cell("Process start to join, spawn", 15, start_to_join("spawn", 3), **PROCESS),
    "forkserver": Cell("... forkserver", 4, start_to_join("forkserver", 5), **PROCESS),
    "forkserver-numpy": Cell(
        "... forkserver, numpy imported at the top",
        12,
        start_to_join("forkserver", 3),
        **PROCESS,
        program="with_numpy.py",
    ),
    "forkserver-pandas": Cell(
        "... forkserver, pandas imported at the top",
        50,
        start_to_join("forkserver", 2),
        **PROCESS,
        program="with_pandas.py",
        rounds=5,
    ),
    "fork": Cell("... fork", 1, start_to_join("fork", 5), **PROCESS),
}
