"""What a call costs that comes from another process than the pool's owner, beside the owner's own.

Both in turns, on one pool of two forked workers; medians of the turns, in microseconds per call.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import bequeath


def same(x: int) -> int:
    return x


def apply(pool: Any, calls: int) -> None:
    for n in range(calls):
        pool.apply(same, (n,))


def apply_async(pool: Any, calls: int) -> None:
    for result in [pool.apply_async(same, (n,)) for n in range(calls)]:
        result.get()


def map_by_ones(pool: Any, calls: int) -> None:
    pool.map(same, range(calls), 1)


def map_in_chunks(pool: Any, calls: int) -> None:
    pool.map(same, range(calls))


WAYS: tuple[tuple[str, Callable[[Any, int], None], int], ...] = (
    ("apply", apply, 200),
    ("apply_async", apply_async, 1000),
    ("map, chunksize=1", map_by_ones, 2000),
    ("map", map_in_chunks, 20000),
)


def cost(pool: Any, way: int) -> float:
    _, call, calls = WAYS[way]
    began = time.perf_counter()
    call(pool, calls)
    return (time.perf_counter() - began) / calls * 1e6


def guest(pool: Any, ways: Any, costs: Any) -> None:
    while (way := ways.get()) is not None:
        costs.put(cost(pool, way))


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 21
    context = bequeath.get_context("fork")
    ways, costs = context.SimpleQueue(), context.SimpleQueue()
    with context.Pool(2) as pool:
        process = context.Process(target=guest, args=(pool, ways, costs))
        process.start()
        for way, (name, _, _) in enumerate(WAYS):
            owners, guests = [], []
            for _ in range(turns):
                owners.append(cost(pool, way))
                ways.put(way)
                guests.append(costs.get())
            ratio = statistics.median(g / o for g, o in zip(guests, owners, strict=True))
            of_owner, of_guest = map(statistics.median, (owners, guests))
            print(f"{name:17} owner {of_owner:6.2f}  guest {of_guest:6.2f}  ratio {ratio:5.1f}")
        ways.put(None)
        process.join()


if __name__ == "__main__":
    main()
