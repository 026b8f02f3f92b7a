"""The session from Python: who shares it, what it gives back, what a fork makes of it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from namespaces import abroad


def printed(program: str) -> str:
    """What a program of its own prints: for forks that no test framework should be in."""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def figures() -> tuple[int, int, int]:
    """Members, references and places in use, once the dead are cleaned up after."""
    from bequeath import _engine

    gc.collect()
    _engine.session_scavenge()
    info = _engine.session_info()
    return info["members"], info["references"], info["places"]


def used() -> int:
    from bequeath import _engine

    return int(_engine.session_info()["used"])


def hold(things: Any, ready: Any) -> None:
    kept = [things[0].Value("i") for _ in range(10)], things[1]
    ready.set()
    signal.pause()
    del kept


@pytest.mark.short
def test_what_a_killed_child_held_is_given_back(ours: Implementation) -> None:
    ready, queue = ours.Event(), ours.Queue()
    # A template, if there has to be one, is a member as long as the program lasts.
    process = ours.Process(target=ready.is_set)
    process.start()
    process.join()
    before = figures()
    process = ours.Process(target=hold, args=((ours, queue), ready))
    process.start()
    ready.wait()
    process.kill()
    process.join()
    ready = None
    after = figures()
    assert after[0] == before[0]
    assert after[1] <= before[1] and after[2] <= before[2]


def make(results: Any, ours: Implementation) -> None:
    results.put(ours.Queue())


def test_an_object_outlives_its_maker_in_a_message_nobody_read(ours: Implementation) -> None:
    results = ours.Queue()
    results.put("a queue keeps its last segment")
    results.get()
    before = figures()
    process = ours.Process(target=make, args=(results, ours))
    process.start()
    process.join()
    assert figures()[1] > before[1]
    inner = results.get()
    inner.put("alive")
    assert inner.get() == "alive"
    del inner
    # (Templates and the children that they have ready are members, too, from the first starts on.)
    assert figures()[1:] == before[1:]


def test_a_drained_queue_gives_memory_back(ours: Implementation) -> None:
    queue = ours.Queue()
    queue.put(b"")
    queue.get()
    # Free pages that an earlier test left warm count, too.
    low = used()
    message = os.urandom(100_000)
    for _ in range(2000):
        queue.put(message)
    high = used()
    assert high > 200_000_000
    for _ in range(2000):
        assert queue.get() == message
    assert used() - low < 80_000_000
    for number in range(300_000):
        queue.put((number, "small"))
    for number in range(300_000):
        assert queue.get() == (number, "small")
    assert used() - low < 80_000_000


PLAIN_FORK = """
import os, sys
import bequeath as mp
from bequeath import _engine

value = mp.Value("i", 0)
queue = mp.Queue()
reader, writer = os.pipe()
if os.fork() == 0:
    inner = mp.Value("i", 41)
    queue.put(inner)
    with value:
        value.value += 1
    os.write(writer, b"x")
    os._exit(0)
os.read(reader, 1)
os.wait()
inner = queue.get()
print(value.value, inner.value, _engine.session_scavenge(), _engine.session_info()["members"])
"""


def test_the_child_of_a_plain_fork_is_a_member() -> None:
    assert printed(PLAIN_FORK) == "1 41 1 1\n"


SIBLINGS = """
import os, sys
import bequeath as mp
from bequeath import _engine

ids = []
for _ in range(2):
    reader, writer = os.pipe()
    if os.fork() == 0:
        mp.Value("i")
        os.write(writer, _engine.session_info()["id"].encode())
        os._exit(0)
    ids.append(os.read(reader, 100))
    os.wait()
print(ids[0] == ids[1] == _engine.session_info()["id"].encode())
"""


def test_siblings_forked_before_the_first_object_share_a_session() -> None:
    assert printed(SIBLINGS) == "True\n"


ADOPTED = """
import os, sys
import numpy
import bequeath as mp

queue = mp.Queue()
for size in (1_000, 100_000, 5_000_000):
    queue.put(numpy.arange(size))
    array = queue.get()
    assert array.flags.writeable and array.sum() == size * (size - 1) // 2
    array[0] = 5
    reader, writer = os.pipe()
    if os.fork() == 0:
        assert array[0] == 5 and array[-1] == size - 1
        array[-1] = 77
        os.write(writer, b"ok" if array[-1] == 77 else b"no")
        os._exit(0)
    answer = os.read(reader, 2)
    os.wait()
    array[1] = 9
    print(answer, int(array[-1]) == size - 1, int(array[0]))
    view = array[2:4]
    del array
    others = [numpy.zeros(size) for _ in range(3)]
    for other in others:
        queue.put(other)
    print(list(map(int, view)), [queue.get().any() for _ in others] == [False] * 3)
"""


def test_received_arrays_are_ones_own_also_after_a_fork() -> None:
    pytest.importorskip("numpy")
    once = "b'ok' True 5\n[2, 3] True\n"
    assert printed(ADOPTED) == once * 3


STRANGER = """
import os, subprocess, sys
import bequeath as mp
from bequeath import _engine

value = mp.Value("i", 3)
descriptor = os.dup(_engine.session_descriptor())
os.set_inheritable(descriptor, True)
child = (
    "import sys; from bequeath import _engine;"
    "_engine.session_attach(int(sys.argv[1]));"
    "print(_engine.session_info()['id'], _engine.session_info()['members'])"
)
command = [sys.executable, "-c", child, str(descriptor)]
done = subprocess.run(command, pass_fds=[descriptor], capture_output=True, text=True, check=True)
print(done.stdout == _engine.session_info()["id"] + " 2\\n")
"""


def test_another_program_joins_by_descriptor() -> None:
    assert printed(STRANGER) == "True\n"


LIMIT = """
import os
os.environ["BEQUEATH_MEMORY_LIMIT"] = "16M"
import bequeath as mp
from bequeath import _engine

queue = mp.Queue()
number = 0
try:
    while True:
        queue.put(os.urandom(100_000))
        number += 1
except MemoryError as error:
    print(100 < number < 168, "16777216" in str(error))
try:
    mp.RawArray("B", 32 << 20)
except MemoryError as error:
    print("16777216" in str(error))
for _ in range(number):
    queue.get()
queue.put(b"room again")
print(queue.get(), _engine.session_info()["limit"])
"""


def test_the_budget_of_the_environment_is_kept() -> None:
    expected = "True True\nTrue\nb'room again' 16777216\n"
    assert printed(LIMIT) == expected


def test_nothing_is_made_at_import() -> None:
    program = "import bequeath; from bequeath import _engine; print(_engine.session_info())"
    assert printed(program) == "None\n"


FORKED = """
    lock, queue, event = bequeath.Lock(), bequeath.Queue(), bequeath.Event()
    value = bequeath.Value("i")
    queue.put("kept")

    def elsewhere():
        print(os.getppid(), flush=True)
        told("lock", lock.acquire)
        told("queue", queue.get)
        told("full", queue.put, 1)
        told("event", event.is_set)
        told("value", lambda: value.value)
        told("handed on", bequeath.Queue().put, lock)
        mine = bequeath.Queue()
        grandchild = bequeath.get_context(sys.argv[1]).Process(target=mine.put, args=("its own",))
        grandchild.start()
        told("new", mine.get)
        grandchild.join()
        told("ended", lambda: grandchild.exitcode)

    if os.fork() == 0:
        unshare()
        child = bequeath.get_context("fork").Process(target=elsewhere)
        child.start()
        child.join()
        os._exit(child.exitcode)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    print(queue.get(), lock.acquire(timeout=9), event.is_set(), value.value)
"""


def test_a_child_in_another_pid_namespace_is_told_and_starts_afresh(ours: Implementation) -> None:
    """Its number was another process's to the others, and to it the living counted as dead."""
    lines, errors = abroad(FORKED, ours.start_method)
    refused = ["lock", "queue", "full", "event", "value", "handed on"]
    assert lines[0] == "0"
    assert lines[1:-1] == [f"{what} True" for what in refused] + ["new its own", "ended 0"]
    assert lines[-1] == "kept True False 0" and not errors


OUTSIDER = """
import os, sys
import bequeath
from bequeath import _engine

def of_its_own(connection, number):
    # No member: what it makes is a session of its own, which its children share with it.
    queue = bequeath.Queue()
    child = bequeath.Process(target=queue.put, args=(os.getpid(),))
    child.start()
    told = queue.get()
    child.join()
    connection.send((told == os.getpid(), _engine.session_info()["id"]))
    if number:
        os.kill(os.getpid(), 9)

if __name__ == "__main__":
    bequeath.set_start_method(sys.argv[1])
    queue, lock = bequeath.Queue(), bequeath.Lock()
    queue.put("kept")
    lock.acquire()
    ids = {_engine.session_info()["id"]}
    for number in range(3):
        receiver, sender = bequeath.Pipe(False)
        outsider = bequeath.Process(target=of_its_own, args=(sender, number), session=False)
        outsider.start()
        sender.close()
        told, id = receiver.recv()
        outsider.join()
        print(told, outsider.exitcode)
        ids.add(id)
    deaths = {death["cause"] for s in bequeath.inspect()["sessions"] for death in s["deaths"]}
    print(len(ids), queue.get(), lock.acquire(timeout=0.01), len(deaths))
"""


def test_sessions_of_one_tree_do_not_touch_each_other(ours: Implementation, tmp_path: Path) -> None:
    """An outsider makes a session of its own, uses it with a child, and is killed."""
    if ours.start_method == "fork":
        pytest.skip("a forked child has all that its parent has")
    program = tmp_path / "outsiders.py"
    program.write_text(OUTSIDER)
    command = [sys.executable, str(program), ours.start_method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == ["True 0", "True -9", "True -9", "4 kept False 0"]
