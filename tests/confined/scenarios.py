"""What a program mainly does with bequeath, as one program: `scenarios.py METHOD...`.

`test_confined.py` runs it where the machine refuses things. It prints one line per scenario and
method, and `nothing left behind` at the end; whatever goes wrong is a traceback and exit code 1. It
looks at nothing (procfs, standard streams, home, temporary folder) that a confinement takes away.
"""

from __future__ import annotations

import array
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import bequeath
from bequeath import connection, util
from bequeath.exceptions import AbandonedLock, WorkerDied

SMALL = 100
LARGE = 3 << 20


def child_of(context: Any, target: Callable[..., None], *args: object) -> Any:
    process = context.Process(target=target, args=args)
    process.start()
    return process


def finish(process: Any, code: int = 0) -> None:
    process.join(30)
    assert process.exitcode == code, f"{process.name} ended with {process.exitcode}, not {code}"
    process.close()


def end(code: int) -> None:
    sys.exit(code)


def report_parent(queue: Any) -> None:
    parent = bequeath.parent_process()
    queue.put((os.getpid(), parent.pid, parent.is_alive()))


def sleep() -> None:
    while True:
        signal.pause()


def starts(context: Any) -> None:
    """Exit codes, kinds of end, daemons, sentinels."""
    queue = context.Queue()
    process = child_of(context, report_parent, queue)
    assert queue.get(timeout=30) == (process.pid, os.getpid(), True)
    finish(process)
    finish(child_of(context, end, 7), 7)
    killed = child_of(context, sleep)
    assert not connection.wait([killed.sentinel], 0) and killed.is_alive()
    killed.kill()
    assert connection.wait([killed.sentinel], 30) == [killed.sentinel]
    finish(killed, -signal.SIGKILL)
    daemon = context.Process(target=sleep, daemon=True)
    daemon.start()
    daemon.terminate()
    finish(daemon, -signal.SIGTERM)
    several = [child_of(context, end, code) for code in range(4)]
    for code, process in enumerate(several):
        finish(process, code)


def end_another(incoming: Any, outgoing: Any) -> None:
    another = incoming.recv()
    outgoing.send((another.pid, another.is_alive(), another.exitcode))
    another.kill()
    another.join()
    outgoing.send((another.is_alive(), connection.wait([another.sentinel], 0) != []))


def handles(context: Any) -> None:
    """A process in a message: watched, ended and waited for by one that did not start it."""
    ends = [*context.Pipe(duplex=False), *context.Pipe(duplex=False)]
    victim = child_of(context, sleep)
    ender = child_of(context, end_another, ends[0], ends[3])
    ends[1].send(victim)
    assert ends[2].recv() == (victim.pid, True, None)
    finish(victim, -signal.SIGKILL)
    assert ends[2].recv() == (False, True)
    finish(ender)
    for end_of_pipe in ends:
        end_of_pipe.close()


def orphan_daemon(context: Any, queue: Any) -> None:
    daemon = context.Process(target=sleep, daemon=True)
    daemon.start()
    queue.put(daemon.pid)
    os.kill(os.getpid(), signal.SIGKILL)


def daemons_of_the_killed(context: Any) -> None:
    """A daemon does not outlive a parent that was killed."""
    queue = context.Queue()
    parent = child_of(context, orphan_daemon, context, queue)
    pid = queue.get(timeout=30)
    finish(parent, -signal.SIGKILL)
    until(lambda: not is_running(pid))


def is_running(pid: int) -> bool:
    """Zombies that nobody reaps (in a container without an init) do not run."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        reap(pid)
        return os.path.exists(f"/proc/{pid}")


def reap(pid: int) -> None:
    """As PID 1 orphans are ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"{condition} did not come true"
        time.sleep(0.002)


def echo(incoming: Any, outgoing: Any) -> None:
    while (item := incoming.get()) is not None:
        outgoing.put(item)


def queues(context: Any) -> None:
    """Small and large messages, objects and descriptors on their way through one."""
    there, back = context.Queue(), context.Queue(maxsize=4)
    process = child_of(context, echo, there, back)
    for index in range(50):
        there.put((index, b"." * SMALL))
        assert back.get(timeout=30) == (index, b"." * SMALL)
    large = array.array("q", range(LARGE // 8)).tobytes()
    try:
        there.put(large)
    except MemoryError as refused:
        # A session whose memory file may not be larger than that.
        assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] < LARGE, refused
        assert "RLIMIT_FSIZE" in str(refused), refused
    else:
        assert back.get(timeout=30) == large
    inner, event = context.Queue(), context.Event()
    there.put((inner, event, context.Lock()))
    inner_back, event_back, lock = back.get(timeout=30)
    inner_back.put("through")
    event_back.set()
    assert inner.get(timeout=30) == "through" and event.is_set()
    with lock:
        pass
    mine, theirs = context.Pipe()
    there.put(theirs)
    theirs.close()
    received = back.get(timeout=30)
    received.send("descriptor")
    assert mine.recv() == "descriptor"
    there.put(None)
    finish(process)
    for one in (there, back, inner, mine, received):
        one.close()


def hold(lock: Any, held: Any) -> None:
    lock.acquire()
    held.set()
    sleep()


def work(condition: Any, barrier: Any, semaphore: Any, counter: Any) -> None:
    barrier.wait(30)
    for _ in range(100):
        with semaphore, counter.get_lock():
            counter.value += 1
    with condition:
        condition.notify()


def locks(context: Any) -> None:
    """A killed holder, and every other primitive between processes."""
    for lock in (context.Lock(), context.RLock()):
        held = context.Event()
        process = child_of(context, hold, lock, held)
        assert held.wait(30) and not lock.acquire(timeout=0.01)
        process.kill()
        # Not joined: a zombie is dead, whatever can be looked at here.
        try:
            acquired = lock.acquire(timeout=30)
        except AbandonedLock:
            lock.recover()
            lock.release()
        else:
            raise AssertionError(f"no AbandonedLock but {acquired}")
        finish(process, -signal.SIGKILL)
    condition, barrier = context.Condition(), context.Barrier(3)
    semaphore, counter = context.BoundedSemaphore(2), context.Value("i", 0)
    with condition:
        args = (condition, barrier, semaphore, counter)
        processes = [child_of(context, work, *args) for _ in range(2)]
        barrier.wait(30)
        assert condition.wait_for(lambda: counter.value == 200, 30)
    for process in processes:
        finish(process)


def answer(end: Any) -> None:
    while (message := end.recv()) is not None:
        end.send(message)


def pipes(context: Any) -> None:
    mine, theirs = context.Pipe()
    process = child_of(context, answer, theirs)
    theirs.close()
    assert not mine.poll(0)
    for message in (1, "two", b"3" * LARGE):
        mine.send(message)
        assert connection.wait([mine], 30) == [mine]
        assert mine.recv() == message
    mine.send(None)
    finish(process)
    mine.close()


def add(value: Any, numbers: Any) -> None:
    with value.get_lock():
        value.value += 2.5
    for index in range(len(numbers)):
        numbers[index] += index


def values(context: Any) -> None:
    value, numbers = context.Value("d", 1.5), context.Array("q", 1000)
    finish(child_of(context, add, value, numbers))
    assert value.value == 4.0 and numbers[:] == list(range(1000))


def put_square(queue: Any, number: int) -> None:
    queue.put(number * number)


def cube(number: int) -> int:
    return number**3


def pools(context: Any) -> None:
    """Tasks, errors, a killed worker and its successor, an executor, functions by value."""
    pool = context.Pool(2)
    assert pool.map(cube, range(20), 3) == [number**3 for number in range(20)]
    three = 3
    assert pool.apply(lambda number: number * three, (14,)) == 42
    # (Large ones go through a queue above; files of a megabyte have no room for them here.)
    assert list(pool.imap(len, [b"." * SMALL, b"." * 70_000])) == [SMALL, 70_000]
    try:
        pool.apply(end, (5,))
        raise AssertionError("SystemExit was lost")
    except SystemExit as error:
        assert error.code == 5
    try:
        pool.apply(die)
        raise AssertionError("a death was not told")
    except WorkerDied as error:
        assert error.exitcode == -signal.SIGKILL
    assert pool.map(cube, range(6)) == [number**3 for number in range(6)]
    pool.close()
    pool.join()
    with bequeath.ProcessPoolExecutor(2, mp_context=context) as executor:
        assert executor.submit(cube, 3).result(30) == 27
        assert sorted(executor.map(cube, range(4))) == [0, 1, 8, 27]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def programs(context: Any) -> None:
    """`bequeath run` of a program that knows only multiprocessing."""
    method = context.get_start_method()
    command = [sys.executable, "-m", "bequeath", "run", __file__, "--foreign", method]
    report = int(os.environ["SCENARIOS_REPORT"])
    done = subprocess.run(command, pass_fds=[report], check=False)
    assert done.returncode == 0, done


def foreign(method: str) -> None:
    import multiprocessing

    assert multiprocessing.get_context is bequeath.get_context
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    processes = [child_of(context, put_square, queue, number) for number in range(3)]
    assert sorted(queue.get(timeout=30) for _ in processes) == [0, 1, 4]
    for process in processes:
        finish(process)


SCENARIOS = (
    starts,
    handles,
    daemons_of_the_killed,
    queues,
    locks,
    pipes,
    values,
    programs,
    pools,
)


def open_descriptors() -> list[int]:
    found = []
    for fd in range(3, 200):
        try:
            os.fstat(fd)
        except OSError:
            continue
        found.append(fd)
    return found


def folder(path: str) -> set[str]:
    try:
        return set(os.listdir(path))
    except OSError:
        return set()


def main(methods: list[str]) -> None:
    util.log_to_stderr  # noqa: B018 - loaded before descriptors are counted
    import ctypes  # noqa: F401 - libffi keeps its own file open

    # Folders that nobody else uses meanwhile.
    own = [os.environ[name] for name in ("TMPDIR", "CONFINED_OWN") if name in os.environ]
    folders = {path: folder(path) for path in own}
    opened: dict[str, int] = {}
    for method in methods:
        context = bequeath.get_context(method)
        # What lives as long as the program, templates above all, comes with the first child.
        starts(context)
        queues(context)
        # Where there are no pidfds, a worker's lifeline is closed at the next start of one.
        with context.Pool(2) as pool:
            pool.map(cube, range(2), 1)
        pool.join()
        before = len(open_descriptors())
        for scenario in SCENARIOS:
            scenario(context)
            assert not bequeath.active_children()
            say(f"{method} {scenario.__name__}")
        opened[method] = len(open_descriptors()) - before
    assert all(more <= 0 for more in opened.values()), f"descriptors left open: {opened}"
    left = {path: folder(path) - before for path, before in folders.items()}
    assert not any(left.values()), f"files left: {left}"
    say("nothing left behind")


def say(text: str) -> None:
    """To the file that the test reads; standard output may be closed."""
    os.write(int(os.environ["SCENARIOS_REPORT"]), f"{text}\n".encode())


if __name__ == "__main__":
    if sys.argv[1] == "--foreign":
        foreign(sys.argv[2])
    else:
        main(sys.argv[1:])
