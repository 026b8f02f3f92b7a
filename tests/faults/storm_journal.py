"""What each process of the storm did, in a file that survives it: records of fixed size.

One file for all, opened for appending by each process: the kernel puts the records in one order,
and since none crosses a page no kill can tear one. Nothing here uses the package under test.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

RECORD = struct.Struct("<BBHIQQQ")
assert RECORD.size == 32

# What a record says.
(BORN, LEFT, TRY, ACK, FULL, WANT, NONE, GOT, BROKEN, REPORT, REPORTED, SLOW, ADDED) = range(1, 14)
NAMES = "? BORN LEFT TRY ACK FULL WANT NONE GOT BROKEN REPORT REPORTED SLOW ADDED".split()

# The operations that are timed, by their numbers in SLOW records and on the status page.
OPERATIONS = (
    "nothing put get acquire recover release semaphore notify condition event barrier value make "
    "drop start join poll send receive task_done scavenge select pool"
).split()
# Slower than this is written down, and judged afterwards.
SLOW_SECONDS = 0.2

# The operation that a process is in, its serial, and when the operation should be over.
STATUS = struct.Struct("<QQQ")
NUMBER = struct.Struct("<Q")
STATUS_ROOM = 64
MOST_PROCESSES = 1 << 22


class Record(NamedTuple):
    what: int
    channel: int
    operation: int
    number: int
    writer: int
    sender: int
    time: int

    def __str__(self) -> str:
        writer, sender = (f"{serial & 0x3FFFFF}" for serial in (self.writer, self.sender))
        return (
            f"{self.time / 1e9:.6f} pid {writer}: {NAMES[self.what]} channel {self.channel} "
            f"operation {OPERATIONS[self.operation]} sender {sender} number {self.number}"
        )


def started_at(pid: int) -> int | None:
    """When a process began, in ticks since boot; None when it is gone.

    One that nobody waits for is gone, too: not each first process of a container takes orphans in.
    """
    try:
        line = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    fields = line.rpartition(b")")[2].split()
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def serial_of_this_process() -> int:
    """A number that no other process has, the pid in its lowest 22 bits."""
    began = started_at(os.getpid())
    assert began is not None
    return began << 22 | os.getpid()


def is_alive(serial: int) -> bool:
    return started_at(serial & 0x3FFFFF) == serial >> 22


def fresh(folder: Path) -> None:
    (folder / "journal").touch()
    (folder / "failures").touch()
    with open(folder / "status", "wb") as status:
        status.truncate(MOST_PROCESSES * STATUS_ROOM)


class Journal:
    """This process's pen."""

    def __init__(self, folder: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        self.folder = folder
        self.serial = serial_of_this_process()
        self.file = os.open(f"{folder}/journal", flags)
        place = os.getpid() * STATUS_ROOM
        page = place // mmap.PAGESIZE * mmap.PAGESIZE
        status = os.open(f"{folder}/status", os.O_RDWR | os.O_CLOEXEC)
        self.page = mmap.mmap(status, mmap.PAGESIZE, offset=page)
        os.close(status)
        self.at = place - page
        self.stack: list[tuple[int, int]] = []

    def note(
        self, what: int, channel: int = 0, sender: int = 0, number: int = 0, operation: int = 0
    ) -> None:
        now = time.monotonic_ns()
        packed = RECORD.pack(what, channel, operation, number, self.serial, sender, now)
        os.write(self.file, packed)

    def fail(self, text: str) -> None:
        """Something that must never be."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        file = os.open(f"{self.folder}/failures", flags)
        os.write(file, f"pid {os.getpid()} at {time.monotonic():.6f}: {text}\n".encode())
        os.close(file)

    @contextmanager
    def timed(self, name: str, allowance: float = 0.0) -> Iterator[None]:
        """An operation of the package; `allowance` is how long it was told that it may wait."""
        operation, began = OPERATIONS.index(name), time.monotonic_ns()
        due = began + int(allowance * 1e9)
        # The operation last, and away first: with it the rest is valid.
        STATUS.pack_into(self.page, self.at, 0, self.serial, due)
        NUMBER.pack_into(self.page, self.at, operation)
        try:
            yield
        finally:
            ended = time.monotonic_ns()
            NUMBER.pack_into(self.page, self.at, 0)
            if ended - due > SLOW_SECONDS * 1e9:
                self.note(SLOW, sender=due, operation=operation)

    def close(self) -> None:
        os.close(self.file)
        self.page.close()


class Reader:
    """The conductor's eyes: the records that came since it last looked."""

    def __init__(self, folder: Path) -> None:
        self.file = open(folder / "journal", "rb")
        status = os.open(folder / "status", os.O_RDWR | os.O_CLOEXEC)
        self.status = mmap.mmap(status, MOST_PROCESSES * STATUS_ROOM, prot=mmap.PROT_READ)
        os.close(status)

    def news(self) -> list[Record]:
        text = self.file.read()
        return [Record(*fields) for fields in RECORD.iter_unpack(text)]

    def under_way(self, serial: int) -> tuple[str, int] | None:
        """The operation that a process is in, and when it should be over."""
        at = (serial & 0x3FFFFF) * STATUS_ROOM
        operation, found, due = STATUS.unpack_from(self.status, at)
        same = STATUS.unpack_from(self.status, at) == (operation, found, due)
        return (OPERATIONS[operation], due) if same and found == serial and operation else None

    def close(self) -> None:
        self.file.close()
        self.status.close()
