"""Runs a small program in a process of its own, for what would harm or end the test's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from implementation import Implementation

HEAD = """
import atexit, os, resource, signal, sys, threading, time
import {package} as mp
context = mp.get_context({method!r})

def answered(work, *arguments):  # pragma: no cover
    # What a child sends that is given a connection to send it through.
    receiver, sender = context.Pipe(False)
    process = context.Process(target=work, args=(sender, *arguments))
    process.start()
    answer = receiver.recv()
    process.join()
    assert process.exitcode == 0, process
    return answer
"""


def run(
    mp: Implementation,
    folder: Path,
    definitions: str,
    body: str,
    environment: dict[str, str] | None = None,
    seconds: float = 30,
) -> subprocess.CompletedProcess[str]:
    """`definitions` on top of the file, `body` under the guard; both may use `mp`, `context`."""
    script = folder / "program.py"
    script.write_text(
        HEAD.format(package=mp.name, method=mp.start_method)
        + textwrap.dedent(definitions)
        + '\nif __name__ == "__main__":\n'
        + textwrap.indent(textwrap.dedent(body), "    ")
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONFAULTHANDLER": "1", **(environment or {})},
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # SIGABRT first: faulthandler writes where everyone stood.
        os.killpg(process.pid, signal.SIGABRT)
        out, err = process.communicate()
        raise AssertionError(f"no end after {seconds:.0f} s\n{out}\n{err}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def prints(
    mp: Implementation,
    folder: Path,
    definitions: str,
    body: str,
    expected: str,
    environment: dict[str, str] | None = None,
) -> None:
    """The program ends well, writes exactly these lines, and nothing to stderr."""
    finished = run(mp, folder, definitions, body, environment)
    wanted = textwrap.dedent(expected).strip()
    assert finished.stdout.strip() == wanted, finished
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
