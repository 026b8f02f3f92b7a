"""An exception of another process arrives whole: frames, causes, notes, members, attributes."""

from __future__ import annotations

import linecache
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from bequeath import _engine
from bequeath.exceptions import RemoteError
from bequeath.pool import RemoteTraceback
from implementation import Implementation

needs_3_11 = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in 3.11")


def arrived(ours: Any, raising: Callable[..., object], *arguments: Any) -> BaseException:
    """What a function raised in a child."""
    queue = ours.SimpleQueue()
    child = ours.Process(target=report, args=(queue, raising, *arguments))
    child.start()
    try:
        error = queue.get()
    finally:
        child.join()
        queue.close()
    assert isinstance(error, BaseException)
    return error


def report(queue: Any, raising: Callable[..., object], *arguments: Any) -> None:
    try:
        raising(*arguments)
    except BaseException as error:
        queue.put(_engine.Failure(error))


class Detailed(ValueError):
    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)
        self.number = number


def raise_detailed(depth: int) -> None:
    if depth:
        raise_detailed(depth - 1)
    error = Detailed(7, "seven")
    error.place = "here"  # type: ignore[attr-defined]
    if hasattr(error, "add_note"):
        error.add_note("a note")
    raise error  # the line


def test_type_arguments_attributes_and_notes(ours: Implementation) -> None:
    error = arrived(ours, raise_detailed, 0)
    assert type(error) is Detailed
    assert error.args == (7, "seven")
    assert error.number == 7
    assert error.place == "here"  # type: ignore[attr-defined]
    assert getattr(error, "__notes__", ["a note"]) == ["a note"]


def test_the_traceback_is_of_frames(ours: Implementation) -> None:
    error = arrived(ours, raise_detailed, 2)
    frames = traceback.extract_tb(error.__traceback__)
    assert [frame.name for frame in frames] == ["report"] + ["raise_detailed"] * 3
    assert {os.path.basename(frame.filename) for frame in frames} == {os.path.basename(__file__)}
    assert frames[-1].line == "raise error  # the line"
    assert frames[1].line == "raise_detailed(depth - 1)"
    if sys.version_info >= (3, 11):
        assert (frames[1].colno, frames[1].end_colno) == (8, 33)
        assert error.__traceback__ is not None
        assert error.__traceback__.tb_frame.f_code.co_qualname == "report"
    traceback.clear_frames(error.__traceback__)


def test_frames_of_here_stand_before_those_of_there(ours: Implementation) -> None:
    error = arrived(ours, raise_detailed, 0)
    with pytest.raises(Detailed) as caught:
        raise error
    names = [entry.name for entry in caught.traceback]
    assert names[-2:] == ["report", "raise_detailed"]
    assert names[0].endswith("stand_before_those_of_there")
    shown = str(caught.getrepr(style="long"))  # what pytest prints
    assert ">       raise error  # the line" in "\n".join(
        line if not line.startswith(">   ") else ">       " + line[1:].strip()
        for line in shown.splitlines()
    )


def test_the_innermost_cause_is_the_text(ours: Implementation) -> None:
    error = arrived(ours, raise_detailed, 1)
    assert type(error.__cause__) is RemoteTraceback
    assert "raise error  # the line" in error.__cause__.tb
    assert str(error.__cause__).count("raise_detailed(depth - 1)") == 1
    further = arrived(ours, raise_what_arrives, ours)
    assert type(further.__cause__) is RemoteTraceback
    names = [frame.name for frame in traceback.extract_tb(further.__traceback__)]
    assert names == ["report", "raise_what_arrives", "report", "raise_detailed", "raise_detailed"]
    assert further.__cause__.__cause__ is None


def raise_what_arrives(ours: Any) -> None:
    raise arrived(ours, raise_detailed, 1)


def raise_again(error: BaseException) -> None:
    raise error


def raise_chain(how: str) -> None:
    try:
        raise KeyError("first")
    except KeyError as first:
        if how == "cause":
            raise OSError(2, "second") from first
        if how == "none":
            raise OSError(2, "second") from None
        raise OSError(2, "second")  # noqa: B904


def test_cause_and_context(ours: Implementation) -> None:
    error = arrived(ours, raise_chain, "cause")
    assert type(error) is FileNotFoundError
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__ is error.__context__
    assert traceback.extract_tb(error.__cause__.__traceback__)[-1].name == "raise_chain"
    assert isinstance(error.__cause__.__cause__, RemoteTraceback)

    error = arrived(ours, raise_chain, "context")
    assert isinstance(error.__context__, KeyError)
    assert not error.__suppress_context__
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "During handling of the above exception" in error.__cause__.tb

    error = arrived(ours, raise_chain, "none")
    assert error.__suppress_context__
    assert isinstance(error.__context__, KeyError)
    assert "KeyError" not in str(error.__cause__)


def raise_group() -> None:
    errors: list[Exception] = []
    for number in range(2):
        try:
            raise_detailed(number)
        except ValueError as error:
            errors.append(error)
    errors.append(ExceptionGroup("inner", [KeyError("k"), errors[0]]))  # noqa: F821
    raise ExceptionGroup("outer", errors)  # noqa: F821


@needs_3_11
def test_groups_arrive_with_the_frames_of_their_members(ours: Implementation) -> None:
    group: Any = arrived(ours, raise_group)
    assert type(group).__name__ == "ExceptionGroup"
    assert (group.message, len(group.exceptions)) == ("outer", 3)
    first, second, inner = group.exceptions
    assert inner.exceptions[1] is first
    assert [frame.name for frame in traceback.extract_tb(second.__traceback__)] == [
        "raise_group",
        "raise_detailed",
        "raise_detailed",
    ]
    assert "raise error  # the line" in str(group.__cause__)


class Constructed(LookupError):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")
        self.first = first


def raise_constructed() -> None:
    raise Constructed("one", "two")


def test_a_constructor_that_wants_other_arguments(ours: Implementation) -> None:
    error = arrived(ours, raise_constructed)
    assert type(error) is Constructed
    assert error.args == ("one two",)
    assert error.first == "one"
    assert any("without its constructor" in note for note in error.__notes__)


def raise_holding_a_lock() -> None:
    error = ValueError("text", threading.Lock())
    error.lock = threading.Lock()  # type: ignore[attr-defined]
    error.kept = [1, 2]  # type: ignore[attr-defined]
    raise error


def test_what_cannot_be_pickled_stays_behind_with_a_note(ours: Implementation) -> None:
    error = arrived(ours, raise_holding_a_lock)
    assert type(error) is ValueError
    assert error.args[0] == "text"
    assert "lock object at" in error.args[1]
    assert error.kept == [1, 2]  # type: ignore[attr-defined]
    assert not hasattr(error, "lock")
    notes = "\n".join(error.__notes__)
    assert "args[1]" in notes
    assert "attribute 'lock' (_thread.lock)" in notes


class OnlyHere(KeyError):
    """A class that the reader cannot have: its reduction names what is not there."""

    def __reduce__(self) -> Any:
        return _in_the_worker_only, (os.getpid(), self.args)


def _in_the_worker_only(pid: int, arguments: tuple[Any, ...]) -> OnlyHere:
    if pid != os.getpid():
        raise ImportError("the class is not to be had here")
    return OnlyHere(*arguments)


def raise_only_here() -> None:
    raise OnlyHere("key") from ValueError("why")


def test_what_cannot_be_made_anew_has_a_stand_in(ours: Implementation) -> None:
    error = arrived(ours, raise_only_here)
    assert isinstance(error, RemoteError)
    assert isinstance(error, KeyError)
    assert error.type_name.endswith("OnlyHere")
    assert error.text == "'key'"
    assert "the class is not to be had here" in error.reason
    assert isinstance(error.__cause__, ValueError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "raise_only_here"
    assert "OnlyHere: 'key'" in str(error.__cause__.__cause__)
    once_more = arrived(ours, raise_again, error)
    assert isinstance(once_more, RemoteError)
    assert isinstance(once_more, KeyError)
    assert str(once_more) == str(error)


class Hostile(Exception):
    def __str__(self) -> str:
        raise ArithmeticError("no text")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("frozen")


class Unreducible(OSError):
    def __reduce__(self) -> Any:
        raise ArithmeticError("no reduction")


def raise_class(kind: type[BaseException], *arguments: Any) -> None:
    raise kind(*arguments)


def test_hostile_exceptions_arrive(ours: Implementation) -> None:
    error = arrived(ours, raise_class, Hostile, 1)
    assert type(error) is Hostile
    assert error.args == (1,)
    assert traceback.extract_tb(error.__traceback__)[-1].name == "raise_class"
    error = arrived(ours, raise_class, Unreducible, 2, "no such file")
    assert type(error) is Unreducible
    assert error.errno == 2
    assert any("no reduction" in note for note in error.__notes__)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, Stop])
def test_exceptions_that_are_no_errors(ours: Implementation, kind: type[BaseException]) -> None:
    error = arrived(ours, raise_class, kind, 3)
    assert type(error) is kind
    assert error.args == (3,)
    assert getattr(error, "code", 3) == 3


def raise_local() -> None:
    class Local(TypeError):
        place = "inside"

    raise Local("text")


def test_a_class_that_only_the_worker_defines(ours: Implementation) -> None:
    error = arrived(ours, raise_local)
    assert isinstance(error, TypeError)
    assert (type(error).__name__, error.place) == ("Local", "inside")  # type: ignore[attr-defined]


def raise_in_a_cell() -> None:
    source = "def inside(x):\n    y = x + 1\n    raise KeyError(y)  # in the cell\ninside(1)\n"
    name = "<cell of a notebook>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), {"__name__": "cells"})


def test_source_that_no_file_has_comes_along(ours: Implementation) -> None:
    linecache.cache.pop("<cell of a notebook>", None)
    try:
        error = arrived(ours, raise_in_a_cell)
        last = traceback.extract_tb(error.__traceback__)[-1]
        assert (last.name, last.line) == ("inside", "raise KeyError(y)  # in the cell")
        assert "# in the cell" in str(error.__cause__)
    finally:
        linecache.cache.pop("<cell of a notebook>", None)


def raise_with_a_handle(answers: Any) -> None:
    error = ValueError("see the queue")
    error.answers = answers  # type: ignore[attr-defined]
    raise error


def test_a_shared_object_goes_along(ours: Any) -> None:
    answers = ours.SimpleQueue()
    error: Any = arrived(ours, raise_with_a_handle, answers)
    error.answers.put("through the exception")
    assert answers.get() == "through the exception"
    answers.close()


def raise_a_circle() -> None:
    first, second = ValueError(1), ValueError(2)
    first.__cause__, second.__cause__ = second, first
    raise first


def test_causes_in_a_circle(ours: Implementation) -> None:
    error = arrived(ours, raise_a_circle)
    assert error.__cause__ is not None
    assert error.__cause__.__cause__ is error


def raise_deep() -> None:
    raise_deep()


def test_a_thousand_frames(ours: Implementation) -> None:
    error = arrived(ours, raise_deep)
    assert type(error) is RecursionError
    assert len(traceback.extract_tb(error.__traceback__)) > 900
