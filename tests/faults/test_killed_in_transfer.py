"""A process is killed while it writes a message, or rebuilds one, between any two of its parts.

The message carries one of each: shared objects, a large buffer, a descriptor, and a function by
value that has a lock and a queue in its closure. Afterwards the session has what it had before, and
the carrier works.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from implementation import Implementation

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
CARRIERS = ("Queue", "SimpleQueue", "Pipe", "definitions once") if LONG else ("Queue",)
#: Before each part that `parts` makes, and inside of the function's closure.
LAST = 8
POSITIONS = range(LAST + 1) if LONG else (3, LAST)


def kill_this_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class DiesWhenWritten:
    def __reduce__(self) -> Any:
        kill_this_process()


class DiesWhenRebuilt:
    def __reduce__(self) -> Any:
        return kill_this_process, ()


def by_value(*captured: Any) -> Callable[[], Any]:
    def inner() -> Any:
        return captured

    return inner


def parts(ours: Implementation, *death: Any) -> list[Any]:
    """One of each that a message can carry; `death`, if any, in the function's closure."""
    return [
        ours.Lock(),
        ours.Queue(),
        bytearray(300_000),
        ours.Pipe(),
        by_value(ours.Lock(), *death, ours.Queue()),
        by_value(ours.Event()),
        ours.Array("i", 1000),
        [ours.Lock(), bytearray(100_000)],
    ]


class Messages:
    """Of the same objects, and the same functions, each time: these are remembered."""

    def __init__(self, ours: Implementation, death: Any) -> None:
        self.death, self.whole, self.last = death, parts(ours), parts(ours, death)

    def dying(self, position: int) -> list[Any]:
        """With the death before this part, or inside of the function's closure."""
        if position == LAST:
            return self.last
        return [*self.whole[:position], self.death, *self.whole[position:]]


def send(ours: Implementation, sender: Any, position: int) -> None:
    put(sender, Messages(ours, DiesWhenWritten()).dying(position))


def take(receiver: Any) -> None:
    get(receiver)


def put(carrier: Any, item: Any) -> None:
    (carrier.send if hasattr(carrier, "send") else carrier.put)(item)


def get(carrier: Any) -> Any:
    return (carrier.recv if hasattr(carrier, "recv") else carrier.get)()


def ends(ours: Implementation, carrier: str) -> tuple[Any, Any]:
    if carrier == "Pipe":
        return tuple(ours.Pipe(duplex=False))  # type: ignore[return-value]
    queue = ours.Queue() if carrier == "Queue" else ours.SimpleQueue()
    if carrier == "definitions once":
        queue._definitions_once = True
    return queue, queue


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def figures() -> dict[str, int]:
    """References and places in use, and descriptors, once the dead are cleaned up after."""
    from bequeath import _engine

    gc.collect()
    _engine.session_scavenge()
    info = _engine.session_info()
    return {**{what: info[what] for what in ("references", "places")}, "open": open_descriptors()}


def is_all_given_back(before: dict[str, int]) -> bool:
    after = figures()
    print(before, after)
    return all(after[what] <= before[what] for what in before)


def dies(ours: Implementation, target: Any, *arguments: Any) -> None:
    process = ours.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    process.close()


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("who", ["sender", "receiver"])
def test_killed_between_two_parts_of_a_message(
    ours: Implementation, who: str, carrier: str
) -> None:
    receiver, sender = ends(ours, carrier)
    messages = Messages(ours, DiesWhenRebuilt())

    def once(position: int) -> None:
        if who == "sender":
            dies(ours, send, ours, sender, position)
        else:
            put(sender, messages.dying(position))
            dies(ours, take, receiver)
        put(sender, messages.whole)
        whole = get(receiver)
        assert whole[0].acquire(False) and not whole[0].release() and len(whole) == LAST
        assert type(whole[4]()[0]) is type(whole[0])

    # The first of all leave what is kept: segments, sockets, templates.
    once(LAST)
    once(0)
    before = figures()
    for position in POSITIONS:
        once(position)
        assert is_all_given_back(before), position


@pytest.mark.parametrize("position", POSITIONS)
def test_a_child_is_killed_while_it_is_given_its_arguments(
    ours: Implementation, position: int
) -> None:
    if ours.start_method == "fork":
        pytest.skip("nothing is pickled for a child of a fork")

    messages = Messages(ours, DiesWhenRebuilt())

    def once() -> None:
        process = ours.Process(target=print, args=messages.dying(position))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process.close()

    # The first of all leave what is kept: segments, sockets, templates.
    once()
    once()
    before = figures()
    once()
    assert is_all_given_back(before)
