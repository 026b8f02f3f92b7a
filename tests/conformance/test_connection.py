"""Connections, listeners and `wait`, on both implementations."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from implementation import Implementation
from program import run

VALUES: list[Any] = [
    None,
    True,
    False,
    *(0, 1, -1, 255, 256, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, -(2**200)),
    *(0.0, -1.5, float("inf")),
    *("", "text", "h\u00e9 \U0001f600", "\ud800", "t" * 255, "t" * 256, "t" * 70_000),
    *(b"", b"bytes", b"b" * 255, b"b" * 256, b"b" * 16_384, b"b" * 16_385, b"b" * 300_000),
    [1, [2, (3, {"four": 5.0})]],
    {"a": bytearray(b"x" * 100_000)},
]


@pytest.fixture
def ends(mp: Implementation) -> Iterator[tuple[Any, Any]]:
    first, second = mp.Pipe()
    yield first, second
    first.close()
    second.close()


@pytest.fixture
def one_way(mp: Implementation) -> Iterator[tuple[Any, Any]]:
    reader, writer = mp.Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


def in_thread(action: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=action, args=args, daemon=True)
    thread.start()
    return thread


# --- objects and bytes -------------------------------------------------------------------------


@pytest.mark.short
def test_what_is_sent_is_received(ends: tuple[Any, Any]) -> None:
    first, second = ends
    for value in VALUES:
        sender = in_thread(first.send, value)
        received = second.recv()
        sender.join()
        assert type(received) is type(value)
        assert received == value


def echo(connection: Any) -> None:
    for message in iter(connection.recv_bytes, b""):
        connection.send_bytes(message)
    connection.close()


@pytest.mark.short
def test_bytes_go_to_a_child_and_back(mp: Implementation) -> None:
    here, there = mp.Pipe()
    process = mp.Process(target=echo, args=(there,))
    process.start()
    there.close()
    for message in (b"x", b"y" * 5000, b"z" * (16 << 20)):
        here.send_bytes(message)
        assert here.recv_bytes() == message
    here.send_bytes(b"")
    with pytest.raises(EOFError):
        here.recv_bytes()
    with pytest.raises(EOFError):
        here.recv()
    here.close()
    process.join()
    assert process.exitcode == 0
    process.close()


def test_send_bytes_takes_a_part_of_a_buffer(ends: tuple[Any, Any]) -> None:
    first, second = ends
    letters = b"abcdefghijklmnopqrstuvwxyz"
    for arguments, expected in [
        ((), letters),
        ((5,), letters[5:]),
        ((7, 8), letters[7:15]),
        ((26,), b""),
        ((26, 0), b""),
    ]:
        first.send_bytes(letters, *arguments)
        assert second.recv_bytes() == expected


@pytest.mark.parametrize("arguments", [(27,), (22, 5), (26, 1), (-1,), (4, -1)])
def test_send_bytes_refuses_a_part_outside(ends: tuple[Any, Any], arguments: Any) -> None:
    with pytest.raises(ValueError, match="offset|size"):
        ends[0].send_bytes(b"abcdefghijklmnopqrstuvwxyz", *arguments)


def test_send_bytes_counts_bytes_not_items(ends: tuple[Any, Any]) -> None:
    first, second = ends
    numbers = array.array("i", range(4))
    first.send_bytes(numbers)
    assert second.recv_bytes() == numbers.tobytes()
    room = array.array("i", [0] * 10)
    first.send_bytes(numbers)
    assert second.recv_bytes_into(room, 3 * room.itemsize) == 4 * room.itemsize
    assert list(room) == [0, 0, 0, 0, 1, 2, 3, 0, 0, 0]


def test_recv_bytes_into_a_short_buffer_hands_over_the_message(
    mp: Implementation, ends: tuple[Any, Any]
) -> None:
    first, second = ends
    first.send_bytes(b"too long")
    with pytest.raises(mp.BufferTooShort) as caught:
        second.recv_bytes_into(bytearray(3))
    assert caught.value.args == (b"too long",)
    first.send_bytes(b"next")
    assert second.recv_bytes() == b"next"


@pytest.mark.parametrize(("offset", "words"), [(-1, "negative offset"), (4, "offset too large")])
def test_recv_bytes_into_refuses_an_offset_outside(
    ends: tuple[Any, Any], offset: int, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ends[1].recv_bytes_into(bytearray(3), offset)


def test_a_pickle_sent_as_bytes_is_received_as_an_object_and_the_other_way(
    ends: tuple[Any, Any],
) -> None:
    import pickle

    first, second = ends
    for value in ({"a": 1}, 5, "t" * 100_000, [bytearray(200_000)]):
        sender = in_thread(first.send_bytes, pickle.dumps(value))
        assert second.recv() == value
        sender.join()
        sender = in_thread(first.send, value)
        assert pickle.loads(second.recv_bytes()) == value
        sender.join()


# --- limits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 100_000])
def test_a_message_beyond_maxlength_ends_reading(ends: tuple[Any, Any], size: int) -> None:
    first, second = ends

    def send() -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody reads the rest
            first.send_bytes(b"x" * size)

    sender = in_thread(send)
    with pytest.raises(OSError, match="bad message length"):
        second.recv_bytes(4)
    assert not second.readable and not second.closed
    second.close()
    sender.join()


def test_a_message_beyond_maxlength_closes_a_reader(one_way: tuple[Any, Any]) -> None:
    reader, writer = one_way
    writer.send_bytes(b"12345")
    with pytest.raises(OSError, match="bad message length"):
        reader.recv_bytes(4)
    assert reader.closed


def test_maxlength_is_inclusive_and_not_negative(ends: tuple[Any, Any]) -> None:
    first, second = ends
    first.send_bytes(b"12345")
    assert second.recv_bytes(5) == b"12345"
    with pytest.raises(ValueError, match="negative maxlength"):
        second.recv_bytes(-1)


# --- states ------------------------------------------------------------------------------------


def test_a_one_way_pipe_refuses_the_other_way(one_way: tuple[Any, Any]) -> None:
    reader, writer = one_way
    assert (reader.readable, reader.writable) == (True, False)
    assert (writer.readable, writer.writable) == (False, True)
    for refused in (lambda: reader.send(1), lambda: reader.send_bytes(b"")):
        with pytest.raises(OSError, match="read-only"):
            refused()
    for refused in (writer.recv, writer.recv_bytes, writer.poll):
        with pytest.raises(OSError, match="write-only"):
            refused()


def test_a_closed_connection_refuses_everything(ends: tuple[Any, Any]) -> None:
    first, _ = ends
    first.close()
    first.close()
    assert first.closed
    for refused in (first.recv, first.fileno, first.poll, lambda: first.send(1)):
        with pytest.raises(OSError, match="handle is closed"):
            refused()


def test_a_with_block_closes(mp: Implementation) -> None:
    first, second = mp.Pipe()
    with first as entered, second:
        assert entered is first
    assert first.closed and second.closed


def test_the_end_of_the_other_side(one_way: tuple[Any, Any]) -> None:
    reader, writer = one_way
    writer.send("last")
    writer.close()
    assert reader.poll()
    assert reader.recv() == "last"
    assert reader.poll(None)
    with pytest.raises(EOFError):
        reader.recv()


def test_sending_to_nobody_is_a_broken_pipe(mp: Implementation) -> None:
    for duplex in (True, False):
        reader, writer = mp.Pipe(duplex)
        reader.close()
        for message in (1, b"x" * 100_000):
            with pytest.raises(BrokenPipeError):
                writer.send(message)
        writer.close()


def test_handles_that_are_none(mp: Implementation) -> None:
    Connection = mp.module("connection").Connection
    with pytest.raises(ValueError, match="invalid handle"):
        Connection(-1)
    with pytest.raises(ValueError, match="at least one"):
        Connection(0, readable=False, writable=False)
    with pytest.raises(AttributeError):
        Connection("0")
    unknown = Connection(44977608)
    try:
        with pytest.raises(OSError):
            unknown.recv()
        with pytest.raises(OSError):
            unknown.send(1)
    finally:
        unknown._handle = None


def test_a_descriptor_closed_behind_our_back(mp: Implementation) -> None:
    first, second = mp.Pipe()
    os.close(first.fileno())
    for action in (first.recv, first.close):
        with pytest.raises(OSError):
            action()
    assert first.closed
    second.close()


def test_a_subclass_has_arguments_and_attributes_of_its_own(mp: Implementation) -> None:
    class Named(mp.module("connection").Connection):  # type: ignore[misc,name-defined]
        def __init__(self, handle: int, name: str) -> None:
            super().__init__(handle)
            self.name = name

    ours, theirs = socket.socketpair()
    with Named(ours.detach(), "mine") as named, theirs:
        assert named.name == "mine"
        named.send_bytes(b"abc")
        assert theirs.recv(100) == b"\0\0\0\x03abc"


# --- poll and wait -----------------------------------------------------------------------------


def test_poll_waits_no_longer_than_told(ends: tuple[Any, Any]) -> None:
    first, second = ends
    assert first.poll() is False
    assert first.poll(-1) is False
    began = time.monotonic()
    assert first.poll(0.1) is False
    assert time.monotonic() - began >= 0.1
    second.send(None)
    assert first.poll(None) is True
    assert first.poll(1e5) is True
    assert first.recv() is None


def test_wait_tells_who_is_ready(mp: Implementation) -> None:
    wait = mp.module("connection").wait
    pipes = [mp.Pipe(duplex=False) for _ in range(3)]
    readers = [reader for reader, _ in pipes]
    assert wait(readers, 0) == []
    assert wait(iter(readers), timeout=-1) == []
    for chosen in ([1], [0, 1], [0, 1, 2]):
        for number in chosen:
            if not readers[number].poll():
                pipes[number][1].send(number)
        assert wait(readers) == [readers[number] for number in chosen]
    for reader, writer in pipes:
        reader.recv()
        writer.close()
    assert wait(readers, None) == readers
    for reader in readers:
        reader.close()
    with pytest.raises(OSError, match="handle is closed"):
        wait(readers)


def leave() -> None:
    pass


def test_wait_takes_sentinels_sockets_and_numbers(mp: Implementation) -> None:
    wait = mp.module("connection").wait
    process = mp.Process(target=leave)
    process.start()
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    assert wait([process.sentinel, ours, reader]) == [process.sentinel]
    theirs.send(b"x")
    os.write(writer, b"x")
    assert wait([ours, reader, process.sentinel], 5) == [ours, reader, process.sentinel]
    process.join()
    process.close()
    for end in (ours, theirs):
        end.close()
    for fd in (reader, writer):
        os.close(fd)


def send_numbers(writer: Any, count: int) -> None:
    for number in range(count):
        writer.send((number, os.getpid()))
    writer.close()


def test_wait_serves_several_children(mp: Implementation) -> None:
    readers, processes = [], []
    for _ in range(3):
        reader, writer = mp.Pipe(duplex=False)
        process = mp.Process(target=send_numbers, args=(writer, 20))
        process.start()
        writer.close()
        readers.append(reader)
        processes.append(process)
    received = []
    while readers:
        for reader in mp.module("connection").wait(readers):
            try:
                received.append(reader.recv())
            except EOFError:
                readers.remove(reader)
                reader.close()
    assert sorted(received) == sorted((n, p.pid) for n in range(20) for p in processes)
    for process in processes:
        process.join()
        process.close()


@pytest.mark.parametrize("wrong", ["no descriptor", 1.5, object()])
def test_wait_refuses_what_has_no_descriptor(mp: Implementation, wrong: Any) -> None:
    with pytest.raises(ValueError):
        mp.module("connection").wait([wrong], 0)


# --- the wire ----------------------------------------------------------------------------------


def test_frames_on_the_wire(mp: Implementation) -> None:
    Connection = mp.module("connection").Connection
    ours, theirs = socket.socketpair()
    with Connection(ours.detach()) as connection, theirs:
        connection.send_bytes(b"abc")
        assert theirs.recv(100) == struct.pack("!i", 3) + b"abc"
        theirs.sendall(struct.pack("!i", 2) + b"hi" + struct.pack("!iQ", -1, 1) + b"x")
        assert connection.recv_bytes() == b"hi"
        assert connection.recv_bytes() == b"x"
        long = bytes(range(256)) * 1000
        sender = in_thread(connection.send_bytes, long)
        received = b""
        while len(received) < len(long) + 4:
            received += theirs.recv(1 << 16)
        assert received == struct.pack("!i", len(long)) + long
        sender.join()
        theirs.sendall(struct.pack("!i", 10) + b"half")
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(OSError, match="got end of file during message"):
            connection.recv_bytes()


def test_the_other_implementation_understands_us(mp: Implementation) -> None:
    import multiprocessing.connection

    ours, theirs = socket.socketpair()
    with (
        mp.module("connection").Connection(ours.detach()) as connection,
        multiprocessing.connection.Connection(theirs.detach()) as foreign,
    ):
        for value in VALUES:
            for sender, receiver in ((connection, foreign), (foreign, connection)):
                thread = in_thread(sender.send, value)
                assert receiver.recv() == value
                thread.join()


ECHO = """
import sys
from multiprocessing.connection import Connection
with Connection(int(sys.argv[1])) as connection:
    for _ in range(int(sys.argv[2])):
        connection.send(connection.recv())
"""


def test_an_end_given_to_another_program(ends: tuple[Any, Any]) -> None:
    ours, theirs = ends
    values = [value for value in VALUES if value != "\ud800"]
    arguments = [sys.executable, "-c", ECHO, str(theirs.fileno()), str(len(values))]
    with subprocess.Popen(arguments, pass_fds=[theirs.fileno()]) as program:
        theirs.close()
        for value in values:
            sender = in_thread(ours.send, value)
            assert ours.recv() == value
            sender.join()
    assert program.returncode == 0


def test_connections_on_real_pipes(mp: Implementation) -> None:
    Connection = mp.module("connection").Connection
    read, write = os.pipe()
    with Connection(read, writable=False) as reader, Connection(write, readable=False) as writer:
        for value in VALUES:
            sender = in_thread(writer.send, value)
            assert reader.recv() == value
            sender.join()


def test_a_descriptor_that_does_not_block(mp: Implementation, ends: tuple[Any, Any]) -> None:
    first, second = ends
    os.set_blocking(first.fileno(), False)
    with pytest.raises(BlockingIOError):
        first.recv()
    second.send(1)
    assert first.recv() == 1


# --- listeners and clients -----------------------------------------------------------------------


@pytest.fixture(params=["AF_UNIX", "AF_INET"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def call(mp: Implementation, address: Any, authkey: bytes | None) -> None:
    with mp.module("connection").Client(address, authkey=authkey) as client:
        client.send(["hello", address])
        assert client.recv() == "bye"


@pytest.mark.parametrize("authkey", [None, b"secret"])
@pytest.mark.short
def test_a_child_calls_a_listener(mp: Implementation, family: str, authkey: bytes | None) -> None:
    with mp.module("connection").Listener(family=family, authkey=authkey) as listener:
        process = mp.Process(target=call, args=(mp, listener.address, authkey))
        process.start()
        with listener.accept() as accepted:
            assert accepted.recv() == ["hello", listener.address]
            accepted.send("bye")
        assert bool(listener.last_accepted) == (family == "AF_INET")
        process.join()
        assert process.exitcode == 0
        process.close()


def test_a_wrong_key_is_refused_on_both_sides(mp: Implementation) -> None:
    errors: list[BaseException] = []

    def call_with_wrong_key(address: Any) -> None:
        try:
            mp.module("connection").Client(address, authkey=b"wrong").close()
        except BaseException as error:
            errors.append(error)

    with mp.module("connection").Listener(authkey=b"right") as listener:
        caller = in_thread(call_with_wrong_key, listener.address)
        with pytest.raises(mp.AuthenticationError):
            listener.accept().close()
        caller.join()
    assert [type(error) for error in errors] == [mp.AuthenticationError]


def test_the_handshake_is_multiprocessings(mp: Implementation) -> None:
    import multiprocessing.connection as theirs

    module = mp.module("connection")
    for listening, calling in ((module, theirs), (theirs, module)):
        with listening.Listener(authkey=b"key") as listener:
            accepted: list[Any] = []
            accepting = in_thread(lambda: accepted.append(listener.accept()))  # noqa: B023
            with calling.Client(listener.address, authkey=b"key") as client:
                client.send(5)
                accepting.join()
                assert accepted[0].recv() == 5
                accepted[0].close()


def test_keys_are_bytes(mp: Implementation) -> None:
    with pytest.raises(TypeError, match="byte string"):
        mp.module("connection").Listener(authkey="text").close()


def test_a_closed_listener_refuses(mp: Implementation, family: str) -> None:
    listener = mp.module("connection").Listener(family=family)
    address = listener.address
    listener.close()
    listener.close()
    if family == "AF_UNIX":
        assert not os.path.exists(address)
    with pytest.raises(OSError, match="listener is closed"):
        listener.accept()


def test_addresses_and_families(mp: Implementation) -> None:
    module = mp.module("connection")
    assert module.address_type(("localhost", 0)) == "AF_INET"
    assert module.address_type("/a/path") == "AF_UNIX"
    assert module.address_type("\0abstract") == "AF_UNIX"
    assert module.address_type("\\\\.\\pipe\\x") == "AF_PIPE"
    with pytest.raises(ValueError):
        module.address_type(b"path")
    with pytest.raises(ValueError):
        module.Listener(r"\\.\test")
    with pytest.raises(ValueError):
        module.arbitrary_address("AF_NONE")
    assert {"AF_INET", "AF_UNIX"} <= set(module.families)


def test_an_abstract_address(mp: Implementation) -> None:
    with mp.module("connection").Listener(f"\0bequeath-{os.getpid()}") as listener:
        with mp.module("connection").Client(listener.address) as client:
            with listener.accept() as accepted:
                client.send("here")
                assert accepted.recv() == "here"


def test_xml_instead_of_pickles(mp: Implementation) -> None:
    module = mp.module("connection")
    with module.XmlListener() as listener:
        calling = in_thread(lambda: module.XmlClient(listener.address).send([1, "two"]))
        accepted = listener.accept()
        assert accepted.recv() == [1, "two"]
        accepted.close()
        calling.join()


# --- descriptors ---------------------------------------------------------------------------------


def write_to_received(mp: Implementation, connection: Any) -> None:
    fd = mp.module("reduction").recv_handle(connection)
    os.write(fd, b"from the child")
    os.close(fd)
    connection.close()


def test_handles_are_sent_by_hand(mp: Implementation) -> None:
    here, there = mp.Pipe()
    process = mp.Process(target=write_to_received, args=(mp, there))
    process.start()
    read, write = os.pipe()
    mp.module("reduction").send_handle(here, write, process.pid)
    os.close(write)
    assert os.read(read, 100) == b"from the child"
    os.close(read)
    here.close()
    there.close()
    process.join()
    assert process.exitcode == 0
    process.close()


def test_a_descriptor_is_duplicated(ours: Implementation) -> None:
    # A name that multiprocessing has on Windows only, and libraries take.
    duplicate = ours.module("reduction").duplicate
    copies = [duplicate(0), duplicate(0, inheritable=True), duplicate(0, os.getpid())]
    assert [os.get_inheritable(copy) for copy in copies] == [False, True, False]
    for copy in copies:
        os.close(copy)
    with pytest.raises(ValueError, match="send_handle"):
        duplicate(0, os.getppid())


def test_a_missing_handle_is_an_error(mp: Implementation, ends: tuple[Any, Any]) -> None:
    first, second = ends
    os.write(first.fileno(), b"\0")
    with pytest.raises(RuntimeError, match="received 0 items of ancdata"):
        mp.module("reduction").recv_handle(second)


# --- the end of the interpreter ------------------------------------------------------------------


def test_daemon_threads_that_wait_do_not_disturb_the_end(
    mp: Implementation, tmp_path: Path
) -> None:
    done = run(
        mp,
        tmp_path,
        """
        class Late:
            def __init__(self, send):
                self.send, self.sleep = send, time.sleep

            def __del__(self):
                self.send("while the interpreter ends")
                self.sleep(0.1)
        """,
        """
        wait = __import__(mp.__name__ + ".connection").connection.wait
        first, second = context.Pipe()
        for waits in (first.recv, lambda: first.poll(None), lambda: wait([first])):
            threading.Thread(target=waits, daemon=True).start()
        late = Late(second.send)
        print("end")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
