"""Shared objects inside of messages between a Python program and a Rust one, both ways."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bequeath
import bequeath.queues
from bequeath.heap import BufferWrapper
from bequeath.sharedctypes import RawArray
from rust_examples import built

pytestmark = pytest.mark.limit(300)  # a cold build of the example


@pytest.fixture(scope="module")
def program() -> str:
    return built("shared_with_python")


@pytest.fixture
def worker(program: str) -> Iterator[Any]:
    """Asks it for something; it is told to stop at the end, and stops in order."""
    # In a list, which is emptied at the end: what pytest keeps of this must not keep the queues.
    queues = [bequeath.Queue(), bequeath.Queue()]
    invitation = bequeath.invite(*queues)
    process = subprocess.Popen([program, invitation.text], pass_fds=invitation.descriptors)

    def ask(request: Any) -> Any:
        queues[0].put(request)
        return queues[1].get()

    try:
        yield ask
        queues[0].put("Stop")
        assert process.wait() == 0
        assert all(queue.empty() for queue in queues)
    finally:
        process.kill()
        process.wait()
        queues.clear()


class Mine:
    """All that Rust's struct has, and the other ends of it."""

    def __init__(self, folder: Path) -> None:
        self.queue, self.either = bequeath.Queue(), bequeath.JoinableQueue()
        self.events = [bequeath.Event() for _ in range(3)]
        self.semaphore, self.lock = bequeath.Semaphore(0), bequeath.Lock()
        self.barrier = bequeath.Barrier(2)
        self.memory = RawArray("c", 8)
        self.here, self.there = socket.socketpair()
        self.pipe = bequeath.Pipe()
        self.file = open(folder / "file", "w+b")  # noqa: SIM115 - closed below
        self.text = open(folder / "text", "w")  # noqa: SIM115

    def everything(self, **others: Any) -> dict[str, Any]:
        return {
            "queue": self.queue,
            "pair": (self.events[0], self.events[0]),
            "list": [(3, self.semaphore)],
            "named": {"lock": self.lock},
            "maybe": None,
            "memory": self.memory,
            "either": {"Queue": self.either},
            "any": {"event": self.events[1]},
            "descriptors": [self.pipe[1], self.text, self.file, self.file, self.file.raw],
            "socket": self.there,
            "file": self.file,
            **others,
        }

    def close(self) -> None:
        for one in (self.here, self.there, *self.pipe, self.file, self.text):
            one.close()


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Mine]:
    mine = Mine(tmp_path)
    yield mine
    mine.close()


def close(*files: Any) -> None:
    for file in files:
        file.close()


@pytest.mark.short
def test_rust_uses_what_python_put_and_sends_it_back(worker: Any, mine: Mine) -> None:
    back = worker({"Use": mine.everything()})["Everything"]
    note = mine.queue.get()
    assert note["text"] == "from Rust"
    note["answers"].put("through the one that came inside")
    assert mine.queue.get() == "through the one that came inside"
    assert mine.events[0].is_set() and mine.events[1].is_set()
    assert mine.semaphore.acquire(False) and mine.semaphore.get_value() == 2
    assert mine.memory.value == b"held"
    assert mine.either.get() == "either"
    assert mine.here.recv(100) == b"to the socket"
    mine.file.seek(0)
    assert mine.file.read() == b"to the file"
    # What comes back is of this side's classes, and the same in shared memory.
    assert type(back["queue"]) is bequeath.queues.Queue
    back["queue"].put(5)
    assert mine.queue.get() == 5
    assert isinstance(back["pair"], tuple)
    back["pair"][1].clear()
    assert not mine.events[0].is_set()
    ((units, semaphore),) = back["list"]
    assert units == 3 and semaphore.get_value() == 2
    with back["named"]["lock"]:
        assert not mine.lock.acquire(False)
    memoryview(back["memory"])[:4] = b"here"
    assert mine.memory.value == b"here"
    assert back["maybe"] is None
    assert back["any"]["event"].is_set()
    assert type(back["socket"]) is socket.socket and back["socket"].family == socket.AF_UNIX
    back["socket"].send(b"again")
    assert mine.here.recv(100) == b"again"
    pipe, text, *files = back["descriptors"]
    assert os.fstat(text.fileno()).st_ino == os.fstat(mine.text.fileno()).st_ino
    assert (text.mode, back["file"].mode) == ("wb", "rb+")
    for file in (*files, back["file"]):
        assert os.path.sameopenfile(file.fileno(), mine.file.fileno())
    assert type(pipe) is socket.socket and type(text) is io.FileIO
    close(back["socket"], back["file"], pipe, text, *files)


def test_python_uses_what_rust_made_and_sends_it_there(worker: Any) -> None:
    made = worker("Make")["Everything"]
    note = made["queue"].get()
    assert note["text"] == "made in Rust"
    note["answers"].put(1)
    assert made["queue"].get() == 1
    assert made["either"]["Queue"].get() == "made"
    assert made["pair"][0].is_set() and made["pair"][1].is_set()
    ((units, semaphore),) = made["list"]
    assert units == 2 and semaphore.get_value() == 2
    with made["named"]["lock"]:
        assert bytes(made["memory"]) == b"in Rust!"
    assert made["maybe"].wait() == 0 and made["maybe"].parties == 1
    # There and back again: these are handles of Python now.
    with open(os.devnull, "wb") as null:
        made["file"].close()
        made["file"] = null
        again = worker({"Use": made})["Everything"]
    assert made["queue"].get()["text"] == "from Rust"
    assert bytes(again["memory"])[:4] == b"held"
    assert made["descriptors"][0].recv(100) == b"to the socket"
    for one in (made, again):
        close(one["socket"], one["file"], *one["descriptors"])


def test_every_kind_of_queue_memory_and_wrapped_handle(worker: Any, mine: Mine) -> None:
    others = {
        "queue": bequeath.SimpleQueue(),
        "memory": BufferWrapper(8),
        "either": {"Wrapped": {"event": mine.events[2]}},
        "any": 7,
        "maybe": mine.barrier,
    }
    mine.semaphore = bequeath.BoundedSemaphore(5)
    for _ in range(3):
        mine.semaphore.acquire()
    mine.events[0].note = "attributes stay behind"  # type: ignore[attr-defined]
    thread = threading.Thread(target=mine.barrier.wait)
    thread.start()
    back = worker({"Use": mine.everything(**others)})["Everything"]
    thread.join()
    assert others["queue"].get()["text"] == "from Rust"
    assert bytes(others["memory"].create_memoryview())[:4] == b"held"
    assert mine.events[2].is_set() and back["any"] == 7
    assert mine.semaphore.get_value() == 5
    with pytest.raises(ValueError):
        back["list"][0][1].release()
    close(back["socket"], back["file"], *back["descriptors"])


def test_one_lock_and_one_memory_under_both(worker: Any) -> None:
    lock, memory, done = bequeath.Lock(), RawArray("q", 1), bequeath.Event()

    def count() -> None:
        for _ in range(1000):
            with lock:
                memory[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    request = {"lock": lock, "memory": memory, "turns": 1000, "done": done}
    assert worker({"Count": request}) == {"Text": "counted"}
    thread.join()
    assert done.is_set() and memory[0] == 2000


def test_rust_wakes_who_waits_at_a_condition(worker: Any) -> None:
    lock, memory = bequeath.Lock(), RawArray("b", 1)
    condition = bequeath.Condition(lock)
    told: list[Any] = []
    with condition:
        request = {"condition": condition, "lock": lock, "memory": memory}
        thread = threading.Thread(target=lambda: told.append(worker({"Notify": request})))
        thread.start()
        assert condition.wait_for(lambda: memory[0] == 1)
    thread.join()
    assert told == [{"Text": "notified"}]


def test_outside_a_transfer_rust_refuses_as_python_does(worker: Any) -> None:
    (text,) = worker({"OutsideATransfer": bequeath.Queue()}).values()
    assert text.startswith(
        "Queue objects should only be shared between processes through inheritance: "
    )
    assert "docs/why.md#refused" in text


class MyQueue(bequeath.queues.Queue):
    pass


WRONG = [
    (lambda: bequeath.Event(), "of kind"),
    (lambda: bequeath.RLock(), "of kind"),
    (lambda: MyQueue(), "global"),
    (lambda: 3, "a shared object"),
    (lambda: print, "global"),
    (lambda: bequeath.Value("i", 1), "makes is no Lock"),
    (lambda: bequeath.queues.Queue, "global"),
    (lambda: io.BytesIO(), "global"),
]


@pytest.mark.parametrize(("make", "reason"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_another_kind_is_refused_there_once(worker: Any, make: Any, reason: str) -> None:
    memory, done = RawArray("q", 1), bequeath.Event()
    request = {"lock": make(), "memory": memory, "turns": 1, "done": done}
    said = worker({"Count": request})["Text"]
    assert said.startswith("refused: ") and reason in said, said
    # The message is gone, and the next one is read.
    request["lock"] = bequeath.Lock()
    assert worker({"Count": request}) == {"Text": "counted"}


def test_what_only_rust_has_is_refused_here_once(worker: Any) -> None:
    with pytest.raises(TypeError, match="send a Lock<\\(\\)>"):
        worker("OnlyRusts")
    assert worker("Make")["Everything"]["queue"].get()["text"] == "made in Rust"


def test_nothing_stays_behind(worker: Any, mine: Mine) -> None:
    def figures() -> Any:
        bequeath._engine.session_scavenge()
        info = bequeath._engine.session_info()
        assert info
        return info["references"], len(os.listdir("/proc/self/fd"))

    def once() -> None:
        back = worker({"Use": mine.everything()})["Everything"]
        close(back["socket"], back["file"], *back["descriptors"])
        mine.queue.get()
        mine.either.get()

    once()
    rounds = 20
    references, descriptors = figures()
    for _ in range(rounds):
        once()
    after = figures()
    # A child that a template keeps ahead may come meanwhile, and has references of its own.
    assert after[0] < references + rounds and after[1] == descriptors
