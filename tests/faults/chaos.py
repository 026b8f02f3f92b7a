"""Workers killed at random, and the books in which each task must have one outcome."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pool_tasks


class Ledger:
    """What was told of each call, however often."""

    def __init__(self) -> None:
        self.of: dict[int, list[tuple[bool, Any]]] = {}
        self.changed = threading.Condition()

    def tell(self, number: int, success: bool, value: Any) -> None:
        with self.changed:
            self.of.setdefault(number, []).append((success, value))
            self.changed.notify_all()

    def tell_done(self, number: int, future: Future[Any]) -> None:
        error = future.exception()
        self.tell(number, error is None, future.result() if error is None else error)

    def wait_for(self, count: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: len(self.of) >= count)


class Attacker(threading.Thread):
    """Kills one worker every few milliseconds, while it starts, waits, loads, computes or answers.

    Some it stops first, and looks whether that one is at a task: there nothing moves any more.
    """

    def __init__(self, workers: Callable[[], list[Any]], stats: Callable[[], Any], seed: int):
        super().__init__(name="attacker")
        self.workers, self.stats = workers, stats
        self.chance = random.Random(seed)
        self.over = threading.Event()
        #: By name, which no other worker of the test has.
        self.killed: set[str] = set()
        self.idle: set[str] = set()
        self.at_task: set[str] = set()
        #: Those that a SIGSTOP did not stop.
        self.odd: list[str] = []

    def run(self) -> None:
        # The moment of the kill is random; nothing is waited for.
        while not self.over.wait(self.chance.uniform(0.001, 0.01)):
            self.kill_one(self.chance.random() < 0.25)

    def stop(self) -> None:
        self.over.set()
        self.join()

    def kill_one(self, stops: bool) -> None:
        workers = self.workers()
        if not workers:
            return
        victim = self.chance.choice(workers)
        # One that is not quite started, or over already, has no process to kill.
        with contextlib.suppress(AttributeError, ValueError, ProcessLookupError, TypeError):
            if stops:
                os.kill(victim.pid, signal.SIGSTOP)
                state = state_of(victim.pid)
                if state == "T":
                    self.look_at(victim)
                elif len(state) > 4:
                    self.odd.append(f"{victim.name} {victim.pid} {state}")
            victim.kill()
            self.killed.add(victim.name)

    def look_at(self, victim: Any) -> None:
        for one in self.stats()["workers"]:
            if one.get("pid") == victim.pid:
                where = self.idle if one["at_task_for"] is None else self.at_task
                where.add(victim.name)


def state_of(pid: int) -> str:
    """The state of a process that is just being stopped, once it is."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return "gone"
        if fields[0] in "TZX":
            return fields[0]
    return f"not stopped: {fields[0]}"


class Marks:
    """What tasks wrote about themselves."""

    def __init__(self, folder: Path) -> None:
        self.begun: Counter[int] = Counter()
        self.ended: Counter[int] = Counter()
        for line in (folder / "marks").read_text().splitlines():
            kind, number = line.split()
            (self.begun if kind == "b" else self.ended)[int(number)] += 1


def submit_to_pool(pool: Any, ledger: Ledger, number: int, folder: str) -> None:
    pool.apply_async(
        pool_tasks.work,
        (number, folder),
        callback=partial(ledger.tell, number, True),
        error_callback=partial(ledger.tell, number, False),
    )


def submit_to_executor(executor: Any, ledger: Ledger, number: int, folder: str) -> None:
    future = executor.submit(pool_tasks.work, number, folder)
    future.add_done_callback(partial(ledger.tell_done, number))


def stream(pool: Any, ledger: Ledger, numbers: range, folder: str) -> None:
    """So many tasks by `imap`, whose iterable is a generator."""
    results = pool.imap(partial(pool_tasks.work, folder=folder), (number for number in numbers))
    for number in numbers:
        try:
            ledger.tell(number, True, next(results))
        except Exception as error:
            ledger.tell(number, False, error)
    with contextlib.suppress(StopIteration):
        ledger.tell(-1, False, next(results))  # one too many


def until(seconds: float) -> Callable[[], bool]:
    """Whether it is not yet so late."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end
