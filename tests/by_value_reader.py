"""A process without the sender's modules, to see what bytes alone can tell."""

from __future__ import annotations

import base64
import subprocess
import sys
import textwrap
from typing import Any

import bequeath.pickle

READER = """
import base64, dataclasses, pickle, sys
import bequeath.pickle

def raises(kind, call, *args):
    try:
        call(*args)
    except kind:
        return True
    return False

for line in sys.stdin:
    loads, data, *checks = eval(line)
    wrong = []
    try:
        it = {"ours": bequeath.pickle.loads, "theirs": pickle.loads}[loads](base64.b64decode(data))
        wrong = [check for check in checks if not eval(check)]
    except BaseException as error:
        wrong = [f"{type(error).__name__}: {error}"]
    print(repr(wrong), flush=True)
"""


class Reader:
    """Another process that reads pickles, and says which checks do not hold."""

    def __init__(self) -> None:
        # Not in the folder of the tests, whose modules it must not find.
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wrong(self, data: bytes, checks: str, loads: str = "ours") -> list[str]:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        lines = [line.strip() for line in checks.splitlines() if line.strip()]
        stdin.write(repr([loads, base64.b64encode(data).decode(), *lines]) + "\n")
        stdin.flush()
        answer: list[str] = eval(stdout.readline())
        return answer

    def close(self) -> None:
        with self.process:
            pass


def definitions(source: str, name: str = "gone") -> dict[str, Any]:
    """The names of a module that nobody can import."""
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(textwrap.dedent(source), "<gone>", "exec", dont_inherit=True), namespace)
    return namespace


def by_value(obj: object) -> bytes:
    return bequeath.pickle.dumps(obj, by_value=True)
