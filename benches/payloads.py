"""What `pickling.py` pickles. A module of its own: what it defines can be imported by name."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import importlib.util
import pathlib
import random
import string
import uuid
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass
class Payload:
    """`dumps` and `loads`: how many times faster than `_pickle` the cell must at least be."""

    name: str
    value: Any
    dumps: float = 1.0
    loads: float = 0.95
    # Counts in the geometric mean of instances, not in that of all others.
    instances: bool = False
    # Large parts travel beside the pickle.
    out_of_band: bool = False
    # `_pickle` can not; compared with cloudpickle.
    by_value: bool = False


class Plain:
    def __init__(self, number: int) -> None:
        self.number = number
        self.half = number * 0.5
        self.name = f"n{number}"


class Slotted:
    __slots__ = ("half", "name", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.half = number * 0.5
        self.name = f"n{number}"


@dataclasses.dataclass
class Record:
    number: int
    name: str
    score: float
    tags: list[str]


class Named(collections.namedtuple("Named", "number name score")):
    __slots__ = ()


Bare = collections.namedtuple("Bare", "number name score")


class Colour(enum.Enum):
    RED = 1
    GREEN = 2
    BLUE = 3


RANDOM = random.Random(20)
LETTERS = string.ascii_lowercase + string.digits


def text(length: int = 12) -> str:
    return "".join(RANDOM.choices(LETTERS, k=length))


def profile(number: int) -> dict[str, Any]:
    """Like one record of a social network's user, which pyperformance pickles."""
    return {
        "flags": 0,
        "age": 18 + number,
        "born": datetime.date(1980, 5, 7),
        "bulletins": 0,
        "comments": 0,
        "country": "BR",
        "key": text(11),
        "favourites": 9,
        "first_name": "",
        "more_flags": 4097,
        "friends": 0,
        "gender": "MALE",
        "hidden": "",
        "home": None,
        "id": 302935349 + number,
        "seen": 1225237014,
        "logo": None,
        "music": None,
        "name": f"user {number}",
        "picture": text(20),
        "since": 1225237014,
        "locale": "pt_BR",
        "text": "a few words of one's own " * 3,
        "zip": "",
    }


def long_list_of_numbers() -> tuple[list[int], int]:
    return [RANDOM.randrange(1 << 29) for _ in range(90)], 60


def json_like(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": text(),
        "score": RANDOM.random(),
        "active": number % 3 == 0,
        "parent": None,
        "tags": [text(4), text(4)],
        "address": {"street": text(16), "number": number % 90},
    }


def nested(depth: int) -> Any:
    value: Any = None
    for level in range(depth):
        value = [value] if level % 3 == 0 else {"k": value} if level % 3 == 1 else (value, level)
    return value


def moment(number: int) -> datetime.datetime:
    return datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(
        seconds=number
    )


def of_libraries() -> dict[str, list[Any]]:
    """Types of the standard library that programs send, a thousand or so of each."""
    return {
        "dates, times, deltas": [
            item
            for number in range(300)
            for item in (
                datetime.date.fromordinal(700_000 + number),
                datetime.time(number % 24, number % 60),
                datetime.timedelta(number, number),
            )
        ],
        "Decimal": [decimal.Decimal(number) / 7 for number in range(1000)],
        "Fraction": [fractions.Fraction(number, 7) for number in range(1000)],
        "UUID": [uuid.UUID(int=number << 64 | number) for number in range(1000)],
        "Path": [pathlib.PurePosixPath("/srv", text(6), text(6)) for _ in range(1000)],
        "Enum members": [list(Colour)[number % 3] for number in range(1000)],
        "defaultdict": [collections.defaultdict(list, {text(5): [n]}) for n in range(500)],
        "OrderedDict": [collections.OrderedDict(a=n, b=text(5)) for n in range(500)],
        "Counter": [collections.Counter(text(8)) for _ in range(500)],
        "deque": [collections.deque([n, text(5)], maxlen=9) for n in range(500)],
        "set, frozenset": [s for n in range(500) for s in ({n, text(5)}, frozenset([n]))],
        "complex, range, bytearray": [
            item for n in range(300) for item in (complex(n, 1), range(n), bytearray(b"x" * 20))
        ],
    }


def closure() -> Callable[[int], int]:
    seen: dict[int, int] = {}
    step = 3

    def add(number: int) -> int:
        seen[number] = number + step
        return seen[number]

    return add


def local_class() -> type:
    class Local:
        limit = 10

        def __init__(self, number: int) -> None:
            self.number = number

        @property
        def doubled(self) -> int:
            return self.number * 2

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Local) and other.number == self.number

    return Local


def arrays() -> list[Payload]:
    if importlib.util.find_spec("numpy") is None:
        return []
    import numpy as np

    large = np.arange(125_000, dtype=np.float64)
    small = [np.arange(number % 20, dtype=np.int32) for number in range(300)]
    return [
        Payload("numpy array of 1 MB in band", large),
        Payload("numpy array of 1 MB out of band", large, out_of_band=True),
        Payload("300 small numpy arrays in band", small),
        Payload("300 small numpy arrays out of band", small, out_of_band=True),
    ]


def payloads() -> list[Payload]:
    users = [profile(number) for number in range(3)]
    return [
        Payload("pyperformance: pickle", (users[0], long_list_of_numbers(), users)),
        Payload(
            "pyperformance: pickle_list", [[list(range(10)), list(range(10))] for _ in range(10)]
        ),
        Payload(
            "pyperformance: pickle_dict", {key: dict.fromkeys(range(10)) for key in range(100)}
        ),
        Payload("one dict of pyperformance's", users[0]),
        Payload("100k ints", [RANDOM.randrange(1 << 31) for _ in range(100_000)]),
        Payload("100k floats", [RANDOM.random() for _ in range(100_000)]),
        Payload("10k short unique strings", [text() for _ in range(10_000)]),
        Payload("10k times one string", [text()] * 10_000),
        Payload("1000 JSON-like records", [json_like(number) for number in range(1000)]),
        Payload(
            "1000 dataclasses",
            [Record(n, text(), n / 3, [text(3)]) for n in range(1000)],
            6.0,
            instances=True,
        ),
        Payload("1000 plain instances", [Plain(n) for n in range(1000)], 6.0, instances=True),
        Payload("1000 slotted instances", [Slotted(n) for n in range(1000)], 6.0, instances=True),
        Payload("1000 named tuples", [Bare(n, text(5), n / 3) for n in range(1000)]),
        Payload("1000 subclassed named tuples", [Named(n, text(5), n / 3) for n in range(1000)]),
        Payload("1000 datetimes with a zone", [moment(n) for n in range(1000)]),
        Payload("1000 datetimes", [moment(n).replace(tzinfo=None) for n in range(1000)]),
        *[Payload(name, value) for name, value in of_libraries().items()],
        Payload("150 levels deep", nested(150)),
        Payload("a task: (name, 5, 2.5)", ("resize", 5, 2.5), 2.0),
        Payload(
            "a task with a dict",
            ("resize", {"id": 5, "path": "/srv/x.png", "size": 0.5}, (1, 2)),
            2.0,
        ),
        *arrays(),
        Payload("lambda", lambda number: number * number + 1, 8.0, 2.0, by_value=True),
        Payload("closure", closure(), 8.0, 2.0, by_value=True),
        Payload("class by value", local_class(), 8.0, 2.0, by_value=True),
    ]
