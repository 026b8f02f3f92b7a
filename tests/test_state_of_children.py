"""A child has the state that its starter had at `start()`, item by item as one of the standard
library's spawn, which is exec'ed: `state_program.py` changes each, and tells what the child sees.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import state_program
from implementation import Implementation


@cache
def told_by_children(package: str, method: str) -> dict[str, Any]:
    """What they see after each change."""
    program = Path(state_program.__file__)
    with TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, str(program), package, method, folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # where warnings go that some of the changes call for
            start_new_session=True,
            env={
                name: value
                for name, value in os.environ.items()
                if name == "PYTHONPATH" or not name.startswith("PY")
            },
        )
        try:
            process.wait(timeout=100)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lines = (Path(folder) / "told").read_text().replace(folder, "FOLDER")
        return dict(json.loads(line) for line in lines.splitlines())


CLOSED = ("no input", "no output", "no errors")


@pytest.mark.limit(300)
@pytest.mark.parametrize("change", state_program.CHANGES)
def test_a_child_has_the_state_of_an_execed_one(ours: Implementation, change: str) -> None:
    if ours.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    theirs = told_by_children("multiprocessing", "spawn")[change]
    mine = told_by_children("bequeath", ours.start_method)[change]
    if isinstance(theirs, str) and theirs.startswith("not permitted"):
        pytest.skip(theirs)
    if change == "no errors" and isinstance(theirs, str) and "fds_to_keep" in theirs:
        pytest.skip("the standard library's cannot start a child then (3.14)")
    assert isinstance(theirs, dict), theirs
    assert isinstance(mine, dict), mine
    if change in CLOSED:
        # An exec'ed one has a pipe of its starter's there; see docs/differences.md.
        for item in ("standard", "streams"):
            mine[item] = theirs[item]
    if change == "X options":
        mine["options"] = theirs["options"]
    assert {k: v for k, v in mine.items() if v != theirs[k]} == {
        k: v for k, v in theirs.items() if v != mine[k]
    }


@pytest.mark.limit(200)
def test_the_changes_can_be_seen() -> None:
    """A change that a child of spawn does not see tests nothing, unless an exec forgets it."""
    told = told_by_children("multiprocessing", "spawn")
    unseen = {
        name
        for name, state in told.items()
        if name != "nothing" and isinstance(state, dict) and state == told["nothing"]
    }
    if os.nice(0) == 19:  # the tests themselves are as nice as one can be
        unseen -= {"nice"}
    assert unseen - FORGOTTEN == set()


#: What an exec, or a fresh interpreter, does not take over.
FORGOTTEN = {
    "handler",
    "pipe heeded",
    "timer",
    "death signal",
    "another descriptor",
    "locale",
    "warning filters",
    "recursion limit",
    "switch interval",
    "collector",
    "fault handler",
    "stack size",
    "hooks",
    "zone unset here",
    "group",
    "session",
    "no input",
    # What it sees of these is that they are its starter's.
    "host name's namespace",
    "network",
    "mounts",
    "saved group",
    "saved user",
    "X options",
    "bytecode",
}
