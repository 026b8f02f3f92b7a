"""`bequeath.pickle` beside `pickle`: each reads what the other wrote, and both say the same of it.

CPython's own suite runs over it by `make upstream-pickle`; here is what it does not try.
"""

from __future__ import annotations

import array
import collections
import copyreg
import ctypes
import dataclasses
import datetime
import decimal
import enum
import fractions
import gc
import io
import pathlib
import pickle
import subprocess
import sys
import uuid
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bequeath.pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Plain:
    def __init__(self, **state: Any) -> None:
        self.__dict__.update(state)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__

    __hash__ = None  # type: ignore[assignment]


class Slotted:
    __slots__ = ("__private", "left", "right")

    def __init__(self, left: Any = None, private: Any = None) -> None:
        self.left = left
        self.__private = private

    def state(self) -> tuple[Any, Any, bool]:
        return self.left, self.__private, hasattr(self, "right")


class SlottedWithDict(Slotted):
    pass


@dataclasses.dataclass
class Record:
    number: int
    text: str
    inside: Any = None


class Point(collections.namedtuple("Point", "x y")):
    __slots__ = ()


class Colour(enum.Enum):
    RED = 1


class ListOfMine(list):  # type: ignore[type-arg]
    pass


class Node:
    """Its state leads back to the parent by a weak reference: code runs while it is pickled."""

    def __init__(self, parent: Node | None = None) -> None:
        self.parent = weakref.ref(parent) if parent else None
        self.children: list[Node] = []

    def __getstate__(self) -> dict[str, Any]:
        return {"parent": self.parent() if self.parent else None, "children": self.children}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.parent = weakref.ref(state["parent"]) if state["parent"] else None
        self.children = state["children"]


SHARED = [[1]]


class Peeking:
    def __getstate__(self) -> dict[str, Any]:
        return {"shared": SHARED[0]}


def function_of_mine() -> None: ...


def both_ways(value: Any, protocol: int) -> tuple[Any, Any]:
    """What each of the two reads of what the other wrote."""
    ours = bequeath.pickle.dumps(value, protocol)
    theirs = pickle.dumps(value, protocol)
    return pickle.loads(ours), bequeath.pickle.loads(theirs)


def nested(depth: int) -> Any:
    value: Any = "inside"
    for _ in range(depth):
        value = [value]
    return value


def in_itself() -> Any:
    items: list[Any] = []
    items.append((items, 1, items))
    return items[0]


# At the edges of what is written the short way, which only calls without keywords take.
SMALL = [
    ("resize", {"id": 5, "path": "/srv/x.png"}, (1, 2), "resize"),
    [("same",) * 3, None, True, -1, 2**31, 2**63, 1.5],
    *(["x" * length, "y"] for length in (0, 60, 90, 100, 255, 256)),
    *(list(range(items)) for items in (15, 16, 17)),
    *({index: "v" * index} for index in range(80, 100)),
    *(nested(depth) for depth in (7, 8, 9, 20)),
    in_itself(),
    [1, "é", b"bytes"],
    [1, {2, 3}, "set"],
    ["global", len, int],
    ["instance", collections.OrderedDict(a=[1])],
]


@pytest.mark.parametrize("value", SMALL, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("protocol", [None, 3, 4, 5])
def test_small_values_are_written_as_all_others(value: Any, protocol: int | None) -> None:
    short = bequeath.pickle.dumps(value, protocol)
    assert short == bequeath.pickle.dumps(value, protocol=protocol)
    assert repr(pickle.loads(short)) == repr(value)
    if protocol is None:
        assert short == bequeath.pickle.dumps(value)


VALUES = [
    None,
    True,
    2**31,
    -(2**63) - 1,
    2**2100,
    -(2**2103),
    -128,
    -(2**71),
    1.5,
    float("inf"),
    "text é € 😀 \udc80",
    b"bytes",
    bytearray(b"array"),
    [],
    [[], {}, ()],
    {"a": {1: [2]}},
    {1, 2},
    frozenset({"x"}),
    Plain(a=1, b=[2]),
    Plain(),
    Record(1, "x", Record(2, "y")),
    Point(1, 2),
    Colour.RED,
    ListOfMine([1, 2]),
    collections.OrderedDict(a=1),
    collections.defaultdict(list, a=[1]),
    collections.deque([1, 2], maxlen=3),
    datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc),
    datetime.datetime(2020, 1, 2, fold=1),
    datetime.date(2020, 1, 2),
    datetime.time(1, 2, 3, 4, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "x"), fold=1),
    datetime.timedelta(-1, 2, 3),
    decimal.Decimal("-1.50"),
    decimal.Decimal("Infinity"),
    uuid.UUID(int=2**128 - 1),
    pathlib.PurePosixPath("/a/b"),
    pathlib.PurePosixPath(),
    collections.Counter("abca"),
    collections.OrderedDict(),
    collections.defaultdict(None, a=1),
    collections.deque(),
    fractions.Fraction(1, 3),
    range(3),
    complex(1, 2),
    slice(1, 2),
    Plain,
    len,
    function_of_mine,
    type(None),
    ...,
    NotImplemented,
]


@pytest.mark.short
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_reads_what_the_other_wrote(protocol: int) -> None:
    for value in VALUES:
        if isinstance(value, slice) and protocol < 2:
            continue
        ours, theirs = both_ways(value, protocol)
        assert type(ours) is type(value), value
        assert ours == value, value
        assert theirs == value, value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", [Slotted, SlottedWithDict])
def test_slots(protocol: int, kind: type[Slotted]) -> None:
    value = kind([1], "p")
    for read in both_ways([value, value], protocol):
        assert read[0].state() == ([1], "p", False)
        assert read[0] is read[1]
    if kind is SlottedWithDict:
        value.more = 1  # type: ignore[attr-defined]
        for read in both_ways(value, protocol):
            assert read.more == 1 and read.left == [1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cycles(protocol: int) -> None:
    loop: list[Any] = []
    loop.append(loop)
    through_tuple: tuple[Any, ...] = ([],)
    through_tuple[0].append(through_tuple)
    instance = Plain()
    instance.me = [instance]
    for read in both_ways([loop, through_tuple, instance], protocol):
        assert read[0][0] is read[0]
        assert read[1][0][0] is read[1]
        assert read[2].me[0] is read[2]


def test_a_tuple_shared_around_a_cycle() -> None:
    inside: list[Any] = []
    shared = (inside, "x")
    inside.append(shared)
    read, _ = both_ways([shared, {"k": shared}], 5)
    assert read[0] is read[1]["k"]
    assert read[0][0][0] is read[0]


def test_code_that_runs_may_lead_back() -> None:
    """The counter-examples to leaving out of the memo what has one reference."""
    tree = Node()
    tree.children.append(Node(tree))
    for read in both_ways([tree], 5):
        assert read[0].children[0].parent() is read[0]
    for read in both_ways([SHARED, Peeking()], 5):
        assert read[1].shared is read[0][0]


def test_a_class_that_changes_is_asked_again() -> None:
    class Changing:
        pass

    globals()["Changing"] = Changing
    Changing.__qualname__ = "Changing"
    try:
        value = Changing()
        value.a = 1  # type: ignore[attr-defined]
        assert bequeath.pickle.loads(bequeath.pickle.dumps(value)).a == 1
        Changing.__getstate__ = lambda self: {"a": 2}  # type: ignore[attr-defined,method-assign]
        assert bequeath.pickle.loads(bequeath.pickle.dumps(value)).a == 2
        Changing.__setstate__ = lambda self, state: setattr(self, "b", 3)  # type: ignore[attr-defined]
        assert bequeath.pickle.loads(bequeath.pickle.dumps(value)).b == 3
    finally:
        del globals()["Changing"]


def test_an_attribute_of_the_instance_stands_in_for_the_method() -> None:
    value = Plain()
    value.__reduce_ex__ = lambda protocol: (list, ())
    assert bequeath.pickle.loads(bequeath.pickle.dumps([value])) == [[]]


def test_registered_reducers() -> None:
    copyreg.pickle(Plain, lambda value: (dict, (value.__dict__,)))
    try:
        assert bequeath.pickle.loads(bequeath.pickle.dumps([Plain(a=1)])) == [{"a": 1}]
    finally:
        del copyreg.dispatch_table[Plain]


def test_what_is_changed_while_it_is_pickled_is_told() -> None:
    class Growing:
        def __init__(self, grown: Any) -> None:
            self.grown = grown

        def __reduce__(self) -> Any:
            grown = self.grown
            grown.append(1) if isinstance(grown, list) else grown.update({len(grown): 1})
            return (int, ())

    for container in ([], {}):
        value = Growing(container)
        if isinstance(container, list):
            container += [value, 2]
        else:
            container.update(a=value, b=2)
        with pytest.raises(RuntimeError, match="changed size during iteration"):
            bequeath.pickle.dumps(container)


def test_depth_is_an_error_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(RecursionError):
        bequeath.pickle.dumps(deep)
    while deep:  # taken apart from outside: the interpreter's own way down is deep, too
        deep = deep.pop()


def test_buffers_out_of_band() -> None:
    data = bytearray(b"x" * 100_000)
    buffers: list[pickle.PickleBuffer] = []
    wrapped = [pickle.PickleBuffer(data), pickle.PickleBuffer(b"readonly")]
    written = bequeath.pickle.dumps(wrapped, 5, buffer_callback=buffers.append)
    assert len(written) < 100
    mutable, readonly = bequeath.pickle.loads(written, buffers=buffers)
    assert memoryview(mutable).obj is data
    assert memoryview(readonly).readonly
    with pytest.raises(pickle.UnpicklingError):
        bequeath.pickle.loads(written)
    in_band = bequeath.pickle.loads(bequeath.pickle.dumps(wrapped, 5))
    assert in_band == [data, b"readonly"]


@pytest.mark.parametrize("size", [10, 70_000, 300_000])
def test_several_pickles_in_one_file(size: int) -> None:
    values = ["x" * size, b"y" * size, [1, 2], {"k": ["v"] * (size // 10)}]
    for dumper, loader in [(bequeath.pickle, pickle), (pickle, bequeath.pickle)]:
        file = io.BytesIO()
        for value in values:
            dumper.dump(value, file)
        file.write(b"rest")
        file.seek(0)
        assert [loader.load(file) for _ in values] == values
        assert file.read() == b"rest"
        # A file that can be peeked into stands behind the pickle all the same.
        file.seek(0)
        reader = io.BufferedReader(file)  # type: ignore[arg-type]
        assert [loader.load(reader) for _ in values] == values
        assert reader.read() == b"rest"


def test_memory_stays_flat() -> None:
    program = """
import resource, bequeath.pickle as p
class C: pass
class Bad:
    def __reduce__(self): raise ValueError
def work():
    c = C(); c.x = [1, {"a": (1, 2)}, "text", 1.5, 2**80]
    p.loads(p.dumps([c, c, {1, 2}, frozenset([3]), b"x" * 100]))
    try: p.dumps([c, Bad()])
    except ValueError: pass
    try: p.loads(p.dumps(c)[:-1])
    except p.UnpicklingError: pass
    except EOFError: pass
for _ in range(2000): work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(20000): work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 1024, "KiB more"


def test_a_pickler_that_is_part_of_a_cycle_is_collected() -> None:
    class Mine(bequeath.pickle.Pickler):
        pass

    pickler: Any = Mine(io.BytesIO())
    pickler.me = pickler
    pickler.dump([pickler.__class__.__mro__[1]])
    seen = weakref.ref(pickler)
    del pickler
    gc.collect()
    assert seen() is None


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=()))
    | st.binary()
)
keys = st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
graphs = st.recursive(
    leaves,
    lambda inside: (
        st.lists(inside)
        | st.tuples(inside, inside)
        | st.dictionaries(keys, inside)
        | st.frozensets(keys)
        | st.sets(keys)
        | st.builds(Plain, a=inside, b=inside)
        | st.builds(Record, st.integers(), st.text(), inside)
        # The same object twice: sharing must survive.
        | inside.map(lambda value: [value, value])
    ),
    max_leaves=30,
)


def shape(value: Any, seen: dict[int, int]) -> Any:
    """A value with its sharing: what is met again is told by when it was met first."""
    if isinstance(value, (list, dict, Plain, Record, set)):
        if id(value) in seen:
            return ("again", seen[id(value)])
        seen[id(value)] = len(seen)
    if isinstance(value, (list, tuple)):
        return type(value), [shape(item, seen) for item in value]
    if isinstance(value, dict):
        return dict, [(key, shape(item, seen)) for key, item in value.items()]
    if isinstance(value, (Plain, Record)):
        return type(value), shape(value.__dict__, seen)
    return type(value), value


@settings(max_examples=100, deadline=None)
@given(graphs, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_graph_arrives_as_through_pickle(value: Any, protocol: int) -> None:
    expected = shape(pickle.loads(pickle.dumps(value, protocol)), {})
    for read in both_ways(value, protocol):
        assert shape(read, {}) == expected


class Reaching:
    """Hands out what lies elsewhere in the graph, and what only its owner refers to."""

    calls = 0

    def __init__(self, owner: Plain) -> None:
        self.owner = weakref.ref(owner)
        self.reached: Any = None

    def __reduce__(self) -> Any:
        Reaching.calls += 1
        owner = self.owner()
        return arrived, (), {"reached": owner and owner.__dict__.get("inside")}


class Meddling:
    """Lets something go that only its owner refers to: what comes next may lie at its address."""

    def __init__(self, owner: Plain) -> None:
        self.owner = weakref.ref(owner)

    def __reduce__(self) -> Any:
        Reaching.calls += 1
        if (owner := self.owner()) is not None and "inside" in owner.__dict__:
            before = len(owner.inside)
            owner.inside = None
            owner.inside = [before, [Reaching.calls], {"calls": Reaching.calls}]
        return list, ()


def arrived() -> Reaching:
    made = Reaching.__new__(Reaching)
    made.__dict__["owner"] = None
    return made


class DictOfMine(dict):  # type: ignore[type-arg]
    pass


class TupleOfMine(tuple):  # type: ignore[type-arg]
    pass


class Named(collections.namedtuple("Named", "first second")):
    """With attributes of its own besides."""


def made_of(plan: list[tuple[str, list[int]]]) -> Any:
    """Objects that refer to each other by number; to later ones where they can be filled."""
    objects: list[Any] = []
    for kind, parts in plan:
        earlier = [objects[part % len(objects)] for part in parts] if objects else []
        first, second = [*earlier, None, None][:2]
        made: Any
        if kind == "tuple":
            made = tuple(earlier)
        elif kind == "mine":
            made = TupleOfMine(earlier)
        elif kind == "point":
            made = Point(first, second)
        elif kind == "named":
            made = Named(first, second)
        elif kind in ("reaching", "meddling"):
            owners = [found for found in objects if type(found) is Plain]
            of = Reaching if kind == "reaching" else Meddling
            made = of(owners[parts[0] % len(owners)]) if owners and parts else None
        else:
            made = EMPTY[kind]()
        objects.append(made)
    for (_, parts), made in zip(plan, objects, strict=True):
        inside = [objects[part % len(objects)] for part in parts]
        if isinstance(made, (list, collections.deque)):
            made.extend(inside)
        elif isinstance(made, dict) and not isinstance(made, collections.Counter):
            made.update(enumerate(inside))
        elif isinstance(made, Plain):
            made.inside = inside
        elif isinstance(made, Slotted):
            made.left = inside
        elif isinstance(made, Named):
            made.more = inside[:1]
    return objects[-1]


EMPTY: dict[str, Any] = {
    "list": list,
    "dict": dict,
    "list of mine": ListOfMine,
    "dict of mine": DictOfMine,
    "plain": Plain,
    "slotted": Slotted,
    "slotted with dict": SlottedWithDict,
    "default": lambda: collections.defaultdict(list),
    "ordered": collections.OrderedDict,
    "deque": collections.deque,
    "day": lambda: datetime.date(2020, 2, 29),
    "moment": lambda: datetime.datetime(2020, 1, 1, fold=1, tzinfo=datetime.timezone.utc),
    "path": lambda: pathlib.PurePosixPath("/a/b"),
    "colour": lambda: Colour.RED,
    "decimal": lambda: decimal.Decimal("1.50"),
    "counter": lambda: collections.Counter("abca"),
    "uuid": lambda: uuid.UUID(int=2**127),
    "set": lambda: {1, "a"},
}
kinds = st.sampled_from([*EMPTY, "tuple", "point", "named", "mine", "reaching", "meddling"])
plans = st.lists(
    st.tuples(kinds, st.lists(st.integers(0, 30), max_size=3)), min_size=1, max_size=14
)


def drawn(value: Any, seen: dict[int, int], keep: list[Any]) -> Any:
    """All that can be seen of a graph: types, values, and what is the same object as what."""
    if isinstance(value, (type(None), int, str, type, enum.Enum)):
        return repr(value)
    if id(value) in seen:
        return ("again", seen[id(value)])
    seen[id(value)] = len(seen)
    keep.append(value)
    parts: list[Any] = [type(value).__name__]
    if isinstance(value, dict):
        parts += [[repr(key), drawn(item, seen, keep)] for key, item in value.items()]
    elif isinstance(value, (list, tuple, collections.deque)):
        parts += [drawn(item, seen, keep) for item in value]
    elif isinstance(value, Slotted):
        parts += [drawn(value.left, seen, keep)]
    elif isinstance(value, Reaching):
        return [*parts, drawn(value.reached, seen, keep)]
    elif not isinstance(value, Plain):
        return [*parts, repr(value), getattr(value, "fold", None)]
    return [*parts, drawn(getattr(value, "__dict__", None), seen, keep)]


@settings(max_examples=150, deadline=None)
@given(plans, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_any_cycle_arrives_as_through_pickle(plan: Any, protocol: int) -> None:
    """Cycles, sharing, subclasses, and reducers that lead back into the graph, or change it."""
    value = made_of(plan)

    def drawing(read: Any) -> Any:
        return drawn(read, {}, [])

    Reaching.calls = 0
    try:
        written = pickle.dumps(value, protocol)
    except RecursionError:
        return
    calls = Reaching.calls
    expected = drawing(pickle.loads(written))
    Reaching.calls = 0
    ours = bequeath.pickle.dumps(made_of(plan), protocol)
    assert Reaching.calls == calls, "each reducer runs once"
    assert drawing(pickle.loads(ours)) == expected
    assert drawing(bequeath.pickle.loads(ours)) == expected
    assert drawing(bequeath.pickle.loads(written)) == expected


def test_a_slot_of_another_class_is_no_place_in_this_one() -> None:
    class Large:
        __slots__ = ("a", "b", "c", "d")

    class Small:
        __slots__ = ("a",)

    Small.d = Large.d  # type: ignore[attr-defined]
    Small.__slots__ = ("a", "d")  # type: ignore[assignment]
    Small.__qualname__ = "Small"
    globals()["Small"] = Small
    try:
        value = Small()
        value.a = 1  # type: ignore[attr-defined]
        for module in (pickle, bequeath.pickle):
            with pytest.raises(TypeError):
                module.dumps(value, 5)
    finally:
        del globals()["Small"]


def test_the_dict_of_an_instance_may_be_a_subclass() -> None:
    value = Plain()
    value.__dict__ = DictOfMine(a=1)
    for read in both_ways([value], 5):
        assert read[0].a == 1


def test_an_attribute_behind_a_property_goes_into_the_dict() -> None:
    for read in both_ways(WithProperty(), 5):
        assert read.__dict__ == {"seen": 1}


class WithProperty:
    def __init__(self) -> None:
        self.__dict__["seen"] = 1

    @property
    def seen(self) -> int:
        return 2

    @seen.setter
    def seen(self, value: int) -> None:
        raise AssertionError("state is not set through properties")


def test_large_buffers_stay_in_their_places() -> None:
    parts = [bytes([65 + n]) * (70_000 + n) for n in range(3)]
    value = [item for part in parts for item in ("x", pickle.PickleBuffer(part), bytearray(part))]
    for read in both_ways(value, 5):
        assert read == [item for part in parts for item in ("x", part, part)]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_garbage_raises_what_pickle_raises(data: bytes) -> None:
    """Never a crash, and never an object where pickle refuses. (Imports are left out.)"""
    data = bytes(byte for byte in data if byte not in b"ci\x93")
    try:
        expected = pickle.loads(data)
    except RecursionError:
        return
    except Exception:
        with pytest.raises(Exception):  # noqa: B017
            bequeath.pickle.loads(data)
    else:
        assert repr(bequeath.pickle.loads(data)) == repr(expected)


def test_a_finalizer_that_empties_what_is_being_written() -> None:
    """Up to 3.11 the garbage collector comes with any allocation of the walk."""
    program = """
import gc
from bequeath import pickle

class Plain:
    def __init__(self):
        self.items = [1]
        self.text = "x" * 20

class Emptying:
    def __init__(self, container):
        self.container = container
        self.cycle = self

    def __del__(self):
        self.container.clear()

gc.set_threshold(1)
for _ in range(1000):
    items = [Plain() for _ in range(20)]
    pairs = {(Plain(),): [Plain()] for _ in range(10)}
    Emptying(items)
    Emptying(pairs)
    try:
        pickle.dumps([items, pairs, {1, 2}])
    except RuntimeError as error:
        assert "changed size" in str(error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


class Successor(uuid.UUID):
    def __setstate__(self, state: dict[str, Any]) -> None:
        object.__setattr__(self, "int", state["int"] + 1)
        object.__setattr__(self, "is_safe", uuid.SafeUUID.unsafe)


def test_uuids_are_filled_as_their_class_says(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, safe = uuid.UUID(int=5), uuid.UUID(int=6, is_safe=uuid.SafeUUID.safe)

    for _ in range(2):
        for one in (plain, safe):
            for module in (pickle, bequeath.pickle):
                read = bequeath.pickle.loads(module.dumps(one))
                assert (type(read), read.int, read.is_safe) == (uuid.UUID, one.int, one.is_safe)
    read = bequeath.pickle.loads(pickle.dumps(Successor(int=7)))
    assert (read.int, read.is_safe) == (8, uuid.SafeUUID.unsafe)

    def other(self: uuid.UUID, state: dict[str, Any]) -> None:
        object.__setattr__(self, "int", -1)
        object.__setattr__(self, "is_safe", None)

    data = pickle.dumps(plain)
    monkeypatch.setattr(uuid.UUID, "__setstate__", other)
    read = bequeath.pickle.loads(data)
    assert (read.int, read.is_safe) == (-1, None)
    monkeypatch.undo()
    assert bequeath.pickle.loads(data) == plain


def test_arrays_whose_parts_are_gone_when_the_next_is_written() -> None:
    # What an array's `__reduce_ex__` made is dropped as soon as it is written: its place in memory
    # is the next one's.
    np = pytest.importorskip("numpy")
    grid = np.arange(24, dtype="i4").reshape(4, 6)
    record = np.zeros(3, dtype=[("a", "f8"), ("b", "S3")])
    shared = np.arange(5)
    arrays = [
        *[np.full((number % 4, number % 3), number) for number in range(200)],
        *[grid, grid.T, grid[::2], grid[:, 1], np.asfortranarray(grid)],
        *[record, np.array([[1], {"x": 2}], dtype=object), np.array(5), np.array([], "f4")],
        *[np.float64(2.5), np.int8(3), np.dtype("i2"), np.dtype("i2"), shared, shared],
    ]
    buffers: list[Any] = []
    for protocol, callback in ((4, None), (5, None), (5, buffers.append)):
        data = bequeath.pickle.dumps(arrays, protocol, buffer_callback=callback)
        for module in (pickle, bequeath.pickle):
            read = module.loads(data, buffers=buffers)
            for one, other in zip(arrays, read, strict=True):
                assert type(one) is type(other)
                assert getattr(one, "dtype", 0) == getattr(other, "dtype", 0)
                assert np.array_equal(one, other), (one, other)
            assert read[-1] is read[-2]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"}(Ne.", AttributeError),
        (b"}Na.", AttributeError),
        (b"](NNu.", TypeError),
        (b"]NNs.", TypeError),
        # What a mutation of a recursive list came to.
        (b"\x80\x02}q\x00(]q\x00(]q\x01X\x05\x00\x00\x00againq\x02ah\x01q\x04ae]q\x03h\x03\x85q\x04ae.",
         AttributeError),
    ],
)  # fmt: skip
def test_items_for_an_empty_container_of_another_kind(data: bytes, error: type[Exception]) -> None:
    for loads in (pickle.loads, bequeath.pickle.loads):
        with pytest.raises(error):
            loads(data)


@pytest.mark.parametrize("data", [b"N(e.", b"}(e.", b"N(\x90.", b"N(u.", b"](e.", b"\x8f(\x90."])
def test_no_items_are_for_whom_pickle_says(data: bytes) -> None:
    def outcome(library: Any) -> Any:
        try:
            return library.loads(data)
        except AttributeError as error:
            return str(error)

    assert outcome(bequeath.pickle) == outcome(pickle)


FRAME = b"\x80\x04\x95%c\x00\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize(
    "data",
    [
        FRAME % 3 + b"C\x0ahelloworld.",
        FRAME % 6 + b"Vhelloworld\n.",
        FRAME % 12 + b"N" + FRAME[2:] % 0 + b"NN.",
    ],
)
def test_nothing_reaches_over_the_end_of_a_frame(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        bequeath.pickle.loads(data)
    with pytest.raises(pickle.UnpicklingError):
        bequeath.pickle.load(io.BytesIO(data))
    whole = FRAME % 10 + b"N" + FRAME[2:] % 0 + b"N."
    assert bequeath.pickle.loads(whole) is bequeath.pickle.load(io.BytesIO(whole)) is None


def test_any_buffer_in_one_piece_is_read_as_pickle_does() -> None:
    value = {"a": [1, 2, 3] * 9, "b": "text"}
    data = pickle.dumps(value)
    data += bytes(-len(data) % 8)
    spread = memoryview(b"".join(bytes([byte, 0]) for byte in data))[::2]
    whole: list[Any] = [bytearray(data), memoryview(data), array.array("i", data)]
    whole += [array.array("d", data), memoryview(data).cast("Q")]
    whole += [memoryview(data).cast("B", (2, len(data) // 2)), (ctypes.c_long * 4)()]
    for one in (*whole, spread, None, 5, "text", [1], pickle.PickleBuffer(data)):
        try:
            expected = pickle.loads(one)
        except Exception as error:
            with pytest.raises(type(error)) as caught:
                bequeath.pickle.loads(one)
            assert str(caught.value) == str(error)
        else:
            assert bequeath.pickle.loads(one) == expected == value


class HashedOnce:
    """As a key it can be put into one dict, and not into a second one."""

    def __init__(self) -> None:
        self.left = 1

    def __setstate__(self, state: Any) -> None:
        self.left = 1

    def __hash__(self) -> int:
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError
        return 42


@pytest.mark.parametrize("library", [pickle, bequeath.pickle])
@pytest.mark.parametrize("slots", [False, True])
def test_what_is_no_name_is_hashed_as_pickle_does(library: Any, slots: bool) -> None:
    name = f"c{__name__}\n".encode()
    key = b"(" + name + b"HashedOnce\no}b"
    state = b"}" + key + b"Ns"
    whole = b"(" + name + b"Plain\no" + (b"N" + state + b"\x86" if slots else state) + b"b."
    # Once for the state's dict; then the object's own asks again, but no slot has such a name.
    with pytest.raises(TypeError if slots else ZeroDivisionError):
        library.loads(whole)
    with pytest.raises(TypeError):
        library.loads(whole.replace(key, b"]"))


@pytest.mark.parametrize("library", [pickle, bequeath.pickle])
def test_the_numbers_of_a_pickler(library: Any) -> None:
    pickler: Any = library.Pickler(io.BytesIO(), 0)
    assert (pickler.bin, pickler.fast) == (0, 0)
    for name in ("bin", "fast"):
        for value in (0, 1, True, -3):
            setattr(pickler, name, value)
            assert getattr(pickler, name) == value
        for error, wrong in ((TypeError, "x"), (TypeError, 1.5), (OverflowError, 2**1000)):
            with pytest.raises(error):
                setattr(pickler, name, wrong)
        with pytest.raises(TypeError, match="can't delete"):
            delattr(pickler, name)
        assert getattr(pickler, name) == -3
    assert library.Pickler(io.BytesIO()).bin == 1


@pytest.mark.parametrize("library", [pickle, bequeath.pickle])
@pytest.mark.parametrize("kind", ["Pickler", "Unpickler"])
def test_a_memo_is_not_deleted(library: Any, kind: str) -> None:
    machine = getattr(library, kind)(io.BytesIO())
    with pytest.raises(TypeError, match="attribute deletion is not supported"):
        del machine.memo
    assert machine.memo.copy() == {}
