"""The data scientist's day in a Jupyter kernel: functions of cells, errors, interrupts, deaths.

Runs where ipykernel is installed (`make long`, requirements/libraries.txt).
"""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from control_groups import enter, group_of, killed_in
from day_cells import CELLS, EXPECTED, limit, wait_until_begun

manager = pytest.importorskip("jupyter_client.manager")
pytest.importorskip("ipykernel")

pytestmark = [
    pytest.mark.limit(180),
    pytest.mark.leaves("the client of a kernel keeps threads and sockets of its own"),
]


class Notebook:
    """A kernel, and the text of what its cells show."""

    def __init__(self) -> None:
        self.kernel, self.client = manager.start_new_kernel(kernel_name="python3")

    def run(
        self, code: str, interrupt_at: str = "", once: Callable[[], object] = lambda: None
    ) -> str:
        """What the cell shows; interrupted when it has shown that, `once` that has returned."""
        number = self.client.execute(code)
        shown = ""
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=60)
            except queue.Empty:
                pytest.fail(f"the cell does not end; it has shown: {shown}")
            if message["parent_header"].get("msg_id") != number:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                shown += content["text"]
            elif kind == "execute_result":
                shown += content["data"]["text/plain"]
            elif kind == "error":
                shown += "\n".join(content["traceback"])
            elif kind == "status" and content["execution_state"] == "idle":
                return re.sub(r"\x1b\[[0-9;]*m", "", shown)
            if interrupt_at and interrupt_at in shown:
                interrupt_at = ""
                once()
                self.kernel.interrupt_kernel()

    def close(self) -> None:
        self.client.stop_channels()
        self.kernel.shutdown_kernel(now=True)


@pytest.fixture
def notebook(ours: Any) -> Iterator[Notebook]:
    made = Notebook()
    made.run(f"import bequeath, os, time; context = bequeath.get_context({ours.start_method!r})")
    try:
        yield made
    finally:
        made.close()


def test_functions_of_cells(ours: Any, notebook: Notebook) -> None:
    shown = notebook.run(
        "def double(x):\n    return 2 * x\n"
        "pool = context.Pool(2)\nprint(pool.map(double, range(4)))"
    )
    assert shown == "[0, 2, 4, 6]\n"
    shown = notebook.run("def double(x):\n    return -2 * x\nprint(pool.map(double, range(4)))")
    assert shown == "[0, -2, -4, -6]\n"  # the newest definition, also where the old one was forked
    shown = notebook.run(
        "def fail(x):\n    y = x + 1\n    raise ValueError(y)  # in the cell\npool.map(fail, [1])"
    )
    assert "in fail(" in shown
    assert "----> 3     raise ValueError(y)  # in the cell" in shown
    assert shown.rstrip().endswith("ValueError: 2")
    shown = notebook.run(
        "def die(x):\n    if x == 1:\n        os.kill(os.getpid(), 9)\n    return x\n"
        "for result in [pool.apply_async(die, (x,)) for x in range(3)]:\n"
        "    try:\n        print(result.get())\n"
        "    except Exception as error:\n        print(type(error).__name__)"
    )
    assert shown == "0\nWorkerDied\n2\n"
    assert notebook.run("pool.terminate(); pool.join()\nprint('ended')") == "ended\n"


def test_an_executor_of_a_notebook(ours: Any, notebook: Notebook) -> None:
    shown = notebook.run(
        "executor = bequeath.ProcessPoolExecutor(2, context)\n"
        "print(list(executor.map(lambda x: x + 1, range(3))))"
    )
    assert shown == "[1, 2, 3]\n"
    # A cell's own code may wait: the notebook's loop is there.
    shown = notebook.run(
        "import asyncio\nloop = asyncio.get_running_loop()\n"
        "print(await loop.run_in_executor(executor, sum, [1, 2]))"
    )
    assert shown == "3\n"
    shown = notebook.run(
        "future = executor.submit(time.sleep, 600)\nprint('begun', flush=True)\nfuture.result()",
        interrupt_at="begun",
    )
    assert "KeyboardInterrupt" in shown
    shown = notebook.run("print(executor.submit(pow, 2, 5).result())\nexecutor.kill_workers()")
    assert shown == "32\n"


def test_progress(ours: Any, notebook: Notebook) -> None:
    pytest.importorskip("ipywidgets")
    notebook.run(
        "from tqdm import auto, notebook as widgets\npool = context.Pool(2)\n"
        "made = []\nclass Noted(widgets.tqdm):\n"
        "    def __init__(self, *args, **options):\n"
        "        super().__init__(*args, **options)\n        made.append(self)\n"
        "widgets.tqdm = Noted\n"
        "def odd(x):\n    if x % 2:\n        raise ValueError(x)\n    return x"
    )
    # The notebook's own bar, and nothing as text beside it.
    assert (
        notebook.run("print(pool.map(abs, range(6), 1, progress=True) == [*range(6)])") == "True\n"
    )
    assert (
        notebook.run("print(made[0].n, made[0].container.children[1].bar_style)") == "6 success\n"
    )
    shown = notebook.run("pool.map(odd, range(6), 1, progress=True)")
    assert shown.rstrip().endswith("ValueError: 1")
    assert "failed=3" in notebook.run("print(made[1].container.children[2].value)")
    shown = notebook.run(
        "with auto.tqdm() as bar:\n    pool.map(abs, range(6), 1, progress=bar)\nprint(bar.n)"
    )
    assert shown == "6\n"
    assert notebook.run("pool.terminate(); pool.join()") == ""


def test_the_day(ours: Any, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    megabytes = int(os.environ.get("BEQUEATH_DAY", "20"))
    with group_of(limit(megabytes)) as group:
        notebook = Notebook()
        try:
            pid = notebook.run("import os; print(os.getpid())")
            if group is not None:
                enter(group, int(pid))
            values = (ours.start_method, megabytes, group is not None, str(tmp_path))
            notebook.run(f"METHOD, MEGABYTES, LIMITED, FOLDER = {values!r}")
            for name, cell in CELLS.items():
                if name == "interrupted":
                    shown = notebook.run(cell, "begun", partial(wait_until_begun, tmp_path))
                    assert shown.startswith(EXPECTED[name])
                    assert shown.rstrip().endswith("KeyboardInterrupt:")
                else:
                    assert notebook.run(cell) == EXPECTED[name], name
        finally:
            notebook.close()
        assert group is None or killed_in(group) == 1
