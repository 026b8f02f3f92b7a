"""Writes the vectors: one object as each protocol of this Python's pickle spells it. Run once: python3 make.py"""

import pickle
from pathlib import Path

SHARED = ["again"]
OBJECT = {
    "none": None,
    "bools": [True, False],
    "ints": (0, 1, 255, 256, 65535, 65536, -1, 2**31 - 1, -(2**31), 2**31, 2**63 - 1, -(2**63)),
    "big": (2**63, -(2**63) - 1, 2**100, -(2**100), 2**2040),
    "floats": [0.0, -1.5, 1e300],
    "text": ["", "spam", "\\ \n \r \x00 \x1a é € 😀", "x" * 300],
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)),
    "shared": [SHARED, SHARED],
    "empty": [[], {}],
    "one": [{"k": "v"}, ["i"]],
    "batches": list(range(1500)),
}

for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    path = Path(__file__).with_name(f"protocol{protocol}.pickle")
    path.write_bytes(pickle.dumps(OBJECT, protocol))
