"""The names other packages import from `multiprocessing.util`; nothing of ours lives here.

Finalizers run in order of priority when a process exits and do nothing in any other process;
after-fork hooks run in a forked child in the order of their registration; one logger, named as
multiprocessing's, is silent until asked for.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence

TYPE_CHECKING = False  # what `typing` calls so: importing it would cost more than this module
if TYPE_CHECKING:
    import logging
    from typing import Any

__all__ = [
    "sub_debug",
    "debug",
    "info",
    "sub_warning",
    "get_logger",
    "log_to_stderr",
    "get_temp_dir",
    "register_after_fork",
    "is_exiting",
    "Finalize",
    "ForkAwareThreadLock",
    "ForkAwareLocal",
    "close_all_fds_except",
    "SUBDEBUG",
    "SUBWARNING",
]
if sys.version_info >= (3, 14):
    __all__ += ["warn"]

# --- logging ---

NOTSET = 0
SUBDEBUG = 5
DEBUG = 10
INFO = 20
SUBWARNING = 25
WARNING = 30

LOGGER_NAME = "multiprocessing"
DEFAULT_LOGGING_FORMAT = "[%(levelname)s/%(processName)s] %(message)s"

_logger: logging.Logger | None = None
_log_to_stderr = False


def sub_debug(msg: object, *args: object) -> None:
    """Log below DEBUG, if somebody asked for the logger."""
    if _logger:
        _logger.log(SUBDEBUG, msg, *args, stacklevel=2)


def debug(msg: object, *args: object) -> None:
    """Log at DEBUG, if somebody asked for the logger."""
    if _logger:
        _logger.log(DEBUG, msg, *args, stacklevel=2)


def info(msg: object, *args: object) -> None:
    """Log at INFO, if somebody asked for the logger."""
    if _logger:
        _logger.log(INFO, msg, *args, stacklevel=2)


def warn(msg: object, *args: object) -> None:
    """Log at WARNING, if somebody asked for the logger."""
    if _logger:
        _logger.log(WARNING, msg, *args, stacklevel=2)


def sub_warning(msg: object, *args: object) -> None:
    """Log between INFO and WARNING, if somebody asked for the logger."""
    if _logger:
        _logger.log(SUBWARNING, msg, *args, stacklevel=2)


_warn = sub_warning  # the name that 3.14 gives it


def get_logger() -> logging.Logger:
    """multiprocessing's logger; it hands nothing on to the root logger."""
    global _logger
    import logging

    if _logger is None:
        logger = logging.getLogger(LOGGER_NAME)
        logger.propagate = False
        # Finalizers log: they must run before logging shuts down, and atexit runs the
        # newest first, so ours is registered anew after logging's own.
        atexit.unregister(_exit_function)
        atexit.register(_exit_function)
        _logger = logger
    return _logger


def log_to_stderr(level: int | str | None = None) -> logging.Logger:
    """Add a handler that prints to the standard error; set the level if one is given."""
    global _log_to_stderr
    import logging

    logger = get_logger()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(DEFAULT_LOGGING_FORMAT))
    logger.addHandler(handler)
    if level:
        logger.setLevel(level)
    _log_to_stderr = True
    return logger


# --- temporary directory and sockets' names ---

#: Linux has the abstract namespace; where it is missing the import of the package has failed.
abstract_sockets_supported = sys.platform == "linux"


def is_abstract_socket_namespace(address: str | bytes | None) -> bool:
    """Whether the address of a Unix socket names no file."""
    if not address:
        return False
    if isinstance(address, bytes):
        return address[0] == 0
    if isinstance(address, str):
        return address[0] == "\0"
    raise TypeError(f"address type of {address!r} unrecognized")


def _remove_temp_dir(rmtree: Callable[..., None], tempdir: str) -> None:
    rmtree(tempdir, ignore_errors=True)
    process = _current_process()
    if process is not None:
        process._config["tempdir"] = None


def get_temp_dir() -> str:
    """This process tree's directory for sockets; made at the first call, removed at exit."""
    process = _current_process()
    tempdir = process._config.get("tempdir")
    if tempdir is None:
        import shutil
        import tempfile

        tempdir = tempfile.mkdtemp(prefix="pymp-")
        info("created temp directory %s", tempdir)
        # After everything else: sockets in it are closed by finalizers of higher priority.
        Finalize(None, _remove_temp_dir, args=(shutil.rmtree, tempdir), exitpriority=-100)
        process._config["tempdir"] = tempdir
    return tempdir  # type: ignore[no-any-return]


def _current_process() -> Any:
    # `process` imports this module; it is complete whenever a function here runs.
    from . import process

    return process.current_process()


# --- after a fork ---

_afterfork_registry: weakref.WeakValueDictionary[tuple[int, int, Callable[[Any], object]], Any] = (
    weakref.WeakValueDictionary()
)
_afterfork_counter = itertools.count()


def register_after_fork(obj: object, func: Callable[[Any], object]) -> None:
    """Call `func(obj)` in every forked child that still knows `obj`."""
    _afterfork_registry[(next(_afterfork_counter), id(obj), func)] = obj


def _run_after_forkers() -> None:
    for (_index, _ident, func), obj in sorted(
        _afterfork_registry.items(), key=lambda entry: entry[0][:2]
    ):
        try:
            func(obj)
        except Exception as error:
            info("after forker raised exception %s", error)


# --- finalizers ---

_finalizer_registry: dict[tuple[int | None, int], Finalize] = {}
_finalizer_counter = itertools.count()


class Finalize:
    """Calls something once: when `obj` dies, when called, or at exit if it has a priority."""

    def __init__(
        self,
        obj: object,
        callback: Callable[..., object],
        args: Iterable[Any] = (),
        kwargs: dict[str, Any] | None = None,
        exitpriority: int | None = None,
    ) -> None:
        if exitpriority is not None and not isinstance(exitpriority, int):
            raise TypeError(
                f"Exitpriority ({exitpriority!r}) must be None or int, not {type(exitpriority)!s}"
            )
        if obj is not None:
            self._weakref: weakref.ref[Any] | None = weakref.ref(obj, self)
        elif exitpriority is None:
            raise ValueError("Without object, exitpriority cannot be None")
        else:
            self._weakref = None
        self._callback: Callable[..., object] | None = callback
        self._args: Iterable[Any] | None = args
        self._kwargs: dict[str, Any] | None = kwargs or {}
        self._key = (exitpriority, next(_finalizer_counter))
        self._pid = os.getpid()
        _finalizer_registry[self._key] = self

    def __call__(
        self,
        wr: object = None,
        # Bound here because module globals may be gone when the last objects die.
        _finalizer_registry: dict[Any, Any] = _finalizer_registry,
        sub_debug: Callable[..., None] = sub_debug,
        getpid: Callable[[], int] = os.getpid,
    ) -> object:
        """Run the callback unless it has run, was cancelled, or belongs to another process."""
        if _finalizer_registry.pop(self._key, None) is None:
            sub_debug("finalizer no longer registered")
            return None
        if self._pid != getpid():
            sub_debug("finalizer ignored because different process")
            result = None
        else:
            sub_debug(
                "finalizer calling %s with args %s and kwargs %s",
                self._callback,
                self._args,
                self._kwargs,
            )
            assert self._callback is not None and self._args is not None
            result = self._callback(*self._args, **(self._kwargs or {}))
        self._forget()
        return result

    def _forget(self) -> None:
        self._weakref = self._callback = self._args = self._kwargs = None

    def cancel(self) -> None:
        """Never run the callback."""
        if _finalizer_registry.pop(self._key, None) is not None:
            self._forget()

    def still_active(self) -> bool:
        """Whether the callback may still run."""
        return self._key in _finalizer_registry

    def __repr__(self) -> str:
        obj = self._weakref() if self._weakref is not None else None
        if self._callback is None or (self._weakref is not None and obj is None):
            return f"<{type(self).__name__} object, dead>"
        parts = [f"callback={getattr(self._callback, '__name__', self._callback)}"]
        if self._args:
            parts.append(f"args={self._args!s}")
        if self._kwargs:
            parts.append(f"kwargs={self._kwargs!s}")
        if self._key[0] is not None:
            parts.append(f"exitpriority={self._key[0]!s}")
        return f"<{type(self).__name__} object, {', '.join(parts)}>"


def _run_finalizers(minpriority: int | None = None) -> None:
    """Run those of at least this priority, the highest first and the newest among equals.

    With None all of them run, also those without a priority, whose objects merely still live.
    """
    if not _finalizer_registry:
        return  # None: the interpreter is taking modules apart

    def chosen(key: tuple[int | None, int]) -> bool:
        return key[0] is not None and (minpriority is None or key[0] >= minpriority)

    # A finalizer may register or run others: each is looked up when its turn comes.
    for key in sorted(filter(chosen, list(_finalizer_registry)), reverse=True):
        finalizer = _finalizer_registry.get(key)
        if finalizer is None:
            continue
        sub_debug("calling %s", finalizer)
        try:
            finalizer()
        except Exception:
            import traceback

            traceback.print_exc()
    if minpriority is None:
        _finalizer_registry.clear()


# --- exit ---

_exiting = False


def is_exiting() -> bool:
    """Whether this process has begun to exit."""
    return _exiting or _exiting is None


def _exit_function(
    info: Callable[..., None] = info,
    debug: Callable[..., None] = debug,
    _run_finalizers: Callable[..., None] = _run_finalizers,
) -> None:
    """Finalizers of priority 0 and up, daemons ended, children joined, the other finalizers."""
    global _exiting
    if _exiting:
        return
    _exiting = True
    info("process shutting down")
    debug('running all "atexit" finalizers with priority >= 0')
    _run_finalizers(0)
    process = sys.modules.get(f"{__package__}.process")
    if process is not None and process.current_process() is not None:
        _end_children(process, info)
    debug('running the remaining "atexit" finalizers')
    _run_finalizers()
    forkserver = sys.modules.get(f"{__package__}.forkserver")
    if forkserver is not None:
        forkserver._forkserver._stop()  # templates leave last: a finalizer may have started one


def _end_children(process: Any, info: Callable[..., None]) -> None:
    if not process._children:
        return
    # What a plain `os.fork()` left in the books is the parent's, who may need it yet.
    mine = [child for child in process.active_children() if child._parent_pid == os.getpid()]
    for child in mine:
        if child.daemon:
            info("calling terminate() for daemon %s", child.name)
            child._popen.terminate()
    for child in mine:
        info("calling join() for process %s", child.name)
        child.join()


atexit.register(_exit_function)


# --- thread primitives that a forked child finds unlocked ---


class ForkAwareThreadLock:
    """A `threading.Lock` that is free in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        register_after_fork(self, ForkAwareThreadLock._at_fork_reinit)

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *args: Any) -> None:
        self._lock.__exit__(*args)


class ForkAwareLocal(threading.local):
    """A `threading.local` that is empty in a forked child and pickles as a fresh one."""

    def __init__(self) -> None:
        register_after_fork(self, lambda obj: obj.__dict__.clear())

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), ()


# --- descriptors and programs ---

try:
    MAXFD = os.sysconf("SC_OPEN_MAX")
except Exception:
    MAXFD = 256


def close_all_fds_except(fds: Iterable[int]) -> None:
    """Close every descriptor but these."""
    bounds = [-1, *sorted(fds), MAXFD]
    assert bounds[-1] == max(bounds), "fd too large"
    for low, high in zip(bounds, bounds[1:]):  # noqa: B905 - strict= would refuse the pairs
        os.closerange(low + 1, high)


def close_fds(*fds: int) -> None:
    """Close these descriptors."""
    for fd in fds:
        os.close(fd)


#: A text stream over the null device, made before a fork: its children only open the device, which
#: takes them a third of the time.
_empty_input: Any = None


def _make_empty_input() -> None:
    """Before a fork: make what the child's `_close_stdin` puts in place of its standard input."""
    global _empty_input
    if _empty_input is not None:
        return
    try:
        fd = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return  # the child says what there is to say
    try:
        _empty_input = open(fd, encoding="utf-8", closefd=False)
    finally:
        os.close(fd)


def _input_from(fd: int) -> Any:
    global _empty_input
    ready, _empty_input = _empty_input, None
    if ready is None:
        return open(fd, encoding="utf-8", closefd=False)
    ready.buffer.raw.__init__(fd, "r", closefd=False)
    return ready


def _close_stdin() -> None:
    """Give this process an empty standard input."""
    if sys.stdin is None:
        return
    try:
        sys.stdin.close()
    except (OSError, ValueError):
        pass
    try:
        fd = os.open(os.devnull, os.O_RDONLY)
        try:
            sys.stdin = _input_from(fd)
        except BaseException:
            os.close(fd)
            raise
    except (OSError, ValueError):
        pass


def _flush_std_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError):
            pass


def spawnv_passfds(path: Any, args: Sequence[Any], passfds: Iterable[int]) -> int:
    """Start a program that keeps these descriptors, under their numbers, and no others."""
    import subprocess

    child = subprocess.Popen(
        list(args),
        executable=path,
        pass_fds=tuple(sorted(passfds)),
        close_fds=True,
        restore_signals=False,
    )
    child.returncode = 0  # the caller waits for the pid; the object must not
    return child.pid


def _args_from_interpreter_flags() -> list[str]:
    """The options this interpreter was started with; other packages look for it here."""
    import subprocess

    return subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined,no-any-return]


def _cleanup_tests() -> None:
    """What CPython's own test modules call when they are done."""
    from test import support  # type: ignore[import-not-found]

    from . import forkserver, process, resource_tracker

    process._cleanup()
    stop = getattr(forkserver._forkserver, "_stop", None)
    if stop is not None:
        stop()
    resource_tracker._resource_tracker._stop()
    _run_finalizers()
    support.gc_collect()
    support.reap_children()
