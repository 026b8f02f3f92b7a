"""Templates are clean: nothing is forked that a fork copies wrongly; randomness is not shared."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from implementation import Implementation
from program import prints, run

DRAWING = """
def draw(connection):
    import random, secrets, ssl, tempfile, uuid
    drawn = [
        random.random(), secrets.token_hex(), ssl.RAND_bytes(8), str(uuid.uuid4()),
        str(uuid.uuid1()), next(tempfile._get_candidate_names()), *more(),
    ]
    connection.send(drawn)
def children(count=3):
    receiver, sender = context.Pipe(False)
    processes = [context.Process(target=draw, args=(sender,)) for _ in range(count)]
    for process in processes: process.start()
    drawn = [receiver.recv() for _ in processes]
    for process in processes: process.join()
    return list(zip(*drawn))
"""


@pytest.mark.short
def test_no_two_children_draw_the_same_numbers(ours: Implementation, tmp_path: Path) -> None:
    """From anything, on a first start and on a later one, when the templates have learned numpy."""
    pytest.importorskip("numpy")
    prints(
        ours,
        tmp_path,
        """
import random, ssl, tempfile, uuid
import numpy, numpy.random
next(tempfile._get_candidate_names())
def more(): return numpy.random.rand(), numpy.random.random_sample()
"""
        + DRAWING,
        """
        for _ in range(2):
            print([len(set(column)) for column in children()])
        """,
        "[3, 3, 3, 3, 3, 3, 3, 3]\n" * 2,
    )


@pytest.mark.parametrize(
    "make", ["random.Random()", "numpy.random.default_rng()", "numpy.random.RandomState()"]
)
@pytest.mark.parametrize("where", ["main", "module"])
def test_no_two_children_share_a_generator_made_while_loading(
    ours: Implementation, tmp_path: Path, where: str, make: str
) -> None:
    if ours.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    pytest.importorskip("numpy")
    definition = f"import numpy, random\nown = [{make}]\n"
    (tmp_path / "beside.py").write_text(definition)
    prints(
        ours,
        tmp_path,
        (definition if where == "main" else "from beside import own\n")
        + "import numpy\ndef more(): return [float(own[0].uniform(0, 1))]\n"
        + DRAWING,
        """
        for _ in range(2):
            print([len(set(column)) for column in children()])
        """,
        "[3, 3, 3, 3, 3, 3, 3]\n" * 2,
    )


def test_a_module_that_was_listed_keeps_its_generator(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    (tmp_path / "beside.py").write_text("import random\nown = random.Random()\n")
    prints(
        ours,
        tmp_path,
        "def more():\n    import beside\n    return [beside.own.random()]\n" + DRAWING,
        """
        context.set_forkserver_preload(["beside"])
        print(len(set(children()[-1])))
        """,
        "1",
    )


def test_what_the_program_seeded_stays_seeded(mp: Implementation, tmp_path: Path) -> None:
    """As everywhere: in each child of spawn and forkserver, which load the program again."""
    pytest.importorskip("numpy")
    renewed = mp.start_method == "fork"  # the random module does so itself
    if not mp.is_bequeath and mp.start_method == "forkserver" and sys.version_info >= (3, 14):
        # Its server has loaded the program, and the random module renews itself at forks.
        renewed = True
    prints(
        mp,
        tmp_path,
        """
import random
import numpy, numpy.random
random.seed(0); numpy.random.seed(0); first = random.random()
def more(): return [random.random(), numpy.random.rand()]
"""
        + DRAWING.replace("random.random(), ", "", 1),
        """
        for _ in range(2):
            print([len(set(column)) for column in children()][-2:])
        """,
        f"[{3 if renewed else 1}, 1]\n" * 2,
    )


# --- what the program does on top of its main module ---------------------------------------------

TOPS = {
    "thread": """
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait, name="of main", daemon=True); thread.start()
        def look(): return sorted(thread.name for thread in threading.enumerate())
    """,
    "socket": """
        import socket
        one, other = socket.socketpair()
        def look():
            one.send(str(os.getpid()).encode())
            return os.getpid() == int(other.recv(100))
    """,
    "timer": """
        signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)
        def look(): return signal.getitimer(signal.ITIMER_VIRTUAL)[0] > 1
    """,
    "alarm": """
        signal.setitimer(signal.ITIMER_REAL, 1e6)
        def look(): return signal.getitimer(signal.ITIMER_REAL)[0] > 1
    """,
    "child": """
        import subprocess
        helper = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        def look():
            out, _ = helper.communicate(b"mine")
            return out.decode(), helper.returncode
    """,
    "lock": """
        lock = context.Lock(); lock.acquire()
        def look(): return lock.acquire(timeout=0.01)
    """,
    "tracer": """
        seen = []
        def trace(frame, event, argument): seen.append(frame.f_code.co_name)
        def look():
            sys.settrace(trace); traced(); sys.settrace(None)
            return "traced" in seen
        def traced(): pass
    """,
}


@pytest.mark.parametrize("name", TOPS)
def test_a_main_that_leaves_something_behind_behaves_as_under_spawn(
    ours: Implementation, tmp_path: Path, name: str
) -> None:
    if ours.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    told = []
    for mp in (Implementation("multiprocessing", "spawn"), ours):
        finished = run(
            mp,
            tmp_path,
            "def ends():\n"
            "    helper = globals().get('helper')\n"
            "    if helper is not None and helper.poll() is None: helper.communicate()\n"
            "    signal.setitimer(signal.ITIMER_REAL, 0)  # handlers go first\n"
            "atexit.register(ends)\n"
            "import textwrap; exec(textwrap.dedent('''" + TOPS[name] + "'''), globals())\n"
            "def tell(connection): connection.send(look())\n",
            """
            receiver, sender = context.Pipe(False)
            for _ in range(3):
                process = context.Process(target=tell, args=(sender,))
                process.start()
                print(receiver.recv())
                process.join()
                print(process.exitcode)
            """,
        )
        told.append((finished.stdout, finished.stderr, finished.returncode))
    assert told[0] == told[1]
    assert told[0][0].count("\n") == 6


READ = {
    "variable": ("seen = os.environ.get('BEQUEATH_TEST')", "os.environ['BEQUEATH_TEST'] = 'set'"),
    "environment": ("seen = sorted(os.environ)", "os.environ['BEQUEATH_TEST'] = 'set'"),
    "arguments": ("seen = sys.argv[1:]", "sys.argv.append('more')"),
    "path": ("seen = '/nowhere' in sys.path", "sys.path.append('/nowhere')"),
    "folder": ("seen = os.getcwd()", "os.chdir('/')"),
}


@pytest.mark.parametrize("name", READ)
def test_what_main_looked_at_may_change(ours: Implementation, tmp_path: Path, name: str) -> None:
    """A child of an exec'ed interpreter would load main anew, and see what is now."""
    if ours.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    prints(
        ours,
        tmp_path,
        f"{READ[name][0]}\ndef tell(connection): connection.send(seen)\n",
        f"""
        print(answered(tell) == seen)
        {READ[name][1]}
        {READ[name][0]}
        print(answered(tell) == seen)
        """,
        "True\nTrue",
    )


# --- what the interpreter's start-up does --------------------------------------------------------

START_UPS = {
    "thread": "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
    "socket": "import socket; kept = socket.socket()",
    "timer": "import signal; signal.setitimer(signal.ITIMER_VIRTUAL, 1e6)",
    "tracer": "import sys; sys.setprofile(lambda *_: None)",
    "generator": "import random; own = [random.Random()]",
}


@pytest.mark.parametrize("name", START_UPS)
def test_a_start_up_that_leaves_something_behind_is_not_forked(
    ours: Implementation, tmp_path: Path, name: str
) -> None:
    """A site hook: each child is really exec'ed, and the log tells why, once."""
    if ours.start_method == "fork":
        pytest.skip("has no template")
    (tmp_path / "sitecustomize.py").write_text(START_UPS[name])
    finished = run(
        ours,
        tmp_path,
        "def tell(connection): connection.send(os.getppid())",
        """
        import logging
        mp.log_to_stderr(logging.INFO)
        for _ in range(2):
            print(answered(tell) == os.getpid())
        """,
        {"PYTHONPATH": str(tmp_path)},
    )
    assert finished.stdout == "True\nTrue\n", finished.stderr
    assert finished.stderr.count("templates do without the interpreter's start-up") == 1


def test_a_harmless_start_up_takes_effect_in_every_child(
    ours: Implementation, tmp_path: Path
) -> None:
    """It patches something, registers for the end, and loads a generator that each child renews."""
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, builtins, os, random\n"
        "builtins.patched = True\n"
        "atexit.register(lambda: hasattr(builtins, 'worker') and os.write(1, b'end\\n'))\n"
    )
    ends = "" if ours.start_method == "fork" else "end\n"  # which forgets exit functions
    prints(
        ours,
        tmp_path,
        """
        import builtins
        def tell(connection):
            import random
            builtins.worker = True
            connection.send((builtins.patched, random.random()))
        """,
        """
        told = {answered(tell) for _ in range(3)}
        print(len(told), {patched for patched, _ in told}, flush=True)
        """,
        f"{ends * 3}3 {{True}}",
        {"PYTHONPATH": str(tmp_path)},
    )


# --- what is said about it -----------------------------------------------------------------------


def test_the_log_names_module_and_thread_once(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    (tmp_path / "ahead.py").write_text(
        "import threading\n"
        "threading.Thread(target=threading.Event().wait, name='reporter', daemon=True).start()\n"
    )
    finished = run(
        ours,
        tmp_path,
        "",
        """
        import logging
        mp.log_to_stderr(logging.INFO)
        context.set_forkserver_preload(["ahead"])
        for _ in range(3):
            process = context.Process(target=print); process.start(); process.join()
        """,
    )
    assert finished.stderr.count("templates do without ahead") == 1, finished.stderr
    assert "thread reporter" in finished.stderr


# --- preloads that fail, and whose they are ------------------------------------------------------


def test_an_error_of_a_preload_is_ignored_told_or_raised(
    ours: Implementation, tmp_path: Path
) -> None:
    """By choice; ImportWarnings are shown where the program's filters show them."""
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    prints(
        ours,
        tmp_path,
        "import warnings\ndef work(): print('ran', flush=True)",
        """
        def start():
            process = context.Process(target=work); process.start(); process.join()
        for on_error in ("ignore", "warn", "fail"):
            with warnings.catch_warnings(record=True) as raised:
                warnings.simplefilter("always")
                context.set_forkserver_preload(["missing_" + on_error], on_error=on_error)
                for _ in range(2):
                    try:
                        start()
                    except ConnectionError as error:
                        print(error, flush=True)
                print(*(f"{w.category.__name__}: {w.message}" for w in raised), flush=True)
        """,
        """
        ran
        ran

        ran
        ran
        ImportWarning: Failed to preload module 'missing_warn': No module named 'missing_warn'
        Failed to preload module 'missing_fail': No module named 'missing_fail'
        Failed to preload module 'missing_fail': No module named 'missing_fail'
        """,
    )


def test_grandchildren_find_the_same_preloaded(ours: Implementation, tmp_path: Path) -> None:
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    (tmp_path / "ahead.py").write_text("")
    prints(
        ours,
        tmp_path,
        """
        def look(connection, depth):
            connection.send(("ahead" in sys.modules, os.getppid()))
            if depth:
                process = context.Process(target=look, args=(connection, depth - 1))
                process.start(); process.join()
        """,
        """
        context.set_forkserver_preload(["ahead"])
        receiver, sender = context.Pipe(False)
        process = context.Process(target=look, args=(sender, 2))
        process.start(); process.join()
        told = [receiver.recv() for _ in range(3)]
        print([loaded for loaded, _ in told], len({template for _, template in told}))
        """,
        "[True, True, True] 1",
    )


# --- libraries that start threads ----------------------------------------------------------------

THREADS = """
import ctypes
def blas_threads():
    paths = {line.split(maxsplit=5)[-1].strip() for line in open("/proc/self/maps")
             if "openblas" in line}
    for path in paths:
        library = ctypes.CDLL(path)
        for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_",
                     "scipy_openblas_get_num_threads", "openblas_get_num_threads"):
            if hasattr(library, name):
                return getattr(library, name)()
def running(): return len(os.listdir("/proc/self/task"))
"""


@pytest.mark.parametrize("limit", ["", "processors", "OMP_NUM_THREADS"])
def test_numpy_computes_with_as_many_threads_as_ever(
    ours: Implementation, tmp_path: Path, limit: str
) -> None:
    """They start with the first computation: a child that computes nothing has none, and so a fork
    of its own finds one thread, which Python from 3.12 on looks for."""
    numpy = pytest.importorskip("numpy")
    if ours.start_method == "fork":
        pytest.skip("a fork has what its parent has")
    processors = len(os.sched_getaffinity(0))
    if processors < 2:
        pytest.skip("needs two processors")
    if "openblas" not in str(numpy.show_config(mode="dicts")).lower():
        pytest.skip("this numpy has no OpenBLAS")
    expected = 1 if limit else processors
    prints(
        ours,
        tmp_path,
        "import warnings\nimport numpy\n"
        + THREADS
        + """
def work(connection):
    before = running()
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
    ones = numpy.ones((300, 300))
    right = float((ones @ ones).sum()) == 300.0 ** 3
    connection.send((before, len(raised), blas_threads(), running(), right))
""",
        f"""
        for limited in range(2):
            receiver, sender = context.Pipe(False)
            process = context.Process(target=work, args=(sender,))
            process.start()
            before, warned, number, threads, right = receiver.recv()
            if context.get_start_method() == "spawn":
                before, warned = 1, 0  # it has loaded numpy itself
            print(before, warned, number, number == threads, right)
            process.join()
            if {limit!r} == "processors":
                os.sched_setaffinity(0, {{min(os.sched_getaffinity(0))}})
            elif {limit!r}:
                os.environ[{limit!r}] = "1"
        """,
        f"1 0 {processors} True True\n1 0 {expected} True True",
    )


def test_an_interpreter_of_many_threads_says_so(tmp_path: Path) -> None:
    """The probe of the test above can fail: with numpy just loaded there are more threads."""
    pytest.importorskip("numpy")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    import subprocess

    text = "import os" + THREADS + "import numpy\nprint(running(), blas_threads())"
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    if told.stdout.split()[1] != "None":
        assert int(told.stdout.split()[0]) > 1


# --- libraries that hook into the start of an interpreter, or start threads -----------------------


def test_coverage_measures_every_child(ours: Implementation, tmp_path: Path) -> None:
    """Its start-up hook follows each line, as in children of the standard library's spawn."""
    coverage = pytest.importorskip("coverage")
    if ours.start_method == "fork":
        pytest.skip("coverage itself loses the lines of forked children, there as here")
    (tmp_path / "sitecustomize.py").write_text("import coverage\ncoverage.process_startup()\n")
    (tmp_path / "settings").write_text(f"[run]\nparallel=True\ndata_file={tmp_path}/data\n")
    finished = run(
        ours,
        tmp_path,
        "def only_in_children(number):\n    if number:\n        return 1\n    return 2\n",
        """
        for number in range(2):
            process = context.Process(target=only_in_children, args=(number,))
            process.start(); process.join()
            print(process.exitcode)
        """,
        {"COVERAGE_PROCESS_START": str(tmp_path / "settings"), "PYTHONPATH": str(tmp_path)},
    )
    assert finished.stdout == "0\n0\n", finished.stderr
    measured = coverage.Coverage(data_file=str(tmp_path / "data"))
    measured.combine([str(tmp_path)])
    _, _, missing, _ = measured.analysis(str(tmp_path / "program.py"))
    assert missing == []


@pytest.mark.limit(180)
@pytest.mark.parametrize(
    ("module", "work"),
    [
        ("scipy.linalg", "scipy.linalg.inv([[2.0]])[0, 0] == 0.5"),
        ("pandas", "pandas.DataFrame({'a': range(100)}).a.sum() == 4950"),
        ("pyarrow.compute", "pyarrow.compute.sum(pyarrow.array(range(100))).as_py() == 4950"),
        ("numexpr", "numexpr.evaluate('a + 1', {'a': 1}) == 2"),
        (
            "sklearn.cluster",
            "len(sklearn.cluster.KMeans(2, n_init=1).fit([[0], [9]]).labels_) == 2",
        ),
        ("grpc", "grpc.insecure_channel('localhost:1').close() is None"),
    ],
)
def test_libraries_that_start_threads_are_not_forked_with_them(
    ours: Implementation, tmp_path: Path, module: str, work: str
) -> None:
    """A main that imports one is loaded ahead if no thread is left behind, and works either way."""
    pytest.importorskip(module)
    if ours.start_method != "forkserver":
        pytest.skip("loads nothing ahead")
    finished = run(
        ours,
        tmp_path,
        f"import {module}\nloaded_by = os.getpid()\n"
        "def work(connection):\n"
        "    threads = len(os.listdir('/proc/self/task'))\n"
        f"    connection.send((bool({work}), loaded_by == os.getpid() or threads == 1))\n",
        """
        for _ in range(2):
            print(*answered(work))
        """,
        seconds=150,
    )
    assert finished.stdout == "True True\nTrue True\n", finished.stderr
