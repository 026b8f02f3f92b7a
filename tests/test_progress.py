"""`progress=` on the map family: what a bar says, where it is shown, and what it is made of."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest

from bequeath.pool import ThreadPool

tqdm = pytest.importorskip("tqdm")


def square(number: int) -> int:
    return number * number


def odd_fails(number: int) -> int:
    if number % 2:
        raise ValueError(number)
    return number


def add(left: int, right: int) -> int:
    return left + right


class Bar(tqdm.tqdm):  # type: ignore[misc, name-defined]
    monitor_interval = 0  # no thread of tqdm's


def bar() -> Any:
    return Bar(file=io.StringIO(), mininterval=0)


@pytest.mark.parametrize("chunksize", [1, 3, None])
def test_a_bar_counts_elements(ours: Any, chunksize: int | None) -> None:
    with ours.Pool(2) as pool:
        shown = bar()
        assert pool.map(square, range(10), chunksize, progress=shown) == [n * n for n in range(10)]
        assert (shown.n, shown.total) == (10, 10)
        shown = bar()
        pairs = [(n, 1) for n in range(5)]
        assert pool.starmap(add, pairs, chunksize, progress=shown) == [1, 2, 3, 4, 5]
        assert shown.n == 5


def test_imap_over_a_generator_learns_its_total(ours: Any) -> None:
    with ours.Pool(2) as pool:
        shown = bar()
        results = pool.imap_unordered(square, (n for n in range(7)), progress=shown)
        assert sorted(results) == [n * n for n in range(7)]
        assert (shown.n, shown.total) == (7, 7)
        shown = bar()
        assert len(list(pool.imap(square, list(range(7)), 2, progress=shown))) == 7
        assert shown.n == 7


def test_failures_are_counted(ours: Any) -> None:
    with ours.Pool(2) as pool:
        shown = bar()
        results = pool.map_async(odd_fails, range(6), 1, progress=shown)
        with pytest.raises(ValueError, match="[135]"):
            results.get()
        assert shown.n == 6
        assert "failed=3" in str(shown)


def test_threads_too() -> None:
    with ThreadPool(2) as pool:
        shown = bar()
        assert pool.map(square, range(9), 2, progress=shown) == [n * n for n in range(9)]
        assert list(pool.imap(square, iter(range(3)), progress=bar())) == [0, 1, 4]
        assert shown.n == 9


def test_rich(ours: Any) -> None:
    progress = pytest.importorskip("rich.progress")
    console = pytest.importorskip("rich.console").Console(file=io.StringIO())
    with progress.Progress(console=console) as shown, ours.Pool(2) as pool:
        assert pool.map(square, range(10), 3, progress=shown) == [n * n for n in range(10)]
        [task] = shown.tasks
        assert (task.completed, task.total) == (10, 10)


def test_rich_shows_the_end(ours: Any) -> None:
    progress = pytest.importorskip("rich.progress")
    file = io.StringIO()
    console = pytest.importorskip("rich.console").Console(file=file, force_terminal=True)
    with progress.Progress(console=console, auto_refresh=False) as shown, ours.Pool(2) as pool:
        pool.map(square, range(10), 3, progress=shown)
        assert "100%" in file.getvalue()


def test_the_executor_s_map(ours: Any) -> None:
    import bequeath

    context = ours.package.get_context(ours.start_method)
    with bequeath.ProcessPoolExecutor(2, context) as executor:
        shown = bar()
        results = executor.map(add, range(7), range(7), chunksize=2, progress=shown)
        assert list(results) == [2 * n for n in range(7)]
        assert (shown.n, shown.total) == (7, 7)
        shown = bar()
        results = executor.map(add, range(7), range(9), buffersize=2, progress=shown)
        assert [next(results), next(results)] == [0, 2] and (shown.n, shown.total) == (2, 7)
        assert len(list(results)) == 5 and shown.n == 7


def test_what_is_no_bar_is_refused(ours: Any) -> None:
    with ours.Pool(1) as pool:
        with pytest.raises(TypeError, match="progress"):
            pool.map(square, [1], progress=5)
        assert pool.map(square, [2]) == [4]


PROGRAM = """
import sys
from bequeath.pool import ThreadPool
with ThreadPool(2) as pool:
    assert "tqdm" not in sys.modules
    print(pool.map(abs, range(5), progress=True))
    assert "tqdm" in sys.modules and "concurrent.futures" not in sys.modules
"""


def test_nothing_is_shown_where_output_is_no_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50
    )
    assert (done.stdout, done.stderr) == ("[0, 1, 2, 3, 4]\n", "")


def test_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 25, 80, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL, stderr=theirs
    )
    os.close(theirs)
    text = b""
    try:
        while part := os.read(ours, 4096):
            text += part
    except OSError:
        pass  # what a terminal says when nobody has it open any more
    os.close(ours)
    assert child.wait() == 0
    assert b"5/5" in text
    assert b"abs" in text


def test_without_a_library_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with ThreadPool(1) as pool, pytest.raises(ImportError, match="pip install tqdm"):
        pool.map(square, [1], progress=True)
