"""Ctrl-C in a terminal whose program has a pool: one traceback, and nobody is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from implementation import Implementation

PROGRAM = """
import sys, time
import {package}

def work(seconds):
    time.sleep(seconds)

def main():
    {body}

def run(pool):
    pool.map(work, [0] * 8, 1)
    result = pool.map_async(work, [1000] * {tasks}, 1)
    while sum(one["at_task_for"] is not None for one in pool.stats()["workers"]) < min({tasks}, 2):
        pass
    print(*(worker.pid for worker in pool._pool), flush=True)
    result.get()

if __name__ == "__main__":
    context = {package}.get_context({method!r})
    main()
"""

WITH = "with context.Pool(2) as pool: run(pool)"
WITHOUT = "run(context.Pool(2))"


@pytest.mark.parametrize("body", [WITH, WITHOUT], ids=["with", "forgotten"])
@pytest.mark.parametrize("tasks", [1, 8])
def test_ctrl_c_shows_one_traceback_and_leaves_nobody(
    ours: Implementation, tmp_path: Path, body: str, tasks: int
) -> None:
    script = tmp_path / "interrupted.py"
    values = {"package": ours.name, "method": ours.start_method, "body": body, "tasks": tasks}
    script.write_text(PROGRAM.format(**values))
    program = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    line = program.stdout.readline()
    workers = [os.pidfd_open(int(pid)) for pid in line.split()]
    # As a terminal does: to all processes in the foreground.
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate()
    assert len(workers) == 2, errors
    for worker in workers:
        select.select([worker], [], [])
        os.close(worker)
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert program.returncode == -signal.SIGINT


LOADING = """
import os, time
import {package}

def load():
    os.write(1, b"%d\\n" % os.getpid())  # in one piece: others write, too
    time.sleep(1000)

class Slow:
    def __reduce__(self):
        return load, ()

if __name__ == "__main__":
    pool = {package}.get_context({method!r}).Pool(2, print, [Slow()])
    workers = pool._pool
    os.write(1, b"made\\n")
    try:
        pool.apply(abs, (-3,))
    finally:
        for worker in workers:
            worker.join()  # nobody else ends them
"""


def test_ctrl_c_while_workers_load_shows_one_traceback(
    ours: Implementation, tmp_path: Path
) -> None:
    if ours.start_method == "fork":
        pytest.skip("a forked child loads nothing")
    script = tmp_path / "loading.py"
    script.write_text(LOADING.format(package=ours.name, method=ours.start_method))
    program = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout is not None
    lines = [program.stdout.readline().strip() for _ in range(3)]
    workers = [os.pidfd_open(int(line)) for line in lines if line != "made"]
    os.killpg(program.pid, signal.SIGINT)
    _, errors = program.communicate()
    for worker in workers:
        select.select([worker], [], [])
        os.close(worker)
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors


MOMENTS = """
import random, signal, threading, time
import {package}

def work(seconds):
    time.sleep(seconds)
    return seconds

def interrupted_after(seconds, call, *arguments):
    begun = threading.Event()
    def interrupt():
        begun.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        begun.set()
        call(*arguments)
    except KeyboardInterrupt:
        pass
    thread.join()

if __name__ == "__main__":
    chance = random.Random({seed})
    with {package}.get_context({method!r}).Pool(2) as pool:
        pool.map(work, [0, 0])
        for number in range(20):
            moment = chance.uniform(0, 0.002)
            interrupted_after(moment, pool.map, work, [1000] * 6, 1)
            interrupted_after(moment, pool.apply, work, (1000,))
            # What was interrupted is in nobody's way.
            assert pool.map(work, [0] * 4, 1) == [0] * 4
    print("done")
"""


def test_a_call_interrupted_at_any_moment_leaves_no_task(
    ours: Implementation, tmp_path: Path
) -> None:
    script = tmp_path / "moments.py"
    seed = time.time_ns() % 1_000_000
    script.write_text(MOMENTS.format(package=ours.name, method=ours.start_method, seed=seed))
    finished = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("done\n", ""), f"seed {seed}"


ENDLESS = """
import itertools, os, signal, threading, time
from concurrent.futures import CancelledError
import {package}

def work(seconds):
    time.sleep(seconds)
    return seconds

def interrupt(pool, asked):
    asked.wait()
    while sum(one["at_task_for"] is not None for one in pool.stats()["workers"]) < 2:
        time.sleep(0.001)
    main, seen = threading.main_thread().native_id, 0
    while seen < 20:  # until it sleeps, and so waits in `next`
        stat = open(f"/proc/self/task/{{main}}/stat").read().rpartition(")")[2]
        seen = seen + 1 if stat.split()[0] == "S" else 0
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGINT)

if __name__ == "__main__":
    with {package}.get_context({method!r}).Pool(2) as pool:
        for how in {{}}, {{"buffersize": 3}}, {{"chunksize": 2}}, {{"progress": True}}:
            for seconds in itertools.repeat(1000), [1000] * 50:
                results = pool.imap(work, seconds, **how)
                asked = threading.Event()
                threading.Thread(target=interrupt, args=(pool, asked)).start()
                asked.set()
                try:
                    next(results)
                except KeyboardInterrupt:
                    pass
                # What was interrupted is in nobody's way, though it is still held here,
                for _ in range(5):
                    assert pool.map(work, [0] * 9, 1) == [0] * 9
                # and does not pass for all of its results.
                if "chunksize" not in how:
                    try:
                        print("all of", list(results))
                    except CancelledError:
                        pass
    print("done")
"""


def test_an_interrupted_iterator_leaves_no_task(ours: Implementation, tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS.format(package=ours.name, method=ours.start_method))
    finished = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert finished.stdout == "done\n", finished.stderr
