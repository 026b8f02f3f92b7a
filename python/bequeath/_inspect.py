"""`bequeath inspect PID`, `bequeath.inspect()`, and the signal that prints the same.

All that is found, and the text, is the engine's doing; here are arguments and printing.
"""

from __future__ import annotations

import os
import sys

from . import _engine

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any

#: Names a signal ("USR1"): a process that receives it prints what its session is doing.
VARIABLE = "BEQUEATH_DUMP_SIGNAL"
_KEY = VARIABLE.encode()


class Inspection(dict):  # type: ignore[type-arg]
    """What `bequeath inspect --json` prints, as a dictionary; `str()` is what it prints without."""

    #: Who waits for whom, as text.
    waits: str
    _text: str

    def __str__(self) -> str:
        return self._text


def inspect(pid: int | None = None) -> Inspection:
    """What the session of a process (this one, by default) is doing, as seen from outside.

    Nothing of it is stopped or asked. ProcessLookupError: there is no such process;
    PermissionError: it is another user's; RuntimeError: it is in no session, or one that cannot
    be read from here.
    """
    import json

    found, text, waits = _engine.inspect_process(os.getpid() if pid is None else pid)
    inspection = Inspection(json.loads(found))
    inspection._text, inspection.waits = text, waits
    return inspection


def listen() -> None:
    """Let the signal that the environment names print what the session is doing."""
    # Every child asks: to look for what is not there through `os.environ` raises and catches.
    if _KEY not in os.environ._data:  # type: ignore[attr-defined]
        return
    name = os.environ[VARIABLE]
    if not name:
        return
    import signal

    number = getattr(signal, name if name.startswith("SIG") else f"SIG{name}", None)
    if number is None:
        sys.stderr.write(f"bequeath: {VARIABLE}={name} names no signal\n")
        return
    try:
        signal.signal(number, _dump)
    except ValueError:
        pass  # not in the main thread: the process that imports us elsewhere goes without


def _dump(*_: object) -> None:
    try:
        text = str(inspect())
    except Exception as error:
        text = f"{error}\n"
    if sys.stderr is not None:
        sys.stderr.write(f"bequeath: process {os.getpid()}\n{text}")
        sys.stderr.flush()


def _number(word: str) -> int:
    number = int(word)
    if not 0 < number < 1 << 32:
        raise ValueError
    return number


def main(words: list[str]) -> int:
    """The command."""
    import argparse

    parser = argparse.ArgumentParser("bequeath inspect", description=inspect.__doc__)
    parser.add_argument("pid", type=_number, metavar="PID", help="any process of the session")
    parser.add_argument("--json", action="store_true", help="as data (docs/inspect.md)")
    parser.add_argument("--waits", action="store_true", help="only who waits for whom")
    parser.add_argument("--watch", action="store_true", help="again each second, until Ctrl-C")
    options = parser.parse_args(words)
    try:
        if not options.watch:
            return _show(options)
        return _watch(options)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # whoever read has seen enough
        return 0


def _show(options: Any) -> int:
    try:
        found, text, waits = _engine.inspect_process(options.pid)
    except (OSError, RuntimeError, OverflowError) as error:
        print(f"bequeath: {error}", file=sys.stderr)
        return 1
    print(f"{found}\n" if options.json else waits if options.waits else text, end="", flush=True)
    return 0


def _watch(options: Any) -> int:
    import time

    clears = sys.stdout.isatty() and not options.json
    while True:
        if clears:
            print("\x1b[H\x1b[2J", end="")
        code = _show(options)
        if code:
            return code
        time.sleep(1)
