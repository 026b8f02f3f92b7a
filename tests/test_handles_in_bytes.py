"""Handles in plain bytes: `bequeath.pickle` refuses all with RuntimeError, reason and remedy."""

from __future__ import annotations

import ctypes
import io
import pickle
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import bequeath
import bequeath.pickle
from bequeath import _engine, connection, heap, reduction, resource_sharer
from implementation import Implementation
from transfer_cases import CASES, part_that_crosses

OURS = Implementation("bequeath", "spawn")
Make = Callable[[ExitStack], Any]


def made_by_case(name: str) -> Make:
    def make(stack: ExitStack) -> Any:
        thing = CASES[name].make(OURS)
        stack.callback(CASES[name].discard, thing)
        return part_that_crosses(thing)

    return make


def opened(*arguments: Any) -> Make:
    return lambda stack: stack.enter_context(open(__file__, *arguments))


def started(stack: ExitStack) -> Any:
    process = OURS.Process(target=time.sleep, args=(600,))
    process.start()
    stack.callback(process.close)
    stack.callback(process.join)
    stack.callback(process.kill)
    return process


def pool(stack: ExitStack) -> Any:
    made = stack.enter_context(OURS.Pool(1))
    stack.callback(made.join)
    stack.callback(made.terminate)
    return made


def executor(stack: ExitStack) -> Any:
    return stack.enter_context(bequeath.ProcessPoolExecutor(1))


def dup_socket(stack: ExitStack) -> Any:
    return resource_sharer.DupSocket(stack.enter_context(socket.socket()))


HANDLES: dict[str, Make] = {
    **{name: made_by_case(name) for name in CASES},
    "RawValue": lambda stack: OURS.RawValue("i"),
    "array of characters": lambda stack: OURS.Array("c", b"text"),
    "memory": lambda stack: _engine.SharedBytes(3),
    "buffer": lambda stack: heap.BufferWrapper(3),
    "DupFd": lambda stack: reduction.DupFd(0),
    "DupSocket": dup_socket,
    "text": opened(),
    "buffered": opened("rb"),
    "raw": opened("rb", 0),
    "to read and write": lambda stack: stack.enter_context(tempfile.TemporaryFile()),
    "named temporary": lambda stack: stack.enter_context(tempfile.NamedTemporaryFile()),
    "standard output": lambda stack: sys.__stdout__,
    "listener": lambda stack: stack.enter_context(connection.Listener()),
    "started process": started,
    "executor": executor,
    "this process": lambda stack: bequeath.current_process(),
}
# The reader has its own.
BY_VALUE = HANDLES.keys() - {"standard output"}


class Holder:
    def __init__(self, thing: object) -> None:
        self.thing = thing


PLACES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda thing: thing,
    "list": lambda thing: [1, thing],
    "dict": lambda thing: {"k": (thing,)},
    "instance": Holder,
}


def into_a_file(thing: Any) -> None:
    bequeath.pickle.dump(thing, io.BytesIO())


def by_a_pickler(thing: Any) -> None:
    bequeath.pickle.Pickler(io.BytesIO(), 4).dump(thing)


def by_value(thing: Any) -> None:
    bequeath.pickle.dumps(thing, by_value=True)


FORMS: dict[str, Callable[[Any], object]] = {
    "dumps": bequeath.pickle.dumps,
    "dump": into_a_file,
    "Pickler": by_a_pickler,
    "by value": by_value,
}


def raised(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except Exception as error:
        return error
    return None


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack
    bequeath.set_strict(False)


@pytest.mark.parametrize("name", HANDLES)
def test_plain_bytes_refuse_it_with_reason_and_remedy(name: str, stack: ExitStack) -> None:
    thing = HANDLES[name](stack)
    for form, dumps in FORMS.items():
        if dumps is by_value and name not in BY_VALUE:
            dumps(thing)
            continue
        for place, put in PLACES.items():
            error = raised(lambda put=put, dumps=dumps: dumps(put(thing)))
            assert isinstance(error, RuntimeError), (form, place, error)
            assert isinstance(error, bequeath.BequeathError), (form, place, error)
            assert "should only be shared between processes through inheritance" in error.reason
            assert error.reason in str(error)
            assert error.remedy in str(error)
            assert error.remedy.startswith("Pass it as an argument of a Process")


@pytest.mark.parametrize("name", HANDLES)
def test_who_catches_what_pickle_raises_catches_it(name: str, stack: ExitStack) -> None:
    thing = HANDLES[name](stack)
    theirs, ours = raised(lambda: pickle.dumps(thing)), raised(lambda: bequeath.pickle.dumps(thing))
    assert theirs is not None
    standard = (TypeError, RuntimeError, pickle.PicklingError)
    assert isinstance(ours, tuple(one for one in standard if isinstance(theirs, one)))


@pytest.mark.parametrize("name", HANDLES)
def test_strict_refuses_as_pickle_does(name: str, stack: ExitStack) -> None:
    thing = HANDLES[name](stack)
    bequeath.set_strict(True)
    theirs, ours = raised(lambda: pickle.dumps(thing)), raised(lambda: bequeath.pickle.dumps(thing))
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))
    assert not isinstance(ours, bequeath.BequeathError)


@pytest.mark.parametrize("name", HANDLES.keys() - {"standard output", "listener"})
def test_explain_says_so_of_bytes(name: str, stack: ExitStack) -> None:
    report = bequeath.explain({"k": [HANDLES[name](stack)]}, to="bytes")
    assert not report.crosses
    assert all(culprit["path"].startswith("['k'][0]") for culprit in report.culprits)
    assert any("through inheritance" in culprit["reason"] for culprit in report.culprits)


def test_a_pool_is_refused_with_reason_and_remedy(stack: ExitStack) -> None:
    pooled = pool(stack)
    for dumps in FORMS.values():
        error = raised(lambda dumps=dumps: dumps([pooled]))
        assert isinstance(error, NotImplementedError)  # which is a RuntimeError
        text = "pool objects cannot be passed between processes or pickled"
        assert str(error).startswith(f"{text}: ")
    bequeath.set_strict(True)
    error = raised(lambda: bequeath.pickle.dumps(pooled))
    assert (type(error), str(error)) == (NotImplementedError, text)


def test_what_is_no_handle_is_refused_as_by_pickle(stack: ExitStack) -> None:
    OURS.RawArray("i", 3)  # from now on the transfers know arrays of three ints
    closed = stack.enter_context(socket.socket())

    class Socket(socket.socket):
        """One that no transfer carries."""

    for thing in (
        threading.Lock(),
        (ctypes.c_int * 3)(),
        stack.enter_context(Socket()),
        [closed.makefile],
        (n for n in ()),
    ):
        theirs = raised(lambda thing=thing: pickle.dumps(thing))
        ours = raised(lambda thing=thing: bequeath.pickle.dumps(thing))
        assert isinstance(ours, RuntimeError) == (type(thing) is list)
        assert isinstance(ours, type(theirs))
