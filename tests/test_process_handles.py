"""A started process in a message or among arguments: held there, whoever started it."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

import bequeath
import bequeath.pickle
import program
from bequeath import _engine, process, reduction
from bequeath._process_handle import ProcessHandle
from bequeath.connection import wait
from implementation import Implementation

CARRIERS = ("Queue", "SimpleQueue", "Pipe")


def make_carrier(mp: Implementation, kind: str) -> tuple[Any, Any]:
    if kind == "Pipe":
        return mp.Pipe(duplex=False)  # type: ignore[no-any-return]
    queue = getattr(mp, kind)()
    return queue, queue


def receive(carrier: Any) -> Any:
    return carrier.get() if hasattr(carrier, "get") else carrier.recv()


def send(carrier: Any, thing: Any) -> None:
    (carrier.put if hasattr(carrier, "put") else carrier.send)(thing)


class Sleeper:
    """A child that lives until it is told to end; what else is opened here is closed with it."""

    def __init__(self, mp: Implementation, name: str = "Sleeper") -> None:
        self.mp = mp
        self.event = mp.Event()
        self.process = mp.Process(target=self.event.wait, name=name, daemon=True)
        self.process.start()
        self.opened: list[Any] = [self.process]

    def start(self, target: Any, *arguments: Any) -> Any:
        child = self.mp.Process(target=target, args=arguments)
        child.start()
        self.opened.insert(0, child)
        return child

    def carrier(self, kind: str = "Pipe") -> tuple[Any, Any]:
        ends = make_carrier(self.mp, kind)
        self.opened += dict.fromkeys(ends)
        return ends

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        self.event.set()
        for thing in self.opened:
            if isinstance(thing, process.BaseProcess):
                if error is not None:
                    thing.kill()
                thing.join()
            thing.close()


def look(thing: Any, answers: Any) -> None:
    """In a process that did not start it: looks at it, kills it, and looks again."""
    if not isinstance(thing, process.BaseProcess):
        thing = receive(thing)
    answers.send(
        {
            "class": isinstance(thing, process.BaseProcess),
            "name": thing.name,
            "pid": (thing.pid, thing.ident),
            "daemon": thing.daemon,
            "alive": thing.is_alive(),
            "exitcode": thing.exitcode,
            "joined": thing.join(0.01),
            "ready": wait([thing.sentinel], 0) == [],
        }
    )
    thing.kill()
    thing.join()
    answers.send((thing.is_alive(), wait([thing.sentinel]) == [thing.sentinel], thing.exitcode))


def facts_of(sleeper: Sleeper) -> dict[str, Any]:
    pid = sleeper.process.pid
    return {
        "class": True,
        "name": "Sleeper",
        "pid": (pid, pid),
        "daemon": True,
        "alive": True,
        "exitcode": None,
        "joined": None,
        "ready": True,
    }


@pytest.mark.short
@pytest.mark.parametrize("kind", CARRIERS)
def test_a_process_in_a_message(ours: Implementation, kind: str) -> None:
    with Sleeper(ours) as sleeper:
        receiver, sender = sleeper.carrier(kind)
        answers, answer = sleeper.carrier()
        sleeper.start(look, receiver, answer)
        send(sender, sleeper.process)
        assert answers.recv() == facts_of(sleeper)
        # Nobody has asked its parent: procfs tells, or a newer kernel.
        assert answers.recv() == (False, True, -9)
        sleeper.process.join()
        assert sleeper.process.exitcode == -9


@pytest.mark.short
def test_a_process_as_an_argument(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        answers, answer = sleeper.carrier()
        sleeper.start(look, sleeper.process, answer)
        assert answers.recv() == facts_of(sleeper)
        assert answers.recv() == (False, True, -9)


def tell_code(receiver: Any, answers: Any) -> None:
    thing = receiver.recv()
    receiver.recv()
    answers.send((thing.exitcode, repr(thing)))


def test_what_its_parent_has_learned_others_know(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        receiver, sender = sleeper.carrier()
        answers, answer = sleeper.carrier()
        sleeper.start(tell_code, receiver, answer)
        sender.send(sleeper.process)
        sleeper.process.terminate()
        sleeper.process.join()
        assert sleeper.process.exitcode == -15
        sender.send("asked")
        code, text = answers.recv()
        assert code == -15
        assert text == (
            f"<ProcessHandle name='Sleeper' pid={sleeper.process.pid} parent={os.getpid()} "
            "stopped exitcode=-SIGTERM daemon>"
        )


def test_one_that_has_ended_takes_its_exit_code_along(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        receiver, sender = sleeper.carrier()
        answers, answer = sleeper.carrier()
        sleeper.event.set()
        sleeper.process.join()
        sleeper.start(tell_code, receiver, answer)
        sender.send(sleeper.process)
        sender.send("asked")
        assert answers.recv()[0] == 0


def leave(gate: Any, code: int) -> None:
    gate.recv()
    sys.exit(code)


@pytest.mark.parametrize("code", [0, 5])
def test_the_session_knows_what_the_kernel_does_not_tell(ours: Implementation, code: int) -> None:
    with Sleeper(ours) as sleeper:
        gate, opener = sleeper.carrier()
        back, sender = sleeper.carrier()
        child = sleeper.start(leave, gate, code)
        pid = child.pid
        # No pidfd, so that nobody but the session can be asked.
        reader, writer = os.pipe()
        held = _engine.HeldProcess(reader, pid)
        sender.send(child)
        assert back.recv() is child
        assert held.poll() is None
        opener.send("leave")
        child.join()
        assert child.exitcode == code
        os.close(writer)
        assert held.wait() == code
        held.close()


def send_itself_and_leave(queue: Any) -> None:
    queue.put((bequeath.current_process(), bequeath.parent_process()))
    sys.exit(3)


def look_at_the_gone(queue: Any, answers: Any) -> None:
    gone, parent = queue.get()
    gone.join()
    answers.send((gone.name, gone.pid, gone.is_alive(), gone.exitcode))
    answers.send((parent.pid, parent.is_alive(), parent.exitcode, parent.daemon))


def test_the_sender_has_exited(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        queue, _ = sleeper.carrier("SimpleQueue")
        answers, answer = sleeper.carrier()
        gone = sleeper.start(send_itself_and_leave, queue)
        gone.join()
        assert gone.exitcode == 3
        sleeper.start(look_at_the_gone, queue, answer)
        assert answers.recv() == (gone.name, gone.pid, False, 3)
        assert answers.recv() == (os.getpid(), True, None, False)


def pass_on(receiver: Any, sender: Any) -> None:
    sender.send((*receiver.recv(), bequeath.current_process(), bequeath.parent_process()))
    receiver.recv()  # alive until it has been looked at


def test_its_own_parent_gets_its_own_object(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        first_receiver, first_sender = sleeper.carrier()
        second_receiver, second_sender = sleeper.carrier()
        back, home = sleeper.carrier()
        first = sleeper.start(pass_on, first_receiver, second_sender)
        second = sleeper.start(pass_on, second_receiver, home)
        first_sender.send((sleeper.process, bequeath.current_process()))
        arrived = back.recv()
        me = bequeath.current_process()
        expected = (sleeper.process, me, first, me, second, me)
        assert all(one is other for one, other in zip(arrived, expected, strict=True)), arrived
        first_sender.send("looked at")
        second_sender.send("looked at")


def test_a_handle_given_back_leaves_the_process_alone(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        descriptor = os.dup(sleeper.process.sentinel)
        pid = sleeper.process.pid
        assert pid is not None
        held = _engine.HeldProcess(descriptor, pid)
        handle = ProcessHandle(held, "Held", (9,), 1, False)
        assert repr(handle) == f"<ProcessHandle name='Held' pid={pid} parent=1 started>"
        with pytest.raises(AssertionError, match="cannot start a process twice"):
            handle.start()
        handle.close()
        handle.close()
        assert sleeper.process.is_alive()
        with pytest.raises(ValueError, match="process object is closed"):
            handle.is_alive()


@pytest.mark.parametrize("watched", ["pidfd", "pipe"])
def test_a_later_process_with_the_number_is_not_killed(ours: Implementation, watched: str) -> None:
    with Sleeper(ours) as ended, Sleeper(ours) as sleeper:
        pid = sleeper.process.pid
        assert pid is not None
        reader, writer = os.pipe()
        if watched == "pidfd":
            ended.event.set()
            ended.process.join()
            os.close(reader)
            reader = os.dup(ended.process.sentinel)
        # The number of one process, the descriptor and the start of another.
        held = _engine.HeldProcess(reader, pid, 1)
        held.kill()
        held.terminate()
        held.interrupt()
        held.close()
        os.close(writer)
        sleeper.process.join(0.05)
        assert sleeper.process.is_alive()


def test_a_pipe_that_stands_in_for_a_process(ours: Implementation) -> None:
    """What sandboxes leave that deny pidfds: see tests/confined."""
    with Sleeper(ours) as sleeper:
        pid = sleeper.process.pid
        assert pid is not None
        reader, writer = os.pipe()
        held = _engine.HeldProcess(reader, pid)
        assert held.start_ticks > 0 and held.poll() is None
        held.kill()
        sleeper.process.join()
        os.close(writer)
        assert held.wait() is not None
        held.kill()
        held.close()


def test_without_a_transfer_it_is_refused_as_before(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        for dumps, why in (
            (pickle.dumps, "AuthenticationString"),
            (reduction.ForkingPickler.dumps, "no destination"),
            (bequeath.pickle.dumps, "no destination"),
        ):
            with pytest.raises(TypeError, match=why):
                dumps(sleeper.process)


def test_one_that_is_not_started_is_refused_as_before(ours: Implementation) -> None:
    with Sleeper(ours) as sleeper:
        _, sender = sleeper.carrier()
        with pytest.raises(TypeError, match="AuthenticationString"):
            sender.send(ours.Process(target=print))


class WithOwnState(bequeath.Process):
    def __getstate__(self) -> dict[str, Any]:
        return {"answer": 42, "_closed": True}


def test_a_class_that_says_what_it_is_made_of_is_obeyed() -> None:
    child = WithOwnState(target=print)
    child._popen = object()
    receiver, sender = bequeath.Pipe(duplex=False)
    sender.send(child)
    arrived = receiver.recv()
    assert type(arrived) is WithOwnState and arrived.answer == 42
    receiver.close()
    sender.close()


@pytest.mark.parametrize("to", ["spawn", "forkserver", "queue"])
def test_explain_names_it_a_handle(ours: Implementation, to: str) -> None:
    with Sleeper(ours) as sleeper:
        report = bequeath.explain({"child": sleeper.process}, to=to)
        assert report.crosses, report
        ways = {part["path"]: part["way"] for part in report.to_dict()["parts"]}
        assert ways["['child']"] == "as a handle", report


def test_strict_refuses_a_process_in_a_message(ours: Implementation, tmp_path: Path) -> None:
    finished = program.run(
        ours,
        tmp_path,
        """
        def ask(other):
            try:
                print(other.is_alive())
            except AssertionError as error:
                print(error, flush=True)
        """,
        """
        child = context.Process(target=print)
        child.start()
        asks = context.Process(target=ask, args=(child,))
        try:
            asks.start()
            asks.join()
        except TypeError:
            assert context.get_start_method() != "fork"
            print("can only test a child process")
        try:
            context.SimpleQueue().put(child)
        except TypeError as error:
            print(error)
        child.join()
        """,
        {"BEQUEATH_STRICT": "1"},
    )
    assert "Pickling an AuthenticationString object is disallowed" in finished.stdout, finished
    assert "can only test a child process" in finished.stdout, finished
