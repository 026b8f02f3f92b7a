"""What is left of locks, semaphores, conditions and barriers when a process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import warnings
from typing import Any

import pytest

from implementation import Implementation

LOCKS = ("Lock", "RLock")


def started(ours: Implementation, target: Any, *args: Any) -> Any:
    process = ours.Process(target=target, args=args, name="the-worker")
    process.start()
    return process


def killed(process: Any) -> None:
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def hold_for_ever(lock: Any, held: Any) -> None:
    lock.acquire()
    held.set()
    signal.pause()


def abandoned_by_a_killed_process(ours: Implementation, lock: Any) -> Any:
    held = ours.Event()
    process = started(ours, hold_for_ever, lock, held)
    assert held.wait()
    killed(process)
    return process


@pytest.mark.parametrize("kind", LOCKS)
def test_a_killed_holder_is_told_until_somebody_recovers(ours: Implementation, kind: str) -> None:
    lock = getattr(ours, kind)()
    process = abandoned_by_a_killed_process(ours, lock)
    for _ in range(2):
        for call in (lock.acquire, lambda: lock.acquire(False), lock.__enter__):
            with pytest.raises(ours.module("synchronize").AbandonedLock) as caught:
                call()
            assert isinstance(caught.value, RuntimeError)
            assert caught.value.pid == process.pid
            assert (caught.value.process_name, caught.value.signal) == (
                "the-worker",
                signal.SIGKILL,
            )
            assert "the-worker" in str(caught.value)
    assert f"process {process.pid} (killed)" in repr(lock)
    lock.recover()
    assert lock._semlock._is_mine()
    lock.release()
    with lock:
        pass
    with pytest.raises(ValueError):
        lock.recover()


@pytest.mark.parametrize("kind", LOCKS)
def test_an_abandoned_lock_is_freed_by_anyones_release(ours: Implementation, kind: str) -> None:
    lock = getattr(ours, kind)()
    abandoned_by_a_killed_process(ours, lock)
    with pytest.raises(RuntimeError):
        lock.acquire()
    lock.release()
    assert lock.acquire(False)


@pytest.mark.parametrize("kind", LOCKS)
def test_a_lock_may_be_made_to_recover_by_itself(ours: Implementation, kind: str) -> None:
    lock = getattr(ours.module("synchronize"), kind)(on_abandoned="recover")
    for block in (True, False):
        abandoned_by_a_killed_process(ours, lock)
        with pytest.warns(RuntimeWarning, match="was killed"):
            assert lock.acquire(block) is True
        assert lock.abandoned
        lock.release()
        with lock:
            assert not lock.abandoned
    with pytest.raises(ValueError):
        getattr(ours.module("synchronize"), kind)(on_abandoned="ignore")


def test_waiters_in_other_processes_are_told(ours: Implementation) -> None:
    lock, held, told = ours.Lock(), ours.Event(), ours.Semaphore(0)
    holder = started(ours, hold_for_ever, lock, held)
    assert held.wait()
    waiters = [started(ours, wait_and_tell, lock, told) for _ in range(2)]
    killed(holder)
    for waiter in waiters:
        told.acquire()
        waiter.join()
        assert waiter.exitcode == 0


def wait_and_tell(lock: Any, told: Any) -> None:
    try:
        lock.acquire()
    except RuntimeError:
        told.release()


def test_a_holder_that_exited_in_order_still_holds(ours: Implementation) -> None:
    lock = ours.Lock()
    process = started(ours, lock.acquire)
    process.join()
    assert process.exitcode == 0
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.05) is False
    lock.release()
    assert lock.acquire(False)


@pytest.mark.limit(60)
def test_a_long_wait_for_one_that_exited_in_order_warns_once(ours: Implementation) -> None:
    lock = ours.Lock()
    process = started(ours, lock.acquire)
    process.join()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert lock.acquire(timeout=6) is False
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert str(process.pid) in str(warning.message)


def test_strict_mode_waits_for_the_dead(ours: Implementation, monkeypatch: Any) -> None:
    lock = ours.Lock()
    abandoned_by_a_killed_process(ours, lock)
    monkeypatch.setattr(ours.module("_settings"), "strict", True)
    assert lock.acquire(False) is False
    assert lock.acquire(timeout=0.1) is False
    lock.release()
    assert lock.acquire()


def test_a_condition_tells_that_its_lock_was_abandoned(ours: Implementation) -> None:
    condition, waiting = ours.Condition(), ours.Event()
    process = started(ours, notify_and_die, condition, waiting)
    with pytest.raises(RuntimeError, match="killed"):
        with condition:
            waiting.set()
            condition.wait()
    process.join()


def notify_and_die(condition: Any, waiting: Any) -> None:
    waiting.wait()
    condition.acquire()
    condition.notify()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("kind", LOCKS)
def test_a_condition_is_taken_over_like_its_lock(ours: Implementation, kind: str) -> None:
    condition = ours.Condition(getattr(ours, kind)())
    abandoned_by_a_killed_process(ours, condition)
    with pytest.raises(ours.module("synchronize").AbandonedLock):
        condition.acquire()
    condition.recover()
    condition.notify_all()
    condition.release()
    with condition, pytest.raises(ValueError):
        condition.recover()


def test_a_killed_waiter_does_not_eat_a_notification(ours: Implementation) -> None:
    condition, asleep, woken = ours.Condition(), ours.Semaphore(0), ours.Semaphore(0)
    first = started(ours, wait_once, condition, asleep, woken)
    asleep.acquire()
    second = started(ours, wait_once, condition, asleep, woken)
    asleep.acquire()
    with condition:
        pass  # both wait now
    killed(first)
    with condition:
        condition.notify()
    woken.acquire()
    second.join()
    assert second.exitcode == 0


def wait_once(condition: Any, asleep: Any, woken: Any) -> None:
    with condition:
        asleep.release()
        assert condition.wait()
        woken.release()


def test_a_killed_waiter_for_an_event_hurts_nobody(ours: Implementation) -> None:
    event, asleep = ours.Event(), ours.Event()
    process = started(ours, wait_for, event, asleep)
    asleep.wait()
    killed(process)
    for _ in range(20):
        event.set()
        event.clear()
    other = started(ours, wait_for, event, asleep)
    event.set()
    other.join()
    assert other.exitcode == 0


def wait_for(event: Any, asleep: Any) -> None:
    asleep.set()
    event.wait()


def test_units_of_a_bounded_semaphore_come_back_from_the_killed(ours: Implementation) -> None:
    semaphore = ours.BoundedSemaphore(2)
    abandoned_by_a_killed_process(ours, semaphore)
    semaphore.acquire()
    semaphore.acquire()
    assert semaphore.acquire(timeout=0.05) is False


def test_a_party_killed_after_arriving_breaks_the_barrier(ours: Implementation) -> None:
    barrier = ours.Barrier(3)
    process = started(ours, barrier.wait)
    while barrier.n_waiting == 0:
        os.sched_yield()
    killed(process)
    with pytest.raises(threading.BrokenBarrierError):
        barrier.wait()


@pytest.mark.parametrize("kind", ["Lock", "RLock", "BoundedSemaphore", "Condition"])
def test_random_kills_of_users_leave_something_usable(ours: Implementation, kind: str) -> None:
    guard = getattr(ours, kind)()
    began = ours.Semaphore(0)
    for round_ in range(12):
        users = [started(ours, use_for_ever, guard, began) for _ in range(2)]
        for _ in users:
            began.acquire()
        pause = threading.Event()
        pause.wait(0.001 * (round_ % 4))
        killed(users[0])
        with usable(guard):
            pass
        killed(users[1])
        with usable(guard):
            pass


def use_for_ever(guard: Any, began: Any) -> None:
    began.release()
    while True:
        with usable(guard):
            pass


@contextlib.contextmanager
def usable(guard: Any) -> Any:
    """Holds it, taking it over from the dead."""
    while True:
        try:
            guard.acquire()
            break
        except RuntimeError:
            lock = getattr(guard, "_lock", guard)
            with contextlib.suppress(ValueError):
                lock.recover()
                break
    try:
        yield
    finally:
        guard.release()
