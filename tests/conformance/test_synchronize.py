"""Locks, semaphores, conditions, events and barriers, on both implementations."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from typing import Any

import pytest

from implementation import Implementation

LOCKS = ("Lock", "RLock")
SOON = 0.05


def child(mp: Implementation, target: Any, *args: Any) -> Any:
    process = mp.Process(target=target, args=args)
    process.start()
    return process


def join(process: Any, code: int = 0) -> None:
    process.join()
    assert process.exitcode == code
    process.close()


def in_thread(target: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=args)
    thread.start()
    return thread


def sleepers(count: Any) -> int:
    """How many wait, where the implementation tells."""
    return int(count.get_value())


# --- Lock and RLock --------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("kind", LOCKS)
def test_lock_is_taken_once(mp: Implementation, kind: str) -> None:
    lock = getattr(mp, kind)()
    assert lock.acquire() is True
    assert taken_elsewhere(lock) is False
    lock.release()
    assert taken_elsewhere(lock) is True
    with lock as entered:
        assert entered is True
        assert taken_elsewhere(lock) is False


def taken_elsewhere(lock: Any) -> bool:
    """Whether another thread gets the lock at once; it gives it back."""
    outcome: list[bool] = []

    def attempt() -> None:
        outcome.append(lock.acquire(False))
        if outcome[0]:
            lock.release()

    in_thread(attempt).join()
    return outcome[0]


def test_lock_may_be_released_by_anyone(mp: Implementation) -> None:
    lock = mp.Lock()
    lock.acquire()
    in_thread(lock.release).join()
    lock.acquire()
    join(child(mp, release, lock))
    assert lock.acquire(False)
    lock.release()


def release(lock: Any) -> None:
    lock.release()


def test_lock_released_too_often(mp: Implementation) -> None:
    lock = mp.Lock()
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        lock.release()


def test_rlock_counts_and_belongs_to_its_thread(mp: Implementation) -> None:
    lock = mp.RLock()
    for _ in range(3):
        assert lock.acquire()
    refused: list[Exception] = []

    def steal() -> None:
        try:
            lock.release()
        except AssertionError as error:
            refused.append(error)

    in_thread(steal).join()
    assert "attempt to release recursive lock not owned by thread" in str(refused[0])
    for _ in range(3):
        assert not taken_elsewhere(lock)
        lock.release()
    assert taken_elsewhere(lock)
    with pytest.raises(AssertionError):
        lock.release()


@pytest.mark.parametrize("kind", [*LOCKS, "Semaphore", "BoundedSemaphore"])
def test_timeouts_of_acquire(mp: Implementation, kind: str) -> None:
    lock = getattr(mp, kind)()
    lock.acquire()
    outcomes: list[Any] = []

    def attempt() -> None:
        for arguments in ((False,), (False, 100), (True, 0), (True, -1), (True, -1e300)):
            outcomes.append(lock.acquire(*arguments))
        before = time.monotonic()
        outcomes.append(lock.acquire(timeout=SOON))
        outcomes.append(time.monotonic() - before >= SOON)

    in_thread(attempt).join()
    assert outcomes == [False] * 6 + [True]
    lock.release()
    assert lock.acquire(block=True, timeout=None)


@pytest.mark.parametrize("kind", LOCKS)
def test_increments_under_a_lock_are_not_lost(mp: Implementation, kind: str) -> None:
    lock = getattr(mp, kind)()
    number = mp.Value("i", 0, lock=False)
    workers = [child(mp, increment, lock, number, 500) for _ in range(3)]
    increment(lock, number, 500)
    for worker in workers:
        join(worker)
    assert number.value == 2000


def increment(lock: Any, number: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            number.value += 1


def test_lock_goes_on_to_a_grandchild(mp: Implementation) -> None:
    lock = mp.Lock()
    lock.acquire()
    join(child(mp, hand_on, mp, lock))
    assert lock.acquire(False)


def hand_on(mp: Implementation, lock: Any) -> None:
    join(child(mp, release, lock))


def test_repr_of_locks_names_the_owner(mp: Implementation) -> None:
    lock, rlock = mp.Lock(), mp.RLock()
    assert (repr(lock), repr(rlock)) == ("<Lock(owner=None)>", "<RLock(None, 0)>")
    with lock, rlock, rlock:
        assert repr(lock) == "<Lock(owner=MainProcess)>"
        assert repr(rlock) == "<RLock(MainProcess, 2)>"
        seen: list[str] = []
        in_thread(lambda: seen.extend((repr(lock), repr(rlock)))).join()
        assert seen == ["<Lock(owner=SomeOtherThread)>", "<RLock(SomeOtherThread, nonzero)>"]
        join(child(mp, sees_another_process, lock, rlock))


def sees_another_process(lock: Any, rlock: Any) -> None:
    assert repr(lock) == "<Lock(owner=SomeOtherProcess)>"
    assert repr(rlock) == "<RLock(SomeOtherProcess, nonzero)>"


def test_repr_names_the_thread_that_owns(mp: Implementation) -> None:
    lock = mp.Lock()
    seen: list[str] = []

    def show() -> None:
        with lock:
            seen.append(repr(lock))

    thread = threading.Thread(target=show, name="worker")
    thread.start()
    thread.join()
    assert seen == ["<Lock(owner=MainProcess|worker)>"]


@pytest.mark.parametrize("kind", [*LOCKS, "Semaphore", "BoundedSemaphore", "Condition", "Event"])
def test_plain_pickle_is_refused(mp: Implementation, kind: str) -> None:
    with pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
        pickle.dumps(getattr(mp, kind)())


def test_what_semlock_tells(mp: Implementation) -> None:
    lock, rlock, semaphore = mp.Lock(), mp.RLock(), mp.Semaphore(2)
    for each in (lock, rlock):
        semlock = each._semlock
        told = semlock._get_value(), semlock._is_zero(), semlock._is_mine(), semlock._count()
        assert told == (1, False, False, 0)
        with each:
            told = semlock._get_value(), semlock._is_zero(), semlock._is_mine(), semlock._count()
            assert told == (0, True, True, 1)
    assert (lock._semlock.kind, rlock._semlock.kind) == (1, 0)
    assert semaphore._semlock._get_value() == 2
    assert mp.BoundedSemaphore(3)._semlock.maxvalue == 3


@pytest.mark.parametrize("kind", LOCKS)
def test_exception_leaves_the_lock_free(mp: Implementation, kind: str) -> None:
    lock = getattr(mp, kind)()
    with pytest.raises(KeyError), lock:
        raise KeyError
    assert taken_elsewhere(lock)


# --- signals ---------------------------------------------------------------------------------


class Rang(Exception):
    pass


@pytest.fixture
def alarm() -> Any:
    """Calls a handler in the main thread soon."""
    before = signal.getsignal(signal.SIGALRM)

    def arm(handler: Any) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, SOON)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def waits(mp: Implementation) -> list[Any]:
    """Every way to wait for ever."""
    lock, semaphore, event, barrier = mp.Lock(), mp.Semaphore(0), mp.Event(), mp.Barrier(2)
    condition = mp.Condition()
    lock.acquire()

    def wait_for_condition() -> None:
        with condition:
            condition.wait()

    return [lock.acquire, semaphore.acquire, event.wait, wait_for_condition, barrier.wait]


@pytest.mark.parametrize(
    "which", range(5), ids=["lock", "semaphore", "event", "condition", "barrier"]
)
def test_a_raising_signal_handler_ends_a_wait(mp: Implementation, alarm: Any, which: int) -> None:
    def handler(*_: object) -> None:
        raise Rang

    wait = waits(mp)[which]
    alarm(handler)
    with pytest.raises(Rang):
        wait()


def test_a_returning_signal_handler_does_not_end_a_wait(mp: Implementation, alarm: Any) -> None:
    lock = mp.Lock()
    lock.acquire()
    alarm(lambda *_: lock.release())
    assert lock.acquire() is True
    rang: list[int] = []
    alarm(lambda *_: rang.append(1))
    before = time.monotonic()
    assert lock.acquire(timeout=4 * SOON) is False
    assert (time.monotonic() - before >= 4 * SOON, rang) == (True, [1])


# --- semaphores ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Semaphore", "BoundedSemaphore"])
def test_semaphore_counts(mp: Implementation, kind: str) -> None:
    semaphore = getattr(mp, kind)(2)
    assert semaphore.get_value() == 2
    assert semaphore.acquire()
    with semaphore:
        assert semaphore.get_value() == 0
        assert semaphore.acquire(False) is False
    semaphore.release()
    assert semaphore.get_value() == 2


def test_semaphore_may_rise_and_a_bounded_one_not(mp: Implementation) -> None:
    free, bounded = mp.Semaphore(), mp.BoundedSemaphore(1)
    for _ in range(3):
        free.release()
    assert free.get_value() == 4
    with pytest.raises(ValueError, match="semaphore or lock released too many times"):
        bounded.release()
    assert repr(free) == "<Semaphore(value=4)>"
    assert repr(bounded) == "<BoundedSemaphore(value=1, maxvalue=1)>"
    assert isinstance(bounded, mp.module("synchronize").Semaphore)


def test_semaphore_wakes_another_process(mp: Implementation) -> None:
    there, back = mp.Semaphore(0), mp.Semaphore(0)
    process = child(mp, echo, there, back, 50)
    for _ in range(50):
        there.release()
        back.acquire()
    join(process)


def echo(there: Any, back: Any, times: int) -> None:
    for _ in range(times):
        there.acquire()
        back.release()


# --- Condition -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "Lock", "RLock"])
def test_condition_waits_and_is_notified(mp: Implementation, kind: str | None) -> None:
    condition = mp.Condition(getattr(mp, kind)()) if kind else mp.Condition()
    asleep, woken = mp.Semaphore(0), mp.Semaphore(0)
    workers = [child(mp, wait_once, condition, asleep, woken) for _ in range(2)]
    threads = [in_thread(wait_once, condition, asleep, woken) for _ in range(2)]
    for _ in range(4):
        asleep.acquire()
    with condition:  # they hold it until they wait, so now all do
        condition.notify()
    woken.acquire()
    assert woken.acquire(timeout=SOON) is False
    with condition:
        condition.notify(2)
    woken.acquire()
    woken.acquire()
    assert woken.acquire(timeout=SOON) is False
    with condition:
        condition.notify_all()
    woken.acquire()
    for worker in workers:
        join(worker)
    for thread in threads:
        thread.join()


def wait_once(condition: Any, asleep: Any, woken: Any) -> None:
    with condition:
        asleep.release()
        assert condition.wait() is True
        woken.release()


def test_condition_times_out_with_its_lock(mp: Implementation) -> None:
    condition = mp.Condition()
    with condition, condition:
        assert condition.wait(SOON) is False
        assert condition.wait(0) is False
        assert condition.wait(-1) is False
        assert condition._lock._semlock._count() == 2
    assert repr(condition) == "<Condition(<RLock(None, 0)>, 0)>"


def test_condition_needs_its_lock(mp: Implementation) -> None:
    condition = mp.Condition()
    for call in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(AssertionError):
            call()


def test_condition_waits_for_a_predicate(mp: Implementation) -> None:
    condition, number = mp.Condition(), mp.Value("i", 0)
    process = child(mp, count_up, condition, number)
    with condition:
        assert condition.wait_for(lambda: number.value == 4)
        assert condition.wait_for(lambda: number.value > 99, SOON) is False
        assert condition.wait_for(lambda: "text") == "text"
    join(process)


def count_up(condition: Any, number: Any) -> None:
    for _ in range(4):
        with condition:
            number.value += 1
            condition.notify()


# --- Event -----------------------------------------------------------------------------------


@pytest.mark.short
def test_event_is_set_waited_for_and_cleared(mp: Implementation) -> None:
    event = mp.Event()
    assert (event.is_set(), event.wait(0), event.wait(SOON)) == (False, False, False)
    processes = [child(mp, expect, event) for _ in range(2)]
    event.set()
    for process in processes:
        join(process)
    assert (event.is_set(), event.wait(), event.wait(0)) == (True, True, True)
    event.clear()
    assert event.is_set() is False


def expect(event: Any) -> None:
    assert event.wait() is True


def test_event_goes_back_and_forth(mp: Implementation) -> None:
    there, back = mp.Event(), mp.Event()
    process = child(mp, answer, there, back, 50)
    for _ in range(50):
        there.set()
        assert back.wait()
        back.clear()
    join(process)


def answer(there: Any, back: Any, times: int) -> None:
    for _ in range(times):
        there.wait()
        there.clear()
        back.set()


# --- Barrier ---------------------------------------------------------------------------------


def test_barrier_lets_all_go_each_time(mp: Implementation) -> None:
    barrier, total = mp.Barrier(3), mp.Value("i", 0)
    workers = [child(mp, meet, barrier, total, 20) for _ in range(2)]
    meet(barrier, total, 20)
    for worker in workers:
        join(worker)
    assert total.value == 20 * (0 + 1 + 2)
    assert (barrier.parties, barrier.n_waiting, barrier.broken) == (3, 0, False)


def meet(barrier: Any, total: Any, times: int) -> None:
    for _ in range(times):
        index = barrier.wait()
        with total.get_lock():
            total.value += index


def test_barrier_runs_its_action_once_before_anyone_goes(mp: Implementation) -> None:
    number = mp.Value("i", 0)
    barrier = mp.Barrier(2, action=Increment(number))
    process = child(mp, sees_one, barrier, number)
    sees_one(barrier, number)
    join(process)


class Increment:
    def __init__(self, number: Any) -> None:
        self.number = number

    def __call__(self) -> None:
        self.number.value += 1


def sees_one(barrier: Any, number: Any) -> None:
    barrier.wait()
    assert number.value == 1


def test_barrier_breaks_when_its_action_raises(mp: Implementation) -> None:
    barrier = mp.Barrier(2, action=boom)
    outcomes: list[str] = []

    def wait() -> None:
        try:
            barrier.wait()
        except Exception as error:
            outcomes.append(type(error).__name__)

    thread = in_thread(wait)
    wait()
    thread.join()
    assert sorted(outcomes) == ["BrokenBarrierError", "ZeroDivisionError"]
    assert barrier.broken


def boom() -> None:
    raise ZeroDivisionError


def test_barrier_breaks_by_timeout_and_abort_and_is_mended_by_reset(mp: Implementation) -> None:
    barrier = mp.Barrier(2, timeout=SOON)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()
    assert barrier.broken
    barrier.reset()
    assert not barrier.broken
    for end in (barrier.abort, barrier.reset):
        process = child(mp, expect_broken, barrier)
        while barrier.n_waiting == 0:
            time.sleep(0.001)
        end()
        join(process)
        barrier.reset()
    process = child(mp, barrier_wait, barrier)
    barrier.wait(60)
    join(process)


def expect_broken(barrier: Any) -> None:
    try:
        barrier.wait(60)
    except threading.BrokenBarrierError:
        return
    raise AssertionError("not broken")


def barrier_wait(barrier: Any) -> None:
    barrier.wait(60)


def test_a_barrier_that_broke_tells_who_was_missing(ours: Implementation) -> None:
    barrier = ours.Barrier(3)
    with pytest.raises(threading.BrokenBarrierError) as broken:
        barrier.wait(0.01)
    expected = f"1 of 3 parties had come (processes {os.getpid()}), 2 were missing"
    assert str(broken.value) == expected
    with pytest.raises(threading.BrokenBarrierError, match="2 were missing"):
        barrier.wait()
