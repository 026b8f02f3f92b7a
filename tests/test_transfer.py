"""The rule of transfer: what can be named, rebuilt or held crosses, by any way, at any moment."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from program import prints
from transfer_cases import (
    CASES,
    part_that_crosses,
    receive_as_argument,
    receive_as_message,
    send_and_leave,
)

each_case = pytest.mark.parametrize("name", CASES, ids=lambda name: name.replace(" ", "-"))

CARRIERS: dict[str, Callable[[Implementation], tuple[Any, Any]]] = {
    "Queue": lambda mp: (queue := mp.Queue(), queue),
    "SimpleQueue": lambda mp: (queue := mp.SimpleQueue(), queue),
    "JoinableQueue": lambda mp: (queue := mp.JoinableQueue(), queue),
    "Pipe": lambda mp: mp.Pipe(),
    "one-way Pipe": lambda mp: mp.Pipe(duplex=False)[::-1],
}
each_carrier = pytest.mark.parametrize("carrier", CARRIERS, ids=lambda name: name.replace(" ", "-"))


class Answers:
    """Where a child's answers arrive; closes what the test opened."""

    def __init__(self, mp: Implementation) -> None:
        self.receiver, self.sender = mp.Pipe(duplex=False)

    def get(self) -> Any:
        assert self.receiver.poll(30), "the child did not answer"
        return self.receiver.recv()

    def close(self) -> None:
        self.receiver.close()
        self.sender.close()


@pytest.fixture
def answers(request: pytest.FixtureRequest) -> Iterator[Answers]:
    mp = request.getfixturevalue("mp" if "mp" in request.fixturenames else "ours")
    answers = Answers(mp)
    yield answers
    answers.close()


def join(process: Any) -> None:
    process.join()
    code = process.exitcode
    process.close()
    assert code == 0


def close(*ends: Any) -> None:
    for end in ends:
        end.close()
        if hasattr(end, "join_thread"):
            end.join_thread()


@each_case
def test_argument_of_a_process(mp: Implementation, name: str, answers: Answers) -> None:
    case = CASES[name]
    if not mp.is_bequeath and not case.is_argument:
        pytest.skip("multiprocessing does not pass open files to spawned children")
    thing = case.make(mp)
    process = mp.Process(
        target=receive_as_argument, args=(name, part_that_crosses(thing), answers.sender)
    )
    process.start()
    case.verify(thing, answers.get())
    join(process)
    case.discard(thing)


@each_case
def test_inside_a_message_to_a_child_that_runs(
    mp: Implementation, name: str, answers: Answers
) -> None:
    case = CASES[name]
    if not mp.is_bequeath and not case.is_message:
        pytest.skip("multiprocessing passes these by inheritance only")
    carrier = mp.SimpleQueue()
    process = mp.Process(target=receive_as_message, args=(name, carrier, answers.sender))
    process.start()
    thing = case.make(mp)
    carrier.put({"deep": [part_that_crosses(thing)]})
    case.verify(thing, answers.get())
    join(process)
    case.discard(thing)
    close(carrier)


@each_carrier
@pytest.mark.parametrize("name", ["SimpleQueue", "Lock", "Value", "Connection", "file"])
def test_inside_a_message_of_each_carrier(
    ours: Implementation, name: str, carrier: str, answers: Answers
) -> None:
    case = CASES[name]
    sending, receiving = CARRIERS[carrier](ours)
    process = ours.Process(target=receive_as_message, args=(name, receiving, answers.sender))
    process.start()
    thing = case.make(ours)
    (sending.put if hasattr(sending, "put") else sending.send)({"deep": [part_that_crosses(thing)]})
    case.verify(thing, answers.get())
    join(process)
    case.discard(thing)
    close(sending, receiving)


@each_case
def test_to_a_sibling_after_the_sender_has_exited(
    ours: Implementation, name: str, answers: Answers
) -> None:
    carrier = ours.SimpleQueue()
    sender = ours.Process(target=send_and_leave, args=(name, ours, carrier))
    sender.start()
    join(sender)
    receiver = ours.Process(target=receive_as_message, args=(name, carrier, answers.sender))
    receiver.start()
    answers.get()
    join(receiver)
    close(carrier)


@pytest.mark.parametrize("name", ["Queue", "Lock", "Array", "one-way Connection", "socket", "file"])
def test_through_a_pipe_whose_sender_has_exited(ours: Implementation, name: str) -> None:
    receiving, sending = ours.Pipe(duplex=False)
    sender = ours.Process(target=send_and_leave, args=(name, ours, sending))
    sender.start()
    join(sender)
    message = receiving.recv()
    (thing,) = message["deep"]
    CASES[name].use(thing)
    close(receiving, sending, *filter(None, [message["kept"]]))


def wait_for_sentinel(mp: Implementation, sentinel: Any, answers: Any) -> None:
    answers.send(mp.module("connection").wait([sentinel], 30) == [sentinel])


def wait_for_sentinel_in_message(mp: Implementation, carrier: Any, answers: Any) -> None:
    wait_for_sentinel(mp, carrier.get(), answers)


def block_until_closed(connection: Any) -> None:
    connection.poll(None)


@pytest.mark.parametrize("way", ["argument", "message"])
def test_sentinel_of_a_sibling(ours: Implementation, way: str, answers: Answers) -> None:
    watched_end, own_end = ours.Pipe()
    watched = ours.Process(target=block_until_closed, args=(watched_end,))
    watched.start()
    watched_end.close()
    carrier = ours.SimpleQueue()
    if way == "argument":
        target, arguments = wait_for_sentinel, (ours, watched.sentinel, answers.sender)
    else:
        carrier.put(watched.sentinel)
        target, arguments = wait_for_sentinel_in_message, (ours, carrier, answers.sender)
    watcher = ours.Process(target=target, args=arguments)
    watcher.start()
    own_end.send("end")
    assert answers.get() is True
    join(watched)
    join(watcher)
    close(own_end, carrier)


def test_identity_of_a_shared_thing_survives_within_a_message(ours: Implementation) -> None:
    carrier, queue = ours.SimpleQueue(), ours.SimpleQueue()
    carrier.put((queue, queue))
    first, second = carrier.get()
    assert first is second
    first.put(1)
    assert queue.get() == 1
    close(carrier, queue)


def put_back(carrier: Any, answers: Any) -> None:
    queue = carrier.get()
    answers.send(queue)


def test_thing_that_comes_back_is_the_same_object_in_memory(
    ours: Implementation, answers: Answers
) -> None:
    carrier, queue = ours.SimpleQueue(), ours.SimpleQueue()
    process = ours.Process(target=put_back, args=(carrier, answers.sender))
    process.start()
    carrier.put(queue)
    returned = answers.get()
    join(process)
    returned.put("one queue")
    assert queue.get() == "one queue"
    close(carrier, queue)


PROGRAM = """
import sys
import {package} as multiprocessing

def importable(answers, extra=None):
    answers.put(("importable", extra))

class Known:
    def __eq__(self, other):
        return type(other) is Known

class Callable:
    def __call__(self, answers):
        answers.put("called")

def answer_known(answers, known):
    answers.put((type(known) is Known, known))

def answer_guarded(answers, thing):
    answers.put((type(thing).__name__, thing.number, thing.method()))

def call_message(carrier, answers):
    answers.put(carrier.get()())

def answer_through(carrier, answers):
    thing = carrier.get()
    answers.put((type(thing).__name__, thing.number, thing.method()))

if __name__ == "__main__":
    context = multiprocessing.get_context({start_method!r})
    answers = context.SimpleQueue()

    def run(target, *arguments):
        process = context.Process(target=target, args=arguments)
        process.start()
        received = answers.get()
        process.join()
        assert process.exitcode == 0, process.exitcode
        return received

{body}
    print("good")
"""

BODIES = {
    "function of main": """
        assert run(importable, answers, 5) == ("importable", 5)
    """,
    "class of main keeps its identity": """
        is_known, known = run(answer_known, answers, Known())
        assert is_known and type(known) is Known
    """,
    "callable object of main": """
        assert run(Callable(), answers) == "called"
    """,
}

OUR_BODIES = {
    "class under the guard": """
        class Guarded:
            number = 4
            def method(self):
                return self.number + 1
        assert run(answer_guarded, answers, Guarded()) == ("Guarded", 4, 5)
    """,
    "function under the guard": """
        def guarded(answers):
            answers.put("guarded")
        assert run(guarded, answers) == "guarded"
    """,
    "lambda as target": """
        number = 6
        assert run(lambda answers: answers.put(number * 7), answers) == 42
    """,
    "local function with a closure": """
        def make(factor):
            def scaled(answers):
                answers.put(factor * 2)
            return scaled
        assert run(make(21), answers) == 42
    """,
    "lambda in a message": """
        carrier = context.SimpleQueue()
        number = 8
        carrier.put(lambda: number + 1)
        assert run(call_message, carrier, answers) == 9
    """,
    "class under the guard in a message": """
        class Guarded:
            number = 4
            def method(self):
                return self.number + 1
        carrier = context.SimpleQueue()
        carrier.put(Guarded())
        assert run(answer_through, carrier, answers) == ("Guarded", 4, 5)
    """,
    "instance that comes back has the class it left with": """
        class Guarded:
            number = 1
        def give_back(answers, thing):
            answers.put(thing)
        assert type(run(give_back, answers, Guarded())) is Guarded
    """,
    "one definition arrives once": """
        class Guarded:
            pass
        carrier = context.SimpleQueue()
        for _ in range(3):
            carrier.put(Guarded())
        def are_one(carrier, answers):
            answers.put(len({type(carrier.get()) for _ in range(3)}))
        assert run(are_one, carrier, answers) == 1
    """,
}


def run_program(mp: Implementation, body: str, folder: Path) -> None:
    script = folder / "program.py"
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    script.write_text(
        PROGRAM.replace("{package}", mp.name)
        .replace("{start_method!r}", repr(mp.start_method))
        .replace("{body}", indented)
    )
    finished = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=40
    )
    assert (finished.stdout, finished.returncode) == ("good\n", 0), finished.stderr


@pytest.mark.short
@pytest.mark.parametrize("what", BODIES, ids=lambda name: name.replace(" ", "-"))
def test_definition_of_main(mp: Implementation, what: str, tmp_path: Path) -> None:
    run_program(mp, BODIES[what], tmp_path)


@pytest.mark.short
@pytest.mark.parametrize("what", OUR_BODIES, ids=lambda name: name.replace(" ", "-"))
def test_definition_that_cannot_be_imported(
    ours: Implementation, what: str, tmp_path: Path
) -> None:
    run_program(ours, OUR_BODIES[what], tmp_path)


def test_strict_refuses_a_queue_in_a_message(ours: Implementation, tmp_path: Path) -> None:
    script = tmp_path / "strict.py"
    script.write_text(
        "import bequeath\n"
        f"context = bequeath.get_context({ours.start_method!r})\n"
        "try:\n"
        "    context.SimpleQueue().put(context.Queue())\n"
        "except RuntimeError as error:\n"
        "    print(str(error).splitlines()[0])\n"
    )
    finished = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=40,
        env={**os.environ, "BEQUEATH_STRICT": "1"},
    )
    expected = "Queue objects should only be shared between processes through inheritance"
    assert finished.stdout.startswith(expected), finished.stderr


@pytest.mark.short
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"], ids=repr)
def test_text_file_keeps_its_newline(
    ours: Implementation, newline: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"one\r\ntwo\nthree\r")
    queue = ours.SimpleQueue()
    with path.open(newline=newline) as file:
        expected = file.readlines()[1:]
        file.seek(0)
        file.readline()
        queue.put(file)
        with queue.get() as received:
            assert received.readlines() == expected
    with path.open("w", newline=newline) as file:
        queue.put(file)
        with queue.get() as received:
            received.write("a\nb")
    assert path.read_bytes() == "a\nb".replace("\n", newline or "\n").encode()
    queue.close()


def receive_without_streams(queue: Any, answers: Any) -> None:
    for stream in (0, 1, 2):
        os.close(stream)
    thing = queue.get()
    answers.send(thing.sentinel if hasattr(thing, "sentinel") else thing.fileno())


DESCRIPTORS: dict[str, Callable[[Implementation, Path], Any]] = {
    "file": lambda mp, folder: (folder / "file").open("w"),
    "socket": lambda mp, folder: socket.socket(),
    "connection": lambda mp, folder: mp.Pipe()[0],
    "process": lambda mp, folder: mp.module("process").current_process(),
}


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_no_descriptor_arrives_as_a_standard_stream(
    ours: Implementation, kind: str, tmp_path: Path, answers: Answers
) -> None:
    queue = ours.SimpleQueue()
    process = ours.Process(target=receive_without_streams, args=(queue, answers.sender))
    process.start()
    thing = DESCRIPTORS[kind](ours, tmp_path)
    queue.put(thing)
    assert answers.get() > 2
    join(process)
    if kind != "process":
        thing.close()


def test_a_temporary_file_is_its_senders_to_delete(tmp_path: Path) -> None:
    # Also where nobody had loaded `tempfile` when the first message was sent.
    body = """
    queue = context.SimpleQueue()
    queue.put(open(os.devnull))
    print("tempfile" in sys.modules)
    import tempfile
    with tempfile.NamedTemporaryFile() as sent:
        queue.put(sent)
        queue.get().close()
        received = queue.get()
        print(received.name == sent.name)
        received.close()
        del received
        print(os.path.exists(sent.name))
    """
    prints(Implementation("bequeath", "spawn"), tmp_path, "", body, "False\nTrue\nTrue")
