"""The processes that are killed at random; a module of its own since children import it.

Each keeps a log in a file of its own, one `os.write` a line, so that what it did before it was
killed can be read afterwards to the last line.
"""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path
from typing import Any

# Payload sizes on both sides of what travels inline: within a record, in a block, in fresh blocks.
SIZES = (0, 1, 100, 3000, 5000, 70_000, 300_000)


def open_log(folder: str, kind: str) -> int:
    path = Path(folder) / f"{kind}-{os.getpid()}-{time.monotonic_ns()}.log"
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)


def message(sender: int, number: int, handle: Any = None) -> tuple[Any, ...]:
    payload = bytes([number % 251]) * SIZES[number % len(SIZES)]
    return sender, number, zlib.crc32(payload), payload, handle


def is_whole(received: tuple[Any, ...]) -> bool:
    return zlib.crc32(received[3]) == received[2]


def send(queue: Any, folder: str, handles: bool) -> None:
    log, me, number = open_log(folder, "sent"), os.getpid(), 0
    while True:
        number += 1
        os.write(log, b"try %d %d\n" % (me, number))
        queue.put(message(me, number, queue if handles and number % 5 == 0 else None))
        os.write(log, b"ack %d %d\n" % (me, number))


def receive(queue: Any, folder: str) -> None:
    log = open_log(folder, "received")
    for received in iter(queue.get, None):
        state = b"got" if is_whole(received) else b"torn"
        os.write(log, b"%s %d %d\n" % (state, received[0], received[1]))
    os.write(log, b"end 0 0\n")


def add_under_lock(lock: Any, number: Any, folder: str) -> None:
    """Two numbers that must stay equal, unless somebody was killed between them."""
    log = open_log(folder, "added")
    while True:
        try:
            lock.acquire()
        except RuntimeError:
            # The holder was killed: the pair may be uneven. Mend it and go on.
            try:
                lock.recover()
            except (RuntimeError, ValueError):
                # Another one was quicker.
                continue
            number[1] = number[0]
            os.write(log, b"mended 0 0\n")
        if number[0] != number[1]:
            os.write(log, b"uneven 0 0\n")
        number[0] += 1
        number[1] += 1
        lock.release()


def send_over_connection(connection: Any, turn: Any, folder: str, sizes: tuple[int, ...]) -> None:
    """Several processes hold one end; a lock gives turns, as for any connection."""
    log, me, number = open_log(folder, "sent"), os.getpid(), 0
    while True:
        number += 1
        payload = bytes([number % 251]) * sizes[number % len(sizes)]
        whole = (me, number, zlib.crc32(payload), payload, None)
        try:
            turn.acquire()
        except RuntimeError:
            try:
                turn.recover()
            except (RuntimeError, ValueError):
                continue
        os.write(log, b"try %d %d\n" % (me, number))
        connection.send(whole)
        os.write(log, b"ack %d %d\n" % (me, number))
        turn.release()
