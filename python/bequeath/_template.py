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
import pickle
import signal
import sys
import time

from . import _ending, _engine, _logging, _randomness, forkserver, popen_fork, process, spawn, util

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
)

_MAIN = "__main__"


def main(number: int) -> NoReturn:
    """Set up from the launch behind this descriptor, then serve; children come out of here, too."""
    arrived = _engine.Arrived.from_file(number)
    (door,) = arrived.given
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)
    _engine.set_process_name("bequeath")
    # A member of the session before anything is loaded: what modules make shall be the tree's.
    setup = _engine.unpack(arrived.head, arrived.head_descriptors)
    _load_own()
    spoiled = _preload(setup)
    if spoiled is not None:
        _start_again(setup, spoiled, door)
    if arrived.parent is not None:
        os.close(arrived.parent)
    signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_OURS)  # whatever a module did to the mask
    if "init_main_from_path" in setup["main"]:
        spawn.compile_main_ahead(setup["main"]["init_main_from_path"])
    _forget_fresh_listings()
    server = _engine.TemplateServer(door, setup["method"] == "forkserver")
    gc.collect()
    known = frozenset(sys.modules)
    gc.freeze()
    learner = _learner(setup)
    becoming = _serve(server, learner)
    code = 1
    try:
        code = _run_child(becoming, learner)
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


def _learner(setup: dict[str, Any]) -> Learner | None:
    if not setup["learn"]:
        return None
    from . import _learning

    def load(name: str) -> None:
        with _randomness.watched(), _few_threads():
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
                _engine.set_process_name("bequeath-spare")
                _rehearse()
            becoming = server.become_child(work)
            if becoming is None:
                os._exit(0)
            return becoming
        server.forked(work, pid)


def _rehearse() -> None:
    """In a child that was forked ahead: walk the way it will go, without effect; nobody waits.

    The memory on the way, shared with the template until then, becomes its own.
    """
    _stream(1, "<stdout>", sys.stdout)
    pickle.loads(pickle.dumps(_Rehearsal(target=_nothing, name="rehearsal"))).run()
    spawn.prepare({"sys_path": sys.path, "sys_argv": sys.argv, "dir": os.getcwd()})
    mains = {name: sys.modules[name] for name in _ending.MAINS if name in sys.modules}
    spawn._become_main(lambda namespace: exec(_REHEARSAL, namespace))
    sys.modules.update(mains)
    spawn.old_main_modules.clear()
    _logging.name_records()
    util._flush_std_streams()
    gc.collect()


class _Rehearsal(process.BaseProcess):
    """A process that is not going to be one."""

    def __init__(self, target: Any, name: str) -> None:
        self._target, self._args, self._kwargs, self._name = target, (), {}, name


def _nothing() -> None:
    pass


_REHEARSAL = compile("import sys, os\ndef function(): pass\nclass Type: pass\n", "-", "exec")


# --- loading ------------------------------------------------------------------------------------


def _load_own() -> None:
    import pkgutil  # noqa: F401
    import runpy  # noqa: F401
    import traceback  # noqa: F401

    for name in _OWN:
        importlib.import_module(f"{__package__}.{name}")


def _preload(setup: dict[str, Any]) -> str | None:
    """Load what the setup names; returns the name of what left something behind, if any."""
    if not setup["preload"]:
        return None
    sys.path[:] = setup["sys_path"]
    sys.argv[:] = setup["sys_argv"]
    before = _engine.Leftovers()
    with _randomness.watched(), _few_threads():
        for name in setup["preload"]:
            _load(name, setup["main"])
            if before.since() is not None:
                return name  # type: ignore[no-any-return]
    return None


def _load(name: str, main: dict[str, str]) -> None:
    """Whatever goes wrong goes wrong again in the child, where it belongs."""
    inheriting: Any = process.current_process()
    try:
        if name != _MAIN:
            importlib.import_module(name)
        else:
            # An unguarded main that starts processes is told so, as in a child.
            inheriting._inheriting = True
            try:
                if "init_main_from_name" in main:
                    spawn._fixup_main_from_name(main["init_main_from_name"])
                elif "init_main_from_path" in main:
                    spawn._fixup_main_from_path(main["init_main_from_path"])
            finally:
                del inheriting._inheriting
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _start_again(setup: dict[str, Any], spoiled: str, door: int) -> NoReturn:
    """Exec this template anew without what left something behind; threads and all are gone."""
    setup["preload"] = [name for name in setup["preload"] if name != spoiled]
    command = forkserver._command_line(_engine.lay_ready(_engine.pack(setup), door))
    os.execv(command[0], command)


class _few_threads:
    """Loads numerical libraries without the threads that they start when loaded.

    The limit is lifted in the child, where the threads belong.
    """

    _VARIABLE = "OPENBLAS_NUM_THREADS"
    lifted: list[Any] = []

    def __enter__(self) -> None:
        self._before = os.environ.get(self._VARIABLE)
        os.environ[self._VARIABLE] = "1"

    def __exit__(self, *exception: object) -> None:
        if self._before is None:
            os.environ.pop(self._VARIABLE, None)
        else:
            os.environ[self._VARIABLE] = self._before
        self.lifted[:] = _thread_setters()


def _thread_setters() -> list[Any]:
    """How to tell each loaded OpenBLAS how many threads to use."""
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


def _lift_thread_limit() -> None:
    for variable in ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(variable, "")
        if value.isdigit() and int(value) > 0:
            count = int(value)
            break
    else:
        count = len(os.sched_getaffinity(0))
    for setter in _few_threads.lifted:
        setter(count)


def _forget_fresh_listings() -> None:
    """A file that came into a directory just after it was listed might never be seen."""
    for path, finder in list(sys.path_importer_cache.items()):
        listed = getattr(finder, "_path_mtime", -1)
        if finder is None or (listed != -1 and time.time() - listed < 2):
            del sys.path_importer_cache[path]


# --- the child -----------------------------------------------------------------------------------


def _run_child(becoming: _engine.Becoming, learner: Learner | None) -> int:
    """Finish what the engine began: be what an exec'ed child is. Then run it."""
    _set_environment(becoming.environment())
    _reopen_streams()
    for signum in becoming.ignore:
        signal.signal(signum, signal.SIG_IGN)
    for signum in becoming.heed:
        interrupt = signum == signal.SIGINT
        signal.signal(signum, signal.default_int_handler if interrupt else signal.SIG_DFL)
    _randomness.renew()
    _lift_thread_limit()
    forkserver._forkserver._inherited_fds = becoming.arrived.given
    if learner is not None:
        learner.begin()
    becoming.unblock_signals()
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
        line_buffering=fd == 2 or unbuffered or raw.isatty(),
        write_through=unbuffered,
    )
    stream.mode = "w"  # type: ignore[misc]
    return stream
