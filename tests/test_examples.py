"""Runs what readers are shown: the examples, README's first one, and the table of docs/why.md."""

from __future__ import annotations

import os
import re
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"

# The last line of each short example.
SHORT = {
    "hello_process": "exit code 0",
    "queue_pipeline": "sum of the squares: 332833500",
    "share_array": "sum: 249750.0",
    "killed_worker": "the lock is ours again",
    "send_lambda": "from the child: 42",
    "executor": "sum of the others: 106",
    "pool_map": "the worker's own error: TypeError",
    "worker_died": "5",
    "large_table": "share of key 4: 0.20",
}
#: What an example needs besides, where there is a wheel of it.
NEEDS = {"large_table": "pandas"}


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("BEQUEATH_")}


def run(*command: str, seconds: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=clean_environment(),
        cwd=ROOT,
    )


def first_example() -> str:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert found
    return found[1]


def table_of(text: str) -> list[list[str]]:
    """The cells of the first Markdown table."""
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if not set("".join(row)) <= set("-: ")]


@pytest.mark.short
@pytest.mark.parametrize("name", SHORT)
def test_short_example(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    finished = run(str(EXAMPLES / f"{name}.py"))
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == SHORT[name]
    assert finished.stderr == ""


def test_every_example_is_run() -> None:
    known = {*SHORT, "origin", "word_count"}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == known


@pytest.mark.short
def test_first_example_of_the_readme(tmp_path: Path) -> None:
    script = tmp_path / "first.py"
    script.write_text(first_example())
    finished = run(str(script))
    assert (finished.returncode, finished.stderr) == (0, "")
    assert finished.stdout


@pytest.mark.limit(120)
def test_table_of_why_is_what_the_programs_do() -> None:
    shown = table_of((ROOT / "docs" / "why.md").read_text())
    origin = runpy.run_path(str(EXAMPLES / "origin.py"))
    assert shown == [[cell.strip() for cell in row] for row in origin["table"]()]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("strict", [False, True], ids=["default", "strict"])
def test_word_count_by_each_start_method(method: str, strict: bool) -> None:
    options = ["--strict"] if strict else []
    folder = str(Path(os.__file__).parent / "json")
    finished = run(
        *("-m", "bequeath", "run", *options, str(EXAMPLES / "word_count.py"), folder),
        *("--start-method", method),
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "the counts are the sequential run's" in finished.stdout
    assert "lost" not in finished.stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_word_count_with_a_killed_worker(method: str) -> None:
    folder = str(Path(os.__file__).parent)
    finished = run(
        *("-m", "bequeath", "run", str(EXAMPLES / "word_count.py"), folder),
        *("--start-method", method, "--kill-one"),
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert re.search(r"worker-\d+ \(pid \d+\) was killed by SIGKILL", finished.stdout)
    assert finished.stdout.count("lost with its worker") <= 1


def test_word_count_whose_worker_is_killed_from_outside() -> None:
    """As by hand: some process of the user's kills a worker by its pid, whenever."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bequeath", "run", str(EXAMPLES / "word_count.py")]
        + ["--start-method", "fork"],
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    ended = threading.Event()

    def kill_a_worker() -> None:
        while not ended.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    ours = f"\nPPid:\t{process.pid}\n" in (folder / "status").read_text()
                    if ours and (folder / "comm").read_text().strip() == "worker-1":
                        os.kill(int(folder.name), signal.SIGKILL)
                        return
                except OSError:
                    continue

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    out, _ = process.communicate(timeout=50)
    ended.set()
    killer.join()
    assert process.returncode == 0, out
    assert re.search(r"worker-1 \(pid \d+\) was killed by SIGKILL", out)
    assert out.count("lost with its worker") <= 1
