"""--narrate: one line at each start, on the standard error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from implementation import Implementation

PROGRAM = """
import multiprocessing, socket

def named(*things): pass

class Point: pass

if __name__ == "__main__":
    context = multiprocessing.get_context(METHOD)
    def guarded(): pass
    for target, args in (
        (named, (context.Queue(), context.Lock(), socket.socket())),
        (guarded, ()),
        (lambda: 0, ()),
        (named, (1, "text", [1, 2, 3], b"four", Point(), {}, context.Event())),
    ):
        process = context.Process(target=target, args=args, name="Child")
        process.start()
        process.join()
"""


def test_each_start_tells_how_things_crossed(ours: Implementation, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.replace("METHOD", repr(ours.start_method)))
    done = subprocess.run(
        [sys.executable, "-m", "bequeath", "run", "--narrate", str(script)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    lines = done.stderr.splitlines()
    assert len(lines) == 4, done.stderr
    start = f"bequeath: Child ({ours.start_method}): "
    if ours.start_method == "fork":
        assert lines == [start + "by inheritance: everything"] * 4
        return
    assert lines[0] == start + "by reference: __main__.named; as a handle: Queue, Lock, socket"
    assert lines[1] == start + "by reference, else by value: __main__.guarded"
    assert lines[2] == f"{start}by value: <lambda> ({script}:14)"
    assert lines[3].startswith(start + "by reference: ")
    assert lines[3].endswith(
        "__main__.Point; by value: int, str, list of 3, bytes (4 bytes), "
        "__main__.Point, dict of 0; "
        "as a handle: Event"
    )
