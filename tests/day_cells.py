"""The data scientist's day, cell by cell: what a notebook runs one after the other, and a script.

Each cell prints one line, which `EXPECTED` has, whatever the size of the frame. Their functions are
those of a program's main module, defined as late as a notebook's.
"""

from __future__ import annotations

import time
from pathlib import Path

#: Names the cells find: METHOD (how workers start), MEGABYTES (how large the frame is), FOLDER
#: (where tasks say that they have begun), LIMITED (whether memory is).
CELLS = {
    "a frame": """
import os, signal, time
import bequeath, numpy, pandas
rows = MEGABYTES * 1_000_000 // 80
columns = [f"column {number}" for number in range(9)]
frame = pandas.DataFrame({name: numpy.arange(rows) * 1.0 for name in columns})
frame["key"] = numpy.arange(rows) % 7
pool = bequeath.get_context(METHOD).Pool(2)
print(len(frame) == rows)
""",
    "arrays": """
def energy(array):
    return float(array @ array)
arrays = [numpy.full(100_000, number) * 1.0 for number in range(8)]
print(pool.map(energy, arrays, 1) == [100_000.0 * number**2 for number in range(8)])
""",
    "parts of the frame": """
def totals(part):
    return part.groupby("key")["column 0"].sum()
size = -(-rows // 8)
parts = (frame.iloc[begin : begin + size] for begin in range(0, rows, size))
together = sum(pool.imap_unordered(totals, parts))
print(bool(numpy.allclose(together, totals(frame))))
del together
""",
    "a common frame": """
def mean(frame, name):
    return frame[name].mean()
common = pool.share(frame)
means = pool.starmap(mean, [(common, name) for name in columns])
print(bool(numpy.allclose(means, (rows - 1) / 2)))
""",
    "interrupted": """
def slow(frame, name):
    open(f"{FOLDER}/{os.getpid()}", "w").close()  # the task has begun
    time.sleep(600)
print("begun", flush=True)
pool.starmap(slow, [(common, name) for name in columns])
""",
    "run again": """
def slow(frame, name):
    return len(frame)
print(pool.starmap(slow, [(common, name) for name in columns]) == [rows] * len(columns))
""",
    "edited": """
def mean(frame, name):
    return -frame[name].mean()  # another sign
means = pool.starmap(mean, [(common, name) for name in columns])
print(bool(numpy.allclose(means, (1 - rows) / 2)))
""",
    "out of memory": """
def hoard(frame, number):
    if number == 2:
        if not LIMITED:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
        held = []
        while True:
            held.append(numpy.ones(2_000_000))
    return len(frame)
outcomes = []
for result in [pool.apply_async(hoard, (common, number)) for number in range(5)]:
    try:
        outcomes.append(result.get() == rows)
    except bequeath.exceptions.WorkerDied as death:
        outcomes.append((death.signal, bool(death.oom) == LIMITED, "hoard" in str(death.task)))
print(outcomes)
""",
    "the end": """
print(pool.starmap(slow, [(common, "key")]) == [rows])
del common, result
pool.close()
pool.join()
""",
}

EXPECTED = {name: "True\n" for name in CELLS}
EXPECTED["interrupted"] = "begun\n"
EXPECTED["out of memory"] = "[True, True, ('SIGKILL', True, True), True, True]\n"


def wait_until_begun(folder: Path) -> None:
    """Both workers are at the task that is to be interrupted."""
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.01)


def limit(megabytes: int) -> int:
    """Bytes of a group in which the day fits, and one who takes ever more is the largest."""
    return (6 * megabytes + 400) * 1_000_000
