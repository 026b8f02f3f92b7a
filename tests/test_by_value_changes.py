"""What is known of functions and classes from one pickle to the next is never what they were.

Each change is made to a definition that was pickled before, and looked for in what is read in a
process that has never seen it: there nothing but the bytes can tell.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bequeath.pickle
from by_value_reader import Reader, by_value, definitions

DEFINED = """
    class Meta(type):
        tone = "low"

    class Base:
        def said(self): return "base"

    class Other:
        def said(self): return "other"

    class Local(Base, metaclass=Meta):
        limit = 1
        size: int = 0
        def shown(self): return self.limit
        @property
        def doubled(self): return self.limit * 2
        @classmethod
        def named(cls): return cls.__name__
        @staticmethod
        def plain(): return 1

    factor = 1

    def outer():
        cell = 1
        def inner(number, shift=1, *, scale=1):
            "doc"
            return (number, shift, scale, factor, cell)
        return inner

    f = outer()

    def new(self): return "new"
"""


def setting(name: str, attribute: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda names: setattr(names[name], attribute, value)


def other_global(names: dict[str, Any]) -> None:
    names["factor"] = 9


def other_cell(names: dict[str, Any]) -> None:
    names["f"].__closure__[0].cell_contents = 9


def other_keyword_default_in_place(names: dict[str, Any]) -> None:
    names["f"].__kwdefaults__["scale"] = 9


def other_code(names: dict[str, Any]) -> None:
    # Of a closure of as many cells.
    made: dict[str, Any] = {}
    exec("def o():\n c = 1\n def i(number): return ('other', number, c)\n return i", made)
    names["f"].__code__ = made["o"]().__code__


def annotated(names: dict[str, Any]) -> None:
    names["f"].__annotations__["number"] = int


def attribute_deleted(names: dict[str, Any]) -> None:
    del names["Local"].limit
    names["Local"].limits = 2


def member_function_changed(names: dict[str, Any]) -> None:
    names["Local"].shown.__defaults__ = (names["Local"](),)


def property_replaced(names: dict[str, Any]) -> None:
    names["Local"].doubled = property(names["new"])


def other_method(names: dict[str, Any]) -> None:
    names["Base"].said = names["new"]


def other_base(names: dict[str, Any]) -> None:
    names["Local"].__bases__ = (names["Other"],)


CHANGES: dict[str, tuple[str, Callable[[dict[str, Any]], None], str, str, str]] = {
    "a global": ("f", other_global, "it(0)", "(0, 1, 1, 1, 1)", "(0, 1, 1, 9, 1)"),
    "a cell": ("f", other_cell, "it(0)", "(0, 1, 1, 1, 1)", "(0, 1, 1, 1, 9)"),
    "a default": (
        "f",
        setting("f", "__defaults__", (9,)),
        "it(0)",
        "(0, 1, 1, 1, 1)",
        "(0, 9, 1, 1, 1)",
    ),
    "a keyword's default": (
        "f",
        setting("f", "__kwdefaults__", {"scale": 9}),
        "it(0)",
        "(0, 1, 1, 1, 1)",
        "(0, 1, 9, 1, 1)",
    ),
    "a keyword's default in its dict": (
        "f",
        other_keyword_default_in_place,
        "it(0)",
        "(0, 1, 1, 1, 1)",
        "(0, 1, 9, 1, 1)",
    ),
    "code": ("f", other_code, "it(0)", "(0, 1, 1, 1, 1)", "('other', 0, 1)"),
    "an attribute of a function": (
        "f",
        setting("f", "note", 9),
        "getattr(it, 'note', None)",
        "None",
        "9",
    ),
    "annotations": ("f", annotated, "it.__annotations__", "{}", "{'number': int}"),
    "a name": ("f", setting("f", "__name__", "g"), "it.__name__", "'inner'", "'g'"),
    "a qualified name": (
        "f",
        setting("f", "__qualname__", "g"),
        "it.__qualname__",
        "'outer.<locals>.inner'",
        "'g'",
    ),
    "a function's module": (
        "f",
        setting("f", "__module__", "elsewhere"),
        "it.__module__",
        "'gone'",
        "'elsewhere'",
    ),
    "a doc": ("f", setting("f", "__doc__", "new"), "it.__doc__", "'doc'", "'new'"),
    "an attribute of a class": (
        "Local",
        setting("Local", "limit", 9),
        "it().shown()",
        "1",
        "9",
    ),
    "an attribute that goes": (
        "Local",
        attribute_deleted,
        "[hasattr(it, name) for name in ('limit', 'limits')]",
        "[True, False]",
        "[False, True]",
    ),
    "a class's annotations": (
        "Local",
        setting("Local", "__annotations__", {"size": str}),
        "it.__annotations__",
        "{'size': int}",
        "{'size': str}",
    ),
    "a method's defaults": (
        "Local",
        member_function_changed,
        "len(it.shown.__defaults__ or ())",
        "0",
        "1",
    ),
    "a property": ("Local", property_replaced, "it().doubled", "2", "'new'"),
    "an attribute of the metaclass": (
        "Local",
        setting("Meta", "tone", "high"),
        "it.tone",
        "'low'",
        "'high'",
    ),
    "an attribute of a base": (
        "Local",
        other_method,
        "it().said()",
        "'base'",
        "'new'",
    ),
    "a base": ("Local", other_base, "it().said()", "'base'", "'other'"),
    "a class's name": (
        "Local",
        setting("Local", "__name__", "Renamed"),
        "it.named()",
        "'Local'",
        "'Renamed'",
    ),
}


@pytest.fixture(scope="module")
def readers() -> Iterator[tuple[Reader, Reader]]:
    # One for definitions as they were: a class that came once stays as it is.
    both = Reader(), Reader()
    yield both
    for reader in both:
        reader.close()


@pytest.mark.leaves("the readers are the module's")
@pytest.mark.parametrize("what", CHANGES)
def test_what_changed_since_the_last_pickle_is_seen(
    what: str, readers: tuple[Reader, Reader]
) -> None:
    name, change, expression, was, becomes = CHANGES[what]
    names = definitions(DEFINED)
    it = names[name]
    before, after = readers
    for _ in range(3):
        assert before.wrong(by_value(it), f"{expression} == {was}") == []
    change(names)
    assert after.wrong(by_value(it), f"{expression} == {becomes}") == []


def test_a_code_object_in_the_place_of_another_is_written_itself() -> None:
    # Whatever is remembered by the address of one must not be taken for the next.
    for number in range(300):
        names: dict[str, Any] = {}
        exec(f"def f(): return {number + 1000}", names)
        assert bequeath.pickle.loads(by_value(names.pop("f")))() == number + 1000


def test_threads_that_change_and_pickle_the_same_function() -> None:
    def outer() -> Callable[[], tuple[int, int]]:
        first = second = 0

        def f() -> tuple[int, int]:
            return first, second

        return f

    f = outer()
    cells = f.__closure__
    assert cells is not None
    stop = threading.Event()
    wrong: list[object] = []

    def pickling() -> None:
        while not stop.is_set():
            try:
                first, second = bequeath.pickle.loads(by_value(f))()
            except Exception as error:  # noqa: BLE001
                wrong.append(error)
                return
            # Cells are written one behind the other; each holds what was put there at some time.
            if not (isinstance(first, int) and isinstance(second, int)):
                wrong.append((first, second))

    threads = [threading.Thread(target=pickling) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        for cell in cells:
            cell.cell_contents = number
        f.__defaults__ = None if number % 2 else ()
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert bequeath.pickle.loads(by_value(f))() == (1999, 1999)


@pytest.mark.leaves("the readers are the module's")
def test_a_forked_child_sees_its_own_changes(readers: tuple[Reader, Reader]) -> None:
    names = definitions(
        """
        def outer():
            limit = 1
            def f(): return limit
            return f
        f = outer()
        class Local: value = 1
        """
    )
    f, Local = names["f"], names["Local"]
    first = by_value((f, Local))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            f.__closure__[0].cell_contents = 2
            Local.value = 2
            data = by_value((f, Local))
            os.write(writer, data)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    before, after = readers
    assert after.wrong(data, "(it[0](), it[1].value) == (2, 2)") == []
    for data in (first, by_value((f, Local))):
        assert before.wrong(data, "(it[0](), it[1].value) == (1, 1)") == []
