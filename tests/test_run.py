"""`bequeath run` against plain `python`: stdout, stderr and exit status, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

NAMES = """
'''The program's docstring.'''
import inspect, os, sys

def function():
    return "source"

class Defined:
    pass

print(list(globals()))
print(__name__, __doc__, __package__, type(__loader__), __file__)
print(__spec__ and (__spec__.name, __spec__.origin, __spec__.parent, type(__spec__.loader)))
print(globals().get("__cached__", "absent"))
print(sys.argv)
print(sys.path[0], len(sys.path))
print(inspect.getsource(function), end="")
print(inspect.getmodule(function), Defined, Defined.__module__)
print(sys.modules["__main__"].function is function)
print(sys.stdin.read())
print(sys.excepthook is sys.__excepthook__)
"""

RAISES = """
class Mine(Exception):
    pass

def inner():
    raise Mine("text")

def outer():
    try:
        inner()
    except Mine as error:
        raise ValueError("other") from error

outer()
"""

HOOK = """
import sys, traceback

def hook(kind, value, trace):
    print("hook", kind.__name__, value, traceback.extract_tb(trace)[-1].lineno)
    print(sys.last_traceback is trace, value.__traceback__ is trace, sys.excepthook is hook)

sys.excepthook = hook
raise ValueError("seen by the hook")
"""

AFTER_THE_END = """
import atexit, threading

value = "global"

def show(where):
    print(where, value, __name__, globals().get("__file__", "no file"), flush=True)

def thread():
    threading.main_thread().join()
    show("thread")

class Last:
    def __del__(self):
        print("deleted", value)

atexit.register(show, "atexit")
threading.Thread(target=thread).start()
last = Last()
show("main")
"""

PROGRAMS = {
    "names": NAMES,
    "raises": RAISES,
    "hook": HOOK,
    "after_the_end": AFTER_THE_END,
    "exit_text": "import sys\nprint('out')\nsys.exit('text')\n",
    "exit_number": "import sys\nsys.exit(3)\n",
    "exit_none": "raise SystemExit\n",
    "syntax_error": "def broken(:\n    pass\n",
    "base_exception": "class Stop(BaseException):\n    pass\nraise Stop(1)\n",
    "recursion": "try:\n    1/0\nexcept ZeroDivisionError:\n    raise KeyError('during')\n",
    "interrupted": "import os, signal, time\nprint('out', flush=True)\n"
    "os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n",
    "exit_in_thread": "import threading\n"
    "t = threading.Thread(target=lambda: 1/0)\nt.start()\nt.join()\nprint('end')\n",
    "warns": "import warnings\nwarnings.warn('here', DeprecationWarning)\n",
    "killed": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "bad_exception_text": "class Bad(Exception):\n    def __str__(self): return self.missing\n"
    "raise Bad\n",
}


def script(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return ["program.py"]


def module(folder: Path, source: str) -> list[str]:
    (folder / "program.py").write_text(source)
    return ["-m", "program"]


def package(folder: Path, source: str) -> list[str]:
    (folder / "program").mkdir()
    (folder / "program" / "__init__.py").write_text("")
    (folder / "program" / "__main__.py").write_text(source)
    return ["-m", "program"]


def directory(folder: Path, source: str) -> list[str]:
    (folder / "program").mkdir()
    (folder / "program" / "__main__.py").write_text(source)
    return ["program"]


def archive(folder: Path, source: str) -> list[str]:
    with zipfile.ZipFile(folder / "program.zip", "w") as file:
        file.writestr("__main__.py", source)
    return ["program.zip"]


KINDS = [script, module, package, directory, archive]


def outcome(command: list[str], folder: Path, **environment: str) -> tuple[bytes, bytes, int]:
    done = subprocess.run(
        command,
        cwd=folder,
        input=b"input",
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    return done.stdout, done.stderr, done.returncode


def compare(
    words: list[str], folder: Path, flags: tuple[str, ...] = ()
) -> tuple[bytes, bytes, int]:
    plain = outcome([sys.executable, *flags, *words], folder)
    ours = outcome([sys.executable, *flags, "-m", "bequeath", "run", *words], folder)
    assert ours == plain
    return plain


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_program_is_as_under_plain_python(
    kind: Callable[[Path, str], list[str]], name: str, tmp_path: Path
) -> None:
    compare([*kind(tmp_path, PROGRAMS[name]), "argument", "--option"], tmp_path)


def test_interrupted_program_dies_by_the_signal(tmp_path: Path) -> None:
    _out, _err, status = compare(script(tmp_path, PROGRAMS["interrupted"]), tmp_path)
    assert status == -2


@pytest.mark.parametrize(
    "words", [["missing.py"], ["-m", "missing"], ["-m", "missing.inner"], ["."], ["empty.zip"]]
)
def test_missing_program_is_reported_as_by_plain_python(words: list[str], tmp_path: Path) -> None:
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    _out, err, status = compare(words, tmp_path)
    assert err and status in (1, 2)


@pytest.mark.parametrize("path", ["inner/program.py", "./inner/../inner/program.py", "link.py"])
def test_path_of_script(path: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "program.py").write_text(NAMES)
    (tmp_path / "link.py").symlink_to("inner/program.py")
    compare([path], tmp_path)
    compare([str(tmp_path / path)], tmp_path)


@pytest.mark.parametrize("flags", [("-P",), ("-S",), ("-O",), ("-W", "error"), ("-X", "dev")])
def test_interpreter_flags(flags: tuple[str, ...], tmp_path: Path) -> None:
    if flags == ("-P",) and sys.version_info < (3, 11):
        pytest.skip("-P came with 3.11")
    folder = Path(__file__).parents[1] / "python"
    words = script(tmp_path, NAMES)
    plain = outcome([sys.executable, *flags, *words], tmp_path, PYTHONPATH=str(folder))
    ours = outcome(
        [sys.executable, *flags, "-m", "bequeath", "run", *words], tmp_path, PYTHONPATH=str(folder)
    )
    assert ours == plain


def test_compiled_script(tmp_path: Path) -> None:
    import py_compile

    (tmp_path / "source.py").write_text("print(__name__, __file__, type(__loader__))\n1/0\n")
    py_compile.compile(str(tmp_path / "source.py"), cfile=str(tmp_path / "program.pyc"))
    compare(["program.pyc"], tmp_path)


def test_reader_of_output_is_gone(tmp_path: Path) -> None:
    words = script(tmp_path, "print('x' * 100000)\nprint('end')\n")

    def ends_with_closed_output(command: list[str]) -> tuple[bytes, int]:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = subprocess.run(
                command, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, timeout=60
            )
        finally:
            os.close(writer)
        return done.stderr, done.returncode

    plain = ends_with_closed_output([sys.executable, *words])
    assert ends_with_closed_output([sys.executable, "-m", "bequeath", "run", *words]) == plain


def test_command_of_the_distribution(tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("bequeath")
    if not command.exists():
        pytest.skip("the package is not installed with its command")
    for name in ("names", "raises", "interrupted"):
        words = script(tmp_path, PROGRAMS[name])
        plain = outcome([sys.executable, *words], tmp_path)
        assert outcome([str(command), "run", *words], tmp_path) == plain


STANDS = """
import sys
import multiprocessing
import multiprocessing.pool, multiprocessing.dummy.connection, _multiprocessing
from multiprocessing import util, queues
print(multiprocessing.__name__, util.__name__, _multiprocessing.__name__)
print(multiprocessing.pool is sys.modules["bequeath.pool"], multiprocessing.pool.__spec__.name)
print(sys.modules["multiprocessing.util"] is util)
try:
    import multiprocessing.missing
except ModuleNotFoundError as error:
    print(error)
try:
    import multiprocessing._install
except ModuleNotFoundError as error:
    print(error)
"""


def test_bequeath_stands_as_multiprocessing(tmp_path: Path) -> None:
    words = script(tmp_path, STANDS)
    out, err, status = outcome([sys.executable, "-m", "bequeath", "run", *words], tmp_path)
    assert (err, status) == (b"", 0)
    assert out.decode().splitlines() == [
        "bequeath bequeath.util bequeath._multiprocessing",
        "True bequeath.pool",
        "True",
        "No module named 'multiprocessing.missing'",
        "No module named 'multiprocessing._install'",
    ]


def test_disabled_run_leaves_multiprocessing_alone(tmp_path: Path) -> None:
    words = script(
        tmp_path,
        "import multiprocessing, _multiprocessing\n"
        "print(multiprocessing.__name__, _multiprocessing.__name__)\n",
    )
    out, err, status = outcome(
        [sys.executable, "-m", "bequeath", "run", *words], tmp_path, BEQUEATH_DISABLE="1"
    )
    assert (out, err, status) == (b"multiprocessing _multiprocessing\n", b"", 0)


def test_python_started_by_subprocess_is_not_affected(tmp_path: Path) -> None:
    words = script(
        tmp_path,
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', "
        "'import multiprocessing; print(multiprocessing.__name__)'], check=True)\n",
    )
    out, err, status = outcome([sys.executable, "-m", "bequeath", "run", *words], tmp_path)
    assert (out, err, status) == (b"multiprocessing\n", b"", 0)


@pytest.mark.parametrize("words", [[], ["run"], ["walk"], ["run", "--strange", "x.py"]])
def test_wrong_use_is_told(words: list[str], tmp_path: Path) -> None:
    out, err, status = outcome([sys.executable, "-m", "bequeath", *words], tmp_path)
    assert (out, status) == (b"", 2)
    assert b"usage: bequeath run" in err
