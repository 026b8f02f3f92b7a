"""Calls that are given up, and calls whose input is larger than anybody wants to read ahead."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest

from implementation import Implementation


def square(x: int) -> int:
    return x * x


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def deaf(seconds: float) -> None:
    while True:
        try:
            time.sleep(seconds)
        except KeyboardInterrupt:
            pass


def begin(begun: Any, work: Callable[[float], object]) -> object:
    begun.put(os.getpid())
    return work(1000)


# --- giving up ---------------------------------------------------------------------------------


def test_a_result_can_be_given_up_whether_it_runs_or_not(ours: Implementation) -> None:
    with ours.Pool(2, terminate_after=50) as pool:
        pool.map(square, range(8), 1)
        workers = {worker.pid for worker in pool._pool}
        begun = ours.SimpleQueue()
        results = [pool.apply_async(begin, (begun, nap)) for _ in range(6)]
        assert {begun.get(), begun.get()} == workers
        running = [result for result in results if not result.cancel(running=False)]
        assert len(running) == 2 and all(result.cancel() for result in running)
        for result in results:
            with pytest.raises(CancelledError):
                result.get()
            assert not result.cancel(), "there is nothing left"
        assert pool.map(square, range(8), 1) == [x * x for x in range(8)]
        assert {worker.pid for worker in pool._pool} == workers, "an interrupt was enough"

        many = pool.map_async(nap, [1000] * 50, 1)
        assert many.cancel()
        with pytest.raises(CancelledError):
            many.get()
    pool.join()


def test_who_does_not_give_up_is_told_in_a_harder_way(ours: Implementation) -> None:
    with ours.Pool(1, terminate_after=0.05) as pool:
        pool.map(square, range(8), 1)
        begun = ours.SimpleQueue()
        hard = pool.apply_async(begin, (begun, deaf))
        begun.get()
        assert hard.cancel()
        with pytest.raises(CancelledError):
            hard.get()
        assert pool.map(square, range(8), 1) == [x * x for x in range(8)]
    pool.join()


def test_a_pool_of_threads_gives_up_what_waits(ours: Implementation) -> None:
    from bequeath.pool import ThreadPool

    with ThreadPool(1) as pool:
        begun, go = threading.Event(), threading.Event()
        running = pool.apply_async(lambda: (begun.set(), go.wait()))
        begun.wait()
        queued = pool.apply_async(square, (2,))
        assert queued.cancel() and not running.cancel()
        go.set()
        assert running.get() == (None, True)
        with pytest.raises(CancelledError):
            queued.get()
        assert pool.apply(square, (3,)) == 9


# --- inputs without end ------------------------------------------------------------------------


class Counting:
    """Numbers from 0 on, and how many were asked for."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for number in itertools.count():
            self.read += 1
            yield number


@pytest.mark.parametrize("kind", ["processes", "threads"])
@pytest.mark.parametrize("way", ["imap", "imap_unordered"])
def test_an_endless_input_is_read_as_far_as_it_is_needed(
    ours: Implementation, kind: str, way: str
) -> None:
    from bequeath.pool import ThreadPool

    pool = ours.Pool(2) if kind == "processes" else ThreadPool(2)
    numbers = Counting()
    with pool:
        results = getattr(pool, way)(square, numbers)
        seen = [next(results) for _ in range(500)]
        # Unordered, others may have come before some of the first.
        squares = [x * x for x in range(numbers.read)]
        assert seen == squares[:500] if way == "imap" else len({*seen} & {*squares}) == 500
        # However long one waits, 128 at most are handed to a worker ahead.
        most = 500 + 2 * 2 * (2 * 128 + 8)
        assert numbers.read <= most
        time.sleep(0.1)  # long enough for it to go wrong
        assert numbers.read <= most
        bounded = Counting()
        results = getattr(pool, way)(square, bounded, buffersize=3)
        for taken in range(1, 50):
            next(results)
            assert bounded.read <= taken + 3
    pool.join()


def test_an_input_is_read_to_its_end_if_somebody_waits_for_that(ours: Implementation) -> None:
    pool = ours.Pool(2)
    results = pool.imap(square, iter(range(5000)))
    next(results)
    pool.close()
    pool.join()
    assert list(results) == [x * x for x in range(1, 5000)]


def test_a_list_is_read_ahead_as_far_as_it_may(ours: Implementation) -> None:
    with ours.Pool(2) as pool:
        assert list(pool.imap(square, range(300), 7, buffersize=2)) == [x * x for x in range(300)]
        with pytest.raises(ValueError, match="buffersize"):
            pool.imap(square, [], buffersize=0)
    pool.join()
