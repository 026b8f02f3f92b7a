"""`bequeath run`: a program as plain `python` would run it, with bequeath as `multiprocessing`.

The program's code runs in the real `__main__` module, whose dictionary outlives it as usual
(threads, atexit). Nothing is caught: the interpreter itself prints what escapes and chooses the
exit status, so `SystemExit`, `KeyboardInterrupt` (death by the signal) and the hooks of the
program behave as always; only our own frames are cut off the traceback on its way to
`sys.excepthook`. Modules, packages, zip files and directories go through `runpy`, as they do in
plain Python, whose frames a traceback then shows there as well.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

from . import _settings, _version

USAGE = """\
usage: bequeath run [--start-method M] [--strict] [--narrate] (FILE | -m MODULE) [ARGS ...]
       bequeath inspect [--json] [--waits] [--watch] PID
       bequeath doctor [--json] [--modules NAME,NAME...]
       bequeath explain [--to WHERE] [--verify] [--json] FILE.py:NAME
       bequeath audit [--to spawn|forkserver|strict] (FILE | -m MODULE) [ARGS ...]

Runs a Python program unmodified, with bequeath standing as multiprocessing in it and in its
children. FILE is a script, a directory or a zip file with a __main__ module. `audit` does the
same, and tells at the end what would fail or differ by another start method (forkserver, unless
said otherwise) or by multiprocessing's rules.

  --start-method M  fork, spawn or forkserver, until the program itself chooses
  --strict          the standard library's rules of what may cross, with its exceptions
  --narrate         print at each start what crosses by reference, by value, as a handle
"""


class _Options:
    start_method: str | None = None
    strict = False
    narrate = False
    audit: str | None = None
    module: str | None = None
    arguments: list[str]


def main() -> NoReturn | None:
    """The command `bequeath`."""
    options = _parse(sys.argv[1:])
    if not _settings.disabled():
        _prepare(options)
    _remove_our_path()
    if options.module is not None:
        run_module(options.module, options.arguments)
    else:
        run_file(options.arguments[0], options.arguments)
    return None


def _parse(words: list[str]) -> _Options:
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else 2)
    if words[0] == "inspect":
        from . import _inspect

        raise SystemExit(_inspect.main(words[1:]))
    if words[0] == "doctor":
        from . import _doctor

        raise SystemExit(_doctor.main(words[1:]))
    if words[0] == "explain":
        from . import _explain

        raise SystemExit(_explain.main(words[1:]))
    if words[0] not in ("run", "audit"):
        _usage_error(f"unknown command {words[0]!r}")
    options = _Options()
    if words[0] == "audit":
        options.audit = "forkserver"  # what "fork" has given way to as the default
    rest = words[1:]
    while rest and rest[0].startswith("-") and rest[0] != "-":
        option, equals, value = rest.pop(0).partition("=")
        if option == "--strict":
            options.strict = True
        elif option == "--narrate":
            options.narrate = True
        elif option in ("-h", "--help"):
            print(USAGE, end="")
            raise SystemExit(0)
        elif option == "--start-method":
            options.start_method = value if equals else _next(option, rest)
        elif option == "--to" and options.audit:
            options.audit = value if equals else _next(option, rest)
            if options.audit not in ("spawn", "forkserver", "strict"):
                _usage_error(f"--to is spawn, forkserver or strict, not {options.audit!r}")
        elif option.startswith("-m"):
            options.module = option[2:] + equals + value or _next(option, rest)
            break
        else:
            _usage_error(f"unknown option {option}")
    if options.module is None and not rest:
        _usage_error("a FILE or -m MODULE is missing")
    options.arguments = rest
    return options


def _next(option: str, rest: list[str]) -> str:
    if not rest:
        _usage_error(f"{option} needs a value")
    return rest.pop(0)


def _usage_error(message: str) -> NoReturn:
    print(f"bequeath: {message}\n{USAGE}", end="", file=sys.stderr)
    raise SystemExit(2)


def _prepare(options: _Options) -> None:
    from . import _install

    if options.strict:
        _settings.set_strict(True)
    if options.narrate:
        _settings.narrate = True
    if options.start_method is not None:
        from . import context

        if options.start_method not in context._default_context.get_all_start_methods():
            _usage_error(f"unknown start method {options.start_method!r}")
        # The default, not the choice: the program may still set its own once.
        default = context._default_context
        default._default_context = default.get_context(options.start_method)
        default._actual_context = None
    _install.install()
    if options.audit is not None:
        from . import _audit

        _audit.begin(options.audit)


def _remove_our_path() -> None:
    """Take away the entry that the interpreter put at the front of `sys.path` for us."""
    if not _safe_path() and sys.path:
        del sys.path[0]


def _safe_path() -> bool:
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


# --- the program ---


def run_module(name: str, arguments: list[str]) -> None:
    """`python -m name`."""
    if not _safe_path():
        sys.path.insert(0, os.getcwd())
    sys.argv[:] = ["-m", *arguments]
    _fresh_main()
    _trimmed(_runpy, name, True)


def run_file(path: str, arguments: list[str]) -> None:
    """`python path`: a script, or a directory or zip file with a `__main__` module."""
    full = _absolute(path)
    sys.argv[:] = arguments
    if _is_importable_container(full):
        sys.path.insert(0, full)
        _fresh_main()
        _trimmed(_runpy, "__main__", False)
        return
    try:
        with open(full, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(
            f"{sys.executable}: can't open file {full!r}: [Errno {error.errno}] {error.strerror}\n"
        )
        raise SystemExit(2) from None
    if not _safe_path():
        sys.path.insert(0, os.path.dirname(os.path.realpath(full)))
    module = _fresh_main()
    _fill_script_names(module, full)
    try:
        _trimmed(_script, source, full, module)
    finally:
        # As the interpreter does when a script has ended: atexit and threads no longer see them.
        for attribute in ("__file__", "__cached__"):
            vars(module).pop(attribute, None)


def _absolute(path: str) -> str:
    """As the interpreter does it: the working directory in front, nothing normalised."""
    if path == "." and _version.DOT_IS_DROPPED:
        return os.getcwd()
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def _is_importable_container(path: str) -> bool:
    import pkgutil

    return pkgutil.get_importer(path) is not None if os.path.exists(path) else False


def _fresh_main() -> ModuleType:
    """The real main module, with what the interpreter puts there before any program runs."""
    from importlib.machinery import BuiltinImporter

    module = sys.modules["__main__"]
    names = vars(module)
    had_annotations = "__annotations__" in names
    builtins = names["__builtins__"]
    names.clear()
    names["__name__"] = "__main__"
    names["__doc__"] = None
    names["__package__"] = None
    names["__loader__"] = BuiltinImporter
    names["__spec__"] = None
    if had_annotations:
        names["__annotations__"] = {}
    names["__builtins__"] = builtins
    return module


def _fill_script_names(module: ModuleType, path: str) -> None:
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader

    loader = SourcelessFileLoader if path.endswith(".pyc") else SourceFileLoader
    names = vars(module)
    names["__file__"] = path
    if sys.version_info < (3, 15):  # modules have had none since
        names["__cached__"] = None
    names["__loader__"] = loader("__main__", path)


def _script(source: bytes, path: str, module: ModuleType) -> None:
    exec(_code(source, path), vars(module))


def _code(source: bytes, path: str) -> CodeType:
    if path.endswith(".pyc"):
        import marshal

        code: CodeType = marshal.loads(source[16:])
        return code
    return compile(source, path, "exec", dont_inherit=True)


def _runpy(name: str, alter_argv: bool) -> None:
    import runpy

    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]


def _trimmed(function: Any, *arguments: Any) -> None:
    """Run; what escapes goes on to the interpreter and is shown without our frames."""
    try:
        function(*arguments)
    except SystemExit:
        raise
    except BaseException:
        sys.excepthook = _Hook(sys.excepthook)
        raise


class _Hook:
    """Stands for the program's `sys.excepthook` during the one call that comes now."""

    def __init__(self, hook: Any) -> None:
        self._hook = hook

    def __call__(
        self, kind: type[BaseException], value: BaseException, trace: TracebackType | None
    ) -> None:
        sys.excepthook = self._hook
        trace = _without_ours(trace)
        sys.last_traceback = trace
        self._hook(kind, value.with_traceback(trace), trace)


def _without_ours(trace: TracebackType | None) -> TracebackType | None:
    """The part of the traceback below the last frame of this module."""
    rest = trace
    step = trace
    while step is not None:
        if step.tb_frame.f_code.co_filename == __file__:
            rest = step.tb_next
        step = step.tb_next
    return rest
