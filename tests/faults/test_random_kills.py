"""Kills processes at random moments inside put, get, acquire and send, and counts what is left.

What must hold, whatever the moment: nothing that was acknowledged is lost (but the one message that
a killed receiver had just taken), nothing arrives twice or torn, nobody hangs, room comes back.
`BEQUEATH_FAULTS=long` makes it longer.
"""

from __future__ import annotations

import os
import queue as queues
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fault_workers import add_under_lock, is_whole, receive, send, send_over_connection

from bequeath.exceptions import AbandonedLock
from implementation import Implementation

LONG = os.environ.get("BEQUEATH_FAULTS") == "long"
KILLS = 400 if LONG else 25
SEED = int(os.environ.get("BEQUEATH_FAULTS_SEED", time.time_ns() % 1_000_000))

pytestmark = pytest.mark.limit(600 if LONG else 90)


class Crew:
    """Processes of one kind; one is killed at random and replaced."""

    def __init__(self, mp: Implementation, size: int, target: Callable[..., None], *arguments: Any):
        self.mp, self.target, self.arguments = mp, target, arguments
        self.members = [self.start() for _ in range(size)]
        self.killed = 0

    def start(self) -> Any:
        process = self.mp.Process(target=self.target, args=self.arguments, daemon=True)
        process.start()
        return process

    def kill_one(self, replace: bool = True) -> None:
        victim = self.members.pop(random.randrange(len(self.members)))
        victim.kill()
        victim.join()
        assert victim.exitcode == -9
        victim.close()
        self.killed += 1
        if replace:
            self.members.append(self.start())

    def kill_all(self) -> None:
        while self.members:
            self.kill_one(replace=False)

    def join_all(self) -> None:
        for member in self.members:
            member.join()
            assert member.exitcode == 0
            member.close()
        self.members = []


def logged(folder: Path, *words: str) -> Counter[tuple[str, int, int]]:
    found: Counter[tuple[str, int, int]] = Counter()
    for path in folder.glob("*.log"):
        # (A write goes page by page: the last line of who was killed may be the beginning of one.)
        for line in path.read_text().split("\n")[:-1]:
            word, sender, number = line.split()
            if not words or word in words:
                found[word, int(sender), int(number)] += 1
    return found


def wait_a_moment() -> None:
    """The random moment of a kill; nothing is waited for."""
    time.sleep(random.uniform(0, 0.02))


@pytest.fixture(autouse=True)
def seed() -> None:
    random.seed(SEED)
    print(f"BEQUEATH_FAULTS_SEED={SEED}")


@pytest.mark.short
@pytest.mark.parametrize("capacity", [200, 5], ids=["roomy", "tight"])
def test_queue_survives_random_kills(ours: Implementation, tmp_path: Path, capacity: int) -> None:
    queue = ours.Queue(capacity)
    senders = Crew(ours, 2, send, queue, str(tmp_path), capacity == 5)
    receivers = Crew(ours, 3, receive, queue, str(tmp_path))
    for _ in range(KILLS):
        wait_a_moment()
        random.choice([senders, receivers]).kill_one()
    killed_receivers = receivers.killed
    senders.kill_all()
    for _ in receivers.members:
        queue.put(None)
    receivers.join_all()

    assert queue.empty()
    assert queue.qsize() == 0
    assert not logged(tmp_path, "torn")
    got = {key[1:]: count for key, count in logged(tmp_path, "got").items()}
    tried = {key[1:] for key in logged(tmp_path, "try")}
    acknowledged = {key[1:] for key in logged(tmp_path, "ack")}
    assert acknowledged, "nothing happened"
    assert not [key for key, count in got.items() if count > 1], "delivered twice"
    assert set(got) <= tried, "delivered, never sent"
    lost = acknowledged - set(got)
    assert len(lost) <= killed_receivers, f"{len(lost)} lost, {killed_receivers} receivers killed"
    print(f"{len(acknowledged)} sent, {len(lost)} went with {killed_receivers} killed receivers")

    # The capacity is whole again.
    for number in range(capacity):
        queue.put_nowait(number)
    with pytest.raises(queues.Full):
        queue.put_nowait(None)
    for _ in range(capacity):
        queue.get_nowait()
    queue.close()


@pytest.mark.short
def test_lock_survives_random_kills(ours: Implementation, tmp_path: Path) -> None:
    lock, numbers = ours.Lock(), ours.RawArray("q", 2)
    workers = Crew(ours, 3, add_under_lock, lock, numbers, str(tmp_path))
    for _ in range(KILLS):
        before = numbers[0]
        wait_a_moment()
        workers.kill_one()
        deadline = time.monotonic() + 30
        while numbers[0] == before and time.monotonic() < deadline:
            wait_a_moment()
        assert numbers[0] != before, "nobody gets the lock any more"
    workers.kill_all()
    assert not logged(tmp_path, "uneven"), "two held the lock, or a death was not reported"
    try:
        lock.acquire()
    except RuntimeError:
        lock.recover()
    lock.release()
    print(f"{numbers[0]} additions, {sum(logged(tmp_path, 'mended').values())} times mended")


@pytest.mark.parametrize(
    "sizes", [(10, 200), (200_000, 70_000), (10, 200_000, 3000)], ids=["small", "large", "mixed"]
)
def test_connection_survives_random_kills_of_its_senders(
    ours: Implementation, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    """A frame arrives whole or is one OSError; the frames of the others still arrive."""
    receiving, sending = ours.Pipe(duplex=False)
    turn = ours.Lock()
    senders = Crew(ours, 2, send_over_connection, sending, turn, str(tmp_path), sizes)
    errors, got = 0, []
    for _ in range(KILLS):
        senders.kill_one()
        for _ in range(random.randrange(1, 8)):
            assert receiving.poll(30), "no more frames arrive"
            try:
                received = receiving.recv()
            except OSError:
                errors += 1
            else:
                assert is_whole(received)
                got.append(tuple(received[:2]))
    senders.kill_all()
    sending.close()
    while True:
        try:
            received = receiving.recv()
        except EOFError:
            break
        except OSError:
            errors += 1
        else:
            assert is_whole(received)
            got.append(tuple(received[:2]))
    receiving.close()
    assert len(got) == len(set(got)), "delivered twice"
    acknowledged = {key[1:] for key in logged(tmp_path, "ack")}
    tried = {key[1:] for key in logged(tmp_path, "try")}
    assert set(got) <= tried
    assert acknowledged <= set(got), "acknowledged and lost"
    assert errors <= senders.killed
    print(f"{len(got)} frames, {errors} errors for {senders.killed} killed senders")


def test_event_and_condition_survive_killed_waiters(ours: Implementation) -> None:
    event, condition = ours.Event(), ours.Condition()
    waiters = Crew(ours, 3, event.wait)
    sleepers = Crew(ours, 3, wait_in_condition, condition)
    for _ in range(KILLS // 2):
        random.choice([waiters, sleepers]).kill_one()
        try:
            with condition:
                condition.notify(1)
        except AbandonedLock:
            free(condition)
    sleepers.kill_all()
    event.set()
    waiters.join_all()


def wait_in_condition(condition: Any) -> None:
    while True:
        try:
            with condition:
                condition.wait()
        except AbandonedLock:
            free(condition)


def free(condition: Any) -> None:
    """Frees the lock of a sleeper that was killed while it had it, unless another one did."""
    try:
        condition.recover()
    except ValueError:
        return
    condition.release()
