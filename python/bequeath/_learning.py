"""A template of "forkserver" learns which modules its children import, and has them ready.

A child that ends in order tells which modules its run imported. When nobody asks for anything, the
template imports them in a *trial*: one more child, which finds out, module by module, whether that
leaves anything behind or depends on the moment. What does not is then imported in the template, one
module at a time. What does is never imported here; neither is what a child imported after it had
changed its environment or `sys.path`: that may be why it did so.

Only installed packages and the standard library are learned, not what lies beside the program:
whoever edits a program expects the next child to run what is there.

Child and trial write into memory that they share with the template. Anything in it may be torn or
nonsense: names are only what is tried next.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable

from . import _engine, _leftovers, _noticing, _randomness
from ._loaded import Loaded

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

_SLOTS = 16
_SLOT = 16 * 1024
_VERDICT = 16 * 1024
#: No template tries more often than this, and no more modules at once.
_MOST_TRIALS = 64
_MOST_NAMES = 256
#: A trial that takes longer than these seconds hangs.
_PATIENCE = 30
#: Small modules are imported together, for as many seconds.
_STEP = 0.005

#: The package's own modules, and what it may stand for.
_NEVER = ("bequeath", "multiprocessing", "__main__", "__mp_main__")


class Learner:
    """What one template has learned, and is about to."""

    def __init__(self, setup: dict[str, Any], load: Callable[[str], object]) -> None:
        self._load = load
        self._sys_path: list[str] = setup["sys_path"]
        self._folders = _installed_folders(setup["sys_path"], setup["main"])
        self._own = setup["main"].get("init_main_from_name", "").partition(".")[0]
        self._reports = mmap.mmap(-1, _SLOTS * _SLOT)
        self._verdict = mmap.mmap(-1, _VERDICT)
        self._slot = 0
        #: What children have without having imported it.
        self._known = Loaded()
        self._barred: set[str] = set()
        self._candidates: list[str] = []
        self._trying: list[str] = []
        self._proven: list[str] = []
        self._read: list[bytes] = []
        self._trials = 0
        self._child = 0
        self._environment: dict[bytes, bytes] | None = None
        self._note_ways()

    # --- in the child ----------------------------------------------------------------------------

    def next_child(self) -> None:
        """In the template: another child is about to be forked."""
        self._slot = (self._slot + 1) % _SLOTS

    def begin(self, environment: dict[bytes, bytes] | None) -> None:
        """In the child, before its own code runs; `environment` if it is not the template's."""
        self._child = os.getpid()
        self._environment = environment

    def tell(self) -> None:
        """In the child, at its end: which modules were imported."""
        if os.getpid() != self._child:
            return
        names = [name for name in self._known.since() if self._is_installed(name)]
        if not names:
            return
        environment, ways = self._at_start
        if self._environment is not None:
            environment = self._environment
        now = (_variables(), _ways_to_find(), sys.path)
        unchanged = now == (environment, ways, self._sys_path)
        # Packages before what is in them; else in the order in which they were complete.
        names.sort(key=lambda name: name.count("."))
        text = "\n".join(["try" if unchanged else "bar", *names]).encode()
        if len(text) > _SLOT - 4:
            text = text[: _SLOT - 4].rpartition(b"\n")[0]
        _write(self._reports, self._slot * _SLOT, text)

    def _is_installed(self, name: str) -> bool:
        """Whether it was found under this name among what is installed."""
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if spec is None or getattr(spec, "name", None) != name:
            return False
        if name.partition(".")[0] in (*_NEVER, self._own):
            return False
        origin = getattr(spec, "origin", None)
        if not isinstance(origin, str):
            return False
        return origin in ("built-in", "frozen") or origin.startswith(self._folders)

    # --- in the template -------------------------------------------------------------------------

    def has_more(self) -> bool:
        """Whether there is something to do in the next pause."""
        return bool(self._proven or (self._candidates and not self._trying))

    def rest(self, server: _engine.TemplateServer) -> None:
        """A pause: one step, hardly longer than the import of one module."""
        if self._trying and not server.is_trying():
            self._read_verdict(server)
        self._read_reports()
        self._proven = [name for name in self._proven if name not in sys.modules]
        if self._proven:
            enough = time.monotonic() + _STEP
            while self._proven and time.monotonic() < enough:
                self._load(self._proven.pop(0))
            self._known = Loaded()
            self._note_ways()
            gc.collect()
            gc.freeze()
            _engine.gather_memory()
            server.depend_on(self._read, False, False)
            server.renew_spare()
        elif self._candidates and not self._trying:
            self._try(server)

    def _note_ways(self) -> None:
        """What a child starts with that decides what an import finds."""
        self._at_start = (_variables(), _ways_to_find())

    def _read_reports(self) -> None:
        for slot in range(_SLOTS):
            text = _take(self._reports, slot * _SLOT, _SLOT - 4)
            if not text:
                continue
            word, *names = text.decode(errors="replace").split("\n")
            names = [name for name in names if name and name not in sys.modules]
            if word == "bar":
                self._barred.update(names)
            elif word == "try":
                self._candidates += names
        settled = {*self._trying, *self._proven}
        self._candidates = [
            name
            for name in dict.fromkeys(self._candidates)
            if name not in settled and name not in sys.modules and not self._is_barred(name)
        ][:_MOST_NAMES]
        self._proven = [name for name in self._proven if not self._is_barred(name)]

    def _is_barred(self, name: str) -> bool:
        """Whether it, or a package that it is in, was kept out."""
        while name and name not in self._barred:
            name = name.rpartition(".")[0]
        return name != ""

    def _try(self, server: _engine.TemplateServer) -> None:
        self._trying, self._candidates = self._candidates, []
        self._trials += 1
        if self._trials > _MOST_TRIALS:
            self._barred.update(self._trying)
            self._trying = []
            return
        _write(self._verdict, 0, b"0\nno end of the trial")
        try:
            server.before_fork()
            pid = os.fork()
        except OSError:
            self._trying = []
            return
        if pid == 0:
            self._run_trial(server)
        try:
            server.watch_trial(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _read_verdict(self, server: _engine.TemplateServer) -> None:
        """The first so many are clean; the next one is not, unless there is none."""
        count, fault, *read = [*_take(self._verdict, 0, _VERDICT - 4).split(b"\n"), b""]
        clean = int(count) if count.isdigit() else 0
        self._proven += self._trying[:clean]
        self._barred.update(self._trying[clean : clean + 1])
        for name in self._trying[clean : clean + 1]:
            server.note(f"kept out\0{name}\0{fault.decode(errors='replace')}")
        self._candidates = self._trying[clean + 1 :] + self._candidates
        self._read = read
        self._trying = []

    # --- in the trial ----------------------------------------------------------------------------

    def _run_trial(self, server: _engine.TemplateServer) -> NoReturn:
        try:
            server.become_trial()
            _engine.set_process_name("bequeath-trial", "trial")
            # A module that never ends its import; also if the template is no more.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            os.nice(10)
            trial = _Trial()
            for count, name in enumerate(self._trying, 1):
                before = set(sys.modules)
                fault = None
                if name not in before:
                    fault = trial.fault_of(name, self._load)
                    for new in [new for new in sys.modules if new not in before]:
                        if not self._may_come_along(new, sys.modules[new]):
                            fault = fault or f"{new}, which is not to be loaded ahead"
                clean = count if fault is None else count - 1
                text = fault or "the end of the process"  # if the next one ends it
                verdict = [b"%d" % clean, text.replace("\n", " ").encode(errors="replace")]
                _write(self._verdict, 0, b"\n".join([*verdict, *sorted(trial.noticed.variables)]))
                if fault is not None:
                    break
        except BaseException:
            pass
        finally:
            os._exit(0)

    def _may_come_along(self, name: str, module: ModuleType) -> bool:
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if not isinstance(origin, str) or origin in ("built-in", "frozen"):
            # Made while it ran, as part of what is judged itself; or a folder without code.
            return True
        return not self._is_barred(name) and origin.startswith(self._folders)


class _Trial:
    """Imports a module and sees what that did, and what it asked for."""

    def __init__(self) -> None:
        self.noticed = _noticing.Noticed()
        self._output = os.memfd_create("bequeath-output", os.MFD_CLOEXEC)
        for number in (1, 2):
            os.dup2(self._output, number)

    def fault_of(self, name: str, load: Callable[[str], object]) -> str | None:
        """Why a fork after the import of this module is not as good as an import after the fork."""
        before = (_engine.Leftovers(), _state())
        generators = {name: _randomness._state(name) for name in _randomness._at_load}
        if not self._comes_back(name, load):
            return "the alarm set"
        for generator, first in _randomness._at_load.items():
            if _randomness._state(generator) != generators.get(generator, first):
                return f"numbers drawn from {generator}"
        if name not in sys.modules:
            return "an error, or no module of its name"
        if self.noticed.asked:
            return f"what depends on the moment ({', '.join(sorted(self.noticed.asked))})"
        left = _leftovers.since(before[0])
        if left is not None:
            return left
        if before[1] != _state():
            return "the environment, the path, signal handlers or streams changed"
        if os.fstat(self._output).st_size != 0:
            return "output"
        gc.collect()
        left = _leftovers.shared_things()
        gc.freeze()  # what was looked at is not looked at again
        return left

    def _comes_back(self, name: str, load: Callable[[str], object]) -> bool:
        """Imports it, against the clock; False if it has set that clock itself."""
        begin = time.monotonic()
        signal.alarm(_PATIENCE)
        with self.noticed.watching():
            load(name)
        left = signal.alarm(0)
        return abs(left - (_PATIENCE - (time.monotonic() - begin))) < 2


def _state() -> tuple[Any, ...]:
    """What an import should leave as it is."""
    return (
        dict(os.environ),
        list(sys.path),
        [id(stream) for stream in (sys.stdout, sys.stderr, sys.excepthook, builtins.__import__)],
        [signal.getsignal(number) for number in signal.valid_signals()],
        os.getcwd(),
        _leftovers.is_traced(),
    )


def _variables() -> dict[bytes, bytes]:
    return dict(os.environ._data)  # type: ignore[attr-defined]


def _ways_to_find() -> list[Any]:
    """What decides how a module is found, beside `sys.path`; but for the package's own."""
    finders = [*sys.meta_path, *sys.path_hooks]
    return [each for each in finders if not str(each.__module__).startswith("bequeath")]


def load(name: str) -> None:
    """Whatever goes wrong went wrong in the trial."""
    try:
        importlib.import_module(name)
    except BaseException:
        pass
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _installed_folders(sys_path: list[str], main: dict[str, str]) -> tuple[str, ...]:
    """Where installed packages and the standard library lie, each with a slash at its end."""
    standard = os.path.dirname(os.path.abspath(os.__file__))
    program = os.path.dirname(main.get("init_main_from_path", ""))
    folders = []
    for entry in sys_path:
        entry = os.path.abspath(entry)
        installed = os.path.basename(entry) in ("site-packages", "dist-packages")
        if entry != program and (installed or (entry + "/").startswith(standard + "/")):
            folders.append(entry + "/")
    return tuple(folders)


# --- memory that is shared by fork ----------------------------------------------------------------


def _write(memory: mmap.mmap, place: int, text: bytes) -> None:
    memory[place + 4 : place + 4 + len(text)] = text
    memory[place : place + 4] = len(text).to_bytes(4, "little")


def _take(memory: mmap.mmap, place: int, most: int) -> bytes:
    length = int.from_bytes(memory[place : place + 4], "little")
    text = memory[place + 4 : place + 4 + min(length, most)]
    memory[place : place + 4] = bytes(4)
    return text
