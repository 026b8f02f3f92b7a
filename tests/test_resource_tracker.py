"""Named resources that a program registered are removed when it is gone, however it went."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, threading
from bequeath import resource_tracker

class Tracker(resource_tracker.ResourceTracker):
    "What other packages do: a class of their own, beside ours."

own = Tracker()
for tracker, name in ((resource_tracker, "bequeath-test-a"), (own, "bequeath-test-b")):
    resource_tracker._CLEANUP_FUNCS["noop"]("")
    open("/dev/shm/" + name, "w").close()
    tracker.register("/" + name, "shared_memory")
open("/dev/shm/bequeath-test-c", "w").close()
resource_tracker.register("/bequeath-test-c", "shared_memory")
resource_tracker.unregister("/bequeath-test-c", "shared_memory")
print(resource_tracker._resource_tracker._pid, own._pid, flush=True)
if sys.argv[1] == "wait":
    threading.Event().wait()
"""


@pytest.mark.parametrize("ending", ["exit", "killed"])
def test_registered_names_are_removed_when_the_program_is_gone(ending: str, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "wait" if ending == "killed" else ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None
    trackers = [os.pidfd_open(int(pid)) for pid in program.stdout.readline().split()]
    if ending == "killed":
        program.send_signal(signal.SIGKILL)
    _out, err = program.communicate(timeout=30)
    for tracker in trackers:
        assert select.select([tracker], [], [], 30)[0], "the tracker does not end"
        os.close(tracker)
    left = sorted(path.name for path in Path("/dev/shm").glob("bequeath-test-*"))
    for name in left:
        Path("/dev/shm", name).unlink()
    assert left == ["bequeath-test-c"]
    assert err == ""


def test_importing_and_using_the_package_starts_no_tracker() -> None:
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            "import bequeath\n"
            "from bequeath import resource_tracker\n"
            "process = bequeath.Process(target=print)\n"
            "process.start(); process.join()\n"
            "print(resource_tracker._resource_tracker._pid)",
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert out.stdout.split() == ["None"], out.stderr


def test_name_that_does_not_fit_is_refused() -> None:
    from bequeath import resource_tracker

    tracker = resource_tracker.ResourceTracker()
    try:
        with pytest.raises(ValueError, match="msg too long"):
            tracker.register("/" + "x" * 600, "shared_memory")
    finally:
        tracker._stop()


FORKED = """
import os, sys, threading, warnings
from bequeath.resource_tracker import _resource_tracker

warnings.simplefilter("ignore")
held, release = threading.Event(), threading.Event()
def hold():
    with _resource_tracker._lock:
        held.set()
        release.wait()
_resource_tracker.ensure_running()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
reader, writer = os.pipe()
if not (child := os.fork()):
    os.close(writer)
    _resource_tracker.register("x", "noop")  # whose lock another thread had
    os.read(reader, 1)
    os._exit(_resource_tracker._pid is not None and sys.version_info < (3, 14))
release.set()
thread.join()
_resource_tracker._stop(0.01 if sys.version_info < (3, 14) else 30)
print(_resource_tracker._waitpid_timed_out == (sys.version_info < (3, 14)))
os.close(writer)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_uses_the_tracker_and_nobody_waits_for_it_for_ever() -> None:
    out = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=30)
    assert (out.stdout, out.stderr) == ("True\n0\n", "")
