"""Templates, as those who start children through them see them.

A template is a single-threaded process, started once by exec, that children are forked from: a
clean one for "spawn", one with the program's modules loaded for "forkserver". One set serves a
whole tree of processes: every child is handed the ways to those that its parent knows. They end
with the program, however that ends. What a template cannot serve is really exec'ed.
"""

from __future__ import annotations

import os
import sys
import threading

from . import _engine, _install, _launch_command, _settings, spawn, util

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ensure_running",
    "get_inherited_fds",
    "connect_to_new_process",
    "set_forkserver_preload",
]

#: No more templates than this (each for another environment); further children are exec'ed.
_MOST = 4
#: How long the end of this process waits for its templates' ends.
_PATIENCE = 2.0


#: How long `start()` listens for a template's child that cannot load what it was given. Longer
#: than that happens once: a program whose modules take so long starts its children side by side.
_LISTENING = 0.5
_slow: set[str] = set()


def start(
    method: str, launch: _engine.Launch, preparation: dict[str, Any]
) -> tuple[_engine.Child, float]:
    """A child of this method, from a template if one may and can serve, else by exec.

    With it, how long to listen for its own error: an exec'ed one has no time to tell.
    """
    if _may_serve():
        for _attempt in range(2):
            template = _forkserver._obtain(method, preparation)
            if template is None:
                break
            try:
                answer = template.ask(launch, _forkserver._all())
            except ConnectionError:
                _forkserver._discard(template)
                continue
            _forkserver._listen(template)
            if isinstance(answer, _engine.Child):
                return answer, 0.0 if method in _slow else _LISTENING
            if answer in ("unfit", "failed"):
                _forkserver._give_up(template)
            util.debug("exec, because the template cannot serve: %s", answer)
            break
    return execute(launch), 0.0


def note_slow_load(method: str) -> None:
    """A child took longer to load than `start()` listens."""
    _slow.add(method)


def execute(launch: _engine.Launch, ways: bool = True) -> _engine.Child:
    """A child that is really a fresh interpreter; with ways to the tree's templates, or none."""
    path = spawn.get_executable()
    if path is None:
        raise ValueError("there is no interpreter to run; see set_executable()")
    sys.audit("bequeath.exec", path)
    try:
        return launch.execute(
            path,
            lambda number: spawn.get_command_line(pipe_handle=number),
            _forkserver._all() if ways else [],
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        # No fault of the descriptors that a start takes: it is this program that cannot be run.
        raise type(error)(error.errno, os.strerror(error.errno or 0), os.fsdecode(path)) from None


def _may_serve() -> bool:
    """Whether a template's child would be what an exec'ed one is."""
    return not (
        os.environ.get("BEQUEATH_TEMPLATES") == "0"
        or spawn._executable_was_set
        or _settings.is_strict()
        or spawn.get_executable() is None
        or not _engine.can_compare_states()
        or getattr(sys, "frozen", False)
        # These print while the interpreter starts.
        or sys.flags.verbose
        or sys.flags.inspect
        or "importtime" in sys._xoptions
    )


class ForkServer:
    """The templates that this process knows; the name is the standard library's."""

    def __init__(self) -> None:
        self._preload_modules: list[str] = ["__main__"]
        #: Who names the modules wants these and no others.
        self._preload_was_set = False
        self._on_error = "ignore"
        #: Modules that a template does without, with what they left behind in it.
        self.kept_out: dict[str, str] = {}
        #: Keys of templates that cannot serve anybody.
        self._unfit: set[int] = set()
        #: Keys of templates whose preload failed, where that is to be an error.
        self._failed: dict[int, str] = {}
        self._inherited_fds: list[int] | None = None
        self._templates: dict[int, _engine.Template] = {}
        #: Ways to templates of the tree that this process has not used yet.
        self._doors: dict[int, int] = {}
        self._inherited: list[_engine.Template] = []
        self._failures = 0
        self._lock = threading.Lock()
        self._follows_forks = False

    def set_forkserver_preload(self, modules_names: list[str], *, on_error: str = "ignore") -> None:
        """Modules that children of the forkserver find imported, as far as that is safe.

        Only these, from then on: the template no longer learns from its children.
        """
        if not all(type(name) is str for name in modules_names):
            raise TypeError("module_names must be a list of strings")
        if on_error not in ("ignore", "warn", "fail"):
            raise ValueError(f"on_error must be 'ignore', 'warn' or 'fail', not {on_error!r}")
        self._preload_modules = list(modules_names)
        self._preload_was_set = True
        self._on_error = on_error

    def get_inherited_fds(self) -> list[int] | None:
        """The descriptors that came with the start; None if no template made this process."""
        return self._inherited_fds

    def connect_to_new_process(self, fds: list[int]) -> tuple[int, int]:
        """Not offered: a template is handed a child's whole launch, not a pipe to read it from."""
        raise NotImplementedError(
            "a bequeath template takes a whole Process: use get_context('forkserver').Process"
        )

    def ensure_running(self) -> None:
        """Start the template of "forkserver" unless it runs."""
        if _may_serve():
            self._obtain("forkserver", spawn.get_preparation_data("forkserver"))

    @property
    def _forkserver_pid(self) -> int | None:
        preparation = {
            **spawn._how_to_get_main(),
            "sys_path": spawn._sys_path(),
            "sys_argv": sys.argv,
        }
        template = self._templates.get(self._key("forkserver", preparation))
        return None if template is None else template.pid

    # --- finding, starting, losing ------------------------------------------------------------

    def _obtain(self, method: str, preparation: dict[str, Any]) -> _engine.Template | None:
        """The template for children of this method with this process's present environment."""
        key = self._key(method, preparation)
        if key in self._failed:
            raise ConnectionError(self._failed[key])
        if key in self._unfit:
            return None
        with self._locked():
            template = self._templates.get(key)
            if template is not None and template.is_alive():
                return template
            try:
                template = self._through_door(key) or self._launch(key, method, preparation)
            except OSError as error:
                util.debug("no template: %s", error)
                return None
            if template is not None:
                self._templates[key] = template
            return template

    def _key(self, method: str, preparation: dict[str, Any]) -> int:
        return _key(
            method, preparation, self._preload_modules, self._on_error, self._learns(method)
        )

    def _learns(self, method: str) -> bool:
        off = os.environ.get("BEQUEATH_LEARN_PRELOAD") == "0"
        return method == "forkserver" and not (off or self._preload_was_set)

    def _through_door(self, key: int) -> _engine.Template | None:
        """A template that somebody else of the tree started."""
        for inherited in self._inherited:
            if inherited.key == key:
                self._inherited.remove(inherited)
                self._doors.setdefault(key, os.dup(inherited.door()))
                break
        door = self._doors.pop(key, None)
        if door is None:
            return None
        try:
            return _engine.Template.through(key, door)
        except (OSError, ConnectionError):
            return None

    def _launch(
        self, key: int, method: str, preparation: dict[str, Any]
    ) -> _engine.Template | None:
        if key in self._templates:
            self._failures += 1  # it was there, and ended
            del self._templates[key]
        if len(self._templates) >= _MOST or self._failures > _MOST:
            return None
        setup = {
            "method": method,
            "installed": _install.is_installed(),
            "preload": self._preload_modules if method == "forkserver" else [],
            "listed": self._preload_was_set,
            "on_error": self._on_error,
            "learn": self._learns(method),
            "sys_path": [entry for entry in preparation["sys_path"] if isinstance(entry, str)],
            "sys_argv": [str(argument) for argument in preparation["sys_argv"]],
            "main": _main_of(preparation),
        }
        path = spawn.get_executable()
        assert path is not None
        sys.audit("bequeath.exec", path)
        return _engine.Template.start(key, _engine.pack(setup), path, _command_line)

    def _discard(self, template: _engine.Template) -> None:
        with self._locked():
            if self._templates.get(template.key) is template:
                template.is_alive()  # reaps it
                self._failures += 1
                del self._templates[template.key]

    def _listen(self, template: _engine.Template) -> None:
        """What the template has to say about what it loaded."""
        for note in template.notes():
            what, name, why = note.split("\0", 2)
            if what == "warn":
                import warnings

                warnings.warn(f"Failed to preload {name}: {why}", ImportWarning, stacklevel=2)
            elif what == "fail":
                self._give_up(template)
                self._failed[template.key] = f"Failed to preload {name}: {why}"
                raise ConnectionError(self._failed[template.key])
            else:
                self.kept_out[name] = why
                util.info("templates do without %s, which leaves behind: %s", name, why)

    def _give_up(self, template: _engine.Template) -> None:
        with self._locked():
            self._unfit.add(template.key)
            if self._templates.get(template.key) is template:
                del self._templates[template.key]
        template.leave(_PATIENCE)

    def _preload_settings(self) -> dict[str, Any]:
        """For a child, whose children shall find the same imported."""
        settings: dict[str, Any] = {"unfit": sorted(self._unfit)} if self._unfit else {}
        if self._preload_was_set:
            settings["modules"] = self._preload_modules
            settings["on_error"] = self._on_error
        return settings

    def _take_preload_settings(self, settings: dict[str, Any]) -> None:
        self._unfit = set(settings.get("unfit", ()))
        if "modules" in settings:
            self.set_forkserver_preload(settings["modules"], on_error=settings["on_error"])

    def _all(self) -> list[_engine.Template]:
        """Those that a child shall know, also those that this process never used itself."""
        with self._locked():
            for key in [*self._doors, *(template.key for template in self._inherited)]:
                if key not in self._templates:
                    template = self._through_door(key)
                    if template is not None:
                        self._templates[key] = template
            return list(self._templates.values())

    def _take_doors(self, doors: list[tuple[int, int]]) -> None:
        """In a child: the ways to the tree's templates that its parent handed over."""
        for key, door in doors:
            if key in self._doors or key in self._templates:
                os.close(door)
            else:
                self._doors[key] = door

    def _locked(self) -> threading.Lock:
        """The lock. Until somebody needs it there is no hook, either, that each child would run."""
        if not self._follows_forks:
            os.register_at_fork(after_in_child=self._after_fork_in_child)
            self._follows_forks = True
        return self._lock

    # --- the end --------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Let go of all templates; those that nobody else uses end, and are reaped.

        `util` calls it at exit, after everything that others do there.
        """
        if not self._follows_forks:
            return  # there never was one
        with self._locked():
            templates, self._templates = self._templates, {}
        for template in templates.values():
            template.leave(_PATIENCE)

    def _after_fork_in_child(self) -> None:
        # The connections are the parent's. The objects are kept: their doors lead on.
        self._inherited = [*self._templates.values(), *self._inherited]
        self._templates = {}
        self._lock = threading.Lock()


def _main_of(preparation: dict[str, Any]) -> dict[str, str]:
    keys = ("init_main_from_name", "init_main_from_path")
    return {key: preparation[key] for key in keys if key in preparation}


def _key(
    method: str, preparation: dict[str, Any], preload: list[str], on_error: str, learns: bool
) -> int:
    """What a template must have in common with those who use it, as a number."""
    parts: list[object] = [
        method,
        spawn.get_executable(),
        spawn._args_from_interpreter_flags(),
        _install.is_installed(),
    ]
    loaded = method == "forkserver"
    if loaded:
        # What it loads was found there, and may have looked at its arguments.
        parts += [preload, on_error, _main_of(preparation), learns]
        parts += [preparation["sys_path"], preparation["sys_argv"]]
    return _engine.template_key(repr(parts).encode("utf-8", "surrogateescape"), loaded)


def _command_line(number: int, *kept_out: tuple[str, str]) -> list[Any]:
    code = f"from {__package__}.forkserver import main; main({number})"
    # For those who look from outside: `bequeath inspect`, ps.
    without = [f"--without={name}: {left}" for name, left in kept_out]
    return _launch_command.interpreter_command(code, "--multiprocessing-fork", *without)


def main(listener_fd: int, *_arguments: Any, **_keywords: Any) -> None:
    """The main program of a template; the rest comes with the launch behind the descriptor."""
    from . import _template

    _template.main(listener_fd)


def read_signed(fd: int) -> int:
    """A number as multiprocessing's servers write it: 64 bits, signed, in native order."""
    data = b""
    while len(data) < 8:
        part = os.read(fd, 8 - len(data))
        if not part:
            raise EOFError("unexpected EOF")
        data += part
    return int.from_bytes(data, sys.byteorder, signed=True)


def write_signed(fd: int, n: int) -> None:
    """Write a number for `read_signed`."""
    data = n.to_bytes(8, sys.byteorder, signed=True)
    while data:
        data = data[os.write(fd, data) :]


_forkserver = ForkServer()
ensure_running = _forkserver.ensure_running
get_inherited_fds = _forkserver.get_inherited_fds
connect_to_new_process = _forkserver.connect_to_new_process
set_forkserver_preload = _forkserver.set_forkserver_preload
