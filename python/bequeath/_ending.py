"""How a child of a clean template ends: as an exec'ed interpreter does, but not taken apart.

What a program can see of an interpreter's end happens here in the same order: non-daemon threads
are joined (`_bootstrap` did), exit functions run, streams are flushed, the program's modules are
emptied so that destructors run and forgotten files are written, and the C library's own exit
functions run. What nobody can see, freeing the modules that the template had loaded, does not
happen: it would touch, and so copy, most of the memory that the child shares.
"""

from __future__ import annotations

import atexit
import gc
import io
import sys
import threading
import weakref

from . import _engine, process, spawn, util

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, NoReturn

    from ._loaded import Loaded


def end_like_an_interpreter(code: int, known: Loaded) -> NoReturn:
    """End this process; `known` are the modules that its template had loaded."""
    if threading.active_count() > 1:
        # Daemon threads must be stopped before modules are emptied; only the interpreter can.
        sys.exit(code)
    try:
        atexit._run_exitfuncs()
        util._flush_std_streams()
        _write_files()
        _empty_modules(known)
        util._flush_std_streams()
    finally:
        _engine.exit_process(code & 0xFF)


def _write_files() -> None:
    """What the program forgot to close: the collector may close a file's lower layer first."""
    for thing in gc.get_objects():  # only what this process made: the template's is frozen
        if issubclass(type(thing), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            try:
                thing.flush()
            except Exception:
                pass


def _empty_modules(known: Loaded) -> None:
    own = process._current_process
    for name in ("_target", "_args", "_kwargs"):
        own.__dict__.pop(name, None)
    spawn.old_main_modules.clear()
    names = [name for name in MAINS if name in sys.modules]
    names += [name for name in known.since() if name not in MAINS]
    modules: list[weakref.ref[ModuleType]] = []
    for name in names:
        try:
            modules.append(weakref.ref(sys.modules[name]))
        except TypeError:
            pass
        del sys.modules[name]
    # Most modules die here, of their own accord; what their functions need lives as long as they.
    gc.collect()
    for reference in reversed(modules):
        module = reference()
        if module is not None:
            _empty(module.__dict__)
    gc.collect()


MAINS = ("__main__", "__mp_main__")


def _empty(namespace: dict[str, Any]) -> None:
    """Names with one underscore first, then the others, as the interpreter does."""
    for name in list(namespace):
        if name.startswith("_") and not name.startswith("__"):
            namespace[name] = None
    for name in list(namespace):
        if name != "__builtins__":
            namespace[name] = None
