"""Definitions that travel once, to receivers that get many messages, as a pool's workers do."""

from __future__ import annotations

import gc
import os
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest

import bequeath
from implementation import Implementation


def lean(mp: Any) -> Any:
    queue = mp.SimpleQueue()
    queue._definitions_once = True
    return queue


def through(queue: Any, obj: Any) -> Any:
    queue.put(obj)
    return queue.get()


def adder(number: Any) -> Callable[[Any], Any]:
    def add(other: Any) -> Any:
        return number + other

    return add


def module(source: str, name: str = "gone") -> Any:
    made = types.ModuleType(name)
    exec(source, vars(made))
    return made


def test_what_does_not_change_is_one_definition_in_the_receiver(ours: Implementation) -> None:
    queue = lean(ours)
    add = adder(3)
    first, second = through(queue, (add, (1,))), through(queue, [add, add])
    assert first[0] is second[0] is second[1] is not add
    assert first[0](4) == 7 and first[1] == (1,)
    # Where nobody asked for it, each message has its own.
    plain = ours.SimpleQueue()
    assert through(plain, add) is not through(plain, add)


class Holder:
    def __init__(self, value: int) -> None:
        self.value = value

    def __add__(self, other: int) -> int:
        return self.value + other


def set_default(function: Any) -> None:
    function.__defaults__ = (5,)


def set_attribute(function: Any) -> None:
    function.mark = "new"


def set_closure(function: Any) -> None:
    function.__closure__[0].cell_contents = 40


def set_code(function: Any) -> None:
    def add(other: Any) -> Any:
        return number * other

    number = 0
    function.__code__ = add.__code__


def change_list(function: Any) -> None:
    function.__closure__[0].cell_contents.append(2)


def change_instance(function: Any) -> None:
    function.__closure__[0].cell_contents.value = 9


@pytest.mark.parametrize(
    ("make", "change"),
    [
        (lambda: 1, set_default),
        (lambda: 1, set_attribute),
        (lambda: 1, set_closure),
        (lambda: 1, set_code),
        (lambda: [1], change_list),
        (lambda: Holder(1), change_instance),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_what_has_changed_is_sent_again(ours: Implementation, make: Any, change: Any) -> None:
    queue = lean(ours)
    function = adder(make())
    before = through(queue, function)
    assert through(queue, function) is before
    change(function)
    after = through(queue, function)
    assert after is not before and through(queue, function) is after

    def known(it: Any) -> Any:
        contents = it.__closure__[0].cell_contents
        return it.__defaults__, vars(it), it.__code__, getattr(contents, "value", contents)

    assert known(after) == known(function) != known(before)


@pytest.mark.parametrize("first", ["other = 1", "other = [1]"])
def test_globals_that_change_are_sent_again(ours: Implementation, first: str) -> None:
    queue = lean(ours)
    names = module(f"{first}\nunused = 1\ndef f(): return other")
    before = through(queue, names.f)
    names.unused = 2
    assert through(queue, names.f) is before
    names.other = 2
    assert through(queue, names.f)() == 2


def test_functions_that_share_their_globals_share_them_there(ours: Implementation) -> None:
    queue = lean(ours)
    names = module(
        "def add():\n  global n\n  n += 1\ndef get(): return n\nclass C:\n  g = get\nn=0"
    )
    add, get, other = through(queue, (names.add, names.get, adder(1)))
    add()
    assert get() == 1 and names.n == 0 and other(1) == 2
    assert through(queue, (names.add, names.get))[1] is get
    # A class that came with them before is the same class.
    assert through(queue, (names.C, names.get))[0] is through(queue, names.C)


def test_classes_and_their_instances(ours: Implementation) -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    queue = lean(ours)
    items = [Local(1), Local(2)]
    for got in through(queue, (items, Local)), through(queue, (items, Local)):
        assert [item.value for item in got[0]] == [1, 2]
        assert {type(item) for item in got[0]} == {got[1]} == {Local}


def test_shared_objects_in_a_definition(ours: Implementation) -> None:
    queue, inner, other = lean(ours), ours.SimpleQueue(), ours.SimpleQueue()

    def sender(into: Any) -> Callable[[int], None]:
        return lambda number: into.put(number)

    first, second = sender(inner), sender(other)
    for send in (first, second, first):
        through(queue, send)(1)
    assert [inner.get(), inner.get(), other.get()] == [1, 1, 1]
    assert inner.empty() and other.empty()


def test_a_file_in_a_definition_goes_with_each_message(ours: Implementation) -> None:
    queue = lean(ours)
    read, write = os.pipe()
    with open(read, "rb") as file, open(write, "wb", buffering=0) as out:
        for number in range(3):
            send = through(queue, lambda what: out.write(what))
            send(b"%d" % number)
            send.__closure__[0].cell_contents.close()
        assert file.read(3) == b"012"


def test_it_can_be_read_when_the_function_is_gone(ours: Implementation) -> None:
    queue = lean(ours)
    for number in range(5):
        queue.put(adder(number))
    gc.collect()
    queue.put(adder(9))  # who makes a new definition looks for those that are gone
    assert [queue.get()(1) for _ in range(6)] == [1, 2, 3, 4, 5, 10]


def work(tasks: Any, results: Any) -> None:
    for function, argument in iter(tasks.get, None):
        results.put((os.getpid(), id(function), function(argument)))


@pytest.mark.short
def test_workers_that_are_killed_and_replaced(ours: Implementation) -> None:
    tasks, results = lean(ours), ours.SimpleQueue()
    add = adder(10)
    seen = set()
    for _ in range(3):
        worker = ours.Process(target=work, args=(tasks, results))
        worker.start()
        for number in range(3):
            tasks.put((add, number))
        for number in range(3):
            pid, address, result = results.get()
            seen.add((pid, address))
            assert result == number + 10 and pid == worker.pid
        # It takes one along into its death.
        tasks.put((lambda _: os.kill(os.getpid(), signal.SIGKILL), None))
        worker.join()
        assert worker.exitcode == -signal.SIGKILL
        worker.close()
    assert len(seen) == 3, "a worker has made it twice"
    # What was for one of the dead alone is gone; what nobody has taken yet can still be read.
    tasks.put((add, 1))
    assert tasks.get()[0](1) == 11


def send_and_leave(queue: Any) -> None:
    queue._definitions_once = True
    queue.put([adder(5), adder([5])])


@pytest.mark.short
def test_a_sender_that_has_left(ours: Implementation) -> None:
    queue = ours.SimpleQueue()
    process = ours.Process(target=send_and_leave, args=(queue,))
    process.start()
    process.join()
    process.close()
    first, second = queue.get()
    assert first(1) == 6 and second([1]) == [5, 1]


def test_one_that_cannot_be_made_is_told_at_each_message(ours: Implementation) -> None:
    names = module("class Late:\n  def __setstate__(self, state): raise LookupError('not yet')")
    queue, late = lean(ours), names.Late()
    late.x = 1
    late = adder(late)
    for _ in range(2):
        queue.put([1, late])
    queue.put("next")
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            queue.get()
        assert caught.value.__notes__[0].startswith("path: [1]")  # type: ignore[attr-defined]
    assert queue.get() == "next"


def test_many_definitions_leave_the_memory_flat(ours: Implementation) -> None:
    queue = lean(ours)

    def used() -> int:
        gc.collect()
        through(queue, adder(0))
        return bequeath._engine.session_info()["used"]  # type: ignore[attr-defined,no-any-return]

    text = "x" * 10_000
    for number in range(600):
        through(queue, adder(text + str(number)))
    before = used()
    for number in range(3000):
        assert through(queue, adder(text + str(number)))("") == text + str(number)
    assert used() <= before + (1 << 20)


def test_strict_mode_has_nothing_of_it(
    ours: Implementation, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = lean(ours)
    monkeypatch.setattr(sys.modules["bequeath._settings"], "strict", True)
    with pytest.raises((AttributeError, TypeError)):
        queue.put(adder(1))
