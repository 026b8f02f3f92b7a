"""Which names of a main module its children surely have: what its source binds at the margin."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bequeath._home import bound_at_margin

SOURCE = b'''
"""Usage:

def in_docstring(): ...
class AlsoInDocstring: ...
text = 1
"""
import os, sys  # "unbalanced
def plain(x="(", y='#'): return """
def inside_text(): pass
"""
async def later(): pass
class Kind(
    object,
): pass
value = {
"key": [1,
two == 2],
}
typed: int = 3
bare: int
compared == 3
call(
argument=3)
escaped = "\\"" + '\\'' \\
+ other
if True:
    indented = 1
gone = 1
def removed(): pass
del gone, removed
if __name__ == "__main__":
    def guarded(): pass
'''


def test_names_that_are_bound_at_the_margin() -> None:
    names = {"plain", "later", "Kind", "value", "typed", "escaped"}
    assert bound_at_margin(SOURCE) == names


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_docstring_that_begins_a_line_with_def(method: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        textwrap.dedent(
            f'''
            """What it does:

            def work(number): prints it.
            class Task: what is worked on.
            """
            import bequeath

            if __name__ == "__main__":
                class Task:
                    pass
                def work(task):
                    print("worked on a", type(task).__name__, flush=True)
                process = bequeath.get_context({method!r}).Process(target=work, args=(Task(),))
                process.start()
                process.join()
            '''
        )
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("worked on a Task\n", "")
