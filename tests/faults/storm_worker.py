"""One process of the storm: uses everything at random until it is told to stop, or killed."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import queue as queues
import random
import tempfile
import threading
import time
import traceback
import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from storm_journal import (
    ACK,
    ADDED,
    BORN,
    BROKEN,
    FULL,
    GOT,
    LEFT,
    NONE,
    REPORT,
    REPORTED,
    TRY,
    WANT,
    Journal,
)

import bequeath as mp
from bequeath.exceptions import WorkerDied
from bequeath.synchronize import AbandonedLock

# Both sides of what travels inline; a record, a block, several extents.
SIZES = (0, 1, 100, 3000, 5000, 70_000, 300_000)
LARGE = (8_000, 100_000, 1_200_000, 6_000_000)
METHODS = ("fork", "spawn", "forkserver")
# How long an operation that may wait is told to wait.
MOMENT = 0.02
# Most messages that lie in an unbounded queue.
ENOUGH = 150


def take(lock: Any, journal: Journal, timeout: float | None = None) -> bool | None:
    """Acquires a lock, from the dead if need be; True: mended. None: not in time."""
    while True:
        try:
            with journal.timed("acquire", timeout or 0.0):
                got = lock.acquire() if timeout is None else lock.acquire(timeout=timeout)
            return False if got else None
        except AbandonedLock:
            try:
                with journal.timed("recover"):
                    lock.recover()
                return True
            except (AbandonedLock, ValueError):
                pass  # another one was quicker


def by_value(lock: Any, content: bytes) -> Any:
    """A function that crosses with what it holds."""

    def function(number: int = 0) -> Any:
        with lock:
            return content if number == 0 else number * 3

    return function


@dataclass
class Channel:
    """Something that carries messages, with the accounts' number for it."""

    index: int
    kind: str
    queue: Any
    large: bool = False
    handles: bool = False
    # Functions by value travel apart from the messages.
    once: bool = False
    # For what cannot say how full it is, or whose ends are held by several.
    tokens: Any = None
    turns: tuple[Any, Any] | None = None

    def put(self, message: Any, journal: Journal) -> None:
        """Full when there was no room in time."""
        if self.kind == "pipe":
            assert self.turns
            if take(self.turns[1], journal, MOMENT) is None:
                raise queues.Full
            try:
                # May wait for a receiver, as long as that takes.
                with journal.timed("send", 30.0):
                    self.queue[1].send(message)
            finally:
                self.turns[1].release()
        elif self.kind == "simple":
            if self.tokens.get_value() > ENOUGH:
                raise queues.Full
            with journal.timed("put"):
                self.queue.put(message)
            with journal.timed("semaphore"):
                self.tokens.release()
        else:
            if self.once:
                self.queue._definitions_once = True
            if self.kind == "unbounded" and self.queue.qsize() > ENOUGH:
                raise queues.Full
            with journal.timed("put", MOMENT):
                self.queue.put(message, timeout=MOMENT)

    def get(self, journal: Journal, timeout: float = MOMENT) -> Any:
        """Empty when there was nothing in time; OSError for a frame that was destroyed."""
        if self.kind == "pipe":
            assert self.turns
            if take(self.turns[0], journal, timeout) is None:
                raise queues.Empty
            try:
                with journal.timed("poll", timeout):
                    ready = self.queue[0].poll(timeout)
                if not ready:
                    raise queues.Empty
                with journal.timed("receive"):
                    return self.queue[0].recv()
            finally:
                self.turns[0].release()
        if self.kind == "simple":
            with journal.timed("semaphore", timeout):
                there = self.tokens.acquire(timeout=timeout)
            if not there:
                raise queues.Empty
            with journal.timed("get"):
                return self.queue.get()
        with journal.timed("get", timeout):
            return self.queue.get(timeout=timeout)


@dataclass
class World:
    """All that the processes share."""

    folder: str
    seed: int
    stop: Any
    channels: list[Channel]
    # Each lock with four numbers: two that must be equal, who holds it, how often it was mended.
    guarded: list[tuple[Any, Any]]
    condition: Any
    tickets: Any
    value: Any
    array: Any
    bounded: Any
    event: Any
    barrier: Any
    canary: Any
    kills_expected: bool = True

    @classmethod
    def make(cls, folder: str, seed: int) -> World:
        ctx = mp.get_context("spawn")
        channels = [
            Channel(0, "unbounded", ctx.Queue()),
            Channel(1, "bounded", ctx.Queue(7)),
            Channel(2, "joinable", ctx.JoinableQueue(20)),
            Channel(3, "simple", ctx.SimpleQueue(), tokens=ctx.Semaphore(0)),
            Channel(4, "bounded", ctx.Queue(4), large=True),
            Channel(5, "bounded", ctx.Queue(9), handles=True),
            Channel(6, "unbounded", ctx.Queue(), handles=True, once=True),
            Channel(
                7, "pipe", ctx.Pipe(duplex=False), handles=True, turns=(ctx.Lock(), ctx.Lock())
            ),
        ]
        condition = ctx.Condition()
        return cls(
            folder,
            seed,
            ctx.Event(),
            channels,
            [(lock, ctx.RawArray("Q", 4)) for lock in (ctx.Lock(), ctx.RLock(), ctx.Lock())],
            condition,
            ctx.RawArray("q", 2),
            ctx.Value("q", 0),
            ctx.Array("q", 64),
            ctx.BoundedSemaphore(3),
            ctx.Event(),
            ctx.Barrier(2),
            None,
        )


@dataclass
class Worker:
    world: World
    path: str
    journal: Journal
    random: random.Random
    # Buffers that arrived without a copy, with their checksums.
    kept: list[tuple[Any, int]] = field(default_factory=list)
    things: list[Any] = field(default_factory=list)
    sent: Counter[int] = field(default_factory=Counter)
    children: list[Any] = field(default_factory=list)
    born: int = 0

    def fail(self, text: str) -> None:
        self.journal.fail(f"{self.path}: {text}")

    # --- messages ---------------------------------------------------------------------------

    def payload(self, channel: Channel, number: int) -> Any:
        sizes = LARGE if channel.large and self.random.random() < 0.7 else SIZES
        size = self.random.choice(sizes)
        content = bytes([number % 251]) * (size - 8) + os.urandom(8) if size > 8 else b""
        if size >= 5000 and self.random.random() < 0.5:
            return pickle.PickleBuffer(bytearray(content)), zlib.crc32(content)
        return content, zlib.crc32(content)

    def thing(self) -> tuple[str, Any, Any]:
        """A new object to send, and what its receiver must find."""
        ctx, pick = mp.get_context(self.random.choice(METHODS)), self.random.randrange(9)
        if pick == 0:
            inner = ctx.Queue()
            items = [os.urandom(self.random.choice((3, 3000, 30_000))) for _ in range(3)]
            for item in items:
                inner.put(item)
            return "queue", inner, items
        if pick == 1:
            event = ctx.Event()
            event.set()
            return "event", event, None
        if pick == 2:
            return "value", ctx.Value("i", 42), 42
        if pick == 3:
            return "lock", ctx.Lock(), None
        if pick == 4:
            reader, writer = ctx.Pipe(duplex=False)
            writer.send(number := self.random.random())
            writer.close()
            return "pipe", reader, number
        if pick == 5:
            # (Where such files go else is found out by writing one, which a kill would leave.)
            file = tempfile.TemporaryFile(buffering=0, dir=self.world.folder)
            file.write(content := os.urandom(20))
            return "file", file, content
        if pick == 6:
            numbers = ctx.RawArray("Q", 4000)
            numbers[3999] = 7
            return "array", numbers, 7
        if pick == 7:
            return "function", by_value(ctx.Lock(), content := os.urandom(20)), content
        return "canary", self.world.canary, None

    def send(self) -> None:
        channel = self.random.choice(self.world.channels)
        self.sent[channel.index] += 1
        number = self.sent[channel.index]
        payload, checksum = self.payload(channel, number)
        things = []
        if channel.handles and self.random.random() < 0.6:
            with self.journal.timed("make"):
                things = [self.thing() for _ in range(self.random.randrange(1, 3))]
        if channel.handles and self.things and self.random.random() < 0.2:
            things.append(("passed on", self.random.choice(self.things), None))
        message = (self.journal.serial, number, checksum, payload, things)
        self.journal.note(TRY, channel.index, self.journal.serial, number)
        try:
            channel.put(message, self.journal)
        except queues.Full:
            self.journal.note(FULL, channel.index, self.journal.serial, number)
        else:
            self.journal.note(ACK, channel.index, self.journal.serial, number)
        for kind, thing, _ in things:
            if kind in ("pipe", "file"):
                thing.close()

    def receive(self) -> None:
        receive(self.random.choice(self.world.channels), self.journal, self)

    def look_at(self, message: Any) -> None:
        payload, checksum, things = message[3], message[2], message[4]
        if not isinstance(payload, bytes) and len(self.kept) < 4:
            self.kept.append((payload, checksum))
        for kind, thing, expected in things:
            found = self.contents(kind, thing, expected)
            if found != expected:
                self.fail(f"a {kind} arrived with {found!r}, not {expected!r}")
            if kind in ("queue", "event", "value", "lock", "array") and self.random.random() < 0.2:
                self.things.append(thing)

    def contents(self, kind: str, thing: Any, expected: Any) -> Any:
        if kind == "queue":
            found = [thing.get(timeout=5) for _ in range(len(expected))]
            return found if thing.empty() else "more"
        if kind == "event":
            return None if thing.is_set() else "not set"
        if kind == "value":
            with thing:
                return thing.value
        if kind == "lock":
            with thing:
                return None
        if kind == "pipe":
            with thing:
                return thing.recv()
        if kind == "file":
            with thing:
                thing.seek(0, io.SEEK_SET)
                return thing.read()
        if kind == "array":
            return thing[3999]
        if kind == "function":
            return thing()
        return None

    # --- everything else --------------------------------------------------------------------

    def under_lock(self) -> None:
        lock, numbers = self.random.choice(self.world.guarded)
        mended = take(lock, self.journal)
        if mended:
            numbers[1] = numbers[0]
            numbers[3] += 1
        elif numbers[0] != numbers[1]:
            self.fail(f"{lock!r}: {numbers[0]} and {numbers[1]}, and nobody said so")
        numbers[2] = self.journal.serial
        numbers[0] += 1
        if self.random.random() < 0.05:
            os.sched_yield()
        numbers[1] += 1
        if numbers[2] != self.journal.serial:
            self.fail(f"{lock!r}: two held it at once")
        with self.journal.timed("release"):
            lock.release()

    def tickets(self) -> None:
        condition, tickets = self.world.condition, self.world.tickets
        gives = self.random.random() < 0.5
        if take(condition, self.journal):
            tickets[1] = tickets[0]
        try:
            if not gives and tickets[0] == 0:
                with self.journal.timed("condition", MOMENT):
                    condition.wait(MOMENT)
        except AbandonedLock:
            return  # not ours then; the next mends it
        if tickets[0] != tickets[1]:
            self.fail(f"tickets: {tickets[0]} and {tickets[1]}")
        change = 1 if gives else -1 if tickets[0] else 0
        tickets[0] += change
        tickets[1] += change
        if gives:
            with self.journal.timed("notify"):
                condition.notify()
        condition.release()

    def numbers(self) -> None:
        value, array = self.world.value, self.world.array
        if self.random.random() < 0.5:
            take(value.get_lock(), self.journal)
            with self.journal.timed("value"):
                value.get_obj().value += 1
                value.release()
            self.journal.note(ADDED)
        else:
            mended = take(array.get_lock(), self.journal)
            with self.journal.timed("value"):
                found = set(array[:])
                if len(found) != 1 and not mended:
                    self.fail(f"an array's items differ: {sorted(found)[:4]}")
                array[:] = [array[0] + 1] * len(array)
                array.release()

    def semaphore(self) -> None:
        with self.journal.timed("semaphore"):
            self.world.bounded.acquire()
        if self.random.random() < 0.1:
            os.sched_yield()
        with self.journal.timed("semaphore"):
            self.world.bounded.release()

    def event(self) -> None:
        event, pick = self.world.event, self.random.random()
        with self.journal.timed("event", MOMENT):
            if pick < 0.3:
                event.set()
            elif pick < 0.6:
                event.clear()
            else:
                event.wait(MOMENT)

    def barrier(self) -> None:
        try:
            with self.journal.timed("barrier", MOMENT):
                self.world.barrier.wait(MOMENT)
        except threading.BrokenBarrierError:
            if self.random.random() < 0.5:
                with self.journal.timed("barrier"):
                    self.world.barrier.reset()

    def make_and_drop(self) -> None:
        with self.journal.timed("make"):
            self.things.append(self.thing()[1])
        if len(self.things) > 6:
            with self.journal.timed("drop"):
                del self.things[self.random.randrange(6)]
        if self.kept and self.random.random() < 0.5:
            buffer, checksum = self.kept.pop(self.random.randrange(len(self.kept)))
            if zlib.crc32(buffer) != checksum:
                self.fail(f"an adopted buffer of {len(buffer)} bytes changed")

    def select(self) -> None:
        readers = [
            channel.queue[0] if channel.kind == "pipe" else channel.queue._reader
            for channel in self.random.sample(self.world.channels, 3)
        ]
        with self.journal.timed("select", MOMENT):
            mp.connection.wait(readers, MOMENT)

    def scavenge(self) -> None:
        with self.journal.timed("scavenge"):
            mp._engine.session_scavenge()

    def nested(self) -> None:
        """A child of our own: by any method, tied to us or not, or by a plain fork."""
        for child in self.children[:]:
            if not child.is_alive():
                with self.journal.timed("join"):
                    child.join()
                self.check_exit(child)
                self.children.remove(child)
        if self.children or self.path.count(".") >= 2:
            return
        self.born += 1
        path = f"{self.path}.{self.born}"
        if self.random.random() < 0.2:
            if (pid := os.fork()) == 0:
                work(self.world, path, 8)
                os._exit(0)
            os.waitpid(pid, 0)
            return
        ctx = mp.get_context(self.random.choice(METHODS))
        daemon = self.random.random() < 0.5 and not mp.current_process().daemon
        if mp.current_process().daemon:
            return
        child = ctx.Process(target=work, args=(self.world, path, 40), daemon=daemon)
        with self.journal.timed("start"):
            child.start()
        self.children.append(child)

    def check_exit(self, child: Any) -> None:
        if child.exitcode not in (0, -9):
            self.fail(f"a child ended with {child.exitcode}")

    def pooled(self) -> None:
        """A pool of our own, of which one worker may be killed; each task has one outcome."""
        if self.children or self.path.count(".") >= 2:
            return
        ctx = mp.get_context(self.random.choice(METHODS))
        function = by_value(ctx.Lock(), b"")
        with self.journal.timed("pool", 30.0), ctx.Pool(2) as pool:
            results = [pool.apply_async(function, (number,)) for number in range(1, 40)]
            if self.random.random() < 0.5:
                with contextlib.suppress(ValueError):
                    self.random.choice(pool._pool).kill()
            for number, result in enumerate(results, 1):
                try:
                    found = result.get(30)
                except (WorkerDied, AbandonedLock):  # killed, or after one that was, in the lock
                    continue
                if found != number * 3:
                    self.fail(f"task {number} of a pool returned {found!r}")

    WEIGHTS = {
        "send": 30,
        "receive": 36,
        "under_lock": 10,
        "tickets": 6,
        "numbers": 6,
        "semaphore": 6,
        "event": 3,
        "barrier": 2,
        "make_and_drop": 5,
        "select": 2,
        "scavenge": 1,
        "nested": 2,
        "pooled": 1,
    }

    def run(self, steps: int | None) -> None:
        names, weights = list(self.WEIGHTS), list(self.WEIGHTS.values())
        while steps != 0 and not self.world.stop.is_set():
            steps = None if steps is None else steps - 1
            getattr(self, self.random.choices(names, weights)[0])()
        for child in self.children:
            with self.journal.timed("join", 60.0):
                child.join()
            self.check_exit(child)


def receive(channel: Channel, journal: Journal, worker: Worker | None = None) -> bool:
    """Takes a message and looks at it; false when there is none."""
    journal.note(WANT, channel.index)
    try:
        message = channel.get(journal)
    except queues.Empty:
        journal.note(NONE, channel.index)
        return False
    except OSError as error:
        # A frame on a pipe may be destroyed with its sender; anything else is a failure.
        journal.note(BROKEN, channel.index)
        if channel.kind != "pipe":
            journal.fail(f"channel {channel.index}: {error!r}")
        return True
    sender, number, checksum, payload, _ = message
    journal.note(GOT, channel.index, sender, number)
    if zlib.crc32(payload) != checksum:
        journal.fail(f"torn: {len(payload)} bytes on channel {channel.index}")
    if channel.kind == "joinable":
        journal.note(REPORT, channel.index)
        with journal.timed("task_done"):
            channel.queue.task_done()
        journal.note(REPORTED, channel.index)
    if worker:
        worker.look_at(message)
    return True


def work(world: World, path: str, steps: int | None = None) -> None:
    journal = Journal(world.folder)
    worker = Worker(world, path, journal, random.Random(f"{world.seed}/{path}"))
    journal.note(BORN)
    try:
        worker.run(steps)
    except BaseException:
        worker.fail(traceback.format_exc())
        raise
    journal.note(LEFT)
    journal.close()


def pause(seconds: float) -> None:
    """The random moment of a kill; nothing is waited for."""
    time.sleep(seconds)
