"""What rides with a message on a connection, and connections on which nothing can ride."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import bequeath
from bequeath import connection


@pytest.fixture
def ends() -> Iterator[tuple[Any, Any]]:
    first, second = bequeath.Pipe()
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def real_pipe() -> Iterator[tuple[Any, Any]]:
    read, write = os.pipe()
    reader = connection.Connection(read, writable=False)
    writer = connection.Connection(write, readable=False)
    yield reader, writer
    reader.close()
    writer.close()


def network() -> tuple[Any, Any]:
    with connection.Listener(("localhost", 0)) as listener:
        client = connection.Client(listener.address)
        return listener.accept(), client


def things() -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    theirs.close()
    return {
        "Lock": bequeath.Lock(),
        "Queue": bequeath.Queue(),
        "Connection": bequeath.Pipe()[0],
        "socket": ours,
        "file": open(os.devnull),
    }


@pytest.mark.parametrize("name", ["Lock", "Queue", "Connection", "socket", "file"])
@pytest.mark.parametrize("way", ["pipe", "network"])
def test_bytes_only_connections_refuse_handles(name: str, way: str, real_pipe: Any) -> None:
    receiver, sender = real_pipe if way == "pipe" else network()
    thing = things()[name]
    with pytest.raises((RuntimeError, TypeError)) as caught:
        sender.send(["before", thing])
    if name != "file":
        assert "carries bytes only" in str(caught.value)
        assert "docs/why.md#refused" in str(caught.value)
    sender.send("next")
    assert receiver.recv() == "next"
    for end in (receiver, sender, thing):
        if hasattr(end, "close"):
            end.close()


def test_a_listener_on_this_machine_carries_handles_for_members() -> None:
    with connection.Listener(family="AF_UNIX") as listener:
        client = connection.Client(listener.address)
        accepted = listener.accept()
    event, (reader, writer) = bequeath.Event(), bequeath.Pipe(duplex=False)
    client.send([event, writer])
    arrived, their_writer = accepted.recv()
    arrived.set()
    assert event.is_set()
    their_writer.send("through both")
    assert reader.recv() == "through both"
    for end in (client, accepted, reader, writer, their_writer):
        end.close()


def test_handles_ride_on_ends_whose_number_was_asked_for(ends: tuple[Any, Any]) -> None:
    first, second = ends
    first.fileno()
    event = bequeath.Event()
    first.send([event, bytearray(100_000), lambda: 5])
    arrived, room, function = second.recv()
    arrived.set()
    assert event.is_set() and len(room) == 100_000 and function() == 5


@pytest.fixture
def no_descriptors_left() -> Iterator[Any]:
    """Call it to fill the table but for a few; what it returns empties it again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []

    def release() -> None:
        while taken:
            os.close(taken.pop())
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def fill(but: int) -> Any:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 8, hard))
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(but):
            os.close(taken.pop())
        return release

    yield fill
    release()


def test_a_full_table_in_the_receiver_loses_nothing(
    ends: tuple[Any, Any], no_descriptors_left: Any
) -> None:
    first, second = ends
    first.send(["file", socket.socket(socket.AF_UNIX)])
    first.send(b"large" * 100_000)
    release = no_descriptors_left(but=0)
    with pytest.raises(OSError, match="out of them") as caught:
        second.recv()
    assert caught.value.errno == 24
    release()
    name, arrived = second.recv()
    assert name == "file"
    arrived.close()
    assert second.recv() == b"large" * 100_000


def test_a_full_table_in_the_sender_sends_nothing(
    ends: tuple[Any, Any], no_descriptors_left: Any
) -> None:
    first, second = ends
    bequeath.Event()  # the session exists
    with socket.socket(socket.AF_UNIX) as given:
        release = no_descriptors_left(but=0)
        for message in (given, b"large" * 100_000):
            with pytest.raises(OSError) as caught:
                first.send(message)
            assert caught.value.errno == 24
        release()
    first.send("next")
    assert second.recv() == "next"
