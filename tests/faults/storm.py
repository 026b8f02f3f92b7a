"""Processes that use everything at once, and one that kills them: `python storm.py --help`.

The conductor starts workers by every start method, kills one every few milliseconds (its own
children and theirs, running, starting or ending) and replaces it. Afterwards each message is
accounted for, and nothing may be left: no process, no descriptor, no place in the arena.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes  # noqa: F401 - libffi keeps its own file open: not after the first count
import gc
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import storm_journal
from storm_accounts import Books, Processors
from storm_journal import REPORTED, Journal, Reader, is_alive
from storm_worker import METHODS, World, pause, receive, take, work

import bequeath as mp
from bequeath import _engine

# The longest that anybody may be kept waiting, beside the time in which no processor was free.
MOST = 1.0
# What is not over by then never will be.
FOR_EVER = 60.0
# After that a child that was announced and never came is taken for dead.
LAPSE = 65.0


class Conductor:
    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.folder, self.arguments = folder, arguments
        self.random = random.Random(arguments.seed)
        self.books, self.processors = Books(), Processors()
        self.reader, self.journal = Reader(folder), Journal(str(folder))
        self.world = World.make(str(folder), arguments.seed)
        self.canary, self.world.canary = mp.Pipe(duplex=False)
        self.members: list[Any] = []
        self.unreaped: list[Any] = []
        self.wrong: list[str] = []
        self.started = self.killed = self.killed_nested = 0
        self.sampled = 0

    # --- while it blows ---------------------------------------------------------------------

    def start(self) -> None:
        self.started += 1
        ctx = mp.get_context(self.random.choices(METHODS, (4, 1, 1))[0])
        process = ctx.Process(target=work, args=(self.world, str(self.started)))
        with self.journal.timed("start"):
            process.start()
        self.members.append(process)

    def kill(self) -> None:
        """One of ours, or one of theirs."""
        nested = self.nested()
        if nested and self.random.random() < 0.3:
            with contextlib.suppress(OSError):
                serial = self.random.choice(nested)
                handle = os.pidfd_open(serial & 0x3FFFFF)
                if is_alive(serial):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    self.killed_nested += 1
                os.close(handle)
            return
        if self.members:
            victim = self.members.pop(self.random.randrange(len(self.members)))
            victim.kill()
            self.killed += 1
            self.unreaped.append(victim)
        # Some are found as zombies by the others, some are gone when they are looked for.
        while self.unreaped and (len(self.unreaped) > 3 or self.random.random() < 0.7):
            self.reap(self.unreaped.pop(0))

    def reap(self, victim: Any, expected: int = -signal.SIGKILL) -> None:
        with self.journal.timed("join"):
            victim.join()
        if victim.exitcode != expected:
            self.wrong.append(f"a worker ended with {victim.exitcode}, not {expected}")
        victim.close()

    def nested(self) -> list[int]:
        ours = {process.pid for process in self.members} | {os.getpid()}
        return [
            serial
            for serial in sorted(self.books.born - self.books.left)
            if serial & 0x3FFFFF not in ours and is_alive(serial)
        ]

    def look(self) -> None:
        """Reads the news, and notices what stands still."""
        for record in self.reader.news():
            self.books.enter(record)
        now = time.monotonic_ns()
        if now - self.sampled < 20_000_000:
            return
        self.sampled = now
        gone = {serial for serial in self.books.born - self.books.left if not is_alive(serial)}
        self.books.born -= gone
        living = self.books.born - self.books.left
        self.processors.sample([serial & 0x3FFFFF for serial in living] + [os.getpid()], now)
        for serial in living:
            operation, due = self.reader.under_way(serial) or ("", now)
            if (now - due) / 1e9 - self.processors.waited(due, now) > 10 * MOST:
                self.hang(serial, operation, (now - due) / 1e9)

    def hang(self, serial: int, operation: str, seconds: float) -> None:
        pid = serial & 0x3FFFFF
        self.wrong.append(f"pid {pid} stands still in {operation} for {seconds:.1f} s")
        with contextlib.suppress(OSError):
            self.wrong.append(Path(f"/proc/{pid}/syscall").read_text().strip())
        if self.arguments.keep:
            print("\n".join(self.wrong), flush=True)
            signal.pause()
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGABRT)  # faulthandler tells where
        raise Hang

    def blow(self) -> None:
        until = time.monotonic() + self.arguments.seconds
        for _ in range(self.arguments.workers):
            self.start()
        while time.monotonic() < until:
            pause(self.random.expovariate(1 / self.arguments.interval))
            self.look()
            self.kill()
            for process in self.members[:]:
                if process.exitcode is not None:
                    self.wrong.append(f"a worker ended by itself with {process.exitcode}")
                    raise Hang
            while len(self.members) < self.arguments.workers:
                self.start()
        for victim in self.unreaped:
            self.reap(victim)

    # --- afterwards -------------------------------------------------------------------------

    def end(self) -> None:
        """Tells all to stop, and takes what they left in the channels meanwhile."""
        self.world.stop.set()
        deadline = time.monotonic() + FOR_EVER
        while True:
            self.look()
            for channel in self.world.channels:
                receive(channel, self.journal)
            for process in [one for one in self.members if one.exitcode is not None]:
                self.members.remove(process)
                self.reap(process, 0)
            if not self.members and not self.nested():
                break
            if time.monotonic() > deadline:
                self.wrong.append(f"still there: {self.members}, {self.nested()}")
                break
        while any([receive(channel, self.journal) for channel in self.world.channels]):
            pass
        simple = self.world.channels[3]
        while not simple.queue.empty():
            # Its sender was killed between the message and the token for it.
            simple.tokens.release()
            receive(simple, self.journal)
        self.look()

    def check_objects(self) -> None:
        """All objects can still be used, and say what they must."""
        world, wrong = self.world, self.wrong
        for lock, numbers in world.guarded:
            if not take(lock, self.journal) and numbers[0] != numbers[1]:
                wrong.append(f"{lock!r}: {numbers[0]} and {numbers[1]}")
            lock.release()
        take(world.condition, self.journal)
        world.condition.notify_all()
        world.condition.release()
        take(world.value.get_lock(), self.journal)
        world.value.release()
        most = self.books.added + self.killed + self.killed_nested + len(world.channels)
        if not self.books.added <= world.value.value <= most:
            wrong.append(f"{world.value.value} additions; noted were {self.books.added}")
        take(world.array.get_lock(), self.journal)
        world.array.release()
        for _ in range(3):
            if not world.bounded.acquire(timeout=5):
                wrong.append(f"a bounded semaphore has {world.bounded.get_value()} units, not 3")
                break
        else:
            for _ in range(3):
                world.bounded.release()
        world.barrier.reset()
        if world.barrier.n_waiting or world.barrier.broken:
            wrong.append("the barrier is not as new after a reset")
        for channel in world.channels:
            if channel.kind == "pipe":
                empty = not channel.queue[0].poll()
            else:
                empty = channel.queue.empty()
            if not empty:
                wrong.append(f"channel {channel.index} is not empty")
        self.check_unfinished(world.channels[2].queue)

    def check_unfinished(self, queue: Any) -> None:
        """A joinable queue has as many tasks unfinished as were committed and not reported."""
        unfinished = 0
        with contextlib.suppress(ValueError):
            while True:
                queue.task_done()
                unfinished += 1
        books = self.books
        sure = {m for m in books.acknowledged if m[0] == 2} | {m for m in books.got if m[0] == 2}
        possible = {m for m in books.tried - books.refused if m[0] == 2}
        least = len(sure) - books.reports[storm_journal.REPORT]
        if not least <= unfinished <= len(possible) - books.reports[REPORTED]:
            self.wrong.append(
                f"{unfinished} unfinished tasks; {least} to "
                f"{len(possible) - books.reports[REPORTED]} are possible"
            )
        queue.join()

    def close(self) -> None:
        self.books.close()
        self.wrong += (self.folder / "failures").read_text().splitlines()
        self.wrong += self.books.wrong
        self.books.wrong = []
        slow = self.books.judge(self.processors, MOST)
        self.wrong += self.books.wrong
        books = self.books
        print(
            f"{self.killed} workers and {self.killed_nested} of their children killed, "
            f"{len(books.acknowledged)} messages acknowledged, {len(books.got)} delivered, "
            f"{sum(books.lost.values())} lost with {sum(books.hands.values())} receivers that may "
            f"have held one, {sum(books.broken.values())} broken frames, {books.records} records"
        )
        if slow:
            raw = max(books.slow, key=lambda one: one.seconds)
            print(
                f"longest wait that no busy machine explains: {max(slow.unexplained, 0):.3f} s of "
                f"{slow.seconds:.3f} s in {slow.operation}; longest of all: {raw.seconds:.3f} s in "
                f"{raw.operation} ({len(books.slow)} over {storm_journal.SLOW_SECONDS} s)"
            )
        self.reader.close()
        self.journal.close()

    def check_canary(self) -> None:
        """Its writing end went through many messages: once ours is closed, no copy may be left."""
        self.world.canary.close()
        if not self.canary.poll(10):
            self.wrong.append("a descriptor that was sent is still open somewhere")
        self.canary.close()


class Hang(Exception):
    """It is pointless to go on."""


def figures() -> dict[str, int]:
    # What was made of functions that arrived apart is kept for later messages.
    getattr(_engine, "_definitions", {}).clear()
    gc.collect()
    _engine.session_scavenge()
    info = _engine.session_info() or {}
    found = {name: info[name] for name in ("members", "references", "places")}
    # How many children templates keep ahead is their own affair.
    processes = mp.inspect()["sessions"][0]["processes"]
    found["members"] -= sum(process["role"] == "spare" for process in processes)
    return found


def settled(expected: dict[str, int]) -> dict[str, int]:
    """A child that its parent announced, and did not live to name, counts as one for a minute."""
    deadline = time.monotonic() + LAPSE
    while (found := figures()) != expected and time.monotonic() < deadline:
        pause(0.2)
    return found


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def warm_up() -> None:
    # Twice: a template forks its next child ahead once it has been asked for one.
    for method in 2 * METHODS:
        process = mp.get_context(method).Process(target=int)
        process.start()
        process.join()
        process.close()


def storm(arguments: argparse.Namespace, folder: Path) -> list[str]:
    storm_journal.fresh(folder)
    conductor = Conductor(folder, arguments)
    try:
        conductor.blow()
        conductor.end()
        conductor.check_objects()
        conductor.look()
        conductor.check_canary()
    except Hang:
        for serial in conductor.nested():
            with contextlib.suppress(OSError):
                os.kill(serial & 0x3FFFFF, signal.SIGKILL)
        for process in conductor.members:
            process.kill()
    conductor.close()
    return conductor.wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--interval", type=float, default=0.008, help="mean seconds between kills")
    parser.add_argument("--keep", action="store_true", help="leave a hang for a debugger")
    arguments = parser.parse_args()
    print(f"BEQUEATH_FAULTS_SEED={arguments.seed}", flush=True)
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    warm_up()
    before, open_before = figures(), descriptors()
    with tempfile.TemporaryDirectory(prefix="storm-") as folder:
        wrong = storm(arguments, Path(folder))
    after, open_after = settled(before), descriptors()
    if after != before:
        wrong.append(f"before {before}, after {after}")
        wrong.append(_engine.inspect_process(os.getpid())[1].partition("\nqueues")[0])
        wrong += _engine.session_places()
    used, unaccounted, stray = _engine.session_audit()
    print(f"{used} bytes of the arena, {unaccounted} of them unaccounted for")
    if unaccounted or stray:
        wrong.append(f"unaccounted for: {unaccounted} bytes, pages at {[hex(at) for at in stray]}")
    if open_after > open_before:
        wrong.append(f"{open_before} descriptors before, {open_after} after")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
