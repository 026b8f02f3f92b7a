"""Pools and executors side by side, interleaved in one run, with two workers each.

    python benches/pool.py [CELL...] [--rounds N] [--json FILE] [--only NAME...]

Each contender of a cell has a process of its own; the processes take turns, one sample each.
Printed: medians, the ratio to the standard library's, the target, and whether it is reached.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pool_tasks
from pool_contenders import CONTENDERS, WORKERS
from run import Contender, shown, take_turns

HERE = Path(__file__).resolve().parent
STANDARD = "multiprocessing.Pool"
ALL = tuple(CONTENDERS)
Sample = Callable[[], float]


def per_item(count: int, run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return (time.perf_counter() - begun) / count


def trivial(pool: Any, name: str) -> Sample:
    count = 2_000 if "Pool" not in name else 20_000
    return lambda: per_item(count, lambda: pool.map(pool_tasks.same, range(count), 1))


def unordered(pool: Any, name: str) -> Sample:
    count = 2_000 if "Pool" not in name else 20_000
    return lambda: per_item(count, lambda: pool.unordered(pool_tasks.same, range(count)))


def default_chunks(pool: Any, name: str) -> Sample:
    return lambda: per_item(100_000, lambda: pool.map(pool_tasks.same, range(100_000), None))


def call(pool: Any, name: str) -> Sample:
    def calls() -> None:
        for number in range(200):
            pool.call(pool_tasks.same, number)

    return lambda: per_item(200, calls)


def error(pool: Any, name: str) -> Sample:
    def calls() -> None:
        for number in range(200):
            try:
                pool.call(pool_tasks.fail, number)
            except ValueError:
                continue
            raise AssertionError("no error came")

    return lambda: per_item(200, calls)


def arrays_in(pool: Any, name: str) -> Sample:
    arrays = [pool_tasks.array(number) for number in range(25)]  # each is a different one
    return lambda: per_item(25, lambda: pool.map(pool_tasks.total, arrays, 1))


def arrays_out(pool: Any, name: str) -> Sample:
    return lambda: per_item(25, lambda: pool.map(pool_tasks.array, range(25), 1))


def idle(pool: Any, name: str) -> Sample:
    """Processor seconds a second, of the pool's process and its workers, while nobody asks."""
    pids = [os.getpid(), *pool.pids()]
    ticks = os.sysconf("SC_CLK_TCK")

    def used() -> float:
        total = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / ticks

    def sample() -> float:
        before = used()
        time.sleep(2)
        return (used() - before) / 2

    return sample


def memory(pool: Any, name: str) -> Sample:
    """MiB of its own (proportional set size) of a worker that has run one task."""

    def sample() -> float:
        sizes = []
        for pid in pool.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    sizes.append(int(line.split()[1]) / 1024)
        return sum(sizes) / len(sizes)

    return sample


@dataclass(frozen=True)
class Cell:
    """`target`: how many times less than `standard`; or, with `most`, how much at most."""

    title: str
    prepare: Callable[[Any, str], Sample]
    target: float | None = None
    contenders: tuple[str, ...] = ALL
    standard: str = STANDARD
    most: float | None = None
    rounds: int = 7
    #: By contender, where it is not `fork`.
    methods: tuple[tuple[str, str], ...] = ()


POOLS = ("bequeath.Pool", STANDARD)
CELLS = {
    "tasks": Cell("a task, chunksize 1", trivial, 6),
    "unordered": Cell("a task, imap_unordered", unordered, 6),
    "chunks": Cell("a task, default chunksize", default_chunks, 1),
    "apply": Cell("apply, there and back", call, 5),
    "error": Cell("an exception, there and back", error, 4),
    "arrays-in": Cell("8 MB array in, its sum out", arrays_in, 5),
    "arrays-out": Cell("8 MB array out", arrays_out, 5),
    "idle": Cell("processor seconds a second, idle", idle, contenders=POOLS, most=0.0, rounds=3),
    "memory": Cell(
        "MiB of an idle worker, forkserver",
        memory,
        contenders=POOLS,
        most=6.0,
        rounds=3,
        methods=(("bequeath.Pool", "forkserver"), (STANDARD, "forkserver")),
    ),
}
#: Created to first result: each sample makes a pool. The standard *fork* pool is what to reach.
FIRST = {
    "bequeath.Pool forkserver": ("bequeath.Pool", "forkserver"),
    "multiprocessing.Pool fork": (STANDARD, "fork"),
    "bequeath.Pool fork": ("bequeath.Pool", "fork"),
    "bequeath.Pool spawn": ("bequeath.Pool", "spawn"),
    "multiprocessing.Pool forkserver": (STANDARD, "forkserver"),
    "multiprocessing.Pool spawn": (STANDARD, "spawn"),
    "bequeath.Executor forkserver": ("bequeath.Executor", "forkserver"),
    "standard Executor fork": ("standard Executor", "fork"),
}
CELLS["first"] = Cell(
    "a pool, created to first result",
    lambda pool, name: lambda: 0.0,
    1,
    tuple(FIRST),
    "multiprocessing.Pool fork",
)


@contextmanager
def opened(cell_name: str, name: str) -> Iterator[Sample]:
    if cell_name == "first":
        make, package = CONTENDERS[FIRST[name][0]]

        def sample() -> float:
            begun = time.perf_counter()
            pool = make(package, FIRST[name][1])
            pool.call(pool_tasks.same, 1)
            seconds = time.perf_counter() - begun
            pool.close()
            return seconds

        yield sample
        return
    cell = CELLS[cell_name]
    make, package = CONTENDERS[name]
    pool = make(package, dict(cell.methods).get(name, "fork"))
    try:
        pool.call(pool_tasks.same, 1)
        yield cell.prepare(pool, name)
    finally:
        pool.close()


def answer(cell_name: str, name: str) -> None:
    """The process of a contender: a sample for each line."""
    with opened(cell_name, name) as sample:
        try:
            sample()
        except NotImplementedError:
            sys.exit(f"{name} has no call of this kind")
        print("ready", flush=True)
        for _ in iter(sys.stdin.readline, ""):
            print(sample(), flush=True)


def installed(name: str) -> bool:
    kind = FIRST[name][0] if name in FIRST else name
    return importlib.util.find_spec(CONTENDERS[kind][1].partition(".")[0]) is not None


def value(cell: Cell, median: float | None) -> str:
    if median is None:
        return "-"
    return f"{median:.3g}" if cell.most is not None else shown(median)


def report(cell_name: str, results: dict[str, Contender]) -> list[dict[str, object]]:
    cell = CELLS[cell_name]
    print(f"\n{cell.title}")
    standard = results[cell.standard].median if cell.standard in results else None
    rows: list[dict[str, object]] = []
    for name, contender in results.items():
        median = contender.median
        ratio = standard / median if standard and median else None
        verdict = ""
        if name == next(iter(results)):
            if cell.most is not None:
                reached = median is not None and median <= cell.most
                wanted = f"at most {cell.most:g}"
            else:
                reached = ratio is not None and ratio >= (cell.target or 0)
                wanted = f"{cell.target:g}x"
            verdict = f"{wanted}: {'reached' if reached else 'LOST'}"
        times = f"{ratio:.2f}x" if ratio else ""
        print(f"  {name:<34} {value(cell, median):>9} {times:>8}  {verdict}", flush=True)
        rows.append({"cell": cell_name, "name": name, "median": median, "ratio": ratio})
    first, executor = results.get("bequeath.Pool"), results.get("standard Executor")
    if cell_name in ("tasks", "unordered") and first and executor:
        if first.median and executor.median:
            ratio = executor.median / first.median
            verdict = "reached" if ratio >= 15 else "LOST"
            print(f"  {'bequeath.Pool to standard Executor':<34} {ratio:>17.2f}x  15x: {verdict}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(CELLS))
    parser.add_argument("--rounds", type=int, help="samples of each contender")
    parser.add_argument("--only", nargs="*", help="contenders")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--answer", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answer(*options.answer)
        return
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load"
        f" {os.getloadavg()[0]:.1f}; {WORKERS} workers; medians of one operation; ratio: how many"
        " times faster than the standard library's"
    )
    rows = []
    for cell_name in options.cells or CELLS:
        cell = CELLS[cell_name]
        names = [name for name in cell.contenders if installed(name)]
        names = [name for name in names if not options.only or name in options.only]
        command = [sys.executable, str(HERE / "pool.py"), "--answer", cell_name]
        contenders = [Contender(name, [*command, name]) for name in names]
        take_turns(contenders, options.rounds or cell.rounds)
        rows += report(cell_name, {contender.name: contender for contender in contenders})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
