"""The main scenarios where the machine refuses things: sandboxes, containers, limits.

Each case is a program of its own (`scenarios.py`) under one or more confinements (`confine.py`).
`make test` runs the short table, `make faults` every confinement with each start method.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confine import CANNOT, CONFINEMENTS

from implementation import START_METHODS

HERE = Path(__file__).parent

#: What goes together in the short form, and the start methods that it runs with.
SHORT = {
    "seccomp-EPERM": START_METHODS,
    "seccomp-ENOSYS": ["spawn"],
    "seccomp-EACCES few-descriptors": ["fork"],
    "leader-outside close-range-ENOSYS": ["forkserver"],
    "pid-one": ["spawn"],
    "procfs-of-others": ["forkserver"],
    "no-procfs": ["fork", "spawn"],
    "no-procfs seccomp-EPERM": ["forkserver"],
    "hidepid": ["spawn"],
    "only-processes": ["fork"],
    "masked-procfs no-new-privileges": ["forkserver"],
    "nobody-special small-shm": ["spawn"],
    "read-only-root": ["forkserver"],
    "no-shm small-address-space": ["fork"],
    "memfd-noexec-2": ["spawn"],
    "small-cgroup": ["forkserver"],
    "small-files": START_METHODS,
    "no-streams no-working-directory no-variables": ["spawn"],
    "no-home plain-C large-environment short-allocations": ["fork"],
}
LONG = {**{name: START_METHODS for name in CONFINEMENTS}, **dict.fromkeys(SHORT, START_METHODS)}
CASES = LONG if os.environ.get("BEQUEATH_FAULTS") == "long" else SHORT


@pytest.mark.limit(180)
@pytest.mark.parametrize("confinements", CASES)
def test_the_main_scenarios(confinements: str, tmp_path: Path) -> None:
    methods = list(CASES[confinements])
    report, err = tmp_path / "report", tmp_path / "stderr"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with report.open("wb") as told, err.open("wb") as errors:
        process = subprocess.Popen(
            [
                *(sys.executable, str(HERE / "confine.py"), *confinements.split(), "--"),
                *(sys.executable, str(HERE / "scenarios.py"), *methods),
            ],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            pass_fds=[told.fileno()],
            start_new_session=True,
            env={
                **os.environ,
                "SCENARIOS_REPORT": str(told.fileno()),
                "CONFINED_FOLDER": str(tmp_path),
                "TMPDIR": str(temporary),
                "PYTHONFAULTHANDLER": "1",
            },
        )
    try:
        code = process.wait(120)
    except subprocess.TimeoutExpired:
        # SIGABRT first: faulthandler writes where everyone stood.
        os.killpg(process.pid, signal.SIGABRT)
        code = process.wait()
    said = err.read_text(errors="replace")
    if code == CANNOT:
        pytest.skip(said.strip())
    last = report.read_text().splitlines()[-1:]
    assert (code, said, last) == (0, "", ["nothing left behind"]), said + report.read_text()
