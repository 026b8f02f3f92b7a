"""Pools of processes on both implementations, and what only bequeath's promise."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import held_pool
from implementation import Implementation


@pytest.fixture
def pool(mp: Implementation) -> Iterator[Any]:
    with held_pool.of(mp) as held:
        yield held


@pytest.fixture
def own(ours: Implementation) -> Iterator[Any]:
    with held_pool.of(ours) as held:
        yield held


def square(x: int) -> int:
    return x * x


def add(x: int, y: int = 0, *, z: int = 0) -> int:
    return x + y + z


def whoami(_: object = None) -> int:
    return os.getpid()


def fail(x: object) -> None:
    raise ValueError(x)


def fail_at(x: int, at: int) -> int:
    if x == at:
        raise ValueError(x)
    return x


def die(x: int, at: int, how: str) -> int:
    if x == at:
        if how == "exit":
            os._exit(3)
        os.kill(os.getpid(), getattr(signal, how))
        signal.pause()
    return x


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


# --- what multiprocessing's does ----------------------------------------------------------------


@pytest.mark.short
def test_every_way_to_call(pool: Any) -> None:
    assert pool.apply(add, (1, 2), {"z": 3}) == 6
    assert pool.apply_async(add, (1,)).get() == 1
    assert pool.map(square, range(10)) == [x * x for x in range(10)]
    assert pool.map(square, iter(range(10)), chunksize=3) == [x * x for x in range(10)]
    assert pool.map_async(square, [3], 1).get() == [9]
    assert pool.starmap(add, [(1, 2), (3, 4), (5,)]) == [3, 7, 5]
    assert pool.starmap_async(add, iter([(1, 2)])).get() == [3]
    assert list(pool.imap(square, range(10))) == [x * x for x in range(10)]
    assert list(pool.imap(square, iter(range(10)), chunksize=4)) == [x * x for x in range(10)]
    assert sorted(pool.imap_unordered(square, range(10))) == [x * x for x in range(10)]
    assert sorted(pool.imap_unordered(square, iter(range(9)), 2)) == [x * x for x in range(9)]
    assert pool.map(square, []) == [] == list(pool.imap(square, []))


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_an_exception_of_a_map_is_the_first_one(pool: Any, chunksize: int) -> None:
    with pytest.raises(ValueError, match="^4$") as caught:
        pool.starmap(fail_at, [(x, 4) for x in range(9)], chunksize)
    assert "fail_at" in str(caught.value.__cause__)


def test_imap_goes_on_after_an_exception(pool: Any) -> None:
    results, seen = pool.imap(fail, [1, 2]), []
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            next(results)
        seen.append(caught.value.args)
    assert seen == [(1,), (2,)]
    with pytest.raises(StopIteration):
        next(results)


def test_imap_next_may_time_out(mp: Implementation, pool: Any) -> None:
    results = pool.imap(sleep, [1000.0])
    with pytest.raises(mp.TimeoutError):
        results.next(timeout=0.01)
    with pytest.raises(mp.TimeoutError):
        results.next(0)


def test_what_else_is_asked_is_answered_while_somebody_iterates(pool: Any) -> None:
    done, told = threading.Event(), threading.Event()
    iterating = iter(lambda: list(pool.imap(square, range(50))), None)
    others = threading.Thread(target=lambda: [next(iterating) for _ in iter(done.is_set, True)])
    others.start()
    try:
        assert pool.map(square, range(20), 1) == [x * x for x in range(20)]
        pool.apply_async(square, (3,), callback=lambda _: told.set())
        assert told.wait()
        assert pool.apply(add, (1, 2)) == 3
    finally:
        done.set()
        others.join()


def test_workers_go_on_while_whoever_iterates_is_away(pool: Any) -> None:
    results = pool.imap(square, range(3_000))
    first = [next(results) for _ in range(200)]
    behind = pool.map_async(square, range(4), 1)
    behind.wait()  # nobody iterates meanwhile
    assert first + list(results) == [x * x for x in range(3_000)]


def failing(count: int) -> Iterator[int]:
    yield from range(count)
    raise KeyError("no more")


def test_an_iterable_that_raises_is_the_results_error(pool: Any) -> None:
    results = pool.imap(square, failing(3))
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(KeyError, match="no more"):
        next(results)
    with pytest.raises(KeyError, match="no more"):
        pool.map(square, failing(3))


def test_callbacks_get_the_result_or_the_error(pool: Any) -> None:
    results: list[Any] = []
    pool.apply_async(square, (2,), callback=results.append).get()
    pool.map_async(square, [1, 2], callback=results.append).get()
    broken = pool.apply_async(fail, (1,), error_callback=results.append)
    broken.wait()
    assert results[:2] == [4, [1, 4]] and results[2].args == (1,)
    assert not broken.successful()


def test_a_result_is_waited_for(mp: Implementation, pool: Any) -> None:
    result = pool.apply_async(sleep, (0.2,))
    with pytest.raises(mp.TimeoutError):
        result.get(0.001)
    if not result.ready():
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
    result.wait()
    assert result.ready() and result.successful() and result.get() == 0.2


def test_what_cannot_be_pickled_is_the_tasks_error(pool: Any) -> None:
    with pytest.raises(TypeError, match="pickle"):
        pool.apply(square, (threading.Lock(),))
    with pytest.raises(TypeError, match="pickle"):
        pool.map(square, [1, threading.Lock()], 1)
    assert pool.apply(square, (2,)) == 4


def unpicklable(_: object = None) -> Any:
    return threading.Lock()


def test_a_result_that_cannot_be_sent_is_the_tasks_error(mp: Implementation, pool: Any) -> None:
    with pytest.raises(mp.module("pool").MaybeEncodingError, match="lock"):
        pool.apply(unpicklable)
    assert pool.apply(square, (2,)) == 4


def set_up(value: int) -> None:
    os.environ["BEQUEATH_TEST_SET_UP"] = str(value)


def was_set_up(_: object = None) -> str:
    return os.environ["BEQUEATH_TEST_SET_UP"]


def test_the_initializer_runs_in_each_worker(mp: Implementation) -> None:
    with mp.Pool(2, set_up, (7,)) as pool:
        assert set(pool.map(was_set_up, range(8), 1)) == {"7"}
    pool.join()


def test_workers_are_replaced_after_their_tasks(mp: Implementation) -> None:
    with mp.Pool(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(whoami) for _ in range(6)]
        pool.close()
        pool.join()
    assert len(set(pids)) == 3 and pids == sorted(pids, key=pids.index)


def test_workers_have_multiprocessings_names_and_are_daemons(mp: Implementation) -> None:
    with mp.Pool(2) as pool:
        kind = {"fork": "Fork", "spawn": "Spawn", "forkserver": "ForkServer"}[mp.start_method]
        assert all(worker.name.startswith(f"{kind}PoolWorker-") for worker in pool._pool)
        assert all(worker.daemon for worker in pool._pool)
    pool.join()


def test_a_closed_pool_finishes_what_it_has(mp: Implementation) -> None:
    pool = mp.Pool(2)
    assert "state=RUN pool_size=2" in repr(pool)
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    result = pool.map_async(square, range(50), 1)
    lazy = pool.imap(square, iter(range(50)))
    pool.close()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(square, (1,))
    pool.join()
    assert result.get(0) == [x * x for x in range(50)] == list(lazy)
    with pytest.raises(ValueError, match="not running"), pool:
        pass


@pytest.mark.parametrize("busy", [False, True])
def test_terminate_waits_for_nobody(mp: Implementation, busy: bool) -> None:
    pool = mp.Pool(2)
    if busy:
        pool.map_async(sleep, [1000.0] * 4, 1)
    workers = list(pool._pool)
    pool.terminate()
    pool.join()
    assert not any(worker.is_alive() for worker in workers)


def test_a_pool_does_not_become_bytes(mp: Implementation, pool: Any) -> None:
    for dumps in (pickle.dumps, mp.module("reduction").ForkingPickler.dumps):
        with pytest.raises(NotImplementedError):
            dumps(pool.pool)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [((0,), ValueError), ((1, 1), TypeError), ((1, None, (), 0), ValueError)],
)
def test_arguments_are_checked(mp: Implementation, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        mp.Pool(*arguments)


def test_a_forgotten_pool_warns_and_ends(ours: Implementation) -> None:
    # multiprocessing's, too, once its threads let go of it, which takes them as long as it takes.
    pool = ours.Pool(1)
    pool.apply(square, (1,))
    workers = list(pool._pool)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        del pool
        gc.collect()
    for worker in workers:
        worker.join()


def test_the_workers_loop_can_be_used_alone(mp: Implementation) -> None:
    tasks, results = mp.SimpleQueue(), mp.SimpleQueue()
    for task in [(1, 0, square, (3,), {}), (1, 1, fail, (4,), {}), None]:
        tasks.put(task)
    mp.module("pool").worker(_End(tasks), _End(results))
    assert results.get() == (1, 0, (True, 9))
    job, index, (success, error) = results.get()
    assert (job, index, success, error.args) == (1, 1, False, (4,))
    tasks.close()
    results.close()


class _End:
    """A queue without the ends that multiprocessing's loop closes for this process."""

    def __init__(self, queue: Any) -> None:
        self.get, self.put = queue.get, queue.put


# --- what only bequeath's does -------------------------------------------------------------------


def test_several_threads_take_from_one_imap(own: Any) -> None:
    results, taken = own.imap_unordered(square, range(500)), []
    threads = [threading.Thread(target=lambda: taken.extend(results)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [x * x for x in range(500)]
    with pytest.raises(StopIteration):
        next(results)


@pytest.mark.short
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "exit"])
def test_a_death_costs_the_task_in_hand(ours: Implementation, own: Any, how: str) -> None:
    died = ours.module("exceptions").WorkerDied
    results = own.imap(functools_partial(die, at=5, how=how), range(40))
    seen: list[Any] = []
    for _ in range(40):
        try:
            seen.append(next(results))
        except died as error:
            seen.append(error)
    assert seen[:5] + seen[6:] == [x for x in range(40) if x != 5]
    error = seen[5]
    assert error.exitcode == (3 if how == "exit" else -getattr(signal, how))
    assert error.signal == (None if how == "exit" else how)
    assert "die(5, at=5" in str(error) and error.pid and error.seconds >= 0
    assert len(own._pool) == 2 and own.map(square, range(4)) == [0, 1, 4, 9]


def functools_partial(function: Any, **kwargs: Any) -> Any:
    import functools

    return functools.partial(function, **kwargs)


def die_first(path: str) -> int:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_task_is_tried_again_if_asked(ours: Implementation, tmp_path: Any) -> None:
    with ours.Pool(1, on_death="retry", retries=1) as pool:
        assert pool.apply(die_first, (str(tmp_path / "first"),)) > 0
        with pytest.raises(ours.module("exceptions").WorkerDied):
            pool.apply(die, (1, 1, "SIGKILL"))
    pool.join()


def test_a_death_ends_all_if_asked(ours: Implementation) -> None:
    exceptions = ours.module("exceptions")
    with ours.Pool(2, on_death="break") as pool:
        other = pool.apply_async(sleep, (1000,))
        with pytest.raises(exceptions.WorkerDied):
            pool.apply(die, (1, 1, "SIGKILL"))
        with pytest.raises(exceptions.PoolBroken, match="SIGKILL"):
            other.get()
        with pytest.raises(exceptions.PoolBroken, match="SIGKILL"):
            pool.apply(square, (1,))
    pool.join()


def test_an_initializer_that_raises_is_told(ours: Implementation) -> None:
    with ours.Pool(2, fail, ("not today",)) as pool:
        with pytest.raises(ours.module("exceptions").PoolBroken, match="initializer") as caught:
            pool.map(square, range(4))
        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.__cause__.args == ("not today",)
    pool.join()


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_a_task_raises_is_its_error(own: Any, kind: type[BaseException]) -> None:
    before = {worker.pid for worker in own._pool}
    with pytest.raises(kind):
        own.apply(raise_one, (kind,))
    assert own.apply(square, (2,)) == 4
    assert {worker.pid for worker in own._pool} == before


def raise_one(kind: type[BaseException]) -> None:
    raise kind(5)


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class UnloadableError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)


def unloadable(_: object = None) -> Any:
    return Unloadable()


def raise_unloadable(_: object = None) -> Any:
    raise UnloadableError(1, 2)


def test_what_cannot_be_rebuilt_is_the_tasks_error(own: Any) -> None:
    with pytest.raises(ValueError, match="not a number"):
        own.apply(unloadable)
    with pytest.raises(Exception, match="UnloadableError|second"):
        own.apply(raise_unloadable)
    assert own.apply(square, (2,)) == 4


def test_a_callback_that_raises_is_shown(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)
    result = own.apply_async(square, (2,), callback=fail)
    assert result.get() == 4
    assert own.apply(square, (3,)) == 9
    assert [one.exc_type for one in shown] == [ValueError]


def test_a_task_takes_as_long_as_it_may(ours: Implementation, own: Any) -> None:
    own.map(square, range(8), 1)  # what a worker imports for its first task counts, too
    # Four on two workers: the last two wait longer than one may take, and that is not counted.
    assert own.map(sleep, [0.3] * 4, timeout=0.5) == [0.3] * 4
    before = {worker.pid for worker in own._pool}
    with pytest.raises(ours.TimeoutError, match="sleep.1000.* longer than 0.1 s"):
        own.apply(sleep, (1000,), timeout=0.1)
    assert own.map(square, range(8), 1) == [x * x for x in range(8)]
    assert {worker.pid for worker in own._pool} == before, "an interrupt was enough"


def deaf(_: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1000)


def stopped(_: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@pytest.mark.parametrize("task", [deaf, stopped])
def test_who_does_not_follow_is_killed(ours: Implementation, task: Any) -> None:
    with ours.Pool(1, terminate_after=0.1, kill_after=0.1) as pool:
        with pytest.raises(ours.TimeoutError):
            pool.apply(task, (0,), timeout=0.1)
        assert pool.map(square, range(8), 1) == [x * x for x in range(8)]
    pool.join()


def test_nobody_waits_behind_a_long_task(own: Any) -> None:
    own.map(square, range(1000), 1)  # short ones, so that many are handed out ahead
    slow = own.apply_async(sleep, (1000,))
    assert own.map(square, range(1000), 1) == [x * x for x in range(1000)]
    assert not slow.ready()


def nested(method: str) -> list[int]:
    import bequeath

    with bequeath.get_context(method).Pool(2) as inner:
        return inner.map(square, range(4))


def test_pools_nest(ours: Implementation, own: Any) -> None:
    assert own.map(nested, [ours.start_method] * 2, 1) == [[0, 1, 4, 9]] * 2


def test_a_lambda_is_sent_once(own: Any) -> None:
    factor = 3
    assert own.map(lambda x: x * factor, range(50), 1) == [x * 3 for x in range(50)]


def total(shared: Any, index: int) -> tuple[int, float, int]:
    return os.getpid(), float(shared[index:].sum()), id(shared)


def test_what_is_shared_is_sent_once(own: Any) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.ones(200_000)
    shared = own.share(array)
    answers = own.starmap(total, [(shared, index) for index in range(40)], 1)
    assert [answer[1] for answer in answers] == [200_000.0 - index for index in range(40)]
    assert len({(pid, place) for pid, _, place in answers}) == len({pid for pid, *_ in answers})
    sent = sum(worker["bytes_in"] for worker in own.stats()["workers"])
    assert sent < 40 * 1000, "the tasks carry its number"
    assert own.apply(total, (shared, 0))[1] == 200_000
    assert shared.value is array
    with pytest.raises(RuntimeError, match="its tasks only"):
        own._ctx.Queue().put(shared)


def test_an_interrupted_call_leaves_no_tasks_behind(own: Any) -> None:
    own.map(square, range(8), 1)
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        own.map(sleep, [1000.0] * 50, 1)
    timer.join()
    assert own.map(square, range(8), 1) == [x * x for x in range(8)]


def test_an_interrupted_imap_leaves_no_tasks_behind(own: Any) -> None:
    results = own.imap(sleep, [0.0] + [1000.0] * 50)
    assert next(results) == 0.0
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    timer.join()
    assert own.map(square, range(8), 1) == [x * x for x in range(8)]


def test_many_threads_wait_for_their_results(own: Any) -> None:
    results: list[Any] = []

    def ask(start: int) -> None:
        results.extend(own.apply(square, (x,)) for x in range(start, start + 100))

    threads = [threading.Thread(target=ask, args=(start,)) for start in (0, 100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [x * x for x in range(400)]


def test_the_one_thread_has_a_name(ours: Implementation) -> None:
    before = set(threading.enumerate())
    with ours.Pool(2) as pool:
        pool.map(square, range(4))
        new = set(threading.enumerate()) - before
        assert [thread.name for thread in new] == ["bequeath pool driver"]
    pool.join()
    assert not set(threading.enumerate()) - before


def test_stats_tell_what_each_worker_did(own: Any) -> None:
    own.map(square, range(20), 1)
    stats = own.stats()
    assert sum(worker["tasks"] for worker in stats["workers"]) == 20
    assert {worker["pid"] for worker in stats["workers"]} == {one.pid for one in own._pool}
