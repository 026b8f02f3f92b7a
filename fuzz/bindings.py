"""Mutated pickles for `bequeath.pickle`: it must not crash, hang or say otherwise than `pickle`.

A child under a debug allocator reads mutated pickles, each by the standard unpickler and by
bequeath's, and writes each down before it reads it. What ends the child lies in fuzz/found then,
and so does what the two disagree about: one refuses and the other does not, or both make different
objects.

    python fuzz/bindings.py --seconds 300 [--seed 1]
"""

from __future__ import annotations

import argparse
import collections
import datetime
import faulthandler
import fractions
import hashlib
import io
import os
import pickle
import pickletools
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FOUND = HERE / "found"
# A pickle that takes longer hangs.
SECONDS_EACH = 20
MEMORY = 1 << 30

# What a pickle may name here: nothing that does harm, or much, whatever its arguments are.
GLOBALS: dict[tuple[str, str], Any] = {
    ("builtins", "complex"): complex,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "object"): object,
    ("builtins", "set"): set,
    ("collections", "Counter"): collections.Counter,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "deque"): collections.deque,
    ("datetime", "datetime"): datetime.datetime,
    ("datetime", "timedelta"): datetime.timedelta,
    ("datetime", "timezone"): datetime.timezone,
    ("fractions", "Fraction"): fractions.Fraction,
}
OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
NUMBERS = [0, 1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1]


def mutated(data: bytes, seeds: list[bytes], chance: random.Random) -> bytes:
    pickle_ = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at = chance.randrange(len(pickle_) + 1)
        span = min(len(pickle_) - at, chance.choice((1, 2, 4, 8, 40)))
        match chance.randrange(8):
            case 0:
                pickle_[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                pickle_[at:at] = chance.choice(OPCODES)
            case 2:
                pickle_[at : at + 1] = chance.choice(OPCODES)
            case 3:
                del pickle_[at : at + span]
            case 4:
                again = chance.randrange(len(pickle_) + 1)
                pickle_[again:again] = pickle_[at : at + span]
            case 5:
                size = chance.choice((1, 2, 4, 8))
                number = chance.choice(NUMBERS) % 256**size
                pickle_[at : at + size] = number.to_bytes(size, "little")
            case 6:
                other = chance.choice(seeds)
                pickle_[at : at + span] = other[chance.randrange(len(other)) :][:200]
            case 7:
                del pickle_[at:]
                pickle_ += b"."
    return bytes(pickle_[:20_000])


def restricted(unpickler: type) -> type:
    class Restricted(unpickler):  # type: ignore[misc]
        def find_class(self, module: str, name: str) -> Any:
            try:
                return GLOBALS[module, name]
            except KeyError:
                raise pickle.UnpicklingError("not listed") from None

        def persistent_load(self, pid: object) -> object:
            return ("persistent", pid)

    return Restricted


def outcome(unpickler: type, data: bytes, options: dict[str, Any]) -> tuple[str, object]:
    """What became of it: a refusal, or the object, as the standard pickler says it."""
    options = {**options, "buffers": [bytearray(b"one"), b"two"]}
    try:
        value = unpickler(io.BytesIO(data), **options).load()
    except Exception as error:
        return "refused", f"{type(error).__name__}: {error}"
    try:
        return "read", pickle.dumps(value, 5)
    except Exception as error:
        return "read", f"and not to be written: {type(error).__name__}"


# The standard reader takes the digits before a NUL for the whole number.
UP_TO_NUL = ("needs a number", "could not convert string to float", "invalid literal for int()")


def is_same(data: bytes, one: tuple[str, object], other: tuple[str, object]) -> bool:
    if one == other or "MemoryError" in f"{one[1]!r} {other[1]!r}":
        return True  # short of memory either may be the one that notices
    if "refused" in (one[0], other[0]):
        if one[0] == other[0]:
            return True  # in their own words
        if b"\0" in data and any(words in str(other[1]) for words in UP_TO_NUL):
            return True
    # A frame that ends inside of an opcode: the standard reader of a stream, unlike its loads, goes
    # on behind it.
    return pickle.FRAME in data


def child(seconds: float, seed: int, current: str) -> None:
    import bequeath.pickle

    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    chance = random.Random(seed)
    theirs, ours = restricted(pickle.Unpickler), restricted(bequeath.pickle.Unpickler)
    seeds = [
        path.read_bytes() for path in sorted((HERE / "seeds").iterdir()) if path.suffix != ".py"
    ]
    descriptor = os.open(current, os.O_RDWR | os.O_CREAT, 0o600)
    ends, count = time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        data = mutated(chance.choice(seeds), seeds, chance)
        os.pwrite(descriptor, len(data).to_bytes(4, "little") + data, 0)
        options: dict[str, Any] = chance.choice(
            ({}, {"encoding": "bytes"}, {"encoding": "latin-1"}, {"fix_imports": False})
        )
        one = outcome(theirs, data, options)
        signal.alarm(SECONDS_EACH)
        other = outcome(ours, data, options)
        signal.alarm(0)
        if not is_same(data, one, other):
            keep("differs", data, f"{options}\npickle:   {one}\nbequeath: {other}\n")
        count += 1
        if count % 50 == 0 and len(seeds) < 5000 and other[0] == "read":
            seeds.append(data)
    print(f"{count} pickles read, {len(seeds)} of them as seeds", flush=True)


def keep(how: str, data: bytes, words: str) -> None:
    FOUND.mkdir(exist_ok=True)
    path = FOUND / f"{how}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(words)
    print(f"{how}: {path}\n{words}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.seconds, arguments.seed, arguments.child)
        return 0
    FOUND.mkdir(exist_ok=True)
    before = set(FOUND.iterdir())
    current = FOUND / f"current-{os.getpid()}"
    ends, seed = time.monotonic() + arguments.seconds, arguments.seed
    try:
        while (left := ends - time.monotonic()) > 1:
            ended = subprocess.run(
                [sys.executable, __file__, "--child", str(current)]
                + ["--seconds", str(left), "--seed", str(seed)],
                env={
                    **os.environ,
                    "PYTHONMALLOC": "debug",
                    "PYTHONHASHSEED": "0",
                    "PYTHONWARNINGS": "ignore",
                },
                check=False,
            )
            if ended.returncode:
                noted = current.read_bytes()
                size = int.from_bytes(noted[:4], "little")
                keep("crashes", noted[4 : 4 + size], f"exit status {ended.returncode}\n")
            seed += 1
    finally:
        current.unlink(missing_ok=True)
    return int(bool(set(FOUND.iterdir()) - before))


if __name__ == "__main__":
    sys.exit(main())
