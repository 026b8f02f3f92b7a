"""Runs the three programs that this project started from, and prints one table of what each did.

    python examples/origin.py [--output]

Each program of `examples/origin/` runs under CPython's multiprocessing and, unchanged, under
`bequeath run`, with bequeath's own rules and with `--strict`, by each start method.
docs/why.md stands around the table.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).with_name("origin")
START_METHODS = ("fork", "spawn", "forkserver")
WAYS: dict[str, list[str]] = {
    "multiprocessing": [],
    "bequeath": ["-m", "bequeath", "run"],
    "bequeath, strict": ["-m", "bequeath", "run", "--strict"],
}
HEAD = (
    "",
    "start method",
    "`__getstate__`",
    "`pickle.dumps(queue)`",
    "queue as argument",
    "queue in a queue",
    "class under the guard",
)


def run(way: str, program: str, start_method: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key[:9] != "BEQUEATH_"}
    command = [*WAYS[way], str(PROGRAMS / program), "--start-method", start_method]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=60, env=environment
    )


def outcome(finished: subprocess.CompletedProcess[str], statement: str, works: str) -> str:
    """What became of a statement: `works`, or the exception here, or the one in the child."""
    found = re.search(rf"^{re.escape(statement)}: (\w+)", finished.stdout, re.MULTILINE)
    if found is None:
        return "ended early"
    if found[1] != "works":
        return f"refused: {found[1]}"
    code = re.search(r"^exit code of the child: (-?\d+)", finished.stdout, re.MULTILINE)
    if statement.startswith("pass ") and code and code[1] != "0":
        errors = re.findall(r"^(\w+(?:Error|Exception)):", finished.stderr, re.MULTILINE)
        return f"{errors[-1] if errors else f'exit code {code[1]}'} in the child"
    return works


def row(way: str, start_method: str) -> tuple[str, ...]:
    pickled = run(way, "pickled.py", start_method)
    queue = run(way, "queue_argument.py", start_method)
    guarded = run(way, "class_under_guard.py", start_method)
    got_through = outcome(pickled, "pass foobar", "")
    called = "called" if "I'm being pickled!" in pickled.stdout else "not called"
    return (
        way,
        start_method,
        called if not got_through else got_through,
        outcome(queue, "pickle.dumps(queue)", "allowed"),
        outcome(queue, "pass queue", "passed"),
        outcome(queue, "put queue", "passed"),
        outcome(guarded, "pass foo", "received"),
    )


def table() -> list[tuple[str, ...]]:
    return [HEAD, *(row(way, method) for way in WAYS for method in START_METHODS)]


def as_markdown(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        + " |"
        for cells in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", action="store_true", help="also what each program printed")
    options = parser.parse_args()
    if options.output:
        for way in WAYS:
            for program in sorted(PROGRAMS.glob("*.py")):
                for method in START_METHODS:
                    if program.stem != "attempt":
                        finished = run(way, program.name, method)
                        print(f"-- {way}, {method}: {program.name}")
                        print(finished.stdout + finished.stderr)
    print(as_markdown(table()))


if __name__ == "__main__":
    main()
