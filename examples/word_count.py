"""Counts the words of a tree of files with a producer, N workers, two queues and a lock.

    bequeath run examples/word_count.py [FOLDER] [--workers N] [--start-method M] [--kill-one]

A plain multiprocessing program: `python examples/word_count.py` runs it on the standard library.
A producer walks FOLDER (by default the standard library's own sources) and feeds a queue; workers
answer through a second one; a lock guards the progress line. The counts are compared with a
sequential run, and the speed of both is printed.

With --kill-one a worker is killed in the middle, as by hand: the program still ends, says who died
and how, and misses at most the file that this worker held. (On the standard library that run may
hang for ever: the dead worker can take a queue's lock with it.)
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import signal
import sys
import sysconfig
import time
from collections import Counter
from multiprocessing import connection

WORD = re.compile(rb"[A-Za-z0-9_]+")
NOT_VISITED = {"site-packages", "__pycache__"}


def walk(folder):
    """The `.py` files below a folder, always in the same order."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - NOT_VISITED)
        yield from (os.path.join(place, name) for name in sorted(names) if name.endswith(".py"))


def count_words(path):
    with open(path, "rb") as file:
        return Counter(WORD.findall(file.read()))


def produce(folder, tasks, workers):
    for path in walk(folder):
        tasks.put(path)
    for _ in range(workers):
        tasks.put(None)


def show_progress(lock, text):
    try:
        lock.acquire()
    except RuntimeError:
        # Only bequeath says so: who held the lock was killed. A progress line needs no repair.
        lock.recover()
    try:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
    finally:
        lock.release()


def work(tasks, results, lock):
    me = multiprocessing.current_process().name
    for number, path in enumerate(iter(tasks.get, None), 1):
        results.put((me, path, count_words(path)))
        if number % 50 == 0:
            show_progress(lock, f"{me}: {number} files")


def collect(results, workers, on_result):
    """Calls on_result for each result until every worker has ended and the queue is empty.

    Returns how many of them ended badly, after saying how.
    """
    died = 0
    running = {worker.sentinel: worker for worker in workers}
    while running:
        for ready in connection.wait([results._reader, *running]):
            if ready in running:
                worker = running.pop(ready)
                worker.join()
                if worker.exitcode:
                    died += 1
                    how = (
                        f"was killed by {signal.Signals(-worker.exitcode).name}"
                        if worker.exitcode < 0
                        else f"ended with exit code {worker.exitcode}"
                    )
                    print(f"{worker.name} (pid {worker.pid}) {how}")
            else:
                on_result(results.get())
    while not results.empty():
        on_result(results.get())
    return died


def count_in_parallel(folder, number_of_workers, context, kill_after=None):
    tasks, results, lock = context.Queue(), context.Queue(), context.Lock()
    workers = [
        context.Process(target=work, args=(tasks, results, lock), name=f"worker-{number}")
        for number in range(1, number_of_workers + 1)
    ]
    producer = context.Process(
        target=produce, args=(folder, tasks, number_of_workers), name="producer"
    )
    for process in (producer, *workers):
        process.start()

    counts, files = Counter(), set()

    def on_result(result):
        name, path, words = result
        counts.update(words)
        files.add(path)
        if len(files) == kill_after:
            victim = next(worker for worker in workers if worker.name == name)
            os.kill(victim.pid, signal.SIGKILL)

    died = collect(results, workers, on_result)
    producer.join()
    # What the dead did not take is nobody's; the standard library would wait for it at exit.
    tasks.cancel_join_thread()
    return counts, files, died


def count_sequentially(folder):
    counts, files = Counter(), set()
    for path in walk(folder):
        counts.update(count_words(path))
        files.add(path)
    return counts, files, 0


def timed(function, *arguments):
    began = time.perf_counter()
    counts, files, died = function(*arguments)
    return counts, files, died, time.perf_counter() - began


def print_speed(title, counts, files, seconds):
    words = sum(counts.values())
    print(
        f"{title:<24} {seconds:7.2f} s {len(files) / seconds:8.0f} files/s"
        f" {words / seconds / 1e6:7.2f} million words/s"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", default=sysconfig.get_path("stdlib"))
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--start-method", default=None, metavar="fork|spawn|forkserver|all")
    parser.add_argument("--kill-one", action="store_true", help="kill a worker in the middle")
    options = parser.parse_args()

    methods = [options.start_method or multiprocessing.get_start_method()]
    if methods == ["all"]:
        methods = ["fork", "spawn", "forkserver"]

    counts, files, _, seconds = timed(count_sequentially, options.folder)
    print_speed("sequential", counts, files, seconds)
    status = 0
    for method in methods:
        found, seen, died, seconds = timed(
            count_in_parallel,
            options.folder,
            options.workers,
            multiprocessing.get_context(method),
            len(files) // 2 if options.kill_one else None,
        )
        print_speed(f"{options.workers} workers, {method}", found, seen, seconds)
        lost = sorted(files - seen)
        for path in lost:
            print(f"lost with its worker: {os.path.relpath(path, options.folder)}")
            found.update(count_words(path))
        if found != counts or len(lost) > died:
            print(f"{method}: the counts differ from the sequential run's")
            status = 1
        else:
            print("the counts are the sequential run's" + ", the lost file aside" * bool(lost))
    print(f"total: {sum(counts.values())} words, {len(counts)} different, in {len(files)} files")
    for word, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:10]:
        print(number, word.decode())
    return status


if __name__ == "__main__":
    sys.exit(main())
