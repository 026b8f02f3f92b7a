"""Processes as objects: `Process` in multiprocessing's shape, and who is alive.

The object lives in both processes: the parent starts, watches and ends the child through it, the
child runs `_bootstrap` on its copy. How a child comes to be is the affair of the `popen_*` modules.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
from _weakrefset import WeakSet
from collections.abc import Callable, Iterable, Iterator, Mapping

from . import _engine, _inspect, _install, _logging, _settings, util

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    from typing import Any, ClassVar

__all__ = ["BaseProcess", "current_process", "active_children", "parent_process"]

#: Where the program started; children replace '' in `sys.path` by it.
ORIGINAL_DIR: str | None
try:
    ORIGINAL_DIR = os.path.abspath(os.getcwd())
except OSError:
    ORIGINAL_DIR = None


#: What `kwargs` is when none are given: multiprocessing's default, which is only read.
_NO_KWARGS: Mapping[str, Any] | None = None if sys.version_info >= (3, 14) else {}


def current_process() -> BaseProcess:
    """The object of this process."""
    return _current_process


def parent_process() -> BaseProcess | None:
    """The object of the process that started this one; None in the main process."""
    return _parent_process


def active_children() -> list[BaseProcess]:
    """The children of this process that run; those that have ended are reaped on the way."""
    _cleanup()
    return list(_children)


def _cleanup() -> None:
    for child in list(_children):
        popen = child._popen
        if popen is not None and popen.poll() is not None:
            _children.discard(child)


class BaseProcess:
    """An activity in a process of its own; the counterpart of `threading.Thread`."""

    _start_method: ClassVar[str | None] = None

    _identity: tuple[int, ...]
    _config: dict[str, Any]

    _popen: Any
    _parent_pid: int | None
    _on_parent_death: str | None = None
    _session: bool = True
    #: Several are started together, and heard then: see `hear_of_start` of what starts them.
    _among_others: bool = False

    def _Popen(self) -> Any:
        raise NotImplementedError

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = _NO_KWARGS,
        *,
        daemon: bool | None = None,
        on_parent_death: str | None = None,
        session: bool = True,
    ) -> None:
        """Describe a process; `start()` makes it.

        `on_parent_death` is bequeath's own: "terminate" or "kill" ends the child when its parent
        is gone in whatever way. Daemonic children are always ended. With `session=False` the child
        shares nothing with this process but what it is handed: connections, sockets and files;
        queues, locks and shared values are refused. For one that is trusted less than its starter.
        """
        assert group is None, "group argument must be None for now"
        if on_parent_death not in (None, "terminate", "kill"):
            raise ValueError(
                f"on_parent_death must be None, 'terminate' or 'kill', not {on_parent_death!r}"
            )
        self._identity = _current_process._identity + (next(_process_counter),)
        self._config = _current_process._config.copy()
        self._parent_pid = os.getpid()
        self._parent_name = _current_process.name
        self._popen = None
        self._closed = False
        self._target = target
        self._args = tuple(args)
        self._kwargs = {} if kwargs is None else dict(kwargs)
        self._name = name or f"{type(self).__name__}-{':'.join(map(str, self._identity))}"
        if daemon is not None:
            self.daemon = daemon
        if not session:
            self._session = False
            # This tree's key opens its managers.
            self._config["authkey"] = AuthenticationString(os.urandom(32))
        if on_parent_death is not None:
            self._on_parent_death = on_parent_death
        _dangling.add(self)

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("process object is closed")

    def _watcher(self, refusal: str | None = None) -> Any:
        """What waits for the process and signals it; where a fork has copied this object, a handle.

        In strict mode a copy is refused, or says what multiprocessing's says.
        """
        popen = self._popen
        if self._parent_pid == os.getpid() or type(popen) is _engine.HeldProcess:
            return popen
        if popen is None or _settings.is_strict():
            assert refusal is None, refusal
            return popen
        from . import _process_handle

        return _process_handle.take_hold(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A process in a transfer is a handle; one that is not started yet goes as the object."""
        if self._is_process() and _engine.transfer_active() and not _settings.is_strict():
            own_way = type(self).__reduce__, getattr(type(self), "__getstate__", None)
            if own_way == (object.__reduce__, getattr(object, "__getstate__", None)):
                from . import _process_handle

                return _process_handle.reduce(self)
        return super().__reduce_ex__(protocol)

    def _is_process(self) -> bool:
        return self._popen is not None or self is _current_process

    # --- the parent's side -------------------------------------------------------------------

    def start(self) -> None:
        """Start the child; at most once."""
        self._check_closed()
        assert self._popen is None, "cannot start a process twice"
        assert self._parent_pid == os.getpid(), (
            "can only start a process object created by current process"
        )
        # Daemons may have children here: they die with the daemon, so nobody is left behind.
        assert not (_current_process._config.get("daemon") and _settings.is_strict()), (
            "daemonic processes are not allowed to have children"
        )
        _cleanup()
        if _settings.audit:
            from . import _audit

            _audit.started(self)
        self._popen = self._Popen(self)  # type: ignore[call-arg]
        self._sentinel = self._popen.sentinel
        # What the child was given must not be kept alive by this object.
        del self._target, self._args, self._kwargs
        _children.add(self)

    def terminate(self) -> None:
        """Ask the child to end, by SIGTERM."""
        self._check_closed()
        self._watcher().terminate()

    def kill(self) -> None:
        """End the child, by SIGKILL."""
        self._check_closed()
        self._watcher().kill()

    def interrupt(self) -> None:
        """Interrupt the child, by SIGINT."""
        self._check_closed()
        self._watcher().interrupt()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the child has ended, or for `timeout` seconds."""
        self._check_closed()
        popen = self._watcher("can only join a child process")
        assert popen is not None, "can only join a started process"
        if popen.wait(timeout) is not None:
            _children.discard(self)

    def is_alive(self) -> bool:
        """Whether the process runs; one that has ended is reaped."""
        self._check_closed()
        if self is _current_process:
            return True
        popen = self._watcher("can only test a child process")
        if popen is None:
            return False
        if popen.poll() is None:
            return True
        _children.discard(self)
        return False

    def close(self) -> None:
        """Give back what the object holds; the child must have ended."""
        if self._popen is not None:
            if self._popen.poll() is None:
                raise ValueError(
                    "Cannot close a process while it is still running. "
                    "You should first call join() or terminate()."
                )
            self._popen.close()
            self._popen = None
            del self._sentinel
            _children.discard(self)
        self._closed = True

    # --- attributes ----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """What the process is called, here and in logs, and by the kernel (its first 15 bytes)."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        assert isinstance(name, str), "name must be a string"
        self._name = name

    @property
    def daemon(self) -> bool:
        """Whether the child ends with its parent."""
        return self._config.get("daemon", False)  # type: ignore[no-any-return]

    @daemon.setter
    def daemon(self, daemonic: bool) -> None:
        assert self._popen is None, "process has already started"
        self._config["daemon"] = daemonic

    @property
    def authkey(self) -> AuthenticationString:
        """The key by which connections of this process tree prove themselves."""
        return self._config["authkey"]  # type: ignore[no-any-return]

    @authkey.setter
    def authkey(self, authkey: bytes) -> None:
        self._config["authkey"] = AuthenticationString(authkey)

    @property
    def exitcode(self) -> int | None:
        """The exit code, or the number of the ending signal negated; None until it has ended."""
        self._check_closed()
        popen = self._watcher()
        return popen and popen.poll()  # type: ignore[no-any-return]

    @property
    def ident(self) -> int | None:
        """The process id; None before the start."""
        self._check_closed()
        if self is _current_process:
            return os.getpid()
        return self._popen and self._popen.pid  # type: ignore[no-any-return]

    pid = ident

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        self._check_closed()
        try:
            return self._sentinel  # type: ignore[no-any-return]
        except AttributeError:
            raise ValueError("process not started") from None

    def __repr__(self) -> str:
        exitcode = None
        if self is _current_process:
            status = "started"
        elif self._closed:
            status = "closed"
        elif self._parent_pid != os.getpid() and type(self._popen) is not _engine.HeldProcess:
            status = "unknown"
        elif self._popen is None:
            status = "initial"
        else:
            exitcode = self._popen.poll()
            status = "started" if exitcode is None else "stopped"
        parts = [type(self).__name__, f"name={self._name!r}"]
        if self._popen is not None:
            parts.append(f"pid={self._popen.pid}")
        parts += [f"parent={self._parent_pid}", status]
        if exitcode is not None:
            parts.append(f"exitcode={_exitcode_to_name.get(exitcode, exitcode)}")
        if self.daemon:
            parts.append("daemon")
        return f"<{' '.join(parts)}>"

    # --- the child's side ------------------------------------------------------------------------

    def run(self) -> None:
        """What the child does; subclasses may override it."""
        if self._target:
            self._target(*self._args, **self._kwargs)

    def _bootstrap(self, parent_sentinel: int | None = None) -> int:
        """Become the process that this object describes, run it, and return its exit code."""
        global _children, _current_process, _parent_process, _process_counter
        exitcode, begun = 1, False
        try:
            if self._start_method is not None:
                _context._force_start_method(self._start_method)
            _process_counter = itertools.count(1)
            _children = set()
            util._close_stdin()
            former = _current_process
            _current_process = self
            _parent_process = _ParentProcess(self._parent_name, self._parent_pid, parent_sentinel)
            method = self._start_method or _context._default_context.get_start_method()
            _engine.set_process_name(self._name, method)
            _inspect.listen()
            if not _install.is_installed():  # else logging asks us, under multiprocessing's name
                _logging.name_records()
            if getattr(threading, "_HAVE_THREAD_NATIVE_ID", False):
                threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
            try:
                self._after_fork()
            finally:
                # Only now: a finalizer run on the way may ask who this process was.
                del former
            util.info("child process calling self.run()")
            begun = True
            self.run()
            exitcode = 0
        except SystemExit as leaving:
            exitcode = _exit_code_of(leaving)
        except BaseException as error:
            import traceback

            # Whoever pressed Ctrl-C meant what runs.
            if sys.stderr is not None and (begun or not isinstance(error, KeyboardInterrupt)):
                sys.stderr.write(f"Process {self.name}:\n")
                traceback.print_exc()
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            util.info("process exiting with exitcode %d", exitcode)
            util._flush_std_streams()
        return exitcode

    @staticmethod
    def _after_fork() -> None:
        if util._finalizer_registry:
            util._finalizer_registry.clear()
        if util._afterfork_registry.data:  # type: ignore[attr-defined]
            util._run_after_forkers()


def _exit_code_of(leaving: SystemExit) -> int:
    if leaving.code is None:
        return 0
    if isinstance(leaving.code, int):
        return leaving.code
    if sys.stderr is not None:
        sys.stderr.write(f"{leaving.code}\n")
    return 1


class AuthenticationString(bytes):
    """A key; it does not travel except to a child that is being started."""

    def __reduce__(self) -> tuple[Any, ...]:
        from .context import get_spawning_popen

        if get_spawning_popen() is None:
            raise TypeError(
                "Pickling an AuthenticationString object is disallowed for security reasons"
            )
        return AuthenticationString, (bytes(self),)


class _ParentProcess(BaseProcess):
    """The process that started this one, as far as a child may deal with it."""

    def __init__(self, name: str, pid: int | None, sentinel: int | None) -> None:
        self._identity = ()
        self._name = name
        self._pid = pid
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._sentinel = sentinel
        self._config = {}

    def is_alive(self) -> bool:
        from .connection import wait

        return not wait([self._sentinel], timeout=0)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the parent has ended."""
        from .connection import wait

        wait([self._sentinel], timeout=timeout)

    def _is_process(self) -> bool:
        return self._sentinel is not None

    @property
    def ident(self) -> int | None:
        """The parent's process id."""
        return self._pid

    pid = ident


class _MainProcess(BaseProcess):
    """The process that nobody of ours started."""

    def __init__(self) -> None:
        self._identity = ()
        self._name = "MainProcess"
        self._parent_pid = None
        self._popen = None
        self._closed = False
        self._config = {"authkey": AuthenticationString(os.urandom(32)), "semprefix": "/mp"}

    def close(self) -> None:
        """Nothing: this process is not a child."""


#: The module `context`, which imports this one: no child has to look for it.
_context: Any = None
_parent_process: BaseProcess | None = None
_current_process: BaseProcess = _MainProcess()
_process_counter: Iterator[int] = itertools.count(1)
_children: set[BaseProcess] = set()
del _MainProcess

_exitcode_to_name = {
    -number: f"-{name}"
    for name, number in vars(signal).items()
    if name.startswith("SIG") and "_" not in name
}

#: Every process object that is still referenced, for the checks of test suites.
_dangling: WeakSet[BaseProcess] = WeakSet()
