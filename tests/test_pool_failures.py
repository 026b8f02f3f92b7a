"""What can go wrong between a pool's processes, and costs one task or tells why all is over."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import signal
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import held_pool
from implementation import Implementation
from program import prints


@pytest.fixture
def pool(ours: Implementation) -> Iterator[Any]:
    with held_pool.of(ours) as held:
        yield held


def square(x: int) -> int:
    return x * x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# --- refusals name the argument ------------------------------------------------------------------


def test_a_refusal_names_the_argument(pool: Any) -> None:
    lock = threading.Lock()
    for path, call in {
        "args[1]": lambda: pool.apply(square, (1, lock)),
        "args[0]['log']": lambda: pool.apply(square, ({"log": lock},)),
        "kwargs['y']": lambda: pool.apply(square, (1,), {"y": lock}),
        "function.args[0]": lambda: pool.apply(Partly(lock)),
        "iterable[3]": lambda: pool.map(square, [1, 2, 3, lock, 5], 1),
        "iterable[4]": lambda: pool.map(square, [1, 2, 3, 4, lock, 5], 2),
        "iterable[1][0]": lambda: pool.starmap(square, [(1,), (lock,)], 2),
        "iterable[2]": lambda: list(pool.imap(square, iter([1, 2, lock]))),
        "iterable[5]": lambda: list(pool.imap(square, iter([*range(5), lock]), 2)),
        "iterable[6]": lambda: list(pool.imap(square, [*range(6), lock], 2, buffersize=2)),
    }.items():
        with pytest.raises(TypeError, match="^" + re.escape(path)):
            call()


class Partly:
    def __init__(self, *args: Any) -> None:
        self.args = args

    def __call__(self) -> None:
        pass


# --- signals while something else is done ------------------------------------------------------


class Interrupting:
    """Interrupts whoever pickles it in the main thread, once."""

    done = False

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        is_main = threading.current_thread() is threading.main_thread()
        if self.number >= 30 and is_main and not Interrupting.done:
            Interrupting.done = True
            signal.raise_signal(signal.SIGINT)
        return Interrupting, (self.number,)


def number_of(one: Interrupting) -> int:
    time.sleep(0.001)
    return one.number


def test_an_interrupt_is_not_the_error_of_the_task_that_was_being_pickled(pool: Any) -> None:
    Interrupting.done = False
    others = pool.map_async(number_of, [Interrupting(number) for number in range(500)], 1)
    mine = pool.apply_async(nap, (0.1,))
    # Who waits sends the next tasks, too: in the main thread here.
    with pytest.raises(KeyboardInterrupt):
        mine.get()
        others.get()
    assert Interrupting.done
    assert others.get() == list(range(500)) and mine.get() == 0.1


class Witness:
    """Lives as long as the frame that made it."""


def test_what_keeps_a_pool_from_starting_is_let_go_of_if_that_is_interrupted(
    ours: Implementation,
) -> None:
    seen = []

    class Refusing(ours.module("pool").Pool):  # type: ignore[misc]
        @staticmethod
        def Process(ctx: Any, *args: Any, **kwds: Any) -> Any:  # noqa: N802
            witness = Witness()
            seen.append(weakref.ref(witness))
            raise KeyboardInterrupt if len(seen) == 1 else OSError("no process")

    with pytest.raises(KeyboardInterrupt):
        Refusing(1)
    gc.collect()
    assert [one() for one in seen] == [None, None]


def fail(x: int) -> None:
    raise LookupError(x)


def test_a_pool_whose_tasks_failed_goes_without_the_garbage_collector(ours: Implementation) -> None:
    gc.collect()
    gc.disable()
    try:
        pool = ours.Pool(1)
        held = [weakref.ref(one) for one in (pool, *pool._pool)]
        for call in (
            lambda: pool.apply(fail, (1,)),
            lambda: pool.map(fail, [1]),
            lambda: pool.apply_async(fail, (1,)).get(),
            lambda: list(pool.imap(fail, [1])),
        ):
            with contextlib.suppress(LookupError):
                call()
        pool.close()
        pool.join()
        pool = call = None
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


# --- descriptors that nobody has room for ------------------------------------------------------


def open_files(count: int) -> list[Any]:
    return [tempfile.TemporaryFile() for _ in range(count)]


def allow_files(more: int) -> int:
    """Leaves room for so many descriptors; the limit as it was."""
    taken = set(map(int, os.listdir("/proc/self/fd")))
    limit = next(n for n in range(10_000) if n - len(taken & set(range(n))) == more)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    return limits[0]


def test_results_with_too_many_descriptors_are_their_tasks_errors(pool: Any) -> None:
    pool.map(square, range(4))
    soft = allow_files(5)
    try:
        results = [pool.apply_async(open_files, (30,)) for _ in range(3)]
        for result in results:
            with pytest.raises(OSError, match="no room for them"):
                result.get()
        assert pool.map(square, range(9), 1) == [x * x for x in range(9)]
    finally:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
    assert len(pool.apply(open_files, (3,))) == 3, "and not somebody else's"


def test_tasks_with_too_many_descriptors_fail_and_their_workers_live(ours: Implementation) -> None:
    with ours.Pool(1) as pool:
        pool.apply(allow_files, (5,))
        (worker,) = pool._pool
        files = open_files(30)
        for _ in range(2):
            with pytest.raises(OSError, match="no room for them"):
                pool.apply(len, (files,))
        assert pool.apply(square, (3,)) == 9
        assert pool._pool == [worker]
    pool.join()


class Answers:
    """In a worker: the queue of its pool's answers, on its way to the parent as if it were any."""

    def __reduce__(self) -> Any:
        from bequeath import _pool_worker

        assert _pool_worker._seat is not None
        _, (_, _, handles, _) = _pool_worker._seat.__reduce__()  # type: ignore[misc]
        return queue_of, (handles[2],)


def queue_of(token: int) -> Any:
    from bequeath.queues import SimpleQueue

    queue = SimpleQueue.__new__(SimpleQueue)
    queue.__setstate__((token, 0))
    return queue


@pytest.mark.parametrize("waits", [True, False])
def test_what_cannot_be_read_breaks_the_pool(ours: Implementation, waits: bool) -> None:
    with ours.Pool(2) as pool:
        answers = pool.apply(Answers)
        running = pool.apply_async(nap, (1000.0,))
        if waits:  # ... then it may be this thread that hears it
            threading.Timer(0.1, answers.put, ("no worker wrote that",)).start()
        else:
            answers.put("no worker wrote that")
        with pytest.raises(ours.module("exceptions").PoolBroken, match="cannot be read") as caught:
            running.get()
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(ours.module("exceptions").PoolBroken, match="cannot be read"):
            pool.map(square, range(4))
    pool.join()


# --- what is shared ----------------------------------------------------------------------------


def look(array: Any) -> tuple[int, float, bool]:
    return os.getpid(), float(array.sum()), bool(array.flags.writeable)


def own_megabytes(pid: int) -> float:
    """Memory of a process, what it shares divided by those who have it too."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise ValueError(pid)


def test_workers_look_at_one_copy_of_what_is_shared(ours: Implementation) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(8_000_000.0)  # 61 MiB
    with ours.Pool(3) as pool:
        pool.map(look, [array[:10]] * 12, 1)
        workers = list(pool._pool)
        before = sum(own_megabytes(worker.pid) for worker in workers)
        shared = pool.share({"frame": array, "name": "x"})
        array[0] = 7.0  # it is shared as it was
        answers = pool.starmap(look_into, [(shared, "frame")] * 30, 1)
        assert {answer[1:] for answer in answers} == {(array.sum() - 7.0, False)}
        assert len({pid for pid, *_ in answers}) == 3
        used = sum(own_megabytes(worker.pid) for worker in workers) - before
        assert used < 61 * 1.5, "one copy, not one for each"
        workers[0].kill()
        workers[0].join()
        assert len(set(pool.starmap(look_into, [(shared, "frame")] * 30, 1))) <= 3
        assert shared.value["frame"] is array
    pool.join()


def look_into(shared: Any, name: str) -> tuple[int, float, bool]:
    return look(shared[name])


# --- results that there is no memory for -------------------------------------------------------


def test_a_result_that_there_is_no_memory_for_costs_no_worker(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))  # and with it the session's size
    with context.Pool(1) as pool:
        worker = pool.apply(os.getpid)
        for call in (bytes, raises):
            try:
                pool.apply(call, (3 << 20,))
            except Exception as error:
                name = type(error).__name__
                print(name, "MemoryError" in str(error), "characters" in str(error))
        print(pool.apply(os.getpid) == worker)
    """
    definitions = "def raises(size):\n    raise ValueError('.' * size)\n"
    expected = "MaybeEncodingError True True\nMaybeEncodingError True True\nTrue"
    prints(ours, tmp_path, definitions, body, expected)
