"""Things to hand over: how each is made, used by who receives it, and looked at afterwards.

A module of its own since children import it by name.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from implementation import Implementation


@dataclass(frozen=True)
class Case:
    """`use` runs in the receiver and returns a small answer; `verify` runs where it was made."""

    make: Callable[[Implementation], Any]
    use: Callable[[Any], Any]
    verify: Callable[[Any, Any], None]
    discard: Callable[[Any], None] = lambda thing: None
    # Whether the standard library passes it as an argument by each start method ...
    is_argument: bool = True
    # ... and inside a message while the sender lives.
    is_message: bool = False


def expect(wanted: Any) -> Callable[[Any, Any], None]:
    def verify(thing: Any, answer: Any) -> None:
        assert answer == wanted

    return verify


def use_queue(queue: Any) -> str:
    queue.put("through the queue")
    return "put"


def verify_queue(queue: Any, answer: Any) -> None:
    assert answer == "put"
    assert queue.get() == "through the queue"


def close_queue(queue: Any) -> None:
    queue.close()
    queue.join_thread()


def use_joinable(queue: Any) -> str:
    queue.put("to be done")
    return "put"


def verify_joinable(queue: Any, answer: Any) -> None:
    assert queue.get() == "to be done"
    queue.task_done()
    queue.join()


def make_held(kind: str) -> Callable[[Implementation], Any]:
    def make(mp: Implementation) -> Any:
        lock = getattr(mp, kind)()
        lock.acquire()
        return lock

    return make


def use_held(lock: Any) -> bool:
    return lock.acquire(False)


def verify_held(lock: Any, answer: Any) -> None:
    assert answer is False, "the receiver took a lock that is held here: not the same lock"
    lock.release()
    assert lock.acquire(False)
    lock.release()


def use_semaphore(semaphore: Any) -> tuple[bool, bool, bool]:
    return semaphore.acquire(False), semaphore.acquire(False), semaphore.acquire(False)


def verify_semaphore(semaphore: Any, answer: Any) -> None:
    assert answer == (True, True, False)
    assert semaphore.acquire(False) is False
    semaphore.release()
    assert semaphore.acquire(False)


def use_event(event: Any) -> bool:
    was_set = event.is_set()
    event.set()
    return was_set


def verify_event(event: Any, answer: Any) -> None:
    assert answer is False
    assert event.wait(30)


def use_condition(condition: Any) -> bool:
    with condition:
        condition.notify()
        return condition.wait(0)


def use_barrier(barrier: Any) -> tuple[int, int]:
    barrier.abort()
    return barrier.parties, barrier.n_waiting


def verify_barrier(barrier: Any, answer: Any) -> None:
    assert answer == (3, 0)
    assert barrier.broken


def use_value(value: Any) -> int:
    with value.get_lock():
        value.value += 1
        return value.value


def verify_value(value: Any, answer: Any) -> None:
    assert answer == value.value == 42


def use_array(array: Any) -> list[float]:
    array[0] = 9
    return list(array)


def verify_array(array: Any, answer: Any) -> None:
    assert answer == list(array) == [9, 2, 3]


class Ends:
    """A pair of connections or sockets of which one crosses."""

    def __init__(self, kept: Any, given: Any) -> None:
        self.kept = kept
        self.given = given


def make_pipe(mp: Implementation) -> Ends:
    return Ends(*mp.Pipe())


def make_one_way_pipe(mp: Implementation) -> Ends:
    return Ends(*mp.Pipe(duplex=False))


def use_connection(connection: Any) -> str:
    connection.send("through the pipe")
    connection.close()
    return "sent"


def verify_connection(ends: Ends, answer: Any) -> None:
    assert ends.kept.recv() == "through the pipe"


def make_sockets(mp: Implementation) -> Ends:
    return Ends(*socket.socketpair())


def use_socket(given: socket.socket) -> str:
    given.sendall(b"through the socket")
    given.close()
    return "sent"


def verify_socket(ends: Ends, answer: Any) -> None:
    assert ends.kept.recv(100) == b"through the socket"


def close_ends(ends: Ends) -> None:
    ends.kept.close()
    ends.given.close()


def make_file(mp: Implementation) -> Any:
    return tempfile.TemporaryFile("w+b", buffering=0)


def use_file(file: Any) -> str:
    file.write(b"through the file")
    file.close()
    return "written"


def verify_file(file: Any, answer: Any) -> None:
    # One open file description: the receiver's writing moved the offset of both.
    assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == len("through the file")
    file.seek(0)
    assert file.read() == b"through the file"


def make_text_file(mp: Implementation) -> Any:
    return tempfile.TemporaryFile("w+", encoding="latin-1")


def use_text_file(file: Any) -> str:
    file.write("Grüße")
    file.close()
    return file.encoding


def verify_text_file(file: Any, answer: Any) -> None:
    assert answer == "latin-1"
    file.seek(0)
    assert file.read() == "Grüße"


CASES = {
    "Queue": Case(lambda mp: mp.Queue(), use_queue, verify_queue, close_queue),
    "bounded Queue": Case(lambda mp: mp.Queue(3), use_queue, verify_queue, close_queue),
    "SimpleQueue": Case(
        lambda mp: mp.SimpleQueue(), use_queue, verify_queue, lambda queue: queue.close()
    ),
    "JoinableQueue": Case(
        lambda mp: mp.JoinableQueue(), use_joinable, verify_joinable, close_queue
    ),
    "Lock": Case(make_held("Lock"), use_held, verify_held),
    "RLock": Case(make_held("RLock"), use_held, verify_held),
    "Semaphore": Case(lambda mp: mp.Semaphore(2), use_semaphore, verify_semaphore),
    "BoundedSemaphore": Case(lambda mp: mp.BoundedSemaphore(2), use_semaphore, verify_semaphore),
    "Event": Case(lambda mp: mp.Event(), use_event, verify_event),
    "Condition": Case(lambda mp: mp.Condition(), use_condition, expect(False)),
    "Barrier": Case(lambda mp: mp.Barrier(3), use_barrier, verify_barrier),
    "Value": Case(lambda mp: mp.Value("i", 41), use_value, verify_value),
    "Array": Case(lambda mp: mp.Array("d", [1, 2, 3]), use_array, verify_array),
    "RawArray": Case(lambda mp: mp.RawArray("i", [1, 2, 3]), use_array, verify_array),
    "Connection": Case(make_pipe, use_connection, verify_connection, close_ends, is_message=True),
    "one-way Connection": Case(
        make_one_way_pipe, use_connection, verify_connection, close_ends, is_message=True
    ),
    "socket": Case(make_sockets, use_socket, verify_socket, close_ends, is_message=True),
    "file": Case(make_file, use_file, verify_file, lambda file: file.close(), is_argument=False),
    "text file": Case(
        make_text_file,
        use_text_file,
        verify_text_file,
        lambda file: file.close(),
        is_argument=False,
    ),
}


def part_that_crosses(thing: Any) -> Any:
    return thing.given if isinstance(thing, Ends) else thing


def receive_as_argument(name: str, thing: Any, answers: Any) -> None:
    answers.send(CASES[name].use(thing))


def receive_as_message(name: str, carrier: Any, answers: Any) -> None:
    receive = carrier.get if hasattr(carrier, "get") else carrier.recv
    message = receive()
    answers.send(CASES[name].use(message["deep"][0]))


def send_and_leave(name: str, mp: Implementation, carrier: Any) -> None:
    """Makes the thing here, sends it, and ends: nothing of this process is left to ask."""
    thing = CASES[name].make(mp)
    send = carrier.put if hasattr(carrier, "put") else carrier.send
    # The end that is kept goes along: it would be closed with this process.
    send({"deep": [part_that_crosses(thing)], "kept": getattr(thing, "kept", None)})
    CASES[name].discard(thing)
