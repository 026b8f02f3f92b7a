"""Pools and executors whose workers are killed at random: each task has one outcome, only those
in hand fail.

The kills come from outside, at moments that nobody chose: while a worker starts, waits, loads,
computes, answers. `BEQUEATH_FAULTS=long` makes it minutes of it, and `BEQUEATH_CHAOS` as many
seconds as it says for each start method.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import chaos
import pytest

from implementation import Implementation
from pool_tasks import say_and_sleep, sleep

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
SECONDS = float(os.environ.get("BEQUEATH_CHAOS", 60 if LONG else 6))
SEED = int(os.environ.get("BEQUEATH_FAULTS_SEED", time.time_ns() % 1_000_000))

pytestmark = pytest.mark.limit(SECONDS * 3 + 120)

#: What share of the time each has; the workers; what a death does.
POOLS = [(0.35, 8, "fail"), (0.2, 2, "retry"), (0.1, 5, "break")]
EXECUTORS = [(0.15, 4, "fail"), (0.1, 6, "retry"), (0.1, 3, "break")]
RETRIES = 1000


def make(ours: Implementation, kind: str, workers: int, on_death: str) -> Any:
    if kind == "pool":
        return ours.Pool(workers, on_death=on_death, retries=RETRIES)
    return ours.package.ProcessPoolExecutor(
        workers, ours.package.get_context(ours.start_method), on_death=on_death, retries=RETRIES
    )


def workers_of(made: Any) -> list[Any]:
    if hasattr(made, "_pool"):
        return list(made._pool)
    return list((made._processes or {}).values())


def end(made: Any) -> None:
    if hasattr(made, "_pool"):
        made.close()
        made.join()
    else:
        made.shutdown()


def submit(made: Any, ledger: chaos.Ledger, number: int, folder: Path) -> None:
    way = chaos.submit_to_pool if hasattr(made, "_pool") else chaos.submit_to_executor
    way(made, ledger, number, str(folder))


KINDS = [
    (kind, *case)
    for kind, cases in (("pool", POOLS), ("executor", EXECUTORS))
    for case in cases
    if case[-1] != "break"
]


@pytest.mark.parametrize(("kind", "share", "workers", "on_death"), KINDS)
def test_each_task_has_one_outcome(
    ours: Implementation, tmp_path: Path, kind: str, share: float, workers: int, on_death: str
) -> None:
    died = ours.module("exceptions").WorkerDied
    ledger, submitted = chaos.Ledger(), 0
    with make(ours, kind, workers, on_death) as made:
        attacker = chaos.Attacker(lambda: workers_of(made), made.stats, SEED)
        attacker.start()
        goes_on = chaos.until(SECONDS * share)
        while goes_on():
            if kind == "pool":
                numbers = range(submitted, submitted + 20)
                submitted += 20
                streaming = threading.Thread(
                    target=chaos.stream, args=(made, ledger, numbers, str(tmp_path))
                )
                streaming.start()
            for _ in range(50):
                submit(made, ledger, submitted, tmp_path)
                submitted += 1
            if kind == "pool":
                streaming.join()
            # Some more than are done: workers shall have tasks in hand, and some ahead.
            ledger.wait_for(submitted - 30)
        attacker.stop()
        ledger.wait_for(submitted)
        end(made)
    assert not workers_of(made)
    assert not attacker.odd
    print(f"{submitted} tasks, {len(attacker.killed)} killed, {len(attacker.at_task)} seen at work")
    balance(ledger, submitted, attacker, chaos.Marks(tmp_path), died, on_death)


def balance(
    ledger: chaos.Ledger,
    submitted: int,
    attacker: chaos.Attacker,
    marks: chaos.Marks,
    died: type,
    on_death: str,
) -> None:
    """The books of one run; `seed` makes the same kills again, at other moments."""
    seed = f"seed {SEED}"
    assert sorted(ledger.of) == list(range(submitted)), seed
    assert {len(several) for several in ledger.of.values()} == {1}, seed
    failed = {}
    for number, [(success, value)] in ledger.of.items():
        if success:
            assert value == number * 3, seed
            assert marks.ended[number] == 1 or on_death == "retry", seed
        else:
            assert isinstance(value, died) and value.exitcode == -signal.SIGKILL, (value, seed)
            failed[number] = value.name
        assert marks.begun[number] <= 1 or on_death == "retry", f"{number} ran twice, {seed}"
    if on_death == "retry":
        assert not failed, seed
        return
    # A task fails with the worker that has it in its hands, and no other does: one for each
    # that was killed at one, none for one that was killed at none.
    lost = {number for number in range(submitted) if marks.begun[number] > marks.ended[number]}
    names = set(failed.values())
    assert len(names) == len(failed), seed
    assert names <= attacker.killed - attacker.idle, seed
    assert lost <= failed.keys(), seed
    print(f"{len(failed)} failed, {len(lost)} of them seen by the task")


def test_who_is_stopped_at_its_queue_costs_no_task(ours: Implementation) -> None:
    """Now and then a worker is in the middle of taking a task, and nothing can be sent to it."""
    chance, goes_on = random.Random(SEED), chaos.until(20 if LONG else 4)
    with ours.Pool(1) as pool:
        [worker] = pool._pool
        pool.map(abs, range(1000), 1)  # it knows by now how short they are, and has many ahead
        while goes_on():
            asked = [pool.apply_async(abs, (number,)) for number in range(10)]
            for _ in range(chance.randrange(3000)):
                pass
            os.kill(worker.pid, signal.SIGSTOP)
            asked += [pool.apply_async(abs, (number,)) for number in range(10, 20)]
            os.kill(worker.pid, signal.SIGCONT)
            assert [result.get() for result in asked] == list(range(20)), f"seed {SEED}"


BREAKS = [
    (kind, *case)
    for kind, cases in (("pool", POOLS), ("executor", EXECUTORS))
    for case in cases
    if case[-1] == "break"
]


@pytest.mark.parametrize(("kind", "share", "workers", "on_death"), BREAKS)
def test_a_death_breaks_all_once(
    ours: Implementation, tmp_path: Path, kind: str, share: float, workers: int, on_death: str
) -> None:
    exceptions = ours.module("exceptions")
    goes_on, rounds = chaos.until(SECONDS * share), 0
    while goes_on():
        folder = tmp_path / str(rounds)
        folder.mkdir()
        ledger, submitted = chaos.Ledger(), 0
        with make(ours, kind, workers, on_death) as made:
            attacker = chaos.Attacker(lambda made=made: workers_of(made), made.stats, SEED + rounds)
            attacker.start()
            try:
                # Some are killed before they are ready, which breaks nothing.
                while not attacker.killed or submitted < 100:
                    submit(made, ledger, submitted, folder)
                    submitted += 1
            except exceptions.PoolBroken:
                pass
            ledger.wait_for(submitted)
            attacker.stop()
        assert {len(several) for several in ledger.of.values()} <= {1}
        errors = [value for [(success, value)] in ledger.of.values() if not success]
        died = [error for error in errors if isinstance(error, exceptions.WorkerDied)]
        assert len(died) <= 1 and all(one.name in attacker.killed for one in died)
        assert all(
            isinstance(error, (exceptions.PoolBroken, exceptions.WorkerDied)) for error in errors
        )
        rounds += 1
    print(f"{rounds} rounds")


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


OWNER = """
import gc, os, signal, sys, time
import bequeath
from bequeath import _engine

def die_with_a_pool(method):
    # On purpose not closed: all of it is left to whoever finds this process dead.
    pool = bequeath.get_context(method).Pool(2)
    pool.apply(abs, (-1,))
    os.kill(os.getpid(), signal.SIGKILL)

def figures():
    gc.collect()
    _engine.session_scavenge()
    info = _engine.session_info()
    found = {{name: info[name] for name in ("members", "references", "places")}}
    # How many children templates keep ahead is their own affair.
    processes = bequeath.inspect()["sessions"][0]["processes"]
    found["members"] -= sum(process["role"] == "spare" for process in processes)
    return found

if __name__ == "__main__":
    context = bequeath.get_context({method!r})
    first = context.Process(target=int)
    first.start()
    first.join()
    first.close()
    while (before := figures())["members"] != {members}:
        time.sleep(0.01)
    child = context.Process(target=die_with_a_pool, args=({method!r},))
    child.start()
    child.join()
    child.close()
    while (now := figures()) != before:
        time.sleep(0.01)
    print("nothing is left")
"""


def test_a_killed_owner_of_a_pool_leaves_nothing_to_one_that_has_none(
    ours: Implementation, tmp_path: Path
) -> None:
    script = tmp_path / "owner.py"
    members = 1 if ours.start_method == "fork" else 2  # the template
    script.write_text(OWNER.format(method=ours.start_method, members=members))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("nothing is left\n", "")
