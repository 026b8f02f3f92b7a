"""The restricted reader: `loads(data, allow=...)` uses what is listed; no trick leads further."""

from __future__ import annotations

import collections
import copyreg
import datetime
import enum
import fractions
import functools
import io
import operator
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from bequeath.pickle import Unpickler, UnpicklingError, dumps, loads

NAME = __name__
called: list[Any] = []
REGISTRY: dict[str, Any] = {}
NAMES: list[str] = []


class Plain:
    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("a", "b")


class Other:
    pass


class WithState:
    def __setstate__(self, state: Any) -> None:
        self.given = state


class Callable:
    def __call__(self, *arguments: Any) -> Any:
        called.append(arguments)
        return self


class Colour(enum.Enum):
    RED = 1


class Outer:
    class Inner:
        pass


class Reduces:
    """Allowed itself; what it reduces to is another matter."""

    def __init__(self, to: Any) -> None:
        self.to = to

    def __reduce__(self) -> Any:
        return self.to


def same(thing: Any) -> Any:
    called.append(thing)
    return thing


def registry() -> Any:
    return REGISTRY


@pytest.fixture(autouse=True)
def nothing_called() -> Any:
    called.clear()
    yield
    assert not REGISTRY and not NAMES, "something that was there before has been changed"


def refused(data: bytes, *allow: Any, match: str = "not among what this reader allows") -> None:
    with pytest.raises(UnpicklingError, match=match):
        loads(data, allow=allow)
    with pytest.raises(UnpicklingError, match=match):
        Unpickler(io.BytesIO(data), allow=allow).load()
    assert not called


# --- what is allowed arrives ---

PLAIN_DATA = [1, 2.5, 10**40, "text", b"bytes", bytearray(b"b"), None, True, ...]


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_needs_no_list(protocol: int) -> None:
    data = {"a": PLAIN_DATA[:5] + PLAIN_DATA[6:8], "t": (1, 2, 3, 4), "nested": [[], {}]}
    if protocol >= 3:
        assert loads(dumps(data, protocol), allow=()) == data
    assert loads(dumps(data, protocol), allow=["_codecs.encode"]) == data


@pytest.mark.parametrize(
    ("thing", "allow"),
    [
        (Plain([1, 2]), [Plain]),
        (Plain([1, 2]), [f"{NAME}.Plain"]),
        (Colour.RED, [Colour]),
        (datetime.date(2026, 1, 2), ["datetime.date"]),
        (collections.OrderedDict(a=1), [collections.OrderedDict]),
        (collections.deque([1, 2]), ["collections.deque"]),
        (collections.Counter("abca"), ["collections.Counter"]),
        ({1, 2}, []),
        (frozenset({1}), []),
        (fractions.Fraction(1, 3), [fractions.Fraction]),
        (Outer.Inner, [Outer.Inner]),
        (Outer.Inner, [f"{NAME}.Outer.Inner"]),
        (os.path.join, ["posixpath.join"]),
    ],
    ids=repr,
)
def test_what_is_listed_arrives(thing: Any, allow: Any) -> None:
    for protocol in (4, 5):
        assert loads(dumps(thing, protocol), allow=allow) == thing
        assert Unpickler(io.BytesIO(dumps(thing, protocol)), allow=allow).load() == thing
    assert loads(pickle.dumps([thing, thing]), allow=allow) == [thing, thing]


def test_slots_states_and_shared_objects() -> None:
    slotted = Slotted()
    slotted.a, slotted.b = [1], {}
    first, second = loads(dumps([slotted, slotted]), allow=[Slotted])
    assert first is second and first.a == [1]
    assert loads(dumps(Reduces((WithState, (), {"x": 1}))), allow=[WithState]).given == {"x": 1}


def test_names_of_python_2() -> None:
    old = b"c__builtin__\nset\n((lI1\natR."
    assert loads(old, allow=["builtins.set"]) == {1}
    refused(old, "__builtin__.set")


def test_a_reader_reads_again_with_the_same_list() -> None:
    file = io.BytesIO(dumps(Plain(1)) + dumps(Plain(2)) + dumps(Other()))
    reader = Unpickler(file, allow=[Plain])
    assert [reader.load(), reader.load()] == [Plain(1), Plain(2)]
    with pytest.raises(UnpicklingError):
        reader.load()


def test_a_subclass_looks_elsewhere_for_what_is_listed_only() -> None:
    class Elsewhere(Unpickler):
        def find_class(self, module: str, name: str, /) -> Any:
            called.append((module, name))
            return Other if name == "Plain" else super().find_class(module, name)

    assert type(Elsewhere(io.BytesIO(dumps(Plain())), allow=[Plain]).load()) is Other
    called.clear()
    with pytest.raises(UnpicklingError):
        Elsewhere(io.BytesIO(dumps(Slotted)), allow=[Plain]).load()
    assert not called


def test_find_class_itself_is_restricted() -> None:
    reader = Unpickler(io.BytesIO(b""), allow=[Plain])
    assert reader.find_class(NAME, "Plain") is Plain
    with pytest.raises(UnpicklingError):
        reader.find_class("os", "system")


@pytest.mark.parametrize("wrong", ["builtins.set", [os], [5], ["set"], 5])
def test_a_list_that_is_none(wrong: Any) -> None:
    with pytest.raises(TypeError):
        loads(dumps(1), allow=wrong)


def test_none_is_no_restriction() -> None:
    assert loads(dumps(Other()), allow=None).__class__ is Other


# --- what is not ---


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_of_anything_else(protocol: int) -> None:
    for function in (same, os.system, eval, exec, subprocess.Popen, __import__):
        refused(dumps(Reduces((function, ("1",))), protocol), Reduces, Plain)


def test_nothing_is_imported_for_a_name_that_is_not_listed() -> None:
    assert "this" not in sys.modules
    refused(b"\x80\x04\x8c\x04this\x8c\x01x\x93.", Plain)
    refused(b"cthis\nx\n.", Plain)
    assert "this" not in sys.modules


DOTTED = [
    ("builtins", "set.__class__"),
    (NAME, "os.system"),
    (NAME, "Plain.__init__.__globals__"),
    (NAME, "Plain.__class__"),
    (NAME, "Plain.__subclasses__"),
    ("", "Plain"),
    (NAME + ".Plain", "__init__"),
    (NAME, "Outer.Inner.__base__.__subclasses__"),
]


@pytest.mark.parametrize(("module", "name"), DOTTED)
def test_dotted_names(module: str, name: str) -> None:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    refused(b"\x80\x04" + text(module) + text(name) + b"\x93.", Plain, "builtins.set", Outer.Inner)
    if module:
        refused(b"c" + module.encode() + b"\n" + name.encode() + b"\n.", Plain, Outer.Inner)


def test_getattr_chains() -> None:
    chain = Reduces((getattr, (Plain, "__init__")))
    refused(dumps(chain), Plain)
    # Before protocol 4 nested names are getattr chains; they need getattr, which leads anywhere.
    refused(dumps(Outer.Inner, 3), Outer, Outer.Inner)


@pytest.mark.parametrize(
    "tool",
    [
        operator.attrgetter("__class__"),
        operator.methodcaller("mro"),
        operator.itemgetter(0),
        functools.partial(same, 1),
        functools.partial(print),
    ],
    ids=lambda tool: type(tool).__name__,
)
def test_operator_and_functools(tool: Any) -> None:
    refused(dumps(tool), Plain, print)
    # Even where the tool itself is listed, what it makes is not called by the pickle.
    maker = f"{type(tool).__module__}.{type(tool).__qualname__}"
    inner = dumps(tool, 4)[:-1].partition(b"\x95")[2][8:]
    assert loads(dumps(tool, 4), allow=[maker, same, print])
    refused(
        b"\x80\x04" + inner + b"]\x85R.",
        maker,
        same,
        print,
        match="calls an object of type",
    )


def test_reductions_of_allowed_classes_lead_nowhere_else() -> None:
    refused(dumps(Reduces((same, (1,)))), Reduces)
    refused(dumps(Reduces((Plain, (), {"a": 1}, None, None, same))), Reduces, Plain)
    refused(dumps(Reduces((copyreg._reconstructor, (Plain, object, None)))), Plain)  # type: ignore[attr-defined]


def test_instances_of_allowed_classes_are_not_called() -> None:
    c = f"c{NAME}\nCallable\n".encode()
    refused(c + b")\x81)R.", Callable, match="calls an object of type Callable")
    refused(b"(" + c + b")\x81o.", Callable, match="calls an object of type Callable")
    refused(c + b")\x81)\x81.", Callable, match="calls an object of type Callable")


def test_extension_codes() -> None:
    copyreg.add_extension(NAME, "same", 0x7A51)
    copyreg.add_extension(NAME, "Plain", 0x7A52)
    try:
        code = b"\x83\x51\x7a"
        refused(b"\x80\x02" + code + b"K\x01\x85R.", Plain)
        # Somebody else has looked it up before: it is kept, and still not allowed.
        assert loads(b"\x80\x02" + code + b".") is same
        refused(b"\x80\x02" + code + b"K\x01\x85R.", Plain)
        assert loads(b"\x80\x02\x83\x52\x7a)\x81.", allow=[Plain]).__class__ is Plain
    finally:
        copyreg.remove_extension(NAME, "same", 0x7A51)
        copyreg.remove_extension(NAME, "Plain", 0x7A52)
        copyreg.clear_extension_cache()


def test_persistent_ids() -> None:
    refused(b"Pwhatever\n.", Plain, match="persistent")
    refused(b"\x80\x04K\x01Q.", Plain, match="persistent")

    class Resolves(Unpickler):
        def persistent_load(self, pid: Any) -> Any:
            return same

    # What it stands for is a value; calling it takes a place in the list.
    assert Resolves(io.BytesIO(b"\x80\x04K\x01Q."), allow=()).load() is same
    with pytest.raises(UnpicklingError, match="calls an object"):
        Resolves(io.BytesIO(b"\x80\x04K\x01QK\x02\x85R."), allow=[Plain]).load()
    assert not called


PLAIN = f"c{NAME}\nPlain\n".encode()
OTHER = f"c{NAME}\nOther\n".encode()
SAME = f"c{NAME}\nsame\n".encode()


def test_old_instances() -> None:
    refused(f"(i{NAME}\nsame\n.".encode(), Plain)
    refused(b"(" + SAME + b"I1\no.", Plain)
    made = loads(f"(I1\ni{NAME}\nPlain\n.".encode(), allow=[Plain])
    assert made == Plain(1)
    assert loads(b"(" + PLAIN + b"I2\no.", allow=[Plain]) == Plain(2)


def test_new_objects() -> None:
    refused(SAME + b"I1\n\x85R.", Plain)
    refused(OTHER + b")\x81.", Plain)
    refused(OTHER + b")}\x92.", Plain)
    assert type(loads(PLAIN + b")}\x92.", allow=[Plain])) is Plain


def test_a_state_for_what_was_there_before() -> None:
    before = dict(vars(Plain))
    patch = b"(dS'__init__'\n" + OTHER + b"s"
    # A class's attributes, by the half of a state that is set as slots are.
    refused(PLAIN + b"(N" + patch + b"tb.", Plain, Other, match="changes an object of type type")
    refused(PLAIN + patch + b"b.", Plain, Other, match="changes an object of type type")
    assert dict(vars(Plain)) == before
    # A function's.
    refused(SAME + b"(N(dS'__defaults__'\n(I1\ntstb.", same, match="type function")
    assert same.__defaults__ is None
    # A member of an enum, which a call only hands out.
    member = f"c{NAME}\nColour\n(I1\ntR".encode()
    refused(member + b"(dS'_value_'\nI2\nsb.", Colour, match="changes an object of type Colour")
    assert Colour.RED._value_ == 1


def test_items_for_what_was_there_before() -> None:
    r = f"c{NAME}\nREGISTRY\n".encode()
    n = f"c{NAME}\nNAMES\n".encode()
    listed = (f"{NAME}.REGISTRY", f"{NAME}.NAMES", registry)
    refused(r + b"S'a'\nI1\ns.", *listed, match="changes an object of type dict")
    refused(r + b"(S'a'\nI1\nu.", *listed, match="changes an object of type dict")
    refused(n + b"I1\na.", *listed, match="changes an object of type list")
    refused(n + b"(I1\nI2\ne.", *listed, match="changes an object of type list")
    call = f"c{NAME}\nregistry\n)R".encode()
    refused(call + b"S'a'\nI1\ns.", *listed, match="changes an object of type dict")


def test_the_class_of_an_object_stays() -> None:
    patch = b"(N(dS'__class__'\n" + OTHER + b"stb."
    refused(PLAIN + b")\x81" + patch, Plain, Other, match="sets __class__")
    refused(PLAIN + b")\x81(N(dS'__dict__'\n}stb.", Plain, match="sets __dict__")


def test_attributes_do_not_stand_in_for_methods() -> None:
    # An attribute __setstate__, extend or append of the instance, and then what would call it.
    attribute = b"(dS'__setstate__'\n" + f"c{NAME}\nCallable\n".encode() + b")\x81sb"
    made = loads(PLAIN + b")\x81" + attribute + b"(dS'x'\nI1\nsb.", allow=[Plain, Callable])
    assert made.x == 1 and not called
    for name in (b"extend", b"append", b"add"):
        shadow = attribute.replace(b"__setstate__", name)
        items = b"(I1\n\x90" if name == b"add" else b"(I1\ne"
        with pytest.raises(AttributeError):
            loads(b"\x80\x04" + PLAIN + b")\x81" + shadow + items + b".", allow=[Plain, Callable])
    assert not called


def test_memo_brings_nothing_in() -> None:
    file = io.BytesIO(PLAIN + b")\x81q\x05." + b"h\x05)R.")
    reader = Unpickler(file, allow=[Plain])
    reader.load()
    with pytest.raises(UnpicklingError, match="calls an object"):
        reader.load()


def test_a_load_inside_of_a_load_is_restricted_too() -> None:
    class Nested(Unpickler):
        def find_class(self, module: str, name: str, /) -> Any:
            if name == "Plain":
                # Since 3.14 one that reads is not used for anything else.
                with pytest.raises((UnpicklingError, RuntimeError)):
                    self.load()
            return super().find_class(module, name)

    data = PLAIN + b")\x81."
    nested = Nested(io.BytesIO(data + SAME + b"I1\n\x85R." * 2), allow=[Plain])
    nested.load()
    assert not called


# --- more ways that were tried ---

Pair = collections.namedtuple("Pair", "one other")


class Problem(Exception):
    pass


class OtherProblem(Exception):
    pass


class SetsAll:
    def __setstate__(self, state: Any) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def spelled(module: str, name: str) -> bytes:
    """A name as protocol 4 has it, which follows dots."""

    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return text(module) + text(name) + b"\x93"


CHAINS = [
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("builtins", "eval"),
    ("builtins", "object.__subclasses__"),
    ("builtins", "set.__init__.__self__"),
    ("importlib", "import_module"),
    ("operator", "attrgetter"),
    ("operator", "itemgetter"),
    ("operator", "methodcaller"),
    ("functools", "partial"),
    ("functools", "reduce"),
    ("copyreg", "_reconstructor"),
    ("copyreg", "__newobj__"),
    ("copyreg", "__newobj_ex__"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("pickle", "loads"),
    ("bequeath.pickle", "loads"),
    ("bequeath.pickle", "Unpickler"),
    ("_pickle", "Unpickler.find_class"),
    ("sys", "modules"),
    (NAME, "Pair._make.__func__.__globals__"),
    (NAME, "Pair.__new__"),
    (NAME, "Pair._replace"),
    (NAME, "Colour.__members__"),
    (NAME, "Colour._member_map_"),
    (NAME, "Colour.RED"),
    (NAME, "Colour.__class__.__call__"),
    (NAME, "Plain.__dict__"),
    (NAME, "Plain.__reduce_ex__"),
    (NAME, "collections.abc.sys.modules"),
]


@pytest.mark.parametrize(("module", "name"), CHAINS, ids=[f"{m}.{n}" for m, n in CHAINS])
def test_a_name_that_is_not_listed_is_named_and_says_what_to_do(module: str, name: str) -> None:
    allow = (Plain, Pair, Colour, "builtins.set", "builtins.object", "collections.OrderedDict")
    told = f"the pickle names {module}.{name}, which .* list it in allow only if"
    call = b"(" + b"N" + b"tR."
    refused(b"\x80\x04" + spelled(module, name) + call, *allow, match=told)
    refused(b"\x80\x04" + spelled(module, name) + b".", *allow, match=told)
    old = f"c{module}\n{name}\n".encode()
    # Protocol 2 has other names for some modules.
    refused(b"\x80\x03" + old + call, *allow, match=told)
    refused(b"\x80\x03(i" + old[1:] + b".", *allow, match=told)


def test_the_module_and_the_name_are_not_mixed_up() -> None:
    """One spelling, wherever its first dot is: it is what the caller has listed, or refused."""
    for module, name in ((NAME, "Outer.Inner"), (f"{NAME}.Outer", "Inner")):
        data = b"\x80\x04" + spelled(module, name) + b"."
        assert loads(data, allow=[Outer.Inner]) is Outer.Inner
        assert loads(data, allow=[f"{NAME}.Outer.Inner"]) is Outer.Inner
        refused(data, Outer)
    # An attribute of a listed module's, under the listed name.
    assert (
        loads(b"\x80\x04" + spelled("os", "path.join") + b".", allow=["os.path.join"])
        is os.path.join
    )
    refused(b"\x80\x04" + spelled("os", "path.os.system") + b".", "os.path.join")
    refused(b"\x80\x04" + spelled("", "os.path.join") + b".", "os.path.join")
    refused(b"\x80\x04" + spelled("os.path.join.", "") + b".", "os.path.join")


@pytest.mark.parametrize("name", ["__class__", "__dict__"])
def test_a_states_own_setter_is_given_no_class(name: str) -> None:
    """`BaseException.__setstate__` sets whatever it is given, and so do many of programs."""
    value = OTHER_PROBLEM if name == "__class__" else b"}"
    patch = b"(dS'" + name.encode() + b"'\n" + value + b"s"
    for class_ in (Problem, SetsAll):
        made = f"c{NAME}\n{class_.__name__}\n)".encode() + b"\x81"
        refused(made + patch + b"b.", class_, OtherProblem, match=f"sets {name}")
        refused(made + b"(N" + patch + b"tb.", class_, OtherProblem, match=f"sets {name}")
    error = loads(dumps(Problem("words", 1)), allow=[Problem])
    assert type(error) is Problem and error.args == ("words", 1)


OTHER_PROBLEM = f"c{NAME}\nOtherProblem\n".encode()


def test_new_objects_with_keywords_and_of_no_class() -> None:
    plain = b"\x80\x04" + spelled(NAME, "Plain")
    refused(plain + b")}\x92.", Other)
    refused(b"\x80\x04" + spelled(NAME, "same") + b")}\x92.", same, match="must be a type")
    refused(b"\x80\x04" + spelled(NAME, "same") + b")\x81.", same, match="must be a type")
    # An instance is no class, and what an allowed class made is not called.
    refused(plain + b")\x81)}\x92.", Plain, match="calls an object of type Plain")


def test_by_value_definitions_and_handles_are_out_of_reach() -> None:
    import bequeath
    from bequeath import _engine

    for thing in (lambda: 1, type("Local", (), {"method": lambda self: 1})):
        refused(dumps(thing, by_value=True), Plain, match="the pickle names bequeath._engine.")
    for name in ("shared_object", "rebuild_synchronized", "import_descriptor", "rebuild_main"):
        assert hasattr(_engine, name)
        data = b"\x80\x04" + spelled("bequeath._engine", name) + b"K\x00\x85R."
        refused(data, Plain, bequeath.Event, match=f"the pickle names bequeath._engine.{name}")
    refused(b"cbequeath._files\nopened\n(I0\ntR.", Plain, match="names bequeath._files.opened")


def test_buffers_beside_the_pickle_stay_as_they_are() -> None:
    buffer = bytearray(b"there before")
    for change in (b"K\x01a", b"(K\x01e", b"K\x00K\x01s", b"(K\x01\x90", b"}b"):
        with pytest.raises(UnpicklingError, match="changes an object of type bytearray"):
            loads(b"\x80\x05\x97" + change + b".", allow=[Plain], buffers=[buffer])
    with pytest.raises(UnpicklingError, match="calls an object of type bytearray"):
        loads(b"\x80\x05\x97)R.", allow=[Plain], buffers=[buffer])
    assert loads(b"\x80\x05\x97.", allow=[], buffers=[buffer]) is buffer
    assert buffer == b"there before"


def test_the_memo_holds_nothing_that_may_be_called_or_changed() -> None:
    again = b"q\x01" + b"h\x01"
    refused(PLAIN + b")\x81" + again + b")R.", Plain, match="calls an object of type Plain")
    # What the reader was given to remember is not what the pickle has named or made.
    for end in (b")R.", b"N\x81.", b"K\x01a.", b"}b."):
        reader = Unpickler(io.BytesIO(b"\x80\x02h\x07" + end), allow=[Plain])
        reader.memo = {7: same}  # type: ignore[assignment]
        with pytest.raises(UnpicklingError, match="calls an object|changes an object"):
            reader.load()
    assert not called


def test_tools_that_are_listed_call_what_is_listed_only_when_the_caller_does() -> None:
    getter = loads(dumps(operator.attrgetter("value"), 4), allow=["operator.attrgetter"])
    assert getter(Plain(3)) == 3
    reach = b"\x80\x04" + spelled("operator", "attrgetter") + b"\x8c\x09__class__\x85R"
    refused(
        reach + spelled(NAME, "Plain") + b"\x85R.",
        "operator.attrgetter",
        Plain,
        match="calls an object of type .*attrgetter",
    )


def test_a_subclass_with_lookups_of_its_own_is_asked_for_what_is_listed_only() -> None:
    class Generous(Unpickler):
        def find_class(self, module: str, name: str, /) -> Any:
            called.append((module, name))
            return getattr(__import__(module), name)

    codes = b"\x80\x02\x82\x41"
    copyreg.add_extension("os", "getcwd", 0x41)
    try:
        for data in (b"cos\ngetcwd\n)R.", b"(ios\ngetcwd\n.", codes + b")R."):
            with pytest.raises(UnpicklingError, match="the pickle names os.getcwd"):
                Generous(io.BytesIO(data), allow=[Plain]).load()
    finally:
        copyreg.remove_extension("os", "getcwd", 0x41)
    assert not called
    assert Generous(io.BytesIO(b"cos\ngetcwd\n)R."), allow=["os.getcwd"]).load() == os.getcwd()
    called.clear()


def test_named_tuples_and_enums_that_are_listed() -> None:
    for protocol in (4, 5):
        assert loads(dumps(Pair(1, [2]), protocol), allow=[Pair]) == Pair(1, [2])
    pair = f"c{NAME}\nPair\n(I1\nI2\nt".encode() + b"\x81"
    refused(pair + b"(N(dS'__class__'\n" + OTHER + b"stb.", Pair, Other, match="sets __class__")
    colour = f"c{NAME}\nColour\n".encode()
    refused(colour + b"(S'RED'\nI9\nu.", Colour, match="changes an object")
    refused(colour + b"(N(dS'RED'\nI9\nstb.", Colour, match="changes an object")
    assert Colour.RED.value == 1
