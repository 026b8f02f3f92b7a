"""A Rust program beside a Python one: plain data that either puts, the other reads typed."""

from __future__ import annotations

import fractions
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bequeath
from rust_examples import built

pytestmark = pytest.mark.limit(300)  # a cold build of the example


@pytest.fixture(scope="module")
def program() -> str:
    return built("beside_python")


@pytest.fixture
def worker(program: str) -> Iterator[tuple[Any, Any, subprocess.Popen[bytes]]]:
    """Its tasks, its answers, and the process; it is told to stop, and stops in order."""
    tasks, answers, ended = bequeath.Queue(), bequeath.Queue(), bequeath.Event()
    invitation = bequeath.invite(tasks, answers, ended)
    process = subprocess.Popen([program, invitation.text], pass_fds=invitation.descriptors)
    try:
        yield tasks, answers, process
        if process.poll() is None:
            tasks.put("Stop")
            ended.wait()
            assert process.wait() == 0
            assert answers.empty() and tasks.empty()
    finally:
        process.kill()
        process.wait()


PLAIN = [
    ({"Add": (2, -3)}, -1),
    ({"Add": [2**40, 2]}, 2**40 + 2),
    ({"Multiply": (-(2**100), 2**20)}, -(2**120)),
    ({"Mean": [1, 2.5, 1e300]}, (1 + 2.5 + 1e300) / 3),
    ({"Count": {"text": "é€😀 is é", "words": ["é", "is", ""]}}, {"é": 2, "is": 1, "": 9}),
    ({"Checksum": b"\x00\xff" * 40_000}, 255 * 40_000),
    ({"Checksum": bytearray(b"ab")}, 195),
    ({"Total": {"one": 1, "none": None, "minus": -(2**31)}}, 1 - 2**31),
    ({"Total": {}}, 0),
]


def seen_by_rust(task: Any) -> Any:
    """The task as it comes back: a variant's fields are a tuple, its bytes are bytes."""
    (name, content), *_ = task.items()
    if name in ("Add", "Multiply"):
        content = tuple(content)
    elif name == "Checksum":
        content = bytes(content)
    return {name: content}


@pytest.mark.short
def test_rust_reads_what_python_put_and_python_what_rust_put(worker: Any) -> None:
    tasks, answers, _ = worker
    for task, result in PLAIN:
        tasks.put(task)
        answer = answers.get()
        assert answer == {"Done": {"task": seen_by_rust(task), "result": result}}
        (content,) = answer["Done"]["task"].values()
        (expected,) = seen_by_rust(task).values()
        assert type(content) is type(expected)
        assert type(answer["Done"]["result"]) is type(result)


def test_shared_parts_and_many_messages_arrive_in_order(worker: Any) -> None:
    tasks, answers, _ = worker
    words = ["again"] * 3
    for number in range(500):
        tasks.put({"Count": {"text": "again " * number, "words": words}})
    for number in range(500):
        assert answers.get()["Done"]["result"] == {"again": number}


class Tempting:
    """Would leave a trace wherever somebody executed it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


REFUSED = [
    (7, "a variant is a str, or a dict of one key"),
    (1.5, "a variant is a str"),
    (None, "a variant is a str"),
    ("Unknown", "unknown variant `Unknown`"),
    (b"Add", "a variant is a str"),
    ({"Add": (1, "two")}, "invalid type: string"),
    ({"Add": (1, 2, 3)}, "items more than expected"),
    ({"Add": (1, 2**70)}, "invalid"),
    (fractions.Fraction(1, 3), "a global is not plain data"),
    (print, "a global is not plain data"),
    ("\ud800", "not Unicode"),
]


@pytest.mark.parametrize(("thing", "reason"), REFUSED, ids=[repr(one) for one, _ in REFUSED])
def test_what_is_no_task_is_refused_there_once(worker: Any, thing: object, reason: str) -> None:
    tasks, answers, _ = worker
    tasks.put(thing)
    tasks.put({"Add": (1, 1)})
    assert reason in answers.get()["Refused"]
    assert answers.get()["Done"]["result"] == 2


def test_rust_executes_nothing(worker: Any, tmp_path: Path) -> None:
    tasks, answers, _ = worker
    tasks.put(Tempting(tmp_path / "trace"))
    assert "a global is not plain data" in answers.get()["Refused"]
    assert not list(tmp_path.iterdir())


def figures() -> tuple[int, int]:
    info = bequeath._engine.session_info()
    assert info
    return info["members"], info["references"]


def test_what_a_killed_rust_program_held_is_given_back(program: str) -> None:
    tasks, answers, ended = bequeath.Queue(), bequeath.Queue(), bequeath.Event()
    bequeath._engine.session_scavenge()
    before = figures()
    invitation = bequeath.invite(tasks, answers, ended)
    process = subprocess.Popen([program, invitation.text], pass_fds=invitation.descriptors)
    tasks.put({"Add": (1, 2)})
    assert answers.get()["Done"]["result"] == 3
    process.kill()
    process.wait()
    del invitation
    bequeath._engine.session_scavenge()
    assert figures() == before
    tasks.put(1)
    assert tasks.get() == 1


def test_an_invitation_is_good_for_one_program(program: str) -> None:
    """And so is no text of somebody else's."""
    invitation = bequeath.invite(bequeath.Queue(), bequeath.Queue())
    for text in ("", "00", "01:3,4", invitation.text):
        refused = subprocess.run(
            [program, text], capture_output=True, text=True, pass_fds=(), check=False
        )
        assert refused.returncode == 1 and "an invitation that no program" in refused.stderr
    short = subprocess.run(
        [program, invitation.text],
        capture_output=True,
        text=True,
        pass_fds=invitation.descriptors,
        check=False,
    )
    assert short.returncode == 2 and "two queues and an event" in short.stderr
