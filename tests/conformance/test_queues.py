"""Queues on both implementations, and what only bequeath's promise."""

from __future__ import annotations

import array
import os
import queue as queue_module
import select
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import program
from implementation import Implementation

numpy = pytest.importorskip("numpy")

VALUES: list[Any] = [
    None,
    True,
    False,
    *(0, -1, 2**31, 2**63 - 1, -(2**63), 2**63, -(2**200)),
    *(0.0, -1.5, float("inf")),
    *("", "text", "h\u00e9 \U0001f600", "\ud800", "t" * 4079, "t" * 4081, "t" * 70_000),
    *(b"", b"bytes", b"b" * 4080, b"b" * 4081, b"b" * 300_000),
    *((), [], {}, {1, 2}, frozenset({3}), 1j, range(9), Ellipsis, slice(1, 2)),
    [1, [2, (3, {"four": 5.0})]],
    {"a": bytearray(b"x" * 100_000)},
    array.array("d", [1.0, 2.0]),
]


def finish(*queues: Any) -> None:
    for one in queues:
        one.close()
        if hasattr(one, "join_thread"):
            one.join_thread()
        # multiprocessing leaves these to the collector when nothing was ever put.
        one._reader.close()
        one._writer.close()


@pytest.fixture
def queue(mp: Implementation) -> Iterator[Any]:
    made = mp.Queue()
    yield made
    finish(made)


# --- one process -------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_what_is_put_is_got(mp: Implementation, kind: str) -> None:
    made = getattr(mp, kind)()
    for value in VALUES:
        putter = threading.Thread(target=made.put, args=(value,))
        putter.start()
        got = made.get()
        putter.join()
        assert type(got) is type(value)
        assert got == value
    finish(made)


def test_order_is_kept(queue: Any) -> None:
    for number in range(3000):
        queue.put((number, "x" * (number % 500)))
    assert [queue.get()[0] for _ in range(3000)] == list(range(3000))


def test_maxsize_is_exact(mp: Implementation) -> None:
    made = mp.Queue(2)
    assert not made.full()
    made.put(1)
    assert not made.full()
    made.put(2)
    assert made.full()
    assert made.qsize() == 2
    with pytest.raises(queue_module.Full):
        made.put(3, False)
    with pytest.raises(queue_module.Full):
        made.put_nowait(3)
    start = time.monotonic()
    with pytest.raises(queue_module.Full):
        made.put(3, True, 0.05)
    assert time.monotonic() - start >= 0.045
    assert made.get() == 1
    assert not made.full()
    made.put(3)
    assert [made.get(), made.get()] == [2, 3]
    finish(made)


def test_get_from_an_empty_queue_raises_empty(queue: Any) -> None:
    for arguments in [(False,), (True, 0), (True, -1), (False, 10)]:
        with pytest.raises(queue_module.Empty):
            queue.get(*arguments)
    with pytest.raises(queue_module.Empty):
        queue.get_nowait()
    start = time.monotonic()
    with pytest.raises(queue_module.Empty):
        queue.get(timeout=0.05)
    assert time.monotonic() - start >= 0.045
    assert queue.empty()


@pytest.mark.parametrize("timeout", ["1", [], object()])
def test_a_timeout_of_the_wrong_type_is_refused(queue: Any, timeout: Any) -> None:
    with pytest.raises(TypeError):
        queue.get(True, timeout)


def test_a_maxsize_of_the_wrong_type_is_refused(mp: Implementation) -> None:
    with pytest.raises(TypeError):
        mp.Queue("many")


def test_a_closed_queue_refuses_and_names_itself(mp: Implementation) -> None:
    made = mp.Queue()
    made.close()
    made.close()
    for call in (lambda: made.put(1), made.get, made.get_nowait, lambda: made.put_nowait(1)):
        with pytest.raises(ValueError, match="^Queue <.*> is closed$"):
            call()
    made.join_thread()


def test_a_closed_queue_can_be_looked_at_unless_this_process_fed_it(mp: Implementation) -> None:
    made = mp.Queue()
    made.close()
    made.join_thread()
    assert made.empty()
    made = mp.Queue()
    made.put(1)
    made.close()
    made.join_thread()
    with pytest.raises(OSError, match="is closed"):
        made.empty()


def test_join_thread_wants_a_closed_queue(mp: Implementation) -> None:
    made = mp.Queue()
    with pytest.raises(AssertionError, match="not closed"):
        made.join_thread()
    made.cancel_join_thread()
    finish(made)


def test_a_closed_simple_queue_refuses(mp: Implementation) -> None:
    made = mp.SimpleQueue()
    made.close()
    assert made._reader.closed
    assert made._writer.closed
    for call in (lambda: made.put(1), made.get, made.empty):
        with pytest.raises(OSError, match="handle is closed"):
            call()


def test_task_done_and_join(mp: Implementation) -> None:
    made = mp.JoinableQueue()
    made.join()
    made.put("work")
    got = threading.Event()

    def work() -> None:
        made.get()
        got.wait()
        made.task_done()

    worker = threading.Thread(target=work)
    worker.start()
    got.set()
    made.join()
    worker.join()
    with pytest.raises(ValueError, match=r"^task_done\(\) called too many times$"):
        made.task_done()
    finish(made)


def test_an_error_in_unpickling_loses_only_that_object(queue: Any) -> None:
    queue.put(FailsToLoad())
    queue.put("next")
    with pytest.raises(ZeroDivisionError):
        queue.get(timeout=10)
    assert queue.get(timeout=10) == "next"


class FailsToLoad:
    def __reduce__(self) -> Any:
        return divide, (1, 0)


def divide(one: int, other: int) -> float:
    return one / other


def test_queues_are_generic(mp: Implementation) -> None:
    for name in ("Queue", "JoinableQueue", "SimpleQueue"):
        kind = getattr(mp.module("queues"), name)
        if name == "SimpleQueue" or mp.is_bequeath:
            assert kind[int].__origin__ is kind


def test_a_queue_can_be_waited_for(mp: Implementation) -> None:
    wait = mp.module("connection").wait
    first, second = mp.Queue(), mp.SimpleQueue()
    readers = [first._reader, second._reader]
    assert wait(readers, timeout=0) == []
    second.put("x")
    assert wait(readers, timeout=10) == [second._reader]
    assert select.select([second._reader], [], [], 10)[0] == [second._reader]
    assert second._reader.poll()
    assert second._reader.recv() == "x"
    assert wait(readers, timeout=0) == []
    assert not second._reader.poll()
    assert second.empty()
    first.put("y")
    assert wait(readers, timeout=10) == [first._reader]
    loads = mp.module("reduction").ForkingPickler.loads
    assert loads(first._reader.recv_bytes()) == "y"
    finish(first, second)


def counting_queue(mp: Implementation) -> Any:
    base = mp.module("queues").Queue

    class Mine(base):  # type: ignore[misc,valid-type]
        def __init__(self, label: str, *, ctx: Any) -> None:
            super().__init__(5, ctx=ctx)
            self.label = label

        def put(self, obj: Any, block: bool = True, timeout: float | None = None) -> None:
            super().put((self.label, obj), block, timeout)

    return Mine("mine", ctx=mp.get_context())


def test_a_queue_can_be_subclassed(mp: Implementation) -> None:
    made = counting_queue(mp)
    made.put(1)
    made.put_nowait(2)
    assert made.get(timeout=10) == ("mine", 1)
    assert made.get(timeout=10) == ("mine", 2)
    assert made._maxsize == 5
    finish(made)


def test_a_subclass_is_handed_pickling_errors(mp: Implementation) -> None:
    seen: list[Any] = []
    told = threading.Event()

    class Mine(mp.module("queues").Queue):  # type: ignore[misc,name-defined]
        @staticmethod
        def _on_queue_feeder_error(e: BaseException, obj: object) -> None:
            seen.append((type(e), obj))
            told.set()

    made = Mine(ctx=mp.get_context())
    culprit = Unpicklable()
    made.put(culprit)
    assert told.wait(10)
    assert seen == [(AttributeError, culprit)]
    made.put("next")
    assert made.get(timeout=10) == "next"
    finish(made)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise AttributeError("no")


# --- several processes -------------------------------------------------------------------------


def echo(inbox: Any, outbox: Any) -> None:
    for value in iter(inbox.get, "stop"):
        outbox.put(value)


@pytest.mark.short
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_values_go_to_a_child_and_back(mp: Implementation, kind: str) -> None:
    there, back = getattr(mp, kind)(), getattr(mp, kind)()
    child = mp.Process(target=echo, args=(there, back))
    child.start()
    for value in VALUES:
        there.put(value)
        got = back.get()
        assert type(got) is type(value)
        assert got == value
    there.put("stop")
    child.join()
    assert child.exitcode == 0
    child.close()
    finish(there, back)


def put_many(queue: Any, first: int, count: int) -> None:
    for number in range(first, first + count):
        queue.put((number, b"x" * (number % 7000)))


def add_up(queue: Any, results: Any) -> None:
    total = 0
    for number, filler in iter(queue.get, None):
        assert len(filler) == number % 7000
        total += number
    results.put(total)


@pytest.mark.short
def test_many_senders_and_receivers_lose_nothing(mp: Implementation) -> None:
    queue, results = mp.Queue(20), mp.Queue()
    senders = [mp.Process(target=put_many, args=(queue, 1000 * n, 1000)) for n in range(2)]
    receivers = [mp.Process(target=add_up, args=(queue, results)) for _ in range(2)]
    for child in senders + receivers:
        child.start()
    for child in senders:
        child.join()
    for _ in receivers:
        queue.put(None)
    assert sum(results.get() for _ in receivers) == sum(range(2000))
    for child in receivers:
        child.join()
    assert [child.exitcode for child in senders + receivers] == [0] * 4
    for child in senders + receivers:
        child.close()
    finish(queue, results)


def put_and_exit(queue: Any, values: list[Any]) -> None:
    for value in values:
        queue.put(value)


def test_what_a_child_put_outlives_it(mp: Implementation) -> None:
    queue = mp.Queue()
    child = mp.Process(target=put_and_exit, args=(queue, ["first", 2, b"3" * 9000]))
    child.start()
    child.join()
    child.close()
    assert [queue.get(timeout=10) for _ in range(3)] == ["first", 2, b"3" * 9000]
    finish(queue)


def report_full(queue: Any, results: Any) -> None:
    try:
        queue.put("too much", timeout=0.05)
    except queue_module.Full:
        results.put((queue.full(), queue.qsize()))


def test_a_child_sees_a_full_queue(mp: Implementation) -> None:
    queue, results = mp.Queue(1), mp.Queue()
    queue.put("all")
    child = mp.Process(target=report_full, args=(queue, results))
    child.start()
    assert results.get(timeout=30) == (True, 1)
    child.join()
    child.close()
    assert queue.get(timeout=10) == "all"
    finish(queue, results)


# --- what only bequeath promises ---------------------------------------------------------------


@pytest.mark.short
def test_counts_are_exact_at_once(ours: Implementation) -> None:
    made = ours.Queue()
    assert made.empty()
    for number in range(10):
        made.put(number)
        assert made.qsize() == number + 1
        assert not made.empty()
    assert [made.get_nowait() for _ in range(10)] == list(range(10))
    assert made.empty()


@pytest.mark.short
def test_pickling_errors_appear_in_put(ours: Implementation) -> None:
    made = ours.Queue(1)
    with pytest.raises(Exception, match="no"):
        made.put(Unpicklable())
    made.put("there is room")
    assert made.get_nowait() == "there is room"


def add_one(inbox: Any, outbox: Any) -> None:
    values = inbox.get()
    values += 1
    outbox.put((values, values.flags.writeable))


@pytest.mark.short
@pytest.mark.parametrize("size", [100, 1000, 300_000])
def test_arrays_arrive_writable(ours: Implementation, size: int) -> None:
    there, back = ours.Queue(), ours.Queue()
    child = ours.Process(target=add_one, args=(there, back))
    child.start()
    values = numpy.arange(size, dtype="float64")
    there.put(values)
    got, writable = back.get(timeout=30)
    assert writable
    assert got.flags.writeable
    assert (got == values + 1).all()
    child.join()
    child.close()


def test_what_arrived_is_private_after_a_fork(ours: Implementation) -> None:
    made = ours.Queue()
    made.put(numpy.zeros(100_000))
    values = made.get()
    values[0] = 1
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        seen = values[0]
        values[:] = 7
        os.write(writer, b"%d" % int(seen))
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 10) == b"1"
    assert values[0] == 1
    assert values[1:].sum() == 0
    os.close(reader)
    os.close(writer)


def use_passed_queue(inbox: Any) -> None:
    other = inbox.get()
    other.put("through a queue that came through a queue")


@pytest.mark.short
@pytest.mark.parametrize("kind", ["Queue", "SimpleQueue", "JoinableQueue"])
def test_queues_travel_through_queues(ours: Implementation, kind: str) -> None:
    carrier, passed = ours.Queue(), getattr(ours, kind)()
    child = ours.Process(target=use_passed_queue, args=(carrier,))
    child.start()
    carrier.put(passed)
    assert passed.get() == "through a queue that came through a queue"
    child.join()
    child.close()


class PutsWhilePickled:
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __reduce__(self) -> Any:
        self.queue.put("inner")
        return str, ("outer",)


@pytest.mark.short
def test_a_put_inside_a_reduce_of_another_put(ours: Implementation) -> None:
    made = ours.Queue()
    made.put([PutsWhilePickled(made), b"x" * 10_000])
    assert made.get_nowait() == "inner"
    assert made.get_nowait() == ["outer", b"x" * 10_000]


class PutsWhenDropped:
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __del__(self) -> None:
        self.queue.put("from a finaliser")

    def __reduce__(self) -> Any:
        return str, ("kept",)


def test_a_put_in_a_finaliser_during_a_put(ours: Implementation) -> None:
    made = ours.Queue()

    class DropsWhilePickled:
        def __reduce__(self) -> Any:
            PutsWhenDropped(made)
            return str, ("outer",)

    made.put(DropsWhilePickled())
    assert made.get_nowait() == "from a finaliser"
    assert made.get_nowait() == "outer"


class GetsWhileLoaded:
    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def __getstate__(self) -> Any:
        return self.queue

    def __setstate__(self, queue: Any) -> None:
        self.got = queue.get_nowait()


def test_a_get_inside_a_setstate_of_another_get(ours: Implementation) -> None:
    made = ours.Queue()
    made.put(GetsWhileLoaded(made))
    made.put({"next": [1, 2, 3]})
    assert made.get().got == {"next": [1, 2, 3]}


def test_a_put_in_a_signal_handler_during_a_get(ours: Implementation) -> None:
    made = ours.Queue()
    previous = signal.signal(signal.SIGALRM, lambda *_: made.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert made.get(timeout=30) == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_an_exception_in_a_signal_handler_ends_a_get_and_loses_nothing(
    ours: Implementation,
) -> None:
    class Enough(Exception):
        pass

    def stop(*_: Any) -> None:
        raise Enough

    made = ours.Queue()
    previous = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Enough):
            made.get()
    finally:
        signal.signal(signal.SIGALRM, previous)
    made.put("still there")
    assert made.get_nowait() == "still there"


@pytest.mark.short
def test_eight_threads_on_one_queue(ours: Implementation) -> None:
    made = ours.Queue(3)
    got: list[int] = []

    def send(first: int) -> None:
        for number in range(first, first + 300):
            made.put(number)

    def receive() -> None:
        got.extend(made.get() for _ in range(300))

    threads = [threading.Thread(target=send, args=(1000 * n,)) for n in range(4)]
    threads += [threading.Thread(target=receive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [1000 * n + i for n in range(4) for i in range(300)]
    assert made.empty()


@pytest.mark.short
def test_a_daemon_thread_in_get_when_the_interpreter_ends(
    ours: Implementation, tmp_path: Path
) -> None:
    done = program.run(
        ours,
        tmp_path,
        "",
        """
        queue = context.Queue()
        for _ in range(3):
            threading.Thread(target=queue.get, daemon=True).start()
        full = context.Queue(1)
        full.put(1)
        threading.Thread(target=full.put, args=(2,), daemon=True).start()
        time.sleep(0.05)
        print("end")
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_put_from_atexit_and_module_teardown(ours: Implementation, tmp_path: Path) -> None:
    done = program.run(
        ours,
        tmp_path,
        """
        class Late:
            def __init__(self, queue):
                self.queue = queue

            def __del__(self):
                self.queue.put([1, 2])
                self.queue.get()
        """,
        """
        queue = context.Queue()
        late = Late(queue)
        atexit.register(lambda: (queue.put("x"), print(queue.get())))
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


def test_a_put_beyond_the_budget_is_a_memory_error(ours: Implementation, tmp_path: Path) -> None:
    done = program.run(
        ours,
        tmp_path,
        "",
        """
        queue = context.Queue()
        try:
            while True:
                queue.put(b"x" * 100_000)
        except MemoryError as error:
            print(error)
        held = queue.qsize()
        for _ in range(held):
            queue.get()
        queue.put(b"room again")
        """,
        environment={"BEQUEATH_MEMORY_LIMIT": str(32 << 20)},
    )
    assert done.returncode == 0, done.stderr
    assert "queue" in done.stdout
    assert str(32 << 20) in done.stdout


def test_the_readiness_of_an_idle_queue_works_with_asyncio(ours: Implementation) -> None:
    import asyncio

    made = ours.Queue()

    async def receive() -> list[Any]:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        got: list[Any] = []

        def readable() -> None:
            while not made.empty():
                got.append(made.get_nowait())
            if len(got) == 3:
                done.set_result(None)

        loop.add_reader(made._reader.fileno(), readable)
        for number in range(3):
            loop.call_later(0.01 * number, made.put, number)
        await asyncio.wait_for(done, 30)
        loop.remove_reader(made._reader.fileno())
        return got

    assert asyncio.run(receive()) == [0, 1, 2]


def test_who_waited_in_vain_is_told_for_what(ours: Implementation) -> None:
    queue = ours.Queue(2)
    with pytest.raises(queue_module.Empty) as empty:
        queue.get(timeout=0.01)
    assert "still empty after 0.0 s: the queue made at " in str(empty.value)
    assert "test_queues.py:" in str(empty.value) and "holds 0 of 2 messages" in str(empty.value)
    assert "no other process has it" in str(empty.value)
    queue.put(1)
    queue.put(2)
    with pytest.raises(queue_module.Full) as full:
        queue.put(3, timeout=0.01)
    assert f"holds 2 of 2 messages, the oldest from process {os.getpid()}" in str(full.value)
    # Who only looks reads no texts.
    with pytest.raises(queue_module.Full) as full:
        queue.put_nowait(3)
    assert not str(full.value)
    assert [queue.get(), queue.get()] == [1, 2]
