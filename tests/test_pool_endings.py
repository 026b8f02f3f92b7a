"""Ends of a pool, and of those who use it: each in a program of its own."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import held_pool
from implementation import Implementation
from program import prints

WORK = """
def square(x):
    return x * x

def nap(seconds):
    time.sleep(seconds)
    return seconds

def of(call, *arguments):
    try:
        return call(*arguments)
    except BaseException as error:
        return type(error).__name__

def naps():
    yield 0
    while True:
        yield 1000

def waits(pool):
    fed = pool.imap(nap, naps(), buffersize=2)
    next(fed)
    result = pool.apply_async(nap, (1000,))
    each = pool.imap(nap, [1000] * 3)
    return {
        "apply": lambda: pool.apply(nap, (1000,)),
        "map": lambda: pool.map(nap, [1000] * 5),
        "next": lambda: next(each),
        "next in time": lambda: each.next(timeout=1000),
        "get": lambda: result.get(1000),
        "fed": lambda: list(fed),
    }

def at_work(pool, count=2):
    while sum(one["at_task_for"] is not None for one in pool.stats()["workers"]) < count:
        time.sleep(0.001)

def signalled(handler):
    # The handler runs in this thread while that waits for what is asked next.
    signal.signal(signal.SIGUSR1, handler)
    main = threading.get_native_id()
    def send():
        seen = 0
        while seen < 20:
            stat = open(f"/proc/self/task/{main}/stat").read().rpartition(")")[2]
            seen = seen + 1 if stat.split()[0] == "S" else 0
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGUSR1)
    threading.Thread(target=send).start()
"""


def test_whoever_waits_is_told_that_all_is_terminated(ours: Implementation, tmp_path: Path) -> None:
    body = """
    def leave(pool):
        with pool:
            pass

    def callback(pool):
        other, done = context.Pool(1), threading.Event()
        other.apply_async(square, (3,), callback=lambda _: (pool.terminate(), done.set()))
        done.wait()
        leave(other)

    def several(pool):
        threads = [threading.Thread(target=pool.terminate) for _ in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

    for how in (leave, callback, several):
        pool, said = context.Pool(2), {}
        def wait(name, call):
            said[name] = of(call)
        waiting = waits(pool).items()
        threads = [threading.Thread(target=wait, args=one) for one in waiting]
        [thread.start() for thread in threads]
        while len(pool._results) < 5:
            time.sleep(0.001)  # until all calls are known: one that comes later is refused
        at_work(pool)
        how(pool)
        pool.terminate()
        [thread.join() for thread in threads]
        pool.join()
        print(how.__name__, len(said), set(said.values()))
    """
    expected = "\n".join(f"{how} 6 {{'RuntimeError'}}" for how in ("leave", "callback", "several"))
    prints(ours, tmp_path, WORK, body, expected)


def test_a_signal_handler_ends_the_pool_that_its_thread_waits_for(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    for name in waits(pool := context.Pool(1)):
        pool.terminate()
        pool.join()
        pool = context.Pool(1)
        call = waits(pool)[name]
        signalled(lambda *_: (pool.terminate(), pool.join()))
        print(name, of(call))
    """
    names = ("apply", "map", "next", "next in time", "get", "fed")
    expected = "\n".join(f"{name} RuntimeError" for name in names)
    prints(ours, tmp_path, WORK, body, expected)


def test_a_signal_handler_may_use_the_pool_that_its_thread_waits_for(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    gate, seen = context.Event(), []
    pool = context.Pool(2)
    for ask in (
        lambda: pool.apply(square, (3,)),
        lambda: pool.apply_async(square, (3,), callback=seen.append).get(),
        lambda: list(pool.imap(square, iter([3]))),
    ):
        gate.clear()
        signalled(lambda *_: (print(ask()), gate.set()))
        print(pool.apply_async(wait_for, (gate,)).get())
    print(seen)
    pool.close()
    pool.join()
    """
    definitions = "def wait_for(gate):\n    return gate.wait()\n"
    expected = "9\nTrue\n9\nTrue\n[9]\nTrue\n[9]"
    prints(ours, tmp_path, WORK + definitions, body, expected)


def test_a_callback_cannot_wait_for_the_end_of_its_own_pool(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    pool, done = context.Pool(1), threading.Event()
    def callback(_):
        pool.close()
        print(of(pool.join))
        pool.terminate()
        done.set()
    pool.apply_async(square, (3,), callback=callback)
    done.wait()
    pool.join()
    """
    prints(ours, tmp_path, WORK, body, "RuntimeError")


def test_a_forgotten_pool_gives_the_result_that_somebody_waits_for(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    import warnings
    warnings.simplefilter("ignore")
    for _ in range(5):
        result = context.Pool(2).map_async(nap, [0.01] * 4, 1)
        print(result.get())
    """
    prints(ours, tmp_path, WORK, body, "[0.01, 0.01, 0.01, 0.01]\n" * 5)


# --- the interpreter ends ----------------------------------------------------------------------


def test_daemon_threads_that_wait_as_the_interpreter_ends_say_nothing(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    pool = context.Pool(2)
    def always():
        while True:
            pool.map(square, range(50), 1)
    calls = [*waits(pool).values(), always, always]
    for call in calls:
        threading.Thread(target=call, daemon=True).start()
    pool.apply_async(nap, (1000,), callback=print, error_callback=print)
    at_work(pool)
    """
    prints(ours, tmp_path, WORK, body, "")


def test_handlers_of_the_interpreter_s_end_may_use_a_pool(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    from {package} import util
    pool = context.Pool(2)
    def late():
        print([of(pool.map, square, [3]), of(lambda: list(pool.imap(square, iter([3]))))])
        print([of(lambda: list(pool.imap(square, [3]))), of(pool.terminate), of(pool.join)])
    atexit.unregister(util._exit_function)
    atexit.register(late)
    atexit.register(util._exit_function)
    atexit.register(lambda: print(pool.map(square, [3])))
    """.replace("{package}", ours.name)
    expected = "[9]\n['RuntimeError', 'ValueError']\n['RuntimeError', None, None]"
    prints(ours, tmp_path, WORK, body, expected)


# --- forks -------------------------------------------------------------------------------------


def test_a_forked_child_has_no_part_in_its_parent_s_pool(
    ours: Implementation, tmp_path: Path
) -> None:
    body = """
    import gc, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12's, of forks beside threads
    gate = context.Event()
    with context.Pool(2) as pool:
        pool.map(square, range(8), 1)
        executor = mp.ProcessPoolExecutor(1, context)
        executor.submit(square, 3).result()
        result = pool.apply_async(wait_for, (gate,))
        told = pool.apply_async(wait_for, (gate,), callback=lambda _: None)
        each = pool.imap(wait_for, [gate])
        at_work(pool)
        workers = [worker.pid for worker in pool._pool]
        if not (child := os.fork()):
            calls = (
                lambda: pool.apply(square, (3,)), lambda: pool.map_async(square, [3]),
                lambda: list(pool.imap(square, iter([3]))), lambda: list(pool.imap(square, [3])),
                result.get, told.get, lambda: next(each), pool.close,
                lambda: executor.submit(square, 3).result(), executor.shutdown,
            )
            print({of(call) for call in calls}, of(pool.terminate))
            del pool, result, each
            gc.collect()
            with context.Pool(1) as mine:
                print(mine.map(square, [3]))
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        gate.set()
        print(result.get(), told.get(), list(each), executor.submit(square, 3).result())
        print(workers == [worker.pid for worker in pool._pool])
        executor.shutdown()
    """
    definitions = "def wait_for(gate):\n    return gate.wait()\n"
    expected = "{'RuntimeError'} None\n[9]\n3\nTrue True [True] 9\nTrue"
    prints(ours, tmp_path, WORK + definitions, body, expected)


def test_a_task_that_forks_is_answered_once(ours: Implementation, tmp_path: Path) -> None:
    body = """
    with context.Pool(1) as pool:
        for how in (sys.exit, print, int):
            print(pool.apply(forks, (how, 3)), pool.map(square, range(3), 1))
        print(pool.stats()["workers"][0]["tasks"])
    """
    definitions = """
def forks(how, number):
    if not (child := os.fork()):
        return how(number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
    expected = "3 [0, 1, 4]\n3\n0 [0, 1, 4]\n0 [0, 1, 4]\n12"
    prints(ours, tmp_path, WORK + definitions, body, expected)


# --- results -----------------------------------------------------------------------------------


class Unshowable:
    def __reduce__(self) -> Any:
        raise ValueError("does not travel")

    def __repr__(self) -> str:
        sys.exit(3)


class Leaving:
    def __init__(self) -> None:
        self.set = True

    def __setstate__(self, state: object) -> None:
        sys.exit(3)


def make(kind: type) -> Any:
    return kind()


@pytest.fixture
def pool(ours: Implementation) -> Iterator[Any]:
    with held_pool.of(ours) as held:
        yield held


def test_a_result_that_cannot_be_shown_either_costs_no_worker(pool: Any) -> None:
    workers = {worker.pid for worker in pool._pool}
    for _ in range(3):
        with pytest.raises(Exception, match="does not travel") as refused:
            pool.apply(make, (Unshowable,))
        assert type(refused.value).__name__ == "MaybeEncodingError"
        assert "Unshowable object at" in str(refused.value)
    assert {worker.pid for worker in pool._pool} == workers


@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_what_ends_a_program_as_a_result_is_rebuilt_comes_once(pool: Any, way: str) -> None:
    results, seen = getattr(pool, way)(make, [int, Leaving, str, Leaving]), []
    while True:
        try:
            seen.append(next(results))
        except SystemExit as leaving:
            seen.append(leaving.code)
        except StopIteration:
            break
    assert sorted(map(repr, seen)) == ["''", "0", "3", "3"]


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_a_callback_that_would_end_its_thread_does_not(
    ours: Implementation, pool: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    if kind == "threads":
        pool = ours.module("pool").ThreadPool(1)
    assert pool.apply_async(abs, (-1,), callback=sys.exit).get() == 1
    failed = pool.apply_async(abs, ("",), error_callback=sys.exit)
    with pytest.raises(TypeError):
        failed.get()
    assert pool.map(abs, range(3)) == [0, 1, 2]
    pool.close()
    pool.join()


# --- inputs that are given up ------------------------------------------------------------------


class Counting:
    """Numbers from 0 on, until nobody wants them."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __iter__(self) -> Iterator[int]:
        try:
            yield from itertools.count()
        finally:
            self.over.set()


@pytest.mark.parametrize("kind", ["processes", "threads"])
@pytest.mark.parametrize(
    "how", [{}, {"buffersize": 3}, {"chunksize": 5}, {"chunksize": 5, "buffersize": 2}]
)
def test_nothing_is_read_for_an_iterator_that_is_forgotten(
    ours: Implementation, pool: Any, kind: str, how: dict[str, int]
) -> None:
    if kind == "threads":
        pool = ours.module("pool").ThreadPool(2)
    numbers = Counting()
    results = pool.imap_unordered(abs, numbers, **how)
    for _ in range(20):
        next(results)
    del results
    gc.collect()
    numbers.over.wait()
    assert pool.map(abs, range(3)) == [0, 1, 2]
    while pool._results or pool._fed:
        time.sleep(0.001)
    pool.close()
    pool.join()


@pytest.mark.parametrize("kind", ["processes", "threads"])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_results_of_half_an_input_do_not_pass_for_all(
    ours: Implementation, kind: str, chunksize: int
) -> None:
    go_on = threading.Event()

    def numbers() -> Iterator[int]:
        yield from range(chunksize)
        go_on.wait()
        yield from range(1000)

    pool = ours.Pool(1) if kind == "processes" else ours.module("pool").ThreadPool(1)
    results = pool.imap(abs, numbers(), chunksize)
    assert [next(results) for _ in range(chunksize)] == [*range(chunksize)]
    pool.terminate()
    go_on.set()
    with pytest.raises(RuntimeError, match="terminated"):
        list(results)
    pool.join()


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_an_input_that_would_end_the_program_is_the_results_error(
    ours: Implementation, pool: Any, kind: str
) -> None:
    if kind == "threads":
        pool = ours.module("pool").ThreadPool(1)

    def numbers() -> Iterator[int]:
        yield 1
        sys.exit(3)

    results = pool.imap(abs, numbers())
    assert next(results) == 1
    with pytest.raises(SystemExit):
        next(results)
    assert pool.map(abs, [-2]) == [2]
    pool.terminate()
    pool.join()


def test_work_whose_results_nobody_asks_for_is_done(pool: Any, tmp_path: Path) -> None:
    pool.imap(os.mkdir, (tmp_path / str(number) for number in range(500)))
    gc.collect()
    pool.close()
    pool.join()
    assert len(list(tmp_path.iterdir())) == 500
