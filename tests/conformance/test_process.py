"""Processes: what `Process` promises, on both implementations and by every start method."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from program import prints, run


def nothing() -> None:
    pass


def wait_for_ever(ready: Any = None) -> None:
    if ready is not None:
        ready.send(os.getpid())
    signal.pause()


def leave(how: Any) -> None:
    sys.exit(how)


def fail() -> None:
    sys.stderr = open(os.devnull, "w")
    raise LookupError("on purpose")


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


def tell(connection: Any, fact: str) -> None:
    connection.send(FACTS[fact]())


FACTS: dict[str, Any] = {
    "pid": os.getpid,
    "stdin": lambda: sys.stdin.read(),
    "comm": lambda: Path("/proc/self/comm").read_text().strip(),
    "argv": lambda: sys.argv,
    "flags": lambda: tuple(sys.flags),
}


def ask(mp: Implementation, fact: str, **options: Any) -> Any:
    receiver, sender = mp.Pipe(False)
    process = mp.Process(target=tell, args=(sender, fact), **options)
    process.start()
    answer = receiver.recv()
    process.join()
    process.close()
    receiver.close()
    sender.close()
    return answer


# --- the life of a process -----------------------------------------------------------------------


def test_target_gets_its_arguments(mp: Implementation) -> None:
    receiver, sender = mp.Pipe(False)
    process = mp.Process(target=sender.send, args=(["one", 2],))
    process.start()
    assert receiver.recv() == ["one", 2]
    process.join()
    assert process.exitcode == 0


@pytest.mark.parametrize(
    ("target", "arguments", "code"),
    [
        (nothing, (), 0),
        (leave, (None,), 0),
        (leave, (0,), 0),
        (leave, (7,), 7),
        (leave, (True,), 1),
        (leave, (300,), 300 & 0xFF),
        (fail, (), 1),
        (os._exit, (5,), 5),
        (end_by, (signal.SIGKILL,), -signal.SIGKILL),
        (end_by, (signal.SIGUSR1,), -signal.SIGUSR1),
    ],
    ids=str,
)
def test_exit_code(mp: Implementation, target: Any, arguments: tuple[Any, ...], code: int) -> None:
    process = mp.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == code


@pytest.mark.parametrize("method", ["terminate", "kill"])
def test_a_signal_sent_right_after_the_start_ends_the_child(
    mp: Implementation, method: str
) -> None:
    for _ in range(5):
        process = mp.Process(target=wait_for_ever)
        process.start()
        getattr(process, method)()
        process.join()
        expected = signal.SIGTERM if method == "terminate" else signal.SIGKILL
        assert process.exitcode == -expected


def test_interrupt_raises_keyboard_interrupt(ours: Implementation) -> None:
    receiver, sender = ours.Pipe(False)
    process = ours.Process(target=interrupted, args=(sender,))
    process.start()
    receiver.recv()
    process.interrupt()
    assert receiver.recv() == "interrupted"
    process.join()
    assert process.exitcode == 0


def interrupted(connection: Any) -> None:
    try:
        connection.send("ready")
        while True:
            time.sleep(60)
    except KeyboardInterrupt:
        connection.send("interrupted")


def test_attributes_before_and_after(mp: Implementation) -> None:
    process = mp.Process(target=nothing, name="a name", daemon=True)
    assert (process.name, process.daemon) == ("a name", True)
    assert process.pid is process.ident is process.exitcode is None
    assert not process.is_alive()
    with pytest.raises(ValueError, match="process not started"):
        process.sentinel  # noqa: B018
    with pytest.raises(AssertionError, match="can only join a started process"):
        process.join()
    assert " initial " in repr(process)
    process.start()
    pid = process.pid
    assert pid == process.ident
    with pytest.raises(AssertionError, match="cannot start a process twice"):
        process.start()
    with pytest.raises(AssertionError, match="process has already started"):
        process.daemon = False
    process.join()
    assert (process.exitcode, process.is_alive(), process.pid) == (0, False, pid)
    assert f"pid={pid} " in repr(process) and "stopped exitcode=0 daemon" in repr(process)
    process.close()
    assert "closed" in repr(process)
    for attribute in ("pid", "exitcode", "sentinel"):
        with pytest.raises(ValueError, match="process object is closed"):
            getattr(process, attribute)


def test_close_is_refused_while_the_process_runs(mp: Implementation) -> None:
    process = mp.Process(target=wait_for_ever)
    process.start()
    with pytest.raises(ValueError, match="still running"):
        process.close()
    process.kill()
    process.join()
    assert repr(process).endswith("exitcode=-SIGKILL>")


def test_join_comes_back_at_its_timeout(mp: Implementation) -> None:
    process = mp.Process(target=wait_for_ever)
    process.start()
    assert process.join(0) is process.join(-1) is None
    before = time.monotonic()
    process.join(0.1)
    assert time.monotonic() - before >= 0.1
    assert process.is_alive() and process.exitcode is None
    assert process in mp.package.active_children()
    process.terminate()
    process.join(1e6)
    assert process not in mp.package.active_children()


def test_sentinel_is_ready_when_the_process_has_ended(mp: Implementation) -> None:
    wait = mp.module("connection").wait
    process = mp.Process(target=wait_for_ever)
    process.start()
    assert wait([process.sentinel], 0) == []
    process.terminate()
    assert wait([process.sentinel], 30) == [process.sentinel]
    process.join()


def test_names_count(mp: Implementation) -> None:
    first, second = mp.Process(), mp.Process()
    kind, _, number = first.name.rpartition("-")
    assert kind == type(first).__name__
    assert second.name == f"{kind}-{int(number) + 1}"


def test_subclasses_override_run(mp: Implementation, tmp_path: Path) -> None:
    prints(
        mp,
        tmp_path,
        """
        class Doubling(context.Process):
            def __init__(self, value, answer):
                super().__init__(name="doubling")
                self.value, self.answer = value, answer
            def run(self):
                self.answer.send((self.value * 2, self.name, mp.current_process() is self))
        """,
        """
        receiver, sender = context.Pipe(False)
        process = Doubling(21, sender)
        process.start()
        print(receiver.recv())
        process.join()
        print(process.exitcode)
        """,
        """
        (42, 'doubling', True)
        0
        """,
    )


def family(connection: Any, mp: Implementation) -> None:
    parent = mp.package.parent_process()
    connection.send(
        (
            mp.package.current_process().name,
            parent.name,
            parent.pid,
            parent.is_alive(),
            mp.package.active_children(),
        )
    )


def test_the_child_knows_itself_and_its_parent(mp: Implementation) -> None:
    receiver, sender = mp.Pipe(False)
    process = mp.Process(target=family, args=(sender, mp), name="younger")
    process.start()
    own_name = mp.package.current_process().name
    assert receiver.recv() == ("younger", own_name, os.getpid(), True, [])
    process.join()


def start_another(mp: Implementation, connection: Any, depth: int) -> None:
    if depth == 0:
        connection.send(mp.package.current_process().name)
        return
    process = mp.Process(target=start_another, args=(mp, connection, depth - 1))
    process.start()
    process.join()
    connection.send((process.exitcode, mp.package.parent_process() is not None))


def test_children_have_children(mp: Implementation) -> None:
    receiver, sender = mp.Pipe(False)
    process = mp.Process(target=start_another, args=(mp, sender, 2))
    process.start()
    innermost = receiver.recv()
    assert innermost.count(":") == 2
    assert [receiver.recv(), receiver.recv()] == [(0, True), (0, True)]
    process.join()
    assert process.exitcode == 0


def test_start_from_many_threads(mp: Implementation) -> None:
    processes = [mp.Process(target=leave, args=(n,)) for n in range(10)]
    threads = [threading.Thread(target=process.start) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == list(range(10))


# --- what the child finds ------------------------------------------------------------------------


def test_standard_input_is_empty(mp: Implementation) -> None:
    assert ask(mp, "stdin") == ""


def test_arguments_and_flags_are_the_parents(mp: Implementation) -> None:
    assert ask(mp, "argv") == sys.argv
    # A C locale turns the UTF-8 mode on, and is coerced to another one for the children.
    utf8_mode = 14
    ours, theirs = list(sys.flags), list(ask(mp, "flags"))
    assert sys.flags.utf8_mode == ours.pop(utf8_mode)
    theirs.pop(utf8_mode)
    assert theirs == ours


def test_the_kernel_shows_the_name(ours: Implementation) -> None:
    assert ask(ours, "comm", name="worker-7") == "worker-7"
    assert ask(ours, "comm", name="a name beyond fifteen bytes") == "a name beyond f"
    # Fifteen bytes, and no half character.
    assert ask(ours, "comm", name="ä" * 10) == "ä" * 7


def test_random_numbers_are_not_shared(mp: Implementation, tmp_path: Path) -> None:
    finished = run(
        mp,
        tmp_path,
        """
        import random
        def draw(connection): connection.send(random.random())
        """,
        """
        receiver, sender = context.Pipe(False)
        drawn = set()
        for _ in range(4):
            process = context.Process(target=draw, args=(sender,))
            process.start()
            drawn.add(receiver.recv())
            process.join()
        print(len(drawn))
        """,
    )
    assert finished.stdout == "4\n", finished.stderr


def test_a_generator_seeded_at_the_top_stays_seeded(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method == "fork":
        pytest.skip("a forked child continues its parent's generator, and the module renews it")
    finished = run(
        ours,
        tmp_path,
        """
        import random
        random.seed(1234)
        def draw(connection): connection.send(random.random())
        """,
        """
        receiver, sender = context.Pipe(False)
        for _ in range(3):
            process = context.Process(target=draw, args=(sender,))
            process.start()
            print(receiver.recv() == random.Random(1234).random())
            process.join()
        """,
    )
    assert finished.stdout == "True\n" * 3, finished.stderr


def test_exit_functions_run_and_files_are_written(mp: Implementation, tmp_path: Path) -> None:
    """An exec'ed child also writes what its program forgot to close."""
    if mp.name == "multiprocessing" and mp.start_method != "spawn" and sys.version_info < (3, 13):
        pytest.skip("before 3.13 only spawned children ran exit functions")
    finished = run(
        mp,
        tmp_path,
        """
        class Dying:
            def __del__(self): print("destructor", flush=True)
        def work():
            global forgotten, dying
            atexit.register(print, "exit function", flush=True)
            forgotten = open(sys.argv[0] + ".written", "w")
            forgotten.write("all of it")
            dying = Dying()
            print("work", flush=True)
        """,
        """
        process = context.Process(target=work)
        process.start()
        process.join()
        print(process.exitcode, repr(open(sys.argv[0] + ".written").read()))
        """,
    )
    # The standard library's runs destructors of main no more since 3.14.
    dies = mp.name == "bequeath" or sys.version_info < (3, 14)
    spawned = mp.start_method == "spawn"
    lines = finished.stdout.splitlines()
    assert lines[:2] == ["work", "exit function"], finished
    if spawned:
        assert lines[2:] == ["destructor"] * dies + ["0 'all of it'"], finished


def test_output_goes_where_the_parents_goes_now(mp: Implementation, tmp_path: Path) -> None:
    finished = run(
        mp,
        tmp_path,
        "def work(): print('from the child'); print('error', file=sys.stderr)",
        """
        first = context.Process(target=int); first.start(); first.join()
        file = os.open(sys.argv[0] + ".out", os.O_CREAT | os.O_WRONLY)
        before = os.dup(1)
        os.dup2(file, 1)
        process = context.Process(target=work); process.start(); process.join()
        os.dup2(before, 1)
        print("rest", open(sys.argv[0] + ".out").read().split())
        """,
    )
    if mp.name == "multiprocessing" and mp.start_method == "forkserver":
        pytest.skip("the standard server keeps the streams that it was started with")
    assert finished.stdout == "rest ['from', 'the', 'child']\n", finished
    assert finished.stderr == "error\n"


def test_only_what_is_handed_over_stays_open(mp: Implementation, tmp_path: Path) -> None:
    if mp.start_method == "fork":
        pytest.skip("a forked child has every descriptor of its parent")
    finished = run(
        mp,
        tmp_path,
        """
        def look(connection, number):
            try:
                connection.send(os.fstat(number).st_ino)
            except OSError:
                connection.send(None)
        """,
        """
        reader, writer = os.pipe()
        os.set_inheritable(reader, True)
        high = os.dup2(reader, 200)
        receiver, sender = context.Pipe(False)
        process = context.Process(target=look, args=(sender, high))
        process.start()
        print(receiver.recv())
        process.join()
        """,
    )
    assert finished.stdout == "None\n", finished


# --- unhappy starts ------------------------------------------------------------------------------


def test_uncaught_exceptions_are_written_with_the_name(mp: Implementation, tmp_path: Path) -> None:
    finished = run(
        mp,
        tmp_path,
        "def work(): raise LookupError('on purpose')",
        """
        process = context.Process(target=work, name="unlucky")
        process.start()
        process.join()
        print(process.exitcode)
        """,
    )
    assert finished.stdout == "1\n"
    assert finished.stderr.startswith("Process unlucky:\nTraceback (most recent call last):\n")
    assert finished.stderr.endswith("LookupError: on purpose\n")


def test_a_program_without_the_guard_is_told(mp: Implementation, tmp_path: Path) -> None:
    if mp.start_method == "fork":
        pytest.skip("a forked child does not load its main module again")
    script = tmp_path / "unguarded.py"
    script.write_text(
        f"import {mp.name} as mp, sys\n"
        f"process = mp.get_context({mp.start_method!r}).Process(target=print)\n"
        "process.start()\nprocess.join()\nsys.exit(process.exitcode)\n"
    )
    import subprocess

    finished = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60
    )
    assert finished.returncode == 1
    assert "bootstrapping phase" in finished.stderr and finished.stdout == ""


# --- the end of a parent -------------------------------------------------------------------------


def test_an_orderly_end_ends_daemons_and_waits_for_others(
    mp: Implementation, tmp_path: Path
) -> None:
    finished = run(
        mp,
        tmp_path,
        """
        def sleep(): time.sleep(600)
        def write(): time.sleep(0.2); print("written", flush=True)
        """,
        """
        context.Process(target=sleep, daemon=True).start()
        context.Process(target=write).start()
        print("main ends", flush=True)
        """,
    )
    assert (finished.stdout, finished.returncode) == ("main ends\nwritten\n", 0), finished


PARENT = """
def sleep(connection, name):
    for stream in (1, 2):  # whoever reads them waits for all who hold them
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    connection.send((name, os.getpid()))
    time.sleep(600)
def middle(connection, name, daemon):
    child = context.Process(target=sleep, args=(connection, name + " below"), daemon=daemon)
    child.start()
    connection.send((name, os.getpid()))
    time.sleep(600)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    return wait_until(lambda: not any(is_running(pid) for pid in pids))


def wait_until(condition: Any) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def start_and_kill_the_parent(
    mp: Implementation, folder: Path, starts: str, count: int
) -> dict[str, int]:
    """Runs a program that starts children, and kills it once all have told their pids."""
    finished = run(
        mp,
        folder,
        PARENT,
        f"""
        receiver, sender = context.Pipe(False)
        {starts}
        for _ in range({count}):
            print(*receiver.recv(), sep="=", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert finished.returncode == -signal.SIGKILL, finished
    pairs = (line.split("=") for line in finished.stdout.splitlines())
    return {name: int(pid) for name, pid in pairs}


def test_daemons_die_with_a_killed_parent(ours: Implementation, tmp_path: Path) -> None:
    """At every depth, and also when the thread that started them has long ended."""
    pids = start_and_kill_the_parent(
        ours,
        tmp_path,
        """
    daemon = context.Process(target=sleep, args=(sender, "daemon"), daemon=True)
        thread = threading.Thread(target=daemon.start); thread.start(); thread.join()
        context.Process(target=middle, args=(sender, "middle", False), daemon=True).start()
        context.Process(target=middle, args=(sender, "third", True), daemon=True).start()
        """.strip(),
        5,
    )
    assert len(pids) == 5
    assert gone(*pids.values())


def test_others_outlive_a_killed_parent(ours: Implementation, tmp_path: Path) -> None:
    log = tmp_path / "log"
    finished = run(
        ours,
        tmp_path,
        f"""
        def outlive(connection):
            parent = mp.parent_process()
            connection.send(os.getpid())
            parent.join()
            with open({str(log)!r}, "w") as file:
                file.write(f"{{parent.is_alive()}} {{parent.name}}")
        """,
        """
        receiver, sender = context.Pipe(False)
        context.Process(target=outlive, args=(sender,)).start()
        print(receiver.recv(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    assert gone(int(finished.stdout))
    assert log.read_text() == "False MainProcess"


def test_a_child_can_be_tied(ours: Implementation, tmp_path: Path) -> None:
    pids = start_and_kill_the_parent(
        ours,
        tmp_path,
        """
    context.Process(target=sleep, args=(sender, "tied"), on_parent_death="terminate").start()
        context.Process(target=sleep, args=(sender, "free")).start()
        """.strip(),
        2,
    )
    assert gone(pids["tied"])
    assert is_running(pids["free"])
    os.kill(pids["free"], signal.SIGKILL)
    assert gone(pids["free"])


def test_daemons_may_have_children_unless_strict(ours: Implementation, tmp_path: Path) -> None:
    definitions = """
        def child(connection): connection.send("grandchild")
        def daemon(connection):
            process = context.Process(target=child, args=(connection,))
            try:
                process.start()
            except AssertionError as error:
                connection.send(str(error))
            else:
                process.join()
        """
    body = """
        receiver, sender = context.Pipe(False)
        process = context.Process(target=daemon, args=(sender,), daemon=True)
        process.start()
        print(receiver.recv())
        process.join()
        """
    prints(ours, tmp_path, definitions, body, "grandchild")
    refusal = "daemonic processes are not allowed to have children"
    prints(ours, tmp_path, definitions, body, refusal, {"BEQUEATH_STRICT": "1"})


def test_an_unknown_end_is_refused(ours: Implementation) -> None:
    with pytest.raises(ValueError, match="on_parent_death must be"):
        ours.Process(on_parent_death="resurrect")


def test_a_start_does_not_choose_the_start_method(ours: Implementation, tmp_path: Path) -> None:
    definitions = """
        def child(connection): connection.send(mp.get_all_start_methods()[0])
        """
    # Another default than the platform's, as `bequeath run --start-method` sets: children have it.
    body = """
        from bequeath.context import _default_context
        _default_context._default_context = mp.get_context("spawn")
        print(answered(child), mp.get_start_method(allow_none=True))
        """
    prints(ours, tmp_path, definitions, body, "spawn None")
