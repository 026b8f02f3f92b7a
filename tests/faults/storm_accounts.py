"""The storm's books: what became of each message, and how long anybody was kept waiting."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from storm_journal import (
    ACK,
    ADDED,
    BORN,
    BROKEN,
    FULL,
    GOT,
    LEFT,
    NONE,
    OPERATIONS,
    REPORT,
    REPORTED,
    SLOW,
    TRY,
    WANT,
    Record,
)

# What identifies a message: its channel, its sender, the sender's count.
Message = tuple[int, int, int]


@dataclass
class Slow:
    """An operation that took longer than it was told to, in seconds."""

    operation: str
    writer: int
    due: int
    ended: int
    # Of that, not explained by somebody who was ready to run and got no processor.
    unexplained: float = 0.0

    @property
    def seconds(self) -> float:
        return (self.ended - self.due) / 1e9


class Processors:
    """How long each process was ready to run without running, sampled.

    An operation that takes long because the machine is busy is not stalled: from its time we take
    what the unluckiest process of the storm spent waiting for a processor meanwhile. (It may have
    been that one for which the operation waited.)
    """

    def __init__(self) -> None:
        self.samples: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))

    def sample(self, pids: list[int], now: int) -> None:
        for pid in pids:
            try:
                delay = int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1])
            except (OSError, IndexError):
                continue
            times, delays = self.samples[pid]
            if delays and delay < delays[-1]:
                delay += delays[-1]  # the number went to another process
            times.append(now)
            delays.append(delay)

    def waited(self, began: int, ended: int) -> float:
        """The longest that any process waited between two moments."""
        longest = 0
        for times, delays in self.samples.values():
            first = max(bisect_right(times, began) - 1, 0)
            last = min(bisect_left(times, ended), len(times) - 1)
            if first < last:
                longest = max(longest, delays[last] - delays[first])
        return longest / 1e9


@dataclass
class Books:
    tried: set[Message] = field(default_factory=set)
    acknowledged: set[Message] = field(default_factory=set)
    got: Counter[Message] = field(default_factory=Counter)
    refused: set[Message] = field(default_factory=set)
    # Per receiver, channel and sender: the last number taken.
    last: dict[tuple[int, int, int], int] = field(default_factory=dict)
    wanting: dict[int, int] = field(default_factory=dict)
    sending: dict[int, Message] = field(default_factory=dict)
    born: set[int] = field(default_factory=set)
    left: set[int] = field(default_factory=set)
    broken: Counter[int] = field(default_factory=Counter)
    reports: Counter[int] = field(default_factory=Counter)
    slow: list[Slow] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    added: int = 0
    records: int = 0

    def enter(self, record: Record) -> None:
        self.records += 1
        what, writer = record.what, record.writer
        message = (record.channel, record.sender, record.number)
        if what == TRY:
            self.tried.add(message)
            self.sending[writer] = message
        elif what == ACK:
            self.acknowledged.add(message)
            self.sending.pop(writer, None)
        elif what == FULL:
            self.refused.add(message)
            self.sending.pop(writer, None)
        elif what == WANT:
            self.wanting[writer] = record.channel
        elif what == NONE:
            self.wanting.pop(writer, None)
        elif what == GOT:
            self.wanting.pop(writer, None)
            self.take(writer, message)
        elif what == BROKEN:
            self.wanting.pop(writer, None)
            self.broken[record.channel] += 1
        elif what in (REPORT, REPORTED):
            self.reports[what] += 1
        elif what == SLOW:
            operation = OPERATIONS[record.operation]
            self.slow.append(Slow(operation, writer, record.sender, record.time))
        elif what == ADDED:
            self.added += 1
        elif what == BORN:
            self.born.add(writer)
        elif what == LEFT:
            self.left.add(writer)

    def take(self, receiver: int, message: Message) -> None:
        self.got[message] += 1
        channel, sender, number = message
        before = self.last.get((receiver, channel, sender), 0)
        if number <= before:
            self.wrong.append(f"{message}: taken by {receiver} after number {before}")
        self.last[receiver, channel, sender] = number

    def close(self) -> None:
        """Looks at everything, once all is over and drained."""
        for message, count in self.got.items():
            if count > 1:
                self.wrong.append(f"{message}: delivered {count} times")
            if message not in self.tried:
                self.wrong.append(f"{message}: delivered and never sent")
            if message in self.refused:
                self.wrong.append(f"{message}: refused and delivered")
        lost = Counter(message[0] for message in self.acknowledged if message not in self.got)
        # Who was killed between asking for a message and having it may have had one in its hands.
        hands = Counter(
            channel for writer, channel in self.wanting.items() if writer not in self.left
        )
        for channel, count in lost.items():
            if count > hands[channel]:
                self.wrong.append(
                    f"channel {channel}: {count} acknowledged messages are lost, and only "
                    f"{hands[channel]} receivers were killed with one perhaps in their hands"
                )
        senders = Counter(message[0] for message in self.sending.values())
        for channel, count in self.broken.items():
            if count > senders[channel]:
                self.wrong.append(
                    f"channel {channel}: {count} broken frames of {senders[channel]} dead senders"
                )
        self.lost, self.hands = lost, hands

    def judge(self, processors: Processors, most: float) -> Slow | None:
        """The longest wait that no busy machine explains.

        A start is not judged: several processes work for it in turn, each waiting for a processor.
        """
        for slow in self.slow:
            if slow.operation == "start":
                continue
            slow.unexplained = slow.seconds - processors.waited(slow.due, slow.ended)
            if slow.unexplained > most:
                self.wrong.append(
                    f"pid {slow.writer & 0x3FFFFF} was kept in {slow.operation} for "
                    f"{slow.seconds:.3f} s, {slow.unexplained:.3f} s of which nothing explains"
                )
        return max(self.slow, key=lambda slow: slow.unexplained, default=None)
