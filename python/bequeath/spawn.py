"""A fresh child: what its parent tells it, and how it becomes the process it shall be.

The parent collects preparation data and pickles the process object; the child, however it came
to be (exec'ed, or forked from a template), restores the first, runs the main module again under
the name `__mp_main__`, and only then unpickles the second.
"""

from __future__ import annotations

import builtins
import os
import pickle
import stat
import sys
import types
import warnings
from collections.abc import Callable

from . import _engine, _settings, process, util
from .context import _default_context

TYPE_CHECKING = False  # what `typing` calls so
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = [
    "_main",
    "freeze_support",
    "set_executable",
    "get_executable",
    "get_preparation_data",
    "get_command_line",
    "import_main_path",
]

WINEXE = WINSERVICE = False

# --- the interpreter ------------------------------------------------------------------------------

_python_exe: bytes | None = None if sys.executable is None else os.fsencode(sys.executable)
_executable_was_set = False


def set_executable(exe: str | bytes | None) -> None:
    """The interpreter that children run. Templates then rest: each child is really exec'ed."""
    global _executable_was_set, _python_exe
    _python_exe = None if exe is None else os.fsencode(exe)
    _executable_was_set = True


def get_executable() -> bytes | None:
    """The interpreter that children run."""
    return _python_exe


_FLAGS = {
    "debug": "d",
    "dont_write_bytecode": "B",
    "no_site": "S",
    "verbose": "v",
    "bytes_warning": "b",
    "quiet": "q",
    "optimize": "O",
}


def _args_from_interpreter_flags() -> list[str]:
    """The options that give another interpreter this one's `sys.flags`, warnings and -X options."""
    flags = sys.flags
    args = [
        "-" + letter * value for name, letter in _FLAGS.items() if (value := getattr(flags, name))
    ]
    if flags.isolated:
        args.append("-I")
    else:
        if flags.ignore_environment:
            args.append("-E")
        if flags.no_user_site:
            args.append("-s")
        if getattr(flags, "safe_path", False):
            args.append("-P")
    args += [f"-W{option}" for option in _own_warning_options()]
    for option, value in sys._xoptions.items():
        args += ["-X", option if value is True else f"{option}={value}"]
    return args


def _own_warning_options() -> list[str]:
    """Warning options that no other option implies."""
    options = list(sys.warnoptions)
    implied = ["default"] if sys.flags.dev_mode else []
    if sys.flags.bytes_warning:
        implied.append(
            "error::BytesWarning" if sys.flags.bytes_warning > 1 else "default::BytesWarning"
        )
    for option in implied:
        if option in options:
            options.remove(option)
    return options


def get_command_line(**kwds: Any) -> list[Any]:
    """The command that starts a fresh child, told these arguments of `spawn_main`."""
    if getattr(sys, "frozen", False):
        pairs = [f"{name}={value!r}" for name, value in kwds.items()]
        return [sys.executable, "--multiprocessing-fork", *pairs]
    from . import _launch_command

    arguments = ", ".join(f"{name}={value!r}" for name, value in kwds.items())
    code = f"from {__package__}.spawn import spawn_main; spawn_main({arguments})"
    return _launch_command.interpreter_command(code, "--multiprocessing-fork")


def is_forking(argv: list[str]) -> bool:
    """Whether this command line is that of a child."""
    return len(argv) >= 2 and argv[1] == "--multiprocessing-fork"


def freeze_support() -> None:
    """In a frozen program: run the child if this is one."""
    if is_forking(sys.argv):
        arguments = {}
        for argument in sys.argv[2:]:
            name, value = argument.split("=")
            arguments[name] = None if value == "None" else int(value)
        spawn_main(**arguments)  # type: ignore[arg-type]


# --- the child's side -----------------------------------------------------------------------------

_given: list[int | None] = []


def given_descriptor(index: int) -> int:
    """A descriptor that came with the start, once."""
    fd, _given[index] = _given[index], None
    if fd is None:
        raise ValueError(f"descriptor {index} of the start was taken already")
    return fd


def spawn_main(
    pipe_handle: int, parent_pid: int | None = None, tracker_fd: int | None = None
) -> NoReturn:
    """The main program of an exec'ed child; `pipe_handle` is where its launch is to be read."""
    assert is_forking(sys.argv), "Not forking"
    sys.exit(_main(pipe_handle))


def _main(fd: int, parent_sentinel: int | None = None) -> int:
    arrived = _engine.Arrived.from_file(fd)
    return run(arrived)


def run(arrived: _engine.Arrived) -> int:
    """Become the process that has arrived, run it, and return its exit code."""
    from . import forkserver

    try:
        forkserver._forkserver._take_doors(arrived.doors)
        *_given[:], report = arrived.given
        inheriting: Any = process.current_process()
        inheriting._inheriting = True
        try:
            prepare(_engine.unpack(arrived.head, arrived.head_descriptors))
            itself = _engine.unpack(arrived.body, arrived.body_descriptors)
        except Exception as error:
            if _engine.tell_starter(report, _failure(error)):
                return 1  # `start()` raises it
            raise
        finally:
            del inheriting._inheriting
        _engine.tell_starter(report, _LOADED)
    except KeyboardInterrupt:
        leave_interrupted()
    return itself._bootstrap(arrived.parent)  # type: ignore[no-any-return]


def leave_interrupted() -> NoReturn:
    """End by SIGINT, without a word: what is being loaded is not what Ctrl-C was meant for."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(1)  # who ignores what ends others


_LOADED = b"loaded"
_FAILED = b"failed"


def _failure(error: Exception) -> bytes:
    """The child's own error, for its starter: the exception if it can be pickled, and its text."""
    import traceback

    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))[-16_000:]
    for told in (error, None):
        try:
            word = _FAILED + pickle.dumps((told, text))
            pickle.loads(word[len(_FAILED) :])
        except Exception:
            continue
        if len(word) <= 48_000:
            return word
    return _FAILED + pickle.dumps((None, text))


class RemoteTraceback(Exception):
    """Where an error arose in another process; the cause of the one that is raised here."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def raise_failure(word: bytes, name: str) -> None:
    """In the parent: raise the error of a child that could not load what it was started with."""
    if not word.startswith(_FAILED):
        return
    error, text = pickle.loads(word[len(_FAILED) :])
    if error is None:
        error = RuntimeError(f"process {name!r} could not load what it was started with")
    raise error from RemoteTraceback(text)


# --- preparation data -----------------------------------------------------------------------------


def _check_not_importing_main() -> None:
    if getattr(process.current_process(), "_inheriting", False):
        raise RuntimeError(
            """
        An attempt has been made to start a new process before the
        current process has finished its bootstrapping phase.

        This probably means that you are not using fork to start your
        child processes and you have forgotten to use the proper idiom
        in the main module:

            if __name__ == '__main__':
                freeze_support()
                ...

        The "freeze_support()" line can be omitted if the program
        is not going to be frozen to produce an executable.

        To fix this issue, refer to the "Safe importing of main module"
        section in https://docs.python.org/3/library/multiprocessing.html
        """
        )


def get_preparation_data(name: str) -> dict[str, Any]:
    """What a fresh child must be told before it can unpickle its process object."""
    _check_not_importing_main()
    data: dict[str, Any] = {
        "log_to_stderr": util._log_to_stderr,
        "authkey": process.current_process().authkey,
        "name": name,
        "sys_path": _sys_path(),
        "sys_argv": sys.argv,
        "orig_dir": process.ORIGINAL_DIR,
        # Telling it does not choose it: the program may still do that after the start.
        "start_method": _default_context.get_start_method(allow_none=True),
        "default_start_method": _default_context._default_context._name,
        "bequeath": _settings.snapshot(),
    }
    if util._logger is not None:
        data["log_level"] = util._logger.getEffectiveLevel()
    forkserver = sys.modules.get(f"{__package__}.forkserver")
    if forkserver is not None:
        preload = forkserver._forkserver._preload_settings()
        if preload:
            data["preload"] = preload
    data.update(_how_to_get_main())
    try:
        data["dir"] = os.getcwd()
    except OSError:
        pass  # removed, or out of reach: the child has it all the same, without a name
    return data


def _sys_path() -> list[Any]:
    return [process.ORIGINAL_DIR if entry == "" else entry for entry in sys.path]


def _how_to_get_main() -> dict[str, str]:
    main = sys.modules["__main__"]
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return {"init_main_from_name": name}
    path = getattr(main, "__file__", None)
    if path is None:
        return {}
    if not os.path.isabs(path) and process.ORIGINAL_DIR is not None:
        path = os.path.join(process.ORIGINAL_DIR, path)
    return {"init_main_from_path": os.path.normpath(path)}


old_main_modules: list[types.ModuleType] = []


def prepare(data: dict[str, Any]) -> None:
    """Restore what the parent told."""
    current = process.current_process()
    if "name" in data:
        current.name = data["name"]
    if "authkey" in data:
        current.authkey = data["authkey"]
    if data.get("log_to_stderr"):
        util.log_to_stderr()
    if "log_level" in data:
        util.get_logger().setLevel(data["log_level"])
    if "sys_path" in data:
        sys.path = data["sys_path"]
    if "sys_argv" in data:
        sys.argv = data["sys_argv"]
    if "dir" in data:
        os.chdir(data["dir"])
    if "orig_dir" in data:
        process.ORIGINAL_DIR = data["orig_dir"]
    if "start_method" in data:
        default = data["default_start_method"]
        _default_context._default_context = _default_context.get_context(default)
        _default_context.set_start_method(data["start_method"], force=True)
    if "bequeath" in data:
        _settings.apply(data["bequeath"])
    if "preload" in data:
        from . import forkserver

        forkserver._forkserver._take_preload_settings(data["preload"])
    if "tracker" in data:
        from . import resource_tracker

        resource_tracker._resource_tracker._fd = data["tracker"].detach()
    if "init_main_from_name" in data:
        _fixup_main_from_name(data["init_main_from_name"])
    elif "init_main_from_path" in data:
        _fixup_main_from_path(data["init_main_from_path"])


def _fixup_main_from_name(mod_name: str) -> None:
    # The `__main__` of a package, directory or zip file runs unconditionally: it is left alone.
    if mod_name == "__main__" or mod_name.endswith(".__main__"):
        return
    current = sys.modules["__main__"]
    if getattr(getattr(current, "__spec__", None), "name", None) == mod_name:
        return  # a template has run it
    import runpy

    _become_main(
        lambda namespace: namespace.update(
            runpy.run_module(mod_name, run_name=_MP_MAIN, alter_sys=True)
        )
    )


def _fixup_main_from_path(main_path: str) -> None:
    # IPython's start script has no guard; it is left alone, too.
    if os.path.splitext(os.path.basename(main_path))[0] == "ipython":
        return
    if getattr(sys.modules["__main__"], "__file__", None) == main_path:
        return
    code = compiled_main(main_path)
    if code is not None:
        _become_main(lambda namespace: exec(code, namespace), __file__=main_path)
        return
    # A directory, a zip file, compiled code, or an error that shall look as always.
    import runpy

    _become_main(lambda namespace: namespace.update(runpy.run_path(main_path, None, _MP_MAIN)))


_MP_MAIN = "__mp_main__"


def _become_main(execute: Callable[[dict[str, Any]], object], **names: Any) -> None:
    module = types.ModuleType(_MP_MAIN)
    namespace = module.__dict__
    namespace.update(__builtins__=builtins, __cached__=None, **names)
    former = sys.modules.get(_MP_MAIN)
    sys.modules[_MP_MAIN] = module
    try:
        execute(namespace)
    except BaseException:
        # What failed half-way is nobody's main module.
        if former is None:
            del sys.modules[_MP_MAIN]
        else:
            sys.modules[_MP_MAIN] = former
        raise
    # Kept alive: something may still hold functions whose globals these are.
    old_main_modules.append(sys.modules["__main__"])
    sys.modules["__main__"] = sys.modules[_MP_MAIN] = module


#: Compiled main modules, by path, each with what identifies the file's content. A template fills
#: it, so that not every child compiles the same file again.
_compiled: dict[str, tuple[tuple[int, ...], types.CodeType]] = {}


def compiled_main(path: str) -> types.CodeType | None:
    """The code of a main module; None if `path` is no plain source file."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    known = _compiled.get(path)
    if known is not None and known[0] == identity:
        return known[1]
    try:
        with open(path, "rb") as file:
            source = file.read()
        if b"\0" in source:
            return None
        return compile(source, path, "exec", dont_inherit=True)
    except (OSError, SyntaxError, ValueError):
        return None


def compile_main_ahead(path: str) -> None:
    """In a template: so that its children need not."""
    try:
        state = os.stat(path)
    except OSError:
        return
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        code = compiled_main(path)
    if code is not None and not raised:  # each child shall raise the warnings anew
        _compiled[path] = ((state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns), code)


def import_main_path(main_path: str) -> None:
    """Run a file as the main module of this process."""
    _fixup_main_from_path(main_path)
