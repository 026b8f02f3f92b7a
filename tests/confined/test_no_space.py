"""The kernel has no more pages for the session's memory when one of its processes asks.

What needs pages fails with an error that says so, and what does not goes on; others are not
concerned, and nothing is lost.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confine import CANNOT

from implementation import Implementation

HERE = Path(__file__).parent

PROGRAM = """
import errno, gc, os, sys
sys.path.insert(0, sys.argv[1])
import confine
import bequeath
from bequeath import _engine

SMALL, LARGE = b"." * 100, bytearray(5_000_000)
# No block that was in use before serves it.
LARGER = bytearray(50_000_000)

def refuse(code, most):
    try:
        confine.no_large_allocation(getattr(errno, code), most)
    except confine.Impossible as error:
        print(error, file=sys.stderr)
        os._exit(confine.CANNOT)

def refused(act, *arguments):
    try:
        act(*arguments)
    except MemoryError as error:
        return os.strerror(getattr(errno, sys.argv[3])) in str(error) or error
    return "not refused"

def without(queue, results):
    refuse(sys.argv[3], 0)
    for _ in range(3):
        queue.put(queue.get())              # what arrived in place
        results.put(refused(queue.put, LARGER))
    # Objects, until there is no place for one more.
    objects = []
    results.put(refused(lambda: [objects.append(bequeath.Lock()) for _ in range(100_000)]))
    objects[0].acquire()
    results.put(refused(lambda: bequeath.Array("d", 100_000)))
    objects.clear()
    gc.collect()
    bequeath.Lock().acquire()

if __name__ == "__main__":
    context = bequeath.get_context(sys.argv[2])
    queue, results, lock = context.Queue(), context.Queue(), context.Lock()
    for item in (SMALL, LARGE):
        for one in (queue, results):
            one.put(item)
            one.get()
    queue.put(SMALL)
    process = context.Process(target=without, args=(queue, results))
    process.start()
    process.join()
    if process.exitcode == confine.CANNOT:
        sys.exit(confine.CANNOT)
    told = []
    while not results.empty():
        told.append(results.get())
    print(process.exitcode, told == [True] * 5 or told)
    print(queue.get() == SMALL, queue.empty())
    # Nobody else is concerned.
    queue.put(LARGE)
    print(queue.get() == LARGE)
    del queue, results, process, lock, one
    gc.collect()
    _engine.session_scavenge()
    info = _engine.session_info()
    print(info["references"], info["places"])
"""


@pytest.mark.parametrize("code", ["ENOSPC", "EPERM"])
def test_no_pages_in_one_process(ours: Implementation, tmp_path: Path, code: str) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, str(program), str(HERE), ours.start_method, code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == ["0 True", "True True", "True", "0 0"]
