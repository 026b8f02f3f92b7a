"""A pool whose workers are killed at random: each task has one outcome, only those in hand fail.

The kills come from outside, at moments that nobody chose: while a worker starts, waits, loads,
computes, answers. `BEQUEATH_FAULTS=long` makes it minutes of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from pool_tasks import say_and_sleep, sleep, work

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
SECONDS = 90 if LONG else 4
SEED = int(os.environ.get("BEQUEATH_FAULTS_SEED", time.time_ns() % 1_000_000))

pytestmark = pytest.mark.limit(SECONDS * 5 + 60)


class Outcomes:
    """A sink of many tasks that counts how often each was settled."""

    def __init__(self) -> None:
        self.of: dict[int, list[Any]] = {}
        self.changed = threading.Condition()

    def _set(self, index: int, outcome: tuple[bool, Any]) -> None:
        with self.changed:
            self.of.setdefault(index, []).append(outcome)
            self.changed.notify()

    def wait_for(self, count: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: len(self.of) >= count)


def attack(pool: Any, until: float, chance: random.Random) -> Counter[int]:
    """Kills workers until then; how often each process was."""
    killed: Counter[int] = Counter()
    while time.monotonic() < until:
        time.sleep(chance.uniform(0, 0.02))  # the moment of the kill; nothing is waited for
        for worker in chance.sample(workers := pool._pool, k=min(1, len(workers))):
            with contextlib.suppress(AttributeError, ValueError):
                worker.kill()
                killed[worker.pid] += 1
    return killed


KINDS = [(2, True), (6, False)] + ([(2, False), (6, True), (8, False)] if LONG else [])


@pytest.mark.parametrize(("workers", "retry"), KINDS)
def test_each_task_has_one_outcome(
    ours: Implementation, tmp_path: Path, workers: int, retry: bool
) -> None:
    chance = random.Random(SEED)
    died = ours.module("exceptions").WorkerDied
    options = {"on_death": "retry", "retries": 1000} if retry else {}
    outcomes, submitted = Outcomes(), 0
    with ours.Pool(workers, **options) as pool:
        until = time.monotonic() + SECONDS
        attacker = threading.Thread(target=attack, args=(pool, until, chance))
        attacker.start()
        while time.monotonic() < until:
            for _ in range(50):
                pool._driver.submit(outcomes, submitted, work, (submitted, str(tmp_path)), {})
                submitted += 1
            # Some more than are done: workers shall have tasks in hand, and some ahead.
            outcomes.wait_for(submitted - 100)
        attacker.join()
        outcomes.wait_for(submitted)
        pool.close()
        pool.join()
    assert sorted(outcomes.of) == list(range(submitted))
    assert {len(several) for several in outcomes.of.values()} == {1}, f"seed {SEED}"
    begun = Counter(map(int, (tmp_path / "begun").read_text().split()))
    failures = 0
    for number, [(success, value)] in outcomes.of.items():
        if success:
            assert value == number * 3
            assert begun[number] == 1 or retry, f"{number} ran {begun[number]} times, seed {SEED}"
        else:
            failures += 1
            assert isinstance(value, died) and value.exitcode == -signal.SIGKILL, value
            assert begun[number] <= 1, f"{number} ran {begun[number]} times, seed {SEED}"
    assert not (retry and failures)


def test_as_many_fail_as_were_killed_in_hand(ours: Implementation, tmp_path: Path) -> None:
    rounds = 60 if LONG else 8
    died = ours.module("exceptions").WorkerDied
    with ours.Pool(3) as pool:
        for number in range(rounds):
            folder = tmp_path / str(number)
            folder.mkdir()
            results = [pool.apply_async(say_and_sleep, (str(folder),)) for _ in range(3)]
            while len(victims := [int(name) for name in os.listdir(folder)]) < 3:
                time.sleep(0.001)  # until each is at its task
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            errors = [pytest.raises(died, result.get).value for result in results]
            assert sorted(error.pid for error in errors) == sorted(victims)
            assert pool.map(sleep, [0.0] * 6, 1) == [0.0] * 6


PARENT = """
import sys, time
sys.path.insert(0, {folder!r})
import bequeath
from pool_tasks import sleep

if __name__ == "__main__":
    pool = bequeath.get_context({method!r}).Pool(3)
    pool.map(sleep, [0.0] * 9, 1)
    pool.map_async(sleep, [1000.0] * 9, 1)
    while sum(one["at_task_for"] is not None for one in pool.stats()["workers"]) < 3:
        pass
    print(*(worker.pid for worker in pool._pool), flush=True)
    time.sleep(1000)
"""


def test_no_worker_survives_its_parent(ours: Implementation, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    folder = str(Path(__file__).parent)
    script.write_text(PARENT.format(folder=folder, method=ours.start_method))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(workers) == 3
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for worker in workers:
        # Readable when it has ended.
        select.select([worker], [], [])
        os.close(worker)
