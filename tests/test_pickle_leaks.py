"""`bequeath.pickle` gives back all that it takes.

After thousands of dumps and loads, also of such that raise, as many blocks and bytes are in use as
before. Short form: twenty thousand of each kind. `make long` sets `BEQUEATH_LEAKS` to a million,
and runs it under Python's debug allocator, too.
"""

from __future__ import annotations

import collections
import copyreg
import ctypes
import dataclasses
import datetime
import decimal
import enum
import gc
import io
import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pytest

import bequeath.pickle

TIMES = int(os.environ.get("BEQUEATH_LEAKS") or 20_000)
LONG = TIMES > 20_000
# What takes many times as long is done less often.
SLOW = 10
# What may differ between two looks at a heap at rest: caches of the interpreter and the C library.
BLOCKS = 100
BYTES = 64 * 1024

pytestmark = pytest.mark.limit(14_400 if LONG else 300)


class Plain:
    def __init__(self) -> None:
        self.text = "some text"
        self.items = [1, 2.5, None]


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self) -> None:
        self.left, self.right = "left", (1, 2)


class Reduced:
    def __reduce__(self) -> Any:
        return Reduced.make, ("argument", 7), {"state": [1]}, iter([1, 2]), iter([("key", 3)])

    @staticmethod
    def make(*_arguments: object) -> Holder:
        return Holder()


class Holder(dict):  # type: ignore[type-arg]
    def append(self, item: object) -> None:
        self[item] = item

    def extend(self, items: Any) -> None:
        for item in items:
            self.append(item)


@dataclasses.dataclass
class Record:
    number: int
    text: str
    inside: object


class Colour(enum.Enum):
    RED = 1


Pair = collections.namedtuple("Pair", "one other")


class NewArguments:
    def __new__(cls, *, keyword: str) -> NewArguments:
        return super().__new__(cls)

    def __getnewargs_ex__(self) -> Any:
        return (), {"keyword": "value"}


class Buffers:
    def __reduce_ex__(self, protocol: int) -> Any:
        return bytes, (bequeath.pickle.PickleBuffer(bytearray(b"x" * 300)),)


class WithState:
    def __getstate__(self) -> object:
        return {"a": 1, "b": "two"}

    def __setstate__(self, state: object) -> None:
        self.state = state


class RaisesInReduce:
    def __reduce__(self) -> Any:
        raise ValueError("in __reduce__")


class RaisesInState:
    def __getstate__(self) -> object:
        return {"a": [1, 2]}

    def __setstate__(self, state: object) -> None:
        raise ValueError("in __setstate__")


class RaisesInMake:
    def __reduce__(self) -> Any:
        return RaisesInMake.make, (["argument"],)

    @staticmethod
    def make(*_arguments: object) -> object:
        raise ValueError("in a constructor")


class ReducesToNothing:
    def __reduce__(self) -> Any:
        return 7


def cycle() -> object:
    items: list[object] = []
    items.append({"self": items, "tuple": (items,)})
    return items


OBJECTS: dict[str, Any] = {
    "none": None,
    "ints": [0, 255, 70_000, -1, 2**40, 2**100, -(2**200)],
    "floats": [1.5, -1e300],
    "texts": ["", "spam", "é€😀", "\ud800"],
    "bytes": [b"", b"spam", b"x" * 40, bytearray(b"yy")],
    "tuples": [(), (1,), (1, 2, 3), tuple(range(20))],
    "lists": [[], [1], list(range(20))],
    "dicts": [{}, {"k": 1}, dict.fromkeys(range(20))],
    "sets": [{1, 2}, frozenset({"a"}), set(range(20))],
    "sharing": [["again"]] * 20,
    "cycle": cycle(),
    "nested": [[[[[[[[{"deep": ()}]]]]]]]],
    "instance": Plain(),
    "slots": Slotted(),
    "dataclass": Record(1, "two", [Record(3, "four", None)]),
    "named tuple": Pair(1, Pair("two", 3.0)),
    "enum": Colour.RED,
    "reduce": Reduced(),
    "state": WithState(),
    "keyword arguments": NewArguments(keyword="value"),
    "global": [collections.OrderedDict, len, Plain, Reduced.make],
    "datetime": datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc),
    "library": [collections.OrderedDict(a=1), collections.deque([1]), decimal.Decimal("1.5")],
    "complex": [1j, range(3), slice(1, 2), Ellipsis, NotImplemented, type(None)],
}


# Beyond what Python's own allocator serves, and beyond one batch and one frame.
LARGE = ["x" * 3000, b"y" * 70_000, bytearray(5000), list(range(1100)), dict.fromkeys(range(1100))]


def both_ways(value: object, protocol: int) -> Callable[[], None]:
    def work() -> None:
        bequeath.pickle.loads(bequeath.pickle.dumps(value, protocol))

    return work


def through_files(value: object) -> Callable[[], None]:
    def work() -> None:
        file = io.BytesIO()
        pickler = bequeath.pickle.Pickler(file)
        pickler.dump(value)
        pickler.dump(value)
        pickler.clear_memo()
        file.seek(0)
        unpickler = bequeath.pickle.Unpickler(file)
        unpickler.load()
        unpickler.load()
        assert unpickler.memo is not None and pickler.memo is not None

    return work


class IdPickler(bequeath.pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("id", "of bytes") if isinstance(obj, bytes) else None

    def reducer_override(self, obj: Any) -> Any:
        return (complex, (1, 2)) if type(obj) is Plain else NotImplemented


class IdUnpickler(bequeath.pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return pid[1]

    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module, name)


def with_subclasses() -> None:
    file = io.BytesIO()
    IdPickler(file).dump([b"bytes", Plain(), Slotted()])
    file.seek(0)
    IdUnpickler(file).load()


def with_dispatch_table() -> None:
    pickler = bequeath.pickle.Pickler(io.BytesIO())
    pickler.dispatch_table = copyreg.dispatch_table | {Plain: lambda _plain: (complex, (1,))}
    pickler.dump([Plain(), Plain()])


def out_of_band() -> None:
    buffers: list[Any] = []
    data = bequeath.pickle.dumps([Buffers(), Buffers()], 5, buffer_callback=buffers.append)
    bequeath.pickle.loads(data, buffers=buffers)
    bequeath.pickle.loads(bequeath.pickle.dumps(Buffers(), 5))


def restricted() -> None:
    data = bequeath.pickle.dumps(collections.OrderedDict(a=1))
    bequeath.pickle.loads(data, allow=["collections.OrderedDict"])
    refuses(lambda: bequeath.pickle.loads(data, allow=[]))


def by_value() -> None:
    factor = 3

    class Local:
        def method(self, n: int) -> int:
            return n * factor

    data = bequeath.pickle.dumps([lambda n: n + factor, Local], by_value=True)
    bequeath.pickle.loads(data)


def refuses(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception:
        return
    raise AssertionError("it was to raise")


RAISES_IN_DUMPS: dict[str, Any] = {
    "lambda": [1, {"k": lambda: None}],
    "generator": [["text"], (n for n in range(3))],
    "__reduce__": [Plain(), RaisesInReduce()],
    "no tuple": {"a": [ReducesToNothing()]},
}
RAISES_IN_LOADS: dict[str, Any] = {
    "__setstate__": [Plain(), RaisesInState()],
    "constructor": {"k": [Plain(), RaisesInMake()]},
}
WHOLE = pickle.dumps([OBJECTS["dicts"], Plain(), {"k": (1, 2, "text")}, Record(1, "2", [3])], 4)
BROKEN = {
    "truncated": WHOLE[:-20],
    "no opcode": WHOLE[:-1] + b"\xff.",
    "underflow": b"\x80\x04]\x94(K\x01K\x02ea.",
    "no memo": WHOLE[:-1] + b"j\xff\xff\xff\x7f.",
    "no module": b"\x80\x04](\x8c\x04spamcno_such_module\nname\n.",
    "no name": b"\x80\x04](\x8c\x04spamcbuiltins\nno_such_name\n.",
    "extension": b"\x80\x04](\x8c\x04spam\x82\x77e.",
    "persistent": b"\x80\x04](\x8c\x04spamQe.",
    "no buffer": b"\x80\x05](\x8c\x04spam\x97e.",
    "unhashable": b"\x80\x04}(]]K\x01u.",
    "marks": b"(" * 500 + b".",
}


def kinds() -> dict[str, tuple[Callable[[], object], int]]:
    found: dict[str, tuple[Callable[[], object], int]] = {}
    for name, value in OBJECTS.items():
        for protocol in (0, 2, 5) if LONG else (5,):
            # (Slots without state of their own need protocol 2.)
            protocol = max(protocol, 2 if name == "slots" else 0)
            found[f"{name}, protocol {protocol}"] = both_ways(value, protocol), 1
    for protocol in (3, 5):
        found[f"large, protocol {protocol}"] = both_ways(LARGE, protocol), 10 * SLOW
    for name in ("sharing", "cycle", "dataclass"):
        found[f"{name}, by files"] = through_files(OBJECTS[name]), 1
    found["subclasses"] = with_subclasses, 1
    found["dispatch table"] = with_dispatch_table, 1
    found["out of band"] = out_of_band, 1
    found["restricted"] = restricted, 1
    found["by value"] = by_value, SLOW
    for name, value in RAISES_IN_DUMPS.items():
        found[f"raises in dumps: {name}"] = (
            lambda value=value: refuses(lambda: bequeath.pickle.dumps(value)),
            1,
        )
    for name, value in RAISES_IN_LOADS.items():
        data = bequeath.pickle.dumps(value)
        found[f"raises in loads: {name}"] = (
            lambda data=data: refuses(lambda: bequeath.pickle.loads(data)),
            1,
        )
    for name, data in BROKEN.items():
        found[f"broken: {name}"] = (
            lambda data=data: refuses(lambda: bequeath.pickle.loads(data)),
            1,
        )
    return found


KINDS = kinds()


FIGURES = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in FIGURES.split()]


def bytes_of_heap() -> int:
    """What the C library's allocator has given out; Rust's memory, and Python's larger blocks."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:  # another C library, or an old one: only blocks are counted
        return 0
    mallinfo.restype = Mallinfo
    info = mallinfo()
    return int(info.uordblks + info.hblkhd)


def in_use() -> tuple[int, int]:
    gc.collect()
    return sys.getallocatedblocks(), bytes_of_heap()


def growth(work: Callable[[], object], times: int) -> tuple[int, int]:
    for _ in range(min(times, 1_000)):
        work()
    in_use()
    blocks, size = in_use()
    for _ in range(times):
        work()
    blocks_after, size_after = in_use()
    return blocks_after - blocks, size_after - size


@pytest.mark.parametrize("kind", KINDS)
def test_memory_stays_as_it_was(kind: str) -> None:
    work, slowness = KINDS[kind]
    times = TIMES // slowness
    # Not every look meets the same caches: what grows does so each time.
    for _ in range(3):
        blocks, size = growth(work, times)
        if blocks < BLOCKS and size < BYTES:
            return
    pytest.fail(f"{blocks} blocks and {size} bytes more after {times} times")


def test_a_leaked_block_would_be_seen() -> None:
    held: list[object] = []
    assert growth(lambda: held.append(object()), 500)[0] >= BLOCKS


def test_leaked_bytes_would_be_seen() -> None:
    held: list[object] = []
    if bytes_of_heap():
        assert growth(lambda: held.append(bytearray(1000)), 500)[1] >= BYTES
