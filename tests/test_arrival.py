"""What arrives and cannot be rebuilt is raised where it is received, once; the channel goes on."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation


class RaisesInSetState:
    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        raise LookupError("not again")


class RaisesWhenMade:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ArithmeticError("cannot be made")


class NeedsTwo(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def local_exception() -> Exception:
    """Of a class that goes by value."""

    class Local(Exception):
        def __init__(self, first: str, second: str) -> None:
            super().__init__(first)

    return Local("a", "b")


class Gone:
    pass


@pytest.fixture
def vanishing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module that is there when the object leaves, and not when it arrives."""
    (tmp_path / "vanishing.py").write_text("class Thing: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("vanishing")
    yield module
    sys.modules.pop("vanishing", None)


def channel(mp: Any, kind: str) -> tuple[Callable[[Any], None], Callable[[], Any], list[Any]]:
    if kind == "Pipe":
        here, there = mp.Pipe()
        return here.send, there.recv, [here, there]
    queue = getattr(mp, kind)()
    ends = [queue] if hasattr(queue, "close") else []
    return queue.put, queue.get, ends


CHANNELS = ("Queue", "SimpleQueue", "JoinableQueue", "Pipe")
CASES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "setstate": (RaisesInSetState, LookupError, "RaisesInSetState"),
    "constructor": (RaisesWhenMade, ArithmeticError, "_refuse"),
    "argument": (lambda: NeedsTwo("a", "b"), TypeError, "NeedsTwo"),
}
#: What multiprocessing would not send at all.
OURS = {**CASES, "by value": (local_exception, TypeError, "local_exception.<locals>.Local")}


def received(get: Callable[[], Any], wanted: type[Exception]) -> Exception:
    with pytest.raises(wanted) as caught:
        get()
    return caught.value


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("case", CASES)
def test_raised_once_and_the_channel_goes_on(mp: Implementation, kind: str, case: str) -> None:
    make, wanted, _ = CASES[case]
    put, get, ends = channel(mp, kind)
    put([1, {"key": make()}])
    put("next")
    received(get, wanted)
    assert get() == "next"
    put("and on")
    assert get() == "and on"
    for end in ends:
        end.close()
        if hasattr(end, "join_thread"):
            end.join_thread()


@pytest.mark.parametrize("kind", CHANNELS)
@pytest.mark.parametrize("case", OURS)
def test_with_the_path(ours: Implementation, kind: str, case: str) -> None:
    make, wanted, what = OURS[case]
    put, get, ends = channel(ours, kind)
    put([1, {"key": make()}])
    notes = received(get, wanted).__notes__  # type: ignore[attr-defined]
    assert notes[0].startswith("path: [1]['key']")
    assert notes[1] == f"could not be rebuilt here: {__name__}.{what}"
    assert notes[2].startswith("remedy: ")
    if case == "argument":
        assert "super().__init__()" in notes[2]
    for end in ends:
        end.close()


def test_missing_module_and_attribute(ours: Implementation, vanishing: Any, tmp_path: Path) -> None:
    queue = ours.SimpleQueue()
    for _ in range(2):
        queue.put({"a": (0, vanishing.Thing())})
    queue.put("next")
    del vanishing.Thing
    error = received(queue.get, AttributeError)
    assert error.__notes__[0].startswith("path: ['a'][1]")  # type: ignore[attr-defined]
    assert "vanishing.Thing" in error.__notes__[1]  # type: ignore[attr-defined]
    del sys.modules["vanishing"]
    (tmp_path / "vanishing.py").unlink()
    importlib.invalidate_caches()
    error = received(queue.get, ModuleNotFoundError)
    assert error.__notes__[0].startswith("path: ['a'][1]")  # type: ignore[attr-defined]
    assert "importable" in error.__notes__[2]  # type: ignore[attr-defined]
    assert queue.get() == "next"


def test_handles_of_a_message_that_cannot_be_rebuilt_are_given_back(ours: Implementation) -> None:
    outer, inner = ours.SimpleQueue(), ours.SimpleQueue()
    read, write = os.pipe()
    with open(read, "rb"), open(write, "wb") as file:
        outer.put([inner, file, RaisesInSetState()])
        received(outer.get, LookupError)
        outer.put([inner, file])
        again, copy = outer.get()
        again.put(1)
        assert inner.get() == 1
        copy.close()


class OnlyHere:
    def __init__(self) -> None:
        self.pid = os.getpid()

    def __setstate__(self, state: Any) -> None:
        if state["pid"] != os.getpid():
            raise LookupError("not in this process")


class Config:
    def __init__(self, inner: Any) -> None:
        self.inner = inner


def test_a_start_hears_of_it_with_the_path(ours: Implementation) -> None:
    process = ours.Process(target=print, args=(1, Config([OnlyHere()])))
    try:
        process.start()
    except LookupError as error:
        assert error.__notes__[0] == "path: args[1].inner[0]"  # type: ignore[attr-defined]
    else:
        process.join()
        # A forked child rebuilds nothing; another was slow to load, and has printed it.
        assert process.exitcode == (0 if ours.start_method == "fork" else 1)
        process.close()


@pytest.mark.parametrize("case", CASES)
def test_a_start_hears_of_each_case(ours: Implementation, case: str) -> None:
    make, wanted, _ = CASES[case]
    process = ours.Process(target=print, args=(1, {"key": make()}))
    try:
        process.start()
    except wanted as error:
        assert error.__notes__[0].startswith("path: args[1]['key']")  # type: ignore[attr-defined]
    else:
        process.join()
        assert process.exitcode == (0 if ours.start_method == "fork" else 1)
        process.close()


@pytest.mark.leaves("another sys.path has a template of its own")
def test_a_start_hears_of_a_missing_module(ours: Implementation, vanishing: Any) -> None:
    thing = vanishing.Thing()
    Path(vanishing.__file__).unlink()
    process = ours.Process(target=print, args=(thing,))
    try:
        process.start()
    except ModuleNotFoundError as error:
        assert error.__notes__[0].startswith("path: args[0]")  # type: ignore[attr-defined]
        assert "importable" in error.__notes__[2]  # type: ignore[attr-defined]
    else:
        process.join()
        assert process.exitcode == (0 if ours.start_method == "fork" else 1)
        process.close()


def test_what_cannot_be_rebuilt_is_a_task_like_others(mp: Implementation) -> None:
    queue = mp.JoinableQueue()
    for item in (1, RaisesInSetState(), 2):
        queue.put(item)
    for item in (1, None, 2):
        if item is None:
            received(queue.get, LookupError)
        else:
            assert queue.get() == item
        queue.task_done()
    queue.join()
    with pytest.raises(ValueError):
        queue.task_done()
    queue.close()
    queue.join_thread()


def test_a_receiver_in_another_thread_goes_on(ours: Implementation) -> None:
    queue = ours.SimpleQueue()
    seen: list[Any] = []

    def receive() -> None:
        while True:
            try:
                item = queue.get()
            except LookupError as error:
                item = error
            if item is None:
                return
            seen.append(item)

    thread = threading.Thread(target=receive)
    thread.start()
    for item in (1, RaisesInSetState(), 2, RaisesInSetState(), None):
        queue.put(item)
    thread.join()
    assert [type(item) for item in seen] == [int, LookupError, int, LookupError]
