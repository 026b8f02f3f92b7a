"""A day with a large table: arrays and parts of a frame mapped over, the whole frame for all tasks.

    python examples/large_table.py [MEGABYTES] [--start-method METHOD]

Needs numpy and pandas. One worker is killed on the way, as the kernel does when memory runs out.
"""

from __future__ import annotations

import argparse
import os
import signal

import numpy
import pandas

import bequeath
from bequeath.exceptions import WorkerDied


def energy(array: numpy.ndarray) -> float:
    return float(array @ array)


def totals(part: pandas.DataFrame) -> pandas.Series:
    return part.groupby("key")["value"].sum()


def share_of(frame: pandas.DataFrame, key: int) -> float:
    if key == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return float((frame["key"] == key).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("megabytes", type=int, nargs="?", default=20)
    parser.add_argument("--start-method", choices=["fork", "spawn", "forkserver"])
    options = parser.parse_args()

    rows = options.megabytes * 1_000_000 // 16
    frame = pandas.DataFrame({"value": numpy.arange(rows) * 0.5, "key": numpy.arange(rows) % 5})
    with bequeath.get_context(options.start_method).Pool(2) as pool:
        # Arrays among arguments and results travel in shared memory.
        print("energies:", pool.map(energy, [numpy.ones(100_000) * n for n in range(4)]))

        # A generator is read as workers get on: the parts are not all there at once.
        size = -(-rows // 8)
        parts = (frame.iloc[begin : begin + size] for begin in range(0, rows, size))
        together = sum(pool.imap_unordered(totals, parts))
        print("totals agree:", bool(numpy.allclose(together, totals(frame))))

        # Sent once, however many tasks look at it.
        common = pool.share(frame)
        for key in range(5):
            try:
                print(f"share of key {key}: {pool.apply(share_of, (common, key)):.2f}")
            except WorkerDied as death:
                print(f"lost {death.task}: {death.signal}")


if __name__ == "__main__":
    main()
