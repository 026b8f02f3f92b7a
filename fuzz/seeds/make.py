"""Writes the seeds: small pickles, one per opcode or shape. Run once: python3 make.py"""

import collections
import copyreg
import datetime
import fractions
import pickle
from pathlib import Path

HERE = Path(__file__).parent
SHARED = ["again"]
CYCLE: list[object] = []
CYCLE.append((CYCLE,))
PLAIN = {
    "numbers": [0, 255, 65535, -1, 2**31, 2**63, -(2**200), 1.5, float("inf"), True, None],
    "texts": ["", "spam", "é€😀", "\\\n\r\x00"],
    "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
    "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
    "sharing": [SHARED, SHARED, CYCLE],
    "sets": [{1}, frozenset({2}), set()],
    "dicts": {"a": {"b": {1: 2}}, "": []},
    "batch": list(range(1001)),
    # The shapes of the target `typed`.
    "task": {
        "name": "a",
        "sizes": [1, 2],
        "parts": {"name": "b", "sizes": [], "parts": None, "rest": {}},
        "rest": {"x": 1},
    },
    "steps": {"Call": {"name": "c", "with": ["Stop", {"Wait": 0.5}, {"Move": (1, 2**100)}]}},
    "nested": [[], [[], [[[]]]]],
    "strings": ["one", "two", "one"],
    "triples": [(1, None, 0.5), (2, 7, 1)],
    "table": {1: [1, 2, 3], 2: []},
    "wide": (-(2**127), 2**128 - 1),
}
OBJECTS = {
    "ordered": collections.OrderedDict(a=1),
    "date": datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc),
    "fraction": fractions.Fraction(1, 3),
    "complex": 1j,
    "global": collections.Counter,
    "slice": range(1, 2),
}
OLD = {
    "inst": b"(icollections\nOrderedDict\n.",
    "obj": b"(ccollections\nOrderedDict\no.",
    "string": b"S'a\\x41\\n'\n.",
    "persid": b"Pid\n.",
    "dup": b"(I1\n20t.",
    "pop": b"(I1\nI2\n1I3\n.",
    "dict": b"(I1\nI2\nd.",
    "buffers": b"\x80\x05\x97\x98.",
    "far": b"I5\nr\xff\xff\xff\x0f0j\xff\xff\xff\x0f.",
}

for name, value in {**PLAIN, **OBJECTS}.items():
    for protocol in (0, 2, 4, 5):
        HERE.joinpath(f"{name}.{protocol}").write_bytes(pickle.dumps(value, protocol))
for name, data in OLD.items():
    HERE.joinpath(f"{name}.old").write_bytes(data)
for number in (7, 300, 70000):
    copyreg.add_extension("collections", "deque", number)
    HERE.joinpath(f"extension{number}.2").write_bytes(pickle.dumps(collections.deque, 2))
    copyreg.remove_extension("collections", "deque", number)
