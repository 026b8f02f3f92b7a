"""Templates: their children have the caller's state as after an exec; nobody sees the templates."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from implementation import Implementation
from program import prints, run

LOOK = """
def value(name):
    return {
        "cwd": os.getcwd,
        "umask": lambda: os.umask(0),
        "nice": lambda: os.nice(0),
        "limit": lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
        "variable": lambda: os.environ.get("BEQUEATH_TEST"),
        "putenv": lambda: os.popen("echo $BEQUEATH_TEST").read().strip(),
        "zone": lambda: time.tzname,
        "threads": lambda: os.environ.get("OMP_NUM_THREADS"),
        "blocked": lambda: sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))),
        "ignored": lambda: signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
        "interrupt": lambda: signal.getsignal(signal.SIGINT) == signal.SIG_IGN,
        "affinity": lambda: sorted(os.sched_getaffinity(0)),
        "policy": lambda: os.sched_getscheduler(0),
        "oom": lambda: open("/proc/self/oom_score_adj").read().strip(),
        "pgid": lambda: os.getpgid(0),
        "session": lambda: os.getsid(0),
        "path": lambda: sys.path,
        "argv": lambda: sys.argv,
    }[name]()
def tell(connection, name): connection.send(value(name))
def ask(name):
    return answered(tell, name)
"""

CHANGES = {
    "cwd": "os.chdir('/')",
    "umask": "os.umask(0o27)",
    "nice": "os.nice(3)",
    "limit": "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))",
    "variable": "os.environ['BEQUEATH_TEST'] = 'set'",
    "putenv": "os.putenv('BEQUEATH_TEST', 'put')",
    "zone": "os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
    "threads": "os.environ['OMP_NUM_THREADS'] = '3'",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2, signal.SIGTERM])",
    "ignored": "signal.signal(signal.SIGUSR1, signal.SIG_IGN)",
    "interrupt": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "affinity": "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "policy": "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    "oom": "open('/proc/self/oom_score_adj', 'w').write('77')",
    "pgid": "os.setpgid(0, 0) if os.getsid(0) != os.getpid() else None",
    "path": "sys.path.append('/nowhere')",
    "argv": "sys.argv.append('more')",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_child_has_the_state_of_this_moment(
    ours: Implementation, tmp_path: Path, name: str
) -> None:
    """The templates are there before the change: an exec'ed child would follow it, so does this."""
    finished = run(
        ours,
        tmp_path,
        LOOK,
        f"""
        first = ask({name!r})
        {CHANGES[name]}
        mine = value({name!r})
        if {name!r} == "umask": os.umask(mine)
        print(ask({name!r}) == mine, sep=" ")
        """,
    )
    assert finished.stdout == "True\n", finished


def test_a_new_session_is_followed_by_exec(ours: Implementation, tmp_path: Path) -> None:
    prints(
        ours,
        tmp_path,
        LOOK
        + """
def inner(connection):
    os.setsid()
    connection.send(ask("session") == os.getsid(0))
""",
        """
        ask("session")
        print(answered(inner))
        """,
        "True",
    )


def test_without_templates_children_are_the_callers_own(
    ours: Implementation, tmp_path: Path
) -> None:
    prints(
        ours,
        tmp_path,
        "def tell(connection): connection.send(os.getppid())",
        "print(answered(tell) == os.getpid())",
        "True",
        {"BEQUEATH_TEMPLATES": "0"},
    )


def members(session: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(entry.name)
    return found


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)"])
def test_nothing_is_left_when_the_program_ends(
    ours: Implementation, tmp_path: Path, end: str
) -> None:
    finished = run(
        ours,
        tmp_path,
        "",
        f"""
        for _ in range(3):
            process = context.Process(target=print); process.start(); process.join()
        print(os.getsid(0), flush=True)
        {end}
        """,
    )
    session = int(finished.stdout.split()[-1])
    deadline = time.monotonic() + 20
    while members(session) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert members(session) == []


def test_a_killed_template_takes_nobody_along(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method == "fork":
        pytest.skip("has no template")
    prints(
        ours,
        tmp_path,
        """
        def work(connection):
            connection.send(os.getppid())
            connection.recv()
            sys.exit(5)
        """,
        """
        codes = []
        for _ in range(2):
            mine, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs,))
            process.start()
            template = mine.recv()
            os.kill(template, signal.SIGKILL)
            mine.send("go on")
            process.join()
            codes.append(process.exitcode in (5, 255))
        print(codes)
        """,
        "[True, True]",
    )


def test_a_tree_has_one_set_of_templates(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method == "fork":
        pytest.skip("has no template")
    prints(
        ours,
        tmp_path,
        """
        def tell(connection, depth):
            connection.send(os.getppid())
            if depth:
                process = context.Process(target=tell, args=(connection, depth - 1))
                process.start(); process.join()
        """,
        """
        receiver, sender = context.Pipe(False)
        process = context.Process(target=tell, args=(sender, 2))
        process.start(); process.join()
        print(len({receiver.recv() for _ in range(3)}))
        """,
        "1",
    )


@pytest.mark.parametrize(
    "top",
    [
        "print('seen', flush=True); print('seen', file=sys.stderr)",
        "sys.exit('seen')",
        "raise LookupError('seen')",
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import socket; kept = socket.socket()",
        "import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)",
        "import os, time; pid = os.fork()\nif pid == 0:\n    time.sleep(0.3); os._exit(0)",
    ],
    ids=["output", "exit", "error", "thread", "socket", "timer", "child"],
)
def test_what_a_preload_does_stays_inside(ours: Implementation, tmp_path: Path, top: str) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    (tmp_path / "ahead.py").write_text(f"import sys\n{top}\n")
    (tmp_path / "harmless.py").write_text("loaded = True\n")
    prints(
        ours,
        tmp_path,
        "def loaded(): print('ahead' in sys.modules, 'harmless' in sys.modules, flush=True)",
        """
        context.set_forkserver_preload(["harmless", "ahead"])
        process = context.Process(target=loaded)
        process.start()
        process.join()
        print(process.exitcode)
        """,
        f"{'seen' in top and 'print' in top} True\n0",
    )


def test_interrupting_the_group_leaves_no_trace_in_later_children(
    ours: Implementation, tmp_path: Path
) -> None:
    """A child that was forked ahead got the signal, too, when it was nobody's yet."""
    prints(
        ours,
        tmp_path,
        "def work(): pass",
        """
        def start():
            process = context.Process(target=work); process.start(); process.join()
            return process.exitcode
        print([start() for _ in range(3)])
        time.sleep(0.2)
        try:
            os.killpg(0, signal.SIGINT)
            time.sleep(10)
        except KeyboardInterrupt:
            pass
        print([start() for _ in range(3)])
        """,
        "[0, 0, 0]\n[0, 0, 0]",
    )


def test_the_forkserver_has_the_main_module_loaded(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    prints(
        ours,
        tmp_path,
        """
        loaded_by = os.getpid()
        def look(): print(loaded_by == os.getppid(), flush=True)
        """,
        """
        process = context.Process(target=look)
        process.start()
        process.join()
        """,
        "True",
    )


LEARNING = """
def work(connection, names, before, only_look):
    exec(before)
    known = [name in sys.modules for name in names]
    for name in () if only_look else names:
        try:
            __import__(name)
        except BaseException:
            pass
    connection.send((known, os.getppid()))
def ask(names, before="", only_look=False):
    return answered(work, names, before, only_look)
def until_known(*names):
    deadline = time.monotonic() + 20
    while not all(ask([name])[0][0] for name in names) and time.monotonic() < deadline:
        time.sleep(0.05)
"""


def installed(folder: Path, **modules: str) -> dict[str, str]:
    """Modules in a folder like those of installed packages; the environment that names it."""
    packages = folder / "site-packages"
    packages.mkdir()
    for name, text in modules.items():
        (packages / f"{name}.py").write_text(text + "\n")
    return {"PYTHONPATH": str(packages)}


def test_the_forkserver_learns_what_its_children_import(
    ours: Implementation, tmp_path: Path
) -> None:
    """The clean template does not; what lies beside the program is not learned by anyone."""
    if ours.start_method == "fork":
        pytest.skip("has no template")
    (tmp_path / "beside.py").write_text("")
    names = ["fractions", "package", "beside"]
    learns = ours.start_method == "forkserver"
    prints(
        ours,
        tmp_path,
        LEARNING,
        f"""
        names = {names}
        first, template = ask(names)
        if context.get_start_method() == "forkserver":
            until_known("fractions", "package")
        later, same = ask(names)
        print(first, later, template == same)
        """,
        f"[False, False, False] [{learns}, {learns}, False] True",
        installed(tmp_path, package=""),
    )


KEPT_OUT = {
    "thread": "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
    "socket": "import socket; kept = socket.socket()",
    "timer": "import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)",
    "alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 1e6)",
    "handler": "import signal; signal.signal(signal.SIGUSR1, print)",
    "child": "import os, time; pid = os.fork()\nif pid == 0:\n    time.sleep(0.3); os._exit(0)",
    "generator": "import random; mine = {'mine': [random.Random(1)]}",
    "drawn": "import random; mine = random.random()",
    "lock": "import bequeath; mine = [bequeath.get_context('spawn').Lock()]",
    "unique": "import uuid; mine = uuid.uuid4()",
    "process": "import os; mine = os.getpid()",
    "folder": "import os; mine = os.getcwd()",
    "environment": "import os; mine = dict(os.environ)",
    "changes": "import os; os.environ['BEQUEATH_TEST'] = 'set'",
    "output": "print('seen')",
    "error": "raise LookupError('seen')",
    "exit": "import sys; sys.exit('seen')",
    "end": "import os; os._exit(3)",
    "crash": "import os; os.abort()",
}


#: What such a child reports that did not live to report: it has the module, but did not run it.
PRETEND = """
import importlib.util as u
sys.modules["ahead"] = u.module_from_spec(u.find_spec("ahead"))
"""


@pytest.mark.parametrize("name", KEPT_OUT)
def test_what_is_not_the_same_after_a_fork_is_not_learned(
    ours: Implementation, tmp_path: Path, name: str
) -> None:
    """What was reported later has been learned, so this one was tried, and kept out."""
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    finished = run(
        ours,
        tmp_path,
        LEARNING + f"PRETEND = {PRETEND!r}",
        f"""
        pretend = {name in ("error", "exit", "end", "crash")}
        ask(["ahead"], PRETEND if pretend else "", only_look=pretend)
        ask(["after"])
        until_known("after")
        print(ask(["ahead", "after"], only_look=True)[0], file=sys.stderr)
        """,
        installed(tmp_path, ahead=KEPT_OUT[name], after=""),
    )
    assert finished.returncode == 0, finished
    assert finished.stderr == "[False, True]\n"
    assert finished.stdout == ("seen\n" if name == "output" else "")


@pytest.mark.parametrize(
    ("before", "variables"),
    [
        ("os.environ['BEQUEATH_TEST'] = 'set'", {}),
        ("sys.path.insert(0, '/nowhere')", {}),
        ("", {"BEQUEATH_LEARN_PRELOAD": "0"}),
        ("", {"named": "yes"}),
    ],
    ids=["environment changed", "path changed", "turned off", "modules named"],
)
def test_what_the_program_may_not_want_is_not_learned(
    ours: Implementation, tmp_path: Path, before: str, variables: dict[str, str]
) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    prints(
        ours,
        tmp_path,
        LEARNING,
        f"""
        if "named" in os.environ: context.set_forkserver_preload(["__main__"])
        ask(["ahead"], {before!r})
        ask(["after"])
        if not {variables}:
            until_known("after")
        else:
            for _ in range(10):
                ask(["after"]); time.sleep(0.05)
        print(ask(["ahead", "after"])[0])
        """,
        f"[False, {not variables}]",
        {**installed(tmp_path, ahead="", after=""), **variables},
    )


def test_a_variable_that_a_learned_module_has_read_is_followed(
    ours: Implementation, tmp_path: Path
) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    prints(
        ours,
        tmp_path,
        LEARNING
        + """
def tell(connection):
    import reads
    connection.send(reads.value)
""",
        """
        def told():
            return answered(tell)
        ask(["reads"])
        until_known("reads")
        answers = [told()]
        os.environ["BEQUEATH_TEST"] = "set"
        answers.append(told())
        del os.environ["BEQUEATH_TEST"]
        print(*answers, told(), ask(["reads"])[0])
        """,
        "None set None [True]",
        installed(tmp_path, reads="import os; value = os.environ.get('BEQUEATH_TEST')"),
    )


def test_learned_numpy_shares_no_randomness(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    pytest.importorskip("numpy")
    prints(
        ours,
        tmp_path,
        LEARNING
        + """
def draw(connection):
    import numpy, random
    connection.send((float(numpy.random.rand()), random.random()))
""",
        """
        ask(["numpy"])
        until_known("numpy")
        receiver, sender = context.Pipe(False)
        processes = [context.Process(target=draw, args=(sender,)) for _ in range(4)]
        for process in processes: process.start()
        drawn = [number for _ in processes for number in receiver.recv()]
        for process in processes: process.join()
        print(len(set(drawn)), ask(["numpy"])[0])
        """,
        "8 [True]",
    )


COMPUTING = """
import numpy
def threads(): return len(os.listdir("/proc/self/task"))
def wanted():
    import ctypes
    with open("/proc/self/maps") as maps:
        path = next(line.split()[-1] for line in maps if "openblas" in line)
    names = ["scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_",
             "scipy_openblas_get_num_threads", "openblas_get_num_threads"]
    library = ctypes.CDLL(path)
    return next(getattr(library, name) for name in names if hasattr(library, name))()
def work(connection):
    first = threads()
    numpy.ones((600, 600)) @ numpy.ones((600, 600))
    connection.send((first, threads(), wanted()))
def ask():
    return answered(work)
"""


def test_numpy_has_its_threads_when_it_computes(ours: Implementation, tmp_path: Path) -> None:
    """As many as in a fresh interpreter, for this child's processors, and none before."""
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    pytest.importorskip("numpy")
    prints(
        ours,
        tmp_path,
        COMPUTING,
        """
        def fresh():
            os.environ["BEQUEATH_TEMPLATES"] = "0"
            answer = ask()
            del os.environ["BEQUEATH_TEMPLATES"]
            return answer[1:]
        for _ in range(3):  # the later ones are forked ahead
            first, *then = ask()
        same = tuple(then) == fresh()
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        print(first, same, ask()[2], fresh()[1])
        """,
        "1 True 1 1",
    )


def test_signals_have_their_numbers() -> None:
    """The engine's plan leaves to the interpreter what it always ignores."""
    assert (signal.SIGPIPE, signal.SIGXFSZ, os.SCHED_BATCH) == (13, 25, 3)
