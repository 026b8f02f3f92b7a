"""The template's own program: load, check that nothing was left behind, fork on request.

Nothing that a module does while it is loaded here reaches the program's streams, which a template
does not have. A module that leaves threads, descriptors, children or timers behind is not forked
from: the template execs itself again without it, and the children load it themselves.
"""

from __future__ import annotations

import gc
import importlib
import io
import os
import signal
import sys
import time

from . import (
    _ending,
    _engine,
    _leftovers,
    _noticing,
    _randomness,
    forkserver,
    popen_fork,
    process,
    spawn,
    util,
)
from ._loaded import Loaded

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from ._learning import Learner

#: Signals that are meant for the program; a template ends with it, not before. They are blocked,
#: not ignored: what is sent to a child before it is itself must wait, not vanish.
_NOT_OURS = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM)

#: Of this package and the standard library, what every child needs before its own code runs.
_OWN = (
    "_logging",
    "connection",
    "context",
    "queues",
    "synchronize",
    "popen_spawn_posix",
    "popen_forkserver",
    "_pool_worker",
)

_MAIN = "__main__"


def main(number: int) -> NoReturn:
    """Set up from the launch behind this descriptor, then serve; children come out of here, too."""
    arrived = _engine.Arrived.from_file(number)
    (door,) = arrived.given
    left_by_start_up = _leftovers.of_start_up(_expected(arrived))
    _randomness.note_those_of_start_up()
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)
    # Of a starter that ignores its children, who ends would be gone before it could be told.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _engine.set_process_name("bequeath")
    # A member of the session before anything is loaded: what modules make shall be the tree's.
    setup = _engine.unpack(arrived.head, arrived.head_descriptors)
    _engine.set_process_name("bequeath", f"template of {setup['method']}")
    kept_out = setup.get("kept_out", [])
    if kept_out and left_by_start_up == "a child process":
        left_by_start_up = None  # of what was kept out: not ours, nor our children's
    _load_own()
    preload = _Preload(setup)
    if left_by_start_up is None:
        spoiled = preload.run()
        if spoiled is not None:
            _start_again(setup, *spoiled, door)
    if arrived.parent is not None:
        os.close(arrived.parent)
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)  # whatever a module did to the mask
    if "init_main_from_path" in setup["main"]:
        spawn.compile_main_ahead(setup["main"]["init_main_from_path"])
    _forget_fresh_listings()
    server = _engine.TemplateServer(door, setup["method"] == "forkserver")
    for name, left in kept_out:
        server.note(f"kept out\0{name}\0{left}")
    if left_by_start_up is not None:
        server.note(f"unfit\0the interpreter's start-up\0{left_by_start_up}")
        server.refuse_all("unfit")
    preload.tell(server)
    threads = _Threads()
    util._make_empty_input()
    gc.collect()
    known = Loaded()
    gc.freeze()
    _engine.gather_memory()
    learner = _learner(setup)
    becoming = _serve(server, learner)
    code = 1
    try:
        code = _run_child(becoming, learner, threads)
    except Exception:
        # It failed before its own code ran: this is all that anybody will learn.
        sys.excepthook(*sys.exc_info())
    except SystemExit as leaving:
        code = process._exit_code_of(leaving)
    if learner is not None:
        try:
            learner.tell()
        except Exception:
            pass  # the program's doing, and no business of its end
    if setup["method"] == "spawn":
        _ending.end_like_an_interpreter(code, known)
    popen_fork.leave(code)


def _expected(arrived: _engine.Arrived) -> list[int]:
    """The descriptors that a template's start leaves open."""
    sent = [*arrived.head_descriptors, *arrived.body_descriptors, *arrived.given]
    sent += [door for _, door in arrived.doors]
    return [0, 1, 2, *sent, *([] if arrived.parent is None else [arrived.parent])]


def _learner(setup: dict[str, Any]) -> Learner | None:
    if not setup["learn"]:
        return None
    from . import _learning

    def load(name: str) -> None:
        with _randomness.watched():
            _learning.load(name)
        _forget_fresh_listings()

    return _learning.Learner(setup, load)


def _serve(server: _engine.TemplateServer, learner: Learner | None) -> _engine.Becoming:
    """Fork on request, or ahead of it. Returns in each child, never in the template."""
    while True:
        work = server.next_work(learner is not None and learner.has_more())
        if work is None:
            os._exit(0)
        if work.is_rest:
            if learner is not None:
                learner.rest(server)
            continue
        if learner is not None:
            learner.next_child()
        try:
            pid = os.fork()
        except OSError as error:
            server.failed(work, error.errno or 0)
            continue
        if pid == 0:
            if work.is_ahead:
                _engine.set_process_name("bequeath-spare", "spare")
                _randomness.renew()  # for good
            becoming = server.become_child(work)
            if becoming is None:
                os._exit(0)
            return becoming
        server.forked(work, pid)


# --- loading ------------------------------------------------------------------------------------


def _load_own() -> None:
    import pkgutil  # noqa: F401
    import runpy  # noqa: F401
    import traceback  # noqa: F401

    for name in _OWN:
        importlib.import_module(f"{__package__}.{name}")


class _Preload:
    """Loads what the setup names, and watches it."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._setup = setup
        self._noticed = _noticing.Noticed()
        #: What is to be told to those who start children here.
        self.notes: list[str] = []
        self.failed = False

    def run(self) -> tuple[str, str] | None:
        """Returns the name of what left something behind, if any did, and what."""
        setup = self._setup
        if not setup["preload"]:
            return None
        sys.path[:] = setup["sys_path"]
        sys.argv[:] = setup["sys_argv"]
        before = _engine.Leftovers()
        gc.freeze()  # what is shared now is ours
        with _randomness.watched(), self._noticed.watching():
            for name in setup["preload"]:
                self._load(name)
                left = _leftovers.since(before)
                if left is not None:
                    return name, left
        gc.collect()
        # Who lists a module wants it, whatever it has made.
        left = None if setup["listed"] else _leftovers.shared_things()
        return None if left is None else (_MAIN, left)

    def _load(self, name: str) -> None:
        try:
            _load(name, self._setup["main"])
        except Exception as error:
            # Whatever goes wrong goes wrong again in the child, where it belongs.
            how = self._setup["on_error"]
            if how == "ignore" or not (name == _MAIN or isinstance(error, ImportError)):
                return
            what = f"module {name!r}"
            if name == _MAIN:
                main = self._setup["main"]
                what = f"__main__ from {main.get('init_main_from_path', '')!r}"
            self.notes.append(f"{how}\0{what}\0{error}")
            self.failed = self.failed or how == "fail"
        except BaseException:
            pass
        finally:
            _flush()

    def tell(self, server: _engine.TemplateServer) -> None:
        """What was loaded, to those who start children with it."""
        for note in self.notes:
            server.note(note)
        if self.failed:
            server.refuse_all("failed")
        asked = self._noticed.asked
        server.depend_on(sorted(self._noticed.variables), "environment" in asked, "getcwd" in asked)


def _load(name: str, main: dict[str, str]) -> None:
    if name != _MAIN:
        importlib.import_module(name)
        return
    # An unguarded main that starts processes is told so, as in a child.
    inheriting: Any = process.current_process()
    inheriting._inheriting = True
    try:
        if "init_main_from_name" in main:
            spawn._fixup_main_from_name(main["init_main_from_name"])
        elif "init_main_from_path" in main:
            spawn._fixup_main_from_path(main["init_main_from_path"])
    finally:
        del inheriting._inheriting


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _start_again(setup: dict[str, Any], spoiled: str, left: str, door: int) -> NoReturn:
    """Exec this template anew without what left something behind; threads and all are gone."""
    setup["preload"] = [name for name in setup["preload"] if name != spoiled]
    setup["kept_out"] = [*setup.get("kept_out", ()), (spoiled, left)]
    # What an exec leaves alone.
    for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF):
        signal.setitimer(timer, 0)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2:
            try:
                os.set_inheritable(number, False)
            except OSError:
                pass  # the folder's own
    number = _engine.lay_ready(_engine.pack(setup), door)
    command = forkserver._command_line(number, *setup["kept_out"])
    os.execv(command[0], command)


class _Threads:
    """How many threads the loaded libraries of linear algebra use.

    They keep the number that they chose when they were loaded, and start their threads when they
    need them. It is chosen anew in a child that may run on other processors than its template.
    """

    def __init__(self) -> None:
        self._processors = len(os.sched_getaffinity(0))
        self._setters = _thread_setters()

    def choose(self) -> None:
        """In the child."""
        processors = len(os.sched_getaffinity(0))
        if not self._setters or processors == self._processors:
            return
        for variable in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
            value = os.environ.get(variable, "")
            if value.isdigit() and int(value) > 0:
                processors = min(processors, int(value))
                break
        for setter in self._setters:
            setter(processors)
        _engine.run_fork_handlers()  # which ends the threads that this has started


def _thread_setters() -> list[Any]:
    """How to tell each loaded OpenBLAS how many threads to use."""
    if "numpy" not in sys.modules:
        return []
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            paths = {line.split(maxsplit=5)[-1].strip() for line in maps if "openblas" in line}
    except OSError:
        return []
    if not paths:
        return []
    import ctypes

    setters = []
    for path in sorted(paths):
        try:
            library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue
        for name in ("openblas_set_num_threads", "scipy_openblas_set_num_threads"):
            for suffix in ("", "64_", "_64"):
                setter = getattr(library, name + suffix, None)
                if setter is not None:
                    setters.append(setter)
    return setters


def _forget_fresh_listings() -> None:
    """A file that came into a directory just after it was listed might never be seen."""
    for path, finder in list(sys.path_importer_cache.items()):
        listed = getattr(finder, "_path_mtime", -1)
        if finder is None or (listed != -1 and time.time() - listed < 2):
            del sys.path_importer_cache[path]


# --- the child -----------------------------------------------------------------------------------


def _run_child(becoming: _engine.Becoming, learner: Learner | None, threads: _Threads) -> int:
    """Finish what the engine began: be what an exec'ed child is. Then run it."""
    try:
        environment = becoming.environment()
        _set_environment(environment)
        _reopen_streams()
        for signum in becoming.ignore:
            signal.signal(signum, signal.SIG_IGN)
        for signum in becoming.heed:
            interrupt = signum == signal.SIGINT
            signal.signal(signum, signal.default_int_handler if interrupt else signal.SIG_DFL)
        _randomness.renew()
        threads.choose()
        forkserver._forkserver._inherited_fds = becoming.arrived.given
        if learner is not None:
            learner.begin(environment)
        if not becoming.go_ahead():
            os._exit(0)  # nobody has heard of this process
    except KeyboardInterrupt:
        spawn.leave_interrupted()
    return spawn.run(becoming.arrived)


def _set_environment(wanted: dict[bytes, bytes] | None) -> None:
    if wanted is None:
        return
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    zone = data.get(b"TZ")
    for name in data.keys() - wanted.keys():
        os.unsetenv(name)
    for name, value in wanted.items():
        if data.get(name) != value:
            os.putenv(name, value)
    data.clear()
    data.update(wanted)
    if data.get(b"TZ") != zone:
        time.tzset()


def _reopen_streams() -> None:
    """Standard streams as a starting interpreter makes them, for what is behind 0, 1, 2 now."""
    # Standard input is given up by `_bootstrap` as it is.
    for fd, name in ((1, "stdout"), (2, "stderr")):
        former = getattr(sys, f"__{name}__")
        fresh = _stream(fd, f"<{name}>", former)
        setattr(sys, f"__{name}__", fresh)
        if getattr(sys, name) is former:
            setattr(sys, name, fresh)


def _stream(fd: int, name: str, former: Any) -> Any:
    try:
        raw = io.FileIO(fd, "w", closefd=False)
    except OSError:
        return None
    raw.name = name
    unbuffered = former.write_through
    buffer: Any = raw if unbuffered else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(
        buffer,
        encoding=former.encoding,
        errors=former.errors,
        newline="\n",
        line_buffering=not unbuffered and (fd == 2 or raw.isatty()),
        write_through=unbuffered,
    )
    stream.mode = "w"  # type: ignore[misc]
    return stream
