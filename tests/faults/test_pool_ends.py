"""Ends of a pool's processes that are no plain kill: no memory, stopped, with the parent."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import control_groups
from implementation import Implementation
from pool_tasks import sleep, stop_or_work

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"


# --- memory ------------------------------------------------------------------------------------


MEMORY = """
import os, sys
sys.path[:0] = [{folder!r}, {tests!r}]
import bequeath, control_groups
from pool_tasks import eat_or_work
from pathlib import Path

def outcome(result):
    try:
        return result.get()
    except bequeath.exceptions.WorkerDied as death:
        assert "out of memory" in str(death), death
        return death.oom, death.signal

if __name__ == "__main__":
    control_groups.enter(Path({group!r}), os.getpid())
    context = bequeath.get_context({method!r})
    with context.Pool(3) as pool:
        results = [pool.apply_async(eat_or_work, (number,)) for number in range({count})]
        print([outcome(result) for result in results])
        print(pool.apply(eat_or_work, (1,)))
    pool.join()
"""


@pytest.mark.limit(600)
def test_workers_that_eat_memory_cost_their_tasks(
    ours: Implementation, tmp_path: Path, memory_group: Path
) -> None:
    count = 400 if LONG else 24
    script = tmp_path / "eaters.py"
    here = Path(__file__).parent
    script.write_text(
        MEMORY.format(
            folder=str(here),
            tests=str(here.parent),
            group=str(memory_group),
            method=ours.start_method,
            count=count,
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    eaten = sum(number % 8 == 5 for number in range(count))
    expected = [(True, "SIGKILL") if n % 8 == 5 else n * 3 for n in range(count)]
    assert done.stdout == f"{expected}\n3\n", done.stderr
    assert control_groups.killed_in(memory_group) == eaten


@pytest.fixture
def memory_group() -> Iterator[Path]:
    with control_groups.group_of(150_000_000) as group:
        if group is None:
            pytest.skip("no control group can be made that limits memory")
        yield group


# --- workers that stop -------------------------------------------------------------------------


@pytest.mark.limit(600)
@pytest.mark.parametrize("workers", [2, 8] if LONG else [4])
def test_workers_that_stop_run_out_of_time(ours: Implementation, workers: int) -> None:
    count = 320 if LONG else 32
    with ours.Pool(workers, terminate_after=0.05, kill_after=0.05) as pool:
        pool.map(stop_or_work, [1] * workers * 4, 1)  # what is imported first takes its time, too
        results = [pool.apply_async(stop_or_work, (n,), timeout=5) for n in range(count)]
        late = []
        for number, result in enumerate(results):
            try:
                assert result.get() == number * 3
            except ours.TimeoutError:
                late.append(number)
        assert late == [number for number in range(count) if number % 16 == 5]
        assert pool.map(sleep, [0.0] * 9, 1) == [0.0] * 9
    pool.join()


# --- the parent ends ---------------------------------------------------------------------------

PARENT = """
import sys, time
sys.path.insert(0, {folder!r})
import bequeath
from pool_tasks import sleep, with_a_pool_of_its_own

if __name__ == "__main__":
    context = bequeath.get_context({method!r})
    what, said = {what!r}, []
    if what == "pool":
        pool = context.Pool(3)
        pool.map(sleep, [0.0] * 9, 1)
        pool.map_async(sleep, [1000.0] * 9, 1)
    elif what == "executor":
        pool = bequeath.ProcessPoolExecutor(3, context)
        futures = [pool.submit(sleep, 1000.0) for _ in range(9)]
    else:
        pool = context.Pool(1)
        pids = context.SimpleQueue()
        pool.apply_async(with_a_pool_of_its_own, ({method!r}, pids))
        said = pids.get()
    count = 1 if what == "nested" else 3
    while sum(one["at_task_for"] is not None for one in pool.stats()["workers"]) < count:
        time.sleep(0.001)
    print(*(worker["pid"] for worker in pool.stats()["workers"]), *said, flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("what", ["pool", "executor", "nested"])
def test_no_worker_survives_its_parent(
    ours: Implementation, tmp_path: Path, what: str, how: signal.Signals
) -> None:
    script = tmp_path / "parent.py"
    folder = str(Path(__file__).parent)
    script.write_text(PARENT.format(folder=folder, method=ours.start_method, what=what))
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(workers) == 3
    parent.send_signal(how)
    parent.wait()
    parent.stdout.close()
    for worker in workers:
        # Readable when it has ended.
        select.select([worker], [], [])
        os.close(worker)
