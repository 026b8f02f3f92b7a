"""`bequeath inspect`: what it finds in programs that are stuck, stopped, dying or none of ours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bequeath
from implementation import Implementation

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
COMMAND = [sys.executable, "-m", "bequeath", "inspect"]

DEADLOCK = """
import sys
import bequeath

def other(first, second, ready):
    with first:
        ready.set()
        with second:
            pass

if __name__ == "__main__":
    bequeath.set_start_method(sys.argv[1])
    first = bequeath.Lock()
    second = bequeath.RLock()
    ready = bequeath.Event()
    child = bequeath.Process(target=other, args=(first, second, ready), name="the other one")
    with second:
        child.start()
        ready.wait()
        with first:
            pass
"""


@contextmanager
def running(folder: Path, source: str, *arguments: str, **options: Any) -> Iterator[Any]:
    """A program with a process group of its own, all of which is killed at the end."""
    script = folder / "stuck.py"
    script.write_text(textwrap.dedent(source))
    program = subprocess.Popen(
        [sys.executable, str(script), *arguments], start_new_session=True, **options
    )
    try:
        yield program
    finally:
        end_group(program)
        for stream in (program.stdin, program.stdout, program.stderr):
            if stream is not None:
                stream.close()


def end_group(program: Any) -> None:
    """Kills what is left of the program, and reaps what became ours (where we are process 1)."""
    try:
        os.killpg(program.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it has ended
    program.wait()
    enough = time.monotonic() + 5  # where nobody reaps orphans, zombies stay
    while time.monotonic() < enough:
        try:
            os.waitpid(-program.pid, os.WNOHANG)
        except ChildProcessError:
            pass
        try:
            os.killpg(program.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.005)


def found(pid: int, wanted: Callable[[Any], bool]) -> Any:
    """The first session of the process, once it is as wanted."""
    while True:
        try:
            session = bequeath.inspect(pid)["sessions"][0]
        except RuntimeError:  # it has none yet
            session = None
        if session is not None and wanted(session):
            return session
        time.sleep(0.01)


def is_deadlocked(session: Any) -> bool:
    return bool(session["cycles"])


def check_deadlock(session: Any, main: int, method: str) -> None:
    (cycle,) = session["cycles"]
    links = {link["pid"]: link for link in cycle}
    (child,) = set(links) - {main}
    assert links[main]["object_name"].startswith("Lock ")
    assert links[main]["object_name"].endswith("stuck.py:13")
    assert links[child]["object_name"].startswith("RLock ")
    assert links[child]["object_name"].endswith("stuck.py:14")
    assert links[child]["process"] == "the other one"
    locks = {lock["name"]: lock for lock in session["locks"]}
    wanted, held = (locks[links[pid]["object_name"]] for pid in (main, child))
    assert (wanted["owner"]["pid"], wanted["waiting"]) == (child, [main])
    assert (held["owner"]["pid"], held["waiting"]) == (main, [child])
    assert wanted["held_seconds"] >= 0
    roles = {process["pid"]: process["role"] for process in session["processes"]}
    assert roles[main] == "program" and roles[child] == method
    assert (f"template of {method}" in roles.values()) == (method != "fork")


def test_a_deadlock_is_found_also_in_a_stopped_program(
    ours: Implementation, tmp_path: Path
) -> None:
    method = ours.start_method
    with running(tmp_path, DEADLOCK, method) as program:
        session = found(program.pid, is_deadlocked)
        check_deadlock(session, program.pid, method)
        os.killpg(program.pid, signal.SIGSTOP)
        members = [process["pid"] for process in session["processes"]]
        session = found(program.pid, lambda s: all(p["state"] == "stopped" for p in s["processes"]))
        assert [process["pid"] for process in session["processes"]] == members
        check_deadlock(session, program.pid, method)
        # From any process of the session the same is seen.
        for pid in members:
            check_deadlock(bequeath.inspect(pid)["sessions"][0], program.pid, method)
        shown = subprocess.run([*COMMAND, "--waits", str(program.pid)], capture_output=True)
        text = shown.stdout.decode()
        assert "DEADLOCK" in text and "the other one" in text and "stuck.py:13" in text


def test_a_queue_says_how_full_it_is_and_who_waits(ours: Implementation) -> None:
    queue, empty = ours.Queue(3), ours.Queue()
    for number in range(3):
        queue.put(b"x" * number)
    child = ours.Process(target=empty.get)
    child.start()

    line = test_a_queue_says_how_full_it_is_and_who_waits.__code__.co_firstlineno + 1

    def waited(queue: Any) -> bool:
        # One look reads who has what before who waits, and the child begins in between.
        return queue["receivers_waiting"] == [child.pid] and child.pid in queue["used_by"]

    queues = found(os.getpid(), lambda s: any(map(waited, s["queues"])))["queues"]
    full = [q for q in queues if q["capacity"] == 3 and q["depth"] == 3][-1]
    assert full["senders"] == [{"pid": os.getpid(), "messages": 3}]
    assert full["made_at"].endswith(f"test_inspect.py:{line}")
    assert full["bytes"] >= 3 and full["made_by"] == os.getpid()
    waited_for = next(filter(waited, queues))
    assert waited_for["depth"] == 0 and not waited_for["starved"]
    assert os.getpid() in waited_for["used_by"]
    empty.put(None)
    child.join()


def take(queue: Any, taken: Any) -> None:
    queue.get()
    taken.set()
    signal.pause()


def test_a_queue_says_who_used_it_last_and_who_else_has_it(ours: Implementation) -> None:
    queue, taken = ours.Queue(), ours.Event()
    queue.put("taken")
    child = ours.Process(target=take, args=(queue, taken), name="taker")
    child.start()
    taken.wait()
    line = test_a_queue_says_who_used_it_last_and_who_else_has_it.__code__.co_firstlineno + 1
    session = bequeath.inspect()
    (seen,) = (
        q
        for q in session["sessions"][0]["queues"]
        if q["name"].endswith(f"test_inspect.py:{line}") and child.pid in q["used_by"]
    )
    assert (seen["depth"], seen["last_sender"]) == (0, os.getpid())
    assert seen["last_receiver"] == child.pid
    assert f"last taken by taker ({child.pid})" in str(session)
    child.kill()
    child.join()


def lock_of(seen: Any, lock: Any) -> Any:
    """The lock in what was seen; its `_semlock` tells its place."""
    (found,) = (one for one in seen["locks"] if one["id"].startswith(place_of(lock)))
    return found


def place_of(lock: Any) -> str:
    return f"object {lock._semlock.handle:#x}."


@pytest.mark.parametrize("kind", ["Lock", "RLock"])
def test_looks_prove_the_age_of_a_lock_for_which_nobody_waits(kind: str) -> None:
    lock = getattr(bequeath, kind)()

    def look() -> Any:
        return lock_of(bequeath.inspect()["sessions"][0], lock)

    lock.acquire()
    first = look()
    assert (first["times"], first["held_seconds"]) == (1, None)
    second, third = look(), look()
    assert 0 < second["held_seconds"] < third["held_seconds"] and not third["held_exactly"]
    # The same thread again is another holding.
    lock.release()
    lock.acquire()
    again = look()
    assert (again["times"], again["held_seconds"]) == (2, None)
    assert look()["held_seconds"] > 0
    lock.release()
    assert look()["held_seconds"] is None


def test_a_single_look_knows_that_a_holder_has_not_run(ours: Implementation) -> None:
    if not Path("/proc/self/sched").exists():
        pytest.skip("this kernel does not tell when a thread ran last")
    lock, ready = ours.Lock(), ours.Event()
    child = ours.Process(target=die_with, args=(lock, ready))
    child.start()
    ready.wait()
    number = str(os.getpid())
    while True:  # each look is a stranger's
        seen = json.loads(subprocess.check_output([*COMMAND, "--json", number]))
        held = lock_of(seen["sessions"][0], lock)
        assert held["owner"]["pid"] == child.pid
        if (held["held_seconds"] or 0) > 0.3:
            break
    child.kill()
    child.join()
    lock.release()


def die_with(lock: Any, ready: Any) -> None:
    lock.acquire()
    ready.set()
    signal.pause()


def test_a_death_has_its_cause_and_what_the_dead_holds(ours: Implementation) -> None:
    lock, ready = ours.Lock(), ours.Event()
    child = ours.Process(target=die_with, args=(lock, ready), name="doomed")
    child.start()
    ready.wait()
    child.kill()
    child.join()
    leaver = ours.Process(target=sys.exit, args=(7,), name="leaver")
    leaver.start()
    leaver.join()
    deaths = {death["pid"]: death for death in bequeath.inspect()["sessions"][0]["deaths"]}
    assert deaths[child.pid]["code"] == -signal.SIGKILL
    assert deaths[child.pid]["name"] == "doomed"
    assert "SIGKILL" in deaths[child.pid]["cause"]
    (held,) = deaths[child.pid]["holds"]
    assert held.startswith("Lock ") and "test_inspect.py" in held
    assert (deaths[leaver.pid]["code"], deaths[leaver.pid]["holds"]) == (7, [])
    assert deaths[leaver.pid]["role"] == ours.start_method
    lock.release()


SAME_NUMBER = """
import json, os, sys, time
import bequeath

def ticks():
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

context = bequeath.get_context("fork")
leave = context.Process(target=sys.exit, args=(3,), name="first")
leave.start()
leave.join()
try:
    with open("/proc/sys/kernel/ns_last_pid", "w") as last:
        last.write(str(leave.pid - 1))
except OSError as error:
    sys.exit(f"refused: {error}")
# A process is its number and the tick in which it started; no number comes again within one.
ended = ticks()
while ticks() == ended:
    pass
killed = context.Process(target=os.abort, name="second")
killed.start()
killed.join()
deaths = bequeath.inspect()["sessions"][0]["deaths"]
print(json.dumps([leave.pid == killed.pid, deaths]))
"""


def test_a_number_that_comes_again_is_told_of_its_latest_process(
    ours: Implementation, tmp_path: Path
) -> None:
    if ours.start_method != "fork":
        pytest.skip("who forks chooses the number: fork only")
    (tmp_path / "numbers.py").write_text(SAME_NUMBER)
    command = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    done = subprocess.run(
        [*command, sys.executable, str(tmp_path / "numbers.py")], capture_output=True, text=True
    )
    if done.returncode and ("refused: " in done.stderr or done.stderr.startswith("unshare: ")):
        pytest.skip(f"no number can be asked for here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    same, deaths = json.loads(done.stdout)
    assert same
    told = [(death["name"], death["code"]) for death in deaths]
    assert told == [("first", 3), ("second", -signal.SIGABRT)]


def test_the_memory_is_accounted_for(ours: Implementation) -> None:
    queue = ours.Queue()
    queue.put(bytes(1 << 20))
    value = ours.Array("b", 1 << 18, lock=False)
    memory = bequeath.inspect()["sessions"][0]["memory"]
    kinds = {usage["kind"]: usage["bytes"] for usage in memory["kinds"]}
    assert kinds["messages in queues"] >= 1 << 20
    assert kinds["values and arrays"] >= 1 << 18
    assert sum(kinds.values()) >= memory["used"] and memory["used"] <= memory["limit"]
    assert len(queue.get()) == 1 << 20 and len(value) == 1 << 18


def churn(stop: Any, objects: Any) -> None:
    """Blocks of all sizes, objects, and memory that is given back all the time."""
    from bequeath import _engine

    queue = objects.Queue()
    limit = _engine.session_info()["limit"]
    while not stop.is_set():
        for size in (100, 5000, 70_000, 3_000_000):
            queue.put((bytearray(size), objects.Lock()))
        kept = [queue.get() for _ in range(4)], objects.Array("d", 3000)
        # So little that nothing is kept for the next use.
        _engine.session_set_limit(64 << 20)
        del kept
        _engine.session_set_limit(limit)


def test_looks_at_an_arena_that_grows_and_shrinks_under_dying_users(ours: Implementation) -> None:
    if ours.start_method != "fork":
        pytest.skip("the start method does not matter: fork")
    lock, stop = ours.Lock(), ours.Event()
    lock.acquire()

    def started() -> Any:
        worker = ours.Process(target=churn, args=(stop, ours))
        worker.start()
        return worker

    workers = [started() for _ in range(3)]
    depths = set()
    for look in range(120 if LONG else 20):
        (session,) = json.loads(json.dumps(bequeath.inspect()))["sessions"]
        held = lock_of(session, lock)
        assert held["owner"]["pid"] == os.getpid() and held["steady"] and not held["abandoned"]
        memory = session["memory"]
        assert memory["used"] <= memory["size"] and all(it["bytes"] >= 0 for it in memory["kinds"])
        depths |= {queue["depth"] for queue in session["queues"]}
        assert session["id"][:8] in str(bequeath.inspect())
        if look % 5 == 4:
            workers[0].kill()
            workers.append(started())
            workers.pop(0).join()
    stop.set()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    lock.release()
    assert depths - {0}


def crunch(started: Any) -> None:
    started.release()
    signal.pause()


def test_a_pool_says_which_worker_does_what_since_when(ours: Implementation) -> None:
    line = test_a_pool_says_which_worker_does_what_since_when.__code__.co_firstlineno + 2
    pool = ours.Pool(2)
    started = ours.Semaphore(0)
    pool.apply(abs, (-1,))
    task = pool.apply_async(crunch, (started,))
    started.acquire()

    def seen() -> Any:
        pools = bequeath.inspect()["sessions"][0]["pools"]
        (one,) = (one for one in pools if one["name"].endswith(f"test_inspect.py:{line}"))
        return one

    while len((found := seen())["workers"]) < 2:
        time.sleep(0.01)
    assert found["name"].startswith("Pool ") and found["made_by"] == os.getpid()
    workers = found["workers"]
    assert {worker["pid"] for worker in workers} == {one.pid for one in pool._pool}
    (busy,) = (worker for worker in workers if worker["task"] is not None)
    (idle,) = (worker for worker in workers if worker["task"] is None)
    assert (busy["function"], idle["function"]) == ("crunch", None)
    assert busy["task_seconds"] < seen_of(seen(), busy["pid"])["task_seconds"]
    assert sum(worker["tasks_done"] for worker in workers) == 1
    assert all(worker["alive"] for worker in workers)
    text = str(bequeath.inspect())
    assert f"({busy['pid']}): task 1, crunch, for " in text
    os.kill(busy["pid"], signal.SIGKILL)
    with pytest.raises(ours.module("exceptions").WorkerDied):
        task.get()
    # The pool has another soon, and the dead one's words stand as they were as long as it knows it.
    while sum(worker["alive"] for worker in seen()["workers"]) < 2:
        time.sleep(0.01)
    for worker in seen()["workers"]:
        if worker["pid"] == busy["pid"]:
            dead = (worker["alive"], worker["task"], worker["function"], worker["task_seconds"])
            assert dead == (False, 1, "crunch", None)
            assert f"({busy['pid']}, dead): had task 1, crunch" in str(bequeath.inspect())
    pool.terminate()
    pool.join()


def seen_of(pool: Any, pid: int) -> Any:
    (worker,) = (worker for worker in pool["workers"] if worker["pid"] == pid)
    return worker


STARTS = """
import sys, bequeath

def work(ready):
    ready.set()

if __name__ == "__main__":
    bequeath.set_start_method(sys.argv[1])
    ready = bequeath.Event()
    while True:
        child = bequeath.Process(target=work, args=(ready,))
        child.start()
        child.join()
        print("round", flush=True)
"""


def test_looks_at_a_program_that_starts_and_ends_children_all_the_time(
    ours: Implementation, tmp_path: Path
) -> None:
    """Half started, exiting, gone while it is read: each look is whole, or says why not."""
    pipes: Any = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with running(tmp_path, STARTS, ours.start_method, **pipes) as program:
        assert program.stdout.readline() == b"round\n"
        roles = set()
        for _ in range(100 if LONG else 12):
            (session,) = bequeath.inspect(program.pid)["sessions"]
            roles |= {process["role"] for process in session["processes"]}
            for process in session["processes"]:
                # From one that may be gone by now.
                try:
                    bequeath.inspect(process["pid"])
                except (ProcessLookupError, RuntimeError, PermissionError):
                    pass
        assert {"program", ours.start_method} <= roles
        program.kill()
        while True:
            try:
                bequeath.inspect(program.pid)
            except (ProcessLookupError, RuntimeError):
                break


def test_what_waits_for_conditions_barriers_and_semaphores_is_told(ours: Implementation) -> None:
    barrier, semaphore = ours.Barrier(2), ours.Semaphore(0)
    children = [ours.Process(target=barrier.wait), ours.Process(target=semaphore.acquire)]
    for child in children:
        child.start()

    def both_wait(session: Any) -> bool:
        waits = {wait["pid"]: wait["object_name"].partition(" ")[0] for wait in session["waits"]}
        kinds = [waits.get(child.pid) for child in children]
        return kinds == ["Barrier", "Semaphore"]

    session = found(os.getpid(), both_wait)
    there = [b for b in session["barriers"] if b["arrived"] == 1]
    assert [b["present"] for b in there] == [[children[0].pid]]
    assert [s["waiting"] for s in session["semaphores"] if s["waiting"]] == [[children[1].pid]]
    semaphore.release()
    barrier.wait()
    for child in children:
        child.join()


def test_the_command_says_why_it_shows_nothing() -> None:
    stranger = subprocess.Popen(["sleep", "1000"])
    try:
        shown = subprocess.run([*COMMAND, str(stranger.pid)], capture_output=True, text=True)
        assert shown.returncode == 1 and not shown.stdout
        assert f"process {stranger.pid} is in no session of bequeath" in shown.stderr
        with pytest.raises(RuntimeError, match="in no session"):
            bequeath.inspect(stranger.pid)
    finally:
        stranger.kill()
        stranger.wait()
    # (Its number may be somebody's again, but not a member's of a session.)
    with pytest.raises((ProcessLookupError, RuntimeError)):
        bequeath.inspect(stranger.pid)
    gone = subprocess.run([*COMMAND, str(1 << 22)], capture_output=True, text=True)
    assert (gone.returncode, gone.stderr) == (1, f"bequeath: there is no process {1 << 22}\n")
    wrong = subprocess.run([*COMMAND, "-1"], capture_output=True, text=True)
    assert wrong.returncode == 2


def test_another_users_process_is_refused_in_a_sentence(ours: Implementation) -> None:
    ours.Lock()
    if os.geteuid() != 0:
        with pytest.raises(PermissionError, match="belongs to user root"):
            bequeath.inspect(1)
        return
    program = """if 1:
        import json, os, bequeath
        lock, me = bequeath.Lock(), os.getpid()
        child = os.fork()
        if child:
            raise SystemExit(os.waitpid(child, 0)[1])
        os.setgid(65534)
        os.setuid(65534)
        try:
            bequeath.inspect(me)
        except PermissionError as error:
            print(error, flush=True)
    """
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "belongs to user root (0)" in shown.stdout, shown


def test_the_command_prints_data_and_text(ours: Implementation) -> None:
    ours.Lock()
    shown = subprocess.run(
        [*COMMAND, "--json", str(os.getpid())], capture_output=True, text=True, check=True
    )
    report = json.loads(shown.stdout)
    assert (report["schema"], report["pid"]) == (1, os.getpid())
    assert report.keys() == bequeath.inspect().keys()
    shown = subprocess.run([*COMMAND, str(os.getpid())], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith(f"session {report['sessions'][0]['id'][:8]}: ")
    assert "\nprocesses\n" in shown.stdout and "\nmemory\n" in shown.stdout


WATCHED = """
import sys, bequeath
lock = bequeath.Lock()
print("there", flush=True)
sys.stdin.read()
"""


def test_watching_ends_with_the_program_and_with_ctrl_c(tmp_path: Path) -> None:
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(tmp_path, WATCHED, **pipes) as program:
        assert program.stdout.readline() == b"there\n"
        watch = [*COMMAND, "--watch", str(program.pid)]

        def restored() -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)

        first = subprocess.Popen(watch, stdout=subprocess.PIPE, preexec_fn=restored)
        assert first.stdout is not None
        assert first.stdout.readline().startswith(b"session")
        first.send_signal(signal.SIGINT)
        first.stdout.read()
        assert first.wait() == 0
        first.stdout.close()
        second = subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert second.stdout is not None and second.stderr is not None
        assert second.stdout.readline().startswith(b"session")
        program.stdin.close()
        program.wait()
        _, errors = second.communicate()
        assert second.returncode == 1 and b"bequeath: " in errors


DUMPED = """
import os, signal, sys
import bequeath

def work(queue):
    queue.get()

if __name__ == "__main__":
    bequeath.set_start_method(sys.argv[1])
    queue = bequeath.Queue()
    child = bequeath.Process(target=work, args=(queue,))
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


def test_a_signal_makes_each_process_print_it(ours: Implementation, tmp_path: Path) -> None:
    environment = {**os.environ, "BEQUEATH_DUMP_SIGNAL": "USR1"}
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment}
    with running(tmp_path, DUMPED, ours.start_method, **pipes) as program:
        child = int(program.stdout.readline())
        found(program.pid, lambda s: any(wait["pid"] == child for wait in s["waits"]))
        for pid in (child, program.pid):
            os.kill(pid, signal.SIGUSR1)
            assert program.stderr.readline() == f"bequeath: process {pid}\n".encode()
            text = b""
            while b"waits for a message of Queue" not in text:
                text = program.stderr.readline()
                assert text, "it ended instead"
            while b"tables, and slots" not in text and b"process " not in text:
                text = program.stderr.readline()
            # The rest of this text, up to its last section.
            while not text.startswith(b"waits"):
                text = program.stderr.readline()
            program.stderr.readline()
        assert program.poll() is None


WITHOUT = """
import sys
import bequeath

if __name__ == "__main__":
    context = bequeath.get_context("forkserver")
    context.set_forkserver_preload(["leaves_a_thread"])
    queue = context.Queue()
    child = context.Process(target=queue.get)
    child.start()
    print("there", flush=True)
    child.join()
"""


def test_a_template_says_which_modules_it_does_without(tmp_path: Path) -> None:
    (tmp_path / "leaves_a_thread.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='send', daemon=True).start()\n"
    )
    with running(tmp_path, WITHOUT, stdout=subprocess.PIPE) as program:
        assert program.stdout.readline() == b"there\n"
        session = found(
            program.pid, lambda s: any(p["role"] == "forkserver" for p in s["processes"])
        )
        kept_out = {process["role"]: process["kept_out"] for process in session["processes"]}
        assert kept_out["template of forkserver"] == [
            {"module": "leaves_a_thread", "left": "thread send"}
        ]
        # Its children have its command line, and import the module themselves.
        assert kept_out["forkserver"] == kept_out["program"] == []
        assert "does without leaves_a_thread (thread send)" in str(bequeath.inspect(program.pid))


def names_in(data: Any) -> Iterator[str]:
    """Every key of the data, however deep."""
    if isinstance(data, dict):
        yield from data
        for value in data.values():
            yield from names_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from names_in(value)


def test_the_document_names_every_key(ours: Implementation, tmp_path: Path) -> None:
    things = [ours.Queue(), ours.Lock(), ours.Semaphore(1), ours.Condition(), ours.Event()]
    things += [ours.Barrier(1), ours.Value("i")]
    pool = ours.Pool(1)
    pool.apply(abs, (1,))
    things[0].put(1)
    with running(tmp_path, DEADLOCK, ours.start_method) as program:
        session = found(program.pid, is_deadlocked)
    document = (Path(__file__).parent.parent / "docs" / "inspect.md").read_text()
    of_kept_out = {"module", "left"}
    for name in {*names_in(bequeath.inspect()), *names_in(session), *of_kept_out}:
        assert f"`{name}`" in document, name
    assert things[0].get() == 1
    pool.terminate()
    pool.join()
