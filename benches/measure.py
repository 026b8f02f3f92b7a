"""One contender of one cell: answers each line on standard input with a sample.

python benches/measure.py CELL CONTENDER      (started by run.py)
"""

from __future__ import annotations

import sys


def nothing() -> None:
    """What a child does where only its start is measured. Here, in the program itself: elsewhere
    each child would first import a module for it, which measures that module."""


def main() -> None:
    from cells import CELLS

    cell, contender = sys.argv[1:]
    with CELLS[cell].opened(contender) as sample:
        sample()
        print("ready", flush=True)
        for _ in iter(sys.stdin.readline, ""):
            print(sample(), flush=True)


if __name__ == "__main__":
    main()
