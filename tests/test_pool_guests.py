"""A pool in processes that did not make it: as an argument, in a message, in its own workers."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

import bequeath
from bequeath import pickle as own_pickle
from implementation import Implementation


@pytest.fixture
def pool(ours: Implementation) -> Iterator[Any]:
    with ours.Pool(2) as made:
        yield made
    made.join()


@pytest.fixture
def handle(ours: Implementation, pool: Any) -> Any:
    """The pool as whoever gets it from a queue has it."""
    return sent(ours, pool)


def sent(ours: Implementation, pool: Any) -> Any:
    queue = ours.SimpleQueue()
    queue.put(pool)
    return queue.get()


def square(x: int) -> int:
    return x * x


def total(x: int, y: int = 0) -> int:
    return x + y


def fail(x: object) -> None:
    raise Loud("no", x)


class Loud(Exception):  # noqa: N818
    def __init__(self, word: str, x: object) -> None:
        super().__init__(word, x)
        self.x = x


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def all_calls(pool: Any) -> None:
    assert type(pool).__name__ == "PoolHandle"
    assert pool.apply(total, (1,), {"y": 2}) == 3
    assert pool.map(square, range(20)) == [x * x for x in range(20)]
    assert pool.map(square, [1, 2, 3], 1) == [1, 4, 9]
    assert pool.starmap(total, [(1, 2), (3, 4)], 1) == [3, 7]
    assert list(pool.imap(square, range(7), 2)) == [x * x for x in range(7)]
    assert list(pool.imap(square, iter(range(7)))) == [x * x for x in range(7)]
    assert sorted(pool.imap_unordered(square, range(5))) == [0, 1, 4, 9, 16]
    assert pool.map(square, []) == []
    told: list[Any] = []
    result = pool.apply_async(square, (5,), callback=told.append)
    assert result.get() == 25 and result.ready() and result.successful() and told == [25]
    results = pool.starmap_async(total, [(1, 1)], callback=told.append)
    assert results.get() == [2] and told == [25, [2]]
    failed = pool.map_async(fail, [1], error_callback=told.append)
    failed.wait()
    assert not failed.successful() and told[2].x == 1


def answer(function: Callable[..., object], answers: Any, *arguments: Any) -> None:
    """What a child did: None, or the exception."""
    try:
        function(*arguments)
    except BaseException as error:
        answers.put(error)
    else:
        answers.put(None)


def in_child(ours: Implementation, function: Callable[..., object], *arguments: Any) -> None:
    answers = ours.SimpleQueue()
    child = ours.Process(target=answer, args=(function, answers, *arguments))
    child.start()
    error = answers.get()
    child.join()
    if error is not None:
        raise error


# --- by every way --------------------------------------------------------------------------------


def test_a_pool_among_a_starts_arguments(ours: Implementation, pool: Any) -> None:
    in_child(ours, all_calls, pool)
    assert pool.apply(square, (3,)) == 9


def from_queue(queue: Any) -> None:
    all_calls(queue.get())


def test_a_pool_in_a_message(ours: Implementation, pool: Any) -> None:
    queue = ours.Queue()
    queue.put(pool)
    in_child(ours, from_queue, queue)


def pass_on(ours: Implementation, pool: Any) -> None:
    in_child(ours, all_calls, pool)


def test_a_handle_goes_on_to_others(ours: Implementation, pool: Any) -> None:
    in_child(ours, pass_on, ours, pool)


def test_a_task_submits_to_its_own_pool(pool: Any, handle: Any) -> None:
    assert pool.apply(asks, (pool, 7)) == 49
    assert handle.apply(asks, (handle, 7)) == 49


def asks(pool: Any, x: int) -> int:
    result: int = pool.apply(square, (x,))
    return result


def test_a_forked_copy_of_a_handle(handle: Any) -> None:
    assert handle.apply(square, (2,)) == 4
    in_child(Implementation("bequeath", "fork"), all_calls, handle)
    assert handle.apply(square, (3,)) == 9


def test_many_guests_at_once(ours: Implementation, pool: Any) -> None:
    answers = ours.SimpleQueue()
    guests = [ours.Process(target=answer, args=(all_calls, answers, pool)) for _ in range(3)]
    for guest in guests:
        guest.start()
    assert [answers.get() for _ in guests] == [None] * 3
    for guest in guests:
        guest.join()


def use_what_is_inside(pools: list[Any], more: dict[str, tuple[Any, ...]]) -> None:
    assert pools[0].apply(square, (3,)) == 9
    assert more["here"][1].apply(square, (4,)) == 16
    assert pools[0] is more["here"][1]


def test_pools_inside_of_arguments(ours: Implementation, pool: Any) -> None:
    in_child(ours, use_what_is_inside, [pool], {"here": (1, pool)})


class Owner:
    def __init__(self, pool: Any) -> None:
        self.pool = pool


def use_what_it_owns(owner: Owner) -> None:
    owner.pool.apply(square, (3,))


def test_a_forked_childs_copy_says_what_would_work(pool: Any) -> None:
    with pytest.raises(RuntimeError, match=r"copy that came by a fork; as an argument"):
        in_child(Implementation("bequeath", "fork"), use_what_it_owns, Owner(pool))


def echo(x: object) -> object:
    return x


def say(end: Any) -> None:
    end.send("hello")


def test_what_calls_and_results_carry(ours: Implementation) -> None:
    # Whoever has sent or received a descriptor through a queue has sockets for it: no fixtures.
    with ours.Pool(2) as pool:
        all_that_crosses(ours, sent(ours, pool))
    pool.join()


def all_that_crosses(ours: Implementation, handle: Any) -> None:
    large = os.urandom(1 << 20)
    assert handle.apply(echo, (large,)) == large
    many = list(range(100_000))
    assert handle.map(echo, [many, large, b""], 1) == [many, large, b""]
    here, there = ours.Pipe()
    handle.apply(say, (there,))
    there.close()
    assert here.recv() == "hello"
    here.close()
    queue = handle.apply(echo, (ours.Queue(),))
    queue.put(1)
    assert queue.get() == 1
    assert handle.apply(lambda x: x + 1, (1,)) == 2


def test_large_calls_that_are_tried_again(ours: Implementation, tmp_path: Any) -> None:
    with ours.Pool(1, on_death="retry", retries=1) as pool:
        arguments = (str(tmp_path / "tried"), bytes(1 << 20))
        assert sent(ours, pool).apply(die_once, arguments) == "twice"
    pool.join()


def session_bytes() -> int:
    return int(bequeath._engine.session_info()["used"])


def test_an_open_call_takes_little_memory(pool: Any, handle: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "go")
    first = [handle.apply_async(wait_for, (path,)) for _ in range(20)]
    assert not handle.apply_async(square, (1,)).ready()
    before = session_bytes()
    rest = [handle.apply_async(wait_for, (path,)) for _ in range(500)]
    assert rest[-1].cancel(running=False)  # all have been submitted
    assert session_bytes() - before < 500 * 4096
    with open(path, "w"):
        assert [result.get() for result in first + rest[:-1]] == [path] * 519


# --- what goes wrong -----------------------------------------------------------------------------


def test_errors_are_those_of_the_pool(handle: Any) -> None:
    with pytest.raises(Loud) as caught:
        handle.apply(fail, (3,))
    assert caught.value.x == 3 and "in fail" in str(caught.value.__cause__)
    with pytest.raises(bequeath.exceptions.WorkerDied, match=r"die\(\.\.\.\)") as died:
        handle.apply(die)
    assert died.value.signal == "SIGKILL"
    with pytest.raises(bequeath.TimeoutError):
        handle.apply(time.sleep, (1000,), timeout=0.1)
    with pytest.raises(SystemExit):
        handle.apply(exit, (3,))
    assert handle.apply(square, (4,)) == 16


def test_what_cannot_be_pickled_is_refused_where_it_is_asked_for(handle: Any) -> None:
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"^args\[0\]\['log'\]"):
        handle.apply(square, ({"log": lock},))
    with pytest.raises(TypeError, match=r"^iterable\[3\]"):
        handle.map(square, [0, 0, 1, lock, 2], 2)
    with pytest.raises(TypeError, match=r"^iterable\[1\]"):
        list(handle.imap(square, iter([1, lock])))
    with pytest.raises(bequeath.pool.MaybeEncodingError):
        handle.apply(threading.Lock)
    assert handle.apply(square, (4,)) == 16


class Unreadable:
    """Arrives nowhere."""

    def __reduce__(self) -> Any:
        return fail, ("arrived",)


def make_unreadable() -> Unreadable:
    return Unreadable()


def test_what_cannot_be_rebuilt_is_the_error_of_its_call(handle: Any) -> None:
    others = handle.map_async(square, range(10), 1)
    with pytest.raises(Loud):
        handle.apply(type, (Unreadable(),))
    with pytest.raises(Loud):
        handle.apply(make_unreadable)
    assert others.get() == [x * x for x in range(10)]


def test_a_task_that_is_tried_again(ours: Implementation, tmp_path: Any) -> None:
    with ours.Pool(1, on_death="retry", retries=1) as pool:
        assert sent(ours, pool).apply(die_once, (str(tmp_path / "tried"),)) == "twice"
    pool.join()


def die_once(path: str, more: object = None) -> str:
    if os.path.exists(path):
        return "twice"
    with open(path, "w"):
        die()
    return "never"


def test_cancelling(pool: Any, handle: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "go")
    running = [handle.apply_async(touch_and_wait, (f"{path}{n}", path)) for n in range(2)]
    for n in range(2):
        wait_for(f"{path}{n}")
    waits = handle.apply_async(square, (2,))
    assert waits.cancel(running=False)
    assert not running[0].cancel(running=False)
    assert running[0].cancel()
    for result in (waits, running[0]):
        with pytest.raises(CancelledError):
            result.get()
    with open(path, "w"):
        assert running[1].get() == path
    assert not running[1].cancel()


def test_an_interrupted_imap_leaves_no_tasks_behind(handle: Any) -> None:
    results = handle.imap(time.sleep, [0.0] + [1000.0] * 50)
    assert next(results) is None
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    timer.join()
    assert handle.map(square, range(8), 1) == [x * x for x in range(8)]


def touch_and_wait(mine: str, other: str) -> str:
    with open(mine, "w"):
        return wait_for(other)


# --- what is not a guest's -----------------------------------------------------------------------


def test_the_pool_is_its_owners(pool: Any, handle: Any) -> None:
    for end in (handle.close, handle.terminate, handle.join, handle.stats):
        with pytest.raises(RuntimeError, match="the process that made the pool"):
            end()
    with handle as entered:
        assert entered.apply(square, (2,)) == 4
    assert handle.apply(square, (3,)) == 9


def test_a_pool_of_threads_does_not_travel(ours: Implementation) -> None:
    with bequeath.pool.ThreadPool(1) as threads:
        with pytest.raises(NotImplementedError, match="threads of this process.*use a Pool"):
            ours.SimpleQueue().put(threads)
        assert not bequeath.explain(threads, to="queue").crosses


def test_bytes_are_no_destination(pool: Any) -> None:
    with pytest.raises(NotImplementedError, match="no destination.*in a bequeath queue"):
        own_pickle.dumps(pool)


def test_no_pool_travels_under_strict_rules(ours: Implementation, pool: Any) -> None:
    bequeath.set_strict(True)
    try:
        for send in (ours.SimpleQueue().put, own_pickle.dumps, pickle.dumps):
            with pytest.raises(NotImplementedError) as caught:
                send(pool)
            text = "pool objects cannot be passed between processes or pickled"
            assert str(caught.value) == text
    finally:
        bequeath.set_strict(False)


# --- executors -----------------------------------------------------------------------------------


def all_futures(executor: Any) -> None:
    assert type(executor).__name__ == "ExecutorHandle"
    with executor:
        assert executor.submit(total, 1, y=2).result() == 3
        assert list(executor.map(square, range(7), chunksize=2)) == [x * x for x in range(7)]
        assert list(executor.map(total, [1, 2], [3, 4])) == [4, 6]
        assert list(executor.map(square, iter(range(9)), buffersize=2)) == [x * x for x in range(9)]
        failed = executor.submit(fail, 4)
        assert failed.exception().x == 4
        with pytest.raises(bequeath.exceptions.WorkerDied):
            executor.submit(die).result()
        refused = executor.submit(square, threading.Lock())
        assert isinstance(refused.exception(), TypeError)
        sleeps = executor.submit(time.sleep, 1000)
        assert executor.interrupt(sleeps)
        with pytest.raises(CancelledError):
            sleeps.result()
        last = executor.submit(square, 3)
    assert last.done() and last.result() == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(square, 1)
    with pytest.raises(RuntimeError, match="the process that made the pool"):
        executor.kill_workers()


def test_an_executor_goes_to_other_processes(ours: Implementation) -> None:
    context = bequeath.get_context(ours.start_method)
    with bequeath.ProcessPoolExecutor(2, context) as executor:
        in_child(ours, all_futures, executor)
        handle = sent(ours, executor)
        assert executor.submit(square, 3).result() == 9
        assert handle.submit(square, 4).result() == 16
        with pytest.raises(TypeError):
            pickle.dumps(executor)
    with pytest.raises((RuntimeError, ValueError)):
        handle.submit(square, 1).result()


# --- ends ----------------------------------------------------------------------------------------


def test_a_pool_that_is_terminated_tells_its_guests(ours: Implementation) -> None:
    pool = ours.Pool(1)
    handle = sent(ours, pool)
    results = [handle.apply_async(time.sleep, (1000,)) for _ in range(3)]
    assert handle.apply_async(square, (1,)).cancel(running=False)  # all have been submitted
    pool.terminate()
    for result in results:
        with pytest.raises(RuntimeError, match="terminated"):
            result.get()
    pool.join()
    with pytest.raises(ValueError, match="not running"):
        handle.apply(square, (1,))  # nobody is there to say it


def test_a_pool_that_is_closed_does_what_guests_have_asked_for(ours: Implementation) -> None:
    pool = ours.Pool(2)
    handle = sent(ours, pool)
    results = handle.map_async(square, range(30), 1)
    assert handle.apply(square, (1,)) == 1
    pool.close()
    assert results.get() == [x * x for x in range(30)]
    with pytest.raises(ValueError, match="not running"):
        handle.apply(square, (1,))
    pool.join()


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_a_broken_pool_says_so_to_its_guests(ours: Implementation, kind: str) -> None:
    context = bequeath.get_context(ours.start_method)
    made = context.Pool if kind == "pool" else bequeath.ProcessPoolExecutor
    arguments = {} if kind == "pool" else {"mp_context": context}
    with made(1, initializer=fail, initargs=(7,), **arguments) as pool:
        handle = sent(ours, pool)
        errors = [refusal_of(one, kind) for one in (pool, handle, handle, pool)]
        for error in errors:
            assert isinstance(error, bequeath.exceptions.PoolBroken)
            assert isinstance(error.__cause__, Loud) and error.__cause__.x == 7
        assert len({str(error) for error in errors}) == 1
    if kind == "pool":
        with pytest.raises(ValueError, match="not running"):
            handle.apply(square, (1,))


def refusal_of(pool: Any, kind: str) -> BaseException:
    with pytest.raises(Exception) as caught:
        if kind == "pool":
            pool.apply(square, (1,))
        else:
            pool.submit(square, 1).result()
    return caught.value


def own_a_pool(ours: Implementation, handles: Any) -> None:
    pool = ours.Pool(1)
    handles.put(pool)
    threading.Event().wait()


def test_a_killed_owner(ours: Implementation) -> None:
    handles = ours.SimpleQueue()
    owner = ours.Process(target=own_a_pool, args=(ours, handles))
    owner.start()
    handle = handles.get()
    assert handle.apply(square, (3,)) == 9
    told: list[BaseException] = []
    waiting = handle.apply_async(time.sleep, (1000,), error_callback=told.append)
    stream = handle.imap(time.sleep, [1000])
    owner.kill()
    with pytest.raises(bequeath.exceptions.PoolBroken, match=f"pid {owner.pid}"):
        waiting.get()
    with pytest.raises(bequeath.exceptions.PoolBroken):
        next(stream)
    with pytest.raises(bequeath.exceptions.PoolBroken):
        handle.map(square, [1, 2])
    assert len(told) == 1
    owner.join()


def ask_and_wait(pool: Any, path: str) -> None:
    results = [pool.apply_async(touch_and_wait, (f"{path}{n}", path)) for n in range(2)]
    pool.map_async(bytes, [1 << 16] * 50, 1)
    results[0].get()


def test_a_killed_guest(ours: Implementation, pool: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "go")
    guest = ours.Process(target=ask_and_wait, args=(pool, path))
    guest.start()
    for n in range(2):
        wait_for(f"{path}{n}")
    guest.kill()
    guest.join()
    with open(path, "w"):
        # What it has asked for is done, and told to nobody.
        assert sent(ours, pool).map(square, range(10)) == [x * x for x in range(10)]
    assert pool.stats()["waiting"] == 0


def test_a_pool_says_what_it_is(pool: Any) -> None:
    told = bequeath.explain({"pool": pool}, to="queue")
    assert told.crosses and "Pool, as a handle" in str(told)
    assert not bequeath.explain(pool, to="bytes").crosses


ALONE = """
import bequeath

def asks(pool):
    raise SystemExit(pool.apply(abs, (-7,)))

if __name__ == "__main__":
    bequeath.set_start_method({method!r})
    with bequeath.Pool(1) as pool:
        child = bequeath.Process(target=asks, args=(pool,))
        child.start()
        child.join()
        print(child.exitcode)
"""


def test_a_program_that_has_loaded_nothing_else(ours: Implementation, tmp_path: Any) -> None:
    program = tmp_path / "alone.py"
    program.write_text(ALONE.format(method=ours.start_method))
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("7\n", "", 0)
