"""Garbage in the arena of a living session: `python hostile.py 3 7-20`, a round for each seed.

A round is a process of its own: a session with every kind of object in it, words of its memory
overwritten by way of `/proc/self/fd/N` (as a member gone mad would), then every operation, and
garbage again; in every second round another process goes on writing it meanwhile. Operations may
raise. What must not be: a signal, a panic, a wait that nothing ends, memory without bound.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import mmap
import os
import pickle
import random
import resource
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

mp: Any
_engine: Any

PAGE = mmap.PAGESIZE
WORD = struct.Struct("<Q")
# What a round may use, in bytes, and how long it may take.
BUDGET = 64 << 20
MOST_MEMORY = 700 << 20
FOR_EVER = 120.0
MOMENT = 0.002
# Nothing that waits for ever may be deaf to signals.
PATIENCE = 0.05


#: A step is being done.
impatient = False


class Enough(Exception):
    """A signal said that this wait has lasted long enough."""


class Garbler:
    """Overwrites words of the arena, those that mean something most of all."""

    def __init__(self, descriptor: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.file = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        self.alive: set[int] = set()

    def data(self) -> list[range]:
        """The stretches of pages that hold something."""
        found, at = [], 0
        with contextlib.suppress(OSError):
            while True:
                begin = os.lseek(self.file, at, os.SEEK_DATA)
                at = os.lseek(self.file, begin, os.SEEK_HOLE)
                found.append(range(begin, at, PAGE))
        return found

    def place(self, stretches: list[range]) -> int:
        """A word: each table and kind of slot as often as the others, beginnings more often."""
        stretch = self.random.choice(stretches)
        page = stretch[int(len(stretch) * self.random.random() ** 3)]
        return page + 8 * int(PAGE // 8 * self.random.random() ** 2)

    def other(self, old: int, stretches: list[range]) -> int:
        """What stands there instead."""
        pick = self.random.randrange(9)
        if pick == 7:
            # A word from elsewhere: a name, an owner, a size, where another was expected.
            return int(WORD.unpack(os.pread(self.file, 8, self.place(stretches)))[0])
        known = (0, (1 << 64) - 1, old + 1, old - 1, old << 32 | old >> 32, old ^ 0xFFFF)
        if pick < len(known):
            return known[pick] & ((1 << 64) - 1)
        return self.random.getrandbits(64) >> self.random.choice((0, 0, 16, 32, 48, 60))

    def names_the_living(self, word: int) -> bool:
        """A cell that somebody alive seems to hold is waited for, rightly: not what is tested."""
        pid = (word >> 8) & 0x3FFFFF
        return pid in self.alive or (word >> 32 == 0 and os.path.exists(f"/proc/{pid}"))

    def garble(self, words: int) -> None:
        stretches = self.data()
        left = 40 * words
        while words and left:
            left -= 1
            at = self.place(stretches)
            (old,) = WORD.unpack(os.pread(self.file, 8, at))
            if old == 0 and self.random.random() < 0.95:
                continue
            new = self.other(old, stretches)
            if not self.names_the_living(new):
                os.pwrite(self.file, WORD.pack(new), at)
                words -= 1

    def punch(self) -> None:
        """Takes pages away, as a member could: they read as zero from then on."""
        libc = ctypes.CDLL(None, use_errno=True)
        at = self.place(self.data()) // PAGE * PAGE
        keep_size_and_punch = 3
        libc.fallocate(self.file, keep_size_and_punch, ctypes.c_long(at), ctypes.c_long(PAGE))


def carrying(*things: Any) -> Callable[[], Any]:
    """A function that goes by value, with these in its closure."""

    def inner() -> Any:
        return things

    return inner


class Round:
    def __init__(self, seed: int) -> None:
        self.seed, self.random = seed, random.Random(f"round {seed}")
        self.survived: dict[str, int] = {}

    def attempt(self, step: Callable[[], Any]) -> None:
        """An operation that may fail, by one exception, and must end."""
        global impatient
        try:
            try:
                impatient = True
                signal.setitimer(signal.ITIMER_REAL, PATIENCE, PATIENCE)
                step()
            finally:
                impatient = False
        except Exception as error:
            impatient = False
            name = type(error).__name__
            self.survived[name] = self.survived.get(name, 0) + 1
        signal.setitimer(signal.ITIMER_REAL, 0)

    def make(self) -> None:
        ctx = mp.get_context("fork")
        self.queues = [ctx.Queue(), ctx.Queue(3), ctx.JoinableQueue()]
        self.simple = ctx.SimpleQueue()
        # Definitions are written, and never read: who runs garbage as code has what it deserves.
        self.once = ctx.SimpleQueue()
        self.once._definitions_once = True
        self.sent_once = [carrying(self.simple), carrying(self.simple, bytes(20_000))]
        self.locks = [ctx.Lock(), ctx.RLock()]
        self.semaphores = [ctx.Semaphore(2), ctx.BoundedSemaphore(2)]
        self.conditions = [ctx.Condition(), ctx.Condition(ctx.Lock())]
        self.event, self.barrier = ctx.Event(), ctx.Barrier(2)
        self.values = [ctx.Value("i", 3), ctx.Array("d", 9), ctx.RawArray("q", 5000)]
        self.values.append(ctx.Array("c", 20))
        self.pipe = ctx.Pipe()
        self.kept: list[Any] = []
        for queue in (*self.queues, self.simple):
            for size in (10, 3000):
                queue.put(b"x" * size)
        for thing in self.things():
            self.queues[0].put(thing)
            self.pipe[0].send(thing)
        self.queues[2].put([self.queues[0], self.event])

    def things(self) -> Iterator[Any]:
        yield b"y" * 50_000
        yield pickle.PickleBuffer(bytearray(b"z" * 300_000))
        yield [self.event, *self.locks]
        inner = mp.Queue()
        inner.put(b"inner" * 2000)
        yield inner
        with tempfile.TemporaryFile(buffering=0) as file:
            yield [file, self.event]

    def steps(self) -> list[Callable[[], Any]]:
        """Every operation of every object, in no particular order."""
        found: list[Callable[[], Any]] = []
        for queue in self.queues:
            found += 3 * [lambda queue=queue: self.kept.append(queue.get(timeout=MOMENT))]
            found += [
                lambda queue=queue: queue.put(b"a" * 100, timeout=MOMENT),
                lambda queue=queue: queue.put([self.event, b"b" * 9000], timeout=MOMENT),
                lambda queue=queue: queue.put(bytearray(400_000), timeout=MOMENT),
                queue.qsize,
                queue.empty,
                queue.full,
                lambda queue=queue: mp.connection.wait([queue._reader], MOMENT),
            ]
        for joinable in self.queues[2:]:
            found += [joinable.task_done, joinable.join]
        found += [self.simple.get, self.simple.empty, lambda: self.simple.put(b"c" * 70)]
        found += [lambda: self.once.put([*self.sent_once, carrying(self.event)])]
        for lock in (*self.locks, *self.conditions):
            found += [lock.release, lambda lock=lock: self.locked(lock), lock.recover]
            found += [lock.acquire, lambda lock=lock: repr(lock)]
        for semaphore in self.semaphores:
            found += [semaphore.acquire, semaphore.release, semaphore.get_value]
        for condition in self.conditions:
            found += [lambda condition=condition: self.conditioned(condition)]
        event, barrier = self.event, self.barrier
        found += [event.set, event.clear, event.is_set, lambda: event.wait(MOMENT), event.wait]
        found += [lambda: barrier.wait(MOMENT), barrier.reset, barrier.abort]
        found += [lambda: (barrier.n_waiting, barrier.broken, barrier.parties)]
        for value in self.values:
            found += [lambda value=value: self.changed(value)]
        first, second = self.pipe
        found += 2 * [lambda: self.kept.append(second.recv() if second.poll(MOMENT) else None)]
        found += [
            lambda: self.sent(first, b"d" * 200_000),
            lambda: self.sent(first, [self.event, self.queues[1]]),
            lambda: self.kept.append([mp.Queue(), mp.Lock(), mp.RawArray("b", 90_000)]),
            self.kept.clear,
            gc.collect,
            _engine.session_scavenge,
            _engine.session_info,
            self.fork,
            lambda: self.start(self.random.choice(("fork", "spawn"))),
        ]
        return found

    def locked(self, lock: Any) -> None:
        if lock.acquire(timeout=MOMENT):
            lock.release()

    def conditioned(self, condition: Any) -> None:
        if condition.acquire(timeout=MOMENT):
            try:
                condition.notify()
                condition.wait(MOMENT)
                condition.notify_all()
            finally:
                condition.release()

    def changed(self, value: Any) -> None:
        if hasattr(value, "get_lock"):
            self.locked(value.get_lock())
            value = value.get_obj()
        if hasattr(value, "value"):
            return value.value
        value[len(value) - 1] = value[0]

    def sent(self, connection: Any, thing: Any) -> None:
        if select.select([], [connection], [], 0)[1]:
            connection.send(thing)

    def fork(self) -> None:
        pid = os.fork()
        if pid == 0:
            signal.alarm(5)
            self.leave_quietly(self.look_around)
        os.waitpid(pid, 0)

    def leave_quietly(self, last: Callable[[], Any]) -> None:
        code = 0
        try:
            last()
        except Exception:
            pass
        except BaseException:
            code = 3
        os._exit(code)

    def look_around(self) -> None:
        for queue in self.queues:
            queue.qsize()
        self.event.is_set()
        self.kept.clear()

    def start(self, method: str) -> None:
        process = mp.get_context(method).Process(target=self.event.is_set, daemon=True)
        try:
            process.start()
            process.join(5)
        finally:
            if process.pid is not None:
                process.kill()

    def run(self, steps: int) -> None:
        faulthandler.register(signal.SIGUSR1)
        signal.signal(signal.SIGALRM, on_alarm)
        self.make()
        garbler = Garbler(_engine.session_descriptor(), self.seed)
        garbler.alive = {os.getpid(), os.getppid(), 1}
        beside = self.beside(garbler) if self.seed % 2 else None
        for _ in range(steps):
            if self.random.random() < 0.3:
                garbler.garble(self.random.randrange(1, 12))
            if self.random.random() < 0.01:
                garbler.punch()
            self.attempt(self.random.choice(self.steps()))
        if beside is not None:
            os.kill(beside, signal.SIGKILL)
            os.waitpid(beside, 0)

    def beside(self, garbler: Garbler) -> int:
        """Another process that writes garbage while we go on."""
        pid = os.fork()
        if pid:
            garbler.alive.add(pid)
            return pid
        signal.alarm(int(2 * FOR_EVER))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        garbler.random.seed(f"beside {self.seed}")
        while os.getppid() != 1:
            garbler.garble(3)
            time.sleep(0.001)
        os._exit(0)


def on_alarm(number: int, frame: object) -> None:
    # On a busy machine alarms come as fast as they are handled, also when the step is over.
    if impatient:
        raise Enough


def one(seed: int, steps: int) -> None:
    """The round in its own process; ends as programs end."""
    global mp, _engine
    # Not before: a process that has it shares its session with all that it forks.
    import bequeath as mp
    from bequeath import _engine

    os.environ["BEQUEATH_MEMORY_LIMIT"] = str(BUDGET)
    # Beyond what is tolerated, so that a mistake does not take the machine along.
    resource.setrlimit(resource.RLIMIT_DATA, (4 << 30, resource.RLIM_INFINITY))
    play = Round(seed)
    play.run(steps)
    play.attempt(play.kept.clear)
    if os.environ.get("BEQUEATH_HOSTILE_TELL"):
        print(f"seed {seed}: {play.survived}", flush=True)
    sys.exit(0)


def wait_for(pid: int) -> tuple[int | None, int]:
    """How a round ended (None: it did not) and the most memory that it had."""
    handle = os.pidfd_open(pid)
    ended = select.select([handle], [], [], FOR_EVER)[0]
    os.close(handle)
    if not ended:
        with open(f"/proc/{pid}/syscall") as call:
            print(f"pid {pid} hangs in system call {call.read().strip()}", file=sys.stderr)
        os.kill(pid, signal.SIGUSR1)
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    return (os.waitstatus_to_exitcode(status) if ended else None), usage.ru_maxrss * 1024


def main(seeds: list[int], steps: int = 120) -> int:
    bad = []
    for seed in seeds:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            one(seed, steps)
        code, memory = wait_for(pid)
        if code != 0:
            bad.append(f"seed {seed}: {'hangs' if code is None else f'exit code {code}'}")
        elif memory > MOST_MEMORY:
            bad.append(f"seed {seed}: {memory >> 20} MiB")
        if bad and bad[-1].startswith(f"seed {seed}:"):
            print(bad[-1], file=sys.stderr, flush=True)
    print(f"{len(seeds)} rounds of {steps} steps, {len(bad)} bad")
    return 1 if bad else 0


def seeds_of(arguments: list[str]) -> list[int]:
    """Numbers, and stretches of numbers as 3-17."""
    found: list[int] = []
    for argument in arguments:
        first, _, last = argument.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


if __name__ == "__main__":
    faulthandler.enable()
    sys.exit(main(seeds_of(sys.argv[1:])))
