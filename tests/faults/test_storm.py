"""Everything at once, killed at random: `storm.py`, seconds here, minutes in the long form."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
SECONDS = float(os.environ.get("BEQUEATH_STORM_SECONDS", 600 if LONG else 8))
SEED = int(os.environ.get("BEQUEATH_FAULTS_SEED", time.time_ns() % 1_000_000))
MARK = "BEQUEATH_STORM"


def marked(mark: str) -> list[str]:
    """Processes that were started, however indirectly, by the program that was given this mark."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (entry / "environ").read_bytes():
                found.append(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        except OSError:
            pass
    return found


@pytest.mark.limit(SECONDS + 240)
def test_storm() -> None:
    mark = f"{MARK}={os.getpid()}-{time.monotonic_ns()}"
    name, _, value = mark.partition("=")
    program = Path(__file__).with_name("storm.py")
    command = [sys.executable, str(program), "--seconds", str(SECONDS), "--seed", str(SEED)]
    environment = {**os.environ, name: value}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-8000:]
    assert not done.stderr
    # Templates end with the program, a moment after it.
    deadline = time.monotonic() + 10
    while left := marked(mark):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.01)
