"""install() and uninstall(): early and late, twice, in a child; and living beside the original."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


def run(source: str, folder: Path, *flags: str, **environment: str) -> list[str]:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, *flags, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "BEQUEATH_TEST_HELPERS": str(folder), **environment},
    )
    assert (done.stderr, done.returncode) == ("", 0), done.stderr
    return done.stdout.splitlines()


def test_names_stand_and_go(tmp_path: Path) -> None:
    out = run(
        """
        import bequeath
        bequeath.install()
        bequeath.install()
        import multiprocessing, multiprocessing.util
        print(multiprocessing.Process is bequeath.Process, multiprocessing.util.__name__)
        bequeath.uninstall()
        bequeath.uninstall()
        import multiprocessing, multiprocessing.util, _multiprocessing
        print(multiprocessing.__name__, multiprocessing.util.__name__, _multiprocessing.__name__)
        print(multiprocessing.Process is bequeath.Process)
        del multiprocessing, _multiprocessing
        bequeath.install()
        import multiprocessing
        print(multiprocessing.Process is bequeath.Process)
        """,
        tmp_path,
    )
    assert out == [
        "True bequeath.util",
        "multiprocessing multiprocessing.util _multiprocessing",
        "False",
        "True",
    ]


def test_disabled_install_does_nothing(tmp_path: Path) -> None:
    out = run(
        """
        import bequeath
        bequeath.install()
        import multiprocessing
        print(multiprocessing.__name__)
        """,
        tmp_path,
        BEQUEATH_DISABLE="1",
    )
    assert out == ["multiprocessing"]


def test_late_install_mends_the_standard_library(tmp_path: Path) -> None:
    out = run(
        """
        def load():
            import concurrent.futures.process, multiprocessing.queues, multiprocessing.pool
            return concurrent.futures.process
        futures = load()
        import bequeath, bequeath.queues, bequeath.connection
        bequeath.install()
        print(futures.mp is bequeath, futures.mp.connection is bequeath.connection)
        print(futures.Queue is bequeath.queues.Queue, futures._SafeQueue.__mro__[1].__module__)
        bequeath.uninstall()
        print(futures.mp.__name__, futures.Queue.__module__)
        print(futures._SafeQueue.__mro__[1].__module__)
        """,
        tmp_path,
    )
    assert out[0] == "True True"
    assert out[1].startswith("True bequeath")
    assert out[2:] == ["multiprocessing multiprocessing.queues", "multiprocessing.queues"]


def test_executor_works_after_late_install(tmp_path: Path) -> None:
    out = run(
        """
        def load():
            import concurrent.futures.process
        load()
        import bequeath
        bequeath.install()
        from concurrent.futures import ProcessPoolExecutor

        def square(x):
            return x * x

        if __name__ == "__main__":
            with ProcessPoolExecutor(2) as executor:
                print(list(executor.map(square, range(5))))
        """,
        tmp_path,
    )
    assert out == ["[0, 1, 4, 9, 16]"]


def test_late_install_names_modules_and_objects_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "holder.py").write_text(
        "import multiprocessing as mp\n"
        "from multiprocessing import Queue, cpu_count\n"
        "class Worker(mp.Process):\n    made = mp.Lock\n"
        "class Inner:\n    factory = mp.Queue\n"
        "default = mp.get_context()\n"
    )
    out = run(
        """
        import bequeath, holder
        queue = holder.mp.SimpleQueue()
        try:
            bequeath.install()
        except RuntimeError as error:
            print(error)
        print(bequeath._install.is_installed())
        """,
        tmp_path,
    )
    text = "\n".join(out)
    for word in (
        "module holder: mp is the module multiprocessing",
        "module holder: Queue is ",
        "module holder: Worker is holder.Worker",
        "module holder: Inner.factory is ",
        "module holder: default is ",
        "object <multiprocessing.queues.SimpleQueue",
    ):
        assert word in text
    assert out[-1] == "False"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_refused_in_a_child_and_while_processes_run(method: str, tmp_path: Path) -> None:
    out = run(
        f"""
        import bequeath

        def attempt():
            try:
                bequeath.install()
            except RuntimeError as error:
                print("child" in str(error), flush=True)

        def wait(connection):
            connection.poll(None)

        if __name__ == "__main__":
            context = bequeath.get_context({method!r})
            process = context.Process(target=attempt)
            process.start()
            process.join()
            ours, theirs = context.Pipe()
            process = context.Process(target=wait, args=(theirs,), name="Waiter")
            process.start()
            try:
                bequeath.install()
            except RuntimeError as error:
                print(f"Waiter (pid {{process.pid}})" in str(error))
            ours.send(1)
            process.join()
            bequeath.install()
            bequeath.install()
        """,
        tmp_path,
    )
    assert out == ["True", "True"]


STANDING = """
    import sys

    def report():
        import multiprocessing, multiprocessing.queues
        current = multiprocessing.current_process()
        print(multiprocessing.__name__, multiprocessing.queues.__name__, type(current).__module__)
        sys.stdout.flush()

    def parent(method):
        report()
        import multiprocessing
        process = multiprocessing.get_context(method).Process(target=report)
        process.start()
        process.join()

    if __name__ == "__main__":
        import bequeath
        bequeath.install()
        import multiprocessing
        process = multiprocessing.get_context({method!r}).Process(target=parent, args=({method!r},))
        process.start()
        process.join()
        print(process.exitcode)
"""


@pytest.mark.parametrize("flags", [(), ("-S", "-E"), ("-I",)], ids=["plain", "SE", "I"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_and_grandchildren_inherit(
    method: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    package = Path(__file__).parents[1] / "python"
    source = textwrap.dedent(STANDING.format(method=method))
    source = f"import sys\nsys.path.append({str(package)!r})\n" + source
    out = run(source, tmp_path, *flags)
    assert out == ["bequeath bequeath.queues bequeath.context"] * 2 + ["0"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_a_program_that_did_not_install_have_the_original(
    method: str, tmp_path: Path
) -> None:
    out = run(
        f"""
        import bequeath

        def report():
            import multiprocessing, logging
            record = logging.makeLogRecord({{"msg": "x"}})
            made = logging.LogRecord("n", 10, "p", 1, "m", (), None)
            print(multiprocessing.__name__, made.processName, record.__dict__.get("processName"))
            with multiprocessing.Pool(1) as pool:
                print(pool.apply(len, ("four",)), flush=True)

        if __name__ == "__main__":
            process = bequeath.get_context({method!r}).Process(target=report, name="Named")
            process.start()
            process.join()
            import logging
            print(logging.LogRecord("n", 10, "p", 1, "m", (), None).processName)
        """,
        tmp_path,
    )
    assert out == ["multiprocessing Named Named", "4", "MainProcess"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_context_is_taken_where_others_take_one(method: str, tmp_path: Path) -> None:
    out = run(
        f"""
        import pickle
        import bequeath
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing.context import BaseContext

        def square(x):
            return x * x

        if __name__ == "__main__":
            context = bequeath.get_context({method!r})
            print(isinstance(context, BaseContext), isinstance(context, type(context)))
            print(pickle.loads(pickle.dumps(context)) is context)
            with ProcessPoolExecutor(2, mp_context=context) as executor:
                print(list(executor.map(square, range(5))))
        """,
        tmp_path,
    )
    assert out == ["True True", "True", "[0, 1, 4, 9, 16]"]


def test_module_that_stands_has_no_other_public_name() -> None:
    import bequeath

    own = {
        name
        for name, value in vars(bequeath).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == "bequeath"
    }
    assert own == set()


def modules_loaded_by(source: str) -> set[str]:
    source += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_import_loads_nothing_that_multiprocessing_does_not_load() -> None:
    theirs = modules_loaded_by(
        "import multiprocessing, multiprocessing.queues, multiprocessing.synchronize"
    )
    ours = modules_loaded_by("import bequeath, bequeath.queues, bequeath.synchronize")
    added = {name for name in ours - theirs if not name.startswith("bequeath")}
    # Built in or a few lines long.
    assert added <= {
        "__future__",
        "importlib",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
    }
    assert len(ours) <= len(theirs)
