"""A small message through a queue, pickling included: what each of the two sides pays for it.

Two processes. The sender's and the receiver's own processor time is taken, since how long one waits
for the other says nothing about the messages.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import bequeath
from run import shown

MESSAGES: dict[str, Any] = {
    "an int": 7,
    "a str": "resize",
    "a task: (name, 5, 2.5)": ("resize", 5, 2.5),
    "a task with a dict": ("resize", {"id": 5, "path": "/srv/x.png", "size": 0.5}, (1, 2)),
}
COUNT = 10_000
TARGET = 1e-6


def timed(call: Any, *arguments: Any) -> float:
    start = time.thread_time()
    for _ in range(COUNT):
        call(*arguments)
    return (time.thread_time() - start) / COUNT


def send(queue: Any, orders: Any, answers: Any) -> None:
    while (message := orders.get()) is not None:
        answers.put(timed(queue.put, message))


def report(rounds: int) -> None:
    context = bequeath.get_context("fork")
    queue, orders, answers = (context.SimpleQueue() for _ in range(3))
    sender = context.Process(target=send, args=(queue, orders, answers), daemon=True)
    sender.start()
    for name, message in MESSAGES.items():
        sides: list[tuple[float, float]] = []
        for _ in range(rounds):
            orders.put(message)
            get = timed(queue.get)
            sides.append((answers.get(), get))
        for what, times in zip(("put", "get"), zip(*sides, strict=True), strict=True):
            took = statistics.median(times)
            verdict = "reached" if took < TARGET else "LOST"
            print(f"{name:<36} {what}   {shown(took):>9} {'':>9} {'':>8} {'1 us':>6}  {verdict}")
    orders.put(None)
    sender.join()
