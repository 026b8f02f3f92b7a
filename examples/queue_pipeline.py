"""Three stages in a row; the queue of each goes to the next as an argument."""

from __future__ import annotations

import bequeath
from bequeath import Process, Queue


def square(numbers: Queue[int | None], squares: Queue[int | None]) -> None:
    for number in iter(numbers.get, None):
        squares.put(number * number)
    squares.put(None)


def add_up(squares: Queue[int | None], total: Queue[int]) -> None:
    total.put(sum(iter(squares.get, None)))


if __name__ == "__main__":
    numbers, squares, total = bequeath.Queue(), bequeath.Queue(), bequeath.Queue()
    stages = [
        Process(target=square, args=(numbers, squares)),
        Process(target=add_up, args=(squares, total)),
    ]
    for stage in stages:
        stage.start()
    for number in range(1000):
        numbers.put(number)
    numbers.put(None)
    print("sum of the squares:", total.get())
    for stage in stages:
        stage.join()
