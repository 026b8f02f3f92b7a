"""Every figure beside the standard library's and faster-fifo's, interleaved in one run.

    python benches/run.py [CELL...] [--rounds N] [--json FILE]

Each contender of a cell has a process of its own; the processes take turns, one sample each, so
that whatever else the machine does hits all alike. Printed: medians, the ratio to the standard
library's like-named object, and the target; lost cells too.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

from cells import CELLS, Cell

HERE = Path(__file__).resolve().parent
PACKAGES = ("bequeath", "multiprocessing")


class Contender:
    """A process that gives a sample when asked."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.samples: list[float] = []
        self.failure = ""
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=HERE,
        )
        self.read()

    def read(self) -> str:
        assert self.process.stdout and self.process.stderr
        line = self.process.stdout.readline()
        if not line and not self.failure:
            self.failure = self.process.stderr.read().strip() or "ended without a word"
            print(f"{self.name}: {self.failure}", file=sys.stderr)
        return line

    def take_sample(self) -> None:
        if self.failure:
            return
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        if line := self.read():
            self.samples.append(float(line))

    def close(self) -> None:
        try:
            self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()

    @property
    def median(self) -> float | None:
        return statistics.median(self.samples) if self.samples else None


def names(cell: Cell) -> list[str]:
    own = [f"{package}.{kind}" for kind in cell.objects for package in PACKAGES]
    return own + [name for name in cell.beside if importlib.util.find_spec(name.split(".")[0])]


def shown(seconds: float | None) -> str:
    if seconds is None:
        return "failed"
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def take_turns(contenders: list[Contender], rounds: int) -> None:
    try:
        for number in range(rounds):
            # Each round starts with another one, so that nobody always comes after the same.
            turn = number % len(contenders)
            for contender in contenders[turn:] + contenders[:turn]:
                contender.take_sample()
    finally:
        for contender in contenders:
            contender.close()


def measure(cell_name: str, rounds: int | None) -> dict[str, Contender]:
    cell = CELLS[cell_name]
    program = str(HERE / cell.program)
    contenders = [
        Contender(name, [sys.executable, program, cell_name, name]) for name in names(cell)
    ]
    take_turns(contenders, rounds or cell.rounds)
    return {contender.name: contender for contender in contenders}


def report(cell: Cell, results: dict[str, Contender]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    beside = {name: results[name].median for name in cell.beside if name in results}
    for kind in cell.objects:
        mine = results[f"bequeath.{kind}"].median
        theirs = results[f"multiprocessing.{kind}"].median
        ratio = theirs / mine if mine and theirs else None
        verdict = "reached" if ratio and ratio >= cell.target else "LOST"
        title = cell.title.replace("Queue", kind, 1)
        others = "  ".join(f"{name} {shown(median)}" for name, median in beside.items())
        shown_ratio = f"{ratio:.2f}x" if ratio else "-"
        print(
            f"{title:<44} {shown(mine):>9} {shown(theirs):>9} {shown_ratio:>8}"
            f" {f'{cell.target:g}x':>6}  {verdict:<8}{others}",
            flush=True,
        )
        rows.append(
            {
                "cell": title,
                "bequeath": mine,
                "multiprocessing": theirs,
                "ratio": ratio,
                "target": cell.target,
                "beside": beside,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", nargs="*", metavar="CELL", help=", ".join(CELLS))
    parser.add_argument("--rounds", type=int, help="samples of each contender")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load"
        f" {os.getloadavg()[0]:.1f}; medians of one operation; ratio: how many times faster than"
        " the standard library's"
    )
    print(f"{'':<44} {'bequeath':>9} {'standard':>9} {'ratio':>8} {'target':>6}")
    rows = []
    for name in options.cells or CELLS:
        rows += report(CELLS[name], measure(name, options.rounds))
    reached = sum(bool(row["ratio"]) and row["ratio"] >= row["target"] for row in rows)  # type: ignore[operator]
    print(f"{reached} of {len(rows)} reached")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
