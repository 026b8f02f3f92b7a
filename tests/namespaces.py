"""Programs that fork into a PID namespace of their own."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What a program does that is about to fork into a PID namespace of its own.
ABROAD = """if 1:
    import ctypes, os, sys, bequeath

    def unshare():
        "A user namespace, too, for who is not root."
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(0x20000000) and libc.unshare(0x30000000):
            print("refused:", os.strerror(ctypes.get_errno()), flush=True)
            os._exit(0)

    def told(what, act, *arguments):
        try:
            print(what, act(*arguments), flush=True)
        except RuntimeError as error:
            print(what, "another PID namespace" in str(error) or error, flush=True)
"""


def abroad(program: str, method: str) -> tuple[list[str], str]:
    """What the program and its children print, on both streams."""
    command = [sys.executable, "-c", ABROAD + program, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if lines and lines[0].startswith("refused:"):
        pytest.skip(f"no new PID namespaces here: {lines[0]}")
    return lines, done.stderr
