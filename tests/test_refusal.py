"""What cannot cross is refused in the caller: path, type, reason, remedy; strict gives pickle's."""

from __future__ import annotations

import functools
import os
import pickle
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bequeath
from bequeath import _engine, _transfer, connection, context, exceptions


@pytest.fixture(autouse=True)
def rules() -> Iterator[None]:
    yield
    bequeath.set_strict(False)


def refused(thing: Any, root: str = "") -> BaseException:
    try:
        _engine.transfer_dumps(thing)
    except Exception as error:
        # As in the engine: the frames above `dump` are not in the traceback yet.
        error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
        return _transfer.explain(thing, error, root)
    raise AssertionError("it crossed")


class Log:
    def __init__(self) -> None:
        self.name = "log"
        self.stream = threading.Lock()


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner: Any) -> None:
        self.inner = inner


class WithState:
    def __init__(self) -> None:
        self.dropped = threading.Lock()
        self.kept = [1, (i for i in ())]

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


class Raises:
    def __reduce__(self) -> Any:
        raise ValueError("the program's own")


def local(lock: Any) -> Any:
    def inner() -> Any:
        return lock

    return inner


PATHS = {
    "[0]": ([threading.Lock()], "_thread.lock"),
    "['a'][1].stream": ({"a": (1, Log())}, "_thread.lock"),
    "[0].inner['x']": ([Slotted({"x": threading.Lock()})], "_thread.lock"),
    ".kept[1]": (WithState(), "generator"),
    ".args[0]": (functools.partial(print, threading.Lock()), "_thread.lock"),
    "inner's variable lock": (local(threading.Lock()), "_thread.lock"),
    "": (threading.Lock(), "_thread.lock"),
}


@pytest.mark.parametrize("path", PATHS)
def test_path_to_the_culprit(path: str) -> None:
    thing, kind = PATHS[path]
    error = refused(thing)
    assert isinstance(error, bequeath.BequeathError)
    assert (error.path, error.culprit) == (path.lstrip("."), kind)
    assert str(error).endswith("see docs/why.md#belongs-here")


def test_each_refusal_has_a_section_that_exists() -> None:
    from bequeath import _explain

    folder = Path(bequeath.__file__).parents[2]
    if not (folder / "docs").is_dir():
        pytest.skip("an installed package has no docs")
    assert _explain.SECTIONS.keys() == exceptions.STANDARD.keys()
    anchors = set(re.findall(r'<a id="([^"]+)">', (folder / "docs/why.md").read_text()))
    named = {section.partition("#")[2] for section in _explain.SECTIONS.values()}
    sources = [*folder.glob("python/bequeath/*.py"), *folder.glob("crates/*/src/**/*.rs")]
    for source in sources:
        named.update(re.findall(r"docs/why\.md#([\w-]+)", source.read_text()))
    assert named == anchors


SITUATIONS = {
    "refused": (lambda: bequeath.Queue(), "bytes"),
    "belongs-here": (threading.Lock, "queue"),
    "reducers": (lambda: Returns((print,)), "queue"),
    "by-value": (lambda: local(1), "bytes"),
}


class Returns:
    def __init__(self, what: Any) -> None:
        self.what = what

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("section", SITUATIONS)
def test_each_reason_points_to_its_own_section(section: str) -> None:
    make, to = SITUATIONS[section]
    thing = make()
    read, write = os.pipe()
    with connection.Connection(read) as there, connection.Connection(write) as here:
        with pytest.raises(bequeath.BequeathError) as caught:
            # A pipe of the system's carries bytes only.
            here.send(thing) if to == "bytes" else bequeath.SimpleQueue().put(thing)
        assert not there.poll()
    assert f"docs/why.md#{section}" in str(caught.value)


def test_path_of_an_argument_of_a_process() -> None:
    class Config:
        pass

    config = Config()
    config.config = {"log": Log()}  # type: ignore[attr-defined]
    process = bequeath.Process(target=print, args=(0, config))
    context.set_spawning_popen(process)
    try:
        error = refused(process)
    finally:
        context.set_spawning_popen(None)
    assert isinstance(error, bequeath.BequeathError)
    assert error.path == "args[1].config['log'].stream"
    assert "bequeath.Lock()" in error.remedy


@pytest.mark.parametrize(
    ("thing", "base"),
    [(threading.Lock(), TypeError), ((i for i in ()), TypeError), (Log(), TypeError)],
)
def test_refusal_is_what_the_standard_library_raises_too(thing: Any, base: type) -> None:
    error = refused(thing)
    assert isinstance(error, (bequeath.BequeathError, pickle.PicklingError))
    assert isinstance(error, base)


def test_errors_of_the_programs_own_reducers_are_left_alone() -> None:
    error = refused([Raises()])
    assert type(error) is ValueError
    assert str(error) == "the program's own"


def test_strict_gives_pickles_own_errors() -> None:
    bequeath.set_strict(True)
    error = refused([threading.Lock()])
    assert type(error) is TypeError
    for thing in (lambda: 1, local(1), sys):
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)) as plain:
            pickle.dumps(thing)
        strict = refused(thing)
        assert type(strict) is plain.type
        assert str(strict) == str(plain.value)


def test_cycle_is_walked_once() -> None:
    ring: list[Any] = [1]
    ring.append({"ring": ring, "lock": threading.Lock()})
    error = refused(ring)
    assert isinstance(error, bequeath.BequeathError)
    assert error.path == "[1]['lock']"


MADE_IN_A_CONTEXT = {
    "Lock": lambda ctx: ctx.Lock(),
    "RLock": lambda ctx: ctx.RLock(),
    "Semaphore": lambda ctx: ctx.Semaphore(),
    "BoundedSemaphore": lambda ctx: ctx.BoundedSemaphore(),
    "Condition": lambda ctx: ctx.Condition(),
    "Event": lambda ctx: ctx.Event(),
    "Barrier": lambda ctx: ctx.Barrier(1),
    "Queue": lambda ctx: ctx.Queue(),
    "JoinableQueue": lambda ctx: ctx.JoinableQueue(),
    "SimpleQueue": lambda ctx: ctx.SimpleQueue(),
    "Value": lambda ctx: ctx.Value("i", 1),
    "Array": lambda ctx: ctx.Array("i", 1),
}


@pytest.mark.parametrize("kind", MADE_IN_A_CONTEXT)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_strict_refuses_what_a_fork_context_made_to_other_children(kind: str, method: str) -> None:
    bequeath.set_strict(True)
    thing = MADE_IN_A_CONTEXT[kind](bequeath.get_context("fork"))
    process = bequeath.get_context(method).Process(target=id, args=(thing,))
    with pytest.raises(RuntimeError, match="^A SemLock created in a fork context is being shared"):
        process.start()


@pytest.mark.parametrize(
    "made, strict", [("fork", False), ("spawn", True), ("forkserver", True)], ids=str
)
def test_what_other_contexts_made_crosses_in_strict_mode_too(made: str, strict: bool) -> None:
    ctx = bequeath.get_context(made)
    things = [make(ctx) for make in MADE_IN_A_CONTEXT.values()]
    bequeath.set_strict(strict)
    process = bequeath.get_context("spawn").Process(target=id, args=(things,))
    process.start()
    process.join()
    assert process.exitcode == 0
