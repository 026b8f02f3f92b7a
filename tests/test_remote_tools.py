"""What tools show of an exception that a worker raised: its frames, with their source lines."""

from __future__ import annotations

import io
import logging
import pdb
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation


def inner(number: int) -> None:
    doubled = number * 2
    raise ValueError(doubled)  # the innermost line


def outer(number: int) -> None:
    inner(number)  # the outer line


@pytest.fixture
def error(ours: Any) -> BaseException:
    """As `apply` raises it, of a function that went by value."""
    with ours.Pool(1) as pool, pytest.raises(ValueError, match="6") as caught:
        pool.apply(lambda: outer(3))
    raised = caught.value
    assert isinstance(raised, BaseException)
    return raised


LINES = ["raise ValueError(doubled)  # the innermost line", "inner(number)  # the outer line"]


def test_traceback_and_logging(error: BaseException) -> None:
    file = io.StringIO()
    traceback.print_exception(type(error), error, error.__traceback__, file=file)
    logged = io.StringIO()
    handler = logging.StreamHandler(logged)
    logger = logging.Logger("of this test")
    logger.addHandler(handler)
    try:
        raise error
    except ValueError:
        logger.exception("refused")
    for shown in (file.getvalue(), logged.getvalue()):
        frames = shown.rpartition("direct cause")[2]
        assert all(line in frames for line in LINES), shown
        assert "pool.apply(lambda: outer(3))" in frames


def test_pdb(error: BaseException) -> None:
    told = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("where\nargs\nup\nlist\nlocals()\nq\n"), stdout=told)
    debugger.use_rawinput = False  # type: ignore[assignment]
    debugger.reset()
    debugger.interaction(None, error.__traceback__)  # what post_mortem does
    assert all(line in told.getvalue() for line in LINES), told.getvalue()
    assert f"{Path(__file__).name}(" in told.getvalue()


def test_ipython(error: BaseException) -> None:
    ultratb = pytest.importorskip("IPython.core.ultratb")
    named = {"color_scheme": "NoColor"} if sys.version_info < (3, 11) else {"theme_name": "nocolor"}
    try:
        shown = ultratb.VerboseTB(**named)
    except TypeError:
        shown = ultratb.VerboseTB(color_scheme="NoColor")
    parts = shown.structured_traceback(type(error), error, error.__traceback__)
    frames = "\n".join(parts).rpartition("direct cause")[2]
    assert all(line in frames for line in LINES), frames


PROGRAM = """
    import bequeath

    def inner(number):
        raise ValueError(number)  # the innermost line

    def test_it():
        with bequeath.get_context({method!r}).Pool(1) as pool:
            pool.map(lambda number: inner(number), [3])  # in the test
"""


def test_pytest(ours: Implementation, tmp_path: Path) -> None:
    program = tmp_path / "test_of_a_user.py"
    program.write_text(textwrap.dedent(PROGRAM).format(method=ours.start_method))
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "--color=no",
        f"--rootdir={tmp_path}",
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(program)], capture_output=True, text=True
    )
    frames = finished.stdout.rpartition("direct cause")[2]
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert "raise ValueError(number)  # the innermost line" in frames
    assert frames.count("pool.map(lambda number: inner(number), [3])  # in the test") == 2
    assert "E   ValueError: 3" in frames.replace("E       ", "E   ")


def test_groups(ours: Any) -> None:
    if sys.version_info < (3, 11):
        pytest.skip("exception groups are new in 3.11")
    with ours.Pool(1) as pool, pytest.raises(BaseException) as caught:  # noqa: B017, PT011
        pool.apply(raise_group)
    shown = "".join(traceback.format_exception(caught.value))
    frames = shown.rpartition("direct cause")[2]
    assert frames.count("raise ValueError(doubled)  # the innermost line") == 2
    assert "a note" in frames


def raise_group() -> None:
    errors: list[Exception] = []
    for number in range(2):
        try:
            outer(number)
        except ValueError as error:
            errors.append(error)
    group = ExceptionGroup("several", errors)  # noqa: F821
    group.add_note("a note")
    raise group
