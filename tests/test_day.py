"""The data scientist's day as a script; tests/test_notebook.py has it in a notebook's kernel.

`make long` takes a frame of 500 MB (`BEQUEATH_DAY=500`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from control_groups import enter, group_of, killed_in
from day_cells import CELLS, EXPECTED, limit, wait_until_begun
from implementation import Implementation

pytest.importorskip("pandas")

MEGABYTES = int(os.environ.get("BEQUEATH_DAY", "20"))

pytestmark = pytest.mark.limit(300 if MEGABYTES > 20 else 120)


def script(method: str, folder: Path, limited: bool) -> str:
    lines = [
        "import sys",
        "if __name__ == '__main__':",
        f"    METHOD, MEGABYTES, LIMITED = {method!r}, {MEGABYTES}, {limited}",
        f"    FOLDER = {str(folder)!r}",
        "    sys.stdin.readline()  # until this process is in its group",
    ]
    for name, cell in CELLS.items():
        text = textwrap.indent(cell, "    ")
        if name == "interrupted":
            guarded = textwrap.indent(text, "    ")
            text = f"    try:\n{guarded}    except KeyboardInterrupt:\n        pass\n"
        lines.append(text)
    return "\n".join(lines)


def test_the_day_as_a_script(ours: Implementation, tmp_path: Path) -> None:
    program, begun = tmp_path / "day.py", tmp_path / "begun"
    begun.mkdir()
    with group_of(limit(MEGABYTES)) as group:
        program.write_text(script(ours.start_method, begun, group is not None))
        child = subprocess.Popen(
            [sys.executable, "-u", str(program)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with child:
            assert child.stdin and child.stdout and child.stderr
            if group is not None:
                enter(group, child.pid)
            child.stdin.write("\n")
            child.stdin.flush()
            shown = {}
            for name in CELLS:
                shown[name] = child.stdout.readline()
                if not shown[name]:
                    pytest.fail(f"no line of {name!r}: {child.stderr.read()}")
                if name == "interrupted":
                    wait_until_begun(begun)
                    child.send_signal(signal.SIGINT)
            assert shown == EXPECTED
            assert child.stdout.read() == ""
            assert child.stderr.read() == ""
        assert child.returncode == 0
        assert group is None or killed_in(group) == 1
