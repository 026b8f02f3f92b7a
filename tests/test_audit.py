"""`bequeath audit`: the program runs as it is, and hears at its end what would not go well."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def audit(
    folder: Path, text: str, *words: str, arguments: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "bequeath", "audit", *words, str(program), *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=folder,
    )


def line_of(text: str, what: str) -> int:
    return text[: text.index(what)].count("\n") + 1


FORKING = """
import multiprocessing, threading
multiprocessing.set_start_method("fork")

def work(lock, queue):
    queue.put(CONFIG)

if __name__ == "__main__":
    CONFIG = "set late"
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=work, args=(threading.Lock(), queue))
    child.start()
    child.join()
    print(queue.get())
"""


@pytest.mark.parametrize("to", ["spawn", "forkserver", "strict"])
def test_what_works_by_fork_only(tmp_path: Path, to: str) -> None:
    ran = audit(tmp_path, FORKING, "--to", to)
    assert (ran.returncode, ran.stdout) == (0, "set late\n"), ran.stderr
    assert "bequeath audit: 2 that would fail or differ" in ran.stderr
    assert f"program.py:{line_of(FORKING, 'child.start()')}: start" in ran.stderr
    assert "args[0]: _thread.lock" in ran.stderr
    assert "it uses CONFIG, which the main module sets where a child does not" in ran.stderr
    assert "remedy: Pass CONFIG as an argument" in ran.stderr


FINE = """
import sys, multiprocessing

def work(queue, number):
    queue.put({"number": number})

if __name__ == "__main__":
    queue = multiprocessing.Queue()
    child = multiprocessing.Process(target=work, args=(queue, 5))
    child.start()
    print(queue.get(), sys.argv[1:])
    child.join()
    sys.exit(7)
"""


@pytest.mark.parametrize("to", ["spawn", "forkserver", "strict"])
def test_nothing_to_say_and_the_programs_own_status(tmp_path: Path, to: str) -> None:
    ran = audit(tmp_path, FINE, "--to", to, arguments=("--to", "x"))
    assert ran.returncode == 7
    assert ran.stdout == "{'number': 5} ['--to', 'x']\n"
    assert ran.stderr.startswith("bequeath audit: nothing")


STRICTLY = """
import multiprocessing
if __name__ == "__main__":
    class Late:
        pass
    outer, inner = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()
    outer.put(inner)
    outer.get()
    outer.put(lambda: 1)
    outer.get()
    child = multiprocessing.Process(target=print, args=(Late(),))
    child.start()
    child.join()
"""


def test_by_multiprocessings_rules(tmp_path: Path) -> None:
    ran = audit(tmp_path, STRICTLY, "--to", "strict")
    assert ran.returncode == 0
    told = ran.stderr
    assert "bequeath audit: 3 that would fail or differ by multiprocessing's rules" in told
    assert f"program.py:{line_of(STRICTLY, 'outer.put(inner)')}: message" in told
    assert "should only be shared between processes through inheritance" in told
    assert f"program.py:{line_of(STRICTLY, 'outer.put(lambda')}: message" in told
    assert "which does not define Late then" in told
    # The program itself went by bequeath's rules all the while.
    assert "nothing" in audit(tmp_path, STRICTLY).stderr


IN_A_CHILD = """
import multiprocessing

def work(queue):
    inner = multiprocessing.SimpleQueue()
    queue.put(inner)
    queue.put("done")

if __name__ == "__main__":
    queue = multiprocessing.SimpleQueue()
    child = multiprocessing.get_context({method!r}).Process(target=work, args=(queue,))
    child.start()
    while queue.get() != "done":
        pass
    child.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_findings_of_children(tmp_path: Path, method: str) -> None:
    text = IN_A_CHILD.format(method=method)
    ran = audit(tmp_path, text, "--to", "strict")
    assert ran.returncode == 0, ran.stderr
    assert f"program.py:{line_of(text, 'queue.put(inner)')}: message" in ran.stderr


SUBMITTING = """
import threading
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(1) as pool:
        print(pool.submit(pow, 2, 3).result())
        try:
            pool.submit(print, threading.Lock()).result()
        except Exception as error:
            print(type(error).__name__)
"""


def test_submits(tmp_path: Path) -> None:
    ran = audit(tmp_path, SUBMITTING)
    assert ran.stdout.startswith("8\n"), ran.stderr
    assert f"program.py:{line_of(SUBMITTING, 'pool.submit(print')}: submit" in ran.stderr
    assert "args[0]: _thread.lock" in ran.stderr


UNGUARDED = """
import multiprocessing
multiprocessing.set_start_method("fork")
child = multiprocessing.Process(target=print, args=(1,))
child.start()
child.join()
"""


def test_a_start_outside_of_the_guard(tmp_path: Path) -> None:
    ran = audit(tmp_path, UNGUARDED)
    assert ran.stdout == "1\n"
    assert "outside of the guard" in ran.stderr
    assert f"program.py:{line_of(UNGUARDED, 'child.start()')})" in ran.stderr


DAEMON = """
import multiprocessing

def outer():
    inner = multiprocessing.Process(target=print, args=("inner",))
    inner.start()
    inner.join()

if __name__ == "__main__":
    child = multiprocessing.Process(target=outer, daemon=True)
    child.start()
    child.join()
"""


def test_children_of_daemons(tmp_path: Path) -> None:
    ran = audit(tmp_path, DAEMON, "--to", "strict")
    assert ran.stdout == "inner\n"
    assert "daemonic processes are not allowed to have children" in ran.stderr


LOOP = """
import multiprocessing
if __name__ == "__main__":
    queue = multiprocessing.SimpleQueue()
    for _ in range(300):
        queue.put(lambda: 1)
        queue.get()
"""


def test_a_loop_is_one_finding(tmp_path: Path) -> None:
    assert "audit: 1 that" in audit(tmp_path, LOOP, "--to", "strict").stderr


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    audit(tmp_path, FINE)
    assert list((tmp_path / "t").iterdir()) == []
    assert tempfile.gettempdir()  # this process's own stays as it is


def test_usage(tmp_path: Path) -> None:
    ran = audit(tmp_path, FINE, "--to", "fork")
    assert ran.returncode == 2 and "spawn, forkserver or strict" in ran.stderr
